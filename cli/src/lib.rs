//! The command `perquery`: launch, find, collect, aggregate, show, write.
#![forbid(unsafe_code)]

pub mod aggregate;
pub mod digest;
pub mod format;
pub mod recording;
pub mod report;
pub mod warnings;
