//! The engine's short way for what a session's read or write brings whole: nearly every request, and nearly every answer.

use super::engine::Engine;
use super::quiet::{marks, resting};
use super::quiet_postgres::POSTGRES;
use super::state::Session;
use super::thread::Thread;
use crate::protocol::Direction;
use crate::segment::Segment;
use core::sync::atomic::Ordering;

impl Engine {
    /// Feeds what a client sent, of whatever protocol.
    #[inline(always)]
    pub(super) fn feed_request(
        &self,
        t: &mut Thread,
        entry: u32,
        s: &mut Session,
        segment: &Segment<'static>,
        bytes: &[u8],
    ) {
        let mut rest = bytes;
        if let Some(machine) = s.postgres() {
            let started = machine.take_requests(&mut rest);
            let done = rest.is_empty() && machine.has_told_all();
            if started {
                self.start_unit_here(t, entry, s, segment);
            }
            if done {
                return;
            }
        }
        self.feed(t, entry, s, segment, Direction::FromClient, rest, 0);
    }

    /// Feeds what the server sent, of whatever protocol.
    #[inline(always)]
    pub(super) fn feed_answer(
        &self,
        t: &mut Thread,
        entry: u32,
        s: &mut Session,
        segment: &Segment<'static>,
        bytes: &[u8],
        stamp_ns: u64,
    ) {
        let mut rest = bytes;
        if let Some(machine) = s.mysql() {
            let responded = machine.take_answer(&mut rest);
            let done = rest.is_empty() && machine.has_told_all();
            if responded {
                self.first_response(t, entry, s, stamp_ns);
            }
            if done {
                return;
            }
        }
        let Some(machine) = s.postgres() else {
            return self.feed(t, entry, s, segment, Direction::ToClient, rest, stamp_ns);
        };
        let (responded, finished) = machine.take_answer(&mut rest);
        let done = rest.is_empty() && machine.has_told_all();
        let rests = done && machine.is_capturing() && machine.is_at_rest();
        if responded {
            self.first_response(t, entry, s, stamp_ns);
        }
        if finished {
            let shut = s.running.shut;
            self.finish_unit_here(t, entry, s, segment, shut);
        }
        if !done {
            return self.feed(t, entry, s, segment, Direction::ToClient, rest, stamp_ns);
        }
        // While capture is on it stands aside at once. (With capture off it does so before its next read, which also closes
        // what capture left open.)
        if rests
            && (s.tls == 0 || s.ssl != 0)
            && segment.control().capture() != 0
            && let Some(cell) = self.cell(entry)
        {
            cell.quiet.store(resting(marks(s.tls != 0, true) | POSTGRES), Ordering::Relaxed);
        }
    }
}
