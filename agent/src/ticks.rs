//! A clock for work that is over in a microsecond: the processor's own counter, kept in step with CLOCK_MONOTONIC.
//!
//! A reading of CLOCK_MONOTONIC through the vdso took 23 ns where this was built, one of the counter 9.5 ns; a step of
//! SQLite needs two, and many a step takes 40 ns. The counter is used only where the kernel itself keeps
//! CLOCK_MONOTONIC by it (its current clocksource): then it runs at one rate in all sleep states and agrees between
//! CPUs, so that a thread that migrates sees it go on. Everywhere else (a counter that varies, a hypervisor that offers
//! a paravirtual clock instead, no /sys, a process that must not read the counter) [`Clock`] is CLOCK_MONOTONIC.
//!
//! Each thread ties its [`Clock`] to CLOCK_MONOTONIC again every few hundredths of a second of work (which takes 3 µs, with
//! caches that are full of other things). Where the two have parted by more than a clock is ever steered (the machine was
//! suspended, or moved to a host with another counter), the counter is put aside until it was measured anew; after three times
//! in a row for good. What was being timed at that moment may be wrong by the length of the suspension; a counter that was set
//! back makes a duration of 0.
//!
//! The counter is read without waiting for the instructions before it, so it may be early by as much as the processor
//! looks ahead, some ten nanoseconds: at both ends of a duration alike.
//!
//! # Safety
//!
//! `unsafe` is used for prctl(2), which writes into a local variable, and for the architecture's instructions.
#![allow(unsafe_code)]

