//! Aggregation: executions in, rows by key out, in bounded memory.
//!
//! An execution costs a look-up of its row and a handful of additions. Rows are capped: what comes after
//! [`Limits::rows`] different keys is counted in one row, `(other)`, and reports say so.

pub mod distribution;
pub mod key;
pub mod parts;
pub mod row;
pub mod table;
#[cfg(test)]
pub(crate) mod tests;
mod who;

pub use key::Key;
pub use row::{Row, Tally};
pub use who::Who;

use crate::digest::{Digest, UNKNOWN_TEXT};
use parts::{Home, Parts, RowNumber};
use perquery_agent::counters::{COUNTERS_MAX, CounterId};
use perquery_agent::segment::record::{
    CHOICE_SLICE_NS, Execution, FLAG_CHOSEN_BY_SLICE, FLAG_CUT_OFF, FLAG_LATE_START, FLAG_OUTCOME_UNKNOWN,
    KIND_EXECUTION, KIND_SLICE, KIND_WORKER,
};
use std::sync::Arc;
use table::{HashedMap, Strings, combined};

/// The key of what did not get a row of its own.
pub const OTHER: &str = "(other)";

/// Bounds of an aggregator's memory.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Different keys; one more row takes the rest.
    pub rows: usize,
    /// Bytes of statements in keys. Ordinary ones never get there; hostile ones do.
    pub text_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { rows: 20_000, text_bytes: 32 << 20 }
    }
}

/// An execution with its hashes resolved.
#[derive(Clone, Copy)]
pub struct Sample<'a> {
    /// The record. Slices and workers need nothing else.
    pub execution: &'a Execution,
    /// Its statement.
    pub digest: &'a Arc<Digest>,
    /// A batch's statements and how often each was executed.
    pub members: &'a [(Arc<Digest>, u32)],
    /// Its session's identity.
    pub who: &'a Arc<Who>,
    /// Which of the recording's servers, from 0.
    pub server: u16,
}

/// Sums over all executions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// All of them.
    pub executions: u64,
    /// Those whose statement is not known.
    pub unknown_text: u64,
    /// Those whose rows and error are not known, because the response was compressed.
    pub unknown_outcome: u64,
    /// Those that ran already when capture was switched on.
    pub late_start: u64,
    /// Those that ended with their session or process.
    pub cut_off: u64,
    /// Those counted in the row `(other)`.
    pub in_overflow: u64,
    /// Slices and workers whose execution was not found.
    pub unmatched_slices: u64,
    /// Start of the first, CLOCK_MONOTONIC ns; 0 without executions.
    pub first_start_ns: u64,
    /// End of the last.
    pub last_end_ns: u64,
}

/// Adds executions up by key.
pub struct Aggregator {
    keys: Vec<Key>,
    limits: Limits,
    rows: Vec<Row>,
    numbers: HashedMap<RowNumber>,
    overflow: Option<RowNumber>,
    strings: Strings,
    slots: Vec<CounterId>,
    slot_of: [Option<u8>; COUNTERS_MAX],
    parts: Parts,
    totals: Totals,
    text_bytes: usize,
    unknown: u64,
}

impl Aggregator {
    /// Rows will be by `keys`, all of them together; duplicates count once. Without keys there is one row.
    pub fn new(keys: &[Key], limits: Limits) -> Self {
        let mut different: Vec<Key> = Vec::new();
        keys.iter().for_each(|key| {
            if !different.contains(key) {
                different.push(*key)
            }
        });
        Aggregator {
            keys: different,
            limits,
            rows: Vec::new(),
            numbers: HashedMap::default(),
            overflow: None,
            strings: Strings::default(),
            slots: Vec::new(),
            slot_of: [None; COUNTERS_MAX],
            parts: Parts::default(),
            totals: Totals::default(),
            text_bytes: 0,
            unknown: Digest::of(UNKNOWN_TEXT).id,
        }
    }

    /// Adds an execution, or a part of one.
    pub fn add(&mut self, sample: &Sample) {
        let e = sample.execution;
        match e.kind {
            KIND_EXECUTION => self.execution(sample),
            KIND_SLICE => {
                let home = self.parts.slice(sample.server, e);
                self.part(home, e);
            }
            KIND_WORKER => {
                let home = self.parts.worker(sample.server, e);
                self.part(home, e);
            }
            _ => {}
        }
    }

    /// The sums so far.
    pub fn totals(&self) -> Totals {
        Totals { unmatched_slices: self.parts.unmatched(), ..self.totals }
    }

    /// The bounds.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// True for the row of the keys that did not get one of their own.
    pub fn is_overflow(&self, index: usize) -> bool {
        self.overflow.is_some_and(|number| number as usize == index)
    }

    /// What the rows are by.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The rows, in no order.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Numbers of the counters that any execution had, in the order of first appearance.
    pub fn counters(&self) -> &[CounterId] {
        &self.slots
    }

