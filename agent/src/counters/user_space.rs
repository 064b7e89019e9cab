//! Reading an event through its mapped page, without a system call.
//!
//! # Safety
//!
//! `unsafe` is used for volatile reads of a page that the kernel keeps writing to, and which lives as long as its
//! [`Page`]; and for the register read, whose conditions the page states.
#![allow(unsafe_code)]

use super::kernel::Kernel;
use crate::sys::perf::Page;
use core::ptr::addr_of;
use core::sync::atomic::{Ordering::Acquire, fence};

/// Whether user-space reads are used, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum UserSpaceReads {
    /// They were not asked for.
    NotWanted = 0,
    /// They are used.
    Used = 1,
    /// Valgrind does not emulate them.
    Valgrind = 2,
    /// The process is traced: by a debugger, strace, rr.
    Traced = 3,
    /// Whether the process is traced is not known.
    Unproven = 4,
    /// No event here can be read so: no hardware events, or the kernel does not offer it.
    NotOffered = 5,
    /// The limit of locked memory is reached, so the pages could not be mapped.
    LockedMemory = 6,
    /// The pages could not be mapped for another reason.
    NotMapped = 7,
}

impl UserSpaceReads {
    /// What is the matter, for people.
    pub fn why(self) -> &'static str {
        match self {
            UserSpaceReads::NotWanted => "not asked for",
            UserSpaceReads::Used => "used",
            UserSpaceReads::Valgrind => "valgrind does not emulate the instruction",
            UserSpaceReads::Traced => "the process is being traced",
            UserSpaceReads::Unproven => "/proc/self/status could not be read, so tracing can't be excluded",
            UserSpaceReads::NotOffered => {
                "the kernel does not offer it: no hardware events, /sys/devices/cpu/rdpmc is 0 (x86), or \
                 kernel.perf_user_access is 0 (aarch64)"
            }
            UserSpaceReads::LockedMemory => {
                "the limit of locked memory is reached (perf_event_mlock_kb, RLIMIT_MEMLOCK)"
            }
            UserSpaceReads::NotMapped => "the event's page could not be mapped",
        }
    }
}

/// A value read in user space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UserRead {
    pub value: u64,
    pub enabled_ns: u64,
    pub running_ns: u64,
}

/// Bit of perf_event_mmap_page.capabilities.
const CAP_USER_RDPMC: u64 = 1 << 2;
/// So often an update of the page may come in between before we take the system call.
const TRIES: u32 = 4;

/// True when the page says that its event can be read in user space.
pub(super) fn is_offered(page: &Page) -> bool {
    // SAFETY: the page is mapped as long as `page` exists.
    unsafe { addr_of!((*page.address()).__bindgen_anon_1.capabilities).read_volatile() & CAP_USER_RDPMC != 0 }
}

/// Reads the event behind `page`; `None`: use the system call. That is so whenever there is a doubt: the event is not on
/// a counter now, or once was not (then its times need the time stamp counter as well), or the page is being written.
#[inline(always)]
pub(super) fn read<K: Kernel>(kernel: &mut K, page: &Page) -> Option<UserRead> {
    let page = page.address();
    for _ in 0..TRIES {
        // SAFETY: the page is mapped as long as the `Page` exists; fields are read one by one, volatile.
        let (lock, offered, index, offset, enabled_ns, running_ns, width) = unsafe {
            let lock = addr_of!((*page).lock).read_volatile();
            fence(Acquire);
            (
                lock,
                addr_of!((*page).__bindgen_anon_1.capabilities).read_volatile() & CAP_USER_RDPMC != 0,
                addr_of!((*page).index).read_volatile(),
                addr_of!((*page).offset).read_volatile(),
                addr_of!((*page).time_enabled).read_volatile(),
                addr_of!((*page).time_running).read_volatile(),
                u32::from(addr_of!((*page).pmc_width).read_volatile()),
            )
        };
        if !offered || index == 0 || enabled_ns != running_ns || !(1..=64).contains(&width) {
            return None;
        }
        // SAFETY: the page has just said that this thread may read register `index`.
        let register = unsafe { kernel.counter_register(index) }?;
        fence(Acquire);
        // SAFETY: as above.
        if unsafe { addr_of!((*page).lock).read_volatile() } == lock && lock & 1 == 0 {
            let shift = 64 - width;
            let signed = ((register << shift) as i64) >> shift;
            // Linux on aarch64 takes the register for unsigned between a read(2) and the thread's next turn; a page that
            // is mapped in between has an offset that is 2^width too small.
            let value = u64::try_from(offset.wrapping_add(signed)).ok()?;
            return Some(UserRead { value, enabled_ns, running_ns });
        }
    }
    None
}
