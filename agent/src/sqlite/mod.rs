//! SQLite: the library's calls inside the application, as executions of statements.
//!
//! An execution goes from the first `sqlite3_step` after prepare or reset to the step that answers anything but
//! SQLITE_ROW, or to reset or finalize if the application stops early. Its time and counters are those inside the steps:
//! what the application does between two steps is the application's.
//!
//! A session is a database connection (`sqlite3*`). Statements run inside another step or prepare (schema reads) belong
//! to the outer one; the preload passes them through.

mod connections;
mod statements;

use crate::clock::monotonic_ns;
use crate::counters::CPU_NS;
use crate::hash::content_hash;
use crate::protocol::{Command, Dialect, TEXT_CAP};
use crate::segment::record::{self, NO_FIRST_BYTE};
use crate::segment::writer::{Fields, write};
use crate::segment::{Segment, TextKind};
use crate::session::{Engine, Measured, Thread};
use connections::Connections;
use statements::{Statement, Statements};

/// SQLITE_ROW: a step produced a row.
pub const ROW: i32 = 100;
/// SQLITE_DONE: the statement is over.
pub const DONE: i32 = 101;

/// What the engine asks the SQLite library about a statement; implemented by whoever can call it.
pub trait Library {
    /// The connection's address (sqlite3_db_handle).
    fn connection(&self) -> usize;
    /// The statement's text (sqlite3_sql); empty when there is none.
    fn text(&self) -> &[u8];
    /// File name of the connection's main database (sqlite3_db_filename); empty for a temporary or memory one.
    fn database(&self) -> &[u8];
    /// The program's name.
    fn program(&self) -> &[u8];
    /// Rows changed by the statement that has just finished; 0 for one that only reads.
    fn rows_changed(&self) -> u64;
    /// The extended result code of the last call that failed.
    fn extended_error(&self) -> i32;
}

/// All that is known of SQLite in this process.
pub struct Sqlite {
    statements: Statements,
    connections: Connections,
}

impl Sqlite {
    /// Nothing seen yet.
    pub const fn new() -> Self {
        Sqlite { statements: Statements::new(), connections: Connections::new() }
    }
}

impl Default for Sqlite {
    fn default() -> Self {
        Self::new()
    }
}

impl Engine {
    /// The capture generation, if steps are to be watched now; maps the segment of `perquery run` at the first call.
    #[inline]
    pub fn sqlite_capture(&self, t: &mut Thread) -> Option<(Segment<'static>, u64)> {
        let segment = self.process().segment_or_attach()?;
        let capture = segment.control().capture();
        if capture == 0 {
            t.rest();
            return None;
        }
        Some((segment, capture))
    }

    /// Before the real step of statement `stmt`. True when [`step_end`](Self::step_end) has to follow.
    pub fn step_begin(
        &self,
        t: &mut Thread,
        segment: &Segment<'static>,
        capture: u64,
        stmt: usize,
        library: &impl Library,
    ) -> bool {
        let Some(mut s) = self.sqlite.statements.find_or_insert(stmt) else { return false };
        if !s.active || s.generation != capture {
            self.prepare(t, segment, capture);
            self.start_execution(t, segment, capture, &mut s, library);
        }
        s.step_start_ns = t.begin_work(s.weight);
        true
    }

    fn start_execution(
        &self,
        t: &mut Thread,
        segment: &Segment<'static>,
        capture: u64,
        s: &mut Statement,
        library: &impl Library,
    ) {
        if s.text_hash == 0 || s.text_generation != capture {
            let text = library.text();
            let kept = text.get(..TEXT_CAP).unwrap_or(text);
            s.text_len = text.len() as u32;
            s.text_hash = content_hash(kept);
            s.text_generation = capture;
            segment.texts().put(s.text_hash, TextKind::Statement, kept);
        }
        s.connection = library.connection();
        s.active = true;
        s.generation = capture;
        s.rows = 0;
        s.steps = 0;
        s.inside_ns = 0;
        s.paid_ns = 0;
        s.first_row_ns = 0;
        s.start_ns = monotonic_ns();
        s.weight = t.choose(s.start_ns);
        s.exact = u64::MAX;
        self.sqlite.connections.visit(t, segment, capture, s.connection, library, |c| {
            if let Some(slot) = c.slot(segment) {
                slot.start(s.start_ns, Command::Sqlite, &[], s.text_hash, s.text_len);
            }
        });
    }

