//! The quiet way of a PostgreSQL session, for while capture is off: requests and answers are walked from header to header.
//!
//! A backend reads again only when it has answered all that it has read. So while a machine is at rest, a read that brings
//! exactly one unit which names nothing (a simple Query; or Bind, Describe and Execute of the unnamed portal, behind a Parse
//! of the unnamed statement or not, and their Sync) passes: when the server reads next the machine is where it was. Anything
//! else, as a named Parse, half a message or two units, is fed to the machine from its first byte.
//!
//! What statements do to the session stands in their answers: a ParameterStatus, however it came about, a COPY that wants
//! data, a stream. At the first such message the machine takes over, in the middle of an answer, and goes on from there.
//! All others are skipped by their lengths; where a server reports last, of the write that ends an answer only the end is
//! looked at.
//!
//! While capture is on a session at rest stands aside too, but nothing that moves passes: it only saves the reads that
//! would block, of which every query has one, the trouble.
//!
//! The word of a session that stands aside: flags below, how much of a header was kept in bits 8 to 10, and above either
//! these header bytes or how much of a message's payload is still to come.

use super::arena::Cell;
use super::quiet::LOUD;
use crate::protocol::postgres::{
    Kind, READY_LENGTH, ends_with_a_command, few_selected, is_usual_ending, kind_of,
};
use core::sync::atomic::Ordering;

/// A unit passed whose ReadyForQuery was not seen yet.
pub(super) const ANSWERING: u64 = 1;
/// That unit is a simple Query.
const SIMPLE: u64 = 2;
/// Capture is on: whatever moves is the machine's. Only reads that bring nothing pass, and every query has one of them.
const CAPTURING: u64 = super::quiet::CAPTURING;
/// The session is a PostgreSQL one, and stands aside.
pub(super) const POSTGRES: u64 = 1 << 5;
/// The server [reports](crate::protocol::postgres::Postgres::reports_last) what has changed of the session last.
pub(super) const REPORTS_LAST: u64 = 1 << 2;
/// A unit that goes the direct way executes one portal.
pub(super) const ONE_COMMAND: u64 = 1 << 3;
const FLAGS: u64 = 0xff;
const KEPT_SHIFT: u32 = 8;
/// Everything but the flags: zero between two messages of the answer.
const FRAMING: u64 = !FLAGS;

/// Tag and length of a message.
const HEADER_BYTES: usize = 5;
/// No message is longer (the server's own limit for one allocation).
const LENGTH_MAX: u32 = 0x3fff_ffff;

/// The machine has to go on in the middle of what the server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Back {
    /// A unit that passed is being answered: `Some(true)` for a simple Query.
    pub unit: Option<bool>,
    /// The beginning of a header that came with an earlier write.
    kept: [u8; 4],
    kept_bytes: u8,
    /// Where in the bytes just written the machine begins.
    pub from: usize,
}

impl Back {
    /// The bytes to be fed first.
    pub(super) fn kept(&self) -> &[u8] {
        self.kept.get(..self.kept_bytes as usize).unwrap_or(&[])
    }
}

/// True for the word of a PostgreSQL session that stands aside.
#[inline(always)]
pub(super) fn is_ours(word: u64) -> bool {
    word & POSTGRES != 0
}

/// True for the word of a session that stands aside while capture is on.
#[inline(always)]
pub(super) fn is_capturing(word: u64) -> bool {
    word & CAPTURING != 0
}

/// After a read that brought `bytes`: true when they have to be followed.
pub(super) fn after_read(cell: &Cell, word: u64, capturing: bool, bytes: &[u8]) -> bool {
    let is_seen = is_capturing(word) || capturing && word & FRAMING == 0;
    is_seen || !passes_while_off(cell, word, bytes)
}

/// The same while capture is off, or was off when the unit before began: true when they need not be followed.
#[inline(always)]
pub(super) fn passes_while_off(cell: &Cell, word: u64, bytes: &[u8]) -> bool {
    let passes = if is_capturing(word) { None } else { unit(bytes) };
    if let Some(kind) = passes {
        pass(cell, word, kind);
    }
    passes.is_some()
}

/// The same answer for a simple Query, and an execution of a named statement by nearly all clients; false of all others.
#[inline(always)]
pub(super) fn passes_at_a_glance(cell: &Cell, word: u64, bytes: &[u8]) -> bool {
    if is_capturing(word) {
        return false;
    }
    let kind = if is_usual_execution(bytes) {
        0
    } else if is_simple_query(bytes) {
        SIMPLE
    } else {
        return false;
    };
    pass(cell, word, kind);
    true
}

#[inline(always)]
fn pass(cell: &Cell, word: u64, kind: u64) {
    cell.quiet.store(word & !SIMPLE | ANSWERING | kind, Ordering::Relaxed);
}

