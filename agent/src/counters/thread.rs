//! The counters of one thread: what is open for it, and reading it at a query's boundaries.

use super::budget::{self, Budget};
use super::kernel::{Kernel, Linux};
use super::reading::{PERF_EVENTS_MAX, PerfReading, Reading};
use super::unavailable::Unavailable;
use super::user_space::{self, UserSpaceReads};
use super::{CHEAP_MASK, COUNTERS_MAX, CPU_NS, CounterId, PAGE_FAULTS_MINOR, Wanted};
use crate::sys::Errno;
use crate::sys::perf::{GROUP_EVENT_WORDS, GROUP_HEAD_WORDS, Page};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The counters that come from getrusage(2).
pub(crate) const USAGE_MASK: u64 = CHEAP_MASK & !(1 << CPU_NS);
/// Numbers of thread states, so that readings of two threads are never subtracted.
static NEXT_THREAD: AtomicU32 = AtomicU32::new(1);

/// A perf event that is open, or was.
#[derive(Debug)]
pub(super) struct Event {
    /// What the kernel calls it; proves that `fd` is still it.
    pub(super) id: u64,
    /// −1: not open (any more).
    pub(super) fd: i32,
    /// The counter's number.
    pub(super) counter: CounterId,
    /// Index of its group's leader. The events of a group stand one after the other, the leader first.
    pub(super) leader: u8,
    /// An event of the processor, not of the kernel.
    pub(super) hardware: bool,
    /// Its page, where user-space reads are used.
    pub(super) page: Option<Page>,
}

impl Event {
    const NONE: Event = Event { id: 0, fd: -1, counter: 0, leader: 0, hardware: false, page: None };
}

/// The counters of one thread. Plain data without a destructor, for the thread's TLS block.
///
/// - [`prepare`](Self::prepare) before each query: opens what the control page wants, once per generation;
/// - [`read`](Self::read) at its start and end, and [`delta`](super::delta) of the two;
/// - [`release`](Self::release) when capture is switched off and **before the thread ends**: nothing else gives its
///   descriptors back;
/// - [`forget`](Self::forget) in a child made by fork, before anything else.
///
/// Rules of use: only on the thread that prepared it. In a **vfork** child nothing of this may be called: it shares this
/// memory with its suspended parent, whose descriptors would be closed in the child and lost in the parent. In a fork
/// child a call of `read` before `forget` would give the parent's values (a descriptor inherited counts the parent's
/// thread) and, with user-space reads, touch a page that the child does not have.
///
/// What is looked at where no perf event is open is in the first cache line.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct ThreadCounters {
    thread: u32,
    opening: u32,
    pub(super) wanted_mask: u64,
    pub(super) len: u8,
    prepared: bool,
    pub(super) user_space: UserSpaceReads,
    generation: u32,
    pub(super) user_mode_only: u64,
    pub(super) unavailable: [u8; COUNTERS_MAX],
    pub(super) events: [Event; PERF_EVENTS_MAX],
}

impl ThreadCounters {
    /// Nothing prepared, nothing open.
    pub const fn new() -> Self {
        ThreadCounters {
            thread: 0,
            opening: 0,
            wanted_mask: 0,
            len: 0,
            prepared: false,
            user_space: UserSpaceReads::NotWanted,
            generation: 0,
            user_mode_only: 0,
            unavailable: [0; COUNTERS_MAX],
            events: [const { Event::NONE }; PERF_EVENTS_MAX],
        }
    }

    /// Opens what `wanted` asks for on the calling thread, unless that was done for this `generation`; gives back what an
    /// earlier generation had open. Never fails: what cannot be had is in [`unavailable`](Self::unavailable).
    ///
    /// Opening and closing an event costs about 10 µs each; the first and the last of a software event's kind on the whole
    /// machine more like 0.3–2 ms, because the kernel patches its own code. So hold them across queries, and across the
    /// sessions that a thread serves.
    #[inline]
    pub fn prepare(&mut self, wanted: &Wanted, generation: u32) {
        if !self.prepared || self.generation != generation {
            self.prepare_with(&mut Linux, &budget::PROCESS, wanted, generation);
        }
    }