    /// After the real step of statement `stmt`, which answered `code`.
    pub fn step_end(
        &self,
        t: &mut Thread,
        segment: &Segment<'static>,
        capture: u64,
        stmt: usize,
        code: i32,
        library: &impl Library,
    ) {
        let now = monotonic_ns();
        let Some(mut s) = self.sqlite.statements.find(stmt) else { return };
        if !s.active || s.generation != capture {
            return;
        }
        let step_ns = now.saturating_sub(s.step_start_ns);
        s.inside_ns += step_ns;
        let measured = t.end_work(s.weight, now, step_ns);
        s.paid_ns += t.paid_ns();
        s.exact &= measured.exact;
        if s.steps == 0 {
            s.counts.copy_known(&t.counts);
        } else {
            s.counts.add_known(&t.counts);
        }
        s.steps = s.steps.saturating_add(1);
        if code == ROW {
            s.rows += 1;
            if s.first_row_ns == 0 {
                s.first_row_ns = s.inside_ns;
            }
            return;
        }
        let error = if code == DONE { 0 } else { library.extended_error() };
        let changed = if code == DONE { library.rows_changed() } else { 0 };
        let flags = if code == DONE { 0 } else { record::FLAG_FAILED };
        self.end_execution(t, segment, capture, &mut s, flags, error, changed, now);
    }

    /// The application resets the statement, or finalizes it (`gone`): an execution that was not done is over.
    pub fn statement_stopped(&self, t: &mut Thread, stmt: usize, gone: bool) {
        let Some(mut s) = self.sqlite.statements.find(stmt) else { return };
        if s.active
            && let Some(segment) = self.process().segment()
            && s.generation == segment.control().generation()
        {
            let capture = s.generation;
            let flags = record::FLAG_STOPPED_EARLY;
            self.end_execution(t, segment, capture, &mut s, flags, 0, 0, monotonic_ns());
        }
        s.active = false;
        drop(s);
        if gone {
            self.sqlite.statements.remove(stmt);
        }
    }

    /// A connection is closed.
    pub fn connection_closed(&self, connection: usize) {
        if let Some(segment) = self.process().segment() {
            self.sqlite.connections.remove(segment, connection);
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn end_execution(
        &self,
        t: &mut Thread,
        segment: &Segment<'static>,
        capture: u64,
        s: &mut Statement,
        flags: u32,
        error_code: i32,
        rows_affected: u64,
        now: u64,
    ) {
        s.active = false;
        let control = segment.control();
        if control.is_collector_silent(now) {
            control.give_up(capture);
            return;
        }
        let Some(lane) = self.lane(t, segment, now) else { return };
        let Some((session_uid, identity_hash, unit)) =
            self.sqlite.connections.finish_unit(segment, s.connection)
        else {
            return;
        };
        let fields = Fields {
            kind: record::KIND_EXECUTION,
            session_uid,
            start_ns: s.start_ns,
            latency_ns: s.inside_ns,
            first_byte_ns: if s.first_row_ns == 0 { NO_FIRST_BYTE } else { s.first_row_ns },
            identity_hash,
            text_hash: s.text_hash,
            text_len: s.text_len,
            rows_returned: s.rows,
            rows_affected,
            weight: s.weight.max(1.0),
            exact: s.exact & s.counts.known,
            unit,
            tid: t.tid(),
            flags: flags | if t.chooses_by_slice() { record::FLAG_CHOSEN_BY_SLICE } else { 0 },
            statements: 1,
            error_code: error_code as u32,
            dialect: Dialect::Sqlite,
            command: Command::Sqlite,
            ..Fields::default()
        };
        if write(&lane, &fields, &s.counts, &[], &[]) {
            let cpu_for_free = s.exact & s.counts.known & 1 << CPU_NS != 0;
            t.account(&lane, s.weight, Measured { exact: s.exact, cpu_for_free }, s.paid_ns);
        }
    }
}
