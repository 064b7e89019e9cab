//! The quiet way of a MySQL session: next to nothing a query while capture is off.
//!
//! With capture off the machine has to see only what changes who the session is or what its prepared statements say.
//! MySQL's servers make that easy to tell: they read a command's header by itself (4 bytes), then its body by itself, all of
//! it at once. So while a machine is at rest between two commands, the session can stand aside: how long a body is stands
//! in the request for it, and the header need not be looked at, but for the one that announces a body which looks like a
//! header. A body that is [`is_plain`] passes together with its answer, as if it had never been. Anything else is fed to the
//! machine, header first.
//!
//! While capture is on a session at rest stands aside too, so that header and body come to the machine, or go the
//! [direct](super::direct) way, in one visit.

use super::arena::Cell;
use core::sync::atomic::Ordering;

/// The machine sees everything.
pub(super) const LOUD: u64 = 0;
/// A unit goes the direct way, and is not answered.
pub(super) const ASKED: u64 = 1;
/// A unit goes the direct way, and is answered.
pub(super) const ANSWERED: u64 = 2;
/// A unit of a MySQL session that goes the direct way is measured: its answer is to be looked at when it was sent.
pub(super) const MEASURED: u64 = 1 << 3;
/// The header of a body that is as long as a header was read: the next read of so many bytes is for the body.
const SHORT_BODY: u64 = 1 << 3;
/// The plain text is at the TLS library: the socket's own bytes are nobody's business.
pub(super) const TLS: u64 = 1 << 4;
/// Capture was on when the session came to rest: where it is off, its thread has to hear of that.
pub(super) const CAPTURING: u64 = 1 << 6;
/// The session stands aside: nothing is to be done before a read.
pub(super) const ASIDE: u64 = 1 << 7;

/// Bytes of a command's header.
pub const HEADER_BYTES: usize = 4;

/// The marks of a session's word.
#[inline(always)]
pub(super) fn marks(tls: bool, capturing: bool) -> u64 {
    (if tls { TLS } else { 0 }) | if capturing { CAPTURING } else { 0 }
}

/// The word of a session that stands aside from now on, its machine at rest; `marks` with the protocol's.
#[inline(always)]
pub(super) fn resting(marks: u64) -> u64 {
    ASIDE | marks
}

/// What to do with bytes that were read while a session stands aside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum After {
    /// Nothing.
    Quiet,
    /// The machine has to be fed the bytes.
    Loud,
    /// The same, behind this header.
    LoudFrom([u8; HEADER_BYTES]),
}

/// True for what nearly every read for a header brings, of which there is nothing to be kept: a header with sequence number
/// 0 that announces more than a header's length.
#[inline(always)]
pub(super) fn is_usual_header(bytes: [u8; HEADER_BYTES]) -> bool {
    u32::from_le_bytes(bytes).wrapping_sub(5) < (1 << 24) - 5
}

/// The same answer as [`passes_while_off`] for commands that say all in their first byte; false of all others.
#[inline(always)]
pub(super) fn passes_at_a_glance(quiet: u64, requested: usize, bytes: &[u8]) -> bool {
    quiet & (CAPTURING | SHORT_BODY) == 0
        && requested != HEADER_BYTES
        && bytes.len() == requested
        && bytes.first().is_some_and(|command| is_plain_command(*command))
}

/// The same answer as [`after_read`]'s for nearly every body, while capture is off: true where it is [`After::Quiet`].
#[inline(always)]
pub(super) fn passes_while_off(quiet: u64, requested: usize, bytes: &[u8]) -> bool {
    quiet & (CAPTURING | SHORT_BODY) == 0
        && requested != HEADER_BYTES
        && bytes.len() == requested
        && is_plain(bytes)
}

/// After a read for at most `requested` bytes that brought `bytes`, while the session's word is `quiet`.
#[inline(always)]
pub(super) fn after_read(cell: &Cell, quiet: u64, requested: usize, bytes: &[u8], capturing: bool) -> After {
    if requested == HEADER_BYTES && quiet & SHORT_BODY == 0 {
        return match bytes {
            [len, 0, 0, 0] => {
                if usize::from(*len) == HEADER_BYTES {
                    cell.quiet.store(quiet | SHORT_BODY, Ordering::Relaxed);
                }
                After::Quiet
            }
            [a, b, c, d] if is_usual_header([*a, *b, *c, *d]) => After::Quiet,
            _ => After::Loud,
        };
    }
    if !capturing && quiet & CAPTURING == 0 && bytes.len() == requested && is_plain(bytes) {
        if quiet & SHORT_BODY != 0 {
            cell.quiet.store(quiet & !SHORT_BODY, Ordering::Relaxed);
        }
        return After::Quiet;
    }
    let [a, b, c, _] = (requested as u32).to_le_bytes();
    After::LoudFrom([a, b, c, 0])
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
        Some((command, _)) => is_plain_command(*command),
        None => false,
    }
}

