//! Opening a thread's perf events: groups, and what to fall back to when the kernel refuses.

use super::budget::Budget;
use super::kernel::Kernel;
use super::rdpmc::USER_READ_CONFIG1;
use super::reading::PERF_EVENTS_MAX;
use super::table::{self, KIND_HARDWARE, KIND_HW_CACHE, KIND_RAW, KIND_SOFTWARE, UserMode};
use super::thread::{Event, ThreadCounters};
use super::unavailable::Unavailable;
use super::user_space::{self, UserSpaceReads};
use super::{CHEAP_MASK, COUNTERS_MAX, CUSTOM_FIRST, CounterId, Source, Wanted};
use crate::sys::Errno;
use crate::sys::perf::{EventRequest, GROUP_EVENT_WORDS, GROUP_HEAD_WORDS};

/// Bit of [`super::CustomEvent::modifiers`]: do not count user mode.
const EXCLUDE_USER: u32 = 1 << 0;
/// Bit of [`super::CustomEvent::modifiers`]: do not count kernel mode.
const EXCLUDE_KERNEL: u32 = 1 << 1;

/// What is the same for all events of one opening.
struct Limits {
    /// Soft limit of open descriptors.
    descriptors: u64,
    /// Lowest number that our descriptors should have.
    floor: i32,
    /// Kernel mode was refused once: not asked for again.
    user_mode_only: bool,
}

/// An event that the kernel gave.
struct Opened {
    fd: i32,
    id: u64,
    exclude_kernel: bool,
}

/// What to open for counter `id`. The control page is another process's word: only kinds of events that count are taken.
fn request(wanted: &Wanted, id: CounterId) -> Result<EventRequest, Unavailable> {
    let (kind, config, exclude_user, exclude_kernel) = if table::is_custom(id) {
        let event = wanted.custom.get(usize::from(id - CUSTOM_FIRST)).ok_or(Unavailable::Unknown)?;
        (event.kind, event.config, event.modifiers & EXCLUDE_USER != 0, event.modifiers & EXCLUDE_KERNEL != 0)
    } else {
        let row = table::info(id).ok_or(Unavailable::Unknown)?;
        if !matches!(row.source, Source::PerfHardware | Source::PerfSoftware) {
            return Err(Unavailable::Unknown);
        }
        let bit = 1u64 << id;
        (row.perf.0, row.perf.1, wanted.kernel_only & bit != 0, wanted.user_only & bit != 0)
    };
    if !matches!(kind, KIND_HARDWARE | KIND_SOFTWARE | KIND_HW_CACHE | KIND_RAW) {
        return Err(Unavailable::Unknown);
    }
    if exclude_user && exclude_kernel {
        return Err(Unavailable::NotSupported);
    }
    let user_space = wanted.user_space_reads != 0 && kind != KIND_SOFTWARE;
    let config1 = if user_space { USER_READ_CONFIG1 } else { 0 };
    Ok(EventRequest { kind, config, config1, exclude_user, exclude_kernel, disabled: false })
}

impl ThreadCounters {
    /// Opens the perf events of `wanted`: hardware events in one group, software events in another, so that they are not
    /// multiplexed together with them. Hardware first: where descriptors are few, nothing else knows what they know.
    pub(super) fn open_all<K: Kernel>(&mut self, k: &mut K, budget: &Budget, wanted: &Wanted) {
        // What the session counts itself is not opened here, and is no reason for a complaint.
        let session = |id: CounterId| table::info(id).is_some_and(|row| row.source == Source::Session);
        let perf = |id: &CounterId| wanted.mask & !CHEAP_MASK & (1 << id) != 0 && !session(*id);
        let ids = || (0..COUNTERS_MAX as CounterId).filter(perf);
        if let Some(reason) = k.forbidden() {
            ids().for_each(|id| self.mark(id, reason));
            return;
        }
        let (descriptors, floor) = k.descriptor_limits();
        let mut limits = Limits { descriptors, floor, user_mode_only: false };
        for hardware in [true, false] {
            let mut leader = None;
            for id in ids() {
                match request(wanted, id) {
                    Ok(request) if (request.kind != KIND_SOFTWARE) == hardware => {
                        self.add(k, budget, &mut limits, id, request, &mut leader);
                    }
                    Ok(_) => {}
                    Err(reason) => self.mark(id, reason),
                }
            }
        }
        self.start_groups(k, budget, wanted, &mut limits);
        if wanted.user_space_reads != 0 {
            self.user_space = self.map_pages(k);
        }
    }

