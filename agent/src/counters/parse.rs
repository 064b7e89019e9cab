//! The list of events after `-e`, in perf's spelling, into what the control page wants.

use super::table::{KIND_HARDWARE, KIND_HW_CACHE, KIND_RAW, KIND_SOFTWARE, TABLE, UserMode};
use super::{CUSTOM_FIRST, CUSTOM_MAX, CounterId, CustomEvent, Source, Wanted};
use std::borrow::ToOwned;
use std::string::{String, ToString};
use std::vec::Vec;
use std::{fmt, format};

/// Longest list of events that is looked at.
const LIST_MAX: usize = 4096;

/// What the user asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// For the control page. Only what was named: the cheap counters are the caller's to add.
    pub wanted: Wanted,
    /// How reports call the events in `wanted.custom`, in order: as the user wrote them.
    pub custom_names: Vec<String>,
}

impl Selection {
    /// How reports call counter `id`: the table's key, or what the user wrote.
    pub fn name(&self, id: CounterId) -> Option<&str> {
        match super::info(id) {
            Some(row) => Some(row.name),
            None => self.custom_names.get(usize::from(id.checked_sub(CUSTOM_FIRST)?)).map(String::as_str),
        }
    }

    /// Whether counter `id` was asked for in user mode, and in kernel mode.
    pub fn modes(&self, id: CounterId) -> (bool, bool) {
        let slot = id.checked_sub(CUSTOM_FIRST).and_then(|slot| self.wanted.custom.get(usize::from(slot)));
        match slot {
            Some(event) => (event.modifiers & 1 == 0, event.modifiers & 2 == 0),
            None => {
                let bit = 1u64 << (id & 63);
                (self.wanted.kernel_only & bit == 0, self.wanted.user_only & bit == 0)
            }
        }
    }
}

/// Why a list of events is not one. Its text names the event and says what to type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventError {
    /// Nothing between two commas, or nothing at all.
    Empty,
    /// No such event.
    Unknown(String),
    /// perf's syntax that is not understood here; second: what to write instead.
    Syntax(String, &'static str),
    /// A modifier other than u and k.
    Modifier(String, String),
    /// The modifier makes no sense for this event; second: why.
    ModifierUseless(String, &'static str),
    /// More than eight events beyond the built-in ones.
    TooMany,
    /// The list is longer than 4096 bytes.
    TooLong,
}

impl fmt::Display for EventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EventError::Empty => {
                write!(f, "an event name is missing; write them as in -e cycles,instructions:u")
            }
            EventError::Unknown(name) => {
                write!(
                    f,
                    "unknown event '{}'; 'perquery events' lists them, rNNN (hex) is a raw event",
                    shown(name)
                )
            }
            EventError::Syntax(name, instead) => {
                write!(f, "event '{}' can't be read; {instead}", shown(name))
            }
            EventError::Modifier(name, modifier) => write!(
                f,
                "unknown modifier ':{}' of event '{}'; use :u (user mode), :k (kernel mode) or none",
                shown(modifier),
                shown(name)
            ),
            EventError::ModifierUseless(name, why) => {
                write!(f, "event '{}': {why}; leave it out", shown(name))
            }
            EventError::TooMany => write!(
                f,
                "too many events; beside the built-in ones at most {CUSTOM_MAX} can be counted at a time: name fewer"
            ),
            EventError::TooLong => {
                write!(f, "the list of events is longer than {LIST_MAX} bytes; name fewer")
            }
        }
    }
}

impl std::error::Error for EventError {}

/// A name as a message shows it: short, and without control characters.
fn shown(name: &str) -> String {
    let short: String = name.chars().take(60).collect();
    short.escape_debug().to_string()
}

