//! Packet framing: where a packet's header and payload begin and end in a stream, and how its fields are read.

/// The length of a packet that another one continues.
pub(super) const FULL: u32 = 0xff_ffff;

/// Collects a header of `N` bytes that may come in pieces.
#[derive(Clone, Copy)]
pub(super) struct HeaderBuffer<const N: usize> {
    bytes: [u8; N],
    have: u8,
}

impl<const N: usize> HeaderBuffer<N> {
    pub(super) const fn new() -> Self {
        HeaderBuffer { bytes: [0; N], have: 0 }
    }

    /// True when no byte of the next header has come.
    pub(super) fn is_empty(&self) -> bool {
        self.have == 0
    }

    /// Takes the bytes that are missing; answers the header once it is complete, and is empty again then.
    pub(super) fn take(&mut self, input: &mut &[u8]) -> Option<[u8; N]> {
        if self.have == 0
            && let Some((header, rest)) = input.split_first_chunk::<N>()
        {
            *input = rest;
            return Some(*header);
        }
        while let Some((byte, rest)) = input.split_first() {
            *input = rest;
            if let Some(slot) = self.bytes.get_mut(usize::from(self.have)) {
                *slot = *byte;
            }
            self.have += 1;
            if usize::from(self.have) >= N {
                self.have = 0;
                return Some(self.bytes);
            }
        }
        None
    }
}

/// One direction's packets: `len[3] seq[1]`, then `len` bytes.
#[derive(Clone, Copy)]
pub(super) struct Framer {
    header: HeaderBuffer<4>,
    /// A header was taken and its payload is not yet consumed to the end.
    pub(super) in_packet: bool,
    /// The packet that comes next (or is being read) continues the one before it.
    pub(super) continuation: bool,
    /// Payload length of the packet being read.
    pub(super) len: u32,
    /// Payload bytes still to come.
    pub(super) left: u32,
    /// Sequence number of the packet being read, or of the last one.
    pub(super) seq: u8,
}

impl Framer {
    pub(super) const fn new() -> Self {
        Framer { header: HeaderBuffer::new(), in_packet: false, continuation: false, len: 0, left: 0, seq: 0 }
    }

    /// True between two logical packets: nothing of the next one has come.
    pub(super) fn at_boundary(&self) -> bool {
        !self.in_packet && !self.continuation && self.header.is_empty()
    }

    /// Takes a header; true once it is complete.
    pub(super) fn begin(&mut self, input: &mut &[u8]) -> bool {
        let Some([a, b, c, seq]) = self.header.take(input) else { return false };
        self.len = u32::from_le_bytes([a, b, c, 0]);
        self.left = self.len;
        self.seq = seq;
        self.in_packet = true;
        true
    }

    /// A packet of `len` bytes went by whole, between two others.
    #[inline]
    pub(super) fn passed(&mut self, len: u32, seq: u8) {
        (self.len, self.left, self.seq) = (len, 0, seq);
    }

    /// Takes what `input` has of the payload.
    pub(super) fn take<'a>(&mut self, input: &mut &'a [u8]) -> &'a [u8] {
        let piece = take_up_to(input, self.left);
        self.left -= piece.len() as u32;
        piece
    }

    /// Ends the packet whose payload is consumed; true when no packet continues it.
    pub(super) fn end(&mut self) -> bool {
        self.in_packet = false;
        self.continuation = self.len == FULL;
        !self.continuation
    }
}

/// Splits at most `limit` bytes off the front of `input`.
pub(super) fn take_up_to<'a>(input: &mut &'a [u8], limit: u32) -> &'a [u8] {
    let (piece, rest) = input.split_at_checked(limit as usize).unwrap_or((input, &[]));
    *input = rest;
    piece
}

/// Reads a length-encoded integer byte by byte.
#[derive(Clone, Copy)]
pub(super) struct LengthReader {
    value: u64,
    shift: u8,
    missing: u8,
}

/// What [`LengthReader::push`] knows so far.
pub(super) enum Length {
    More,
    Is(u64),
    /// A first byte that starts no number (fb, ff).
    Invalid,
}

impl LengthReader {
    pub(super) const fn new() -> Self {
        LengthReader { value: 0, shift: 0, missing: 0 }
    }

    /// Takes the next byte; after the number is complete the reader is ready for another.
    pub(super) fn push(&mut self, byte: u8) -> Length {
        if self.missing == 0 {
            *self = Self::new();
            self.missing = match byte {
                0..=0xfa => return Length::Is(u64::from(byte)),
                0xfc => 2,
                0xfd => 3,
                0xfe => 8,
                _ => return Length::Invalid,
            };
            return Length::More;
        }
        self.value |= u64::from(byte) << self.shift;
        self.shift = self.shift.saturating_add(8) & 63;
        self.missing -= 1;
        if self.missing == 0 { Length::Is(self.value) } else { Length::More }
    }
}

/// Reads the fields of a packet that is wholly in memory; `None` once it is too short or malformed.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn lenenc(&mut self) -> Option<u64> {
        let mut reader = LengthReader::new();
        loop {
            match reader.push(self.u8()?) {
                Length::More => {}
                Length::Is(value) => return Some(value),
                Length::Invalid => return None,
            }
        }
    }

    pub(super) fn bytes(&mut self, len: u64) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(usize::try_from(len).ok()?)?;
        self.0 = rest;
        Some(head)
    }

    /// A length-encoded string.
    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let len = self.lenenc()?;
        self.bytes(len)
    }

    /// A string that ends with a zero byte.
    pub(super) fn terminated(&mut self) -> Option<&'a [u8]> {
        let at = self.0.iter().position(|b| *b == 0)?;
        let text = self.bytes(at as u64)?;
        self.u8()?;
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_encoded_numbers_of_all_sizes_are_read_and_what_starts_none_is_refused() {
        let cases: [(&[u8], Option<u64>); 8] = [
            (&[0x00], Some(0)),
            (&[0xfa], Some(250)),
            (&[0xfc, 0xfb, 0x00], Some(251)),
            (&[0xfd, 0x01, 0x02, 0x03], Some(0x03_0201)),
            (&[0xfe, 1, 2, 3, 4, 5, 6, 7, 8], Some(0x0807_0605_0403_0201)),
            (&[0xfb], None),
            (&[0xff], None),
            (&[0xfc, 0x01], None),
        ];
        for (bytes, expected) in cases {
            assert_eq!(Fields(bytes).lenenc(), expected, "{bytes:02x?}");
        }
    }

    #[test]
    fn a_header_in_pieces_is_complete_with_its_last_byte() {
        let mut framer = Framer::new();
        for byte in [3u8, 0, 0] {
            assert!(!framer.begin(&mut &[byte][..]));
            assert!(!framer.at_boundary());
        }
        let mut input: &[u8] = &[7, b'a', b'b', b'c', b'd'];
        assert!(framer.begin(&mut input));
        assert_eq!((framer.len, framer.seq, framer.take(&mut input)), (3, 7, &b"abc"[..]));
        assert!(framer.end() && framer.at_boundary());
        assert_eq!(input, b"d");
    }
}
