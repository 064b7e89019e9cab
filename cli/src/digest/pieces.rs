//! Tokens of any dialect become a small set of pieces: literals and placeholders are `?` from here on.

use super::keywords;
use perquery_agent::protocol::Dialect;
use sqlparser::dialect::{
    Dialect as Grammar, GenericDialect, MySqlDialect, PostgreSqlDialect, SQLiteDialect,
};
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, Whitespace};
use std::any::TypeId;
use std::borrow::Cow;

/// What a piece is to the normaliser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A literal or placeholder.
    Param,
    /// A word of SQL, in capitals.
    Keyword,
    /// A known function's name before its parenthesis, in capitals.
    Function,
    /// Any other word, quoted or not.
    Ident,
    /// `(`
    Open,
    /// `)`
    Close,
    /// `[`
    OpenSquare,
    /// `]`
    CloseSquare,
    /// `,`
    Comma,
    /// `;`
    Semi,
    /// `.`, `::`, `@` and a slice's `:`: written without spaces around.
    Tight,
    /// An operator.
    Operator,
    /// `, ...` after the first element of a collapsed list.
    More,
}

/// A token of the normalised text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// What it is.
    pub kind: Kind,
    /// How it is written.
    pub text: Cow<'static, str>,
}

impl Piece {
    /// A piece with a fixed spelling.
    pub const fn fixed(kind: Kind, text: &'static str) -> Self {
        Piece { kind, text: Cow::Borrowed(text) }
    }

    /// True for the keyword `word`.
    pub fn is_keyword(&self, word: &str) -> bool {
        self.kind == Kind::Keyword && self.text == word
    }
}

/// `?`
pub const PARAM: Piece = Piece::fixed(Kind::Param, "?");
/// `, ...`
pub const MORE: Piece = Piece::fixed(Kind::More, ", ...");

/// MySQL with `sql_mode=NO_BACKSLASH_ESCAPES`, which the wire does not show. Tried when the ordinary reading of the
/// quotes leaves one open.
#[derive(Debug)]
struct MySqlPlainBackslash;

impl Grammar for MySqlPlainBackslash {
    fn dialect(&self) -> TypeId {
        TypeId::of::<MySqlDialect>()
    }
    fn is_identifier_start(&self, ch: char) -> bool {
        MySqlDialect {}.is_identifier_start(ch)
    }
    fn is_identifier_part(&self, ch: char) -> bool {
        MySqlDialect {}.is_identifier_part(ch)
    }
    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '`'
    }
    fn supports_numeric_prefix(&self) -> bool {
        true
    }
    fn supports_multiline_comment_hints(&self) -> bool {
        true
    }
}

/// The tokens that could be read, and whether the text ended well.
fn tokens_of(grammar: &dyn Grammar, text: &str) -> (Vec<TokenWithSpan>, bool) {
    let mut tokens = Vec::with_capacity(text.len() / 3);
    let whole = Tokenizer::new(grammar, text)
        .with_unescape(false)
        .tokenize_with_location_into_buf(&mut tokens)
        .is_ok();
    (tokens, whole)
}

fn tokenize(dialect: Dialect, text: &str, cut: bool) -> (Vec<TokenWithSpan>, bool) {
    match dialect {
        Dialect::MariaDb | Dialect::MySql => {
            let (tokens, whole) = tokens_of(&MySqlDialect {}, text);
            if whole || cut {
                return (tokens, whole);
            }
            let (other, other_whole) = tokens_of(&MySqlPlainBackslash, text);
            if other_whole { (other, true) } else { (tokens, false) }
        }
        Dialect::Postgres => tokens_of(&PostgreSqlDialect {}, text),
        Dialect::Sqlite => tokens_of(&SQLiteDialect {}, text),
        Dialect::Unknown => tokens_of(&GenericDialect {}, text),
    }
}

