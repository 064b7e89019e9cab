//! Reads and writes of one buffer: recv(2), recvfrom(2), read(2), send(2), sendto(2), write(2), and the checked twins that
//! _FORTIFY_SOURCE calls.
//!
//! # Safety
//!
//! `unsafe` is used to call the originals with the caller's own arguments, and to look at the caller's buffer as far as
//! the kernel has just filled it or taken from it.
#![allow(unsafe_code)]
#![allow(clippy::missing_safety_doc)] // each has the contract of the function of the same name

use super::cancellation;
use super::sides::{
    after_aside_or_nothing, after_header, after_read, after_write, after_write_aside, answered_ahead,
    before_read_of, before_write, written_ahead, written_ahead_at_a_glance,
};
use crate::real::{Original, hot, real, system_call};
use crate::{ENGINE, HOOKS};
use core::ffi::{c_int, c_void};
use libc::{size_t, sockaddr, socklen_t, ssize_t};
use perquery_agent::session::{Cell, HEADER_BYTES, Hot, Writing};

pub static RECV: Original = Original::hot(c"recv", &HOOKS.recv);
pub static RECVFROM: Original = Original::hot(c"recvfrom", &HOT.recvfrom);
pub static READ: Original = Original::hot(c"read", &HOT.read);
pub static RECV_CHK: Original = Original::hot(c"__recv_chk", &HOT.recv_chk);
pub static READ_CHK: Original = Original::hot(c"__read_chk", &HOT.read_chk);
pub static SEND: Original = Original::hot(c"send", &HOOKS.send);
pub static SENDTO: Original = Original::hot(c"sendto", &HOT.sendto);
pub static WRITE: Original = Original::hot(c"write", &HOT.write);

/// The originals of those that some programs call instead, and of epoll_wait(2), together in a cache line.
#[repr(C, align(64))]
pub struct Transfers {
    read: Hot,
    write: Hot,
    recv_chk: Hot,
    read_chk: Hot,
    recvfrom: Hot,
    sendto: Hot,
    pub(super) epoll_wait: Hot,
}

const HOT: &Transfers = &crate::HOME.transfers;

impl Transfers {
    /// Not found yet.
    pub const fn new() -> Self {
        Transfers {
            read: Hot::new(search::read as *const c_void),
            write: Hot::new(search::write as *const c_void),
            recv_chk: Hot::new(search::__recv_chk as *const c_void),
            read_chk: Hot::new(search::__read_chk as *const c_void),
            recvfrom: Hot::new(search::recvfrom as *const c_void),
            sendto: Hot::new(search::sendto as *const c_void),
            epoll_wait: Hot::new(super::waits::search_and_wait as *const c_void),
        }
    }
}

/// What stands in [`HOT`] until the originals were found.
pub(super) mod search {
    use super::*;

    macro_rules! search {
        ($($name:ident $original:ident ($fd:ident $(, $arg:ident: $type:ty)*) $number:ident [$($raw:expr),*];)*) => { $(
            #[cold]
            pub unsafe extern "C-unwind" fn $name($fd: c_int $(, $arg: $type)*) -> ssize_t {
                match real!($original, fn(c_int $(, $type)*) -> ssize_t) {
                    // SAFETY: the caller's own arguments.
                    Some(real) => unsafe { real($fd $(, $arg)*) },
                    // SAFETY: the same arguments for the system call behind it.
                    None => unsafe { system_call(libc::$number, [$fd as usize, $($raw as usize),*]) },
                }
            }
        )* };
    }

