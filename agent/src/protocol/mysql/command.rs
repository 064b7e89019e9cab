//! The client's direction: login packets and commands.

use super::attributes::Progress;
use super::handshake::{FIXED_LEN, capability};
use super::packet::FULL;
use super::proxy::{self, Progress as ProxyProgress};
use super::response::Expect;
use super::{Command, Dialect, Event, LostReason, Mysql, NO_TEXT, Phase, TextKind, TextRef, use_statement};
use crate::hash::content_hash;

/// MariaDB's "the statement prepared last", which a pipelined execute names.
const LAST_PREPARED: u32 = u32::MAX;
/// So much of a text is kept for [`use_statement`] while nobody captures.
const USE_TEXT_MAX: u32 = 512;

pub(super) mod code {
    pub const QUIT: u8 = 0x01;
    pub const INIT_DB: u8 = 0x02;
    pub const QUERY: u8 = 0x03;
    pub const FIELD_LIST: u8 = 0x04;
    pub const STATISTICS: u8 = 0x09;
    pub const CHANGE_USER: u8 = 0x11;
    pub const BINLOG_DUMP: u8 = 0x12;
    pub const TABLE_DUMP: u8 = 0x13;
    pub const PREPARE: u8 = 0x16;
    pub const EXECUTE: u8 = 0x17;
    pub const SEND_LONG_DATA: u8 = 0x18;
    pub const CLOSE: u8 = 0x19;
    pub const FETCH: u8 = 0x1c;
    pub const BINLOG_DUMP_GTID: u8 = 0x1e;
    pub const RESET_CONNECTION: u8 = 0x1f;
    pub const CLONE: u8 = 0x20;
    pub const SUBSCRIBE_GROUP_REPLICATION: u8 = 0x21;
    pub const BULK_EXECUTE: u8 = 0xfa;
}

/// What an OK to the running command changes.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum OnOk {
    Nothing = 0,
    /// The proposed database becomes the current one.
    Database,
    /// The proposed identity becomes the current one.
    User,
    /// Prepared statements die.
    Reset,
}

/// What happens to a COM_QUERY's text.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Keep {
    /// Nothing of the text has come.
    Undecided = 0,
    /// It may be a USE statement; nobody captures.
    ForUse,
    Nothing,
    All,
}

/// The command that is being received.
#[derive(Clone, Copy)]
pub(super) struct Incoming {
    /// The first byte came and is `code`.
    has_code: bool,
    code: u8,
    /// Bytes of this packet belong to an exchange of the running unit and are skipped.
    skipping: bool,
    in_attributes: bool,
    keep: Keep,
    /// Some of the bytes went by compressed, or lie behind attributes of an unknown shape.
    pub(super) hidden: bool,
    id: u32,
    id_bytes: u8,
    /// What the command that was received last changes when it succeeds.
    pub(super) on_ok: OnOk,
}

impl Incoming {
    pub(super) const fn new() -> Self {
        Incoming {
            has_code: false,
            code: 0,
            skipping: false,
            in_attributes: false,
            keep: Keep::Undecided,
            hidden: false,
            id: 0,
            id_bytes: 0,
            on_ok: OnOk::Nothing,
        }
    }
}

impl Incoming {
    /// A command went by whole that changes nothing about the session.
    pub(super) fn pass_usual(&mut self) {
        self.skipping = false;
        self.hidden = false;
        self.on_ok = OnOk::Nothing;
    }
}

impl Mysql {
    /// True when the server, reading now, reads a new command.
    pub(super) fn between_commands(&self) -> bool {
        self.input.at_boundary() && (!self.compressed || self.input_envelope.at_boundary())
    }

    /// Bytes before the session is logged in.
    pub(super) fn login_bytes(&mut self, input: &mut &[u8]) -> Result<(), LostReason> {
        if self.phase == Phase::Proxy {
            match self.proxy.take(input) {
                ProxyProgress::More => {}
                ProxyProgress::Malformed => return Err(LostReason::Malformed),
                ProxyProgress::Complete => {
                    if let Some(client) = self.proxy.client() {
                        self.identity.proxied_client = client;
                    }
                    self.phase = Phase::Hello;
                }
            }
            return Ok(());
        }
        if !self.input.in_packet {
            if !self.input.begin(input) {
                return Ok(());
            }
            if self.phase == Phase::Hello {
                return self.hello_header();
            }
        }
        let piece = self.input.take(input);
        if self.phase == Phase::Hello {
            self.login.take(piece, &mut self.proposal);
        }
        if self.input.left == 0 {
            self.input.end();
            if self.phase == Phase::Hello {
                return self.hello_complete();
            }
        }
        Ok(())
    }

    fn hello_header(&mut self) -> Result<(), LostReason> {
        let [a, b, c, _] = self.input.len.to_le_bytes();
        let start = [a, b, c, self.input.seq];
        if !self.tls && (start == proxy::V1_START || start == proxy::V2_START) {
            // Only the first bytes can be one: the machine is past them when it comes here again with a user.
            if !self.identity.proxied_client.is_empty() {
                return Err(LostReason::Malformed);
            }
            self.input = super::packet::Framer::new();
            self.proxy.begin(start);
            self.phase = Phase::Proxy;
            return Ok(());
        }
        if self.input.seq == 0 || self.input.len == FULL || self.input.len < FIXED_LEN {
            return Err(LostReason::Malformed);
        }
        self.proposal.clear();
        self.login.begin_handshake(self.server_capabilities);
        Ok(())
    }

