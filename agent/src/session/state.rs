//! What is kept of a session, and the way to its machine without a detour through a table of functions.
//!
//! # Safety
//!
//! `unsafe` is used to reach the machine that was written when the session's protocol was chosen.
#![allow(unsafe_code)]

use super::unit::Running;
use crate::protocol::mysql::{Framing, Mysql};
use crate::protocol::postgres::Postgres;
use crate::protocol::{Dialect, Direction, Machine, Step, Unit};
use crate::segment::SessionSlot;
use crate::segment::ring::Slot;
use crate::strings::Bytes;
use core::mem::MaybeUninit;

/// Which machine reads a session's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Protocol {
    /// No byte was seen yet.
    Undetected = 0,
    /// [`Mysql`].
    MySql = 1,
    /// [`Postgres`].
    Postgres = 2,
    /// Not followed: another protocol, a replication stream, lost, not a session.
    Ignored = 3,
}

/// One session. In the order of use: what every query touches is in the first few cache lines, the machine's too.
#[repr(C)]
pub struct Session {
    /// Its unique number in the segment.
    pub uid: u64,
    /// Which machine.
    pub(super) protocol: u8,
    /// 1: the plain text is at the TLS library.
    pub(super) tls: u8,
    /// 1: the client is logged in.
    pub(super) logged_in: u8,
    /// 1: a thread pool's poller watches the descriptor.
    pub(super) pooled: u8,
    /// How a MySQL session that has stood aside frames what it sends.
    pub(super) framing: Framing,
    /// Whose grammar the statements of a session that has stood aside follow.
    pub(super) dialect: Dialect,
    /// Its slot in the segment.
    pub(super) slot: Option<SessionSlot<'static>>,
    /// The stored text that the slot shows or showed last; 0: another one.
    pub(super) shown_hash: u64,
    /// Name of the identity in the text store; 0: not stored in this generation.
    pub(super) identity_hash: u64,
    /// The capture generation in which the identity was stored last.
    pub(super) identity_generation: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) running: Running,
    /// Where the record of the unit that goes the direct way was begun.
    pub(super) room: Option<Slot<'static>>,
    /// Its descriptor.
    pub fd: i32,
    /// The TLS connection, 0: none.
    pub(super) ssl: usize,
    machines_made: u8,
    mysql: MaybeUninit<Mysql>,
    postgres: MaybeUninit<Postgres>,
    pub(super) evicted: u64,
    pub(super) client: Bytes<64>,
}

impl Session {
    /// Becomes a new session.
    pub(super) fn open(&mut self, fd: i32, uid: u64, client: &[u8]) {
        self.fd = fd;
        self.uid = uid;
        self.slot = None;
        self.room = None;
        self.shown_hash = 0;
        self.protocol = Protocol::Undetected as u8;
        self.tls = 0;
        self.logged_in = 0;
        self.pooled = 0;
        self.ssl = 0;
        self.identity_hash = 0;
        self.identity_generation = 0;
        self.evicted = 0;
        self.client.set(client);
        self.running = Running::default();
        self.bytes_in = 0;
        self.bytes_out = 0;
    }

    /// True where who the session is has been stored in this capture.
    #[inline(always)]
    pub(super) fn is_identified_in(&self, generation: u64) -> bool {
        self.identity_hash != 0 && self.identity_generation == generation
    }

    /// What the direct way has to know of the machine.
    pub(super) fn remember_style(&mut self) {
        self.dialect = self.dialect();
        if let Some(machine) = self.mysql() {
            self.framing = machine.framing();
        }
    }

    /// Chooses the machine, in its initial state.
    pub(super) fn speak(&mut self, protocol: Protocol) {
        self.protocol = protocol as u8;
        let made = self.machines_made;
        match protocol {
            Protocol::MySql if made & 1 == 0 => {
                self.mysql.write(Mysql::new());
                self.machines_made |= 1;
            }
            Protocol::Postgres if made & 2 == 0 => {
                self.postgres.write(Postgres::new());
                self.machines_made |= 2;
            }
            // SAFETY: the bit says that it was written.
            Protocol::MySql => unsafe { self.mysql.assume_init_mut() }.reset(),
            // SAFETY: the bit says that it was written.
            Protocol::Postgres => unsafe { self.postgres.assume_init_mut() }.reset(),
            _ => {}
        }
    }