    search! {
        recv RECV (fd, buffer: *mut c_void, len: size_t, flags: c_int) SYS_recvfrom [buffer, len, flags, 0, 0];
        recvfrom RECVFROM (
            fd, buffer: *mut c_void, len: size_t, flags: c_int, from: *mut sockaddr, from_len: *mut socklen_t
        ) SYS_recvfrom [buffer, len, flags, from, from_len];
        __recv_chk RECV_CHK (fd, buffer: *mut c_void, len: size_t, room: size_t, flags: c_int)
        SYS_recvfrom [buffer, len.min(room), flags, 0, 0];
        read READ (fd, buffer: *mut c_void, len: size_t) SYS_read [buffer, len, 0, 0, 0];
        __read_chk READ_CHK (fd, buffer: *mut c_void, len: size_t, room: size_t)
        SYS_read [buffer, len.min(room), 0, 0, 0];
        send SEND (fd, buffer: *const c_void, len: size_t, flags: c_int) SYS_sendto [buffer, len, flags, 0, 0];
        sendto SENDTO (
            fd, buffer: *const c_void, len: size_t, flags: c_int, to: *const sockaddr, to_len: socklen_t
        ) SYS_sendto [buffer, len, flags, to, to_len];
        write WRITE (fd, buffer: *const c_void, len: size_t) SYS_write [buffer, len, 0, 0, 0];
    }
}

// The functions of one section lie together: fewer pages to be found again after a context switch.
//
// A call on anything that is no session's socket ends in a jump to the original: no frame, nothing saved. The session's
// cell travels behind the caller's own arguments.

