//! The direct way of the usual query: a command that is there whole, and an answer that is sent whole, without the session's
//! machine. Here it begins; [`direct_end`](super::direct_end) says how it ends.
//!
//! What a query costs its server is above all how much code runs for it, once each, with caches that the server itself
//! has filled. So the usual case has a path of its own, which looks at what the wire brought and keeps no more of it than
//! the record will say: the record is begun with the command, text and all, in its place in the thread's ring, and ended and
//! published with the answer. Whenever something else happens (an error, an answer in parts, another thread, the session's
//! end), [`Engine::leave_if_direct`] tells the machine what it has missed, and the ordinary way goes on from there.
//!
//! In the servers that we know a query stays on its thread, unless a poller watches the socket. So that thread
//! [stays](super::arena::Stay) in the session from the command to the end, and has to enter it once.
//!
//! The session's word says where such a unit is: [`ASKED`] from the command on, and of a MySQL session
//! [`ANSWERED`](super::quiet::ANSWERED) from the answer to the server's next reading, which ends it.

use super::arena::{Cell, MISSED_BYTES};
use super::aside::Header;
use super::engine::{Engine, Ticket};
use super::quiet::{self, ASKED, HEADER_BYTES, TLS};
use super::quiet_postgres::{ONE_COMMAND, POSTGRES, REPORTS_LAST};
use super::state::Session;
use super::thread::Thread;
use super::unit::Running;
use crate::clock::monotonic_ns;
use crate::protocol::{Asked, Command, Dialect};
use crate::segment::record::short;
use crate::segment::writer::{Begun, begin_brief, reserve_brief};
use core::hint::cold_path;
use core::sync::atomic::Ordering;

impl Engine {
    /// The body of a MySQL command was read whole, or not, in a read for `requested` bytes, by a session that stands aside
    /// while `capture` is on. True: it goes the direct way from here; false: it has to go the ordinary one.
    #[inline(always)]
    pub fn start_command(
        &self,
        t: &mut Thread,
        ticket: Ticket,
        requested: usize,
        body: &[u8],
        capture: u64,
    ) -> bool {
        let Some(cell) = ticket.cell() else { return true };
        let word = cell.quiet.load(Ordering::Relaxed);
        let is_body = requested == body.len() && requested != HEADER_BYTES;
        if !is_body || word & !(TLS | quiet::CAPTURING) != quiet::ASIDE {
            return false;
        }
        self.start_mysql(t, cell, word, capture, body)
    }

    /// The same of what a PostgreSQL session has read.
    #[inline(always)]
    pub fn start_request(&self, t: &mut Thread, ticket: Ticket, bytes: &[u8], capture: u64) -> bool {
        let Some(cell) = ticket.cell() else { return true };
        let word = cell.quiet.load(Ordering::Relaxed);
        if word & !(TLS | quiet::CAPTURING | REPORTS_LAST) != quiet::ASIDE | POSTGRES {
            return false;
        }
        self.start_postgres(t, cell, word, capture, bytes)
    }

    /// The same of either, where something had to be looked at before.
    pub(super) fn start_at_last(
        &self,
        t: &mut Thread,
        cell: &'static Cell,
        header: Option<Header>,
        bytes: &[u8],
    ) -> bool {
        let word = cell.quiet.load(Ordering::Relaxed);
        let capture = self.capture();
        match header {
            Some([a, b, c, _]) if u32::from_le_bytes([a, b, c, 0]) as usize == bytes.len() => {
                self.start_mysql(t, cell, word, capture, bytes)
            }
            Some(_) => false,
            None => self.start_postgres(t, cell, word, capture, bytes),
        }
    }

    #[inline(always)]
    fn start_mysql(&self, t: &mut Thread, cell: &'static Cell, word: u64, capture: u64, body: &[u8]) -> bool {
        self.start_directly::<false>(t, cell, word, capture, HEADER_BYTES + body.len(), |s| {
            let (asked, text) = s.mysql()?.direct_command(body)?;
            Some((asked, text, s.dialect))
        })
    }

    #[inline(always)]
    fn start_postgres(
        &self,
        t: &mut Thread,
        cell: &'static Cell,
        word: u64,
        capture: u64,
        bytes: &[u8],
    ) -> bool {
        // A PostgreSQL backend has one thread; MariaDB has many, and need not be asked.
        self.start_directly::<true>(t, cell, word, capture, bytes.len(), |s| {
            let (asked, text) = s.postgres()?.direct_request(bytes)?;
            Some((asked, text, Dialect::Postgres))
        })
    }

    #[inline(always)]
    fn start_directly<'a, const MAY_BE_ALONE: bool>(
        &self,
        t: &mut Thread,
        cell: &'static Cell,
        word: u64,
        capture: u64,
        read: usize,
        ask: impl FnOnce(&mut Session) -> Option<(Asked, &'a [u8], Dialect)>,
    ) -> bool {
        if (t.goes_directly_in != capture || t.runs_a_query()) && !self.get_ready(t, capture) {
            return false;
        }
        let Some(mut inside) = t.come_into_if(cell, MAY_BE_ALONE && self.process.is_alone()) else {
            cold_path();
            cell.note_missed(MISSED_BYTES);
            return false;
        };
        let s = &mut *inside;
        let started = match ask(s) {
            Some((asked, text, dialect)) if s.pooled == 0 => {
                if !s.is_identified_in(capture) {
                    self.identify(s, capture);
                }
                if t.plain_left == 0 {
                    self.begin_looking(t, cell, s, &Begin { capture, word, read, asked, text, dialect })
                } else {
                    t.plain_left -= 1;
                    let begin = Begin { capture, word, read, asked, text, dialect };
                    self.begin_with::<false, false>(t, cell, s, &begin, 0.0)
                }
            }
            _ => false,
        };
        self.look_away(t, cell, inside, started);
        started
    }

