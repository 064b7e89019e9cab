//! The system call instruction on aarch64 (Linux: number in x8, arguments in x0–x5).

use core::arch::asm;

/// # Safety
///
/// The arguments must satisfy the call's contract.
#[inline(always)]
pub unsafe fn syscall6(number: usize, a: [usize; 6]) -> isize {
    let answer: isize;
    // SAFETY: `svc 0` changes x0 only; memory may be written by the kernel, which the default options say.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a[0] => answer,
            in("x1") a[1], in("x2") a[2], in("x3") a[3], in("x4") a[4], in("x5") a[5], options(nostack));
    }
    answer
}
