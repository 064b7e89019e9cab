//! Reading a counter register from user space on aarch64: the PMU's system registers.
//!
//! # Safety
//!
//! `unsafe` is used for assembly blocks that read registers, without effect on memory.
#![allow(unsafe_code)]

use core::arch::asm;

/// What perf_event_attr.config1 has to say so that the kernel offers user-space reads (`rdpmc` in the PMU's format);
/// they also need kernel.perf_user_access = 1.
pub const USER_READ_CONFIG1: u64 = 2;

macro_rules! register {
    ($name:literal) => {{
        let value: u64;
        // SAFETY: the caller of `counter` vouches that the kernel lets this thread read the register.
        unsafe { asm!(concat!("mrs {}, ", $name), out(reg) value, options(nostack)) };
        Some(value)
    }};
}

/// The counter register behind `index` of an event's page: 32 is the cycle counter, 1–31 the event counters.
///
/// # Safety
///
/// The page must show cap_user_rdpmc and this index now, on this thread: elsewhere the instruction faults.
#[inline]
pub unsafe fn counter(index: u32) -> Option<u64> {
    match index {
        32 => register!("pmccntr_el0"),
        1 => register!("pmevcntr0_el0"),
        2 => register!("pmevcntr1_el0"),
        3 => register!("pmevcntr2_el0"),
        4 => register!("pmevcntr3_el0"),
        5 => register!("pmevcntr4_el0"),
        6 => register!("pmevcntr5_el0"),
        7 => register!("pmevcntr6_el0"),
        8 => register!("pmevcntr7_el0"),
        9 => register!("pmevcntr8_el0"),
        10 => register!("pmevcntr9_el0"),
        11 => register!("pmevcntr10_el0"),
        12 => register!("pmevcntr11_el0"),
        13 => register!("pmevcntr12_el0"),
        14 => register!("pmevcntr13_el0"),
        15 => register!("pmevcntr14_el0"),
        16 => register!("pmevcntr15_el0"),
        17 => register!("pmevcntr16_el0"),
        18 => register!("pmevcntr17_el0"),
        19 => register!("pmevcntr18_el0"),
        20 => register!("pmevcntr19_el0"),
        21 => register!("pmevcntr20_el0"),
        22 => register!("pmevcntr21_el0"),
        23 => register!("pmevcntr22_el0"),
        24 => register!("pmevcntr23_el0"),
        25 => register!("pmevcntr24_el0"),
        26 => register!("pmevcntr25_el0"),
        27 => register!("pmevcntr26_el0"),
        28 => register!("pmevcntr27_el0"),
        29 => register!("pmevcntr28_el0"),
        30 => register!("pmevcntr29_el0"),
        31 => register!("pmevcntr30_el0"),
        _ => None,
    }
}

/// True when running under valgrind, which does not know these registers. A real processor executes the sequence as no
/// operation: the rotations add up to 128 bits, and a register is combined with itself.
pub fn on_valgrind() -> bool {
    const RUNNING_ON_VALGRIND: u64 = 0x1001;
    let request = [RUNNING_ON_VALGRIND, 0, 0, 0, 0, 0];
    let mut answer = 0u64;
    // SAFETY: valgrind reads `request` and writes x3; x12 is rotated back to what it was.
    unsafe {
        asm!("ror x12, x12, #3", "ror x12, x12, #13", "ror x12, x12, #51", "ror x12, x12, #61", "orr x10, x10, x10",
            inout("x3") answer, in("x4") request.as_ptr(), in("x12") 0u64, options(nostack));
    }
    answer != 0
}
