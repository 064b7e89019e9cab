//! Reports: rows in order, the rest folded into one, and every reason to doubt them.
//!
//! A [`Report`] is built from an [`Aggregator`] and what else was recorded; [`write()`] prints it for people, machines
//! or spreadsheets.

pub mod csv;
pub mod json;
mod sort;
#[cfg(test)]
mod tests;
pub mod text;

pub use sort::{SortError, SortKey};

use crate::aggregate::{Aggregator, Key, Limits, Row, Tally};
use crate::derived::Derived;
use crate::recording::{CounterMeta, InFlight, Loaded, Sampling, ServerInfo};
use crate::warnings::Warning;
use perquery_agent::counters::CounterId;
use std::io::{self, Write};

/// How a report is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text {
        /// Characters in a line.
        width: usize,
    },
    /// For machines; see [`json`].
    Json,
    /// For spreadsheets.
    Csv,
}

/// Rows that a report for people shows unless told otherwise.
pub const TOP_OF_TEXT: usize = 20;

/// What to show, and in which order.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The largest first.
    pub sort: SortKey,
    /// So many rows, the rest in one; `None`: all.
    pub top: Option<usize>,
}

/// How complete the numbers are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Completeness {
    /// Executions in the report.
    pub executions: u64,
    /// Executions that were dropped.
    pub dropped: u64,
    /// Sessions whose queries are missing.
    pub lost_sessions: u64,
    /// Executions whose statement is not known.
    pub unknown_text: u64,
}

/// What did not get a row of its own.
pub struct Others {
    /// Its sums.
    pub row: Row,
    /// How many rows it is the sum of; `None` where nobody counted them.
    pub rows: Option<usize>,
}

/// A report, ready to be printed.
pub struct Report {
    aggregator: Aggregator,
    order: Vec<usize>,
    /// The rest, shown last.
    pub others: Option<Others>,
    /// The servers.
    pub servers: Vec<ServerInfo>,
    /// The counters that were asked for, and those that executions had all the same.
    pub counters: Vec<CounterMeta>,
    /// When capture began.
    pub start_unix_ns: u64,
    /// For how long it was on.
    pub duration_ns: u64,
    /// What is missing.
    pub completeness: Completeness,
    /// What was counted, and the price.
    pub sampling: Sampling,
    /// Queries under way when the server ended.
    pub in_flight: Vec<InFlight>,
    /// Reasons to doubt the numbers.
    pub warnings: Vec<Warning>,
    /// What the rows are sorted by.
    pub sort: SortKey,
}

impl Report {
    /// Sorts and folds what `aggregator` has.
    pub fn new(aggregator: Aggregator, about: Loaded, options: &Options) -> Result<Self, SortError> {
        let totals = aggregator.totals();
        let counters = with_strays(about.meta.counters, aggregator.counters());
        let order_by = options.sort.resolve(&counters)?;
        let mut order: Vec<usize> = Vec::with_capacity(aggregator.rows().len());
        let mut others: Option<Others> = None;
        for (index, row) in aggregator.rows().iter().enumerate() {
            if aggregator.is_overflow(index) {
                fold(&mut others, row).rows = None;
            } else {
                order.push(index);
            }
        }
        let value =
            |index: &usize| aggregator.rows().get(*index).map_or(0.0, |row| order_by.value(&aggregator, row));
        order.sort_by(|a, b| value(b).total_cmp(&value(a)));
        if let Some(top) = options.top
            && order.len() > top
        {
            for row in order.drain(top..).filter_map(|index| aggregator.rows().get(index)) {
                let others = fold(&mut others, row);
                others.rows = others.rows.map(|rows| rows + 1);
            }
        }
        let since_start = totals.last_end_ns.saturating_sub(about.meta.start_monotonic_ns);
        let completeness = Completeness {
            executions: totals.executions,
            dropped: about.losses.dropped,
            lost_sessions: about.losses.lost_sessions,
            unknown_text: totals.unknown_text,
        };
        let mut report = Report {
            order,
            others,
            servers: about.meta.servers,
            counters,
            start_unix_ns: about.meta.start_unix_ns,
            duration_ns: about.duration_ns.unwrap_or(since_start),
            completeness,
            sampling: about.losses.sampling,
            in_flight: about.in_flight,
            warnings: about.warnings,
            sort: options.sort.clone(),
            aggregator,
        };
        let losses = about.losses;
        let mut warn = |when: bool, warning: Warning| {
            if when {
                report.warnings.push(warning)
            }
        };
        warn(losses.dropped > 0, Warning::DroppedRecords { records: losses.dropped });
        warn(
            losses.lost_sessions > 0,
            Warning::LostSessions { sessions: losses.lost_sessions, reasons: losses.lost_reasons },
        );
        warn(
            losses.evicted_statements > 0,
            Warning::StatementEvictions { statements: losses.evicted_statements },
        );
        warn(losses.gap_ns > 0, Warning::CaptureGap { duration_ns: losses.gap_ns });
        report.doubt();
        Ok(report)
    }

