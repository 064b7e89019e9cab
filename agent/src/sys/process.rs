//! Processes, threads and descriptors.
//!
//! # Safety
//!
//! `unsafe` is used for the system calls; buffers are Rust slices, strings are `CStr`.
#![allow(unsafe_code)]

use super::{Errno, syscall};
use core::ffi::CStr;
use core::sync::atomic::{AtomicBool, Ordering};

/// getpid(2).
pub fn pid() -> u32 {
    // SAFETY: no arguments.
    unsafe { syscall(libc::SYS_getpid, [0; 6]) }.unwrap_or(0) as u32
}

/// gettid(2).
pub fn tid() -> u32 {
    // SAFETY: no arguments.
    unsafe { syscall(libc::SYS_gettid, [0; 6]) }.unwrap_or(0) as u32
}

/// True unless thread `tid` of process `pid` is known to be gone (tgkill(2) with signal 0 says ESRCH).
pub fn thread_exists(pid: u32, tid: u32) -> bool {
    // SAFETY: signal 0 is never delivered.
    let answer = unsafe { syscall(libc::SYS_tgkill, [pid as usize, tid as usize, 0, 0, 0, 0]) };
    answer != Err(Errno(libc::ESRCH))
}

/// True unless process `pid` is known to be gone.
pub fn process_exists(pid: u32) -> bool {
    // SAFETY: signal 0 is never delivered.
    let answer = unsafe { syscall(libc::SYS_kill, [pid as usize, 0, 0, 0, 0, 0]) };
    answer != Err(Errno(libc::ESRCH))
}

/// fcntl(2) with an integer argument.
pub fn fcntl(fd: i32, command: i32, argument: usize) -> Result<usize, Errno> {
    // SAFETY: only commands with an integer argument are used by this crate.
    unsafe { syscall(libc::SYS_fcntl, [fd as usize, command as usize, argument, 0, 0, 0]) }
}

/// close(2).
pub fn close(fd: i32) {
    // SAFETY: the caller owns the descriptor.
    let _ = unsafe { syscall(libc::SYS_close, [fd as usize, 0, 0, 0, 0, 0]) };
}

/// Moves `fd` to a number of at least `floor` with close-on-exec, so that a host that counts its low descriptors does
/// not notice it. Where no such number is free `fd` stays as it is.
pub fn move_high(fd: i32, floor: i32) -> i32 {
    match fcntl(fd, libc::F_DUPFD_CLOEXEC, floor as usize) {
        Ok(high) => {
            close(fd);
            high as i32
        }
        Err(_) => fd,
    }
}

/// The soft and hard limit of open descriptors (getrlimit(2), RLIMIT_NOFILE).
pub fn descriptor_limits() -> (u64, u64) {
    let mut limit = libc::rlimit64 { rlim_cur: 1024, rlim_max: 1024 };
    let to = (&raw mut limit) as usize;
    // SAFETY: `limit` is a valid rlimit64 for the kernel to write to.
    let _ = unsafe { syscall(libc::SYS_prlimit64, [0, libc::RLIMIT_NOFILE as usize, 0, to, 0, 0]) };
    (limit.rlim_cur, limit.rlim_max)
}

/// True once the table of descriptors has grown, or may: while the process has one thread.
static GROWS: AtomicBool = AtomicBool::new(false);

/// From the constructor: there are no other threads yet, so that the table of descriptors can grow without waiting.
pub fn let_descriptors_grow() {
    GROWS.store(true, Ordering::Relaxed);
}

/// The lowest number that the agent's own descriptors should have: above PostgreSQL's max_files_per_process of 1000
/// where the limit allows, else near the limit's end. In a process that had threads before it had any of ours: near the
/// end of the table that every process begins with, because to grow it the kernel waits for all CPUs (synchronize_rcu
/// in expand_fdtable, fs/file.c): 6 ms, measured.
pub fn high_descriptor_floor() -> i32 {
    let (soft, _) = descriptor_limits();
    match soft {
        0..=64 => 0,
        _ if !GROWS.load(Ordering::Relaxed) => 40,
        65..=1100 => (soft - soft / 8) as i32,
        // Not higher than needed: the kernel grows the table of descriptors up to the largest number.
        _ => 1050.max((soft / 2).min(2048)) as i32,
    }
}

/// readlink(2) into `to`; the bytes written.
pub fn read_link<'a>(path: &CStr, to: &'a mut [u8]) -> Result<&'a [u8], Errno> {
    let args = [libc::AT_FDCWD as usize, path.as_ptr() as usize, to.as_mut_ptr() as usize, to.len(), 0, 0];
    // SAFETY: `to` is writable for its length.
    let n = unsafe { syscall(libc::SYS_readlinkat, args) }?;
    Ok(to.get(..n).unwrap_or(&[]))
}

/// open(2) for reading and writing, with close-on-exec.
pub fn open_read_write(path: &CStr) -> Result<i32, Errno> {
    open(path, libc::O_RDWR | libc::O_CLOEXEC)
}

fn open(path: &CStr, flags: i32) -> Result<i32, Errno> {
    let args = [libc::AT_FDCWD as usize, path.as_ptr() as usize, flags as usize, 0, 0, 0];
    // SAFETY: `path` is a NUL-terminated string; the call takes no mode, because it never creates.
    unsafe { syscall(libc::SYS_openat, args) }.map(|fd| fd as i32)
}

/// Reads the beginning of a file into `to`; the bytes read. For /proc files, which come whole in one read(2).
pub fn read_file<'a>(path: &CStr, to: &'a mut [u8]) -> Result<&'a [u8], Errno> {
    let fd = open(path, libc::O_RDONLY | libc::O_CLOEXEC)?;
    // SAFETY: `to` is writable for its length.
    let n = unsafe { syscall(libc::SYS_read, [fd as usize, to.as_mut_ptr() as usize, to.len(), 0, 0, 0]) };
    close(fd);
    Ok(to.get(..n?).unwrap_or(&[]))
}

/// Address of the peer of a socket (getpeername(2)) or of its own end (getsockname(2)), as the kernel's bytes.
pub fn socket_address(fd: i32, peer: bool, to: &mut [u8; 128]) -> Result<usize, Errno> {
    let mut len = to.len() as u32;
    let number = if peer { libc::SYS_getpeername } else { libc::SYS_getsockname };
    let args = [fd as usize, to.as_mut_ptr() as usize, (&raw mut len) as usize, 0, 0, 0];
    // SAFETY: `to` and `len` are writable, `len` says how long `to` is.
    unsafe { syscall(number, args) }?;
    Ok((len as usize).min(to.len()))
}
