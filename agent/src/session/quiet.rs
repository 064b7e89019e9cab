//! The quiet way of a MySQL session: a few loads and stores a query while capture is off, and a header's while it is on.
//!
//! With capture off the machine has to see only what changes who the session is or what its prepared statements say.
//! MySQL's servers make that easy to tell: they read a command's header by itself (4 bytes), then its body by itself.
//! So while a machine is at rest between two commands, the session can stand aside: a header is kept in one word, and a
//! body that is [`is_plain`] passes together with its response, as if it had never been. Anything else is fed to the
//! machine, header first. When capture is switched on the machine takes over at the next header or body, still at rest;
//! from then on a header is still kept aside, so that header and body come to the machine in one visit.

use super::arena::Cell;
use core::sync::atomic::Ordering;

/// The machine sees everything.
pub(super) const LOUD: u64 = 0;
/// The machine is at rest; the next read is for a header.
const RESTING: u64 = 1;
/// A header was read; it is in the upper half.
const HEADER: u64 = 2;
/// A plain command is being answered.
const ANSWERING: u64 = 3;
const STATE_MASK: u64 = 0xf;
/// The plain text is at the TLS library: the socket's own bytes are nobody's business.
pub(super) const TLS: u64 = 1 << 4;

/// Capture was on when the machine came to rest, or before the body was read: that is its business, whatever it is.
const CAPTURING: u64 = 1 << 6;
const MARKS: u64 = TLS | CAPTURING;

/// Bytes of a command's header.
pub(super) const HEADER_BYTES: usize = 4;

/// What to do with a read or write of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// The ordinary way, through the machine.
    Loud,
    /// Nothing before the call; [`after_read`] after it.
    Quiet,
    /// Nothing at all.
    Pass,
}

/// Lets the session stand aside from now on; its machine is at rest.
#[inline]
pub(super) fn rest(cell: &Cell, tls: bool, capturing: bool) {
    let marks = if tls { TLS } else { 0 } | if capturing { CAPTURING } else { 0 };
    cell.quiet.store(RESTING | marks, Ordering::Relaxed);
}

/// Before a read of `requested` bytes from the socket (`at_tls` false) or the TLS library.
#[inline]
pub(super) fn before_read(cell: &Cell, requested: usize, capturing: bool, at_tls: bool) -> Way {
    // Relaxed: a session is handed from thread to thread by the server's own synchronisation.
    let quiet = cell.quiet.load(Ordering::Relaxed);
    if quiet == LOUD {
        return Way::Loud;
    }
    if (quiet & TLS != 0) != at_tls {
        return Way::Pass;
    }
    let state = quiet & STATE_MASK;
    if state == HEADER {
        if capturing && quiet & CAPTURING == 0 {
            // Capture was switched on while the server waited for the header: this command is the first to be captured.
            cell.quiet.store(quiet | CAPTURING, Ordering::Relaxed);
        }
    } else if requested == HEADER_BYTES {
        if capturing != (quiet & CAPTURING != 0) {
            // Capture was switched on or off: the machine has to hear of it.
            cell.quiet.store(LOUD, Ordering::Relaxed);
            return Way::Loud;
        }
        if state == ANSWERING {
            cell.quiet.store(RESTING | quiet & MARKS, Ordering::Relaxed);
        }
    }
    Way::Quiet
}

/// After a read that brought `bytes`: `Some(header)`: the session is loud again, and the machine has to be fed the header
/// (where there is one) and then the bytes.
#[inline(always)]
pub(super) fn after_read(cell: &Cell, bytes: &[u8]) -> Option<Option<[u8; HEADER_BYTES]>> {
    let quiet = cell.quiet.load(Ordering::Relaxed);
    let marks = quiet & MARKS;
    match quiet & STATE_MASK {
        RESTING => {
            // A new command's header, whole, of a command in one packet.
            if let [a, b, c, 0] = bytes
                && *c == 0
            {
                let header = u32::from_le_bytes([*a, *b, *c, 0]) as u64;
                cell.quiet.store(HEADER | marks | header << 32, Ordering::Relaxed);
                return None;
            }
            cell.quiet.store(LOUD, Ordering::Relaxed);
            Some(None)
        }
        HEADER => {
            let len = (quiet >> 32) as u32;
            if marks & CAPTURING == 0 && bytes.len() == len as usize && is_plain(bytes) {
                cell.quiet.store(ANSWERING | marks, Ordering::Relaxed);
                return None;
            }
            cell.quiet.store(LOUD, Ordering::Relaxed);
            let [a, b, c, _] = len.to_le_bytes();
            Some(Some([a, b, c, 0]))
        }
        _ => None,
    }
}

/// Statements that change neither the session's database nor its statements, and read no client's file.
const PLAIN_VERBS: [u64; 7] = [
    verb(b"select"),
    verb(b"insert"),
    verb(b"update"),
    verb(b"delete"),
    verb(b"commit"),
    verb(b"replac"),
    verb(b"rollba"),
];

/// Six letters as a number.
const fn verb(letters: &[u8; 6]) -> u64 {
    let [a, b, c, d, e, f] = *letters;
    u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
}

/// Makes small letters of capital ones; what else it makes letters of is in no command.
const LOWER: u64 = verb(&[0x20; 6]);

/// True when `byte` is in `text`, eight bytes a look: texts are long, and this is the dearest thing done to them.
#[inline]
fn contains(text: &[u8], byte: u8) -> bool {
    const LOW: u64 = u64::MAX / 255;
    const HIGH: u64 = LOW << 7;
    let wanted = LOW * byte as u64;
    let (chunks, rest) = text.as_chunks::<8>();
    let mut found = 0;
    for chunk in chunks {
        // A byte that is equal becomes zero, and a zero byte borrows into its own highest bit.
        let differ = u64::from_le_bytes(*chunk) ^ wanted;
        found |= differ.wrapping_sub(LOW) & !differ & HIGH;
    }
    found != 0 || rest.contains(&byte)
}

