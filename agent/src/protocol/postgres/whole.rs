//! The short way through the machine, for messages that are there whole: nothing is kept from one call to the next. What
//! comes in pieces, and what is seldom, goes through `frontend` and `backend`, which come to the same.

use super::message::{Kind, kind_of, split_message, split_string};
use super::texts::{NAME_CAP, Source, Texts};
use super::units::Asked;
use super::{ANSWER_CAP, Phase, Postgres};
use crate::protocol::Event;

/// What came of the messages that are there whole.
pub(super) enum Whole {
    /// They were taken up to one that answers this.
    Event(Event),
    /// They were taken, and nothing is left.
    Nothing,
    /// The next one has to go the long way.
    Other,
}

impl Postgres {
    /// What [`step`](crate::protocol::Machine::step) does with messages that are there whole, without stopping at
    /// [`Event::Started`], the only event that they have: true if there was one. What is left is for `step`.
    #[inline(always)]
    pub fn take_requests(&mut self, input: &mut &[u8]) -> bool {
        let mut started = false;
        if self.pending == 0 && self.phase == Phase::Typed {
            while let Whole::Event(_) = self.whole_request(input) {
                started = true;
            }
        }
        started
    }

    /// The short way for what nearly every unit consists of, as far as `input` holds the messages whole: nothing here is
    /// kept from one call to the next.
    #[inline(always)]
    pub(super) fn whole_request(&mut self, input: &mut &[u8]) -> Whole {
        if !self.logged_in || self.quitting || !self.client.is_between() {
            return Whole::Other;
        }
        while let Some((tag, payload, rest)) = split_message(input) {
            let started = match tag {
                b'Q' => self.whole_query(payload),
                b'B' => self.whole_bind(payload),
                b'E' => self.whole_execute(payload),
                b'P' => self.whole_parse(payload),
                b'D' => Some(self.open_unit()),
                b'S' => Some(self.complete_sync()),
                _ => None,
            };
            let Some(started) = started else { return Whole::Other };
            *input = rest;
            if let Some(event) = started {
                return Whole::Event(event);
            }
        }
        if input.is_empty() { Whole::Nothing } else { Whole::Other }
    }

    /// `None`: it has to go the long way, and nothing has happened.
    #[inline(always)]
    fn whole_query(&mut self, payload: &[u8]) -> Option<Option<Event>> {
        if self.building || self.units.is_full() {
            return None;
        }
        self.texts.drop_unnamed();
        let mut asked = Source::UNKNOWN;
        if self.capturing {
            let place = self.texts.claim(|place| self.units.refers_to(place)).ok()?;
            // The last byte is the terminating zero.
            let text = payload.strip_suffix(b"\0").unwrap_or(payload);
            self.texts.buffer_mut(place).push(text);
            asked = Source::in_buffer(place);
        }
        let started = self.open_unit();
        self.units.add_statement(asked, Asked::SIMPLE);
        self.close_unit();
        Some(started)
    }

    /// Of the unnamed statement.
    #[inline(always)]
    fn whole_parse(&mut self, payload: &[u8]) -> Option<Option<Event>> {
        let (name, rest) = split_string(payload)?;
        let (text, _) = split_string(rest)?;
        if !name.is_empty() {
            return None;
        }
        self.texts.unnamed = Source::UNKNOWN;
        if self.capturing {
            let place = self.texts.claim(|place| self.units.refers_to(place)).ok()?;
            self.texts.buffer_mut(place).push(text);
            self.texts.unnamed = Source::in_buffer(place);
        }
        let started = self.open_unit();
        self.units.add_parse(self.texts.unnamed);
        Some(started)
    }

    #[inline(always)]
    fn whole_bind(&mut self, payload: &[u8]) -> Option<Option<Event>> {
        let (portal, rest) = split_string(payload)?;
        let (statement, _) = split_string(rest)?;
        let source = self.texts.statement(cut_name(statement));
        self.texts.bind(Texts::portal_key(cut_name(portal)), source);
        Some(self.open_unit())
    }

    #[inline(always)]
    fn whole_execute(&mut self, payload: &[u8]) -> Option<Option<Event>> {
        let has_statement = (self.building || self.units.is_full()) && self.units.first_source().is_some();
        let (portal, _) = split_string(payload)?;
        if has_statement {
            return None;
        }
        let (asked, fetching) = self.texts.execute(Texts::portal_key(cut_name(portal)));
        let started = self.open_unit();
        if fetching {
            self.units.add_fetch(asked);
        } else {
            self.units.add_statement(asked, 0);
        }
        Some(started)
    }

    /// What [`step`](crate::protocol::Machine::step) does with messages that are there whole, without stopping at
    /// [`Event::FirstResponse`]: whether there was one, and whether [`Event::Finished`] was the last. What is left is for
    /// `step`.
    #[inline(always)]
    pub fn take_answer(&mut self, input: &mut &[u8]) -> (bool, bool) {
        if self.pending != 0 || self.phase != Phase::Typed || self.startup.is_owed() {
            return (false, false);
        }
        let responded = self.units.responded;
        let finished = self.walk_answer::<false>(input).is_some();
        (!responded && self.units.responded, finished)
    }

    /// True when there is nothing to ask [`step`](crate::protocol::Machine::step) for before further bytes come.
    #[inline]
    pub fn has_told_all(&self) -> bool {
        self.pending == 0 && !self.server.inside && !self.client.inside
    }

    /// The short way for what nearly every answer consists of, as far as `input` holds the messages whole. What it leaves
    /// is for [`take_header`](super::message::Message::take_header). `STOPS`: at the first response too.
    #[inline(always)]
    pub(super) fn walk_answer<const STOPS: bool>(&mut self, input: &mut &[u8]) -> Option<Event> {
        if !self.units.running || !self.logged_in || !self.server.is_between() {
            return None;
        }
        while let Some((tag, payload, rest)) = split_message(input) {
            let kind = kind_of(tag);
            if matches!(kind, Kind::Other | Kind::Outcome) || kind == Kind::Ready && payload.len() != 1 {
                break;
            }
            if !self.units.responded {
                self.units.responded = true;
                if STOPS {
                    return Some(Event::FirstResponse);
                }
            }
            *input = rest;
            if kind == Kind::Row {
                self.units.outcome.rows_returned += 1;
            } else if kind == Kind::Command {
                self.complete_command(payload.get(..ANSWER_CAP).unwrap_or(payload));
            } else if kind == Kind::Ready {
                // `None`: units were added to this one, which goes on.
                if let Some(event) = self.complete_ready() {
                    return Some(event);
                }
            }
        }
        None
    }
}

/// As much of a name as the server keeps.
#[inline(always)]
pub(super) fn cut_name(name: &[u8]) -> &[u8] {
    name.get(..NAME_CAP).unwrap_or(name)
}
