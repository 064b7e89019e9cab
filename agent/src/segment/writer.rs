//! Writes a record into a lane's ring.

use super::Lane;
use super::record::{
    COUNTED_WORDS, FIXED_WORDS, FLAG_UNSWITCHED, KIND_SHORT, MEMBERS_MAX, NO_FIRST_BYTE, SHORT_SESSION_WORDS,
    SHORT_WORDS, UNSWITCHED_MASK, short,
};
use super::ring::Slot;
use crate::counters::{CHEAP_MASK, Counts};
use crate::protocol::{Command, Dialect, Member, TEXT_CAP};

/// The fixed part of a record; see [`record`](super::record) for the meaning.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)] // the names are those of the record's own description
pub struct Fields {
    pub kind: u16,
    pub session_uid: u64,
    pub start_ns: u64,
    pub latency_ns: u64,
    pub first_byte_ns: u64,
    pub identity_hash: u64,
    pub text_hash: u64,
    pub text_len: u32,
    pub rows_returned: u64,
    pub rows_affected: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub weight: f64,
    pub exact: u64,
    pub unit: u32,
    pub tid: u32,
    pub flags: u32,
    pub statements: u32,
    pub error_code: u32,
    pub sqlstate: [u8; 5],
    pub dialect: Dialect,
    pub command: Command,
}

/// Writes a record; false when the ring had no room, which is counted in the lane.
pub fn write(lane: &Lane<'_>, f: &Fields, counts: &Counts, members: &[Member], text: &[u8]) -> bool {
    write_inline(lane, f, counts, members, text)
}

/// [`write()`], made part of the caller, so that the fields go from where they are into the ring.
#[inline(always)]
pub fn write_inline(lane: &Lane<'_>, f: &Fields, counts: &Counts, members: &[Member], text: &[u8]) -> bool {
    let members = members.get(..MEMBERS_MAX).unwrap_or(members);
    let counters = counts.known.count_ones() as usize;
    let words = FIXED_WORDS + counters + 2 * members.len() + text.len().div_ceil(8);
    let Some(slot) = lane.reserve(words, f.kind) else {
        lane.count_drop();
        return false;
    };
    let kinds = (f.dialect as u32) | (f.command as u32) << 8 | (members.len() as u32) << 16;
    let [a, b, c, d, e] = f.sqlstate;
    slot.set_fixed(&[
        f.session_uid,
        f.start_ns,
        f.latency_ns,
        f.first_byte_ns,
        f.identity_hash,
        f.text_hash,
        pair(f.text_len, text.len() as u32),
        f.rows_returned,
        f.rows_affected,
        f.bytes_in,
        f.bytes_out,
        f.weight.to_bits(),
        counts.known,
        counts.scaled,
        pair(f.unit, f.tid),
        pair(f.flags, f.statements),
        pair(f.error_code, kinds),
        u64::from_le_bytes([a, b, c, d, e, 0, 0, 0]),
        f.exact,
    ]);
    let mut at = FIXED_WORDS;
    at += set_counters(&slot, at, counts);
    for member in members {
        slot.set(at, member.text.hash);
        slot.set(at + 1, pair(member.text.full_len, member.executions));
        at += 2;
    }
    slot.set_bytes(at, text);
    slot.publish();
    true
}

