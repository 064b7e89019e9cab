//! Pieces of a statement become its normalised text: lists collapsed, repeats folded, spaces where SQL writers put them.

use super::pieces::{Kind, MORE, PARAM, Piece, pieces_of};
use perquery_agent::protocol::Dialect;

/// The normalised text of `text`, whose end is missing if `cut`. Any input is fine; nothing of a literal is in the
/// result. `secret`: the statement may carry a password outside of a literal; see [`super::secret`].
pub fn normalize(dialect: Dialect, text: &str, cut: bool, secret: bool) -> String {
    let mut pieces = pieces_of(dialect, text, cut, secret);
    if secret {
        hide_bare_secrets(&mut pieces);
    }
    let (pieces, unfinished) = collapse_lists(pieces, cut);
    let mut statements: Vec<String> = Vec::new();
    for statement in pieces.split(|p| p.kind == Kind::Semi) {
        let text = render(statement);
        if !text.is_empty() && statements.last() != Some(&text) {
            statements.push(text);
        }
    }
    // A cut script of equal statements ends in a part of one more of them.
    if cut
        && let [.., before, last] = statements.as_slice()
        && before.starts_with(last.as_str())
    {
        statements.pop();
    } else if unfinished && let Some(last) = statements.last_mut() {
        last.push_str(" ...");
    }
    statements.join("; ")
}

/// A password without quotes is a syntax error to the server and still a password.
fn hide_bare_secrets(pieces: &mut [Piece]) {
    let mut expected = false;
    for piece in pieces {
        let says = piece.text.to_ascii_uppercase();
        let names =
            says.contains("PASSW") || says.contains("SECRET") || says.contains("TOKEN") || says == "PWD";
        let keeps =
            matches!(says.as_str(), "=" | "BY" | "TO" | "AS" | "FOR" | "(" | "USING" | "PASSWORD" | "NULL");
        match piece.kind {
            Kind::Ident if expected && !names => *piece = PARAM,
            _ => {}
        }
        expected = names || says == "IDENTIFIED" || (expected && keeps);
    }
}

/// Where a parenthesis or bracket stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Context {
    /// After IN, or the elements of ARRAY[…].
    List,
    /// A row of VALUES.
    Row,
    /// A row within a list: `IN ((1, 2), (3, 4))`.
    Tuple,
    /// Anything else.
    Other,
}

/// Collapses lists of values; also says whether the text breaks off in the open (`cut`, and not within such a list).
fn collapse_lists(pieces: Vec<Piece>, cut: bool) -> (Vec<Piece>, bool) {
    let mut out: Vec<Piece> = Vec::with_capacity(pieces.len());
    let mut open: Vec<(usize, Context)> = Vec::new();
    let mut rows_end = None;
    let mut rest = pieces.into_iter().peekable();
    while let Some(piece) = rest.next() {
        match piece.kind {
            Kind::Open | Kind::OpenSquare => {
                let context = context_of(&out, open.last().map(|(_, context)| *context), piece.kind);
                out.push(piece);
                open.push((out.len(), context));
            }
            Kind::Close | Kind::CloseSquare => {
                let Some((start, context)) = open.pop() else {
                    out.push(piece);
                    continue;
                };
                collapse(&mut out, start, context);
                out.push(piece);
                if context == Context::Row {
                    if !skip_rows(&mut rest) {
                        return (out, false);
                    }
                    rows_end = Some(out.len());
                }
            }
            _ => out.push(piece),
        }
    }
    if !cut {
        return (out, false);
    }
    let mut within_list = rows_end == Some(out.len());
    if out.last().is_some_and(|p| p.is_keyword("VALUES")) {
        within_list = true;
        out.extend([Piece::fixed(Kind::Open, "("), PARAM, MORE, Piece::fixed(Kind::Close, ")")]);
    }
    while let Some((start, context)) = open.pop() {
        if context == Context::Other {
            break;
        }
        close_cut(&mut out, start, context);
        within_list = true;
    }
    (out, !within_list)
}

fn context_of(out: &[Piece], parent: Option<Context>, kind: Kind) -> Context {
    let before = out.last();
    let is = |word: &str| before.is_some_and(|p| p.is_keyword(word));
    if kind == Kind::OpenSquare {
        return if is("ARRAY") { Context::List } else { Context::Other };
    }
    let before_row = if is("ROW") { out.len().checked_sub(2).and_then(|i| out.get(i)) } else { before };
    match before_row {
        Some(p) if p.is_keyword("IN") => Context::List,
        Some(p) if p.is_keyword("VALUES") => Context::Row,
        Some(p) if p.kind == Kind::Ident && p.text.eq_ignore_ascii_case("value") && is_insert(out) => {
            Context::Row
        }
        Some(p) if matches!(p.kind, Kind::Open | Kind::Comma) && parent == Some(Context::List) => {
            Context::Tuple
        }
        _ => Context::Other,
    }
}

