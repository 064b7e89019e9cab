//! What is computed from a measurement: summaries, comparisons, assertions.

use super::args::Stat;
use super::assertion::{Assertion, shown};
use super::measured::{Measured, Runs};
use super::plan::Plan;
use super::random::Random;
use super::statistics::{Ratio, Summary, net_summary, ratio, summary};
use crate::derived::derived;
use crate::digest::safe_text;
use crate::error::{Error, Result};
use crate::recording::{CounterMeta, ServerInfo};
use crate::warnings::Warning;
use perquery_agent::counters::CounterId;

/// The latency's name among the counters.
pub const LATENCY: &str = "latency_ns";
/// The name of what the client waited, among the counters.
pub const ROUND_TRIP: &str = "round_trip_ns";
const CYCLES: &str = "cycles";
const CPU: &str = "cpu_ns";

/// What is known of one counter.
#[derive(Clone, Debug, PartialEq)]
pub enum Cost {
    /// It was counted.
    Counted(Summary),
    /// It was not: why, and what to do.
    Unavailable(String),
}

/// One statement.
pub struct Statement {
    /// As it was given, where it carries no secret.
    pub sql: String,
    /// Hash of the normalised statement.
    pub digest: String,
    /// Measured executions that were recorded.
    pub executions: usize,
    /// Fewest and most rows that came back.
    pub rows: [u64; 2],
    /// Its latency, what the client waited, and, by name, its counters.
    pub costs: Vec<(String, Cost)>,
    /// Quotients of medians, by name.
    pub derived: Vec<(String, f64)>,
    /// The headline counter of each execution, for a histogram.
    pub headline_values: Vec<f64>,
}

impl Statement {
    /// The cost that `name` names.
    pub fn cost(&self, name: &str) -> Option<&Cost> {
        self.costs.iter().find(|(known, _)| known == name).map(|(_, cost)| cost)
    }
}

/// What the comparison of a statement with the first one says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The whole interval is below 1.
    Faster,
    /// The whole interval is above 1.
    Slower,
    /// The interval contains 1: more executions may show one.
    NoDifferenceSeen,
    /// There is no ratio: the first statement costs nothing that could be seen.
    Unknown,
}

/// A statement compared with the first one.
pub struct Comparison {
    /// Its number, counted from 1; the first one is 1.
    pub statement: usize,
    /// What is compared: `cycles`, `cpu_ns` or `latency_ns`.
    pub counter: String,
    /// How many times as much.
    pub ratio: Option<Ratio>,
    /// In a word.
    pub verdict: Verdict,
}

/// A condition and whether it holds.
pub struct Judged {
    /// The condition.
    pub assertion: Assertion,
    /// The statement's number, counted from 1.
    pub statement: usize,
    /// What was measured.
    pub value: f64,
    /// Whether it holds.
    pub holds: bool,
}

/// Everything that is shown.
pub struct Outcome {
    /// Where.
    pub server: ServerInfo,
    /// The session; 0 for SQLite.
    pub connection_id: u64,
    /// Warm-up rounds.
    pub warm_up: usize,
    /// What the order began with.
    pub seed: u64,
    /// The baseline is subtracted.
    pub net: bool,
    /// The counter to look at first: cycles where there are any, else CPU time.
    pub headline: String,
    /// The statements in their order.
    pub statements: Vec<Statement>,
    /// The empty statement; its costs are never net.
    pub baseline: Statement,
    /// Every other statement against the first.
    pub comparisons: Vec<Comparison>,
    /// Conditions by statement.
    pub assertions: Vec<Judged>,
    /// Statements whose executions did not return the rows they should have, in words.
    pub wrong_rows: Vec<String>,
    /// Reasons not to take the numbers at face value.
    pub warnings: Vec<Warning>,
}

/// A series of values of one counter.
enum What<'a> {
    Latency,
    RoundTrip,
    Counter(&'a CounterMeta),
}

impl What<'_> {
    fn name(&self) -> &str {
        match self {
            What::Latency => LATENCY,
            What::RoundTrip => ROUND_TRIP,
            What::Counter(counter) => &counter.name,
        }
    }

    /// By round; not a number where a round is missing.
    fn by_round(&self, runs: &Runs) -> Vec<f64> {
        let value = |run: &super::measured::Run| match self {
            What::Latency => Some(run.latency_ns as f64),
            What::RoundTrip => run.returned.round_trip_ns.map(|ns| ns as f64),
            What::Counter(counter) => run.counter(counter.id),
        };
        runs.rounds.iter().map(|run| run.as_ref().and_then(value).unwrap_or(f64::NAN)).collect()
    }

    fn values(&self, runs: &Runs) -> Vec<f64> {
        self.by_round(runs).into_iter().filter(|value| !value.is_nan()).collect()
    }
}

