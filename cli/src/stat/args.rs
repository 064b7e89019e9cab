//! The command line of `perquery stat`.

use super::assertion::Assertion;
use clap::{Args, ValueEnum};
use perquery_agent::counters::{Selection, parse_events};
use std::path::PathBuf;

/// Executions of each statement that are measured when nothing else is asked for.
const EXECUTIONS: u32 = 100;

/// `perquery stat`.
#[derive(Args, Debug)]
pub struct Stat {
    /// The database: mysql://USER:PASSWORD@HOST:PORT/DB?socket=FILE, postgres://USER@/DB?host=DIRECTORY, sqlite:FILE
    ///
    /// The server must run on this host with the library loaded; SQLite needs no server. Without --url, the environment
    /// variable PERQUERY_URL is taken: a password in it is not seen by everybody who lists processes.
    #[arg(short, long, value_name = "URL")]
    pub url: Option<String>,
    /// Execute each statement so many times, after a warm-up
    #[arg(short = 'n', long, value_name = "N", default_value_t = EXECUTIONS, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub executions: u32,
    /// Execute each statement so many times before, unmeasured [default: a tenth of N, 5 to 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub warm_up: Option<u32>,
    /// Also measure the statement in FILE, one in each; - for standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: Vec<PathBuf>,
    /// Count these events instead of cycles,instructions, by perf's names: cache-misses,page-faults,r01c2
    ///
    /// 'perquery events' lists them. CPU time, page faults and context switches are always counted, in every execution.
    #[arg(short, long, value_name = "EVENTS", value_parser = events)]
    pub event: Option<Selection>,
    /// Read perf's counters without a system call (rdpmc) where the kernel offers it
    #[arg(long)]
    pub user_space_reads: bool,
    /// Subtract the cost of an empty statement on the same connection
    #[arg(long)]
    pub net: bool,
    /// Compare two or more statements: how many times as much as the first one, and whether that is more than chance
    #[arg(long)]
    pub compare: bool,
    /// Prepare the statements in the server once and execute them by number (SQLite: always so)
    #[arg(long)]
    pub prepare: bool,
    /// Check that every execution returned the same number of rows, or this number
    #[arg(long, value_name = "ROWS", num_args = 0..=1, require_equals = true)]
    pub rows: Option<Option<u64>>,
    /// Execute SQL before, on the same connection, unmeasured
    #[arg(long, value_name = "SQL")]
    pub setup: Vec<String>,
    /// Execute SQL afterwards, also when the measurement failed
    #[arg(long, value_name = "SQL")]
    pub teardown: Vec<String>,
    /// Execute each statement in a transaction that is rolled back
    #[arg(long)]
    pub rollback: bool,
    /// Fail with exit status 1 unless this holds: 'cpu_ns < 200us', 'page_faults_minor == 0', 'latency_ns.p95 < 2ms'
    ///
    /// Of a counter, of latency_ns (what the server took) or of round_trip_ns (what the client waited); its median, or
    /// with a dot its mean, min, p95 or mad.
    #[arg(long, value_name = "CONDITION", value_parser = Assertion::parse)]
    pub assert: Vec<Assertion>,
    /// Order and resampling begin with this number: the same one gives the same order
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,
    /// For people or machines
    #[arg(long, value_enum, default_value_t = StatFormat::Text)]
    pub format: StatFormat,
    /// The statements
    #[arg(value_name = "SQL")]
    pub statements: Vec<String>,
}

fn events(list: &str) -> Result<Selection, String> {
    parse_events(list).map_err(|e| e.to_string())
}

/// The formats by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StatFormat {
    /// Tables and histograms for people
    Text,
    /// One document, schema 1
    Json,
}
