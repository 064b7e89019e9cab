//! A session's identity as bytes: what the text store keeps under the identity's hash.
//!
//! Four strings, each as a little-endian u16 length and its bytes: user, database, application, client.

use crate::strings::Bytes;

/// Longest encoded identity in bytes.
pub const IDENTITY_MAX: usize = 8 + 128 + 192 + 128 + 64;

/// Encodes an identity.
pub fn encode(user: &[u8], database: &[u8], application: &[u8], client: &[u8]) -> Bytes<IDENTITY_MAX> {
    let mut to = Bytes::new();
    for field in [user, database, application, client] {
        let field = field.get(..192).unwrap_or(field);
        to.push(&(field.len() as u16).to_le_bytes());
        to.push(field);
    }
    to
}

/// Decodes what [`encode`] made: user, database, application, client. `None` when the lengths do not fit.
pub fn decode(from: &[u8]) -> Option<[&[u8]; 4]> {
    let mut rest = from;
    let mut fields: [&[u8]; 4] = [&[]; 4];
    for field in &mut fields {
        let (len, after) = rest.split_first_chunk::<2>()?;
        let (bytes, after) = after.split_at_checked(u16::from_le_bytes(*len) as usize)?;
        *field = bytes;
        rest = after;
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_the_store_and_damaged_ones_are_refused() {
        let encoded = encode(b"root", b"shop", b"sysbench", b"127.0.0.1");
        let decoded = decode(encoded.as_slice()).unwrap();
        assert_eq!(decoded, [&b"root"[..], b"shop", b"sysbench", b"127.0.0.1"]);
        assert!(decode(&encoded.as_slice()[..10]).is_none());
        assert!(decode(&[255, 255]).is_none());
    }
}
