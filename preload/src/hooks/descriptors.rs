//! Descriptors coming and going: accept(2), connect(2), close(2), shutdown(2), dup(2), close_range(2), closefrom(3).
//!
//! # Safety
//!
//! `unsafe` is used to call the originals with the caller's own arguments.
#![allow(unsafe_code)]
#![allow(clippy::missing_safety_doc)] // each has the contract of the function of the same name

use crate::ENGINE;
use crate::real::{Original, real, system_call};
use crate::thread::with;
use core::ffi::{c_int, c_uint};
use libc::{sockaddr, socklen_t};
use perquery_agent::sys::process::socket_address;

pub static ACCEPT: Original = Original::libc(c"accept");
pub static ACCEPT4: Original = Original::libc(c"accept4");
pub static CONNECT: Original = Original::libc(c"connect");
pub static CLOSE: Original = Original::libc(c"close");
pub static SHUTDOWN: Original = Original::libc(c"shutdown");
pub static DUP: Original = Original::libc(c"dup");
pub static DUP2: Original = Original::libc(c"dup2");
pub static DUP3: Original = Original::libc(c"dup3");
pub static CLOSE_RANGE: Original = Original::libc(c"close_range");
pub static CLOSEFROM: Original = Original::libc(c"closefrom");

/// A connection came in. The peer is asked of the kernel: the caller's buffer may be null or too small.
#[inline(never)]
fn accepted(fd: c_int) {
    if fd < 0 || !ENGINE.process().is_awake() {
        return;
    }
    with(|engine, t| {
        let mut address = [0u8; 128];
        if let Ok(n) = socket_address(fd, true, &mut address) {
            engine.accepted(t, fd, address.get(..n).unwrap_or(&[]));
        }
    });
}

#[inline]
fn forget(fd: c_int) {
    if ENGINE.watches(fd) {
        with(|engine, t| engine.closed(t, fd));
    }
}

/// accept(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn accept(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int {
    let new = match real!(ACCEPT, fn(c_int, *mut sockaddr, *mut socklen_t) -> c_int) {
        // SAFETY: the caller's own arguments.
        Some(real) => unsafe { real(fd, address, len) },
        // SAFETY: as above.
        None => unsafe {
            system_call(libc::SYS_accept, [fd as usize, address as usize, len as usize, 0, 0, 0]) as c_int
        },
    };
    accepted(new);
    new
}

/// accept4(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn accept4(
    fd: c_int,
    address: *mut sockaddr,
    len: *mut socklen_t,
    flags: c_int,
) -> c_int {
    let new = match real!(ACCEPT4, fn(c_int, *mut sockaddr, *mut socklen_t, c_int) -> c_int) {
        // SAFETY: the caller's own arguments.
        Some(real) => unsafe { real(fd, address, len, flags) },
        // SAFETY: as above.
        None => unsafe {
            system_call(
                libc::SYS_accept4,
                [fd as usize, address as usize, len as usize, flags as usize, 0, 0],
            ) as c_int
        },
    };
    accepted(new);
    new
}

/// connect(2): the descriptor is the server's own client side (replication, dblink), never a session.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn connect(fd: c_int, address: *const sockaddr, len: socklen_t) -> c_int {
    forget(fd);
    match real!(CONNECT, fn(c_int, *const sockaddr, socklen_t) -> c_int) {
        // SAFETY: the caller's own arguments.
        Some(real) => unsafe { real(fd, address, len) },
        // SAFETY: as above.
        None => unsafe {
            system_call(libc::SYS_connect, [fd as usize, address as usize, len as usize, 0, 0, 0]) as c_int
        },
    }
}

/// close(2). The session ends before the real call: afterwards the number may belong to another thread's connection.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn close(fd: c_int) -> c_int {
    forget(fd);
    match real!(CLOSE, fn(c_int) -> c_int) {
        // SAFETY: the caller's own argument.
        Some(real) => unsafe { real(fd) },
        // SAFETY: as above.
        None => unsafe { system_call(libc::SYS_close, [fd as usize, 0, 0, 0, 0, 0]) as c_int },
    }
}

