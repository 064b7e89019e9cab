//! Which TLS connection (`SSL*`) is which session.
//!
//! Learnt from the nested call: the first read or write on a session's socket inside an SSL_* call tells the pair.
//! SSL_get_fd would not do: PostgreSQL 18 gives its connections no descriptor.

use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

const ENTRIES: usize = 1 << 15;
const PROBES: usize = 16;

/// Open addressing with a bounded number of probes. Entries belong to live sessions only; one that finds no place is
/// not followed.
pub struct SslMap {
    keys: [AtomicUsize; ENTRIES],
    sessions: [AtomicU32; ENTRIES],
}

/// Marks a place whose entry was removed.
const TOMB: usize = 1;

impl SslMap {
    /// Empty; 384 KiB of which only used pages take memory.
    pub const fn new() -> Self {
        SslMap {
            keys: [const { AtomicUsize::new(0) }; ENTRIES],
            sessions: [const { AtomicU32::new(0) }; ENTRIES],
        }
    }

    fn places(&self, ssl: usize) -> impl Iterator<Item = (&AtomicUsize, &AtomicU32)> {
        // Allocations are 16-byte aligned: the low bits say nothing.
        let first = (ssl >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        (0..PROBES).filter_map(move |n| {
            let at = (first + n) % ENTRIES;
            Some((self.keys.get(at)?, self.sessions.get(at)?))
        })
    }

    /// The session (number + 1) of `ssl`; 0: none.
    pub fn session(&self, ssl: usize) -> u32 {
        for (key, session) in self.places(ssl) {
            match key.load(Ordering::Acquire) {
                found if found == ssl => return session.load(Ordering::Relaxed),
                0 => return 0,
                _ => {}
            }
        }
        0
    }

    /// Enters a pair; false when there is no place.
    pub fn insert(&self, ssl: usize, session: u32) -> bool {
        self.remove(ssl);
        for (key, slot) in self.places(ssl) {
            let found = key.load(Ordering::Relaxed);
            // Claimed with TOMB's neighbour value first would let a reader see the key before the session; the session is
            // read only by the thread that uses this connection, which is the one that enters it.
            if found <= TOMB && key.compare_exchange(found, ssl, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            {
                slot.store(session, Ordering::Release);
                return true;
            }
        }
        false
    }

    /// Removes `ssl`.
    pub fn remove(&self, ssl: usize) {
        for (key, session) in self.places(ssl) {
            match key.load(Ordering::Acquire) {
                found if found == ssl => {
                    session.store(0, Ordering::Relaxed);
                    key.store(TOMB, Ordering::Release);
                    return;
                }
                0 => return,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_come_and_go_without_filling_the_map() {
        static MAP: SslMap = SslMap::new();
        for round in 0..200_000usize {
            let ssl = 0x7f00_0000_0000 + (round % 5000) * 0x340;
            assert!(MAP.insert(ssl, round as u32 + 1));
            assert_eq!(MAP.session(ssl), round as u32 + 1);
            if round % 3 != 0 {
                MAP.remove(ssl);
                assert_eq!(MAP.session(ssl), 0);
            }
        }
        assert_eq!(MAP.session(0x1234_5670), 0);
    }
}
