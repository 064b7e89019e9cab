//! Whole sessions through the machine: what a real server and its clients said, and what only hand-made bytes can say.

use super::*;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

mod random;
mod recorded;
mod scripted;
mod zeroed;

/// One thing that happens to a session.
#[derive(Clone, Debug)]
enum Op {
    Client(Vec<u8>),
    Server(Vec<u8>),
    /// The server asks for so many bytes.
    Read(usize),
    Parked(bool),
    Capture(bool),
}

/// Feeds operations and writes down what the machine says.
struct Player {
    machine: std::boxed::Box<Mysql>,
    story: Vec<String>,
    piece: usize,
}

fn show(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(60)];
    format!("{}", cut.escape_ascii())
}

impl Player {
    /// `piece`: the most bytes that are fed at once.
    fn new(piece: usize) -> Self {
        let mut machine = std::boxed::Box::new(Mysql::new());
        machine.set_capturing(true);
        Player { machine, story: Vec::new(), piece }
    }

    fn text(&self) -> String {
        match self.machine.unit().text {
            UnitText::None => "-".to_string(),
            UnitText::Unknown => "?".to_string(),
            UnitText::Inline { bytes, full_len } => format!("'{}' {full_len}", show(bytes)),
            UnitText::Stored(text) => format!("stored {}", text.full_len),
            UnitText::Compressed { bytes, zstd } => {
                format!("packed {} {}", bytes.len(), if zstd { "zstd" } else { "zlib" })
            }
        }
    }

    fn tell(&mut self, step: Step) {
        let line = match step {
            Step::NeedMore => return,
            Step::Lost(reason) => format!("lost {reason:?}"),
            Step::Event(event @ (Event::LoggedIn | Event::IdentityChanged)) => {
                let who = self.machine.identity();
                format!(
                    "{event:?} {}@{} {} {} #{}",
                    show(who.user.as_slice()),
                    show(who.database.as_slice()),
                    show(who.application.as_slice()),
                    show(who.proxied_client.as_slice()),
                    who.connection_id
                )
            }
            Step::Event(Event::Text) => {
                let (bytes, text) = self.machine.announced_text();
                assert_eq!(text.hash, crate::hash::content_hash(bytes));
                format!("Text '{}'", show(bytes))
            }
            Step::Event(Event::Started) => format!("{:?} {}", self.machine.unit().command, self.text()),
            Step::Event(Event::FirstResponse) => return,
            Step::Event(Event::Finished) => {
                let unit = self.machine.unit();
                let outcome = unit.outcome;
                let mut line = format!(
                    "  {} results, {} rows, {} affected",
                    unit.statements, outcome.rows_returned, outcome.rows_affected
                );
                if outcome.failed {
                    line += &format!(", error {} {}", outcome.error_code, show(&outcome.sqlstate));
                }
                if outcome.unknown {
                    line += ", unknown";
                }
                line
            }
            Step::Event(event) => format!("{event:?}"),
        };
        self.story.push(line);
    }

    fn feed(&mut self, direction: Direction, bytes: &[u8]) {
        for mut piece in bytes.chunks(self.piece) {
            let mut first_response_seen = false;
            loop {
                let step = self.machine.step(direction, &mut piece);
                if step == Step::Event(Event::FirstResponse) {
                    assert!(!first_response_seen, "one first response a unit");
                    first_response_seen = true;
                }
                self.tell(step);
                match step {
                    Step::NeedMore => break assert!(piece.is_empty()),
                    Step::Lost(_) => return,
                    Step::Event(_) => {}
                }
            }
        }
    }

    fn play(&mut self, ops: &[Op]) {
        for op in ops {
            match op {
                Op::Client(bytes) => self.feed(Direction::FromClient, bytes),
                Op::Server(bytes) => self.feed(Direction::ToClient, bytes),
                Op::Read(requested) => {
                    let step = self.machine.read_entered(*requested);
                    self.tell(step);
                }
                Op::Parked(closing) => {
                    let step = self.machine.parked(*closing);
                    self.tell(step);
                }
                Op::Capture(on) => self.machine.set_capturing(*on),
            }
            if self.story.last().is_some_and(|line| line.starts_with("lost")) {
                return;
            }
        }
    }
}

/// The story of `ops`, which must not depend on how the bytes are cut.
fn story(ops: &[Op]) -> Vec<String> {
    let mut whole = Player::new(usize::MAX);
    whole.play(ops);
    for piece in [1, 2, 3, 5, 4096] {
        let mut cut = Player::new(piece);
        cut.play(ops);
        assert_eq!(cut.story, whole.story, "in pieces of {piece}");
    }
    whole.story
}
