//! Robust means, the confidence of a statistic by bootstrap, and the random numbers for it.

use harness::numbers::median;

/// Random numbers (xorshift64*): which ones does not matter, that a seed repeats them does.
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Random(seed | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    /// Below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    /// Brings a list into random order.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            list.swap(last, self.below(last + 1));
        }
    }
}

/// An estimate with its 95 % confidence interval.
#[derive(Clone, Copy, Debug)]
pub struct Estimate {
    /// The estimate.
    pub value: f64,
    /// The interval's lower end.
    pub low: f64,
    /// The interval's upper end.
    pub high: f64,
}

/// The mean of all but the largest twentieth, for a short burst: it stays comparable with a timer tick or somebody else's
/// time slice in it.
pub fn trimmed_mean(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    mean(&sorted[..sorted.len() - sorted.len() / 20])
}

/// The mean with nothing counted for more than ten medians: a burst with somebody else's time slice in it stays
/// comparable, while what a tool does to one query in a hundred stays visible.
pub fn capped_mean(values: &[f64]) -> f64 {
    let cap = 10.0 * median(values);
    values.iter().map(|v| v.min(cap)).sum::<f64>() / values.len().max(1) as f64
}

/// The mean; 0 of nothing.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The mean after pulling the outermost fiftieth on each side in: unlike the median it sees what happens in a tenth of
/// the rounds only, as a budget that counts at random does.
pub fn winsorized_mean(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let cut = sorted.len().div_ceil(50).min(sorted.len().saturating_sub(1) / 2);
    let (Some(&low), Some(&high)) = (sorted.get(cut), sorted.get(sorted.len().saturating_sub(cut + 1)))
    else {
        return 0.0;
    };
    mean(&sorted.iter().map(|v| v.clamp(low, high)).collect::<Vec<_>>())
}

/// A statistic of a sample, with its interval from resampling. `sets`: the lengths of the pieces in which the sample was drawn,
/// each from other servers. What their place in memory costs or spares them is in all rounds of a set, so where there are
/// enough of them whole sets are drawn again; else each value by itself.
pub fn bootstrap(
    values: &[f64],
    sets: &[usize],
    random: &mut Random,
    statistic: fn(&[f64]) -> f64,
) -> Estimate {
    const RESAMPLES: usize = 1000;
    const SETS_MIN: usize = 8;
    let mut pieces = Vec::new();
    if sets.len() >= SETS_MIN && sets.iter().sum::<usize>() == values.len() {
        let mut rest = values;
        for n in sets {
            let (piece, behind) = rest.split_at(*n);
            pieces.push(piece);
            rest = behind;
        }
    } else {
        pieces.extend(values.chunks(1));
    }
    let mut drawn = Vec::with_capacity(values.len());
    let mut found: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            drawn.clear();
            (0..pieces.len()).for_each(|_| drawn.extend_from_slice(pieces[random.below(pieces.len())]));
            statistic(&drawn)
        })
        .collect();
    found.sort_by(f64::total_cmp);
    Estimate {
        value: statistic(values),
        low: found[RESAMPLES * 25 / 1000],
        high: found[RESAMPLES * 975 / 1000 - 1],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_found_and_outliers_do_not_move_it() {
        let burst: Vec<f64> = (0..100).map(|i| if i == 25 { 1e9 } else { 10.0 }).collect();
        assert_eq!(capped_mean(&burst), 10.9);
        assert_eq!(trimmed_mean(&burst), 10.0);
    }

    #[test]
    fn what_happens_in_a_tenth_of_the_rounds_is_in_the_mean_and_not_in_the_median() {
        let rounds: Vec<f64> = (0..100).map(|i| if i % 10 == 0 { 50.0 } else { 0.0 }).collect();
        assert_eq!(median(&rounds), 0.0);
        assert_eq!(winsorized_mean(&rounds), 5.0);
    }

    #[test]
    fn the_interval_holds_the_truth_and_shrinks_with_the_sample() {
        let mut random = Random::new(7);
        let mut sample = |n: usize| (0..n).map(|_| random.below(1001) as f64).collect::<Vec<_>>();
        let (few, many) = (sample(40), sample(4000));
        let mut random = Random::new(8);
        let few = bootstrap(&few, &[], &mut random, median);
        let many = bootstrap(&many, &[], &mut random, median);
        assert!(many.low < 500.0 && 500.0 < many.high + 30.0, "{many:?}");
        assert!(many.high - many.low < (few.high - few.low) / 2.0, "{few:?} {many:?}");
    }

    #[test]
    fn rounds_on_the_same_servers_do_not_make_the_interval_narrower() {
        let mut random = Random::new(9);
        let sets: Vec<f64> = (0..20).map(|_| random.below(1001) as f64).collect();
        let rounds: Vec<f64> = sets.iter().flat_map(|set| [*set; 30]).collect();
        let by_set = bootstrap(&rounds, &[30; 20], &mut random, median);
        let by_round = bootstrap(&rounds, &[], &mut random, median);
        assert_eq!(by_set.value, by_round.value);
        assert!(by_set.high - by_set.low > 2.0 * (by_round.high - by_round.low), "{by_set:?} {by_round:?}");
    }
}
