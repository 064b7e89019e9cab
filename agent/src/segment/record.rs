//! Records: what a lane carries, one per execution.
//!
//! ```text
//! word  0  length in words u32 | kind u16 | reserved u16
//!       1  session uid
//!       2  start, CLOCK_MONOTONIC ns
//!       3  latency ns                       (Slice: duration ns)
//!       4  first response byte, ns after the start; u64::MAX: none
//!       5  identity hash                    (0: unknown)
//!       6  text hash                        (0: inline or none)
//!       7  text length on the wire u32 | bytes inline u32
//!       8  rows returned
//!       9  rows affected
//!      10  bytes in
//!      11  bytes out
//!      12  weight: f64 bits of 1/p          (1.0: every execution is counted)
//!      13  counters known, mask
//!      14  counters scaled, mask
//!      15  unit number within the session u32 | tid u32
//!      16  flags u32 | statements u32
//!      17  error code u32 | dialect u8 | command u8 | members u16
//!      18  sqlstate 5 bytes, 3 zeros
//!      19  counters known for certain of every such execution, mask: they enter sums with weight 1
//!      20… counters, one word for each bit of the known mask, lowest first
//!      …   members: text hash; text length u32 | executions u32
//!      …   inline text, zero padded to words
//! ```
//!
//! An execution of which there is less to say takes a short record, so that it fits into little more than a cache line:
//!
//! ```text
//! word  0  length in words u32 | KIND_SHORT u16 | reserved u16
//!       1  session uid
//!       2  start, CLOCK_MONOTONIC ns
//!       3  latency ns u32 | first row ns u32 (u32::MAX: none)
//!       4  identity hash
//!       5  text hash
//!       6  text length u32 | unit number within the session u32
//!       7  rows returned u32 | rows affected u32
//!       8  tid u32 | flags u16 | dialect u8 | command u8
//!       9  bytes in u32 | bytes out u32    (of a session; a program's own statement has no such word)
//!      10… inline text, zero padded to words, where the text hash is 0: as long as word 6 says, at most TEXT_CAP
//!      …   where FLAG_COUNTED is set: weight, counters known, scaled, known for certain, and their values, as above
//! ```
//!
//! It stands for a record with one statement and no error; without [`FLAG_COUNTED`] also with weight 1 and no counters but
//! those that [`FLAG_UNSWITCHED`] means; where the dialect is MySQL's or MariaDB's and there is a word 9, for no time spent
//! waiting for the client.
//!
//! A session's short record is begun when its unit begins: its text is in the ring while the unit runs, though the record
//! is not published yet; the session's slot says where.
//!
//! A new field means a new layout version, except in reserved places that old readers ignore.

use crate::counters::{CPU_NS, SWITCHES_INVOLUNTARY, SWITCHES_VOLUNTARY};

/// A record that only fills the ring up to its end.
pub const KIND_PAD: u16 = 0;
/// One execution of a unit.
pub const KIND_EXECUTION: u16 = 1;
/// A part of a unit's cost that another thread than the ending one contributed; to be added to the execution with the
/// same session and unit number.
pub const KIND_SLICE: u16 = 2;
/// The cost of a PostgreSQL parallel worker: `session uid` holds the leader's pid, to be added to the execution of that
/// process that was running at that time.
pub const KIND_WORKER: u16 = 3;

/// One execution of a unit, in short.
pub const KIND_SHORT: u16 = 4;

/// Words of the fixed part.
pub const FIXED_WORDS: usize = 20;
/// Words of a short record without what only sessions have.
pub const SHORT_WORDS: usize = 9;
/// Words of a session's short record without its text.
pub const SHORT_SESSION_WORDS: usize = 10;
/// Positions in a short record.
pub mod short {
    /// The session.
    pub const UID: usize = 1;
    /// Start of the unit.
    pub const START_NS: usize = 2;
    /// Latency and first byte.
    pub const TIMES: usize = 3;
    /// Identity hash.
    pub const IDENTITY: usize = 4;
    /// Text hash.
    pub const TEXT: usize = 5;
    /// Text length and unit number.
    pub const TEXT_LEN: usize = 6;
    /// Rows.
    pub const ROWS: usize = 7;
    /// Thread, flags, dialect, command.
    pub const ABOUT: usize = 8;
    /// Bytes of a session.
    pub const BYTES: usize = 9;
}
/// Words behind the text of a counted short record, without the counters' values.
pub const COUNTED_WORDS: usize = 4;
/// No record is longer: fixed part, 64 counters, 64 members, a text of 4 KiB.
pub const RECORD_MAX_WORDS: usize = FIXED_WORDS + 64 + 2 * MEMBERS_MAX + 512;
/// A batch lists at most so many different statements; the rest is counted in `statements` only.
pub const MEMBERS_MAX: usize = 64;
/// No response byte was seen.
pub const NO_FIRST_BYTE: u64 = u64::MAX;

