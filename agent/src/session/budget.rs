//! The budget: which executions have their dear counters read, so that reading costs no more than a given share of time.
//!
//! Each thread measures what a reading costs it and how many executions it runs, and chooses every execution with a
//! probability p that keeps the expected cost within the budget. p for the next window follows from windows that are
//! over, never from the execution that is chosen; so the weight 1/p makes totals unbiased. A thread that runs few
//! queries has p = 1: all of them are counted.
//!
//! System calls that only read (CPU clock, rusage) are chosen execution by execution. Events of perf cost something as
//! long as they are open, at each context switch; so they are chosen slice by slice, and closed after a slice.

use crate::segment::layout::PPM;
use crate::segment::record::CHOICE_SLICE_NS;

/// The rate of executions is measured over windows of so long: 33 ms. The reaction to a changed load takes one to two.
const WINDOW_NS: u64 = 1 << 25;
/// Perf events are open for slices of so long: 17 ms, in which opening them is a few percent.
const SLICE_NS: u64 = CHOICE_SLICE_NS;
/// However dear readings are, a thread has so many a second.
const LEAST_READINGS_A_SECOND: f64 = 1.0;
/// What one context switch costs more while a group of perf events is open, measured where this was built: 0.8–1.8 µs.
const OPEN_PRICE_PER_SWITCH_NS: f64 = 1_800.0;
/// Until the first measurement a reading is taken to cost so much.
const FIRST_PRICE_NS: f64 = 1_500.0;
/// What writing the record and following the protocol costs each execution; the budget pays for it first.
const BASE_PRICE_NS: f64 = 150.0;

/// A thread's choices.
#[derive(Clone, Copy, Debug)]
pub struct Sampler {
    random: u64,
    window_start_ns: u64,
    executions: u32,
    p: f64,
    price_ns: f64,
    open_price_ns: f64,
    slice: u64,
    slice_weight: f64,
}

impl Sampler {
    /// A thread that has run nothing yet: all is counted until its rate is known.
    pub const fn new() -> Self {
        Sampler {
            random: 0,
            window_start_ns: 0,
            executions: 0,
            p: 1.0,
            price_ns: FIRST_PRICE_NS,
            open_price_ns: 0.0,
            slice: 0,
            slice_weight: 0.0,
        }
    }

    /// xorshift64*: a nanosecond, and no pattern that a workload could follow.
    fn uniform(&mut self) -> f64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// An execution starts at `now_ns`: its weight 1/p if its dear counters are to be read, else 0.
    ///
    /// `budget_ppm` is the share of time, in millionths, that all may cost; `slices`: perf events are wanted.
    #[inline]
    pub fn choose(&mut self, now_ns: u64, tid: u32, budget_ppm: u64, slices: bool) -> f64 {
        self.executions = self.executions.saturating_add(1);
        let elapsed_ns = now_ns.saturating_sub(self.window_start_ns);
        if elapsed_ns >= WINDOW_NS {
            self.next_window(now_ns, elapsed_ns, tid, budget_ppm, slices);
        }
        if slices {
            let slice = now_ns / SLICE_NS + 1;
            if slice != self.slice {
                self.slice = slice;
                let p = self.p;
                self.slice_weight = if p >= 1.0 || self.uniform() < p { 1.0 / p } else { 0.0 };
            }
            return self.slice_weight;
        }
        if self.p >= 1.0 || self.uniform() < self.p { 1.0 / self.p } else { 0.0 }
    }

