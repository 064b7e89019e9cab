//! The library's own words that every query needs. They stand at the head of the [process](super::Process), so that they share
//! the cache line which every query needs anyway: a server between two queries has it in none of its near caches, and each
//! further line costs what a few dozen instructions do.

use core::ffi::c_void;
use core::sync::atomic::{AtomicI32, AtomicPtr, AtomicU8, Ordering};

/// The address of an original that every query calls, or until it was found that of a function of the same type, which
/// searches for it and calls it or the system call behind it. So a hook jumps there without a question.
#[repr(transparent)]
pub struct Hot(AtomicPtr<c_void>);

impl Hot {
    /// Not found yet.
    pub const fn new(search: *const c_void) -> Self {
        Hot(AtomicPtr::new(search.cast_mut()))
    }

    /// Where to go.
    #[inline(always)]
    pub fn load(&self) -> *mut c_void {
        // Relaxed, as below: the address depends on nothing else.
        self.0.load(Ordering::Relaxed)
    }

    /// It was found at `address`.
    pub fn set(&self, address: usize) {
        self.0.store(core::ptr::with_exposed_provenance_mut(address), Ordering::Relaxed);
    }
}

/// What the hooks of every query look at.
#[repr(C)]
pub struct Hooks {
    /// recv(2).
    pub recv: Hot,
    /// send(2).
    pub send: Hot,
    /// poll(2).
    pub poll: Hot,
    /// A byte that is not 0 while this process has one thread, and libc's functions are the system calls and nothing else.
    pub alone: AtomicPtr<AtomicU8>,
    /// How far each thread's state is from its thread pointer, in bytes; 0: not known yet.
    pub thread_offset: AtomicI32,
    /// How far each thread's errno is from its thread pointer, in bytes.
    pub errno_offset: AtomicI32,
}

/// [`Hooks::alone`] where nothing is known: never.
pub static NEVER_ALONE: AtomicU8 = AtomicU8::new(0);
