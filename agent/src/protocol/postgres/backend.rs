//! What the server answers: messages to the client, and what they say about the unit in front.

use super::message::Header;
use super::units::Asked;
use super::{PENDING_QUIT, PENDING_START, PENDING_STREAMING, Phase, Postgres};
use crate::protocol::{Event, LostReason, Step};

/// Which way the COPY in progress goes.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Copy {
    None = 0,
    In = 1,
    Out = 2,
}

/// Stages of ParameterStatus; those of ErrorResponse are the fields' codes.
const NAME: u8 = 0;
const APPLICATION: u8 = 1;
const AUTHORIZATION: u8 = 2;
const VERSION: u8 = 3;
const REST: u8 = u8::MAX;

/// How many rows a command changed, by the tag of its CommandComplete.
#[inline(always)]
pub(super) fn rows_changed(tag: &[u8]) -> u64 {
    match tag {
        [b'I', b'N', b'S', b'E', b'R', b'T', b' ', ..]
        | [b'U', b'P', b'D', b'A', b'T', b'E', b' ', ..]
        | [b'D', b'E', b'L', b'E', b'T', b'E', b' ', ..]
        | [b'M', b'E', b'R', b'G', b'E', b' ', ..] => last_number(tag),
        _ => 0,
    }
}

fn last_number(tag: &[u8]) -> u64 {
    let tag = tag.strip_suffix(b"\0").unwrap_or(tag);
    tag.rsplit(|&byte| byte == b' ').next().map_or(0, number)
}

impl Postgres {
    pub(super) fn step_from_server(&mut self, input: &mut &[u8]) -> Step {
        match self.walk_answer::<true>(input) {
            Some(event) => Step::Event(event),
            None if input.is_empty() && !self.server.inside => Step::NeedMore,
            None => self.step_through_answer(input),
        }
    }

    #[inline(never)]
    fn step_through_answer(&mut self, input: &mut &[u8]) -> Step {
        loop {
            if !self.server.inside {
                match self.server.take_header(input) {
                    Header::More => return Step::NeedMore,
                    Header::Malformed => return self.lose(LostReason::Malformed),
                    Header::Complete => {}
                }
                if let Some(step) = self.begin_answer() {
                    return step;
                }
            }
            if self.server.left > 0 {
                if input.is_empty() {
                    return Step::NeedMore;
                }
                match self.server.tag() {
                    b'C' | b'E' | b'S' | b'K' | b'Z' => self.answer_payload(input),
                    _ => self.server.skip(input),
                }
                if self.server.left > 0 {
                    continue;
                }
            }
            self.server.inside = false;
            if let Some(event) = self.complete_answer(self.server.tag()) {
                return Step::Event(event);
            }
        }
    }

    /// A header is complete.
    fn begin_answer(&mut self) -> Option<Step> {
        self.answer.clear();
        let tag = self.server.tag();
        let allowed = match tag {
            b'N' | b'A' | b'S' => true,
            b'Z' => self.server.left == 1,
            // Also without a unit: an error that comes while the server is idle.
            b'E' => true,
            b'R' | b'K' | b'v' => !self.logged_in,
            b'D' | b'T' | b'C' | b'1' | b'2' | b'3' | b't' | b'n' | b's' | b'I' | b'd' | b'c' | b'G'
            | b'H' | b'W' | b'V' => self.units.running,
            _ => false,
        };
        if !allowed {
            return Some(self.lose(LostReason::Malformed));
        }
        if !self.logged_in {
            if tag != b'E' {
                return None;
            }
            self.phase = Phase::Over;
            return Some(Step::Event(Event::NotASession));
        }
        match tag {
            b'D' => self.units.outcome.rows_returned += 1,
            b'G' => self.begin_copy_in(),
            b'H' => self.copy = Copy::Out,
            b'E' => {
                self.fatal = false;
                self.copying_in = false;
            }
            b'N' | b'A' | b'S' => return None,
            _ => {}
        }
        if self.units.running && !self.units.responded {
            self.units.responded = true;
            return Some(Step::Event(Event::FirstResponse));
        }
        None
    }

    /// COPY FROM STDIN: the input that follows belongs to the unit.
    fn begin_copy_in(&mut self) {
        self.copy = Copy::In;
        self.copying_in = true;
        let next_is_a_sync = self.units.at(1).is_some_and(|unit| unit.has(Asked::LONE_SYNC));
        let alone = self.units.len() == 1;
        let Some(front) = self.units.at_mut(0) else { return };
        if !front.has(Asked::CLOSED) || front.has(Asked::SIMPLE) {
            return;
        }
        // An extended one: the server ignores the Sync behind Execute, another one behind the data ends the unit.
        if alone {
            front.set(Asked::CLOSED, false);
            self.building = true;
        } else if next_is_a_sync {
            // It is here already; so is all of the data.
            self.copying_in = false;
            self.units.drop_second();
        }
    }