    fn hello_complete(&mut self) -> Result<(), LostReason> {
        let capabilities = self.login.effective();
        if capabilities & capability::PROTOCOL_41 == 0 {
            return Err(LostReason::Malformed);
        }
        if self.input.len == FIXED_LEN && !self.tls && capabilities & capability::SSL != 0 {
            self.tls = true;
            self.pending.push(Event::TlsStarts);
            return Ok(());
        }
        if !self.login.has_user() {
            return Err(LostReason::Malformed);
        }
        self.capabilities = capabilities;
        self.phase = Phase::Authentication;
        Ok(())
    }

    /// Bytes of the command stream, out of their envelopes.
    pub(super) fn command_bytes(&mut self, input: &mut &[u8]) -> Result<(), LostReason> {
        if !self.input.in_packet {
            if self.input.at_boundary() {
                self.compression_settled = true;
                let skipping = self.current.exchange;
                if !skipping && self.finish_before_next()? {
                    return Ok(());
                }
                self.incoming = Incoming { skipping, on_ok: self.incoming.on_ok, ..Incoming::new() };
            }
            let before = self.input.seq;
            if !self.input.begin(input) {
                return Ok(());
            }
            self.response.forget_seq();
            let expected = if self.input.continuation { before.wrapping_add(1) } else { 0 };
            let inner_numbers_count = !(self.compressed && self.input.continuation);
            if !self.incoming.skipping && inner_numbers_count && self.input.seq != expected {
                return Err(LostReason::Malformed);
            }
        }
        let piece = self.input.take(input);
        if !self.incoming.skipping {
            self.command_piece(piece);
        }
        self.end_command_packet();
        Ok(())
    }

    /// A whole command, header and body, while the machine is at rest: the usual one of a busy session at once, where it
    /// can't go the direct way. True: a unit has started, and [`Event::Started`] is not answered any more. False: nothing was
    /// done, the bytes have to be fed.
    pub fn whole_command(&mut self, header: [u8; 4], body: &[u8], capturing: bool) -> bool {
        let [a, b, c, seq] = header;
        let is_whole = seq == 0 && u32::from_le_bytes([a, b, c, 0]) as usize == body.len();
        if !capturing || !is_whole || !self.is_at_rest() {
            return false;
        }
        let Some((asked, text)) = self.direct_command(body) else { return false };
        self.catch_up(asked, None, |take| take(text));
        true
    }

    #[inline(always)]
    pub(super) fn stored_text(&self, id: u32) -> TextRef {
        match id {
            LAST_PREPARED => self.last_prepared,
            id => self.statements.text(u64::from(id)).unwrap_or(NO_TEXT),
        }
    }

    /// Ends the packet if all of it came, and the command if nothing continues it.
    pub(super) fn end_command_packet(&mut self) {
        if self.input.left == 0 && self.input.end() && !self.incoming.skipping {
            self.command_complete();
        }
    }

    fn command_piece(&mut self, mut piece: &[u8]) {
        if !self.incoming.has_code {
            if self.incoming.hidden {
                return;
            }
            let Some((code, rest)) = piece.split_first() else { return };
            self.begin_command(*code);
            piece = rest;
        }
        if self.incoming.hidden {
            // After a gap nothing can be put together any more.
            return;
        }
        match self.incoming.code {
            code::QUERY => self.query_piece(piece),
            code::PREPARE => self.text.push(piece),
            code::INIT_DB => self.proposal.database.push(piece),
            code::CHANGE_USER => self.login.take(piece, &mut self.proposal),
            code::EXECUTE | code::FETCH | code::CLOSE | code::BULK_EXECUTE => {
                let missing = 4u8.saturating_sub(self.incoming.id_bytes);
                for byte in piece.iter().take(usize::from(missing)) {
                    self.incoming.id |= u32::from(*byte) << (self.incoming.id_bytes * 8);
                    self.incoming.id_bytes += 1;
                }
            }
            _ => {}
        }
    }

    fn begin_command(&mut self, code: u8) {
        self.incoming.has_code = true;
        self.incoming.code = code;
        match code {
            code::QUERY => {
                self.incoming.in_attributes = self.can(capability::QUERY_ATTRIBUTES);
                self.attributes.begin();
                if self.capturing {
                    self.take_text();
                    self.incoming.keep = Keep::All;
                }
            }
            code::PREPARE => self.take_text(),
            code::INIT_DB => self.proposal.clear(),
            code::CHANGE_USER => {
                self.proposal.clear();
                self.login.begin_change_user(self.capabilities);
            }
            _ => {}
        }
    }

    /// The text buffer is the incoming command's from now on.
    pub(super) fn take_text(&mut self) {
        self.current.text_taken = true;
        self.text.clear();
    }

