//! Before the first tagged message: encryption requests and their one-byte answers, cancel requests, the startup packet.

use super::message::find_zero;
use super::{Phase, Postgres};
use crate::protocol::{Event, LostReason, Step};

/// The server's MAX_STARTUP_PACKET_LENGTH.
const LENGTH_MAX: u32 = 10_000;

const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSS_ENCRYPTION_REQUEST: u32 = 80_877_104;

/// A one-byte answer that the server owes.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Owed {
    Nothing = 0,
    Ssl = 1,
    Gss = 2,
}

/// What the next string of the startup packet is.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Field {
    Key = 0,
    User = 1,
    Database = 2,
    Application = 3,
    Replication = 4,
    Other = 5,
    /// The empty key was seen.
    End = 6,
}

/// The packet without a tag that the client is sending.
pub(super) struct Startup {
    /// Length word and code.
    word: [u8; 8],
    have: u8,
    /// Bytes have been seen on this connection: TLS can't be the first thing any more.
    used: bool,
    owed: Owed,
    field: Field,
    /// The code was understood; the parameters follow.
    parameters: bool,
    /// A physical walsender.
    pub replication: bool,
    left: u32,
}

impl Startup {
    pub(super) const fn new() -> Self {
        Startup {
            word: [0; 8],
            have: 0,
            used: false,
            owed: Owed::Nothing,
            field: Field::Key,
            parameters: false,
            replication: false,
            left: 0,
        }
    }

    /// A new packet, on a connection that has carried bytes.
    fn again(&mut self) {
        *self = Startup { used: true, ..Startup::new() };
    }

    /// The server owes a one-byte answer.
    pub(super) fn is_owed(&self) -> bool {
        self.owed != Owed::Nothing
    }
}

impl Postgres {
    pub(super) fn startup_from_client(&mut self, input: &mut &[u8]) -> Step {
        loop {
            while self.startup.have < 8 {
                let Some((byte, rest)) = input.split_first() else { return Step::NeedMore };
                *input = rest;
                if let Some(to) = self.startup.word.get_mut(self.startup.have as usize) {
                    *to = *byte;
                }
                self.startup.have += 1;
                let [first, second, third, fourth, ..] = self.startup.word;
                if self.startup.have == 2 && !self.startup.used && [first, second] == [0x16, 0x03] {
                    // A ClientHello (PostgreSQL 17: sslnegotiation=direct); the rest of it is cipher.
                    *input = &[];
                    self.startup.again();
                    return Step::Event(Event::TlsStarts);
                }
                if self.startup.have == 4 {
                    let length = u32::from_be_bytes([first, second, third, fourth]);
                    if !(8..=LENGTH_MAX).contains(&length) {
                        return self.lose(LostReason::Malformed);
                    }
                    self.startup.left = length - 8;
                }
                if self.startup.have == 8
                    && let Some(step) = self.startup_code()
                {
                    *input = &[];
                    return step;
                }
            }
            if self.startup.parameters {
                self.startup_parameters(input);
            } else {
                let part = input.get(..self.startup.left as usize).unwrap_or(input);
                self.startup.left -= part.len() as u32;
                *input = input.get(part.len()..).unwrap_or(&[]);
            }
            if self.startup.left > 0 {
                return Step::NeedMore;
            }
            if self.startup.parameters {
                if self.identity.database.is_empty() {
                    self.identity.database.set(self.identity.user.as_slice());
                }
                self.phase = Phase::Typed;
                return Step::NeedMore;
            }
            let owed = self.startup.owed;
            self.startup.again();
            self.startup.owed = owed;
        }
    }

