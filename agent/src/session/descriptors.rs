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

/// Descriptor → its session's cell, or nothing. Two levels, so that a process pays 8 KiB for each 1,024 descriptors
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

    /// The cell of the session whose socket `fd` is.
    #[inline(always)]
    pub fn at(&self, fd: i32) -> Option<&'static Cell> {
        let entry = self.page(fd)?.get(fd as u32 as usize % PAGE_ENTRIES)?;
        // Relaxed: the cell was there for all threads long before any of them could know the descriptor; its own lock
        // orders everything else.
        let cell = entry.load(Ordering::Relaxed);
        // SAFETY: null, or the address of a `&'static Cell` stored by `set`.
        unsafe { cell.as_ref() }
    }

    /// Enters `cell` for `fd`; false: there is no place for it.
    pub fn set(&self, fd: i32, cell: Option<&'static Cell>) -> bool {
        let Some(slot) = self.place(fd) else { return false };
        if slot.load(Ordering::Acquire).is_null() {
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
        let entry = self.page(fd).and_then(|page| page.get(fd as u32 as usize % PAGE_ENTRIES));
        let address = cell.map_or(core::ptr::null_mut(), |cell| core::ptr::from_ref(cell).cast_mut());
        entry.map(|entry| entry.store(address, Ordering::Release)).is_some()
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
