//! The engine: what the hooks call, around each real call.

use super::arena::{Arena, Cell, Inside, MISSED_BYTES, MISSED_SHUT};
use super::descriptors::Descriptors;
use super::hooks::Hooks;
use super::process::{Kind, Process};
use super::quiet;
use super::quiet_postgres::POSTGRES;
use super::ssl::SslMap;
use super::state::{Protocol, Session};
use super::thread::{Slice, Thread};
use crate::protocol::{Direction, Event, Step};
use crate::segment::Segment;
use crate::sqlite::Sqlite;
use core::hint::cold_path;
use core::sync::atomic::Ordering;

/// A session as a hook found it before the real call, to be found again after it.
#[derive(Clone, Copy)]
pub struct Ticket {
    /// `None`: not a session, nothing to do afterwards.
    cell: Option<&'static Cell>,
    /// Above, the generation of the cell; below, the low byte of its word. (A ticket is two
    /// registers.)
    about: u64,
}

impl Ticket {
    /// Not a session.
    pub const NONE: Ticket = Ticket { cell: None, about: 0 };

    /// Of a session that does not stand aside.
    #[inline(always)]
    pub(super) fn new(cell: &'static Cell) -> Self {
        Self::of(cell, quiet::LOUD)
    }

    /// Of a session that has this word.
    #[inline(always)]
    pub(super) fn of(cell: &'static Cell, word: u64) -> Self {
        Ticket { cell: Some(cell), about: u64::from(cell.generation()) << 32 | word & 0xff }
    }

    /// The cell, while its session is still the one that the ticket was made for.
    #[inline(always)]
    pub(super) fn cell(&self) -> Option<&'static Cell> {
        self.cell.filter(|cell| cell.generation() == (self.about >> 32) as u32)
    }

    /// True when there is something to do after the real call.
    #[inline(always)]
    pub fn is_some(&self) -> bool {
        self.cell.is_some()
    }

    /// True when the session stands aside: [`Engine::read_end_aside`] comes first.
    #[inline(always)]
    pub fn is_aside(&self) -> bool {
        self.about & quiet::ASIDE != 0
    }

    /// True when the session stands aside, or goes the direct way, and is PostgreSQL's.
    #[inline(always)]
    pub fn is_postgres(&self) -> bool {
        self.about & POSTGRES != 0
    }

    /// True when the session stands aside and reads the header of a command by itself.
    #[inline(always)]
    pub fn is_before_a_header(&self) -> bool {
        self.about & (quiet::ASIDE | POSTGRES) == quiet::ASIDE
    }
}

/// Everything the agent keeps for a process. One static of it exists in the library. What each query looks at, as the place of
/// a low descriptor, is in its first page.
#[repr(C, align(64))]
pub struct Engine {
    pub(super) process: Process,
    pub(super) descriptors: Descriptors,
    pub(super) arena: Arena,
    pub(super) ssl: SslMap,
    /// SQLite's statements.
    pub sqlite: Sqlite,
}

impl Engine {
    /// Before the constructor ran.
    pub const fn new(hooks: Hooks) -> Self {
        Engine {
            process: Process::new(hooks),
            descriptors: Descriptors::new(),
            arena: Arena::new(),
            ssl: SslMap::new(),
            sqlite: Sqlite::new(),
        }
    }

    /// What the library's hooks look at.
    #[inline(always)]
    pub const fn hooks(&self) -> &Hooks {
        self.process.hooks()
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

    /// The same for one of the first descriptors, which nearly all are: `None`: it is not among these.
    #[inline(always)]
    pub fn near_session_of(&self, fd: i32) -> Option<Option<&'static Cell>> {
        self.descriptors.at_near(fd)
    }

