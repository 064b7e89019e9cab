//! The usual unit without the machine: a request and its answer, each whole, read once and not kept.
//!
//! The machine stays as it was between two units, but that it knows what the unnamed statement and the unnamed portal are.
//! [`Postgres::catch_up`] tells it afterwards what was asked, where something unusual is answered.

use super::ending::rows_selected;
use super::message::{Kind, classify, split_message, split_string};
use super::texts::Source;
use super::units::Asked as Flags;
use super::whole::cut_name;
use super::{Postgres, backend};
use crate::protocol::{Answer, Asked, Command, PackedAnswer, TEXT_CAP, TextRef};
use core::hint::cold_path;

/// What nearly all clients send behind Bind: Describe of the unnamed portal, or not, Execute of all its rows, and Sync.
const USUAL_ENDING: [u8; 22] = *b"D\0\0\0\x06P\0E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04";
const DESCRIBE_BYTES: usize = 7;
const MESSAGE_HEADER_BYTES: usize = 5;

/// True for what [`USUAL_ENDING`] describes.
#[inline(always)]
pub(crate) fn is_usual_ending(bytes: &[u8]) -> bool {
    // By words, so that what is compared with stands in the code: one cache line less.
    let [a, b, c] = ENDING_WORDS;
    match bytes.len() {
        ENDING_BYTES => word_at(bytes, 0) == a && word_at(bytes, 7) == b && word_at(bytes, 14) == c,
        EXECUTE_BYTES => word_at(bytes, 0) == b && word_at(bytes, 7) == c,
        _ => false,
    }
}

const ENDING_BYTES: usize = USUAL_ENDING.len();
const EXECUTE_BYTES: usize = ENDING_BYTES - DESCRIBE_BYTES;
/// The ending's words that begin at its bytes 0, 7 and 14: together all of it.
const ENDING_WORDS: [u64; 3] = [ending_word(0), ending_word(7), ending_word(14)];

const fn ending_word(at: usize) -> u64 {
    match USUAL_ENDING.split_at(at).1.first_chunk() {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => 0,
    }
}

/// The eight bytes at `at`; 0 where there are not so many.
#[inline(always)]
fn word_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |chunk| u64::from_le_bytes(*chunk))
}

/// True for the tags of [`Kind::Nothing`].
#[inline(always)]
fn says_nothing(tag: u8) -> bool {
    let half = if tag & 0x40 == 0 { SAY_NOTHING[0] } else { SAY_NOTHING[1] };
    tag < 128 && half >> (tag & 63) & 1 != 0
}

/// A bit for each of them.
const SAY_NOTHING: [u64; 2] = {
    let mut bits = [0; 2];
    let mut tag = 0;
    while tag < 128 {
        if matches!(classify(tag), Kind::Nothing) {
            let [low, high] = &mut bits;
            *if tag < 64 { low } else { high } |= 1 << (tag & 63);
        }
        tag += 1;
    }
    bits
};

