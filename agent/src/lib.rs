//! What perquery does inside a database server, apart from intercepting its calls.
//!
//! Data flows one way: bytes that a session's socket carried → [`protocol`] machine → [`session`] engine, which reads
//! the [`counters`] of the thread at the query's boundaries → one record into the thread's ring in the shared
//! [`segment`]. The collector maps the same segment from another process.
//!
//! # Rules of this crate
//!
//! Everything but the collector's side (feature `reader`) runs on the server's own threads, inside its system calls'
//! wrappers. So nothing here allocates, locks, waits, panics, prints, or touches errno. `no_std` keeps most of that by
//! construction; the lints below keep the rest.
#![no_std]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::unreachable,
        clippy::todo
    )
)]

#[cfg(any(test, feature = "reader"))]
extern crate std;

pub mod clock;
pub mod counters;
pub mod hash;
pub mod protocol;
pub mod segment;
#[cfg(not(loom))]
pub mod session;
#[cfg(not(loom))]
pub mod sqlite;
pub mod strings;
pub mod sync;
pub mod sys;
pub mod ticks;
mod zeros;
