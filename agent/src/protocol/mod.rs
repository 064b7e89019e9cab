//! Wire protocols: bytes and direction in, events out.
//!
//! A machine has no I/O, no clock and no `unsafe`; its memory is bounded. The [`session`](crate::session) engine feeds
//! it what a session's socket (or its TLS) carried and acts on the events. Rules for every machine:
//!
//! - Any bytes may come in any pieces. The events do not depend on how the bytes were cut.
//! - After bytes that the protocol does not allow the answer is [`Step::Lost`], now and for ever; nothing is guessed.
//! - Nothing of authentication packets is kept but the identity: not the password, not the scramble.
//! - A *unit* is what the server does between taking a command and being ready for the next: one COM_QUERY, one
//!   PostgreSQL Sync-to-Sync batch. [`Machine::unit`] describes the one that ran last.

pub mod mysql;
pub mod postgres;
mod statements;

use crate::strings::Bytes;
pub use statements::{STATEMENTS_CAP, StatementMap, TextRef};

/// How much of a statement's text is kept, in bytes. PostgreSQL keeps 1 KiB and the performance schema as much; object
/// mappers write 2–4 KiB. A longer text is cut and marked so.
pub const TEXT_CAP: usize = 4096;

/// Which way the bytes went, seen from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The server received them.
    FromClient,
    /// The server sent them.
    ToClient,
}

/// Whose grammar a statement follows. The numbers are part of the segment's layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Dialect {
    /// Not known (yet).
    #[default]
    Unknown = 0,
    /// MariaDB.
    MariaDb = 1,
    /// MySQL.
    MySql = 2,
    /// PostgreSQL.
    Postgres = 3,
    /// SQLite.
    Sqlite = 4,
}

impl Dialect {
    /// The dialect of a number read from a record; unknown numbers are [`Dialect::Unknown`].
    pub fn from_u8(n: u8) -> Self {
        match n {
            1 => Dialect::MariaDb,
            2 => Dialect::MySql,
            3 => Dialect::Postgres,
            4 => Dialect::Sqlite,
            _ => Dialect::Unknown,
        }
    }
}

/// What kind of work a unit is. The numbers are part of the segment's layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
#[repr(u8)]
pub enum Command {
    /// Nothing yet.
    #[default]
    None = 0,
    /// A statement's text was sent and executed (COM_QUERY, simple Query).
    Query = 1,
    /// A prepared statement was executed (COM_STMT_EXECUTE, Bind/Execute).
    Execute = 2,
    /// A statement was prepared, not executed (COM_STMT_PREPARE; Parse without Execute).
    Prepare = 3,
    /// More rows of an open cursor (COM_STMT_FETCH).
    Fetch = 4,
    /// Several Executes between two Syncs (PostgreSQL pipeline), or a MariaDB bulk execute.
    Batch = 5,
    /// PostgreSQL FunctionCall.
    FunctionCall = 6,
    /// Anything else that has a response: ping, statistics, init db, reset, change user, ...; counted as no statement.
    Utility = 7,
    /// A SQLite statement from its first step to its reset.
    Sqlite = 8,
}

impl Command {
    /// The command of a number read from a record; unknown numbers are [`Command::None`].
    pub fn from_u8(n: u8) -> Self {
        match n {
            1 => Command::Query,
            2 => Command::Execute,
            3 => Command::Prepare,
            4 => Command::Fetch,
            5 => Command::Batch,
            6 => Command::FunctionCall,
            7 => Command::Utility,
            8 => Command::Sqlite,
            _ => Command::None,
        }
    }
}

/// Who a session is. Filled by the machine during login and kept up to date by it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Identity {
    /// The user name as the client gave it.
    pub user: Bytes<128>,
    /// The current database (MySQL: schema); empty when none.
    pub database: Bytes<192>,
    /// MySQL `program_name` (else `_client_name`), PostgreSQL `application_name`.
    pub application: Bytes<128>,
    /// Only from a PROXY header: the real client's address as text. Else empty, and the socket's peer counts.
    pub proxied_client: Bytes<64>,
    /// MySQL thread id, PostgreSQL backend pid; 0 when not known.
    pub connection_id: u64,
}

/// What the response to a unit said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The response was an error (or ended with one).
    pub failed: bool,
    /// MySQL errno; 0 for PostgreSQL and where no error happened. SQLite: the extended result code.
    pub error_code: u32,
    /// The five characters of SQLSTATE; zeros where no error happened or the protocol gave none.
    pub sqlstate: [u8; 5],
    /// Rows sent to the client.
    pub rows_returned: u64,
    /// Rows that INSERT, UPDATE, DELETE, MERGE or COPY FROM changed, as the server said.
    pub rows_affected: u64,
    /// The response could not be read (compressed): rows and error are unknown.
    pub unknown: bool,
}

/// The text of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitText<'a> {
    /// There is none (ping, Sync alone).
    None,
    /// The statement, cut to [`TEXT_CAP`]; `full_len` is what the client sent.
    Inline {
        /// The bytes kept.
        bytes: &'a [u8],
        /// The length on the wire, in bytes.
        full_len: u32,
    },
    /// A statement prepared earlier; its text was announced by [`Event::Text`].
    Stored(TextRef),
    /// There is a text, but it can't be known: prepared before we watched, evicted, compressed prepare.
    Unknown,
    /// The MySQL command packet as compressed by the client; the collector inflates it. `bytes` is the payload of the
    /// compressed packet(s), cut to [`TEXT_CAP`].
    Compressed {
        /// The deflate (zlib) or zstd stream.
        bytes: &'a [u8],
        /// True for zstd, false for zlib.
        zstd: bool,
    },
}

