//! The engine's part of TLS: which session an SSL_* call belongs to, and its plain text.

use super::engine::{Engine, Ticket};
use super::state::Session;
use super::thread::{Thread, is_nested};

impl Engine {
    /// Before an SSL_* call on `ssl`; `frame` is the hook's frame address. Answers what stood there before, to be given to
    /// [`tls_leave`](Self::tls_leave).
    pub fn tls_enter(&self, t: &mut Thread, ssl: usize, frame: usize) -> bool {
        if t.ssl != 0 && is_nested(t.ssl_frame, frame) {
            // SSL_read_ex inside SSL_read, or the like: the outer one counts.
            return false;
        }
        t.ssl = ssl;
        t.ssl_frame = frame;
        true
    }

    /// After the SSL_* call.
    pub fn tls_leave(&self, t: &mut Thread) {
        t.ssl = 0;
    }

    /// Before SSL_read of at most `requested` bytes.
    pub fn tls_read_begin(&self, t: &mut Thread, ssl: usize, requested: usize) -> Ticket {
        let entry = self.ssl.session(ssl);
        let Some(cell) = self.cell(entry) else { return Ticket::NONE };
        if let Some(ticket) = self.quiet_read(cell, true) {
            return ticket;
        }
        if let Some(ticket) = self.finish_direct(t, cell, requested, true) {
            return ticket;
        }
        let mut ticket = Ticket::NONE;
        self.visit(t, cell, |engine, t, s, segment| {
            let capturing = engine.before_read(t, entry, s, segment, requested);
            ticket = engine.stand_aside(cell, s, requested, capturing);
        });
        ticket
    }

    /// The session of `ssl`, where the call's nested read or write has only just told it.
    pub fn tls_ticket(&self, t: &mut Thread, ssl: usize) -> Ticket {
        // Nobody has asked for the time before this write.
        t.write_ns = 0;
        match self.cell(self.ssl.session(ssl)) {
            Some(cell) if !cell.stands_aside() => Ticket::new(cell),
            _ => Ticket::NONE,
        }
    }

    /// Before SSL_write.
    pub fn tls_write_begin(&self, t: &mut Thread, ssl: usize) -> Ticket {
        let entry = self.ssl.session(ssl);
        let Some(cell) = self.cell(entry) else { return Ticket::NONE };
        if let Some(ticket) = self.quiet_write(cell, true) {
            return ticket;
        }
        let inside = self.visit_directly(t, cell, |engine, t, s, segment| {
            t.write_ns = engine.before_write(t, entry, s, segment);
            if t.slice.chosen {
                t.before_answer();
            }
        });
        if inside { Ticket::new(cell) } else { Ticket::NONE }
    }

    /// `ssl` is about to be freed.
    pub fn tls_free(&self, t: &mut Thread, ssl: usize) {
        let entry = self.ssl.session(ssl);
        if let Some(cell) = self.cell(entry) {
            self.ssl.remove(ssl);
            self.visit(t, cell, |_, _, s, _| s.ssl = 0);
        }
    }

    pub(super) fn learn_ssl(&self, t: &mut Thread, entry: u32, s: &mut Session) {
        if t.ssl != 0 && t.ssl != s.ssl {
            if s.ssl != 0 {
                self.ssl.remove(s.ssl);
            }
            s.ssl = if self.ssl.insert(t.ssl, entry) { t.ssl } else { 0 };
        }
    }
}
