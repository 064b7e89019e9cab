//! The usual query without the machine: a command and its answer, each whole, read once and not kept.
//!
//! The machine stays as it was between two commands. [`Mysql::catch_up`] tells it afterwards what has happened, where
//! something unusual follows.

use super::command::code;
use super::handshake::capability;
use super::ok::status;
use super::packet::{FULL, Fields};
use super::response::{EOF, EOF_LIMIT, Expect, LOCAL_INFILE, OK};
use super::{Command, Mysql, TEXT_CAP, TextKind, TextRef, use_statement};
use crate::protocol::{Answer, Asked, PackedAnswer};
use core::hint::cold_path;

/// The second letter of UPDATE, which begins like USE.
fn is_update(text: &[u8]) -> bool {
    matches!(text, [b'u' | b'U', b'p' | b'P', ..])
}

/// Packets one after the other, with the sequence numbers one after the other.
struct Packets<'a> {
    bytes: &'a [u8],
    /// Where the next one begins.
    at: usize,
    /// Its sequence number, where that stands in a header.
    seq: u32,
}

impl<'a> Packets<'a> {
    /// The next packet: its first byte, and its payload's length. `None`: there is none, or it has no payload. That it is
    /// there whole shows in the next one's being there, or in [`is_over`](Self::is_over).
    #[inline(always)]
    fn next(&mut self) -> Option<(u8, usize)> {
        let (header, payload) = self.bytes.get(self.at..)?.split_first_chunk::<HEADER>()?;
        let first = *payload.first()?;
        // The right number leaves nothing of itself.
        let len = u32::from_le_bytes(*header) ^ self.seq;
        if len.wrapping_sub(1) >= FULL {
            return None;
        }
        self.seq = self.seq.wrapping_add(1 << SEQ_SHIFT);
        self.at += HEADER + len as usize;
        Some((first, len as usize))
    }

    /// The payload, of `len` bytes, of the packet that was answered last, as far as it is there.
    #[inline(always)]
    fn payload(&self, len: usize) -> &'a [u8] {
        self.bytes.get(self.at - len..).unwrap_or(&[])
    }

    #[inline(always)]
    fn is_over(&self) -> bool {
        self.at == self.bytes.len()
    }
}

const HEADER: usize = 4;
const SEQ_SHIFT: u32 = 24;

impl Mysql {
    /// A whole command's body that comes while the machine is at rest and capture is on, if it is of the usual
    /// kind: a query that changes nothing about the session, with as much of its text as is kept, or the execution of a known
    /// prepared statement. The machine does not move.
    #[inline(always)]
    pub fn direct_command<'a>(&self, body: &'a [u8]) -> Option<(Asked, &'a [u8])> {
        let (code, rest) = body.split_first()?;
        if *code == code::EXECUTE {
            let text = self.stored_text(u32::from_le_bytes(*rest.first_chunk::<4>()?));
            return (text.hash != 0).then_some((Asked { command: Command::Execute, text }, &[]));
        }
        // What follows lies behind the shorter way.
        cold_path();
        if *code != code::QUERY {
            return None;
        }
        let text = match rest {
            // No attributes, one set of them.
            [0, 1, text @ ..] if self.can(capability::QUERY_ATTRIBUTES) => text,
            _ if self.can(capability::QUERY_ATTRIBUTES) => return None,
            text => text,
        };
        if use_statement::may_begin(*text.first()?) && !is_update(text) {
            return None;
        }
        let full_len = u32::try_from(text.len()).ok()?;
        let asked = Asked { command: Command::Query, text: TextRef { hash: 0, full_len } };
        Some((asked, text.get(..TEXT_CAP).unwrap_or(text)))
    }

    /// How the server frames its answers in this session.
    pub fn framing(&self) -> Framing {
        let bit = |capability: u64, bit: u8| if self.can(capability) { bit } else { 0 };
        Framing(
            bit(capability::DEPRECATE_EOF, NO_EOF)
                | bit(capability::OPTIONAL_METADATA, OPTIONAL_METADATA)
                | bit(capability::CACHE_METADATA, CACHE_METADATA),
        )
    }

    /// The affected rows of an OK that says nothing else.
    #[inline(always)]
    fn direct_ok(payload: &[u8]) -> Option<u32> {
        let (affected, status) = match payload {
            // Nearly all: both numbers have one byte.
            [_, affected @ 0..=0xfa, 0..=0xfa, low, high, _, _, ..] => {
                (u32::from(*affected), u16::from_le_bytes([*low, *high]))
            }
            _ => Self::direct_ok_with_large_numbers(payload)?,
        };
        (status & (status::MORE_RESULTS | status::SESSION_STATE_CHANGED) == 0).then_some(affected)
    }

    #[cold]
    fn direct_ok_with_large_numbers(payload: &[u8]) -> Option<(u32, u16)> {
        let mut fields = Fields(payload);
        fields.u8()?;
        let affected = u32::try_from(fields.lenenc()?).ok()?;
        fields.lenenc()?;
        let status = fields.u16()?;
        fields.u16()?;
        Some((affected, status))
    }

    /// The machine is told of a command, and of its answer where that has come. `text` hands over the text of a query.
    pub fn catch_up(
        &mut self,
        asked: Asked,
        answer: Option<Answer>,
        text: impl FnOnce(&mut dyn FnMut(&[u8])),
    ) {
        let mut kind = TextKind::Stored;
        if asked.text.hash == 0 {
            kind = TextKind::Inline;
            self.text.clear();
            text(&mut |piece| self.text.push(piece));
            self.text.cut_from(asked.text.full_len);
        }
        self.new_unit(asked.command, kind, Expect::First);
        self.current.stored = asked.text;
        self.capturing = true;
        self.incoming.pass_usual();
        self.input.passed(0, 0);
        if let Some(answer) = answer {
            self.current.responded = true;
            self.current.results = 1;
            self.current.outcome.rows_returned = answer.rows_returned.into();
            self.current.outcome.rows_affected = answer.rows_affected.into();
            self.response.expect = Expect::Complete;
        }
    }
}