    /// The cell of the session whose socket `fd` is; `None`: nothing of interest, as always where the process is none of our
    /// business.
    #[inline(always)]
    pub fn session_of(&self, fd: i32) -> Option<&'static Cell> {
        self.descriptors.at(fd)
    }

    /// Brings the thread's state up to date: a new thread, or a forked child. True when the library has to register the
    /// thread's exit.
    #[cold]
    #[inline(never)]
    pub fn arrive(&self, t: &mut Thread) -> bool {
        let pid = self.process.pid();
        if t.pid != pid {
            t.begin_in(pid);
        }
        t.known_in = pid;
        t.wants_exit_registration()
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
            engine.leave_if_direct(t, cell, s);
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
    pub(super) fn come_in(&self, t: &mut Thread, cell: &'static Cell) -> Option<(Inside, &Segment<'static>)> {
        let segment = self.process.segment()?;
        t.did_something();
        match t.come_into(cell) {
            Some(s) if s.protocol() != Protocol::Ignored => Some((s, segment)),
            Some(s) => {
                self.go_out(t, cell, s, segment);
                None
            }
            None => {
                cell.note_missed(MISSED_BYTES);
                None
            }
        }
    }

    /// Leaves the session, and does what another thread could not do meanwhile.
    #[inline(always)]
    pub(super) fn go_out(&self, t: &mut Thread, cell: &'static Cell, s: Inside, segment: &Segment<'static>) {
        drop(s);
        if cell.has_missed() {
            self.heed_notes(t, cell, segment);
        }
    }

    /// The thread has left the session in `cell`, and does what another thread could not do meanwhile.
    #[inline(always)]
    pub(super) fn heed(&self, t: &mut Thread, cell: &'static Cell) {
        if cell.has_missed() {
            self.heed_anything(t, cell);
        }
    }

    #[cold]
    #[inline(never)]
    fn heed_anything(&self, t: &mut Thread, cell: &'static Cell) {
        if let Some(segment) = self.process.segment() {
            self.heed_notes(t, cell, segment);
        }
    }

    /// Before a read of at most `requested` bytes from the socket of the session in `cell`: all that there is to do, where
    /// that ends a unit that went the direct way.
    #[inline(always)]
    pub fn finish_directly(&self, t: &mut Thread, cell: &'static Cell, requested: usize) -> Option<Ticket> {
        self.finish_direct(t, cell, requested, false)
    }

    /// Before a read of at most `requested` bytes from the socket of the session in `cell`.
    pub fn read_begin(&self, t: &mut Thread, cell: &'static Cell, requested: usize) -> Ticket {
        let mut ticket = Ticket::NONE;
        let entry = cell.entry();
        self.visit_directly(t, cell, |engine, t, s, segment| {
            if s.tls == 0 {
                engine.leave_if_direct(t, cell, s);
                let capturing = engine.before_read_here(t, entry, s, segment, requested);
                ticket = engine.stand_aside(cell, s, requested, capturing);
            } else {
                engine.learn_ssl(t, entry, s);
            }
        });
        ticket
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

    /// Before a write to the socket of the session in `cell`: all that there is to do, where this thread runs its query.
    #[inline(always)]
    pub fn write_goes_on(&self, t: &mut Thread, cell: &'static Cell) -> Option<Ticket> {
        if t.slice.session != cell.entry() || !t.slice.plain {
            return None;
        }
        // The time of the first one.
        t.write_ns = if t.slice.responded { 0 } else { t.now_ns() };
        if t.slice.chosen {
            cold_path();
            t.before_answer();
        }
        Some(Ticket::of(cell, cell.quiet.load(Ordering::Relaxed)))
    }

    /// Before a write to the socket of the session in `cell`.
    pub fn write_begin(&self, t: &mut Thread, cell: &'static Cell) -> Ticket {
        let entry = cell.entry();
        let mut plain = false;
        self.visit_directly(t, cell, |engine, t, s, segment| {
            plain = s.tls == 0;
            if plain {
                engine.leave_if_direct(t, cell, s);
                t.write_ns = engine.before_write(t, entry, s, segment);
            } else {
                engine.learn_ssl(t, entry, s);
            }
        });
        if plain { Ticket::new(cell) } else { Ticket::NONE }
    }

    /// After a write: true when its bytes were the whole answer to a unit that goes the direct way, which is all then. Of a
    /// MySQL session.
    #[inline(always)]
    pub fn answered_directly(&self, t: &mut Thread, ticket: Ticket, bytes: &[u8]) -> bool {
        ticket.cell().is_some_and(|cell| {
            cell.written.took(bytes.as_ptr().addr(), bytes.len());
            self.take_answer(t, cell, bytes)
        })
    }

    /// The same of a PostgreSQL session.
    #[inline(always)]
    pub fn ended_directly(&self, t: &mut Thread, ticket: Ticket, bytes: &[u8]) -> bool {
        ticket.cell().is_some_and(|cell| self.take_last_answer(t, cell, bytes))
    }

    /// After a write: the bytes that the kernel (or the TLS library) took.
    pub fn write_end(&self, t: &mut Thread, ticket: Ticket, bytes: &[u8]) {
        let Some(cell) = ticket.cell() else { return };
        if !self.take_answer(t, cell, bytes) && !self.take_last_answer(t, cell, bytes) {
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
        let Some(cell) = self.descriptors.at(fd) else { return };
        match t.come_into(cell) {
            Some(mut s) => s.running.shut = true,
            None => cell.note_missed(MISSED_SHUT),
        }
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
        if let Some(segment) = self.process.segment() {
            self.close_slice(t, segment);
        }
        t.counters.release();
        t.open = false;
        t.exit_registered = false;
        t.known_in = 0;
        t.slice = Slice::NONE;
        t.let_go();
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
