//! The sending of an answer, in which a thread that shares its CPU with its client is switched every time.
//!
//! Where a command is switched in sending its answer, and nowhere else, the kernel's [account](super::account) says at its end what
//! CPU time it took. Whether it was, is seen at the switch; but to a thread that watches each switch costs more. So after such a
//! command nobody watches while the next one's answer is sent, and the switches that the reading at the end counts say it:
//! before and after the thread is watched, so all of them fell into the sending. What came before the sending is known to be
//! CPU time, whatever the account says.

use super::gap::switches_between;
use super::thread::Thread;

/// What is known of the sending of a thread's answers.
pub(super) struct Sending {
    /// The last command was switched in it, and nowhere else.
    switched: bool,
    /// Nobody watched while the present command's answer was sent.
    unwatched: bool,
    /// CLOCK_MONOTONIC right before.
    from_ns: u64,
}

impl Sending {
    /// Nothing is known.
    pub const fn new() -> Self {
        Sending { switched: false, unwatched: false, from_ns: 0 }
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
        self.switched = in_answer;
    }
}

impl Thread {
    /// The answer to a chosen command that goes the direct way is about to be sent.
    #[inline(never)]
    #[unsafe(link_section = ".text.hot.perquery.begin")]
    pub(super) fn before_answer(&mut self) {
        let m = &mut self.measuring;
        m.untouched = m.resumed_ns == 0 && m.cpu.holds();
        if m.untouched && m.sending.switched && m.start_cpu_ns.is_some() {
            m.sending.unwatched = true;
            m.sending.from_ns = self.write_ns;
            m.cpu.rest();
        }
    }

    /// It was sent. Where that, and nothing before it, has switched the thread, or may have, it was switched in again right now.
    #[inline(never)]
    #[unsafe(link_section = ".text.hot.perquery.end")]
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
    fn an_answer_is_sent_unwatched_after_one_that_has_switched_the_thread() {
        if !look_up() {
            return eprintln!("skipped: no rseq area here (glibc before 2.35, or valgrind)");
        }
        let mut thread = Thread::new();
        let mut send = |switched_before: &[bool], start_is_known: bool| {
            let m = &mut thread.measuring;
            m.sending = Sending::new();
            (m.resumed_ns, m.start_cpu_ns) = (0, start_is_known.then_some(1));
            switched_before.iter().for_each(|&switched| m.sending.end(switched));
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
        assert!((0..3).any(|_| send(&[true], true)));
        assert!((0..3).any(|_| send(&[false, true], true)));
        assert!(!send(&[true], false), "nothing was read at its start");
        assert!(!send(&[], true));
        assert!(!send(&[true, true, false], true), "the last one stayed");
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
        thread.measuring.sending = Sending { switched: true, unwatched: true, from_ns: 1_006_000 };
        assert_eq!(thread.cpu_ns_before_sending(1_010_000, 10_000), 76_000);
        thread.measuring.sending.unwatched = false;
        assert_eq!(thread.cpu_ns_before_sending(1_010_000, 10_000), 0);
    }
}
