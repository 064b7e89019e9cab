//! The usual unit without the machine: a request and its answer, each whole, read once and not kept.
//!
//! The machine stays as it was between two units, but that it knows what the unnamed statement and the unnamed portal are.
//! [`Postgres::catch_up`] tells it afterwards what was asked, where something unusual is answered.

use super::message::{Kind, kind_of, split_message, split_string};
use super::texts::Source;
use super::units::Asked as Flags;
use super::whole::cut_name;
use super::{Postgres, backend};
use crate::protocol::{Answer, Asked, Command, TextRef};

/// What nearly all clients send behind Bind: Describe of the unnamed portal, or not, Execute of all its rows, and Sync.
const USUAL_ENDING: [u8; 22] = *b"D\0\0\0\x06P\0E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04";
const DESCRIBE_BYTES: usize = 7;

/// True for what [`USUAL_ENDING`] describes.
#[inline(always)]
pub(crate) fn is_usual_ending(bytes: &[u8]) -> bool {
    *bytes == USUAL_ENDING || Some(bytes) == USUAL_ENDING.get(DESCRIBE_BYTES..)
}

impl Postgres {
    /// What `bytes` ask for, while the machine is at rest and capture is on, if they are one unit of the usual kind: a
    /// simple Query; or Bind, Describe and Execute of the unnamed portal and their Sync, of a known prepared statement or
    /// behind a Parse of the unnamed one.
    #[inline(always)]
    pub fn direct_request(&mut self, bytes: &[u8]) -> Option<Asked> {
        let (tag, payload, rest) = split_message(&bytes)?;
        if tag == b'Q' {
            if !rest.is_empty() {
                return None;
            }
            let text = payload.strip_suffix(b"\0")?;
            self.texts.drop_unnamed();
            return self.take_direct_text(text, Command::Query);
        }
        let parse = (tag == b'P').then_some(payload);
        let (tag, payload, rest) = if parse.is_some() { split_message(&rest)? } else { (tag, payload, rest) };
        let (portal, bind) = payload.split_first()?;
        if tag != b'B' || *portal != 0 || !is_usual_ending(rest) {
            return None;
        }
        let (statement, _) = split_string(bind)?;
        let Some(parse) = parse else {
            // What the unnamed statement is, is the machine's to know.
            let source =
                if statement.is_empty() { None } else { Some(self.texts.statement(cut_name(statement))) };
            let text = source?.text();
            if text.hash == 0 {
                return None;
            }
            self.capturing = true;
            self.texts.run_unnamed(Source::stored(text));
            return Some(Asked { command: Command::Execute, text });
        };
        let (0, text) = parse.split_first().map(|(name, rest)| (*name, rest))? else { return None };
        let (text, _) = split_string(text)?;
        if !statement.is_empty() {
            return None;
        }
        self.texts.unnamed = Source::UNKNOWN;
        let asked = self.take_direct_text(text, Command::Execute)?;
        self.texts.unnamed = self.asked;
        self.texts.run_unnamed(self.asked);
        Some(asked)
    }

    /// Keeps `text` in a buffer, to which `asked` refers. `None`: none is free.
    #[inline(always)]
    fn take_direct_text(&mut self, text: &[u8], command: Command) -> Option<Asked> {
        let place = self.texts.claim(|place| self.units.refers_to(place)).ok()?;
        self.capturing = true;
        self.asked = Source::in_buffer(place);
        let buffer = self.texts.buffer_mut(place);
        buffer.push(text);
        Some(Asked { command, text: TextRef { hash: 0, full_len: buffer.full_len() } })
    }

    /// The text that [`direct_request`](Self::direct_request) kept last, as far as it is kept.
    #[inline(always)]
    pub fn direct_text(&self) -> &[u8] {
        self.texts.buffer(self.asked.place()).as_slice()
    }

    /// What the answer to a direct request says, where `bytes` is all of it and nothing more. `None`: it is not, or it says
    /// more than that (an error, a notice, several statements, a parameter, COPY).
    #[inline(always)]
    pub fn direct_answer(&self, bytes: &[u8]) -> Option<Answer> {
        let mut input = bytes;
        let mut rows_returned = 0;
        let mut completed = None;
        while let Some((tag, payload, rest)) = split_message(&input) {
            match kind_of(tag) {
                Kind::Nothing => {}
                Kind::Row => rows_returned += 1,
                Kind::Command if completed.is_none() => completed = Some(payload),
                Kind::Ready if payload.len() == 1 && rest.is_empty() => {
                    let rows_affected = u32::try_from(backend::rows_changed(completed?)).ok()?;
                    return Some(Answer { rows_returned, rows_affected });
                }
                _ => return None,
            }
            input = rest;
        }
        None
    }

    /// The machine is told of a unit that is not answered yet.
    #[cold]
    pub fn catch_up(&mut self, asked: Asked) {
        let source = if asked.text.hash == 0 { self.asked } else { Source::stored(asked.text) };
        self.open_unit();
        self.units.add_statement(source, if asked.command == Command::Query { Flags::SIMPLE } else { 0 });
        self.close_unit();
    }
}
