//! The budget: which executions have their dear counters read, so that reading costs no more than a given share of the
//! time that a thread spends on queries.
//!
//! Each thread measures what a reading costs it and how long its executions take, and chooses every execution with a
//! probability p that keeps the expected cost within the budget. How busy the thread is does not matter: a burst of short
//! queries pays no more of itself than a steady stream. Recording, which all executions have, is paid from the budget first; an
//! eighth of it is for readings in any case. p for the next window follows from windows that are over, never
//! from the execution that is chosen; so the weight 1/p makes totals unbiased. A thread that runs long queries, or hardly
//! any, has p = 1: all of them are counted.
//!
//! Which execution is the next to be chosen is drawn beforehand, so that those before it need not be asked about: the thread
//! only counts them ([`Sampler::left`], [`Sampler::pass`]).
//!
//! System calls that only read (CPU clock, rusage) are chosen execution by execution. Events of perf cost something as
//! long as they are open, at each context switch; so they are chosen slice by slice, and closed after a slice.

use super::draw::{DRAWN_MAX, go_by};
use crate::clock::monotonic_ns;
use crate::segment::layout::PPM;
use crate::segment::record::CHOICE_SLICE_NS;

/// A window ends after so long (33 ms) …
const WINDOW_NS: u64 = 1 << 25;
/// … or after so many readings that were, or could have been made, so that a burst is followed while it lasts.
const WINDOW_READINGS: u64 = 256;
/// The first window is short: a thread that lives for one connection pays in full for this one only.
const FIRST_WINDOW_READINGS: u64 = 32;
/// Perf events are open for slices of so long: 17 ms, in which opening them is a few percent.
const SLICE_NS: u64 = CHOICE_SLICE_NS;
/// However dear readings are, a thread has so many a second: a few hundredths of a percent.
const LEAST_READINGS_A_SECOND: f64 = 20.0;
/// However many readings an execution has, one is counted in a second.
const LEAST_EXECUTIONS_A_SECOND: f64 = 1.0;
/// However dear perf events are, a thread has them open for one slice a second.
const LEAST_SLICES_A_SECOND: f64 = 1.0;
/// What one context switch costs more while a group of perf events is open, measured where this was built: 0.8–1.8 µs.
const OPEN_PRICE_PER_SWITCH_NS: f64 = 1_800.0;
/// Until the first measurement a reading is taken to cost so much.
const FIRST_PRICE_NS: f64 = 1_500.0;
/// What a reading costs beyond the time that it takes, as a part of that: the server finds its caches full of what was read
/// there. On the slower of two machines round trips became longer by 1.8 times what the thread itself had measured.
const DISPLACED_PART: f64 = 0.5;
/// What writing the record and following the protocol costs each execution, as a part of what a reading costs in all: the
/// budget pays for it first … Measured in round trips of MariaDB and PostgreSQL on two machines: 0.2 to 0.5.
const BASE_PART: f64 = 0.4;
/// … and no more than this, as where perf events make readings dear: a microsecond on the slower one of the two.
const BASE_MOST_NS: f64 = 1_000.0;
/// … but this share of it is for readings, however short the executions are.
const READINGS_SHARE: f64 = 0.125;
/// A longer pause is no reason to read more after it.
const PAUSE_MAX_NS: u64 = 1_000_000_000;
/// A window counts half as much as the one after it.
const MEMORY: f64 = 0.5;

/// A thread's choices.
#[derive(Clone, Copy, Debug)]
pub struct Sampler {
    random: u64,
    /// The present window: its start, its executions, and the time these took.
    window_start_ns: u64,
    executions: u32,
    query_ns: u64,
    /// How often these were read, or would have been: a command once, a SQLite statement at each step.
    readings: u64,
    /// Slices of time in which something was executed.
    slices: u32,
    /// The windows before it.
    past: Past,
    p: f64,
    /// So many executions (or slices) go by until one is chosen, or until it has to be drawn on.
    left: u32,
    /// It has to be drawn on then.
    draws_on: bool,
    price_ns: f64,
    open_price_ns: f64,
    slice: u64,
    slice_weight: f64,
}