/// Reads a list such as `cycles,instructions:u,r01c2,L1-dcache-load-misses:k,page-faults`.
///
/// A built-in counter can be wanted in one mode; naming it in a second one takes a custom slot.
pub fn parse_events(list: &str) -> Result<Selection, EventError> {
    if list.len() > LIST_MAX {
        return Err(EventError::TooLong);
    }
    if list.contains(['{', '}']) {
        return Err(EventError::Syntax(
            list.to_owned(),
            "groups are made by themselves: leave the braces out",
        ));
    }
    if let Some(pmu) = list.split(',').map(str::trim).find(|item| item.contains('/')) {
        let instead = "write events of a PMU as raw events: rNNN with the number in hex";
        return Err(EventError::Syntax(pmu.to_owned(), instead));
    }
    let mut selection = Selection::default();
    for item in list.split(',') {
        add(&mut selection, item.trim())?;
    }
    Ok(selection)
}

fn add(selection: &mut Selection, item: &str) -> Result<(), EventError> {
    let (name, modifier) = item.split_once(':').unwrap_or((item, ""));
    if name.is_empty() {
        return Err(EventError::Empty);
    }
    let (user, kernel) = match modifier {
        "" if !item.contains(':') => (true, true),
        "u" => (true, false),
        "k" => (false, true),
        "uk" | "ku" => (true, true),
        other => return Err(EventError::Modifier(name.to_owned(), other.to_owned())),
    };
    let modifiers = u32::from(!user) | u32::from(!kernel) << 1;
    if let Some(row) = TABLE.iter().find(|row| row.name == name || row.event_names.contains(&name)) {
        check_modifier(item, row.source, row.perf, modifiers)?;
        let bit = 1u64 << row.id;
        let wanted = &mut selection.wanted;
        let before = u32::from(wanted.kernel_only & bit != 0) | u32::from(wanted.user_only & bit != 0) << 1;
        if wanted.mask & bit == 0 {
            wanted.mask |= bit;
            wanted.kernel_only |= if user { 0 } else { bit };
            wanted.user_only |= if kernel { 0 } else { bit };
        } else if before != modifiers {
            return add_custom(
                selection,
                item,
                CustomEvent { kind: row.perf.0, modifiers, config: row.perf.1 },
            );
        }
        return Ok(());
    }
    let (kind, config) = software(name)
        .or_else(|| raw(name))
        .or_else(|| hw_cache(name))
        .ok_or_else(|| EventError::Unknown(name.to_owned()))?;
    let source = if kind == KIND_SOFTWARE { Source::PerfSoftware } else { Source::PerfHardware };
    check_modifier(item, source, (kind, config), modifiers)?;
    add_custom(selection, item, CustomEvent { kind, modifiers, config })
}

fn check_modifier(item: &str, source: Source, perf: (u32, u64), modifiers: u32) -> Result<(), EventError> {
    let useless = |why| Err(EventError::ModifierUseless(item.to_owned(), why));
    if modifiers == 0 {
        return Ok(());
    }
    match source {
        Source::Rusage | Source::ThreadClock | Source::Session => {
            useless("this counter knows no modes, so no modifier")
        }
        Source::PerfHardware => Ok(()),
        Source::PerfSoftware => match (UserMode::of(perf.0, perf.1), modifiers) {
            (UserMode::Whole, _) => useless("this clock counts both modes whatever the modifier says"),
            (UserMode::Nothing, 2) => useless("it happens in the kernel only, so ':u' would always count 0"),
            _ => Ok(()),
        },
    }
}

fn add_custom(selection: &mut Selection, item: &str, event: CustomEvent) -> Result<(), EventError> {
    let used = selection.custom_names.len();
    if selection.wanted.custom.iter().take(used).any(|other| *other == event) {
        return Ok(());
    }
    let slot = selection.wanted.custom.get_mut(used).ok_or(EventError::TooMany)?;
    *slot = event;
    selection.wanted.mask |= 1 << (usize::from(CUSTOM_FIRST) + used);
    selection.custom_names.push(item.to_owned());
    Ok(())
}

/// perf's software events that the table does not have.
fn software(name: &str) -> Option<(u32, u64)> {
    let config = match name {
        "alignment-faults" => 7,
        "emulation-faults" => 8,
        "cgroup-switches" => 11,
        _ => return None,
    };
    Some((KIND_SOFTWARE, config))
}

