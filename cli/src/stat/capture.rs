//! Receives the executions of one session one by one, with what other threads and workers contributed to each.

use crate::aggregate::Sample;
use crate::aggregate::parts::{Home, Parts, RowNumber, values_of};
use crate::aggregate::row::Values;
use crate::collect::{Claim, Drain, Message, Resolver, counter_metas, losses, note_unavailable};
use crate::error::{Error, Result};
use crate::recording::{CounterMeta, Losses};
use perquery_agent::counters::{CLIENT_WAIT_NS, Selection};
use perquery_agent::protocol::Command;
use perquery_agent::segment::reader::{Mapping, decode_all, now_ns};
use perquery_agent::segment::record::{
    Execution, FLAG_CUT_OFF, FLAG_LATE_START, KIND_EXECUTION, KIND_SLICE, KIND_WORKER,
};
use std::sync::Arc;

/// An execution as the server recorded it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// CLOCK_MONOTONIC of this host.
    pub start_ns: u64,
    /// From the command's last byte to the server's being ready for the next one.
    pub latency_ns: u64,
    /// Rows sent to the client.
    pub rows_returned: u64,
    /// Hash of the normalised statement.
    pub digest: u64,
    /// The counters that were read.
    pub values: Values,
}

/// What a capture brought.
pub struct Captured {
    /// The executions in order of their start.
    pub seen: Vec<Seen>,
    /// All counters that were asked for, also those that are not available.
    pub counters: Vec<CounterMeta>,
    /// Records that are missing.
    pub dropped: u64,
    /// Slices and workers whose execution was not found.
    pub unmatched: u64,
    /// Bit n: counter n was multiplexed at times, and its values are scaled.
    pub scaled: u64,
}

/// Capture, on.
pub struct Capture {
    mapping: Arc<Mapping>,
    selection: Selection,
    before: Losses,
    drain: Drain,
    side: Side,
    // Dropped last: nobody else may switch anything before we have switched off.
    claim: Claim,
}

impl Capture {
    /// Switches capture on in the server with process `pid` for the session `only_connection`; where that is 0, a
    /// launcher has switched it on for all.
    pub fn start(mapping: Mapping, pid: u32, selection: &Selection, only_connection: u64) -> Result<Capture> {
        let mapping = Arc::new(mapping);
        let selection = selection.clone();
        let claim = Claim::take(Arc::clone(&mapping), pid)?;
        let before = losses(&mapping)?;
        if only_connection != 0 {
            let segment = mapping.segment().map_err(|e| Error::new(e.to_string()))?;
            // What a killed collector left on would go on for everybody.
            segment.control().switch_off();
            segment.control().set_only_connection(only_connection);
            segment.control().switch_on(&selection.wanted, now_ns());
        }
        let drain = Drain::start(Arc::clone(&mapping), selection.wanted, true);
        let side = Side {
            resolver: Resolver::new(Arc::clone(&mapping)),
            parts: Parts::default(),
            seen: Vec::new(),
            only_connection,
            broken: 0,
            scaled: 0,
        };
        Ok(Capture { mapping, selection, before, drain, side, claim })
    }

    /// Takes what has come so far, so that nothing piles up in the server.
    pub fn take(&mut self) {
        while let Ok(Message(words)) = self.drain.messages().try_recv() {
            self.side.take(&words);
        }
    }

    /// Switches capture off and takes the rest.
    pub fn finish(self) -> Result<Captured> {
        let Capture { mapping, selection, before, drain, mut side, claim } = self;
        drain.stop();
        for Message(words) in drain.messages() {
            side.take(&words);
        }
        let drained = drain.join();
        drop(claim);
        let after = losses(&mapping)?;
        let mut counters = counter_metas(&selection);
        counters.retain(|counter| counter.id != CLIENT_WAIT_NS);
        note_unavailable(&mut counters, &mapping, &drained.lanes);
        side.seen.sort_by_key(|seen| seen.start_ns);
        Ok(Captured {
            counters,
            dropped: after.dropped.saturating_sub(before.dropped) + drained.corrupt + side.broken,
            unmatched: side.parts.unmatched(),
            scaled: side.scaled,
            seen: side.seen,
        })
    }
}

/// Words in, executions out.
struct Side {
    resolver: Resolver,
    parts: Parts,
    seen: Vec<Seen>,
    only_connection: u64,
    broken: u64,
    scaled: u64,
}

impl Side {
    fn take(&mut self, words: &[u64]) {
        let Side { resolver, parts, seen, only_connection, broken, scaled } = self;
        decode_all(
            words,
            |mut execution| match execution.kind {
                KIND_EXECUTION if is_statement(&execution) => {
                    *scaled |= execution.counts.scaled & execution.counts.known;
                    resolver.with(&mut execution, |sample| seen.push(found(sample, parts, seen.len())));
                }
                KIND_SLICE => {
                    let home = parts.slice(0, &execution);
                    add_part(seen, home, &execution);
                }
                // Parallel workers of other sessions are recorded too.
                KIND_WORKER if *only_connection == 0 || execution.session_uid == *only_connection => {
                    let home = parts.worker(0, &execution);
                    add_part(seen, home, &execution);
                }
                _ => {}
            },
            || *broken += 1,
        );
    }
}

/// Neither a ping nor a preparation, and seen from its start to its end.
fn is_statement(execution: &Execution) -> bool {
    matches!(
        execution.command,
        Command::Query | Command::Execute | Command::Batch | Command::FunctionCall | Command::Sqlite
    ) && execution.flags & (FLAG_CUT_OFF | FLAG_LATE_START) == 0
}

fn found(sample: &Sample, parts: &mut Parts, index: usize) -> Seen {
    let e = sample.execution;
    let mut values = values_of(e);
    add(&mut values, &parts.take(0, e).unwrap_or_default());
    parts.remember(0, e, RowNumber::try_from(index).unwrap_or(RowNumber::MAX));
    Seen {
        start_ns: e.start_ns,
        latency_ns: e.latency_ns,
        rows_returned: e.rows_returned,
        digest: sample.digest.id,
        values,
    }
}

fn add_part(seen: &mut [Seen], home: Home, part: &Execution) {
    if let Home::Row(index) = home
        && let Some(execution) = seen.get_mut(index as usize)
    {
        add(&mut execution.values, &values_of(part));
    }
}

/// Adds to what is known; a counter that only a part has says nothing about the whole.
fn add(to: &mut Values, part: &Values) {
    for (id, sum) in to {
        if let Some((_, value)) = part.iter().find(|(known, _)| known == id) {
            *sum = sum.saturating_add(*value);
        }
    }
}
