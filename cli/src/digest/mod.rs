//! Digests: the statement behind the literals, the same for every protocol, host and day.
//!
//! A statement's literals and placeholders become `?`, lists collapse, white space and comments are folded, keywords are
//! written in capitals; the hash of that text is the digest's number. See [`normalized`] for the result and
//! [`secret`] for what never leaves the collector.

pub mod cache;
mod keywords;
mod normalize;
mod pieces;
pub mod secret;
mod skeleton;
#[cfg(test)]
mod tests;

pub use cache::{Digester, Resolved};

use perquery_agent::hash::content_hash;
use perquery_agent::protocol::{Dialect, TEXT_CAP};
use std::sync::Arc;

/// A normalised statement, or a batch of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// Hash of `text`: names the digest on every host.
    pub id: u64,
    /// The normalised text.
    pub text: String,
    /// A batch's different statements in order of first appearance; empty for all others.
    pub members: Vec<Arc<Digest>>,
}

impl Digest {
    /// The digest whose normalised text is `text`.
    pub fn of(text: impl Into<String>) -> Self {
        let text = text.into();
        Digest { id: content_hash(text.as_bytes()), text, members: Vec::new() }
    }

    /// The number as reports print it.
    pub fn hex(&self) -> String {
        format!("{:016x}", self.id)
    }
}

/// A statement whose text is not known: prepared before anybody watched, evicted, encrypted.
pub const UNKNOWN_TEXT: &str = "<unknown text>";
/// A unit without a statement: ping, reset, init db.
pub const UTILITY: &str = "<ping or other command>";
/// A PostgreSQL FunctionCall, which names no statement.
pub const FUNCTION_CALL: &str = "<function call>";
/// A text of nothing but white space and comments.
pub const EMPTY: &str = "<empty>";
/// Before the statement that was prepared and not executed.
pub const PREPARE_MARK: &str = "<prepare> ";
/// Before the statement whose cursor gave more rows.
pub const FETCH_MARK: &str = "<fetch> ";
/// Before the statements of a batch.
pub const BATCH_MARK: &str = "<batch> ";

/// A text as far as it counts: at most [`TEXT_CAP`] bytes, and whether its end is missing.
fn kept(text: &[u8], full_len: usize) -> (&[u8], bool) {
    match text.get(..TEXT_CAP) {
        Some(head) if text.len() > TEXT_CAP => (head, true),
        _ => (text, full_len > text.len()),
    }
}

/// The bytes as a string. A character that the cut tore apart is dropped.
fn decoded(text: &[u8], cut: bool) -> std::borrow::Cow<'_, str> {
    let whole = match std::str::from_utf8(text) {
        Err(e) if cut && e.error_len().is_none() => text.get(..e.valid_up_to()).unwrap_or(text),
        _ => text,
    };
    String::from_utf8_lossy(whole)
}

/// The normalised text of a statement, of which `full_len` bytes were sent and `text` is the beginning.
pub fn normalized(dialect: Dialect, text: &[u8], full_len: usize) -> String {
    let (text, cut) = kept(text, full_len);
    let secret = secret::may_carry_secret(text) && secret::is_administrative(text);
    let normalized = normalize::normalize(dialect, &decoded(text, cut), cut, secret);
    if normalized.is_empty() { EMPTY.to_owned() } else { normalized }
}

/// What may be shown of a statement as it was sent: its beginning without control characters, or the normalised text
/// where it may carry a secret.
pub fn safe_text(dialect: Dialect, text: &[u8], full_len: usize) -> String {
    let (kept, cut) = kept(text, full_len);
    if secret::may_carry_secret(kept) {
        return normalized(dialect, text, full_len);
    }
    let text = decoded(kept, cut);
    let mut shown: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    shown.truncate(shown.trim_end().len());
    if cut {
        shown.push_str(" ...");
    }
    shown
}

/// Any bytes as a statement of any dialect, whole and cut: for fuzzing. Panics where a promise is broken.
#[doc(hidden)]
pub fn fuzz_digest(data: &[u8]) {
    let Some((&first, text)) = data.split_first() else { return };
    let dialect = Dialect::from_u8(first % 5);
    for full_len in [text.len(), text.len() + 1] {
        let normalized = normalized(dialect, text, full_len);
        assert!(!normalized.is_empty());
        assert!(!normalized.contains(char::is_control), "{normalized:?}");
        let shown = safe_text(dialect, text, full_len);
        assert!(!shown.contains(char::is_control), "{shown:?}");
    }
}
