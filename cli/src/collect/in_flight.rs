//! Queries that were under way when the process that ran them ended.

use super::resolve::Resolver;
use crate::digest::{normalized, safe_text};
use crate::recording::InFlight;
use perquery_agent::segment::reader::Mapping;
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use std::collections::HashSet;

/// Shown at most; the rest of a server with thousands of sessions is counted in the warning only.
const SHOWN_MAX: usize = 512;

/// True when there is no process `pid` any more.
pub fn process_is_gone(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return true };
    test_kill_process(pid) == Err(Errno::SRCH)
}

/// Sessions that run a captured query now.
pub fn still_running(mapping: &Mapping) -> usize {
    let Ok(segment) = mapping.segment() else { return 0 };
    (0..segment.shape().sessions)
        .filter_map(|n| segment.session(n))
        .filter(|slot| slot.owner_pid() != 0)
        .filter_map(|slot| slot.snapshot(&segment))
        .filter(|seen| seen.start_ns != 0 && !process_is_gone(seen.pid))
        .count()
}

/// The session slots, looked at now and then.
#[derive(Default)]
pub struct Slots {
    reported: HashSet<(u64, u64)>,
}

impl Slots {
    /// The queries in flight of processes that are gone, each reported once.
    pub fn look(
        &mut self,
        mapping: &Mapping,
        resolver: &mut Resolver,
        now_ns: u64,
        gone: impl Fn(u32) -> bool,
    ) -> Vec<InFlight> {
        let mut found = Vec::new();
        let Ok(segment) = mapping.segment() else { return found };
        for n in 0..segment.shape().sessions {
            let Some(slot) = segment.session(n) else { continue };
            if slot.owner_pid() == 0 {
                continue;
            }
            let Some(seen) = slot.snapshot(&segment) else { continue };
            let key = (seen.uid, seen.start_ns);
            if seen.start_ns == 0
                || self.reported.contains(&key)
                || !gone(seen.pid)
                || found.len() >= SHOWN_MAX
            {
                continue;
            }
            self.reported.insert(key);
            let who = resolver.who(seen.identity_hash);
            let stored = if seen.text_hash == 0 { None } else { resolver.text(seen.text_hash) };
            let text = match &stored {
                Some(text) => &text[..],
                None => seen.prefix.get(..seen.prefix_len).unwrap_or(&[]),
            };
            let full_len = seen.text_len as usize;
            let running_ns = now_ns.saturating_sub(seen.start_ns);
            let shown = if text.is_empty() {
                "<unknown text>".to_owned()
            } else {
                normalized(seen.dialect, text, full_len)
            };
            let mut query = InFlight::of(&who, 0, seen.uid, running_ns, shown);
            query.connection_id = seen.connection_id;
            query.sent = (!text.is_empty()).then(|| safe_text(seen.dialect, text, full_len));
            found.push(query);
        }
        found
    }
}
