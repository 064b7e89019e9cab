//! MariaDB and MySQL: the machine, and how its parts share the state of a session.
//!
//! The server's reads are unbuffered, so the machine sees a command whole before anything of its response, and the
//! server asks for the next header only when the response is sent. That request ends the unit; what the response
//! *says* (rows, error, statement id) is parsed beside it and never decides where a unit ends, save for the exchanges
//! in which the server reads in the middle of a command: LOCAL INFILE and the authentication of COM_CHANGE_USER.
//!
//! Order of events: of a COM_STMT_PREPARE first [`Event::Text`], then [`Event::Started`], so that storing the text is
//! not in the unit's time. [`Event::FirstResponse`] comes before whatever the response's first packet says.
//!
//! # What can't be known, and is said so
//!
//! - With compression, packets of 50 bytes and more come as zlib or zstd streams. Such a command counts as
//!   [`Command::Query`] with [`UnitText::Compressed`], whatever it is; it starts when its first compressed packet is
//!   complete (how many follow is known only inside). A response with such a packet has `outcome.unknown`. The id of a
//!   statement whose PREPARE or its answer is compressed is not known: its executions have [`UnitText::Unknown`].
//! - After a COM_CHANGE_USER that could not be followed, user, database and application are empty. One that is wholly
//!   compressed and needs no authentication switch looks like any other command and is not noticed.
//! - `USE` is recognised as the first statement of a COM_QUERY; elsewhere only the server's session tracking tells.
//! - [`Machine::unit`] has [`UnitText::Unknown`] once text of the *next* command comes in: there is room for one text.

mod attributes;
mod command;
mod compress;
mod direct;
mod fuzz;
mod handshake;
mod ok;
mod packet;
mod pending;
mod proxy;
mod response;
mod result;
#[cfg(test)]
mod tests;
mod use_statement;

use super::{
    Command, Dialect, Direction, Event, Identity, LostReason, Machine, Outcome, StatementMap, Step, TEXT_CAP,
    TextRef, Unit, UnitText,
};
use crate::strings::Bytes;
pub use direct::Framing;
#[doc(hidden)]
pub use fuzz::fuzz_mysql;
use pending::Pending;

/// Where in its life the connection is.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// The server speaks first.
    Greeting = 0,
    /// The client's first packets: PROXY header, SSLRequest, HandshakeResponse.
    Hello,
    /// In a PROXY header.
    Proxy,
    /// The authentication plugins talk.
    Authentication,
    /// Logged in.
    Commands,
    /// Quit, a stream, or no session: nothing is read any more.
    Over,
}

/// Where the current unit's text is.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum TextKind {
    None = 0,
    Inline,
    Stored,
    Unknown,
    Compressed,
}

/// The unit that runs or ran last.
struct Current {
    running: bool,
    /// A meaningful response byte was sent.
    responded: bool,
    /// The server reads packets that belong to this command (LOCAL INFILE, authentication).
    exchange: bool,
    /// The command came compressed: what it is, is not known.
    hidden: bool,
    /// The text buffer has begun to take the next command's text.
    text_taken: bool,
    command: Command,
    text: TextKind,
    stored: TextRef,
    /// Results seen: OKs, errors, result sets.
    results: u32,
    outcome: Outcome,
}

/// The protocol machine of one MariaDB or MySQL connection, from its first byte.
///
/// All-zero memory is a valid machine in its initial state. In the order of use: what every query touches is together.
#[repr(C)]
pub struct Mysql {
    phase: Phase,
    /// 0, or the number of the [`LostReason`].
    lost: u8,
    tls: bool,
    capturing: bool,
    compressed: bool,
    /// The first command came: whether the session is compressed is settled.
    compression_settled: bool,
    has_statements: bool,
    dialect: Dialect,
    pending: Pending,
    input: packet::Framer,
    output: packet::Framer,
    incoming: command::Incoming,
    capabilities: u64,
    current: Current,
    response: response::Response,
    text: Bytes<TEXT_CAP>,
    last_prepared: TextRef,
    announced: TextRef,
    statements: StatementMap,
    server_capabilities: u64,
    input_envelope: compress::Envelope,
    output_envelope: compress::Envelope,
    evicted_before: u64,
    identity: Identity,
    proposal: handshake::Proposal,
    login: handshake::Login,
    proxy: proxy::Proxy,
    attributes: attributes::Attributes,
}

