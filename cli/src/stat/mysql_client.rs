//! A session with MariaDB or MySQL.

use super::client::{Client, Failure};
use super::locate::{Before, behind_socket};
use crate::error::{Error, Result};
use mysql::prelude::{Protocol, Queryable};
use mysql::{Conn, Opts, OptsBuilder, QueryResult, Statement};
use perquery_agent::protocol::Dialect;
use std::path::PathBuf;

/// The connection.
pub struct MySql {
    connection: Conn,
    prepared: Vec<Statement>,
    before: Before,
    socket: Option<PathBuf>,
    place: String,
}

impl MySql {
    /// Connects to what a URL names.
    pub fn connect(url: &str) -> Result<MySql> {
        let options = Opts::from_url(url).map_err(|e| {
            Error::new(format!("the URL is wrong: {e}; write mysql://USER:PASSWORD@HOST:PORT/DB?socket=FILE"))
        })?;
        let socket = options.get_socket().map(PathBuf::from);
        let place = match &socket {
            Some(path) => path.display().to_string(),
            None => format!("{}:{}", options.get_ip_or_hostname(), options.get_tcp_port()),
        };
        // Where the URL names a port, that is the server which is meant; the client would move to a socket by itself.
        let options = OptsBuilder::from_opts(options).prefer_socket(false);
        let before = Before::now();
        let connection = Conn::new(options).map_err(|e| {
            Error::new(format!(
                "no connection to the server at {place}: {}; correct the URL or start the server",
                failure(e).words()
            ))
        })?;
        Ok(MySql { connection, prepared: Vec::new(), before, socket, place })
    }
}

impl Client for MySql {
    fn baseline(&self) -> &'static str {
        "DO 0"
    }

    fn dialect(&self) -> Dialect {
        // The two differ in nothing that a digest depends on.
        Dialect::MariaDb
    }

    fn connection_id(&self) -> u64 {
        self.connection.connection_id().into()
    }

    fn server_pid(&self) -> Result<u32> {
        match &self.socket {
            Some(path) => behind_socket(path),
            None => self.before.peer_of_new_connection(&self.place),
        }
    }

    fn prepare(&mut self, sql: &str) -> std::result::Result<(), Failure> {
        self.prepared.push(self.connection.prep(sql).map_err(failure)?);
        Ok(())
    }

    fn execute(&mut self, n: usize) -> std::result::Result<u64, Failure> {
        let statement =
            self.prepared.get(n).ok_or_else(|| Failure::Refused("it was not prepared".to_owned()))?;
        rows(self.connection.exec_iter(statement, ()).map_err(failure)?)
    }

    fn query(&mut self, sql: &str) -> std::result::Result<u64, Failure> {
        rows(self.connection.query_iter(sql).map_err(failure)?)
    }
}

/// Reads all results to their end.
fn rows<P: Protocol>(mut result: QueryResult<'_, '_, '_, P>) -> std::result::Result<u64, Failure> {
    let mut rows = 0;
    while let Some(set) = result.iter() {
        for row in set {
            row.map_err(failure)?;
            rows += 1;
        }
    }
    Ok(rows)
}

fn failure(e: mysql::Error) -> Failure {
    match e {
        // The server said so before it closed: shutdown, KILL, aborted.
        mysql::Error::MySqlError(e) if matches!(e.code, 1053 | 1152 | 1184 | 1927) => {
            Failure::Lost(e.to_string())
        }
        mysql::Error::MySqlError(e) => Failure::Refused(e.to_string()),
        mysql::Error::IoError(e) => Failure::Lost(e.to_string()),
        mysql::Error::CodecError(e) => Failure::Lost(e.to_string()),
        mysql::Error::DriverError(e @ mysql::DriverError::MismatchedStmtParams(..)) => {
            Failure::Refused(format!("{e}; write the values into the statement"))
        }
        mysql::Error::DriverError(e) => Failure::Refused(e.to_string()),
        other => Failure::Refused(other.to_string()),
    }
}
