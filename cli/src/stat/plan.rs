//! What is executed, how often, and in which order.

use super::args::Stat;
use super::random::Random;
use crate::error::{Context, Error, Result};
use std::io::Read;
use std::path::Path;

/// A statement file is not longer than this.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// So many statements at once.
const STATEMENTS_MAX: usize = 64;

/// One execution: of the empty statement, or of one of the user's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// 0 for the empty statement, n for the nth statement.
    pub which: usize,
    /// Executed to warm up.
    pub warm_up: bool,
}

/// The plan of a measurement.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The user's statements.
    pub statements: Vec<String>,
    /// All steps in their order: rounds of the empty statement and every statement once, each shuffled.
    pub steps: Vec<Step>,
    /// Measured rounds.
    pub rounds: usize,
    /// Unmeasured rounds before them.
    pub warm_up: usize,
    /// Prepared in the server.
    pub prepare: bool,
    /// Each in a transaction that is rolled back.
    pub rollback: bool,
    /// Executed before.
    pub setup: Vec<String>,
    /// Executed afterwards.
    pub teardown: Vec<String>,
}

impl Plan {
    /// The plan that the command line asks for.
    pub fn new(args: &Stat) -> Result<Plan> {
        let mut statements = Vec::new();
        for (n, text) in args.statements.iter().enumerate() {
            statements.push(statement(text).ok_or_else(|| {
                Error::new(format!("statement {} is empty; write one between quotes", n + 1))
            })?);
        }
        for path in &args.file {
            let text = read(path)?;
            statements.push(
                statement(&text)
                    .ok_or_else(|| Error::new(format!("{} has no statement in it", path.display())))?,
            );
        }
        if statements.is_empty() {
            return Err(Error::new("name a statement, as in 'SELECT 1', or a file with one after -f"));
        }
        if args.compare && statements.len() < 2 {
            return Err(Error::new("--compare needs two statements or more; there is one"));
        }
        if statements.len() > STATEMENTS_MAX {
            return Err(Error::new(format!("at most {STATEMENTS_MAX} statements are measured at once")));
        }
        let rounds = args.executions as usize;
        let warm_up = args.warm_up.map_or((rounds / 10).clamp(5, 100), |n| n as usize);
        let mut random = Random::new(args.seed);
        let mut steps = Vec::with_capacity((rounds + warm_up) * (statements.len() + 1));
        let mut round: Vec<usize> = (0..=statements.len()).collect();
        for n in 0..rounds + warm_up {
            random.shuffle(&mut round);
            steps.extend(round.iter().map(|which| Step { which: *which, warm_up: n < warm_up }));
        }
        Ok(Plan {
            statements,
            steps,
            rounds,
            warm_up,
            prepare: args.prepare,
            rollback: args.rollback,
            setup: args.setup.clone(),
            teardown: args.teardown.clone(),
        })
    }

    /// The step runs in a transaction that is rolled back.
    pub fn rolls_back(&self, step: &Step) -> bool {
        self.rollback && step.which > 0
    }

    /// The statement of a step; `baseline` is the empty one.
    pub fn sql<'a>(&'a self, step: &Step, baseline: &'a str) -> &'a str {
        step.which.checked_sub(1).and_then(|n| self.statements.get(n)).map_or(baseline, String::as_str)
    }
}

/// The statement without the white space and the semicolon around it; `None` when nothing is left.
fn statement(text: &str) -> Option<String> {
    let text = text.trim().trim_end_matches(|c: char| c == ';' || c.is_whitespace());
    (!text.is_empty()).then(|| text.to_owned())
}

fn read(path: &Path) -> Result<String> {
    let mut text = String::new();
    let what = || format!("the statement file {} can't be read", path.display());
    let mut source: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).context(what)?)
    };
    source.by_ref().take(FILE_BYTES_MAX + 1).read_to_string(&mut text).context(what)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(Error::new(format!("{} is longer than 4 MiB; give one statement", path.display())));
    }
    Ok(text)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::args::{Cli, Verb};
    use clap::Parser;

    /// The plan of a command line.
    pub(crate) fn plan(words: &[&str]) -> Result<Plan> {
        let cli = Cli::parse_from(["perquery", "stat"].iter().chain(words));
        let Verb::Stat(args) = cli.verb else { unreachable!() };
        Plan::new(&args)
    }

    #[test]
    fn every_round_has_each_statement_and_the_empty_one_once_and_the_order_differs() {
        let plan = plan(&["-n", "50", "--warm-up", "3", "SELECT 1 ; ", "SELECT 2"]).unwrap();
        assert_eq!(plan.statements, ["SELECT 1", "SELECT 2"]);
        assert_eq!(plan.steps.len(), 53 * 3);
        assert_eq!(plan.steps.iter().filter(|s| s.warm_up).count(), 9);
        let mut orders = std::collections::BTreeSet::new();
        for round in plan.steps.chunks(3) {
            let mut order: Vec<usize> = round.iter().map(|s| s.which).collect();
            orders.insert(order.clone());
            order.sort_unstable();
            assert_eq!(order, [0, 1, 2]);
        }
        assert_eq!(orders.len(), 6);
    }

    #[test]
    fn what_can_not_be_measured_is_refused_before_anything_is_started() {
        for words in [&["-n", "5"][..], &[" ; "], &["--compare", "SELECT 1"], &["-f", "/nowhere/x.sql"]] {
            assert!(plan(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn a_file_holds_one_statement() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "-- how many\nSELECT count(*)\nFROM t;\n").unwrap();
        let plan = plan(&["-f", file.path().to_str().unwrap()]).unwrap();
        assert_eq!(plan.statements, ["-- how many\nSELECT count(*)\nFROM t"]);
    }
}
