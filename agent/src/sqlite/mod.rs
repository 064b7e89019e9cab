//! SQLite: executions of statements, stepped by the application itself.
//!
//! One execution is one unit: from the first `sqlite3_step` after prepare or reset to the step that answers anything but
//! SQLITE_ROW, or to reset or finalize if the application stops early. Its time and counters are those inside the steps:
//! what the application does between two steps is the application's.
//!
//! A session is a database connection (`sqlite3*`). Statements run inside another step or prepare (schema reads) belong
//! to the outer one; the preload passes them through.
//!
//! A step of a scan takes 40 ns, so what happens around each one is a look-up, two readings of the [clock](crate::ticks)
//! and a few sums. What stays the same for a statement is found out once in each capture.

mod connections;
mod execution;
mod statements;
mod thread;

use crate::counters::{Counts, DESCRIPTOR_BUDGET};
use crate::segment::{Segment, record};
use crate::session::switches::Span;
use crate::session::{Engine, GATE, Thread, is_nested};
use connections::Connections;
use statements::{Statement, Statements};
pub use thread::Steps;

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
    /// True when the statement is one that changes rows and has the library count them.
    fn changes_rows(&self) -> bool;
    /// Rows changed by the statement of the connection that changed rows last.
    fn rows_changed(&self) -> u64;
    /// True when the statement was stepped since its reset, and is not done (sqlite3_stmt_busy).
    fn is_busy(&self) -> bool;
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

/// A step that has begun; lives in the hook's frame.
#[derive(Clone, Copy)]
pub struct Stepping {
    statement: &'static Statement,
    capture: u64,
    stamp: u64,
}

/// What a step's beginning finds.
pub enum Before {
    /// It is nobody's, or inside another one: nothing follows.
    Pass,
    /// Another step of an execution that runs: [`Engine::step_after`] follows.
    Goes(Stepping),
    /// More has to be done first: [`Engine::step_begin`].
    Begins,
}

impl Engine {
    /// Before the real step of statement `stmt`, called from a hook whose frame is at `frame`.
    #[inline(always)]
    pub fn step_before(&'static self, steps: &mut Steps, stmt: usize, frame: usize) -> Before {
        if is_nested(steps.frame, frame) {
            return Before::Pass;
        }
        let Some(segment) = self.process().segment() else { return Before::Begins };
        let capture = segment.control().capture();
        let last = if steps.stmt == stmt { steps.statement } else { self.sqlite.statements.find(stmt) };
        let Some(s) = last.filter(|s| s.is(stmt) && capture != 0) else { return Before::Begins };
        let stepping = if s.running.get() != capture {
            match self.start_again(steps, capture, s) {
                Some(stepping) => stepping,
                None => return Before::Begins,
            }
        } else if s.weight.get() == 0 {
            if s.exact.get() != 0 {
                steps.span = Span::begin();
            }
            Stepping { statement: s, capture, stamp: steps.clock.stamp() }
        } else {
            return Before::Begins;
        };
        steps.frame = frame;
        steps.stmt = stmt;
        steps.statement = Some(s);
        Before::Goes(stepping)
    }

    /// As [`step_before`](Self::step_before), where an execution starts or its dear counters are read. `Some`:
    /// [`step_after`](Self::step_after) follows.
    #[inline(always)]
    pub fn step_begin(
        &'static self,
        t: &mut Thread,
        steps: &mut Steps,
        stmt: usize,
        frame: usize,
        library: &impl Library,
    ) -> Option<Stepping> {
        let segment = match self.process().segment() {
            Some(segment) => segment,
            None => self.attach(library)?,
        };
        let capture = segment.control().capture();
        if capture == 0 {
            self.rest(t, segment);
            return None;
        }
        let s = match self.sqlite.statements.find(stmt) {
            Some(s) => s,
            None => match self.sqlite.statements.insert(stmt, capture) {
                Some(s) => s,
                None => {
                    self.lose_execution(t);
                    return None;
                }
            },
        };
        let stepping = if s.running.get() == capture {
            t.begin_work(f64::from_bits(s.weight.get()) > 0.0);
            Stepping { statement: s, capture, stamp: steps.clock.stamp() }
        } else {
            self.start_execution(t, steps, segment, capture, s, library)?
        };
        steps.frame = frame;
        steps.stmt = stmt;
        steps.statement = Some(s);
        Some(stepping)
    }

    #[cold]
    #[inline(never)]
    fn attach(&'static self, library: &impl Library) -> Option<&'static Segment<'static>> {
        if self.process().segment_or_attach().is_none() && !library.is_busy() {
            // The first step of an execution.
            self.process().miss_execution();
        }
        self.process().segment()
    }

