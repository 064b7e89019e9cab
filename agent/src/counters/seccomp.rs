//! Whether perf_event_open(2) may be tried at all: a system call filter can kill the whole process for it.
//!
//! # Safety
//!
//! `unsafe` is used for clone(2) without shared memory, as fork would do it, and for waiting for that child. The child
//! makes two system calls and touches nothing else.
#![allow(unsafe_code)]

use super::table::KIND_SOFTWARE;
use super::unavailable::Unavailable;
use crate::sys::perf::{self, EventRequest};
use crate::sys::{Errno, process, syscall};
use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

const NOT_PROBED: u8 = 0;
const MAY_TRY: u8 = 1;
const KILLS: u8 = 2;
const UNKNOWN: u8 = 3;
/// perf_event_open may be tried? Inherited by forked children, like the filter itself.
static VERDICT: AtomicU8 = AtomicU8::new(NOT_PROBED);

const TRACING_UNKNOWN: u8 = 0;
const NOT_TRACED: u8 = 1;
const TRACED: u8 = 2;
static TRACING: AtomicU8 = AtomicU8::new(TRACING_UNKNOWN);

/// Finds out, once and for all forked children too, whether perf_event_open may be tried: not on a query's path, but in
/// the library's constructor (it may make a child process, for about 0.1 ms, of which the host learns nothing: no
/// SIGCHLD, no wait). A filter that the host installs later is not noticed.
pub fn probe_seccomp() -> Result<(), Unavailable> {
    let mut buffer = [0u8; 4096];
    let status = process::read_file(c"/proc/self/status", &mut buffer).unwrap_or(&[]);
    TRACING.store(
        match field(status, b"TracerPid:") {
            Some(b"0") => NOT_TRACED,
            Some(_) => TRACED,
            None => TRACING_UNKNOWN,
        },
        Relaxed,
    );
    let verdict = match field(status, b"Seccomp:") {
        Some(b"0") => MAY_TRY,
        // No such line means a kernel without filters, but only if there was a status to read.
        None if field(status, b"Pid:").is_some() => MAY_TRY,
        _ => try_in_child(),
    };
    VERDICT.store(verdict, Relaxed);
    self::verdict()
}

/// What [`probe_seccomp`] found out.
pub fn verdict() -> Result<(), Unavailable> {
    match VERDICT.load(Relaxed) {
        MAY_TRY => Ok(()),
        KILLS => Err(Unavailable::SeccompKills),
        _ => Err(Unavailable::SeccompUnknown),
    }
}

/// Whether the process was traced when [`probe_seccomp`] looked.
pub(super) fn is_traced() -> Option<bool> {
    match TRACING.load(Relaxed) {
        NOT_TRACED => Some(false),
        TRACED => Some(true),
        _ => None,
    }
}

/// The value of a line of /proc/PID/status.
fn field<'a>(status: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(name)).map(<[u8]>::trim_ascii)
}

/// Tries it in a child whose end sends no signal and which only a __WCLONE wait sees.
fn try_in_child() -> u8 {
    // SAFETY: no memory is shared (flags 0) and the stack is the copy of this one; the exit signal is 0.
    match unsafe { syscall(libc::SYS_clone, [0; 6]) } {
        Ok(0) => {
            let request = EventRequest {
                kind: KIND_SOFTWARE,
                config: 0,
                config1: 0,
                exclude_user: false,
                exclude_kernel: true,
                disabled: true,
            };
            // What it answers does not matter, only that it comes back.
            let _ = perf::open(&request, -1);
            loop {
                // SAFETY: ends this child at once, without running anything of the host's.
                let _ = unsafe { syscall(libc::SYS_exit_group, [0; 6]) };
            }
        }
        Ok(child) => {
            let mut status = 0i32;
            let to = (&raw mut status) as usize;
            loop {
                // SAFETY: the kernel writes one int to `status`.
                match unsafe { syscall(libc::SYS_wait4, [child, to, libc::__WCLONE as usize, 0, 0, 0]) } {
                    Ok(_) if libc::WIFEXITED(status) => return MAY_TRY,
                    Ok(_) => return KILLS,
                    Err(Errno(libc::EINTR)) => {}
                    Err(_) => return UNKNOWN,
                }
            }
        }
        Err(_) => UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `child` in a forked process; its exit status as wait gives it.
    fn in_fork(child: impl FnOnce() -> i32) -> i32 {
        // SAFETY: the child makes system calls only, then exits without running destructors.
        unsafe {
            let pid = libc::fork();
            if pid == 0 {
                libc::_exit(child());
            }
            let mut status = 0;
            assert_eq!(libc::waitpid(pid, &mut status, 0), pid);
            status
        }
    }

    /// Filters perf_event_open with `action`, lets everything else pass.
    fn filter_perf_event_open(action: u32) {
        let line = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
        let program = [
            line(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
            line(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, libc::SYS_perf_event_open as u32),
            line(libc::BPF_RET | libc::BPF_K, 0, 0, action),
            line(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let program = libc::sock_fprog { len: 4, filter: program.as_ptr().cast_mut() };
        // SAFETY: `program` is a valid filter; both calls affect this (forked) process only.
        unsafe {
            assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
            assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
        }
    }

    fn probe_code() -> i32 {
        match probe_seccomp() {
            Ok(()) => 100,
            Err(reason) => reason as i32,
        }
    }

    fn exit_code(status: i32) -> i32 {
        assert!(libc::WIFEXITED(status), "the host died: {status:#x}");
        libc::WEXITSTATUS(status)
    }

    #[test]
    fn a_filter_that_kills_kills_the_child_and_the_host_lives_on_without_perf() {
        let status = in_fork(|| {
            filter_perf_event_open(libc::SECCOMP_RET_KILL_PROCESS);
            probe_code()
        });
        assert_eq!(exit_code(status), Unavailable::SeccompKills as i32);
    }

    #[test]
    fn a_filter_that_answers_with_an_error_is_left_to_the_ordinary_fallback() {
        let status = in_fork(|| {
            filter_perf_event_open(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32);
            probe_code()
        });
        assert_eq!(exit_code(status), 100);
    }

    #[test]
    fn the_host_sees_nothing_of_the_trial_child() {
        let status = in_fork(|| {
            let verdict = try_in_child();
            // SAFETY: asks for any child; there must be none that an ordinary wait can see.
            let waited = unsafe { libc::waitpid(-1, core::ptr::null_mut(), libc::WNOHANG) };
            i32::from(verdict == MAY_TRY && waited == -1)
        });
        assert_eq!(exit_code(status), 1);
    }

    #[test]
    fn without_a_filter_it_may_be_tried() {
        let status = in_fork(probe_code);
        if exit_code(status) != 100 {
            std::eprintln!("skipped: these tests themselves run under a system call filter");
        }
    }

    #[test]
    fn fields_of_a_status_file_are_found_by_their_whole_name() {
        let status = b"Name:\tx\nSeccomp_filters:\t7\nSeccomp:\t2\nTracerPid:\t0\n";
        assert_eq!(field(status, b"Seccomp:"), Some(&b"2"[..]));
        assert_eq!(field(status, b"TracerPid:"), Some(&b"0"[..]));
        assert_eq!(field(status, b"Nothing:"), None);
        assert_eq!(field(b"", b"Pid:"), None);
    }
}
