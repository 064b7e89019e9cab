//! The way into the agent for a thread of the server.
//!
//! # Safety
//!
//! `unsafe` is used to reach the thread's own state, which no other thread can, and which a signal handler on this
//! thread finds marked as entered; and for the key whose destructor tells that a thread ends.
#![allow(unsafe_code)]

use crate::{ENGINE, HOOKS, place};
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::sync::atomic::{AtomicU32, Ordering};
use perquery_agent::session::{Engine, Thread};
use perquery_agent::sqlite::Steps;

/// What belongs to a thread. Never moves.
struct Slot {
    thread: UnsafeCell<Thread>,
    steps: UnsafeCell<Steps>,
}

thread_local! {
    // Constant initial value and no destructor: the storage is part of the thread from its first to its last
    // instruction, and reaching it never allocates.
    static THREAD: Slot = const {
        Slot { thread: UnsafeCell::new(Thread::new()), steps: UnsafeCell::new(Steps::new()) }
    };
}

/// The thread's own storage; null as long as nobody has looked for it in this process. A new thread's is as it was made.
#[inline(always)]
fn known() -> *const Slot {
    match HOOKS.thread_offset.load(Ordering::Relaxed) {
        0 => core::ptr::null(),
        offset => place::thread_pointer().wrapping_add_signed(offset as isize) as *const Slot,
    }
}

/// The same, looked for if need be.
#[inline(always)]
fn state() -> Option<*const Slot> {
    let known = known();
    if known.is_null() { find_state() } else { Some(known) }
}

/// Looks for it in this thread, which says where every other one has it.
#[cold]
#[inline(never)]
fn find_state() -> Option<*const Slot> {
    let state = THREAD.try_with(|slot| &raw const *slot).ok()?;
    // Storage that keeps its distance is of kilobytes.
    let distance = i32::try_from(place::distance_of(state as usize)).ok()?;
    HOOKS.thread_offset.store(distance, Ordering::Relaxed);
    Some(state)
}

/// Runs `work` inside the agent; `None`: this call interrupted the agent on the same thread and has to pass.
#[inline(always)]
pub fn with<R>(work: impl FnOnce(&'static Engine, &mut Thread) -> R) -> Option<R> {
    let marker = 0u8;
    let frame = (&raw const marker) as usize;
    let mut known = known();
    // SAFETY: null, or this thread's own storage; whoever this call interrupted does not write while it lasts.
    let thread = unsafe { known.as_ref().map(|slot| &*slot.thread.get()) };
    if !thread.is_some_and(|thread| thread.is_known_in(ENGINE.process().pid())) {
        known = arrive(frame)?;
    }
    // SAFETY: the pointer is to this thread's own storage. A signal handler that comes in the middle of `work` makes a
    // second reference, which it gives up at once, because `enter` answers false.
    let thread = unsafe { &mut *(*known).thread.get() };
    if !thread.enter(frame) {
        return None;
    }
    let result = work(ENGINE, thread);
    thread.leave();
    Some(result)
}

/// The thread is new, or a forked child's.
#[cold]
#[inline(never)]
fn arrive(frame: usize) -> Option<*const Slot> {
    let state = state()?;
    // SAFETY: as in `with`.
    let thread = unsafe { &mut *(*state).thread.get() };
    if !thread.enter(frame) {
        return None;
    }
    if ENGINE.arrive(thread) {
        register_exit();
    }
    thread.leave();
    Some(state)
}

/// The same where `work` goes on with what this thread began: the thread is known then.
#[inline(always)]
pub fn with_known<R>(work: impl FnOnce(&'static Engine, &mut Thread) -> R) -> Option<R> {
    let marker = 0u8;
    let frame = (&raw const marker) as usize;
    let known = known();
    // SAFETY: null, or this thread's own storage; see `with`.
    let thread = unsafe { &mut *known.as_ref()?.thread.get() };
    if !thread.enter(frame) {
        return None;
    }
    let result = work(ENGINE, thread);
    thread.leave();
    Some(result)
}

/// True when the thread is in the middle of a query. A glance, without going inside.
#[inline(always)]
pub fn runs_a_query() -> bool {
    let known = known();
    // SAFETY: null, or this thread's own storage; whoever this call interrupted does not write while it lasts.
    unsafe { known.as_ref().is_some_and(|slot| (*slot.thread.get()).runs_a_query()) }
}

/// Runs `work` with the thread's state for steps of SQLite, whether or not the agent was interrupted: only steps use it,
/// and SQLite must not be called from a signal handler.
#[inline(always)]
pub fn steps<R>(work: impl FnOnce(&mut Steps) -> R) -> Option<R> {
    let state = state()?;
    // SAFETY: this thread's own storage; no `work` steps or ends in another one's reference.
    Some(work(unsafe { &mut *(*state).steps.get() }))
}

/// [`with`] and [`steps`].
#[inline(always)]
pub fn with_steps<R>(work: impl FnOnce(&'static Engine, &mut Thread, &mut Steps) -> R) -> Option<R> {
    with(|engine, t| steps(|steps| work(engine, t, steps))).flatten()
}

/// Key + 1 of the thread-specific value whose destructor is our "this thread ends"; 0: none.
static KEY: AtomicU32 = AtomicU32::new(0);

/// glibc keeps the first 32 keys in the thread itself; setting a later one allocates.
const KEYS_WITHOUT_ALLOCATION: u32 = 32;

/// Makes the key. From the constructor only.
pub fn make_exit_key() {
    let mut key = 0;
    // SAFETY: `key` is writable; the destructor is a function of this library, which is never unloaded.
    if unsafe { libc::pthread_key_create(&raw mut key, Some(thread_exits)) } != 0 {
        return;
    }
    if key < KEYS_WITHOUT_ALLOCATION {
        KEY.store(key + 1, Ordering::Relaxed);
    } else {
        // SAFETY: the key was made above and is not used.
        unsafe { libc::pthread_key_delete(key) };
    }
}

#[cold]
#[inline(never)]
fn register_exit() {
    if let Some(key) = KEY.load(Ordering::Relaxed).checked_sub(1) {
        // SAFETY: the key exists; any non-null value makes its destructor run.
        unsafe { libc::pthread_setspecific(key, core::ptr::without_provenance(1)) };
    }
}

extern "C" fn thread_exits(_: *mut c_void) {
    // A hook may still run after this, in a later destructor: it registers again, and this runs once more.
    with(|engine, thread| engine.thread_exits(thread));
}
