//! The sending of an answer, in which a thread that shares its CPU with its client is switched every time.
//!
//! Where a command is switched in sending its answer, and nowhere else, the kernel's [account](super::account) says at its end what
//! CPU time it took. Whether it was, is seen at the switch; but to a thread that watches each switch costs more. So after some
//! such commands in a row nobody watches while an answer is sent, and the switches that the reading at the end counts say
//! it: before and after the thread is watched, so all of them fell into the sending. What came before the sending is known to
//! be CPU time, whatever the account says.

use super::gap::switches_between;
use super::thread::Thread;

/// So many commands in a row have to be switched in sending their answers, and nowhere else.
const TRUST: u8 = 4;

/// What is known of the sending of a thread's answers.
pub(super) struct Sending {
    /// So many commands in a row were switched in it, and nowhere else; no more than [`TRUST`].
    switched: u8,
    /// Nobody watched while the present command's answer was sent.
    unwatched: bool,
    /// CLOCK_MONOTONIC right before.
    from_ns: u64,
}

impl Sending {
    /// Nothing is known.
    pub const fn new() -> Self {
        Sending { switched: 0, unwatched: false, from_ns: 0 }
    }

    /// True when nobody watched while the present command's answer was sent.
    #[cfg(all(test, feature = "reader"))]
    pub fn is_unwatched(&self) -> bool {
        self.unwatched
    }

    /// Work begins.
    #[inline]
    pub fn begin(&mut self) {
        self.unwatched = false;
    }

    /// Work ended that was chosen; `in_answer`: it was switched in sending its answer, and nowhere else.
    #[inline]
    pub fn end(&mut self, in_answer: bool) {
        self.switched = if in_answer { (self.switched + 1).min(TRUST) } else { 0 };
    }
}

impl Thread {
    /// The answer to a chosen command that goes the direct way is about to be sent.
    #[inline]
    pub(super) fn before_answer(&mut self) {
        let m = &mut self.measuring;
        m.untouched = m.resumed_ns == 0 && m.cpu.holds();
        if m.untouched && m.sending.switched == TRUST && m.gap.is_one_switch() {
            m.sending.unwatched = true;
            m.sending.from_ns = self.write_ns;
            m.cpu.rest();
        }
    }

    /// It was sent. Where that, and nothing before it, has switched the thread, or may have, it was switched in again right now.
    #[inline]
    pub(super) fn after_answer(&mut self) {
        if self.measuring.untouched && !self.measuring.cpu.holds() {
            self.measuring.untouched = false;
            self.measuring.cpu.watch();
            self.measuring.resumed_ns = self.now_ns();
        }
    }

    /// The counters were read at the end of a command that was switched in sending its answer, or may have been: was it?
    #[inline]
    pub(super) fn was_switched_in_sending(&self) -> bool {
        !self.measuring.sending.unwatched || switches_between(&self.start, &self.end) != [0; 2]
    }

    /// What the CPU clock was at least when the answer was sent of a command that ended at `now_ns` after `inside_ns`; 0: nobody
    /// knows.
    #[inline]
    pub(super) fn cpu_ns_before_sending(&self, now_ns: u64, inside_ns: u64) -> u64 {
        let (m, start_ns) = (&self.measuring, now_ns.saturating_sub(inside_ns));
        match m.start_cpu_ns {
            Some(cpu_ns) if m.sending.unwatched => cpu_ns + m.sending.from_ns.saturating_sub(start_ns),
            _ => 0,
        }
    }
}

#[cfg(all(test, feature = "reader"))]
mod tests {
    use super::super::switches::tests::look_up;
    use super::*;
    use std::eprintln;

    #[test]
    fn only_answers_that_have_switched_the_thread_several_times_in_a_row_are_sent_unwatched() {
        if !look_up() {
            return eprintln!("skipped: no rseq area here (glibc before 2.35, or valgrind)");
        }
        let mut thread = Thread::new();
        let mut send = |switched_before: &[bool], one_switch: bool| {
            let m = &mut thread.measuring;
            m.sending = Sending::new();
            (m.resumed_ns, m.gap) = (0, super::super::gap::Gap::new());
            switched_before.iter().for_each(|&switched| m.sending.end(switched));
            if one_switch {
                m.gap.assume_one_switch();
            }
            // Whoever takes the CPU right here ends the watch.
            while !m.cpu.holds() {
                m.cpu.watch();
            }
            thread.before_answer();
            let (unwatched, watched) =
                (thread.measuring.sending.unwatched, thread.measuring.cpu.is_watched());
            thread.after_answer();
            let resumed = thread.measuring.resumed_ns != 0 && thread.measuring.cpu.is_watched();
            assert!(
                !unwatched || !watched && resumed,
                "watched {watched} meanwhile, again afterwards {resumed}"
            );
            unwatched
        };
        assert!((0..3).any(|_| send(&[true; 4], true)));
        assert!(!send(&[true; 4], false), "the gap's switches are not known to be one");
        assert!(!send(&[true; 3], true));
        assert!(!send(&[true, true, true, true, false, true, true, true], true), "one stayed");
    }

    #[test]
    fn the_reading_at_the_end_says_whether_an_unwatched_answer_switched_the_thread() {
        let mut thread = Thread::new();
        assert!(thread.was_switched_in_sending(), "it was seen");
        thread.measuring.sending.unwatched = true;
        assert!(!thread.was_switched_in_sending());
        thread.end.add_switches([0, 1]);
        assert!(thread.was_switched_in_sending());
    }

    #[test]
    fn what_came_before_an_unwatched_sending_is_cpu_time() {
        let mut thread = Thread::new();
        thread.measuring.start_cpu_ns = Some(70_000);
        thread.measuring.sending = Sending { switched: TRUST, unwatched: true, from_ns: 1_006_000 };
        assert_eq!(thread.cpu_ns_before_sending(1_010_000, 10_000), 76_000);
        thread.measuring.sending.unwatched = false;
        assert_eq!(thread.cpu_ns_before_sending(1_010_000, 10_000), 0);
    }
}
