//! A thread's CPU clock by the kernel's account of its CPU time, which is got together with faults and switches.
//!
//! getrusage(2) says what CPU time the scheduler had put to the thread's account when it last brought that up to date: when it
//! switched the thread in, if nothing came in between. So right after a switch the account is the clock, but for what getrusage
//! cuts (two times, to whole microseconds each) and for the last steps of the switch; some time later it lacks what the
//! thread has run since, which is the wall time since then if it was not switched again. Asking the clock itself
//! (clock_gettime(2)) makes the scheduler bring the account up to date under its own lock, which in a server between two queries
//! costs several times as much.
//!
//! How far the account lags behind depends on the machine and on the place where it is asked. So it is found out, for each of
//! the [places](Place): the clock is asked too, at first always, then now and then. Where they do not keep their distance, the
//! account is left alone for some time; so it is on a kernel that accounts in another way.

/// Where the account is asked; or, after a [gap](super::gap), what the clock was before it: the lag is the gap's CPU time then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// At the start of a command, where the thread lost the CPU when it had taken the command from its socket.
    Preempted,
    /// At the start of a command that the thread waited for.
    Waited,
    /// At the end of a command, where the thread lost the CPU when it had sent the answer.
    Answered,
    /// At the start of a command that was there when the thread came to receive it, from the clock at the end of the one before.
    AfterEnd,
    /// The same of a command that the thread had to wait for, and then received without losing the CPU …
    AfterWait,
    /// … and of one with which it lost the CPU when it had taken it from its socket.
    AfterWaitPreempted,
}

/// How many places there are.
const PLACES: usize = 6;

/// So many of the first comparisons tell how far it lags behind …
const COMPARED_FIRST: u32 = 8;
/// … and then it is compared once in so many times.
const COMPARED_OF: u32 = 128;
/// A comparison of those counts so much of what was known before.
const LAG_KEPT: i64 = 16;
/// It keeps its distance where that changes by no more, ns.
const LAG_CHANGE_MAX_NS: u64 = 4_000;
/// Further behind it is of no use, ns.
const LAG_MAX_NS: i64 = 20_000;
/// What one disagreement adds to the doubt; each agreement takes 1.
const DOUBT: u8 = 4;
/// What it adds where something else at the place was not as it was said to be.
const DISAGREEMENT: u8 = 6;
/// With more doubt the account is left alone …
const DOUBT_MAX: u8 = 12;
/// … for so many times.
const LEFT_ALONE: u32 = 4_096;

/// What is known of the account at one place.
#[derive(Clone, Copy, Debug)]
struct Lag {
    /// How far it lags behind the clock, ns.
    ns: i64,
    asked: u32,
    /// So many times it is still left alone.
    alone: u32,
    doubt: u8,
}

/// What is known of the account at each place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account {
    lags: [Lag; PLACES],
}

impl Lag {
    fn doubt_more(&mut self, more: u8) {
        self.doubt = self.doubt.saturating_add(more);
        if self.doubt > DOUBT_MAX {
            *self = Lag { ns: 0, asked: 0, alone: LEFT_ALONE, doubt: 0 };
        }
    }
}

impl Account {
    /// Nothing is known.
    pub const fn new() -> Self {
        Account { lags: [Lag { ns: 0, asked: 0, alone: 0, doubt: 0 }; PLACES] }
    }

    fn lag(&mut self, place: Place) -> &mut Lag {
        let [preempted, waited, answered, after_end, after_wait, after_wait_preempted] = &mut self.lags;
        match place {
            Place::Preempted => preempted,
            Place::Waited => waited,
            Place::Answered => answered,
            Place::AfterEnd => after_end,
            Place::AfterWait => after_wait,
            Place::AfterWaitPreempted => after_wait_preempted,
        }
    }

    /// True when it is to be asked at `place`.
    #[inline]
    pub fn is_asked(&mut self, place: Place) -> bool {
        let lag = self.lag(place);
        let asked = lag.alone == 0;
        lag.alone = lag.alone.saturating_sub(1);
        asked
    }

    /// The CPU clock, where the account says `said_ns` at `place`; true: but the clock has to be asked too, and
    /// [`compare`](Self::compare) has to follow.
    #[inline]
    pub fn clock_ns(&mut self, place: Place, said_ns: u64) -> (u64, bool) {
        let lag = self.lag(place);
        lag.asked = lag.asked.wrapping_add(1);
        let compared = lag.asked <= COMPARED_FIRST
            || lag.asked.is_multiple_of(COMPARED_OF)
            || (lag.asked < COMPARED_OF && lag.asked.is_power_of_two());
        (said_ns.saturating_add_signed(lag.ns), compared)
    }

    /// At `place` the clock was said to be `known_ns`, and was `clock_ns`. False: the account did not keep its distance.
    #[cold]
    pub fn compare(&mut self, place: Place, known_ns: u64, clock_ns: u64) -> bool {
        let lag = self.lag(place);
        let change = clock_ns.cast_signed().wrapping_sub(known_ns.cast_signed());
        let first = lag.asked <= COMPARED_FIRST;
        let kept = change.unsigned_abs() <= LAG_CHANGE_MAX_NS || lag.asked <= 1;
        let part = if first { i64::from(lag.asked.max(1)) } else { LAG_KEPT };
        let ns = lag.ns.wrapping_add(if kept { change / part } else { change });
        let useful = (-LAG_MAX_NS..=LAG_MAX_NS).contains(&ns);
        if kept && useful {
            lag.ns = ns;
            lag.doubt = lag.doubt.saturating_sub(1);
            return true;
        }
        if useful {
            // Something has changed, or one of them was disturbed. From the beginning.
            (lag.ns, lag.asked) = (ns, 1);
        }
        lag.doubt_more(DOUBT);
        false
    }

