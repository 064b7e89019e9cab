//! The distribution of a duration: exact while there are few values, a histogram of bounded size after that.

use hdrhistogram::Histogram;

/// Values kept exactly before a histogram is made.
const EXACT_MAX: usize = 64;
/// Values are told apart from here on, in ns.
const LOWEST_NS: u64 = 64;
/// Longer ones count as this long in quantiles, in ns: 13 days. Bounds the histogram's size.
const HIGHEST_NS: u64 = 1 << 50;
/// A histogram with 16-bit counters takes no more values than this: none of its counters can overflow.
const NARROW_MAX: u64 = u16::MAX as u64;

enum Values {
    Exact(Vec<u64>),
    Narrow(Histogram<u16>),
    Wide(Histogram<u32>),
}

/// Durations in ns: count, sum, least and greatest are exact; quantiles are as fine as the number of digits asked for.
pub struct Distribution {
    digits: u8,
    count: u64,
    sum_ns: u64,
    min_ns: u64,
    max_ns: u64,
    values: Values,
}

impl Distribution {
    /// Without values; quantiles with `digits` significant decimal digits.
    pub fn new(digits: u8) -> Self {
        Distribution {
            digits,
            count: 0,
            sum_ns: 0,
            min_ns: u64::MAX,
            max_ns: 0,
            values: Values::Exact(Vec::new()),
        }
    }

    /// Adds a value.
    pub fn add(&mut self, value_ns: u64) {
        self.count += 1;
        self.sum_ns = self.sum_ns.saturating_add(value_ns);
        self.min_ns = self.min_ns.min(value_ns);
        self.max_ns = self.max_ns.max(value_ns);
        self.put(value_ns, 1);
    }

    /// Adds all values of `other`.
    pub fn merge(&mut self, other: &Distribution) {
        self.count += other.count;
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
        self.min_ns = self.min_ns.min(other.min_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
        match &other.values {
            Values::Exact(values) => values.iter().for_each(|value| self.put(*value, 1)),
            Values::Narrow(h) => {
                h.iter_recorded().for_each(|v| self.put(v.value_iterated_to(), v.count_at_value().into()));
            }
            Values::Wide(h) => {
                h.iter_recorded().for_each(|v| self.put(v.value_iterated_to(), v.count_at_value().into()));
            }
        }
    }

    /// How many values.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their sum.
    pub fn sum_ns(&self) -> u64 {
        self.sum_ns
    }

    /// The least; 0 without values.
    pub fn min_ns(&self) -> u64 {
        if self.count == 0 { 0 } else { self.min_ns }
    }

    /// The greatest; 0 without values.
    pub fn max_ns(&self) -> u64 {
        self.max_ns
    }

    /// The mean, rounded; 0 without values.
    pub fn mean_ns(&self) -> u64 {
        (u128::from(self.sum_ns) + u128::from(self.count) / 2).checked_div(self.count.into()).unwrap_or(0)
            as u64
    }

    /// The value that a share of `quantile` (0–1) of all values does not exceed; 0 without values.
    pub fn quantile_ns(&self, quantile: f64) -> u64 {
        let value = match &self.values {
            Values::Exact(values) => {
                let mut sorted = values.clone();
                sorted.sort_unstable();
                let rank = (quantile * sorted.len() as f64).ceil() as usize;
                sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
            }
            Values::Narrow(h) => h.value_at_quantile(quantile),
            Values::Wide(h) => h.value_at_quantile(quantile),
        };
        value.clamp(self.min_ns(), self.max_ns)
    }

    /// Puts `value_ns` where quantiles are taken from.
    fn put(&mut self, value_ns: u64, times: u64) {
        if let Values::Exact(values) = &mut self.values {
            if values.len() + times as usize <= EXACT_MAX {
                values.extend(std::iter::repeat_n(value_ns, times as usize));
                return;
            }
            let exact = std::mem::take(values);
            self.values = match histogram::<u16>(self.digits) {
                Some(histogram) => Values::Narrow(histogram),
                None => return,
            };
            exact.into_iter().for_each(|value| self.put(value, 1));
        }
        if let Values::Narrow(narrow) = &self.values
            && narrow.len() + times > NARROW_MAX
            && let Some(mut wide) = histogram::<u32>(self.digits)
        {
            for v in narrow.iter_recorded() {
                record(&mut wide, v.value_iterated_to(), v.count_at_value().into());
            }
            self.values = Values::Wide(wide);
        }
        match &mut self.values {
            Values::Exact(_) => {}
            Values::Narrow(h) => record(h, value_ns, times as u16),
            Values::Wide(h) => record(h, value_ns, u32::try_from(times).unwrap_or(u32::MAX)),
        }
    }
}

fn histogram<C: hdrhistogram::Counter>(digits: u8) -> Option<Histogram<C>> {
    let mut histogram = Histogram::new_with_bounds(LOWEST_NS, LOWEST_NS * 256, digits).ok()?;
    histogram.auto(true);
    Some(histogram)
}

fn record<C: hdrhistogram::Counter>(histogram: &mut Histogram<C>, value_ns: u64, times: C) {
    // Cannot fail: resizing is on and the value is bounded.
    let _ = histogram.record_n(value_ns.min(HIGHEST_NS), times);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_values_are_exact() {
        let mut d = Distribution::new(2);
        (1..=10).for_each(|n| d.add(n * 1_000_003));
        assert_eq!((d.quantile_ns(0.5), d.quantile_ns(0.95)), (5_000_015, 10_000_030));
        assert_eq!((d.min_ns(), d.max_ns(), d.mean_ns(), d.count()), (1_000_003, 10_000_030, 5_500_017, 10));
        let none = Distribution::new(2);
        assert_eq!((none.min_ns(), none.max_ns(), none.mean_ns(), none.quantile_ns(0.99)), (0, 0, 0, 0));
    }

    #[test]
    fn many_values_are_within_a_percent_however_they_were_added_together() {
        let mut parts = [Distribution::new(2), Distribution::new(2), Distribution::new(2)];
        for n in 1..=100_000u64 {
            let part = if n <= 50 { 0 } else { 1 + (n % 2) as usize };
            parts.get_mut(part).unwrap().add(n * 1000);
        }
        let mut all = Distribution::new(2);
        parts.iter().for_each(|part| all.merge(part));
        assert_eq!((all.count(), all.sum_ns()), (100_000, 5_000_050_000_000));
        assert!(matches!(all.values, Values::Wide(_)));
        for quantile in [0.5, 0.95, 0.99] {
            let expected = quantile * 100_000_000.0;
            let found = all.quantile_ns(quantile) as f64;
            assert!((found / expected - 1.0).abs() < 0.01, "{quantile}: {found}");
        }
        assert_eq!(all.max_ns(), 100_000_000);
    }

    #[test]
    fn hostile_values_cost_no_memory_and_break_nothing() {
        let mut d = Distribution::new(2);
        (0..200).for_each(|_| d.add(u64::MAX));
        d.add(0);
        assert_eq!((d.min_ns(), d.max_ns(), d.sum_ns()), (0, u64::MAX, u64::MAX));
        assert!(d.quantile_ns(0.5) >= HIGHEST_NS);
    }
}
