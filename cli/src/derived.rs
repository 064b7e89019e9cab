//! What two counters say together: cycles per instruction, misses per 1000 instructions.

use crate::recording::CounterMeta;

const CYCLES: &str = "cycles";
const INSTRUCTIONS: &str = "instructions";
/// What counters of misses end with: `cache_misses`, `L1-dcache-load-misses`.
const MISSES: &str = "misses";
/// Misses are told by so many instructions.
const INSTRUCTIONS_OF_MISSES: f64 = 1000.0;

/// A quotient of two counters.
pub struct Derived<'a> {
    /// Its key in reports: `cycles_per_instruction`, `cache_misses_per_1000_instructions`.
    pub name: String,
    /// The same for the head of a column.
    pub title: String,
    above: &'a CounterMeta,
    below: &'a CounterMeta,
    factor: f64,
}

/// All that can be made of these counters. Both have to be there, and to count the same mode: cycles of the user's part
/// by instructions of all of it would be a number without a meaning.
pub fn derived(counters: &[CounterMeta]) -> Vec<Derived<'_>> {
    let is_there = |counter: &&CounterMeta| counter.unavailable.is_none();
    let Some(below) = counters.iter().filter(is_there).find(|counter| counter.name == INSTRUCTIONS) else {
        return Vec::new();
    };
    let pairs = counters.iter().filter(is_there).filter(|above| above.counted_mode() == below.counted_mode());
    pairs.filter_map(|above| Derived::of(above, below)).collect()
}

impl<'a> Derived<'a> {
    fn of(above: &'a CounterMeta, below: &'a CounterMeta) -> Option<Self> {
        // What the user wrote may carry its mode, as in L1-dcache-load-misses:u.
        let of = above.name.split(':').next().unwrap_or_default();
        let (name, title, factor) = if of == CYCLES {
            (format!("{CYCLES}_per_instruction"), "CPI".to_owned(), 1.0)
        } else if of.ends_with(MISSES) {
            let title = format!("{of}/1000 instr");
            (format!("{of}_per_1000_{INSTRUCTIONS}"), title, INSTRUCTIONS_OF_MISSES)
        } else {
            return None;
        };
        Some(Derived { name, title, above, below, factor })
    }

    /// Its value, where `cost` knows what both counters counted.
    pub fn value(&self, cost: impl Fn(&CounterMeta) -> Option<f64>) -> Option<f64> {
        let (above, below) = (cost(self.above)?, cost(self.below)?);
        (below > 0.0).then(|| above * self.factor / below)
    }
}

/// A quotient for people: three digits that mean something.
pub fn shown(value: f64) -> String {
    let digits = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(named: &[(&str, &str)]) -> Vec<CounterMeta> {
        let counter = |(name, mode): &(&str, &str)| CounterMeta {
            name: (*name).to_owned(),
            mode: (*mode).to_owned(),
            ..CounterMeta::default()
        };
        named.iter().map(counter).collect()
    }

    fn cost(counter: &CounterMeta) -> Option<f64> {
        match counter.name.as_str() {
            "cycles" => Some(300.0),
            "instructions" => Some(200.0),
            "cache_misses" => Some(5.0),
            _ => None,
        }
    }

    #[test]
    fn what_two_counters_say_together_is_their_quotient() {
        let all = counters(&[("cpu_ns", ""), ("cycles", ""), ("instructions", ""), ("cache_misses", "")]);
        let told: Vec<_> = derived(&all).iter().map(|d| (d.name.clone(), d.value(cost))).collect();
        assert_eq!(
            told,
            [
                ("cycles_per_instruction".to_owned(), Some(1.5)),
                ("cache_misses_per_1000_instructions".to_owned(), Some(25.0))
            ]
        );
    }

    #[test]
    fn counters_of_different_modes_have_no_quotient() {
        assert!(derived(&counters(&[("cycles", "user"), ("instructions", "")])).is_empty());
        let mut all = counters(&[("cycles", "user"), ("instructions", "")]);
        // More was asked for than was permitted.
        all[1].user_only = true;
        assert_eq!(derived(&all).len(), 1);
    }

    #[test]
    fn there_is_no_quotient_by_what_is_not_there_or_zero() {
        assert!(derived(&counters(&[("cycles", ""), ("cache_misses", "")])).is_empty());
        let mut all = counters(&[("cycles", ""), ("instructions", "")]);
        assert_eq!(derived(&all)[0].value(|_| Some(0.0)), None);
        assert_eq!(derived(&all)[0].value(|_| None), None);
        all[1].unavailable = Some("why".to_owned());
        assert!(derived(&all).is_empty());
    }

    #[test]
    fn quotients_are_shown_with_three_digits() {
        assert_eq!([0.5, 12.34, 123.4].map(shown), ["0.50", "12.3", "123"]);
    }
}
