//! What a measurement brought, before anything is computed from it.

use super::plan::Plan;
use crate::aggregate::row::Values;
use crate::recording::{CounterMeta, ServerInfo};
use crate::stat::capture::{Captured, Seen};
use crate::warnings::Warning;
use perquery_agent::counters::CounterId;
use perquery_agent::protocol::Dialect;

/// One measured execution.
#[derive(Clone, Debug)]
pub struct Run {
    /// From the command's last byte to the server's being ready for the next one.
    pub latency_ns: u64,
    /// What the client saw of it.
    pub returned: Returned,
    /// The counters that were read.
    pub values: Values,
}

impl Run {
    /// The value of a counter, if it was read.
    pub fn counter(&self, id: CounterId) -> Option<f64> {
        self.values.iter().find(|(known, _)| *known == id).map(|(_, value)| *value as f64)
    }
}

/// What the client saw of an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Returned {
    /// Rows that came back.
    pub rows: u64,
    /// From sending it to having read its last row; `None` where nobody waits on the other side of a connection.
    pub round_trip_ns: Option<u64>,
}

/// The executions of one statement, by round; `None` where one was not recorded.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    /// As many as rounds.
    pub rounds: Vec<Option<Run>>,
    /// Hash of the normalised statement, 16 hexadecimal digits; empty when nothing was recorded.
    pub digest: String,
}

impl Runs {
    /// The recorded ones.
    pub fn recorded(&self) -> impl Iterator<Item = &Run> {
        self.rounds.iter().flatten()
    }
}

/// Everything that was measured.
pub struct Measured {
    /// Where.
    pub server: ServerInfo,
    /// Whose grammar the statements follow.
    pub dialect: Dialect,
    /// The session; 0 for SQLite.
    pub connection_id: u64,
    /// The empty statement.
    pub baseline_sql: &'static str,
    /// The empty statement's executions, then those of each statement.
    pub runs: Vec<Runs>,
    /// The counters that were asked for.
    pub counters: Vec<CounterMeta>,
    /// Reasons not to take the numbers at face value.
    pub warnings: Vec<Warning>,
}

/// A step that was executed: when, seen from the client, and how many rows came back.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// CLOCK_MONOTONIC before it was sent.
    pub before_ns: u64,
    /// CLOCK_MONOTONIC after its response was read.
    pub after_ns: u64,
    /// Rows that came back.
    pub rows: u64,
}

/// Gives each executed step the execution that started while the client waited for it. Both clocks are the host's, so
/// that nothing has to be counted; a step with none or several has none.
pub fn match_by_time(sent: &[Sent], seen: &[Seen]) -> Vec<Option<(Seen, Returned)>> {
    let mut rest = seen.iter().peekable();
    let mut found = Vec::with_capacity(sent.len());
    for step in sent {
        while rest.next_if(|s| s.start_ns < step.before_ns).is_some() {}
        let first = rest.next_if(|s| s.start_ns <= step.after_ns);
        let mut alone = true;
        while rest.next_if(|s| s.start_ns <= step.after_ns).is_some() {
            alone = false;
        }
        let round_trip_ns = Some(step.after_ns.saturating_sub(step.before_ns));
        let returned = Returned { rows: step.rows, round_trip_ns };
        found.push(first.filter(|_| alone).map(|s| (s.clone(), returned)));
    }
    found
}

/// Sorts the executions of a plan's steps by statement and round; those of the warm-up are left out.
pub fn by_statement(plan: &Plan, executions: Vec<Option<(Seen, Returned)>>) -> Vec<Runs> {
    let mut runs = vec![Runs::default(); plan.statements.len() + 1];
    for (step, execution) in plan.steps.iter().zip(executions) {
        let Some(to) = runs.get_mut(step.which).filter(|_| !step.warm_up) else { continue };
        if let Some((seen, _)) = &execution
            && to.digest.is_empty()
        {
            to.digest = format!("{:016x}", seen.digest);
        }
        to.rounds.push(execution.map(|(seen, returned)| Run {
            latency_ns: seen.latency_ns,
            returned,
            values: seen.values,
        }));
    }
    runs
}

/// What is wrong with what was captured.
pub fn warnings(captured: &Captured, runs: &[Runs]) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let missing: usize = runs.iter().map(|r| r.rounds.iter().filter(|run| run.is_none()).count()).sum();
    if missing > 0 {
        warnings.push(Warning::Other {
            code: "missing-executions".to_owned(),
            message: format!("{missing} executions were sent but not recorded"),
            remedy: "none needed if few; the others are complete".to_owned(),
        });
    }
    if captured.dropped > 0 {
        warnings.push(Warning::DroppedRecords { records: captured.dropped });
    }
    if captured.unmatched > 0 {
        warnings.push(Warning::UnmatchedSlices { slices: captured.unmatched });
    }
    let names = |wanted: &dyn Fn(&CounterMeta) -> bool| -> Vec<String> {
        captured.counters.iter().filter(|c| wanted(c)).map(|c| c.name.clone()).collect()
    };
    let multiplexed = names(&|c| captured.scaled & (1 << (c.id & 63)) != 0);
    if !multiplexed.is_empty() {
        warnings.push(Warning::Multiplexed { counters: multiplexed });
    }
    let user_only = names(&|c| c.user_only);
    if !user_only.is_empty() {
        warnings.push(Warning::UserModeOnly { counters: user_only });
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(start_ns: u64) -> Seen {
        Seen { start_ns, latency_ns: start_ns, rows_returned: 1, digest: 1, values: Vec::new() }
    }

    const RETURNED: Returned = Returned { rows: 1, round_trip_ns: None };

    fn sent(before_ns: u64, after_ns: u64) -> Sent {
        Sent { before_ns, after_ns, rows: before_ns }
    }

    #[test]
    fn executions_find_their_steps_and_strangers_and_losses_do_not_shift_them() {
        let steps = [sent(10, 20), sent(21, 30), sent(31, 40), sent(41, 50), sent(60, 70)];
        // 5 is older; the second step's was lost; the fourth has two; 55 lies between.
        let found = match_by_time(&steps, &[5, 12, 31, 42, 45, 55, 70].map(seen));
        let starts: Vec<_> = found.iter().map(|f| f.as_ref().map(|(s, r)| (s.start_ns, r.rows))).collect();
        assert_eq!(starts, [Some((12, 10)), None, Some((31, 31)), None, Some((70, 60))]);
        assert_eq!(found[2].as_ref().and_then(|(_, returned)| returned.round_trip_ns), Some(9));
    }

    #[test]
    fn runs_are_sorted_by_statement_and_round_without_the_warm_up() {
        let plan =
            super::super::plan::tests::plan(&["-n", "4", "--warm-up", "2", "SELECT 1", "SELECT 2"]).unwrap();
        let executions =
            (0..plan.steps.len()).map(|n| (n != 17).then(|| (seen(n as u64), RETURNED))).collect::<Vec<_>>();
        let runs = by_statement(&plan, executions);
        assert_eq!(runs.iter().map(|r| r.rounds.len()).collect::<Vec<_>>(), [4, 4, 4]);
        assert_eq!(runs.iter().map(|r| r.recorded().count()).sum::<usize>(), 11);
        for (which, of) in runs.iter().enumerate() {
            for (round, run) in of.rounds.iter().enumerate() {
                let Some(run) = run else { continue };
                let at = run.latency_ns as usize;
                assert_eq!((plan.steps[at].which, at / 3), (which, round + 2));
            }
        }
    }
}