/// `rNNN`: the processor's own event number, hex.
fn raw(name: &str) -> Option<(u32, u64)> {
    let digits = name.strip_prefix('r')?;
    if digits.is_empty() || digits.len() > 16 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    Some((KIND_RAW, u64::from_str_radix(digits, 16).ok()?))
}

/// Caches, in the kernel's order, and which of loads, stores and prefetches perf knows for them.
const CACHES: [(&str, [bool; 3]); 7] = [
    ("L1-dcache", [true, true, true]),
    ("L1-icache", [true, false, true]),
    ("LLC", [true, true, true]),
    ("dTLB", [true, true, true]),
    ("iTLB", [true, false, false]),
    ("branch", [true, false, false]),
    ("node", [true, true, true]),
];

/// Operations, in the kernel's order: name of their number, and of their misses.
const OPERATIONS: [(&str, &str); 3] =
    [("loads", "load-misses"), ("stores", "store-misses"), ("prefetches", "prefetch-misses")];

/// A hardware-cache event in perf's spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HwCacheEvent {
    /// `L1-dcache-load-misses`.
    pub name: String,
    /// What the kernel calls it.
    pub event: CustomEvent,
}

/// All hardware-cache events that have a name.
pub fn hw_cache_events() -> Vec<HwCacheEvent> {
    let mut events = Vec::new();
    for (cache, (cache_name, operations)) in (0u64..).zip(CACHES) {
        for (operation, (names, _)) in
            (0u64..).zip(OPERATIONS.into_iter().zip(operations)).filter(|(_, (_, has))| *has)
        {
            for (result, name) in [(0u64, names.0), (1, names.1)] {
                let config = cache | operation << 8 | result << 16;
                events.push(HwCacheEvent {
                    name: format!("{cache_name}-{name}"),
                    event: CustomEvent { kind: KIND_HW_CACHE, modifiers: 0, config },
                });
            }
        }
    }
    events
}

fn hw_cache(name: &str) -> Option<(u32, u64)> {
    let events = hw_cache_events();
    let event = events.iter().find(|event| event.name.eq_ignore_ascii_case(name))?.event;
    Some((event.kind, event.config))
}

