//! How many descriptors of the host the agent may hold for perf events.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

/// In a single-threaded backend (PostgreSQL) at most so many: it keeps ten descriptors in reserve for everybody.
const SINGLE_THREADED_MAX: u32 = 5;
/// Elsewhere one in so many of RLIMIT_NOFILE's soft limit.
const SHARE: u64 = 10;

/// The process's account of perf descriptors. One static, [`PROCESS`]; tests make their own.
#[derive(Debug)]
pub struct Budget {
    held: AtomicU32,
    single_threaded: AtomicBool,
}

/// The account of this process.
pub static PROCESS: Budget = Budget::new();

impl Budget {
    /// Nothing held.
    pub const fn new() -> Self {
        Budget { held: AtomicU32::new(0), single_threaded: AtomicBool::new(false) }
    }

    /// Says that this process is one of many with one thread each (a PostgreSQL backend): at most 5 descriptors.
    pub fn set_single_threaded_backend(&self, yes: bool) {
        self.single_threaded.store(yes, Relaxed);
    }

    /// How many are held.
    pub fn held(&self) -> u32 {
        self.held.load(Relaxed)
    }

    /// Takes one, if the soft limit of open descriptors `limit` allows it.
    pub(super) fn take(&self, limit: u64) -> bool {
        let share = u32::try_from(limit / SHARE).unwrap_or(u32::MAX);
        let allowed = if self.single_threaded.load(Relaxed) { share.min(SINGLE_THREADED_MAX) } else { share };
        if self.held.fetch_add(1, Relaxed) < allowed {
            return true;
        }
        self.give_back();
        false
    }

    /// Gives one back.
    pub(super) fn give_back(&self) {
        // A child that restarted the account may give back what its parent took: stay at zero.
        let _ = self.held.fetch_update(Relaxed, Relaxed, |held| held.checked_sub(1));
    }

    /// In a forked child: what the parent's threads hold is not this process's.
    pub(super) fn restart(&self) {
        self.held.store(0, Relaxed);
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_of_the_limit_can_be_taken_and_what_is_given_back_can_be_taken_again() {
        let budget = Budget::new();
        assert_eq!((0..20).filter(|_| budget.take(64)).count(), 6);
        budget.give_back();
        assert!(budget.take(64) && !budget.take(64));
        assert_eq!(budget.held(), 6);
    }

    #[test]
    fn a_single_threaded_backend_takes_five_at_most_however_high_the_limit() {
        let budget = Budget::new();
        budget.set_single_threaded_backend(true);
        assert_eq!((0..20).filter(|_| budget.take(u64::MAX)).count(), 5);
    }

    #[test]
    fn a_child_that_restarts_cannot_fall_below_zero() {
        let budget = Budget::new();
        assert!(budget.take(1000));
        budget.restart();
        budget.give_back();
        assert_eq!(budget.held(), 0);
    }
}
