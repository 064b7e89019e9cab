//! The direct way of the usual query: a command that is there whole, and an answer that is sent whole, without the session's
//! machine.
//!
//! What a query costs its server is above all how much code runs for it, once each, with caches that the server itself
//! has filled. So the usual case has a path of its own, which looks at what the wire brought and keeps no more of it than
//! the record will say. Whenever something else happens (an error, an answer in parts, another thread, the session's
//! end), [`Engine::leave_if_direct`] tells the machine what it has missed, and the ordinary way goes on from there.
//!
//! The session's word says where such a unit is: [`ASKED`] from the command on, and of a MySQL session [`ANSWERED`] from
//! the answer to the server's next reading, which ends it.

use super::arena::Cell;
use super::engine::Engine;
use super::measure::Measured;
use super::quiet::{self, ANSWERED, ASKED, HEADER_BYTES, LOUD, TLS};
use super::quiet_postgres::POSTGRES;
use super::state::{Protocol, Session};
use super::thread::Thread;
use super::unit::{Of, Running};
use crate::counters::CLIENT_WAIT_NS;
use crate::protocol::{Answer, Asked, Outcome, Unit, UnitText};
use crate::segment::Segment;
use crate::segment::record::{FLAG_CHOSEN_BY_SLICE, FLAG_UNSWITCHED, UNSWITCHED_MASK};
use crate::segment::writer::{Brief, reserve_brief, write_brief};
use core::sync::atomic::Ordering;

const STATE: u64 = !TLS;
const POSTGRES_ASKED: u64 = ASKED | POSTGRES;

impl Engine {
    /// A whole command of a MySQL session that was at rest while capture was on. False: it has to go the ordinary way.
    #[inline(always)]
    pub(super) fn start_directly(
        &self,
        t: &mut Thread,
        cell: &'static Cell,
        header: [u8; HEADER_BYTES],
        body: &[u8],
    ) -> bool {
        self.start_asked(t, cell, ASKED, header.len() + body.len(), |s| {
            s.mysql()?.direct_command(header, body)
        })
    }

    /// The same of a PostgreSQL session: all that it reads at once.
    #[inline(always)]
    pub(super) fn start_postgres_directly(&self, t: &mut Thread, cell: &'static Cell, bytes: &[u8]) -> bool {
        self.start_asked(t, cell, POSTGRES_ASKED, bytes.len(), |s| s.postgres()?.direct_request(bytes))
    }

    #[inline(always)]
    fn start_asked(
        &self,
        t: &mut Thread,
        cell: &'static Cell,
        state: u64,
        bytes: usize,
        ask: impl FnOnce(&mut Session) -> Option<Asked>,
    ) -> bool {
        let Some((mut s, segment)) = self.come_in(t, cell) else { return false };
        let started = self.start_inside(t, cell, &mut s, segment, state, bytes, ask).is_some();
        self.go_out(t, cell, s, segment);
        started
    }

    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    fn start_inside(
        &self,
        t: &mut Thread,
        cell: &'static Cell,
        s: &mut Session,
        segment: &Segment<'static>,
        state: u64,
        bytes: usize,
        ask: impl FnOnce(&mut Session) -> Option<Asked>,
    ) -> Option<()> {
        let control = segment.control();
        let capture = control.capture();
        if capture == 0 || control.only_connection() != 0 || s.pooled != 0 {
            return None;
        }
        let asked = ask(s)?;
        s.asked = asked;
        s.bytes_in = s.bytes_in.wrapping_add(bytes as u64);
        if t.runs_a_query() {
            self.close_slice(t, segment);
        }
        if t.generation() != capture {
            self.prepare(t, segment, capture);
        }
        show(s, asked);
        s.running = Running {
            active: true,
            generation: capture,
            unit: s.running.unit.wrapping_add(1),
            slice_tid: t.tid,
            ..Running::default()
        };
        cell.quiet.store(state | quiet::marks(s.tls != 0, false), Ordering::Relaxed);
        self.set_off(t, cell.entry(), s);
        Some(())
    }