/// The response was an error.
pub const FLAG_FAILED: u32 = 1 << 0;
/// Rows and error are unknown: the response was compressed.
pub const FLAG_OUTCOME_UNKNOWN: u32 = 1 << 1;
/// There is a statement text but it is not known.
pub const FLAG_TEXT_UNKNOWN: u32 = 1 << 2;
/// The inline text is a zlib stream.
pub const FLAG_TEXT_ZLIB: u32 = 1 << 3;
/// The inline text is a zstd stream.
pub const FLAG_TEXT_ZSTD: u32 = 1 << 4;
/// More than one thread worked on the unit; slices follow in other lanes.
pub const FLAG_MOVED: u32 = 1 << 5;
/// The unit did not end by itself: the session or its process ended.
pub const FLAG_CUT_OFF: u32 = 1 << 6;
/// Capture was switched on after the unit had started: latency and counters begin there.
pub const FLAG_LATE_START: u32 = 1 << 7;
/// The SQLite statement was stopped by reset or finalize before it was done.
pub const FLAG_STOPPED_EARLY: u32 = 1 << 8;
/// The weight is that of the thread's time slice: all executions that began in it were chosen together.
pub const FLAG_CHOSEN_BY_SLICE: u32 = 1 << 9;
/// Of a short record only: counters follow its text.
pub const FLAG_COUNTED: u32 = 1 << 14;
/// Of a short record only: the thread was not switched, so its CPU time was the latency.
pub const FLAG_UNSWITCHED: u32 = 1 << 15;
/// The counters that this means: CPU time, and no switches.
pub const UNSWITCHED_MASK: u64 = 1 << CPU_NS | 1 << SWITCHES_VOLUNTARY | 1 << SWITCHES_INVOLUNTARY;
/// A slice of time in which executions are chosen together, ns.
pub const CHOICE_SLICE_NS: u64 = 1 << 24;

#[cfg(feature = "reader")]
pub use owned::*;

#[cfg(feature = "reader")]
mod owned {
    use super::*;
    use crate::counters::{CLIENT_WAIT_NS, Counts};
    use crate::protocol::{Command, Dialect, TEXT_CAP};
    use std::vec::Vec;

    /// A decoded record, owned.
    #[derive(Clone, Debug, Default)]
    pub struct Execution {
        /// [`KIND_EXECUTION`], [`KIND_SLICE`] or [`KIND_WORKER`].
        pub kind: u16,
        /// The session; unique within the segment's life.
        pub session_uid: u64,
        /// Start of the unit, CLOCK_MONOTONIC of the server's host.
        pub start_ns: u64,
        /// From the command's last byte to the server's being ready for the next one.
        pub latency_ns: u64,
        /// From the start to the first response byte.
        pub first_byte_ns: Option<u64>,
        /// Names the identity in the text store; 0: unknown.
        pub identity_hash: u64,
        /// Names the text in the text store; 0: inline.
        pub text_hash: u64,
        /// Length of the text on the wire.
        pub text_len: u32,
        /// The text where it came inline (cut to TEXT_CAP; compressed if a flag says so).
        pub text: Vec<u8>,
        /// Rows sent to the client.
        pub rows_returned: u64,
        /// Rows changed.
        pub rows_affected: u64,
        /// Protocol bytes received since the previous unit ended.
        pub bytes_in: u64,
        /// Protocol bytes sent.
        pub bytes_out: u64,
        /// 1/p of having its dear counters read; 1.0 when all are.
        pub weight: f64,
        /// Bit n: counter n enters sums with weight 1, because it is known whenever it can be known for free.
        pub exact: u64,
        /// The counters' differences between the unit's two ends.
        pub counts: Counts,
        /// Number of the unit within its session, wrapping.
        pub unit: u32,
        /// The thread that ended the unit.
        pub tid: u32,
        /// `FLAG_*`.
        pub flags: u32,
        /// Statements in the unit; 0: none (ping).
        pub statements: u32,
        /// MySQL errno or SQLite result code; 0: none.
        pub error_code: u32,
        /// SQLSTATE; zeros: none.
        pub sqlstate: [u8; 5],
        /// Whose grammar.
        pub dialect: Dialect,
        /// What kind of work.
        pub command: Command,
        /// (text hash, text length, executions) of a batch's statements.
        pub members: Vec<(u64, u32, u32)>,
    }

    /// Decodes one record from the words a lane delivered; `None` when they contradict themselves (a hostile or broken
    /// writer). Never panics, never allocates more than the words given.
    pub fn decode(words: &[u64]) -> Option<Execution> {
        match words.first()? >> 32 & 0xffff {
            kind if kind == u64::from(KIND_SHORT) => decode_short(words),
            _ => decode_long(words),
        }
    }

