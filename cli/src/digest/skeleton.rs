//! A statement without its literals, found in one pass over its bytes: the key under which a digest is remembered, so
//! that a text that differs from a known one in its literals only is not tokenised.
//!
//! The promise: two texts with the same skeleton (and dialect) have the same normalised text. So only what is certain is
//! left out: runs of digits that are a number of their own, and strings in single quotes. At anything that needs a real
//! tokenizer to be sure (comments, backslashes, dollar quotes, prefixed strings, non-ASCII) the answer is "none".

use perquery_agent::protocol::Dialect;

/// Stands for a number; no statement contains it, because control characters have no skeleton.
const NUMBER: u8 = 1;
/// Stands for a string.
const STRING: u8 = 2;

/// Writes the skeleton of `text` into `to`; false: it has none.
pub fn skeleton(dialect: Dialect, text: &[u8], to: &mut Vec<u8>) -> bool {
    to.clear();
    let double_quotes_are_strings = matches!(dialect, Dialect::MySql | Dialect::MariaDb | Dialect::Unknown);
    let mut rest = text;
    let mut last = b' ';
    while let Some((&byte, after)) = rest.split_first() {
        match byte {
            b'0'..=b'9' if !is_word(last) && last != b'.' => {
                let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
                let Some(after) = rest.get(digits..) else { return false };
                // 1e5, 0x1f, 1.5, 12abc: the tokenizer's business.
                if after.first().is_some_and(|b| is_word(*b) || *b == b'.') {
                    return false;
                }
                to.push(NUMBER);
                last = b'0';
                rest = after;
                continue;
            }
            b'\'' => {
                // N'…', x'…', E'…', _utf8'…': the prefix decides what the quotes mean.
                if is_word(last) || last == b'\'' {
                    return false;
                }
                let Some(after) = string(after) else { return false };
                to.push(STRING);
                last = b'\'';
                rest = after;
                continue;
            }
            b'"' if double_quotes_are_strings => return false,
            b'"' | b'`' => {
                let Some(end) = after.iter().position(|b| *b == byte) else { return false };
                let Some((name, after)) = after.split_at_checked(end + 1) else { return false };
                if name.iter().any(|b| *b < b' ' || !b.is_ascii()) || after.first() == Some(&byte) {
                    return false;
                }
                to.push(byte);
                to.extend_from_slice(name);
                last = byte;
                rest = after;
                continue;
            }
            b'-' if last == b'-' => return false,
            b'*' if last == b'/' => return false,
            b'#' | b'\\' | b'$' | b'[' | b'{' | b'@' => return false,
            b'\t' | b'\n' | b'\r' => to.push(b' '),
            0..=0x1f | 0x7f.. => return false,
            _ => to.push(byte),
        }
        last = byte;
        rest = after;
    }
    true
}

/// What follows a string whose opening quote was taken; `None` where it has no certain end.
fn string(text: &[u8]) -> Option<&[u8]> {
    let end = text.iter().position(|b| matches!(b, b'\'' | b'\\' | 0) || !b.is_ascii())?;
    if text.get(end) != Some(&b'\'') {
        return None;
    }
    let after = text.get(end + 1..)?;
    // '' inside a string, or two strings side by side.
    if after.first() == Some(&b'\'') { None } else { Some(after) }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::normalized;
    use std::collections::HashMap;

    fn of(text: &str) -> Option<Vec<u8>> {
        let mut to = Vec::new();
        skeleton(Dialect::MariaDb, text.as_bytes(), &mut to).then_some(to)
    }

    #[test]
    fn texts_that_differ_in_plain_literals_have_one_skeleton() {
        assert_eq!(of("SELECT c FROM t WHERE id = 17"), of("SELECT c FROM t WHERE id = 4711"));
        assert_eq!(of("INSERT INTO t VALUES ('a', 1)"), of("INSERT INTO t VALUES ('bcd efg', 2)"));
        assert_ne!(of("SELECT c1 FROM t"), of("SELECT c2 FROM t"));
        assert_ne!(of("SELECT 1"), of("SELECT '1'"));
    }

    #[test]
    fn doubtful_texts_have_none() {
        for text in [
            "SELECT 0x1F",
            "SELECT 1.5",
            "SELECT 1e5",
            "SELECT x'1F'",
            "SELECT 'it''s'",
            "SELECT 'a\\'b'",
            "SELECT \"a\"",
            "SELECT 1 -- a",
            "SELECT /* a */ 1",
            "SELECT 1 # a",
            "SELECT 'ä'",
            "SELECT 'open",
            "SELECT @a",
            "SELECT $1",
            "SELECT 'a' 'b",
            "SELECT \0",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn the_same_skeleton_means_the_same_normalised_text() {
        let pieces = [
            "SELECT",
            " ",
            "a",
            "1",
            "'x'",
            "-",
            "(",
            ")",
            ",",
            "=",
            " IN ",
            "'",
            "23",
            ".",
            "e",
            "t",
            "+",
            " VALUES ",
            "\"",
            "`",
            " NULL",
            ";",
            " LIMIT ",
            "/",
            "*",
            " password ",
            "_",
            "\n",
        ];
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut next = |n: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 33) as usize % n
        };
        let mut same = 0;
        for dialect in [Dialect::MariaDb, Dialect::Postgres, Dialect::Sqlite] {
            let mut seen: HashMap<Vec<u8>, (String, String)> = HashMap::new();
            for _ in 0..60_000 {
                let text: String = (0..1 + next(6)).map(|_| pieces[next(pieces.len())]).collect();
                let mut key = Vec::new();
                if !skeleton(dialect, text.as_bytes(), &mut key) {
                    continue;
                }
                let normal = normalized(dialect, text.as_bytes(), text.len());
                if let Some((first, expected)) = seen.get(&key) {
                    same += usize::from(*first != text);
                    assert_eq!(*expected, normal, "{dialect:?}: {first:?} and {text:?}");
                } else {
                    seen.insert(key, (text, normal));
                }
            }
        }
        assert!(same > 1000, "only {same} pairs were compared");
    }
}