/// Writes `f` as a short record, if it says no more than such a one can: neither error nor members nor text, weight 1,
/// the counters of [`UNSWITCHED_MASK`] (`exact`) or none. `None`: it says more; else as [`write()`].
#[inline(always)]
pub fn write_short(lane: &Lane<'_>, f: &Fields) -> Option<bool> {
    let short = |n: u64| u32::try_from(n).ok().filter(|n| *n != u32::MAX);
    let first_byte = if f.first_byte_ns == NO_FIRST_BYTE { u32::MAX } else { short(f.first_byte_ns)? };
    let unswitched = match f.exact {
        0 => 0,
        UNSWITCHED_MASK => FLAG_UNSWITCHED,
        _ => return None,
    };
    let (latency, returned, affected) =
        (short(f.latency_ns)?, short(f.rows_returned)?, short(f.rows_affected)?);
    if f.error_code != 0 {
        return None;
    }
    let Some(slot) = lane.reserve(SHORT_WORDS, KIND_SHORT) else {
        lane.count_drop();
        return Some(false);
    };
    let about = (f.flags | unswitched) & 0xffff | (f.dialect as u32) << 16 | (f.command as u32) << 24;
    slot.set_fixed(&[
        f.session_uid,
        f.start_ns,
        pair(latency, first_byte),
        f.identity_hash,
        f.text_hash,
        pair(f.text_len, f.unit),
        pair(returned, affected),
        pair(f.tid, about),
    ]);
    slot.publish();
    Some(true)
}

/// What is known of a session's unit when it begins.
#[derive(Clone, Copy)]
#[allow(missing_docs)] // the names are those of the record's own description
pub struct Begun {
    pub session_uid: u64,
    pub identity_hash: u64,
    pub text_hash: u64,
    pub text_len: u32,
    pub unit: u32,
    pub tid: u32,
    pub dialect: Dialect,
    pub command: Command,
}

/// Room for a session's short record with `text` and so many `counters`; 0: it is to have none. `None` when the ring has no
/// room. `until` is what [`Lane::reserve_within`] says.
#[inline(always)]
pub fn reserve_brief<'a>(lane: &Lane<'a>, text: &[u8], counters: u32, until: &mut u64) -> Option<Slot<'a>> {
    let counted = if counters == 0 { 0 } else { COUNTED_WORDS + counters as usize };
    lane.reserve_within(SHORT_SESSION_WORDS + text.len().div_ceil(8) + counted, KIND_SHORT, until)
}

/// Begins the record for which room was made: everything is written that is known now, but for the start. `text` has at most
/// TEXT_CAP bytes, and none where there is a `text_hash`.
#[inline(always)]
pub fn begin_brief(slot: &Slot<'_>, b: &Begun, text: &[u8]) {
    let about = (b.dialect as u32) << 16 | (b.command as u32) << 24;
    slot.set_some([
        (short::UID, b.session_uid),
        (short::IDENTITY, b.identity_hash),
        (short::TEXT, b.text_hash),
        (short::TEXT_LEN, pair(b.text_len, b.unit)),
        (short::ABOUT, pair(b.tid, about)),
    ]);
    if !text.is_empty() {
        slot.set_bytes(SHORT_SESSION_WORDS, text);
    }
}

/// Writes what was answered and how many bytes went over the wire into a record that was begun.
#[inline(always)]
pub fn answer_brief(slot: &Slot<'_>, answer: u64, bytes_in: u32, bytes_out: u32) {
    slot.set_some([(short::ROWS, answer), (short::BYTES, pair(bytes_in, bytes_out))]);
}

/// Ends a record that was begun and answered, and publishes it. `u32::MAX` as the first byte's time: there was none. `flags`:
/// also [`FLAG_UNSWITCHED`] and [`FLAG_COUNTED`](super::record::FLAG_COUNTED).
#[inline(always)]
pub fn end_brief(slot: Slot<'_>, latency_ns: u32, first_byte_ns: u32, flags: u32) {
    slot.set_some([(short::TIMES, pair(latency_ns, first_byte_ns))]);
    if flags != 0 {
        slot.set(short::ABOUT, slot.get(short::ABOUT) | u64::from(flags & 0xffff) << 32);
    }
    slot.publish();
}

