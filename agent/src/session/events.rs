//! The engine's part of a session's bytes: they are fed to its machine, and what that says is acted on.

use super::engine::Engine;
use super::process::Kind;
use super::state::{Protocol, Session};
use super::thread::Thread;
use crate::protocol::{Direction, Event, Step, TextRef};
use crate::segment::{Segment, TextKind};

/// No machine answers more events than this to one piece of input: a command of a few bytes each in the largest buffer
/// that a server reads. A machine that does is broken, and its session lost.
const EVENTS_MAX: usize = 1 << 20;

impl Engine {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn feed(
        &self,
        t: &mut Thread,
        entry: u32,
        s: &mut Session,
        segment: &Segment<'static>,
        direction: Direction,
        bytes: &[u8],
        stamp_ns: u64,
    ) {
        if s.protocol() == Protocol::Undetected {
            let protocol = detect(self.process.kind(), direction, bytes);
            s.speak(protocol);
        }
        let mut input = bytes;
        for _ in 0..EVENTS_MAX {
            match s.step(direction, &mut input) {
                None | Some(Step::NeedMore) => return,
                // What every query has.
                Some(Step::Event(Event::Started)) => self.start_unit(t, entry, s, segment),
                Some(Step::Event(Event::FirstResponse)) => self.first_response(t, entry, s, stamp_ns),
                Some(step) => {
                    if !self.act(t, entry, s, segment, step, stamp_ns) {
                        return;
                    }
                }
            }
        }
        self.lose(s, segment);
    }

    /// The first response byte of what runs was sent.
    #[inline(always)]
    pub(super) fn first_response(&self, t: &mut Thread, entry: u32, s: &mut Session, stamp_ns: u64) {
        if s.running.first_byte_ns == 0 {
            s.running.first_byte_ns = stamp_ns;
        }
        if t.slice.session == entry {
            t.slice.responded = true;
        }
    }

    /// Acts on a machine's answer; false: there is no more to come from this input.
    pub(super) fn act(
        &self,
        t: &mut Thread,
        entry: u32,
        s: &mut Session,
        segment: &Segment<'static>,
        step: Step,
        stamp_ns: u64,
    ) -> bool {
        let event = match step {
            Step::NeedMore => return false,
            Step::Lost(_) => {
                self.lose(s, segment);
                return false;
            }
            Step::Event(event) => event,
        };
        match event {
            Event::TlsStarts => {
                s.tls = 1;
                return false;
            }
            Event::LoggedIn | Event::IdentityChanged => {
                if event == Event::LoggedIn {
                    s.logged_in = 1;
                    // What went over the wire for that is no query's.
                    (s.bytes_in, s.bytes_out) = (0, 0);
                    // The session's number as the server's own lists have it, so that people can tell which it is.
                    let connection = s.machine().map_or(0, |m| m.identity().connection_id) & 0xffff_ffff;
                    s.uid = s.uid & 0xffff_ffff | connection << 32;
                    self.take_slot(t, s, segment);
                }
                s.identity_hash = 0;
                if s.logged_in != 0 {
                    self.store_identity(s, segment, segment.control().capture());
                }
            }
            Event::Text => {
                if let Some(machine) = s.machine() {
                    let (text, TextRef { hash, .. }) = machine.announced_text();
                    segment.texts().put(hash, TextKind::Statement, text);
                }
            }
            Event::Started => self.start_unit(t, entry, s, segment),
            Event::FirstResponse => {
                if s.running.first_byte_ns == 0 {
                    s.running.first_byte_ns = stamp_ns;
                }
            }
            Event::Finished => {
                let shut = s.running.shut;
                self.finish_unit(t, entry, s, segment, shut);
            }
            Event::NotASession | Event::Streaming => {
                s.running.active = false;
                s.protocol = Protocol::Ignored as u8;
                if let Some(slot) = s.slot {
                    slot.finish();
                }
                return false;
            }
            Event::Quit => {}
        }
        true
    }
}

/// Which protocol the first bytes of a connection are.
///
/// MySQL's server speaks first (a packet with sequence number 0 whose payload is protocol version 0a, or an error ff);
/// PostgreSQL's client does (a length and a version or request code, or a TLS hello).
fn detect(kind: Kind, direction: Direction, bytes: &[u8]) -> Protocol {
    match (direction, bytes) {
        (Direction::ToClient, [_, _, _, 0, 0x0a | 0xff, ..]) if kind != Kind::Postgres => Protocol::MySql,
        (Direction::FromClient, _) if kind == Kind::Postgres => Protocol::Postgres,
        (Direction::FromClient, [0, 0, _, _, 0, 3, 0, _, ..]) if kind == Kind::Any => Protocol::Postgres,
        (Direction::FromClient, [0, 0, 0, _, 0x04, 0xd2, 0x16, _, ..]) if kind == Kind::Any => {
            Protocol::Postgres
        }
        _ => Protocol::Ignored,
    }
}
