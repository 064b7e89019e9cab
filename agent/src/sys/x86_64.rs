//! The system call instruction on x86-64 (System V ABI, A.2.1).

use core::arch::asm;

/// # Safety
///
/// The arguments must satisfy the call's contract.
#[inline(always)]
pub unsafe fn syscall6(number: usize, a: [usize; 6]) -> isize {
    let answer: isize;
    // SAFETY: `syscall` clobbers rcx and r11 only; memory may be written by the kernel, which the default options say.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => answer,
            in("rdi") a[0], in("rsi") a[1], in("rdx") a[2], in("r10") a[3], in("r8") a[4], in("r9") a[5],
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    answer
}
