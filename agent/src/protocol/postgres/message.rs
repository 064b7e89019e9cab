//! Cuts a byte stream into messages: tag, length word, and how much of the payload is still to come.

use crate::strings::Bytes;

/// No message of the protocol is longer (the server's own limit for one allocation).
const LENGTH_MAX: u32 = 0x3fff_ffff;

/// What reading a header came to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Header {
    /// Not all of its five bytes are there.
    More,
    /// The payload follows.
    Complete,
    /// The length word is impossible.
    Malformed,
}

/// The message that one direction of a connection is in.
#[derive(Clone, Copy)]
pub(super) struct Message {
    /// The header's bytes where they came in pieces.
    header: [u8; 5],
    have: u8,
    tag: u8,
    /// The header is complete, the message not yet done with.
    pub inside: bool,
    /// Which field of the payload comes next; what the numbers mean is the reader's business.
    pub stage: u8,
    /// Payload bytes still to come.
    pub left: u32,
}

impl Message {
    pub(super) const fn new() -> Self {
        Message { header: [0; 5], have: 0, tag: 0, inside: false, stage: 0, left: 0 }
    }

    pub(super) fn tag(&self) -> u8 {
        self.tag
    }

    /// True between two messages.
    pub(super) fn is_between(&self) -> bool {
        !self.inside && self.have == 0
    }

    /// Takes the header's bytes from `input`.
    pub(super) fn take_header(&mut self, input: &mut &[u8]) -> Header {
        let [tag, length @ ..] = match input.split_first_chunk::<5>() {
            Some((header, rest)) if self.have == 0 => {
                *input = rest;
                *header
            }
            _ => {
                for to in self.header.iter_mut().skip(self.have as usize) {
                    let Some((byte, rest)) = input.split_first() else { return Header::More };
                    *to = *byte;
                    *input = rest;
                    self.have += 1;
                }
                self.have = 0;
                self.header
            }
        };
        let length = u32::from_be_bytes(length);
        if !(4..=LENGTH_MAX).contains(&length) {
            return Header::Malformed;
        }
        self.tag = tag;
        self.left = length - 4;
        self.stage = 0;
        self.inside = true;
        Header::Complete
    }

    /// What `input` holds of the payload.
    pub(super) fn available<'a>(&self, input: &&'a [u8]) -> &'a [u8] {
        input.get(..self.left as usize).unwrap_or(input)
    }

    /// Consumes `n` payload bytes; `n` must be available.
    pub(super) fn advance(&mut self, n: usize, input: &mut &[u8]) {
        *input = input.get(n..).unwrap_or(&[]);
        self.left = self.left.saturating_sub(n as u32);
    }

    /// Consumes what is there of the payload.
    pub(super) fn skip(&mut self, input: &mut &[u8]) {
        self.advance(self.available(input).len(), input);
    }

    /// Consumes one byte of the payload.
    pub(super) fn take_byte(&mut self, input: &mut &[u8]) -> Option<u8> {
        let byte = self.available(input).first().copied()?;
        self.advance(1, input);
        Some(byte)
    }

    /// Appends to `to` what there is of a zero-terminated string. True at its end, which the end of the message is too.
    pub(super) fn take_string<const N: usize>(&mut self, to: &mut Bytes<N>, input: &mut &[u8]) -> bool {
        let part = self.available(input);
        let end = find_zero(part);
        let string = end.and_then(|end| part.get(..end)).unwrap_or(part);
        // Most names are empty.
        if !string.is_empty() {
            to.push(string);
        }
        self.advance(end.map_or(part.len(), |end| end + 1), input);
        end.is_some() || self.left == 0
    }

    /// Like [`take_string`](Self::take_string) for a string nobody wants.
    pub(super) fn skip_string(&mut self, input: &mut &[u8]) -> bool {
        let part = self.available(input);
        let end = find_zero(part);
        self.advance(end.map_or(part.len(), |end| end + 1), input);
        end.is_some() || self.left == 0
    }
}

/// Tag and payload of the message that `input` begins with, and what follows; `None` unless all of it is there.
#[inline(always)]
pub(super) fn split_message<'a>(input: &&'a [u8]) -> Option<(u8, &'a [u8], &'a [u8])> {
    let ([tag, length @ ..], rest) = input.split_first_chunk::<5>()?;
    // An impossible length is longer than what is there.
    let (payload, rest) = rest.split_at_checked(u32::from_be_bytes(*length).wrapping_sub(4) as usize)?;
    Some((*tag, payload, rest))
}

/// What a message from the server is to those who go from header to header.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// To be looked at closely.
    Other = 0,
    /// Descriptions of rows, what Parse, Bind and Close answer, COPY data: says nothing that is kept.
    Nothing = 1,
    /// DataRow.
    Row = 2,
    /// CommandComplete.
    Command = 3,
    /// ReadyForQuery.
    Ready = 4,
    /// Matters to the unit that is being answered only: errors, notices, COPY to the client.
    Outcome = 5,
}

pub(super) const fn classify(tag: u8) -> Kind {
    match tag {
        b'T' | b'1' | b'2' | b'3' | b'n' | b't' | b's' | b'd' => Kind::Nothing,
        b'D' => Kind::Row,
        b'C' => Kind::Command,
        b'Z' => Kind::Ready,
        b'I' | b'E' | b'N' | b'A' | b'c' | b'H' | b'V' => Kind::Outcome,
        _ => Kind::Other,
    }
}

/// By tag. (A table, because which tag comes next is not to be foretold.)
static KINDS: [Kind; 256] = {
    let mut kinds = [Kind::Other; 256];
    let mut rest = kinds.as_mut_slice();
    let mut tag = 0u8;
    while let [kind, others @ ..] = rest {
        *kind = classify(tag);
        tag = tag.wrapping_add(1);
        rest = others;
    }
    kinds
};

/// The kind of the message from the server with this tag.
#[inline(always)]
pub(crate) fn kind_of(tag: u8) -> Kind {
    KINDS.get(tag as usize).copied().unwrap_or(Kind::Other)
}

/// The zero-terminated string that `payload` begins with, and what follows; `None` without an end.
#[inline(always)]
pub(super) fn split_string(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = find_zero(payload)?;
    Some((payload.get(..end)?, payload.get(end + 1..)?))
}

/// Where the first zero byte is. Eight bytes at a time: statements are long.
pub(super) fn find_zero(bytes: &[u8]) -> Option<usize> {
    if let Some(0) = bytes.first() {
        return Some(0);
    }
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let (chunks, rest) = bytes.as_chunks::<8>();
    for (n, chunk) in chunks.iter().enumerate() {
        let word = u64::from_le_bytes(*chunk);
        let zeros = word.wrapping_sub(LOW) & !word & HIGH;
        if zeros != 0 {
            return Some(n * 8 + zeros.trailing_zeros() as usize / 8);
        }
    }
    rest.iter().position(|&byte| byte == 0).map(|at| chunks.len() * 8 + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_zero_is_found_wherever_it_is() {
        for length in 0..40 {
            let mut bytes = [1u8, 0x80, 0xff, 2, 0x7f].repeat(8);
            bytes.truncate(length);
            assert_eq!(find_zero(&bytes), None);
            for at in 0..length {
                let mut with_zero = bytes.clone();
                for byte in &mut with_zero[at..] {
                    *byte = if *byte == 2 { 1 } else { 0 };
                }
                assert_eq!(find_zero(&with_zero), with_zero.iter().position(|&b| b == 0));
            }
        }
    }
}
