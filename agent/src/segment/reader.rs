//! The collector's side: opens a segment from outside and takes what the lanes carry.
//!
//! # Safety
//!
//! `unsafe` is used to give a mapping back when its owner is dropped; every view of it borrows from that owner.
#![allow(unsafe_code)]

use super::layout::{LAYOUT_VERSION, MEMFD_NAME, Shape};
use super::record::{Execution, RECORD_MAX_WORDS, decode};
use super::{Refused, Segment, TextKind};
use crate::clock::monotonic_ns;
use crate::protocol::TEXT_CAP;
use crate::session::identity;
use crate::sys::{Errno, memory, process};
use core::fmt;
use core::sync::atomic::AtomicU64;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::vec;
use std::vec::Vec;

/// Why a segment could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// The memfd is not sealed: its owner could shrink it under us.
    NotSealed,
    /// The file's size is impossible.
    Size(usize),
    /// A system call failed.
    System(Errno),
    /// The content is no segment that this version reads.
    Refused(Refused),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::NotSealed => write!(f, "the segment is not sealed; it was not made by perquery"),
            OpenError::Size(bytes) => write!(f, "a segment of {bytes} bytes is impossible"),
            OpenError::System(Errno(errno)) => {
                write!(f, "{}", std::io::Error::from_raw_os_error(*errno))
            }
            OpenError::Refused(Refused::NotASegment) => {
                write!(f, "the segment is not finished or not perquery's")
            }
            OpenError::Refused(Refused::Version(v)) => write!(
                f,
                "the server's libperquery.so writes layout version {v}, this command reads {LAYOUT_VERSION}; \
                 use the perquery command that belongs to that library, or restart the server with the new one"
            ),
            OpenError::Refused(Refused::Shape) => write!(f, "the segment's sizes contradict each other"),
        }
    }
}

impl core::error::Error for OpenError {}

/// A mapped segment, owned.
pub struct Mapping {
    words: &'static [AtomicU64],
    shape: Shape,
}

impl Mapping {
    /// Maps the segment behind `fd`.
    pub fn open(fd: &impl AsRawFd) -> Result<Mapping, OpenError> {
        let fd = fd.as_raw_fd();
        if !memory::is_sealed(fd) {
            return Err(OpenError::NotSealed);
        }
        let bytes = memory::file_size(fd).map_err(OpenError::System)?;
        let least = Shape { lanes: 1, sessions: 1, ..Shape::SERVER }.lanes_at() * 8;
        if bytes < least || !bytes.is_multiple_of(8) || bytes > 1 << 40 {
            return Err(OpenError::Size(bytes));
        }
        let words = memory::map_shared(fd, bytes / 8).map_err(OpenError::System)?;
        match Segment::check(words) {
            Ok(segment) => Ok(Mapping { words, shape: segment.shape() }),
            Err(refused) => {
                // SAFETY: `check` gave nothing out.
                unsafe { memory::unmap_shared(words) };
                Err(OpenError::Refused(refused))
            }
        }
    }

    /// Makes a segment to be handed down to a program: the memfd (without close-on-exec) and its mapping.
    pub fn make(shape: Shape) -> Result<(OwnedFd, Mapping), OpenError> {
        let fd = memory::memfd(MEMFD_NAME).map_err(OpenError::System)?;
        // SAFETY: the descriptor is new and ours.
        let owned = unsafe { OwnedFd::from_raw_fd(fd) };
        memory::chmod(fd, 0o600).map_err(OpenError::System)?;
        memory::truncate(fd, shape.total_words() * 8).map_err(OpenError::System)?;
        memory::seal(fd).map_err(OpenError::System)?;
        let words = memory::map_shared(fd, shape.total_words()).map_err(OpenError::System)?;
        let mapping = Mapping { words, shape };
        Segment::format(words, shape, 0, monotonic_ns(), b"").map_err(OpenError::Refused)?;
        process::fcntl(fd, libc::F_SETFD, 0).map_err(OpenError::System)?;
        Ok((owned, mapping))
    }

    /// The segment.
    pub fn segment(&self) -> Result<Segment<'_>, OpenError> {
        let segment = Segment::check(self.words).map_err(OpenError::Refused)?;
        // The sizes were checked at the start; a writer that changes them now must not move the lanes under us.
        if segment.shape() != self.shape {
            return Err(OpenError::Refused(Refused::Shape));
        }
        Ok(segment)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: all views borrow from `self`.
        unsafe { memory::unmap_shared(self.words) };
    }
}

/// What one pass over the lanes brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Records taken.
    pub records: usize,
    /// Rings that made no sense; what they held is lost.
    pub corrupt: usize,
    /// The largest share of a ring that was full when it was looked at, in thousandths.
    pub fullest_permille: u32,
}

