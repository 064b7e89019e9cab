//! The start of a command that soon follows another, known from that one's end without a reading.
//!
//! In between the thread does nothing for a session but wait for the command, if it has to, and receive it. What CPU time that takes
//! and how often the thread is switched in it hardly differ from one time to the next. So both are found out (at first
//! always, then now and then, where the start is read after all), and are taken from what the one reading at the command's
//! end says. Where they do differ, starts are read again for some time. Faults are counted from the end of the command
//! before, as they are where a command was there already: what comes in between is that it is received.
//!
//! That the switches are divided rightly is also proven by most commands themselves: one that was not switched, as is seen
//! without a reading, has none; one that was switched in sending its answer, and nowhere else, has just that. The others
//! were the gap's.

use super::account::Place;
use super::thread::Thread;
use crate::counters::Reading;

/// A longer gap is read: who waits long may be woken for nothing meanwhile. 131 µs.
const GAP_MAX_NS: u64 = 1 << 17;
/// So many commands in a row may end without anybody asking the clock: each gap adds what it differs from the usual one.
const UNASKED_MAX: u8 = 8;

/// What is known of the time between a thread's chosen commands.
#[repr(C)]
pub(super) struct Gap {
    /// The CPU clock at the end of the last command, where it is known, and CLOCK_MONOTONIC then.
    end_cpu_ns: Option<u64>,
    end_ns: u64,
    /// So many commands have ended since the clock, or the account of it, was asked.
    unasked: u8,
    /// The thread has found its socket empty since …
    waits: bool,
    /// … and has waited for it, since when switches are watched for.
    waited: bool,
    /// It was switched before the present command began, as far back as that is watched for.
    switched: bool,
    /// The present command starts from the last one's end: the place of the gap before it.
    assumed: Option<Place>,
    /// The switches of a gap, voluntary and involuntary: of one without a wait, and of those with one.
    switches: [[u64; 2]; 3],
}

impl Gap {
    /// Nothing is known.
    pub const fn new() -> Self {
        Gap {
            end_cpu_ns: None,
            end_ns: 0,
            unasked: 0,
            waits: false,
            waited: false,
            switched: false,
            assumed: None,
            switches: [[0; 2]; 3],
        }
    }

    /// `None`: nobody has seen where in it the thread was switched.
    fn place(&self) -> Option<Place> {
        match (self.waits, self.waited, self.switched) {
            (false, _, true) => Some(Place::AfterEnd),
            (true, true, true) => Some(Place::AfterWaitPreempted),
            (true, true, false) => Some(Place::AfterWait),
            (true, false, _) | (false, _, false) => None,
        }
    }

    fn switches(&mut self, place: Place) -> &mut [u64; 2] {
        let [without, with, with_another] = &mut self.switches;
        match place {
            Place::AfterWait => with,
            Place::AfterWaitPreempted => with_another,
            _ => without,
        }
    }

    /// True when the present command starts from the last one's end.
    #[cfg(all(test, feature = "reader"))]
    pub fn is_assumed(&self) -> bool {
        self.assumed.is_some()
    }

    /// A command begins; `switched`: the thread was switched since switches are watched for. True: it was switched since the last
    /// command's end.
    #[inline]
    pub fn begin(&mut self, switched: bool) -> bool {
        self.assumed = None;
        self.switched = switched;
        switched || self.waits && self.waited
    }

    /// A chosen command ended at `now_ns`, where the CPU clock is known to be `cpu_ns`; `asked`: it, or the account of it, has
    /// just said so.
    #[inline]
    pub fn end(&mut self, now_ns: u64, cpu_ns: Option<u64>, asked: bool) {
        self.unasked = if asked { 0 } else { self.unasked.saturating_add(1) };
        (self.end_cpu_ns, self.end_ns, self.waits, self.waited) = (cpu_ns, now_ns, false, false);
    }
}

impl Thread {
    /// The thread found nothing to read. Told of a capture that reads all.
    #[inline]
    pub fn found_nothing(&mut self) {
        self.measuring.gap.waits = !self.runs_a_query();
    }

    /// The thread has waited until there was something to read. What comes now is looked at by itself: how often the thread loses
    /// the CPU to its client differs from one time to the next.
    #[inline]
    pub fn has_waited(&mut self) {
        // In a query it waits for something else, and that it was switched then has to stay known.
        let between = !self.runs_a_query();
        let m = &mut self.measuring;
        if between && m.gap.waits {
            m.gap.waited = true;
            m.cpu.watch();
        }
    }

