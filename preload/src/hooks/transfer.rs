//! Reads and writes: recv(2), recvfrom(2), recvmsg(2), read(2), readv(2), send(2), sendto(2), sendmsg(2), write(2),
//! writev(2), and the checked twins that _FORTIFY_SOURCE calls.
//!
//! # Safety
//!
//! `unsafe` is used to call the originals with the caller's own arguments, and to look at the caller's buffer as far as
//! the kernel has just filled it or taken from it.
#![allow(unsafe_code)]
#![allow(clippy::missing_safety_doc)] // each has the contract of the function of the same name

use crate::ENGINE;
use crate::real::{Original, known, real, system_call};
use crate::thread::with;
use core::ffi::{c_int, c_void};
use libc::{iovec, msghdr, size_t, sockaddr, socklen_t, ssize_t};
use perquery_agent::session::{Back, BackInAnswer, Cell, Ticket};

pub static RECV: Original = Original::libc(c"recv");
pub static RECVFROM: Original = Original::libc(c"recvfrom");
pub static RECVMSG: Original = Original::libc(c"recvmsg");
pub static READ: Original = Original::libc(c"read");
pub static READV: Original = Original::libc(c"readv");
pub static RECV_CHK: Original = Original::libc(c"__recv_chk");
pub static READ_CHK: Original = Original::libc(c"__read_chk");
pub static SEND: Original = Original::libc(c"send");
pub static SENDTO: Original = Original::libc(c"sendto");
pub static SENDMSG: Original = Original::libc(c"sendmsg");
pub static WRITE: Original = Original::libc(c"write");
pub static WRITEV: Original = Original::libc(c"writev");

/// Before a read of the socket of the session in `cell`.
#[inline(always)]
fn before_read(cell: &'static Cell, requested: usize) -> Ticket {
    match ENGINE.read_aside(cell) {
        // Nothing matters yet: not even the thread's state is needed.
        Some(ticket) => ticket,
        None => before_read_of(cell, requested),
    }
}

#[inline(never)]
#[unsafe(link_section = ".text.hot.perquery")]
fn before_read_of(cell: &'static Cell, requested: usize) -> Ticket {
    with(|engine, t| engine.read_begin(t, cell, requested)).unwrap_or(Ticket::NONE)
}

/// True when a write of the session in `cell` is nobody's business.
#[inline(always)]
fn write_passes(cell: &'static Cell) -> bool {
    ENGINE.write_aside(cell).is_some_and(|ticket| !ticket.is_some())
}

#[inline(always)]
fn before_write(cell: &'static Cell) -> Ticket {
    if let Some(ticket) = ENGINE.write_aside(cell) {
        return ticket;
    }
    with(|engine, t| engine.write_begin(t, cell)).unwrap_or(Ticket::NONE)
}

/// The buffer's first `n` bytes, which the kernel has just filled or taken.
unsafe fn bytes<'a>(buffer: *const c_void, n: ssize_t) -> &'a [u8] {
    if n <= 0 || buffer.is_null() {
        return &[];
    }
    // SAFETY: the kernel accessed `n` bytes at `buffer`, so they are mapped; nobody else writes there during the call.
    unsafe { core::slice::from_raw_parts(buffer.cast(), n as usize) }
}

#[inline(always)]
unsafe fn after_read(ticket: Ticket, requested: usize, buffer: *const c_void, n: ssize_t) {
    if ticket.is_some() && n > 0 {
        // SAFETY: `n` is the answer of the read into `buffer`.
        let bytes = unsafe { bytes(buffer, n) };
        if !ticket.is_aside() {
            after_read_of(ticket, bytes);
        } else if let Some(back) = ENGINE.read_end_aside(ticket, requested, bytes) {
            after_read_back(ticket, back, bytes);
        }
    }
}

#[inline(never)]
#[unsafe(link_section = ".text.hot.perquery")]
fn after_read_of(ticket: Ticket, bytes: &[u8]) {
    with(|engine, t| engine.read_end(t, ticket, bytes));
}