/// Turns `text` into pieces. `cut`: its end is missing, so its last token may be half a token and is dropped.
/// `hide_quoted`: double-quoted words count as literals whatever the dialect says.
pub fn pieces_of(dialect: Dialect, text: &str, cut: bool, hide_quoted: bool) -> Vec<Piece> {
    let (mut tokens, whole) = tokenize(dialect, text, cut);
    if cut && whole && tokens.last().is_some_and(|t| !is_boundary(&t.token)) {
        tokens.pop();
    }
    let mut builder = Builder {
        dialect,
        hide_quoted: hide_quoted || dialect == Dialect::Unknown,
        pieces: Vec::with_capacity(tokens.len()),
        in_definition: false,
    };
    let mut index = 0;
    while let Some(token) = tokens.get(index) {
        let rest = tokens.get(index + 1..).unwrap_or(&[]);
        index += 1 + builder.push(&token.token, rest);
    }
    if !whole && !cut {
        // What could not be read may hold a literal: an open quote, as a rule.
        builder.param();
    }
    builder.pieces
}

/// True for tokens that cannot be the first half of something longer that matters.
fn is_boundary(token: &Token) -> bool {
    matches!(
        token,
        Token::Whitespace(Whitespace::Space | Whitespace::Newline | Whitespace::Tab)
            | Token::Comma
            | Token::LParen
            | Token::RParen
            | Token::SemiColon
    )
}

struct Builder {
    dialect: Dialect,
    hide_quoted: bool,
    pieces: Vec<Piece>,
    /// Within CREATE or ALTER, where NULL, TRUE and FALSE are no values.
    in_definition: bool,
}

impl Builder {
    fn last(&self) -> Option<&Piece> {
        self.pieces.last()
    }

    fn put(&mut self, kind: Kind, text: impl Into<Cow<'static, str>>) {
        self.pieces.push(Piece { kind, text: text.into() });
    }

    /// A literal: swallows the sign before it.
    fn param(&mut self) {
        while let [before @ .., sign] = self.pieces.as_slice()
            && sign.kind == Kind::Operator
            && (sign.text == "-" || sign.text == "+")
            && !before.last().is_some_and(|p| {
                matches!(p.kind, Kind::Param | Kind::Ident | Kind::Close | Kind::CloseSquare)
                    || p.is_keyword("END")
            })
        {
            self.pieces.pop();
        }
        self.pieces.push(PARAM);
    }

    /// A string: swallows its character set, and joins the string right before it.
    fn string(&mut self) {
        if self.last().is_some_and(|p| p.kind == Kind::Ident && keywords::is_introducer(&p.text)) {
            self.pieces.pop();
        }
        if self.last().is_none_or(|p| p.kind != Kind::Param) {
            self.param();
        }
    }

