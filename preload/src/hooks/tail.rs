//! Overrides that are one load and one jump as long as nobody asked for their tool.
//!
//! Such a hook has no frame: arguments of any number and type, the caller's return address and the vector register
//! count of variadic calls go through as they are. Where it jumps is a [`Tail`]: first to a search for the original,
//! then to the original, or to a tool's own function where the constructor says so.
//!
//! # Safety
//!
//! `unsafe` is used for naked functions that consist of a jump, for the search that they call with a tail of this
//! library, and to hand out originals as functions of the type their headers declare.
#![allow(unsafe_code)]

use crate::real::Original;
use core::sync::atomic::{AtomicPtr, Ordering};

#[cfg_attr(target_arch = "x86_64", path = "tail_x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "tail_aarch64.rs")]
mod arch;
pub(crate) use arch::{first_call, gated_jump, jump, search_and_jump};

/// Code, as naked functions see it.
pub type Code = unsafe extern "C" fn();

/// Where a hook jumps. The two addresses are read by the hooks' own instructions, by their offsets.
#[repr(C)]
pub struct Tail {
    /// Of the hook: the search, the original, or the tool.
    hook: AtomicPtr<()>,
    /// Of the tool, for going on: the search or the original.
    real: AtomicPtr<()>,
    search: Code,
    /// What stands in for an original that this libc does not have.
    missing: AtomicPtr<()>,
    original: &'static Original,
}

const _: () = assert!(core::mem::offset_of!(Tail, hook) == 0 && core::mem::offset_of!(Tail, real) == 8);

impl Tail {
    /// A tail that was never called. `search` is the [`first_call`] of this very tail.
    pub const fn new(original: &'static Original, search: Code, missing: *mut ()) -> Self {
        let (hook, real) = (AtomicPtr::new(search as *mut ()), AtomicPtr::new(search as *mut ()));
        Tail { hook, real, search, missing: AtomicPtr::new(missing), original }
    }

    /// Finds the original, so that no hook has to search: dlsym(3) takes the loader's lock, which a thread that calls
    /// sprintf while another one waits for it inside dlopen(3) must not need.
    pub fn find(&self) -> *const () {
        let found = self.original.address();
        // Relaxed, here and below: an address depends on nothing else.
        let code = if found == 0 { self.missing.load(Ordering::Relaxed) } else { found as *mut () };
        if found == 0 && self.original.may_come() {
            return code;
        }
        self.real.store(code, Ordering::Relaxed);
        // A tool that was switched on stays.
        let searching = self.search as *mut ();
        let _ = self.hook.compare_exchange(searching, code, Ordering::Relaxed, Ordering::Relaxed);
        code
    }

    /// From now on the hook jumps to `tool`, which may go on to the original.
    pub fn switch_on(&self, tool: *const ()) {
        self.find();
        self.hook.store(tool.cast_mut(), Ordering::Relaxed);
    }

    /// The original's address, or that of what stands in for it.
    pub fn real(&self) -> *const () {
        self.real.load(Ordering::Relaxed)
    }
}

/// What a hook's first call does when it comes before the constructor.
unsafe extern "C" fn search(tail: &'static Tail) -> *const () {
    // SAFETY: the location of errno is valid in every thread.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let before = unsafe { *errno };
    let code = tail.find();
    // SAFETY: as above.
    unsafe { *errno = before };
    code
}

/// Declares an override that is one jump: its export, its original and its tail.
macro_rules! tail {
    ($(#[$doc:meta])* $name:ident $original:ident $tail:ident, missing $missing:path) => {
        /// The original of the function of this name.
        pub static $original: Original = Original::libc({
            const NAME: &str = concat!(stringify!($name), "\0");
            match core::ffi::CStr::from_bytes_with_nul(NAME.as_bytes()) {
                Ok(name) => name,
                Err(_) => c"",
            }
        });
        pub(super) static $tail: Tail = {
            crate::hooks::tail::first_call!($tail);
            Tail::new(&$original, first_call, $missing as *mut ())
        };
        crate::hooks::tail::jump!($(#[$doc])* $name, $tail);
    };
}
pub(crate) use tail;

/// Declares an override that is one jump as long as the [gate](perquery_agent::session::GATE) is shut: its export, its
/// original and its tail; and what looks closer.
macro_rules! gated {
    ($(#[$doc:meta])* $name:ident $original:ident $tail:ident of $library:expr, missing $missing:path, closer $closer:path) => {
        /// The original of the function of this name.
        pub static $original: Original = Original::of(
            {
                const NAME: &str = concat!(stringify!($name), "\0");
                match core::ffi::CStr::from_bytes_with_nul(NAME.as_bytes()) {
                    Ok(name) => name,
                    Err(_) => c"",
                }
            },
            $library,
        );
        static $tail: Tail = {
            crate::hooks::tail::first_call!($tail);
            Tail::new(&$original, first_call, $missing as *mut ())
        };
        crate::hooks::tail::gated_jump!($(#[$doc])* $name, $tail, $closer);
    };
}
pub(crate) use gated;
