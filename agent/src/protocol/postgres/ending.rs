//! The end of an answer, which is looked at alone where that says all: CommandComplete, then ReadyForQuery.
//!
//! A server of version 14 or later [reports](super::Postgres::reports_last) what has changed of the session right before
//! ReadyForQuery. Where CommandComplete stands there, nothing was reported, however long the answer is.

use crate::zeros;

/// The whole of a ReadyForQuery.
const READY_BYTES: usize = 6;
/// The length that a ReadyForQuery says it has.
pub(crate) const READY_LENGTH: u32 = 5;

/// What a SELECT of less than ten rows ends with: its CommandComplete and a ReadyForQuery, but for the length and the status of
/// that. The digit is zero here.
const FEW_SELECTED: [u64; 2] = [u64::from_le_bytes(*b"C\0\0\0\x0dSEL"), u64::from_le_bytes(*b"ECT \0\0Z\0")];
/// Where the digit stands in the second word.
const DIGIT_SHIFT: u32 = 32;

/// True where `bytes` end with CommandComplete and ReadyForQuery.
#[inline(always)]
pub(crate) fn ends_with_a_command(bytes: &[u8]) -> bool {
    few_selected(bytes).is_some() || any_command(bytes)
}

#[inline(never)]
fn any_command(bytes: &[u8]) -> bool {
    command_at_end(bytes).is_some()
}

/// How many rows were selected, where it is less than ten: nearly all answers end so, and it is known from two words.
#[inline(always)]
pub(crate) fn few_selected(bytes: &[u8]) -> Option<u32> {
    let (first, rest) = bytes.last_chunk::<20>()?.split_first_chunk()?;
    let (second, [0, 0, 5, _]) = rest.split_first_chunk()? else { return None };
    let second = u64::from_le_bytes(*second);
    let digit = (second >> DIGIT_SHIFT) as u8;
    let number = digit.wrapping_sub(b'0');
    let words = [u64::from_le_bytes(*first), second ^ u64::from(digit) << DIGIT_SHIFT];
    (words == FEW_SELECTED && number <= 9).then_some(number.into())
}

/// The command tag of the CommandComplete that `bytes` end with, and a ReadyForQuery behind it.
#[inline(always)]
fn command_at_end(bytes: &[u8]) -> Option<&[u8]> {
    let (before, [b'Z', length @ .., _]) = bytes.split_last_chunk::<READY_BYTES>()? else { return None };
    // The last zero before the tag is the third byte of the message's length. In a report the last zeros are those that end its
    // two strings, and before them stands a name.
    let (0, before) = before.split_last()? else { return None };
    let (upper, [lower, tag @ ..]) = before.split_at_checked(last_zero(before)? + 1)? else { return None };
    let is_command = u32::from_be_bytes(*length) == READY_LENGTH
        && upper.last_chunk() == Some(b"C\0\0\0")
        && usize::from(*lower) == 5 + tag.len();
    is_command.then_some(tag)
}

/// Where the last zero is, if it is one of the last sixteen bytes: tags are that short, but for those of a few commands.
#[inline(always)]
fn last_zero(bytes: &[u8]) -> Option<usize> {
    let (before, end) = bytes.split_last_chunk()?;
    zeros::last_zero(end).map(|at| before.len() + at)
}

/// The rows in the answer to one Execute, as its end says, where it is a SELECT's and `bytes` are all of it, from BindComplete on.
/// (A CREATE TABLE AS has the same tag, but sends neither description nor rows.)
#[inline(always)]
pub(super) fn rows_selected(bytes: &[u8]) -> Option<u32> {
    let [b'2', _, _, _, _, b'T' | b'D', ..] = bytes else { return None };
    few_selected(bytes).or_else(|| many_selected(bytes))
}

