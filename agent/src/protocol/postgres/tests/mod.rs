//! The machine's stories, told by what it says.

mod captured;
mod hostile;
mod login;
mod pipelines;
mod statements;

use super::Postgres;
use crate::hash::content_hash;
use crate::protocol::{Direction, Event, Machine, Step, TextRef, UnitText};
use std::{
    collections::HashMap,
    format,
    string::{String, ToString},
    vec::Vec,
};

/// A message with a tag.
pub(super) fn message(tag: char, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut bytes = Vec::from([tag as u8]);
    bytes.extend((payload.len() as u32 + 4).to_be_bytes());
    bytes.extend(payload);
    bytes
}

pub(super) fn query(text: &str) -> Vec<u8> {
    message('Q', format!("{text}\0"))
}

pub(super) fn parse(name: &str, text: &str) -> Vec<u8> {
    message('P', format!("{name}\0{text}\0\0\0"))
}

pub(super) fn bind(portal: &str, statement: &str) -> Vec<u8> {
    message('B', format!("{portal}\0{statement}\0\0\0\0\0\0\0"))
}

pub(super) fn execute(portal: &str) -> Vec<u8> {
    message('E', format!("{portal}\0\0\0\0\0"))
}

pub(super) fn describe(portal: &str) -> Vec<u8> {
    message('D', format!("P{portal}\0"))
}

pub(super) fn sync() -> Vec<u8> {
    message('S', "")
}

/// CommandComplete.
pub(super) fn complete(tag: &str) -> Vec<u8> {
    message('C', format!("{tag}\0"))
}

pub(super) fn row() -> Vec<u8> {
    message('D', b"\0\x01\0\0\0\x011")
}

pub(super) fn ready() -> Vec<u8> {
    message('Z', "I")
}

pub(super) fn error(severity: &str, sqlstate: &str) -> Vec<u8> {
    message('E', format!("S{severity}\0V{severity}\0C{sqlstate}\0Mno\0\0"))
}

pub(super) fn startup(parameters: &str) -> Vec<u8> {
    let mut bytes = Vec::from((parameters.len() as u32 + 9).to_be_bytes());
    bytes.extend([0, 3, 0, 0]);
    bytes.extend(parameters.as_bytes());
    bytes.push(0);
    bytes
}

/// What the server sends at a login: AuthenticationOk, a parameter, BackendKeyData, ReadyForQuery.
pub(super) fn welcome() -> Vec<u8> {
    [
        message('R', [0; 4]),
        message('S', "server_version\x0016.1\0"),
        message('K', b"\0\0\x12\x34keys"),
        ready(),
    ]
    .concat()
}

/// A machine and a log of all it said, a line for each event.
pub(super) struct Story {
    pub machine: Postgres,
    pub lines: Vec<String>,
    /// Bytes in a piece; 0: as they come.
    cut: usize,
    announced: HashMap<TextRef, String>,
    over: bool,
}

impl Story {
    pub(super) fn new(cut: usize) -> Self {
        let mut machine = Postgres::new();
        machine.set_capturing(true);
        Story { machine, lines: Vec::new(), cut, announced: HashMap::new(), over: false }
    }

    /// A story whose login is over, and not told.
    pub(super) fn logged_in(cut: usize) -> Self {
        let mut story = Story::new(cut);
        story.client(startup("user\0u\0database\0d\0"));
        story.server(welcome());
        story.lines.clear();
        story
    }

    pub(super) fn client(&mut self, bytes: impl AsRef<[u8]>) {
        self.feed(Direction::FromClient, bytes.as_ref());
    }

    pub(super) fn server(&mut self, bytes: impl AsRef<[u8]>) {
        self.feed(Direction::ToClient, bytes.as_ref());
    }

    pub(super) fn feed(&mut self, direction: Direction, bytes: &[u8]) {
        match self.cut {
            0 => self.feed_piece(direction, bytes),
            cut => bytes.chunks(cut).for_each(|piece| self.feed_piece(direction, piece)),
        }
    }

