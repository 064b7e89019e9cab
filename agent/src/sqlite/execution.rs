//! The two ends of an execution: what is found out when it starts, and its record when it is over.

use super::connections::Connection;
use super::statements::Statement;
use super::{Library, Stepping, Steps};
use crate::counters::{CPU_NS, SWITCHES_INVOLUNTARY, SWITCHES_VOLUNTARY};
use crate::hash::content_hash;
use crate::protocol::{Command, Dialect, TEXT_CAP};
use crate::segment::record::{self, NO_FIRST_BYTE};
use crate::segment::writer::{Fields, write, write_short};
use crate::segment::{Lane, Segment, TextKind};
use crate::session::switches::Span;
use crate::session::{Engine, GATE, Measured, Thread};

/// What an execution's end brings that its statement does not know.
#[derive(Clone, Copy)]
struct Ended {
    flags: u32,
    error_code: i32,
    rows_affected: u64,
    unit: u32,
}

impl Engine {
    /// An execution starts, if the statement has run in this capture before, and the thread too, and it was chosen not to
    /// read its dear counters.
    #[inline(always)]
    pub(super) fn start_again(
        &'static self,
        steps: &mut Steps,
        capture: u64,
        s: &'static Statement,
    ) -> Option<Stepping> {
        let chosen = steps.capture == capture && steps.chosen_in == capture && steps.chosen == 0.0;
        if !chosen || s.described.get() != capture {
            return None;
        }
        let c = s.known_connection()?;
        if !c.is(s.connection.get() as usize, capture, self.process().pid()) {
            return None;
        }
        s.weight.set(0);
        Some(Self::start(steps, capture, s, c))
    }

    #[inline(always)]
    pub(super) fn start_execution(
        &'static self,
        t: &mut Thread,
        steps: &mut Steps,
        segment: &Segment<'static>,
        capture: u64,
        s: &'static Statement,
        library: &impl Library,
    ) -> Option<Stepping> {
        if t.generation() != capture {
            self.prepare(t, segment, capture);
            if t.wants_events() {
                // They have to be closed when capture is off, so hooks have to see that.
                GATE.open();
            }
        }
        if s.described.get() != capture {
            self.describe(segment, capture, s, library);
        }
        let c = match s.known_connection() {
            Some(c) if c.is(s.connection.get() as usize, capture, t.pid()) => c,
            _ => self.reconnect(t, segment, capture, s, library)?,
        };
        steps.capture = capture;
        steps.free_mask = t.free_mask();
        let weight = if steps.chosen_in == capture { steps.chosen } else { t.choose() };
        s.weight.set(weight.to_bits());
        if weight != 0.0 {
            s.paid_ns.set(0);
            s.summed.set(0);
            t.begin_work(weight > 0.0);
        } else {
            t.close_events();
        }
        Some(Self::start(steps, capture, s, c))
    }

    /// The execution of a statement of which all is known starts.
    #[inline(always)]
    fn start(steps: &mut Steps, capture: u64, s: &'static Statement, c: &Connection) -> Stepping {
        steps.chosen_in = 0;
        s.rows.set(0);
        s.inside_ns.set(0);
        s.first_row_ns.set(0);
        s.exact.set(steps.free_mask);
        s.running.set(capture);
        if s.weight.get() == 0 && steps.free_mask != 0 {
            steps.span = Span::begin();
        }
        let stamp = steps.clock.first_stamp();
        let start_ns = steps.clock.ns(stamp);
        s.start_ns.set(start_ns);
        if let Some(slot) = c.slot() {
            let text = s.text_hash.get();
            if c.shown.get() == text {
                slot.start_again(start_ns);
            } else {
                c.shown.set(text);
                slot.start(start_ns, Command::Sqlite, &[], text, s.text_len.get() as u32);
            }
        }
        Stepping { statement: s, capture, stamp }
    }

    /// What stays the same for a statement in this capture.
    #[cold]
    #[inline(never)]
    fn describe(&self, segment: &Segment<'static>, capture: u64, s: &Statement, library: &impl Library) {
        let text = library.text();
        let kept = text.get(..TEXT_CAP).unwrap_or(text);
        s.text_len.set(text.len() as u64);
        s.text_hash.set(content_hash(kept));
        s.changes_rows.set(library.changes_rows().into());
        s.know_connection(None);
        segment.texts().put(s.text_hash.get(), TextKind::Statement, kept);
        s.described.set(capture);
    }

