//! What the client asks for: messages from it, cut into units.

use super::message::Header;
use super::texts::{Place, Source, Texts};
use super::units::Asked;
use super::whole::Whole;
use super::{Phase, Postgres};
use crate::protocol::{Event, LostReason, Step};

/// `stage` of a message whose payload is complete and understood; its events are being answered.
const UNDERSTOOD: u8 = u8::MAX;

/// What came of a complete message.
enum Progress {
    /// Answer this event, then ask again.
    Again(Event),
    /// The message is done with.
    Done(Option<Event>),
}

impl Postgres {
    pub(super) fn step_from_client(&mut self, input: &mut &[u8]) -> Step {
        match self.whole_request(input) {
            Whole::Event(event) => Step::Event(event),
            Whole::Nothing => Step::NeedMore,
            Whole::Other => self.step_through_request(input),
        }
    }

    #[inline(never)]
    fn step_through_request(&mut self, input: &mut &[u8]) -> Step {
        loop {
            if !self.client.inside {
                if self.quitting {
                    *input = &[];
                    return Step::NeedMore;
                }
                match self.client.take_header(input) {
                    Header::More => return Step::NeedMore,
                    Header::Malformed => return self.lose(LostReason::Malformed),
                    Header::Complete => {}
                }
                if !self.begin_request() {
                    return self.lose(LostReason::Malformed);
                }
            }
            if self.wants_buffer {
                let claimed = self.texts.claim(|place| self.units.refers_to(place));
                match claimed {
                    Ok(place) => {
                        self.capture = place;
                        self.wants_buffer = false;
                    }
                    Err(older) => return Step::Event(self.announce(older)),
                }
            }
            if self.client.left > 0 {
                if input.is_empty() {
                    return Step::NeedMore;
                }
                self.request_payload(input);
                continue;
            }
            match self.complete_request() {
                Progress::Again(event) => return Step::Event(event),
                Progress::Done(event) => {
                    self.client.inside = false;
                    if let Some(event) = event {
                        return Step::Event(event);
                    }
                }
            }
        }
    }

    /// Announces the text in a buffer; all who refer to it get the reference.
    fn announce(&mut self, place: Place) -> Event {
        let text = self.texts.announce(place);
        self.units.moved(place, text);
        self.asked.moved(place, text);
        Event::Text
    }

    /// Texts that matter to reports only are kept while capturing, and never before the login: what a stranger sends
    /// is not kept.
    fn keeps_optional_texts(&self) -> bool {
        self.capturing && self.logged_in
    }

    /// A header is complete. False if there is no such message.
    fn begin_request(&mut self) -> bool {
        self.client_name.clear();
        self.capture = Place::None;
        self.capture_optional = false;
        match self.client.tag() {
            b'Q' => {
                self.texts.drop_unnamed();
                self.capture_optional = true;
                self.wants_buffer = self.keeps_optional_texts();
                true
            }
            b'p' => !self.logged_in,
            b'P' | b'B' | b'E' | b'D' | b'C' | b'F' | b'S' | b'H' | b'X' | b'd' | b'c' | b'f' => true,
            _ => false,
        }
    }

    /// Takes some of the payload; there is some.
    fn request_payload(&mut self, input: &mut &[u8]) {
        let client = &mut self.client;
        match (client.tag(), client.stage) {
            (b'Q', _) if self.capture != Place::None => {
                let part = client.available(input);
                // The last byte is the terminating zero.
                let text = match part.split_last() {
                    Some((0, text)) if part.len() == client.left as usize => text,
                    _ => part,
                };
                self.texts.buffer_mut(self.capture).push(text);
                client.advance(part.len(), input);
            }
            (b'P', 0) => {
                if client.take_string(&mut self.client_name, input) {
                    client.stage = 1;
                    if self.client_name.is_empty() {
                        self.texts.unnamed = Source::UNKNOWN;
                        self.capture_optional = true;
                        self.wants_buffer = self.keeps_optional_texts();
                    } else {
                        self.wants_buffer = self.logged_in;
                    }
                }
            }
            (b'P', 1) if self.capture != Place::None => {
                if client.take_string(self.texts.buffer_mut(self.capture), input) {
                    client.stage = 2;
                }
            }
            (b'B', 0) => {
                if client.take_string(&mut self.client_name, input) {
                    client.stage = 1;
                    self.portal = Texts::portal_key(self.client_name.as_slice());
                    self.client_name.clear();
                }
            }
            (b'C', 0) => {
                self.close_kind = client.take_byte(input).unwrap_or(0);
                client.stage = 1;
            }
            (b'B' | b'C', 1) | (b'E', 0) => {
                if client.take_string(&mut self.client_name, input) {
                    client.stage = 2;
                }
            }
            _ => client.skip(input),
        }
    }