// The built-in rows are of two kinds only; custom events may be of all four.
const _: () = assert!(KIND_HARDWARE == 0 && KIND_SOFTWARE == 1);

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    fn parsed(list: &str) -> Selection {
        parse_events(list).unwrap()
    }

    fn refused(list: &str) -> String {
        parse_events(list).unwrap_err().to_string()
    }

    #[test]
    fn a_list_as_perf_takes_it_gives_bits_modes_and_custom_slots() {
        let selection = parsed("cycles,instructions:u,r01c2,L1-dcache-load-misses:k, page-faults");
        assert_eq!(selection.wanted.mask, 1 << 5 | 1 << 6 | 1 << 15 | 1 << 48 | 1 << 49);
        assert_eq!((selection.wanted.user_only, selection.wanted.kernel_only), (1 << 6, 0));
        assert_eq!(selection.wanted.custom[0], CustomEvent { kind: KIND_RAW, modifiers: 0, config: 0x1c2 });
        assert_eq!(
            selection.wanted.custom[1],
            CustomEvent { kind: KIND_HW_CACHE, modifiers: 1, config: 0x10000 }
        );
        assert_eq!(selection.custom_names, vec!["r01c2", "L1-dcache-load-misses:k"]);
        assert_eq!((selection.name(15), selection.name(48)), (Some("page_faults"), Some("r01c2")));
        assert_eq!((selection.name(31), selection.name(50), selection.name(255)), (None, None, None));
    }

    #[test]
    fn aliases_and_report_keys_name_the_same_counter() {
        assert_eq!(parsed("cpu-cycles").wanted, parsed("cycles").wanted);
        assert_eq!(parsed("branch-instructions,branches").wanted, parsed("branches").wanted);
        assert_eq!(parsed("cache_misses").wanted, parsed("cache-misses").wanted);
        assert_eq!(parsed("cpu_ns,page_faults_minor").wanted.mask, 0b11);
        assert_eq!(
            parsed("minor-faults,cs,migrations,faults").wanted.mask,
            1 << 16 | 1 << 18 | 1 << 19 | 1 << 15
        );
    }

    #[test]
    fn hardware_cache_names_have_the_numbers_of_the_kernel() {
        let config = |name: &str| parsed(name).wanted.custom[0].config;
        assert_eq!(config("L1-dcache-loads"), 0);
        assert_eq!(config("L1-icache-load-misses"), 0x10001);
        assert_eq!(config("LLC-stores"), 0x00102);
        assert_eq!(config("dTLB-load-misses"), 0x10003);
        assert_eq!(config("itlb-load-misses"), 0x10004);
        assert_eq!(config("branch-loads"), 5);
        assert_eq!(config("node-prefetch-misses"), 0x10206);
        assert_eq!(hw_cache_events().len(), 32);
    }

    #[test]
    fn one_event_in_both_modes_takes_a_custom_slot_for_the_second() {
        let selection = parsed("cycles:u,cycles:k,cycles:k");
        assert_eq!((selection.wanted.mask, selection.wanted.user_only), (1 << 5 | 1 << 48, 1 << 5));
        assert_eq!(selection.wanted.custom[0], CustomEvent { kind: KIND_HARDWARE, modifiers: 1, config: 0 });
        assert_eq!(selection.custom_names, vec!["cycles:k"]);
        assert_eq!(parsed("cycles:uk").wanted, parsed("cycles").wanted);
    }

    #[test]
    fn the_same_event_twice_is_counted_once() {
        assert_eq!(parsed("r1,r01,r0001").custom_names, vec!["r1"]);
    }

    #[test]
    fn an_unknown_event_is_named_with_what_to_type() {
        let message = refused("cycles,cylces");
        assert!(message.contains("'cylces'") && message.contains("perquery events"), "{message}");
        for name in ["r", "rxyz", "r00000000000000001", "L1-dcache", "iTLB-stores", "refs", "CYCLES"] {
            assert!(refused(name).contains("unknown event"), "{name}");
        }
    }

    #[test]
    fn nothing_is_not_an_event() {
        for list in ["", ",", "cycles,", " ", ":u", "cycles,,instructions"] {
            assert!(refused(list).contains("missing"), "{list:?}");
        }
    }

    #[test]
    fn modifiers_that_would_lie_are_refused_with_the_reason() {
        assert!(refused("context-switches:u").contains("always count 0"));
        assert!(refused("task-clock:u").contains("both modes"));
        assert!(refused("cpu_ns:u").contains("no modes"));
        assert!(refused("cycles:pp").contains("':pp'"));
        assert!(refused("cycles:").contains("modifier"));
        assert!(refused("cycles:u:k").contains("modifier"));
        assert!(parse_events("context-switches:k,page-faults:u").is_ok());
    }

    #[test]
    fn perfs_braces_and_slashes_are_answered_with_what_to_write_instead() {
        assert!(refused("{cycles,instructions}").contains("braces"));
        assert!(refused("cpu/event=0x3c,umask=0x0/").contains("rNNN"));
    }

    #[test]
    fn the_ninth_custom_event_is_one_too_many() {
        assert!(parse_events("r1,r2,r3,r4,r5,r6,r7,r8").is_ok());
        assert!(refused("r1,r2,r3,r4,r5,r6,r7,r8,r9").contains("at most 8"));
    }

    #[test]
    fn a_hostile_name_is_shown_short_and_without_control_characters() {
        let message = refused(&format!("\u{1b}[31m{}", "x".repeat(500)));
        assert!(!message.contains('\u{1b}') && message.len() < 200, "{message}");
        assert!(refused(&"a,".repeat(5000)).contains("4096"));
    }
}
