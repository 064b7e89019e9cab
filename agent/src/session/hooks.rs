//! The library's own words that every query needs. They stand at the head of the [process](super::Process), so that they share
//! the cache line which every query needs anyway: a server between two queries has it in none of its near caches, and each
//! further line costs what a few dozen instructions do.
//!
//! # Safety
//!
//! `unsafe` is used to read a static byte through an atomic pointer to it.
#![allow(unsafe_code)]

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

/// A pointer to the byte in which libc says that this process has one thread.
#[repr(transparent)]
pub struct Alone(AtomicPtr<AtomicU8>);

/// Where libc says nothing.
static NEVER: AtomicU8 = AtomicU8::new(0);

impl Alone {
    /// Nothing is known: no.
    pub const fn new() -> Self {
        Alone(AtomicPtr::new((&raw const NEVER).cast_mut()))
    }

    /// True while the calling thread is the only one of its process.
    #[inline(always)]
    pub fn is_so(&self) -> bool {
        // Relaxed: only the calling thread itself could make another one meanwhile.
        // SAFETY: a static byte, as whoever set it has promised by its type.
        unsafe { &*self.0.load(Ordering::Relaxed) }.load(Ordering::Relaxed) != 0
    }

    /// From now on `byte` says it, by not being 0.
    pub fn follow(&self, byte: &'static AtomicU8) {
        self.0.store(core::ptr::from_ref(byte).cast_mut(), Ordering::Relaxed);
    }
}

impl Default for Alone {
    fn default() -> Self {
        Self::new()
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
    /// Has this process one thread?
    pub alone: Alone,
    /// How far each thread's state is from its thread pointer, in bytes; 0: not known yet.
    pub thread_offset: AtomicI32,
    /// How far each thread's errno is from its thread pointer, in bytes.
    pub errno_offset: AtomicI32,
}