/// Puts counters behind the text of a record that was begun with room for them, to be ended with [`FLAG_COUNTED`](super::record::FLAG_COUNTED).
#[inline(always)]
pub fn add_counters(slot: &mut Slot<'_>, weight: f64, counts: &Counts, exact: u64) {
    let length = slot.get(short::TEXT_LEN) as u32 as usize;
    let inline = if slot.get(short::TEXT) == 0 { length.min(TEXT_CAP) } else { 0 };
    let mut at = SHORT_SESSION_WORDS + inline.div_ceil(8);
    let head = [weight.to_bits(), counts.known, counts.scaled, exact];
    if counts.known == CHEAP_MASK
        && let Some([cpu, minor, major, voluntary, involuntary]) = counts.values.first_chunk()
    {
        // The usual case, in one piece.
        let [weight, known, scaled, exact] = head;
        let all = [weight, known, scaled, exact, *cpu, *minor, *major, *voluntary, *involuntary];
        return slot.end_with(at, all);
    }
    for word in head {
        slot.set(at, word);
        at += 1;
    }
    slot.shorten(at + set_counters(slot, at, counts));
}

/// Writes the known counters from word `at` on; how many.
#[inline(always)]
fn set_counters(slot: &Slot<'_>, at: usize, counts: &Counts) -> usize {
    let mut n = 0;
    let mut known = counts.known;
    while known != 0 {
        let id = known.trailing_zeros() as u8;
        slot.set(at + n, counts.get(id).unwrap_or(0));
        n += 1;
        known &= known - 1;
    }
    n
}