/// Refuses conditions on what is not counted, before anything is executed.
pub fn check(assertions: &[Assertion], counters: &[CounterMeta]) -> Result<()> {
    for assertion in assertions {
        let name = assertion.counter.as_str();
        if ![LATENCY, ROUND_TRIP].contains(&name) && !counters.iter().any(|counter| counter.name == name) {
            let known: Vec<&str> = counters.iter().map(|counter| counter.name.as_str()).collect();
            return Err(Error::new(format!(
                "--assert '{}': {name} is not counted; use {LATENCY}, {ROUND_TRIP}, {}, or name it with -e as well",
                assertion.text,
                known.join(", ")
            )));
        }
    }
    Ok(())
}

/// Computes what is shown.
pub fn outcome(args: &Stat, plan: &Plan, measured: Measured) -> Result<Outcome> {
    let mut random = Random::new(args.seed);
    let mut whats = vec![What::Latency];
    if measured.runs.iter().flat_map(Runs::recorded).any(|run| run.returned.round_trip_ns.is_some()) {
        whats.push(What::RoundTrip);
    }
    whats.extend(measured.counters.iter().map(What::Counter));
    let headline = headline(&measured);
    let (baseline_runs, runs) = match measured.runs.split_first() {
        Some(split) => split,
        None => return Err(Error::new("nothing was measured")),
    };
    let mut describe = |sql: &str, of: &Runs, net: bool| {
        let costs = whats.iter().map(|what| {
            let values = what.values(of);
            let cost = match what {
                What::Counter(counter) if values.is_empty() => Cost::Unavailable(why_unavailable(counter)),
                _ if net => Cost::Counted(net_summary(&values, &what.values(baseline_runs), &mut random)),
                _ => Cost::Counted(summary(&values, &mut random)),
            };
            (what.name().to_owned(), cost)
        });
        let costs: Vec<(String, Cost)> = costs.collect();
        let median = |name: &str| match costs.iter().find(|(known, _)| known == name) {
            Some((_, Cost::Counted(summary))) => Some(summary.median),
            _ => None,
        };
        let derived = derived(&measured.counters).into_iter();
        let derived = derived.filter_map(|d| Some((d.value(|c| median(&c.name))?, d.name)));
        let rows = || of.recorded().map(|run| run.returned.rows);
        Statement {
            sql: safe_text(measured.dialect, sql.as_bytes(), sql.len()),
            digest: of.digest.clone(),
            executions: of.recorded().count(),
            rows: [rows().min().unwrap_or(0), rows().max().unwrap_or(0)],
            derived: derived.map(|(value, name)| (name, value)).collect(),
            costs,
            headline_values: whats
                .iter()
                .find(|what| what.name() == headline)
                .map_or_else(Vec::new, |what| what.values(of)),
        }
    };
    let baseline = describe(measured.baseline_sql, baseline_runs, false);
    let statements: Vec<Statement> =
        plan.statements.iter().zip(runs).map(|(sql, of)| describe(sql, of, args.net)).collect();
    let comparisons = if args.compare {
        compare(&whats, &headline, &measured.runs, args.net, &mut random)
    } else {
        Vec::new()
    };
    let assertions = judge(&args.assert, &statements)?;
    let wrong_rows = wrong_rows(args.rows, &statements);
    drop(whats);
    Ok(Outcome {
        server: measured.server,
        connection_id: measured.connection_id,
        warm_up: plan.warm_up,
        seed: args.seed,
        net: args.net,
        headline,
        statements,
        baseline,
        comparisons,
        assertions,
        wrong_rows,
        warnings: measured.warnings,
    })
}

/// Cycles where they were counted, else CPU time.
fn headline(measured: &Measured) -> String {
    let counted = |name: &str| {
        let id: Option<CounterId> = measured.counters.iter().find(|c| c.name == name).map(|c| c.id);
        id.is_some_and(|id| {
            measured.runs.iter().flat_map(Runs::recorded).any(|run| run.counter(id).is_some())
        })
    };
    if counted(CYCLES) { CYCLES.to_owned() } else { CPU.to_owned() }
}

fn why_unavailable(counter: &CounterMeta) -> String {
    counter.unavailable.clone().unwrap_or_else(|| "no execution has a value of it".to_owned())
}

