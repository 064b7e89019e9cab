//! Waiting for sockets: poll(2), ppoll(2), epoll_wait(2), epoll_ctl(2).
//!
//! A server that polls a session's own socket in the middle of a query waits for its client, not for itself; a thread
//! pool's worker that goes to epoll_wait has left whatever it was working on.
//!
//! # Safety
//!
//! `unsafe` is used to call the originals with the caller's own arguments, and to look at the caller's list of
//! descriptors after a poll that succeeded.
#![allow(unsafe_code)]
#![allow(clippy::missing_safety_doc)] // each has the contract of the function of the same name

use super::cancellation;
use crate::real::{Original, hot, real, system_call};
use crate::thread::{runs_a_query, with, with_known};
use crate::{ENGINE, HOOKS};
use core::ffi::{c_int, c_void};
use libc::{epoll_event, nfds_t, pollfd, sigset_t, size_t, timespec};

pub static POLL: Original = Original::hot(c"poll", &HOOKS.poll);
pub static PPOLL: Original = Original::libc(c"ppoll");
pub static POLL_CHK: Original = Original::libc(c"__poll_chk");
pub static EPOLL_WAIT: Original = Original::hot(c"epoll_wait", &crate::HOME.transfers.epoll_wait);
pub static EPOLL_CTL: Original = Original::libc(c"epoll_ctl");

/// The time, if this thread is in the middle of a query: it may be about to wait for its client.
fn wait_begin() -> Option<u64> {
    if ENGINE.capture() == 0 || !runs_a_query() {
        return None;
    }
    with(|engine, t| engine.client_wait_begin(t)).flatten()
}

/// After a poll that began at `since_ns`: if it was for one descriptor, and that the session's own, the query waited for
/// its client. The list is looked at only now, when the kernel has found it to be readable.
unsafe fn waited(since_ns: Option<u64>, list: *const pollfd, n: nfds_t, answer: c_int) {
    let Some(since_ns) = since_ns else { return waited_between_queries(answer) };
    if n == 1 && answer >= 0 {
        // SAFETY: the kernel has read and written the list's one entry.
        let fd = unsafe { (*list).fd };
        with(|engine, t| engine.client_wait_end(t, fd, since_ns));
    }
}

/// After a wait outside of a query, most likely for the next one.
#[inline(always)]
fn waited_between_queries(answer: c_int) {
    if answer > 0 && ENGINE.reads_all() {
        with_known(|_, t| t.has_waited());
    }
}

/// poll(2).
#[unsafe(no_mangle)]
#[unsafe(link_section = ".text.hot.perquery.off")]
pub unsafe extern "C-unwind" fn poll(list: *mut pollfd, n: nfds_t, timeout_ms: c_int) -> c_int {
    /// While capture is on.
    #[inline(never)]
    #[unsafe(link_section = ".text.hot.perquery.recv")]
    unsafe extern "C-unwind" fn captured(list: *mut pollfd, n: nfds_t, timeout_ms: c_int) -> c_int {
        if runs_a_query() {
            // SAFETY: the caller's own arguments.
            return unsafe { inside(list, n, timeout_ms) };
        }
        if ENGINE.reads_all() {
            // SAFETY: the caller's own arguments.
            return unsafe { between(list, n, timeout_ms) };
        }
        // SAFETY: the original's type, and the caller's own arguments.
        unsafe { hot!(HOOKS.poll, fn(*mut pollfd, nfds_t, c_int) -> c_int)(list, n, timeout_ms) }
    }
    /// In the middle of a query.
    #[inline(never)]
    unsafe extern "C-unwind" fn inside(list: *mut pollfd, n: nfds_t, timeout_ms: c_int) -> c_int {
        let since_ns = wait_begin();
        // SAFETY: the original's type, and the caller's own arguments.
        let answer =
            unsafe { hot!(HOOKS.poll, fn(*mut pollfd, nfds_t, c_int) -> c_int)(list, n, timeout_ms) };
        // SAFETY: `answer` is that of the call above.
        unsafe { waited(since_ns, list, n, answer) };
        answer
    }
    /// Between queries, where what happens then is asked about.
    #[inline(never)]
    #[unsafe(link_section = ".text.hot.perquery.measured")]
    unsafe extern "C-unwind" fn between(list: *mut pollfd, n: nfds_t, timeout_ms: c_int) -> c_int {
        // SAFETY: the original's type, and the caller's own arguments.
        let answer =
            unsafe { hot!(HOOKS.poll, fn(*mut pollfd, nfds_t, c_int) -> c_int)(list, n, timeout_ms) };
        waited_between_queries(answer);
        answer
    }
    if ENGINE.capture() != 0 {
        // SAFETY: the caller's own arguments.
        return unsafe { captured(list, n, timeout_ms) };
    }
    // SAFETY: the original's type, and the caller's own arguments.
    unsafe { hot!(HOOKS.poll, fn(*mut pollfd, nfds_t, c_int) -> c_int)(list, n, timeout_ms) }
}