/// Before a write of `bytes`: true where they end an answer in which only the last messages can be anything else than passed
/// over, and these are; the write was seen to then. False of all others, which have to be looked at when the kernel has taken
/// them.
#[inline(always)]
pub(super) fn written_ahead(cell: &Cell, word: u64, bytes: &[u8]) -> bool {
    written_ahead_if(cell, word, bytes, ends_with_a_command)
}

/// The same of the answers of nearly all queries; false of all others.
#[inline(always)]
pub(super) fn written_ahead_at_a_glance(cell: &Cell, word: u64, bytes: &[u8]) -> bool {
    written_ahead_if(cell, word, bytes, |bytes| few_selected(bytes).is_some())
}

#[inline(always)]
fn written_ahead_if(cell: &Cell, word: u64, bytes: &[u8], ends: impl Fn(&[u8]) -> bool) -> bool {
    // Also where this is the rest of a long answer: what its beginning left open ends here.
    let passes = word & (CAPTURING | REPORTS_LAST) == REPORTS_LAST && ends(bytes);
    if passes {
        cell.quiet.store(word & FLAGS & !ANSWERING, Ordering::Relaxed);
        cell.written.saw(bytes.as_ptr().addr(), bytes.len());
    }
    passes
}

/// After a write of `bytes`: true where they are messages that are passed over, or end an answer in which only the last ones can
/// be anything else; false of all others, which [`after_write`] has to see.
#[inline(always)]
pub(super) fn written_at_a_glance(cell: &Cell, word: u64, bytes: &[u8]) -> bool {
    if word & CAPTURING != 0 {
        return false;
    }
    // Also where this is the rest of a long answer: what its beginning left open ends here.
    if word & REPORTS_LAST != 0 && ends_with_a_command(bytes) {
        cell.quiet.store(word & FLAGS & !ANSWERING, Ordering::Relaxed);
        return true;
    }
    if word & FRAMING != 0 {
        return false;
    }
    if bytes.len() >= SEND_BUFFER_BYTES {
        // It hardly ends where a message does: it would be walked twice.
        return false;
    }
    let mut flags = word;
    let mut left = bytes;
    while let Some((&[tag, a, b, c, d], rest)) = left.split_first_chunk::<HEADER_BYTES>() {
        // An impossible length is longer than what is there.
        let length = u32::from_be_bytes([a, b, c, d]);
        let Some(next) = rest.get(length.wrapping_sub(4) as usize..) else { return false };
        if !is_passed_over(tag) {
            if tag != b'Z' || length != READY_LENGTH {
                return false;
            }
            flags &= !ANSWERING;
        }
        left = next;
    }
    if left.is_empty() {
        cell.quiet.store(flags, Ordering::Relaxed);
    }
    left.is_empty()
}

/// PostgreSQL's own buffer (PQ_SEND_BUFFER_SIZE in libpq/pqcomm.c), which is sent when it is full.
const SEND_BUFFER_BYTES: usize = 8192;

/// After a write of `bytes`: `Some`: the session is loud again.
pub(super) fn after_write(cell: &Cell, word: u64, bytes: &[u8]) -> Option<Back> {
    let walked = match word >> KEPT_SHIFT & 7 {
        _ if is_capturing(word) => Err(back(0, [].as_slice(), 0)),
        0 => walk(word & FLAGS, (word >> 32) as usize, bytes),
        kept => walk_from_kept(word, kept as usize, bytes),
    };
    let (word, back) = match walked {
        Ok(word) => (word, None),
        Err(back) => (LOUD, Some(back)),
    };
    cell.quiet.store(word, Ordering::Relaxed);
    back
}

/// What is in `bytes`, where it is one whole unit that leaves no trace in the machine: [`SIMPLE`] or 0.
#[inline(always)]
fn unit(bytes: &[u8]) -> Option<u64> {
    if is_simple_query(bytes) {
        return Some(SIMPLE);
    }
    (is_usual_execution(bytes) || extended_unit(bytes)).then_some(0)
}

#[inline(always)]
fn is_simple_query(bytes: &[u8]) -> bool {
    let Some((&[b'Q', a, b, c, d], _)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return false };
    u32::from_be_bytes([a, b, c, d]) as usize + 1 == bytes.len()
}