/// True for a command body after which user, database and prepared statements are what they were before.
#[inline(always)]
fn is_plain(body: &[u8]) -> bool {
    match body.split_first() {
        // COM_QUERY. A second statement in the text could be anything.
        Some((0x03, text)) => {
            let Some((verb, rest)) = text.split_first_chunk::<6>() else { return false };
            PLAIN_VERBS.contains(&(self::verb(verb) | LOWER)) && !contains(rest, b';')
        }
        // COM_STMT_EXECUTE, COM_STMT_FETCH, COM_STMT_RESET, COM_PING.
        Some((0x17 | 0x1c | 0x1a | 0x0e, _)) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::arena::Arena;

    #[test]
    fn only_commands_that_change_nothing_pass() {
        for plain in [&b"\x03select 1"[..], b"\x03INSERT INTO t VALUES (1)", b"\x17\x01\0\0\0", b"\x0e"] {
            assert!(is_plain(plain), "{plain:?}");
        }
        for other in [
            &b"\x03use shop"[..],
            b"\x02shop",
            b"\x03select 1; use shop",
            b"\x16select ?",
            b"\x19\x01\0\0\0",
            b"\x11root",
            b"\x03LOAD DATA LOCAL INFILE 'x' INTO TABLE t",
            b"\x03/* */ use x",
            b"\x1f",
            b"\x01",
            b"\x03call p()",
            b"",
            b"\x03\0\x01select 1",
            b"\x03select 1234567890123456789 ;",
            b"\x03select ;234567890123456789",
        ] {
            assert!(!is_plain(other), "{other:?}");
        }
    }

    #[test]
    fn a_session_stands_aside_for_plain_commands_and_comes_back_whole() {
        static ARENA: Arena = Arena::new();
        let (n, _) = ARENA.open(5, 1, b"local").unwrap();
        let cell = ARENA.cell(n).unwrap();
        assert_eq!(before_read(cell, 4, false, false), Way::Loud);
        rest(cell, false, false);
        for _ in 0..3 {
            assert_eq!(before_read(cell, 4, false, false), Way::Quiet);
            assert_eq!(after_read(cell, &[9, 0, 0, 0]), None);
            assert_eq!(before_read(cell, 9, false, false), Way::Quiet);
            assert_eq!(after_read(cell, b"\x03select 1"), None);
            assert!(cell.stands_aside());
        }
        // A command that matters: the machine gets its header too.
        assert_eq!(before_read(cell, 4, false, false), Way::Quiet);
        assert_eq!(after_read(cell, &[5, 0, 0, 0]), None);
        assert_eq!(before_read(cell, 5, false, false), Way::Quiet);
        assert_eq!(after_read(cell, b"\x02shop"), Some(Some([5, 0, 0, 0])));
        assert!(!cell.stands_aside());
        // Half a header, or a packet of more than 64 KiB: the machine's business.
        rest(cell, false, false);
        assert_eq!(after_read(cell, &[9, 0]), Some(None));
        rest(cell, false, false);
        assert_eq!(after_read(cell, &[0, 0, 1, 0]), Some(None));
        // Capture is switched on while a command runs: loud at the next header, not before.
        rest(cell, true, false);
        assert_eq!(before_read(cell, 4, false, false), Way::Pass, "cipher text");
        assert_eq!(before_read(cell, 4, false, true), Way::Quiet);
        assert_eq!(after_read(cell, &[9, 0, 0, 0]), None);
        assert_eq!(before_read(cell, 9, false, true), Way::Quiet);
        assert_eq!(after_read(cell, b"\x03select 1"), None);
        assert_eq!(before_read(cell, 4, true, true), Way::Loud);
        assert!(!cell.stands_aside());
    }

    #[test]
    fn the_command_whose_header_was_waited_for_when_capture_was_switched_on_is_the_first() {
        static ARENA: Arena = Arena::new();
        let (n, _) = ARENA.open(5, 1, b"local").unwrap();
        let cell = ARENA.cell(n).unwrap();
        rest(cell, false, false);
        assert_eq!(before_read(cell, 4, false, false), Way::Quiet, "it waits in this read");
        assert_eq!(after_read(cell, &[9, 0, 0, 0]), None);
        assert_eq!(before_read(cell, 9, true, false), Way::Quiet);
        assert_eq!(after_read(cell, b"\x03select 1"), Some(Some([9, 0, 0, 0])));
        assert!(!cell.stands_aside());
    }

    #[test]
    fn while_capture_is_on_only_the_header_is_kept_aside() {
        static ARENA: Arena = Arena::new();
        let (n, _) = ARENA.open(5, 1, b"local").unwrap();
        let cell = ARENA.cell(n).unwrap();
        rest(cell, false, true);
        for body in [&b"\x03select 1"[..], b"\x03sel"] {
            rest(cell, false, true);
            assert_eq!(before_read(cell, 4, true, false), Way::Quiet);
            assert_eq!(after_read(cell, &[9, 0, 0, 0]), None);
            assert_eq!(before_read(cell, 9, true, false), Way::Quiet);
            assert_eq!(after_read(cell, body), Some(Some([9, 0, 0, 0])), "a plain body too, whole or not");
            assert!(!cell.stands_aside());
        }
        // Switched off, or on, while the machine rests: it is told at the next header.
        rest(cell, false, true);
        assert_eq!(before_read(cell, 4, false, false), Way::Loud);
        rest(cell, false, false);
        assert_eq!(before_read(cell, 4, true, false), Way::Loud);
    }
}