fn compare(whats: &[What], headline: &str, runs: &[Runs], net: bool, random: &mut Random) -> Vec<Comparison> {
    let [baseline, reference, others @ ..] = runs else { return Vec::new() };
    let mut comparisons = Vec::new();
    for (n, other) in others.iter().enumerate() {
        for name in [headline, LATENCY] {
            let Some(what) = whats.iter().find(|what| what.name() == name) else { continue };
            // Only rounds that have all: they are drawn together.
            let series = [what.by_round(reference), what.by_round(other), what.by_round(baseline)];
            let [a, b, base] = &series;
            let whole: Vec<usize> = (0..a.len())
                .filter(|n| [a, b, base].iter().all(|s| s.get(*n).is_some_and(|v| !v.is_nan())))
                .collect();
            let take =
                |from: &Vec<f64>| whole.iter().filter_map(|n| from.get(*n).copied()).collect::<Vec<_>>();
            let base = if net { take(base) } else { Vec::new() };
            let ratio = ratio(&take(a), &take(b), &base, random);
            let verdict = match ratio {
                None => Verdict::Unknown,
                Some(r) if r.ci95[1] < 1.0 => Verdict::Faster,
                Some(r) if r.ci95[0] > 1.0 => Verdict::Slower,
                Some(_) => Verdict::NoDifferenceSeen,
            };
            comparisons.push(Comparison { statement: n + 2, counter: name.to_owned(), ratio, verdict });
        }
    }
    comparisons
}

fn judge(assertions: &[Assertion], statements: &[Statement]) -> Result<Vec<Judged>> {
    let mut judged = Vec::new();
    for assertion in assertions {
        for (n, statement) in statements.iter().enumerate() {
            let summary = match statement.cost(&assertion.counter) {
                Some(Cost::Counted(summary)) => summary,
                Some(Cost::Unavailable(why)) => {
                    return Err(Error::new(format!(
                        "--assert '{}' can't be judged: {} is unavailable: {why}",
                        assertion.text, assertion.counter
                    )));
                }
                // The check before has let it pass: it is one of the two that are no counters.
                None => {
                    return Err(Error::new(format!(
                        "--assert '{}' can't be judged: here nobody waits for a server; use {LATENCY}",
                        assertion.text
                    )));
                }
            };
            let value = assertion.value(summary);
            let holds = assertion.holds(value);
            judged.push(Judged { assertion: assertion.clone(), statement: n + 1, value, holds });
        }
    }
    Ok(judged)
}

fn wrong_rows(wanted: Option<Option<u64>>, statements: &[Statement]) -> Vec<String> {
    let Some(wanted) = wanted else { return Vec::new() };
    let numbered = statements.iter().enumerate();
    numbered
        .filter_map(|(n, statement)| match (statement.rows, wanted) {
            ([fewest, most], Some(wanted)) if fewest != wanted || most != wanted => Some(format!(
                "--rows={wanted} failed for statement {}: it returned {fewest} to {most} rows",
                n + 1
            )),
            ([fewest, most], None) if fewest != most => {
                Some(format!("--rows failed for statement {}: it returned {fewest} to {most} rows", n + 1))
            }
            _ => None,
        })
        .collect()
}

impl Judged {
    /// The failure in one line, with the measured value.
    pub fn told(&self) -> String {
        let Judged { assertion, statement, value, .. } = self;
        format!(
            "assertion '{}' failed for statement {statement}: the {} of {} is {} ({value:.0})",
            assertion.text,
            assertion.statistic,
            assertion.counter,
            shown(&assertion.counter, *value)
        )
    }
}

impl Verdict {
    /// In a word, for machines.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Faster => "faster",
            Verdict::Slower => "slower",
            Verdict::NoDifferenceSeen => "no difference seen",
            Verdict::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::args::{Cli, Verb};
    use crate::stat::measured::{Returned, Run};
    use clap::Parser;

    fn counters() -> Vec<CounterMeta> {
        let why = Some("this machine has no such event; use cpu_ns".to_owned());
        let counter = |id, name: &str, unavailable| CounterMeta {
            id,
            name: name.to_owned(),
            unavailable,
            ..CounterMeta::default()
        };
        vec![counter(0, CPU, None), counter(5, CYCLES, why.clone()), counter(6, "instructions", why)]
    }

    fn returned(rows: u64) -> Returned {
        Returned { rows, round_trip_ns: Some(9000) }
    }

    fn runs(cpu_ns: [u64; 3]) -> Runs {
        let run = |cpu| Some(Run { latency_ns: cpu * 2, returned: returned(3), values: vec![(0, cpu)] });
        Runs { rounds: cpu_ns.map(run).to_vec(), digest: "0123456789abcdef".to_owned() }
    }

    fn computed(words: &[&str], runs: Vec<Runs>) -> Result<Outcome> {
        computed_of(words, runs, counters())
    }

    fn computed_of(words: &[&str], runs: Vec<Runs>, counters: Vec<CounterMeta>) -> Result<Outcome> {
        let Verb::Stat(args) = Cli::parse_from(["perquery", "stat"].iter().chain(words)).verb else {
            unreachable!()
        };
        let plan = Plan::new(&args)?;
        let server = ServerInfo { pid: 7, kind: "mariadb".to_owned(), ..ServerInfo::default() };
        let warnings = vec![Warning::DroppedRecords { records: 2 }];
        let dialect = perquery_agent::protocol::Dialect::MariaDb;
        let measured =
            Measured { server, dialect, connection_id: 35, baseline_sql: "DO 0", runs, counters, warnings };
        outcome(&args, &plan, measured)
    }

