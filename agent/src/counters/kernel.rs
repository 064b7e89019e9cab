//! What the counters ask of the kernel, as a trait, so that every failure can be played to them by a script.
//!
//! # Safety
//!
//! `unsafe` is used to pass on the conditions of reading a counter register.
#![allow(unsafe_code)]

use super::rdpmc;
use super::seccomp;
use super::unavailable::Unavailable;
use super::user_space::UserSpaceReads;
use crate::sys::perf::{self, EventRequest, Page};
use crate::sys::time::{self, ThreadUsage};
use crate::sys::{Errno, process};

/// The kernel's side of the counters of the calling thread.
pub(super) trait Kernel {
    fn thread_cpu_ns(&mut self) -> Result<u64, Errno>;
    fn thread_usage(&mut self) -> Result<ThreadUsage, Errno>;
    /// A reason for not even trying perf_event_open.
    fn forbidden(&mut self) -> Option<Unavailable>;
    /// The soft limit of open descriptors, and the lowest number that our descriptors should have.
    fn descriptor_limits(&mut self) -> (u64, i32);
    fn open(&mut self, request: &EventRequest, group_fd: i32) -> Result<i32, Errno>;
    /// A number of at least `floor` for `fd`, or `fd` itself where that fails.
    fn move_high(&mut self, fd: i32, floor: i32) -> i32;
    fn close(&mut self, fd: i32);
    fn event_id(&mut self, fd: i32) -> Result<u64, Errno>;
    fn enable(&mut self, fd: i32) -> Result<(), Errno>;
    fn read_group(&mut self, fd: i32, to: &mut [u64]) -> Result<usize, Errno>;
    /// A reason for not even trying to read in user space.
    fn user_reads_forbidden(&mut self) -> Option<UserSpaceReads>;
    fn map_page(&mut self, fd: i32) -> Result<Page, Errno>;
    fn unmap_page(&mut self, page: Page);
    /// # Safety
    ///
    /// An event's page must say that this thread may read register `index` now.
    unsafe fn counter_register(&mut self, index: u32) -> Option<u64>;
}

/// The kernel that we run on.
#[derive(Debug)]
pub(super) struct Linux;

impl Kernel for Linux {
    #[inline]
    fn thread_cpu_ns(&mut self) -> Result<u64, Errno> {
        time::thread_cpu_ns()
    }

    #[inline]
    fn thread_usage(&mut self) -> Result<ThreadUsage, Errno> {
        time::thread_usage()
    }

    fn forbidden(&mut self) -> Option<Unavailable> {
        seccomp::verdict().err()
    }

    fn descriptor_limits(&mut self) -> (u64, i32) {
        (process::descriptor_limits().0, process::high_descriptor_floor())
    }

    fn open(&mut self, request: &EventRequest, group_fd: i32) -> Result<i32, Errno> {
        perf::open(request, group_fd)
    }

    fn move_high(&mut self, fd: i32, floor: i32) -> i32 {
        process::move_high(fd, floor)
    }

    fn close(&mut self, fd: i32) {
        process::close(fd);
    }

    #[inline]
    fn event_id(&mut self, fd: i32) -> Result<u64, Errno> {
        perf::event_id(fd)
    }

    fn enable(&mut self, fd: i32) -> Result<(), Errno> {
        perf::enable(fd)
    }

    #[inline]
    fn read_group(&mut self, fd: i32, to: &mut [u64]) -> Result<usize, Errno> {
        perf::read_group(fd, to)
    }

    fn user_reads_forbidden(&mut self) -> Option<UserSpaceReads> {
        if rdpmc::on_valgrind() {
            return Some(UserSpaceReads::Valgrind);
        }
        match seccomp::is_traced() {
            Some(false) => None,
            Some(true) => Some(UserSpaceReads::Traced),
            None => Some(UserSpaceReads::Unproven),
        }
    }

    fn map_page(&mut self, fd: i32) -> Result<Page, Errno> {
        Page::map(fd)
    }

    fn unmap_page(&mut self, page: Page) {
        page.unmap();
    }

    #[inline]
    unsafe fn counter_register(&mut self, index: u32) -> Option<u64> {
        // SAFETY: the caller vouches for it.
        unsafe { rdpmc::counter(index) }
    }
}