/// Stands in the place of poll(2) until the original was found.
#[cold]
pub(super) unsafe extern "C-unwind" fn search_and_poll(
    list: *mut pollfd,
    n: nfds_t,
    timeout_ms: c_int,
) -> c_int {
    match real!(POLL, fn(*mut pollfd, nfds_t, c_int) -> c_int) {
        // SAFETY: the caller's own arguments.
        Some(real) => unsafe { real(list, n, timeout_ms) },
        // SAFETY: as above.
        None => unsafe { raw_poll(list, n, timeout_ms) },
    }
}

/// poll(2) as called with _FORTIFY_SOURCE.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn __poll_chk(
    list: *mut pollfd,
    n: nfds_t,
    timeout_ms: c_int,
    room: size_t,
) -> c_int {
    let since_ns = wait_begin();
    let answer = match real!(POLL_CHK, fn(*mut pollfd, nfds_t, c_int, size_t) -> c_int) {
        // SAFETY: the caller's own arguments.
        Some(real) => unsafe { real(list, n, timeout_ms, room) },
        // SAFETY: as above.
        None => unsafe { raw_poll(list, n, timeout_ms) },
    };
    // SAFETY: `answer` is that of the call above.
    unsafe { waited(since_ns, list, n, answer) };
    answer
}

/// poll(2) as ppoll(2), which every architecture has.
#[cold]
unsafe fn raw_poll(list: *mut pollfd, n: nfds_t, timeout_ms: c_int) -> c_int {
    let limit = timespec {
        tv_sec: (timeout_ms / 1000).into(),
        tv_nsec: (timeout_ms % 1000) as libc::c_long * 1_000_000,
    };
    let limit_at = if timeout_ms < 0 { 0 } else { (&raw const limit) as usize };
    // SAFETY: the caller's list; `limit` lives across the call.
    unsafe { system_call(libc::SYS_ppoll, [list as usize, n as usize, limit_at, 0, 0, 0]) as c_int }
}

/// ppoll(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn ppoll(
    list: *mut pollfd,
    n: nfds_t,
    limit: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    let since_ns = wait_begin();
    let answer = match real!(PPOLL, fn(*mut pollfd, nfds_t, *const timespec, *const sigset_t) -> c_int) {
        // SAFETY: the caller's own arguments.
        Some(real) => unsafe { real(list, n, limit, mask) },
        None => {
            // The system call writes the time left; libc's function does not.
            // SAFETY: null, or the caller's limit.
            let mut left = unsafe { limit.as_ref() }.copied();
            let limit_at = left.as_mut().map_or(0, |left| core::ptr::from_mut(left) as usize);
            let args = [list as usize, n as usize, limit_at, mask as usize, 8, 0];
            // SAFETY: the caller's own list and mask; `left` lives across the call.
            unsafe { system_call(libc::SYS_ppoll, args) as c_int }
        }
    };
    // SAFETY: `answer` is that of the call above.
    unsafe { waited(since_ns, list, n, answer) };
    answer
}