    /// Opens one event as a member of the group of `leader`, or as the leader of the next group.
    fn add<K: Kernel>(
        &mut self,
        k: &mut K,
        budget: &Budget,
        limits: &mut Limits,
        id: CounterId,
        request: EventRequest,
        leader: &mut Option<u8>,
    ) {
        if usize::from(self.len) >= PERF_EVENTS_MAX {
            return self.mark(id, Unavailable::DescriptorBudget);
        }
        let group =
            leader.and_then(|index| self.events.get(usize::from(index)).map(|event| (index, event.fd)));
        let as_member = group.map(|(index, fd)| (index, open_event(k, budget, limits, request, fd)));
        let (index, opened) = match as_member {
            // "Not supported" also says that the group is larger than the processor's counters: a group of its own
            // then, and the kernel shares the counters out by time.
            None | Some((_, Err(Unavailable::NotSupported))) => {
                (self.len, open_event(k, budget, limits, EventRequest { disabled: true, ..request }, -1))
            }
            Some(member) => member,
        };
        match opened {
            Ok(opened) => {
                *leader = Some(index);
                self.note_mode(id, &request, &opened);
                let hardware = request.kind != KIND_SOFTWARE;
                if let Some(slot) = self.events.get_mut(usize::from(self.len)) {
                    *slot = Event {
                        id: opened.id,
                        fd: opened.fd,
                        counter: id,
                        leader: index,
                        hardware,
                        page: None,
                    };
                    self.len += 1;
                }
            }
            Err(reason) => self.mark(id, reason),
        }
    }

    fn note_mode(&mut self, id: CounterId, request: &EventRequest, opened: &Opened) {
        if opened.exclude_kernel && UserMode::of(request.kind, request.config) == UserMode::Part {
            self.user_mode_only |= 1 << id;
        }
    }

    /// Starts each group. A group of hardware events that does not get onto the counters together (one may be taken for
    /// good, by the NMI watchdog) would never run: it is taken apart.
    fn start_groups<K: Kernel>(&mut self, k: &mut K, budget: &Budget, wanted: &Wanted, limits: &mut Limits) {
        let mut at = 0;
        while let Some(leader) = self.open_events().get(at) {
            let (fd, hardware) = (leader.fd, leader.hardware);
            let members = self.group_len(at);
            if let Err(errno) = k.enable(fd) {
                for index in at..at + members {
                    let counter = self.events.get(index).map_or(0, |event| event.counter);
                    self.mark(counter, Unavailable::from_errno(errno));
                }
                (at..at + members).rev().for_each(|index| self.close_event(k, budget, index));
            } else if hardware && members > 1 && never_ran(k, fd) {
                self.split_group(k, budget, wanted, limits, at, members);
            }
            at += members;
        }
    }

    /// Makes each member of the group at `at` a group of its own.
    fn split_group<K: Kernel>(
        &mut self,
        k: &mut K,
        budget: &Budget,
        wanted: &Wanted,
        limits: &mut Limits,
        at: usize,
        members: usize,
    ) {
        for index in at + 1..at + members {
            self.close_event(k, budget, index);
            let Some(counter) = self.events.get(index).map(|event| event.counter) else { return };
            let opened =
                request(wanted, counter).and_then(|request| open_event(k, budget, limits, request, -1));
            match (opened, self.events.get_mut(index)) {
                (Ok(opened), Some(event)) => {
                    (event.fd, event.id, event.leader) = (opened.fd, opened.id, index as u8);
                }
                (Err(reason), Some(event)) => {
                    event.leader = index as u8;
                    self.mark(counter, reason);
                }
                (_, None) => return,
            }
        }
    }

