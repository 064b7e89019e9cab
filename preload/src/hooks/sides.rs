//! What is done before and after a read or a write of a session.
//!
//! Of a session that stands aside: [`after_aside`] and [`after_write_aside`], which nearly always find that there is nothing to
//! be done while capture is off. What runs then lies together, and is short: a server between two queries has it in none of its
//! caches.
//!
//! # Safety
//!
//! `unsafe` is used to look at the caller's buffer as far as the kernel has just filled it or taken from it; and before a
//! write, as far as it took bytes from the same buffer before.
#![allow(unsafe_code)]

use crate::ENGINE;
use crate::thread::{with, with_known};
use core::ffi::c_void;
use libc::ssize_t;
use perquery_agent::session::{BackInAnswer, Cell, HEADER_BYTES, Ticket};

#[inline(never)]
#[unsafe(link_section = ".text.hot.perquery.finish")]
pub(super) fn before_read_of(cell: &'static Cell, requested: usize) -> Ticket {
    match with_known(|engine, t| engine.finish_directly(t, cell, requested)).flatten() {
        Some(ticket) => ticket,
        None => before_read_at_length(cell, requested),
    }
}

#[inline(never)]
fn before_read_at_length(cell: &'static Cell, requested: usize) -> Ticket {
    match ENGINE.read_aside(cell) {
        Some(ticket) => ticket,
        None => with(|engine, t| engine.read_begin(t, cell, requested)).unwrap_or(Ticket::NONE),
    }
}

#[inline(always)]
pub(super) fn before_write(cell: &'static Cell) -> Ticket {
    match with_known(|engine, t| engine.write_goes_on(t, cell)).flatten() {
        Some(ticket) => ticket,
        None => before_write_at_length(cell),
    }
}

#[inline(never)]
fn before_write_at_length(cell: &'static Cell) -> Ticket {
    match ENGINE.write_aside(cell) {
        Some(ticket) => ticket,
        None => with(|engine, t| engine.write_begin(t, cell)).unwrap_or(Ticket::NONE),
    }
}

/// The buffer's first `n` bytes, which the kernel has just filled or taken; `None`: there are none.
#[inline(always)]
unsafe fn bytes<'a>(buffer: *const c_void, n: ssize_t) -> Option<&'a [u8]> {
    // SAFETY: the kernel accessed `n` bytes at `buffer`, so they are mapped; nobody else writes there during the call.
    (n > 0 && !buffer.is_null()).then(|| unsafe { core::slice::from_raw_parts(buffer.cast(), n as usize) })
}

#[inline(always)]
pub(super) unsafe fn after_read(ticket: Ticket, requested: usize, buffer: *const c_void, n: ssize_t) {
    if ticket.is_some()
        && n > 0
        // SAFETY: as above.
        && !(ticket.is_before_a_header() && n == HEADER_BYTES as ssize_t && unsafe { is_usual_header(buffer) })
    {
        // SAFETY: `n` is the answer of the read into `buffer`.
        unsafe { after_read_of(ticket, requested, buffer, n) };
    } else if n < 0 {
        after_nothing();
    }
}

/// True for what nearly every read for a command's header brings, of which its body says enough.
#[inline(always)]
unsafe fn is_usual_header(buffer: *const c_void) -> bool {
    // SAFETY: the kernel has just filled so many bytes.
    ENGINE.is_usual_header(unsafe { &*buffer.cast::<[u8; HEADER_BYTES]>() })
}

/// After a read for a header of a session that stood aside.
#[inline(always)]
pub(super) unsafe fn after_header(ticket: Ticket, buffer: *const c_void, n: ssize_t) {
    // SAFETY: the caller's promise.
    let passes = n == HEADER_BYTES as ssize_t && unsafe { is_usual_header(buffer) };
    if n <= 0 {
        after_nothing();
    } else if !passes {
        // SAFETY: as above.
        unsafe { after_unusual_header(ticket, buffer, n) };
    }
}

