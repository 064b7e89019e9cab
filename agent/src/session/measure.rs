//! What a piece of work costs its thread: chosen, read at its start, read at its end.
//!
//! What is known already is not read again. A thread that was not switched has spent the wall time on the CPU, with no
//! context switch; a thread whose CPU clock is known from an earlier reading needs none at the start
//! ([`CpuClock`]); and where the next command was there before the thread had to wait for it, the faults and switches
//! of the last command's end are those of the next one's start: what the kernel then does in between is to copy the
//! command, and that is the command's.

use super::account::Account;
use super::budget::Ended;
use super::cpu_clock::CpuClock;
use super::gap::Gap;
use super::sending::Sending;
use super::thread::Thread;
use crate::clock::monotonic_ns;
use crate::counters::{CHEAP_MASK, CLIENT_WAIT_NS, CPU_NS, SWITCHES_INVOLUNTARY, SWITCHES_VOLUNTARY};
use crate::segment::Lane;
use crate::segment::layout::PPM;
use crate::segment::record::{FLAG_CHOSEN_BY_SLICE, FLAG_UNSWITCHED};

/// Known without a system call when the thread was not switched.
pub(super) const FREE_MASK: u64 = 1 << CPU_NS | 1 << SWITCHES_VOLUNTARY | 1 << SWITCHES_INVOLUNTARY;
/// Counters that need perf events.
pub(super) const PERF_MASK: u64 = !(CHEAP_MASK | 1 << CLIENT_WAIT_NS);
/// After work that was not switched, so many pieces of work in a row have to be switched before it is given up to watch …
const WATCH_TRUST: i32 = 4;
/// … and then one piece of so many is watched, to see whether that has changed. To the kernel a thread that watches costs
/// some hundred instructions more at each switch, all in vain where each query is switched: where client and server share
/// a CPU, for one.
pub(super) const WATCH_ONE_OF: i32 = 64;

/// What [`Thread::end_work`] found out, beside the counts.
#[derive(Clone, Copy, Default)]
pub(crate) struct Measured {
    /// Counters that are exact, mask.
    pub exact: u64,
    /// CPU time was known without a system call.
    pub cpu_for_free: bool,
}

/// Where a thread's commands were recorded: pages of memory that it has written to, so that no fault comes of the next record there.
pub(super) struct Recorded {
    /// The opening of counters in which that was.
    opening: u32,
    /// The first and the last page; all between them too.
    pages: [usize; 2],
}

impl Recorded {
    /// Nothing was recorded.
    pub const NOTHING: Recorded = Recorded { opening: 0, pages: [0; 2] };

    /// In this `opening` of counters a command was recorded on `page`. True: not for the first time.
    #[inline]
    pub fn knows(&mut self, opening: u32, page: usize) -> bool {
        let [first, last] = self.pages;
        let same = core::mem::replace(&mut self.opening, opening) == opening;
        if same && (first..=last).contains(&page) {
            return true;
        }
        // A ring that was emptied is written from its start again: what lies further on may never have been written to.
        self.pages = if same && page == last + 1 { [first, page] } else { [page; 2] };
        false
    }
}

/// What a thread keeps from one piece of work to the next. In the order of use, as in [`Thread`].
#[repr(C)]
pub(super) struct Measuring {
    /// How long it is still worth to watch for switches; below 0, for how long it was not.
    pub(super) watch: i32,
    /// The present work is a command of a session.
    pub(super) is_command: bool,
    /// The last work was a chosen command that ended and was recorded, and the thread has worked for no session since.
    pub(super) ended: bool,
    /// The thread was not switched in the present work until its answer was about to be sent.
    pub(super) untouched: bool,
    /// What getrusage said at the end of the last command is where the next one starts from.
    pub(super) usage_serves: bool,
    pub(super) cpu: CpuClock,
    /// When the thread went on after it was switched in sending the answer, and nowhere before; 0: it was not.
    pub(super) resumed_ns: u64,
    /// The CPU clock at the start of the present work, if that was chosen.
    pub(super) start_cpu_ns: Option<u64>,
    /// What is known of the sending of answers.
    pub(super) sending: Sending,
    /// The weight of an execution where all are counted. (A constant would be a cache line and a page of its own.)
    one: f64,
    /// The present work is watched whether it was chosen or not.
    watched_anyway: bool,
    /// Readings at an end, and what one costs.
    pub(super) readings: u32,
    pub(super) end_price_ns: u64,
    /// Where commands were recorded.
    pub(super) recorded: Recorded,
    /// What is known of the time between two commands.
    pub(super) gap: Gap,
    /// What the kernel's account of the CPU clock is worth.
    pub(super) account: Account,
}

