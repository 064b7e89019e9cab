//! Hash tables for keys that are hashes or numbers already, and the table of strings.

use perquery_agent::hash::content_hash;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

/// A table whose keys are 64-bit hashes or numbers. They come from another process: a secret of this one is mixed in, so
/// that nobody can choose keys that collide.
pub type HashedMap<V> = HashMap<u64, V, MixBuilder>;

/// Builds [`Mix`] hashers that share one secret.
#[derive(Clone, Copy)]
pub struct MixBuilder(u64);

impl Default for MixBuilder {
    fn default() -> Self {
        MixBuilder(RandomState::new().hash_one(0) | 1)
    }
}

impl BuildHasher for MixBuilder {
    type Hasher = Mix;
    fn build_hasher(&self) -> Mix {
        Mix { secret: self.0, state: 0 }
    }
}

/// One multiplication per number.
pub struct Mix {
    secret: u64,
    state: u64,
}

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.state
    }
    fn write(&mut self, bytes: &[u8]) {
        self.write_u64(content_hash(bytes));
    }
    fn write_u64(&mut self, n: u64) {
        let wide = u128::from(n ^ self.state ^ self.secret).wrapping_mul(u128::from(self.secret));
        self.state = (wide as u64) ^ ((wide >> 64) as u64);
    }
}

/// One number out of several.
pub fn combined(numbers: &[u64]) -> u64 {
    numbers.iter().fold(0x6a09_e667_f3bc_c908, |state, n| {
        let wide = u128::from(state ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15_d6e8_feb8_6659_fd93);
        ((wide as u64) ^ ((wide >> 64) as u64)).rotate_left(23)
    })
}

/// Strings by number, each stored once. Bounded: beyond [`Strings::MAX`] all new ones are `(other)`.
#[derive(Default)]
pub struct Strings {
    numbers: HashedMap<u32>,
    strings: Vec<Box<str>>,
}

impl Strings {
    /// How many different strings are kept.
    pub const MAX: usize = 65_536;

    /// The number of `string`.
    pub fn number(&mut self, string: &str) -> u32 {
        let hash = content_hash(string.as_bytes());
        if let Some(number) = self.numbers.get(&hash) {
            return *number;
        }
        let string = if self.strings.len() + 1 >= Self::MAX { crate::aggregate::OTHER } else { string };
        let hash = content_hash(string.as_bytes());
        let next = self.strings.len() as u32;
        let number = *self.numbers.entry(hash).or_insert(next);
        if number == next {
            self.strings.push(string.into());
        }
        number
    }

    /// The string of `number`.
    pub fn string(&self, number: u32) -> &str {
        self.strings.get(number as usize).map_or("", |s| s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_stored_once_and_there_is_an_end_to_them() {
        let mut strings = Strings::default();
        let a = strings.number("a");
        assert_eq!((strings.number("a"), strings.string(a)), (a, "a"));
        for n in 0..70_000 {
            strings.number(&format!("user {n}"));
        }
        assert_eq!(strings.strings.len(), Strings::MAX);
        let other = strings.number("one more");
        assert_eq!(strings.string(other), "(other)");
        assert_eq!(strings.number("and another"), other);
        assert_eq!(strings.string(u32::MAX), "");
    }
}
