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

/// The header of a MySQL command.
pub(super) type Header = [u8; quiet::HEADER_BYTES];

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
        let is_seen = (word & quiet::TLS != 0) == at_tls;
        Some(if is_seen { Ticket::of(cell, word) } else { Ticket::NONE })
    }

    /// The same before a write.
    #[inline(always)]
    pub(super) fn quiet_write(&self, cell: &'static Cell, at_tls: bool) -> Option<Ticket> {
        let word = cell.quiet.load(Ordering::Relaxed);
        if word & quiet::ASIDE == 0 {
            return None;
        }
        let is_seen = postgres::is_ours(word) && (word & quiet::TLS != 0) == at_tls;
        Some(if is_seen { Ticket::of(cell, word) } else { Ticket::NONE })
    }

    /// Before a read of the socket of the session in `cell`, without the thread's state: the ticket of a session that
    /// stands aside.
    #[inline(always)]
    pub fn read_aside(&self, cell: &'static Cell) -> Option<Ticket> {
        self.quiet_read(cell, false)
    }

    /// The ticket of a session that [is plainly aside](Cell::is_plainly_aside), for a read.
    #[inline(always)]
    pub fn ticket_aside(&self, cell: &'static Cell) -> Ticket {
        Ticket::of(cell, cell.quiet.load(Ordering::Relaxed))
    }

    /// True for what nearly every read for a command's header brings, of which its body says enough.
    #[inline(always)]
    pub fn is_usual_header(&self, bytes: &[u8; quiet::HEADER_BYTES]) -> bool {
        quiet::is_usual_header(*bytes)
    }

    /// Before a write to the socket of the session in `cell`: the ticket of a session that stands aside;
    /// [`Ticket::NONE`]: nothing at all is to be done.
    #[inline(always)]
    pub fn write_aside(&self, cell: &'static Cell) -> Option<Ticket> {
        self.quiet_write(cell, false)
    }

    /// The generation of the capture that is on; 0: it is off.
    #[inline(always)]
    pub fn capture(&self) -> u64 {
        self.process.capture()
    }

    /// True when the counters of all executions are to be read.
    #[inline(always)]
    pub fn reads_all(&self) -> bool {
        self.process.control().reads_all()
    }

    /// After a read for at most `requested` bytes whose session stood aside, while capture is off: true when that was all,
    /// as is plain at a glance. Of all others, [`passes_while_off`](Self::passes_while_off) has to be asked.
    #[inline(always)]
    pub fn passes_at_a_glance(&self, ticket: Ticket, requested: usize, bytes: &[u8]) -> bool {
        let Some(cell) = ticket.cell() else { return true };
        let word = cell.quiet.load(Ordering::Relaxed);
        if postgres::is_ours(word) {
            postgres::passes_at_a_glance(cell, word, bytes)
        } else {
            quiet::passes_at_a_glance(word, requested, bytes)
        }
    }

    /// The same after a closer look.
    #[inline(always)]
    pub fn passes_while_off(&self, ticket: Ticket, requested: usize, bytes: &[u8]) -> bool {
        let Some(cell) = ticket.cell() else { return true };
        let word = cell.quiet.load(Ordering::Relaxed);
        if postgres::is_ours(word) {
            postgres::passes_while_off(cell, word, bytes)
        } else {
            quiet::passes_while_off(word, requested, bytes)
        }
    }

    /// After a read whose session stood aside, of which there is more to do than in passing.
    #[inline(never)]
    pub fn read_end_aside(&self, t: &mut Thread, ticket: Ticket, requested: usize, bytes: &[u8]) {
        let Some(cell) = ticket.cell() else { return };
        let word = cell.quiet.load(Ordering::Relaxed);
        if word & quiet::ASIDE == 0 {
            // Another thread was at the socket meanwhile.
            return;
        }
        let capturing = self.capture() != 0;
        let header = if postgres::is_ours(word) {
            if !postgres::after_read(cell, word, capturing, bytes) {
                return;
            }
            None
        } else {
            match quiet::after_read(cell, word, requested, bytes, capturing) {
                After::Quiet => return,
                After::Loud => None,
                After::LoudFrom(header) => Some(header),
            }
        };
        if !self.start_at_last(t, cell, header, bytes) {
            self.follow(t, cell, header, bytes);
        }
    }

    /// Before a write of a PostgreSQL session that stands aside, of bytes that
    /// [may be seen ahead](Cell::may_be_seen_ahead): true when nothing is to be done afterwards.
    #[inline(always)]
    pub fn written_ahead(&self, cell: &'static Cell, bytes: &[u8]) -> bool {
        let word = cell.quiet.load(Ordering::Relaxed);
        postgres::is_ours(word) && postgres::written_ahead(cell, word, bytes)
    }

    /// The same, as far as it is plain at a glance; of all others it has to be asked.
    #[inline(always)]
    pub fn written_ahead_at_a_glance(&self, cell: &'static Cell, bytes: &[u8]) -> bool {
        let word = cell.quiet.load(Ordering::Relaxed);
        postgres::is_ours(word) && postgres::written_ahead_at_a_glance(cell, word, bytes)
    }

    /// After a write whose session stood aside: true when that was all, as is plain at a glance. Of all others,
    /// [`write_end_aside`](Self::write_end_aside) has to be told.
    #[inline(always)]
    pub fn written_at_a_glance(&self, ticket: Ticket, bytes: &[u8]) -> bool {
        let Some(cell) = ticket.cell() else { return true };
        let word = cell.quiet.load(Ordering::Relaxed);
        cell.written.took(bytes.as_ptr().addr(), bytes.len());
        postgres::is_ours(word) && postgres::written_at_a_glance(cell, word, bytes)
    }

    /// After a write whose session stood aside: `None`: that was all. Else the session is back, and
    /// [`write_end_back`](Self::write_end_back) has to follow.
    pub fn write_end_aside(&self, ticket: Ticket, bytes: &[u8]) -> Option<BackInAnswer> {
        let cell = ticket.cell()?;
        let word = cell.quiet.load(Ordering::Relaxed);
        if !postgres::is_ours(word) {
            return None;
        }
        postgres::after_write(cell, word, bytes).map(BackInAnswer)
    }

    /// The session is back: its machine gets the header that was passed over, and the bytes.
    fn follow(&self, t: &mut Thread, cell: &'static Cell, header: Option<Header>, bytes: &[u8]) {
        let entry = cell.entry();
        cell.quiet.store(quiet::LOUD, Ordering::Relaxed);
        self.visit(t, cell, |engine, t, s, segment| {
            let capturing = segment.control().capture() != 0;
            if let Some(header) = header {
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
    /// before a read for a command's header. The ticket of that read.
    #[inline]
    pub(super) fn stand_aside(
        &self,
        cell: &'static Cell,
        s: &mut Session,
        requested: usize,
        capturing: bool,
    ) -> Ticket {
        let postgres = s.protocol() == Protocol::Postgres;
        let rests = (postgres || requested == quiet::HEADER_BYTES)
            && s.logged_in != 0
            && (s.tls == 0 || s.ssl != 0)
            && s.can_rest();
        if !rests {
            return Ticket::new(cell);
        }
        let marks = quiet::marks(s.tls != 0, capturing);
        let mut protocol = if postgres { postgres::POSTGRES } else { 0 };
        if let Some(machine) = s.postgres() {
            if !capturing {
                machine.forget_unnamed();
            }
            if machine.reports_last() {
                protocol |= postgres::REPORTS_LAST;
            }
        }
        s.remember_style();
        // A login's bytes are no query's.
        (s.bytes_in, s.bytes_out) = (0, 0);
        let word = quiet::resting(marks | protocol);
        cell.quiet.store(word, Ordering::Relaxed);
        Ticket::of(cell, word)
    }
}