/// Takes everything that all lanes have published: the words of each record, and the number of its lane.
pub fn drain(segment: &Segment<'_>, mut take: impl FnMut(usize, &[u64])) -> Drained {
    let mut seen = Drained::default();
    let mut buffer = [0u64; RECORD_MAX_WORDS];
    for n in 0..segment.shape().lanes {
        let Some(lane) = segment.lane(n) else { continue };
        let ring = lane.ring();
        let backlog = ring.backlog_words();
        if backlog == 0 {
            continue;
        }
        let permille = backlog.saturating_mul(1000) / segment.shape().ring_words as u64;
        seen.fullest_permille = seen.fullest_permille.max(permille.min(1000) as u32);
        match ring.drain(&mut buffer, |words| take(n, words)) {
            Ok(records) => seen.records += records,
            Err(_) => {
                seen.corrupt += 1;
                ring.skip_all();
            }
        }
    }
    seen
}

/// Decodes records that were put one after another; calls `broken` for each that makes no sense.
pub fn decode_all(mut words: &[u64], mut take: impl FnMut(Execution), mut broken: impl FnMut()) {
    while let Some(first) = words.first() {
        let Some((record, rest)) = words.split_at_checked((*first as u32 as usize).max(1)) else {
            broken();
            return;
        };
        match decode(record) {
            Some(execution) => take(execution),
            None => broken(),
        }
        words = rest;
    }
}

/// The text named `hash`, if it is in the store.
pub fn text(segment: &Segment<'_>, hash: u64) -> Option<Vec<u8>> {
    let mut buffer = vec![0; TEXT_CAP];
    let n = segment.texts().copy(hash, TextKind::Statement, &mut buffer)?;
    buffer.truncate(n);
    Some(buffer)
}

/// The identity named `hash`, if it is in the store: user, database, application, client.
pub fn who(segment: &Segment<'_>, hash: u64) -> Option<[Vec<u8>; 4]> {
    let mut buffer = [0; identity::IDENTITY_MAX];
    let n = segment.texts().copy(hash, TextKind::Identity, &mut buffer)?;
    identity::decode(buffer.get(..n)?).map(|fields| fields.map(<[u8]>::to_vec))
}

/// CLOCK_MONOTONIC, as the agent stamps its records.
pub fn now_ns() -> u64 {
    monotonic_ns()
}

/// Reads a whole segment image made of arbitrary bytes: never panics, never loops for ever.
#[doc(hidden)]
pub fn fuzz_segment(data: &[u8]) {
    use super::layout::header;
    use core::sync::atomic::Ordering;
    let shape = Shape { lanes: 2, ring_words: 4096, sessions: 4, index_entries: 64, arena_words: 4096 };
    let words: Vec<AtomicU64> = (0..shape.total_words()).map(|_| AtomicU64::new(0)).collect();
    let Ok(segment) = Segment::format(&words, shape, 1, 1, b"/x") else { return };
    // Each 10 bytes of input overwrite a word: position u16, value u64; the sizes in the header stay.
    let mut named = vec![1u64];
    for chunk in data.as_chunks::<10>().0 {
        let [a, b, value @ ..] = *chunk;
        let at = u16::from_le_bytes([a, b]) as usize * 3 % words.len();
        let value = u64::from_le_bytes(value);
        if at >= header::PID
            && let Some(word) = words.get(at)
        {
            word.store(value, Ordering::Relaxed);
            named.push(value);
        }
    }
    let mut all = Vec::new();
    drain(&segment, |_, words| all.extend_from_slice(words));
    decode_all(
        &all,
        |e| {
            text(&segment, e.text_hash);
            who(&segment, e.identity_hash);
        },
        || (),
    );
    decode_all(&named, |_| (), || ());
    for n in 0..4 {
        let _ = segment.session(n).and_then(|s| s.snapshot(&segment));
    }
    for hash in named {
        text(&segment, hash);
        who(&segment, hash);
    }
    segment.control().wanted();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_segment_can_be_opened_by_its_descriptor_and_a_plain_file_can_not() {
        let (fd, mapping) = Mapping::make(Shape { lanes: 2, ..Shape::SERVER }).unwrap();
        let other = Mapping::open(&fd).unwrap();
        assert_eq!(other.segment().unwrap().shape(), mapping.segment().unwrap().shape());
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        assert_eq!(Mapping::open(&file).err(), Some(OpenError::NotSealed));
    }

    #[test]
    fn arbitrary_words_in_a_segment_are_survived() {
        let mut state = 0x1234_5678_9abc_def0u64;
        for _ in 0..300 {
            let data: Vec<u8> = (0..2000)
                .map(|_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    state as u8
                })
                .collect();
            fuzz_segment(&data);
        }
    }
}
