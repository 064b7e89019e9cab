//! The events that one packet brought and that were not answered yet.

use super::Event;

/// Events found but not yet answered, oldest in the lowest byte.
#[derive(Clone, Copy)]
pub(super) struct Pending(u32);

const EVENTS: [Event; 10] = [
    Event::TlsStarts,
    Event::LoggedIn,
    Event::IdentityChanged,
    Event::Text,
    Event::Started,
    Event::FirstResponse,
    Event::Finished,
    Event::NotASession,
    Event::Streaming,
    Event::Quit,
];

impl Pending {
    pub(super) const NONE: Pending = Pending(0);

    /// At most three events come from one packet, so that four bytes are enough.
    pub(super) fn push(&mut self, event: Event) {
        let code = Self::code(event);
        let shift = (u32::BITS - self.0.leading_zeros()).next_multiple_of(8);
        self.0 |= code.checked_shl(shift).unwrap_or(0);
    }

    /// The same, unless the event is in the queue.
    pub(super) fn push_once(&mut self, event: Event) {
        let mut rest = *self;
        while let Some(queued) = rest.pop() {
            if queued == event {
                return;
            }
        }
        self.push(event);
    }

    #[inline(always)]
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// True when nothing is in the queue, or only `event`.
    #[inline]
    pub(super) fn is_only(self, event: Event) -> bool {
        self.0 == 0 || self.0 == Self::code(event)
    }

    #[inline]
    pub(super) fn code(event: Event) -> u32 {
        EVENTS.iter().position(|e| *e == event).map_or(0, |at| at as u32 + 1)
    }

    /// Takes the oldest event if it is `event`.
    #[inline]
    pub(super) fn take_first(&mut self, event: Event) -> bool {
        let found = self.0 & 0xff == Self::code(event);
        if found {
            self.0 >>= 8;
        }
        found
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<Event> {
        let code = (self.0 & 0xff).checked_sub(1)?;
        self.0 >>= 8;
        EVENTS.get(code as usize).copied()
    }
}
