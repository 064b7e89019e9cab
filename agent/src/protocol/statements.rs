//! Which text a session's prepared statement has.

/// A text by its content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TextRef {
    /// [`content_hash`](crate::hash::content_hash) of the bytes kept (at most [`TEXT_CAP`](super::TEXT_CAP)); 0: no text.
    pub hash: u64,
    /// Length of the whole text in bytes, kept or not.
    pub full_len: u32,
}

/// How many prepared statements a session may have before the oldest is forgotten. Drivers cache a few hundred at
/// most; 16 bytes each keep a session's state within a few pages.
pub const STATEMENTS_CAP: usize = 512;

#[derive(Clone, Copy)]
struct Entry {
    key: u64,
    text: TextRef,
}

/// Prepared statements of one session: MySQL id, or hash of a PostgreSQL statement's name → text.
///
/// A set of [`STATEMENTS_CAP`] entries in groups of eight: a key lives in one group only, so that a look-up touches two
/// cache lines. When a group is full its oldest entry makes room, and the loss is counted.
pub struct StatementMap {
    entries: [Entry; STATEMENTS_CAP],
    evicted: u64,
}

const GROUP: usize = 8;

impl StatementMap {
    /// An empty map.
    pub const fn new() -> Self {
        StatementMap {
            entries: [Entry { key: 0, text: TextRef { hash: 0, full_len: 0 } }; STATEMENTS_CAP],
            evicted: 0,
        }
    }

    fn group(&self, key: u64) -> usize {
        let spread = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        (spread as usize % (STATEMENTS_CAP / GROUP)) * GROUP
    }

    /// The text of statement `key`, if it is known.
    #[inline(always)]
    pub fn text(&self, key: u64) -> Option<TextRef> {
        let group = self.entries.get(self.group(key)..)?.first_chunk::<GROUP>()?;
        let [first, others @ ..] = group;
        // Nearly always it has its group for itself.
        if first.key == key && first.text.hash != 0 {
            Some(first.text)
        } else {
            Self::text_among(others, key)
        }
    }

    #[cold]
    #[inline(never)]
    fn text_among(entries: &[Entry], key: u64) -> Option<TextRef> {
        entries.iter().find(|e| e.text.hash != 0 && e.key == key).map(|e| e.text)
    }

    /// Statement `key` has text `text` from now on.
    pub fn insert(&mut self, key: u64, text: TextRef) {
        self.remove(key);
        let start = self.group(key);
        let Some(group) = self.entries.get_mut(start..start + GROUP) else { return };
        // Entries of a group are kept youngest first: shift all down by one; what falls off is the oldest.
        if group.last().is_some_and(|e| e.text.hash != 0) {
            self.evicted += 1;
        }
        group.copy_within(..GROUP - 1, 1);
        if let Some(first) = group.first_mut() {
            *first = Entry { key, text };
        }
    }

    /// Forgets statement `key`.
    pub fn remove(&mut self, key: u64) {
        let start = self.group(key);
        let Some(group) = self.entries.get_mut(start..start + GROUP) else { return };
        if let Some(at) = group.iter().position(|e| e.text.hash != 0 && e.key == key) {
            group.copy_within(at + 1.., at);
            if let Some(last) = group.last_mut() {
                last.text = TextRef::default();
            }
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        for entry in &mut self.entries {
            // Reading first keeps untouched pages untouched.
            if entry.text.hash != 0 {
                entry.text = TextRef::default();
            }
        }
    }

    /// How many statements had to make room.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }
}

impl Default for StatementMap {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(n: u64) -> TextRef {
        TextRef { hash: n + 1, full_len: n as u32 }
    }

    #[test]
    fn statements_are_found_until_closed_and_the_oldest_makes_room() {
        let mut map = StatementMap::new();
        for id in 0..100 {
            map.insert(id, text(id));
        }
        assert_eq!(map.text(42), Some(text(42)));
        map.insert(42, text(1042));
        assert_eq!(map.text(42), Some(text(1042)));
        map.remove(42);
        assert_eq!(map.text(42), None);
        for id in 1000..3000 {
            map.insert(id, text(id));
        }
        assert_eq!(map.text(2999), Some(text(2999)));
        assert!(map.evicted() > 1000);
        map.clear();
        assert_eq!(map.text(2999), None);
    }
}