    /// The statement's connection as this capture knows it from now on.
    #[cold]
    #[inline(never)]
    fn reconnect(
        &'static self,
        t: &mut Thread,
        segment: &Segment<'static>,
        capture: u64,
        s: &Statement,
        library: &impl Library,
    ) -> Option<&'static Connection> {
        let key = library.connection();
        s.connection.set(key as u64);
        let Some(c) = self.sqlite.connections.know(t, segment, capture, key, library) else {
            self.lose_execution(t);
            return None;
        };
        s.know_connection(Some(c));
        Some(c)
    }

    #[allow(clippy::too_many_arguments)]
    #[inline(always)]
    pub(super) fn end_execution(
        &'static self,
        t: &mut Thread,
        steps: &mut Steps,
        capture: u64,
        s: &'static Statement,
        flags: u32,
        error_code: i32,
        rows_affected: u64,
        stamp: u64,
    ) {
        s.running.set(0);
        let Some(segment) = self.process().segment() else { return };
        let now_ns = steps.clock.ns(stamp);
        let control = segment.control();
        if control.is_collector_silent(now_ns) {
            control.give_up(capture);
            return;
        }
        let Some(lane) = self.lane(t, segment, now_ns) else { return };
        let Some(c) = s.known_connection() else { return };
        if let Some(slot) = c.slot() {
            slot.finish();
        }
        let ended = Ended { flags, error_code, rows_affected, unit: c.unit.add(1) as u32 };
        let weight = f64::from_bits(s.weight.get());
        // One a step: a row each, and the last.
        let readings = s.rows.get() + 1;
        let inside_ns = s.inside_ns.get();
        // The fields are put together once for each of the two, so that they stay in registers here.
        let short = if weight > 0.0 { None } else { write_short(&lane, &Self::fields(t, s, c, ended)) };
        if short.unwrap_or_else(|| self.write_long(t, &lane, s, c, ended)) {
            let exact = s.exact.get();
            let cpu_for_free = exact & 1 << CPU_NS != 0;
            if weight > 0.0 {
                t.account(&lane, true, Measured { exact, cpu_for_free }, s.paid_ns.get(), readings);
            } else {
                lane.note_account(false, cpu_for_free, 0, 0);
            }
        }
        if t.chooses_by_slice() {
            t.ended(now_ns, inside_ns, readings);
            return;
        }
        // Chosen before it begins, so that its beginning has less to do.
        let passes = weight == 0.0 && t.passes_by(now_ns, inside_ns, readings);
        steps.chosen = if passes { 0.0 } else { t.look_ahead(now_ns, inside_ns, readings) };
        steps.chosen_in = capture;
    }

    #[inline(always)]
    fn fields(t: &Thread, s: &Statement, c: &Connection, ended: Ended) -> Fields {
        let first_row_ns = s.first_row_ns.get();
        Fields {
            kind: record::KIND_EXECUTION,
            session_uid: c.uid.get(),
            start_ns: s.start_ns.get(),
            latency_ns: s.inside_ns.get(),
            first_byte_ns: if first_row_ns == 0 { NO_FIRST_BYTE } else { first_row_ns },
            identity_hash: c.identity_hash.get(),
            text_hash: s.text_hash.get(),
            text_len: s.text_len.get() as u32,
            rows_returned: s.rows.get(),
            rows_affected: ended.rows_affected,
            weight: f64::from_bits(s.weight.get()).max(1.0),
            exact: s.exact.get(),
            unit: ended.unit,
            tid: t.tid(),
            flags: ended.flags | if t.chooses_by_slice() { record::FLAG_CHOSEN_BY_SLICE } else { 0 },
            statements: 1,
            error_code: ended.error_code as u32,
            dialect: Dialect::Sqlite,
            command: Command::Sqlite,
            ..Fields::default()
        }
    }

    /// The record of an execution whose dear counters were read, or of one that is too long for a short record.
    #[cold]
    #[inline(never)]
    fn write_long(
        &self,
        t: &mut Thread,
        lane: &Lane<'_>,
        s: &Statement,
        c: &Connection,
        ended: Ended,
    ) -> bool {
        let fields = Self::fields(t, s, c, ended);
        t.counts.known = 0;
        t.counts.scaled = 0;
        if s.weight.get() != 0 {
            self.sqlite.statements.with_sums(s, |sums| t.counts.copy_known(sums));
        }
        if fields.exact != 0 {
            // Not switched: the thread had the CPU all the time.
            t.counts.set(CPU_NS, fields.latency_ns);
            t.counts.set(SWITCHES_VOLUNTARY, 0);
            t.counts.set(SWITCHES_INVOLUNTARY, 0);
        }
        write(lane, &fields, &t.counts, &[], &[])
    }
}