    #[inline(never)]
    #[unsafe(link_section = ".text.hot.perquery.begin")]
    fn begin_looking(&self, t: &mut Thread, cell: &'static Cell, s: &mut Session, begin: &Begin<'_>) -> bool {
        match t.look() {
            None => self.begin_unmeasured(t, cell, s, begin),
            Some(weight) if weight > 0.0 => self.begin_chosen(t, cell, s, begin, weight),
            Some(_) => self.begin_with::<true, false>(t, cell, s, begin, 0.0),
        }
    }

    #[cold]
    #[inline(never)]
    fn begin_unmeasured(
        &self,
        t: &mut Thread,
        cell: &'static Cell,
        s: &mut Session,
        begin: &Begin<'_>,
    ) -> bool {
        self.begin_with::<false, false>(t, cell, s, begin, 0.0)
    }

    #[inline(never)]
    #[unsafe(link_section = ".text.hot.perquery.begin")]
    fn begin_chosen(
        &self,
        t: &mut Thread,
        cell: &'static Cell,
        s: &mut Session,
        begin: &Begin<'_>,
        weight: f64,
    ) -> bool {
        self.begin_with::<true, true>(t, cell, s, begin, weight)
    }

    /// Begins the unit and its record; false: there is no room for it. `MEASURED`: there is more to be found out than when it
    /// was; `CHOSEN`: its dear counters too.
    #[inline(always)]
    fn begin_with<const MEASURED: bool, const CHOSEN: bool>(
        &self,
        t: &mut Thread,
        cell: &'static Cell,
        s: &mut Session,
        begin: &Begin<'_>,
        weight: f64,
    ) -> bool {
        let counters = if CHOSEN { t.counters_at_most() } else { 0 };
        let Begin { capture, word, read, asked, text, dialect } = *begin;
        let Some(lane) = &t.lane else { return false };
        let Some(room) = reserve_brief(lane, text, counters, &mut t.free_until) else { return false };
        let unit = s.running.unit.wrapping_add(1);
        begin_brief(
            &room,
            &Begun {
                session_uid: s.uid,
                identity_hash: s.identity_hash,
                text_hash: asked.text.hash,
                text_len: asked.text.full_len,
                unit,
                tid: t.tid,
                dialect,
                command: asked.command,
            },
            text,
        );
        s.room = Some(room);
        self.show(s, asked);
        s.bytes_in = s.bytes_in.wrapping_add(read as u64);
        s.running = Running {
            active: true,
            generation: capture,
            weight,
            unit,
            slice_tid: t.tid,
            ..Running::default()
        };
        let mark = match (dialect, asked.command) {
            (Dialect::Postgres, Command::Execute) => ONE_COMMAND,
            (Dialect::Postgres, _) => 0,
            _ if MEASURED => quiet::MEASURED,
            _ => 0,
        };
        cell.quiet.store(ASKED | mark | word & (TLS | POSTGRES | REPORTS_LAST), Ordering::Relaxed);
        t.slice.session = cell.entry();
        t.slice.plain = word & TLS == 0;
        t.slice.responded = false;
        t.slice.unmeasured = !MEASURED;
        t.slice.chosen = CHOSEN;
        // Nearly the last thing: none of the above is the query's time.
        let start_ns = if MEASURED { t.begin_command(CHOSEN) } else { t.first_now_ns() };
        s.running.start_ns = start_ns;
        room.set(short::START_NS, start_ns);
        if let Some(slot) = s.slot {
            slot.start_again(start_ns);
        }
        true
    }

    /// The thread's first unit of a capture, or one that it turns to while it has another one open. False: capture is off, or
    /// not for every session.
    #[cold]
    #[inline(never)]
    fn get_ready(&self, t: &mut Thread, capture: u64) -> bool {
        let Some(segment) = self.process.segment().filter(|_| capture != 0) else { return false };
        self.close_slice(t, segment);
        self.prepare(t, segment, capture);
        let all = self.lane(t, segment, monotonic_ns()).is_some() && segment.control().only_connection() == 0;
        t.goes_directly_in = if all { capture } else { 0 };
        all
    }

    #[cold]
    #[inline(never)]
    fn identify(&self, s: &mut Session, capture: u64) {
        if let Some(segment) = self.process.segment() {
            self.store_identity(s, segment, capture);
        }
    }

    /// The session's slot shows what is about to run, whose record was begun in the session's room.
    #[inline(always)]
    fn show(&self, s: &mut Session, asked: Asked) {
        if asked.text.hash == 0 || s.shown_hash != asked.text.hash {
            self.show_anew(s, asked.command, asked.text.hash, asked.text.full_len);
        }
    }

    #[inline(never)]
    #[unsafe(link_section = ".text.hot.perquery.show")]
    fn show_anew(&self, s: &mut Session, command: Command, hash: u64, full_len: u32) {
        s.shown_hash = hash;
        let (Some(slot), Some(segment), Some(room)) = (s.slot, self.process.segment(), s.room) else {
            return;
        };
        if hash == 0 {
            slot.show_record(command, segment.position_of(room.words()));
        } else {
            slot.start(0, command, &[], hash, full_len);
        }
    }
}

/// What is about to begin.
struct Begin<'a> {
    capture: u64,
    /// The session's word.
    word: u64,
    /// Bytes that were read.
    read: usize,
    asked: Asked,
    text: &'a [u8],
    dialect: Dialect,
}
