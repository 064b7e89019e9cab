//! PostgreSQL's protocol, version 3 (servers 7.4 to 18).
//!
//! Two streams of messages, each cut anywhere: requests (`frontend`) are collected into units (`units`), and answers
//! (`backend`) describe the unit in front until ReadyForQuery ends it. What comes before the first message with a tag
//! is in `startup`; which text an Execute means is in `texts`. The short way for what is there whole is in `whole`.

mod backend;
mod direct;
mod ending;
mod frontend;
#[cfg(any(test, fuzzing))]
mod fuzz;
mod message;
mod startup;
#[cfg(test)]
mod tests;
mod texts;
mod units;
mod whole;

#[cfg(any(test, fuzzing))]
pub use fuzz::fuzz_postgres;

use super::{Dialect, Direction, Event, Identity, LostReason, Machine, Step, TextRef, Unit};
use crate::strings::Bytes;
use backend::Copy;
pub(crate) use direct::is_usual_ending;
pub(crate) use ending::{READY_LENGTH, ends_with_a_command, few_selected};
use message::Message;
pub(crate) use message::{Kind, kind_of};
use startup::Startup;
use texts::{NAME_CAP, Place, Source, Texts};
use units::{Asked, Units};

/// Where the connection is in its life.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// No startup packet yet.
    Startup = 0,
    /// Messages with a tag, both ways.
    Typed = 1,
    /// The startup packet's version is none that the server speaks: only an error can follow.
    Refused = 2,
    /// No session, a stream, or quit: nothing more to say.
    Over = 3,
    LostMalformed = 4,
    LostOpaque = 5,
}

const PENDING_START: u8 = 1;
const PENDING_STREAMING: u8 = 2;
const PENDING_QUIT: u8 = 3;

/// How much is kept of a string in the server's messages.
const ANSWER_CAP: usize = 128;

/// A PostgreSQL session's machine.
///
/// Starts at the connection's first byte; after [`Event::TlsStarts`] it goes on with the first decrypted byte. Memory of
/// zeros is a valid machine once [`reset`](Self::reset) was called.
///
/// After [`Event::Streaming`] or [`Step::Lost`] a unit that ran is void.
///
/// The order of the fields is that of memory: what every query touches lies together.
#[repr(C)]
pub struct Postgres {
    units: Units,
    phase: Phase,
    capturing: bool,
    logged_in: bool,
    /// The client is sending a unit: the last one in the queue.
    building: bool,
    /// The server takes COPY data.
    copying_in: bool,
    /// See [`reports_last`](Self::reports_last).
    reports_last: bool,
    /// The client has said good-bye.
    quitting: bool,
    /// The event that follows the one answered last, at the same byte: one of `PENDING_*`, or 0.
    pending: u8,
    /// The message from the client has a text to be captured, for which a buffer is to be found.
    wants_buffer: bool,
    /// The text being captured is one that only reports need.
    capture_optional: bool,
    /// The Execute is of a portal executed before.
    fetching: bool,
    /// The ErrorResponse ends the session.
    fatal: bool,
    close_kind: u8,
    copy: Copy,
    /// The buffer that takes the text of the client's message.
    capture: Place,
    /// The text of the client's message.
    asked: Source,
    /// Key of the portal that a Bind makes.
    portal: u64,
    client: Message,
    server: Message,
    texts: Texts,
    /// Statement's, portal's or parameter's name in the client's message.
    client_name: Bytes<NAME_CAP>,
    /// A string in the server's message.
    answer: Bytes<ANSWER_CAP>,
    identity: Identity,
    startup: Startup,
}

// A session's share of the server's memory; most of it stays untouched.
const _: () = assert!(size_of::<Postgres>() <= 25 * 1024);

