//! Recognises `USE name`, the one statement whose text changes what a session is.

/// True when a text that begins with `first` may be a USE statement: a letter, white space, a comment.
pub(super) fn may_begin(first: u8) -> bool {
    // Not as a match, of which the compiler makes a table: one cache line less.
    const BELOW_64: u64 = 1 << b'/' | 1 << b'-' | 1 << b'#' | 1 << b';' | BLANKS;
    const BLANKS: u64 = 1 << b' ' | 1 << b'\t' | 1 << b'\n' | 1 << b'\r' | 1 << 0x0c;
    first | 0x20 == b'u' || (first < 64 && BELOW_64 >> first & 1 != 0)
}

/// The database a USE statement names, as written between the quotes. `cut`: the text went on beyond these bytes.
///
/// `None` for all other statements, for executable comments (`/*! … */`), and when the name's end is not in sight. A
/// statement that follows after a semicolon is not looked at.
pub(super) fn database_of(text: &[u8], cut: bool) -> Option<Name<'_>> {
    let rest = skip_blank(text)?;
    let (word, rest) = rest.split_at_checked(3)?;
    if !word.eq_ignore_ascii_case(b"use") {
        return None;
    }
    let after = skip_blank(rest)?;
    let (name, tail) = match after.split_first()? {
        (quote @ (b'`' | b'"'), quoted) => {
            let end = quoted_end(quoted, *quote)?;
            let (name, tail) = quoted.split_at_checked(end)?;
            (Name { text: name, quote: Some(*quote) }, tail.split_first()?.1)
        }
        _ => {
            // A name without quotes must stand apart from the keyword.
            if after.len() == rest.len() {
                return None;
            }
            let end = after.iter().position(|b| !is_name_byte(*b));
            if end.is_none() && cut {
                return None;
            }
            let (name, tail) = after.split_at_checked(end.unwrap_or(after.len()))?;
            (Name { text: name, quote: None }, tail)
        }
    };
    if name.text.is_empty() {
        return None;
    }
    match skip_blank(tail) {
        Some([] | [b';' | 0, ..]) => Some(name),
        _ => None,
    }
}

/// A name, perhaps with doubled quotes in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name<'a> {
    text: &'a [u8],
    quote: Option<u8>,
}

impl<'a> Name<'a> {
    /// The name's bytes in pieces, quotes undoubled.
    pub(super) fn pieces(self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self.text;
        core::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let quote = self.quote.and_then(|quote| rest.iter().position(|b| *b == quote));
            let (piece, tail) = rest.split_at_checked(quote.map_or(rest.len(), |at| at + 1))?;
            rest = if quote.is_some() { tail.get(1..).unwrap_or(&[]) } else { tail };
            Some(piece)
        })
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80
}

/// The position of the closing quote.
fn quoted_end(text: &[u8], quote: u8) -> Option<usize> {
    let mut at = 0;
    loop {
        at += text.get(at..)?.iter().position(|b| *b == quote)?;
        if text.get(at + 1) != Some(&quote) {
            return Some(at);
        }
        at += 2;
    }
}

/// Skips white space and comments; `None` for an executable or unfinished comment.
fn skip_blank(mut text: &[u8]) -> Option<&[u8]> {
    loop {
        text = text.trim_ascii_start();
        text = match text {
            [b'/', b'*', b'!', ..] | [b'/', b'*', b'M', b'!', ..] => return None,
            [b'/', b'*', rest @ ..] => {
                let end = rest.windows(2).position(|w| w == b"*/")?;
                rest.get(end + 2..)?
            }
            [b'#', rest @ ..] => after_line(rest),
            [b'-', b'-', rest @ ..] if rest.first().is_none_or(|b| b.is_ascii_whitespace()) => {
                after_line(rest)
            }
            _ => return Some(text),
        };
    }
}

fn after_line(text: &[u8]) -> &[u8] {
    text.iter().position(|b| *b == b'\n').and_then(|at| text.get(at + 1..)).unwrap_or(&[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn name(text: &str) -> Option<Vec<u8>> {
        database_of(text.as_bytes(), false).map(|n| n.pieces().flatten().copied().collect())
    }

    #[test]
    fn use_statements_are_recognised_however_they_are_written() {
        for text in [
            "use shop",
            "USE shop;",
            "  \n\tUse\tshop ; ",
            "use`shop`",
            "/* app=x */ use /* y */ `shop` -- done",
            "# first\nuse shop",
            "-- first\nuse \"shop\"",
            "use shop; select 1",
            "use/**/shop",
        ] {
            assert_eq!(name(text).as_deref(), Some(&b"shop"[..]), "{text}");
        }
        assert_eq!(name("use `a``b`").as_deref(), Some(&b"a`b"[..]));
        assert_eq!(name("use d\u{e9}p\u{f4}t").as_deref(), Some("d\u{e9}p\u{f4}t".as_bytes()));
    }

    #[test]
    fn other_statements_are_not() {
        for text in [
            "",
            "use",
            "use ",
            "user()",
            "useshop",
            "select 1",
            "use a b",
            "use `a",
            "/*!50000 use a */",
            "/* use a",
        ] {
            assert_eq!(name(text), None, "{text}");
        }
        assert_eq!(database_of(b"use sho", true), None);
    }

    #[test]
    fn it_may_begin_with_a_letter_a_blank_a_comment_or_a_semicolon() {
        for first in 0..=u8::MAX {
            let may = b"uU/-#;".contains(&first) || first.is_ascii_whitespace();
            assert_eq!(may_begin(first), may, "{first}");
        }
    }
}
