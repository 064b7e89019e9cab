//! The counter of [`super::Clock`] on aarch64: the virtual counter of the generic timer.
//!
//! # Safety
//!
//! `unsafe` is used for the instruction that reads it, which touches nothing else.

use core::arch::asm;

/// What the kernel calls it.
pub const CLOCKSOURCE: &[u8] = b"arch_sys_counter";
/// The kernel lets every process read it where its own vdso does.
pub const CAN_BE_FORBIDDEN: bool = false;

/// The architecture's word that it runs at one rate in every state of the processor (D12.1.2 of its manual).
pub fn is_invariant() -> bool {
    true
}

/// Its present value.
#[inline(always)]
pub fn counter() -> u64 {
    let ticks: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack, preserves_flags)) };
    ticks
}
