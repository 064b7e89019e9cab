//! Which text a Parse, Bind or Execute means: statements, portals, and the two buffers for texts not announced.
//!
//! A text is captured into one of two buffers, so that the text of the unit that ran last stays readable while the next
//! one arrives. Most texts never leave their buffer: the unit ends and refers to it inline. Only when both buffers are
//! referred to (units received ahead, a portal kept open) the older one is announced and every reference replaced.

use crate::hash::content_hash;
use crate::protocol::{StatementMap, TEXT_CAP, TextRef};
use crate::strings::Bytes;

/// PostgreSQL keeps 63 bytes of a statement's or portal's name (NAMEDATALEN - 1): longer ones with the same beginning are
/// the same to it, and so they are here.
pub(super) const NAME_CAP: usize = 63;

/// Portals followed at a time: the unnamed one and four named ones (cursors that a driver reads in portions).
const PORTALS: usize = 5;

/// Where a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Place {
    /// There is no text.
    None = 0,
    /// There is one, but it is not known.
    Unknown = 1,
    /// In the first buffer.
    First = 2,
    /// In the second buffer.
    Second = 3,
    /// It was announced.
    Stored = 4,
}

/// A reference to a text. (Not an enum with fields: this one takes 16 bytes, and all zeros are valid.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source {
    hash: u64,
    full_len: u32,
    place: Place,
}

impl Source {
    pub(super) const NONE: Source = Source { hash: 0, full_len: 0, place: Place::None };
    pub(super) const UNKNOWN: Source = Source { hash: 0, full_len: 0, place: Place::Unknown };

    pub(super) fn new(place: Place, text: TextRef) -> Self {
        Source { hash: text.hash, full_len: text.full_len, place }
    }

    pub(super) fn stored(text: TextRef) -> Self {
        Source { hash: text.hash, full_len: text.full_len, place: Place::Stored }
    }

    pub(super) fn in_buffer(place: Place) -> Self {
        Source { hash: 0, full_len: 0, place }
    }

    pub(super) fn place(self) -> Place {
        self.place
    }

    pub(super) fn is_buffered(self) -> bool {
        matches!(self.place, Place::First | Place::Second)
    }

    /// The announced text; the empty reference for all others.
    pub(super) fn text(self) -> TextRef {
        TextRef { hash: self.hash, full_len: self.full_len }
    }

    /// The text in `place` has been announced.
    pub(super) fn moved(&mut self, place: Place, text: TextRef) {
        if self.place == place {
            *self = Source::stored(text);
        }
    }
}

/// A bound statement.
#[derive(Clone, Copy)]
struct Portal {
    /// Hash of the name; 0 for the unnamed one and for free places.
    key: u64,
    source: Source,
    executed: bool,
}

const NO_PORTAL: Portal = Portal { key: 0, source: Source::NONE, executed: false };

/// How long a name is, with its zero, by which the last statement is known: two words.
const LAST_BYTES: usize = 16;

/// All texts that a session can refer to. What every query touches is at the beginning.
#[repr(C)]
pub(super) struct Texts {
    /// The buffer that was written last is the second one.
    second_is_younger: bool,
    /// Something was inserted since the last reset.
    statements_used: bool,
    evicted_before: u64,
    /// The unnamed statement.
    pub unnamed: Source,
    /// Hash of the name of the statement that was asked for last, 0 where that is nobody's any more; and its text. A session
    /// that asks for it again finds it beside the portals, in a line that it needs anyway.
    last_key: u64,
    last: TextRef,
    /// Its name and the zero behind it, and all bits of the bytes that these are; none: there is no such name, or it is too
    /// long for that. Of what is known by its name no hash is needed.
    last_name: [u8; LAST_BYTES],
    last_mask: [u8; LAST_BYTES],
    portals: [Portal; PORTALS],
    next_portal: u8,
    /// A portal with a name was bound since the last reset.
    named_portals: bool,
    announced: TextRef,
    announced_place: Place,
    first: Bytes<TEXT_CAP>,
    second: Bytes<TEXT_CAP>,
    statements: StatementMap,
}

impl Texts {
    pub(super) const fn new() -> Self {
        Texts {
            first: Bytes::new(),
            second: Bytes::new(),
            second_is_younger: false,
            statements: StatementMap::new(),
            statements_used: false,
            evicted_before: 0,
            unnamed: Source::NONE,
            last_key: 0,
            last: TextRef { hash: 0, full_len: 0 },
            last_name: [0; LAST_BYTES],
            last_mask: [0; LAST_BYTES],
            portals: [NO_PORTAL; PORTALS],
            next_portal: 0,
            named_portals: false,
            announced: TextRef { hash: 0, full_len: 0 },
            announced_place: Place::None,
        }
    }

