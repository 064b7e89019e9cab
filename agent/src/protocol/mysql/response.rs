//! The server's direction: which packets of a response are read and where each ends; `result.rs` reads the few that say
//! more than their header.

use super::command::OnOk;
use super::handshake::capability;
use super::packet::FULL;
use super::{Command, Event, LostReason, Mysql, Phase};
use crate::strings::Bytes;

pub(super) const OK: u8 = 0x00;
pub(super) const LOCAL_INFILE: u8 = 0xfb;
pub(super) const EOF: u8 = 0xfe;
const ERR: u8 = 0xff;
/// An EOF packet is shorter than this; a row that begins with fe is not.
pub(super) const EOF_LIMIT: u32 = 9;
/// A column-count packet is not longer: two flags and a number.
const COUNT_LIMIT: u32 = 11;
/// A response to a hidden command that may be a PREPARE's has this length.
pub(super) const PREPARED_LEN: u32 = 12;
/// So much is kept of packets that are read.
const SCRATCH: usize = 512;

/// What the server's next packet is.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Expect {
    /// Nothing: no unit runs, or its response is complete.
    Complete = 0,
    /// The beginning of a result.
    First,
    /// A column or parameter definition.
    Definitions,
    /// The EOF after them.
    DefinitionsEnd,
    Rows,
    /// Column definitions without a count.
    FieldList,
    /// One packet without a tag (COM_STATISTICS).
    Single,
    /// The answer to COM_STMT_PREPARE.
    Prepared,
    /// COM_CHANGE_USER's exchange.
    Authentication,
    /// Part of the response was compressed: where the next packet begins is not known.
    Hidden,
}

/// What follows after definitions.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Then {
    Rows = 0,
    /// The definitions of a prepared statement's columns.
    Columns,
    Nothing,
}

/// What is done with the packet being read.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Reading {
    /// Its first byte has not been looked at.
    Undecided = 0,
    Skip,
    Whole,
}

/// How far the response is read.
#[repr(C)]
pub(super) struct Response {
    pub(super) expect: Expect,
    pub(super) then: Then,
    reading: Reading,
    /// `next_seq` is what the next packet must have.
    seq_known: bool,
    next_seq: u8,
    pub(super) definitions_left: u32,
    /// Columns of the statement being prepared.
    pub(super) columns: u32,
    /// The beginning of a packet that came in pieces.
    scratch: Bytes<SCRATCH>,
}

impl Response {
    pub(super) const fn new() -> Self {
        Response {
            expect: Expect::Complete,
            then: Then::Rows,
            reading: Reading::Undecided,
            seq_known: false,
            next_seq: 0,
            definitions_left: 0,
            columns: 0,
            scratch: Bytes::new(),
        }
    }

    pub(super) fn reset(&mut self) {
        self.end();
        self.scratch.clear();
    }

    pub(super) fn begin(&mut self, expect: Expect) {
        self.expect = expect;
        self.seq_known = false;
    }

    /// The unit is over.
    pub(super) fn end(&mut self) {
        self.expect = Expect::Complete;
        self.reading = Reading::Undecided;
        self.seq_known = false;
    }

    pub(super) fn is_complete(&self) -> bool {
        self.expect == Expect::Complete
    }

    pub(super) fn is_hidden(&self) -> bool {
        self.expect == Expect::Hidden
    }

    /// The rest of the response can't be read.
    pub(super) fn hide(&mut self) {
        self.end();
        self.expect = Expect::Hidden;
    }

    /// The client sent a packet in between.
    pub(super) fn forget_seq(&mut self) {
        self.seq_known = false;
    }
}

impl Mysql {
    /// Bytes of the server's packet stream, out of their envelopes.
    pub(super) fn response_bytes(&mut self, input: &mut &[u8]) -> Result<(), LostReason> {
        if !self.output.in_packet {
            if self.phase == Phase::Commands && self.output.at_boundary() && self.whole_packets(input)? {
                return Ok(());
            }
            let continuation = self.output.continuation;
            if !self.output.begin(input) {
                return Ok(());
            }
            self.response.reading = if continuation { Reading::Skip } else { Reading::Undecided };
            self.check_seq()?;
        }
        if self.response.reading == Reading::Undecided {
            let Some(first) = input.first().copied().filter(|_| self.output.left > 0) else {
                return if self.output.left > 0 { Ok(()) } else { Err(LostReason::Malformed) };
            };
            // An error may be a progress report: that is known only when the packet is whole.
            if first != ERR && self.current.running && !self.current.responded {
                self.first_response();
                return Ok(());
            }
            self.response.reading = self.decide(first)?;
        }
        if self.response.reading == Reading::Skip {
            self.output.take(input);
        } else {
            self.read_whole(input)?;
        }
        if self.output.left == 0 && self.output.in_packet {
            self.output.end();
        }
        Ok(())
    }

