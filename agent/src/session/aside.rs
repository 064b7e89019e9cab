//! The engine's part of sessions that stand aside while nothing matters to their machines; `quiet.rs` and
//! `quiet_postgres.rs` say when.

use super::arena::Cell;
use super::engine::{ASIDE, Engine, Ticket};
use super::quiet::{self, Way};
use super::quiet_postgres as postgres;
use super::state::{Protocol, Session};
use super::thread::Thread;
use crate::protocol::{Direction, Machine};
use core::sync::atomic::Ordering;

/// A session that stood aside is back after a read; with the header that was kept, if one was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Back(Option<[u8; quiet::HEADER_BYTES]>);

/// A session that stood aside is back after a write: in the middle of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackInAnswer(postgres::Back);

impl Engine {
    /// The cell of session `entry` (number + 1).
    #[inline(always)]
    pub fn cell(&self, entry: u32) -> Option<&Cell> {
        self.arena.cell(entry.checked_sub(1)?)
    }

    /// Before a read of session `entry`, in `cell`: the ticket of a session that stands aside, or `None`: the ordinary way.
    #[inline(always)]
    pub(super) fn quiet_read(
        &self,
        cell: &Cell,
        entry: u32,
        requested: usize,
        at_tls: bool,
    ) -> Option<Ticket> {
        // Relaxed: a session is handed from thread to thread by the server's own synchronisation.
        let word = cell.quiet.load(Ordering::Relaxed);
        if word == quiet::LOUD {
            return None;
        }
        let capturing = self.process.segment()?.control().capture() != 0;
        let way = if postgres::is_ours(word) {
            postgres::before_read(cell, word, capturing, at_tls)
        } else {
            quiet::before_read(cell, requested, capturing, at_tls)
        };
        match way {
            Way::Loud => None,
            Way::Pass => Some(Ticket::NONE),
            Way::Quiet => Some(Ticket::new(entry, cell.generation(), ASIDE)),
        }
    }

    /// The same before a write.
    #[inline(always)]
    pub(super) fn quiet_write(&self, cell: &Cell, entry: u32, at_tls: bool) -> Option<Ticket> {
        let word = cell.quiet.load(Ordering::Relaxed);
        if word == quiet::LOUD {
            return None;
        }
        let is_seen = postgres::is_ours(word) && postgres::before_write(word, at_tls) == Way::Quiet;
        Some(if is_seen { Ticket::new(entry, cell.generation(), ASIDE) } else { Ticket::NONE })
    }

    /// True when session `entry` stands aside.
    #[inline]
    pub(super) fn stands_aside(&self, entry: u32) -> bool {
        self.cell(entry).is_some_and(|cell| cell.stands_aside())
    }

    /// Before a read of the socket of session `entry`, without the thread's state: the ticket of a session that stands
    /// aside.
    #[inline(always)]
    pub fn read_aside(&self, cell: &Cell, entry: u32, requested: usize) -> Option<Ticket> {
        self.quiet_read(cell, entry, requested, false)
    }

    /// Before a write to the socket of session `entry`: the ticket of a session that stands aside;
    /// [`Ticket::NONE`]: nothing at all is to be done.
    #[inline(always)]
    pub fn write_aside(&self, cell: &Cell, entry: u32) -> Option<Ticket> {
        self.quiet_write(cell, entry, false)
    }

    /// After a read whose session stood aside: `None`: that was all. Else the session is back, and
    /// [`read_end_back`](Self::read_end_back) has to follow.
    #[inline(always)]
    pub fn read_end_aside(&self, ticket: Ticket, bytes: &[u8]) -> Option<Back> {
        let cell = self.cell(ticket.entry())?;
        if cell.generation() != ticket.generation() {
            return None;
        }
        let word = cell.quiet.load(Ordering::Relaxed);
        if postgres::is_ours(word) {
            if postgres::is_capturing(word) {
                cell.quiet.store(quiet::LOUD, Ordering::Relaxed);
                return Some(Back(None));
            }
            return self.postgres_read_end(cell, bytes).then_some(Back(None));
        }
        quiet::after_read(cell, bytes).map(Back)
    }

