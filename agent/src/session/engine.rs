//! The engine: what the hooks call, around each real call.

use super::arena::{Arena, Cell, Inside, MISSED_BYTES};
use super::descriptors::Descriptors;
use super::process::{Kind, Process};
use super::ssl::SslMap;
use super::state::{Protocol, Session};
use super::thread::{Slice, Thread};
use crate::protocol::{Direction, Event, Step};
use crate::segment::Segment;
use crate::sqlite::Sqlite;

/// A session as a hook found it before the real call, to be found again after it.
#[derive(Clone, Copy)]
pub struct Ticket {
    /// `None`: not a session, nothing to do afterwards.
    cell: Option<&'static Cell>,
    /// Below, the generation of the cell; above, 1 if the session stands aside. (A ticket is two registers.)
    about: u64,
}

impl Ticket {
    /// Not a session.
    pub const NONE: Ticket = Ticket { cell: None, about: 0 };

    #[inline(always)]
    pub(super) fn new(cell: &'static Cell, aside: bool) -> Self {
        Ticket { cell: Some(cell), about: u64::from(cell.generation()) | u64::from(aside) << 32 }
    }

    /// The cell, while its session is still the one that the ticket was made for.
    #[inline(always)]
    pub(super) fn cell(&self) -> Option<&'static Cell> {
        self.cell.filter(|cell| cell.generation() == self.about as u32)
    }

    /// True when there is something to do after the real call.
    #[inline(always)]
    pub fn is_some(&self) -> bool {
        self.cell.is_some()
    }

    /// True when the session stands aside: [`Engine::read_end_aside`] comes first.
    #[inline(always)]
    pub fn is_aside(&self) -> bool {
        self.about >> 32 != 0
    }
}

/// Everything the agent keeps for a process. One static of it exists in the library.
///
/// What each query looks at (the end of the table of descriptors, the process, the beginning of the table of sessions) is
/// in one page: after a context switch a page that has to be found anew costs as much as a hundred instructions.
#[repr(C, align(4096))]
pub struct Engine {
    /// Moves the end of the table of descriptors into the page of what follows.
    padding: [u8; 512],
    pub(super) descriptors: Descriptors,
    pub(super) process: Process,
    pub(super) arena: Arena,
    pub(super) ssl: SslMap,
    /// SQLite's statements.
    pub sqlite: Sqlite,
}

impl Engine {
    /// Before the constructor ran.
    pub const fn new() -> Self {
        Engine {
            padding: [0; 512],
            descriptors: Descriptors::new(),
            process: Process::new(),
            arena: Arena::new(),
            ssl: SslMap::new(),
            sqlite: Sqlite::new(),
        }
    }

    /// The process's state.
    #[inline(always)]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// True when `fd` is a session's: the one question that every read and write of the server has to ask.
    #[inline(always)]
    pub fn watches(&self, fd: i32) -> bool {
        self.session_of(fd).is_some()
    }

