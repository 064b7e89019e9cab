//! Where a thread's own storage is: at one distance from the thread pointer in every thread.
//!
//! The compiler calls a resolver each time. But the library is there when the program starts, and it has an anchor that is
//! reached the short way (the initial-exec model), as only a library may have whose whole thread-local storage keeps its
//! distance: the linker marks it so (DF_STATIC_TLS), and the loader keeps to it (ELF Handling for Thread-Local Storage,
//! sections 2 and 3.4). So the distance is found once.
//!
//! # Safety
//!
//! `unsafe` is used for an instruction that reads the thread pointer, and for those that read the anchor's offset.
#![allow(unsafe_code)]

#[cfg_attr(target_arch = "x86_64", path = "place_x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "place_aarch64.rs")]
mod arch;

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
    // SAFETY: reads what every thread may read.
    unsafe {
        core::arch::asm!(
            arch::read_thread_pointer!(),
            pointer = out(reg) pointer,
            options(nostack, preserves_flags, readonly, pure),
        );
    }
    pointer
}

/// How far `storage`, which is the calling thread's, is from its thread pointer, in bytes; as it is in every other thread.
pub fn distance_of(storage: usize) -> isize {
    // SAFETY: reads the offset that the loader put into the global offset table. It is read for what the reading means to the
    // linker, so it is not `pure`.
    unsafe {
        core::arch::asm!(
            arch::read_anchor_offset!(),
            offset = out(reg) _,
            options(nostack, preserves_flags, readonly),
        );
    }
    storage.wrapping_sub(thread_pointer()) as isize
}