#[cold]
#[inline(never)]
unsafe fn after_unusual_header(ticket: Ticket, buffer: *const c_void, n: ssize_t) {
    // SAFETY: the caller's promise.
    if let Some(bytes) = unsafe { bytes(buffer, n) } {
        read_at_length(ticket, HEADER_BYTES, bytes);
    }
}

/// After a read that brought nothing: the thread is going to wait for its next command.
#[inline(always)]
fn after_nothing() {
    if ENGINE.capture() != 0 {
        after_nothing_captured();
    }
}

#[inline(never)]
#[unsafe(link_section = ".text.hot.perquery.recv")]
fn after_nothing_captured() {
    // Where readings are far between it is nobody's business.
    if ENGINE.reads_all() {
        with_known(|_, t| t.found_nothing());
    }
}

#[inline(never)]
unsafe fn after_read_of(ticket: Ticket, requested: usize, buffer: *const c_void, n: ssize_t) {
    if ticket.is_aside() {
        // SAFETY: the caller's promise.
        unsafe { after_aside(ticket, requested, buffer, n) };
    // SAFETY: as above.
    } else if let Some(bytes) = unsafe { bytes(buffer, n) } {
        read_at_length(ticket, requested, bytes);
    }
}

/// After a read of a session that stood aside.
#[inline(always)]
pub(super) unsafe fn after_aside_or_nothing(
    ticket: Ticket,
    requested: usize,
    buffer: *const c_void,
    n: ssize_t,
) {
    if n > 0 {
        // SAFETY: the caller's promise.
        unsafe { after_aside(ticket, requested, buffer, n) };
    } else {
        after_nothing();
    }
}

/// The same of one that brought `n` bytes.
#[inline(always)]
unsafe fn after_aside(ticket: Ticket, requested: usize, buffer: *const c_void, n: ssize_t) {
    // SAFETY: the caller's promise.
    let Some(bytes) = (unsafe { bytes(buffer, n) }) else { return };
    let capture = ENGINE.capture();
    if capture == 0 {
        after_aside_off(ticket, requested, bytes);
    } else if ticket.is_postgres() {
        after_request(ticket, requested, bytes, capture);
    } else {
        after_body(ticket, requested, bytes, capture);
    }
}

#[inline(never)]
#[unsafe(link_section = ".text.hot.perquery.off")]
fn after_aside_off(ticket: Ticket, requested: usize, bytes: &[u8]) {
    if !ENGINE.passes_at_a_glance(ticket, requested, bytes) {
        after_aside_looked_at(ticket, requested, bytes);
    }
}

#[inline(never)]
#[unsafe(link_section = ".text.hot.perquery.off")]
fn after_aside_looked_at(ticket: Ticket, requested: usize, bytes: &[u8]) {
    if !ENGINE.passes_while_off(ticket, requested, bytes) {
        read_at_length(ticket, requested, bytes);
    }
}

/// After a read of a MySQL session that stood aside.
#[inline(never)]
#[unsafe(link_section = ".text.hot.perquery.body")]
fn after_body(ticket: Ticket, requested: usize, bytes: &[u8], capture: u64) {
    if with(|engine, t| engine.start_command(t, ticket, requested, bytes, capture)) == Some(false) {
        read_at_length(ticket, requested, bytes);
    }
}

/// After a read of a PostgreSQL session that stood aside.
#[inline(never)]
#[unsafe(link_section = ".text.hot.perquery.request")]
fn after_request(ticket: Ticket, requested: usize, bytes: &[u8], capture: u64) {
    if with(|engine, t| engine.start_request(t, ticket, bytes, capture)) == Some(false) {
        read_at_length(ticket, requested, bytes);
    }
}

#[cold]
#[inline(never)]
fn read_at_length(ticket: Ticket, requested: usize, bytes: &[u8]) {
    with(|engine, t| {
        if ticket.is_aside() {
            engine.read_end_aside(t, ticket, requested, bytes);
        } else {
            engine.read_end(t, ticket, bytes);
        }
    });
}

