//! Recordings (`.pq`): append-only, framed, check-summed; the normalised statements and the costs of their executions.
//!
//! ```text
//! file    magic 8 bytes | version u32 | reserved u32                      all numbers little-endian
//! frame   marker 4 bytes | type u8 | length u32 | CRC-32 of the payload u32 | CRC-32 of the 13 bytes before u32 | payload
//! ```
//!
//! | type | payload |
//! | --- | --- |
//! | 1 | [`Meta`] as JSON; the last one counts |
//! | 2 | a batch of executions, see [`batch`] |
//! | 3 | [`Losses`] so far, as JSON; the last one counts |
//! | 4 | an [`InFlight`] query as JSON |
//! | 5 | a warning as JSON: code, message, remedy |
//! | 6 | [`End`] as JSON: the recording is complete |
//!
//! A frame is written with one call. A torn tail costs the frame that was being written; a damaged frame costs itself,
//! and what else the reader cannot know is marked as unknown: batches refer to statements by number, numbers start anew
//! every few megabytes, and each batch says how many executions were recorded before it.
//!
//! Frames of a type that the reader does not know are skipped and reported. Anything else that changes the meaning of
//! the bytes means a new version. No literal of a statement is in a recording.

pub mod batch;
mod frame;
mod load;
mod meta;
mod reader;
#[cfg(test)]
mod tests;
mod varint;
mod writer;

pub use load::{Loaded, load};
pub use meta::{CounterMeta, End, InFlight, Losses, Meta, Sampling, ServerInfo};
pub use reader::{Item, ReadError, Reader};
pub use writer::{Writer, create_file};

/// What a recording starts with. The first byte is no text, the line ends show a transfer that converted them.
pub const MAGIC: [u8; 8] = *b"\x89PQREC\r\n";
/// Version of the format that this program writes and reads.
pub const VERSION: u32 = 1;
/// Magic, version and reserved bytes.
const FILE_HEADER_LEN: usize = 16;

/// Types of frames.
mod kind {
    pub const META: u8 = 1;
    pub const BATCH: u8 = 2;
    pub const LOSSES: u8 = 3;
    pub const IN_FLIGHT: u8 = 4;
    pub const WARNING: u8 = 5;
    pub const END: u8 = 6;
}

/// Any bytes as a recording: for fuzzing. Panics where a promise is broken.
#[doc(hidden)]
pub fn fuzz_recording(data: &[u8]) {
    for framed in [false, true] {
        let mut file = Vec::from(MAGIC);
        if framed {
            // Past the check sums: the payload itself is the fuzzer's.
            file.extend_from_slice(&VERSION.to_le_bytes());
            file.extend_from_slice(&[0; 4]);
            let Some((kind, payload)) = data.split_first() else { return };
            frame::append(&mut file, kind % 8, |out| out.extend_from_slice(payload));
        } else {
            file.extend_from_slice(data);
        }
        let mut aggregator = crate::aggregate::Aggregator::new(&[], crate::aggregate::Limits::default());
        if let Ok(loaded) = load(file.as_slice(), &mut aggregator) {
            assert!(loaded.warnings.len() <= 1000);
        }
    }
    let mut aggregator = crate::aggregate::Aggregator::new(&[], crate::aggregate::Limits::default());
    let _ = load(data, &mut aggregator);
}
