//! What the agent keeps for each thread of the server: plain data without a destructor, in the thread's own storage.

use super::arena::{Cell, Inside, Stay};
use super::budget::Sampler;
use super::measure::Measuring;
use super::plain::Plain;
use crate::counters::{Counts, Reading, ThreadCounters, Wanted};
use crate::segment::Lane;
use crate::sys::process;
use crate::ticks::Clock;
use core::hint::cold_path;

/// The part of a unit that this thread is working on.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Slice {
    /// Session number + 1; 0: none.
    pub session: u32,
    /// The unit within the session.
    pub unit: u32,
    /// The socket carries the session's plain text.
    pub plain: bool,
    /// The unit's response has begun.
    pub responded: bool,
    /// Nothing of the unit is measured, and it goes the direct way.
    pub unmeasured: bool,
    /// The unit was chosen, and goes the direct way.
    pub chosen: bool,
}

/// What a slice's record will say. Of a unit that goes the direct way only the session knows, and the unit's number too.
#[derive(Clone, Copy)]
pub(super) struct Share {
    /// The session's uid.
    pub uid: u64,
    /// CLOCK_MONOTONIC at its start.
    pub start_ns: u64,
    /// The unit's weight; 0: its dear counters are not read.
    pub weight: f64,
}

impl Slice {
    /// The thread works on nothing.
    pub const NONE: Slice =
        Slice { session: 0, unit: 0, plain: false, responded: false, unmeasured: false, chosen: false };
}

impl Share {
    /// Of nothing.
    pub const NONE: Share = Share { uid: 0, start_ns: 0, weight: 0.0 };
}

/// A thread's state.
///
/// `inside` marks the address of the frame that is in the agent's code, so that a signal handler that comes in between
/// finds the door closed. A handler runs deeper in the stack; if the mark is found by a frame that is not deeper, the
/// marked frame was left by longjmp or an exception, and the mark is stale.
///
/// In the order of use: what every query touches is in the first few cache lines.
#[repr(C, align(64))]
pub struct Thread {
    inside: usize,
    pub(super) pid: u32,
    pub(super) tid: u32,
    /// The process in which all is done that has to be done once for a thread; 0: none.
    pub(super) known_in: u32,
    /// So many commands from now on have nothing measured: see [`Plain`].
    pub(super) plain_left: u32,
    pub(super) slice: Slice,
    /// The capture generation in which this thread has all that the direct way needs; 0: none.
    pub(super) goes_directly_in: u64,
    /// The session that this thread has not left since its query began.
    pub(super) stays: Option<Stay>,
    /// CLOCK_MONOTONIC before the write that this thread is in, where that matters; else 0.
    pub(super) write_ns: u64,
    /// Up to which position its ring is known to be free.
    pub(super) free_until: u64,
    /// This thread's lane, once it has one.
    pub(super) lane: Option<Lane<'static>>,
    pub(super) plain: Plain,
    /// What this thread's commands are timed by.
    clock: Clock,
    /// The capture generation for which `counters` are prepared.
    pub(super) generation: u64,
    /// The budget in that generation; 0: none.
    pub(super) budget_ppm: u64,
    /// What the readings of the present work have cost.
    pub(super) paid_ns: u64,
    /// True when `counters` are prepared.
    pub(super) open: bool,
    /// What is wanted in the generation.
    pub(super) wanted: Wanted,
    pub(super) measuring: Measuring,
    pub(super) sampler: Sampler,
    pub(crate) start: Reading,
    pub(super) end: Reading,
    pub(crate) counters: ThreadCounters,
    pub(crate) counts: Counts,
    pub(super) share: Share,
    /// The TLS connection whose SSL_* call is on this thread's stack.
    pub(super) ssl: usize,
    pub(super) ssl_frame: usize,
    /// True when the library registered this thread's exit.
    pub(super) exit_registered: bool,
}

/// How far above the mark a frame may be and still be taken for deeper: a handler on an alternate stack.
const STALE_WITHIN: usize = 64 * 1024;

/// True when a frame at `here` runs inside a call marked by the frame `mark` (0: no call).
#[inline(always)]
pub fn is_nested(mark: usize, here: usize) -> bool {
    if mark == 0 {
        return false;
    }
    cold_path();
    here < mark || here - mark > STALE_WITHIN
}