/// Before a write of `len` bytes at `buffer`, while capture is on: true where nothing is to be done afterwards.
#[inline(never)]
#[unsafe(link_section = ".text.hot.perquery.answer")]
pub(super) unsafe fn answered_ahead(cell: &'static Cell, buffer: *const c_void, len: usize) -> bool {
    // SAFETY: the caller's promise.
    let Some(bytes) = (unsafe { bytes_ahead(cell, buffer, len) }) else { return false };
    with_known(|engine, t| engine.answered_ahead(t, cell, bytes)) == Some(true)
}

/// The same before one of a PostgreSQL session that stands aside.
#[inline(always)]
pub(super) unsafe fn written_ahead(cell: &'static Cell, buffer: *const c_void, len: usize) -> bool {
    // SAFETY: the caller's promise.
    unsafe { bytes_ahead(cell, buffer, len) }.is_some_and(|bytes| ENGINE.written_ahead(cell, bytes))
}

/// The same of the answers of nearly all queries; false of all others.
#[inline(always)]
pub(super) unsafe fn written_ahead_at_a_glance(
    cell: &'static Cell,
    buffer: *const c_void,
    len: usize,
) -> bool {
    // SAFETY: the caller's promise.
    unsafe { bytes_ahead(cell, buffer, len) }
        .is_some_and(|bytes| ENGINE.written_ahead_at_a_glance(cell, bytes))
}

/// What is about to be written; `None`: it can't be looked at before the kernel has taken it.
#[inline(always)]
unsafe fn bytes_ahead<'a>(cell: &Cell, buffer: *const c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: the kernel has taken as many bytes from the same buffer before, so they are mapped; nobody writes there before
    // the write that is about to begin.
    cell.may_be_seen_ahead(buffer.addr(), len)
        .then(|| unsafe { core::slice::from_raw_parts(buffer.cast(), len) })
}

#[inline(always)]
pub(super) unsafe fn after_write(ticket: Ticket, buffer: *const c_void, n: ssize_t) {
    if ticket.is_some()
        // SAFETY: `n` is the answer of the write from `buffer`.
        && let Some(bytes) = unsafe { bytes(buffer, n) }
    {
        if ticket.is_postgres() {
            after_last_answer(ticket, bytes);
        } else {
            after_answer(ticket, bytes);
        }
    }
}

#[inline(never)]
#[unsafe(link_section = ".text.hot.perquery.answer")]
fn after_answer(ticket: Ticket, bytes: &[u8]) {
    if with_known(|engine, t| engine.answered_directly(t, ticket, bytes)) != Some(true) {
        write_at_length(ticket, bytes);
    }
}

/// The same of a PostgreSQL session.
#[inline(never)]
#[unsafe(link_section = ".text.hot.perquery.last_answer")]
fn after_last_answer(ticket: Ticket, bytes: &[u8]) {
    if with_known(|engine, t| engine.ended_directly(t, ticket, bytes)) != Some(true) {
        write_at_length(ticket, bytes);
    }
}

/// After a write of a PostgreSQL session that stood aside.
#[inline(never)]
#[unsafe(link_section = ".text.hot.perquery.off")]
pub(super) unsafe fn after_write_aside(ticket: Ticket, buffer: *const c_void, n: ssize_t) {
    // SAFETY: `n` is the answer of the write from `buffer`.
    if let Some(bytes) = unsafe { bytes(buffer, n) }
        && !ENGINE.written_at_a_glance(ticket, bytes)
    {
        write_at_length(ticket, bytes);
    }
}

#[inline(never)]
fn write_at_length(ticket: Ticket, bytes: &[u8]) {
    if ticket.is_aside() {
        if let Some(back) = ENGINE.write_end_aside(ticket, bytes) {
            after_write_back(ticket, back, bytes);
        }
        return;
    }
    with(|engine, t| engine.write_end(t, ticket, bytes));
}

#[cold]
#[inline(never)]
fn after_write_back(ticket: Ticket, back: BackInAnswer, bytes: &[u8]) {
    with(|engine, t| engine.write_end_back(t, ticket, back, bytes));
}