    /// Takes what is whole of a unit's response in `input`. True: the response has begun with it, and
    /// [`Event::FirstResponse`] is not answered any more. What is left has to be fed.
    #[inline(always)]
    pub fn take_answer(&mut self, input: &mut &[u8]) -> bool {
        if self.phase != Phase::Commands
            || self.compressed
            || !self.has_told_all()
            || !self.output.at_boundary()
        {
            return false;
        }
        if let Err(reason) = self.whole_packets(input) {
            self.lost = reason as u8;
        }
        self.pending.take_first(Event::FirstResponse)
    }

    /// True when no event waits and the machine is not lost.
    #[inline]
    pub fn has_told_all(&self) -> bool {
        self.pending.is_empty() && self.lost == 0
    }

    /// Packets of a unit's response that are in `input` whole, which is how they usually come. True: at least one was
    /// consumed. What is unusual about one (in pieces, part of a longer one, an error, out of order) is left where it is.
    #[inline(always)]
    fn whole_packets(&mut self, input: &mut &[u8]) -> Result<bool, LostReason> {
        let before = input.len();
        // Events have to be acted on before more is read; that the response begins may wait.
        while self.pending.is_only(Event::FirstResponse) && self.current.running {
            if self.response.expect == Expect::Rows && self.current.responded {
                self.skip_rows(input);
            }
            let Some((header, body)) = input.split_first_chunk::<4>() else { break };
            let header = u32::from_le_bytes(*header);
            let (len, seq) = (header & FULL, (header >> 24) as u8);
            let Some((payload, rest)) = body.split_at_checked(len as usize) else { break };
            let Some(&first) = payload.first() else { break };
            let odd = self.response.seq_known && seq != self.response.next_seq;
            if first == ERR || len == FULL || odd || self.response.is_complete() {
                break;
            }
            *input = rest;
            self.output.passed(len, seq);
            self.response.seq_known = true;
            self.response.next_seq = seq.wrapping_add(1);
            if !self.current.responded {
                self.first_response();
            }
            if self.decide_in_response(first)? == Reading::Whole {
                let done = self.response_packet(first, payload.get(..SCRATCH).unwrap_or(payload));
                done.ok_or(LostReason::Malformed)?;
            }
        }
        Ok(input.len() != before)
    }

    /// Whole rows at once: a header's look and a jump for each.
    fn skip_rows(&mut self, input: &mut &[u8]) {
        let check: u8 = if self.compressed || !self.response.seq_known { 0 } else { 0xff };
        let mut seq = self.response.next_seq;
        let mut rest = *input;
        let mut rows = 0;
        while let Some((header, body)) = rest.split_first_chunk::<4>() {
            let header = u32::from_le_bytes(*header);
            let len = header & FULL;
            let Some(&first) = body.first() else { break };
            let Some(next) = body.get(len as usize..) else { break };
            let odd = ((header >> 24) as u8 ^ seq) & check;
            if first >= EOF || len == 0 || len == FULL || odd != 0 {
                break;
            }
            rest = next;
            rows += 1;
            seq = seq.wrapping_add(1);
        }
        *input = rest;
        self.response.next_seq = seq;
        self.current.outcome.rows_returned += rows;
    }

    /// Within one response the sequence numbers count on. (In compressed sessions they are the envelope's in places.)
    fn check_seq(&mut self) -> Result<(), LostReason> {
        let seq = self.output.seq;
        if self.response.seq_known
            && seq != self.response.next_seq
            && !self.compressed
            && !self.response.is_complete()
        {
            return Err(LostReason::Malformed);
        }
        self.response.seq_known = true;
        self.response.next_seq = seq.wrapping_add(1);
        Ok(())
    }

