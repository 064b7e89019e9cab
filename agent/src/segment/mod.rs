//! The shared-memory segment: the only thing that the server and the collector share.
//!
//! Who writes what: the server's threads write session slots, lanes and texts; the collector writes the control page
//! and the lanes' tails. Either side may die at any moment; nothing that was published before is lost, and neither
//! waits for the other.
//!
//! Everything here is safe code over one slice of atomic words: no access can leave the mapping, whatever the other
//! side wrote.

#[cfg(not(loom))]
mod control;
#[cfg(not(loom))]
mod lanes;
pub mod layout;
#[cfg(all(feature = "reader", not(loom)))]
pub mod reader;
pub mod record;
pub mod ring;
#[cfg(not(loom))]
mod sessions;
#[cfg(not(loom))]
mod texts;
#[cfg(not(loom))]
mod view;
#[cfg(not(loom))]
pub mod writer;

#[cfg(not(loom))]
pub use control::{Control, HEARTBEAT_LIMIT_NS};
#[cfg(not(loom))]
pub use lanes::{Lane, LaneAccount};
#[cfg(not(loom))]
pub use sessions::{InFlight, SessionSlot};
#[cfg(not(loom))]
pub use texts::{TextKind, Texts};
#[cfg(not(loom))]
pub use view::{Refused, Segment};

#[cfg(all(feature = "reader", not(loom)))]
pub use reader::fuzz_segment;
