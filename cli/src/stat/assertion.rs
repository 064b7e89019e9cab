//! `--assert 'cpu_ns < 200us'`: a condition on a measured number.

use super::statistics::Summary;
use crate::format::count;
use std::fmt;

/// A condition that every measured statement has to meet.
#[derive(Clone, Debug, PartialEq)]
pub struct Assertion {
    /// As it was written.
    pub text: String,
    /// `latency_ns` or the name of a counter.
    pub counter: String,
    /// Which of its numbers.
    pub statistic: Statistic,
    /// What is compared.
    pub comparison: Comparison,
    /// With what, in the counter's unit.
    pub limit: f64,
}

/// A number of a [`Summary`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistic {
    /// When none is named.
    Median,
    /// `.mean`
    Mean,
    /// `.min`
    Min,
    /// `.p95`
    P95,
    /// `.mad`
    Mad,
}

/// How two numbers are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
}

/// Two characters before one, else `<=` is read as `<`.
const COMPARISONS: [(&str, Comparison); 6] = [
    ("<=", Comparison::LessOrEqual),
    (">=", Comparison::GreaterOrEqual),
    ("==", Comparison::Equal),
    ("!=", Comparison::NotEqual),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
];

const STATISTICS: [(&str, Statistic); 5] = [
    ("median", Statistic::Median),
    ("mean", Statistic::Mean),
    ("min", Statistic::Min),
    ("p95", Statistic::P95),
    ("mad", Statistic::Mad),
];

const UNITS_NS: [(&str, f64); 5] = [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9)];
const UNITS: [(&str, f64); 3] = [("k", 1e3), ("M", 1e6), ("G", 1e9)];

impl Assertion {
    /// Reads `COUNTER[.STATISTIC] COMPARISON NUMBER[UNIT]`.
    pub fn parse(text: &str) -> Result<Assertion, String> {
        let wrong = || {
            "write COUNTER[.median|.mean|.min|.p95|.mad] <|<=|==|!=|>=|> NUMBER, as in 'cpu_ns < 200us'"
                .to_owned()
        };
        let at = text.find(['<', '>', '=', '!']).ok_or_else(wrong)?;
        let (left, rest) = text.split_at(at);
        let (sign, comparison) =
            COMPARISONS.into_iter().find(|(sign, _)| rest.starts_with(sign)).ok_or_else(wrong)?;
        let right = rest.strip_prefix(sign).ok_or_else(wrong)?.trim();
        let (counter, statistic) = left.trim().split_once('.').unwrap_or((left.trim(), "median"));
        let is_name = !counter.is_empty() && !counter.contains(char::is_whitespace);
        let statistic = STATISTICS.into_iter().find(|(name, _)| *name == statistic).ok_or_else(wrong)?.1;
        let digits =
            right.find(|c: char| !c.is_ascii_digit() && !"._eE+-".contains(c)).unwrap_or(right.len());
        let (number, unit) = right.split_at(digits);
        let number: f64 = number.replace('_', "").parse().map_err(|_| wrong())?;
        let units: &[(&str, f64)] = if counter.ends_with("_ns") { &UNITS_NS } else { &UNITS };
        let factor = match unit.trim() {
            "" => 1.0,
            unit => units.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1,
        };
        if !is_name || !number.is_finite() {
            return Err(wrong());
        }
        let counter = counter.to_owned();
        Ok(Assertion { text: text.trim().to_owned(), counter, statistic, comparison, limit: number * factor })
    }

    /// The number that is judged.
    pub fn value(&self, summary: &Summary) -> f64 {
        match self.statistic {
            Statistic::Median => summary.median,
            Statistic::Mean => summary.mean,
            Statistic::Min => summary.min,
            Statistic::P95 => summary.p95,
            Statistic::Mad => summary.mad,
        }
    }

    /// Whether it holds for that number.
    pub fn holds(&self, value: f64) -> bool {
        match self.comparison {
            Comparison::Less => value < self.limit,
            Comparison::LessOrEqual => value <= self.limit,
            Comparison::Greater => value > self.limit,
            Comparison::GreaterOrEqual => value >= self.limit,
            Comparison::Equal => value == self.limit,
            Comparison::NotEqual => value != self.limit,
        }
    }
}

impl fmt::Display for Statistic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = STATISTICS.into_iter().find(|(_, known)| known == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

/// A number of a counter for people: a duration where its name says so.
pub fn shown(counter: &str, value: f64) -> String {
    let sign = if value < 0.0 { "-" } else { "" };
    let size = value.abs();
    let text = if counter.ends_with("_ns") { crate::format::duration(size) } else { count(size) };
    format!("{sign}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_with_and_without_unit_statistic_and_spaces() {
        let read = |text| {
            let a = Assertion::parse(text).unwrap();
            (a.counter, a.statistic, a.comparison, a.limit)
        };
        let name = |n: &str| n.to_owned();
        assert_eq!(read("cpu_ns < 200000"), (name("cpu_ns"), Statistic::Median, Comparison::Less, 200_000.0));
        assert_eq!(
            read("cpu_ns.p95<=1.5ms"),
            (name("cpu_ns"), Statistic::P95, Comparison::LessOrEqual, 1.5e6)
        );
        assert_eq!(read("cycles > 3M"), (name("cycles"), Statistic::Median, Comparison::Greater, 3e6));
        assert_eq!(
            read("latency_ns.min >= 2_000"),
            (name("latency_ns"), Statistic::Min, Comparison::GreaterOrEqual, 2e3)
        );
        assert_eq!(read("page_faults_minor == 0").2, Comparison::Equal);
        assert_eq!(read("page_faults_minor!=1").2, Comparison::NotEqual);
    }

    #[test]
    fn nonsense_says_what_to_write() {
        for nonsense in [
            "",
            "cpu_ns",
            "< 5",
            "cpu_ns <",
            "cpu_ns < x",
            "cpu_ns = 5",
            "cpu_ns.p99 < 5",
            "a b < 5",
            "cpu_ns < 5 kg",
            "cycles < 5ms",
            "cpu_ns < inf",
        ] {
            let told = Assertion::parse(nonsense).unwrap_err();
            assert!(told.contains("cpu_ns < 200us"), "{nonsense}: {told}");
        }
    }

    #[test]
    fn a_condition_is_judged_by_the_number_it_names() {
        let summary = Summary { median: 10.0, p95: 20.0, ..Summary::default() };
        for (text, holds) in [
            ("x < 10", false),
            ("x <= 10", true),
            ("x == 10", true),
            ("x.p95 > 19", true),
            ("x != 10", false),
            ("x >= 11", false),
        ] {
            let assertion = Assertion::parse(text).unwrap();
            assert_eq!(assertion.holds(assertion.value(&summary)), holds, "{text}");
        }
        assert_eq!(
            (shown("cpu_ns", -1500.0), shown("cycles", 12_500.0)),
            ("-1.50 µs".into(), "12.5 k".into())
        );
    }
}
