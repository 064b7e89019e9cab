//! The command line: one struct per verb.

use crate::aggregate::Key;
use clap::{Args, Parser, Subcommand, ValueEnum};
use perquery_agent::counters::{CHEAP_MASK, Selection, parse_events};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// What every SQL query costs the machine: cycles, CPU time, faults, switches, latency, by statement, user, database,
/// application and session.
#[derive(Parser, Debug)]
#[command(name = "perquery", version, max_term_width = 110, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Start a program with capture on; report when it ends
    Run(Run),
    /// Switch capture on in a running server, write a recording, switch it off
    Record(Record),
    /// Report on a recording
    Report(Report),
    /// Measure what one execution of a statement costs
    Stat(crate::stat::args::Stat),
    /// List the servers of this host that have the library
    List,
    /// List every counter: available here or not, why, and what to do
    Events(Events),
    /// Check that everything is in place: library, permissions, limits, sandbox
    Doctor(Doctor),
    /// Start a client that prints the seconds of a statement with microseconds
    Time(Time),
    /// Start a program whose unloaded plugins stay mapped, so that tools can name their frames
    Pin(Pin),
    /// Print the completion script of a shell
    Completion(Completion),
    /// Print the manual page
    Man,
}

/// `perquery run`.
#[derive(Args, Debug)]
pub struct Run {
    /// Also write a recording to FILE
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub count: Count,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub show: Show,
    /// Write the report to FILE instead of standard error
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// `perquery record`.
#[derive(Args, Debug)]
pub struct Record {
    /// The server's process; any of its processes will do
    #[arg(short, long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: u32,
    /// For so long, then stop: seconds, or with a unit as in 500ms, 10s, 2m, 1h; without it: until ^C
    #[arg(short, long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
    /// Write the recording to FILE
    #[arg(short, long, value_name = "FILE", default_value = "perquery.pq")]
    pub output: PathBuf,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub count: Count,
}

/// `perquery report`.
#[derive(Args, Debug)]
pub struct Report {
    /// Read the recording from FILE; - for standard input
    #[arg(short, long, value_name = "FILE", default_value = "perquery.pq")]
    pub input: PathBuf,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub show: Show,
}

/// What to count.
#[derive(Args, Debug)]
pub struct Count {
    /// Count these events too, by perf's names: cycles,instructions:u,cache-misses,r01c2,L1-dcache-load-misses
    ///
    /// 'perquery events' lists them. CPU time, page faults and context switches are always counted.
    #[arg(short, long, value_name = "EVENTS", value_parser = events)]
    pub event: Option<Selection>,
    /// Read perf's counters without a system call (rdpmc) where the kernel offers it
    #[arg(long)]
    pub user_space_reads: bool,
    /// Spend at most this share of the executions' time, in percent: CPU time, faults, switches and perf's counters are
    /// read for as many executions as that allows, chosen at random, and reports estimate the sums. Recording itself is
    /// paid first; where it takes more than seven eighths, one eighth is spent on reading all the same
    #[arg(long, value_name = "PCT", default_value_t = 2.0, value_parser = percent)]
    pub budget: f64,
    /// Read all counters of every execution, whatever it costs
    #[arg(long, conflicts_with = "budget")]
    pub exact: bool,
    /// Read no counters at all: text, latency, rows, bytes and errors only
    #[arg(long, conflicts_with_all = ["budget", "exact", "event"])]
    pub cheap: bool,
}

impl Count {
    /// What the control page is told.
    pub fn selection(&self) -> Selection {
        let mut selection = self.event.clone().unwrap_or_default();
        selection.wanted.user_space_reads = self.user_space_reads.into();
        if !self.cheap {
            selection.wanted.mask |= CHEAP_MASK;
        }
        // At least one millionth: 0 means "no limit".
        selection.wanted.budget_ppm = if self.exact { 0 } else { (self.budget * 10_000.0).max(1.0) as u32 };
        selection
    }
}

fn percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').parse::<f64>() {
        Ok(percent) if (0.01..=100.0).contains(&percent) => Ok(percent),
        _ => Err("write a percentage between 0.01 and 100, or --exact to count everything".to_owned()),
    }
}

