//! The PROXY protocol's header (versions 1 and 2), which a load balancer puts before the client's first packet.

use crate::strings::Bytes;
use core::fmt::Write;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The first four bytes of a version 1 header.
pub(super) const V1_START: [u8; 4] = *b"PROX";
/// The first four bytes of a version 2 header.
pub(super) const V2_START: [u8; 4] = *b"\r\n\r\n";

const V1_MAX: u32 = 107;
const V2_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED: u32 = 16;

/// How far the header was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    More,
    Complete,
    Malformed,
}

/// Reads one header.
pub(super) struct Proxy {
    /// The beginning: a whole version 1 header, or a version 2 header with its addresses.
    bytes: Bytes<108>,
}

impl Proxy {
    pub(super) const fn new() -> Self {
        Proxy { bytes: Bytes::new() }
    }

    /// Starts with the four bytes that told the header.
    pub(super) fn begin(&mut self, start: [u8; 4]) {
        self.bytes.set(&start);
    }

    /// Takes bytes of the header and not one more.
    pub(super) fn take(&mut self, input: &mut &[u8]) -> Progress {
        while let Some((byte, rest)) = input.split_first() {
            *input = rest;
            self.bytes.push(&[*byte]);
            let progress =
                if self.bytes.as_slice().starts_with(&V1_START) { self.v1(*byte) } else { self.v2() };
            if progress != Progress::More {
                return progress;
            }
        }
        Progress::More
    }

    fn v1(&self, last: u8) -> Progress {
        match (last, self.bytes.full_len()) {
            (b'\n', _) => Progress::Complete,
            (_, V1_MAX..) => Progress::Malformed,
            _ => Progress::More,
        }
    }

    fn v2(&self) -> Progress {
        let seen = self.bytes.full_len();
        let bytes = self.bytes.as_slice();
        if seen < V2_FIXED {
            return Progress::More;
        }
        if seen == V2_FIXED && !bytes.starts_with(&V2_SIGNATURE) {
            return Progress::Malformed;
        }
        let Some([_, _, high, low]) = bytes.get(12..16).and_then(|b| b.as_array::<4>()) else {
            return Progress::Malformed;
        };
        let addresses_len = u32::from(u16::from_be_bytes([*high, *low]));
        if seen >= V2_FIXED + addresses_len { Progress::Complete } else { Progress::More }
    }

    /// The client's address without its port; nothing when the header names none (`UNKNOWN`, `LOCAL`, unix sockets).
    pub(super) fn client(&self) -> Option<Bytes<64>> {
        let bytes = self.bytes.as_slice();
        let address = if bytes.starts_with(&V1_START) { v1_address(bytes)? } else { v2_address(bytes)? };
        let mut text = Text(Bytes::new());
        write!(text, "{address}").ok()?;
        Some(text.0)
    }
}

fn v1_address(header: &[u8]) -> Option<IpAddr> {
    let line = core::str::from_utf8(header).ok()?.strip_suffix("\r\n")?;
    let mut words = line.split(' ');
    if words.next()? != "PROXY" {
        return None;
    }
    match words.next()? {
        "TCP4" | "TCP6" => words.next()?.parse().ok(),
        _ => None,
    }
}

fn v2_address(header: &[u8]) -> Option<IpAddr> {
    // Low four bits of the first: 0 is LOCAL (the balancer's own health check), 1 is PROXY.
    let (command, family) = (*header.get(12)? & 0x0f, *header.get(13)? >> 4);
    let source = header.get(16..)?;
    match (command, family) {
        (1, 1) => Some(IpAddr::V4(Ipv4Addr::from(*source.first_chunk::<4>()?))),
        (1, 2) => Some(IpAddr::V6(Ipv6Addr::from(*source.first_chunk::<16>()?))),
        _ => None,
    }
}

struct Text(Bytes<64>);

impl Write for Text {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.0.push(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn read(header: &[u8]) -> (Progress, Option<Vec<u8>>, usize) {
        let mut proxy = Proxy::new();
        let (start, mut rest) = header.split_first_chunk::<4>().unwrap();
        proxy.begin(*start);
        let progress = proxy.take(&mut rest);
        (progress, proxy.client().map(|c| c.as_slice().to_vec()), rest.len())
    }

    #[test]
    fn both_versions_name_the_client_and_leave_what_follows() {
        let v1 = b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 3306\r\nrest";
        assert_eq!(read(v1), (Progress::Complete, Some(b"192.0.2.7".to_vec()), 4));
        let mut v2 = V2_SIGNATURE.to_vec();
        v2.extend([0x21, 0x11, 0, 12, 192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x67, 0x0c, 0xea]);
        assert_eq!(read(&v2), (Progress::Complete, Some(b"192.0.2.7".to_vec()), 0));
        let mut v6 = V2_SIGNATURE.to_vec();
        v6.extend([0x21, 0x21, 0, 36]);
        v6.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        v6.extend([0; 20]);
        assert_eq!(read(&v6), (Progress::Complete, Some(b"2001:db8::1".to_vec()), 0));
    }

    #[test]
    fn a_header_without_an_address_names_nobody() {
        assert_eq!(read(b"PROXY UNKNOWN\r\n"), (Progress::Complete, None, 0));
        let mut local = V2_SIGNATURE.to_vec();
        local.extend([0x20, 0, 0, 0]);
        assert_eq!(read(&local), (Progress::Complete, None, 0));
    }

    #[test]
    fn a_header_that_never_ends_is_malformed() {
        let mut endless = b"PROXY ".to_vec();
        endless.resize(4096, b'x');
        assert_eq!(read(&endless).0, Progress::Malformed);
        assert_eq!(read(b"\r\n\r\nGET / HTTP/1.1\r\n").0, Progress::Malformed);
    }
}