    pub(super) fn reset(&mut self) {
        self.first.clear();
        self.second.clear();
        self.second_is_younger = false;
        if self.statements_used {
            self.statements.clear();
            self.statements_used = false;
        }
        self.evicted_before = self.statements.evicted();
        self.unnamed = Source::NONE;
        self.forget_last();
        self.portals = [NO_PORTAL; PORTALS];
        self.next_portal = 0;
        self.named_portals = false;
        self.announced = TextRef::default();
        self.announced_place = Place::None;
    }

    pub(super) fn buffer(&self, place: Place) -> &Bytes<TEXT_CAP> {
        if place == Place::Second { &self.second } else { &self.first }
    }

    pub(super) fn buffer_mut(&mut self, place: Place) -> &mut Bytes<TEXT_CAP> {
        if place == Place::Second { &mut self.second } else { &mut self.first }
    }

    /// A buffer that nothing refers to, emptied and from now on the younger one. `elsewhere` says what refers to a
    /// buffer besides statements and portals. `Err`: none is free; this one, the older, is to be announced first.
    #[inline]
    pub(super) fn claim(&mut self, elsewhere: impl Fn(Place) -> bool) -> Result<Place, Place> {
        let (older, younger) = match self.second_is_younger {
            true => (Place::First, Place::Second),
            false => (Place::Second, Place::First),
        };
        // The same one again, where that can be: it is in the caches.
        let place = if !self.refers_to(younger) && !elsewhere(younger) {
            younger
        } else if !self.refers_to(older) && !elsewhere(older) {
            older
        } else {
            return Err(older);
        };
        self.buffer_mut(place).clear();
        self.second_is_younger = place == Place::Second;
        Ok(place)
    }

    #[inline]
    fn refers_to(&self, place: Place) -> bool {
        let [unnamed, named @ ..] = &self.portals;
        self.unnamed.place == place
            || unnamed.source.place == place
            || self.named_portals && named.iter().any(|portal| portal.source.place == place)
    }

    /// True where portals beside the unnamed one may refer to buffers.
    #[inline(always)]
    pub(super) fn has_named_portals(&self) -> bool {
        self.named_portals
    }

    /// Announces the text in a buffer; statements and portals refer to it by the returned reference from now on.
    pub(super) fn announce(&mut self, place: Place) -> TextRef {
        let buffer = self.buffer(place);
        let text = TextRef { hash: content_hash(buffer.as_slice()), full_len: buffer.full_len() };
        self.unnamed.moved(place, text);
        for portal in &mut self.portals {
            portal.source.moved(place, text);
        }
        self.announced = text;
        self.announced_place = place;
        text
    }

    pub(super) fn announced(&self) -> (&[u8], TextRef) {
        match self.announced_place {
            Place::None => (&[], TextRef::default()),
            place => (self.buffer(place).as_slice(), self.announced),
        }
    }

    pub(super) fn evicted(&self) -> u64 {
        self.statements.evicted().saturating_sub(self.evicted_before)
    }

    /// Statement `name` has the announced text `text` from now on; without one it is unknown.
    pub(super) fn name_statement(&mut self, name: &[u8], text: Option<TextRef>) {
        let key = content_hash(name);
        self.forget_last();
        match text {
            Some(text) => {
                self.statements.insert(key, text);
                self.statements_used = true;
            }
            None => self.statements.remove(key),
        }
    }

    /// The announced text of the statement that was asked for last, if `bytes` begin with its name and the zero behind that.
    #[inline(always)]
    pub(super) fn last_named(&self, bytes: &[u8]) -> Option<TextRef> {
        let [bytes, name, mask] =
            [*bytes.first_chunk()?, self.last_name, self.last_mask].map(u128::from_le_bytes);
        (mask != 0 && (bytes ^ name) & mask == 0).then_some(self.last)
    }

    fn remember(&mut self, key: u64, name: &[u8], text: TextRef) {
        self.forget_last();
        (self.last_key, self.last) = (key, text);
        // With the zero.
        let mask = self.last_mask.get_mut(..=name.len()).filter(|_| !name.is_empty() && text.hash != 0);
        if let (Some(mask), Some(to)) = (mask, self.last_name.get_mut(..name.len())) {
            mask.fill(u8::MAX);
            to.copy_from_slice(name);
        }
    }

    fn forget_last(&mut self) {
        self.last_key = 0;
        (self.last_name, self.last_mask) = ([0; LAST_BYTES], [0; LAST_BYTES]);
    }

