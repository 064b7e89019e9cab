//! A unit's two ends: what is noted and counted when it starts, and the record when it is over.

use super::engine::Engine;
use super::measure::Measured;
use super::state::{Protocol, Session};
use super::thread::{Share, Slice, Thread};
use super::{identity, worker};
use crate::clock::monotonic_ns;
use crate::counters::{CLIENT_WAIT_NS, Counts};
use crate::hash::content_hash;
use crate::protocol::{Dialect, Unit, UnitText};
use crate::segment::record::{self, NO_FIRST_BYTE};
use crate::segment::writer::{Fields, write, write_inline};
use crate::segment::{Lane, Segment, TextKind};

/// The unit that runs in a session.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Running {
    /// The thread that has the open slice.
    pub slice_tid: u32,
    /// True between Started and Finished.
    pub active: bool,
    /// More than one thread worked on it.
    pub moved: bool,
    /// The socket was shut down while it ran: a KILL.
    pub shut: bool,
    /// The capture generation at its start; 0: capture was off, it is not recorded.
    pub generation: u64,
    /// CLOCK_MONOTONIC at its start.
    pub start_ns: u64,
    /// CLOCK_MONOTONIC at its first response byte; 0: none yet.
    pub first_byte_ns: u64,
    /// How long the server waited for the client in the middle of it.
    pub client_wait_ns: u64,
    /// Its number within the session.
    pub unit: u32,
    /// Its weight, 1/p; 0: its dear counters are not read.
    pub weight: f64,
}

/// Whose a unit is, and what went over its socket.
pub(super) struct Of {
    pub uid: u64,
    pub identity_hash: u64,
    pub dialect: Dialect,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

impl Running {
    /// True when thread `tid` alone works on it, and nobody has cut it off.
    #[inline(always)]
    pub(super) fn is_of(&self, tid: u32) -> bool {
        self.slice_tid == tid && !self.moved && !self.shut
    }
}

/// The session's slot shows what its machine says that it runs, or is about to.
pub(super) fn show_unit(s: &mut Session) {
    s.shown_hash = 0;
    let (Some(slot), Some((_, unit))) = (s.slot, s.unit()) else { return };
    let (text, hash, len) = match unit.text {
        UnitText::Inline { bytes, full_len } => (bytes, 0, full_len),
        UnitText::Stored(text) => ([].as_slice(), text.hash, text.full_len),
        _ => ([].as_slice(), 0, 0),
    };
    slot.start(0, unit.command, text, hash, len);
}

impl Engine {
    /// A unit starts in session `entry` (number + 1).
    #[inline(never)]
    pub(super) fn start_unit(&self, t: &mut Thread, entry: u32, s: &mut Session, segment: &Segment<'static>) {
        self.start_unit_here(t, entry, s, segment);
    }

    /// The same as part of the caller: what a hook runs for every query lies together in memory then.
    #[inline(always)]
    pub(super) fn start_unit_here(
        &self,
        t: &mut Thread,
        entry: u32,
        s: &mut Session,
        segment: &Segment<'static>,
    ) {
        let control = segment.control();
        let mut capture = control.capture();
        if capture != 0 {
            let only = control.only_connection();
            if only != 0 && s.machine().is_none_or(|m| m.identity().connection_id != only) {
                capture = 0;
            }
        }
        let running = &mut s.running;
        *running = Running {
            active: true,
            generation: capture,
            unit: running.unit.wrapping_add(1),
            slice_tid: t.tid,
            ..Running::default()
        };
        if capture == 0 {
            return;
        }
        self.close_slice(t, segment);
        self.prepare(t, segment, capture);
        show_unit(s);
        self.set_off(t, entry, s);
    }

    /// What runs in session `entry` is known: chooses whether its dear counters are read, and starts the time.
    #[inline(always)]
    pub(super) fn set_off(&self, t: &mut Thread, entry: u32, s: &mut Session) {
        let weight = t.choose();
        t.slice = Slice { session: entry, unit: s.running.unit, plain: s.tls == 0, ..Slice::NONE };
        s.running.weight = weight;
        // Nearly the last thing: none of the above is the query's time.
        let start_ns = t.begin_command(weight > 0.0);
        s.running.start_ns = start_ns;
        t.share = Share { uid: s.uid, start_ns, weight };
        if let Some(slot) = s.slot {
            slot.start_again(start_ns);
        }
    }

    /// The unit of session `entry` is over.
    #[inline(never)]
    pub(super) fn finish_unit(
        &self,
        t: &mut Thread,
        entry: u32,
        s: &mut Session,
        segment: &Segment<'static>,
        cut_off: bool,
    ) {
        self.finish_unit_here(t, entry, s, segment, cut_off);
    }

