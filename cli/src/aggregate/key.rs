//! What rows can be by: `--by`.

use super::Sample;
use super::table::Strings;
use crate::digest::Digest;
use perquery_agent::segment::record::{Execution, FLAG_FAILED, FLAG_OUTCOME_UNKNOWN};
use std::sync::Arc;

/// A part of a row's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// The statement.
    Digest,
    /// The user's name.
    User,
    /// The current database.
    Database,
    /// The application's name.
    Application,
    /// The client's host.
    Client,
    /// The connection.
    Session,
    /// The server.
    Server,
    /// The error's code; empty for executions without error.
    Error,
}

/// A part of a row's key, to be shown.
#[derive(Clone, Copy, Debug)]
pub enum Label<'a> {
    /// A statement.
    Digest(&'a Arc<Digest>),
    /// The number of a server.
    Server(u16),
    /// Anything else.
    Text(&'a str),
}

impl Key {
    /// All of them.
    pub const ALL: [Key; 8] = [
        Key::Digest,
        Key::User,
        Key::Database,
        Key::Application,
        Key::Client,
        Key::Session,
        Key::Server,
        Key::Error,
    ];

    /// Its name on the command line and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Key::Digest => "digest",
            Key::User => "user",
            Key::Database => "database",
            Key::Application => "application",
            Key::Client => "client",
            Key::Session => "session",
            Key::Server => "server",
            Key::Error => "error",
        }
    }

    /// The key of that name.
    pub fn from_name(name: &str) -> Option<Key> {
        Key::ALL.into_iter().find(|key| key.name() == name)
    }

    /// What of `sample` makes a row's key.
    pub(super) fn part(self, sample: &Sample, strings: &mut Strings) -> u64 {
        let who = sample.who;
        match self {
            Key::Digest => sample.digest.id,
            Key::User => strings.number(&who.user).into(),
            Key::Database => strings.number(&who.database).into(),
            Key::Application => strings.number(&who.application).into(),
            Key::Client => strings.number(&who.client).into(),
            Key::Session => {
                let name = session_name(sample.execution.session_uid, who.connection_id);
                u64::from(strings.number(&name)) | u64::from(sample.server) << 32
            }
            Key::Server => sample.server.into(),
            Key::Error => strings.number(&error_code(sample.execution)).into(),
        }
    }
}

/// A session's name: `<connection>#<number>`, as the server's own lists have the connection (MySQL thread id, PostgreSQL
/// backend pid), or `#<number>` before and without a login. The number is unique within the library's life; a connection
/// id comes again after a restart or, in PostgreSQL, with the next process of that pid.
pub fn session_name(session_uid: u64, connection_id: u64) -> String {
    let number = session_uid & 0xffff_ffff;
    match (session_uid >> 32, connection_id) {
        (0, 0) => format!("#{number}"),
        (0, connection) | (connection, _) => format!("{connection}#{number}"),
    }
}

/// The error of an execution: MySQL `1062/23000`, PostgreSQL `23505`, SQLite `19`; empty when there was none.
pub fn error_code(e: &Execution) -> String {
    if e.flags & FLAG_FAILED == 0 {
        return if e.flags & FLAG_OUTCOME_UNKNOWN == 0 { String::new() } else { "unknown".to_owned() };
    }
    let state = match std::str::from_utf8(&e.sqlstate) {
        Ok(state) if state.bytes().all(|b| b.is_ascii_alphanumeric()) => state,
        _ => "",
    };
    match (e.error_code, state) {
        (0, "") => "failed".to_owned(),
        (0, state) => state.to_owned(),
        (code, "") => code.to_string(),
        (code, state) => format!("{code}/{state}"),
    }
}
