//! A segment as words: made, opened and checked.

use super::layout::{self, Shape, header};
use super::{Control, Lane, SessionSlot, Texts};
use core::sync::atomic::{AtomicU64, Ordering};

/// The words of a segment and where the parts lie in it. A copy is two words and a few sizes.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Segment<'a> {
    words: &'a [AtomicU64],
    /// The control page, found once: every query looks at it.
    control: &'a [AtomicU64; layout::CONTROL_WORDS],
    shape: Shape,
}

/// Why some words are no segment that this version can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It does not begin with the magic number.
    NotASegment,
    /// It has this layout version.
    Version(u64),
    /// Its sizes contradict each other or its length.
    Shape,
}

impl<'a> Segment<'a> {
    /// Makes a segment of zeroed `words`; they must be exactly as many as the shape needs.
    pub fn format(
        words: &'a [AtomicU64],
        shape: Shape,
        pid: u32,
        now_ns: u64,
        exe: &[u8],
    ) -> Result<Self, Refused> {
        if !shape.is_sane() || words.len() != shape.total_words() {
            return Err(Refused::Shape);
        }
        let segment = Segment { words, control: control_page(words).ok_or(Refused::Shape)?, shape };
        let set = |at: usize, value: u64| segment.word(at).store(value, Ordering::Relaxed);
        set(header::VERSION, layout::LAYOUT_VERSION);
        set(header::TOTAL_WORDS, shape.total_words() as u64);
        set(header::LANES, shape.lanes as u64);
        set(header::RING_WORDS, shape.ring_words as u64);
        set(header::SESSIONS, shape.sessions as u64);
        set(header::INDEX_ENTRIES, shape.index_entries as u64);
        set(header::ARENA_WORDS, shape.arena_words as u64);
        set(header::PID, pid as u64);
        set(header::MADE_NS, now_ns);
        segment.set_exe(exe);
        // Release: whoever sees the magic number sees a finished header.
        segment.word(header::MAGIC).store(layout::MAGIC, Ordering::Release);
        Ok(segment)
    }

    /// Checks that `words` are a segment of this version.
    pub fn check(words: &'a [AtomicU64]) -> Result<Self, Refused> {
        let read = |at: usize| words.get(at).map_or(0, |w| w.load(Ordering::Acquire));
        if read(header::MAGIC) != layout::MAGIC {
            return Err(Refused::NotASegment);
        }
        if read(header::VERSION) != layout::LAYOUT_VERSION {
            return Err(Refused::Version(read(header::VERSION)));
        }
        let size = |at: usize| usize::try_from(read(at)).unwrap_or(0);
        let shape = Shape {
            lanes: size(header::LANES),
            ring_words: size(header::RING_WORDS),
            sessions: size(header::SESSIONS),
            index_entries: size(header::INDEX_ENTRIES),
            arena_words: size(header::ARENA_WORDS),
        };
        if !shape.is_sane() || shape.total_words() != words.len() {
            return Err(Refused::Shape);
        }
        Ok(Segment { words, control: control_page(words).ok_or(Refused::Shape)?, shape })
    }

