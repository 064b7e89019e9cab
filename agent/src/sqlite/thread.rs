//! What a thread needs for its steps of SQLite's statements.

use super::statements::Statement;
use crate::session::switches::Span;
use crate::ticks::Clock;

/// A thread's state for steps, apart from its [`Thread`](crate::session::Thread): a signal handler that interrupts a
/// step's beginning or end uses that one, and may; it does not step. Plain data.
pub struct Steps {
    /// The frame of the outermost sqlite3_step or prepare on this thread's stack; 0: none.
    pub frame: usize,
    /// The statement of the last step, and what is known of it.
    pub(super) stmt: usize,
    pub(super) statement: Option<&'static Statement>,
    /// What steps are timed by.
    pub(super) clock: Clock,
    pub(super) span: Span,
    /// The capture generation that the thread is prepared for.
    pub(super) capture: u64,
    /// Counters that are known of an execution during which the thread was not switched, mask.
    pub(super) free_mask: u64,
    /// The weight of the execution that starts next.
    pub(super) chosen: f64,
    /// The capture generation in which that was chosen.
    pub(super) chosen_in: u64,
}

impl Steps {
    /// Of a thread that was not seen yet.
    pub const fn new() -> Self {
        Steps {
            frame: 0,
            stmt: 0,
            statement: None,
            clock: Clock::new(),
            span: Span::NONE,
            capture: 0,
            free_mask: 0,
            chosen: 0.0,
            chosen_in: 0,
        }
    }

    /// A prepare begins in the frame at `frame`: what is stepped inside it is the library's own.
    pub fn enter_prepare(&mut self, frame: usize) {
        self.frame = frame;
        self.stmt = 0;
    }
}
