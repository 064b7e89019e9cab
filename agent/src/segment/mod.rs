//! The shared-memory segment: the only thing that the server and the collector share.
//!
//! Who writes what: the server's threads write session slots, lanes and texts; the collector writes the control page
//! and the lanes' tails. Either side may die at any moment; nothing that was published before is lost, and neither
//! waits for the other.

pub mod layout;
pub mod record;
