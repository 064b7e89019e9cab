//! Counting another thread's instructions from outside, as `perf stat -t` does: the judge of what perquery says.
//!
//! # Safety
//!
//! `unsafe` is used for perf_event_open(2) with an attribute of our own, and to own the descriptor it gives.
#![allow(unsafe_code)]

use perf_event_open_sys::bindings::{PERF_COUNT_HW_INSTRUCTIONS, PERF_TYPE_HARDWARE, perf_event_attr};
use std::fs::File;
use std::io::Read;
use std::os::fd::FromRawFd;

/// Instructions of a thread in user and in kernel mode.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Instructions {
    /// In user mode.
    pub user: u64,
    /// In kernel mode, on the thread's behalf or while it ran.
    pub kernel: u64,
}

impl Instructions {
    /// Both.
    pub fn all(self) -> u64 {
        self.user + self.kernel
    }

    /// What came after `before`.
    pub fn since(self, before: Instructions) -> Instructions {
        Instructions { user: self.user - before.user, kernel: self.kernel - before.kernel }
    }
}

/// A thread that is being watched.
pub struct Watched {
    user: File,
    kernel: File,
}

impl Watched {
    /// Watches the thread from now on.
    pub fn start(thread: u32) -> Self {
        Watched { user: open(thread, false), kernel: open(thread, true) }
    }

    /// So far.
    pub fn read(&mut self) -> Instructions {
        Instructions { user: value(&mut self.user), kernel: value(&mut self.kernel) }
    }
}

fn open(thread: u32, kernel: bool) -> File {
    let mut attr = perf_event_attr {
        type_: PERF_TYPE_HARDWARE,
        config: u64::from(PERF_COUNT_HW_INSTRUCTIONS),
        size: size_of::<perf_event_attr>() as u32,
        ..Default::default()
    };
    attr.set_exclude_user(u64::from(kernel));
    attr.set_exclude_kernel(u64::from(!kernel));
    attr.set_exclude_hv(1);
    let close_on_exec: libc::c_ulong = 8;
    // SAFETY: the attribute is whole and outlives the call.
    let fd =
        unsafe { libc::syscall(libc::SYS_perf_event_open, &raw mut attr, thread, -1, -1, close_on_exec) };
    assert!(fd >= 0, "perf_event_open: {}", std::io::Error::last_os_error());
    // SAFETY: a descriptor that nobody else owns.
    unsafe { File::from_raw_fd(fd as i32) }
}

fn value(event: &mut File) -> u64 {
    let mut bytes = [0; 8];
    event.read_exact(&mut bytes).expect("an event can be read");
    u64::from_ne_bytes(bytes)
}