    /// The same as part of the caller.
    #[inline(always)]
    pub(super) fn finish_unit_here(
        &self,
        t: &mut Thread,
        entry: u32,
        s: &mut Session,
        segment: &Segment<'static>,
        cut_off: bool,
    ) {
        if !core::mem::replace(&mut s.running.active, false) || s.running.generation == 0 {
            (s.bytes_in, s.bytes_out) = (0, 0);
            return;
        }
        // The first thing: none of the below is the query's time.
        let now = t.now_ns();
        let running = s.running;
        let ours = t.slice.session == entry && t.share.uid == s.uid && t.slice.unit == running.unit;
        t.counts.known = 0;
        let mut measured = Measured::default();
        if ours {
            t.slice = Slice::NONE;
            let inside_ns = now.saturating_sub(running.start_ns);
            measured = t.end_work(running.weight > 0.0, now, inside_ns);
            t.ended(now, inside_ns, 1);
            if running.moved {
                // Other threads' parts are known only where all are read.
                measured = Measured::default();
                t.counts.known = if running.weight > 0.0 { t.counts.known } else { 0 };
            }
        }
        if matches!(s.protocol(), Protocol::MySql) {
            t.counts.set(CLIENT_WAIT_NS, running.client_wait_ns);
            measured.exact |= 1 << CLIENT_WAIT_NS;
        }
        if let Some(slot) = s.slot {
            slot.finish();
        }
        let (bytes_in, bytes_out) = (core::mem::take(&mut s.bytes_in), core::mem::take(&mut s.bytes_out));
        if !Self::is_wanted(segment, running.generation, now) {
            return;
        }
        self.store_identity(s, segment, running.generation);
        let Some(lane) = self.lane(t, segment, now) else { return };
        let Some((dialect, unit)) = s.unit() else { return };
        let of = Of { uid: s.uid, identity_hash: s.identity_hash, dialect, bytes_in, bytes_out };
        self.record_unit(t, &lane, &running, &of, &unit, measured, now, cut_off);
    }

    /// True when somebody waits for the record of a unit that began in capture `generation` and ended at `now`. Where nobody
    /// collects any more, capture is switched off.
    #[inline(always)]
    pub(super) fn is_wanted(segment: &Segment<'static>, generation: u64, now: u64) -> bool {
        let control = segment.control();
        // A unit that began while capture was on is recorded also when it has been switched off since: the collector
        // waits a moment for those, or its client would have seen an answer that no report counts.
        if control.generation() != generation {
            return false;
        }
        let silent = control.is_collector_silent(now);
        if silent {
            control.give_up(generation);
        }
        !silent
    }

    /// Writes the record of a unit that ended at `now`.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    pub(super) fn record_unit(
        &self,
        t: &mut Thread,
        lane: &Lane<'static>,
        running: &Running,
        of: &Of,
        unit: &Unit<'_>,
        measured: Measured,
        now: u64,
        cut_off: bool,
    ) {
        let mut flags = 0;
        let mut set = |on: bool, flag: u32| flags |= if on { flag } else { 0 };
        set(unit.outcome.failed, record::FLAG_FAILED);
        set(unit.outcome.unknown, record::FLAG_OUTCOME_UNKNOWN);
        set(running.moved, record::FLAG_MOVED);
        set(cut_off, record::FLAG_CUT_OFF);
        set(t.chooses_by_slice(), record::FLAG_CHOSEN_BY_SLICE);
        let (mut text_hash, mut text_len, mut text) = (0, 0, [].as_slice());
        match unit.text {
            UnitText::None => {}
            UnitText::Inline { bytes, full_len } => (text, text_len) = (bytes, full_len),
            UnitText::Stored(stored) => (text_hash, text_len) = (stored.hash, stored.full_len),
            UnitText::Unknown => set(true, record::FLAG_TEXT_UNKNOWN),
            UnitText::Compressed { bytes, zstd } => {
                (text, text_len) = (bytes, bytes.len() as u32);
                set(true, if zstd { record::FLAG_TEXT_ZSTD } else { record::FLAG_TEXT_ZLIB });
            }
        }
        let fields = Fields {
            kind: record::KIND_EXECUTION,
            session_uid: of.uid,
            start_ns: running.start_ns,
            latency_ns: now.saturating_sub(running.start_ns),
            first_byte_ns: match running.first_byte_ns {
                0 => NO_FIRST_BYTE,
                at => at.saturating_sub(running.start_ns),
            },
            identity_hash: of.identity_hash,
            text_hash,
            text_len,
            rows_returned: unit.outcome.rows_returned,
            rows_affected: unit.outcome.rows_affected,
            bytes_in: of.bytes_in,
            bytes_out: of.bytes_out,
            weight: running.weight.max(1.0),
            exact: measured.exact,
            unit: running.unit,
            tid: t.tid,
            flags,
            statements: unit.statements,
            error_code: unit.outcome.error_code,
            sqlstate: unit.outcome.sqlstate,
            dialect: of.dialect,
            command: unit.command,
        };
        if write_inline(lane, &fields, &t.counts, unit.members, text) {
            t.account(lane, running.weight > 0.0, measured, t.paid_ns, 1);
        }
    }

