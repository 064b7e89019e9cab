//! Feeds a machine any bytes, cut two ways, and demands the same events.

use super::Postgres;
use crate::hash::content_hash;
use crate::protocol::{Asked, Direction, Event, Machine, Outcome, Step, TEXT_CAP, Unit, UnitText};
use crate::strings::Bytes;
use Direction::{FromClient, ToClient};

/// A login that is over: startup packet, and the server's answers up to ReadyForQuery.
const STARTUP: &[u8] = b"\0\0\0\x14\0\x03\0\0user\0u\0\0\0\0\0\0";
const WELCOME: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";

/// One piece of input: `data` begins with a byte for direction and length.
fn next_piece<'a>(data: &mut &'a [u8]) -> Option<(Direction, &'a [u8])> {
    let (&control, rest) = data.split_first()?;
    let direction = if control & 1 == 0 { FromClient } else { ToClient };
    let (piece, rest) = rest.split_at_checked(control as usize >> 1).unwrap_or((rest, &[]));
    *data = rest;
    Some((direction, piece))
}

/// Everything a machine says, folded into one number.
struct Account {
    machine: Postgres,
    digest: u64,
    /// Bytes that are there whole are taken without steps.
    takes: bool,
    /// Units and answers that are there whole go the direct way.
    direct: bool,
    /// A unit that the machine does not know of.
    asked: Option<Asked>,
    /// The text of that unit.
    text: Bytes<TEXT_CAP>,
    /// From here on the bytes are cipher, or nobody listens any more.
    over: bool,
}

impl Account {
    fn note(&mut self, bytes: &[u8]) {
        self.digest = self.digest.rotate_left(5) ^ content_hash(bytes);
    }

    fn note_unit(&mut self) {
        let unit = self.machine.unit();
        let sum = Self::sum(&unit);
        self.note(&sum.to_le_bytes());
    }

    fn sum(unit: &Unit<'_>) -> u64 {
        let (kind, text, length) = match unit.text {
            UnitText::None => (0, &[][..], 0),
            UnitText::Inline { bytes, full_len } => (1, bytes, u64::from(full_len)),
            UnitText::Stored(text) => (2, &[][..], text.hash ^ u64::from(text.full_len)),
            UnitText::Unknown => (3, &[][..], 0),
            UnitText::Compressed { .. } => (4, &[][..], 0),
        };
        let outcome = unit.outcome;
        let mut sum = content_hash(text)
            ^ content_hash(&[unit.command as u8, kind, u8::from(outcome.failed), u8::from(outcome.unknown)])
            ^ content_hash(&outcome.sqlstate);
        for part in [length, u64::from(unit.statements), outcome.rows_returned, outcome.rows_affected] {
            sum = sum.rotate_left(7) ^ part;
        }
        let mut executions = 0;
        for member in unit.members {
            sum = sum.rotate_left(7) ^ member.text.hash ^ u64::from(member.executions);
            executions += u64::from(member.executions);
        }
        assert!(executions <= u64::from(unit.statements), "members {executions} of {}", unit.statements);
        sum
    }

    /// The engine's direct way; false: `bytes` have to be fed.
    fn goes_directly(&mut self, direction: Direction, bytes: &[u8]) -> bool {
        match (direction, self.asked) {
            (FromClient, None) if self.machine.is_at_rest() => {
                self.asked = self.machine.direct_request(bytes).map(|(asked, text)| {
                    self.text.set(text);
                    asked
                });
                if self.asked.is_some() {
                    self.event(Event::Started);
                }
                self.asked.is_some()
            }
            (ToClient, Some(asked)) => {
                let Some(answer) = Postgres::direct_answer(bytes).get() else { return false };
                self.asked = None;
                self.event(Event::FirstResponse);
                self.note(&[Event::Finished as u8]);
                let (bytes, full_len) = (self.text.as_slice(), asked.text.full_len);
                let text = match asked.text.hash {
                    0 => UnitText::Inline { bytes, full_len },
                    _ => UnitText::Stored(asked.text),
                };
                let outcome = Outcome {
                    rows_returned: answer.rows_returned.into(),
                    rows_affected: answer.rows_affected.into(),
                    ..Outcome::default()
                };
                let unit = Unit { command: asked.command, text, statements: 1, members: &[], outcome };
                let sum = Self::sum(&unit);
                self.note(&sum.to_le_bytes());
                true
            }
            _ => false,
        }
    }

