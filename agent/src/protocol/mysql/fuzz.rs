//! Feeds the machine arbitrary bytes and checks what must hold for all of them. Entry of the fuzz target and of tests.

use super::{Dialect, Direction, Event, Machine, Mysql, Outcome, Phase, Step, Unit, UnitText};
use crate::hash::content_hash;
use crate::protocol::{Answer, Asked, TEXT_CAP};
use crate::strings::Bytes;

/// More events than this at one byte mean that the machine goes round in circles.
const EVENTS_AT_ONE_BYTE: u32 = 8;

/// What a machine said, as a number that depends on every event and what was readable then.
struct Listener {
    machine: Mysql,
    heard: u64,
    /// What is whole goes the direct way.
    direct: bool,
    /// A unit that the machine does not know of, and its answer.
    asked: Option<(Asked, Option<Answer>)>,
    /// The text of that unit.
    text: Bytes<TEXT_CAP>,
}

impl Listener {
    fn hear(&mut self, step: Step) {
        let mut words = [self.heard, 0, 0, 0, 0, 0];
        let [_, what, first, second, third, fourth] = &mut words;
        match step {
            Step::NeedMore => return,
            Step::Lost(reason) => *what = 0x100 + reason as u64,
            Step::Event(event) => {
                *what = 1 + event as u64;
                if event == Event::Text {
                    let (text, reference) = self.machine.announced_text();
                    *first = content_hash(text) ^ u64::from(reference.full_len);
                }
                let unit = self.unit();
                if matches!(event, Event::Started | Event::Finished) {
                    *first = unit.command as u64 | u64::from(unit.statements) << 8;
                    *second = match unit.text {
                        UnitText::None => 1,
                        UnitText::Unknown => 2,
                        UnitText::Inline { bytes, full_len } => content_hash(bytes) ^ u64::from(full_len),
                        UnitText::Stored(reference) => reference.hash,
                        UnitText::Compressed { bytes, zstd } => content_hash(bytes) ^ u64::from(zstd),
                    };
                    let outcome = unit.outcome;
                    *third = outcome.rows_returned ^ outcome.rows_affected.rotate_left(32);
                    *fourth = u64::from(outcome.error_code) | u64::from(outcome.unknown) << 32;
                }
                if event == Event::FirstResponse {
                    // What the response's first packet changes may show already; its own event follows.
                    return self.note(words);
                }
                let identity = self.machine.identity();
                *third ^= content_hash(identity.database.as_slice());
                *fourth ^= content_hash(identity.user.as_slice());
            }
        }
        self.note(words);
    }

    fn note(&mut self, words: [u64; 6]) {
        let mut bytes = [0u8; 48];
        for (to, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *to = word.to_le_bytes();
        }
        self.heard = content_hash(&bytes);
    }