    /// A packet begins with `first`: is it to be read or jumped over?
    fn decide(&mut self, first: u8) -> Result<Reading, LostReason> {
        let allowed = match self.phase {
            Phase::Greeting => matches!(first, 0x0a | ERR),
            Phase::Hello | Phase::Proxy => first == ERR,
            Phase::Authentication if matches!(first, OK | ERR) => true,
            // Switches, challenges: nothing of them is kept.
            Phase::Authentication => return Ok(Reading::Skip),
            Phase::Commands | Phase::Over => return self.decide_in_response(first),
        };
        if allowed { Ok(Reading::Whole) } else { Err(LostReason::Malformed) }
    }

    fn decide_in_response(&mut self, first: u8) -> Result<Reading, LostReason> {
        let len = self.output.len;
        let whole = match self.response.expect {
            _ if first == ERR => true,
            Expect::Complete => return Err(LostReason::Malformed),
            Expect::First => {
                if !matches!(first, OK | LOCAL_INFILE | EOF) && len > COUNT_LIMIT {
                    return self.not_a_count();
                }
                true
            }
            Expect::Prepared => true,
            Expect::DefinitionsEnd if first == EOF && len < EOF_LIMIT => true,
            Expect::DefinitionsEnd => return Err(LostReason::Malformed),
            Expect::Definitions => {
                self.response.definitions_left = self.response.definitions_left.saturating_sub(1);
                if self.response.definitions_left == 0 {
                    self.definitions_done();
                }
                false
            }
            Expect::Rows if self.ends_rows(first) => true,
            Expect::Rows => {
                self.current.outcome.rows_returned += 1;
                false
            }
            Expect::FieldList => self.ends_rows(first),
            Expect::Single => {
                self.response.expect = Expect::Complete;
                false
            }
            Expect::Authentication => first == OK,
            Expect::Hidden => false,
        };
        Ok(if whole { Reading::Whole } else { Reading::Skip })
    }

    /// A hidden command may be one whose response has no count (COM_FIELD_LIST).
    fn not_a_count(&mut self) -> Result<Reading, LostReason> {
        if !self.current.hidden {
            return Err(LostReason::Malformed);
        }
        self.hide_response();
        Ok(Reading::Skip)
    }

    /// The response can't be read on: what it says is unknown until the unit's end.
    pub(super) fn hide_response(&mut self) {
        if !self.current.responded {
            self.first_response();
        }
        if self.incoming.on_ok == OnOk::User {
            self.identity_unknown();
        }
        if self.current.command == Command::Prepare {
            // Its id stays unknown, but "the statement prepared last" is this one, or an error.
            self.last_prepared = self.announced;
        } else if self.current.hidden {
            self.last_prepared = super::NO_TEXT;
        }
        self.current.exchange = false;
        self.current.outcome.unknown = true;
        self.response.hide();
    }

    fn ends_rows(&self, first: u8) -> bool {
        let limit = if self.can(capability::DEPRECATE_EOF) { FULL } else { EOF_LIMIT };
        first == EOF && self.output.len < limit
    }

    fn read_whole(&mut self, input: &mut &[u8]) -> Result<(), LostReason> {
        let in_one_piece = self.output.left == self.output.len;
        let piece = self.output.take(input);
        if self.output.left == 0 && in_one_piece {
            return self.packet(piece.get(..SCRATCH).unwrap_or(piece));
        }
        if in_one_piece {
            self.response.scratch.clear();
        }
        self.response.scratch.push(piece);
        if self.output.left == 0 {
            let whole = self.response.scratch;
            // The greeting has half of the scramble in it: keep no copy.
            self.response.scratch = Bytes::new();
            return self.packet(whole.as_slice());
        }
        Ok(())
    }

    /// A packet that is to be read, whole but for what is beyond [`SCRATCH`].
    fn packet(&mut self, payload: &[u8]) -> Result<(), LostReason> {
        let first = payload.first().copied().unwrap_or(ERR);
        let done = match self.phase {
            _ if first == ERR => {
                self.error(payload);
                Some(())
            }
            Phase::Greeting => self.greeting(payload),
            Phase::Authentication => self.logged_in(payload),
            _ => self.response_packet(first, payload),
        };
        done.ok_or(LostReason::Malformed)
    }
}