    /// Maps the pages of all hardware events; all or none, for a group with one missing page needs the system call.
    fn map_pages<K: Kernel>(&mut self, k: &mut K) -> UserSpaceReads {
        if let Some(reason) = k.user_reads_forbidden() {
            return reason;
        }
        let mut result = UserSpaceReads::NotOffered;
        let len = usize::from(self.len);
        for event in self.events.iter_mut().take(len).filter(|event| event.hardware && event.fd >= 0) {
            result = match k.map_page(event.fd) {
                Ok(page) if user_space::is_offered(&page) => {
                    event.page = Some(page);
                    UserSpaceReads::Used
                }
                Ok(page) => {
                    k.unmap_page(page);
                    UserSpaceReads::NotOffered
                }
                Err(Errno(libc::EPERM)) => UserSpaceReads::LockedMemory,
                Err(_) => UserSpaceReads::NotMapped,
            };
            if result != UserSpaceReads::Used {
                break;
            }
        }
        if result != UserSpaceReads::Used {
            for event in self.events.iter_mut().take(len) {
                if let Some(page) = event.page.take() {
                    k.unmap_page(page);
                }
            }
        }
        result
    }
}

/// Opens one event within the budget, with a high number; without kernel mode, or without user-space reads, where the
/// kernel refuses these.
fn open_event<K: Kernel>(
    k: &mut K,
    budget: &Budget,
    limits: &mut Limits,
    mut request: EventRequest,
    group_fd: i32,
) -> Result<Opened, Unavailable> {
    if !budget.take(limits.descriptors) {
        return Err(Unavailable::DescriptorBudget);
    }
    let mode = UserMode::of(request.kind, request.config);
    let may_drop_kernel = !request.exclude_user && mode != UserMode::Nothing;
    if limits.user_mode_only && may_drop_kernel {
        request.exclude_kernel = true;
    }
    let mut refused = false;
    let opened = loop {
        match k.open(&request, group_fd) {
            Ok(fd) => break Ok(fd),
            Err(Errno(libc::EACCES | libc::EPERM)) if !request.exclude_kernel && may_drop_kernel => {
                request.exclude_kernel = true;
                refused = true;
            }
            Err(Errno(libc::EACCES)) if !request.exclude_kernel => break Err(Unavailable::KernelModeOnly),
            Err(Errno(libc::EINVAL | libc::EOPNOTSUPP)) if request.config1 != 0 => request.config1 = 0,
            Err(errno) => break Err(Unavailable::from_errno(errno)),
        }
    };
    let opened = opened.and_then(|low| {
        let fd = k.move_high(low, limits.floor);
        k.event_id(fd).map(|id| (fd, id)).map_err(|errno| {
            // Nobody else has learnt the number yet, so it is ours even though the kernel would not say its id.
            k.close(fd);
            Unavailable::from_errno(errno)
        })
    });
    match opened {
        Ok((fd, id)) => {
            limits.user_mode_only |= refused;
            Ok(Opened { fd, id, exclude_kernel: request.exclude_kernel })
        }
        Err(reason) => {
            budget.give_back();
            Err(reason)
        }
    }
}

/// True when a group that was just started has been enabled but not on the counters.
fn never_ran<K: Kernel>(k: &mut K, fd: i32) -> bool {
    let mut words = [0u64; GROUP_HEAD_WORDS + GROUP_EVENT_WORDS * PERF_EVENTS_MAX];
    match k.read_group(fd, &mut words) {
        Ok(got) if got >= GROUP_HEAD_WORDS => matches!(words, [_, enabled, 0, ..] if enabled > 0),
        _ => false,
    }
}
