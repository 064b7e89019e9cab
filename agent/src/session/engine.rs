//! The engine: what the hooks call, around each real call.

use super::arena::{Arena, Cell, Inside, MISSED_BYTES, MISSED_CLOSE, Protocol, Session};
use super::descriptors::Descriptors;
use super::peer;
use super::process::{Kind, Process};
use super::ssl::SslMap;
use super::thread::{Slice, Thread};
use crate::clock::monotonic_ns;
use crate::protocol::{Direction, Event, Step, TextRef};
use crate::segment::layout::header;
use crate::segment::{Segment, TextKind};
use crate::sqlite::Sqlite;
use crate::sys::process;

/// A session as a hook found it before the real call, to be found again after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Below, the session's number + 1 (0: not a session, nothing to do afterwards); above, its cell's generation.
    session: u64,
    /// When the call began, where that matters; [`ASIDE`] of a session that stands aside. (A ticket is two registers.)
    pub(super) stamp_ns: u64,
}

/// In a ticket's stamp: the session stands aside. No clock shows it: the machine has not been up for 584 years.
pub(super) const ASIDE: u64 = u64::MAX;

impl Ticket {
    /// Not a session.
    pub const NONE: Ticket = Ticket { session: 0, stamp_ns: 0 };

    #[inline(always)]
    pub(super) fn new(entry: u32, generation: u32, stamp_ns: u64) -> Self {
        Ticket { session: u64::from(entry) | u64::from(generation) << 32, stamp_ns }
    }

    /// The session's number + 1.
    #[inline(always)]
    pub(super) fn entry(&self) -> u32 {
        self.session as u32
    }

    /// The generation of the session's cell.
    #[inline(always)]
    pub(super) fn generation(&self) -> u32 {
        (self.session >> 32) as u32
    }

    /// True when there is something to do after the real call.
    #[inline(always)]
    pub fn is_some(&self) -> bool {
        self.session != 0
    }

    /// True when the session stands aside: [`Engine::read_end_aside`] comes first.
    #[inline(always)]
    pub fn is_aside(&self) -> bool {
        self.stamp_ns == ASIDE
    }
}

/// Everything the agent keeps for a process. One static of it exists in the library.
pub struct Engine {
    pub(super) process: Process,
    pub(super) descriptors: Descriptors,
    pub(super) arena: Arena,
    pub(super) ssl: SslMap,
    /// SQLite's statements.
    pub sqlite: Sqlite,
}

/// No machine answers more events than this to one piece of input: a command of a few bytes each in the largest buffer
/// that a server reads. A machine that does is broken, and its session lost.
const EVENTS_MAX: usize = 1 << 20;