/// True for COM_STMT_EXECUTE, COM_STMT_FETCH, COM_STMT_RESET and COM_PING.
#[inline(always)]
fn is_plain_command(command: u8) -> bool {
    matches!(command, 0x17 | 0x1c | 0x1a | 0x0e)
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

    /// What a read of the server's own size brings, to a session at rest.
    fn read(cell: &Cell, bytes: &[u8], requested: usize, capturing: bool) -> After {
        let word = cell.quiet.load(Ordering::Relaxed);
        let after = after_read(cell, word, requested, bytes, capturing);
        if !capturing {
            let glance = passes_at_a_glance(word, requested, bytes);
            assert!(!glance || after == After::Quiet, "at a glance it passes: {bytes:?}");
            let look = passes_while_off(word, requested, bytes);
            assert!(!look || after == After::Quiet, "it passes: {bytes:?}");
            assert!(!glance || look);
        }
        after
    }

    fn rest(cell: &Cell, capturing: bool) {
        cell.quiet.store(resting(marks(false, capturing)), Ordering::Relaxed);
        assert!(cell.stands_aside());
    }

    #[test]
    fn a_session_stands_aside_for_plain_commands_and_the_machine_gets_the_others_whole() {
        let cell = cell();
        assert!(!cell.stands_aside());
        rest(cell, false);
        for body in [&b"\x03select 1"[..], b"\x0e", b"\x17\x01\0\0\0"] {
            assert_eq!(read(cell, &[body.len() as u8, 0, 0, 0], 4, false), After::Quiet);
            assert_eq!(read(cell, body, body.len(), false), After::Quiet);
        }
        assert_eq!(read(cell, &[5, 0, 0, 0], 4, false), After::Quiet);
        assert_eq!(read(cell, b"\x02shop", 5, false), After::LoudFrom([5, 0, 0, 0]));
        // The first part of a long one.
        assert_eq!(read(cell, &[0, 0, 1, 0], 4, false), After::Quiet);
        assert_eq!(read(cell, b"\x03insert ", 1 << 16, false), After::LoudFrom([0, 0, 1, 0]));
        // Half a header, or one of something else than a command.
        assert_eq!(read(cell, &[9, 0], 4, false), After::Loud);
        assert_eq!(read(cell, &[9, 0, 0, 3], 4, false), After::Loud);
        assert!(cell.stands_aside());
    }

    #[test]
    fn a_body_as_long_as_a_header_is_not_taken_for_one() {
        let cell = cell();
        for _ in 0..2 {
            rest(cell, false);
            assert_eq!(read(cell, &[4, 0, 0, 0], 4, false), After::Quiet);
            assert_eq!(read(cell, b"\x02dev", 4, false), After::LoudFrom([4, 0, 0, 0]));
            rest(cell, false);
            assert_eq!(read(cell, &[4, 0, 0, 0], 4, false), After::Quiet);
            assert_eq!(read(cell, b"\x1a\x01\0\0", 4, false), After::Quiet);
            assert_eq!(read(cell, &[9, 0, 0, 0], 4, false), After::Quiet);
            assert_eq!(read(cell, b"\x03select 1", 9, false), After::Quiet);
        }
    }

    #[test]
    fn no_body_passes_while_capture_is_on_nor_the_first_one_after_it() {
        let cell = cell();
        for body in [&b"\x03select 1"[..], b"\x03sel"] {
            for before in [false, true] {
                rest(cell, before);
                assert_eq!(read(cell, &[9, 0, 0, 0], 4, true), After::Quiet);
                let after = read(cell, body, 9, true);
                assert_eq!(after, After::LoudFrom([9, 0, 0, 0]), "a plain body too, whole or not");
            }
        }
        rest(cell, true);
        assert_eq!(read(cell, &[9, 0, 0, 0], 4, false), After::Quiet);
        assert_eq!(read(cell, b"\x03select 1", 9, false), After::LoudFrom([9, 0, 0, 0]));
    }
}
