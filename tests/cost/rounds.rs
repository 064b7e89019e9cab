//! Paired rounds: in each, every setting runs one burst of the same statement, in random order.

use crate::statistics::{Random, capped_mean, trimmed_mean};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What can run a burst of a workload.
pub trait Burst {
    /// Runs `count` queries after a few to warm up; nanoseconds of each.
    fn burst(&mut self, workload: usize, count: usize) -> Vec<f64>;

    /// Runs bursts without a pause, so long that a budget has found its probability, and measures the rest.
    fn sustained(&mut self, workload: usize) -> Vec<f64> {
        let started = Instant::now();
        let mut times = Vec::new();
        while started.elapsed() < SETTLE + SUSTAINED {
            let settled = started.elapsed() >= SETTLE;
            let burst = self.burst(workload, 100);
            if settled {
                times.extend(burst);
            }
        }
        times
    }
}

/// Longer than a budget takes to follow a changed load.
const SETTLE: Duration = Duration::from_millis(100);
/// How long is measured then.
pub const SUSTAINED: Duration = Duration::from_millis(200);

/// One statement.
pub struct Workload {
    /// Its name in tables.
    pub name: &'static str,
    /// So many times dearer than a point select; bursts and rounds are shorter for it.
    pub weight: usize,
}

/// One place to run it.
pub struct Side {
    /// Name of the setting.
    pub setting: String,
    /// The connection.
    pub connection: Box<dyn Burst>,
}

/// The name under which the first side is measured once more: the noise of the measurement itself.
pub const AGAIN: &str = "the same server again (noise floor)";

/// Nanoseconds per query, by setting and round. The first setting is the base, the second the base again.
pub struct Measured {
    /// Settings in order.
    pub settings: Vec<String>,
    /// For each setting, one number per round.
    pub rounds: Vec<Vec<f64>>,
    /// Rounds of each set of servers, in order.
    pub sets: Vec<usize>,
}

impl Measured {
    /// Appends the rounds of another set of servers; settings that were not in both are dropped.
    pub fn extend(&mut self, more: Measured) {
        self.sets.extend(more.sets);
        let mut more: BTreeMap<String, Vec<f64>> = more.settings.into_iter().zip(more.rounds).collect();
        let before = std::mem::take(&mut self.settings).into_iter().zip(std::mem::take(&mut self.rounds));
        (self.settings, self.rounds) = before
            .filter_map(|(setting, mut rounds)| {
                rounds.extend(more.remove(&setting)?);
                Some((setting, rounds))
            })
            .unzip();
    }
}

/// Runs the rounds of one workload over all sides.
pub fn measure(
    sides: &mut [Side],
    workload: usize,
    count: usize,
    rounds: usize,
    random: &mut Random,
) -> Measured {
    for side in sides.iter_mut() {
        side.connection.burst(workload, count);
    }
    let all: Vec<usize> = (0..sides.len()).collect();
    paired(sides, &all, rounds, random, |connection| trimmed_mean(&connection.burst(workload, count)))
}

/// The same with each side under load for a while before it is measured, over the sides of these settings.
pub fn measure_sustained(
    sides: &mut [Side],
    settings: &[&str],
    workload: usize,
    rounds: usize,
    random: &mut Random,
) -> Measured {
    let some: Vec<usize> =
        (0..sides.len()).filter(|&at| settings.contains(&sides[at].setting.as_str())).collect();
    paired(sides, &some, rounds, random, |connection| capped_mean(&connection.sustained(workload)))
}

fn paired(
    sides: &mut [Side],
    chosen: &[usize],
    rounds: usize,
    random: &mut Random,
    per_query_ns: impl Fn(&mut dyn Burst) -> f64,
) -> Measured {
    // Base, base again, the others.
    let places: Vec<usize> = chosen.iter().take(1).chain(chosen).copied().collect();
    let mut settings: Vec<String> = places.iter().map(|&at| sides[at].setting.clone()).collect();
    settings[1] = AGAIN.to_owned();
    let mut measured =
        Measured { settings, rounds: vec![Vec::with_capacity(rounds); places.len()], sets: vec![rounds] };
    let mut order: Vec<usize> = (0..places.len()).collect();
    for _ in 0..rounds {
        random.shuffle(&mut order);
        for &entry in &order {
            measured.rounds[entry].push(per_query_ns(sides[places[entry]].connection.as_mut()));
        }
    }
    measured
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_one_set_of_servers_lacks_is_not_compared_with_the_wrong_rounds() {
        let of = |settings: &[&str], value: f64| Measured {
            settings: settings.iter().map(|&s| s.to_owned()).collect(),
            rounds: vec![vec![value; 2]; settings.len()],
            sets: vec![2],
        };
        let mut all = of(&["base", "off", "peer"], 1.0);
        all.extend(of(&["base", "off"], 2.0));
        all.extend(of(&["base", "peer", "off"], 3.0));
        assert_eq!(all.settings, ["base", "off"]);
        assert_eq!(all.rounds, [[1.0, 1.0, 2.0, 2.0, 3.0, 3.0], [1.0, 1.0, 2.0, 2.0, 3.0, 3.0]]);
        assert_eq!(all.sets, [2, 2, 2]);
    }
}
