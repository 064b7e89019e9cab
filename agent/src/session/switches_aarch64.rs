//! The section that nobody executes, and the thread pointer, on aarch64.
//!
//! # Safety
//!
//! `unsafe` is used to read the thread pointer's register.

use core::arch::{asm, global_asm};

// 0xd428bc00 is RSEQ_SIG of glibc on this architecture; the kernel compares it with the word before the abort address.
global_asm!(
    ".pushsection .text.perquery_nowhere,\"ax\",@progbits",
    ".balign 16",
    ".long 0xd428bc00",
    ".hidden perquery_nowhere_abort",
    ".globl perquery_nowhere_abort",
    "perquery_nowhere_abort:",
    "brk #0",
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

/// The address that the thread's storage is relative to.
#[inline(always)]
pub fn thread_pointer() -> usize {
    let pointer: usize;
    // SAFETY: reading tpidr_el0 has no effect.
    unsafe { asm!("mrs {}, tpidr_el0", out(reg) pointer, options(nostack, preserves_flags, nomem)) };
    pointer
}
