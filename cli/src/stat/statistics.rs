//! What is said about a sample: median, mean, minimum, 95th percentile, median absolute deviation, and bootstrap
//! confidence intervals of the median, of a difference and of a ratio of medians.
//!
//! The median, because the cost of an execution has a lower bound and a long upper tail: an interrupt or a page fault
//! moves the mean, not the median. The intervals are percentile intervals: the sample is drawn from with replacement,
//! the statistic of each draw is taken, and the middle 95 % of those are the interval. No distribution is assumed.

use super::random::Random;

/// Draws of a bootstrap, where the sample is not so large that it is sure of itself with fewer.
const DRAWS: usize = 2000;
const DRAWS_MIN: usize = 200;
/// Values looked at in all draws together; bounds the time for large samples.
const VALUES_MAX: usize = 20_000_000;

/// What is said about one counter of one statement.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// Half of the executions cost no more.
    pub median: f64,
    /// Sum by number.
    pub mean: f64,
    /// The cheapest execution.
    pub min: f64,
    /// 95 % of the executions cost no more.
    pub p95: f64,
    /// Median absolute deviation from the median.
    pub mad: f64,
    /// Interval in which the median lies with 95 % confidence.
    pub ci95: [f64; 2],
}

/// The middle of `values`, which are reordered; 0 without values.
pub fn median(values: &mut [f64]) -> f64 {
    let n = values.len();
    if n == 0 {
        return 0.0;
    }
    let (below, upper, _) = values.select_nth_unstable_by(n / 2, f64::total_cmp);
    let upper = *upper;
    if n % 2 == 1 {
        return upper;
    }
    // The lower of the two middle ones is the largest of those below.
    let lower = below.iter().copied().max_by(f64::total_cmp).unwrap_or(upper);
    (lower + upper) / 2.0
}

/// The value that a share `p` of `values` does not exceed; 0 without values.
fn percentile(values: &mut [f64], p: f64) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let rank = (values.len() as f64 * p).ceil() as usize;
    let at = rank.saturating_sub(1).min(values.len() - 1);
    *values.select_nth_unstable_by(at, f64::total_cmp).1
}

/// The middle 95 % of `statistics`.
fn middle(statistics: &mut [f64]) -> [f64; 2] {
    [percentile(statistics, 0.025), percentile(statistics, 0.975)]
}

fn draws(values: usize) -> usize {
    (VALUES_MAX / values.max(1)).clamp(DRAWS_MIN, DRAWS)
}

fn is_constant(values: &[f64]) -> bool {
    values.windows(2).all(|pair| pair.first() == pair.last())
}

/// The median of one draw with replacement; `drawn` is a buffer.
fn drawn_median(values: &[f64], random: &mut Random, drawn: &mut Vec<f64>) -> f64 {
    drawn.clear();
    drawn.extend((0..values.len()).filter_map(|_| values.get(random.below(values.len()))));
    median(drawn)
}

/// The summary of `values`.
pub fn summary(values: &[f64], random: &mut Random) -> Summary {
    net_summary(values, &[], random)
}

/// The summary of `values` with the median of `baseline` subtracted. The interval knows that the baseline is uncertain
/// too.
pub fn net_summary(values: &[f64], baseline: &[f64], random: &mut Random) -> Summary {
    if values.is_empty() {
        return Summary::default();
    }
    let subtracted = median(&mut baseline.to_vec());
    let mut sorted = values.to_vec();
    let middle_value = median(&mut sorted);
    let p95 = percentile(&mut sorted, 0.95);
    let min = values.iter().copied().fold(f64::INFINITY, f64::min);
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let mut deviations: Vec<f64> = values.iter().map(|v| (v - middle_value).abs()).collect();
    let ci95 = if is_constant(values) && is_constant(baseline) {
        [middle_value - subtracted; 2]
    } else {
        let mut drawn = Vec::with_capacity(values.len());
        let mut differences: Vec<f64> = (0..draws(values.len() + baseline.len()))
            .map(|_| drawn_median(values, random, &mut drawn) - drawn_median(baseline, random, &mut drawn))
            .collect();
        middle(&mut differences)
    };
    Summary {
        median: middle_value - subtracted,
        mean: mean - subtracted,
        min: min - subtracted,
        p95: p95 - subtracted,
        mad: median(&mut deviations),
        ci95,
    }
}

/// A ratio of medians.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// The second sample's median by the first one's.
    pub ratio: f64,
    /// Interval in which it lies with 95 % confidence.
    pub ci95: [f64; 2],
}