    /// Two statements, the second one slower, with an assertion that fails.
    pub(crate) fn example() -> Outcome {
        let words = ["-n", "3", "--compare", "--assert", "cpu_ns < 1us", "SELECT 'a'", "SELECT 'b'"];
        computed(&words, vec![runs([500, 510, 490]), runs([2000, 2100, 1900]), runs([8000, 8100, 7900])])
            .unwrap()
    }

    /// One statement on a machine that counts cycles and instructions.
    pub(crate) fn example_with_cycles() -> Outcome {
        let mut all = counters();
        all.iter_mut().for_each(|counter| counter.unavailable = None);
        let runs = |cycles| Runs {
            rounds: vec![
                Some(Run {
                    latency_ns: 1,
                    returned: returned(1),
                    values: vec![(0, 1), (5, cycles), (6, 2000)]
                });
                3
            ],
            digest: String::new(),
        };
        computed_of(&["-n", "3", "SELECT 'a'"], vec![runs(10), runs(3000)], all).unwrap()
    }

    #[test]
    fn net_numbers_have_the_empty_statement_subtracted_and_the_baseline_has_not() {
        let all = || vec![runs([500, 510, 490]), runs([2000, 2100, 1900])];
        let found = computed(&["-n", "3", "--net", "SELECT 1"], all()).unwrap();
        let Some(Cost::Counted(cpu)) = found.statements[0].cost(CPU) else { panic!() };
        assert_eq!((cpu.median, cpu.min), (1500.0, 1400.0));
        let Some(Cost::Counted(empty)) = found.baseline.cost(CPU) else { panic!() };
        assert_eq!(empty.median, 500.0);
    }

    #[test]
    fn comparisons_are_of_the_headline_and_of_the_latency_and_missing_rounds_leave_both() {
        let found = example();
        let told: Vec<_> =
            found.comparisons.iter().map(|c| (c.counter.as_str(), c.statement, c.verdict)).collect();
        assert_eq!(told, [(CPU, 2, Verdict::Slower), (LATENCY, 2, Verdict::Slower)]);
        let mut holed = runs([2000, 2100, 1900]);
        holed.rounds[1] = None;
        let all = vec![runs([500; 3]), holed, runs([2000, 9_999_999, 2000])];
        let found = computed(&["-n", "3", "--compare", "SELECT 1", "SELECT 2"], all).unwrap();
        assert_eq!(found.statements[0].executions, 2);
        assert!(found.comparisons[0].ratio.unwrap().ratio < 1.1);
        let free = vec![runs([0; 3]), runs([0; 3]), runs([5; 3])];
        let found = computed(&["-n", "3", "--compare", "SELECT 1", "SELECT 2"], free).unwrap();
        assert_eq!(found.comparisons[0].verdict, Verdict::Unknown);
    }

    #[test]
    fn conditions_are_judged_for_each_statement_and_those_on_nothing_are_errors() {
        let found = example();
        assert_eq!(found.assertions.iter().map(|j| j.holds).collect::<Vec<_>>(), [false, false]);
        let told = found.assertions[0].told();
        assert_eq!(
            told,
            "assertion 'cpu_ns < 1us' failed for statement 1: the median of cpu_ns is 2.00 µs (2000)"
        );
        let unavailable =
            computed(&["-n", "3", "--assert", "cycles < 1M", "SELECT 1"], vec![runs([1; 3]), runs([1; 3])]);
        assert!(unavailable.err().unwrap().to_string().contains("no such event"));
        let unknown = check(&[Assertion::parse("cache_misses < 1").unwrap()], &counters());
        assert!(unknown.unwrap_err().to_string().contains("-e"));
    }

    #[test]
    fn rows_that_differ_are_told() {
        let all = || {
            let mut second = runs([1; 3]);
            second.rounds[2] = Some(Run { latency_ns: 1, returned: returned(9), values: Vec::new() });
            vec![runs([1; 3]), second]
        };
        let wrong = |words: &[&str]| computed(words, all()).unwrap().wrong_rows;
        assert_eq!(wrong(&["-n", "3", "SELECT 1"]).len(), 0);
        assert_eq!(
            wrong(&["-n", "3", "--rows", "SELECT 1"]),
            ["--rows failed for statement 1: it returned 3 to 9 rows"]
        );
        assert_eq!(wrong(&["-n", "3", "--rows=3", "SELECT 1"]).len(), 1);
    }
}
