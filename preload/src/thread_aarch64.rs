//! aarch64: the word of each thread that says where its state is.
//!
//! The library is there when the program starts, so the word can be reached the short way (the initial-exec model), which
//! the compiler does not take for a shared library: it calls a resolver each time.
//!
//! # Safety
//!
//! `unsafe` is used for a few instructions that read, or write, the calling thread's own word.
#![allow(unsafe_code)]

core::arch::global_asm!(
    ".pushsection .tbss.perquery_thread,\"awT\",%nobits",
    ".balign 8",
    ".globl perquery_thread",
    ".hidden perquery_thread",
    ".type perquery_thread,%object",
    ".size perquery_thread,8",
    "perquery_thread: .zero 8",
    ".popsection",
);

/// The calling thread's word; 0 in a new thread.
#[inline(always)]
pub fn load() -> usize {
    let word;
    // SAFETY: reads the word above through the offset that the loader put into the global offset table.
    unsafe {
        core::arch::asm!(
            "mrs {thread}, tpidr_el0",
            "adrp {word}, :gottprel:perquery_thread",
            "ldr {word}, [{word}, :gottprel_lo12:perquery_thread]",
            "ldr {word}, [{thread}, {word}]",
            thread = out(reg) _,
            word = out(reg) word,
            options(nostack, preserves_flags, readonly, pure),
        );
    }
    word
}

/// Stores the calling thread's word.
#[inline(always)]
pub fn store(word: usize) {
    // SAFETY: writes the word above.
    unsafe {
        core::arch::asm!(
            "mrs {thread}, tpidr_el0",
            "adrp {at}, :gottprel:perquery_thread",
            "ldr {at}, [{at}, :gottprel_lo12:perquery_thread]",
            "str {word}, [{thread}, {at}]",
            thread = out(reg) _,
            at = out(reg) _,
            word = in(reg) word,
            options(nostack, preserves_flags),
        );
    }
}
