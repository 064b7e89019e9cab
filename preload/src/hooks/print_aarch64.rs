//! Swapping the format of a printing call on aarch64, in its register.
//!
//! # Safety
//!
//! `unsafe` is used for naked functions; see [`super`]. No register but that of the format and x16, w17 is written.

use super::{
    ROOM_BYTES, SNPRINTF_CHK_TAIL, SNPRINTF_TAIL, SPRINTF_CHK_TAIL, SPRINTF_TAIL, VSNPRINTF_CHK_TAIL,
    VSNPRINTF_TAIL, VSPRINTF_CHK_TAIL, VSPRINTF_TAIL, WIDE,
};
use core::arch::naked_asm;

/// A function that jumps to `$tail`'s original; its format is in register `$format`, the room of the caller's buffer in
/// `$room`.
macro_rules! widened {
    ($name:ident, $tail:ident, $format:literal, room $room:literal) => {
        widened!($name, $tail, $format, concat!("cmp ", $room, ", #{room}"), "b.lo 2f");
    };
    ($name:ident, $tail:ident, $format:literal, unknown room) => {
        widened!($name, $tail, $format, "/* room for {room} bytes: unknown */", "");
    };
    ($name:ident, $tail:ident, $format:literal, $compare:expr, $otherwise:literal) => {
        #[unsafe(naked)]
        pub unsafe extern "C" fn $name() {
            naked_asm!(
                $compare,
                $otherwise,
                concat!("cbz ", $format, ", 2f"),
                concat!("ldrb w17, [", $format, "]"),
                "cmp w17, #'%'",
                "b.ne 2f",
                concat!("ldrb w17, [", $format, ", #1]"),
                "cmp w17, #'.'",
                "b.ne 2f",
                concat!("ldrb w17, [", $format, ", #2]"),
                "cmp w17, #'2'",
                "b.eq 3f",
                "cmp w17, #'3'",
                "b.ne 2f",
                "3:",
                concat!("ldrb w17, [", $format, ", #3]"),
                "cmp w17, #'f'",
                "b.ne 2f",
                concat!("ldrb w17, [", $format, ", #4]"),
                "cmp w17, #0x20",
                "b.ne 2f",
                concat!("ldrb w17, [", $format, ", #5]"),
                "cmp w17, #'s'",
                "b.ne 2f",
                concat!("ldrb w17, [", $format, ", #6]"),
                "cmp w17, #'e'",
                "b.ne 2f",
                concat!("ldrb w17, [", $format, ", #7]"),
                "cmp w17, #'c'",
                "b.ne 2f",
                concat!("ldrb w17, [", $format, ", #8]"),
                "cbnz w17, 2f",
                "adrp x16, {wide}",
                concat!("ldr ", $format, ", [x16, :lo12:{wide}]"),
                "2:",
                "adrp x16, {tail}",
                "add x16, x16, :lo12:{tail}",
                "ldr x16, [x16, #8]",
                "br x16",
                room = const ROOM_BYTES,
                wide = sym WIDE,
                tail = sym $tail,
            )
        }
    };
}

widened!(sprintf_widened, SPRINTF_TAIL, "x1", unknown room);
widened!(vsprintf_widened, VSPRINTF_TAIL, "x1", unknown room);
widened!(snprintf_widened, SNPRINTF_TAIL, "x2", room "x1");
widened!(vsnprintf_widened, VSNPRINTF_TAIL, "x2", room "x1");
widened!(sprintf_chk_widened, SPRINTF_CHK_TAIL, "x3", room "x2");
widened!(vsprintf_chk_widened, VSPRINTF_CHK_TAIL, "x3", room "x2");
widened!(snprintf_chk_widened, SNPRINTF_CHK_TAIL, "x4", room "x1");
widened!(vsnprintf_chk_widened, VSNPRINTF_CHK_TAIL, "x4", room "x1");
