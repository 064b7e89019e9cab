//! What is read at the start and at the end of work that was chosen, by the cheapest source that knows it.
//!
//! CPU time has three sources. Where the thread was not switched, it is the wall time. Where it was switched a moment ago, and that
//! is proven, the kernel's [account](super::account) is up to date, which comes with faults and switches: so it is when a
//! command was waited for and received, and when its answer woke the client on the same CPU. Else the clock has to be asked.

use super::account::Place;
use super::thread::Thread;
use crate::counters::{CPU_NS, USAGE_MASK, delta};
use crate::segment::Lane;

use super::measure::PERF_MASK;

/// The price of a reading at the end is measured at one of so many; at the start it takes no clock of its own.
const PRICED_OF: u32 = 8;

impl Thread {
    /// The work that starts at `now_ns` was chosen. When it starts once all is read. `follows`: the thread has done nothing
    /// since the end of its last command but to wait for this one and to receive it, and was switched meanwhile.
    #[inline(never)]
    #[unsafe(link_section = ".text.hot.perquery.begin")]
    pub(super) fn begin_reading(&mut self, now_ns: u64, usage_serves: bool, follows: bool) -> u64 {
        let start_cpu_ns = self.measuring.cpu.at(self.counters.thread(), now_ns);
        if start_cpu_ns.is_none() {
            if follows && self.counters_come_with_an_account() {
                if usage_serves
                    && self.budget_ppm == 0
                    && self.wanted.mask & PERF_MASK == 0
                    && let Some(started_ns) = self.begin_after_gap(now_ns)
                {
                    return started_ns;
                }
                if let Some(started_ns) = self.read_start_and_account(now_ns) {
                    return started_ns;
                }
            }
            return self.read_start(now_ns);
        }
        self.measuring.start_cpu_ns = start_cpu_ns;
        let usage_serves = usage_serves && self.counters.made(&self.end);
        if usage_serves && self.wanted.mask & PERF_MASK == 0 {
            self.start.begin_from(&self.end);
            return now_ns;
        }
        self.counters.read_without(1 << CPU_NS, &mut self.start);
        let started_ns = self.now_ns();
        self.measuring.start_cpu_ns = self.measuring.cpu.at(self.counters.thread(), started_ns);
        if self.measuring.start_cpu_ns.is_none() {
            // Switched in between: now the clock has to say it.
            return self.read_start(started_ns);
        }
        self.paid_ns = started_ns.saturating_sub(now_ns);
        started_ns
    }

    /// Reads everything, where the thread was switched between the end of its last command and `now_ns`, since when switches
    /// are watched for: when that was done. `None`: the account is no help.
    #[inline(never)]
    #[unsafe(link_section = ".text.hot.perquery.begin")]
    fn read_start_and_account(&mut self, now_ns: u64) -> Option<u64> {
        self.counters.read_without(1 << CPU_NS, &mut self.start);
        if !self.counters.made(&self.end) {
            return None;
        }
        let place = if self.start.waited_since(&self.end) { Place::Waited } else { Place::Preempted };
        self.ask_account(place, self.start.account_ns()?, now_ns);
        let started_ns = self.now_ns();
        self.measuring.start_cpu_ns = self.measuring.cpu.at(self.counters.thread(), started_ns);
        self.measuring.start_cpu_ns?;
        self.paid_ns = started_ns.saturating_sub(now_ns);
        Some(started_ns)
    }

    /// CPU time is wanted, and what getrusage says too.
    #[inline]
    fn counters_come_with_an_account(&self) -> bool {
        self.wanted.mask & 1 << CPU_NS != 0 && self.wanted.mask & USAGE_MASK != 0
    }

    /// Reads everything from `from_ns` on, since when switches are watched for. When that was done.
    #[cold]
    #[inline(never)]
    #[unsafe(link_section = ".text.hot.perquery.begin")]
    pub(super) fn read_start(&mut self, from_ns: u64) -> u64 {
        self.measuring.cpu.watch();
        self.counters.read(&mut self.start);
        let read_cpu_ns = self.start.take_cpu_ns();
        let mut now_ns = self.now_ns();
        self.paid_ns = now_ns.saturating_sub(from_ns);
        self.measuring.start_cpu_ns = read_cpu_ns;
        if self.measuring.cpu.holds()
            && let Some(cpu_ns) = read_cpu_ns
        {
            self.measuring.cpu.know(self.counters.thread(), from_ns, cpu_ns);
            self.measuring.start_cpu_ns = Some(cpu_ns + now_ns.saturating_sub(from_ns));
        } else if self.measuring.cpu.is_watched() {
            // Switched while it was read: the work may still go through without.
            self.measuring.cpu.watch();
            now_ns = self.now_ns();
        }
        now_ns
    }

    /// The account said `said_ns` at `place`, and was up to date at `at_ns`, since when switches are watched for: so far the CPU
    /// clock is known.
    #[inline]
    fn ask_account(&mut self, place: Place, said_ns: u64, at_ns: u64) {
        let m = &mut self.measuring;
        if !m.account.is_asked(place) {
            return;
        }
        let (clock_ns, compared) = m.account.clock_ns(place, said_ns);
        m.cpu.know(self.counters.thread(), at_ns, clock_ns);
        if compared {
            self.compare_account(place, at_ns);
        }
    }

