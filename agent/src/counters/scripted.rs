//! A kernel that plays what a test wants, and notes every sin against the host: descriptors leaked, a number closed or
//! read that was not ours.
//!
//! # Safety
//!
//! `unsafe` is the word of the trait for reading a register; this one is a variable.
#![allow(unsafe_code)]

use super::kernel::Kernel;
use super::unavailable::Unavailable;
use super::user_space::UserSpaceReads;
use crate::sys::Errno;
use crate::sys::perf::{EventRequest, Page};
use crate::sys::time::ThreadUsage;
use perf_event_open_sys::bindings::perf_event_mmap_page;
use std::boxed::Box;
use std::collections::{BTreeMap, BTreeSet};
use std::string::String;
use std::vec::Vec;
use std::{format, vec};

/// An event as the kernel sees it.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub id: u64,
    pub request: EventRequest,
    /// Descriptor of its leader; its own for a leader.
    pub leader: i32,
    pub enabled: bool,
}

/// The scripted kernel. Defaults: a PMU with 4 counters, everything permitted.
#[derive(Debug)]
pub(super) struct Scripted {
    /// Names of the calls so far.
    pub log: Vec<&'static str>,
    /// The call with this number (from 0) fails with this errno.
    pub fail: Option<(usize, i32)>,
    /// Each open fails so.
    pub open_fails: Option<i32>,
    /// Kernel mode is refused with this errno.
    pub kernel_mode_refused: Option<i32>,
    pub forbidden: Option<Unavailable>,
    /// Hardware events that fit into a group.
    pub pmu: usize,
    /// Groups of more than one hardware event never get onto the counters.
    pub groups_never_run: bool,
    pub descriptor_limit: u64,
    /// Of each 100 ns enabled, hardware events run so many.
    pub running_percent: u64,
    pub user_reads: Option<UserSpaceReads>,
    /// What a new page says; `None`: mapping fails with EPERM.
    pub page: Option<perf_event_mmap_page>,
    pub register: u64,
    pub events: BTreeMap<i32, Open>,
    /// Numbers that the host uses for something else now.
    pub host: BTreeSet<i32>,
    pub pages_mapped: i32,
    pub sins: Vec<String>,
    next_fd: i32,
    next_id: u64,
    /// Time and every counter advance by this much with each reading.
    now: u64,
}

impl Scripted {
    pub fn new() -> Self {
        Scripted {
            log: Vec::new(),
            fail: None,
            open_fails: None,
            kernel_mode_refused: None,
            forbidden: None,
            pmu: 4,
            groups_never_run: false,
            descriptor_limit: 1024,
            running_percent: 100,
            user_reads: None,
            page: Some(perf_event_mmap_page::default()),
            register: 0,
            events: BTreeMap::new(),
            host: BTreeSet::new(),
            pages_mapped: 0,
            sins: Vec::new(),
            next_fd: 3,
            next_id: 1000,
            now: 0,
        }
    }

    /// The host closes `fd` behind our back and gets the number for a file of its own.
    pub fn host_takes(&mut self, fd: i32) {
        self.events.remove(&fd);
        self.host.insert(fd);
    }

    fn call(&mut self, name: &'static str) -> Result<(), Errno> {
        let number = self.log.len();
        self.log.push(name);
        match self.fail {
            Some((at, errno)) if at == number => Err(Errno(errno)),
            _ => Ok(()),
        }
    }

    fn group(&self, leader: i32) -> Vec<Open> {
        self.events.values().filter(|event| event.leader == leader).cloned().collect()
    }
}

impl Kernel for Scripted {
    fn thread_cpu_ns(&mut self) -> Result<u64, Errno> {
        self.call("clock")?;
        self.now += 1000;
        Ok(self.now)
    }

    fn thread_usage(&mut self) -> Result<ThreadUsage, Errno> {
        self.call("usage")?;
        self.now += 1000;
        let n = self.now;
        Ok(ThreadUsage {
            page_faults_minor: n,
            page_faults_major: n / 10,
            switches_voluntary: n / 100,
            switches_involuntary: n / 1000,
            cpu_ns: n,
        })
    }