fn pair(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

#[cfg(all(test, feature = "reader"))]
mod tests {
    use super::super::view::tests::{SMALL, words};
    use super::*;
    use crate::counters::CLIENT_WAIT_NS;
    use crate::protocol::TextRef;
    use crate::segment::Segment;
    use crate::segment::record::{
        FLAG_CHOSEN_BY_SLICE, FLAG_COUNTED, KIND_EXECUTION, RECORD_MAX_WORDS, decode,
    };
    use core::sync::atomic::Ordering::Relaxed;
    use std::vec::Vec;

    /// An execution of which there is little to say.
    const PLAIN: Fields = Fields {
        kind: KIND_EXECUTION,
        session_uid: 5,
        start_ns: 6 << 40,
        latency_ns: 700,
        first_byte_ns: 3,
        identity_hash: 9,
        text_hash: 8,
        text_len: 5000,
        rows_returned: 10,
        rows_affected: 11,
        bytes_in: 0,
        bytes_out: 0,
        weight: 1.0,
        exact: 0,
        unit: 14,
        tid: 15,
        flags: 1 << 8,
        statements: 1,
        error_code: 0,
        sqlstate: [0; 5],
        dialect: Dialect::Sqlite,
        command: Command::Sqlite,
    };

    /// The same as a session's short record, with its text and its counters.
    fn write_brief(lane: &Lane<'_>, f: &Fields, text: &[u8], flags: u32, counted: Option<&Counts>) {
        let begun = Begun {
            session_uid: f.session_uid,
            identity_hash: f.identity_hash,
            text_hash: f.text_hash,
            text_len: f.text_len,
            unit: f.unit,
            tid: f.tid,
            dialect: f.dialect,
            command: f.command,
        };
        let mut slot = reserve_brief(lane, text, counted.map_or(0, |_| 64), &mut 0).unwrap();
        begin_brief(&slot, &begun, text);
        slot.set(short::START_NS, f.start_ns);
        let mut flags = f.flags | flags;
        if let Some(counts) = counted {
            add_counters(&mut slot, f.weight, counts, f.exact);
            flags |= FLAG_COUNTED;
        }
        let rows = pair(f.rows_returned as u32, f.rows_affected as u32);
        answer_brief(&slot, rows, f.bytes_in as u32, f.bytes_out as u32);
        end_brief(slot, f.latency_ns as u32, f.first_byte_ns as u32, flags);
    }

    #[test]
    fn a_short_record_says_the_same_as_a_long_one() {
        let words = words(SMALL);
        let segment = Segment::format(&words, SMALL, 1, 1, b"").unwrap();
        let lane = segment.lane(2).unwrap();
        let unswitched = Fields { exact: UNSWITCHED_MASK, first_byte_ns: NO_FIRST_BYTE, ..PLAIN };
        for fields in [PLAIN, unswitched] {
            let mut counts = Counts::new();
            if fields.exact != 0 {
                counts.known = UNSWITCHED_MASK;
                counts.values[0] = fields.latency_ns;
            }
            assert!(write(&lane, &fields, &counts, &[], &[]));
            assert_eq!(write_short(&lane, &fields), Some(true));
            let mut seen = Vec::new();
            lane.ring().drain(&mut [0; RECORD_MAX_WORDS], |w| seen.push(decode(w).unwrap())).unwrap();
            let [long, short] = &seen[..] else { panic!("two records") };
            assert_eq!(std::format!("{long:?}"), std::format!("{short:?}"));
        }
        for more in [
            Fields { latency_ns: 5_000_000_000, ..PLAIN },
            Fields { first_byte_ns: 5_000_000_000, ..PLAIN },
            Fields { rows_returned: 1 << 32, ..PLAIN },
            Fields { rows_affected: 1 << 32, ..PLAIN },
            Fields { error_code: 19, ..PLAIN },
            Fields { exact: 1, ..PLAIN },
        ] {
            assert_eq!(write_short(&lane, &more), None);
        }
    }

    #[test]
    fn a_session_s_short_record_says_the_same_as_a_long_one() {
        let words = words(SMALL);
        let segment = Segment::format(&words, SMALL, 1, 1, b"").unwrap();
        let lane = segment.lane(2).unwrap();
        let text = b"select 1 from where".as_slice();
        for (dialect, text_hash, unswitched) in [
            (Dialect::MariaDb, 0, true),
            (Dialect::MySql, 8, false),
            (Dialect::Postgres, 0, false),
            (Dialect::Postgres, 8, true),
        ] {
            let text = if text_hash == 0 { text } else { &[] };
            let mut counts = Counts::new();
            if unswitched {
                counts.known = UNSWITCHED_MASK;
                counts.values[0] = 700;
            }
            if dialect != Dialect::Postgres {
                counts.set(CLIENT_WAIT_NS, 0);
            }
            let long = Fields {
                text_hash,
                text_len: 19,
                bytes_in: 12,
                bytes_out: 13,
                exact: counts.known,
                flags: FLAG_CHOSEN_BY_SLICE,
                dialect,
                command: Command::Execute,
                ..PLAIN
            };
            assert!(write(&lane, &long, &counts, &[], text));
            write_brief(&lane, &long, text, if unswitched { FLAG_UNSWITCHED } else { 0 }, None);
            let mut seen = Vec::new();
            lane.ring().drain(&mut [0; RECORD_MAX_WORDS], |w| seen.push(decode(w).unwrap())).unwrap();
            let [long, short] = &seen[..] else { panic!("two records") };
            assert_eq!(std::format!("{long:?}"), std::format!("{short:?}"));
        }
    }

    #[test]
    fn a_counted_short_record_says_the_same_as_a_long_one() {
        let words = words(SMALL);
        let segment = Segment::format(&words, SMALL, 1, 1, b"").unwrap();
        let lane = segment.lane(2).unwrap();
        for text in [b"".as_slice(), b"select 1", b"select 1 from where", &[b'x'; 5000]] {
            let mut counts = Counts::new();
            for (id, value) in [(0, 111), (4, 444), (48, 4848)] {
                counts.set(id, value);
            }
            counts.scaled = 1 << 48;
            let fields = Fields {
                text_hash: if text.is_empty() { 8 } else { 0 },
                text_len: text.len() as u32,
                weight: 2.5,
                exact: 0b10001,
                dialect: Dialect::Postgres,
                ..PLAIN
            };
            let text = text.get(..TEXT_CAP).unwrap_or(text);
            assert!(write(&lane, &fields, &counts, &[], text));
            write_brief(&lane, &fields, text, 0, Some(&counts));
            let mut seen = Vec::new();
            lane.ring().drain(&mut [0; RECORD_MAX_WORDS], |w| seen.push(decode(w).unwrap())).unwrap();
            let [long, short] = &seen[..] else { panic!("two records") };
            assert_eq!(std::format!("{long:?}"), std::format!("{short:?}"));
        }
    }

    #[test]
    fn a_short_record_whose_length_contradicts_what_is_in_it_is_refused() {
        let words = words(SMALL);
        let segment = Segment::format(&words, SMALL, 1, 1, b"").unwrap();
        let lane = segment.lane(2).unwrap();
        let fields = Fields { text_hash: 0, text_len: 8, ..PLAIN };
        let mut counts = Counts::new();
        counts.set(0, 111);
        let counted = SHORT_SESSION_WORDS + 1;
        for (at, wrong) in [(short::TEXT_LEN, 4000), (short::TEXT_LEN, 0), (counted, 0), (counted + 1, 7)] {
            let begin = lane.ring().head.load(Relaxed) as usize;
            write_brief(&lane, &fields, b"select 1", 0, Some(&counts));
            lane.ring().words[begin + at].store(wrong, Relaxed);
        }
        write_brief(&lane, &fields, b"select 1", FLAG_COUNTED, None);
        let mut refused = 0;
        lane.ring().drain(&mut [0; RECORD_MAX_WORDS], |w| refused += u32::from(decode(w).is_none())).unwrap();
        assert_eq!(refused, 5);
    }

    #[test]
    fn what_is_written_is_what_is_decoded() {
        let words = words(SMALL);
        let segment = Segment::format(&words, SMALL, 1, 1, b"").unwrap();
        let lane = segment.lane(2).unwrap();
        let mut counts = Counts::new();
        counts.set(0, 111);
        counts.set(4, 444);
        counts.set(48, 4848);
        let members = [Member { text: TextRef { hash: 7, full_len: 70 }, executions: 3 }];
        let fields = Fields {
            kind: KIND_EXECUTION,
            session_uid: 5,
            start_ns: 6,
            latency_ns: 7,
            first_byte_ns: 3,
            identity_hash: 9,
            text_len: 5000,
            rows_returned: 10,
            rows_affected: 11,
            bytes_in: 12,
            bytes_out: 13,
            weight: 2.5,
            exact: 0b10001,
            unit: 14,
            tid: 15,
            flags: 3,
            statements: 17,
            error_code: 1146,
            sqlstate: *b"42S02",
            dialect: Dialect::MariaDb,
            command: Command::Batch,
            text_hash: 0,
        };
        assert!(write(&lane, &fields, &counts, &members, b"select wrong from nowhere"));
        let mut seen = Vec::new();
        lane.ring().drain(&mut [0; RECORD_MAX_WORDS], |w| seen.push(decode(w).unwrap())).unwrap();
        let [e] = &seen[..] else { panic!("one record") };
        assert_eq!(e.text, b"select wrong from nowhere");
        assert_eq!((e.kind, e.session_uid, e.unit, e.tid, e.statements), (KIND_EXECUTION, 5, 14, 15, 17));
        assert_eq!(
            (e.error_code, &e.sqlstate, e.dialect, e.command),
            (1146, b"42S02", Dialect::MariaDb, Command::Batch)
        );
        assert_eq!(e.exact, 0b10001);
        assert_eq!((e.counts.get(0), e.counts.get(1), e.counts.get(48)), (Some(111), None, Some(4848)));
        assert_eq!((e.members.as_slice(), e.weight, e.first_byte_ns), (&[(7, 70, 3)][..], 2.5, Some(3)));
        for _ in 0..1000 {
            write(&lane, &fields, &counts, &members, &[b'x'; 4096]);
        }
        assert!(lane.drops() > 900, "a full ring drops and counts");
    }
}