    /// Takes some of a payload that says something; there is some.
    fn answer_payload(&mut self, input: &mut &[u8]) {
        let server = &mut self.server;
        match (server.tag(), server.stage) {
            (b'C', _) => {
                // With the terminating zero.
                let part = server.available(input);
                self.answer.push(part);
                server.advance(part.len(), input);
            }
            // The process id is followed by the key that cancels its queries: not to be kept.
            (b'K', 0..4) => {
                if let Some(byte) = server.take_byte(input) {
                    self.answer.push(&[byte]);
                    server.stage += 1;
                }
            }
            (b'S', NAME) => {
                if server.take_string(&mut self.answer, input) {
                    server.stage = match self.answer.as_slice() {
                        b"application_name" => APPLICATION,
                        b"session_authorization" => AUTHORIZATION,
                        b"server_version" => VERSION,
                        _ => REST,
                    };
                    self.answer.clear();
                }
            }
            (b'S', APPLICATION | AUTHORIZATION | VERSION) => {
                server.take_string(&mut self.answer, input);
            }
            (b'E', 0) => {
                server.stage = server.take_byte(input).filter(|&code| code != 0).unwrap_or(REST);
                self.answer.clear();
            }
            (b'E', field @ (b'S' | b'V' | b'C')) => {
                if server.take_string(&mut self.answer, input) {
                    server.stage = 0;
                    self.error_field(field);
                }
            }
            (b'E', field) if field != REST => {
                if server.skip_string(input) {
                    server.stage = 0;
                }
            }
            _ => server.skip(input),
        }
    }

    fn error_field(&mut self, field: u8) {
        let value = self.answer.as_slice();
        match field {
            // V comes after S and is not translated: it has the last word.
            b'S' | b'V' => self.fatal = matches!(value, b"FATAL" | b"PANIC"),
            _ => {
                if let Ok(sqlstate) = <[u8; 5]>::try_from(value)
                    && self.units.running
                {
                    self.units.outcome.sqlstate = sqlstate;
                }
            }
        }
    }

    fn complete_answer(&mut self, tag: u8) -> Option<Event> {
        match tag {
            b'Z' => self.complete_ready(),
            b'C' => {
                let tag = self.answer;
                self.complete_command(tag.as_slice());
                None
            }
            b'I' => {
                self.units.empty = true;
                None
            }
            b'E' => {
                if !self.units.running {
                    return None;
                }
                self.units.outcome.failed = true;
                if !self.fatal {
                    return None;
                }
                // No ReadyForQuery follows; what else was asked will not be answered.
                self.finish_unit();
                self.units.drop_rest();
                self.building = false;
                Some(Event::Finished)
            }
            b'S' => self.complete_parameter(),
            b'K' => {
                if let Some(pid) = self.answer.as_slice().first_chunk::<4>() {
                    self.identity.connection_id = u64::from(u32::from_be_bytes(*pid));
                }
                None
            }
            b'W' => {
                self.phase = Phase::Over;
                Some(Event::Streaming)
            }
            _ => None,
        }
    }

    pub(super) fn complete_ready(&mut self) -> Option<Event> {
        if !self.logged_in {
            self.logged_in = true;
            self.pending = match self.units.len() {
                _ if self.startup.replication => PENDING_STREAMING,
                0 => 0,
                _ => PENDING_START,
            };
            return Some(Event::LoggedIn);
        }
        if !self.units.running || !self.units.ready() {
            return None;
        }
        if self.units.at(0).is_some_and(|unit| !unit.has(Asked::CLOSED)) && self.units.len() == 1 {
            // Ended by an error outside of any message: the client's Sync will be a unit of its own.
            self.building = false;
        }
        self.finish_unit();
        self.pending = match self.units.len() {
            2.. => PENDING_START,
            _ if self.quitting => PENDING_QUIT,
            _ => 0,
        };
        Some(Event::Finished)
    }

    pub(super) fn finish_unit(&mut self) {
        self.units.finish();
        self.copy = Copy::None;
        self.copying_in = false;
    }

    /// CommandComplete: `INSERT 0 5`, `SELECT 3`, `CREATE TABLE`.
    pub(super) fn complete_command(&mut self, tag: &[u8]) {
        let copy = core::mem::replace(&mut self.copy, Copy::None);
        self.copying_in = false;
        self.units.completed = self.units.completed.saturating_add(1);
        let outcome = &mut self.units.outcome;
        let (sum, rows) = match (tag, copy) {
            ([b'C', b'O', b'P', b'Y', b' ', ..], Copy::In) => (&mut outcome.rows_affected, last_number(tag)),
            ([b'C', b'O', b'P', b'Y', b' ', ..], Copy::Out) => (&mut outcome.rows_returned, last_number(tag)),
            _ => (&mut outcome.rows_affected, rows_changed(tag)),
        };
        *sum = sum.saturating_add(rows);
    }

    fn complete_parameter(&mut self) -> Option<Event> {
        let value = self.answer.as_slice();
        let known = match self.server.stage {
            APPLICATION => &mut self.identity.application,
            AUTHORIZATION => &mut self.identity.user,
            VERSION => {
                let digits = value.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(value.len());
                self.reports_last = number(value.get(..digits).unwrap_or(&[])) >= 14;
                return None;
            }
            _ => return None,
        };
        if known.as_slice() == value {
            return None;
        }
        known.set(value);
        self.logged_in.then_some(Event::IdentityChanged)
    }
}

/// A decimal number; 0 for anything else.
fn number(digits: &[u8]) -> u64 {
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
    digits.iter().try_fold(0u64, |n, byte| n.checked_mul(10)?.checked_add(digit(byte)?)).unwrap_or(0)
}
