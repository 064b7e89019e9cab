//! Places in the segment: a thread's lane and a session's slot, taken from the free ones and from those of the dead.

use super::arena::MISSED_BYTES;
use super::engine::Engine;
use super::state::Session;
use super::thread::Thread;
use crate::clock::monotonic_ns;
use crate::segment::layout::header;
use crate::segment::{Lane, Segment};
use crate::sys::process;

impl Engine {
    /// This thread's lane, for a record; taken now if it has none. `None`: all lanes are taken by living threads; counted as
    /// a drop.
    #[inline]
    pub(crate) fn lane(&self, t: &mut Thread, segment: &Segment<'static>, now: u64) -> Option<Lane<'static>> {
        if t.runs_a_query() {
            self.make_way(t);
        }
        match t.lane {
            Some(lane) => Some(lane),
            None => self.take_lane(t, segment, now),
        }
    }

    #[cold]
    fn take_lane(&self, t: &mut Thread, segment: &Segment<'static>, now: u64) -> Option<Lane<'static>> {
        let lanes = segment.shape().lanes;
        let places = || (0..lanes).map(|n| (t.tid as usize).wrapping_add(n) % lanes);
        for n in places() {
            let Some(lane) = segment.lane(n) else { continue };
            if lane.owner().is_none() && lane.take(None, t.pid, t.tid, now) {
                (t.lane, t.free_until) = (Some(lane), 0);
                return t.lane;
            }
        }
        for n in places() {
            let Some(lane) = segment.lane(n) else { continue };
            let Some((pid, tid)) = lane.owner() else { continue };
            if !process::thread_exists(pid, tid) && lane.take(Some((pid, tid)), t.pid, t.tid, now) {
                (t.lane, t.free_until) = (Some(lane), 0);
                return t.lane;
            }
        }
        segment.count(header::DROPS_NO_LANE, 1);
        None
    }

    /// Where this thread's next record is to stand, the record of a unit that goes the direct way may have been begun.
    #[cold]
    #[inline(never)]
    pub(super) fn make_way(&self, t: &mut Thread) {
        if let Some(cell) = self.cell(t.slice.session).filter(|cell| cell.is_direct()) {
            match t.come_into(cell) {
                Some(mut s) => self.leave_if_direct(t, cell, &mut s),
                None => cell.note_missed(MISSED_BYTES),
            }
            self.heed(t, cell);
        }
        t.let_go();
    }

    /// Gives this thread's lane back.
    pub(super) fn release_lane(&self, t: &mut Thread) {
        if let Some(lane) = t.lane.take()
            && lane.owner() == Some((t.pid, t.tid))
        {
            lane.release();
        }
        // A new lane has to be told about the counters again.
        t.generation = 0;
        t.goes_directly_in = 0;
    }

    /// Gives the session a slot that shows what it runs.
    pub(super) fn take_slot(&self, t: &Thread, s: &mut Session, segment: &Segment<'static>) {
        if s.slot.is_none() {
            s.shown_hash = 0;
            let number = take_slot(t.pid, s.uid, segment);
            s.slot = number.checked_sub(1).and_then(|n| segment.session(n as usize));
        }
    }
}

/// Takes a free session slot; its number + 1, or 0 when all are held by living processes.
pub(crate) fn take_slot(pid: u32, uid: u64, segment: &Segment<'static>) -> u32 {
    let slots = segment.shape().sessions;
    let now = monotonic_ns();
    let places = || (0..slots).map(|n| (uid as usize).wrapping_add(n) % slots);
    for n in places() {
        let Some(slot) = segment.session(n) else { continue };
        if slot.owner_pid() == 0 && slot.take(0, pid, uid, now) {
            return n as u32 + 1;
        }
    }
    for n in places() {
        let Some(slot) = segment.session(n) else { continue };
        let owner = slot.owner_pid();
        if !process::process_exists(owner) && slot.take(owner, pid, uid, now) {
            return n as u32 + 1;
        }
    }
    segment.count(header::NO_SLOT, 1);
    0
}