    fn complete_request(&mut self) -> Progress {
        let first_time = self.client.stage != UNDERSTOOD;
        self.client.stage = UNDERSTOOD;
        match self.client.tag() {
            b'Q' => {
                if first_time {
                    self.asked = self.captured();
                }
                self.complete_statement(Asked::SIMPLE, true)
            }
            b'E' => {
                if first_time {
                    let key = Texts::portal_key(self.client_name.as_slice());
                    (self.asked, self.fetching) = self.texts.execute(key);
                }
                if self.fetching {
                    let started = self.open_unit();
                    self.units.add_fetch(self.asked);
                    return Progress::Done(started);
                }
                self.complete_statement(0, false)
            }
            b'F' => {
                self.asked = Source::NONE;
                self.complete_statement(Asked::FUNCTION, true)
            }
            b'P' => self.complete_parse(first_time),
            b'B' => {
                let source = self.texts.statement(self.client_name.as_slice());
                self.texts.bind(self.portal, source);
                Progress::Done(self.open_unit())
            }
            b'C' => {
                match self.close_kind {
                    b'S' => self.texts.close_statement(self.client_name.as_slice()),
                    _ => self.texts.close_portal(Texts::portal_key(self.client_name.as_slice())),
                }
                Progress::Done(self.open_unit())
            }
            b'D' => Progress::Done(self.open_unit()),
            b'S' => Progress::Done(self.complete_sync()),
            b'c' | b'f' => {
                self.copying_in = false;
                Progress::Done(None)
            }
            b'X' => {
                self.quitting = true;
                // What was asked before is still answered.
                if self.units.outstanding() > 0 {
                    return Progress::Done(None);
                }
                self.phase = Phase::Over;
                Progress::Done(Some(Event::Quit))
            }
            _ => Progress::Done(None),
        }
    }

    /// The text that was captured from the message just completed.
    fn captured(&mut self) -> Source {
        self.wants_buffer = false;
        match core::mem::replace(&mut self.capture, Place::None) {
            Place::None => Source::UNKNOWN,
            place => Source::in_buffer(place),
        }
    }

    fn complete_parse(&mut self, first_time: bool) -> Progress {
        if first_time {
            self.asked = self.captured();
            if self.client_name.is_empty() {
                self.texts.unnamed = self.asked;
            }
        }
        if !self.client_name.is_empty() {
            if self.asked.is_buffered() {
                // Answers Text, and comes back with a reference.
                return Progress::Again(self.announce(self.asked.place()));
            }
            let text = Some(self.asked.text()).filter(|text| text.hash != 0);
            self.texts.name_statement(self.client_name.as_slice(), text);
        }
        let started = self.open_unit();
        self.units.add_parse(self.asked);
        Progress::Done(started)
    }

    /// A statement with text `asked` joins the last unit. A unit's second statement makes it a batch, whose texts are
    /// announced.
    fn complete_statement(&mut self, kind: u8, closes: bool) -> Progress {
        if (self.building || self.units.is_full())
            && let Some(first) = self.units.first_source()
        {
            for source in [first, self.asked] {
                if source.is_buffered() {
                    return Progress::Again(self.announce(source.place()));
                }
            }
        }
        let started = self.open_unit();
        self.units.add_statement(self.asked, kind);
        self.asked = Source::NONE;
        if closes {
            self.close_unit();
        }
        Progress::Done(started)
    }

    pub(super) fn complete_sync(&mut self) -> Option<Event> {
        // The server ignores a Sync while it takes COPY data: drivers send one behind every Execute.
        if self.copying_in {
            return None;
        }
        let lone = !self.building;
        let started = self.open_unit();
        if lone
            && let Some(unit) = self.units.back_mut()
            && unit.is_new()
        {
            unit.set(Asked::LONE_SYNC, true);
        }
        self.close_unit();
        started
    }

    /// The client is sending a unit; a new one if the last is complete.
    pub(super) fn open_unit(&mut self) -> Option<Event> {
        if self.building {
            return None;
        }
        self.building = true;
        self.units.push();
        if self.logged_in && !self.units.running {
            self.units.start();
            return Some(Event::Started);
        }
        None
    }

    pub(super) fn close_unit(&mut self) {
        self.building = false;
        if let Some(unit) = self.units.back_mut() {
            unit.set(Asked::CLOSED, true);
        }
    }
}