    /// Reads everything prepared: one system call for the CPU clock, one for faults and switches, two for each group of
    /// perf events (none for a group that is read in user space), and none for what is not wanted.
    #[inline]
    pub fn read(&mut self, out: &mut Reading) {
        self.read_without(0, out);
    }

    /// The same without the counters of the mask `skip`, of those that come without perf: what is known already.
    #[inline]
    pub fn read_without(&mut self, skip: u64, out: &mut Reading) {
        if self.len == 0 && self.wanted_mask & !skip & CHEAP_MASK == USAGE_MASK {
            self.read_usage(&mut Linux, out);
        } else {
            self.read_with(&mut Linux, &budget::PROCESS, skip, out);
        }
    }

    /// What [`read_with`](Self::read_with) does where only what getrusage says is read, and all of that: the usual case.
    #[inline(always)]
    pub(super) fn read_usage<K: Kernel>(&mut self, k: &mut K, out: &mut Reading) {
        out.thread = self.thread;
        out.opening = self.opening;
        out.len = 0;
        match k.thread_usage() {
            Ok(usage) => {
                out.take_usage(&usage);
                out.cheap_known = USAGE_MASK as u8;
            }
            Err(errno) => self.have_no_usage(USAGE_MASK, errno, out),
        }
    }

    #[cold]
    fn have_no_usage(&mut self, wanted: u64, errno: Errno, out: &mut Reading) {
        out.cheap_known &= !(USAGE_MASK as u8);
        out.account_ns = 0;
        (PAGE_FAULTS_MINOR..CHEAP_MASK.count_ones() as u8)
            .filter(|id| wanted & (1 << id) != 0)
            .for_each(|id| self.mark(id, Unavailable::from_errno(errno)));
    }

    /// The thread's CPU clock alone, in ns, if it can be had.
    #[cold]
    pub fn cpu_ns(&mut self) -> Option<u64> {
        Linux.thread_cpu_ns().ok()
    }

    /// The number of this thread's state; 0: it was never prepared.
    #[inline]
    pub fn thread(&self) -> u32 {
        self.thread
    }

    /// The number of the present opening.
    #[inline]
    pub fn opening(&self) -> u32 {
        self.opening
    }

    /// True when `reading` was made by this state since its present events were opened.
    #[inline]
    pub fn made(&self, reading: &Reading) -> bool {
        self.thread != 0 && reading.thread == self.thread && reading.opening == self.opening
    }

    /// Gives back all descriptors and mappings. The next [`prepare`](Self::prepare) opens anew.
    pub fn release(&mut self) {
        self.release_with(&mut Linux, &budget::PROCESS);
    }

    /// In a child made by fork: closes the inherited descriptors (they count the parent's thread), drops the mappings
    /// (the child does not have them) and starts the process's descriptor account afresh. Descriptors of the parent's
    /// *other* threads stay open in the child until it executes a program; the account does not know them.
    pub fn forget(&mut self) {
        self.forget_with(&mut Linux, &budget::PROCESS);
    }

    /// For each counter the code of its [`Unavailable`] reason; 0: it is available, or not wanted.
    pub fn unavailable(&self) -> &[u8; COUNTERS_MAX] {
        &self.unavailable
    }

    /// The counters that are wanted and can be had.
    pub fn available_mask(&self) -> u64 {
        let reasons = self.unavailable.iter().enumerate();
        reasons
            .fold(self.wanted_mask, |mask, (id, reason)| if *reason == 0 { mask } else { mask & !(1 << id) })
    }

    /// Bit n: counter n counts user mode only, asked for (`:u`) or because kernel mode is not permitted. Reports name it
    /// `cycles:u`.
    pub fn user_mode_only(&self) -> u64 {
        self.user_mode_only
    }

