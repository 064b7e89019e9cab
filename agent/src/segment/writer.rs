//! Writes a record into a lane's ring.

use super::Lane;
use super::record::{
    FIXED_WORDS, FLAG_UNSWITCHED, KIND_SHORT, MEMBERS_MAX, NO_FIRST_BYTE, SHORT_SESSION_WORDS, SHORT_WORDS,
    UNSWITCHED_MASK,
};
use super::ring::Slot;
use crate::counters::Counts;
use crate::protocol::{Command, Dialect, Member};

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
    let Some(slot) = lane.ring().reserve(words, f.kind) else {
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
    let mut known = counts.known;
    while known != 0 {
        let id = known.trailing_zeros() as u8;
        slot.set(at, counts.get(id).unwrap_or(0));
        at += 1;
        known &= known - 1;
    }
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
    let Some(slot) = lane.ring().reserve(SHORT_WORDS, KIND_SHORT) else {
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

/// What a session's short record has of its own.
#[derive(Clone, Copy)]
#[allow(missing_docs)] // the names are those of the record's own description
pub struct Brief {
    pub session_uid: u64,
    pub start_ns: u64,
    pub latency_ns: u32,
    /// `u32::MAX`: none.
    pub first_byte_ns: u32,
    pub identity_hash: u64,
    pub text_hash: u64,
    pub text_len: u32,
    pub unit: u32,
    pub rows_returned: u32,
    pub rows_affected: u32,
    pub tid: u32,
    /// Also [`FLAG_UNSWITCHED`].
    pub flags: u32,
    pub dialect: Dialect,
    pub command: Command,
    pub bytes_in: u32,
    pub bytes_out: u32,
}

/// Room for a session's short record with `text`, to be filled by [`write_brief`]; `None` when the ring has none, which is
/// counted in the lane.
#[inline(always)]
pub fn reserve_brief<'a>(lane: &Lane<'a>, text: &[u8]) -> Option<Slot<'a>> {
    let slot = lane.ring().reserve(SHORT_SESSION_WORDS + text.len().div_ceil(8), KIND_SHORT);
    if slot.is_none() {
        lane.count_drop();
    }
    slot
}

/// Writes a session's short record; `text` is that which room was made for, and its `text_hash` 0 where there is one.
#[inline(always)]
pub fn write_brief(slot: Slot<'_>, b: &Brief, text: &[u8]) {
    slot.set_fixed(&[
        b.session_uid,
        b.start_ns,
        pair(b.latency_ns, b.first_byte_ns),
        b.identity_hash,
        b.text_hash,
        pair(b.text_len, b.unit),
        pair(b.rows_returned, b.rows_affected),
        pair(b.tid, b.flags & 0xffff | (b.dialect as u32) << 16 | (b.command as u32) << 24),
        pair(b.bytes_in, b.bytes_out),
    ]);
    if !text.is_empty() {
        slot.set_bytes(SHORT_SESSION_WORDS, text);
    }
    slot.publish();
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
    use crate::segment::record::{FLAG_CHOSEN_BY_SLICE, KIND_EXECUTION, RECORD_MAX_WORDS, decode};
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

    /// The same as a session's short record.
    fn brief_of(f: &Fields, unswitched: bool) -> Brief {
        Brief {
            session_uid: f.session_uid,
            start_ns: f.start_ns,
            latency_ns: f.latency_ns as u32,
            first_byte_ns: f.first_byte_ns as u32,
            identity_hash: f.identity_hash,
            text_hash: f.text_hash,
            text_len: f.text_len,
            unit: f.unit,
            rows_returned: f.rows_returned as u32,
            rows_affected: f.rows_affected as u32,
            tid: f.tid,
            flags: f.flags | if unswitched { FLAG_UNSWITCHED } else { 0 },
            dialect: f.dialect,
            command: f.command,
            bytes_in: f.bytes_in as u32,
            bytes_out: f.bytes_out as u32,
        }
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
            let brief = brief_of(&long, unswitched);
            assert!(write(&lane, &long, &counts, &[], text));
            write_brief(reserve_brief(&lane, text).unwrap(), &brief, text);
            let mut seen = Vec::new();
            lane.ring().drain(&mut [0; RECORD_MAX_WORDS], |w| seen.push(decode(w).unwrap())).unwrap();
            let [long, short] = &seen[..] else { panic!("two records") };
            assert_eq!(std::format!("{long:?}"), std::format!("{short:?}"));
        }
    }

    #[test]
    fn a_short_record_whose_length_contradicts_its_text_is_refused() {
        let words = words(SMALL);
        let segment = Segment::format(&words, SMALL, 1, 1, b"").unwrap();
        let lane = segment.lane(2).unwrap();
        let slot = reserve_brief(&lane, b"select 1").unwrap();
        slot.set(6, 4000);
        slot.publish();
        let mut refused = 0;
        lane.ring().drain(&mut [0; RECORD_MAX_WORDS], |w| refused += u32::from(decode(w).is_none())).unwrap();
        assert_eq!(refused, 1);
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
