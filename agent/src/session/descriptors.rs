//! Which descriptor is which session.
//!
//! # Safety
//!
//! `unsafe` is used to turn the address of a page, mapped for good and never unmapped, back into a reference.
#![allow(unsafe_code)]

use crate::sys::memory;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

const PAGE_ENTRIES: usize = 1024;
const PAGES: usize = 1024;

type Page = [AtomicU32; PAGE_ENTRIES];

/// Descriptor → session number + 1, or 0. Two levels, so that a process pays 4 KiB for each 1,024 descriptors
/// that ever held a session; descriptors from 2²⁰ on are not followed.
#[repr(C)]
pub struct Descriptors {
    /// Of descriptors from [`PAGE_ENTRIES`] on.
    more: [AtomicPtr<Page>; PAGES - 1],
    /// Of the others. Last, so that what stands behind this table is near.
    first: AtomicPtr<Page>,
}

impl Descriptors {
    /// No sessions.
    pub const fn new() -> Self {
        Descriptors {
            more: [const { AtomicPtr::new(core::ptr::null_mut()) }; PAGES - 1],
            first: AtomicPtr::new(core::ptr::null_mut()),
        }
    }

    /// Where the address of the page for `fd` is.
    #[inline(always)]
    fn place(&self, fd: i32) -> Option<&AtomicPtr<Page>> {
        match fd as u32 as usize / PAGE_ENTRIES {
            0 => Some(&self.first),
            n => self.more.get(n - 1),
        }
    }

    #[inline(always)]
    fn page(&self, fd: i32) -> Option<&Page> {
        let page = self.place(fd)?.load(Ordering::Acquire);
        // SAFETY: a page's pointer is null or was stored by `set` after the page had been mapped for good.
        unsafe { page.as_ref() }
    }

    /// What `fd` is; 0: nothing of interest.
    #[inline(always)]
    pub fn at(&self, fd: i32) -> u32 {
        match self.page(fd) {
            // Relaxed: the session's own lock orders everything else.
            Some(page) => {
                page.get(fd as u32 as usize % PAGE_ENTRIES).map_or(0, |e| e.load(Ordering::Relaxed))
            }
            None => 0,
        }
    }

    /// Enters `value` for `fd`; what stood there before, or `None` when there is no place for it.
    pub fn set(&self, fd: i32, value: u32) -> Option<u32> {
        let slot = self.place(fd)?;
        if slot.load(Ordering::Acquire).is_null() {
            if value == 0 {
                return Some(0);
            }
            let fresh = memory::map_private(size_of::<Page>()).ok()?.cast::<Page>();
            // The loser of a race leaves its page unused: 4 KiB once.
            let _ = slot.compare_exchange(core::ptr::null_mut(), fresh, Ordering::AcqRel, Ordering::Acquire);
        }
        let entry = self.page(fd)?.get(fd as u32 as usize % PAGE_ENTRIES)?;
        Some(entry.swap(value, Ordering::AcqRel))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_remembered_and_impossible_ones_are_nothing() {
        static TABLE: Descriptors = Descriptors::new();
        assert_eq!(TABLE.at(5), 0);
        assert_eq!(TABLE.set(5, 7), Some(0));
        assert_eq!(TABLE.set(70_000, 8), Some(0));
        assert_eq!((TABLE.at(5), TABLE.at(70_000), TABLE.at(6)), (7, 8, 0));
        assert_eq!(TABLE.set(5, 0), Some(7));
        assert_eq!(TABLE.at(-1), 0);
        assert_eq!(TABLE.set(-1, 3), None);
        assert_eq!(TABLE.set(1 << 20, 3), None);
    }
}