    /// The clock is known at `at_ns` from the account at `place`: what does it say itself?
    #[cold]
    #[inline(never)]
    fn compare_account(&mut self, place: Place, at_ns: u64) {
        let asked_ns = self.now_ns();
        let (thread, clock_ns) = (self.counters.thread(), self.counters.cpu_ns());
        let m = &mut self.measuring;
        if let (Some(known_ns), Some(clock_ns)) = (m.cpu.at(thread, asked_ns), clock_ns) {
            m.account.compare(place, known_ns, clock_ns);
            m.cpu.know(thread, at_ns, clock_ns.saturating_sub(asked_ns.saturating_sub(at_ns)));
        }
    }

    /// The thread works for a session otherwise than by the direct way: there is more to come than the next command.
    #[inline]
    pub(super) fn did_something(&mut self) {
        self.measuring.ended = false;
    }

    /// The work that ended at `now_ns` was chosen.
    #[inline(never)]
    #[unsafe(link_section = ".text.hot.perquery.end")]
    pub(super) fn end_reading(&mut self, now_ns: u64, inside_ns: u64, unswitched: bool) {
        // Where it was switched in sending its answer, or may have been, and nowhere else.
        let at_answer = !unswitched && self.measuring.resumed_ns != 0 && self.counters_come_with_an_account();
        let reads = at_answer || unswitched && self.wanted.mask & (USAGE_MASK | PERF_MASK) != 0;
        if reads {
            self.counters.read_without(1 << CPU_NS, &mut self.end);
        }
        let stayed = unswitched || at_answer && !self.was_switched_in_sending();
        let mut end_cpu_ns = if stayed {
            // Its CPU time is known, and the clock goes on as before.
            self.measuring.start_cpu_ns.map(|cpu_ns| cpu_ns + inside_ns)
        } else if at_answer {
            self.cpu_ns_by_account(now_ns, inside_ns)
        } else {
            None
        };
        let in_answer = !stayed && end_cpu_ns.is_some();
        if end_cpu_ns.is_none() && !unswitched {
            end_cpu_ns = self.read_end(now_ns);
        }
        if reads || !unswitched {
            delta(&self.start, &self.end, &mut self.counts);
        }
        if let (Some(from_ns), Some(to_ns)) = (self.measuring.start_cpu_ns, end_cpu_ns) {
            // The end's call finds colder caches than the start's, and its value comes later.
            self.counts.set(CPU_NS, to_ns.saturating_sub(from_ns).min(inside_ns));
        }
        self.check_gap(if stayed { Some(0) } else { in_answer.then_some(1) });
        self.measuring.gap.end(now_ns, end_cpu_ns, !stayed);
        self.measuring.sending.end(in_answer);
        if self.measuring.readings.is_multiple_of(PRICED_OF) {
            self.price_end(now_ns);
        }
        let m = &mut self.measuring;
        m.readings = m.readings.wrapping_add(1);
        self.paid_ns += m.end_price_ns;
    }

    /// The record of the work that ended at `now_ns` is written, which is code of its own for what was chosen: that is a part of
    /// what its reading has cost, where that was measured.
    #[inline(always)]
    pub(super) fn price_record(&mut self, now_ns: u64) {
        if self.measuring.readings % PRICED_OF == 1 {
            self.price_end(now_ns);
        }
    }

    /// What was read from `now_ns` on: what it has cost.
    #[inline(never)]
    fn price_end(&mut self, now_ns: u64) {
        let price_ns = self.now_ns().saturating_sub(now_ns);
        let m = &mut self.measuring;
        // Time that others had on the CPU is not the price.
        if m.end_price_ns == 0 || m.cpu.holds() || !m.cpu.is_watched() {
            m.end_price_ns = price_ns;
        }
    }

    /// The CPU clock at the end, `now_ns`, of work in which the thread was switched in sending its answer, by the account that was
    /// just read.
    #[inline]
    fn cpu_ns_by_account(&mut self, now_ns: u64, inside_ns: u64) -> Option<u64> {
        self.ask_account(Place::Answered, self.end.account_ns()?, self.measuring.resumed_ns);
        let cpu_ns = self.measuring.cpu.at(self.counters.thread(), now_ns)?;
        Some(cpu_ns.max(self.cpu_ns_before_sending(now_ns, inside_ns)))
    }

    /// Reads everything at the end, `now_ns`, of work in which the thread was switched: its CPU clock.
    #[cold]
    #[inline(never)]
    #[unsafe(link_section = ".text.hot.perquery.end")]
    fn read_end(&mut self, now_ns: u64) -> Option<u64> {
        self.measuring.cpu.watch();
        self.counters.read(&mut self.end);
        let cpu_ns = self.end.take_cpu_ns()?;
        self.measuring.cpu.know(self.counters.thread(), now_ns, cpu_ns);
        Some(cpu_ns)
    }

    /// The faults and switches at the end of the command just recorded are those at the start of the next, unless we may have
    /// had faults of our own since: at our first record of a capture, and at the first one on each page of the ring.
    #[inline]
    pub(super) fn serve_usage(&mut self, lane: &Lane<'_>) {
        let m = &mut self.measuring;
        let known = m.recorded.knows(self.counters.opening(), lane.ring().page());
        m.ended = m.is_command;
        m.usage_serves = known && m.is_command;
    }
}