    /// The sizes, as checked when the segment was opened.
    #[inline]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The words from position `at` on.
    pub(super) fn words_from(&self, at: usize) -> &'a [AtomicU64] {
        self.words.get(at..).unwrap_or(&[])
    }

    /// The position of `words`, which are some of the segment's.
    #[inline(always)]
    pub(crate) fn position_of(&self, words: &[AtomicU64]) -> usize {
        words.as_ptr().addr().wrapping_sub(self.words.as_ptr().addr()) / size_of::<AtomicU64>()
    }

    /// A word of the header. Outside the header it is word 0.
    pub fn word(&self, at: usize) -> &'a AtomicU64 {
        static NONE: AtomicU64 = AtomicU64::new(0);
        self.words.get(at).unwrap_or(&NONE)
    }

    /// Adds to a counter of the header.
    pub fn count(&self, at: usize, n: u64) {
        self.word(at).fetch_add(n, Ordering::Relaxed);
    }

    fn part(&self, at: usize, n: usize) -> &'a [AtomicU64] {
        self.words.get(at..at + n).unwrap_or(&[])
    }

    /// The control page's words.
    pub(crate) fn control_words(&self) -> &'a [AtomicU64; layout::CONTROL_WORDS] {
        self.control
    }

    /// The control page.
    #[inline]
    pub fn control(&self) -> Control<'a> {
        Control::new(self.control)
    }

    /// Lane `n`.
    pub fn lane(&self, n: usize) -> Option<Lane<'a>> {
        if n >= self.shape.lanes {
            return None;
        }
        let description = self.words.get(self.shape.lanes_at() + n * layout::LANE_WORDS..)?.first_chunk()?;
        let ring = self.part(self.shape.rings_at() + n * self.shape.ring_words, self.shape.ring_words);
        Some(Lane::new(description, ring))
    }

    /// Session slot `n`.
    pub fn session(&self, n: usize) -> Option<SessionSlot<'a>> {
        if n >= self.shape.sessions {
            return None;
        }
        let at = self.shape.sessions_at() + n * layout::SESSION_WORDS;
        Some(SessionSlot::new(self.words.get(at..)?.first_chunk()?))
    }

    /// The text store.
    pub fn texts(&self) -> Texts<'a> {
        Texts::new(
            self.part(self.shape.index_at(), self.shape.index_entries * 2),
            self.part(self.shape.arena_at(), self.shape.arena_words),
            self.word(header::ARENA_HEAD),
        )
    }

    /// A new session's number.
    pub fn next_uid(&self) -> u64 {
        self.word(header::LAST_UID).fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Notes the path of the executable.
    pub fn set_exe(&self, exe: &[u8]) {
        store_bytes(self.part(header::EXE, header::EXE_WORDS), exe);
    }

    /// Copies the path of the executable to `to`; its length.
    pub fn exe(&self, to: &mut [u8; header::EXE_WORDS * 8]) -> usize {
        load_bytes(self.part(header::EXE, header::EXE_WORDS), to);
        to.iter().position(|b| *b == 0).unwrap_or(to.len())
    }
}

fn control_page(words: &[AtomicU64]) -> Option<&[AtomicU64; layout::CONTROL_WORDS]> {
    words.get(layout::HEADER_WORDS..)?.first_chunk()
}

/// Writes `bytes` into `words`, zero padded to a word; what does not fit is cut off.
pub(super) fn store_bytes(words: &[AtomicU64], bytes: &[u8]) {
    let (chunks, rest) = bytes.as_chunks::<8>();
    let mut words = words.iter();
    // The chunks first: a word taken for a chunk that is not there would be lost for the rest.
    for (chunk, word) in chunks.iter().zip(words.by_ref()) {
        word.store(u64::from_le_bytes(*chunk), Ordering::Relaxed);
    }
    if !rest.is_empty()
        && let Some(word) = words.next()
    {
        let mut last = [0u8; 8];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        word.store(u64::from_le_bytes(last), Ordering::Relaxed);
    }
}

/// Reads `words` into `to` as far as both reach.
pub(super) fn load_bytes(words: &[AtomicU64], to: &mut [u8]) {
    for (to, word) in to.chunks_mut(8).zip(words) {
        for (to, from) in to.iter_mut().zip(word.load(Ordering::Relaxed).to_le_bytes()) {
            *to = from;
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::vec::Vec;

    /// The smallest useful segment, on the heap.
    pub(crate) const SMALL: Shape =
        Shape { lanes: 4, ring_words: 4096, sessions: 4, index_entries: 64, arena_words: 4096 };

    pub(crate) fn words(shape: Shape) -> Vec<AtomicU64> {
        (0..shape.total_words()).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn a_segment_is_refused_unless_magic_version_and_every_size_fit() {
        let words = words(SMALL);
        assert_eq!(Segment::check(&words).err(), Some(Refused::NotASegment));
        let made = Segment::format(&words, SMALL, 42, 7, b"/usr/sbin/mariadbd").unwrap();
        let mut exe = [0; 512];
        let n = made.exe(&mut exe);
        assert_eq!(&exe[..n], b"/usr/sbin/mariadbd");
        assert_eq!(Segment::check(&words).unwrap().shape(), SMALL);
        assert_eq!(Segment::check(&words[1..]).err(), Some(Refused::NotASegment));
        assert_eq!(Segment::check(&words[..words.len() - 1]).err(), Some(Refused::Shape));
        for at in
            [header::LANES, header::RING_WORDS, header::SESSIONS, header::INDEX_ENTRIES, header::ARENA_WORDS]
        {
            for wrong in [0, 12_345, u64::MAX, 1 << 40] {
                let right = words[at].swap(wrong, Ordering::Relaxed);
                assert_eq!(Segment::check(&words).err(), Some(Refused::Shape), "word {at} = {wrong}");
                words[at].store(right, Ordering::Relaxed);
            }
        }
        words[header::VERSION].store(99, Ordering::Relaxed);
        assert_eq!(Segment::check(&words).err(), Some(Refused::Version(99)));
    }
}