/// shutdown(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn shutdown(fd: c_int, how: c_int) -> c_int {
    if ENGINE.watches(fd) {
        with(|engine, t| engine.shut(t, fd));
    }
    match real!(SHUTDOWN, fn(c_int, c_int) -> c_int) {
        // SAFETY: the caller's own arguments.
        Some(real) => unsafe { real(fd, how) },
        // SAFETY: as above.
        None => unsafe { system_call(libc::SYS_shutdown, [fd as usize, how as usize, 0, 0, 0, 0]) as c_int },
    }
}

/// dup(2): a number that comes back from the kernel can't be a session any more, whatever we believed.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn dup(fd: c_int) -> c_int {
    let new = match real!(DUP, fn(c_int) -> c_int) {
        // SAFETY: the caller's own argument.
        Some(real) => unsafe { real(fd) },
        // SAFETY: as above.
        None => unsafe { system_call(libc::SYS_dup, [fd as usize, 0, 0, 0, 0, 0]) as c_int },
    };
    forget(new);
    new
}

/// dup2(2): what `to` was is closed.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn dup2(from: c_int, to: c_int) -> c_int {
    if from != to {
        forget(to);
    }
    match real!(DUP2, fn(c_int, c_int) -> c_int) {
        // SAFETY: the caller's own arguments.
        Some(real) => unsafe { real(from, to) },
        // SAFETY: as above; dup3 differs from dup2 in equal descriptors only, which fcntl checks.
        None if from == to => unsafe {
            let args = [from as usize, libc::F_GETFD as usize, 0, 0, 0, 0];
            if system_call(libc::SYS_fcntl, args) < 0 { -1 } else { to }
        },
        // SAFETY: as above.
        None => unsafe { system_call(libc::SYS_dup3, [from as usize, to as usize, 0, 0, 0, 0]) as c_int },
    }
}

/// dup3(2): what `to` was is closed.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn dup3(from: c_int, to: c_int, flags: c_int) -> c_int {
    if from != to {
        forget(to);
    }
    match real!(DUP3, fn(c_int, c_int, c_int) -> c_int) {
        // SAFETY: the caller's own arguments.
        Some(real) => unsafe { real(from, to, flags) },
        // SAFETY: as above.
        None => unsafe {
            system_call(libc::SYS_dup3, [from as usize, to as usize, flags as usize, 0, 0, 0]) as c_int
        },
    }
}

/// CLOSE_RANGE_CLOEXEC of linux/close_range.h: nothing is closed now.
const CLOSE_RANGE_CLOEXEC: c_int = 1 << 2;

/// close_range(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int {
    if flags & CLOSE_RANGE_CLOEXEC == 0 && ENGINE.process().is_awake() {
        with(|engine, t| engine.closed_range(t, first, last));
    }
    match real!(CLOSE_RANGE, fn(c_uint, c_uint, c_int) -> c_int) {
        // SAFETY: the caller's own arguments.
        Some(real) => unsafe { real(first, last, flags) },
        // SAFETY: as above.
        None => unsafe {
            system_call(libc::SYS_close_range, [first as usize, last as usize, flags as usize, 0, 0, 0])
                as c_int
        },
    }
}

/// closefrom(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn closefrom(first: c_int) {
    if ENGINE.process().is_awake() {
        with(|engine, t| engine.closed_range(t, first.max(0) as c_uint, c_uint::MAX));
    }
    match real!(CLOSEFROM, fn(c_int)) {
        // SAFETY: the caller's own argument.
        Some(real) => unsafe { real(first) },
        // SAFETY: as above.
        None => unsafe {
            system_call(libc::SYS_close_range, [first.max(0) as usize, c_uint::MAX as usize, 0, 0, 0, 0]);
        },
    }
}
