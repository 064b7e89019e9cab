//! OK and EOF packets: what they say, and what an OK changes about the session.

use super::command::OnOk;
use super::handshake::{Greeting, capability};
use super::packet::Fields;
use super::{Event, Mysql, Phase};
use crate::strings::Bytes;

pub(super) mod status {
    pub const MORE_RESULTS: u16 = 0x0008;
    pub const CURSOR_EXISTS: u16 = 0x0040;
    pub const SESSION_STATE_CHANGED: u16 = 0x4000;
}

const TRACK_SCHEMA: u8 = 1;

/// `00 or fe | affected rows | insert id | status LE16 | warnings LE16 | [info | state changes]`
pub(super) struct OkPacket<'a> {
    pub affected: u64,
    pub status: u16,
    /// The current database, where the server says that it changed.
    schema: Option<&'a [u8]>,
}

impl<'a> OkPacket<'a> {
    fn parse(payload: &'a [u8], tracked: bool) -> Option<Self> {
        let mut fields = Fields(payload);
        fields.u8()?;
        let affected = fields.lenenc()?;
        fields.lenenc()?;
        let status = fields.u16()?;
        fields.u16()?;
        let changed = tracked && status & status::SESSION_STATE_CHANGED != 0;
        let schema = if changed { Self::schema(fields) } else { None };
        Some(OkPacket { affected, status, schema })
    }

    fn schema(mut fields: Fields<'a>) -> Option<&'a [u8]> {
        fields.string()?;
        let len = fields.lenenc()?.min(fields.0.len() as u64);
        let mut changes = Fields(fields.bytes(len)?);
        let mut schema = None;
        while let Some(kind) = changes.u8() {
            let Some(data) = changes.string() else { break };
            if kind == TRACK_SCHEMA {
                schema = Fields(data).string();
            }
        }
        schema
    }
}

/// The status in an EOF packet.
pub(super) fn eof_status(payload: &[u8]) -> Option<u16> {
    let mut fields = Fields(payload);
    fields.u8()?;
    fields.u16()?;
    fields.u16()
}

impl Mysql {
    pub(super) fn greeting(&mut self, payload: &[u8]) -> Option<()> {
        let greeting = Greeting::parse(payload)?;
        self.dialect = greeting.dialect;
        self.identity.connection_id = u64::from(greeting.thread_id);
        self.server_capabilities = greeting.capabilities;
        self.phase = Phase::Hello;
        Some(())
    }

    pub(super) fn logged_in(&mut self, payload: &[u8]) -> Option<()> {
        self.identity.application = self.proposal.application;
        self.identity.user = self.proposal.user;
        self.identity.database = self.proposal.database;
        self.phase = Phase::Commands;
        self.compressed = self.can(capability::COMPRESS | capability::ZSTD);
        let ok = OkPacket::parse(payload, self.can(capability::SESSION_TRACK))?;
        if let Some(schema) = ok.schema {
            self.identity.database.set(schema);
        }
        self.response.end();
        self.pending.push(Event::LoggedIn);
        Some(())
    }

    /// An OK packet, also one in an EOF's place.
    pub(super) fn ok<'p>(&mut self, payload: &'p [u8]) -> Option<OkPacket<'p>> {
        let ok = OkPacket::parse(payload, self.can(capability::SESSION_TRACK))?;
        match core::mem::replace(&mut self.incoming.on_ok, OnOk::Nothing) {
            OnOk::Nothing => {}
            OnOk::Database if self.incoming.hidden => self.set_database(&[]),
            OnOk::Database => {
                let name = self.proposal.database;
                self.set_database(name.as_slice());
            }
            OnOk::Reset => self.forget_statements(),
            OnOk::User if self.incoming.hidden => self.identity_unknown(),
            OnOk::User => {
                self.forget_statements();
                self.identity.user = self.proposal.user;
                self.identity.database = self.proposal.database;
                if self.proposal.has_attributes {
                    self.identity.application = self.proposal.application;
                }
                self.pending.push(Event::LoggedIn);
            }
        }
        if let Some(schema) = ok.schema {
            self.set_database(schema);
        }
        Some(ok)
    }

    fn set_database(&mut self, name: &[u8]) {
        let mut database = Bytes::new();
        database.set(name);
        self.change_database(database);
    }

    fn change_database(&mut self, database: Bytes<192>) {
        if self.identity.database.as_slice() != database.as_slice() {
            self.identity.database = database;
            self.pending.push_once(Event::IdentityChanged);
        }
    }

    /// The session is another user's, and whose is not known.
    pub(super) fn identity_unknown(&mut self) {
        self.forget_statements();
        self.identity.user.clear();
        self.identity.database.clear();
        self.identity.application.clear();
        self.pending.push_once(Event::IdentityChanged);
    }
}