impl Postgres {
    /// The machine of a connection that has carried nothing yet.
    pub const fn new() -> Self {
        Postgres {
            phase: Phase::Startup,
            capturing: false,
            logged_in: false,
            building: false,
            copying_in: false,
            reports_last: false,
            quitting: false,
            pending: 0,
            wants_buffer: false,
            capture_optional: false,
            fetching: false,
            fatal: false,
            close_kind: 0,
            copy: Copy::None,
            capture: Place::None,
            asked: Source::NONE,
            portal: 0,
            startup: Startup::new(),
            client: Message::new(),
            server: Message::new(),
            client_name: Bytes::new(),
            answer: Bytes::new(),
            identity: Identity {
                user: Bytes::new(),
                database: Bytes::new(),
                application: Bytes::new(),
                proxied_client: Bytes::new(),
                connection_id: 0,
            },
            units: Units::new(),
            texts: Texts::new(),
        }
    }

    /// Back to the state of [`new`](Self::new), without touching the memory of texts and statements that are not there.
    pub fn reset(&mut self) {
        self.phase = Phase::Startup;
        self.capturing = false;
        self.logged_in = false;
        self.building = false;
        self.copying_in = false;
        self.reports_last = false;
        self.quitting = false;
        self.pending = 0;
        self.wants_buffer = false;
        self.capture_optional = false;
        self.fetching = false;
        self.fatal = false;
        self.close_kind = 0;
        self.copy = Copy::None;
        self.capture = Place::None;
        self.asked = Source::NONE;
        self.portal = 0;
        self.startup = Startup::new();
        self.client = Message::new();
        self.server = Message::new();
        self.client_name.clear();
        self.answer.clear();
        self.identity.user.clear();
        self.identity.database.clear();
        self.identity.application.clear();
        self.identity.proxied_client.clear();
        self.identity.connection_id = 0;
        self.units.reset();
        self.texts.reset();
    }

    /// What [`set_capturing`](Machine::set_capturing) said last.
    #[inline]
    pub fn is_capturing(&self) -> bool {
        self.capturing
    }

    /// True between two units, both streams between two messages: what comes next depends on nothing that was before.
    #[inline]
    pub fn is_at_rest(&self) -> bool {
        self.phase == Phase::Typed
            && self.logged_in
            && self.pending == 0
            && !(self.building || self.copying_in || self.quitting || self.units.running)
            && self.units.outstanding() == 0
            && self.client.is_between()
            && self.server.is_between()
    }

    /// True for PostgreSQL 14 and later: what has changed of the session's parameters is reported at the end of an answer, right
    /// before ReadyForQuery (release notes of version 14; ReportChangedGUCOptions in tcop/postgres.c), and nowhere else.
    #[inline]
    pub fn reports_last(&self) -> bool {
        self.reports_last
    }

    /// From now on units go by unseen, among them such as change the unnamed statement and the unnamed portal.
    pub fn forget_unnamed(&mut self) {
        self.texts.forget_unnamed();
    }

    /// At rest, but the server is answering a unit that went by unseen, and the machine is to see the rest of that answer:
    /// the unit has an end, and nothing else is known of it. `simple`: it is a simple Query.
    pub fn resume_answer(&mut self, simple: bool) {
        self.units.push();
        if let Some(unit) = self.units.back_mut() {
            unit.set(Asked::CLOSED, true);
            unit.set(Asked::SIMPLE, simple);
        }
        self.units.start();
        self.units.responded = true;
    }

    fn lose(&mut self, reason: LostReason) -> Step {
        self.phase = match reason {
            LostReason::Opaque => Phase::LostOpaque,
            LostReason::Malformed | LostReason::Missed => Phase::LostMalformed,
        };
        self.pending = 0;
        Step::Lost(reason)
    }

    /// An event that belongs to bytes consumed before.
    #[cold]
    fn pending_event(&mut self) -> Event {
        match core::mem::take(&mut self.pending) {
            PENDING_START => {
                self.units.start();
                Event::Started
            }
            PENDING_STREAMING => {
                self.phase = Phase::Over;
                Event::Streaming
            }
            _ => {
                self.phase = Phase::Over;
                Event::Quit
            }
        }
    }

