//! The one word that hooks without a frame look at: is there anything to do?
//!
//! While a segment's capture is off that is the segment's own word, so that the collector's store opens every hook at
//! once, and closes it again, without a thread or a signal in the server.

use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering::Relaxed};

static NEVER: AtomicU64 = AtomicU64::new(0);
static ALWAYS: AtomicU64 = AtomicU64::new(1);

/// A pointer to the word: 0 means that a hook passes. Hooks read both by their own instructions.
#[repr(transparent)]
pub struct Gate(AtomicPtr<AtomicU64>);

/// This process's gate.
pub static GATE: Gate = Gate(AtomicPtr::new((&raw const NEVER).cast_mut()));

impl Gate {
    /// Hooks pass.
    pub fn shut(&self) {
        self.follow(&NEVER);
    }

    /// Hooks look closer. One load where they already do.
    #[inline]
    pub fn open(&self) {
        let always = (&raw const ALWAYS).cast_mut();
        if self.0.load(Relaxed) != always {
            self.0.store(always, Relaxed);
        }
    }

    /// Hooks look closer while `word` is not 0.
    pub fn follow(&self, word: &'static AtomicU64) {
        // Relaxed: a hook that looks closer reads everything anew, with Acquire.
        self.0.store(core::ptr::from_ref(word).cast_mut(), Relaxed);
    }
}
