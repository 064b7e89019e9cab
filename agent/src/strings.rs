//! Bounded byte strings without allocation.

/// A byte string of at most `N` bytes; what does not fit is cut off and remembered as cut.
///
/// The bytes are whatever the wire carried: not necessarily UTF-8. Whoever shows them converts. In memory the lengths stand
/// before the bytes, so that a short string is in one or two cache lines.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Bytes<const N: usize> {
    len: u32,
    full_len: u32,
    bytes: [u8; N],
}

/// What is left of `bytes` behind its last whole word, filled up with zeros to a word of eight bytes, the first byte lowest; 0
/// where nothing is left. A copy into eight zeros would say the same, but such a word can't be loaded before all of it has
/// reached the cache.
#[inline(always)]
pub(crate) fn rest_word(bytes: &[u8]) -> u64 {
    let rest = bytes.len() % 8;
    if rest == 0 {
        return 0;
    }
    if let Some(last) = bytes.last_chunk::<8>() {
        // With bytes of the word before, which are shifted out again.
        return u64::from_le_bytes(*last) >> (64 - 8 * rest);
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let [first, last] = [first, last].map(|half| u64::from(u32::from_le_bytes(*half)));
        return first | last << (8 * (rest - 4));
    }
    // One to three bytes: the first, the middle one and the last are all of them.
    let byte = |at: usize| bytes.get(at).map_or(0, |byte| u64::from(*byte) << (8 * at));
    byte(0) | byte(rest / 2) | byte(rest - 1)
}

impl<const N: usize> Bytes<N> {
    /// The empty string.
    pub const fn new() -> Self {
        Bytes { len: 0, full_len: 0, bytes: [0; N] }
    }

    /// Forgets the content.
    pub fn clear(&mut self) {
        self.len = 0;
        self.full_len = 0;
    }

    /// Replaces the content by the first `N` bytes of `from`.
    pub fn set(&mut self, from: &[u8]) {
        self.clear();
        self.push(from);
    }

    /// Appends `from`; beyond `N` only the length is counted.
    pub fn push(&mut self, from: &[u8]) {
        let start = self.len as usize;
        if let Some(room) = self.bytes.get_mut(start..) {
            let take = room.len().min(from.len());
            if let (Some(to), Some(from)) = (room.get_mut(..take), from.get(..take)) {
                to.copy_from_slice(from);
                self.len += take as u32;
            }
        }
        self.full_len = self.full_len.saturating_add(from.len() as u32);
    }

    /// The content is the beginning of a string of `full_len` bytes.
    pub fn cut_from(&mut self, full_len: u32) {
        self.full_len = full_len.max(self.len);
    }

    /// The bytes kept, at most `N`.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len as usize).unwrap_or(&[])
    }

    /// How many bytes were pushed in all, kept or not.
    pub fn full_len(&self) -> u32 {
        self.full_len
    }

    /// True when nothing was pushed.
    pub fn is_empty(&self) -> bool {
        self.full_len == 0
    }

    /// True when bytes were cut off.
    pub fn is_cut(&self) -> bool {
        self.full_len > self.len
    }
}

impl<const N: usize> Default for Bytes<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> core::fmt::Debug for Bytes<N> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "\"{}\"", self.as_slice().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_behind_the_last_whole_word_is_filled_up_with_zeros() {
        let bytes: [u8; 25] = core::array::from_fn(|n| 0xf0 ^ n as u8);
        for (begin, end) in (0..25).flat_map(|begin| (begin..=25).map(move |end| (begin, end))) {
            let bytes = &bytes[begin..end];
            let (_, rest) = bytes.as_chunks::<8>();
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            assert_eq!(rest_word(bytes), u64::from_le_bytes(word), "{bytes:?}");
        }
    }

    #[test]
    fn a_string_longer_than_its_room_keeps_its_beginning_and_its_true_length() {
        let mut s = Bytes::<4>::new();
        s.push(b"ab");
        s.push(b"cdef");
        assert_eq!((s.as_slice(), s.full_len(), s.is_cut()), (&b"abcd"[..], 6, true));
        s.clear();
        assert!(s.is_empty() && !s.is_cut());
    }
}
