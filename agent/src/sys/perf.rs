//! perf_event_open(2) for the calling thread, and what can be done with the descriptor it gives.
//!
//! # Safety
//!
//! `unsafe` is used for system calls whose pointers are to local variables or to slices of the caller, and for the
//! mapping of an event's page, which [`Page`] owns until [`Page::unmap`].
#![allow(unsafe_code)]

use super::{Errno, syscall};
use core::ptr::NonNull;
use perf_event_open_sys::bindings::{
    self, PERF_FLAG_FD_CLOEXEC, PERF_FORMAT_GROUP, PERF_FORMAT_ID, PERF_FORMAT_TOTAL_TIME_ENABLED,
    PERF_FORMAT_TOTAL_TIME_RUNNING, perf_event_attr, perf_event_mmap_page,
};

/// What to open: the part of perf_event_attr that the agent varies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventRequest {
    /// perf_event_attr.type.
    pub kind: u32,
    /// perf_event_attr.config.
    pub config: u64,
    /// perf_event_attr.config1: on aarch64, bit 1 asks for user-space reads.
    pub config1: u64,
    /// Do not count in user mode.
    pub exclude_user: bool,
    /// Do not count in kernel mode.
    pub exclude_kernel: bool,
    /// Open it disabled: for a group's leader, which [`enable`] starts together with its members.
    pub disabled: bool,
}

/// How many words a read of a group begins with: number of events, time enabled, time running.
pub const GROUP_HEAD_WORDS: usize = 3;
/// How many words follow for each event of the group: value, id.
pub const GROUP_EVENT_WORDS: usize = 2;

/// Opens an event on the calling thread, on whatever CPU it runs, in the group of `group_fd` (−1: a group of its own).
///
/// Never counts the hypervisor, is not inherited, is closed on exec.
pub fn open(request: &EventRequest, group_fd: i32) -> Result<i32, Errno> {
    let mut attr = perf_event_attr { type_: request.kind, config: request.config, ..Default::default() };
    attr.size = size_of::<perf_event_attr>() as u32;
    attr.__bindgen_anon_3.config1 = request.config1;
    attr.read_format = (PERF_FORMAT_GROUP
        | PERF_FORMAT_ID
        | PERF_FORMAT_TOTAL_TIME_ENABLED
        | PERF_FORMAT_TOTAL_TIME_RUNNING) as u64;
    attr.set_disabled(u64::from(request.disabled));
    attr.set_exclude_user(u64::from(request.exclude_user));
    attr.set_exclude_kernel(u64::from(request.exclude_kernel));
    attr.set_exclude_hv(1);
    let (this_thread, any_cpu) = (0, usize::MAX);
    let attr = (&raw mut attr) as usize;
    let args = [attr, this_thread, any_cpu, group_fd as usize, PERF_FLAG_FD_CLOEXEC as usize, 0];
    // SAFETY: `attr` is a whole perf_event_attr that outlives the call; the kernel may write its size field.
    unsafe { syscall(libc::SYS_perf_event_open, args) }.map(|fd| fd as i32)
}

/// The event's id, unique in this boot; the proof that `fd` still is that event and not a recycled number.
#[inline]
pub fn event_id(fd: i32) -> Result<u64, Errno> {
    let mut id = 0u64;
    let to = (&raw mut id) as usize;
    // SAFETY: a perf descriptor writes one u64 to `id`; every other kind of file refuses the request (ENOTTY), whose
    // number says "reads 8 bytes".
    unsafe { syscall(libc::SYS_ioctl, [fd as usize, bindings::ID as usize, to, 0, 0, 0]) }?;
    Ok(id)
}

/// Starts an event that was opened disabled, and with it the members of its group.
pub fn enable(fd: i32) -> Result<(), Errno> {
    // SAFETY: the request has no pointer argument.
    unsafe { syscall(libc::SYS_ioctl, [fd as usize, bindings::ENABLE as usize, 0, 0, 0, 0]) }.map(drop)
}

/// Reads a group into `to`; how many words came. Only for a descriptor whose [`event_id`] was just checked.
#[inline]
pub fn read_group(fd: i32, to: &mut [u64]) -> Result<usize, Errno> {
    let args = [fd as usize, to.as_mut_ptr() as usize, size_of_val(to), 0, 0, 0];
    // SAFETY: the kernel writes at most `size_of_val(to)` bytes into `to`.
    unsafe { syscall(libc::SYS_read, args) }.map(|bytes| bytes / size_of::<u64>())
}

/// The mapped page of an event, for reading the counter without a system call.
///
/// It has no destructor: a forked child does not have the mapping (the kernel leaves it out), so it has to drop this
/// value without touching it.
#[derive(Debug)]
pub struct Page(NonNull<perf_event_mmap_page>);

/// Length of the mapping: one page. The kernel rounds up where pages are larger.
const PAGE_BYTES: usize = 4096;

impl Page {
    /// Maps the page of the event behind `fd`.
    pub fn map(fd: i32) -> Result<Page, Errno> {
        let args = [0, PAGE_BYTES, libc::PROT_READ as usize, libc::MAP_SHARED as usize, fd as usize, 0];
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory in use.
        let address = unsafe { syscall(libc::SYS_mmap, args) }?;
        NonNull::new(address as *mut perf_event_mmap_page).map(Page).ok_or(Errno(libc::ENOMEM))
    }

    /// Where it is. The kernel writes to it at any time: volatile reads only.
    #[inline]
    pub fn address(&self) -> *const perf_event_mmap_page {
        self.0.as_ptr()
    }

    /// Gives the mapping back.
    pub fn unmap(self) {
        // SAFETY: the range was mapped by `map`, and `self` was the only handle.
        let _ = unsafe { syscall(libc::SYS_munmap, [self.0.as_ptr() as usize, PAGE_BYTES, 0, 0, 0, 0]) };
    }

    /// A page that a test wrote.
    #[cfg(test)]
    pub fn scripted(page: &'static mut perf_event_mmap_page) -> Page {
        Page(NonNull::from(page))
    }
}
