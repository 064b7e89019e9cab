//! The counter of [`super::Clock`] on x86-64: the time-stamp counter.
//!
//! # Safety
//!
//! `unsafe` is used for the instruction that reads it, which touches nothing else.

use core::arch::x86_64::{__cpuid, _rdtsc};

/// What the kernel calls it.
pub const CLOCKSOURCE: &[u8] = b"tsc";
/// prctl(PR_SET_TSC) makes reading it a fault.
pub const CAN_BE_FORBIDDEN: bool = true;

/// CPUID's word that it runs at one rate in every state of the processor.
pub fn is_invariant() -> bool {
    const EXTENDED: u32 = 0x8000_0000;
    const POWER: u32 = 0x8000_0007;
    __cpuid(EXTENDED).eax >= POWER && __cpuid(POWER).edx & 1 << 8 != 0
}

/// Its present value.
#[inline(always)]
pub fn counter() -> u64 {
    // SAFETY: every x86-64 processor has the instruction; whether it is permitted was asked before.
    unsafe { _rdtsc() }
}
