//! Feeds the machine arbitrary bytes and checks what must hold for all of them. Entry of the fuzz target and of tests.

use super::{Dialect, Direction, Event, Machine, Mysql, Phase, Step, UnitText};
use crate::hash::content_hash;

/// More events than this at one byte mean that the machine goes round in circles.
const EVENTS_AT_ONE_BYTE: u32 = 8;

/// What a machine said, as a number that depends on every event and what was readable then.
struct Listener {
    machine: Mysql,
    heard: u64,
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
                let unit = self.machine.unit();
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

    /// Feeds `bytes` at once; false when the machine is lost.
    fn feed(&mut self, direction: Direction, bytes: &[u8]) -> bool {
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

/// Feeds `data` to two machines, to one in the pieces that `data` says, to the other byte by byte, and panics when they
/// disagree, or when a rule of [`Machine`] is broken.
///
/// `setup u8 | capabilities u64 LE (unless setup is even) | (operation u8, bytes)*`: an odd setup begins logged in. An
/// operation's low two bits say client's bytes, server's bytes, a read or a switch; the upper six how many.
#[doc(hidden)]
pub fn fuzz_mysql(data: &[u8]) {
    let Some((setup, mut rest)) = data.split_first() else { return };
    let mut whole = Listener { machine: Mysql::new(), heard: 0 };
    let mut single = Listener { machine: Mysql::new(), heard: 0 };
    if setup & 1 != 0 {
        let Some((capabilities, tail)) = rest.split_first_chunk::<8>() else { return };
        rest = tail;
        for machine in [&mut whole.machine, &mut single.machine] {
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
            let mut followed_single = true;
            for byte in bytes.as_chunks::<1>().0 {
                followed_single = followed_single && single.feed(direction, byte);
            }
            assert!(followed == followed_single || bytes.is_empty(), "the pieces' sizes matter");
        } else {
            rest = tail;
            for listener in [&mut whole, &mut single] {
                let step = match (direction, count) {
                    (Direction::FromClient, count) => listener.machine.read_entered(count),
                    (Direction::ToClient, 0..16) => {
                        listener.machine.set_capturing(count & 1 == 0);
                        Step::NeedMore
                    }
                    (Direction::ToClient, count) => listener.machine.parked(count & 1 == 0),
                };
                listener.hear(step);
            }
        }
        assert!(whole.heard == single.heard, "the events depend on how the bytes were cut");
        if whole.machine.lost != 0 {
            return;
        }
    }
}
