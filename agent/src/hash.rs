//! The 64-bit content hash that names texts and identities in the segment.
//!
//! Both sides compute it: the agent to name what it stores, the collector to check that what it read is whole. It is
//! part of the segment's layout: changing it means a new layout version.

use crate::strings::rest_word;

const K0: u64 = 0x9e37_79b9_7f4a_7c15;
const K1: u64 = 0xd6e8_feb8_6659_fd93;

const fn mix(a: u64, b: u64) -> u64 {
    let wide = (a as u128).wrapping_mul(b as u128);
    (wide as u64) ^ ((wide >> 64) as u64)
}

/// Hash of `bytes`; never 0, so that 0 can mean "none".
pub fn content_hash(bytes: &[u8]) -> u64 {
    let mut state = mix(K0 ^ bytes.len() as u64, K1);
    let (chunks, _) = bytes.as_chunks::<8>();
    for chunk in chunks {
        state = mix(state ^ u64::from_le_bytes(*chunk), K0);
    }
    state = mix(state ^ rest_word(bytes), K1);
    let hash = mix(state, K0 ^ K1);
    if hash == 0 { 1 } else { hash }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::HashSet, format};

    #[test]
    fn a_text_has_the_hash_that_the_layout_promises() {
        // Of the version before; whoever changes it changes the layout's version too.
        assert_eq!(content_hash(b"SELECT 4711"), 0xc91d_3a66_b715_7037);
        assert_eq!(content_hash(b"P0_7"), 0xc195_658d_b4d6_01e6);
        assert_eq!(content_hash(b"s1"), 0x38ef_94e9_c098_601d);
    }

    #[test]
    fn different_short_texts_have_different_hashes_and_zero_is_never_one() {
        let mut seen = HashSet::new();
        for n in 0..100_000u32 {
            assert!(seen.insert(content_hash(format!("select {n}").as_bytes())));
        }
        assert_ne!(content_hash(b""), 0);
        assert_ne!(content_hash(b"a"), content_hash(b"a\0"));
    }
}
