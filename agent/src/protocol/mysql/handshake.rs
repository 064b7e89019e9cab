//! Login: the server's greeting, and the identity in HandshakeResponse41 and COM_CHANGE_USER.
//!
//! The client's packets are read byte by byte and only the identity's bytes are stored; the authentication data, which
//! may be a password in clear, is counted and never copied.

use super::packet::{Fields, Length, LengthReader};
use crate::protocol::Dialect;
use crate::strings::Bytes;

/// Capability bits that change what is on the wire; MariaDB's extended ones start at bit 32.
pub(super) mod capability {
    pub const MYSQL: u64 = 1;
    pub const CONNECT_WITH_DB: u64 = 1 << 3;
    pub const COMPRESS: u64 = 1 << 5;
    pub const PROTOCOL_41: u64 = 1 << 9;
    pub const SSL: u64 = 1 << 11;
    pub const SECURE_CONNECTION: u64 = 1 << 15;
    pub const PLUGIN_AUTH: u64 = 1 << 19;
    pub const CONNECT_ATTRIBUTES: u64 = 1 << 20;
    pub const AUTH_LENENC: u64 = 1 << 21;
    pub const SESSION_TRACK: u64 = 1 << 23;
    pub const DEPRECATE_EOF: u64 = 1 << 24;
    pub const OPTIONAL_METADATA: u64 = 1 << 25;
    pub const ZSTD: u64 = 1 << 26;
    pub const QUERY_ATTRIBUTES: u64 = 1 << 27;
    pub const CACHE_METADATA: u64 = 1 << 36;
}

/// What the greeting says.
pub(super) struct Greeting {
    pub dialect: Dialect,
    pub thread_id: u32,
    pub capabilities: u64,
}

impl Greeting {
    /// Reads a greeting's payload (protocol version 10).
    pub(super) fn parse(payload: &[u8]) -> Option<Greeting> {
        let mut fields = Fields(payload);
        if fields.u8()? != 0x0a {
            return None;
        }
        let version = fields.terminated()?;
        let thread_id = fields.u32()?;
        fields.bytes(9)?;
        let low = u64::from(fields.u16()?);
        fields.bytes(3)?;
        let high = u64::from(fields.u16()?);
        let mut capabilities = low | high << 16;
        fields.bytes(7)?;
        let extended = u64::from(fields.u32()?);
        let mariadb = capabilities & capability::MYSQL == 0 || contains(version, b"mariadb");
        if capabilities & capability::MYSQL == 0 {
            capabilities |= extended << 32;
        }
        let dialect = if mariadb { Dialect::MariaDb } else { Dialect::MySql };
        Some(Greeting { dialect, thread_id, capabilities })
    }
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|w| w.eq_ignore_ascii_case(word))
}

/// Who the session will be once the server says OK.
pub(super) struct Proposal {
    pub user: Bytes<128>,
    pub database: Bytes<192>,
    pub application: Bytes<128>,
    /// The command names a database.
    pub has_database: bool,
    /// The packet carried connection attributes.
    pub has_attributes: bool,
}

impl Proposal {
    pub(super) const fn new() -> Self {
        Proposal {
            user: Bytes::new(),
            database: Bytes::new(),
            application: Bytes::new(),
            has_database: false,
            has_attributes: false,
        }
    }