    /// The unit that runs or ran last.
    fn unit(&self) -> Unit<'_> {
        let Some((asked, answer)) = self.asked else { return self.machine.unit() };
        let (bytes, full_len) = (self.text.as_slice(), asked.text.full_len);
        let text = match asked.text.hash {
            0 => UnitText::Inline { bytes, full_len },
            _ => UnitText::Stored(asked.text),
        };
        let outcome = answer.map_or(Outcome::default(), |answer| Outcome {
            rows_returned: answer.rows_returned.into(),
            rows_affected: answer.rows_affected.into(),
            ..Outcome::default()
        });
        Unit { command: asked.command, text, statements: 1, members: &[], outcome }
    }

    /// The machine is told what it does not know.
    fn leave_direct(&mut self) {
        if let Some((asked, answer)) = self.asked.take() {
            self.machine.catch_up(asked, answer, |take| self.text.as_slice().chunks(8).for_each(take));
        }
    }

    /// The engine's direct way; false: `bytes` have to be fed.
    fn goes_directly(&mut self, direction: Direction, bytes: &[u8]) -> bool {
        match (direction, self.asked) {
            (Direction::FromClient, None) if self.machine.capturing && self.machine.is_at_rest() => {
                let command = bytes.split_first_chunk::<4>().filter(|([a, b, c, seq], body)| {
                    *seq == 0 && u32::from_le_bytes([*a, *b, *c, 0]) as usize == body.len()
                });
                let asked = command.and_then(|(_, body)| self.machine.direct_command(body));
                self.asked = asked.map(|(asked, text)| {
                    self.text.set(text);
                    (asked, None)
                });
                if self.asked.is_some() {
                    self.hear(Step::Event(Event::Started));
                }
                self.asked.is_some()
            }
            (Direction::ToClient, Some((asked, None))) => {
                let answer = self.machine.framing().answer(bytes).get();
                if answer.is_some() {
                    self.asked = Some((asked, answer));
                    self.hear(Step::Event(Event::FirstResponse));
                }
                answer.is_some()
            }
            _ => false,
        }
    }

    fn read_entered(&mut self, requested: usize) {
        if self.asked.is_some_and(|(_, answer)| answer.is_some()) && requested == 4 {
            self.hear(Step::Event(Event::Finished));
            self.asked = None;
            return;
        }
        self.leave_direct();
        let step = self.machine.read_entered(requested);
        self.hear(step);
    }

    /// Feeds `bytes` at once; false when the machine is lost.
    fn feed(&mut self, direction: Direction, bytes: &[u8]) -> bool {
        if self.direct && !bytes.is_empty() {
            if self.goes_directly(direction, bytes) {
                return true;
            }
            self.leave_direct();
        }
        let mut input = bytes;
        let mut idle = 0;
        // The short ways must say what the long one says; a single byte never takes them.
        if direction == Direction::ToClient {
            if self.machine.take_answer(&mut input) {
                self.hear(Step::Event(Event::FirstResponse));
            }
        } else if let Some((header, body)) = bytes.split_first_chunk::<4>()
            && self.machine.whole_command(*header, body, self.machine.capturing)
        {
            self.hear(Step::Event(Event::Started));
            return true;
        }
        loop {
            let before = input.len();
            let step = self.machine.step(direction, &mut input);
            assert!(input.len() <= before, "input grows");
            idle = if input.len() == before { idle + 1 } else { 0 };
            assert!(idle <= EVENTS_AT_ONE_BYTE, "events without end");
            self.hear(step);
            match step {
                Step::NeedMore => {
                    assert!(input.is_empty(), "bytes left behind");
                    return true;
                }
                Step::Lost(reason) => {
                    let again = self.machine.step(direction, &mut input);
                    assert!(again == Step::Lost(reason), "lost and found");
                    return false;
                }
                Step::Event(_) => {}
            }
        }
    }
}

/// Feeds `data` to three machines, to one in the pieces that `data` says, to one so that what is whole goes the direct way,
/// to one byte by byte, and panics when they disagree, or when a rule of [`Machine`] is broken.
///
/// `setup u8 | capabilities u64 LE (unless setup is even) | (operation u8, bytes)*`: an odd setup begins logged in. An
/// operation's low two bits say client's bytes, server's bytes, a read or a switch; the upper six how many.
#[doc(hidden)]
pub fn fuzz_mysql(data: &[u8]) {
    let Some((setup, mut rest)) = data.split_first() else { return };
    let listener =
        |direct| Listener { machine: Mysql::new(), heard: 0, direct, asked: None, text: Bytes::new() };
    let (mut whole, mut direct, mut single) = (listener(false), listener(true), listener(false));
    if setup & 1 != 0 {
        let Some((capabilities, tail)) = rest.split_first_chunk::<8>() else { return };
        rest = tail;
        for machine in [&mut whole.machine, &mut direct.machine, &mut single.machine] {
            machine.phase = Phase::Commands;
            machine.capabilities = u64::from_le_bytes(*capabilities);
            machine.compressed = setup & 2 != 0;
            machine.capturing = setup & 4 != 0;
            machine.dialect = if setup & 8 != 0 { Dialect::MySql } else { Dialect::MariaDb };
        }
    }
    while let Some((operation, tail)) = rest.split_first() {
        let count = usize::from(operation >> 2);
        let direction = if operation & 1 == 0 { Direction::FromClient } else { Direction::ToClient };
        if operation & 2 == 0 {
            let (bytes, tail) = tail.split_at_checked(count).unwrap_or((tail, &[]));
            rest = tail;
            let followed = whole.feed(direction, bytes);
            assert!(followed == direct.feed(direction, bytes), "the direct way leads elsewhere");
            let mut followed_single = true;
            for byte in bytes.as_chunks::<1>().0 {
                followed_single = followed_single && single.feed(direction, byte);
            }
            assert!(followed == followed_single || bytes.is_empty(), "the pieces' sizes matter");
        } else {
            rest = tail;
            for listener in [&mut whole, &mut direct, &mut single] {
                if direction == Direction::FromClient {
                    listener.read_entered(count);
                    continue;
                }
                listener.leave_direct();
                let step = match count {
                    0..16 => {
                        listener.machine.set_capturing(count & 1 == 0);
                        Step::NeedMore
                    }
                    count => listener.machine.parked(count & 1 == 0),
                };
                listener.hear(step);
            }
        }
        assert!(whole.heard == single.heard, "the events depend on how the bytes were cut");
        assert!(whole.heard == direct.heard, "the direct way says something else");
        if whole.machine.lost != 0 {
            return;
        }
    }
}
