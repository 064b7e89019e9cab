//! The section that nobody executes, and the thread pointer, on x86-64.
//!
//! # Safety
//!
//! `unsafe` is used to read the thread pointer from where the ABI keeps it.

use core::arch::{asm, global_asm};

// 0x53053053 is RSEQ_SIG of glibc on this architecture; the kernel compares it with the word before the abort address.
global_asm!(
    ".pushsection .text.perquery_nowhere,\"ax\",@progbits",
    ".balign 16",
    ".long 0x53053053",
    ".hidden perquery_nowhere_abort",
    ".globl perquery_nowhere_abort",
    "perquery_nowhere_abort:",
    "ud2",
    ".hidden perquery_nowhere_start",
    ".globl perquery_nowhere_start",
    "perquery_nowhere_start:",
    "nop",
    ".popsection",
);

// SAFETY: the labels above.
unsafe extern "C" {
    pub static perquery_nowhere_start: u8;
    pub static perquery_nowhere_abort: u8;
}

/// The address that the thread's storage is relative to (System V ABI: the word at fs:0).
#[inline(always)]
pub fn thread_pointer() -> usize {
    let pointer: usize;
    // SAFETY: the first word of the thread control block is its own address.
    unsafe { asm!("mov {}, fs:0", out(reg) pointer, options(nostack, preserves_flags, readonly)) };
    pointer
}
