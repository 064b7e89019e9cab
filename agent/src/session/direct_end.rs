//! The end of a unit that goes the [direct way](super::direct): its answer, its record, and what becomes of it where something
//! unusual comes in between.

use super::arena::{Cell, Inside};
use super::engine::{Engine, Ticket};
use super::measure::Measured;
use super::quiet::{self, ANSWERED, ASKED, HEADER_BYTES, LOUD, TLS};
use super::quiet_postgres::{ONE_COMMAND, POSTGRES, REPORTS_LAST};
use super::state::{Protocol, Session};
use super::thread::{Share, Thread};
use super::unit::{Of, Running, show_unit};
use crate::counters::CLIENT_WAIT_NS;
use crate::protocol::postgres::Postgres;
use crate::protocol::{Answer, Asked, Command, Outcome, PackedAnswer, TEXT_CAP, TextRef, Unit, UnitText};
use crate::segment::record::{FLAG_COUNTED, SHORT_SESSION_WORDS, short};
use crate::segment::ring::Slot;
use crate::segment::writer::{add_counters, answer_brief, end_brief};
use crate::strings::Bytes;
use core::sync::atomic::Ordering;

impl Engine {
    /// The server of a MySQL session has sent `bytes`. False: that was not the whole answer to a direct command.
    #[inline(always)]
    pub(super) fn take_answer(&self, t: &mut Thread, cell: &'static Cell, bytes: &[u8]) -> bool {
        let word = cell.quiet.load(Ordering::Relaxed);
        if word & (ASKED | POSTGRES) != ASKED || t.slice.session != cell.entry() {
            return false;
        }
        let Some(mut inside) = t.come_into(cell) else { return false };
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
        self.look_away(t, cell, inside, answered);
        answered
    }

    /// The same of a PostgreSQL backend, which is ready for the next command when it has said so.
    #[inline(always)]
    pub(super) fn take_last_answer(&self, t: &mut Thread, cell: &'static Cell, bytes: &[u8]) -> bool {
        let word = cell.quiet.load(Ordering::Relaxed);
        if word & (ASKED | POSTGRES) != ASKED | POSTGRES || t.slice.session != cell.entry() {
            return false;
        }
        let answer = if word & (ONE_COMMAND | REPORTS_LAST) == ONE_COMMAND | REPORTS_LAST {
            Postgres::direct_answer_to_one(bytes)
        } else {
            Postgres::direct_answer(bytes)
        };
        let Some(mut inside) = t.come_into(cell) else { return false };
        let s = &mut *inside;
        let ends = s.running.is_of(t.tid) && !cell.has_missed() && take(s, answer, bytes.len());
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

    /// Before a write of `bytes` that [may be seen ahead](Cell::may_be_seen_ahead), of a MySQL session: true when they are the
    /// whole answer to a direct command of which nothing is measured. Nothing is to be done after the write then: the next
    /// read ends the unit.
    #[inline(always)]
    pub fn answered_ahead(&self, t: &mut Thread, cell: &'static Cell, bytes: &[u8]) -> bool {
        let word = cell.quiet.load(Ordering::Relaxed);
        if word != ASKED || t.slice.session != cell.entry() {
            return false;
        }
        let Some(mut inside) = t.come_into(cell) else { return false };
        let s = &mut *inside;
        let answered = take(s, s.framing.answer(bytes), bytes.len());
        if answered {
            t.slice.responded = true;
            cell.quiet.store(ANSWERED, Ordering::Relaxed);
            cell.written.saw(bytes.as_ptr().addr(), bytes.len());
            s.running.first_byte_ns = t.now_ns();
        }
        self.look_away(t, cell, inside, answered);
        answered
    }

    /// The thread is done with the session for the moment, in which a unit goes on the direct way, or does not.
    #[inline(always)]
    pub(super) fn look_away(&self, t: &mut Thread, cell: &'static Cell, inside: Inside, goes_on: bool) {
        if goes_on && self.process.keeps_to_threads() {
            // What was noted meanwhile is seen to at the next step.
            t.stay(inside);
        } else {
            drop(inside);
            self.heed(t, cell);
        }
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
        let mut inside = t.come_into(cell)?;
        let s = &mut *inside;
        let ends = s.running.is_of(t.tid) && !cell.has_missed();
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
        // (Bits of PostgreSQL's alone are in no word of MySQL's.)
        let next = quiet::resting(word & (POSTGRES | REPORTS_LAST | TLS) | quiet::CAPTURING);
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
    #[unsafe(link_section = ".text.hot.perquery.end")]
    fn record_watched(&self, t: &mut Thread, s: &mut Session, now: u64) {
        let (measured, flags) = t.end_command(false, now, now.saturating_sub(s.running.start_ns));
        let recorded = self.record_briefly(s, now, flags);
        self.close_account(t, s, false, measured, now, recorded);
    }

    /// The same of a chosen one, with its counters.
    #[inline(never)]
    #[unsafe(link_section = ".text.hot.perquery.end")]
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
        let Some(room) = s.room else { return false };
        let control = self.process.control();
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
        s.running.shut |= cell.takes_shut();
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
