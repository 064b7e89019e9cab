//! What rows are sorted by: `--sort`.

use crate::aggregate::{Aggregator, Row};
use crate::recording::CounterMeta;
use perquery_agent::counters::CounterId;
use std::fmt;

/// A column to sort by, the largest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SortKey {
    /// The sum of latencies: what users wait for.
    #[default]
    Latency,
    /// Executions.
    Calls,
    /// The mean latency.
    Mean,
    /// The latency that 95 % do not exceed.
    P95,
    /// The latency that 99 % do not exceed.
    P99,
    /// The longest latency.
    Max,
    /// Failed executions.
    Errors,
    /// Rows returned.
    Rows,
    /// Rows changed.
    RowsAffected,
    /// Bytes received.
    BytesIn,
    /// Bytes sent.
    BytesOut,
    /// A counter's sum, by its name.
    Counter(String),
}

/// All keys but the counters.
const NAMES: &[(&str, SortKey)] = &[
    ("latency", SortKey::Latency),
    ("calls", SortKey::Calls),
    ("mean", SortKey::Mean),
    ("p95", SortKey::P95),
    ("p99", SortKey::P99),
    ("max", SortKey::Max),
    ("errors", SortKey::Errors),
    ("rows", SortKey::Rows),
    ("rows_affected", SortKey::RowsAffected),
    ("bytes_in", SortKey::BytesIn),
    ("bytes_out", SortKey::BytesOut),
];

/// There is nothing of that name to sort by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SortError {
    name: String,
    known: Vec<String>,
}

impl fmt::Display for SortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot sort by {:?}: use one of {}", self.name, self.known.join(", "))
    }
}

impl std::error::Error for SortError {}

impl SortKey {
    /// The key called `name`; any other name is a counter's, of which only the recording knows whether it exists.
    pub fn from_name(name: &str) -> Self {
        NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .map_or_else(|| SortKey::Counter(name.to_owned()), |(_, key)| key.clone())
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        match self {
            SortKey::Counter(name) => name,
            other => NAMES.iter().find(|(_, key)| key == other).map_or("", |(name, _)| name),
        }
    }

    /// The key with its counter looked up.
    pub(super) fn resolve(&self, counters: &[CounterMeta]) -> Result<Resolved<'_>, SortError> {
        let SortKey::Counter(name) = self else { return Ok(Resolved { key: self, counter: None }) };
        match counters.iter().find(|c| c.name == *name && c.unavailable.is_none()) {
            Some(counter) => Ok(Resolved { key: self, counter: Some(counter.id) }),
            None => {
                let available = counters.iter().filter(|c| c.unavailable.is_none()).map(|c| c.name.clone());
                let known = NAMES.iter().map(|(name, _)| (*name).to_owned()).chain(available).collect();
                Err(SortError { name: name.clone(), known })
            }
        }
    }
}

pub(super) struct Resolved<'a> {
    key: &'a SortKey,
    counter: Option<CounterId>,
}

impl Resolved<'_> {
    pub(super) fn value(&self, aggregator: &Aggregator, row: &Row) -> f64 {
        let whole = match self.key {
            SortKey::Latency => row.latency.sum_ns(),
            SortKey::Calls => row.calls,
            SortKey::Mean => row.latency.mean_ns(),
            SortKey::P95 => row.latency.quantile_ns(0.95),
            SortKey::P99 => row.latency.quantile_ns(0.99),
            SortKey::Max => row.latency.max_ns(),
            SortKey::Errors => row.errors,
            SortKey::Rows => row.rows_returned,
            SortKey::RowsAffected => row.rows_affected,
            SortKey::BytesIn => row.bytes_in,
            SortKey::BytesOut => row.bytes_out,
            SortKey::Counter(_) => {
                let tally = self.counter.and_then(|counter| aggregator.tally(row, counter));
                return tally.map_or(0.0, |tally| tally.sum);
            }
        };
        whole as f64
    }
}