#[inline(never)]
#[unsafe(link_section = ".text.hot.perquery")]
fn after_read_back(ticket: Ticket, back: Back, bytes: &[u8]) {
    with(|engine, t| engine.read_end_back(t, ticket, back, bytes));
}

#[inline(never)]
#[unsafe(link_section = ".text.hot.perquery")]
fn after_write_of(ticket: Ticket, bytes: &[u8]) {
    with(|engine, t| engine.write_end(t, ticket, bytes));
}

#[inline(always)]
unsafe fn after_write(ticket: Ticket, buffer: *const c_void, n: ssize_t) {
    if ticket.is_some() && n > 0 {
        // SAFETY: `n` is the answer of the write from `buffer`.
        let bytes = unsafe { bytes(buffer, n) };
        if !ticket.is_aside() {
            after_write_of(ticket, bytes);
        } else if let Some(back) = ENGINE.write_end_aside(ticket, bytes) {
            after_write_back(ticket, back, bytes);
        }
    }
}

#[cold]
fn after_write_back(ticket: Ticket, back: BackInAnswer, bytes: &[u8]) {
    with(|engine, t| engine.write_end_back(t, ticket, back, bytes));
}

/// Runs `each` for every part of a vector that the first `n` bytes fell into.
unsafe fn parts(
    vector: *const iovec,
    count: usize,
    n: ssize_t,
    mut each: impl FnMut(*const c_void, ssize_t),
) {
    let mut left = n;
    for at in 0..count {
        if left <= 0 {
            return;
        }
        // SAFETY: the kernel has read the vector's `count` parts.
        let part = unsafe { &*vector.add(at) };
        let here = left.min(part.iov_len as ssize_t);
        each(part.iov_base, here);
        left -= here;
    }
}

/// The length of a vectored read before the call: the vector may be a bad address, which only the kernel may find out.
const UNKNOWN_LENGTH: usize = usize::MAX;

// The functions of one section lie together: fewer pages to be found again after a context switch.
//
// A call on anything that is no session's socket ends in a jump to the original: no frame, nothing saved. The session's
// number travels behind the caller's own arguments.

/// `call`: the original with the caller's own arguments, or what stands for it.
macro_rules! forward {
    ($original:ident ($fd:ident $(, $arg:ident: $type:ty)*) $number:ident [$($raw:expr),*]) => {
        #[cold]
        #[inline(never)]
        unsafe extern "C-unwind" fn search_and_call($fd: c_int $(, $arg: $type)*) -> ssize_t {
            match real!($original, fn(c_int $(, $type)*) -> ssize_t) {
                // SAFETY: the caller's own arguments.
                Some(real) => unsafe { real($fd $(, $arg)*) },
                // SAFETY: the same arguments for the system call behind it.
                None => unsafe { system_call(libc::$number, [$fd as usize, $($raw as usize),*]) },
            }
        }
        #[inline(always)]
        unsafe fn call($fd: c_int $(, $arg: $type)*) -> ssize_t {
            match known!($original, fn(c_int $(, $type)*) -> ssize_t) {
                // SAFETY: the caller's own arguments.
                Some(real) => unsafe { real($fd $(, $arg)*) },
                // SAFETY: as above.
                None => unsafe { search_and_call($fd $(, $arg)*) },
            }
        }
    };
}