impl Mysql {
    /// True when the session is logged in, plain packets, between two commands, with nothing half told: what happens until
    /// the next command that matters need not be shown to the machine.
    #[inline]
    pub fn is_at_rest(&self) -> bool {
        self.phase == Phase::Commands
            && self.lost == 0
            && self.compression_settled
            && !self.compressed
            && !self.current.running
            && !self.current.exchange
            && self.pending.is_empty()
            && self.input.at_boundary()
            && self.output.at_boundary()
    }

    /// A machine that waits for the server's greeting.
    pub const fn new() -> Self {
        Mysql {
            phase: Phase::Greeting,
            lost: 0,
            tls: false,
            capturing: false,
            compressed: false,
            compression_settled: false,
            has_statements: false,
            dialect: Dialect::Unknown,
            pending: Pending::NONE,
            server_capabilities: 0,
            capabilities: 0,
            input: packet::Framer::new(),
            output: packet::Framer::new(),
            input_envelope: compress::Envelope::new(),
            output_envelope: compress::Envelope::new(),
            incoming: command::Incoming::new(),
            response: response::Response::new(),
            current: Current::new(),
            last_prepared: NO_TEXT,
            announced: NO_TEXT,
            evicted_before: 0,
            identity: Identity {
                user: Bytes::new(),
                database: Bytes::new(),
                application: Bytes::new(),
                proxied_client: Bytes::new(),
                connection_id: 0,
            },
            proposal: handshake::Proposal::new(),
            login: handshake::Login::new(),
            proxy: proxy::Proxy::new(),
            attributes: attributes::Attributes::new(),
            text: Bytes::new(),
            statements: StatementMap::new(),
        }
    }

    /// Back to the initial state, for the next connection. Cheap: what was not used is not touched.
    pub fn reset(&mut self) {
        self.phase = Phase::Greeting;
        self.lost = 0;
        self.tls = false;
        self.capturing = false;
        self.compressed = false;
        self.compression_settled = false;
        self.dialect = Dialect::Unknown;
        self.pending = Pending::NONE;
        self.server_capabilities = 0;
        self.capabilities = 0;
        self.input = packet::Framer::new();
        self.output = packet::Framer::new();
        self.input_envelope = compress::Envelope::new();
        self.output_envelope = compress::Envelope::new();
        self.incoming = command::Incoming::new();
        self.response.reset();
        self.current = Current::new();
        self.announced = NO_TEXT;
        self.forget_statements();
        self.evicted_before = self.statements.evicted();
        self.identity.user.clear();
        self.identity.database.clear();
        self.identity.application.clear();
        self.identity.proxied_client.clear();
        self.identity.connection_id = 0;
        self.proposal.clear();
        self.text.clear();
    }

    fn forget_statements(&mut self) {
        if self.has_statements {
            self.statements.clear();
            self.has_statements = false;
        }
        self.last_prepared = NO_TEXT;
    }

    #[inline(always)]
    fn can(&self, bit: u64) -> bool {
        self.capabilities & bit != 0
    }

    /// The unit's command is complete.
    fn begin_unit(&mut self, command: Command, text: TextKind, expect: response::Expect) {
        self.new_unit(command, text, expect);
        self.pending.push(Event::Started);
    }

    #[inline]
    fn new_unit(&mut self, command: Command, text: TextKind, expect: response::Expect) {
        self.current = Current::new();
        self.current.running = true;
        self.current.command = command;
        self.current.text = text;
        self.response.begin(expect);
    }

    fn first_response(&mut self) {
        self.current.responded = true;
        self.pending.push(Event::FirstResponse);
    }

    /// The unit is over; whatever of the response is missing will not come any more.
    fn finish(&mut self) {
        self.current.running = false;
        self.current.exchange = false;
        if !self.response.is_complete() || !self.output.at_boundary() {
            self.current.outcome.unknown = true;
            self.output = packet::Framer::new();
            self.output_envelope = compress::Envelope::new();
        }
        self.response.end();
    }

    /// The server takes the next command: the unit before it is over. False when no unit can have been answered.
    fn finish_before_next(&mut self) -> Result<bool, LostReason> {
        match (self.current.running, self.current.responded) {
            (false, _) => Ok(false),
            (true, true) => {
                self.finish();
                self.pending.push(Event::Finished);
                Ok(true)
            }
            (true, false) => Err(LostReason::Missed),
        }
    }

    /// Handles some of `input`: consumes bytes or finds events.
    fn advance(&mut self, direction: Direction, input: &mut &[u8]) -> Result<(), LostReason> {
        if self.phase == Phase::Commands && !self.compressed {
            return match direction {
                Direction::ToClient => self.response_bytes(input),
                Direction::FromClient => self.command_bytes(input),
            };
        }
        self.advance_elsewhere(direction, input)
    }