    /// The machine is told what it does not know.
    fn leave_direct(&mut self) {
        if let Some(asked) = self.asked.take() {
            self.machine.catch_up(asked, |take| self.text.as_slice().chunks(8).for_each(take));
        }
    }

    fn event(&mut self, event: Event) {
        self.note(&[event as u8]);
        match event {
            Event::Text => {
                let (bytes, text) = self.machine.announced_text();
                assert_eq!(text.hash, content_hash(bytes), "a text under another's name");
                assert!(bytes.len() <= text.full_len as usize);
                self.note(&text.hash.to_le_bytes());
            }
            Event::Finished => self.note_unit(),
            Event::LoggedIn | Event::IdentityChanged => {
                let identity = *self.machine.identity();
                for part in
                    [identity.user.as_slice(), identity.database.as_slice(), identity.application.as_slice()]
                {
                    self.note(part);
                }
            }
            Event::TlsStarts | Event::NotASession | Event::Streaming | Event::Quit => self.over = true,
            Event::Started | Event::FirstResponse => {}
        }
    }

    /// The engine's short way.
    fn take(&mut self, direction: Direction, input: &mut &[u8]) {
        if self.over {
            return;
        }
        let (responded, finished) = match direction {
            FromClient if self.machine.take_requests(input) => return self.event(Event::Started),
            FromClient => return,
            ToClient => self.machine.take_answer(input),
        };
        for (event, happened) in [(Event::FirstResponse, responded), (Event::Finished, finished)] {
            if happened {
                self.event(event);
            }
        }
    }

    fn feed(&mut self, direction: Direction, mut input: &[u8]) {
        if self.direct && !self.over && !input.is_empty() {
            if self.goes_directly(direction, input) {
                return;
            }
            self.leave_direct();
        }
        if self.takes {
            self.take(direction, &mut input);
            if input.is_empty() && self.machine.has_told_all() {
                return;
            }
        }
        let mut idle_steps = 0;
        while !self.over {
            let before = input.len();
            match self.machine.step(direction, &mut input) {
                Step::NeedMore => {
                    assert!(input.is_empty(), "more wanted, {} left", input.len());
                    return;
                }
                Step::Event(event) => self.event(event),
                Step::Lost(reason) => {
                    self.note(&[0xff, reason as u8]);
                    self.over = true;
                }
            }
            idle_steps = if input.len() == before { idle_steps + 1 } else { 0 };
            assert!(idle_steps < 8, "events without end");
        }
    }

    fn run(mut data: &[u8], logged_in: bool, cut: usize, takes: bool, direct: bool) -> u64 {
        let machine = Postgres::new();
        let mut account =
            Account { machine, digest: 0, takes, direct, asked: None, text: Bytes::new(), over: false };
        account.machine.set_capturing(true);
        if logged_in {
            account.feed(FromClient, STARTUP);
            account.feed(ToClient, WELCOME);
        }
        while let Some((direction, piece)) = next_piece(&mut data) {
            if direction == FromClient && piece.len() % 4 == 1 {
                account.leave_direct();
                let step = account.machine.read_entered(8192);
                if let Step::Event(event) = step {
                    account.event(event);
                    account.feed(direction, &[]);
                }
            }
            match cut {
                0 => account.feed(direction, piece),
                _ => piece.chunks(cut).for_each(|part| account.feed(direction, part)),
            }
        }
        account.leave_direct();
        if let Step::Event(event) = account.machine.parked(true) {
            account.event(event);
        }
        account.digest
    }
}

/// The target of a fuzzer. The first byte chooses whether the session is logged in and how the second run cuts the
/// bytes; the rest is pieces, each behind a byte for direction and length.
#[doc(hidden)]
pub fn fuzz_postgres(data: &[u8]) {
    let Some((&control, data)) = data.split_first() else { return };
    let logged_in = control & 1 == 0;
    let whole = Account::run(data, logged_in, 0, false, false);
    let cut = Account::run(data, logged_in, 1 + (control as usize >> 1) % 9, false, false);
    assert_eq!(whole, cut, "events depend on how the bytes were cut");
    let taken = Account::run(data, logged_in, 0, true, false);
    assert_eq!(whole, taken, "events depend on whether they were taken without steps");
    let direct = Account::run(data, logged_in, 0, true, true);
    assert_eq!(whole, direct, "the direct way says something else");
}
