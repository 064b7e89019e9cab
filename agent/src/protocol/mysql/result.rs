//! What the packets of a response say: its errors, results, definitions and statements. Which of them are read at all, and
//! where each ends, is `response.rs`'s.

use super::command::OnOk;
use super::handshake::capability;
use super::ok::{eof_status, status};
use super::packet::Fields;
use super::response::{EOF, EOF_LIMIT, Expect, LOCAL_INFILE, OK, PREPARED_LEN, Then};
use super::{Command, Event, Mysql, Phase};

/// The errno of MariaDB's progress reports, which are no errors.
const PROGRESS: u16 = 0xffff;
/// More columns than any server allows.
const COLUMNS_MAX: u64 = 0xffff;

impl Mysql {
    pub(super) fn error(&mut self, payload: &[u8]) {
        let mut fields = Fields(payload);
        fields.u8();
        let code = fields.u16().unwrap_or(0);
        if self.phase != Phase::Commands {
            if code != PROGRESS {
                self.phase = Phase::Over;
                self.pending.push(Event::NotASession);
            }
            return;
        }
        // Between commands a server says that it closes the session (timeout, kill): no unit's error.
        if code == PROGRESS || !self.current.running || self.response.is_complete() {
            return;
        }
        if !self.current.responded {
            self.first_response();
        }
        self.current.exchange = false;
        self.current.outcome.failed = true;
        self.current.outcome.error_code = u32::from(code);
        if let Some(state) = fields.0.strip_prefix(b"#").and_then(|rest| rest.first_chunk::<5>()) {
            self.current.outcome.sqlstate = *state;
        }
        if self.response.expect == Expect::First {
            self.current.results += 1;
        }
        self.response.expect = Expect::Complete;
    }

    pub(super) fn response_packet(&mut self, first: u8, payload: &[u8]) -> Option<()> {
        match self.response.expect {
            Expect::First => self.first_packet(first, payload),
            Expect::Prepared => self.prepared(payload),
            Expect::DefinitionsEnd => self.definitions_end(payload),
            Expect::Rows | Expect::FieldList => {
                let status = if self.can(capability::DEPRECATE_EOF) {
                    self.ok(payload)?.status
                } else {
                    eof_status(payload)?
                };
                self.result_done(status);
                Some(())
            }
            Expect::Authentication => {
                self.current.exchange = false;
                self.ok(payload)?;
                self.response.expect = Expect::Complete;
                Some(())
            }
            _ => Some(()),
        }
    }

    fn first_packet(&mut self, first: u8, payload: &[u8]) -> Option<()> {
        // LOCAL INFILE's data came, and this is the answer.
        self.current.exchange = false;
        let flagged = self.can(capability::OPTIONAL_METADATA) && self.output.len < 7;
        match first {
            OK if !flagged => {
                if self.current.hidden && self.output.len == PREPARED_LEN {
                    // An OK, or the answer to a PREPARE: bytes alike.
                    if let Some(id) = payload.get(1..5).and_then(|b| b.first_chunk::<4>()) {
                        self.statements.remove(u64::from(u32::from_le_bytes(*id)));
                    }
                    self.hide_response();
                    return Some(());
                }
                let ok = self.ok(payload)?;
                self.current.results += 1;
                self.current.outcome.rows_affected =
                    self.current.outcome.rows_affected.saturating_add(ok.affected);
                self.result_done(ok.status);
            }
            LOCAL_INFILE => self.current.exchange = true,
            EOF if self.current.hidden && self.output.len >= EOF_LIMIT => {
                // An authentication switch: the hidden command is a COM_CHANGE_USER.
                self.incoming.on_ok = OnOk::User;
                self.incoming.hidden = true;
                self.current.command = Command::Utility;
                self.current.text = super::TextKind::None;
                self.current.exchange = true;
                self.response.expect = Expect::Authentication;
            }
            EOF if self.output.len >= EOF_LIMIT && !self.can(capability::DEPRECATE_EOF) => return None,
            EOF => {
                let status = if self.can(capability::DEPRECATE_EOF) && self.output.len >= 7 {
                    self.ok(payload)?.status
                } else {
                    eof_status(payload)?
                };
                self.current.results += 1;
                self.result_done(status);
            }
            _ => self.result_set(payload)?,
        }
        Some(())
    }

    /// The packet with the number of columns, and whether their definitions follow.
    fn result_set(&mut self, payload: &[u8]) -> Option<()> {
        let mut fields = Fields(payload);
        let mut follow = true;
        if self.can(capability::OPTIONAL_METADATA) {
            follow = fields.u8()? != 0;
        }
        let columns = fields.lenenc().filter(|n| (1..=COLUMNS_MAX).contains(n))?;
        if self.can(capability::CACHE_METADATA) {
            follow = fields.u8()? != 0;
        }
        if !fields.0.is_empty() {
            return None;
        }
        self.current.results += 1;
        self.definitions(if follow { columns as u32 } else { 0 }, Then::Rows);
        Some(())
    }

    /// `count` definitions come, then `then`.
    fn definitions(&mut self, count: u32, then: Then) {
        self.response.then = then;
        self.response.definitions_left = count;
        self.response.expect = Expect::Definitions;
        if count == 0 {
            self.definitions_done();
        }
    }

    pub(super) fn definitions_done(&mut self) {
        if self.can(capability::DEPRECATE_EOF) {
            self.after_definitions();
        } else {
            self.response.expect = Expect::DefinitionsEnd;
        }
    }

    fn after_definitions(&mut self) {
        match self.response.then {
            Then::Rows => self.response.expect = Expect::Rows,
            Then::Columns if self.response.columns > 0 => {
                self.definitions(self.response.columns, Then::Nothing);
            }
            Then::Columns | Then::Nothing => self.response.expect = Expect::Complete,
        }
    }

    fn definitions_end(&mut self, payload: &[u8]) -> Option<()> {
        let status = eof_status(payload)?;
        let may_open_cursor = self.current.command == Command::Execute || self.current.hidden;
        if self.response.then == Then::Rows && may_open_cursor && status & status::CURSOR_EXISTS != 0 {
            // The rows come by COM_STMT_FETCH.
            self.result_done(status);
        } else {
            self.after_definitions();
        }
        Some(())
    }

    /// `00 | id LE32 | columns LE16 | parameters LE16 | 00 | warnings LE16 | [do definitions follow u8]`
    fn prepared(&mut self, payload: &[u8]) -> Option<()> {
        let mut fields = Fields(payload);
        if fields.u8()? != OK {
            return None;
        }
        let id = u64::from(fields.u32()?);
        let columns = u32::from(fields.u16()?);
        let parameters = u32::from(fields.u16()?);
        fields.bytes(3)?;
        self.last_prepared = self.announced;
        if self.announced.hash == 0 {
            self.statements.remove(id);
        } else {
            self.statements.insert(id, self.announced);
            self.has_statements = true;
        }
        if self.can(capability::OPTIONAL_METADATA) && fields.u8() == Some(0) {
            self.response.expect = Expect::Complete;
            return Some(());
        }
        self.response.columns = columns;
        if parameters > 0 {
            self.definitions(parameters, Then::Columns);
        } else {
            self.response.then = Then::Columns;
            self.after_definitions();
        }
        Some(())
    }

    fn result_done(&mut self, status: u16) {
        let more = status & status::MORE_RESULTS != 0;
        self.response.expect = if more { Expect::First } else { Expect::Complete };
    }
}
