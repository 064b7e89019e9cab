//! libssl: where the plain text of a TLS session is.
//!
//! Inside these calls the library reads and writes the socket through our own overrides of read(2), recv(2), write(2)
//! and send(2); that nested call tells which session the connection belongs to, and its bytes, being cipher text, are
//! not looked at.
//!
//! # Safety
//!
//! `unsafe` is used to call the originals with the caller's own arguments, and to look at the caller's buffer as far as
//! the library has just filled it or taken from it.
#![allow(unsafe_code)]
#![allow(non_snake_case)] // the names are libssl's
#![allow(clippy::missing_safety_doc)] // each has the contract of the function of the same name

use crate::ENGINE;
use crate::real::{Original, real};
use crate::thread::with;
use core::ffi::{CStr, c_int, c_void};
use libc::size_t;
use perquery_agent::session::Ticket;

const LIBRARY: &CStr = c"libssl.so.3";

pub static ACCEPT: Original = Original::of(c"SSL_accept", LIBRARY);
pub static DO_HANDSHAKE: Original = Original::of(c"SSL_do_handshake", LIBRARY);
pub static READ: Original = Original::of(c"SSL_read", LIBRARY);
pub static READ_EX: Original = Original::of(c"SSL_read_ex", LIBRARY);
pub static WRITE: Original = Original::of(c"SSL_write", LIBRARY);
pub static WRITE_EX: Original = Original::of(c"SSL_write_ex", LIBRARY);
pub static FREE: Original = Original::of(c"SSL_free", LIBRARY);

/// What an SSL_* call remembers from before to after.
#[derive(Clone, Copy)]
struct Call {
    entered: bool,
    ticket: Ticket,
    /// How many bytes a read asks for.
    requested: usize,
}

const PASS: Call = Call { entered: false, ticket: Ticket::NONE, requested: 0 };

#[inline]
fn before(ssl: *mut c_void, requested: usize, ticket: impl FnOnce(usize) -> Ticket) -> Call {
    if !ENGINE.process().is_awake() {
        return PASS;
    }
    let marker = 0u8;
    let frame = (&raw const marker) as usize;
    let entered = with(|engine, t| engine.tls_enter(t, ssl as usize, frame)).unwrap_or(false);
    Call { entered, ticket: if entered { ticket(ssl as usize) } else { Ticket::NONE }, requested }
}

#[inline]
fn leave(call: Call) {
    if call.entered {
        with(|engine, t| engine.tls_leave(t));
    }
}

fn before_read(ssl: *mut c_void, requested: usize) -> Call {
    before(ssl, requested, |ssl| {
        with(|engine, t| engine.tls_read_begin(t, ssl, requested)).unwrap_or(Ticket::NONE)
    })
}

fn before_write(ssl: *mut c_void) -> Call {
    before(ssl, 0, |ssl| with(|engine, t| engine.tls_write_begin(t, ssl)).unwrap_or(Ticket::NONE))
}

/// After a call that moved `n` bytes at `buffer`.
unsafe fn moved(call: Call, ssl: *mut c_void, buffer: *const c_void, n: usize, to_client: bool) {
    if !call.entered {
        return;
    }
    leave(call);
    if n == 0 || buffer.is_null() {
        return;
    }
    // SAFETY: the library has just filled these bytes, or taken them from the caller.
    let bytes = unsafe { core::slice::from_raw_parts(buffer.cast::<u8>(), n) };
    with(|engine, t| {
        // The first call of a connection may have found its session only in its nested read.
        let ticket = if call.ticket.is_some() { call.ticket } else { engine.tls_ticket(t, ssl as usize) };
        if !ticket.is_some() {
            return;
        }
        match (to_client, ticket.is_aside()) {
            (true, false) => engine.write_end(t, ticket, bytes),
            (false, false) => engine.read_end(t, ticket, bytes),
            (true, true) => {
                if let Some(back) = engine.write_end_aside(ticket, bytes) {
                    engine.write_end_back(t, ticket, back, bytes);
                }
            }
            (false, true) => engine.read_end_aside(t, ticket, call.requested, bytes),
        }
    });
}