    /// Whether user-space reads are used, and if not, why.
    pub fn user_space_reads(&self) -> UserSpaceReads {
        self.user_space
    }

    /// True when all hardware events can be read in user space at this moment. An event's page may allow it and yet name no
    /// register: while the event has no counter, and on aarch64 always where kernel.perf_user_access is 0.
    #[cold]
    pub fn reads_in_user_space(&self) -> bool {
        let mut hardware = self.open_events().iter().filter(|event| event.hardware).peekable();
        hardware.peek().is_some()
            && hardware.all(|event| {
                event.page.as_ref().is_some_and(|page| user_space::read(&mut Linux, page).is_some())
            })
    }

    /// How many perf descriptors this thread holds.
    pub fn descriptors(&self) -> usize {
        self.open_events().iter().filter(|event| event.fd >= 0).count()
    }

    pub(super) fn open_events(&self) -> &[Event] {
        self.events.get(..usize::from(self.len)).unwrap_or(&[])
    }

    pub(super) fn mark(&mut self, id: CounterId, reason: Unavailable) {
        if let Some(slot) = self.unavailable.get_mut(usize::from(id)) {
            *slot = reason as u8;
        }
    }

    #[cold]
    pub(super) fn prepare_with<K: Kernel>(
        &mut self,
        k: &mut K,
        budget: &Budget,
        wanted: &Wanted,
        generation: u32,
    ) {
        self.release_with(k, budget);
        if self.thread == 0 {
            self.thread = NEXT_THREAD.fetch_add(1, Relaxed).max(1);
        }
        self.opening = self.opening.wrapping_add(1);
        self.prepared = true;
        self.generation = generation;
        self.wanted_mask = wanted.mask;
        if wanted.mask & !CHEAP_MASK != 0 {
            self.open_all(k, budget, wanted);
        }
    }

    #[inline(never)]
    #[unsafe(link_section = ".text.hot.perquery.begin")]
    pub(super) fn read_with<K: Kernel>(&mut self, k: &mut K, budget: &Budget, skip: u64, out: &mut Reading) {
        out.thread = self.thread;
        out.opening = self.opening;
        out.cheap_known = 0;
        out.account_ns = 0;
        out.len = 0;
        if self.wanted_mask & !skip & (1 << CPU_NS) != 0 {
            match k.thread_cpu_ns() {
                Ok(now) => {
                    let [cpu_ns, ..] = &mut out.cheap;
                    *cpu_ns = now;
                    out.cheap_known |= 1 << CPU_NS;
                }
                Err(errno) => self.mark(CPU_NS, Unavailable::from_errno(errno)),
            }
        }
        let usage_wanted = self.wanted_mask & !skip & USAGE_MASK;
        if usage_wanted != 0 {
            match k.thread_usage() {
                Ok(usage) => {
                    out.take_usage(&usage);
                    out.cheap_known |= usage_wanted as u8;
                }
                Err(errno) => self.have_no_usage(usage_wanted, errno, out),
            }
        }
        let mut at = 0;
        while at < usize::from(self.len) {
            let members = self.group_len(at);
            if !self.read_in_user_space(k, at, members, out) {
                self.read_group(k, budget, at, members, out);
            }
            at += members;
        }
    }

    /// How many events the group that begins at index `at` has; at least 1.
    pub(super) fn group_len(&self, at: usize) -> usize {
        let group = self.open_events().iter().skip(at);
        group.take_while(|event| usize::from(event.leader) == at).count().max(1)
    }

    /// Reads a group without a system call; false, and nothing added to `out`, where that cannot be done now.
    fn read_in_user_space<K: Kernel>(&self, k: &mut K, at: usize, members: usize, out: &mut Reading) -> bool {
        let before = out.len;
        for event in self.open_events().iter().skip(at).take(members) {
            let Some(read) = event.page.as_ref().and_then(|page| user_space::read(k, page)) else {
                out.len = before;
                return false;
            };
            out.push(PerfReading {
                value: read.value,
                enabled_ns: read.enabled_ns,
                running_ns: read.running_ns,
                counter: event.counter,
                known: true,
            });
        }
        true
    }

