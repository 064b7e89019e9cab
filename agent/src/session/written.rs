//! Where a server writes to a session's socket from: what it is about to write can be looked at before the real call then.
//!
//! After the real call the bytes that the kernel took are there, without doubt. Before it, they are if the program is sound; and
//! one that is not has EFAULT to expect of its write, and no crash. So bytes are looked at ahead only in a buffer of which the
//! kernel has taken as many before: servers write from one buffer, again and again.
//!
//! What is looked at ahead need not be looked at afterwards: the hook jumps to the real call, whose answer it never sees. Should
//! the kernel take less than all, or nothing for the moment, the server writes the rest, which ends where the whole ended.

use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// Of one session. (Relaxed, everywhere: a session is handed from thread to thread by the server's own synchronisation, and all
/// of this is addresses to compare with.)
pub struct Written {
    /// The buffer that the kernel has taken bytes from; 0: none.
    from: AtomicUsize,
    /// So many bytes, at most, at a time.
    bytes: AtomicU32,
    /// The lower half of the end of what was looked at ahead last, if nothing else was written since; 0: nothing.
    seen_to: AtomicU32,
}

impl Written {
    /// Of a session that has written nothing.
    pub(super) fn forget(&self) {
        self.from.store(0, Ordering::Relaxed);
        self.seen_to.store(0, Ordering::Relaxed);
    }

    /// True when `len` bytes at `buffer`, which are about to be written, may be looked at.
    #[inline(always)]
    pub(super) fn may_be_seen(&self, buffer: usize, len: usize) -> bool {
        buffer == self.from.load(Ordering::Relaxed)
            && len <= self.bytes.load(Ordering::Relaxed) as usize
            && buffer != 0
    }

    /// They were looked at, and the real call follows.
    #[inline(always)]
    pub(super) fn saw(&self, buffer: usize, len: usize) {
        self.seen_to.store(end_of(buffer, len), Ordering::Relaxed);
    }

    /// True when these bytes are what is left of those that were looked at: the kernel has taken some of them, not all.
    #[inline(always)]
    pub(super) fn is_rest(&self, buffer: usize, len: usize) -> bool {
        let taken = buffer.wrapping_sub(self.from.load(Ordering::Relaxed));
        taken != 0 && taken < self.bytes.load(Ordering::Relaxed) as usize && self.ends_there(buffer, len)
    }

    /// True when these bytes are those that were looked at: the kernel has taken none of them for the moment.
    #[inline(always)]
    pub(super) fn is_again(&self, buffer: usize, len: usize) -> bool {
        buffer == self.from.load(Ordering::Relaxed) && self.ends_there(buffer, len)
    }

    #[inline(always)]
    fn ends_there(&self, buffer: usize, len: usize) -> bool {
        let seen_to = self.seen_to.load(Ordering::Relaxed);
        len != 0 && seen_to != 0 && end_of(buffer, len) == seen_to
    }

    /// The kernel has taken these bytes, which were not looked at before.
    #[inline(always)]
    pub(super) fn took(&self, buffer: usize, len: usize) {
        let len = u32::try_from(len).unwrap_or(0);
        if buffer != self.from.load(Ordering::Relaxed) || len > self.bytes.load(Ordering::Relaxed) {
            self.from.store(buffer, Ordering::Relaxed);
            self.bytes.store(len, Ordering::Relaxed);
        }
        self.seen_to.store(0, Ordering::Relaxed);
    }
}

fn end_of(buffer: usize, len: usize) -> u32 {
    buffer.wrapping_add(len) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> Written {
        Written { from: AtomicUsize::new(0), bytes: AtomicU32::new(0), seen_to: AtomicU32::new(0) }
    }

    #[test]
    fn only_what_the_kernel_has_found_to_be_there_may_be_looked_at_ahead() {
        let w = written();
        assert!(!w.may_be_seen(4096, 1), "nothing was ever written");
        w.took(4096, 100);
        assert!(w.may_be_seen(4096, 100) && w.may_be_seen(4096, 7));
        assert!(!w.may_be_seen(4096, 101), "further on may be nothing");
        assert!(!w.may_be_seen(8, 7) && !w.may_be_seen(4097, 7) && !w.may_be_seen(0, 0));
        w.took(4096, 20);
        assert!(w.may_be_seen(4096, 100), "less was taken, but more is there");
        w.took(8192, 10);
        assert!(w.may_be_seen(8192, 10) && !w.may_be_seen(4096, 100), "one buffer is remembered");
        w.forget();
        assert!(!w.may_be_seen(8192, 10));
    }

    #[test]
    fn a_rest_ends_where_the_whole_ended_and_nothing_else_does() {
        let w = written();
        assert!(!w.is_rest(0, 0));
        w.took(4096, 100);
        assert!(!w.is_rest(4100, 96) && !w.is_again(4096, 100), "it was not looked at");
        w.saw(4096, 80);
        assert!(w.is_again(4096, 80) && !w.is_again(4096, 79) && !w.is_again(4100, 76));
        assert!(w.is_rest(4100, 76) && !w.is_rest(4096, 80));
        assert!(!w.is_rest(4176, 0) && !w.is_rest(4100, 75) && !w.is_rest(9000, 76));
        w.took(9000, 76);
        assert!(!w.is_rest(4100, 76), "something else was written since");
    }
}
