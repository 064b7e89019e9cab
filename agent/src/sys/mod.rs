//! The operating system's calls that the agent makes itself, as raw system calls.
//!
//! Raw, because a call through libc would enter our own hooks and could change errno.
//!
//! # Safety
//!
//! `unsafe` is used to execute the system call instruction; each wrapper keeps the contract of its call.
#![allow(unsafe_code)]

#[cfg_attr(target_arch = "x86_64", path = "x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "aarch64.rs")]
mod arch;
pub mod memory;
pub mod perf;
pub mod process;
pub mod time;

/// A positive errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

/// Splits the kernel's answer into value and errno.
fn check(answer: isize) -> Result<usize, Errno> {
    if (-4095..0).contains(&answer) { Err(Errno(-answer as i32)) } else { Ok(answer as usize) }
}

/// Executes system call `number` in place, and answers as the kernel does: with a negated errno for a failure.
///
/// # Safety
///
/// As of [`syscall`].
#[inline(always)]
pub unsafe fn syscall_in_place(number: libc::c_long, args: [usize; 6]) -> isize {
    // SAFETY: the caller vouches for the arguments.
    unsafe { arch::syscall6(number as usize, args) }
}

/// Executes system call `number`.
///
/// # Safety
///
/// The arguments must satisfy the call's own contract; see its manual page.
pub unsafe fn syscall(number: libc::c_long, args: [usize; 6]) -> Result<usize, Errno> {
    // SAFETY: the caller vouches for the arguments.
    check(unsafe { syscall_in_place(number, args) })
}
