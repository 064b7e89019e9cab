//! A session with a server, as `perquery stat` needs it: what MariaDB, MySQL and PostgreSQL have in common.

use crate::error::Result;
use perquery_agent::protocol::Dialect;
use std::fmt;

/// A connection to a server.
pub trait Client {
    /// The statement that does nothing.
    fn baseline(&self) -> &'static str;
    /// Whose grammar it speaks.
    fn dialect(&self) -> Dialect;
    /// As the server names the session: MySQL's connection id, the pid of PostgreSQL's backend.
    fn connection_id(&self) -> u64;
    /// The server's process, found through the connection.
    fn server_pid(&self) -> Result<u32>;
    /// Prepares statement number `n`, counted from 0 in order.
    fn prepare(&mut self, sql: &str) -> std::result::Result<(), Failure>;
    /// Executes a statement that was prepared; answers how many rows came back.
    fn execute(&mut self, n: usize) -> std::result::Result<u64, Failure>;
    /// Executes a text; answers how many rows came back.
    fn query(&mut self, sql: &str) -> std::result::Result<u64, Failure>;
}

/// Why a statement did not come back.
#[derive(Debug)]
pub enum Failure {
    /// The server refused it: its own words.
    Refused(String),
    /// The connection is gone.
    Lost(String),
}

impl Failure {
    /// Why, in the server's or the system's own words.
    pub fn words(&self) -> &str {
        match self {
            Failure::Refused(why) | Failure::Lost(why) => why,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused(why) => f.write_str(why),
            Failure::Lost(why) => write!(f, "the connection was lost: {why}"),
        }
    }
}
