//! pthread_cancel(3), and which calls need not be a place at which a thread can be cancelled.
//!
//! recv(2), send(2) and epoll_wait(2) of glibc are the system call, errno, and a cancellation point. The point costs two
//! locked instructions each time (`__pthread_enable_asynccancel`, up to glibc 2.40), and these wait for all that the server
//! has stored just before. A hook that makes the system call itself pays for nothing of that, and not for the way into libc
//! either. It does so only where nobody can tell the difference:
//!
//! * The process has one thread. glibc's own functions make the bare system call then (`__libc_single_threaded`, its manual,
//!   "Single-Threaded").
//! * The call does not wait (MSG_DONTWAIT), and nobody was ever cancelled in this process. Who is cancelled while such a call
//!   lasts finds out at its next cancellation point, as if the request had come a moment later; from the first request on, all
//!   calls are libc's again.
//!
//! A request that goes past us (from a library that was loaded with RTLD_DEEPBIND) is heeded at the next call that waits.
//!
//! And only where the original is glibc's own: if another library stands between us and glibc, it is called.
//!
//! # Safety
//!
//! `unsafe` is used for system calls with the caller's own arguments, to write the calling thread's errno, for dlsym(3) and
//! dladdr(3), and to call the original.
#![allow(unsafe_code)]
#![allow(clippy::missing_safety_doc)] // each has the contract of the function of the same name

use crate::real::{Original, real};
use crate::{ENGINE, HOOKS, place};
use core::ffi::{CStr, c_int, c_void};
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use libc::{Dl_info, epoll_event, pthread_t, size_t, ssize_t};
use perquery_agent::sys::syscall_in_place;

pub static CANCEL: Original = Original::libc(c"pthread_cancel");

/// Somebody was cancelled in this process: it may have been before our constructor, by another library's.
static BEGUN: AtomicBool = AtomicBool::new(false);

/// pthread_cancel(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn pthread_cancel(thread: pthread_t) -> c_int {
    // Before the request, so that whoever is cancelled by it and calls again finds it. Whoever has a call under way is not
    // kept by it.
    BEGUN.store(true, Ordering::SeqCst);
    ENGINE.process().forbid_plain_calls();
    match real!(CANCEL, fn(pthread_t) -> c_int) {
        // SAFETY: the caller's own argument.
        Some(real) => unsafe { real(thread) },
        None => libc::ENOSYS,
    }
}

/// Of a function that is always libc's.
#[inline(always)]
pub unsafe fn never() -> Option<ssize_t> {
    None
}

/// recv(2) as a system call of its own; `None`: it has to be libc's.
#[inline(always)]
pub unsafe fn recv(fd: c_int, buffer: *mut c_void, len: size_t, flags: c_int) -> Option<ssize_t> {
    let args = [fd as usize, buffer as usize, len, flags as usize, 0, 0];
    // SAFETY: the caller's own arguments.
    may_be_plain(flags).then(|| unsafe { plain(libc::SYS_recvfrom, args) })
}

/// send(2) as a system call of its own; `None`: it has to be libc's.
#[inline(always)]
pub unsafe fn send(fd: c_int, buffer: *const c_void, len: size_t, flags: c_int) -> Option<ssize_t> {
    let args = [fd as usize, buffer as usize, len, flags as usize, 0, 0];
    // SAFETY: the caller's own arguments.
    may_be_plain(flags).then(|| unsafe { plain(libc::SYS_sendto, args) })
}

/// epoll_wait(2) as a system call of its own; `None`: it has to be libc's.
#[inline(always)]
pub unsafe fn epoll_wait(
    poller: c_int,
    events: *mut epoll_event,
    room: c_int,
    timeout_ms: c_int,
) -> Option<c_int> {
    #[cfg(target_arch = "x86_64")]
    let number = libc::SYS_epoll_wait;
    // Without a mask it is the same; newer architectures have only this one.
    #[cfg(not(target_arch = "x86_64"))]
    let number = libc::SYS_epoll_pwait;
    let args = [poller as usize, events as usize, room as usize, timeout_ms as isize as usize, 0, 0];
    // SAFETY: the caller's own arguments.
    HOOKS.alone.is_so().then(|| unsafe { plain(number, args) as c_int })
}

#[inline(always)]
fn may_be_plain(flags: c_int) -> bool {
    ENGINE.process().may_call_plainly(flags) || HOOKS.alone.is_so()
}

/// Makes a system call, with errno and -1 as libc would.
#[inline(always)]
unsafe fn plain(number: libc::c_long, args: [usize; 6]) -> isize {
    // SAFETY: the caller's own arguments.
    let answer = unsafe { syscall_in_place(number, args) };
    if answer < 0 {
        let offset = HOOKS.errno_offset.load(Ordering::Relaxed) as isize;
        let errno = place::thread_pointer().wrapping_add_signed(offset);
        // SAFETY: the calling thread's errno, at its distance in every thread.
        unsafe { *(errno as *mut c_int) = -answer as c_int };
        return -1;
    }
    answer
}

/// Looks whether the originals are glibc's own, and allows plain calls then. From the constructor.
pub fn allow_plain_calls() {
    let theirs = [&super::transfer::RECV, &super::transfer::SEND, &super::waits::EPOLL_WAIT, &CANCEL];
    let Some(libc_base) = base_of(libc::gnu_get_libc_version as *const c_void) else { return };
    if !theirs.iter().all(|original| base_of(original.address() as *const c_void) == Some(libc_base)) {
        return;
    }
    const ALONE: &CStr = c"__libc_single_threaded";
    // SAFETY: dlsym with a constant string; the symbol is a char (glibc's manual) of a library that is never unloaded.
    let alone = unsafe { libc::dlsym(libc::RTLD_DEFAULT, ALONE.as_ptr()).cast::<AtomicU8>().as_ref() };
    let Some(alone) = alone else { return };
    // glibc's errno belongs to its static thread-local storage, which is at one distance in all threads.
    // SAFETY: the location of errno is valid in every thread.
    let errno = unsafe { libc::__errno_location() } as usize;
    let Ok(distance) = i32::try_from(place::distance_of(errno)) else { return };
    HOOKS.errno_offset.store(distance, Ordering::Relaxed);
    HOOKS.alone.follow(alone);
    ENGINE.process().allow_plain_calls();
    // After it: whoever cancels meanwhile either forbids it later, or is seen here.
    if BEGUN.load(Ordering::SeqCst) {
        ENGINE.process().forbid_plain_calls();
    }
}

/// Where the object that `address` belongs to begins.
fn base_of(address: *const c_void) -> Option<*mut c_void> {
    let mut found = MaybeUninit::<Dl_info>::uninit();
    // SAFETY: `found` is writable; it is read only if the call says that it was written.
    unsafe { (libc::dladdr(address, found.as_mut_ptr()) != 0).then(|| found.assume_init().dli_fbase) }
}