    #[cold]
    fn advance_elsewhere(&mut self, direction: Direction, input: &mut &[u8]) -> Result<(), LostReason> {
        match (direction, self.phase) {
            (_, Phase::Over) => {
                *input = &[];
                Ok(())
            }
            (Direction::ToClient, Phase::Commands) => self.compressed_response(input),
            (Direction::ToClient, _) => self.response_bytes(input),
            (Direction::FromClient, Phase::Greeting) => Err(LostReason::Malformed),
            (Direction::FromClient, Phase::Hello | Phase::Proxy | Phase::Authentication) => {
                self.login_bytes(input)
            }
            (Direction::FromClient, Phase::Commands) => self.compressed_command(input),
        }
    }
}

const NO_TEXT: TextRef = TextRef { hash: 0, full_len: 0 };

impl Current {
    const fn new() -> Self {
        Current {
            running: false,
            responded: false,
            exchange: false,
            hidden: false,
            text_taken: false,
            command: Command::None,
            text: TextKind::None,
            stored: NO_TEXT,
            results: 0,
            outcome: Outcome {
                failed: false,
                error_code: 0,
                sqlstate: [0; 5],
                rows_returned: 0,
                rows_affected: 0,
                unknown: false,
            },
        }
    }
}

impl Default for Mysql {
    fn default() -> Self {
        Self::new()
    }
}

fn lost_reason(code: u8) -> Option<LostReason> {
    match code {
        0 => None,
        1 => Some(LostReason::Malformed),
        2 => Some(LostReason::Opaque),
        _ => Some(LostReason::Missed),
    }
}

impl Machine for Mysql {
    #[inline]
    fn step(&mut self, direction: Direction, input: &mut &[u8]) -> Step {
        loop {
            if let Some(event) = self.pending.pop() {
                return Step::Event(event);
            }
            if let Some(reason) = lost_reason(self.lost) {
                return Step::Lost(reason);
            }
            if input.is_empty() {
                return Step::NeedMore;
            }
            if let Err(reason) = self.advance(direction, input) {
                self.lost = reason as u8;
            }
        }
    }

    #[inline]
    fn read_entered(&mut self, requested: usize) -> Step {
        if let Some(reason) = lost_reason(self.lost) {
            return Step::Lost(reason);
        }
        if self.phase != Phase::Commands {
            return Step::NeedMore;
        }
        if !self.compression_settled {
            // What both sides can do says little when the server has a list of algorithms; what it reads says all.
            match requested {
                4 => self.compressed = false,
                7 => self.compressed = true,
                _ => {}
            }
        }
        if !self.current.running
            || !self.current.responded
            || self.current.exchange
            || !self.between_commands()
        {
            return Step::NeedMore;
        }
        self.finish();
        Step::Event(Event::Finished)
    }

    fn parked(&mut self, closing: bool) -> Step {
        if let Some(reason) = lost_reason(self.lost) {
            return Step::Lost(reason);
        }
        let answered = self.current.responded && !self.current.exchange;
        if self.phase != Phase::Commands || !self.current.running || !(answered || closing) {
            return Step::NeedMore;
        }
        self.finish();
        Step::Event(Event::Finished)
    }

    fn set_capturing(&mut self, capturing: bool) {
        self.capturing = capturing;
    }

    fn identity(&self) -> &Identity {
        &self.identity
    }

    #[inline]
    fn dialect(&self) -> Dialect {
        self.dialect
    }

    #[inline]
    fn unit(&self) -> Unit<'_> {
        let bytes = self.text.as_slice();
        let text = match self.current.text {
            TextKind::None => UnitText::None,
            TextKind::Stored => UnitText::Stored(self.current.stored),
            TextKind::Inline if !self.current.text_taken => {
                UnitText::Inline { bytes, full_len: self.text.full_len() }
            }
            TextKind::Compressed if !self.current.text_taken => {
                UnitText::Compressed { bytes, zstd: bytes.starts_with(&compress::ZSTD_MAGIC) }
            }
            _ => UnitText::Unknown,
        };
        let statements = match self.current.command {
            Command::None | Command::Utility => 0,
            _ => self.current.results.max(1),
        };
        Unit { command: self.current.command, text, statements, members: &[], outcome: self.current.outcome }
    }

    fn announced_text(&self) -> (&[u8], TextRef) {
        (self.text.as_slice(), self.announced)
    }

    fn evicted_statements(&self) -> u64 {
        self.statements.evicted().saturating_sub(self.evicted_before)
    }
}
