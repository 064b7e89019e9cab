//! The command `perquery`: launch, find, collect, aggregate, show, write.
#![forbid(unsafe_code)]

pub mod aggregate;
pub mod args;
pub mod collect;
pub mod commands;
pub mod derived;
pub mod digest;
pub mod error;
pub mod events;
pub mod find;
pub mod format;
pub mod launch;
pub mod library;
pub mod recording;
pub mod report;
pub mod signals;
pub mod stat;
pub mod trial;
pub mod warnings;
