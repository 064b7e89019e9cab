//! The digester: normalises each text once and remembers the answer, in bounded memory.

use super::skeleton::skeleton;
use super::{
    BATCH_MARK, Digest, FETCH_MARK, FUNCTION_CALL, PREPARE_MARK, UNKNOWN_TEXT, UTILITY, kept, normalized,
};
use crate::aggregate::table::{HashedMap, combined};
use perquery_agent::hash::content_hash;
use perquery_agent::protocol::{Command, Dialect};
use perquery_agent::segment::record::{Execution, FLAG_TEXT_UNKNOWN};
use std::sync::Arc;

/// Texts remembered per generation; two generations live.
const TEXTS_MAX: usize = 16 * 1024;
/// Bytes of normalised text remembered per generation.
const BYTES_MAX: usize = 4 << 20;

/// A batch's text names no more statements when it is this long.
const BATCH_TEXT_MAX: usize = 4096;

/// One generation of remembered answers.
#[derive(Default)]
struct Generation {
    /// Key of a text → its digest.
    texts: HashedMap<Arc<Digest>>,
    /// Number of a digest → the one copy of it.
    digests: HashedMap<Arc<Digest>>,
    bytes: usize,
}

/// Turns statements into digests. A text that was seen lately is not read again: it is found by its hash.
pub struct Digester {
    young: Generation,
    old: Generation,
    unknown: Arc<Digest>,
    utility: Arc<Digest>,
    function_call: Arc<Digest>,
    normalized: u64,
    /// Room for the skeleton of the present text.
    skeleton: Vec<u8>,
}

impl Default for Digester {
    fn default() -> Self {
        Self::new()
    }
}

/// What a record's text says.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The statement, or the batch of them.
    pub digest: Arc<Digest>,
    /// A batch's statements, one for each of the record's members, and how often each was executed.
    pub members: Vec<(Arc<Digest>, u32)>,
}

impl From<Arc<Digest>> for Resolved {
    fn from(digest: Arc<Digest>) -> Self {
        Resolved { digest, members: Vec::new() }
    }
}

/// What a text was asked for; part of its key.
#[derive(Clone, Copy)]
enum Mark {
    None = 0,
    Prepare = 1,
    Fetch = 2,
}

impl Digester {
    /// A digester that knows nothing yet.
    pub fn new() -> Self {
        let fixed = |text: &str| Arc::new(Digest::of(text));
        Digester {
            young: Generation::default(),
            old: Generation::default(),
            unknown: fixed(UNKNOWN_TEXT),
            utility: fixed(UTILITY),
            function_call: fixed(FUNCTION_CALL),
            normalized: 0,
            skeleton: Vec::new(),
        }
    }

    /// The digest of a statement of which `full_len` bytes were sent and `text` is the beginning.
    pub fn digest(&mut self, dialect: Dialect, text: &[u8], full_len: usize) -> Arc<Digest> {
        self.marked(dialect, text, full_len, Mark::None)
    }

