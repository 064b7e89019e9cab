//! x86-64: the word of each thread that says where its state is.
//!
//! The library is there when the program starts, so the word can be reached the short way (the initial-exec model: two
//! instructions), which the compiler does not take for a shared library: it calls __tls_get_addr each time.
//!
//! # Safety
//!
//! `unsafe` is used for two instructions that read, or write, the calling thread's own word.
#![allow(unsafe_code)]

core::arch::global_asm!(
    ".pushsection .tbss.perquery_thread,\"awT\",@nobits",
    ".balign 8",
    ".globl perquery_thread",
    ".hidden perquery_thread",
    ".type perquery_thread,@object",
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
            "mov {word}, qword ptr [rip + perquery_thread@GOTTPOFF]",
            "mov {word}, qword ptr fs:[{word}]",
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
            "mov {at}, qword ptr [rip + perquery_thread@GOTTPOFF]",
            "mov qword ptr fs:[{at}], {word}",
            at = out(reg) _,
            word = in(reg) word,
            options(nostack, preserves_flags),
        );
    }
}
