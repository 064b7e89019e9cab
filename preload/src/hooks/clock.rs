//! The clock of programs that count ticks: times(2) and sysconf(_SC_CLK_TCK) with ticks of 1 µs, for `perquery time`.
//!
//! Why a microsecond: it is the finest unit in which the kernel tells CPU times (getrusage(2)), and what a network
//! client could mean at all; 63 bits of them last 292 000 years, and the 53 bits of a double 285 years of uptime. Both
//! calls change together, or a program's division would be wrong by 10 000.
//!
//! # Safety
//!
//! `unsafe` is used to call the original with the caller's own argument, for a system call that writes into a local
//! variable, and to write to the caller's `struct tms`, as times(2) does.
#![allow(unsafe_code)]
#![allow(clippy::missing_safety_doc)] // each has the contract of the function of the same name

use super::tail::{Tail, tail};
use crate::real::{Original, system_call};
use core::ffi::{c_int, c_long};
use libc::{clock_t, timeval, tms};
use perquery_agent::clock::monotonic_ns;

const TICKS_PER_SECOND: c_long = 1_000_000;
const TICK_NS: u64 = 1_000;

tail! {
    /// times(2).
    times TIMES TIMES_TAIL, missing raw_times
}
tail! {
    /// sysconf(3).
    sysconf SYSCONF SYSCONF_TAIL, missing unknown
}

unsafe extern "C" fn raw_times(to: *mut tms) -> clock_t {
    // SAFETY: the caller's own argument.
    unsafe { system_call(libc::SYS_times, [to as usize, 0, 0, 0, 0, 0]) as clock_t }
}

/// -1: "no limit, or not supported".
extern "C" fn unknown() -> c_long {
    -1
}

/// Finds the originals. From the constructor.
pub fn find_originals() {
    TIMES_TAIL.find();
    SYSCONF_TAIL.find();
}

/// Counts in microseconds from now on.
pub fn count_microseconds() {
    TIMES_TAIL.switch_on(times_in_microseconds as *const ());
    SYSCONF_TAIL.switch_on(sysconf_in_microseconds as *const ());
}

unsafe extern "C-unwind" fn sysconf_in_microseconds(name: c_int) -> c_long {
    if name == libc::_SC_CLK_TCK {
        return TICKS_PER_SECOND;
    }
    // SAFETY: the address was found under the function's name; the type is that of its header.
    let real = unsafe {
        core::mem::transmute::<*const (), unsafe extern "C-unwind" fn(c_int) -> c_long>(SYSCONF_TAIL.real())
    };
    // SAFETY: the caller's own argument.
    unsafe { real(name) }
}

/// As glibc's: a null buffer is no error, a wrong one is a fault of the caller, and there is no other way to fail.
unsafe extern "C-unwind" fn times_in_microseconds(to: *mut tms) -> clock_t {
    if !to.is_null() {
        let (own_user, own_system) = cpu_ticks(libc::RUSAGE_SELF);
        let (children_user, children_system) = cpu_ticks(libc::RUSAGE_CHILDREN);
        let spent = tms {
            tms_utime: own_user,
            tms_stime: own_system,
            tms_cutime: children_user,
            tms_cstime: children_system,
        };
        // SAFETY: the caller gave room for one.
        unsafe { to.write(spent) };
    }
    (monotonic_ns() / TICK_NS) as clock_t
}

/// User and system time of this process, or of its children that were waited for: from the accounts that the kernel's
/// own times(2) rounds to 10 ms.
fn cpu_ticks(whose: c_int) -> (clock_t, clock_t) {
    // SAFETY: rusage consists of integers, for which zero bytes are a value.
    let mut usage: libc::rusage = unsafe { core::mem::zeroed() };
    let to = (&raw mut usage) as usize;
    // SAFETY: the kernel writes one rusage to `usage`. The call can't fail with these arguments.
    unsafe { system_call(libc::SYS_getrusage, [whose as isize as usize, to, 0, 0, 0, 0]) };
    let ticks = |time: timeval| time.tv_sec.wrapping_mul(TICKS_PER_SECOND).wrapping_add(time.tv_usec);
    (ticks(usage.ru_utime), ticks(usage.ru_stime))
}