    /// The server has sent `bytes`. False: that was not the whole answer to a direct command.
    #[inline(always)]
    pub(super) fn answer_directly(&self, t: &mut Thread, cell: &'static Cell, bytes: &[u8]) -> bool {
        let word = cell.quiet.load(Ordering::Relaxed);
        if word & (STATE & !POSTGRES) != ASKED || t.slice.session != cell.entry() {
            return false;
        }
        let Some((mut s, segment)) = self.come_in(t, cell) else { return false };
        let mut answered = false;
        if word & POSTGRES == 0 {
            if Self::take_answer(t, &mut s, bytes, |s| s.mysql()?.direct_answer(bytes)) {
                answered = true;
                cell.quiet.store(ANSWERED | word & TLS, Ordering::Relaxed);
            }
        } else if Self::take_answer(t, &mut s, bytes, |s| s.postgres()?.direct_answer(bytes)) {
            answered = true;
            // A backend is ready for the next command when it has said so.
            self.end_directly(t, cell, &mut s, segment);
        }
        self.go_out(t, cell, s, segment);
        answered
    }

    #[inline(always)]
    fn take_answer(
        t: &mut Thread,
        s: &mut Session,
        bytes: &[u8],
        read: impl FnOnce(&mut Session) -> Option<Answer>,
    ) -> bool {
        if s.running.slice_tid != t.tid || s.running.moved || s.running.shut {
            return false;
        }
        let Some(answer) = read(s) else { return false };
        s.answer = answer;
        s.bytes_out = s.bytes_out.wrapping_add(bytes.len() as u64);
        s.running.first_byte_ns = t.write_ns;
        t.slice.responded = true;
        true
    }

    /// Before a read: ends the direct unit that is answered. True: it did, and the session stands aside; there is nothing
    /// else to be done before the read.
    #[inline(always)]
    pub(super) fn finish_direct(
        &self,
        t: &mut Thread,
        cell: &'static Cell,
        requested: usize,
        at_tls: bool,
    ) -> bool {
        let word = cell.quiet.load(Ordering::Relaxed);
        let tls = if at_tls { TLS } else { 0 };
        if word != ANSWERED | tls || requested != HEADER_BYTES || t.slice.session != cell.entry() {
            return false;
        }
        let Some((mut s, segment)) = self.come_in(t, cell) else { return false };
        let goes_on = s.running.slice_tid == t.tid && !s.running.moved && !s.running.shut;
        let rests = goes_on && self.end_directly(t, cell, &mut s, segment);
        self.go_out(t, cell, s, segment);
        rests
    }

    /// The unit is over. True: the session stands aside; false: its machine, which is at rest, has to be told that capture
    /// was switched off, or on again.
    #[inline(always)]
    fn end_directly(&self, t: &mut Thread, cell: &Cell, s: &mut Session, segment: &Segment<'static>) -> bool {
        // The first thing: none of the below is the query's time.
        let now = t.now_ns();
        let generation = s.running.generation;
        self.record_end(t, s, segment, now);
        let rests = segment.control().capture() == generation;
        let word = cell.quiet.load(Ordering::Relaxed);
        let next = quiet::resting_like(word & POSTGRES, quiet::marks(word & TLS != 0, true));
        cell.quiet.store(if rests { next } else { LOUD }, Ordering::Relaxed);
        rests
    }

