//! Which descriptor is which session.
//!
//! # Safety
//!
//! `unsafe` is used to turn the address of a page, or of a session's cell, back into a reference: both are mapped for good
//! and never unmapped.
#![allow(unsafe_code)]

use super::arena::Cell;
use crate::sys::memory;
use core::sync::atomic::{AtomicPtr, Ordering};

const PAGE_ENTRIES: usize = 1024;
const PAGES: usize = 1024;

type Page = [AtomicPtr<Cell>; PAGE_ENTRIES];

/// Descriptor → its session's cell, or nothing. The first 1,024 are here, for all others a process pays 8 KiB for each 1,024
/// descriptors that ever held a session; descriptors from 2²⁰ on are not followed.
#[repr(C)]
pub struct Descriptors {
    first: Page,
    /// Of descriptors from [`PAGE_ENTRIES`] on.
    more: [AtomicPtr<Page>; PAGES - 1],
}

impl Descriptors {
    /// No sessions.
    pub const fn new() -> Self {
        Descriptors {
            first: [const { AtomicPtr::new(core::ptr::null_mut()) }; PAGE_ENTRIES],
            more: [const { AtomicPtr::new(core::ptr::null_mut()) }; PAGES - 1],
        }
    }

    /// Where the address of the page for `fd` is, from [`PAGE_ENTRIES`] on.
    fn place(&self, fd: i32) -> Option<&AtomicPtr<Page>> {
        self.more.get((fd as u32 as usize / PAGE_ENTRIES).checked_sub(1)?)
    }

    fn entry(&self, fd: i32) -> Option<&AtomicPtr<Cell>> {
        let n = fd as u32 as usize;
        if n < PAGE_ENTRIES {
            return self.first.get(n);
        }
        let page = self.place(fd)?.load(Ordering::Acquire);
        // SAFETY: a page's pointer is null or was stored by `set` after the page had been mapped for good.
        unsafe { page.as_ref() }?.get(n % PAGE_ENTRIES)
    }

    /// The cell of the session whose socket `fd` is.
    pub fn at(&self, fd: i32) -> Option<&'static Cell> {
        let cell = self.entry(fd)?.load(Ordering::Relaxed);
        // SAFETY: as in `at_near`.
        unsafe { cell.as_ref() }
    }

    /// The same of a descriptor that is among the first; `None`: it is not.
    #[inline(always)]
    pub fn at_near(&self, fd: i32) -> Option<Option<&'static Cell>> {
        // Relaxed: the cell was there for all threads long before any of them could know the descriptor; its own lock
        // orders everything else.
        let cell = self.first.get(fd as u32 as usize)?.load(Ordering::Relaxed);
        // SAFETY: null, or the address of a `&'static Cell` stored by `set`.
        Some(unsafe { cell.as_ref() })
    }

    /// Enters `cell` for `fd`; false: there is no place for it.
    pub fn set(&self, fd: i32, cell: Option<&'static Cell>) -> bool {
        if let Some(slot) = self.place(fd)
            && slot.load(Ordering::Acquire).is_null()
        {
            if cell.is_none() {
                return true;
            }
            let Ok(fresh) = memory::map_private(size_of::<Page>()) else { return false };
            // The loser of a race leaves its page unused: 8 KiB once.
            let _ = slot.compare_exchange(
                core::ptr::null_mut(),
                fresh.cast::<Page>(),
                Ordering::AcqRel,
                Ordering::Acquire,
            );
        }
        let address = cell.map_or(core::ptr::null_mut(), |cell| core::ptr::from_ref(cell).cast_mut());
        self.entry(fd).map(|entry| entry.store(address, Ordering::Release)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::super::arena::Arena;
    use super::*;

    #[test]
    fn descriptors_are_remembered_and_impossible_ones_are_nothing() {
        static TABLE: Descriptors = Descriptors::new();
        static ARENA: Arena = Arena::new();
        let mut cells = [5, 70_000].map(|fd| ARENA.cell(ARENA.open(fd, 1, b"local").unwrap().0));
        let [first, second] = &mut cells;
        let uid = |fd| TABLE.at(fd).map(Cell::entry);
        assert_eq!(uid(5), None);
        assert!(TABLE.set(5, *first) && TABLE.set(70_000, *second));
        assert_eq!((uid(5), uid(70_000), uid(6)), (Some(1), Some(2), None));
        assert!(TABLE.set(5, None));
        assert_eq!(uid(5), None);
        assert_eq!(uid(-1), None);
        assert!(!TABLE.set(-1, *first) && !TABLE.set(1 << 20, *first));
    }
}