macro_rules! reads {
    ($(#[$doc:meta])* $name:ident $original:ident ($fd:ident $(, $arg:ident: $type:ty)*) buffer $buffer:ident, $requested:expr,
     peeks $peeks:expr, $number:ident [$($raw:expr),*]) => {
        $(#[$doc])*
        #[unsafe(no_mangle)]
        #[unsafe(link_section = ".text.hot.perquery")]
        pub unsafe extern "C-unwind" fn $name($fd: c_int $(, $arg: $type)*) -> ssize_t {
            forward! { $original ($fd $(, $arg: $type)*) $number [$($raw),*] }
            #[inline(never)]
            #[unsafe(link_section = ".text.hot.perquery")]
            unsafe extern "C-unwind" fn watched($fd: c_int $(, $arg: $type)*, cell: &'static Cell) -> ssize_t {
                let ticket = before_read(cell, $requested);
                // SAFETY: the caller's own arguments.
                let n = unsafe { call($fd $(, $arg)*) };
                // SAFETY: `n` is the answer of the call above.
                unsafe { after_read(ticket, $requested, $buffer, n) };
                n
            }
            match ENGINE.session_of($fd) {
                // SAFETY: the caller's own arguments.
                Some(cell) if !$peeks => unsafe { watched($fd $(, $arg)*, cell) },
                // SAFETY: the caller's own arguments.
                _ => unsafe { call($fd $(, $arg)*) },
            }
        }
    };
}

reads! {
    /// recv(2).
    recv RECV (fd, buffer: *mut c_void, len: size_t, flags: c_int) buffer buffer, len,
    peeks (flags & libc::MSG_PEEK != 0), SYS_recvfrom [buffer, len, flags, 0, 0]
}
reads! {
    /// recvfrom(2).
    recvfrom RECVFROM (fd, buffer: *mut c_void, len: size_t, flags: c_int, from: *mut sockaddr, from_len: *mut socklen_t)
    buffer buffer, len, peeks (flags & libc::MSG_PEEK != 0), SYS_recvfrom [buffer, len, flags, from, from_len]
}
reads! {
    /// recv(2) as called with _FORTIFY_SOURCE.
    __recv_chk RECV_CHK (fd, buffer: *mut c_void, len: size_t, room: size_t, flags: c_int) buffer buffer, len,
    peeks (flags & libc::MSG_PEEK != 0), SYS_recvfrom [buffer, len.min(room), flags, 0, 0]
}
reads! {
    /// read(2).
    read READ (fd, buffer: *mut c_void, len: size_t) buffer buffer, len, peeks false, SYS_read [buffer, len, 0, 0, 0]
}
reads! {
    /// read(2) as called with _FORTIFY_SOURCE.
    __read_chk READ_CHK (fd, buffer: *mut c_void, len: size_t, room: size_t) buffer buffer, len, peeks false,
    SYS_read [buffer, len.min(room), 0, 0, 0]
}

macro_rules! writes {
    ($(#[$doc:meta])* $name:ident $original:ident ($fd:ident $(, $arg:ident: $type:ty)*) buffer $buffer:ident,
     $number:ident [$($raw:expr),*]) => {
        $(#[$doc])*
        #[unsafe(no_mangle)]
        #[unsafe(link_section = ".text.hot.perquery")]
        pub unsafe extern "C-unwind" fn $name($fd: c_int $(, $arg: $type)*) -> ssize_t {
            forward! { $original ($fd $(, $arg: $type)*) $number [$($raw),*] }
            #[inline(never)]
            #[unsafe(link_section = ".text.hot.perquery")]
            unsafe extern "C-unwind" fn watched($fd: c_int $(, $arg: $type)*, cell: &'static Cell) -> ssize_t {
                let ticket = before_write(cell);
                // SAFETY: the caller's own arguments.
                let n = unsafe { call($fd $(, $arg)*) };
                // SAFETY: `n` is the answer of the call above.
                unsafe { after_write(ticket, $buffer, n) };
                n
            }
            match ENGINE.session_of($fd) {
                // SAFETY: the caller's own arguments.
                Some(cell) if !write_passes(cell) => unsafe { watched($fd $(, $arg)*, cell) },
                // SAFETY: the caller's own arguments.
                _ => unsafe { call($fd $(, $arg)*) },
            }
        }
    };
}

writes! {
    /// send(2).
    send SEND (fd, buffer: *const c_void, len: size_t, flags: c_int) buffer buffer,
    SYS_sendto [buffer, len, flags, 0, 0]
}
writes! {
    /// sendto(2).
    sendto SENDTO (fd, buffer: *const c_void, len: size_t, flags: c_int, to: *const sockaddr, to_len: socklen_t)
    buffer buffer, SYS_sendto [buffer, len, flags, to, to_len]
}
writes! {
    /// write(2).
    write WRITE (fd, buffer: *const c_void, len: size_t) buffer buffer, SYS_write [buffer, len, 0, 0, 0]
}

/// readv(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn readv(fd: c_int, vector: *const iovec, count: c_int) -> ssize_t {
    let ticket = ENGINE.session_of(fd).map_or(Ticket::NONE, |cell| before_read(cell, UNKNOWN_LENGTH));
    let n = match real!(READV, fn(c_int, *const iovec, c_int) -> ssize_t) {
        // SAFETY: the caller's own arguments.
        Some(real) => unsafe { real(fd, vector, count) },
        // SAFETY: as above.
        None => unsafe {
            system_call(libc::SYS_readv, [fd as usize, vector as usize, count as usize, 0, 0, 0])
        },
    };
    if ticket.is_some() && n > 0 {
        // SAFETY: the kernel has filled `n` bytes of the vector.
        unsafe {
            parts(vector, count as usize, n, |buffer, n| after_read(ticket, UNKNOWN_LENGTH, buffer, n));
        };
    }
    n
}

/// writev(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn writev(fd: c_int, vector: *const iovec, count: c_int) -> ssize_t {
    let ticket = ENGINE.session_of(fd).map_or(Ticket::NONE, before_write);
    let n = match real!(WRITEV, fn(c_int, *const iovec, c_int) -> ssize_t) {
        // SAFETY: the caller's own arguments.
        Some(real) => unsafe { real(fd, vector, count) },
        // SAFETY: as above.
        None => unsafe {
            system_call(libc::SYS_writev, [fd as usize, vector as usize, count as usize, 0, 0, 0])
        },
    };
    if ticket.is_some() && n > 0 {
        // SAFETY: the kernel has taken `n` bytes of the vector.
        unsafe { parts(vector, count as usize, n, |buffer, n| after_write(ticket, buffer, n)) };
    }
    n
}

/// recvmsg(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
    let ticket = match ENGINE.session_of(fd) {
        Some(cell) if flags & libc::MSG_PEEK == 0 => before_read(cell, UNKNOWN_LENGTH),
        _ => Ticket::NONE,
    };
    let n = match real!(RECVMSG, fn(c_int, *mut msghdr, c_int) -> ssize_t) {
        // SAFETY: the caller's own arguments.
        Some(real) => unsafe { real(fd, message, flags) },
        // SAFETY: as above.
        None => unsafe {
            system_call(libc::SYS_recvmsg, [fd as usize, message as usize, flags as usize, 0, 0, 0])
        },
    };
    if ticket.is_some() && n > 0 {
        // SAFETY: the kernel has filled `n` bytes of the message's vector.
        unsafe {
            parts((*message).msg_iov, (*message).msg_iovlen, n, |buffer, n| {
                after_read(ticket, UNKNOWN_LENGTH, buffer, n);
            });
        }
    }
    n
}

/// sendmsg(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
    let ticket = ENGINE.session_of(fd).map_or(Ticket::NONE, before_write);
    let n = match real!(SENDMSG, fn(c_int, *const msghdr, c_int) -> ssize_t) {
        // SAFETY: the caller's own arguments.
        Some(real) => unsafe { real(fd, message, flags) },
        // SAFETY: as above.
        None => unsafe {
            system_call(libc::SYS_sendmsg, [fd as usize, message as usize, flags as usize, 0, 0, 0])
        },
    };
    if ticket.is_some() && n > 0 {
        // SAFETY: the kernel has taken `n` bytes of the message's vector.
        unsafe {
            parts((*message).msg_iov, (*message).msg_iovlen, n, |buffer, n| after_write(ticket, buffer, n));
        }
    }
    n
}