    #[cold]
    fn next_window(&mut self, now_ns: u64, elapsed_ns: u64, tid: u32, budget_ppm: u64, slices: bool) {
        if self.random == 0 {
            // Any odd number will do; threads differ by their number, runs by the clock.
            self.random = (now_ns ^ (tid as u64) << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        }
        if self.window_start_ns != 0 {
            let executions = f64::from(self.executions);
            let elapsed = elapsed_ns as f64;
            let allowed = elapsed * budget_ppm as f64 / PPM as f64 - executions * BASE_PRICE_NS;
            let mut full = executions * self.price_ns;
            if slices {
                // One switch to wait for the client and one back belong to each execution.
                full +=
                    executions * OPEN_PRICE_PER_SWITCH_NS + self.open_price_ns * elapsed / SLICE_NS as f64;
            }
            let least = LEAST_READINGS_A_SECOND * elapsed / 1e9 / executions.max(1.0);
            self.p = if full <= allowed { 1.0 } else { (allowed / full).max(least).min(1.0) };
        }
        self.window_start_ns = now_ns;
        self.executions = 0;
    }

    /// Both readings of an execution took `cost_ns`.
    #[inline]
    pub fn paid(&mut self, cost_ns: u64) {
        // A preemption in the middle of a reading is not its price.
        let cost = (cost_ns as f64).min(self.price_ns * 8.0);
        self.price_ns += (cost - self.price_ns) / 16.0;
    }

    /// Opening perf events took `cost_ns`; closing takes about as long.
    pub fn opened(&mut self, cost_ns: u64) {
        self.open_price_ns += (2.0 * cost_ns as f64 - self.open_price_ns) / 4.0;
    }

    /// The present probability, in millionths.
    pub fn probability_ppm(&self) -> u64 {
        (self.p * PPM as f64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs executions `every_ns` for a second, each reading costing `price_ns`: (chosen, cost as a share of time, sum of
    /// weights, executions).
    fn second(
        sampler: &mut Sampler,
        every_ns: u64,
        price_ns: u64,
        ppm: u64,
        slices: bool,
    ) -> (u32, f64, f64, u32) {
        let (mut chosen, mut weights, mut n) = (0, 0.0, 0);
        let start = sampler.window_start_ns.max(1);
        let mut now = start;
        while now < start + 1_000_000_000 {
            let weight = sampler.choose(now, 7, ppm, slices);
            if weight > 0.0 {
                chosen += 1;
                weights += weight;
                sampler.paid(price_ns);
            }
            n += 1;
            now += every_ns;
        }
        (chosen, f64::from(chosen) * price_ns as f64 / 1e9, weights, n)
    }

    #[test]
    fn a_thread_with_few_queries_is_always_counted() {
        let mut sampler = Sampler::new();
        let (chosen, _, weights, n) = second(&mut sampler, 1_000_000, 1_300, 20_000, false);
        assert_eq!((chosen, weights as u32), (n, n));
    }

    #[test]
    fn a_busy_thread_keeps_the_budget_and_the_weights_stand_for_all() {
        let mut sampler = Sampler::new();
        second(&mut sampler, 15_000, 1_300, 20_000, false);
        let (chosen, cost, weights, n) = second(&mut sampler, 15_000, 1_300, 20_000, false);
        let base = f64::from(n) * BASE_PRICE_NS / 1e9;
        assert!((0.015..0.021).contains(&(cost + base)), "costs {cost} + {base}");
        assert!(chosen > 1000);
        let error = (weights / f64::from(n) - 1.0).abs();
        assert!(error < 0.06, "weights stand for {weights} of {n}");
    }

    #[test]
    fn a_changed_load_is_followed_within_a_tenth_of_a_second() {
        let mut sampler = Sampler::new();
        second(&mut sampler, 1_000_000, 1_300, 20_000, false);
        assert_eq!(sampler.p, 1.0);
        let mut now = sampler.window_start_ns;
        let end = now + 100_000_000;
        while now < end {
            sampler.choose(now, 7, 20_000, false);
            now += 15_000;
        }
        assert!(sampler.p < 0.3, "p is {}", sampler.p);
    }

    #[test]
    fn slices_are_chosen_whole() {
        let mut sampler = Sampler::new();
        second(&mut sampler, 15_000, 2_600, 20_000, true);
        let mut now = sampler.window_start_ns;
        let mut last = (0, 0.0);
        for _ in 0..200_000 {
            let weight = sampler.choose(now, 7, 20_000, true);
            let slice = now / SLICE_NS;
            assert!(slice != last.0 || weight == last.1, "a slice changed its mind");
            last = (slice, weight);
            now += 15_000;
        }
    }

    #[test]
    fn statements_that_alternate_in_a_fixed_pattern_are_both_estimated_without_bias() {
        let (mut heavy, mut light) = (0.0, 0.0);
        let mut sampler = Sampler::new();
        second(&mut sampler, 15_000, 1_300, 20_000, false);
        let mut now = sampler.window_start_ns;
        for n in 0..600_000u32 {
            let weight = sampler.choose(now, 7, 20_000, false);
            *(if n % 7 == 0 { &mut heavy } else { &mut light }) += weight;
            now += 15_000;
        }
        assert!((heavy / 85_715.0 - 1.0f64).abs() < 0.04, "{heavy}");
        assert!((light / 514_285.0 - 1.0f64).abs() < 0.02, "{light}");
    }
}