    /// This thread works on a unit that another thread has started or worked on before.
    pub(super) fn join_unit(&self, t: &mut Thread, entry: u32, s: &mut Session, segment: &Segment<'static>) {
        let running = &s.running;
        if !running.active || running.generation == 0 || running.slice_tid == t.tid {
            return;
        }
        let running = *running;
        self.close_slice(t, segment);
        self.prepare(t, segment, running.generation);
        s.running.moved = true;
        s.running.slice_tid = t.tid;
        let (weight, responded) = (running.weight, running.first_byte_ns != 0);
        t.slice = Slice { session: entry, unit: running.unit, plain: s.tls == 0, responded, ..Slice::NONE };
        t.share = Share { uid: s.uid, start_ns: t.first_now_ns(), weight };
        t.begin_work(weight > 0.0);
    }

    /// This thread goes on to something else while its slice of a unit is open: another thread ends that unit, or has
    /// ended it. What this thread contributed becomes a slice record.
    pub(super) fn close_slice(&self, t: &mut Thread, segment: &Segment<'static>) {
        if t.slice.session == 0 {
            return;
        }
        self.make_way(t);
        let slice = core::mem::replace(&mut t.slice, Slice::NONE);
        let share = t.share;
        if segment.control().generation() != t.generation || share.weight <= 0.0 {
            return;
        }
        let now = t.now_ns();
        t.end_work(share.weight > 0.0, now, now.saturating_sub(share.start_ns));
        let Some(lane) = self.lane(t, segment, now) else { return };
        let fields = Fields {
            kind: record::KIND_SLICE,
            session_uid: share.uid,
            start_ns: share.start_ns,
            latency_ns: now.saturating_sub(share.start_ns),
            first_byte_ns: NO_FIRST_BYTE,
            weight: share.weight,
            unit: slice.unit,
            tid: t.tid,
            flags: record::FLAG_MOVED,
            ..Fields::default()
        };
        write(&lane, &fields, &t.counts, &[], &[]);
    }

    /// Makes this thread's counters what the present capture wants.
    #[inline]
    pub(crate) fn prepare(&self, t: &mut Thread, segment: &Segment<'static>, capture: u64) {
        if t.generation == capture {
            return;
        }
        t.wanted = segment.control().wanted();
        t.begin_plain(0, 0);
        t.goes_directly_in = 0;
        t.budget_ppm = t.wanted.budget_ppm.into();
        t.generation = capture;
        // Opened now, also where nothing may be chosen for a while, so that it is known what can be had.
        let wanted = t.wanted;
        t.counters.prepare(&wanted, capture as u32);
        t.open = true;
        if let Some(lane) = self.lane(t, segment, monotonic_ns()) {
            lane.note_counters(t.counters.unavailable(), t.counters.user_mode_only());
        }
    }

    /// Stores who the session is, once in each capture and whenever it changes, so that the collector finds it.
    #[inline]
    pub(super) fn store_identity(&self, s: &mut Session, segment: &Segment<'static>, generation: u64) {
        if !s.is_identified_in(generation) {
            self.store_identity_anew(s, segment, generation);
        }
    }

    #[cold]
    fn store_identity_anew(&self, s: &mut Session, segment: &Segment<'static>, generation: u64) {
        let client = s.client;
        let slot = s.slot;
        let Some(machine) = s.machine() else { return };
        let who = machine.identity();
        let client =
            if who.proxied_client.is_empty() { client.as_slice() } else { who.proxied_client.as_slice() };
        let encoded = identity::encode(
            who.user.as_slice(),
            who.database.as_slice(),
            who.application.as_slice(),
            client,
        );
        let hash = content_hash(encoded.as_slice());
        let (dialect, connection) = (machine.dialect(), who.connection_id);
        segment.texts().put(hash, TextKind::Identity, encoded.as_slice());
        if let Some(slot) = slot {
            slot.identify(dialect, connection, hash);
        }
        s.identity_hash = hash;
        s.identity_generation = generation;
    }

    /// A process that served no session ends: if it was a parallel worker its whole cost belongs to its leader.
    pub fn worker_exits(&self, t: &mut Thread, title: &[u8]) {
        let Some(segment) = self.process().segment() else { return };
        let Some(leader) = worker::leader_of(title) else { return };
        let capture = segment.control().capture();
        if capture == 0 {
            return;
        }
        let Some(lane) = self.lane(t, segment, monotonic_ns()) else { return };
        let mut counts = Counts::new();
        worker::cost_since_fork(&mut counts, &segment.control().wanted());
        let fields = Fields {
            kind: record::KIND_WORKER,
            session_uid: leader as u64,
            start_ns: monotonic_ns(),
            first_byte_ns: NO_FIRST_BYTE,
            weight: 1.0,
            tid: t.tid,
            flags: record::FLAG_MOVED,
            dialect: Dialect::Postgres,
            ..Fields::default()
        };
        write(&lane, &fields, &counts, &[], &[]);
        self.release_lane(t);
    }
}