    /// Which machine.
    #[inline(always)]
    pub fn protocol(&self) -> Protocol {
        match self.protocol {
            1 => Protocol::MySql,
            2 => Protocol::Postgres,
            3 => Protocol::Ignored,
            _ => Protocol::Undetected,
        }
    }

    /// The machine, if there is one.
    #[inline]
    pub(super) fn machine(&mut self) -> Option<&mut dyn Machine> {
        match self.protocol() {
            // SAFETY: `speak` wrote the machine before it set the protocol.
            Protocol::MySql => Some(unsafe { self.mysql.assume_init_mut() }),
            // SAFETY: as above.
            Protocol::Postgres => Some(unsafe { self.postgres.assume_init_mut() }),
            _ => None,
        }
    }

    /// The machine's answer to bytes that went in `direction`; `None` without a machine.
    #[inline(always)]
    pub(super) fn step(&mut self, direction: Direction, input: &mut &[u8]) -> Option<Step> {
        match self.protocol() {
            // SAFETY: `speak` wrote the machine before it set the protocol.
            Protocol::MySql => Some(unsafe { self.mysql.assume_init_mut() }.step(direction, input)),
            // SAFETY: as above.
            Protocol::Postgres => Some(unsafe { self.postgres.assume_init_mut() }.step(direction, input)),
            _ => None,
        }
    }

    /// Whose grammar, and the unit that runs or ran last; `None` without a machine.
    #[inline(always)]
    pub(super) fn unit(&self) -> Option<(Dialect, Unit<'_>)> {
        match self.protocol() {
            Protocol::MySql => {
                // SAFETY: `speak` wrote the machine before it set the protocol.
                let machine = unsafe { self.mysql.assume_init_ref() };
                Some((machine.dialect(), machine.unit()))
            }
            Protocol::Postgres => {
                // SAFETY: as above.
                let machine = unsafe { self.postgres.assume_init_ref() };
                Some((machine.dialect(), machine.unit()))
            }
            _ => None,
        }
    }

    /// The MySQL machine, where that is the session's.
    #[inline(always)]
    pub(super) fn mysql(&mut self) -> Option<&mut Mysql> {
        // SAFETY: `speak` wrote the machine before it set the protocol.
        (self.protocol() == Protocol::MySql).then(|| unsafe { self.mysql.assume_init_mut() })
    }

    /// True when the MySQL machine, at rest, took a whole command that starts a unit; see [`Mysql::whole_command`].
    #[inline(always)]
    pub(super) fn whole_command(&mut self, header: [u8; 4], body: &[u8], capturing: bool) -> bool {
        self.mysql().is_some_and(|machine| machine.whole_command(header, body, capturing))
    }

    /// The machine's answer to a read of at most `requested` bytes; `None` without a machine.
    #[inline(always)]
    pub(super) fn read_entered(&mut self, requested: usize, capturing: bool) -> Option<Step> {
        match self.protocol() {
            Protocol::MySql => {
                // SAFETY: `speak` wrote the machine before it set the protocol.
                let machine = unsafe { self.mysql.assume_init_mut() };
                machine.set_capturing(capturing);
                Some(machine.read_entered(requested))
            }
            Protocol::Postgres => {
                // SAFETY: as above.
                let machine = unsafe { self.postgres.assume_init_mut() };
                machine.set_capturing(capturing);
                Some(machine.read_entered(requested))
            }
            _ => None,
        }
    }

    /// True when the machine is between two commands of a protocol whose sessions can stand aside.
    #[inline(always)]
    pub(super) fn can_rest(&self) -> bool {
        match self.protocol() {
            // SAFETY: `speak` wrote the machine before it set the protocol.
            Protocol::MySql => unsafe { self.mysql.assume_init_ref() }.is_at_rest(),
            // SAFETY: as above.
            Protocol::Postgres => unsafe { self.postgres.assume_init_ref() }.is_at_rest(),
            _ => false,
        }
    }

    /// The machine of a PostgreSQL session.
    #[inline(always)]
    pub(super) fn postgres(&mut self) -> Option<&mut Postgres> {
        // SAFETY: `speak` wrote the machine before it set the protocol.
        (self.protocol() == Protocol::Postgres).then(|| unsafe { self.postgres.assume_init_mut() })
    }

    /// Whose grammar.
    pub fn dialect(&mut self) -> Dialect {
        self.machine().map_or(Dialect::Unknown, |m| m.dialect())
    }
}