/// How many times as much `values` cost as `reference`, both less `baseline`'s median. The three were taken in rounds;
/// rounds are drawn, so that a drift of the machine, which all three share, cancels out. `None` where the reference's
/// median is not above 0.
pub fn ratio(reference: &[f64], values: &[f64], baseline: &[f64], random: &mut Random) -> Option<Ratio> {
    let rounds = reference.len().min(values.len());
    let whole = |of: &[f64]| median(&mut of.to_vec());
    let subtracted = whole(baseline);
    let divisor = whole(reference) - subtracted;
    if rounds == 0 || divisor <= 0.0 {
        return None;
    }
    let mut buffers = [const { Vec::new() }; 3];
    let mut ratios: Vec<f64> = (0..draws(rounds * 3))
        .filter_map(|_| {
            buffers.iter_mut().for_each(Vec::clear);
            for _ in 0..rounds {
                let round = random.below(rounds);
                for (buffer, from) in buffers.iter_mut().zip([reference, values, baseline]) {
                    buffer.extend(from.get(round));
                }
            }
            let [reference, values, baseline] = buffers.each_mut().map(|buffer| median(buffer));
            let ratio = (values - baseline) / (reference - baseline);
            ratio.is_finite().then_some(ratio)
        })
        .collect();
    Some(Ratio { ratio: (whole(values) - subtracted) / divisor, ci95: middle(&mut ratios) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values around `center` with a long upper tail.
    fn sample(center: f64, n: usize, random: &mut Random) -> Vec<f64> {
        (0..n)
            .map(|_| {
                let u = (random.below(1_000_000) + 1) as f64 / 1_000_001.0;
                center * (0.95 - 0.05 * u.ln() / std::f64::consts::LN_2)
            })
            .collect()
    }

    #[test]
    fn a_known_sample_gives_known_numbers() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        let found = summary(&values, &mut Random::new(1));
        assert_eq!(
            (found.median, found.mean, found.min, found.p95, found.mad),
            (50.5, 50.5, 1.0, 95.0, 25.0)
        );
        assert!(found.ci95[0] < 50.5 && 50.5 < found.ci95[1], "{found:?}");
        assert!(found.ci95[1] - found.ci95[0] < 30.0, "{found:?}");
    }

    #[test]
    fn one_value_and_constant_values_are_sure_of_themselves_and_nothing_is_zero() {
        let found = summary(&[7.0], &mut Random::new(1));
        assert_eq!(
            (found.median, found.min, found.p95, found.mad, found.ci95),
            (7.0, 7.0, 7.0, 0.0, [7.0; 2])
        );
        assert_eq!(summary(&[3.0; 50], &mut Random::new(1)).ci95, [3.0; 2]);
        assert_eq!(summary(&[], &mut Random::new(1)), Summary::default());
        assert_eq!(median(&mut [4.0, 1.0, 3.0, 2.0]), 2.5);
    }

    #[test]
    fn the_interval_holds_the_true_median_about_95_times_in_100() {
        let mut random = Random::new(11);
        let held = (0..200)
            .filter(|_| {
                let values = sample(100.0, 60, &mut random);
                let [low, high] = summary(&values, &mut random).ci95;
                (low..=high).contains(&100.0)
            })
            .count();
        assert!((178..=200).contains(&held), "{held} of 200");
    }

    #[test]
    fn the_baseline_is_subtracted_and_its_own_uncertainty_widens_the_interval() {
        let mut random = Random::new(5);
        let (values, baseline) = (sample(1000.0, 200, &mut random), sample(400.0, 200, &mut random));
        let gross = summary(&values, &mut random);
        let net = net_summary(&values, &baseline, &mut random);
        assert!((590.0..610.0).contains(&net.median), "{net:?}");
        assert_eq!(net.mad, gross.mad);
        assert!(net.ci95[0] < 600.0 + 20.0 && net.ci95[1] > 600.0 - 20.0, "{net:?}");
        assert!(net.ci95[1] - net.ci95[0] > gross.ci95[1] - gross.ci95[0], "{net:?} {gross:?}");
    }

    #[test]
    fn a_ratio_is_found_with_its_interval_and_equal_samples_show_no_difference() {
        let mut random = Random::new(9);
        let (one, other) = (sample(100.0, 300, &mut random), sample(150.0, 300, &mut random));
        let found = ratio(&one, &other, &[], &mut random).unwrap();
        assert!((1.45..1.55).contains(&found.ratio), "{found:?}");
        assert!(found.ci95[0] > 1.4 && found.ci95[1] < 1.6 && found.ci95[0] < found.ratio, "{found:?}");
        let same = ratio(&one, &sample(100.0, 300, &mut random), &[], &mut random).unwrap();
        assert!(same.ci95[0] < 1.0 && 1.0 < same.ci95[1], "{same:?}");
        let net = ratio(&one, &other, &[50.0; 300], &mut random).unwrap();
        assert!((1.9..2.1).contains(&net.ratio), "{net:?}");
        assert_eq!(ratio(&[0.0; 5], &other, &[], &mut random), None);
        assert_eq!(ratio(&[], &[], &[], &mut random), None);
    }
}
