//! The usual query without the machine: a command and its answer, each whole, read once and not kept.
//!
//! The machine stays as it was between two commands. [`Mysql::catch_up`] tells it afterwards what has happened, where
//! something unusual follows.

use super::command::code;
use super::handshake::capability;
use super::ok::status;
use super::packet::{FULL, Fields};
use super::response::{EOF, EOF_LIMIT, Expect, LOCAL_INFILE, OK};
use super::{Command, Mysql, TextKind, TextRef, use_statement};
use crate::protocol::{Answer, Asked};

/// The second letter of UPDATE, which begins like USE.
fn is_update(text: &[u8]) -> bool {
    matches!(text, [b'u' | b'U', b'p' | b'P', ..])
}

/// Splits a packet off the front of `rest`: its sequence number, its first byte, and its payload. `None`: it is not there
/// whole, has no payload, or is continued by another one.
#[inline(always)]
fn packet<'a>(rest: &mut &'a [u8]) -> Option<(u8, u8, &'a [u8])> {
    let (header, body) = rest.split_first_chunk::<4>()?;
    let header = u32::from_le_bytes(*header);
    let len = header & FULL;
    let (payload, next) = body.split_at_checked(len as usize)?;
    let first = *payload.first()?;
    *rest = next;
    (len != FULL).then_some(((header >> 24) as u8, first, payload))
}

impl Mysql {
    /// A whole command, header and body, that comes while the machine is at rest and capture is on, if it is of the usual
    /// kind: a query that changes nothing about the session, or the execution of a known prepared statement. The machine does
    /// not move.
    #[inline(always)]
    pub fn direct_command(&mut self, header: [u8; 4], body: &[u8]) -> Option<Asked> {
        let [a, b, c, seq] = header;
        let (code, rest) = body.split_first()?;
        if seq != 0 || u32::from_le_bytes([a, b, c, 0]) as usize != body.len() {
            return None;
        }
        match *code {
            code::QUERY => {
                let text = match rest {
                    // No attributes, one set of them.
                    [0, 1, text @ ..] if self.can(capability::QUERY_ATTRIBUTES) => text,
                    _ if self.can(capability::QUERY_ATTRIBUTES) => return None,
                    text => text,
                };
                if use_statement::may_begin(*text.first()?) && !is_update(text) {
                    return None;
                }
                self.text.set(text);
                let text = TextRef { hash: 0, full_len: self.text.full_len() };
                Some(Asked { command: Command::Query, text })
            }
            code::EXECUTE => {
                let text = self.stored_text(u32::from_le_bytes(*rest.first_chunk::<4>()?));
                (text.hash != 0).then_some(Asked { command: Command::Execute, text })
            }
            _ => None,
        }
    }

    /// The text of the query that [`direct_command`](Self::direct_command) took last, as far as it is kept.
    #[inline(always)]
    pub fn direct_text(&self) -> &[u8] {
        self.text.as_slice()
    }

    /// What the answer to a direct command says, where `bytes` is all of it and nothing more: one OK, or one result set.
    /// `None`: it is not, or it says more than that (an error, further results, a changed session, an open cursor).
    #[inline(always)]
    pub fn direct_answer(&self, bytes: &[u8]) -> Option<Answer> {
        let mut rest = bytes;
        let (seq, first, payload) = packet(&mut rest)?;
        if self.can(capability::OPTIONAL_METADATA) {
            return None;
        }
        if first == OK {
            let affected = Self::direct_ok(payload)?;
            return rest.is_empty().then_some(Answer { rows_returned: 0, rows_affected: affected });
        }
        // A number of one byte, and whether the definitions follow.
        let follow = match (payload, self.can(capability::CACHE_METADATA)) {
            ([_], false) => true,
            ([_, follow], true) => *follow != 0,
            _ => return None,
        };
        if first >= LOCAL_INFILE {
            return None;
        }
        let mut seq = seq;
        let mut next = |rest: &mut &[u8]| -> Option<(u8, usize)> {
            let (found, first, payload) = packet(rest)?;
            seq = seq.wrapping_add(1);
            (found == seq).then_some((first, payload.len()))
        };
        for _ in 0..if follow { first } else { 0 } {
            // An error in between is the machine's.
            next(&mut rest).filter(|(first, _)| *first < EOF)?;
        }
        let no_eof = self.can(capability::DEPRECATE_EOF);
        if !no_eof {
            let eof = rest.get(4..)?;
            next(&mut rest).filter(|(first, len)| *first == EOF && *len < EOF_LIMIT as usize)?;
            // A cursor's rows come by COM_STMT_FETCH.
            if Self::direct_eof(eof)? & status::CURSOR_EXISTS != 0 {
                return None;
            }
        }
        let mut rows = 0;
        loop {
            let last = rest.get(4..)?;
            let (first, len) = next(&mut rest)?;
            if first < EOF || first == EOF && !no_eof && len >= EOF_LIMIT as usize {
                rows += 1;
                continue;
            }
            let ends = first == EOF && rest.is_empty();
            let says_no_more = if no_eof {
                Self::direct_ok(last.get(..len)?).is_some()
            } else {
                Self::direct_eof(last)? & status::MORE_RESULTS == 0
            };
            return (ends && says_no_more).then_some(Answer { rows_returned: rows, rows_affected: 0 });
        }
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

    /// The status in the EOF packet that `payload` begins with.
    #[inline(always)]
    fn direct_eof(payload: &[u8]) -> Option<u16> {
        match payload {
            [_, _, _, low, high, ..] => Some(u16::from_le_bytes([*low, *high])),
            _ => None,
        }
    }

    /// The machine is told of a command, and of its answer where that has come.
    pub fn catch_up(&mut self, asked: Asked, answer: Option<Answer>) {
        let kind = if asked.text.hash == 0 { TextKind::Inline } else { TextKind::Stored };
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
