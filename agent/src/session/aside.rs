//! The engine's part of sessions that stand aside while capture is off; `quiet.rs` says when.

use super::arena::Session;
use super::engine::{ASIDE, Engine, Ticket};
use super::quiet::{self, Way};
use super::thread::Thread;
use crate::protocol::Direction;
use crate::segment::Segment;

/// A session that stood aside is back; with the header that was kept, if one was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Back(Option<[u8; quiet::HEADER_BYTES]>);

impl Engine {
    /// The ticket of a session that stands aside, or `None`: the ordinary way.
    #[inline]
    pub(super) fn quiet_read(&self, entry: u32, requested: usize, at_tls: bool) -> Option<Ticket> {
        let cell = self.arena.cell(entry.checked_sub(1)?)?;
        if !cell.stands_aside() {
            return None;
        }
        let capturing = self.process.segment()?.control().capture() != 0;
        match quiet::before_read(cell, requested, capturing, at_tls) {
            Way::Loud => None,
            Way::Pass => Some(Ticket::NONE),
            Way::Quiet => Some(Ticket::new(entry, cell.generation(), ASIDE)),
        }
    }

    /// True when a write of this session is nobody's business.
    #[inline]
    pub(super) fn quiet_write(&self, entry: u32) -> bool {
        let cell = entry.checked_sub(1).and_then(|n| self.arena.cell(n));
        cell.is_some_and(|cell| quiet::before_write(cell) == Way::Pass)
    }

    /// Before a read of the socket of session `entry`, without the thread's state: the ticket of a session that stands
    /// aside.
    #[inline(always)]
    pub fn read_aside(&self, entry: u32, requested: usize) -> Option<Ticket> {
        self.quiet_read(entry, requested, false)
    }

    /// Before a write to the socket of session `entry`: true when there is nothing to do.
    #[inline(always)]
    pub fn write_aside(&self, entry: u32) -> bool {
        self.quiet_write(entry)
    }

    /// After a read whose session stood aside: `None`: that was all. Else the session is back, and
    /// [`read_end_back`](Self::read_end_back) has to follow.
    #[inline]
    pub fn read_end_aside(&self, ticket: Ticket, bytes: &[u8]) -> Option<Back> {
        let cell = self.arena.cell(ticket.entry().checked_sub(1)?)?;
        if cell.generation() != ticket.generation() {
            return None;
        }
        quiet::after_read(cell, bytes).map(Back)
    }

    /// The session is back: its machine gets the header that was kept, and the bytes.
    pub fn read_end_back(&self, t: &mut Thread, ticket: Ticket, back: Back, bytes: &[u8]) {
        let entry = ticket.entry();
        self.visit(t, entry, Some(ticket.generation()), |engine, t, s, segment| {
            if let Back(Some(header)) = back {
                engine.before_read(t, entry, s, segment, header.len());
                s.bytes_in = s.bytes_in.wrapping_add(header.len() as u64);
                engine.feed(t, entry, s, segment, Direction::FromClient, &header, 0);
            }
            s.bytes_in = s.bytes_in.wrapping_add(bytes.len() as u64);
            engine.feed(t, entry, s, segment, Direction::FromClient, bytes, 0);
        });
    }

    /// While capture is off a session whose machine is at rest stands aside until something matters. Asked before a read
    /// for a command's header.
    pub(super) fn stand_aside(&self, entry: u32, s: &Session, segment: &Segment<'static>, requested: usize) {
        if segment.control().capture() == 0
            && requested == quiet::HEADER_BYTES
            && s.logged_in != 0
            && (s.tls == 0 || s.ssl != 0)
            && s.can_rest()
            && let Some(cell) = entry.checked_sub(1).and_then(|n| self.arena.cell(n))
        {
            quiet::rest(cell, s.tls != 0);
        }
    }
}
