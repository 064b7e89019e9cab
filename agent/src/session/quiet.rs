//! The quiet way of a MySQL session: a few loads and stores a query while capture is off, and a header's while it is on.
//!
//! With capture off the machine has to see only what changes who the session is or what its prepared statements say.
//! MySQL's servers make that easy to tell: they read a command's header by itself (4 bytes), then its body by itself.
//! So while a machine is at rest between two commands, the session can stand aside: a header is kept in one word, and a
//! body that is [`is_plain`] passes together with its response, as if it had never been. Anything else is fed to the
//! machine, header first. When capture is switched on the machine takes over at the next header, still at rest; from then
//! on a header is still kept aside, so that header and body come to the machine, or go the [direct](super::direct) way, in
//! one visit.

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
/// Capture was on when the machine came to rest: the next command is its business, whatever it is.
pub(super) const CAPTURING: u64 = 1 << 6;
const MARKS: u64 = TLS | CAPTURING | ASIDE;

/// The session stands aside: nothing is to be done before a read.
pub(super) const ASIDE: u64 = 1 << 7;
/// A unit goes the direct way, and is not answered.
pub(super) const ASKED: u64 = 4;
/// A unit goes the direct way, and is answered.
pub(super) const ANSWERED: u64 = 5;

/// Bytes of a command's header.
pub(super) const HEADER_BYTES: usize = 4;

/// The marks of a session's word.
#[inline(always)]
pub(super) fn marks(tls: bool, capturing: bool) -> u64 {
    (if tls { TLS } else { 0 }) | if capturing { CAPTURING } else { 0 }
}

/// The word of a session that stands aside from now on; its machine is at rest.
#[inline(always)]
pub(super) fn resting(marks: u64) -> u64 {
    RESTING | ASIDE | marks
}

/// The same of any protocol, of which `protocol` is the mark.
#[inline(always)]
pub(super) fn resting_like(protocol: u64, marks: u64) -> u64 {
    if protocol == 0 { resting(marks) } else { protocol | ASIDE | marks }
}

/// What to do with bytes that were read while a session stands aside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum After {
    /// Nothing.
    Quiet,
    /// The session is loud again, and its machine has to be fed the bytes.
    Loud,
    /// The same, behind this header.
    LoudFrom([u8; HEADER_BYTES]),
}

/// After a read for at most `requested` bytes that brought `bytes`, while the session's word is `quiet`.
#[inline(always)]
pub(super) fn after_read(
    cell: &Cell,
    quiet: u64,
    requested: usize,
    bytes: &[u8],
    capturing: impl FnOnce() -> bool,
) -> After {
    let marks = quiet & MARKS;
    match quiet & STATE_MASK {
        HEADER => {
            let len = (quiet >> 32) as u32;
            if marks & CAPTURING == 0 && bytes.len() == len as usize && is_plain(bytes) {
                cell.quiet.store(ANSWERING | marks, Ordering::Relaxed);
                return After::Quiet;
            }
            cell.quiet.store(LOUD, Ordering::Relaxed);
            let [a, b, c, _] = len.to_le_bytes();
            After::LoudFrom([a, b, c, 0])
        }
        // A server that reads anything but a header now reads no command.
        ANSWERING if requested != HEADER_BYTES => After::Quiet,
        RESTING | ANSWERING => {
            // A new command's header, whole, of a command in one packet; capture as it was.
            if let [a, b, c, 0] = bytes
                && *c == 0
                && capturing() == (marks & CAPTURING != 0)
            {
                let header = u32::from_le_bytes([*a, *b, *c, 0]) as u64;
                cell.quiet.store(HEADER | marks | header << 32, Ordering::Relaxed);
                return After::Quiet;
            }
            cell.quiet.store(LOUD, Ordering::Relaxed);
            After::Loud
        }
        // Not aside any more: another thread was at the socket meanwhile.
        _ => After::Quiet,
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

    fn cell() -> &'static Cell {
        static ARENA: Arena = Arena::new();
        ARENA.cell(ARENA.open(5, 1, b"local").unwrap().0).unwrap()
    }

    /// What a read of the server's own size brings.
    fn read(cell: &Cell, bytes: &[u8], capturing: bool) -> After {
        let quiet = cell.quiet.load(Ordering::Relaxed);
        let requested = if quiet & STATE_MASK == HEADER { bytes.len() } else { HEADER_BYTES };
        after_read(cell, quiet, requested, bytes, || capturing)
    }

    fn rest(cell: &Cell, capturing: bool) {
        cell.quiet.store(resting(marks(false, capturing)), Ordering::Relaxed);
        assert!(cell.stands_aside());
    }

    #[test]
    fn a_session_stands_aside_for_plain_commands_and_comes_back_whole() {
        let cell = cell();
        assert!(!cell.stands_aside());
        rest(cell, false);
        for _ in 0..3 {
            assert_eq!(read(cell, &[9, 0, 0, 0], false), After::Quiet);
            assert_eq!(read(cell, b"\x03select 1", false), After::Quiet);
            assert!(cell.stands_aside());
        }
        // Something that is no command, in the middle of an answer.
        let quiet = cell.quiet.load(Ordering::Relaxed);
        assert_eq!(after_read(cell, quiet, 16, b"file", || false), After::Quiet);
        assert!(cell.stands_aside());
        // A command that matters: the machine gets its header too.
        assert_eq!(read(cell, &[5, 0, 0, 0], false), After::Quiet);
        assert_eq!(read(cell, b"\x02shop", false), After::LoudFrom([5, 0, 0, 0]));
        assert!(!cell.stands_aside());
        // Half a header, or a packet of more than 64 KiB: the machine's business.
        rest(cell, false);
        assert_eq!(read(cell, &[9, 0], false), After::Loud);
        rest(cell, false);
        assert_eq!(read(cell, &[0, 0, 1, 0], false), After::Loud);
        assert!(!cell.stands_aside());
    }

    #[test]
    fn the_command_whose_header_was_waited_for_when_capture_was_switched_on_is_the_first() {
        let cell = cell();
        rest(cell, false);
        assert_eq!(read(cell, &[9, 0, 0, 0], false), After::Quiet);
        assert_eq!(read(cell, b"\x03select 1", false), After::Quiet);
        assert_eq!(read(cell, &[9, 0, 0, 0], true), After::Loud, "not before: the answer had begun");
        assert!(!cell.stands_aside());
    }

    #[test]
    fn while_capture_is_on_only_the_header_is_kept_aside() {
        let cell = cell();
        for body in [&b"\x03select 1"[..], b"\x03sel"] {
            rest(cell, true);
            assert_eq!(read(cell, &[9, 0, 0, 0], true), After::Quiet);
            let after = read(cell, body, true);
            assert_eq!(after, After::LoudFrom([9, 0, 0, 0]), "a plain body too, whole or not");
            assert!(!cell.stands_aside());
        }
        // Switched off, or on, while the machine rests: it is told at the next header.
        rest(cell, true);
        assert_eq!(read(cell, &[9, 0, 0, 0], false), After::Loud);
        rest(cell, false);
        assert_eq!(read(cell, &[9, 0, 0, 0], true), After::Loud);
    }
}