#[inline(never)]
fn many_selected(bytes: &[u8]) -> Option<u32> {
    let (verb, number) = command_at_end(bytes)?.split_first_chunk::<7>()?;
    if verb != b"SELECT " || number.is_empty() {
        return None;
    }
    let mut rows = 0;
    // There are seven digits at most: see `last_zero`.
    for byte in number {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        rows = rows * 10 + u32::from(digit);
    }
    Some(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: &[u8] = b"2\0\0\0\x04";
    const ROW: &[u8] = b"D\0\0\0\x0b\0\x01\0\0\0\x01\x30";
    const READY: &[u8] = b"Z\0\0\0\x05I";

    fn done(tag: &str) -> std::vec::Vec<u8> {
        [b"C\0\0\0", &[5 + tag.len() as u8][..], tag.as_bytes(), b"\0"].concat()
    }

    #[test]
    fn the_rows_of_a_select_stand_in_its_tag() {
        for (tag, rows) in [
            ("SELECT 1", Some(1)),
            ("SELECT 0", Some(0)),
            ("SELECT 9", Some(9)),
            ("SELECT 10", Some(10)),
            ("SELECT 100", Some(100)),
            ("SELECT 9999999", Some(9_999_999)),
            // As long as that an answer is not one write any more.
            ("SELECT 10000000", None),
        ] {
            let answer = [BOUND, ROW, &done(tag), READY].concat();
            assert_eq!(rows_selected(&answer), rows, "{tag}");
            assert_eq!(ends_with_a_command(&answer), rows.is_some());
        }
    }

    #[test]
    fn an_answer_ends_with_a_command_where_nothing_was_reported_behind_it() {
        for tag in ["SELECT 1", "INSERT 0 1", "BEGIN", "SELECT 1234567"] {
            let done = [BOUND, ROW, ROW, &done(tag)].concat();
            let end = [&done, READY].concat();
            assert!(ends_with_a_command(&end), "{end:?}");
            let command = end.windows(4).rposition(|bytes| bytes == b"C\0\0\0").expect("a message");
            for begin in command + 1..end.len() {
                assert!(!ends_with_a_command(&end[begin..]), "{:?}", &end[begin..]);
            }
            for name in ["", "C", "C\x01", "SELECT 1", "\u{c}SELECT 1"] {
                let report = [b"application_name\0", name.as_bytes(), b"\0"].concat();
                let report = [b"S\0\0\0", &[4 + report.len() as u8][..], &report].concat();
                let reported = [&done[..], &report, READY].concat();
                assert!(!ends_with_a_command(&reported), "{reported:?}");
            }
            for other in [&b"A\0\0\0\x0b\0\0\0\x07c\0\0"[..], b"N\0\0\0\x0dSNOTICE\0\0", b"I\0\0\0\x04"] {
                assert!(!ends_with_a_command(&[&done[..], other, READY].concat()));
            }
        }
    }

    #[test]
    fn no_other_answer_is_taken_for_a_select() {
        let select = done("SELECT 1");
        let report = b"S\0\0\0\x19application_name\0shop\0";
        for answer in [
            [BOUND, &select, READY].concat(),
            [BOUND, b"n\0\0\0\x04", &select, READY].concat(),
            [ROW, &select, READY].concat(),
            [BOUND, ROW, &done("INSERT 0 1"), READY].concat(),
            [BOUND, ROW, &done("SELECT"), READY].concat(),
            [BOUND, ROW, &done("SELECT "), READY].concat(),
            [BOUND, ROW, &done("SELECT 1x"), READY].concat(),
            [BOUND, ROW, &select, report, READY].concat(),
            [BOUND, ROW, &select].concat(),
            [BOUND, ROW, READY].concat(),
            [BOUND, ROW, &select, &READY[..5]].concat(),
            [BOUND, ROW, &select, READY, READY].concat(),
            [BOUND, ROW, &done("SELECT :"), READY].concat(),
            [BOUND, ROW, &done("SELECT \0"), READY].concat(),
            [BOUND, ROW, &select, b"Z\0\0\0\x06I"].concat(),
            b"2\0\0\0\x04D".to_vec(),
            READY.to_vec(),
            std::vec::Vec::new(),
        ] {
            assert_eq!(rows_selected(&answer), None, "{answer:?}");
        }
    }
}