/// MySQL also writes `INSERT … VALUE (…)`; elsewhere `value` is a name.
fn is_insert(out: &[Piece]) -> bool {
    out.first().is_some_and(|p| p.is_keyword("INSERT") || p.is_keyword("REPLACE"))
}

/// The elements between `start` and the end, split at commas of their own level.
fn elements(list: &[Piece]) -> Vec<&[Piece]> {
    let mut depth = 0usize;
    list.split(|p| {
        match p.kind {
            Kind::Open | Kind::OpenSquare => depth += 1,
            Kind::Close | Kind::CloseSquare => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && p.kind == Kind::Comma
    })
    .collect()
}

/// Collapses the list that began at `start` and is complete now.
fn collapse(out: &mut Vec<Piece>, start: usize, context: Context) {
    let Some(list) = out.get(start..) else { return };
    let keep = match context {
        Context::Other => return,
        Context::Row | Context::Tuple => {
            if list.is_empty() || !list.iter().all(|p| matches!(p.kind, Kind::Param | Kind::Comma)) {
                return;
            }
            1
        }
        Context::List => {
            let elements = elements(list);
            let Some(first) = elements.first() else { return };
            let query = first.first().is_some_and(|p| p.is_keyword("SELECT") || p.is_keyword("WITH"));
            if query || !first.iter().any(|p| p.kind == Kind::Param) || elements.iter().any(|e| e != first) {
                return;
            }
            first.len()
        }
    };
    out.truncate(start + keep);
    out.push(MORE);
}

/// Closes the list that began at `start` and whose end is missing, as if it had gone on like its beginning.
fn close_cut(out: &mut Vec<Piece>, start: usize, context: Context) {
    let bracket = match out.get(start.wrapping_sub(1)) {
        Some(p) if p.kind == Kind::OpenSquare => Piece::fixed(Kind::CloseSquare, "]"),
        _ => Piece::fixed(Kind::Close, ")"),
    };
    let keep = match context {
        Context::List => {
            let list = out.get(start..).unwrap_or(&[]);
            elements(list).first().map_or(0, |first| if first.contains(&PARAM) { first.len() } else { 0 })
        }
        _ => 0,
    };
    out.truncate(start + keep);
    if keep == 0 {
        out.push(PARAM);
    }
    out.extend([MORE, bracket]);
}

/// Skips `, (…), (…)` after a row of VALUES; false when the text ended within or right after one.
fn skip_rows(rest: &mut std::iter::Peekable<std::vec::IntoIter<Piece>>) -> bool {
    while rest.peek().is_some_and(|p| p.kind == Kind::Comma) {
        rest.next();
        if rest.peek().is_some_and(|p| p.is_keyword("ROW")) {
            rest.next();
        }
        if rest.peek().is_none_or(|p| p.kind != Kind::Open) {
            // VALUES (1), broken: the comma is lost, the rest goes on.
            return rest.peek().is_some();
        }
        let mut depth = 0usize;
        for piece in rest.by_ref() {
            match piece.kind {
                Kind::Open => depth += 1,
                Kind::Close => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
        if depth != 0 {
            return false;
        }
    }
    true
}

fn render(pieces: &[Piece]) -> String {
    let mut text = String::with_capacity(pieces.len() * 5);
    for (index, piece) in pieces.iter().enumerate() {
        let before = pieces.get(..index).unwrap_or(&[]);
        if let Some(last) = before.last()
            && spaced(before, last, piece)
        {
            text.push(' ');
        }
        text.push_str(&piece.text);
    }
    text
}

fn spaced(before: &[Piece], last: &Piece, next: &Piece) -> bool {
    match (last.kind, next.kind) {
        (_, Kind::Comma | Kind::Close | Kind::CloseSquare | Kind::Tight | Kind::More) => false,
        (Kind::Open | Kind::OpenSquare | Kind::Tight, _) => false,
        (Kind::Function, Kind::Open) => false,
        // INSERT INTO t (a, b), but f(a, b).
        (Kind::Ident, Kind::Open) => before
            .iter()
            .rev()
            .find(|p| !matches!(p.kind, Kind::Ident | Kind::Tight))
            .is_some_and(|p| p.is_keyword("INTO") || p.is_keyword("TABLE")),
        (Kind::Ident | Kind::Close | Kind::CloseSquare | Kind::Keyword, Kind::OpenSquare) => false,
        _ => true,
    }
}
