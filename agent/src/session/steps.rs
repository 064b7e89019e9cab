//! Work that comes in short steps: SQLite's, of which a query may have thousands.

use super::measure::{FREE_MASK, PERF_MASK};
use super::thread::Thread;

impl Thread {
    /// Counters that are known without a system call of work during which the thread was not switched, mask.
    #[inline(always)]
    pub(crate) fn free_mask(&self) -> u64 {
        FREE_MASK & self.wanted.mask
    }

    /// True when perf events are wanted.
    #[inline(always)]
    pub(crate) fn wants_events(&self) -> bool {
        self.wanted.mask & PERF_MASK != 0
    }

    /// An execution starts whose dear counters are not read: perf events that are open for the one before would go on
    /// costing something at each context switch.
    #[inline(always)]
    pub(crate) fn close_events(&mut self) {
        if self.open && self.wants_events() {
            self.counters.release();
            self.open = false;
        }
    }
}
