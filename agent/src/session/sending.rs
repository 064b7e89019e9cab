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