    fn decode_short(words: &[u64]) -> Option<Execution> {
        let (fixed, of_session) = words.split_first_chunk::<SHORT_WORDS>()?;
        let [_, uid, start, times, identity, text_hash, text, rows, rest] = *fixed;
        let low = |w: u64| u64::from(w as u32);
        let high = |w: u64| w >> 32;
        let flags = high(rest) as u16 as u32;
        let mut counts = Counts::new();
        if flags & FLAG_UNSWITCHED != 0 {
            counts.set(CPU_NS, low(times));
            counts.set(SWITCHES_VOLUNTARY, 0);
            counts.set(SWITCHES_INVOLUNTARY, 0);
        }
        let dialect = Dialect::from_u8((rest >> 48) as u8);
        let (mut bytes, mut inline) = (0, Vec::new());
        let (mut weight, mut exact) = (1.0, counts.known);
        if let Some((first, rest)) = of_session.split_first() {
            bytes = *first;
            let length = if text_hash == 0 { (text as u32 as usize).min(TEXT_CAP) } else { 0 };
            let (text_words, rest) = rest.split_at_checked(length.div_ceil(8))?;
            inline = text_words.iter().flat_map(|w| w.to_le_bytes()).collect();
            inline.truncate(length);
            if flags & FLAG_COUNTED != 0 {
                let ([bits, known, scaled, certain], values) = rest.split_first_chunk::<COUNTED_WORDS>()?;
                weight = weight_of(*bits)?;
                counts = counters_of(*known, *scaled, values)?;
                exact = *certain & *known;
            } else if !rest.is_empty() {
                return None;
            }
            if matches!(dialect, Dialect::MySql | Dialect::MariaDb) {
                counts.set(CLIENT_WAIT_NS, 0);
                exact |= 1 << CLIENT_WAIT_NS;
            }
        }
        Some(Execution {
            kind: KIND_EXECUTION,
            session_uid: uid,
            start_ns: start,
            latency_ns: low(times),
            first_byte_ns: Some(high(times)).filter(|ns| *ns != u64::from(u32::MAX)),
            identity_hash: identity,
            text_hash,
            text_len: text as u32,
            text: inline,
            rows_returned: low(rows),
            rows_affected: high(rows),
            bytes_in: low(bytes),
            bytes_out: high(bytes),
            weight,
            exact,
            counts,
            unit: high(text) as u32,
            tid: rest as u32,
            flags: flags & !(FLAG_UNSWITCHED | FLAG_COUNTED),
            statements: 1,
            dialect,
            command: Command::from_u8((rest >> 56) as u8),
            ..Execution::default()
        })
    }

    /// One over a probability; anything else is refused.
    fn weight_of(bits: u64) -> Option<f64> {
        Some(f64::from_bits(bits)).filter(|weight| weight.is_finite() && *weight >= 1.0)
    }

    /// The counters of a mask from their values, lowest first, of which there must be as many.
    fn counters_of(known: u64, scaled: u64, values: &[u64]) -> Option<Counts> {
        if values.len() != known.count_ones() as usize {
            return None;
        }
        let mut counts = Counts { known, scaled: scaled & known, ..Counts::new() };
        let ids = (0..64).filter(|id| known & 1 << id != 0);
        for (id, value) in ids.zip(values) {
            *counts.values.get_mut(id as usize)? = *value;
        }
        Some(counts)
    }

    fn decode_long(words: &[u64]) -> Option<Execution> {
        let fixed: &[u64; FIXED_WORDS] = words.get(..FIXED_WORDS)?.try_into().ok()?;
        let low = |w: u64| w as u32;
        let high = |w: u64| (w >> 32) as u32;
        let known = fixed[13];
        let members_n = (fixed[17] >> 48) as usize;
        let inline = high(fixed[7]) as usize;
        let (values, rest) = words.get(FIXED_WORDS..)?.split_at_checked(known.count_ones() as usize)?;
        let counts = counters_of(known, fixed[14], values)?;
        if members_n > MEMBERS_MAX {
            return None;
        }
        let (member_words, rest) = rest.split_at_checked(members_n * 2)?;
        let members =
            member_words.as_chunks::<2>().0.iter().map(|m| (m[0], low(m[1]), high(m[1]))).collect::<Vec<_>>();
        let text_words = rest.get(..inline.div_ceil(8))?;
        let mut text: Vec<u8> = text_words.iter().flat_map(|w| w.to_le_bytes()).collect();
        text.truncate(inline);
        let weight = weight_of(fixed[12])?;
        let state = fixed[18].to_le_bytes();
        Some(Execution {
            kind: (fixed[0] >> 32) as u16,
            session_uid: fixed[1],
            start_ns: fixed[2],
            latency_ns: fixed[3],
            first_byte_ns: (fixed[4] != NO_FIRST_BYTE).then_some(fixed[4]),
            identity_hash: fixed[5],
            text_hash: fixed[6],
            text_len: low(fixed[7]),
            text,
            rows_returned: fixed[8],
            rows_affected: fixed[9],
            bytes_in: fixed[10],
            bytes_out: fixed[11],
            weight,
            counts,
            exact: fixed[19] & known,
            unit: low(fixed[15]),
            tid: high(fixed[15]),
            flags: low(fixed[16]),
            statements: high(fixed[16]),
            error_code: low(fixed[17]),
            dialect: Dialect::from_u8((fixed[17] >> 32) as u8),
            command: Command::from_u8((fixed[17] >> 40) as u8),
            sqlstate: [state[0], state[1], state[2], state[3], state[4]],
            members,
        })
    }
}