    /// The digest of a record whose text is `text`, `None` where it is not known. `member` answers the text behind a
    /// hash, for batches.
    pub fn of_execution<'t>(
        &mut self,
        execution: &Execution,
        text: Option<&[u8]>,
        mut member: impl FnMut(u64) -> Option<&'t [u8]>,
    ) -> Resolved {
        let mark = match execution.command {
            Command::Utility | Command::None => return self.utility.clone().into(),
            Command::FunctionCall => return self.function_call.clone().into(),
            Command::Batch if !execution.members.is_empty() => {
                let members: Vec<(Arc<Digest>, u32)> = execution
                    .members
                    .iter()
                    .map(|&(hash, len, executions)| match member(hash) {
                        Some(text) => (self.digest(execution.dialect, text, len as usize), executions),
                        None => (self.unknown.clone(), executions),
                    })
                    .collect();
                return Resolved { digest: self.batch(members.iter().map(|(digest, _)| digest)), members };
            }
            Command::Prepare => Mark::Prepare,
            Command::Fetch => Mark::Fetch,
            _ => Mark::None,
        };
        let digest = match text {
            Some(text) if execution.flags & FLAG_TEXT_UNKNOWN == 0 => {
                self.marked(execution.dialect, text, execution.text_len as usize, mark)
            }
            _ if matches!(mark, Mark::Prepare | Mark::None) => self.unknown.clone(),
            _ => self.intern(Digest::of(format!("{FETCH_MARK}{UNKNOWN_TEXT}"))),
        };
        digest.into()
    }

    /// The digest of statements that the server ran as one unit. Repeats count once.
    pub fn batch<'m>(&mut self, members: impl IntoIterator<Item = &'m Arc<Digest>>) -> Arc<Digest> {
        let mut seen: Vec<Arc<Digest>> = Vec::new();
        let mut text = String::from(BATCH_MARK);
        let mut last = 0;
        let mut unwritten = 0u64;
        for member in members {
            if member.id != last {
                if text.len() < BATCH_TEXT_MAX {
                    text.push_str(if last == 0 { "" } else { "; " });
                    text.push_str(&member.text);
                } else {
                    unwritten = combined(&[unwritten, member.id]);
                }
                last = member.id;
            }
            if seen.iter().all(|m| m.id != member.id) {
                seen.push(member.clone());
            }
        }
        if unwritten != 0 {
            // Batches that differ in what is not written are still different.
            text.push_str(&format!("; ... {unwritten:016x}"));
        }
        self.intern(Digest { members: seen, ..Digest::of(text) })
    }

    /// The digest of a unit whose text nobody knows.
    pub fn unknown(&self) -> Arc<Digest> {
        self.unknown.clone()
    }

    /// How many texts were normalised because they were not found.
    pub fn normalized_texts(&self) -> u64 {
        self.normalized
    }

    fn marked(&mut self, dialect: Dialect, text: &[u8], full_len: usize, mark: Mark) -> Arc<Digest> {
        let (text, cut) = kept(text, full_len);
        // MariaDB and MySQL read a text alike.
        let grammar = if dialect == Dialect::MariaDb { Dialect::MySql } else { dialect };
        let salt = (grammar as u64) << 8 | (mark as u64) << 1 | u64::from(cut);
        // Texts that differ in plain literals only are one text here; most servers see little else.
        let plain = !cut && skeleton(dialect, text, &mut self.skeleton);
        let known_by = if plain { self.skeleton.as_slice() } else { text };
        let key = content_hash(known_by) ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        if let Some(known) = self.young.texts.get(&key) {
            return known.clone();
        }
        let digest = match self.old.texts.get(&key) {
            Some(known) => known.clone(),
            None => {
                self.normalized += 1;
                let mut shown = normalized(dialect, text, full_len);
                match mark {
                    Mark::None => {}
                    Mark::Prepare => shown.insert_str(0, PREPARE_MARK),
                    Mark::Fetch => shown.insert_str(0, FETCH_MARK),
                }
                self.intern(Digest::of(shown))
            }
        };
        self.young.texts.insert(key, digest.clone());
        if self.young.texts.len() >= TEXTS_MAX {
            self.age();
        }
        digest
    }

    /// The one copy of `digest`.
    fn intern(&mut self, digest: Digest) -> Arc<Digest> {
        if let Some(known) = self.young.digests.get(&digest.id) {
            return known.clone();
        }
        let digest = self.old.digests.get(&digest.id).cloned().unwrap_or_else(|| Arc::new(digest));
        self.young.bytes += digest.text.len() + 64;
        self.young.digests.insert(digest.id, digest.clone());
        if self.young.bytes >= BYTES_MAX || self.young.digests.len() >= TEXTS_MAX {
            self.age();
        }
        digest
    }

    fn age(&mut self) {
        self.old = std::mem::take(&mut self.young);
    }
}
