//! The jumps of [`super::Tail`] on x86-64: r11 belongs to nobody between a call and its function (System V ABI, 3.2.1).
//!
//! # Safety
//!
//! `unsafe` is used for naked functions: the jump touches no register, the search saves every register that can hold
//! an argument, al among them, which counts the vector registers of a variadic call.

use super::search;
use core::arch::naked_asm;

/// Exports a function that is a jump to where its tail says.
macro_rules! jump {
    ($(#[$doc:meta])* $name:ident, $tail:ident) => {
        $(#[$doc])*
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        pub unsafe extern "C-unwind" fn $name() {
            core::arch::naked_asm!("jmp qword ptr [rip + {tail}]", tail = sym $tail)
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
                "mov r11, qword ptr [rip + {gate}]",
                "cmp qword ptr [r11], 0",
                "jne {closer}",
                "jmp qword ptr [rip + {tail}]",
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
                "lea r11, [rip + {tail}]",
                "jmp {search}",
                tail = sym $tail,
                search = sym $crate::hooks::tail::search_and_jump,
            )
        }
    };
}
pub(crate) use first_call;

/// Finds the original of the tail in r11 and jumps to it.
#[unsafe(naked)]
pub unsafe extern "C" fn search_and_jump() {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "push rax",
        "push rdi",
        "push rsi",
        "push rdx",
        "push rcx",
        "push r8",
        "push r9",
        "push r10",
        "sub rsp, 128",
        "movups [rsp], xmm0",
        "movups [rsp + 16], xmm1",
        "movups [rsp + 32], xmm2",
        "movups [rsp + 48], xmm3",
        "movups [rsp + 64], xmm4",
        "movups [rsp + 80], xmm5",
        "movups [rsp + 96], xmm6",
        "movups [rsp + 112], xmm7",
        "mov rdi, r11",
        "call {search}",
        "mov r11, rax",
        "movups xmm0, [rsp]",
        "movups xmm1, [rsp + 16]",
        "movups xmm2, [rsp + 32]",
        "movups xmm3, [rsp + 48]",
        "movups xmm4, [rsp + 64]",
        "movups xmm5, [rsp + 80]",
        "movups xmm6, [rsp + 96]",
        "movups xmm7, [rsp + 112]",
        "add rsp, 128",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rcx",
        "pop rdx",
        "pop rsi",
        "pop rdi",
        "pop rax",
        "pop rbp",
        "jmp r11",
        search = sym search,
    )
}