/// The status in the EOF packet that `payload` begins with.
#[inline(always)]
fn eof_status(payload: &[u8]) -> Option<u16> {
    match payload {
        [_, _, _, low, high, ..] => Some(u16::from_le_bytes([*low, *high])),
        _ => None,
    }
}

/// True also where that can't be known.
#[inline(always)]
fn opens_a_cursor(eof: &[u8]) -> bool {
    eof_status(eof).is_none_or(|status| status & status::CURSOR_EXISTS != 0)
}

/// How a server frames its answers, as agreed upon at login.
#[derive(Clone, Copy, Debug)]
pub struct Framing(u8);

/// No EOF follows definitions, and rows end in an OK.
const NO_EOF: u8 = 1;
/// Definitions may be left out, in MySQL's way.
const OPTIONAL_METADATA: u8 = 2;
/// The same in MariaDB's way.
const CACHE_METADATA: u8 = 4;

impl Framing {
    /// What the answer to a direct command says, where `bytes` is all of it and nothing more: one OK, or one result set.
    /// [`PackedAnswer::NONE`]: it is not, or it says more than that (an error, further results, a changed session, an open
    /// cursor).
    #[inline(never)]
    #[unsafe(link_section = ".text.hot.perquery.framing")]
    pub fn answer(self, bytes: &[u8]) -> PackedAnswer {
        PackedAnswer::new(self.answer_in(bytes))
    }

    #[inline(always)]
    fn answer_in(self, bytes: &[u8]) -> Option<Answer> {
        let is = |bit: u8| self.0 & bit != 0;
        let mut packets = Packets { bytes, at: 0, seq: u32::from(*bytes.get(3)?) << SEQ_SHIFT };
        let (first, len) = packets.next()?;
        // No packet in fewer bytes is continued by another one.
        if bytes.len() > FULL as usize || is(OPTIONAL_METADATA) {
            return None;
        }
        if first == OK {
            // Out of the way of the longer one.
            cold_path();
            let affected = Mysql::direct_ok(packets.payload(len))?;
            return packets.is_over().then_some(Answer { rows_returned: 0, rows_affected: affected });
        }
        if first >= LOCAL_INFILE {
            return None;
        }
        let mut definitions = u32::from(first);
        if len != 1 || is(CACHE_METADATA) {
            cold_path();
            // The second byte says whether they follow.
            let [_, follow, ..] = packets.payload(len) else { return None };
            if len != 2 || !is(CACHE_METADATA) {
                return None;
            }
            definitions = if *follow == 0 { 0 } else { definitions };
        }
        for _ in 0..definitions {
            // An error in between is the machine's.
            let (first, _) = packets.next()?;
            if first >= EOF {
                return None;
            }
        }
        if !is(NO_EOF) {
            let (first, len) = packets.next()?;
            // A cursor's rows come by COM_STMT_FETCH.
            if first != EOF || len >= EOF_LIMIT as usize || opens_a_cursor(packets.payload(len)) {
                return None;
            }
        }
        let mut rows = 0;
        let len = loop {
            let (first, len) = packets.next()?;
            if first < EOF {
                rows += 1;
                continue;
            }
            if is(NO_EOF) || first > EOF || len < EOF_LIMIT as usize {
                if first > EOF || !packets.is_over() {
                    return None;
                }
                break len;
            }
            rows += 1;
        };
        let payload = packets.payload(len);
        let says_no_more = if is(NO_EOF) {
            Mysql::direct_ok(payload).is_some()
        } else {
            eof_status(payload)? & status::MORE_RESULTS == 0
        };
        says_no_more.then_some(Answer { rows_returned: rows, rows_affected: 0 })
    }
}