/// epoll_wait(2).
#[unsafe(no_mangle)]
#[unsafe(link_section = ".text.hot.perquery.off")]
pub unsafe extern "C-unwind" fn epoll_wait(
    poller: c_int,
    events: *mut epoll_event,
    room: c_int,
    timeout_ms: c_int,
) -> c_int {
    /// While the counters of all executions are read.
    #[inline(never)]
    #[unsafe(link_section = ".text.hot.perquery.measured")]
    unsafe extern "C-unwind" fn between(
        poller: c_int,
        events: *mut epoll_event,
        room: c_int,
        timeout_ms: c_int,
    ) -> c_int {
        // SAFETY: the caller's own arguments.
        let answer = unsafe { itself(poller, events, room, timeout_ms) };
        waited_between_queries(answer);
        answer
    }
    /// Where the thread may leave a query behind.
    #[inline(never)]
    unsafe extern "C-unwind" fn leaving(
        poller: c_int,
        events: *mut epoll_event,
        room: c_int,
        timeout_ms: c_int,
    ) -> c_int {
        with(|engine, t| engine.waiting(t));
        // SAFETY: the caller's own arguments.
        unsafe { waits(poller, events, room, timeout_ms) }
    }
    #[inline(always)]
    unsafe fn waits(poller: c_int, events: *mut epoll_event, room: c_int, timeout_ms: c_int) -> c_int {
        if ENGINE.capture() != 0 && ENGINE.reads_all() {
            // SAFETY: the caller's own arguments.
            return unsafe { between(poller, events, room, timeout_ms) };
        }
        // SAFETY: as above.
        unsafe { itself(poller, events, room, timeout_ms) }
    }
    /// The real call.
    #[inline(always)]
    unsafe fn itself(poller: c_int, events: *mut epoll_event, room: c_int, timeout_ms: c_int) -> c_int {
        // SAFETY: the caller's own arguments.
        match unsafe { cancellation::epoll_wait(poller, events, room, timeout_ms) } {
            Some(answer) => answer,
            // SAFETY: the original's type, and the caller's own arguments.
            None => unsafe {
                hot!(crate::HOME.transfers.epoll_wait, fn(c_int, *mut epoll_event, c_int, c_int) -> c_int)(
                    poller, events, room, timeout_ms,
                )
            },
        }
    }
    if ENGINE.process().may_change_sessions() {
        // SAFETY: the caller's own arguments.
        return unsafe { leaving(poller, events, room, timeout_ms) };
    }
    // SAFETY: as above.
    unsafe { waits(poller, events, room, timeout_ms) }
}

/// Stands in its place until the original was found.
#[cold]
pub(super) unsafe extern "C-unwind" fn search_and_wait(
    poller: c_int,
    events: *mut epoll_event,
    room: c_int,
    timeout_ms: c_int,
) -> c_int {
    match real!(EPOLL_WAIT, fn(c_int, *mut epoll_event, c_int, c_int) -> c_int) {
        // SAFETY: the caller's own arguments.
        Some(real) => unsafe { real(poller, events, room, timeout_ms) },
        None => {
            let args = [poller as usize, events as usize, room as usize, timeout_ms as isize as usize, 0, 8];
            // SAFETY: as above; epoll_pwait without a mask is epoll_wait.
            unsafe { system_call(libc::SYS_epoll_pwait, args) as c_int }
        }
    }
}

/// epoll_ctl(2). What we do comes before the real call: once the descriptor is armed another thread may serve it.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn epoll_ctl(
    poller: c_int,
    what: c_int,
    fd: c_int,
    event: *mut epoll_event,
) -> c_int {
    if what != libc::EPOLL_CTL_DEL && ENGINE.process().may_change_sessions() && ENGINE.watches(fd) {
        with(|engine, t| engine.parked(t, fd));
    }
    match real!(EPOLL_CTL, fn(c_int, c_int, c_int, *mut epoll_event) -> c_int) {
        // SAFETY: the caller's own arguments.
        Some(real) => unsafe { real(poller, what, fd, event) },
        None => {
            let event: *mut c_void = event.cast();
            let args = [poller as usize, what as usize, fd as usize, event as usize, 0, 0];
            // SAFETY: as above.
            unsafe { system_call(libc::SYS_epoll_ctl, args) as c_int }
        }
    }
}