    #[inline(always)]
    fn record_end(&self, t: &mut Thread, s: &mut Session, segment: &Segment<'static>, now: u64) {
        s.running.active = false;
        t.slice.session = 0;
        let (generation, weight) = (s.running.generation, s.running.weight);
        let inside_ns = now.saturating_sub(s.running.start_ns);
        let measured = t.end_work(weight, now, inside_ns);
        t.ended(now, inside_ns, 1);
        if let Some(slot) = s.slot {
            slot.finish();
        }
        let (bytes_in, bytes_out) = (core::mem::take(&mut s.bytes_in), core::mem::take(&mut s.bytes_out));
        let control = segment.control();
        if control.generation() != generation {
            return;
        }
        if control.is_collector_silent(now) {
            control.give_up(generation);
            return;
        }
        self.store_identity(s, segment, generation);
        if t.lane.is_none() && self.lane(t, segment, now).is_none() {
            return;
        }
        let Some(lane) = t.lane else { return };
        let first_byte_ns = s.running.first_byte_ns.saturating_sub(s.running.start_ns);
        let unswitched = if t.counts.known == 0 { 0 } else { FLAG_UNSWITCHED };
        // What a short record can say. (That each of them fits into 32 bits is one question.)
        let is_brief = weight == 0.0
            && (t.counts.known == 0 || t.counts.known == UNSWITCHED_MASK)
            && s.running.client_wait_ns == 0
            && s.running.first_byte_ns != 0
            && (inside_ns | first_byte_ns | bytes_in | bytes_out) < u64::from(u32::MAX);
        if !is_brief {
            return self.record_directly(t, s, (bytes_in, bytes_out), measured, now);
        }
        let text = s.direct_text();
        let Some(room) = reserve_brief(&lane, text) else { return };
        let brief = Brief {
            session_uid: s.uid,
            start_ns: s.running.start_ns,
            latency_ns: inside_ns as u32,
            first_byte_ns: first_byte_ns as u32,
            identity_hash: s.identity_hash,
            text_hash: s.asked.text.hash,
            text_len: s.asked.text.full_len,
            unit: s.running.unit,
            rows_returned: s.answer.rows_returned,
            rows_affected: s.answer.rows_affected,
            tid: t.tid(),
            flags: unswitched | if t.chooses_by_slice() { FLAG_CHOSEN_BY_SLICE } else { 0 },
            dialect: s.direct_dialect(),
            command: s.asked.command,
            bytes_in: bytes_in as u32,
            bytes_out: bytes_out as u32,
        };
        write_brief(room, &brief, text);
        t.account(&lane, 0.0, measured, 0, 1);
    }

    /// Writes a record of which there is more to say.
    #[inline(never)]
    fn record_directly(
        &self,
        t: &mut Thread,
        s: &mut Session,
        (bytes_in, bytes_out): (u64, u64),
        measured: Measured,
        now: u64,
    ) {
        let Some(lane) = t.lane else { return };
        let dialect = s.direct_dialect();
        let of = Of { uid: s.uid, identity_hash: s.identity_hash, dialect, bytes_in, bytes_out };
        let text = match s.asked.text {
            stored if stored.hash != 0 => UnitText::Stored(stored),
            text => UnitText::Inline { bytes: s.direct_text(), full_len: text.full_len },
        };
        let outcome = Outcome {
            rows_returned: s.answer.rows_returned.into(),
            rows_affected: s.answer.rows_affected.into(),
            ..Outcome::default()
        };
        let unit = Unit { command: s.asked.command, text, statements: 1, members: &[], outcome };
        let mut measured = measured;
        if matches!(s.protocol(), Protocol::MySql) {
            t.counts.set(CLIENT_WAIT_NS, s.running.client_wait_ns);
            measured.exact |= 1 << CLIENT_WAIT_NS;
        }
        self.record_unit(t, &lane, &s.running, &of, &unit, measured, now, false);
    }

    /// The session's machine is told of the unit that goes the direct way, if one does: the ordinary way goes on from
    /// here.
    #[inline(always)]
    pub(super) fn leave_if_direct(&self, cell: &Cell, s: &mut Session) {
        if cell.is_direct() {
            self.leave_direct(cell, s);
        }
    }

    #[cold]
    #[inline(never)]
    fn leave_direct(&self, cell: &Cell, s: &mut Session) {
        let answered = cell.quiet.load(Ordering::Relaxed) & STATE == ANSWERED;
        let (asked, answer) = (s.asked, s.answer);
        if let Some(machine) = s.mysql() {
            machine.catch_up(asked, answered.then_some(answer));
        } else if let Some(machine) = s.postgres() {
            machine.catch_up(asked);
        }
        cell.quiet.store(LOUD, Ordering::Relaxed);
    }
}

/// The session's slot shows what is about to run.
#[inline(always)]
fn show(s: &mut Session, asked: Asked) {
    let hash = asked.text.hash;
    if hash != 0 && core::mem::replace(&mut s.shown_hash, hash) == hash {
        return;
    }
    s.shown_hash = hash;
    if let Some(slot) = s.slot {
        slot.start(0, asked.command, s.direct_text(), hash, asked.text.full_len);
    }
}