impl Measuring {
    pub const fn new() -> Self {
        Measuring {
            cpu: CpuClock::new(),
            account: Account::new(),
            gap: Gap::new(),
            start_cpu_ns: None,
            is_command: false,
            ended: false,
            untouched: false,
            resumed_ns: 0,
            sending: Sending::new(),
            usage_serves: false,
            recorded: Recorded::NOTHING,
            watch: WATCH_TRUST,
            watched_anyway: true,
            one: 1.0,
            readings: 0,
            end_price_ns: 0,
        }
    }
}

impl Thread {
    /// Nothing is known of the present work: it was not watched.
    pub(super) fn forget_watch(&mut self) {
        self.measuring.cpu.forget();
        self.measuring.watched_anyway = false;
    }

    /// The weight of an execution, where all are counted.
    #[inline(always)]
    pub(super) fn weight_of_all(&self) -> Option<f64> {
        (self.wanted.mask != 0 && self.budget_ppm == 0).then_some(self.measuring.one)
    }

    /// Chooses whether the work that starts now has its dear counters read: its weight, or 0.
    #[inline(never)]
    #[unsafe(link_section = ".text.hot.perquery.measured")]
    pub(crate) fn choose(&mut self) -> f64 {
        if self.wanted.mask == 0 {
            return 0.0;
        }
        self.settle_plain();
        if self.budget_ppm == 0 {
            return self.measuring.one;
        }
        let slices = self.chooses_by_slice();
        self.sampler.choose(slices)
    }

    /// True when executions are chosen slice by slice, because perf events are wanted.
    #[inline]
    pub(crate) fn chooses_by_slice(&self) -> bool {
        self.budget_ppm != 0 && self.wanted.mask & PERF_MASK != 0
    }

    /// A command starts, after which [`end_work`](Self::end_work) and [`account`](Self::account) follow: CLOCK_MONOTONIC,
    /// taken last, so that none of this is the command's time.
    #[inline(always)]
    pub(crate) fn begin_command(&mut self, chosen: bool) -> u64 {
        self.begin(chosen, true)
    }

    /// The same for other work, before which the thread may have done anything.
    #[inline]
    pub(crate) fn begin_work(&mut self, chosen: bool) -> u64 {
        self.begin(chosen, false)
    }

    #[inline(always)]
    fn begin(&mut self, chosen: bool, is_command: bool) -> u64 {
        self.paid_ns = 0;
        self.measuring.resumed_ns = 0;
        self.measuring.untouched = false;
        self.measuring.sending.begin();
        let usage_serves = core::mem::replace(&mut self.measuring.usage_serves, false) && is_command;
        let switched = self.measuring.cpu.was_switched();
        let follows = core::mem::replace(&mut self.measuring.ended, false)
            & self.measuring.gap.begin(switched)
            & is_command;
        self.measuring.is_command = is_command;
        if chosen {
            if !self.open {
                self.open_counters();
            }
        } else if self.open && self.wanted.mask & PERF_MASK != 0 {
            // Open events cost something at each context switch.
            self.counters.release();
            self.open = false;
        }
        self.watch_for_switches(chosen);
        let now_ns = self.first_now_ns();
        if chosen { self.begin_reading(now_ns, usage_serves, follows) } else { now_ns }
    }

    /// Watches for switches where that is asked for and worth it.
    ///
    /// What is known for free enters totals with weight 1, so it must be known whether or not the execution was chosen. Where
    /// only the choice is the reason to watch, what is found is one of the chosen: it stands for those that were not watched.
    #[inline(always)]
    fn watch_for_switches(&mut self, chosen: bool) {
        if self.wanted.mask == 0 {
            return;
        }
        let watch = &mut self.measuring.watch;
        if self.measuring.is_command {
            *watch -= 1;
            if *watch <= -WATCH_ONE_OF {
                *watch = 0;
            }
        }
        self.measuring.watched_anyway = *watch >= 0 || !self.measuring.is_command;
        if self.measuring.watched_anyway || chosen {
            self.measuring.cpu.watch();
        } else {
            self.measuring.cpu.forget();
        }
    }

    /// True when the present work is watched for switches.
    #[cfg(all(test, feature = "reader"))]
    pub(super) fn is_watched(&self) -> bool {
        self.measuring.cpu.is_watched()
    }

    /// Capture is off: perf events that are still open would go on costing something at each context switch.
    #[inline]
    pub(crate) fn rest(&mut self) {
        if self.open {
            self.close_counters();
        }
    }

    #[cold]
    fn close_counters(&mut self) {
        self.counters.release();
        self.open = false;
        self.generation = 0;
        self.goes_directly_in = 0;
    }

