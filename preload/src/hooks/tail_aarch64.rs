//! The jumps of [`super::Tail`] on aarch64: x16 and x17 belong to nobody between a call and its function (AAPCS64, 6.1.1).
//!
//! # Safety
//!
//! `unsafe` is used for naked functions: the jump touches x16 only, the search saves every register that can hold an
//! argument.

use super::search;
use core::arch::naked_asm;

/// Exports a function that is a jump to where its tail says.
macro_rules! jump {
    ($(#[$doc:meta])* $name:ident, $tail:ident) => {
        $(#[$doc])*
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        pub unsafe extern "C-unwind" fn $name() {
            core::arch::naked_asm!(
                "adrp x16, {tail}",
                "ldr x16, [x16, :lo12:{tail}]",
                "br x16",
                tail = sym $tail,
            )
        }
    };
}
pub(crate) use jump;

/// Exports a function that is a jump to where its tail says while the gate is shut, else to `closer`.
macro_rules! gated_jump {
    ($(#[$doc:meta])* $name:ident, $tail:ident, $closer:path) => {
        $(#[$doc])*
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        pub unsafe extern "C-unwind" fn $name() {
            core::arch::naked_asm!(
                "adrp x16, {gate}",
                "ldr x16, [x16, :lo12:{gate}]",
                "ldr x16, [x16]",
                "cbnz x16, 2f",
                "adrp x16, {tail}",
                "ldr x16, [x16, :lo12:{tail}]",
                "br x16",
                "2:",
                "b {closer}",
                gate = sym perquery_agent::session::GATE,
                closer = sym $closer,
                tail = sym $tail,
            )
        }
    };
}
pub(crate) use gated_jump;

/// Declares `first_call`: where a tail points to until its original was found.
macro_rules! first_call {
    ($tail:ident) => {
        #[unsafe(naked)]
        unsafe extern "C" fn first_call() {
            core::arch::naked_asm!(
                "adrp x16, {tail}",
                "add x16, x16, :lo12:{tail}",
                "b {search}",
                tail = sym $tail,
                search = sym $crate::hooks::tail::search_and_jump,
            )
        }
    };
}
pub(crate) use first_call;

/// Finds the original of the tail in x16 and jumps to it.
#[unsafe(naked)]
pub unsafe extern "C" fn search_and_jump() {
    naked_asm!(
        "stp x29, x30, [sp, #-224]!",
        "mov x29, sp",
        "stp x0, x1, [sp, #16]",
        "stp x2, x3, [sp, #32]",
        "stp x4, x5, [sp, #48]",
        "stp x6, x7, [sp, #64]",
        "str x8, [sp, #80]",
        "stp q0, q1, [sp, #96]",
        "stp q2, q3, [sp, #128]",
        "stp q4, q5, [sp, #160]",
        "stp q6, q7, [sp, #192]",
        "mov x0, x16",
        "bl {search}",
        "mov x16, x0",
        "ldp x0, x1, [sp, #16]",
        "ldp x2, x3, [sp, #32]",
        "ldp x4, x5, [sp, #48]",
        "ldp x6, x7, [sp, #64]",
        "ldr x8, [sp, #80]",
        "ldp q0, q1, [sp, #96]",
        "ldp q2, q3, [sp, #128]",
        "ldp q4, q5, [sp, #160]",
        "ldp q6, q7, [sp, #192]",
        "ldp x29, x30, [sp], #224",
        "br x16",
        search = sym search,
    )
}