macro_rules! reads {
    ($(#[$doc:meta])* $name:ident ($fd:ident $(, $arg:ident: $type:ty)*) at $hot:expr, plainly $plainly:expr,
     buffer $buffer:ident, $requested:expr, peeks $peeks:expr, in $off:literal, $on:literal) => {
        $(#[$doc])*
        #[unsafe(no_mangle)]
        #[unsafe(link_section = $off)]
        pub unsafe extern "C-unwind" fn $name($fd: c_int $(, $arg: $type)*) -> ssize_t {
            /// A session that stands aside may be about to read a header: hardly anything has to be known afterwards.
            #[inline(never)]
            #[unsafe(link_section = $off)]
            unsafe extern "C-unwind" fn header($fd: c_int $(, $arg: $type)*, cell: &'static Cell) -> ssize_t {
                /// The same by libc's function: only a call needs a frame.
                #[inline(never)]
                #[unsafe(link_section = ".text.hot.perquery.others")]
                unsafe extern "C-unwind" fn called($fd: c_int $(, $arg: $type)*, cell: &'static Cell) -> ssize_t {
                    let ticket = ENGINE.ticket_aside(cell);
                    // SAFETY: the original's type, and the caller's own arguments.
                    let n = unsafe { hot!($hot, fn(c_int $(, $type)*) -> ssize_t)($fd $(, $arg)*) };
                    // SAFETY: `n` is the answer of the call above.
                    unsafe { after_header(ticket, $buffer, n) };
                    n
                }
                let ticket = ENGINE.ticket_aside(cell);
                // SAFETY: the caller's own arguments.
                match unsafe { $plainly } {
                    Some(n) => {
                        // SAFETY: `n` is the answer of the call above.
                        unsafe { after_header(ticket, $buffer, n) };
                        n
                    }
                    // SAFETY: the caller's own arguments.
                    None => unsafe { called($fd $(, $arg)*, cell) },
                }
            }
            #[inline(never)]
            #[unsafe(link_section = $off)]
            unsafe extern "C-unwind" fn aside($fd: c_int $(, $arg: $type)*, cell: &'static Cell) -> ssize_t {
                /// The same by libc's function: only a call needs a frame.
                #[inline(never)]
                #[unsafe(link_section = ".text.hot.perquery.others")]
                unsafe extern "C-unwind" fn called($fd: c_int $(, $arg: $type)*, cell: &'static Cell) -> ssize_t {
                    let ticket = ENGINE.ticket_aside(cell);
                    // SAFETY: the original's type, and the caller's own arguments.
                    let n = unsafe { hot!($hot, fn(c_int $(, $type)*) -> ssize_t)($fd $(, $arg)*) };
                    // SAFETY: `n` is the answer of the call above.
                    unsafe { after_aside_or_nothing(ticket, $requested, $buffer, n) };
                    n
                }
                let ticket = ENGINE.ticket_aside(cell);
                // SAFETY: the caller's own arguments.
                match unsafe { $plainly } {
                    Some(n) => {
                        // SAFETY: `n` is the answer of the call above.
                        unsafe { after_aside_or_nothing(ticket, $requested, $buffer, n) };
                        n
                    }
                    // SAFETY: the caller's own arguments.
                    None => unsafe { called($fd $(, $arg)*, cell) },
                }
            }
            #[inline(never)]
            #[unsafe(link_section = $on)]
            unsafe extern "C-unwind" fn watched($fd: c_int $(, $arg: $type)*, cell: &'static Cell) -> ssize_t {
                let ticket = before_read_of(cell, $requested);
                // SAFETY: the caller's own arguments.
                let n = unsafe { itself($fd $(, $arg)*) };
                // SAFETY: `n` is the answer of the call above.
                unsafe { after_read(ticket, $requested, $buffer, n) };
                n
            }
            /// Of a descriptor that is not among the first.
            #[inline(never)]
            unsafe extern "C-unwind" fn far($fd: c_int $(, $arg: $type)*) -> ssize_t {
                match ENGINE.session_of($fd) {
                    // SAFETY: the caller's own arguments.
                    Some(cell) => unsafe { near($fd $(, $arg)*, cell) },
                    // SAFETY: the original's type, and the caller's own arguments.
                    None => unsafe { hot!($hot, fn(c_int $(, $type)*) -> ssize_t)($fd $(, $arg)*) },
                }
            }
            #[inline(always)]
            unsafe fn near($fd: c_int $(, $arg: $type)*, cell: &'static Cell) -> ssize_t {
                if $peeks {
                    // SAFETY: the original's type, and the caller's own arguments.
                    return unsafe { hot!($hot, fn(c_int $(, $type)*) -> ssize_t)($fd $(, $arg)*) };
                }
                match cell.is_plainly_aside() {
                    // SAFETY: the caller's own arguments.
                    true if $requested == HEADER_BYTES => unsafe { header($fd $(, $arg)*, cell) },
                    // SAFETY: as above.
                    true => unsafe { aside($fd $(, $arg)*, cell) },
                    // SAFETY: as above.
                    false => unsafe { watched($fd $(, $arg)*, cell) },
                }
            }
            /// The real call.
            #[inline(always)]
            unsafe fn itself($fd: c_int $(, $arg: $type)*) -> ssize_t {
                // SAFETY: the caller's own arguments.
                match unsafe { $plainly } {
                    Some(n) => n,
                    // SAFETY: the original's type, and the caller's own arguments.
                    None => unsafe { hot!($hot, fn(c_int $(, $type)*) -> ssize_t)($fd $(, $arg)*) },
                }
            }
            match ENGINE.near_session_of($fd) {
                // SAFETY: the caller's own arguments.
                Some(Some(cell)) => unsafe { near($fd $(, $arg)*, cell) },
                // SAFETY: the original's type, and the caller's own arguments.
                Some(None) => unsafe { hot!($hot, fn(c_int $(, $type)*) -> ssize_t)($fd $(, $arg)*) },
                // SAFETY: the caller's own arguments.
                None => unsafe { far($fd $(, $arg)*) },
            }
        }
    };
}

reads! {
    /// recv(2).
    recv (fd, buffer: *mut c_void, len: size_t, flags: c_int) at HOOKS.recv,
    plainly cancellation::recv(fd, buffer, len, flags), buffer buffer, len,
    peeks flags & libc::MSG_PEEK != 0,
    in ".text.hot.perquery.off", ".text.hot.perquery.recv"
}
reads! {
    /// recvfrom(2).
    recvfrom (fd, buffer: *mut c_void, len: size_t, flags: c_int, from: *mut sockaddr, from_len: *mut socklen_t)
    at HOT.recvfrom, plainly cancellation::never(), buffer buffer, len, peeks flags & libc::MSG_PEEK != 0,
    in ".text.hot.perquery.others", ".text.hot.perquery.others"
}
reads! {
    /// recv(2) as called with _FORTIFY_SOURCE.
    __recv_chk (fd, buffer: *mut c_void, len: size_t, room: size_t, flags: c_int) at HOT.recv_chk, plainly cancellation::never(), buffer buffer, len,
    peeks flags & libc::MSG_PEEK != 0,
    in ".text.hot.perquery.others", ".text.hot.perquery.others"
}
reads! {
    /// read(2).
    read (fd, buffer: *mut c_void, len: size_t) at HOT.read, plainly cancellation::never(), buffer buffer, len, peeks false,
    in ".text.hot.perquery.others", ".text.hot.perquery.others"
}
reads! {
    /// read(2) as called with _FORTIFY_SOURCE.
    __read_chk (fd, buffer: *mut c_void, len: size_t, room: size_t) at HOT.read_chk, plainly cancellation::never(), buffer buffer, len, peeks false,
    in ".text.hot.perquery.others", ".text.hot.perquery.others"
}

macro_rules! writes {
    ($(#[$doc:meta])* $name:ident ($fd:ident $(, $arg:ident: $type:ty)*) at $hot:expr, plainly $plainly:expr,
     buffer $buffer:ident, $len:ident,
     in $off:literal, $on:literal) => {
        $(#[$doc])*
        #[unsafe(no_mangle)]
        #[unsafe(link_section = $off)]
        pub unsafe extern "C-unwind" fn $name($fd: c_int $(, $arg: $type)*) -> ssize_t {
            #[inline(never)]
            #[unsafe(link_section = $on)]
            unsafe extern "C-unwind" fn watched($fd: c_int $(, $arg: $type)*, cell: &'static Cell) -> ssize_t {
                let ticket = before_write(cell);
                // SAFETY: the caller's own arguments.
                let n = unsafe { itself($fd $(, $arg)*) };
                // SAFETY: `n` is the answer of the call above.
                unsafe { after_write(ticket, $buffer, n) };
                n
            }
            /// Of a MySQL session in which a query goes the direct way: its answer may be known before the real call.
            #[inline(never)]
            #[unsafe(link_section = $on)]
            unsafe extern "C-unwind" fn asked($fd: c_int $(, $arg: $type)*, cell: &'static Cell) -> ssize_t {
                // SAFETY: the caller's own arguments.
                if unsafe { answered_ahead(cell, $buffer, $len) } {
                    // SAFETY: the caller's own arguments.
                    return unsafe { itself($fd $(, $arg)*) };
                }
                // SAFETY: the caller's own arguments.
                unsafe { unless_rest($fd $(, $arg)*, cell) }
            }
            /// Of what was not known before the real call, but may be the rest of what was.
            #[inline(never)]
            #[unsafe(link_section = $off)]
            unsafe extern "C-unwind" fn unless_rest($fd: c_int $(, $arg: $type)*, cell: &'static Cell) -> ssize_t {
                if cell.is_rest($buffer.addr(), $len) {
                    // SAFETY: the caller's own arguments.
                    return unsafe { itself($fd $(, $arg)*) };
                }
                match cell.writing() {
                    // SAFETY: the caller's own arguments.
                    Writing::Aside => unsafe { looked_at($fd $(, $arg)*, cell) },
                    // SAFETY: as above.
                    _ => unsafe { watched($fd $(, $arg)*, cell) },
                }
            }
            /// Of a PostgreSQL session that stands aside.
            #[inline(never)]
            #[unsafe(link_section = $off)]
            unsafe extern "C-unwind" fn aside($fd: c_int $(, $arg: $type)*, cell: &'static Cell) -> ssize_t {
                // SAFETY: the caller's own arguments.
                if unsafe { written_ahead_at_a_glance(cell, $buffer, $len) } {
                    // SAFETY: the caller's own arguments.
                    return unsafe { itself($fd $(, $arg)*) };
                }
                // SAFETY: the caller's own arguments.
                unsafe { aside_longer($fd $(, $arg)*, cell) }
            }
            /// The same of an answer that has to be looked at longer.
            #[inline(never)]
            #[unsafe(link_section = ".text.hot.perquery.others")]
            unsafe extern "C-unwind" fn aside_longer($fd: c_int $(, $arg: $type)*, cell: &'static Cell) -> ssize_t {
                // SAFETY: the caller's own arguments.
                if unsafe { written_ahead(cell, $buffer, $len) } {
                    // SAFETY: the caller's own arguments.
                    return unsafe { itself($fd $(, $arg)*) };
                }
                // SAFETY: the caller's own arguments.
                unsafe { unless_rest($fd $(, $arg)*, cell) }
            }
            /// The same where it has to be looked at afterwards.
            #[inline(never)]
            #[unsafe(link_section = $off)]
            unsafe extern "C-unwind" fn looked_at($fd: c_int $(, $arg: $type)*, cell: &'static Cell) -> ssize_t {
                let ticket = ENGINE.ticket_aside(cell);
                // SAFETY: the caller's own arguments.
                let n = unsafe { itself($fd $(, $arg)*) };
                // SAFETY: `n` is the answer of the call above.
                unsafe { after_write_aside(ticket, $buffer, n) };
                n
            }
            #[inline(always)]
            unsafe fn near($fd: c_int $(, $arg: $type)*, cell: &'static Cell) -> ssize_t {
                match cell.writing() {
                    // SAFETY: the caller's own arguments.
                    Writing::Passes => unsafe { itself($fd $(, $arg)*) },
                    // SAFETY: the caller's own arguments.
                    Writing::Aside => unsafe { aside($fd $(, $arg)*, cell) },
                    // SAFETY: as above.
                    Writing::Watched => unsafe { watched($fd $(, $arg)*, cell) },
                    // SAFETY: as above.
                    Writing::Asked => unsafe { asked($fd $(, $arg)*, cell) },
                }
            }
            /// Of a descriptor that is not among the first.
            #[inline(never)]
            unsafe extern "C-unwind" fn far($fd: c_int $(, $arg: $type)*) -> ssize_t {
                match ENGINE.session_of($fd) {
                    // SAFETY: the caller's own arguments.
                    Some(cell) => unsafe { near($fd $(, $arg)*, cell) },
                    // SAFETY: the original's type, and the caller's own arguments.
                    None => unsafe { hot!($hot, fn(c_int $(, $type)*) -> ssize_t)($fd $(, $arg)*) },
                }
            }
            /// The real call.
            #[inline(always)]
            unsafe fn itself($fd: c_int $(, $arg: $type)*) -> ssize_t {
                // SAFETY: the caller's own arguments.
                match unsafe { $plainly } {
                    Some(n) => n,
                    // SAFETY: the original's type, and the caller's own arguments.
                    None => unsafe { hot!($hot, fn(c_int $(, $type)*) -> ssize_t)($fd $(, $arg)*) },
                }
            }
            match ENGINE.near_session_of($fd) {
                // SAFETY: the caller's own arguments.
                Some(Some(cell)) => unsafe { near($fd $(, $arg)*, cell) },
                // SAFETY: the original's type, and the caller's own arguments.
                Some(None) => unsafe { hot!($hot, fn(c_int $(, $type)*) -> ssize_t)($fd $(, $arg)*) },
                // SAFETY: the caller's own arguments.
                None => unsafe { far($fd $(, $arg)*) },
            }
        }
    };
}

writes! {
    /// send(2).
    send (fd, buffer: *const c_void, len: size_t, flags: c_int) at HOOKS.send,
    plainly cancellation::send(fd, buffer, len, flags), buffer buffer, len,
    in ".text.hot.perquery.off", ".text.hot.perquery.send"
}
writes! {
    /// sendto(2).
    sendto (fd, buffer: *const c_void, len: size_t, flags: c_int, to: *const sockaddr, to_len: socklen_t) at HOT.sendto,
    plainly cancellation::never(), buffer buffer, len,
    in ".text.hot.perquery.others", ".text.hot.perquery.others"
}
writes! {
    /// write(2).
    write (fd, buffer: *const c_void, len: size_t) at HOT.write, plainly cancellation::never(), buffer buffer, len,
    in ".text.hot.perquery.others", ".text.hot.perquery.others"
}