    /// Reads a group by read(2), after checking that its descriptor is still the event that was opened.
    fn read_group<K: Kernel>(
        &mut self,
        k: &mut K,
        budget: &Budget,
        at: usize,
        members: usize,
        out: &mut Reading,
    ) {
        let Some(leader) = self.open_events().get(at) else { return };
        let (fd, id) = (leader.fd, leader.id);
        let mut words = [0u64; GROUP_HEAD_WORDS + GROUP_EVENT_WORDS * PERF_EVENTS_MAX];
        let mut got = 0;
        if fd >= 0 {
            if k.event_id(fd) == Ok(id) {
                got = k.read_group(fd, &mut words).unwrap_or(0);
            } else {
                self.give_up_stolen(k, budget, at, members);
            }
        }
        let (head, values) =
            words.get(..got).unwrap_or(&[]).split_at_checked(GROUP_HEAD_WORDS).unwrap_or((&[], &[]));
        let (values, _) = values.as_chunks::<GROUP_EVENT_WORDS>();
        let (enabled_ns, running_ns) = match head {
            [_, enabled, running] => (*enabled, *running),
            _ => (0, 0),
        };
        for place in 0..members {
            let Some(event) = self.open_events().get(at + place) else { return };
            let (counter, id, was_open) = (event.counter, event.id, event.fd >= 0);
            let expected = values.get(place).filter(|[_, found]| *found == id);
            let found = expected.or_else(|| values.iter().find(|[_, found]| *found == id));
            let (value, known) = found.map_or((0, false), |[value, _]| (*value, was_open));
            if !known && was_open && !values.is_empty() {
                // The group is there without this member: the host closed its descriptor.
                self.mark(counter, Unavailable::Stolen);
            }
            out.push(PerfReading { value, enabled_ns, running_ns, counter, known });
        }
    }

    /// The leader's number is no longer the event: the host closed it, and may use it for something else.
    #[cold]
    fn give_up_stolen<K: Kernel>(&mut self, k: &mut K, budget: &Budget, at: usize, members: usize) {
        for index in at..at + members {
            if let Some(counter) = self.events.get(index).map(|event| event.counter) {
                self.mark(counter, Unavailable::Stolen);
                self.close_event(k, budget, index);
            }
        }
    }

    /// Closes the event at `index`, if its number is still the event: never a number that the host uses now.
    pub(super) fn close_event<K: Kernel>(&mut self, k: &mut K, budget: &Budget, index: usize) {
        let Some(event) = self.events.get_mut(index) else { return };
        if let Some(page) = event.page.take() {
            k.unmap_page(page);
        }
        if event.fd >= 0 {
            if k.event_id(event.fd) == Ok(event.id) {
                k.close(event.fd);
            }
            event.fd = -1;
            budget.give_back();
        }
    }

    pub(super) fn release_with<K: Kernel>(&mut self, k: &mut K, budget: &Budget) {
        // Members before their leader: closing a leader first would make the kernel take the group apart.
        for index in (0..usize::from(self.len)).rev() {
            self.close_event(k, budget, index);
        }
        self.reset();
    }

    pub(super) fn forget_with<K: Kernel>(&mut self, k: &mut K, budget: &Budget) {
        for event in self.events.iter_mut().take(usize::from(self.len)) {
            event.page = None;
        }
        self.release_with(k, budget);
        self.thread = 0;
        budget.restart();
    }

    fn reset(&mut self) {
        self.len = 0;
        self.prepared = false;
        self.wanted_mask = 0;
        self.user_mode_only = 0;
        self.user_space = UserSpaceReads::NotWanted;
        self.unavailable = [0; COUNTERS_MAX];
    }
}

impl Default for ThreadCounters {
    fn default() -> Self {
        Self::new()
    }
}