    /// The cell of the session whose socket `fd` is; `None`: nothing of interest.
    #[inline(always)]
    pub fn session_of(&self, fd: i32) -> Option<&'static Cell> {
        if self.process.is_awake() { self.descriptors.at(fd) } else { None }
    }

    /// Brings the thread's state up to date: a new thread, or a forked child. False: nothing can be done here.
    #[inline(always)]
    pub fn arrive(&self, t: &mut Thread) -> bool {
        let pid = self.process.pid();
        if t.pid != pid {
            t.begin_in(pid);
        }
        true
    }

    /// Runs `work` inside the session in `cell`, if nobody else is inside. Its machine knows all that has happened.
    #[inline(always)]
    pub(super) fn visit(
        &self,
        t: &mut Thread,
        cell: &'static Cell,
        work: impl FnOnce(&Self, &mut Thread, &mut Session, &Segment<'static>),
    ) -> bool {
        self.visit_directly(t, cell, |engine, t, s, segment| {
            engine.leave_if_direct(cell, s);
            work(engine, t, s, segment);
        })
    }

    /// The same, also while a unit goes the direct way, of which the machine does not know.
    #[inline(always)]
    pub(super) fn visit_directly(
        &self,
        t: &mut Thread,
        cell: &'static Cell,
        work: impl FnOnce(&Self, &mut Thread, &mut Session, &Segment<'static>),
    ) -> bool {
        let Some((mut s, segment)) = self.come_in(t, cell) else { return false };
        work(self, t, &mut s, segment);
        self.go_out(t, cell, s, segment);
        true
    }

    /// Enters the session in `cell`, if nobody else is inside and it is followed; [`go_out`](Self::go_out) has to follow.
    #[inline(always)]
    pub(super) fn come_in(
        &self,
        t: &mut Thread,
        cell: &'static Cell,
    ) -> Option<(Inside<'static>, &Segment<'static>)> {
        let segment = self.process.segment()?;
        let Some(s) = cell.enter() else {
            cell.note_missed(MISSED_BYTES);
            return None;
        };
        if s.protocol() == Protocol::Ignored {
            self.go_out(t, cell, s, segment);
            return None;
        }
        Some((s, segment))
    }

    /// Leaves the session, and does what another thread could not do meanwhile.
    #[inline(always)]
    pub(super) fn go_out(
        &self,
        t: &mut Thread,
        cell: &'static Cell,
        s: Inside<'static>,
        segment: &Segment<'static>,
    ) {
        drop(s);
        if cell.has_missed() {
            self.heed_notes(t, cell, segment);
        }
    }

    /// Before a read of at most `requested` bytes from the socket of the session in `cell`.
    #[inline(always)]
    pub fn read_begin(&self, t: &mut Thread, cell: &'static Cell, requested: usize) -> Ticket {
        if self.finish_direct(t, cell, requested, false) {
            return Ticket::new(cell, true);
        }
        self.read_begin_at_length(t, cell, requested)
    }

    #[inline(never)]
    fn read_begin_at_length(&self, t: &mut Thread, cell: &'static Cell, requested: usize) -> Ticket {
        let (mut plain, mut aside) = (false, false);
        let entry = cell.entry();
        self.visit_directly(t, cell, |engine, t, s, segment| {
            plain = s.tls == 0;
            if plain {
                engine.leave_if_direct(cell, s);
                let capturing = engine.before_read_here(t, entry, s, segment, requested);
                aside = engine.stand_aside(cell, s, requested, capturing);
            } else {
                engine.learn_ssl(t, entry, s);
            }
        });
        match plain {
            false => Ticket::NONE,
            true => Ticket::new(cell, aside),
        }
    }

    /// After a read: the bytes it brought.
    #[inline(always)]
    pub fn read_end(&self, t: &mut Thread, ticket: Ticket, bytes: &[u8]) {
        let Some(cell) = ticket.cell() else { return };
        self.visit(t, cell, |engine, t, s, segment| {
            s.bytes_in = s.bytes_in.wrapping_add(bytes.len() as u64);
            engine.feed(t, cell.entry(), s, segment, Direction::FromClient, bytes, 0);
        });
    }

    /// Before a write to the socket of the session in `cell`.
    #[inline(always)]
    pub fn write_begin(&self, t: &mut Thread, cell: &'static Cell) -> Ticket {
        let entry = cell.entry();
        if t.slice.session == entry && t.slice.plain {
            // This thread runs the session's query: all that a write needs is the time of the first one.
            t.write_ns = if t.slice.responded { 0 } else { t.now_ns() };
            return Ticket::new(cell, false);
        }
        self.write_begin_elsewhere(t, cell)
    }

    #[inline(never)]
    fn write_begin_elsewhere(&self, t: &mut Thread, cell: &'static Cell) -> Ticket {
        let entry = cell.entry();
        let mut plain = false;
        self.visit_directly(t, cell, |engine, t, s, segment| {
            plain = s.tls == 0;
            if plain {
                engine.leave_if_direct(cell, s);
                t.write_ns = engine.before_write(t, entry, s, segment);
            } else {
                engine.learn_ssl(t, entry, s);
            }
        });
        if plain { Ticket::new(cell, false) } else { Ticket::NONE }
    }

    /// After a write: the bytes that the kernel (or the TLS library) took.
    #[inline(always)]
    pub fn write_end(&self, t: &mut Thread, ticket: Ticket, bytes: &[u8]) {
        let Some(cell) = ticket.cell() else { return };
        if !self.answer_directly(t, cell, bytes) {
            self.write_end_at_length(t, cell, bytes);
        }
    }

    #[inline(never)]
    fn write_end_at_length(&self, t: &mut Thread, cell: &'static Cell, bytes: &[u8]) {
        self.visit(t, cell, |engine, t, s, segment| {
            s.bytes_out = s.bytes_out.wrapping_add(bytes.len() as u64);
            let write_ns = t.write_ns;
            engine.feed_answer(t, cell.entry(), s, segment, bytes, write_ns);
        });
    }

    /// Descriptor `fd` was, or is about to be, handed to a poller (epoll_ctl ADD or MOD).
    pub fn parked(&self, t: &mut Thread, fd: i32) {
        if self.process.kind() == Kind::Postgres {
            // Its backends poll in the middle of queries, and one process serves one session.
            return;
        }
        let Some(cell) = self.descriptors.at(fd).filter(|cell| !cell.stands_aside()) else { return };
        let entry = cell.entry();
        self.visit(t, cell, |engine, t, s, segment| {
            if s.protocol() != Protocol::MySql {
                return;
            }
            s.pooled = 1;
            engine.join_unit(t, entry, s, segment);
            let step = s.machine().map_or(Step::NeedMore, |m| m.parked(false));
            engine.act(t, entry, s, segment, step, 0);
        });
    }

    /// The socket of a session is shut down, perhaps from another thread: a KILL.
    pub fn shut(&self, t: &mut Thread, fd: i32) {
        if let Some(cell) = self.descriptors.at(fd)
            && let Some(mut s) = cell.enter()
        {
            s.running.shut = true;
        }
        let _ = t;
    }

    /// The thread is about to wait for any of many sockets (epoll_wait): a unit that it left open goes on elsewhere.
    #[inline]
    pub fn waiting(&self, t: &mut Thread) {
        if t.slice.session == 0 || self.process.kind() == Kind::Postgres {
            return;
        }
        let Some(cell) = self.cell(t.slice.session) else { return };
        let mut pooled = false;
        self.visit(t, cell, |_, _, s, _| pooled = s.pooled != 0);
        if pooled && let Some(segment) = self.process.segment() {
            self.close_slice(t, segment);
        }
    }

    /// Before the thread polls: the time, if it is in the middle of a query.
    #[inline]
    pub fn client_wait_begin(&self, t: &mut Thread) -> Option<u64> {
        (t.slice.session != 0).then(|| t.now_ns())
    }

    /// After it has polled `fd` alone since `since_ns`: if that is the socket of the query it runs, it waited for its
    /// client.
    pub fn client_wait_end(&self, t: &mut Thread, fd: i32, since_ns: u64) {
        if let Some(cell) = self.descriptors.at(fd)
            && t.slice.session == cell.entry()
        {
            self.visit_directly(t, cell, |_, t, s, _| {
                s.running.client_wait_ns += t.now_ns().saturating_sub(since_ns);
            });
        }
    }

    /// True when this process serves, or was forked to serve, a session.
    pub fn serves_a_session(&self) -> bool {
        self.arena.has_sessions()
    }

    /// The thread ends: its descriptors and its lane are given back.
    pub fn thread_exits(&self, t: &mut Thread) {
        t.counters.release();
        t.open = false;
        t.exit_registered = false;
        t.slice = Slice::default();
        self.release_lane(t);
    }

    /// Before a read, in the session: true while capture is on.
    #[inline(never)]
    pub(super) fn before_read(
        &self,
        t: &mut Thread,
        entry: u32,
        s: &mut Session,
        segment: &Segment<'static>,
        requested: usize,
    ) -> bool {
        self.before_read_here(t, entry, s, segment, requested)
    }

    /// The same as part of the caller.
    #[inline(always)]
    pub(super) fn before_read_here(
        &self,
        t: &mut Thread,
        entry: u32,
        s: &mut Session,
        segment: &Segment<'static>,
        requested: usize,
    ) -> bool {
        self.come_to(t, entry, s, segment);
        let capturing = segment.control().capture() != 0;
        if !capturing && !s.running.active {
            t.rest();
        }
        match s.read_entered(requested, capturing) {
            None | Some(Step::NeedMore) => {}
            // The usual case needs no more looking.
            Some(Step::Event(Event::Finished)) => {
                let shut = s.running.shut;
                self.finish_unit_here(t, entry, s, segment, shut);
            }
            Some(step) => {
                self.act(t, entry, s, segment, step, 0);
            }
        }
        capturing
    }

    /// This thread turns to session `entry`: whatever else it had open is left, and what runs here is joined.
    #[inline(always)]
    fn come_to(&self, t: &mut Thread, entry: u32, s: &mut Session, segment: &Segment<'static>) {
        if t.slice.session != 0 && t.slice.session != entry {
            self.close_slice(t, segment);
        }
        if s.running.active && s.running.slice_tid != t.tid {
            self.join_unit(t, entry, s, segment);
        }
    }

    /// The time stamp for a first response byte, where one may be needed.
    #[inline]
    pub(super) fn before_write(
        &self,
        t: &mut Thread,
        entry: u32,
        s: &mut Session,
        segment: &Segment<'static>,
    ) -> u64 {
        self.come_to(t, entry, s, segment);
        let running = &s.running;
        if running.active && running.generation != 0 && running.first_byte_ns == 0 { t.now_ns() } else { 0 }
    }
}
