//! The benchmark's own command line.

use std::path::PathBuf;

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Rounds per workload and set of servers.
    pub rounds: usize,
    /// Point selects per burst; dearer workloads run fewer, in proportion.
    pub queries: usize,
    /// How often all servers are started anew: a process's own place in memory is part of its speed.
    pub restarts: usize,
    /// Only workloads, settings or servers whose name contains one of these; empty: all.
    pub only: Vec<String>,
    /// Also write the results here, as JSON.
    pub json: Option<PathBuf>,
    /// Start of the random order.
    pub seed: u64,
    /// Leave the scheduler's priorities as they are.
    pub keep_priority: bool,
    /// Skip throughput and the idle collector.
    pub latency_only: bool,
}

const USAGE: &str = "\
What perquery adds to a query, beside its peers, against real servers on this machine.

usage: cargo run --release -p perquery-tests --bin cost -- [options]

  --quick           one set of servers and few rounds: about four minutes
  --rounds N        rounds per workload and set of servers [default: 150]
  --queries N       point selects per burst [default: 400]
  --restarts N      start all servers anew so often [default: 3]
  --only NAME       only this server (mariadb, postgres, sqlite), way to compare (side by side, switched), workload or
                    setting, or where there is no such one those with NAME in theirs; repeatable
  --latency-only    neither throughput nor the idle collector
  --keep-priority   do not raise the scheduling priority of servers and client
  --seed N          of the random order
  --json FILE       write the results to FILE as well";

impl Options {
    /// Reads the command line; says what is wrong with it and how to write it.
    pub fn parse(words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut words = words;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let mut options = Options {
            rounds: 150,
            queries: 400,
            restarts: 3,
            only: Vec::new(),
            json: None,
            seed: now.map_or(1, |d| d.as_nanos() as u64),
            keep_priority: false,
            latency_only: false,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value\n\n{USAGE}"));
            match word.as_str() {
                "--quick" => (options.rounds, options.queries, options.restarts) = (25, 200, 1),
                "--rounds" => options.rounds = number(&word, &value()?)?.max(2),
                "--queries" => options.queries = number(&word, &value()?)?.max(20),
                "--restarts" => options.restarts = number(&word, &value()?)?.max(1),
                "--seed" => options.seed = number(&word, &value()?)? as u64,
                "--only" => options.only.push(value()?),
                "--json" => options.json = Some(value()?.into()),
                "--latency-only" => options.latency_only = true,
                "--keep-priority" => options.keep_priority = true,
                "-h" | "--help" => return Err(USAGE.to_owned()),
                _ => return Err(format!("{word} is no option\n\n{USAGE}")),
            }
        }
        Ok(options)
    }

    /// Was this one of several names asked for? A whole name asks for itself alone, a part for all that have it. Names of
    /// another kind do not count: `--only mariadb` keeps all workloads.
    pub fn wants(&self, name: &str, among: &[&str]) -> bool {
        let mut of_this_kind =
            self.only.iter().filter(|only| among.iter().any(|n| n.contains(only.as_str()))).peekable();
        let asks = |only: &String| match among.contains(&only.as_str()) {
            true => name == only,
            false => name.contains(only.as_str()),
        };
        of_this_kind.peek().is_none() || of_this_kind.any(asks)
    }
}

fn number(option: &str, value: &str) -> Result<usize, String> {
    value.parse().map_err(|_| format!("{option} {value}: write a whole number"))
}
