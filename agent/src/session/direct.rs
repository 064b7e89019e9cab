//! The direct way of the usual query: a command that is there whole, and an answer that is sent whole, without the session's
//! machine.
//!
//! What a query costs its server is above all how much code runs for it, once each, with caches that the server itself
//! has filled. So the usual case has a path of its own, which looks at what the wire brought and keeps no more of it than
//! the record will say: the record is begun with the command, text and all, in its place in the thread's ring, and ended and
//! published with the answer. Whenever something else happens (an error, an answer in parts, another thread, the session's
//! end), [`Engine::leave_if_direct`] tells the machine what it has missed, and the ordinary way goes on from there.
//!
//! The session's word says where such a unit is: [`ASKED`] from the command on, and of a MySQL session [`ANSWERED`] from
//! the answer to the server's next reading, which ends it.

use super::arena::{Cell, MISSED_BYTES};
use super::aside::Header;
use super::engine::{Engine, Ticket};
use super::measure::Measured;
use super::quiet::{self, ANSWERED, ASKED, HEADER_BYTES, LOUD, TLS};
use super::quiet_postgres::POSTGRES;
use super::state::{Protocol, Session};
use super::thread::{Share, Thread};
use super::unit::{Of, Running, show_unit};
use crate::clock::monotonic_ns;
use crate::counters::CLIENT_WAIT_NS;
use crate::protocol::postgres::Postgres;
use crate::protocol::{
    Answer, Asked, Command, Dialect, Outcome, PackedAnswer, TEXT_CAP, TextRef, Unit, UnitText,
};
use crate::segment::record::{FLAG_COUNTED, SHORT_SESSION_WORDS, short};
use crate::segment::ring::Slot;
use crate::segment::writer::{Begun, add_counters, answer_brief, begin_brief, end_brief, reserve_brief};
use crate::strings::Bytes;
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
        if word & !(TLS | quiet::CAPTURING) != quiet::ASIDE | POSTGRES {
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
        self.start_directly(t, cell, word, capture, HEADER_BYTES + body.len(), |s| {
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
        self.start_directly(t, cell, word, capture, bytes.len(), |s| {
            let (asked, text) = s.postgres()?.direct_request(bytes)?;
            Some((asked, text, Dialect::Postgres))
        })
    }

    #[inline(always)]
    fn start_directly<'a>(
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
        let Some(mut inside) = cell.enter() else {
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
        drop(inside);
        self.heed(t, cell);
        started
    }

    #[inline(never)]
    #[unsafe(link_section = ".text.hot.perquery")]
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
    #[unsafe(link_section = ".text.hot.perquery")]
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
        let Some(lane) = t.lane else { return false };
        let Some(room) = reserve_brief(&lane, text, counters) else { return false };
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
        self.show(s, asked, &room);
        s.bytes_in = s.bytes_in.wrapping_add(read as u64);
        s.running = Running {
            active: true,
            generation: capture,
            weight,
            unit,
            slice_tid: t.tid,
            ..Running::default()
        };
        cell.quiet.store(ASKED | word & (TLS | POSTGRES), Ordering::Relaxed);
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

    /// The session's slot shows what is about to run, whose record was begun in `room`.
    #[inline(always)]
    fn show(&self, s: &mut Session, asked: Asked, room: &Slot<'static>) {
        let hash = asked.text.hash;
        if hash != 0 && s.shown_hash == hash {
            return;
        }
        s.shown_hash = hash;
        let (Some(slot), Some(segment)) = (s.slot, self.process.segment()) else { return };
        if hash == 0 {
            slot.show_record(asked.command, segment.position_of(room.words()));
        } else {
            slot.start(0, asked.command, &[], hash, asked.text.full_len);
        }
    }

    /// The server of a MySQL session has sent `bytes`. False: that was not the whole answer to a direct command.
    #[inline(always)]
    pub(super) fn take_answer(&self, t: &mut Thread, cell: &'static Cell, bytes: &[u8]) -> bool {
        let word = cell.quiet.load(Ordering::Relaxed);
        if word & (ASKED | POSTGRES) != ASKED || t.slice.session != cell.entry() {
            return false;
        }
        let Some(mut inside) = cell.enter() else { return false };
        let s = &mut *inside;
        let answered = take(s, s.framing.answer(bytes), bytes.len());
        if answered {
            s.running.first_byte_ns = t.write_ns;
            t.slice.responded = true;
            if t.slice.chosen {
                t.after_answer();
            }
            cell.quiet.store(ANSWERED | word & TLS, Ordering::Relaxed);
        }
        drop(inside);
        self.heed(t, cell);
        answered
    }

    /// The same of a PostgreSQL backend, which is ready for the next command when it has said so.
    #[inline(always)]
    pub(super) fn take_last_answer(&self, t: &mut Thread, cell: &'static Cell, bytes: &[u8]) -> bool {
        let word = cell.quiet.load(Ordering::Relaxed);
        if word & (ASKED | POSTGRES) != ASKED | POSTGRES || t.slice.session != cell.entry() {
            return false;
        }
        let answer = Postgres::direct_answer(bytes);
        let Some(mut inside) = cell.enter() else { return false };
        let s = &mut *inside;
        let ends = s.running.is_of(t.tid) && take(s, answer, bytes.len());
        if ends {
            s.running.first_byte_ns = t.write_ns;
            if t.slice.chosen {
                t.after_answer();
            }
            self.end_directly(t, cell, s, word);
        }
        drop(inside);
        self.heed(t, cell);
        ends
    }

    /// Before a read: ends the direct unit that is answered. `Some`: it did, and the session stands aside; there is nothing
    /// else to be done before the read.
    #[inline(always)]
    pub(super) fn finish_direct(
        &self,
        t: &mut Thread,
        cell: &'static Cell,
        requested: usize,
        at_tls: bool,
    ) -> Option<Ticket> {
        let word = cell.quiet.load(Ordering::Relaxed);
        let tls = if at_tls { TLS } else { 0 };
        if word != ANSWERED | tls || requested != HEADER_BYTES || t.slice.session != cell.entry() {
            return None;
        }
        let mut inside = cell.enter()?;
        let s = &mut *inside;
        let ends = s.running.is_of(t.tid);
        let next = if ends { self.end_directly(t, cell, s, word) } else { 0 };
        drop(inside);
        self.heed(t, cell);
        ends.then(|| Ticket::of(cell, next))
    }

    /// The unit is over, and the session stands aside, with this word.
    #[inline(always)]
    fn end_directly(&self, t: &mut Thread, cell: &'static Cell, s: &mut Session, word: u64) -> u64 {
        // The first thing: none of the below is the query's time.
        let now = t.now_ns();
        let next = quiet::resting(word & (POSTGRES | TLS) | quiet::CAPTURING);
        cell.quiet.store(next, Ordering::Relaxed);
        s.running.active = false;
        t.slice.session = 0;
        if let Some(slot) = s.slot {
            slot.finish();
        }
        if !t.slice.unmeasured {
            if t.slice.chosen {
                self.record_chosen(t, s, now);
            } else {
                self.record_watched(t, s, now);
            }
            return next;
        }
        t.plain_ended(now, now.saturating_sub(s.running.start_ns));
        if let Some(lane) = t.lane
            && self.record_briefly(s, now, 0)
        {
            lane.note_execution();
        } else {
            t.counts.known = 0;
            self.record_at_length(t, s, Measured::default(), now);
        }
        next
    }

    /// The record of a unit that ended at `now`, with what was found out about it by watching.
    #[inline(never)]
    #[unsafe(link_section = ".text.hot.perquery")]
    fn record_watched(&self, t: &mut Thread, s: &mut Session, now: u64) {
        let (measured, flags) = t.end_command(false, now, now.saturating_sub(s.running.start_ns));
        let recorded = self.record_briefly(s, now, flags);
        self.close_account(t, s, false, measured, now, recorded);
    }

    /// The same of a chosen one, with its counters.
    #[inline(never)]
    #[unsafe(link_section = ".text.hot.perquery")]
    fn record_chosen(&self, t: &mut Thread, s: &mut Session, now: u64) {
        let (measured, flags) = t.end_command(true, now, now.saturating_sub(s.running.start_ns));
        if let Some(room) = &mut s.room {
            add_counters(room, s.running.weight, &t.counts, measured.exact);
        }
        let recorded = self.record_briefly(s, now, flags | FLAG_COUNTED);
        self.close_account(t, s, true, measured, now, recorded);
        t.price_record(now);
    }

    /// Notes what the measurement of a unit was whose short record was written; where that could not be, its long one is
    /// written now.
    #[inline(always)]
    fn close_account(
        &self,
        t: &mut Thread,
        s: &mut Session,
        chosen: bool,
        measured: Measured,
        now: u64,
        recorded: bool,
    ) {
        if !recorded {
            self.record_at_length(t, s, measured, now);
        } else if let Some(lane) = t.lane {
            t.account(&lane, chosen, measured, t.paid_ns(), 1);
        }
    }

    /// Ends the record that was begun with the unit, which ended at `now`. False: there is more to say than in short, or nobody
    /// waits for it; nothing was done.
    #[inline(always)]
    fn record_briefly(&self, s: &mut Session, now: u64, flags: u32) -> bool {
        let Running { generation, start_ns, first_byte_ns, client_wait_ns, .. } = s.running;
        let latency_ns = now.saturating_sub(start_ns);
        let first_byte_ns = first_byte_ns.saturating_sub(start_ns);
        let (Some(segment), Some(room)) = (self.process.segment(), s.room) else { return false };
        let control = segment.control();
        if (latency_ns | first_byte_ns) >= u64::from(u32::MAX)
            || client_wait_ns != 0
            || control.generation() != generation
            || control.is_collector_silent(now)
        {
            return false;
        }
        (s.bytes_in, s.bytes_out) = (0, 0);
        end_brief(room, latency_ns as u32, first_byte_ns as u32, flags);
        true
    }

    /// The record of a unit of which there is more to say than in short, or nothing at all.
    #[cold]
    #[inline(never)]
    fn record_at_length(&self, t: &mut Thread, s: &mut Session, mut measured: Measured, now: u64) {
        let (bytes_in, bytes_out) = (core::mem::take(&mut s.bytes_in), core::mem::take(&mut s.bytes_out));
        let running = s.running;
        if !self.process.segment().is_some_and(|segment| Self::is_wanted(segment, running.generation, now)) {
            return;
        }
        let (Some(room), Some(lane)) = (s.room, t.lane) else { return };
        let Some(asked) = asked_in(&room, s.uid, running.start_ns) else { return };
        // The long record takes the place of the one that was begun.
        let mut kept = Bytes::<TEXT_CAP>::new();
        text_in(&room, &mut |bytes| kept.push(bytes));
        let dialect = s.dialect;
        let of = Of { uid: s.uid, identity_hash: s.identity_hash, dialect, bytes_in, bytes_out };
        let text = match asked.text {
            stored if stored.hash != 0 => UnitText::Stored(stored),
            text => UnitText::Inline { bytes: kept.as_slice(), full_len: text.full_len },
        };
        let answer = answer_in(&room);
        let outcome = Outcome {
            rows_returned: answer.rows_returned.into(),
            rows_affected: answer.rows_affected.into(),
            ..Outcome::default()
        };
        let unit = Unit { command: asked.command, text, statements: 1, members: &[], outcome };
        if matches!(s.protocol(), Protocol::MySql) {
            t.counts.set(CLIENT_WAIT_NS, running.client_wait_ns);
            measured.exact |= 1 << CLIENT_WAIT_NS;
        }
        self.record_unit(t, &lane, &running, &of, &unit, measured, now, false);
    }

    /// The session's machine is told of the unit that goes the direct way, if one does: the ordinary way goes on from
    /// here.
    #[inline(always)]
    pub(super) fn leave_if_direct(&self, t: &mut Thread, cell: &Cell, s: &mut Session) {
        if cell.is_direct() {
            self.leave_direct(t, cell, s);
        }
    }

    #[cold]
    #[inline(never)]
    fn leave_direct(&self, t: &mut Thread, cell: &Cell, s: &mut Session) {
        let answered = cell.quiet.load(Ordering::Relaxed) & ANSWERED != 0;
        cell.quiet.store(LOUD, Ordering::Relaxed);
        let (running, uid) = (s.running, s.uid);
        if t.slice.session == cell.entry() {
            if t.slice.unmeasured {
                t.forget_watch();
            }
            t.slice.unit = running.unit;
            t.share = Share { uid, start_ns: running.start_ns, weight: running.weight };
        }
        let Some(room) = s.room.take() else { return };
        let Some(asked) = asked_in(&room, uid, running.start_ns) else { return };
        if let Some(machine) = s.mysql() {
            machine.catch_up(asked, answered.then(|| answer_in(&room)), |to| text_in(&room, to));
        } else if let Some(machine) = s.postgres() {
            machine.catch_up(asked, |to| text_in(&room, to));
        }
        show_unit(s);
        if let Some(slot) = s.slot {
            slot.start_again(running.start_ns);
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

/// Takes an answer of so many `bytes` into the record that was begun. False: there is none, or it is too large for that.
#[inline(always)]
fn take(s: &mut Session, answer: PackedAnswer, bytes: usize) -> bool {
    let bytes_out = s.bytes_out.wrapping_add(bytes as u64);
    let (Some(answer), Some(room)) = (answer.word(), s.room) else { return false };
    let (Ok(bytes_in), Ok(bytes_out_short)) = (u32::try_from(s.bytes_in), u32::try_from(bytes_out)) else {
        return false;
    };
    answer_brief(&room, answer, bytes_in, bytes_out_short);
    s.bytes_out = bytes_out;
    true
}

/// What was answered, as a begun record says.
fn answer_in(room: &Slot<'_>) -> Answer {
    let nothing = Answer { rows_returned: 0, rows_affected: 0 };
    PackedAnswer::of(room.get(short::ROWS)).get().unwrap_or(nothing)
}

/// What was asked by the unit that started at `start_ns` in session `uid`, as its begun record says; `None`: there is another
/// one's in its place.
fn asked_in(room: &Slot<'_>, uid: u64, start_ns: u64) -> Option<Asked> {
    let is_ours = room.get(short::UID) == uid && room.get(short::START_NS) == start_ns;
    let text = TextRef { hash: room.get(short::TEXT), full_len: room.get(short::TEXT_LEN) as u32 };
    let command = Command::from_u8((room.get(short::ABOUT) >> 56) as u8);
    is_ours.then_some(Asked { command, text })
}

/// Hands the text in a begun record to `take`, piece by piece.
fn text_in(room: &Slot<'_>, take: &mut dyn FnMut(&[u8])) {
    let stored = room.get(short::TEXT) != 0;
    let mut left = if stored { 0 } else { (room.get(short::TEXT_LEN) as u32 as usize).min(TEXT_CAP) };
    let mut at = SHORT_SESSION_WORDS;
    while left > 0 {
        let word = room.get(at).to_le_bytes();
        let piece = word.get(..left).unwrap_or(&word);
        take(piece);
        left -= piece.len();
        at += 1;
    }
}
