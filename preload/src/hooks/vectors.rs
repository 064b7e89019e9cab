//! Reads and writes of several buffers: recvmsg(2), readv(2), sendmsg(2), writev(2).
//!
//! # Safety
//!
//! `unsafe` is used to call the originals with the caller's own arguments, and to look at the caller's vector and its
//! buffers as far as the kernel has just filled them or taken from them.
#![allow(unsafe_code)]
#![allow(clippy::missing_safety_doc)] // each has the contract of the function of the same name

use super::sides::{after_read, after_write, before_read_of, before_write};
use crate::ENGINE;
use crate::real::{Original, real, system_call};
use core::ffi::{c_int, c_void};
use libc::{iovec, msghdr, ssize_t};
use perquery_agent::session::Ticket;

pub static RECVMSG: Original = Original::libc(c"recvmsg");
pub static READV: Original = Original::libc(c"readv");
pub static SENDMSG: Original = Original::libc(c"sendmsg");
pub static WRITEV: Original = Original::libc(c"writev");

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

/// readv(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn readv(fd: c_int, vector: *const iovec, count: c_int) -> ssize_t {
    let ticket = ENGINE.session_of(fd).map_or(Ticket::NONE, |cell| before_read_of(cell, UNKNOWN_LENGTH));
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
        Some(cell) if flags & libc::MSG_PEEK == 0 => before_read_of(cell, UNKNOWN_LENGTH),
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