    pub(super) fn clear(&mut self) {
        self.user.clear();
        self.database.clear();
        self.application.clear();
        self.has_database = false;
        self.has_attributes = false;
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Field {
    /// The 32 bytes of fixed layout, all there is of an SSLRequest.
    Fixed = 0,
    User,
    AuthLength,
    Auth,
    AuthTerminated,
    Database,
    Charset,
    Plugin,
    AttributesLength,
    KeyLength,
    Key,
    ValueLength,
    Value,
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Wanted {
    No = 0,
    ProgramName,
    ClientName,
}

/// Length of the fixed part of a HandshakeResponse41, and of a whole SSLRequest.
pub(super) const FIXED_LEN: u32 = 32;

/// Reads HandshakeResponse41 (with SSLRequest as its beginning) and COM_CHANGE_USER.
pub(super) struct Login {
    field: Field,
    change_user: bool,
    program_name_seen: bool,
    wanted: Wanted,
    position: u8,
    length: LengthReader,
    /// Bytes of the current value still to come.
    left: u64,
    /// Bytes of the attributes still to come.
    attributes_left: u64,
    /// What the client said; [`Login::effective`] is what both sides know.
    pub client_capabilities: u64,
    effective: u64,
    key: Bytes<16>,
}

impl Login {
    pub(super) const fn new() -> Self {
        Login {
            field: Field::Fixed,
            change_user: false,
            program_name_seen: false,
            wanted: Wanted::No,
            position: 0,
            length: LengthReader::new(),
            left: 0,
            attributes_left: 0,
            client_capabilities: 0,
            effective: 0,
            key: Bytes::new(),
        }
    }

    /// Starts to read a handshake response to a server with these capabilities.
    pub(super) fn begin_handshake(&mut self, server_capabilities: u64) {
        *self = Self::new();
        self.effective = server_capabilities;
    }

    /// Starts to read a COM_CHANGE_USER after its first byte.
    pub(super) fn begin_change_user(&mut self, capabilities: u64) {
        *self = Self::new();
        self.effective = capabilities;
        self.change_user = true;
        self.field = Field::User;
    }

    /// True once the user's name is complete.
    pub(super) fn has_user(&self) -> bool {
        !matches!(self.field, Field::Fixed | Field::User)
    }

    /// What both sides know. Complete when the fixed part is.
    pub(super) fn effective(&self) -> u64 {
        self.effective
    }

    fn can(&self, bit: u64) -> bool {
        self.effective & bit != 0
    }

    /// Takes a piece of the packet.
    pub(super) fn take(&mut self, piece: &[u8], proposal: &mut Proposal) {
        for byte in piece {
            if self.field == Field::Done {
                return;
            }
            self.push(*byte, proposal);
        }
    }

    fn push(&mut self, byte: u8, proposal: &mut Proposal) {
        match self.field {
            Field::Fixed => self.fixed(byte),
            Field::User => match byte {
                0 => self.field = self.auth_field(),
                _ => proposal.user.push(&[byte]),
            },
            Field::AuthLength if self.change_user || !self.can(capability::AUTH_LENENC) => {
                self.begin_auth(u64::from(byte), proposal);
            }
            Field::AuthLength => {
                if let Some(length) = self.length(byte) {
                    self.begin_auth(length, proposal);
                }
            }
            Field::Auth => {
                self.left = self.left.saturating_sub(1);
                if self.left == 0 {
                    self.after_auth(proposal);
                }
            }
            Field::AuthTerminated => {
                if byte == 0 {
                    self.after_auth(proposal);
                }
            }
            Field::Database => match byte {
                0 if self.change_user => self.field = Field::Charset,
                0 => self.after_database(),
                _ => proposal.database.push(&[byte]),
            },
            Field::Charset => {
                self.position += 1;
                if self.position == 2 {
                    self.after_database();
                }
            }
            Field::Plugin => {
                if byte == 0 {
                    self.after_plugin();
                }
            }
            Field::AttributesLength => {
                if let Some(length) = self.length(byte) {
                    proposal.has_attributes = true;
                    proposal.application.clear();
                    self.attributes_left = length;
                    self.field = if length == 0 { Field::Done } else { Field::KeyLength };
                }
            }
            Field::KeyLength | Field::Key | Field::ValueLength | Field::Value => {
                self.attribute(byte, proposal);
            }
            Field::Done => {}
        }
    }

    fn length(&mut self, byte: u8) -> Option<u64> {
        match self.length.push(byte) {
            Length::More => None,
            Length::Is(value) => Some(value),
            Length::Invalid => {
                self.field = Field::Done;
                None
            }
        }
    }

    /// `caps LE32 | max_packet LE32 | charset | 19 zeros | MariaDB's extended caps LE32`
    fn fixed(&mut self, byte: u8) {
        let shift = match self.position {
            at @ 0..=3 => Some(at * 8),
            at @ 28..=31 if self.client_capabilities & capability::MYSQL == 0 => Some((at - 28) * 8 + 32),
            _ => None,
        };
        if let Some(shift) = shift {
            self.client_capabilities |= u64::from(byte) << shift;
        }
        self.position += 1;
        if u32::from(self.position) == FIXED_LEN {
            self.position = 0;
            self.effective &= self.client_capabilities;
            self.field = Field::User;
        }
    }

    fn auth_field(&self) -> Field {
        if self.can(capability::SECURE_CONNECTION) || (!self.change_user && self.can(capability::AUTH_LENENC))
        {
            Field::AuthLength
        } else {
            Field::AuthTerminated
        }
    }

    fn begin_auth(&mut self, length: u64, proposal: &mut Proposal) {
        self.left = length;
        self.field = Field::Auth;
        if length == 0 {
            self.after_auth(proposal);
        }
    }

    fn after_auth(&mut self, proposal: &mut Proposal) {
        if self.change_user || self.can(capability::CONNECT_WITH_DB) {
            proposal.has_database = true;
            self.field = Field::Database;
        } else {
            self.after_database();
        }
    }

    fn after_database(&mut self) {
        if self.can(capability::PLUGIN_AUTH) {
            self.field = Field::Plugin;
        } else {
            self.after_plugin();
        }
    }

    fn after_plugin(&mut self) {
        let attributes = self.can(capability::CONNECT_ATTRIBUTES);
        self.field = if attributes { Field::AttributesLength } else { Field::Done };
    }

    fn attribute(&mut self, byte: u8, proposal: &mut Proposal) {
        self.attributes_left = self.attributes_left.saturating_sub(1);
        match self.field {
            Field::KeyLength => {
                if let Some(length) = self.length(byte) {
                    self.key.clear();
                    self.left = length;
                    self.field = if length == 0 { Field::ValueLength } else { Field::Key };
                }
            }
            Field::Key => {
                self.key.push(&[byte]);
                self.left = self.left.saturating_sub(1);
                if self.left == 0 {
                    self.field = Field::ValueLength;
                }
            }
            Field::ValueLength => {
                if let Some(length) = self.length(byte) {
                    self.left = length;
                    self.begin_value(proposal);
                }
            }
            _ => {
                if self.wanted != Wanted::No {
                    proposal.application.push(&[byte]);
                }
                self.left = self.left.saturating_sub(1);
                if self.left == 0 {
                    self.field = Field::KeyLength;
                }
            }
        }
        if self.attributes_left == 0 {
            self.field = Field::Done;
        }
    }

    /// The application is `program_name`; `_client_name` stands in until that comes.
    fn begin_value(&mut self, proposal: &mut Proposal) {
        self.wanted = match self.key.as_slice() {
            b"program_name" if !self.key.is_cut() => Wanted::ProgramName,
            b"_client_name" if !self.key.is_cut() && !self.program_name_seen => Wanted::ClientName,
            _ => Wanted::No,
        };
        if self.wanted == Wanted::ProgramName {
            self.program_name_seen = true;
        }
        if self.wanted != Wanted::No {
            proposal.application.clear();
        }
        self.field = if self.left == 0 { Field::KeyLength } else { Field::Value };
    }
}
