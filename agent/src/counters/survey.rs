//! Which counters this process can have, found out by really opening each.

use super::parse::hw_cache_events;
use super::{
    CUSTOM_FIRST, CounterId, CustomEvent, Source, TABLE, ThreadCounters, Unavailable, UserSpaceReads, Wanted,
    probe_seccomp,
};
use std::borrow::ToOwned;
use std::string::String;
use std::vec::Vec;

/// Whether a counter can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// It can.
    Available,
    /// In user mode only: kernel mode is not permitted.
    UserModeOnly,
    /// It can't.
    Unavailable(Unavailable),
}

/// What was found out about one counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// Its key in reports.
    pub name: String,
    /// What `-e` calls it.
    pub event_names: Vec<String>,
    /// "ns", or "" for a count.
    pub unit: &'static str,
    /// Where it comes from.
    pub source: Source,
    /// What it counts and what makes it wrong.
    pub about: &'static str,
    /// Whether it can be had, by the calling thread, now.
    pub availability: Availability,
}

/// Opens and closes one counter on the calling thread.
fn try_one(wanted: &Wanted, id: CounterId) -> (Availability, UserSpaceReads) {
    let mut counters = ThreadCounters::new();
    counters.prepare(wanted, 1);
    let mut reading = super::Reading::new();
    counters.read(&mut reading);
    let code = counters.unavailable().get(usize::from(id)).copied().unwrap_or(0);
    let availability = match Unavailable::from_code(code) {
        Some(reason) => Availability::Unavailable(reason),
        None if counters.user_mode_only() & (1 << id) != 0 => Availability::UserModeOnly,
        None => Availability::Available,
    };
    let user_space = match counters.user_space_reads() {
        UserSpaceReads::Used if !counters.reads_in_user_space() => UserSpaceReads::NotOffered,
        other => other,
    };
    counters.release();
    (availability, user_space)
}

/// Tries every built-in counter and every hardware-cache event.
pub fn survey() -> Vec<Survey> {
    // Its verdict shows as the reason of every counter that it forbids.
    let _ = probe_seccomp();
    let mut found = Vec::new();
    for row in TABLE {
        let wanted = Wanted { mask: 1 << row.id, ..Wanted::default() };
        let mut event_names: Vec<String> = row.event_names.iter().map(|name| (*name).to_owned()).collect();
        if event_names.is_empty() {
            event_names.push(row.name.to_owned());
        }
        found.push(Survey {
            name: row.name.to_owned(),
            event_names,
            unit: row.unit,
            source: row.source,
            about: row.about,
            availability: try_one(&wanted, row.id).0,
        });
    }
    for cache in hw_cache_events() {
        let mut wanted = Wanted { mask: 1 << CUSTOM_FIRST, ..Wanted::default() };
        if let Some(slot) = wanted.custom.first_mut() {
            *slot = CustomEvent { ..cache.event };
        }
        found.push(Survey {
            event_names: [cache.name.clone()].into(),
            name: cache.name,
            unit: "",
            source: Source::PerfHardware,
            about: "Operations or misses of one cache, as the kernel maps them to the processor's events.",
            availability: try_one(&wanted, CUSTOM_FIRST).0,
        });
    }
    found
}

/// Whether counters can be read in user space here: asked of `instructions`.
pub fn user_space_reads() -> UserSpaceReads {
    let _ = probe_seccomp();
    const INSTRUCTIONS: CounterId = 6;
    let wanted = Wanted { mask: 1 << INSTRUCTIONS, user_space_reads: 1, ..Wanted::default() };
    try_one(&wanted, INSTRUCTIONS).1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_survey_answers_for_every_counter_and_the_cheap_ones_are_always_there() {
        let found = survey();
        assert!(found.len() > TABLE.len());
        for one in found.iter().take(5) {
            assert_eq!(one.availability, Availability::Available, "{}", one.name);
        }
        for one in &found {
            assert!(!one.event_names.is_empty(), "{}", one.name);
            assert!(super::super::parse_events(&one.event_names[0]).is_ok(), "{}", one.name);
        }
    }
}