/// The same answer as [`extended_unit`]'s for executions of named statements by such clients, sooner.
#[inline(always)]
fn is_usual_execution(bytes: &[u8]) -> bool {
    // An impossible length is longer than what is there.
    let Some((&[b'B', a, b, c, d], rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return false };
    let payload = u32::from_be_bytes([a, b, c, d]).wrapping_sub(4) as usize;
    let Some((&[0, statement, ..], ending)) = rest.split_at_checked(payload) else { return false };
    statement != 0 && is_usual_ending(ending)
}

/// Execute of the unnamed portal, all of its rows.
const EXECUTE: [u8; HEADER_BYTES] = [0; HEADER_BYTES];

fn extended_unit(mut bytes: &[u8]) -> bool {
    let (mut parsed, mut bound, mut executed) = (false, false, false);
    while let Some((&[tag, a, b, c, d], rest)) = bytes.split_first_chunk::<HEADER_BYTES>() {
        let Some(length) = (u32::from_be_bytes([a, b, c, d]) as usize).checked_sub(4) else { return false };
        let Some((payload, rest)) = rest.split_at_checked(length) else { return false };
        match (tag, payload) {
            (b'S', []) => return rest.is_empty() && bound == executed,
            (b'P', [0, ..]) => parsed = true,
            // The unnamed portal. What the unnamed statement says is not known later.
            (b'B', [0, statement, ..]) if !bound && (*statement != 0 || parsed) => bound = true,
            (b'D', _) => {}
            (b'E', payload) if bound && !executed && *payload == EXECUTE => executed = true,
            _ => return false,
        }
        bytes = rest;
    }
    false
}

/// True for the tags of messages that leave no trace in the machine. (Bits of two words that stand in the code, and no table:
/// one cache line less.)
#[inline(always)]
fn is_passed_over(tag: u8) -> bool {
    matches!(
        tag,
        b'T' | b'1'
            ..=b'3'
                | b'n'
                | b'd'
                | b'D'
                | b'C'
                | b'I'
                | b'E'
                | b'N'
                | b'A'
                | b'c'
                | b'H'
                | b'V'
                | b's'
                | b't'
    )
}

/// Walks from header to header, after `left` bytes that belong to a message of which the header has been seen. The word
/// that says where it ended.
#[inline(always)]
fn walk(mut flags: u64, left: usize, all: &[u8]) -> Result<u64, Back> {
    let Some(mut bytes) = all.get(left..) else {
        return Ok(flags | ((left - all.len()) as u64) << 32);
    };
    while let Some((&[tag, a, b, c, d], rest)) = bytes.split_first_chunk::<HEADER_BYTES>() {
        // Nearly all are skipped here. An impossible length is longer than what is there.
        let payload = u32::from_be_bytes([a, b, c, d]).wrapping_sub(4) as usize;
        if is_passed_over(tag)
            && let Some(next) = rest.get(payload..)
        {
            bytes = next;
            continue;
        }
        let Some(payload) = step(&mut flags, tag, [a, b, c, d]) else {
            return Err(back(flags, [].as_slice(), all.len() - bytes.len()));
        };
        match rest.get(payload..) {
            Some(next) => bytes = next,
            None => return Ok(flags | ((payload - rest.len()) as u64) << 32),
        }
    }
    if bytes.is_empty() { Ok(flags) } else { Ok(flags | keep([].as_slice(), bytes)) }
}

/// One message of the answer: the length of its payload; `None`: the machine has to see it.
#[inline(always)]
fn step(flags: &mut u64, tag: u8, length: [u8; 4]) -> Option<usize> {
    let length = u32::from_be_bytes(length);
    if !(4..=LENGTH_MAX).contains(&length) {
        return None;
    }
    match kind_of(tag) {
        Kind::Other => return None,
        Kind::Ready if length != READY_LENGTH => return None,
        Kind::Ready => *flags &= !ANSWERING,
        _ => {}
    }
    Some(length as usize - 4)
}

/// The same where the first bytes of a header came with the write before.
#[cold]
fn walk_from_kept(word: u64, kept: usize, bytes: &[u8]) -> Result<u64, Back> {
    let all = ((word >> 32) as u32).to_le_bytes();
    let kept = all.get(..kept).unwrap_or(&[]);
    let mut flags = word & FLAGS;
    let mut header = [0; HEADER_BYTES];
    for (to, from) in header.iter_mut().zip(kept.iter().chain(bytes)) {
        *to = *from;
    }
    if kept.len() + bytes.len() < HEADER_BYTES {
        return Ok(flags | keep(kept, bytes));
    }
    let [tag, length @ ..] = header;
    match step(&mut flags, tag, length) {
        Some(payload) => walk(flags, HEADER_BYTES - kept.len() + payload, bytes),
        None => Err(back(flags, kept, 0)),
    }
}

/// The upper part of a word that keeps up to four bytes of a header.
#[cold]
fn keep(kept: &[u8], more: &[u8]) -> u64 {
    let mut bytes = [0; 4];
    for (to, from) in bytes.iter_mut().zip(kept.iter().chain(more)) {
        *to = *from;
    }
    u64::from(u32::from_le_bytes(bytes)) << 32 | ((kept.len() + more.len()) as u64) << KEPT_SHIFT
}

#[cold]
fn back(flags: u64, header: &[u8], from: usize) -> Back {
    let mut kept = [0; 4];
    for (to, byte) in kept.iter_mut().zip(header) {
        *to = *byte;
    }
    let unit = (flags & ANSWERING != 0).then_some(flags & SIMPLE != 0);
    Back { unit, kept, kept_bytes: header.len() as u8, from }
}

#[cfg(test)]
#[path = "quiet_postgres_tests.rs"]
mod tests;