/// One statement of a batch and how often it was executed in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its text; `hash` 0 when not known.
    pub text: TextRef,
    /// Executions in this batch.
    pub executions: u32,
}

/// A whole command of the usual kind that the machine was not told of; see [`session`](crate::session).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// [`Command::Query`] or [`Command::Execute`].
    pub command: Command,
    /// What was asked; where `hash` is 0, the machine's `direct_text` has it.
    pub text: TextRef,
}

/// A whole answer that the machine was not told of: one result, no error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Rows sent to the client.
    pub rows_returned: u32,
    /// Rows changed.
    pub rows_affected: u32,
}

/// An [`Answer`], or none, in one register: rows returned below, rows changed above, as a record has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedAnswer(u64);

impl PackedAnswer {
    /// There is none. No answer has as many rows of both kinds.
    pub const NONE: PackedAnswer = PackedAnswer(u64::MAX);

    /// Packs one.
    #[inline(always)]
    pub fn new(answer: Option<Answer>) -> Self {
        match answer {
            Some(a) => PackedAnswer(u64::from(a.rows_returned) | u64::from(a.rows_affected) << 32),
            None => Self::NONE,
        }
    }

    /// The answer that is in this word of a record.
    pub(crate) fn of(word: u64) -> Self {
        PackedAnswer(word)
    }

    /// The word; `None`: there is no answer.
    #[inline(always)]
    pub(crate) fn word(self) -> Option<u64> {
        (self != Self::NONE).then_some(self.0)
    }

    /// Unpacks it.
    #[inline(always)]
    pub fn get(self) -> Option<Answer> {
        let answer = Answer { rows_returned: self.0 as u32, rows_affected: (self.0 >> 32) as u32 };
        (self.0 != u64::MAX).then_some(answer)
    }
}

/// The unit that runs or ran last.
#[derive(Clone, Copy, Debug)]
pub struct Unit<'a> {
    /// What kind of work.
    pub command: Command,
    /// What was asked.
    pub text: UnitText<'a>,
    /// How many statements it contained as far as the wire shows: Executes of a batch, results of a multi-statement
    /// query. 0 for a unit without a statement.
    pub statements: u32,
    /// The different statements of a [`Command::Batch`], in order of first appearance; empty for all others.
    pub members: &'a [Member],
    /// What the response said.
    pub outcome: Outcome,
}

/// What the engine has to act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The client asked for TLS and the server agreed: from here on the plain text is seen at the TLS library only.
    /// Bytes of the socket itself are to be fed no more.
    TlsStarts,
    /// The session is logged in; [`Machine::identity`] is complete. Also after COM_CHANGE_USER succeeded.
    LoggedIn,
    /// User, database or application changed; see [`Machine::identity`].
    IdentityChanged,
    /// A statement was prepared: its text is in [`Machine::announced_text`], to be stored under its content hash. The
    /// machine refers to it by [`TextRef`] from now on.
    Text,
    /// A unit's command has been received completely (PostgreSQL: its first message has).
    Started,
    /// The response's first meaningful byte has been sent.
    FirstResponse,
    /// The unit is over; [`Machine::unit`] describes it until the next [`Event::Started`].
    Finished,
    /// The connection is no session: a cancel request, a port scan.
    NotASession,
    /// The session turned into a stream (binlog dump, walsender): no queries follow.
    Streaming,
    /// The client said good-bye.
    Quit,
}

/// Why a machine gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LostReason {
    /// A length, tag or order that the protocol does not allow.
    Malformed = 1,
    /// Encryption that can't be seen through (GSS, TLS inside the server's own binary).
    Opaque = 2,
    /// Bytes went by unseen (the engine was busy on another thread, a partial hook).
    Missed = 3,
}

/// The answer to a piece of input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// All given bytes are consumed; nothing more to say.
    NeedMore,
    /// Something happened. Call again with the rest: the input was advanced past what was consumed.
    Event(Event),
    /// The machine can't follow any more. Every later call says the same.
    Lost(LostReason),
}

/// A session's protocol machine.
///
/// `step` is called until it answers [`Step::NeedMore`] or [`Step::Lost`]; each call advances `input` past the bytes it
/// consumed. An event may be answered without consuming anything (several events at one byte), but never for ever: between
/// two calls that consume nothing and answer an event, the number of events is bounded by a constant.
pub trait Machine {
    /// Takes bytes that went in `direction`.
    fn step(&mut self, direction: Direction, input: &mut &[u8]) -> Step;

    /// The server is about to ask the socket (or TLS) for at most `requested` bytes. MySQL: a request for a header (4
    /// bytes, 7 compressed) after a response ends the unit. Answers at most one event, `Event::Finished`, or `NeedMore`.
    fn read_entered(&mut self, requested: usize) -> Step;

    /// The server handed the socket back to its poller (epoll_ctl ADD/MOD of a thread pool), or the socket was closed:
    /// ends the unit if one was answered. On close (`closing`) a unit without a response ends too.
    fn parked(&mut self, closing: bool) -> Step;

    /// While false, texts that are needed only for reports (COM_QUERY, simple Query, unnamed Parse) need not be kept.
    fn set_capturing(&mut self, capturing: bool);

    /// Who the session is.
    fn identity(&self) -> &Identity;

    /// Whose grammar its statements follow.
    fn dialect(&self) -> Dialect;

    /// The unit that runs or ran last.
    fn unit(&self) -> Unit<'_>;

    /// The text that the last [`Event::Text`] announced, cut to [`TEXT_CAP`], and its reference (hash of the kept bytes
    /// and full length).
    fn announced_text(&self) -> (&[u8], TextRef);

    /// How many statements were forgotten because the session prepared more than [`StatementMap`] holds.
    fn evicted_statements(&self) -> u64;
}
