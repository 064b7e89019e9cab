//! The number of seconds that a client prints: `%.2f sec` and `%.3f sec` with more digits, for `perquery time`.
//!
//! Exactly these two formats, whole, get another format string; nothing else about a call changes, and its arguments are
//! not looked at. Calls that say how much room there is keep their format unless there is plenty; sprintf(3) and
//! vsprintf(3) don't say (and the fortified ones where the compiler did not know: so MySQL's client, into 57 bytes):
//! there the text grows by at most seven bytes.
//!
//! # Safety
//!
//! `unsafe` is used for naked functions that jump to the original with the caller's own arguments, one of them replaced
//! by a constant string. The caller's format is read byte by byte up to the first difference, so never beyond its end.
#![allow(unsafe_code)]
#![allow(clippy::missing_safety_doc)] // each has the contract of the function of the same name

use super::tail::{Tail, tail};
use crate::real::Original;
use core::ffi::{CStr, c_char, c_int};
use core::sync::atomic::{AtomicPtr, Ordering};

#[cfg_attr(target_arch = "x86_64", path = "print_x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "print_aarch64.rs")]
mod arch;

/// A fractional number of seconds below 10^16 with nine digits and the rest fits.
const ROOM_BYTES: usize = 32;

tail! {
    /// sprintf(3).
    sprintf SPRINTF SPRINTF_TAIL, missing nothing_printed
}
tail! {
    /// vsprintf(3).
    vsprintf VSPRINTF VSPRINTF_TAIL, missing nothing_printed
}
tail! {
    /// snprintf(3).
    snprintf SNPRINTF SNPRINTF_TAIL, missing nothing_printed
}
tail! {
    /// vsnprintf(3).
    vsnprintf VSNPRINTF VSNPRINTF_TAIL, missing nothing_printed
}
tail! {
    /// sprintf(3) as called with _FORTIFY_SOURCE.
    __sprintf_chk SPRINTF_CHK SPRINTF_CHK_TAIL, missing nothing_printed
}
tail! {
    /// vsprintf(3) as called with _FORTIFY_SOURCE.
    __vsprintf_chk VSPRINTF_CHK VSPRINTF_CHK_TAIL, missing nothing_printed
}
tail! {
    /// snprintf(3) as called with _FORTIFY_SOURCE.
    __snprintf_chk SNPRINTF_CHK SNPRINTF_CHK_TAIL, missing nothing_printed
}
tail! {
    /// vsnprintf(3) as called with _FORTIFY_SOURCE.
    __vsnprintf_chk VSNPRINTF_CHK VSNPRINTF_CHK_TAIL, missing nothing_printed
}

/// An output error: what there is to say without a libc that can print.
extern "C" fn nothing_printed() -> c_int {
    -1
}

/// The tails with what each of them jumps to when the tool is on.
static WIDENED: [(&Tail, super::tail::Code); 8] = [
    (&SPRINTF_TAIL, arch::sprintf_widened),
    (&VSPRINTF_TAIL, arch::vsprintf_widened),
    (&SNPRINTF_TAIL, arch::snprintf_widened),
    (&VSNPRINTF_TAIL, arch::vsnprintf_widened),
    (&SPRINTF_CHK_TAIL, arch::sprintf_chk_widened),
    (&VSPRINTF_CHK_TAIL, arch::vsprintf_chk_widened),
    (&SNPRINTF_CHK_TAIL, arch::snprintf_chk_widened),
    (&VSNPRINTF_CHK_TAIL, arch::vsnprintf_chk_widened),
];

/// From [`FEWEST_DIGITS`] digits on.
static FORMATS: [&CStr; 7] =
    [c"%.3f sec", c"%.4f sec", c"%.5f sec", c"%.6f sec", c"%.7f sec", c"%.8f sec", c"%.9f sec"];
const FEWEST_DIGITS: usize = 3;

/// The format that replaces the client's own.
static WIDE: AtomicPtr<c_char> = AtomicPtr::new(c"%.6f sec".as_ptr().cast_mut());

/// Finds the originals. From the constructor.
pub fn find_originals() {
    for (tail, _) in &WIDENED {
        tail.find();
    }
}

/// Prints seconds with so many digits from now on.
pub fn widen(digits: usize) {
    let Some(format) = digits.checked_sub(FEWEST_DIGITS).and_then(|at| FORMATS.get(at)) else { return };
    // Relaxed: the constructor's thread is the only one yet.
    WIDE.store(format.as_ptr().cast_mut(), Ordering::Relaxed);
    for (tail, widened) in &WIDENED {
        tail.switch_on(*widened as *const ());
    }
}
