//! Frames: how the parts of a recording are delimited, checked, and found again after damage.

use std::io::{self, Read};

/// Begins every frame. Seldom in anything else.
const MARKER: [u8; 4] = [0xb7, b'p', b'q', 0x1e];
/// Marker, type, length, check sum of the payload, check sum of the header.
pub const HEADER_LEN: usize = 17;
/// No payload is longer.
pub const PAYLOAD_MAX: usize = 1 << 20;

/// Appends a frame whose payload `fill` writes.
pub fn append(out: &mut Vec<u8>, kind: u8, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_LEN]);
    fill(out);
    let payload = out.get(start + HEADER_LEN..).unwrap_or(&[]);
    let mut header = [0u8; HEADER_LEN];
    let fields = [
        &MARKER[..],
        &[kind],
        &(payload.len() as u32).to_le_bytes(),
        &crc32fast::hash(payload).to_le_bytes(),
    ];
    for (to, from) in header.iter_mut().zip(fields.concat()) {
        *to = from;
    }
    let (checked, sum) = header.split_at_mut(HEADER_LEN - 4);
    sum.copy_from_slice(&crc32fast::hash(checked).to_le_bytes());
    if let Some(to) = out.get_mut(start..start + HEADER_LEN) {
        to.copy_from_slice(&header);
    }
}

struct Header {
    kind: u8,
    len: usize,
    payload_sum: u32,
}

fn header(bytes: &[u8]) -> Option<Header> {
    let (checked, sum) = bytes.get(..HEADER_LEN)?.split_at_checked(HEADER_LEN - 4)?;
    let rest = checked.strip_prefix(&MARKER)?;
    if crc32fast::hash(checked).to_le_bytes() != *sum {
        return None;
    }
    let (kind, rest) = rest.split_first()?;
    let (len, payload_sum) = rest.split_first_chunk::<4>()?;
    let len = u32::from_le_bytes(*len) as usize;
    let payload_sum = u32::from_le_bytes(*payload_sum.first_chunk()?);
    (len <= PAYLOAD_MAX).then_some(Header { kind: *kind, len, payload_sum })
}

/// What could not be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Stretches of bytes that are no frame.
    pub places: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of a frame at the end that is not complete.
    pub torn_bytes: u64,
}

/// Reads frame by frame, in memory for one frame.
pub struct FrameReader<R> {
    from: R,
    buffer: Vec<u8>,
    start: usize,
    /// What was passed over.
    pub damage: Damage,
    in_damage: bool,
}

impl<R: Read> FrameReader<R> {
    /// Reads frames from `from`, whose file header was read already.
    pub fn new(from: R) -> Self {
        FrameReader { from, buffer: Vec::new(), start: 0, damage: Damage::default(), in_damage: false }
    }

    fn available(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or(&[])
    }

    /// Tries to have `len` bytes; there are fewer only at the end.
    fn fill(&mut self, len: usize) -> io::Result<()> {
        if self.available().len() >= len {
            return Ok(());
        }
        self.buffer.drain(..self.start);
        self.start = 0;
        let missing = (len - self.buffer.len()).max(64 * 1024);
        self.from.by_ref().take(missing as u64).read_to_end(&mut self.buffer)?;
        Ok(())
    }

    fn lose(&mut self, bytes: usize) {
        self.damage.places += u64::from(!self.in_damage);
        self.damage.bytes += bytes as u64;
        self.in_damage = true;
        self.start += bytes;
    }

    /// The next whole frame's type, its payload in `payload`; `None` at the end.
    pub fn next(&mut self, payload: &mut Vec<u8>) -> io::Result<Option<u8>> {
        loop {
            self.fill(HEADER_LEN)?;
            let available = self.available();
            if available.len() < HEADER_LEN {
                self.damage.torn_bytes += available.len() as u64;
                self.start = self.buffer.len();
                return Ok(None);
            }
            let Some(Header { kind, len, payload_sum }) = header(available) else {
                let next = available
                    .iter()
                    .skip(1)
                    .position(|b| *b == MARKER[0])
                    .map_or(available.len(), |at| at + 1);
                self.lose(next);
                continue;
            };
            // The header is whole, so its length can be trusted even if the payload is damaged.
            self.fill(HEADER_LEN + len)?;
            let Some(bytes) = self.available().get(HEADER_LEN..HEADER_LEN + len) else {
                self.damage.torn_bytes += self.available().len() as u64;
                self.start = self.buffer.len();
                return Ok(None);
            };
            if crc32fast::hash(bytes) != payload_sum {
                self.lose(HEADER_LEN + len);
                continue;
            }
            payload.clear();
            payload.extend_from_slice(bytes);
            self.start += HEADER_LEN + len;
            self.in_damage = false;
            return Ok(Some(kind));
        }
    }
}