    /// What statement `name` says; the empty name is the unnamed statement.
    #[inline(never)]
    pub(super) fn statement(&mut self, name: &[u8]) -> Source {
        if !name.is_empty() {
            let key = content_hash(name);
            if self.last_key != key {
                let Some(text) = self.statements.text(key) else { return Source::UNKNOWN };
                self.remember(key, name, text);
            }
            return Source::stored(self.last);
        }
        if self.unnamed.place == Place::None { Source::UNKNOWN } else { self.unnamed }
    }

    pub(super) fn close_statement(&mut self, name: &[u8]) {
        if name.is_empty() {
            self.unnamed = Source::NONE;
        } else {
            self.forget_last();
            self.statements.remove(content_hash(name));
        }
    }

    /// 0 for the unnamed portal, else the hash of its name.
    pub(super) fn portal_key(name: &[u8]) -> u64 {
        if name.is_empty() { 0 } else { content_hash(name) }
    }

    #[inline]
    fn portal(&mut self, key: u64) -> Option<&mut Portal> {
        match key {
            0 => self.portals.first_mut(),
            _ => self.portals.iter_mut().skip(1).find(|portal| portal.key == key),
        }
    }

    /// Bind: portal `key` runs `source` from now on.
    pub(super) fn bind(&mut self, key: u64, source: Source) {
        if let Some(portal) = self.portal(key) {
            *portal = Portal { key, source, executed: false };
            return;
        }
        self.named_portals = true;
        let free = self.portals.iter().skip(1).position(|portal| portal.key == 0);
        let at = free.unwrap_or(self.next_portal as usize % (PORTALS - 1));
        self.next_portal = ((at + 1) % (PORTALS - 1)) as u8;
        if let Some(portal) = self.portals.get_mut(at + 1) {
            *portal = Portal { key, source, executed: false };
        }
    }

    /// Bind and Execute of the unnamed portal.
    #[inline(always)]
    pub(super) fn run_unnamed(&mut self, source: Source) {
        if let Some(portal) = self.portals.first_mut() {
            *portal = Portal { key: 0, source, executed: true };
        }
    }

    /// Execute: what the portal runs, and whether it was executed before since its Bind.
    pub(super) fn execute(&mut self, key: u64) -> (Source, bool) {
        match self.portal(key) {
            Some(portal) if portal.source.place != Place::None => {
                (portal.source, core::mem::replace(&mut portal.executed, true))
            }
            _ => (Source::UNKNOWN, false),
        }
    }

    pub(super) fn close_portal(&mut self, key: u64) {
        if let Some(portal) = self.portal(key) {
            *portal = NO_PORTAL;
        }
    }

    /// The unnamed statement and the unnamed portal may be others than they were.
    pub(super) fn forget_unnamed(&mut self) {
        if self.unnamed.place != Place::None {
            self.unnamed = Source::UNKNOWN;
        }
        if let Some(portal) = self.portals.first_mut()
            && portal.source.place != Place::None
        {
            portal.source = Source::UNKNOWN;
        }
    }

    /// A simple Query destroys the unnamed statement and the unnamed portal.
    pub(super) fn drop_unnamed(&mut self) {
        self.unnamed = Source::NONE;
        self.close_portal(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::boxed::Box;

    #[test]
    fn the_last_statement_is_known_by_its_whole_name_until_it_may_be_another_one() {
        let mut texts = Box::new(Texts::new());
        let (one, two) = (TextRef { hash: 1, full_len: 10 }, TextRef { hash: 2, full_len: 20 });
        for (name, others) in [(&b"s1"[..], [&b"s"[..], b"s10", b"s2", b""]), (b"fifteen_letters", [b"f"; 4])]
        {
            let asks = |texts: &Texts, name: &[u8]| texts.last_named(&[name, &[0; 20]].concat());
            assert_eq!(asks(&texts, name), None, "nobody has asked for it");
            texts.name_statement(name, Some(one));
            assert_eq!(texts.statement(name).text(), one);
            assert_eq!(asks(&texts, name), Some(one));
            for other in others {
                assert_eq!(asks(&texts, other), None, "{other:?}");
            }
            assert_eq!(texts.last_named(name), None, "cut off");
            texts.name_statement(name, Some(two));
            assert_eq!(asks(&texts, name), None, "it was prepared anew");
            assert_eq!((texts.statement(name).text(), asks(&texts, name)), (two, Some(two)));
            texts.close_statement(name);
            assert_eq!(asks(&texts, name), None, "it was closed");
        }
        let long = b"sixteen_letters_";
        texts.name_statement(long, Some(one));
        assert_eq!(texts.statement(long).text(), one);
        assert_eq!(texts.last_named(&[&long[..], &[0; 20]].concat()), None, "it is found by its hash");
    }
}