    fn startup_code(&mut self) -> Option<Step> {
        let [_, _, _, _, code @ ..] = self.startup.word;
        let code = u32::from_be_bytes(code);
        match code {
            CANCEL_REQUEST => {
                self.phase = Phase::Over;
                Some(Step::Event(Event::NotASession))
            }
            // The server answers the first request before it reads the next; nobody sends two at once.
            SSL_REQUEST | GSS_ENCRYPTION_REQUEST if self.startup.is_owed() => {
                Some(self.lose(LostReason::Malformed))
            }
            SSL_REQUEST => {
                self.startup.owed = Owed::Ssl;
                None
            }
            GSS_ENCRYPTION_REQUEST => {
                self.startup.owed = Owed::Gss;
                None
            }
            _ if code >> 16 == 3 => {
                self.startup.parameters = true;
                self.startup.field = Field::Key;
                self.identity.user.clear();
                self.identity.database.clear();
                self.identity.application.clear();
                self.client_name.clear();
                None
            }
            // A version that servers refuse; their error says so.
            _ => {
                self.phase = Phase::Refused;
                Some(Step::NeedMore)
            }
        }
    }

    fn startup_parameters(&mut self, input: &mut &[u8]) {
        while self.startup.left > 0 {
            let part = input.get(..self.startup.left as usize).unwrap_or(input);
            if part.is_empty() {
                return;
            }
            let end = if self.startup.field == Field::End { None } else { find_zero(part) };
            let string = end.and_then(|end| part.get(..end)).unwrap_or(part);
            match self.startup.field {
                Field::Key | Field::Replication => self.client_name.push(string),
                Field::User => self.identity.user.push(string),
                Field::Database => self.identity.database.push(string),
                Field::Application => self.identity.application.push(string),
                Field::Other | Field::End => {}
            }
            if end.is_some() {
                self.startup_string_ends();
            }
            let consumed = end.map_or(part.len(), |end| end + 1);
            self.startup.left -= consumed as u32;
            *input = input.get(consumed..).unwrap_or(&[]);
        }
    }

    fn startup_string_ends(&mut self) {
        self.startup.field = match self.startup.field {
            Field::Key if self.client_name.is_empty() => Field::End,
            Field::Key => match self.client_name.as_slice() {
                b"user" => {
                    self.identity.user.clear();
                    Field::User
                }
                b"database" => {
                    self.identity.database.clear();
                    Field::Database
                }
                b"application_name" => {
                    self.identity.application.clear();
                    Field::Application
                }
                b"replication" => Field::Replication,
                _ => Field::Other,
            },
            Field::Replication => {
                // "database" is a walsender too, but one that also runs queries: it streams when it says so.
                self.startup.replication = is_true(self.client_name.as_slice());
                Field::Key
            }
            _ => Field::Key,
        };
        self.client_name.clear();
    }

    /// The server before it has read a startup packet: it answers encryption requests, and refuses.
    pub(super) fn startup_from_server(&mut self, input: &mut &[u8]) -> Step {
        let Some((answer, rest)) = input.split_first() else { return Step::NeedMore };
        *input = rest;
        match (answer, self.startup.owed) {
            // More from the client in front of this answer is an attack; the server hangs up.
            (b'S', Owed::Ssl) if self.phase == Phase::Startup => {
                self.startup.again();
                Step::Event(Event::TlsStarts)
            }
            (b'G', Owed::Gss) => self.lose(LostReason::Opaque),
            (b'N', Owed::Ssl | Owed::Gss) => {
                self.startup.owed = Owed::Nothing;
                Step::NeedMore
            }
            (b'E', _) => {
                self.phase = Phase::Over;
                Step::Event(Event::NotASession)
            }
            _ => self.lose(LostReason::Malformed),
        }
    }
}

/// What the server takes for true: `on`, `1`, and every beginning of `true` and `yes`.
fn is_true(value: &[u8]) -> bool {
    let is_beginning_of =
        |word: &[u8]| word.get(..value.len()).is_some_and(|w| w.eq_ignore_ascii_case(value));
    !value.is_empty()
        && (value == b"1"
            || value.eq_ignore_ascii_case(b"on")
            || is_beginning_of(b"true")
            || is_beginning_of(b"yes"))
}
