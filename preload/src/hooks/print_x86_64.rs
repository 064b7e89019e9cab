//! Swapping the format of a printing call on x86-64, in its register.
//!
//! # Safety
//!
//! `unsafe` is used for naked functions; see [`super`]. No register but that of the format is written.

use super::{
    ROOM_BYTES, SNPRINTF_CHK_TAIL, SNPRINTF_TAIL, SPRINTF_CHK_TAIL, SPRINTF_TAIL, VSNPRINTF_CHK_TAIL,
    VSNPRINTF_TAIL, VSPRINTF_CHK_TAIL, VSPRINTF_TAIL, WIDE,
};
use core::arch::naked_asm;

/// A function that jumps to `$tail`'s original; its format is in register `$format`, the room of the caller's buffer in
/// `$room`.
macro_rules! widened {
    ($name:ident, $tail:ident, $format:literal, room $room:literal) => {
        widened!($name, $tail, $format, concat!("cmp ", $room, ", {room}"), "jb 2f");
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
                concat!("test ", $format, ", ", $format),
                "jz 2f",
                concat!("cmp byte ptr [", $format, "], '%'"),
                "jne 2f",
                concat!("cmp byte ptr [", $format, " + 1], '.'"),
                "jne 2f",
                concat!("cmp byte ptr [", $format, " + 2], '2'"),
                "je 3f",
                concat!("cmp byte ptr [", $format, " + 2], '3'"),
                "jne 2f",
                "3:",
                concat!("cmp byte ptr [", $format, " + 3], 'f'"),
                "jne 2f",
                concat!("cmp byte ptr [", $format, " + 4], 0x20"),
                "jne 2f",
                concat!("cmp byte ptr [", $format, " + 5], 's'"),
                "jne 2f",
                concat!("cmp byte ptr [", $format, " + 6], 'e'"),
                "jne 2f",
                concat!("cmp byte ptr [", $format, " + 7], 'c'"),
                "jne 2f",
                concat!("cmp byte ptr [", $format, " + 8], 0"),
                "jne 2f",
                concat!("mov ", $format, ", qword ptr [rip + {wide}]"),
                "2:",
                "jmp qword ptr [rip + {tail} + 8]",
                room = const ROOM_BYTES,
                wide = sym WIDE,
                tail = sym $tail,
            )
        }
    };
}

widened!(sprintf_widened, SPRINTF_TAIL, "rsi", unknown room);
widened!(vsprintf_widened, VSPRINTF_TAIL, "rsi", unknown room);
widened!(snprintf_widened, SNPRINTF_TAIL, "rdx", room "rsi");
widened!(vsnprintf_widened, VSNPRINTF_TAIL, "rdx", room "rsi");
widened!(sprintf_chk_widened, SPRINTF_CHK_TAIL, "rcx", room "rdx");
widened!(vsprintf_chk_widened, VSPRINTF_CHK_TAIL, "rcx", room "rdx");
widened!(snprintf_chk_widened, SNPRINTF_CHK_TAIL, "r8", room "rsi");
widened!(vsnprintf_chk_widened, VSNPRINTF_CHK_TAIL, "r8", room "rsi");