    /// Adds one token; answers how many of the following ones it took as well.
    fn push(&mut self, token: &Token, rest: &[TokenWithSpan]) -> usize {
        let next = rest.first().map(|t| &t.token);
        match token {
            Token::EOF | Token::Whitespace(_) => {}
            Token::Number(digits, _) => {
                self.param();
                // 0b01, 0o17, 0XFF and 1_000 come as a number and a word.
                if let Some(Token::Word(word)) = next
                    && word.quote_style.is_none()
                    && (word.value.starts_with('_')
                        || (digits == "0" && word.value.starts_with(['b', 'B', 'o', 'O', 'x', 'X'])))
                {
                    return 1;
                }
            }
            Token::Placeholder(_) => self.param(),
            Token::Question => self.put(Kind::Operator, "?"),
            Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::TripleSingleQuotedString(_)
            | Token::TripleDoubleQuotedString(_)
            | Token::DollarQuotedString(_)
            | Token::SingleQuotedByteStringLiteral(_)
            | Token::DoubleQuotedByteStringLiteral(_)
            | Token::TripleSingleQuotedByteStringLiteral(_)
            | Token::TripleDoubleQuotedByteStringLiteral(_)
            | Token::SingleQuotedRawStringLiteral(_)
            | Token::DoubleQuotedRawStringLiteral(_)
            | Token::TripleSingleQuotedRawStringLiteral(_)
            | Token::TripleDoubleQuotedRawStringLiteral(_)
            | Token::NationalStringLiteral(_)
            | Token::QuoteDelimitedStringLiteral(_)
            | Token::NationalQuoteDelimitedStringLiteral(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::HexStringLiteral(_) => self.string(),
            Token::Word(word) => match word.quote_style {
                Some('"') if self.hide_quoted => self.string(),
                Some(_) => self.put(Kind::Ident, clean(&word.to_string())),
                None => self.word(&word.value, rest),
            },
            Token::LParen => self.put(Kind::Open, "("),
            Token::RParen => self.put(Kind::Close, ")"),
            Token::LBracket => self.put(Kind::OpenSquare, "["),
            Token::RBracket => self.put(Kind::CloseSquare, "]"),
            Token::Comma => self.put(Kind::Comma, ","),
            Token::SemiColon => {
                self.in_definition = false;
                self.put(Kind::Semi, ";");
            }
            Token::Period => self.put(Kind::Tight, "."),
            Token::DoubleColon => self.put(Kind::Tight, "::"),
            Token::Colon | Token::AtSign => return self.sigil(token, next),
            Token::Backslash => {
                if let Some(Token::Word(word)) = next
                    && word.value == "N"
                {
                    self.param();
                    return 1;
                }
                self.put(Kind::Operator, "\\");
            }
            Token::CustomBinaryOperator(text) => self.operator(text),
            Token::Char(c) => self.put(Kind::Operator, clean(&c.to_string())),
            other => self.put(Kind::Operator, other.to_string()),
        }
        0
    }

    /// `:name` and `@name` are SQLite's parameters; elsewhere `:` is a slice and `@` belongs to an account.
    fn sigil(&mut self, token: &Token, next: Option<&Token>) -> usize {
        let named = matches!(next, Some(Token::Word(w)) if w.quote_style.is_none());
        let numbered = *token == Token::Colon && matches!(next, Some(Token::Number(..)));
        if (named || numbered) && matches!(self.dialect, Dialect::Sqlite | Dialect::Unknown) {
            self.param();
            return 1;
        }
        self.put(Kind::Tight, if *token == Token::Colon { ":" } else { "@" });
        0
    }

    /// PostgreSQL ends an operator before a sign unless the operator is an unusual one: `a=-1` is `a = -1`.
    fn operator(&mut self, text: &str) {
        let signs = if text.contains(['~', '!', '@', '#', '%', '^', '&', '|', '`', '?']) {
            0
        } else {
            text.len() - text.trim_end_matches(['+', '-']).len()
        };
        let (operator, signs) = text.split_at_checked(text.len() - signs).unwrap_or((text, ""));
        if !operator.is_empty() {
            self.put(Kind::Operator, operator.to_owned());
        }
        for sign in signs.chars() {
            self.put(Kind::Operator, if sign == '-' { "-" } else { "+" });
        }
    }

    fn word(&mut self, word: &str, rest: &[TokenWithSpan]) {
        if word.strip_prefix("0b").is_some_and(|bits| bits.bytes().all(|b| b == b'0' || b == b'1')) {
            return self.param();
        }
        let after = self.last();
        if after.is_some_and(|p| p.kind == Kind::Tight && p.text != "::") {
            return self.put(Kind::Ident, clean(word));
        }
        let call = rest.iter().find(|t| !matches!(t.token, Token::Whitespace(_))).map(|t| &t.token)
            == Some(&Token::LParen);
        if call && let Some(function) = keywords::function(word) {
            return self.put(Kind::Function, function);
        }
        if let Some(verb) = after
            && ["CREATE", "ALTER", "DROP"].iter().any(|v| verb.is_keyword(v))
            && let Some(object) = keywords::object(word)
        {
            return self.put(Kind::Keyword, object);
        }
        match keywords::keyword(word) {
            Some("NULL" | "TRUE" | "FALSE") if !self.in_definition && !self.is_test() => self.param(),
            Some(keyword) => {
                if self.last().is_none_or(|p| p.kind == Kind::Semi) {
                    self.in_definition = matches!(keyword, "CREATE" | "ALTER");
                }
                self.put(Kind::Keyword, keyword);
            }
            None => self.put(Kind::Ident, clean(word)),
        }
    }

    /// After IS or IS NOT.
    fn is_test(&self) -> bool {
        match self.pieces.as_slice() {
            [.., is, not] if not.is_keyword("NOT") => is.is_keyword("IS"),
            [.., is] => is.is_keyword("IS"),
            [] => false,
        }
    }
}

/// Without control characters, which a terminal would obey.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}