use crate::clock::monotonic_ns;
use crate::sys::process;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[cfg_attr(target_arch = "x86_64", path = "ticks_x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "ticks_aarch64.rs")]
mod arch;

/// A rate of one nanosecond per tick, as all rates in units of 2⁻³².
const ONE: u64 = 1 << 32;
/// The counter's rate is measured over at least so long, ns: an error of 20 ns in a reading is 10 millionths.
const MEASURED_OVER_NS: u64 = 2_000_000;
/// A clock is tied again after so long, ns: it is off by at most 20 µs then, where CLOCK_MONOTONIC has begun to be steered.
const TIED_FOR_NS: u64 = 40_000_000;
/// CLOCK_MONOTONIC is steered by at most 500 millionths (adjtimex(2)); one part in so many is not steering any more.
const STEERED: u64 = 1_000;
/// An error that means nothing: the two readings of a tie are not made at once.
const NOISE_NS: u64 = 2_000;
/// After so many contradictions in a row the counter is not used again.
const STRIKES: u32 = 3;

/// The process's knowledge of its counter. One static, [`PROCESS`]; tests make their own.
pub struct Counter {
    /// Ticks and CLOCK_MONOTONIC when the measurement of the rate began; 0 ticks: the counter is not to be used.
    first_ticks: AtomicU64,
    first_ns: AtomicU64,
    /// The rate, once it was measured.
    rate: AtomicU64,
}

/// This process's counter.
pub static PROCESS: Counter = Counter::new();

/// Decides whether the counter can be used, and begins to measure it. From the constructor.
pub fn start() {
    if is_trusted() {
        PROCESS.begin();
    }
}

fn is_trusted() -> bool {
    let mut name = [0; 64];
    let path = c"/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let name = process::read_file(path, &mut name).unwrap_or(&[]);
    name.trim_ascii() == arch::CLOCKSOURCE && arch::is_invariant() && is_permitted()
}

/// A process can be forbidden to read the counter (prctl(2), PR_SET_TSC): debuggers that replay do so.
fn is_permitted() -> bool {
    if !arch::CAN_BE_FORBIDDEN {
        return true;
    }
    let mut mode = 0i32;
    let to = (&raw mut mode) as usize;
    // SAFETY: PR_GET_TSC writes one int to `mode`, which outlives the call.
    let asked = unsafe { crate::sys::syscall(libc::SYS_prctl, [libc::PR_GET_TSC as usize, to, 0, 0, 0, 0]) };
    asked.is_ok() && mode == libc::PR_TSC_ENABLE
}

impl Counter {
    /// One that is not to be used (yet).
    pub const fn new() -> Self {
        Counter { first_ticks: AtomicU64::new(0), first_ns: AtomicU64::new(0), rate: AtomicU64::new(0) }
    }

    /// The measurement of the rate begins.
    fn begin(&self) {
        let tie = Tie::now();
        self.rate.store(0, Relaxed);
        self.first_ns.store(tie.ns, Relaxed);
        self.first_ticks.store(tie.ticks, Relaxed);
    }

    /// The counter is not to be used any more.
    fn end(&self) {
        self.first_ticks.store(0, Relaxed);
        self.rate.store(0, Relaxed);
    }

    /// False: it must not even be read.
    fn is_usable(&self) -> bool {
        self.first_ticks.load(Relaxed) != 0
    }

    /// The rate, measured now if that can be; 0: the counter can't be used (yet).
    fn rate(&self, now: Tie) -> u64 {
        let (known, first_ticks) = (self.rate.load(Relaxed), self.first_ticks.load(Relaxed));
        if known != 0 || first_ticks == 0 {
            return known;
        }
        let elapsed_ns = now.ns.saturating_sub(self.first_ns.load(Relaxed));
        if elapsed_ns < MEASURED_OVER_NS {
            return 0;
        }
        let rate = rate_of(now.ticks.saturating_sub(first_ticks), elapsed_ns);
        // Two threads that measure at once find nearly the same.
        self.rate.store(rate, Relaxed);
        rate
    }
}

/// Nanoseconds per tick; 0 where that makes no sense.
fn rate_of(ticks: u64, ns: u64) -> u64 {
    let rate = ((ns as u128) << 32).checked_div(ticks as u128).unwrap_or(0);
    // From 10 MHz to 20 GHz.
    u64::try_from(rate).ok().filter(|rate| (ONE / 20..ONE * 100).contains(rate)).unwrap_or(0)
}

/// The counter and CLOCK_MONOTONIC at the same moment.
#[derive(Clone, Copy)]
struct Tie {
    ticks: u64,
    ns: u64,
}

impl Tie {
    /// The closest of a few tries: something else may run between the readings.
    fn now() -> Tie {
        let mut best = Tie { ticks: 0, ns: 0 };
        let mut closest = u64::MAX;
        for _ in 0..3 {
            let before = arch::counter();
            let ns = monotonic_ns();
            let apart = arch::counter().saturating_sub(before);
            if apart < closest {
                closest = apart;
                best = Tie { ticks: before + apart / 2, ns };
            }
        }
        best
    }
}

/// Out of the way of those who count.
#[cold]
#[inline(never)]
fn slow_stamp() -> u64 {
    monotonic_ns()
}

/// A thread's clock. Its stamps are [`between`](Self::between)'s and [`ns`](Self::ns)'s to understand.
#[derive(Clone, Copy)]
pub struct Clock {
    /// Nanoseconds per tick.
    rate: u64,
    /// Stamp and CLOCK_MONOTONIC when it was tied last.
    tied: u64,
    tied_ns: u64,
    /// Ticks after which it is to be tied again.
    tied_for: u64,
    /// True: stamps are the counter's; else nanoseconds.
    counts: bool,
    strikes: u32,
}

impl Clock {
    /// To be tied at its first use.
    pub const fn new() -> Self {
        Clock { rate: ONE, tied: 0, tied_ns: 0, tied_for: 0, counts: false, strikes: 0 }
    }

    /// The time now.
    #[inline(always)]
    pub fn stamp(&self) -> u64 {
        if self.counts { arch::counter() } else { slow_stamp() }
    }

    /// The time now, at the beginning of a piece of work. Stamps made before are worthless afterwards.
    #[inline(always)]
    pub fn first_stamp(&mut self) -> u64 {
        let stamp = self.stamp();
        if stamp.wrapping_sub(self.tied) <= self.tied_for { stamp } else { self.tie(&PROCESS) }
    }

    /// Nanoseconds from stamp `from` to stamp `to`; 0 if they are not in order.
    #[inline(always)]
    pub fn between(&self, from: u64, to: u64) -> u64 {
        ((to.saturating_sub(from) as u128 * self.rate as u128) >> 32) as u64
    }

    /// CLOCK_MONOTONIC at `stamp`.
    #[inline(always)]
    pub fn ns(&self, stamp: u64) -> u64 {
        self.tied_ns.wrapping_add(self.between(self.tied, stamp))
    }

    /// Ties the clock to CLOCK_MONOTONIC; a stamp made afterwards.
    #[cold]
    #[inline(never)]
    fn tie(&mut self, counter: &Counter) -> u64 {
        let now = if counter.is_usable() { Tie::now() } else { Tie { ticks: 0, ns: monotonic_ns() } };
        if !counter.is_usable() {
            self.rate = 0;
        } else if self.counts {
            self.compare(counter, now);
        } else {
            self.rate = counter.rate(now);
        }
        self.counts = self.rate != 0;
        if self.counts {
            (self.tied, self.tied_ns) = (now.ticks, now.ns);
            self.tied_for = ((TIED_FOR_NS as u128) << 32).checked_div(self.rate as u128).unwrap_or(0) as u64;
        } else {
            (self.rate, self.tied, self.tied_ns) = (ONE, now.ns, now.ns);
            self.tied_for = TIED_FOR_NS;
        }
        self.stamp()
    }

    /// The counter against CLOCK_MONOTONIC since they were tied: learns its rate anew, or stops using it.
    fn compare(&mut self, counter: &Counter, now: Tie) {
        let elapsed_ns = now.ns.saturating_sub(self.tied_ns);
        let error_ns = self.ns(now.ticks).abs_diff(now.ns);
        if error_ns > NOISE_NS + elapsed_ns / STEERED {
            self.strikes += 1;
            self.rate = 0;
            if self.strikes >= STRIKES {
                counter.end()
            } else {
                counter.begin()
            }
            return;
        }
        self.strikes = 0;
        if elapsed_ns >= MEASURED_OVER_NS {
            self.rate = rate_of(now.ticks.saturating_sub(self.tied), elapsed_ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{eprintln, println, thread, time::Duration};

    /// A counter in use and a clock that counts by it.
    fn counting() -> Option<(&'static Counter, Clock)> {
        if !is_trusted() {
            eprintln!("skipped: the kernel does not keep its time by this processor's counter");
            return None;
        }
        // Of this test alone: another one begins to measure anew while this one sleeps.
        let counter: &'static Counter = std::boxed::Box::leak(std::boxed::Box::new(Counter::new()));
        counter.begin();
        thread::sleep(Duration::from_nanos(2 * MEASURED_OVER_NS));
        let mut clock = Clock::new();
        clock.tie(counter);
        assert!(clock.counts);
        Some((counter, clock))
    }

    #[test]
    fn the_clock_is_the_monotonic_one_within_a_thousandth_also_after_a_rest_and_on_every_cpu() {
        let Some((counter, mut clock)) = counting() else { return };
        for round in 0..40u64 {
            clock.tie(counter);
            let (from_ns, from) = (monotonic_ns(), clock.stamp());
            thread::sleep(Duration::from_millis(round % 8));
            let (to, to_ns) = (clock.stamp(), monotonic_ns());
            let outer_ns = to_ns - from_ns;
            let inner_ns = clock.between(from, to);
            assert!(inner_ns <= outer_ns + outer_ns / STEERED + 1, "{inner_ns} within {outer_ns}");
            let off_ns = clock.ns(to).abs_diff(to_ns);
            println!("after {outer_ns} ns: {off_ns} ns off");
        }
        let threads: std::vec::Vec<_> = (0..8)
            .map(|_| {
                thread::spawn(move || {
                    // A thread that begins with another one's clock, perhaps on another CPU.
                    let ns = monotonic_ns();
                    (ns, clock.ns(clock.stamp()), monotonic_ns())
                })
            })
            .collect();
        for thread in threads {
            let (before, ns, after) = thread.join().unwrap();
            let slack = NOISE_NS + (after - clock.tied_ns) / STEERED;
            assert!((before - slack..=after + slack).contains(&ns), "{before} {ns} {after}");
        }
    }

    #[test]
    fn a_counter_that_parts_from_the_clock_is_put_aside_and_given_up_the_third_time() {
        let Some((counter, mut clock)) = counting() else { return };
        for strike in 1..=STRIKES {
            // A suspension: the counter went on, the clock did not.
            clock.tied -= 1 << 34;
            clock.tie(counter);
            assert!(!clock.counts, "strike {strike}");
            let (before, stamp, after) = (monotonic_ns(), clock.stamp(), monotonic_ns());
            assert!((before..=after).contains(&clock.ns(stamp)), "it is CLOCK_MONOTONIC now");
            thread::sleep(Duration::from_nanos(2 * MEASURED_OVER_NS));
            clock.tie(counter);
            assert_eq!(clock.counts, strike < STRIKES);
        }
        assert!(!counter.is_usable());
    }

    #[test]
    fn without_a_counter_the_clock_is_the_monotonic_one() {
        static NONE: Counter = Counter::new();
        let mut clock = Clock::new();
        let mut last = clock.tie(&NONE);
        for _ in 0..1000 {
            let (before, stamp, after) = (monotonic_ns(), clock.stamp(), monotonic_ns());
            assert!((before..=after).contains(&clock.ns(stamp)));
            assert!(clock.between(last, stamp) <= after);
            last = stamp;
        }
        assert_eq!(clock.between(5, 3), 0, "a clock that was set back");
    }
}
