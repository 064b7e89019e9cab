//! A session with PostgreSQL.

use super::client::{Client, Failure};
use super::locate::{Before, behind_socket};
use crate::error::{Error, Result};
use perquery_agent::protocol::Dialect;
use postgres::config::Host;
use postgres::fallible_iterator::FallibleIterator;
use postgres::types::ToSql;
use postgres::{Config, NoTls, SimpleQueryMessage, Statement};
use std::error::Error as _;
use std::path::PathBuf;

const PORT: u16 = 5432;

/// The connection.
pub struct Postgres {
    connection: postgres::Client,
    prepared: Vec<Statement>,
    connection_id: u64,
    before: Before,
    socket: Option<PathBuf>,
    place: String,
}

impl Postgres {
    /// Connects to what a URL names.
    pub fn connect(url: &str) -> Result<Postgres> {
        let wrong = |why: String| {
            Error::new(format!(
                "the URL is wrong: {why}; write postgres://USER@HOST:PORT/DB or postgres://USER@/DB?host=DIRECTORY"
            ))
        };
        let mut config: Config = url.parse().map_err(|e: postgres::Error| wrong(words(&e)))?;
        let port = config.get_ports().first().copied().unwrap_or(PORT);
        let (socket, place) = match config.get_hosts() {
            [Host::Unix(directory)] => {
                let path = directory.join(format!(".s.PGSQL.{port}"));
                let place = path.display().to_string();
                (Some(path), place)
            }
            [Host::Tcp(name)] => (None, format!("{name}:{port}")),
            [] => return Err(wrong("it names no host".to_owned())),
            _ => return Err(wrong("it names several hosts".to_owned())),
        };
        if config.get_application_name().is_none() {
            config.application_name("perquery stat");
        }
        let before = Before::now();
        let none = |e: postgres::Error| {
            Error::new(format!(
                "no connection to the server at {place}: {}; correct the URL or start the server",
                words(&e)
            ))
        };
        let mut connection = config.connect(NoTls).map_err(none)?;
        let pid: i32 = connection
            .query_one("SELECT pg_backend_pid()", &[])
            .and_then(|row| row.try_get(0))
            .map_err(none)?;
        let connection_id = u64::try_from(pid).unwrap_or(0);
        Ok(Postgres { connection, prepared: Vec::new(), connection_id, before, socket, place })
    }
}

impl Client for Postgres {
    fn baseline(&self) -> &'static str {
        "SELECT"
    }

    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    fn connection_id(&self) -> u64 {
        self.connection_id
    }

    fn server_pid(&self) -> Result<u32> {
        match &self.socket {
            Some(path) => behind_socket(path),
            None => self.before.peer_of_new_connection(&self.place),
        }
    }

    fn prepare(&mut self, sql: &str) -> std::result::Result<(), Failure> {
        let statement = self.connection.prepare(sql).map_err(failure)?;
        if !statement.params().is_empty() {
            return Err(Failure::Refused(
                "it has parameters; write the values into the statement".to_owned(),
            ));
        }
        self.prepared.push(statement);
        Ok(())
    }

    fn execute(&mut self, n: usize) -> std::result::Result<u64, Failure> {
        let statement =
            self.prepared.get(n).ok_or_else(|| Failure::Refused("it was not prepared".to_owned()))?;
        let none: [&(dyn ToSql + Sync); 0] = [];
        let rows = self.connection.query_raw(statement, none).map_err(failure)?;
        rows.count().map(|n| n as u64).map_err(failure)
    }

    fn query(&mut self, sql: &str) -> std::result::Result<u64, Failure> {
        let messages = self.connection.simple_query(sql).map_err(failure)?;
        Ok(messages.iter().filter(|m| matches!(m, SimpleQueryMessage::Row(_))).count() as u64)
    }
}

fn failure(e: postgres::Error) -> Failure {
    match e.as_db_error() {
        // FATAL and PANIC end the session.
        Some(told) if told.severity() == "ERROR" => Failure::Refused(words(&e)),
        Some(_) => Failure::Lost(words(&e)),
        None if e.is_closed() || e.source().is_some_and(|cause| cause.is::<std::io::Error>()) => {
            Failure::Lost(words(&e))
        }
        None => Failure::Refused(words(&e)),
    }
}

/// The server's own words where it said some; the crate's alone are "db error".
fn words(e: &postgres::Error) -> String {
    match (e.as_db_error(), e.source()) {
        (Some(told), _) => format!("{}: {} ({})", told.severity(), told.message(), told.code().code()),
        (None, Some(cause)) => format!("{e}: {cause}"),
        (None, None) => e.to_string(),
    }
}
