//! From a recording into an aggregator.

use super::{InFlight, Item, Losses, Meta, ReadError, Reader};
use crate::aggregate::Aggregator;
use crate::warnings::Warning;
use std::io::Read;

/// Queries in flight, and warnings, kept of a recording; more makes no sense and may be hostile.
const LIST_MAX: usize = 512;

/// What a recording says besides its executions.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// What was recorded.
    pub meta: Meta,
    /// The losses at its end.
    pub losses: Losses,
    /// The queries that were under way when the server ended.
    pub in_flight: Vec<InFlight>,
    /// What was recorded as a warning, and what could not be read.
    pub warnings: Vec<Warning>,
    /// For how long capture was on; `None` when the recording has no end.
    pub duration_ns: Option<u64>,
}

/// Reads the recording `from` and adds its executions to `aggregator`.
pub fn load(from: impl Read, aggregator: &mut Aggregator) -> Result<Loaded, ReadError> {
    let mut reader = Reader::new(from)?;
    let mut loaded = Loaded::default();
    while let Some(item) = reader.next()? {
        match item {
            Item::Execution(sample) => aggregator.add(&sample),
            Item::Meta(meta) => loaded.meta = meta,
            Item::Losses(losses) => loaded.losses = losses,
            Item::InFlight(query) if loaded.in_flight.len() < LIST_MAX => loaded.in_flight.push(query),
            Item::Warning(warning) if loaded.warnings.len() < LIST_MAX => loaded.warnings.push(warning),
            Item::InFlight(_) | Item::Warning(_) => {}
            Item::End(end) => loaded.duration_ns = Some(end.duration_ns),
        }
    }
    loaded.warnings.extend(reader.warnings());
    Ok(loaded)
}
