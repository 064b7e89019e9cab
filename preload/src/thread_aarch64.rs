//! aarch64: where a thread's own storage is.
//!
//! The library is there when the program starts. Its anchor is reached the short way (the initial-exec model), which only a
//! library may do whose whole thread-local storage is at one distance from the thread pointer in every thread; the linker
//! marks it so (DF_STATIC_TLS), and the loader keeps to it (ELF Handling for Thread-Local Storage, sections 2 and 3.4). So
//! that distance needs to be found only once, while the compiler would call a resolver each time.
//!
//! # Safety
//!
//! `unsafe` is used for an instruction that reads the thread pointer, and one that reads the anchor's offset.
#![allow(unsafe_code)]

core::arch::global_asm!(
    ".pushsection .tbss.perquery_anchor,\"awT\",%nobits",
    ".balign 8",
    ".globl perquery_anchor",
    ".hidden perquery_anchor",
    ".type perquery_anchor,%object",
    ".size perquery_anchor,8",
    "perquery_anchor: .zero 8",
    ".popsection",
);

/// The calling thread's pointer.
#[inline(always)]
pub fn thread_pointer() -> usize {
    let pointer;
    // SAFETY: the register is readable by everybody.
    unsafe {
        core::arch::asm!(
            "mrs {pointer}, tpidr_el0",
            pointer = out(reg) pointer,
            options(nostack, preserves_flags, nomem, pure),
        );
    }
    pointer
}

/// How far the anchor is from the thread pointer, in bytes. (Not `pure`: it is asked for what its asking means to the linker.)
pub fn anchor_offset() -> usize {
    let offset;
    // SAFETY: reads the offset that the loader put into the global offset table.
    unsafe {
        core::arch::asm!(
            "adrp {offset}, :gottprel:perquery_anchor",
            "ldr {offset}, [{offset}, :gottprel_lo12:perquery_anchor]",
            offset = out(reg) offset,
            options(nostack, preserves_flags, readonly),
        );
    }
    offset
}
