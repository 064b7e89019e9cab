//! Reading a counter register from user space on x86-64: the rdpmc instruction.
//!
//! # Safety
//!
//! `unsafe` is used for two assembly blocks, without effect on memory.
#![allow(unsafe_code)]

use core::arch::asm;

/// What perf_event_attr.config1 has to say so that the kernel offers user-space reads: nothing here.
pub const USER_READ_CONFIG1: u64 = 0;

/// The counter register behind `index` of an event's page.
///
/// # Safety
///
/// The page must show cap_user_rdpmc and this index now, on this thread: elsewhere the instruction faults. What remains
/// is root switching rdpmc off for the whole machine between two instructions, which is why it is not the default.
#[inline]
pub unsafe fn counter(index: u32) -> Option<u64> {
    let register = index.checked_sub(1)?;
    let (low, high): (u32, u32);
    // SAFETY: the caller vouches that the kernel lets this thread read the register; nothing else is changed.
    unsafe { asm!("rdpmc", in("ecx") register, out("eax") low, out("edx") high, options(nostack)) };
    Some(u64::from(high) << 32 | u64::from(low))
}

/// True when running under valgrind, whose processor has no rdpmc. A real processor executes the sequence as no
/// operation: the rotations add up to 128 bits, and a register is exchanged with itself.
pub fn on_valgrind() -> bool {
    const RUNNING_ON_VALGRIND: u64 = 0x1001;
    let request = [RUNNING_ON_VALGRIND, 0, 0, 0, 0, 0];
    let mut answer = 0u64;
    // SAFETY: valgrind reads `request` and writes rdx; rdi is rotated back to what it was.
    unsafe {
        asm!("rol rdi, 3", "rol rdi, 13", "rol rdi, 61", "rol rdi, 51", "xchg rbx, rbx",
            inout("rdx") answer, in("rax") request.as_ptr(), in("rdi") 0u64, options(nostack));
    }
    answer != 0
}