/// Sums over windows, the older the less.
#[derive(Clone, Copy, Debug)]
struct Past {
    elapsed_ns: f64,
    executions: f64,
    query_ns: f64,
    readings: f64,
    slices: f64,
}

/// An execution that is over.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// CLOCK_MONOTONIC at its end.
    pub now_ns: u64,
    /// How long it took.
    pub inside_ns: u64,
    /// How often its dear counters are read at a start and an end, where it is chosen.
    pub readings: u64,
    /// The thread.
    pub tid: u32,
    /// The share of that time, in millionths, that all may cost.
    pub budget_ppm: u64,
    /// Perf events are wanted.
    pub slices: bool,
}

impl Sampler {
    /// A thread that has run nothing yet: all is counted until it is known what it runs.
    pub const fn new() -> Self {
        Sampler {
            random: 0,
            window_start_ns: 0,
            executions: 0,
            query_ns: 0,
            readings: 0,
            slices: 0,
            past: Past { elapsed_ns: 0.0, executions: 0.0, query_ns: 0.0, readings: 0.0, slices: 0.0 },
            p: 1.0,
            left: 0,
            draws_on: false,
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

    /// An execution starts: its weight 1/p if its dear counters are to be read, else 0. `slices`: perf events are wanted.
    #[inline]
    pub fn choose(&mut self, slices: bool) -> f64 {
        if slices { self.choose_at(monotonic_ns()) } else { self.choose_one() }
    }

    #[inline]
    fn choose_one(&mut self) -> f64 {
        self.executions += 1;
        while self.left == 0 && self.draws_on {
            self.draw();
        }
        if self.left > 0 {
            self.left -= 1;
            return 0.0;
        }
        self.draw();
        1.0 / self.p
    }

    /// Draws how many go by until one is chosen: as many as a coin that falls with probability p takes. It has no memory, so
    /// it may be drawn anew at any time that does not depend on what was drawn.
    fn draw(&mut self) {
        self.left = if self.p < 1.0 { go_by(self.p, self.uniform()) } else { 0 };
        self.draws_on = self.left == DRAWN_MAX;
    }

    /// So many executions from now on are certainly not chosen, as far as is known.
    #[inline]
    pub fn left(&self) -> u32 {
        self.left
    }

    /// `executions`, of those that [`left`](Self::left) told of, went by, and took `query_ns` in all. They would have had so
    /// many `readings`.
    pub fn pass(&mut self, executions: u32, query_ns: u64, readings: u64) {
        self.left = self.left.saturating_sub(executions);
        self.executions = self.executions.wrapping_add(executions);
        self.readings = self.readings.wrapping_add(readings);
        self.query_ns = self.query_ns.wrapping_add(query_ns);
    }

    /// The same where an execution that starts at `now_ns` is chosen with all others of its slice of time.
    fn choose_at(&mut self, now_ns: u64) -> f64 {
        let slice = now_ns / SLICE_NS + 1;
        if slice == self.slice {
            self.executions += 1;
        } else {
            self.slice = slice;
            self.slices += 1;
            self.slice_weight = self.choose_one();
        }
        self.slice_weight
    }

    /// An execution that was asked about ended.
    #[inline]
    pub fn ended(&mut self, ended: Ended) {
        self.query_ns = self.query_ns.wrapping_add(ended.inside_ns);
        self.readings = self.readings.wrapping_add(ended.readings);
        let most = match (ended.slices, self.random) {
            // A window has to hold some slices.
            (true, _) => u64::MAX,
            (false, 0) => FIRST_WINDOW_READINGS,
            (false, _) => WINDOW_READINGS,
        };
        if self.readings >= most || ended.now_ns.wrapping_sub(self.window_start_ns) >= WINDOW_NS {
            self.next_window(ended);
        }
    }

    #[cold]
    fn next_window(&mut self, ended: Ended) {
        if self.window_start_ns == 0 {
            // The thread's first execution: the window begins with it.
            self.window_start_ns = ended.now_ns.saturating_sub(ended.inside_ns).max(1);
            if ended.inside_ns < WINDOW_NS {
                return;
            }
        }
        if self.random == 0 {
            // Any odd number will do; threads differ by their number, runs by the clock.
            self.random = (ended.now_ns ^ (ended.tid as u64) << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        }
        let past = &mut self.past;
        let add = |sum: &mut f64, window: f64| *sum = *sum * MEMORY + window;
        let elapsed_ns = ended.now_ns.saturating_sub(self.window_start_ns).min(PAUSE_MAX_NS);
        add(&mut past.elapsed_ns, elapsed_ns as f64);
        add(&mut past.executions, f64::from(self.executions));
        add(&mut past.query_ns, self.query_ns as f64);
        add(&mut past.readings, self.readings as f64);
        add(&mut past.slices, f64::from(self.slices));
        self.window_start_ns = ended.now_ns;
        (self.executions, self.query_ns, self.readings, self.slices) = (0, 0, 0, 0);
        let Past { elapsed_ns, executions, query_ns, readings, slices } = self.past;
        let whole = query_ns * ended.budget_ppm as f64 / PPM as f64;
        let base = executions * (BASE_PART * self.price_ns).min(BASE_MOST_NS);
        let allowed = (whole - base).max(whole * READINGS_SHARE);
        let seconds = elapsed_ns / 1e9;
        let (full, least) = if ended.slices {
            // One switch to wait for the client and one back belong to each execution.
            let open = executions * OPEN_PRICE_PER_SWITCH_NS + slices * self.open_price_ns;
            let full = readings * self.price_ns + open;
            (full, LEAST_SLICES_A_SECOND * seconds / slices.max(1.0))
        } else {
            let least = (LEAST_READINGS_A_SECOND / readings.max(1.0))
                .max(LEAST_EXECUTIONS_A_SECOND / executions.max(1.0));
            (readings * self.price_ns, least * seconds)
        };
        self.p = if full <= allowed { 1.0 } else { (allowed / full).max(least).clamp(1e-9, 1.0) };
        self.draw();
    }

    /// An execution's `readings`, each at a start and an end, took `cost_ns`.
    #[inline]
    pub fn paid(&mut self, cost_ns: u64, readings: u64) {
        let cost = cost_ns as f64 / readings.max(1) as f64 * (1.0 + DISPLACED_PART);
        // A preemption in the middle of a reading is not its price.
        let cost = cost.min(self.price_ns * 8.0);
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

    /// What a reading takes in these tests, and what it costs.
    const TAKES_NS: u64 = 1_000;
    const PRICE_NS: u64 = 1_500;
    const PPM_2_PERCENT: u64 = 20_000;

    /// A thread that runs executions in turn.
    struct Runner {
        sampler: Sampler,
        now_ns: u64,
        slices: bool,
        /// Of each execution.
        readings: u64,
        /// Each of them.
        takes_ns: u64,
    }

    /// What it did.
    #[derive(Default)]
    struct Done {
        executions: u32,
        chosen: u32,
        weights: f64,
        query_ns: u64,
    }

    impl Done {
        /// What the readings cost, as a share of the executions' time.
        fn share(&self) -> f64 {
            (u64::from(self.chosen) * PRICE_NS) as f64 / self.query_ns as f64
        }
    }

    impl Runner {
        fn new(slices: bool) -> Self {
            Runner { sampler: Sampler::new(), now_ns: 1 << 40, slices, readings: 1, takes_ns: TAKES_NS }
        }

        /// One execution of `inside_ns`, and a pause after it: its weight.
        fn one(&mut self, inside_ns: u64, pause_ns: u64, done: &mut Done) -> f64 {
            let weight =
                if self.slices { self.sampler.choose_at(self.now_ns) } else { self.sampler.choose(false) };
            self.now_ns += inside_ns;
            let (now_ns, budget_ppm, slices) = (self.now_ns, PPM_2_PERCENT, self.slices);
            let readings = self.readings;
            self.sampler.ended(Ended { now_ns, inside_ns, readings, tid: 7, budget_ppm, slices });
            if weight > 0.0 {
                self.sampler.paid(self.takes_ns * self.readings, self.readings);
                done.chosen += 1;
            }
            self.now_ns += pause_ns;
            done.executions += 1;
            done.weights += weight;
            done.query_ns += inside_ns;
            weight
        }

        fn run(&mut self, executions: u32, inside_ns: u64, pause_ns: u64) -> Done {
            let mut done = Done::default();
            (0..executions).for_each(|_| {
                self.one(inside_ns, pause_ns, &mut done);
            });
            done
        }
    }

    #[test]
    fn a_thread_with_long_queries_is_always_counted() {
        let done = Runner::new(false).run(3000, 200_000, 100_000);
        assert_eq!((done.chosen, done.weights as u32), (3000, 3000));
    }

    #[test]
    fn a_thread_with_few_queries_is_always_counted() {
        let done = Runner::new(false).run(1000, 10_000, 100_000_000);
        assert_eq!((done.chosen, done.weights as u32), (1000, 1000));
    }

    #[test]
    fn a_busy_thread_keeps_the_budget_and_the_weights_stand_for_all() {
        let mut runner = Runner::new(false);
        runner.run(10_000, 45_000, 2_000);
        let done = runner.run(100_000, 45_000, 2_000);
        let all = done.share() + BASE_PART * PRICE_NS as f64 / 45_000.0;
        assert!((0.017..0.021).contains(&all), "costs {all} of the queries' time");
        let error = (done.weights / 100_000.0 - 1.0).abs();
        assert!(error < 0.03, "weights stand for {} of 100000", done.weights);
    }

    #[test]
    fn a_burst_pays_no_larger_a_share_than_a_steady_stream() {
        let mut runner = Runner::new(false);
        let mut all = Done::default();
        for _ in 0..200 {
            let burst = runner.run(200, 45_000, 1_000);
            all.chosen += burst.chosen;
            all.query_ns += burst.query_ns;
            runner.now_ns += 50_000_000;
        }
        let share = all.share() + BASE_PART * PRICE_NS as f64 / 45_000.0;
        assert!(share < 0.022, "costs {share} of the queries' time");
    }

    #[test]
    fn the_shortest_executions_leave_an_eighth_of_the_budget_to_readings() {
        let mut runner = Runner::new(false);
        runner.run(10_000, 8_000, 1_000);
        let share = runner.run(200_000, 8_000, 1_000).share();
        assert!((0.002..0.003).contains(&share), "{share}");
    }

    #[test]
    fn readings_that_are_dear_do_not_make_the_records_dear_too() {
        let mut runner = Runner::new(false);
        // As with perf events.
        runner.takes_ns = 10_000;
        runner.run(10_000, 500_000, 2_000);
        let done = runner.run(100_000, 500_000, 2_000);
        let readings = f64::from(done.chosen) * 15_000.0 / done.query_ns as f64;
        assert!((0.017..0.0185).contains(&readings), "{readings} of the queries' time is for readings");
    }

    #[test]
    fn executions_that_are_only_counted_change_nothing_about_which_are_chosen() {
        let mut asked = Runner::new(false);
        let mut counted = Runner::new(false);
        let mut done = [Done::default(), Done::default()];
        for n in 0..400_000u32 {
            asked.one(15_000, 1_000, &mut done[0]);
            if counted.sampler.left() > 0 && n % 3 != 0 {
                counted.sampler.pass(1, 15_000, 1);
                counted.now_ns += 16_000;
                done[1].executions += 1;
                done[1].query_ns += 15_000;
            } else {
                counted.one(15_000, 1_000, &mut done[1]);
            }
        }
        let [asked, counted] = &done;
        assert!(
            (asked.share() / counted.share() - 1.0).abs() < 0.05,
            "{} {}",
            asked.share(),
            counted.share()
        );
        for done in &done {
            let error = (done.weights / f64::from(done.executions) - 1.0).abs();
            assert!(error < 0.03, "weights stand for {} of {}", done.weights, done.executions);
        }
    }

    #[test]
    fn a_changed_load_is_followed_within_a_few_hundred_executions() {
        let mut runner = Runner::new(false);
        runner.run(1000, 1_000_000, 1_000);
        assert_eq!(runner.sampler.p, 1.0);
        runner.run(3000, 15_000, 1_000);
        assert!(runner.sampler.p < 0.2, "p is {}", runner.sampler.p);
        runner.run(300, 1_000_000, 1_000);
        assert_eq!(runner.sampler.p, 1.0);
    }

    #[test]
    fn the_shortest_queries_still_give_some_numbers_a_second() {
        let mut runner = Runner::new(false);
        runner.sampler.price_ns = 1e9;
        let mut chosen = 0;
        for _ in 0..1000 {
            runner.run(100, 1_000, 9_000);
            runner.sampler.price_ns = 1e9;
            chosen += runner.run(100, 1_000, 9_000).chosen;
        }
        // Half of two seconds.
        assert!((10..60).contains(&chosen), "{chosen}");
    }

    #[test]
    fn slices_are_chosen_whole_and_one_a_second_at_least() {
        let mut runner = Runner::new(true);
        let mut done = Done::default();
        let (mut last, mut kept) = ((u64::MAX, 0.0), 0);
        for _ in 0..2_000_000 {
            let slice = runner.now_ns / SLICE_NS;
            let weight = runner.one(12_000, 3_000, &mut done);
            assert!(slice != last.0 || weight == last.1, "a slice changed its mind");
            kept += u32::from(slice != last.0 && weight > 0.0);
            last = (slice, weight);
        }
        assert!((10..300).contains(&kept), "{kept} of 1800 slices in 30 s");
        let error = (done.weights / f64::from(done.executions) - 1.0).abs();
        assert!(error < 0.5, "{} of {}", done.weights, done.executions);
    }

    #[test]
    fn statements_that_alternate_in_a_fixed_pattern_are_both_estimated_without_bias() {
        let (mut heavy, mut light) = (0.0, 0.0);
        let mut runner = Runner::new(false);
        runner.run(1000, 15_000, 1_000);
        let mut done = Done::default();
        for n in 0..600_000u32 {
            if n % 7 == 0 {
                heavy += runner.one(60_000, 1_000, &mut done);
            } else {
                light += runner.one(10_000, 1_000, &mut done);
            }
        }
        assert!(done.chosen < 300_000, "{} chosen", done.chosen);
        assert!((heavy / 85_715.0 - 1.0f64).abs() < 0.04, "{heavy}");
        assert!((light / 514_285.0 - 1.0f64).abs() < 0.02, "{light}");
    }

    #[test]
    fn long_scans_are_dear_from_the_first_one_on() {
        // A thousand steps in 37 us, each with two readings where the scan is chosen.
        let mut runner = Runner::new(false);
        runner.readings = 1_001;
        let mut done = Done::default();
        for _ in 0..200 {
            runner.one(37_000, 20_000, &mut done);
        }
        assert!(done.chosen <= 4, "{} of the first 200 scans were read", done.chosen);
        let mut done = Done::default();
        for _ in 0..2_000_000 {
            runner.one(37_000, 0, &mut done);
        }
        let share = f64::from(done.chosen) * (PRICE_NS * runner.readings) as f64 / done.query_ns as f64;
        assert!(share < 0.025, "{share}");
        assert!(u64::from(done.chosen) >= done.query_ns / 1_100_000_000, "one a second: {}", done.chosen);
        let error = (done.weights / f64::from(done.executions) - 1.0).abs();
        assert!(error < 0.15, "weights stand for {} of {}", done.weights, done.executions);
    }
}