    /// The work that starts at `now_ns` is a command that follows the last one, and the thread was switched in between. When it
    /// starts, once all is known without a reading or was read for comparison; `None`: it has to be read.
    #[inline]
    pub(super) fn begin_after_gap(&mut self, now_ns: u64) -> Option<u64> {
        let m = &mut self.measuring;
        let end_cpu_ns = m.gap.end_cpu_ns.take()?;
        let place = m.gap.place()?;
        if now_ns.wrapping_sub(m.gap.end_ns) > GAP_MAX_NS
            || m.gap.unasked > UNASKED_MAX
            || !self.counters.made(&self.end)
            || !m.account.is_asked(place)
        {
            return None;
        }
        let (clock_ns, compared) = m.account.clock_ns(place, end_cpu_ns);
        if compared {
            return Some(self.compare_gap(place, clock_ns, now_ns));
        }
        m.gap.assumed = Some(place);
        m.start_cpu_ns = Some(clock_ns);
        m.cpu.know(self.counters.thread(), now_ns, clock_ns);
        self.start.begin_from(&self.end);
        self.start.add_switches(*m.gap.switches(place));
        Some(now_ns)
    }

    /// The clock at `now_ns`, at the end of a gap, is taken to be `known_ns`: what is it, and what were the gap's switches? When
    /// the work starts.
    #[cold]
    #[inline(never)]
    fn compare_gap(&mut self, place: Place, known_ns: u64, now_ns: u64) -> u64 {
        let started_ns = self.read_start(now_ns);
        let m = &mut self.measuring;
        let Some(clock_ns) = m.cpu.at(self.counters.thread(), now_ns) else { return started_ns };
        let found = switches_between(&self.end, &self.start);
        let known = m.gap.switches(place);
        let same = core::mem::replace(known, found) == found;
        m.account.compare(place, known_ns, clock_ns);
        if !same {
            m.account.disagree(place);
        }
        started_ns
    }

    /// The work that was chosen ended, and is known to have been switched so often: do its readings agree with what was taken to
    /// be the gap's?
    #[inline]
    pub(super) fn check_gap(&mut self, switches: Option<u64>) {
        let (Some(place), Some(switches)) = (self.measuring.gap.assumed, switches) else { return };
        let found: u64 = switches_between(&self.start, &self.end).iter().sum();
        if found == switches {
            self.measuring.account.agree(place);
        } else {
            self.measuring.account.doubt(place);
        }
    }
}

/// Switches from one reading to the other, voluntary and involuntary.
pub(super) fn switches_between(from: &Reading, to: &Reading) -> [u64; 2] {
    let ([voluntary, involuntary], [voluntary_before, involuntary_before]) = (to.switches(), from.switches());
    [voluntary.saturating_sub(voluntary_before), involuntary.saturating_sub(involuntary_before)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The place of a gap in which this happened, as its command finds it.
    fn place(waits: bool, waited: bool, switched: bool) -> (bool, Option<Place>) {
        let mut gap = Gap::new();
        gap.end(1_000, Some(500), true);
        (gap.waits, gap.waited) = (waits, waited);
        (gap.begin(switched), gap.place())
    }

    #[test]
    fn gaps_are_told_apart_by_whether_the_thread_waited_and_then_lost_the_cpu() {
        assert_eq!(place(false, false, true), (true, Some(Place::AfterEnd)));
        assert_eq!(place(true, true, false), (true, Some(Place::AfterWait)));
        assert_eq!(place(true, true, true), (true, Some(Place::AfterWaitPreempted)));
        assert_eq!(place(true, false, true), (true, None), "it waited in a call that nobody sees");
        assert_eq!(place(false, false, false), (false, None), "nothing happened");
    }

    #[test]
    fn a_command_ends_what_was_seen_of_the_gap_before_it() {
        let mut gap = Gap::new();
        (gap.waits, gap.waited) = (true, true);
        gap.end(1_000, Some(500), false);
        assert!(!gap.begin(false));
        assert_eq!(gap.unasked, 1);
        (0..300).for_each(|_| gap.end(1_000, Some(500), false));
        assert!(gap.unasked > UNASKED_MAX, "the clock is asked again");
        gap.end(1_000, Some(500), true);
        assert_eq!(gap.unasked, 0);
    }
}