    fn query_piece(&mut self, mut piece: &[u8]) {
        if self.incoming.in_attributes {
            match self.attributes.take(&mut piece) {
                Progress::More => return,
                Progress::Done => self.incoming.in_attributes = false,
                Progress::Failed => {
                    self.incoming.in_attributes = false;
                    self.incoming.hidden = true;
                    self.incoming.keep = Keep::Nothing;
                }
            }
        }
        let Some(first) = piece.first() else { return };
        if self.incoming.keep == Keep::Undecided {
            self.incoming.keep = if use_statement::may_begin(*first) { Keep::ForUse } else { Keep::Nothing };
            if self.incoming.keep == Keep::ForUse {
                self.take_text();
            }
        }
        match self.incoming.keep {
            Keep::All => self.text.push(piece),
            Keep::ForUse => {
                let room = USE_TEXT_MAX.saturating_sub(self.text.full_len());
                self.text.push(super::packet::take_up_to(&mut piece, room));
                if !piece.is_empty() {
                    self.incoming.hidden = true;
                }
            }
            Keep::Nothing | Keep::Undecided => {}
        }
    }

    fn command_complete(&mut self) {
        let incoming = self.incoming;
        self.incoming.on_ok = OnOk::Nothing;
        if !incoming.has_code && incoming.hidden {
            self.begin_unit(Command::Query, TextKind::Unknown, Expect::First);
            self.current.hidden = true;
            return;
        }
        if !incoming.has_code {
            return self.begin_unit(Command::Utility, TextKind::None, Expect::First);
        }
        match incoming.code {
            code::QUERY => self.query_complete(),
            code::PREPARE => self.prepare_complete(),
            code::EXECUTE | code::BULK_EXECUTE => self.stored_complete(Command::Execute, Expect::First),
            code::FETCH => self.stored_complete(Command::Fetch, Expect::Rows),
            code::CLOSE => self.close_complete(),
            code::SEND_LONG_DATA => {}
            code::QUIT => self.over(Event::Quit),
            code::BINLOG_DUMP | code::TABLE_DUMP => self.over(Event::Streaming),
            code::BINLOG_DUMP_GTID | code::CLONE | code::SUBSCRIBE_GROUP_REPLICATION
                if self.dialect == Dialect::MySql =>
            {
                self.over(Event::Streaming);
            }
            code::FIELD_LIST => self.begin_unit(Command::Utility, TextKind::None, Expect::FieldList),
            code::STATISTICS => self.begin_unit(Command::Utility, TextKind::None, Expect::Single),
            code => {
                self.incoming.on_ok = match code {
                    code::INIT_DB => OnOk::Database,
                    code::CHANGE_USER => OnOk::User,
                    code::RESET_CONNECTION => OnOk::Reset,
                    _ => OnOk::Nothing,
                };
                let expect = if code == code::CHANGE_USER { Expect::Authentication } else { Expect::First };
                self.begin_unit(Command::Utility, TextKind::None, expect);
                self.current.exchange = code == code::CHANGE_USER;
            }
        }
    }

    fn query_complete(&mut self) {
        let keep = self.incoming.keep;
        if matches!(keep, Keep::All | Keep::ForUse)
            && self.text.as_slice().first().is_some_and(|b| use_statement::may_begin(*b))
        {
            let cut = self.text.is_cut() || self.incoming.hidden;
            if let Some(name) = use_statement::database_of(self.text.as_slice(), cut) {
                self.proposal.clear();
                for piece in name.pieces() {
                    self.proposal.database.push(piece);
                }
                self.incoming.on_ok = OnOk::Database;
            }
        }
        let known = keep == Keep::All && !self.incoming.hidden;
        self.incoming.hidden = false;
        self.begin_unit(
            Command::Query,
            if known { TextKind::Inline } else { TextKind::Unknown },
            Expect::First,
        );
    }

    fn prepare_complete(&mut self) {
        let mut text = TextKind::Unknown;
        self.announced = NO_TEXT;
        if !self.incoming.hidden {
            text = TextKind::Inline;
            self.announced =
                TextRef { hash: content_hash(self.text.as_slice()), full_len: self.text.full_len() };
            self.pending.push(Event::Text);
        }
        // Until the server says so nothing is prepared; a pipelined execute comes after its answer.
        self.last_prepared = NO_TEXT;
        self.begin_unit(Command::Prepare, text, Expect::Prepared);
    }

    fn stored_complete(&mut self, command: Command, expect: Expect) {
        let text = match (self.incoming.id_bytes, self.incoming.id) {
            (4, id) => self.stored_text(id),
            _ => NO_TEXT,
        };
        let kind = if text.hash == 0 { TextKind::Unknown } else { TextKind::Stored };
        self.begin_unit(command, kind, expect);
        self.current.stored = text;
    }

    fn close_complete(&mut self) {
        if self.incoming.id_bytes == 4 {
            self.statements.remove(u64::from(self.incoming.id));
        }
    }

    fn over(&mut self, event: Event) {
        self.phase = Phase::Over;
        self.pending.push(event);
    }
}