    /// What the rows are by.
    pub fn by(&self) -> &[Key] {
        self.aggregator.keys()
    }

    /// The rows in order, without the others.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.order.iter().filter_map(|index| self.aggregator.rows().get(*index))
    }

    /// Where the parts of keys and the totals of counters are found.
    pub fn aggregator(&self) -> &Aggregator {
        &self.aggregator
    }

    /// A quotient of two counters' means in `row`; `None` where one of them is not known.
    pub fn derived(&self, row: &Row, derived: &Derived) -> Option<f64> {
        derived.value(|counter| self.tally(row, counter.id)?.mean())
    }

    /// A counter's total in `row`.
    pub fn tally<'r>(&self, row: &'r Row, counter: CounterId) -> Option<&'r Tally> {
        self.aggregator.tally(row, counter)
    }

    /// The sum of all latencies, ns.
    pub fn latency_sum_ns(&self) -> u64 {
        let others = self.others.iter().map(|others| &others.row);
        self.rows().chain(others).fold(0u64, |sum, row| sum.saturating_add(row.latency.sum_ns()))
    }

    /// Adds the warnings that the numbers themselves call for.
    fn doubt(&mut self) {
        let totals = self.aggregator.totals();
        let names = |wanted: &dyn Fn(&CounterMeta) -> bool| -> Vec<String> {
            self.counters
                .iter()
                .filter(|c| c.unavailable.is_none() && wanted(c))
                .map(|c| c.name.clone())
                .collect()
        };
        let is_scaled = |c: &CounterMeta| {
            self.aggregator.rows().iter().any(|row| self.tally(row, c.id).is_some_and(|tally| tally.scaled))
        };
        let multiplexed = names(&is_scaled);
        let user_only = names(&|c| c.user_only);
        let found = [
            (totals.unknown_text > 0, Warning::UnknownText { executions: totals.unknown_text }),
            (totals.unknown_outcome > 0, Warning::CompressedOutcomes { executions: totals.unknown_outcome }),
            (totals.late_start > 0, Warning::LateStarts { executions: totals.late_start }),
            (totals.unmatched_slices > 0, Warning::UnmatchedSlices { slices: totals.unmatched_slices }),
            (
                totals.in_overflow > 0,
                Warning::RowOverflow { executions: totals.in_overflow, rows: self.aggregator.limits().rows },
            ),
            (!multiplexed.is_empty(), Warning::Multiplexed { counters: multiplexed }),
            (!user_only.is_empty(), Warning::UserModeOnly { counters: user_only }),
        ];
        self.warnings.extend(found.into_iter().filter(|(when, _)| *when).map(|(_, warning)| warning));
        if !self.in_flight.is_empty() && !self.warnings.iter().any(|w| w.code() == "server-died") {
            let pid = self.servers.first().map_or(0, |server| server.pid);
            self.warnings.push(Warning::ServerDied { pid, in_flight: self.in_flight.len() });
        }
    }
}

fn fold<'o>(others: &'o mut Option<Others>, row: &Row) -> &'o mut Others {
    let others = others.get_or_insert_with(|| Others { row: Aggregator::empty_row(), rows: Some(0) });
    others.row.merge(row);
    others
}

/// Counters that executions have although nobody said so get a name from their number.
fn with_strays(mut counters: Vec<CounterMeta>, seen: &[CounterId]) -> Vec<CounterMeta> {
    for id in seen {
        match counters.iter_mut().find(|c| c.id == *id) {
            Some(known) => known.unavailable = None,
            None => counters.push(CounterMeta {
                id: *id,
                name: format!("counter_{id}"),
                ..CounterMeta::default()
            }),
        }
    }
    counters
}

/// Reads the recording `from` and makes a report by `keys` of it.
pub fn from_recording(
    from: impl io::Read,
    keys: &[Key],
    options: &Options,
) -> Result<Report, Box<dyn std::error::Error>> {
    let mut aggregator = Aggregator::new(keys, Limits::default());
    let loaded = crate::recording::load(from, &mut aggregator)?;
    Ok(Report::new(aggregator, loaded, options)?)
}

/// Prints `report`. Whoever reads may stop reading: that is no error.
pub fn write(report: &Report, format: Format, mut out: impl Write) -> io::Result<()> {
    let written = match format {
        Format::Text { width } => text::write(report, width, &mut out),
        Format::Json => json::write(report, &mut out),
        Format::Csv => csv::write(report, &mut out),
    };
    match written.and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