    /// What comes before the first message with a tag, after the last one, and between two events at one byte.
    #[inline(never)]
    fn seldom_step(&mut self, direction: Direction, input: &mut &[u8]) -> Step {
        if self.pending != 0 {
            return Step::Event(self.pending_event());
        }
        match (self.phase, direction) {
            (Phase::Typed, Direction::FromClient) => self.step_from_client(input),
            (Phase::Typed, Direction::ToClient) if !self.startup.is_owed() => self.step_from_server(input),
            (Phase::Startup, Direction::FromClient) => match self.startup_from_client(input) {
                Step::NeedMore if self.phase == Phase::Typed => self.step_from_client(input),
                step => step,
            },
            (Phase::Startup | Phase::Typed | Phase::Refused, Direction::ToClient) => {
                // An answer to an encryption request may be followed by the answer to a startup packet.
                match self.startup_from_server(input) {
                    Step::NeedMore if !input.is_empty() => self.step(direction, input),
                    step => step,
                }
            }
            (Phase::Refused, Direction::FromClient) | (Phase::Over, _) => {
                *input = &[];
                Step::NeedMore
            }
            (Phase::LostMalformed, _) => Step::Lost(LostReason::Malformed),
            (Phase::LostOpaque, _) => Step::Lost(LostReason::Opaque),
        }
    }

    fn lost(&self) -> Option<LostReason> {
        match self.phase {
            Phase::LostMalformed => Some(LostReason::Malformed),
            Phase::LostOpaque => Some(LostReason::Opaque),
            _ => None,
        }
    }
}

impl Default for Postgres {
    fn default() -> Self {
        Self::new()
    }
}

impl Machine for Postgres {
    #[inline(always)]
    fn step(&mut self, direction: Direction, input: &mut &[u8]) -> Step {
        if self.pending != 0 || self.phase != Phase::Typed {
            return self.seldom_step(direction, input);
        }
        match direction {
            Direction::FromClient if input.is_empty() && !self.client.inside => Step::NeedMore,
            Direction::FromClient => self.step_from_client(input),
            Direction::ToClient if self.startup.is_owed() => self.seldom_step(direction, input),
            Direction::ToClient if input.is_empty() && !self.server.inside => Step::NeedMore,
            Direction::ToClient => self.step_from_server(input),
        }
    }

    /// The server reads only after it has worked off all that it has received. A complete unit that it has not
    /// answered will not be answered: the client sent it where the server ignores it, or the answer could not be sent.
    fn read_entered(&mut self, _requested: usize) -> Step {
        if let Some(reason) = self.lost() {
            return Step::Lost(reason);
        }
        let answered = self.phase != Phase::Typed || !self.units.running || self.copying_in;
        if answered || !self.units.at(0).is_some_and(|front| front.has(Asked::CLOSED)) {
            return Step::NeedMore;
        }
        self.units.outcome.unknown |= !self.units.responded;
        self.finish_unit();
        self.units.drop_closed();
        self.pending = if self.units.len() > 1 { PENDING_START } else { 0 };
        Step::Event(Event::Finished)
    }

    fn parked(&mut self, closing: bool) -> Step {
        if let Some(reason) = self.lost() {
            return Step::Lost(reason);
        }
        if !closing || self.phase != Phase::Typed || !self.units.running {
            return Step::NeedMore;
        }
        self.finish_unit();
        self.units.drop_rest();
        self.building = false;
        Step::Event(Event::Finished)
    }

    fn set_capturing(&mut self, capturing: bool) {
        if capturing != self.capturing && self.capture_optional {
            // Half a text is none.
            self.capture = Place::None;
            self.wants_buffer = false;
        }
        self.capturing = capturing;
    }

    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    fn unit(&self) -> Unit<'_> {
        self.units.describe(&self.texts)
    }

    fn announced_text(&self) -> (&[u8], TextRef) {
        self.texts.announced()
    }

    fn evicted_statements(&self) -> u64 {
        self.texts.evicted()
    }
}