    /// A counter's total in `row`; `None` where none of its executions was counted.
    pub fn tally<'r>(&self, row: &'r Row, counter: CounterId) -> Option<&'r Tally> {
        let slot = (*self.slot_of.get(counter as usize)?)?;
        row.tallies.get(slot as usize).filter(|tally| tally.counted > 0)
    }

    /// The part of `row`'s key that `key` names, for [`Key::Server`] the server's number; `None` for a row of others.
    pub fn label<'r>(&'r self, row: &'r Row, key: Key) -> Option<key::Label<'r>> {
        let index = self.keys.iter().position(|known| *known == key)?;
        let part = *row.key.get(index)?;
        Some(match key {
            Key::Digest => key::Label::Digest(row.digest.as_ref()?),
            Key::Server => key::Label::Server(part as u16),
            _ => key::Label::Text(self.strings.string(part as u32)),
        })
    }

    /// An empty row of others, to fold rows into.
    pub fn empty_row() -> Row {
        Row::new(Box::default(), None)
    }

    fn execution(&mut self, sample: &Sample) {
        let e = sample.execution;
        self.total(sample);
        let number = self.row_number(sample);
        let late = self.parts.take(sample.server, e);
        self.parts.remember(sample.server, e, number);
        let is_overflow = self.overflow == Some(number);
        self.totals.in_overflow += u64::from(is_overflow);
        let Some(row) = self.rows.get_mut(number as usize) else { return };
        row.add(e);
        if !is_overflow && !sample.members.is_empty() {
            row.add_members(sample.members);
        }
        let chosen_with = if e.flags & FLAG_CHOSEN_BY_SLICE != 0 {
            combined(&[sample.server.into(), e.tid.into(), e.start_ns / CHOICE_SLICE_NS]) | 1
        } else {
            0
        };
        let mut known = e.counts.known;
        while known != 0 {
            let id = known.trailing_zeros() as CounterId;
            known &= known - 1;
            let Some(value) = e.counts.get(id) else { continue };
            let added = late.iter().flatten().find(|(part, _)| *part == id).map_or(0, |(_, value)| *value);
            let slot = slot(&mut self.slots, &mut self.slot_of, id);
            // What is known whenever it can be known for free was not chosen: it stands for itself.
            let (weight, cluster) = if e.exact & (1 << id) != 0 { (1.0, 0) } else { (e.weight, chosen_with) };
            row.count(slot, value.saturating_add(added), weight, e.counts.scaled & (1 << id) != 0, cluster);
        }
    }

    fn total(&mut self, sample: &Sample) {
        let e = sample.execution;
        let totals = &mut self.totals;
        let unknown =
            sample.digest.id == self.unknown || sample.digest.members.iter().any(|m| m.id == self.unknown);
        totals.unknown_text += u64::from(unknown);
        totals.unknown_outcome += u64::from(e.flags & FLAG_OUTCOME_UNKNOWN != 0);
        totals.late_start += u64::from(e.flags & FLAG_LATE_START != 0);
        totals.cut_off += u64::from(e.flags & FLAG_CUT_OFF != 0);
        let first = if totals.executions == 0 { u64::MAX } else { totals.first_start_ns };
        totals.first_start_ns = first.min(e.start_ns);
        totals.last_end_ns = totals.last_end_ns.max(e.start_ns.saturating_add(e.latency_ns));
        totals.executions += 1;
    }

    fn part(&mut self, home: Home, part: &Execution) {
        let Home::Row(number) = home else { return };
        let Some(row) = self.rows.get_mut(number as usize) else { return };
        for (id, value) in parts::values_of(part) {
            row.count_part(slot(&mut self.slots, &mut self.slot_of, id), value, part.weight);
        }
    }

    fn row_number(&mut self, sample: &Sample) -> RowNumber {
        let mut parts = [0u64; Key::ALL.len()];
        for (part, key) in parts.iter_mut().zip(&self.keys) {
            *part = key.part(sample, &mut self.strings);
        }
        let parts = parts.get(..self.keys.len()).unwrap_or(&[]);
        let mut hash = combined(parts);
        while let Some(number) = self.numbers.get(&hash) {
            if self.rows.get(*number as usize).is_some_and(|row| *row.key == *parts) {
                return *number;
            }
            hash = hash.wrapping_add(1);
        }
        let next = self.rows.len() as RowNumber;
        if self.rows.len() >= self.limits.rows || self.text_bytes >= self.limits.text_bytes {
            return *self.overflow.get_or_insert_with(|| {
                self.rows.push(Self::empty_row());
                next
            });
        }
        let digest = self.keys.contains(&Key::Digest).then(|| sample.digest.clone());
        // Counted once for each row, shared or not: an upper bound.
        self.text_bytes += digest.iter().map(|d| d.text.len()).sum::<usize>()
            + sample.members.iter().map(|(member, _)| member.text.len()).sum::<usize>();
        self.rows.push(Row::new(parts.into(), digest));
        self.numbers.insert(hash, next);
        next
    }
}

fn slot(slots: &mut Vec<CounterId>, slot_of: &mut [Option<u8>; COUNTERS_MAX], id: CounterId) -> usize {
    match slot_of.get_mut(id as usize) {
        Some(Some(slot)) => *slot as usize,
        Some(empty) => {
            *empty = Some(slots.len() as u8);
            slots.push(id);
            slots.len() - 1
        }
        None => 0,
    }
}
