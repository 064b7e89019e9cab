//! The engine's part of a session's beginning and end: accepted, closed, lost.

use super::arena::{Cell, Inside, MISSED_BYTES, MISSED_CLOSE, MISSED_SHUT};
use super::engine::Engine;
use super::peer;
use super::state::{Protocol, Session};
use super::thread::{Slice, Thread};
use crate::segment::Segment;
use crate::segment::layout::header;
use crate::sys::process;

impl Engine {
    /// A connection was accepted on descriptor `fd` from `address` (a `sockaddr`).
    pub fn accepted(&self, t: &mut Thread, fd: i32, address: &[u8]) {
        let Some(segment) = self.process.segment_or_attach() else { return self.process.miss_session() };
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
        if !self.descriptors.set(fd, self.arena.cell(n)) {
            self.arena.close(n);
            segment.count(header::LOST_SESSIONS, 1);
        }
    }

    /// Descriptor `fd` is, or is about to be, something else: closed, connected by ourselves, overwritten by dup2.
    pub fn closed(&self, t: &mut Thread, fd: i32) {
        let Some(cell) = self.descriptors.at(fd) else { return };
        if process::tid() != t.tid {
            // A vfork child: it has a table of descriptors of its own, but our memory.
            return;
        }
        let Some(segment) = self.process.segment() else { return };
        self.descriptors.set(fd, None);
        match t.come_into(cell) {
            Some(s) => self.end_session(t, cell, s, segment),
            None => {
                cell.note_missed(MISSED_CLOSE);
                // Whoever was inside looks at the note after leaving; if it had left before the note, we do it.
                self.heed_notes(t, cell, segment);
            }
        }
    }

    /// All descriptors from `first` to `last` are about to be closed (close_range(2), closefrom(3)).
    pub fn closed_range(&self, t: &mut Thread, first: u32, last: u32) {
        for n in 0.. {
            let Some(cell) = self.arena.cell(n) else { break };
            let fd = match t.come_into(cell) {
                Some(s) => s.fd,
                None => continue,
            };
            if (first..=last).contains(&(fd as u32))
                && self.descriptors.at(fd).is_some_and(|at| at.entry() == n + 1)
            {
                self.closed(t, fd);
            }
        }
    }

    pub(super) fn end_session(
        &self,
        t: &mut Thread,
        cell: &'static Cell,
        mut s: Inside,
        segment: &Segment<'static>,
    ) {
        let entry = cell.entry();
        self.leave_if_direct(t, cell, &mut s);
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
            t.slice = Slice::NONE;
        }
        if let Some(slot) = s.slot {
            slot.release();
        }
        if s.ssl != 0 {
            self.ssl.remove(s.ssl);
        }
        let pooled = s.pooled != 0;
        drop(s);
        self.arena.close(entry - 1);
        if !pooled {
            // This thread may serve no other session for hours.
            self.release_lane(t);
        }
    }

    /// Does what another thread could not do while we were inside.
    #[cold]
    pub(super) fn heed_notes(&self, t: &mut Thread, cell: &'static Cell, segment: &Segment<'static>) {
        let Some(mut s) = t.come_into(cell) else { return };
        self.leave_if_direct(t, cell, &mut s);
        let notes = cell.take_missed();
        s.running.shut |= notes & MISSED_SHUT != 0;
        if notes & MISSED_BYTES != 0 {
            self.lose(&mut s, segment);
        }
        if notes & MISSED_CLOSE != 0 {
            self.end_session(t, cell, s, segment);
        }
    }

    /// The session can't be followed any further.
    pub(super) fn lose(&self, s: &mut Session, segment: &Segment<'static>) {
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
}
