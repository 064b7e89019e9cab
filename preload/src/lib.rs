//! libperquery.so: the overrides of libc, libssl and libsqlite3 calls. Interception and nothing else: what a call means
//! is decided in `perquery-agent`.
//!
//! # Rules for whoever edits this crate
//!
//! It runs inside somebody's production database.
//!
//! 1. A hook never fails, waits, allocates, locks, panics, prints or changes errno. Anything unexpected: pass through.
//! 2. A hook works before our constructor, after our destructor, after the thread's storage was torn down, in a signal
//!    handler, after fork(2), in a thread that is being cancelled, and with an exception flying through.
//! 3. So every hook is `extern "C-unwind"`, has nothing with a destructor alive across the real call, and has the shape
//!    *before*, real call, *after*, with plain data between.
//! 4. The real function is found once (`real.rs`); if it is missing the hook makes the system call itself. It also does where
//!    nobody can tell the difference, because the call is cheaper then (`hooks/cancellation.rs`).
//! 5. std is linked for its unwinder and for thread-local storage of plain data, nothing else. An own call to a function
//!    that we override would enter our own hook: the agent makes raw system calls.
//! 6. No thread, no signal, no timer, no dlopen hook, no lock.
//!
//! # What is overridden
//!
//! [`hooks::TABLE`] lists every exported function with its hook and the slot of its original.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::unreachable,
    clippy::print_stdout,
    clippy::print_stderr
)]

pub mod hooks;
mod imports;
mod layout;
mod place;
mod real;
mod start;
mod thread;
mod tools;

use perquery_agent::session::{Engine, Hooks};

/// What the calls of every query look at: in one page, because after a query of the server's own it has to be found again.
#[repr(C, align(4096))]
struct Home {
    engine: Engine,
    transfers: hooks::Transfers,
}

static HOME: Home = Home { engine: Engine::new(hooks::searching()), transfers: hooks::Transfers::new() };

/// Everything the library keeps for its process.
const ENGINE: &Engine = &HOME.engine;

/// What the hooks of every query look at, in its first cache line.
const HOOKS: &Hooks = ENGINE.hooks();