impl Engine {
    /// Before the constructor ran.
    pub const fn new() -> Self {
        Engine {
            process: Process::new(),
            descriptors: Descriptors::new(),
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
        self.session_of(fd) != 0
    }

    /// Number + 1 of the session whose socket `fd` is; 0: nothing of interest.
    #[inline(always)]
    pub fn session_of(&self, fd: i32) -> u32 {
        if self.process.is_awake() { self.descriptors.at(fd) } else { 0 }
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

    /// A connection was accepted on descriptor `fd` from `address` (a `sockaddr`).
    pub fn accepted(&self, t: &mut Thread, fd: i32, address: &[u8]) {
        let Some(segment) = self.process.segment_or_attach() else { return };
        // A number that we still know was closed behind our back.
        self.closed(t, fd);
        let client = peer::client_of(address);
        if client.is_empty() {
            return;
        }
        let uid = segment.next_uid();
        let Some((n, _)) = self.arena.open(fd, uid, client.as_slice()) else {
            segment.count(header::LOST_SESSIONS, 1);
            return;
        };
        segment.count(header::ACCEPTED, 1);
        if self.descriptors.set(fd, n + 1).is_none() {
            self.arena.close(n);
            segment.count(header::LOST_SESSIONS, 1);
        }
    }

    /// Descriptor `fd` is, or is about to be, something else: closed, connected by ourselves, overwritten by dup2.
    pub fn closed(&self, t: &mut Thread, fd: i32) {
        let entry = self.descriptors.at(fd);
        let Some(n) = entry.checked_sub(1) else { return };
        if process::tid() != t.tid {
            // A vfork child: it has a table of descriptors of its own, but our memory.
            return;
        }
        let Some(segment) = self.process.segment() else { return };
        self.descriptors.set(fd, 0);
        let Some(cell) = self.arena.cell(n) else { return };
        match cell.enter() {
            Some(s) => self.end_session(t, n, s, segment),
            None => {
                cell.note_missed(MISSED_CLOSE);
                // Whoever was inside looks at the note after leaving; if it had left before the note, we do it.
                self.heed_notes(t, n, cell, segment);
            }
        }
    }

    /// All descriptors from `first` to `last` are about to be closed (close_range(2), closefrom(3)).
    pub fn closed_range(&self, t: &mut Thread, first: u32, last: u32) {
        for n in 0.. {
            let Some(cell) = self.arena.cell(n) else { break };
            let fd = match cell.enter() {
                Some(s) => s.fd,
                None => continue,
            };
            if (first..=last).contains(&(fd as u32)) && self.descriptors.at(fd) == n + 1 {
                self.closed(t, fd);
            }
        }
    }

    fn end_session(&self, t: &mut Thread, n: u32, mut s: Inside<'_>, segment: &Segment<'static>) {
        let entry = n + 1;
        self.join_unit(t, entry, &mut s, segment);
        let active = s.running.active;
        if let Some(machine) = s.machine() {
            let evicted = machine.evicted_statements();
            machine.parked(true);
            if evicted != 0 {
                segment.count(header::EVICTED_STATEMENTS, evicted);
            }
        }
        if active {
            self.finish_unit(t, entry, &mut s, segment, true);
        }
        if t.slice.session == entry {
            t.slice = Slice::default();
        }
        if let Some(slot) = s.slot {
            slot.release();
        }
        if s.ssl != 0 {
            self.ssl.remove(s.ssl);
        }
        let pooled = s.pooled != 0;
        drop(s);
        self.arena.close(n);
        if !pooled {
            // This thread may serve no other session for hours.
            self.release_lane(t);
        }
    }

    /// Does what another thread could not do while we were inside.
    #[cold]
    fn heed_notes(&self, t: &mut Thread, n: u32, cell: &Cell, segment: &Segment<'static>) {
        let Some(mut s) = cell.enter() else { return };
        let notes = cell.take_missed();
        if notes & MISSED_BYTES != 0 {
            self.lose(&mut s, segment);
        }
        if notes & MISSED_CLOSE != 0 {
            self.end_session(t, n, s, segment);
        }
    }

    /// The session can't be followed any further.
    fn lose(&self, s: &mut Session, segment: &Segment<'static>) {
        if s.protocol() == Protocol::Ignored {
            return;
        }
        s.protocol = Protocol::Ignored as u8;
        s.running.active = false;
        segment.count(header::LOST_SESSIONS, 1);
        if let Some(slot) = s.slot {
            slot.finish();
        }
    }

    /// Runs `work` inside session `entry`, if nobody else is inside.
    #[inline]
    pub(super) fn visit(
        &self,
        t: &mut Thread,
        entry: u32,
        generation: Option<u32>,
        work: impl FnOnce(&Self, &mut Thread, &mut Session, &Segment<'static>),
    ) -> bool {
        let Some(cell) = self.cell(entry) else { return false };
        generation.is_none_or(|g| g == cell.generation()) && self.visit_cell(t, entry, cell, work)
    }

    /// The same where the session's cell is at hand.
    #[inline(always)]
    pub(super) fn visit_cell(
        &self,
        t: &mut Thread,
        entry: u32,
        cell: &Cell,
        work: impl FnOnce(&Self, &mut Thread, &mut Session, &Segment<'static>),
    ) -> bool {
        let Some(segment) = self.process.segment() else { return false };
        let Some(mut s) = cell.enter() else {
            cell.note_missed(MISSED_BYTES);
            return false;
        };
        if s.protocol() != Protocol::Ignored {
            work(self, t, &mut s, segment);
        }
        drop(s);
        if cell.has_missed() {
            self.heed_notes(t, entry.wrapping_sub(1), cell, segment);
        }
        true
    }

    #[inline]
    pub(super) fn ticket(&self, entry: u32, stamp_ns: u64) -> Ticket {
        self.cell(entry).map_or(Ticket::NONE, |cell| Ticket::new(entry, cell.generation(), stamp_ns))
    }

    /// Before a read of at most `requested` bytes from the socket of session `entry` (number + 1), which is in `cell`.
    #[inline(always)]
    pub fn read_begin(&self, t: &mut Thread, cell: &Cell, entry: u32, requested: usize) -> Ticket {
        let (mut plain, mut aside) = (false, false);
        self.visit_cell(t, entry, cell, |engine, t, s, segment| {
            plain = s.tls == 0;
            if plain {
                let capturing = engine.before_read(t, entry, s, segment, requested);
                aside = engine.stand_aside(cell, s, requested, capturing);
            } else {
                engine.learn_ssl(t, entry, s);
            }
        });
        match plain {
            false => Ticket::NONE,
            true => Ticket::new(entry, cell.generation(), if aside { ASIDE } else { 0 }),
        }
    }

    /// After a read: the bytes it brought.
    #[inline(always)]
    pub fn read_end(&self, t: &mut Thread, ticket: Ticket, bytes: &[u8]) {
        let entry = ticket.entry();
        self.visit(t, entry, Some(ticket.generation()), |engine, t, s, segment| {
            s.bytes_in = s.bytes_in.wrapping_add(bytes.len() as u64);
            engine.feed(t, entry, s, segment, Direction::FromClient, bytes, 0);
        });
    }

    /// Before a write to the socket of session `entry` (number + 1), which is in `cell`.
    #[inline(always)]
    pub fn write_begin(&self, t: &mut Thread, cell: &Cell, entry: u32) -> Ticket {
        let mut stamp_ns = None;
        if t.slice.session == entry && t.slice.plain {
            // This thread runs the session's query: all that a write needs is the time of the first one.
            stamp_ns = Some(if t.slice.responded { 0 } else { monotonic_ns() });
        } else {
            self.visit_cell(t, entry, cell, |engine, t, s, segment| {
                if s.tls == 0 {
                    stamp_ns = Some(engine.before_write(t, entry, s, segment));
                } else {
                    engine.learn_ssl(t, entry, s);
                }
            });
        }
        stamp_ns.map_or(Ticket::NONE, |stamp_ns| Ticket::new(entry, cell.generation(), stamp_ns))
    }

    /// After a write: the bytes that the kernel (or the TLS library) took.
    #[inline(always)]
    pub fn write_end(&self, t: &mut Thread, ticket: Ticket, bytes: &[u8]) {
        let entry = ticket.entry();
        self.visit(t, entry, Some(ticket.generation()), |engine, t, s, segment| {
            s.bytes_out = s.bytes_out.wrapping_add(bytes.len() as u64);
            engine.feed_answer(t, entry, s, segment, bytes, ticket.stamp_ns);
        });
    }

    /// Descriptor `fd` was, or is about to be, handed to a poller (epoll_ctl ADD or MOD).
    pub fn parked(&self, t: &mut Thread, fd: i32) {
        if self.process.kind() == Kind::Postgres {
            // Its backends poll in the middle of queries, and one process serves one session.
            return;
        }
        let entry = self.descriptors.at(fd);
        if self.stands_aside(entry) {
            return;
        }
        self.visit(t, entry, None, |engine, t, s, segment| {
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
        let entry = self.descriptors.at(fd);
        if let Some(cell) = entry.checked_sub(1).and_then(|n| self.arena.cell(n))
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
        let entry = t.slice.session;
        let mut pooled = false;
        self.visit(t, entry, None, |_, _, s, _| pooled = s.pooled != 0);
        if pooled && let Some(segment) = self.process.segment() {
            self.close_slice(t, segment);
        }
    }

    /// Before the thread polls: the time, if it is in the middle of a query.
    #[inline]
    pub fn client_wait_begin(&self, t: &mut Thread) -> Option<u64> {
        (t.slice.session != 0).then(monotonic_ns)
    }

    /// After it has polled `fd` alone since `since_ns`: if that is the socket of the query it runs, it waited for its
    /// client.
    pub fn client_wait_end(&self, t: &mut Thread, fd: i32, since_ns: u64) {
        let entry = self.descriptors.at(fd);
        if entry != 0 && t.slice.session == entry {
            self.visit(t, entry, None, |_, _, s, _| {
                s.running.client_wait_ns += monotonic_ns().saturating_sub(since_ns);
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

    /// True while capture is on.
    #[inline]
    pub(super) fn before_read(
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
                self.finish_unit(t, entry, s, segment, shut);
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
        if running.active && running.generation != 0 && running.first_byte_ns == 0 {
            monotonic_ns()
        } else {
            0
        }
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn feed(
        &self,
        t: &mut Thread,
        entry: u32,
        s: &mut Session,
        segment: &Segment<'static>,
        direction: Direction,
        bytes: &[u8],
        stamp_ns: u64,
    ) {
        if s.protocol() == Protocol::Undetected {
            let protocol = detect(self.process.kind(), direction, bytes);
            s.speak(protocol);
        }
        let mut input = bytes;
        for _ in 0..EVENTS_MAX {
            match s.step(direction, &mut input) {
                None | Some(Step::NeedMore) => return,
                // What every query has.
                Some(Step::Event(Event::Started)) => self.start_unit(t, entry, s, segment),
                Some(Step::Event(Event::FirstResponse)) => self.first_response(t, entry, s, stamp_ns),
                Some(step) => {
                    if !self.act(t, entry, s, segment, step, stamp_ns) {
                        return;
                    }
                }
            }
        }
        self.lose(s, segment);
    }

    /// The first response byte of what runs was sent.
    #[inline(always)]
    pub(super) fn first_response(&self, t: &mut Thread, entry: u32, s: &mut Session, stamp_ns: u64) {
        if s.running.first_byte_ns == 0 {
            s.running.first_byte_ns = stamp_ns;
        }
        if t.slice.session == entry {
            t.slice.responded = true;
        }
    }

    /// Acts on a machine's answer; false: there is no more to come from this input.
    fn act(
        &self,
        t: &mut Thread,
        entry: u32,
        s: &mut Session,
        segment: &Segment<'static>,
        step: Step,
        stamp_ns: u64,
    ) -> bool {
        let event = match step {
            Step::NeedMore => return false,
            Step::Lost(_) => {
                self.lose(s, segment);
                return false;
            }
            Step::Event(event) => event,
        };
        match event {
            Event::TlsStarts => {
                s.tls = 1;
                return false;
            }
            Event::LoggedIn | Event::IdentityChanged => {
                if event == Event::LoggedIn {
                    s.logged_in = 1;
                    // The session's number as the server's own lists have it, so that people can tell which it is.
                    let connection = s.machine().map_or(0, |m| m.identity().connection_id) & 0xffff_ffff;
                    s.uid = s.uid & 0xffff_ffff | connection << 32;
                    self.take_slot(t, s, segment);
                }
                s.identity_hash = 0;
                if s.logged_in != 0 {
                    self.store_identity(s, segment, segment.control().capture());
                }
            }
            Event::Text => {
                if let Some(machine) = s.machine() {
                    let (text, TextRef { hash, .. }) = machine.announced_text();
                    segment.texts().put(hash, TextKind::Statement, text);
                }
            }
            Event::Started => self.start_unit(t, entry, s, segment),
            Event::FirstResponse => {
                if s.running.first_byte_ns == 0 {
                    s.running.first_byte_ns = stamp_ns;
                }
            }
            Event::Finished => {
                let shut = s.running.shut;
                self.finish_unit(t, entry, s, segment, shut);
            }
            Event::NotASession | Event::Streaming => {
                s.running.active = false;
                s.protocol = Protocol::Ignored as u8;
                if let Some(slot) = s.slot {
                    slot.finish();
                }
                return false;
            }
            Event::Quit => {}
        }
        true
    }
}

/// Which protocol the first bytes of a connection are.
///
/// MySQL's server speaks first (a packet with sequence number 0 whose payload is protocol version 0a, or an error ff);
/// PostgreSQL's client does (a length and a version or request code, or a TLS hello).
fn detect(kind: Kind, direction: Direction, bytes: &[u8]) -> Protocol {
    match (direction, bytes) {
        (Direction::ToClient, [_, _, _, 0, 0x0a | 0xff, ..]) if kind != Kind::Postgres => Protocol::MySql,
        (Direction::FromClient, _) if kind == Kind::Postgres => Protocol::Postgres,
        (Direction::FromClient, [0, 0, _, _, 0, 3, 0, _, ..]) if kind == Kind::Any => Protocol::Postgres,
        (Direction::FromClient, [0, 0, 0, _, 0x04, 0xd2, 0x16, _, ..]) if kind == Kind::Any => {
            Protocol::Postgres
        }
        _ => Protocol::Ignored,
    }
}
