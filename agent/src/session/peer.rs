//! A socket's peer as text: the `client` of a session.

use crate::strings::Bytes;
use core::fmt::Write as _;
use core::net::{Ipv4Addr, Ipv6Addr};

struct Writer<'a>(&'a mut Bytes<64>);

impl core::fmt::Write for Writer<'_> {
    fn write_str(&mut self, s: &str) -> core::fmt::Result {
        self.0.push(s.as_bytes());
        Ok(())
    }
}

/// The address in a `sockaddr` (ip(7), ipv6(7), unix(7)) without its port: `127.0.0.1`, `::1`, `local` for a unix socket,
/// empty for anything else. Without the port, so that all sessions of a host have one name.
pub fn client_of(address: &[u8]) -> Bytes<64> {
    let mut text = Bytes::new();
    let Some((family, rest)) = address.split_first_chunk::<2>() else { return text };
    match u16::from_ne_bytes(*family) as i32 {
        libc::AF_INET => {
            if let Some(ip) = rest.get(2..6).and_then(|b| b.first_chunk::<4>()) {
                let _ = write!(Writer(&mut text), "{}", Ipv4Addr::from(*ip));
            }
        }
        libc::AF_INET6 => {
            if let Some(ip) = rest.get(6..22).and_then(|b| b.first_chunk::<16>()) {
                let ip = Ipv6Addr::from(*ip);
                let _ = match ip.to_ipv4_mapped() {
                    Some(v4) => write!(Writer(&mut text), "{v4}"),
                    None => write!(Writer(&mut text), "{ip}"),
                };
            }
        }
        libc::AF_UNIX => text.set(b"local"),
        _ => {}
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_administrators_write_them() {
        assert_eq!(client_of(&[2, 0, 0x1f, 0x90, 10, 0, 0, 7, 0, 0]).as_slice(), b"10.0.0.7");
        let mut mapped = [0u8; 28];
        mapped[0] = 10;
        mapped[18..24].copy_from_slice(&[0xff, 0xff, 192, 168, 0, 1]);
        assert_eq!(client_of(&mapped).as_slice(), b"192.168.0.1");
        let mut six = [0u8; 28];
        six[0] = 10;
        six[23] = 1;
        assert_eq!(client_of(&six).as_slice(), b"::1");
        assert_eq!(client_of(&[1, 0]).as_slice(), b"local");
        assert!(client_of(&[1]).is_empty() && client_of(&[16, 0, 1, 2, 3]).is_empty());
    }
}