    #[inline(never)]
    fn postgres_read_end(&self, cell: &Cell, bytes: &[u8]) -> bool {
        let capturing = self.process.segment().is_some_and(|segment| segment.control().capture() != 0);
        postgres::after_read(cell, cell.quiet.load(Ordering::Relaxed), capturing, bytes)
    }

    /// After a write whose session stood aside: `None`: that was all. Else the session is back, and
    /// [`write_end_back`](Self::write_end_back) has to follow.
    #[inline]
    pub fn write_end_aside(&self, ticket: Ticket, bytes: &[u8]) -> Option<BackInAnswer> {
        let cell = self.cell(ticket.entry())?;
        let word = cell.quiet.load(Ordering::Relaxed);
        if cell.generation() != ticket.generation() || !postgres::is_ours(word) {
            return None;
        }
        postgres::after_write(cell, word, bytes).map(BackInAnswer)
    }

    /// The session is back: its machine gets the header that was kept, and the bytes.
    #[inline(always)]
    pub fn read_end_back(&self, t: &mut Thread, ticket: Ticket, back: Back, bytes: &[u8]) {
        let entry = ticket.entry();
        let Some(cell) = self.cell_of(ticket) else { return };
        self.visit_cell(t, entry, cell, |engine, t, s, segment| {
            if let Back(Some(header)) = back {
                let capturing = segment.control().capture() != 0;
                if s.whole_command(header, bytes, capturing) {
                    s.bytes_in = s.bytes_in.wrapping_add((header.len() + bytes.len()) as u64);
                    return engine.start_unit_here(t, entry, s, segment);
                }
                engine.before_read(t, entry, s, segment, header.len());
                s.bytes_in = s.bytes_in.wrapping_add(header.len() as u64);
                engine.feed(t, entry, s, segment, Direction::FromClient, &header, 0);
            }
            s.bytes_in = s.bytes_in.wrapping_add(bytes.len() as u64);
            // Capture may have been switched on or off while the server waited for these bytes.
            if let Some(machine) = s.postgres() {
                machine.set_capturing(segment.control().capture() != 0);
            }
            engine.feed_request(t, entry, s, segment, bytes);
        });
    }

    /// The session is back: its machine goes on in the middle of an answer.
    #[cold]
    pub fn write_end_back(&self, t: &mut Thread, ticket: Ticket, back: BackInAnswer, bytes: &[u8]) {
        let (entry, BackInAnswer(back)) = (ticket.entry(), back);
        self.visit(t, entry, Some(ticket.generation()), |engine, t, s, segment| {
            if let (Some(simple), Some(machine)) = (back.unit, s.postgres()) {
                machine.resume_answer(simple);
            }
            let rest = bytes.get(back.from..).unwrap_or(&[]);
            engine.feed(t, entry, s, segment, Direction::ToClient, back.kept(), 0);
            engine.feed(t, entry, s, segment, Direction::ToClient, rest, 0);
        });
    }

    /// A session whose machine is at rest stands aside until something matters. Asked before a read; of a MySQL session,
    /// before a read for a command's header. True when it stands aside now.
    #[inline]
    pub(super) fn stand_aside(
        &self,
        cell: &Cell,
        s: &mut Session,
        requested: usize,
        capturing: bool,
    ) -> bool {
        let postgres = s.protocol() == Protocol::Postgres;
        let rests = (postgres || requested == quiet::HEADER_BYTES)
            && s.logged_in != 0
            && (s.tls == 0 || s.ssl != 0)
            && s.can_rest();
        if rests {
            let tls = s.tls != 0;
            if let Some(machine) = s.postgres() {
                if !capturing {
                    machine.forget_unnamed();
                }
                postgres::rest(cell, tls, capturing);
            } else {
                quiet::rest(cell, tls, capturing);
            }
        }
        rests
    }
}