impl Thread {
    /// A thread that was not seen yet.
    pub const fn new() -> Self {
        Thread {
            inside: 0,
            pid: 0,
            tid: 0,
            known_in: 0,
            lane: None,
            free_until: 0,
            ssl: 0,
            ssl_frame: 0,
            slice: Slice::NONE,
            share: Share::NONE,
            goes_directly_in: 0,
            plain_left: 0,
            plain: Plain::NONE,
            generation: 0,
            wanted: Wanted::NOTHING,
            budget_ppm: 0,
            clock: Clock::new(),
            sampler: Sampler::new(),
            measuring: Measuring::new(),
            paid_ns: 0,
            write_ns: 0,
            stays: None,
            open: false,
            counters: ThreadCounters::new(),
            start: Reading::new(),
            end: Reading::new(),
            counts: Counts::new(),
            exit_registered: false,
        }
    }

    /// A new thread, or the one that a forked child goes on with.
    #[cold]
    #[inline(never)]
    pub(super) fn begin_in(&mut self, pid: u32) {
        self.let_go();
        if self.pid != 0 {
            // A forked child: the lane and the counters are the parent's.
            self.counters.forget();
            self.open = false;
            self.slice = Slice::NONE;
            self.lane = None;
            self.generation = 0;
            self.goes_directly_in = 0;
            self.begin_plain(0, 0);
            self.ssl = 0;
        }
        self.pid = pid;
        self.tid = process::tid();
    }

    /// Enters the agent's code; false: this call comes from a signal handler that interrupted it, and has to pass.
    #[inline(always)]
    pub fn enter(&mut self, frame: usize) -> bool {
        if is_nested(self.inside, frame) {
            return false;
        }
        self.inside = frame;
        // A handler on this thread must find the mark before anything else of ours is touched.
        core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
        true
    }

    /// Leaves the agent's code.
    #[inline(always)]
    pub fn leave(&mut self) {
        core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
        self.inside = 0;
    }

    /// Enters the session in `cell`, where it may have stayed; `None`: another thread, or the code that this signal handler
    /// interrupted, is inside.
    #[inline(always)]
    pub(super) fn come_into(&mut self, cell: &'static Cell) -> Option<Inside> {
        self.come_into_if(cell, false)
    }

    /// The same, without a locked instruction where the thread is the only one of its process (`alone`).
    #[inline(always)]
    pub(super) fn come_into_if(&mut self, cell: &'static Cell, alone: bool) -> Option<Inside> {
        match self.stays.take_if(|stay| stay.is_in(cell)) {
            Some(stay) => Some(stay.back()),
            None if alone => cell.enter_alone(),
            None => cell.enter(),
        }
    }

    /// It stays where it is, until the query's next step.
    #[inline(always)]
    pub(super) fn stay(&mut self, inside: Inside) {
        self.stays = Some(inside.stay());
    }

    /// It leaves the session in which it has stayed.
    pub(super) fn let_go(&mut self) {
        if let Some(stay) = self.stays.take() {
            drop(stay.back());
        }
    }

    /// The capture generation that the thread is prepared for.
    #[inline(always)]
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// CLOCK_MONOTONIC now, as this thread's own clock has it; another thread's may be some hundred nanoseconds apart.
    #[inline(always)]
    pub(super) fn now_ns(&self) -> u64 {
        self.clock.ns(self.clock.stamp())
    }

    /// The same at the beginning of a piece of work, where the clock is set again if that is due.
    #[inline(always)]
    pub(super) fn first_now_ns(&mut self) -> u64 {
        let stamp = self.clock.first_stamp();
        self.clock.ns(stamp)
    }

    /// True when this thread works on a session's unit.
    #[inline(always)]
    pub fn runs_a_query(&self) -> bool {
        self.slice.session != 0
    }

    /// The process this thread belongs to, as of its last arrival.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The thread's number.
    pub fn tid(&self) -> u32 {
        self.tid
    }

    /// What the readings of the work that ended last have cost, ns; 0 where there were none.
    pub(crate) fn paid_ns(&self) -> u64 {
        self.paid_ns
    }

    /// True when [`Engine::arrive`](super::Engine::arrive) has nothing to do for this thread in process `pid`.
    #[inline(always)]
    pub fn is_known_in(&self, pid: u32) -> bool {
        self.known_in == pid
    }

    /// True when the library still has to register this thread's exit; answers true once.
    pub(super) fn wants_exit_registration(&mut self) -> bool {
        !core::mem::replace(&mut self.exit_registered, true)
    }
}

impl Default for Thread {
    fn default() -> Self {
        Self::new()
    }
}
