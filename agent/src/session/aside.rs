//! The engine's part of sessions that stand aside while nothing matters to their machines; `quiet.rs` and
//! `quiet_postgres.rs` say when.

use super::arena::Cell;
use super::engine::{Engine, Ticket};
use super::quiet::{self, After};
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
    pub fn cell(&self, entry: u32) -> Option<&'static Cell> {
        self.arena.cell(entry.checked_sub(1)?)
    }

    /// Before a read of the session in `cell`: the ticket of a session that stands aside, or `None`: the ordinary way.
    #[inline(always)]
    pub(super) fn quiet_read(&self, cell: &'static Cell, at_tls: bool) -> Option<Ticket> {
        // Relaxed: a session is handed from thread to thread by the server's own synchronisation.
        let word = cell.quiet.load(Ordering::Relaxed);
        if word & quiet::ASIDE == 0 {
            return None;
        }
        // Cipher text is nobody's business.
        Some(if (word & quiet::TLS != 0) == at_tls { Ticket::new(cell, true) } else { Ticket::NONE })
    }

    /// The same before a write.
    #[inline(always)]
    pub(super) fn quiet_write(&self, cell: &'static Cell, at_tls: bool) -> Option<Ticket> {
        let word = cell.quiet.load(Ordering::Relaxed);
        if word & quiet::ASIDE == 0 {
            return None;
        }
        let is_seen = postgres::is_ours(word) && (word & quiet::TLS != 0) == at_tls;
        Some(if is_seen { Ticket::new(cell, true) } else { Ticket::NONE })
    }

    /// Before a read of the socket of the session in `cell`, without the thread's state: the ticket of a session that
    /// stands aside.
    #[inline(always)]
    pub fn read_aside(&self, cell: &'static Cell) -> Option<Ticket> {
        self.quiet_read(cell, false)
    }

    /// Before a write to the socket of the session in `cell`: the ticket of a session that stands aside;
    /// [`Ticket::NONE`]: nothing at all is to be done.
    #[inline(always)]
    pub fn write_aside(&self, cell: &'static Cell) -> Option<Ticket> {
        self.quiet_write(cell, false)
    }

    /// After a read for at most `requested` bytes whose session stood aside: `None`: that was all. Else the session is
    /// back, and [`read_end_back`](Self::read_end_back) has to follow.
    #[inline(always)]
    pub fn read_end_aside(&self, ticket: Ticket, requested: usize, bytes: &[u8]) -> Option<Back> {
        let cell = ticket.cell()?;
        let word = cell.quiet.load(Ordering::Relaxed);
        if postgres::is_ours(word) {
            if postgres::is_capturing(word) {
                cell.quiet.store(quiet::LOUD, Ordering::Relaxed);
                return Some(Back(None));
            }
            return self.postgres_read_end(cell, bytes).then_some(Back(None));
        }
        match quiet::after_read(cell, word, requested, bytes, || self.is_capturing()) {
            After::Quiet => None,
            After::Loud => Some(Back(None)),
            After::LoudFrom(header) => Some(Back(Some(header))),
        }
    }

    #[inline(always)]
    fn is_capturing(&self) -> bool {
        self.process.segment().is_some_and(|segment| segment.control().capture() != 0)
    }

    #[inline(never)]
    fn postgres_read_end(&self, cell: &Cell, bytes: &[u8]) -> bool {
        postgres::after_read(cell, cell.quiet.load(Ordering::Relaxed), self.is_capturing(), bytes)
    }

    /// After a write whose session stood aside: `None`: that was all. Else the session is back, and
    /// [`write_end_back`](Self::write_end_back) has to follow.
    #[inline]
    pub fn write_end_aside(&self, ticket: Ticket, bytes: &[u8]) -> Option<BackInAnswer> {
        let cell = ticket.cell()?;
        let word = cell.quiet.load(Ordering::Relaxed);
        if !postgres::is_ours(word) {
            return None;
        }
        postgres::after_write(cell, word, bytes).map(BackInAnswer)
    }

    /// The session is back: its machine gets the header that was kept, and the bytes.
    #[inline(always)]
    pub fn read_end_back(&self, t: &mut Thread, ticket: Ticket, back: Back, bytes: &[u8]) {
        let Some(cell) = ticket.cell() else { return };
        let goes_directly = match back {
            Back(Some(header)) => self.start_directly(t, cell, header, bytes),
            Back(None) => self.start_postgres_directly(t, cell, bytes),
        };
        if goes_directly {
            return;
        }
        self.read_end_back_at_length(t, cell, back, bytes);
    }

    #[inline(never)]
    fn read_end_back_at_length(&self, t: &mut Thread, cell: &'static Cell, back: Back, bytes: &[u8]) {
        let entry = cell.entry();
        self.visit(t, cell, |engine, t, s, segment| {
            let capturing = segment.control().capture() != 0;
            if let Back(Some(header)) = back {
                if s.whole_command(header, bytes, capturing) {
                    s.bytes_in = s.bytes_in.wrapping_add((header.len() + bytes.len()) as u64);
                    return engine.start_unit_here(t, entry, s, segment);
                }
                engine.before_read(t, entry, s, segment, header.len());
                s.bytes_in = s.bytes_in.wrapping_add(header.len() as u64);
                engine.feed(t, entry, s, segment, Direction::FromClient, &header, 0);
            } else if s.protocol() == Protocol::MySql {
                engine.before_read(t, entry, s, segment, quiet::HEADER_BYTES);
            } else if !capturing {
                t.rest();
            }
            s.bytes_in = s.bytes_in.wrapping_add(bytes.len() as u64);
            // Capture may have been switched on or off while the server waited for these bytes.
            if let Some(machine) = s.postgres() {
                machine.set_capturing(capturing);
            }
            engine.feed_request(t, entry, s, segment, bytes);
        });
    }

    /// The session is back: its machine goes on in the middle of an answer.
    #[cold]
    pub fn write_end_back(&self, t: &mut Thread, ticket: Ticket, back: BackInAnswer, bytes: &[u8]) {
        let (Some(cell), BackInAnswer(back)) = (ticket.cell(), back) else { return };
        let entry = cell.entry();
        self.visit(t, cell, |engine, t, s, segment| {
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
        cell: &'static Cell,
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
            let marks = quiet::marks(s.tls != 0, capturing);
            if let Some(machine) = s.postgres() {
                if !capturing {
                    machine.forget_unnamed();
                }
                cell.quiet.store(postgres::resting(marks), Ordering::Relaxed);
            } else {
                cell.quiet.store(quiet::resting(marks), Ordering::Relaxed);
            }
        }
        rests
    }
}