macro_rules! handshake {
    ($(#[$doc:meta])* $name:ident $original:ident) => {
        $(#[$doc])*
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name(ssl: *mut c_void) -> c_int {
            let call = before(ssl, 0, |_| Ticket::NONE);
            let answer = match real!($original, fn(*mut c_void) -> c_int) {
                // SAFETY: the caller's own argument.
                Some(real) => unsafe { real(ssl) },
                None => -1,
            };
            leave(call);
            answer
        }
    };
}

handshake! {
    /// SSL_accept(3ssl).
    SSL_accept ACCEPT
}
handshake! {
    /// SSL_do_handshake(3ssl).
    SSL_do_handshake DO_HANDSHAKE
}

/// SSL_read(3ssl).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn SSL_read(ssl: *mut c_void, buffer: *mut c_void, len: c_int) -> c_int {
    let call = before_read(ssl, len.max(0) as usize);
    let n = match real!(READ, fn(*mut c_void, *mut c_void, c_int) -> c_int) {
        // SAFETY: the caller's own arguments.
        Some(real) => unsafe { real(ssl, buffer, len) },
        None => -1,
    };
    // SAFETY: `n` is the answer of the call above.
    unsafe { moved(call, ssl, buffer, n.max(0) as usize, false) };
    n
}

/// SSL_read_ex(3ssl).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn SSL_read_ex(
    ssl: *mut c_void,
    buffer: *mut c_void,
    len: size_t,
    got: *mut size_t,
) -> c_int {
    let call = before_read(ssl, len);
    let answer = match real!(READ_EX, fn(*mut c_void, *mut c_void, size_t, *mut size_t) -> c_int) {
        // SAFETY: the caller's own arguments.
        Some(real) => unsafe { real(ssl, buffer, len, got) },
        None => 0,
    };
    // SAFETY: on success the library has stored the number.
    let n = if answer == 1 && !got.is_null() { unsafe { *got } } else { 0 };
    // SAFETY: `n` is the answer of the call above.
    unsafe { moved(call, ssl, buffer, n, false) };
    answer
}

/// SSL_write(3ssl).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn SSL_write(ssl: *mut c_void, buffer: *const c_void, len: c_int) -> c_int {
    let call = before_write(ssl);
    let n = match real!(WRITE, fn(*mut c_void, *const c_void, c_int) -> c_int) {
        // SAFETY: the caller's own arguments.
        Some(real) => unsafe { real(ssl, buffer, len) },
        None => -1,
    };
    // SAFETY: `n` is the answer of the call above.
    unsafe { moved(call, ssl, buffer, n.max(0) as usize, true) };
    n
}

/// SSL_write_ex(3ssl).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn SSL_write_ex(
    ssl: *mut c_void,
    buffer: *const c_void,
    len: size_t,
    taken: *mut size_t,
) -> c_int {
    let call = before_write(ssl);
    let answer = match real!(WRITE_EX, fn(*mut c_void, *const c_void, size_t, *mut size_t) -> c_int) {
        // SAFETY: the caller's own arguments.
        Some(real) => unsafe { real(ssl, buffer, len, taken) },
        None => 0,
    };
    // SAFETY: on success the library has stored the number.
    let n = if answer == 1 && !taken.is_null() { unsafe { *taken } } else { 0 };
    // SAFETY: `n` is the answer of the call above.
    unsafe { moved(call, ssl, buffer, n, true) };
    answer
}

/// SSL_free(3ssl): the address may come back as another connection's.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn SSL_free(ssl: *mut c_void) {
    if !ssl.is_null() && ENGINE.process().is_awake() {
        with(|engine, t| engine.tls_free(t, ssl as usize));
    }
    if let Some(real) = real!(FREE, fn(*mut c_void)) {
        // SAFETY: the caller's own argument.
        unsafe { real(ssl) };
    }
}