    fn forbidden(&mut self) -> Option<Unavailable> {
        self.forbidden
    }

    fn descriptor_limits(&mut self) -> (u64, i32) {
        (self.descriptor_limit, 900)
    }

    fn open(&mut self, request: &EventRequest, group_fd: i32) -> Result<i32, Errno> {
        self.call("open")?;
        if let Some(errno) = self.open_fails {
            return Err(Errno(errno));
        }
        if let Some(errno) = self.kernel_mode_refused
            && !request.exclude_kernel
        {
            return Err(Errno(errno));
        }
        if group_fd >= 0 {
            let Some(leader) = self.events.get(&group_fd) else { return Err(Errno(libc::EBADF)) };
            let hardware = leader.request.kind != 1;
            if hardware && self.group(group_fd).len() >= self.pmu {
                return Err(Errno(libc::EINVAL));
            }
        }
        let fd = self.next_fd;
        self.next_fd += 1;
        self.next_id += 1;
        let leader = if group_fd < 0 { fd } else { group_fd };
        let open = Open { id: self.next_id, request: *request, leader, enabled: !request.disabled };
        self.events.insert(fd, open);
        Ok(fd)
    }

    fn move_high(&mut self, fd: i32, floor: i32) -> i32 {
        if self.call("dup").is_err() {
            return fd;
        }
        let Some(mut event) = self.events.remove(&fd) else { return fd };
        let high = floor + fd;
        if event.leader == fd {
            event.leader = high;
        }
        self.events.insert(high, event);
        high
    }

    fn close(&mut self, fd: i32) {
        self.log.push("close");
        if self.events.remove(&fd).is_none() {
            self.sins.push(format!("closed {fd}, which was not ours"));
        }
    }

    fn event_id(&mut self, fd: i32) -> Result<u64, Errno> {
        self.call("id")?;
        match self.events.get(&fd) {
            Some(event) => Ok(event.id),
            None if self.host.contains(&fd) => Err(Errno(libc::ENOTTY)),
            None => Err(Errno(libc::EBADF)),
        }
    }

    fn enable(&mut self, fd: i32) -> Result<(), Errno> {
        self.call("enable")?;
        let event = self.events.get_mut(&fd).ok_or(Errno(libc::EBADF))?;
        event.enabled = true;
        Ok(())
    }

    fn read_group(&mut self, fd: i32, to: &mut [u64]) -> Result<usize, Errno> {
        self.call("read")?;
        let Some(leader) = self.events.get(&fd).cloned() else {
            self.sins.push(format!("read {fd}, which was not ours"));
            return Err(Errno(libc::EBADF));
        };
        self.now += 1000;
        let group = self.group(fd);
        let hardware = leader.request.kind != 1;
        let running = match hardware {
            _ if !leader.enabled => 0,
            true if self.groups_never_run && group.len() > 1 => 0,
            true => self.now * self.running_percent / 100,
            false => self.now,
        };
        let mut words = vec![group.len() as u64, self.now, running];
        for member in &group {
            // Each event counts as many per ns as its config says, plus one: so that they can be told apart.
            words.extend([(member.request.config + 1) * running, member.id]);
        }
        to[..words.len()].copy_from_slice(&words);
        Ok(words.len())
    }

    fn user_reads_forbidden(&mut self) -> Option<UserSpaceReads> {
        self.user_reads
    }

    fn map_page(&mut self, fd: i32) -> Result<Page, Errno> {
        self.call("mmap")?;
        if !self.events.contains_key(&fd) {
            self.sins.push(format!("mapped {fd}, which was not ours"));
        }
        let page = self.page.ok_or(Errno(libc::EPERM))?;
        self.pages_mapped += 1;
        Ok(Page::scripted(Box::leak(Box::new(page))))
    }

    fn unmap_page(&mut self, _page: Page) {
        self.log.push("munmap");
        self.pages_mapped -= 1;
    }

    unsafe fn counter_register(&mut self, _index: u32) -> Option<u64> {
        Some(self.register)
    }
}
