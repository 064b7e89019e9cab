//! A row of a report: what all executions with the same key cost together.

use super::distribution::Distribution;
use crate::digest::Digest;
use perquery_agent::counters::CounterId;
use perquery_agent::segment::record::{Execution, FLAG_FAILED};
use std::sync::Arc;

/// A counter's total over the executions of a row.
///
/// Each execution that was counted stands for `weight` = 1/p executions, p being the chance that it was chosen
/// (Horvitz–Thompson): the sum is unbiased, and its variance is estimated from the same numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// Sum of value × weight.
    pub sum: f64,
    /// Sum of weights: how many executions the counted ones stand for.
    pub weight: f64,
    /// Sum of weight × (weight − 1) × value²: the variance of `sum`.
    pub variance: f64,
    /// Executions that were counted.
    pub counted: u64,
    /// Some values were multiplexed and scaled.
    pub scaled: bool,
    /// The slice of time that the last value was chosen with, and its values' sum so far.
    cluster: (u64, f64),
}

impl Tally {
    fn add(&mut self, value: u64, weight: f64, scaled: bool, cluster: u64) {
        self.counted += 1;
        self.weight += weight;
        self.scaled |= scaled;
        if cluster == 0 {
            self.add_part(value, weight);
            return;
        }
        // Chosen together with the others of its slice: the slice's sum is what varies, not each value.
        if self.cluster.0 != cluster {
            self.cluster = (cluster, 0.0);
        }
        let (before, value) = (self.cluster.1, value as f64);
        let after = before + value;
        self.cluster.1 = after;
        self.sum += value * weight;
        self.variance += weight * (weight - 1.0) * (after * after - before * before);
    }

    /// Adds a value to an execution that is counted already.
    fn add_part(&mut self, value: u64, weight: f64) {
        let value = value as f64;
        self.sum += value * weight;
        self.variance += weight * (weight - 1.0) * value * value;
    }

    fn merge(&mut self, other: &Tally) {
        self.sum += other.sum;
        self.weight += other.weight;
        self.variance += other.variance;
        self.counted += other.counted;
        self.scaled |= other.scaled;
    }

    /// Per execution; `None` when none was counted.
    pub fn mean(&self) -> Option<f64> {
        (self.counted > 0).then(|| self.sum / self.weight)
    }

    /// The standard error of `sum`; 0 when every execution was counted.
    pub fn stderr(&self) -> f64 {
        self.variance.max(0.0).sqrt()
    }
}

/// Values of counters, only the known ones.
pub type Values = Vec<(CounterId, u64)>;

/// What the executions of a key cost.
pub struct Row {
    /// The key's parts; what they mean is known to the aggregator.
    pub(super) key: Box<[u64]>,
    /// The statement, where it is part of the key.
    pub digest: Option<Arc<Digest>>,
    /// Executions: units of work of the server.
    pub calls: u64,
    /// Statements in them.
    pub statements: u64,
    /// Calls that failed.
    pub errors: u64,
    /// Rows sent to clients.
    pub rows_returned: u64,
    /// Rows changed.
    pub rows_affected: u64,
    /// Protocol bytes received.
    pub bytes_in: u64,
    /// Protocol bytes sent.
    pub bytes_out: u64,
    /// From the command's last byte to being ready for the next.
    pub latency: Distribution,
    /// From the command's last byte to the first byte of the response.
    pub first_byte: Distribution,
    /// By slot of the aggregator's counters.
    pub(super) tallies: Vec<Tally>,
    /// A batch's statements and how often they were executed.
    pub members: Vec<(Arc<Digest>, u64)>,
}

impl Row {
    pub(super) fn new(key: Box<[u64]>, digest: Option<Arc<Digest>>) -> Self {
        Row {
            key,
            digest,
            calls: 0,
            statements: 0,
            errors: 0,
            rows_returned: 0,
            rows_affected: 0,
            bytes_in: 0,
            bytes_out: 0,
            latency: Distribution::new(2),
            first_byte: Distribution::new(1),
            tallies: Vec::new(),
            members: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, e: &Execution) {
        self.calls += 1;
        self.statements = self.statements.saturating_add(e.statements.into());
        self.errors += u64::from(e.flags & FLAG_FAILED != 0);
        self.rows_returned = self.rows_returned.saturating_add(e.rows_returned);
        self.rows_affected = self.rows_affected.saturating_add(e.rows_affected);
        self.bytes_in = self.bytes_in.saturating_add(e.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(e.bytes_out);
        self.latency.add(e.latency_ns);
        if let Some(first_byte_ns) = e.first_byte_ns {
            self.first_byte.add(first_byte_ns);
        }
    }

    pub(super) fn count(&mut self, slot: usize, value: u64, weight: f64, scaled: bool, cluster: u64) {
        if self.tallies.len() <= slot {
            self.tallies.resize(slot + 1, Tally::default());
        }
        if let Some(tally) = self.tallies.get_mut(slot) {
            tally.add(value, weight, scaled, cluster);
        }
    }

    pub(super) fn count_part(&mut self, slot: usize, value: u64, weight: f64) {
        if let Some(tally) = self.tallies.get_mut(slot)
            && tally.counted > 0
        {
            tally.add_part(value, weight);
        }
    }

    pub(super) fn add_members(&mut self, members: &[(Arc<Digest>, u32)]) {
        for (digest, executions) in members {
            match self.members.iter_mut().find(|(known, _)| known.id == digest.id) {
                Some((_, sum)) => *sum = sum.saturating_add((*executions).into()),
                None => self.members.push((digest.clone(), (*executions).into())),
            }
        }
    }

    /// Adds everything but the key and the batch's statements of `other`.
    pub fn merge(&mut self, other: &Row) {
        self.calls += other.calls;
        self.statements = self.statements.saturating_add(other.statements);
        self.errors += other.errors;
        self.rows_returned = self.rows_returned.saturating_add(other.rows_returned);
        self.rows_affected = self.rows_affected.saturating_add(other.rows_affected);
        self.bytes_in = self.bytes_in.saturating_add(other.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(other.bytes_out);
        self.latency.merge(&other.latency);
        self.first_byte.merge(&other.first_byte);
        if self.tallies.len() < other.tallies.len() {
            self.tallies.resize(other.tallies.len(), Tally::default());
        }
        for (to, from) in self.tallies.iter_mut().zip(&other.tallies) {
            to.merge(from);
        }
    }
}