    #[cold]
    fn open_counters(&mut self) {
        let before_ns = monotonic_ns();
        let wanted = self.wanted;
        self.counters.prepare(&wanted, self.generation as u32);
        self.open = true;
        if wanted.mask & PERF_MASK != 0 {
            self.sampler.opened(monotonic_ns().saturating_sub(before_ns));
        }
    }

    /// The work ended at `now_ns` after `inside_ns`: the differences are in `counts`.
    #[inline(always)]
    pub(crate) fn end_work(&mut self, chosen: bool, now_ns: u64, inside_ns: u64) -> Measured {
        self.counts.known = 0;
        self.counts.scaled = 0;
        if self.wanted.mask == 0 {
            return Measured::default();
        }
        let unswitched = self.measuring.cpu.holds() && self.measuring.resumed_ns == 0;
        if chosen {
            self.end_reading(now_ns, inside_ns, unswitched);
        }
        let free = FREE_MASK & self.wanted.mask;
        if !unswitched || free == 0 {
            return Measured::default();
        }
        self.measuring.watch = WATCH_TRUST;
        // Not switched: the thread had the CPU all the time.
        self.counts.set(CPU_NS, inside_ns);
        self.counts.set(SWITCHES_VOLUNTARY, 0);
        self.counts.set(SWITCHES_INVOLUNTARY, 0);
        Measured { exact: if self.measuring.watched_anyway { free } else { 0 }, cpu_for_free: true }
    }

    /// How many counters a record of this thread may have.
    #[inline]
    pub(super) fn counters_at_most(&self) -> u32 {
        (self.wanted.mask | FREE_MASK).count_ones()
    }

    /// A command of a session ended at `now_ns` after `inside_ns`, of which there is something to be found out; the flags that
    /// its short record has, but for that of its counters.
    #[inline(always)]
    pub(super) fn end_command(&mut self, chosen: bool, now_ns: u64, inside_ns: u64) -> (Measured, u32) {
        let measured = self.end_work(chosen, now_ns, inside_ns);
        self.ended(now_ns, inside_ns, 1);
        self.plan_plain(now_ns);
        let unswitched = if !chosen && measured.cpu_for_free { FLAG_UNSWITCHED } else { 0 };
        (measured, unswitched | if self.chooses_by_slice() { FLAG_CHOSEN_BY_SLICE } else { 0 })
    }

    /// An execution that was asked about ended at `now_ns` after `inside_ns`, and has so many `readings` where it is chosen.
    #[inline]
    pub(crate) fn ended(&mut self, now_ns: u64, inside_ns: u64, readings: u64) {
        if self.budget_ppm != 0 && self.wanted.mask != 0 {
            self.ended_in_a_budget(now_ns, inside_ns, readings);
        }
    }

    #[inline(never)]
    #[unsafe(link_section = ".text.hot.perquery.measured")]
    fn ended_in_a_budget(&mut self, now_ns: u64, inside_ns: u64, readings: u64) {
        let (tid, budget_ppm, slices) = (self.tid, self.budget_ppm, self.chooses_by_slice());
        self.sampler.ended(Ended { now_ns, inside_ns, readings, tid, budget_ppm, slices });
    }

    /// Notes what an execution's measurement was, and that its `readings` cost `paid_ns` in all; after its record was written.
    #[inline]
    pub(crate) fn account(
        &mut self,
        lane: &Lane<'_>,
        chosen: bool,
        measured: Measured,
        paid_ns: u64,
        readings: u64,
    ) {
        if chosen {
            self.serve_usage(lane);
        }
        let probability_ppm = if self.budget_ppm == 0 {
            PPM
        } else {
            if chosen {
                self.sampler.paid(paid_ns, readings);
            }
            self.sampler.probability_ppm()
        };
        lane.note_account(chosen, measured.cpu_for_free, paid_ns, probability_ppm);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn a_page_of_the_ring_is_known_once_it_was_written_to_in_this_capture() {
        let mut recorded = Recorded::NOTHING;
        let mut known = |opening, pages: &[usize]| -> Vec<bool> {
            pages.iter().map(|&page| recorded.knows(opening, page)).collect()
        };
        assert_eq!(known(1, &[7, 7, 8, 8, 9, 7, 9]), [false, true, false, true, false, true, true]);
        // From the ring's start again, and then on to where it was before.
        assert_eq!(known(1, &[3, 3, 7, 8]), [false, true, false, false]);
        assert_eq!(known(1, &[8, 7]), [true, true]);
        assert_eq!(known(2, &[8, 8]), [false, true], "another opening, perhaps another process");
    }
}
