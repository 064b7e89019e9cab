//! The functions that we override, as the program would have got them without us.
//!
//! # Safety
//!
//! `unsafe` is used for dlsym(3) and dlopen(3) with constant strings, and by callers that turn an address into a function
//! of the type its header declares.
#![allow(unsafe_code)]

use core::ffi::{CStr, c_int, c_void};
use core::sync::atomic::{AtomicUsize, Ordering};
use perquery_agent::session::Hot;

/// The place of one original: its name, and its address once it was found.
pub struct Original {
    name: &'static CStr,
    /// 0: not looked for yet; [`MISSING`]: it is not there.
    address: AtomicUsize,
    /// Where hooks that have no room for a search find it.
    hot: Option<&'static Hot>,
    /// Where else to look: a library that the program may have loaded privately (Python loads libsqlite3 that way, and
    /// then RTLD_NEXT finds nothing).
    library: Option<&'static CStr>,
}

const MISSING: usize = 1;

impl Original {
    /// A function of libc.
    pub const fn libc(name: &'static CStr) -> Self {
        Original { name, address: AtomicUsize::new(0), hot: None, library: None }
    }

    /// A function of libc that every query calls.
    pub const fn hot(name: &'static CStr, hot: &'static Hot) -> Self {
        Original { name, address: AtomicUsize::new(0), hot: Some(hot), library: None }
    }

    /// A function of `library`.
    pub const fn of(name: &'static CStr, library: &'static CStr) -> Self {
        Original { name, address: AtomicUsize::new(0), hot: None, library: Some(library) }
    }

    /// The function's name.
    pub fn name(&self) -> &'static CStr {
        self.name
    }

    /// True when the function may be found later, though it can't be now.
    pub fn may_come(&self) -> bool {
        self.library.is_some()
    }

    /// The function's address; 0 when there is none.
    ///
    /// The constructor asks for all of libc's, so that no hook has to search; a hook that runs earlier searches itself.
    /// Two threads that search at once find the same.
    #[inline(always)]
    pub fn address(&self) -> usize {
        // Relaxed: the address depends on nothing else.
        match self.address.load(Ordering::Relaxed) {
            0 => self.search(),
            MISSING => self.search_again(),
            found => found,
        }
    }

    #[cold]
    fn search(&self) -> usize {
        // SAFETY: dlsym with a constant string. It may allocate when the symbol is missing; that happens in the
        // constructor, or once in a program that loads the library late.
        let mut found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) } as usize;
        if found == 0 {
            found = self.search_library();
        }
        self.address.store(if found == 0 { MISSING } else { found }, Ordering::Relaxed);
        if let Some(hot) = self.hot
            && found != 0
        {
            hot.set(found);
        }
        found
    }

    /// A library's function that was missing may have come with a later dlopen; one of libc's can't have.
    #[cold]
    fn search_again(&self) -> usize {
        let found = self.search_library();
        if found != 0 {
            self.address.store(found, Ordering::Relaxed);
        }
        found
    }

    fn search_library(&self) -> usize {
        let Some(library) = self.library else { return 0 };
        // SAFETY: RTLD_NOLOAD loads nothing; the handle is kept, which keeps the library.
        let handle = unsafe { libc::dlopen(library.as_ptr(), libc::RTLD_NOLOAD | libc::RTLD_LAZY) };
        if handle.is_null() {
            return 0;
        }
        // SAFETY: the handle is valid.
        let found: *mut c_void = unsafe { libc::dlsym(handle, self.name.as_ptr()) };
        found as usize
    }
}

/// Makes system call `number`, with errno and -1 as libc would: for a libc without that function.
///
/// # Safety
///
/// The arguments must satisfy the call's contract.
#[cold]
pub unsafe fn system_call(number: libc::c_long, args: [usize; 6]) -> isize {
    // SAFETY: the caller vouches for the arguments.
    match unsafe { perquery_agent::sys::syscall(number, args) } {
        Ok(value) => value as isize,
        Err(perquery_agent::sys::Errno(errno)) => {
            // SAFETY: the location of errno is valid in every thread.
            unsafe { *libc::__errno_location() = errno as c_int };
            -1
        }
    }
}

/// What stands in a [`Hot`] as a function. To be called where the caller vouches for the type: that of the original's header,
/// which the searching function has too.
macro_rules! hot {
    ($hot:expr, fn($($argument:ty),* $(,)?) $(-> $answer:ty)?) => {
        core::mem::transmute::<*mut core::ffi::c_void, unsafe extern "C-unwind" fn($($argument),*) $(-> $answer)?>(
            $hot.load(),
        )
    };
}
pub(crate) use hot;

/// The original as a function: `real!(ORIGINAL as fn(c_int) -> c_int)`; `None` when it is missing.
macro_rules! real {
    ($original:expr, fn($($argument:ty),* $(,)?) $(-> $answer:ty)?) => {{
        let address = $original.address();
        if address == 0 {
            None
        } else {
            // SAFETY: the address was found under the function's name; the type is that of its header.
            Some(unsafe {
                core::mem::transmute::<usize, unsafe extern "C-unwind" fn($($argument),*) $(-> $answer)?>(address)
            })
        }
    }};
}
pub(crate) use real;