/// How to report.
#[derive(Args, Debug)]
pub struct Show {
    /// One row for each of these, nested: digest, user, database, application, client, session, server, error
    #[arg(long, value_name = "KEYS", value_delimiter = ',', default_value = "digest", value_parser = key)]
    pub by: Vec<Key>,
    /// The largest first: latency, calls, mean, p95, p99, max, errors, rows, or a counter such as cpu_ns
    #[arg(long, value_name = "KEY", default_value = "latency")]
    pub sort: String,
    /// So many rows, the rest folded into one [default: 20 for text, all for json and csv]
    #[arg(long, value_name = "N")]
    pub top: Option<usize>,
    /// For people, machines or spreadsheets
    #[arg(long, value_enum, default_value_t = FormatName::Text)]
    pub format: FormatName,
}

/// The formats by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormatName {
    /// A table for people
    Text,
    /// One document, schema 1
    Json,
    /// One line per row
    Csv,
}

/// `perquery events`.
#[derive(Args, Debug)]
pub struct Events {
    /// For people or machines
    #[arg(long, value_enum, default_value_t = FormatName::Text)]
    pub format: FormatName,
}

/// `perquery doctor`.
#[derive(Args, Debug)]
pub struct Doctor {
    /// Look into this process as well
    #[arg(short, long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: Option<u32>,
}

/// `perquery time`.
#[derive(Args, Debug)]
pub struct Time {
    /// Digits after the point
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u8).range(3..=9))]
    pub precision: u8,
    /// The client and its arguments: mariadb, mysql, or what else counts with times(2)
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// `perquery pin`.
#[derive(Args, Debug)]
pub struct Pin {
    /// How: nodelete, skip, or preload=PATH[:PATH…]
    ///
    /// nodelete closes the object and leaves it mapped; its destructors run at the program's end. skip does not close
    /// it at all. preload=PATH loads the plugin before the program starts, so that it never goes.
    #[arg(long, value_name = "HOW", default_value = "nodelete", value_parser = keep)]
    pub keep: Keep,
    /// Keep only objects whose path or file name fits the pattern: 'ha_*.so'
    #[arg(long, value_name = "GLOB")]
    pub only: Option<OsString>,
    /// Print suppressions for valgrind, and end
    #[arg(long)]
    pub valgrind_suppressions: bool,
    /// The program and its arguments; valgrind may be among them
    #[arg(last = true, required_unless_present = "valgrind_suppressions", value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// How an unloaded plugin stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Closed, but made undeletable before.
    NoDelete,
    /// Not closed.
    Skip,
    /// Loaded before the program starts.
    Preload(Vec<PathBuf>),
}

/// `perquery completion`.
#[derive(Args, Debug)]
pub struct Completion {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

fn key(name: &str) -> Result<Key, String> {
    Key::from_name(name).ok_or_else(|| {
        "use one or more of digest, user, database, application, client, session, server, error".to_owned()
    })
}

fn keep(how: &str) -> Result<Keep, String> {
    match how.split_once('=') {
        None if how == "nodelete" => Ok(Keep::NoDelete),
        None if how == "skip" => Ok(Keep::Skip),
        Some(("preload", paths)) if !paths.is_empty() => {
            Ok(Keep::Preload(paths.split(':').filter(|path| !path.is_empty()).map(PathBuf::from).collect()))
        }
        _ => Err("use nodelete, skip or preload=PATH[:PATH…]".to_owned()),
    }
}

fn events(list: &str) -> Result<Selection, String> {
    parse_events(list).map_err(|e| e.to_string())
}

/// Seconds, or a number with a unit.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "write seconds, or a number with ms, s, m or h: 10, 500ms, 2m".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "" | "s" => number,
        "ms" => number / 1e3,
        "m" | "min" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(wrong()),
    };
    if !(0.001..=31_536_000.0).contains(&seconds) {
        return Err("write a time between 1ms and 8760h".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn plugins_are_kept_in_three_ways() {
        assert_eq!(keep("nodelete"), Ok(Keep::NoDelete));
        assert_eq!(keep("skip"), Ok(Keep::Skip));
        assert_eq!(keep("preload=a.so:b.so"), Ok(Keep::Preload(vec!["a.so".into(), "b.so".into()])));
        for nonsense in ["", "preload", "preload=", "skip=1", "delete"] {
            assert!(keep(nonsense).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn durations_have_units_and_nonsense_says_what_to_write() {
        assert_eq!(duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for nonsense in ["", "x", "5x", "-1", "0", "1e99", "nan", "99999h"] {
            assert!(duration(nonsense).is_err(), "{nonsense}");
        }
    }
}
