//! dlclose(3) that leaves code and symbols where they are, for `perquery pin`.
//!
//! # Safety
//!
//! `unsafe` is used for dlinfo(3), dlmopen(3), fnmatch(3) and the original with the caller's own handle, whose contract
//! is the caller's, and to read the loader's description of that handle, which is valid while the handle is open.
#![allow(unsafe_code)]
#![allow(clippy::missing_safety_doc)] // each has the contract of the function of the same name

use super::tail::{Tail, tail};
use crate::real::Original;
use core::cell::UnsafeCell;
use core::ffi::{CStr, c_char, c_int, c_void};
use libc::Lmid_t;

tail! {
    /// dlclose(3).
    dlclose DLCLOSE DLCLOSE_TAIL, missing done
}

/// 0: nothing to close in a libc without it.
extern "C" fn done() -> c_int {
    0
}

/// How an unloaded object stays.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// It is made undeletable, then closed.
    NoDelete,
    /// It is not closed.
    Skip,
}

/// Bytes of a pattern with its end.
const PATTERN_BYTES: usize = 1024;

/// Which objects; empty: all. Written by the constructor, before [`pin`] lets anybody read it.
struct Pattern(UnsafeCell<[u8; PATTERN_BYTES]>);

// SAFETY: written once, by the constructor, before there is a reader.
unsafe impl Sync for Pattern {}

static ONLY: Pattern = Pattern(UnsafeCell::new([0; PATTERN_BYTES]));

/// Finds the original. From the constructor.
pub fn find_originals() {
    DLCLOSE_TAIL.find();
}

/// Keeps what is closed from now on, if `only` (a pattern of fnmatch(3); empty: everything) fits its path or its name. A
/// pattern that is too long keeps nothing.
pub fn pin(keep: Keep, only: &[u8]) {
    // SAFETY: the constructor's thread is the only one, and the hook is not switched on yet.
    let pattern = unsafe { &mut *ONLY.0.get() };
    // The last byte stays the end.
    let Some(room) = pattern.get_mut(..PATTERN_BYTES - 1).and_then(|room| room.get_mut(..only.len())) else {
        return;
    };
    room.copy_from_slice(only);
    DLCLOSE_TAIL.switch_on(match keep {
        Keep::NoDelete => close_and_keep as *const (),
        Keep::Skip => keep_open as *const (),
    });
}

/// The beginning of the loader's own description of an object (link.h).
#[repr(C)]
struct LinkMap {
    base: usize,
    name: *const c_char,
}

/// The path of the object behind a handle, as the loader knows it; `None`: the program itself, or nothing to be pinned.
///
/// Ends with an empty error state, as every dl* call that succeeds: what dlerror(3) says is what it would say after the
/// real dlclose.
unsafe fn object(handle: *mut c_void) -> Option<*const c_char> {
    if handle.is_null() {
        return None;
    }
    let mut map: *const LinkMap = core::ptr::null();
    // SAFETY: the handle is as valid as dlclose needs it; the loader writes one pointer.
    if unsafe { libc::dlinfo(handle, libc::RTLD_DI_LINKMAP, (&raw mut map).cast()) } != 0 || map.is_null() {
        return None;
    }
    // SAFETY: the description lives while the object is loaded.
    let path = unsafe { (*map).name };
    // SAFETY: the loader's names are NUL-terminated.
    if path.is_null() || unsafe { *path } == 0 {
        return None;
    }
    // SAFETY: written before the hook was switched on.
    let only = unsafe { &*ONLY.0.get() };
    if only.first() == Some(&0) {
        return Some(path);
    }
    // SAFETY: as above.
    let bytes = unsafe { CStr::from_ptr(path) }.to_bytes_with_nul();
    let name = bytes.rsplit(|byte| *byte == b'/').next().unwrap_or(bytes);
    let fits = |text: *const c_char| {
        // SAFETY: both are NUL-terminated.
        unsafe { libc::fnmatch(only.as_ptr().cast(), text, 0) == 0 }
    };
    (fits(path) || fits(name.as_ptr().cast())).then_some(path)
}

unsafe fn close(handle: *mut c_void) -> c_int {
    // SAFETY: the address was found under the function's name; the type is that of its header.
    let real = unsafe {
        core::mem::transmute::<*const (), unsafe extern "C-unwind" fn(*mut c_void) -> c_int>(
            DLCLOSE_TAIL.real(),
        )
    };
    // SAFETY: the caller's own argument.
    unsafe { real(handle) }
}

/// The object is opened once more without loading it, which makes it undeletable and costs one reference, and that is
/// given back; then what the caller asked for.
unsafe extern "C-unwind" fn close_and_keep(handle: *mut c_void) -> c_int {
    // SAFETY: the caller's own handle.
    if let Some(path) = unsafe { object(handle) } {
        let mut namespace: Lmid_t = 0;
        // SAFETY: as above; the loader writes one number.
        if unsafe { libc::dlinfo(handle, libc::RTLD_DI_LMID, (&raw mut namespace).cast()) } == 0 {
            let flags = libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE;
            // SAFETY: loads nothing; the path lives while the object is loaded.
            let again = unsafe { libc::dlmopen(namespace, path, flags) };
            if !again.is_null() {
                // SAFETY: opened above.
                unsafe { close(again) };
            }
        }
    }
    // SAFETY: the caller's own handle.
    unsafe { close(handle) }
}

/// Nothing, for what is to be kept.
unsafe extern "C-unwind" fn keep_open(handle: *mut c_void) -> c_int {
    // SAFETY: the caller's own handle.
    match unsafe { object(handle) } {
        Some(_) => 0,
        // SAFETY: as above.
        None => unsafe { close(handle) },
    }
}