    /// What else was said at `place` was so.
    #[inline]
    pub fn agree(&mut self, place: Place) {
        let lag = self.lag(place);
        lag.doubt = lag.doubt.saturating_sub(1);
    }

    /// It was not. Once may be: somebody else had the CPU, too. Soon again: from the beginning.
    #[cold]
    pub fn doubt(&mut self, place: Place) {
        let lag = self.lag(place);
        if lag.doubt == 0 {
            lag.doubt = DISAGREEMENT;
        } else {
            self.disagree(place);
        }
    }

    /// What else was said at `place` was not so: from the beginning.
    #[cold]
    pub fn disagree(&mut self, place: Place) {
        let lag = self.lag(place);
        // The first one had nothing to agree with.
        if lag.asked > 1 {
            lag.doubt_more(DISAGREEMENT);
        }
        lag.asked = lag.asked.min(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thread's clock, and what its account says of it: `lag_ns` less.
    fn ask(account: &mut Account, clock_ns: u64, lag_ns: u64) -> Option<u64> {
        if !account.is_asked(Place::Answered) {
            return None;
        }
        let (known_ns, compared) = account.clock_ns(Place::Answered, clock_ns - lag_ns);
        if compared {
            account.compare(Place::Answered, known_ns, clock_ns);
            return None;
        }
        Some(known_ns)
    }

    #[test]
    fn the_account_with_its_lag_is_the_clock() {
        let mut account = Account::new();
        let mut clock_ns = 1_000_000;
        let (mut known, mut apart) = (0u32, 0i64);
        for n in 0..6_400u64 {
            clock_ns += 30_000;
            let lag_ns = 3_000 + (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) % 2_000;
            if let Some(known_ns) = ask(&mut account, clock_ns, lag_ns) {
                let error = known_ns as i64 - clock_ns as i64;
                assert!(error.abs() < 2_000, "{error}");
                apart += error;
                known += 1;
            }
        }
        assert_eq!(known, 6_400 - 8 - 3 - 50, "the others were compared");
        assert!((apart / i64::from(known)).abs() < 250, "{apart} ns in all");
    }

    #[test]
    fn an_account_that_does_not_keep_its_distance_is_left_alone_and_tried_again() {
        let mut account = Account::new();
        let ticks = |account: &mut Account, from: u64| {
            // The account goes on only every 4 ms.
            (from..from + 2_000)
                .filter(|n| ask(account, 10_000_000 + n * 30_000, n * 30_000 % 4_000_000).is_some())
                .count()
        };
        assert!(ticks(&mut account, 1) < 100, "it is not believed for long");
        for n in 0..2 * u64::from(LEFT_ALONE) {
            ask(&mut account, 1_000_000_000 + n * 30_000, 3_000);
        }
        assert!(ask(&mut account, 2_000_000_000, 3_000).is_some(), "it is again");
    }

    #[test]
    fn a_first_comparison_that_an_interrupt_disturbed_is_forgotten() {
        let mut account = Account::new();
        for (n, lag_ns) in
            [15_000, 3_000, 3_000, 3_000, 3_000, 3_000, 3_000, 3_000, 3_000, 3_000].iter().enumerate()
        {
            ask(&mut account, 1_000_000 + n as u64 * 30_000, *lag_ns);
        }
        assert_eq!(ask(&mut account, 2_000_000, 3_000), Some(2_000_000));
    }

    #[test]
    fn one_comparison_that_an_interrupt_disturbed_changes_nothing() {
        let mut account = Account::new();
        for n in 0..200 {
            ask(&mut account, 1_000_000 + n * 30_000, 3_000);
        }
        let before = account.clock_ns(Place::Answered, 0).0;
        assert!(!account.compare(Place::Answered, 9_000_000, 9_100_000));
        assert_eq!(account.clock_ns(Place::Answered, 0).0, before);
        assert!(account.is_asked(Place::Answered));
    }

    #[test]
    fn what_is_wrong_now_and_then_costs_nothing_and_what_is_wrong_often_is_asked_again() {
        let mut account = Account::new();
        for n in 0..200 {
            ask(&mut account, 1_000_000 + n * 30_000, 3_000);
        }
        let is_compared = |account: &mut Account| account.clock_ns(Place::Answered, 0).1;
        let mut compared = 0;
        for _ in 0..100 {
            account.doubt(Place::Answered);
            assert!(account.is_asked(Place::Answered));
            compared += u32::from(is_compared(&mut account));
            (0..DISAGREEMENT).for_each(|_| account.agree(Place::Answered));
        }
        assert!(compared <= 1, "one of 128 is anyway: {compared}");
        account.clock_ns(Place::Answered, 0);
        account.doubt(Place::Answered);
        account.doubt(Place::Answered);
        assert!(account.is_asked(Place::Answered) && is_compared(&mut account), "twice in a row");
        account.clock_ns(Place::Answered, 0);
        account.doubt(Place::Answered);
        assert!(!account.is_asked(Place::Answered), "it is of no use");
    }

    #[test]
    fn an_account_of_which_something_else_is_wrong_too_often_is_left_alone() {
        let mut account = Account::new();
        for n in 0..200 {
            ask(&mut account, 1_000_000 + n * 30_000, 3_000);
        }
        account.disagree(Place::Answered);
        assert!(account.is_asked(Place::Answered), "once may be");
        assert!(account.clock_ns(Place::Answered, 0).1, "it is compared again");
        account.clock_ns(Place::Answered, 0);
        account.disagree(Place::Answered);
        account.clock_ns(Place::Answered, 0);
        account.disagree(Place::Answered);
        assert!(!account.is_asked(Place::Answered));
    }
}