impl Postgres {
    /// What `bytes` ask for, while the machine is at rest and capture is on, if they are one unit of the usual kind: a
    /// simple Query; or Bind, Describe and Execute of the unnamed portal and their Sync, of a known prepared statement or
    /// behind a Parse of the unnamed one. With as much of the text as is kept, where it came with them.
    #[inline(always)]
    pub fn direct_request<'a>(&mut self, bytes: &'a [u8]) -> Option<(Asked, &'a [u8])> {
        let (tag, payload, rest) = split_message(&bytes)?;
        if tag == b'Q' {
            if !rest.is_empty() || self.texts.has_named_portals() {
                return None;
            }
            let text = payload.strip_suffix(b"\0")?;
            self.texts.drop_unnamed();
            return with_text(text, Command::Query);
        }
        let parse = (tag == b'P').then_some(payload);
        let (tag, payload, rest) = if parse.is_some() { split_message(&rest)? } else { (tag, payload, rest) };
        let (portal, bind) = payload.split_first()?;
        if tag != b'B' || *portal != 0 || !is_usual_ending(rest) {
            return None;
        }
        if parse.is_none()
            && let Some(text) = self.texts.last_named(bytes.get(MESSAGE_HEADER_BYTES + 1..)?)
        {
            self.texts.run_unnamed(Source::stored(text));
            return Some((Asked { command: Command::Execute, text }, &[]));
        }
        cold_path();
        // Byte by byte: names are short, and this way it is code that is here.
        let statement = bind.get(..bind.iter().position(|&byte| byte == 0)?)?;
        let Some(parse) = parse else {
            // What the unnamed statement is, is the machine's to know.
            let source =
                if statement.is_empty() { None } else { Some(self.texts.statement(cut_name(statement))) };
            let text = source?.text();
            if text.hash == 0 {
                return None;
            }
            self.texts.run_unnamed(Source::stored(text));
            return Some((Asked { command: Command::Execute, text }, &[]));
        };
        let (0, text) = parse.split_first().map(|(name, rest)| (*name, rest))? else { return None };
        let (text, _) = split_string(text)?;
        if !statement.is_empty() {
            return None;
        }
        // It may be executed again.
        self.texts.unnamed = Source::UNKNOWN;
        self.take_text(|take| take(text))?;
        self.texts.unnamed = self.asked;
        self.texts.run_unnamed(self.asked);
        with_text(text, Command::Execute)
    }

    /// Keeps a text in a buffer, to which `asked` refers. `None`: none is free.
    #[inline(always)]
    fn take_text(&mut self, text: impl FnOnce(&mut dyn FnMut(&[u8]))) -> Option<()> {
        let place = self.texts.claim(|place| self.units.refers_to(place)).ok()?;
        self.asked = Source::in_buffer(place);
        let buffer = self.texts.buffer_mut(place);
        text(&mut |piece| buffer.push(piece));
        Some(())
    }

    /// What the answer to a direct request says, where `bytes` is all of it and nothing more. [`PackedAnswer::NONE`]: it is not, or it says
    /// more than that (an error, a notice, several statements, a parameter, COPY).
    #[inline(never)]
    #[unsafe(link_section = ".text.hot.perquery.last_answer")]
    pub fn direct_answer(bytes: &[u8]) -> PackedAnswer {
        PackedAnswer::new(Self::answer_in(bytes))
    }

    /// The same of an answer to one Execute of a server that [reports last](Self::reports_last).
    #[inline(always)]
    pub fn direct_answer_to_one(bytes: &[u8]) -> PackedAnswer {
        match rows_selected(bytes) {
            Some(rows_returned) => PackedAnswer::new(Some(Answer { rows_returned, rows_affected: 0 })),
            None => Self::direct_answer(bytes),
        }
    }

    #[inline(always)]
    fn answer_in(bytes: &[u8]) -> Option<Answer> {
        let mut rows_returned = 0;
        let mut at = 0;
        // Descriptions and rows, up to the message that says what was done.
        let done = loop {
            let [tag, length @ ..] = *bytes.get(at..)?.first_chunk::<5>()?;
            let begin = at;
            // An impossible length leads beyond the end.
            at += u32::from_be_bytes(length).wrapping_sub(4) as usize + MESSAGE_HEADER_BYTES;
            // Not by the table: one cache line less.
            if tag == b'D' {
                rows_returned += 1;
            } else if tag == b'C' {
                break bytes.get(begin + MESSAGE_HEADER_BYTES..at)?;
            } else if !says_nothing(tag) {
                return None;
            }
        };
        // ReadyForQuery, and the transaction's state.
        if !matches!(bytes.get(at..)?, [b'Z', 0, 0, 0, 5, _]) {
            return None;
        }
        // SELECT changes nothing, and nearly all begin so.
        let rows_affected = match done {
            [b'S', b'E', ..] => 0,
            _ => u32::try_from(backend::rows_changed(done)).ok()?,
        };
        Some(Answer { rows_returned, rows_affected })
    }

    /// The machine is told of a unit that is not answered yet. `text` hands over the text of a query.
    #[cold]
    pub fn catch_up(&mut self, asked: Asked, text: impl FnOnce(&mut dyn FnMut(&[u8]))) {
        self.capturing = true;
        let source = match asked.command {
            Command::Query if self.take_text(text).is_some() => {
                self.texts.buffer_mut(self.asked.place()).cut_from(asked.text.full_len);
                self.asked
            }
            // Which does not happen: it goes the direct way only where a buffer is free.
            Command::Query => Source::UNKNOWN,
            _ if asked.text.hash == 0 => self.asked,
            _ => Source::stored(asked.text),
        };
        self.open_unit();
        self.units.add_statement(source, if asked.command == Command::Query { Flags::SIMPLE } else { 0 });
        self.close_unit();
    }
}

/// What is asked with a text of its own.
#[inline(always)]
fn with_text(text: &[u8], command: Command) -> Option<(Asked, &[u8])> {
    let full_len = u32::try_from(text.len()).ok()?;
    let asked = Asked { command, text: TextRef { hash: 0, full_len } };
    Some((asked, text.get(..TEXT_CAP).unwrap_or(text)))
}

#[cfg(test)]
mod tests {
    use super::super::message::kind_of;
    use super::*;

    #[test]
    fn the_tags_that_say_nothing_are_those_of_the_table() {
        for tag in 0..=u8::MAX {
            assert_eq!(says_nothing(tag), kind_of(tag) == Kind::Nothing, "{tag}");
        }
    }
}
