//! Sessions: from a socket's bytes to one record per query.
//!
//! The hooks call the [`Engine`] around each real call: `read_begin`/`read_end`, `write_begin`/`write_end`, and for what
//! happens to descriptors. The engine finds the session, feeds its protocol machine, and at a unit's two ends reads the
//! counters of the calling thread.
//!
//! - A session is an accepted socket, found by descriptor; its number is used again only under a new generation.
//! - One thread at a time is inside a session ([`arena::Cell::enter`]): the second passes through without looking, and the session
//!   is lost if bytes went by unseen.
//! - A session that is at rest stands aside (`quiet`, `quiet_postgres`): what does not matter to its machine passes. While
//!   capture is on, the usual query goes a direct way (`direct`) past the machine, which is told whenever anything unusual
//!   follows.
//! - A unit's cost is the sum of slices: what the ending thread contributed is in its record; another thread's part
//!   follows as a slice record in that thread's lane.

mod account;
pub mod arena;
mod aside;
mod birth;
mod budget;
mod cpu_clock;
mod descriptors;
mod direct;
mod direct_end;
mod draw;
mod engine;
mod events;
mod gap;
mod gate;
mod hooks;
pub mod identity;
mod measure;
#[cfg(all(test, feature = "reader"))]
mod measure_tests;
mod peer;
mod places;
mod plain;
mod process;
mod quiet;
mod quiet_postgres;
mod readings;
mod sending;
mod ssl;
pub mod state;
mod steps;
pub mod switches;
mod thread;
mod tls;
mod unit;
mod whole;
pub mod worker;
mod written;

pub use arena::{Cell, Writing};
pub use aside::BackInAnswer;
pub use engine::{Engine, Ticket};
pub use gate::{GATE, Gate};
pub use hooks::{Alone, Hooks, Hot};
pub(crate) use measure::Measured;
pub(crate) use places::take_slot;
pub use process::{Kind, Process, Start, decide};
pub use quiet::HEADER_BYTES;
pub use thread::Thread;
pub use thread::is_nested;