    /// Capture is off: perf events are closed, and once all threads have closed theirs hooks pass again.
    #[cold]
    #[inline(never)]
    fn rest(&self, t: &mut Thread, segment: &Segment<'static>) {
        t.rest();
        if DESCRIPTOR_BUDGET.held() == 0 {
            GATE.follow(segment.control().capture_word());
        }
    }

    /// After the real step of statement `stmt`, which answered `code`. `Some`: [`step_end`](Self::step_end) has to follow,
    /// with this stamp.
    #[inline(always)]
    pub fn step_after(&self, steps: &mut Steps, stepping: &Stepping, stmt: usize, code: i32) -> Option<u64> {
        // The first thing: none of the below is the step's time.
        let stamp = steps.clock.stamp();
        steps.frame = 0;
        let s = stepping.statement;
        if s.weight.get() != 0 || !s.is(stmt) || s.running.get() != stepping.capture {
            return Some(stamp);
        }
        if s.exact.get() != 0 && !steps.span.holds() {
            s.exact.set(0);
        }
        let inside_ns = s.inside_ns.add(steps.clock.between(stepping.stamp, stamp));
        if code != ROW {
            return Some(stamp);
        }
        s.add_row(inside_ns);
        None
    }

    /// The end of a step at `stamp` that is an execution's last, or whose dear counters are read.
    #[allow(clippy::too_many_arguments)]
    #[inline(always)]
    pub fn step_end(
        &'static self,
        t: &mut Thread,
        steps: &mut Steps,
        stepping: &Stepping,
        stmt: usize,
        code: i32,
        stamp: u64,
        library: &impl Library,
    ) {
        let s = stepping.statement;
        if !s.is(stmt) || s.running.get() != stepping.capture {
            // Another thread has ended the execution that this step belonged to, or needed its place.
            self.lose_execution(t);
            return;
        }
        if s.weight.get() != 0 {
            let step_ns = steps.clock.between(stepping.stamp, stamp);
            self.end_counted(t, s, steps.clock.ns(stamp), step_ns);
            let inside_ns = s.inside_ns.add(step_ns);
            if code == ROW {
                s.add_row(inside_ns);
                return;
            }
        }
        let (mut error, mut changed, mut flags) = (0, 0, 0);
        if code != DONE {
            (error, flags) = (library.extended_error(), record::FLAG_FAILED);
        } else if s.changes_rows.get() != 0 {
            changed = library.rows_changed();
        }
        self.end_execution(t, steps, stepping.capture, s, flags, error, changed, stamp);
    }

    /// Something ran that can't be recorded: not silently.
    #[cold]
    #[inline(never)]
    fn lose_execution(&self, t: &mut Thread) {
        if let Some(segment) = self.process().segment()
            && let Some(lane) = self.lane(t, segment, crate::clock::monotonic_ns())
        {
            lane.count_drop();
        }
    }

    /// The end of a step of an execution whose dear counters are read.
    #[cold]
    #[inline(never)]
    fn end_counted(&self, t: &mut Thread, s: &Statement, now_ns: u64, step_ns: u64) {
        let measured = t.end_work(f64::from_bits(s.weight.get()) > 0.0, now_ns, step_ns);
        s.paid_ns.add(t.paid_ns());
        s.exact.set(s.exact.get() & measured.exact);
        let first = s.summed.get() == 0;
        s.summed.set(1);
        let add =
            |sums: &mut Counts| if first { sums.copy_known(&t.counts) } else { sums.add_known(&t.counts) };
        self.sqlite.statements.with_sums(s, add);
    }

    /// The application resets the statement, or finalizes it (`gone`): an execution that was not done is over.
    pub fn statement_stopped(
        &'static self,
        t: &mut Thread,
        steps: &mut Steps,
        stmt: usize,
        frame: usize,
        gone: bool,
    ) {
        if steps.stmt == stmt && is_nested(steps.frame, frame) {
            // The library's own, inside the step of this statement: the schema has changed, it begins again.
            return;
        }
        let Some(s) = self.sqlite.statements.find(stmt) else { return };
        let running = s.running.get();
        if running != 0
            && let Some(segment) = self.process().segment()
            && running == segment.control().generation()
        {
            let stamp = steps.clock.stamp();
            self.end_execution(t, steps, running, s, record::FLAG_STOPPED_EARLY, 0, 0, stamp);
        }
        s.running.set(0);
        if gone {
            self.sqlite.statements.remove(stmt);
        }
    }

    /// True when a reset of the statement would end an execution.
    #[inline(always)]
    pub fn statement_runs(&self, steps: &Steps, stmt: usize) -> bool {
        let known = if steps.stmt == stmt { steps.statement } else { self.sqlite.statements.find(stmt) };
        known.is_some_and(|s| s.running.get() != 0)
    }

    /// A connection is closed.
    pub fn connection_closed(&self, t: &Thread, connection: usize) {
        self.sqlite.connections.remove(t, connection);
    }
}
