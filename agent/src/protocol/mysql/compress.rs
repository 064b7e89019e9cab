//! The compressed protocol's envelopes: `length[3] seq[1] uncompressed_length[3]`, then the payload, stored or packed.
//!
//! Stored payloads (uncompressed length 0) carry the ordinary packet stream and are read as such. Packed ones are not
//! inflated here: a command's are handed on as they are, a response's make its outcome unknown. Nothing inside them is
//! guessed at.

use super::command::Incoming;
use super::packet::{HeaderBuffer, take_up_to};
use super::response::Expect;
use super::{Command, LostReason, Mysql, TextKind};

/// How a zstd stream begins.
pub(super) const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// What an envelope's payload is to the machine.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Content {
    /// Not looked at.
    Skip = 0,
    /// Packets.
    Packets,
    /// The beginning of a packed command.
    Command,
    /// More of a packed command.
    CommandContinued,
    /// Packed bytes of a command whose header came stored.
    CommandRest,
}

/// One direction's envelopes.
#[derive(Clone, Copy)]
pub(super) struct Envelope {
    header: HeaderBuffer<7>,
    content: Content,
    left: u32,
    uncompressed: u32,
}

impl Envelope {
    pub(super) const fn new() -> Self {
        Envelope { header: HeaderBuffer::new(), content: Content::Skip, left: 0, uncompressed: 0 }
    }

    /// True between two envelopes: nothing of the next one has come.
    pub(super) fn at_boundary(&self) -> bool {
        self.left == 0 && self.header.is_empty()
    }

    /// Takes a header; answers its sequence number once it is complete.
    fn begin(&mut self, input: &mut &[u8]) -> Result<Option<u8>, LostReason> {
        let Some([a, b, c, seq, d, e, f]) = self.header.take(input) else { return Ok(None) };
        self.left = u32::from_le_bytes([a, b, c, 0]);
        self.uncompressed = u32::from_le_bytes([d, e, f, 0]);
        if self.left == 0 && self.uncompressed != 0 {
            return Err(LostReason::Malformed);
        }
        Ok(Some(seq))
    }

    fn is_packed(&self) -> bool {
        self.uncompressed != 0
    }
}

impl Mysql {
    /// Bytes of a compressed session that the client sent.
    pub(super) fn compressed_command(&mut self, input: &mut &[u8]) -> Result<(), LostReason> {
        if self.input_envelope.left == 0 {
            self.compression_settled = true;
            let fresh = self.between_commands() && !self.current.exchange;
            if fresh && self.current.responded && self.finish_before_next()? {
                return Ok(());
            }
            let Some(seq) = self.input_envelope.begin(input)? else { return Ok(()) };
            self.response.forget_seq();
            self.input_envelope.content = self.command_content(seq)?;
            return Ok(());
        }
        let mut rest = *input;
        let mut piece = take_up_to(&mut rest, self.input_envelope.left);
        let offered = piece.len();
        let mut result = Ok(());
        match self.input_envelope.content {
            Content::Packets => result = self.command_bytes(&mut piece),
            Content::Command | Content::CommandContinued => self.text.push(core::mem::take(&mut piece)),
            Content::CommandRest | Content::Skip => piece = &[],
        }
        consume(input, offered - piece.len(), &mut self.input_envelope.left);
        if self.input_envelope.left == 0 {
            match self.input_envelope.content {
                Content::Command => {
                    self.begin_unit(Command::Query, TextKind::Compressed, Expect::First);
                    self.current.hidden = true;
                }
                Content::CommandRest => self.end_command_packet(),
                _ => {}
            }
        }
        result
    }

    /// What the envelope whose header has come holds.
    fn command_content(&mut self, seq: u8) -> Result<Content, LostReason> {
        let packed = self.input_envelope.is_packed();
        if self.current.exchange {
            // File data or authentication; the server's answer tells its end.
            return Ok(Content::Skip);
        }
        if !self.input.at_boundary() {
            if !packed {
                return Ok(Content::Packets);
            }
            // The length inside is known from the packet's header, the bytes are not.
            if !self.input.in_packet || self.input_envelope.uncompressed > self.input.left {
                return Err(LostReason::Missed);
            }
            self.input.left -= self.input_envelope.uncompressed;
            self.incoming.hidden = true;
            return Ok(Content::CommandRest);
        }
        if self.current.running {
            if !self.current.hidden || seq == 0 {
                return Err(LostReason::Missed);
            }
            // More of a packed command. After a stored part the packed bytes are no one stream any more.
            if packed && !self.incoming.hidden {
                return Ok(Content::CommandContinued);
            }
            self.incoming.hidden = true;
            return Ok(Content::Skip);
        }
        if seq != 0 {
            // Perhaps a LOCAL INFILE whose request was packed.
            let unseen = self.current.outcome.unknown;
            return Err(if unseen { LostReason::Missed } else { LostReason::Malformed });
        }
        if !packed {
            return Ok(Content::Packets);
        }
        self.incoming = Incoming::new();
        self.take_text();
        Ok(Content::Command)
    }

    /// Bytes of a compressed session that the server sent.
    pub(super) fn compressed_response(&mut self, input: &mut &[u8]) -> Result<(), LostReason> {
        if self.output_envelope.left == 0 {
            if self.output_envelope.begin(input)?.is_none() {
                return Ok(());
            }
            let packed = self.output_envelope.is_packed();
            if packed && self.current.running && !self.response.is_complete() && !self.response.is_hidden() {
                self.hide_response();
            }
            let skip = packed || self.response.is_hidden();
            self.output_envelope.content = if skip { Content::Skip } else { Content::Packets };
            return Ok(());
        }
        let mut rest = *input;
        let mut piece = take_up_to(&mut rest, self.output_envelope.left);
        let offered = piece.len();
        let mut result = Ok(());
        if self.output_envelope.content == Content::Packets {
            result = self.response_bytes(&mut piece);
        } else {
            piece = &[];
        }
        consume(input, offered - piece.len(), &mut self.output_envelope.left);
        result
    }
}

/// Advances `input` by `count` bytes, which are the envelope's.
fn consume(input: &mut &[u8], count: usize, left: &mut u32) {
    let taken = take_up_to(input, count as u32);
    *left = left.saturating_sub(taken.len() as u32);
}
