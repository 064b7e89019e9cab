//! What the kernel accounts for the calling thread: its CPU clock and its resource usage.
//!
//! # Safety
//!
//! `unsafe` is used for two system calls that write into local variables.
#![allow(unsafe_code)]

use super::{Errno, syscall};

/// CPU time, faults and context switches of a thread since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadUsage {
    /// Page faults served without a disk read.
    pub page_faults_minor: u64,
    /// Page faults that waited for a disk.
    pub page_faults_major: u64,
    /// Context switches because the thread waited.
    pub switches_voluntary: u64,
    /// Context switches because the scheduler took the CPU away.
    pub switches_involuntary: u64,
    /// CPU time in user and in kernel mode, ns, each cut to whole microseconds: as of the last time that the scheduler
    /// brought the thread's account up to date, which is when it was switched in, or later.
    pub cpu_ns: u64,
}

/// CPU time of the calling thread, user and system, in ns: clock_gettime(2), CLOCK_THREAD_CPUTIME_ID. The vdso does not
/// know this clock, so the system call costs nothing extra.
#[inline]
pub fn thread_cpu_ns() -> Result<u64, Errno> {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let to = (&raw mut now) as usize;
    let clock = libc::CLOCK_THREAD_CPUTIME_ID as usize;
    // SAFETY: the kernel writes one timespec to `now`, which outlives the call.
    unsafe { syscall(libc::SYS_clock_gettime, [clock, to, 0, 0, 0, 0]) }?;
    Ok((now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64))
}

/// What the calling thread has used: getrusage(2), RUSAGE_THREAD.
#[inline(always)]
pub fn thread_usage() -> Result<ThreadUsage, Errno> {
    let mut usage = core::mem::MaybeUninit::<libc::rusage>::uninit();
    let to = usage.as_mut_ptr() as usize;
    // SAFETY: the kernel writes one rusage to `usage`, which outlives the call.
    unsafe { syscall(libc::SYS_getrusage, [libc::RUSAGE_THREAD as usize, to, 0, 0, 0, 0]) }?;
    // SAFETY: the call succeeded, so the kernel has written all of it.
    let usage = unsafe { usage.assume_init_ref() };
    let microseconds =
        |time: libc::timeval| (time.tv_sec as u64).wrapping_mul(1_000_000).wrapping_add(time.tv_usec as u64);
    let cpu_us = microseconds(usage.ru_utime).wrapping_add(microseconds(usage.ru_stime));
    Ok(ThreadUsage {
        page_faults_minor: usage.ru_minflt as u64,
        page_faults_major: usage.ru_majflt as u64,
        switches_voluntary: usage.ru_nvcsw as u64,
        switches_involuntary: usage.ru_nivcsw as u64,
        cpu_ns: cpu_us.wrapping_mul(1_000),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    #[test]
    fn the_cpu_clock_of_a_thread_advances_while_it_computes_and_never_beyond_wall_time() {
        let wall = crate::clock::monotonic_ns();
        let before = thread_cpu_ns().unwrap();
        let mut x = 1u64;
        while thread_cpu_ns().unwrap() - before < 2_000_000 {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        let spent = thread_cpu_ns().unwrap() - before;
        assert!(spent >= 2_000_000);
        assert!(crate::clock::monotonic_ns() - wall >= spent - spent / 100);
    }

    #[test]
    fn the_first_touch_of_fresh_memory_is_counted_as_minor_faults() {
        let before = thread_usage().unwrap();
        let mut memory = vec![0u8; 64 << 20];
        for byte in memory.iter_mut().step_by(4096) {
            *byte = 1;
        }
        let after = thread_usage().unwrap();
        std::hint::black_box(&memory);
        assert!(after.page_faults_minor > before.page_faults_minor);
    }
}