    fn feed_piece(&mut self, direction: Direction, mut input: &[u8]) {
        while !self.over {
            match self.machine.step(direction, &mut input) {
                Step::NeedMore => {
                    assert!(input.is_empty());
                    return;
                }
                step => self.tell(step),
            }
        }
    }

    /// Says what came of `read_entered` or `parked`.
    pub(super) fn tell(&mut self, step: Step) {
        let line = match step {
            Step::NeedMore => return,
            Step::Lost(reason) => {
                self.over = true;
                format!("lost {reason:?}")
            }
            Step::Event(Event::Text) => {
                let (bytes, text) = self.machine.announced_text();
                assert_eq!(text.hash, content_hash(bytes));
                self.announced.insert(text, String::from_utf8_lossy(bytes).to_string());
                format!("text {}", String::from_utf8_lossy(bytes))
            }
            Step::Event(Event::Finished) => self.unit(),
            Step::Event(Event::LoggedIn) => format!("login {}", self.identity()),
            Step::Event(Event::IdentityChanged) => format!("identity {}", self.identity()),
            Step::Event(event) => {
                use Event::{NotASession, Quit, Streaming, TlsStarts};
                self.over = matches!(event, TlsStarts | NotASession | Streaming | Quit);
                format!("{event:?}")
            }
        };
        self.lines.push(line);
    }

    /// The server enters recv().
    pub(super) fn read_entered(&mut self) {
        let step = self.machine.read_entered(8192);
        self.tell(step);
        self.feed_piece(Direction::FromClient, &[]);
    }

    fn identity(&self) -> String {
        let identity = self.machine.identity();
        let show = |bytes: &[u8]| String::from_utf8_lossy(bytes).to_string();
        format!(
            "{}@{} {:?}",
            show(identity.user.as_slice()),
            show(identity.database.as_slice()),
            show(identity.application.as_slice())
        )
    }

    fn stored(&self, text: TextRef) -> String {
        match text.hash {
            0 => "?".to_string(),
            _ => self.announced.get(&text).unwrap_or_else(|| panic!("{text:?} was never announced")).clone(),
        }
    }

    /// The unit in a line: `Execute[stored select 1] 1st 3out 0aff 23505`.
    pub(super) fn unit(&self) -> String {
        let unit = self.machine.unit();
        let text = match unit.text {
            UnitText::None => String::new(),
            UnitText::Inline { bytes, full_len } => {
                assert!(bytes.len() <= full_len as usize);
                String::from_utf8_lossy(bytes).to_string()
            }
            UnitText::Stored(text) => format!("stored {}", self.stored(text)),
            UnitText::Unknown => "unknown".to_string(),
            UnitText::Compressed { .. } => panic!("PostgreSQL does not compress"),
        };
        let mut line = format!("{:?}[{text}] {}st", unit.command, unit.statements);
        for member in unit.members {
            line += &format!(" {}x({})", member.executions, self.stored(member.text));
        }
        let outcome = unit.outcome;
        assert_eq!(outcome.error_code, 0);
        line += &format!(" {}out {}aff", outcome.rows_returned, outcome.rows_affected);
        if outcome.failed {
            line += &format!(" {}", String::from_utf8_lossy(&outcome.sqlstate));
        }
        if outcome.unknown {
            line += " unknown";
        }
        line
    }
}

/// Tells the same story with the bytes as they come, one by one, and in threes; the events must be the same each time.
pub(super) fn tell(logged_in: bool, scenes: impl Fn(&mut Story)) -> Vec<String> {
    let run = |cut| {
        let mut story = if logged_in { Story::logged_in(cut) } else { Story::new(cut) };
        scenes(&mut story);
        story.lines
    };
    let whole = run(0);
    for cut in [1, 3, 7] {
        assert_eq!(run(cut), whole, "in pieces of {cut}");
    }
    whole
}
