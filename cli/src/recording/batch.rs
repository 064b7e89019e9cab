//! Batches: executions in about thirty bytes each.
//!
//! ```text
//! batch     dictionary generation | executions recorded before | executions in this batch | item…
//! item      head: two bits of item type, then bits of what follows (see the HAS constants)
//!   0 execution  [session index [uid, server]] [identity number, dialect, thread] [command] start − previous start,
//!                latency, digest number, bytes in, bytes out, and the optional fields in the order of their bits
//!   1 digest     number, text, number of members, member's number…
//!   2 identity   number, user, database, application, client, connection id
//! ```
//!
//! All numbers are of variable length. What an execution has in common with the previous one of its session, or of
//! the batch, is not written again. Sessions are numbered within a batch; digests and identities within a dictionary
//! generation, which spans many batches.

use super::varint::{Input, put, put_bytes, put_signed};
use crate::aggregate::table::HashedMap;
use crate::aggregate::{Sample, Who};
use crate::digest::{Digest, UNKNOWN_TEXT};
use perquery_agent::protocol::{Command, Dialect};
use perquery_agent::segment::record::{Execution, KIND_EXECUTION, KIND_WORKER, MEMBERS_MAX};
use std::sync::Arc;

const ITEM_EXECUTION: u64 = 0;
const ITEM_DIGEST: u64 = 1;
const ITEM_IDENTITY: u64 = 2;

const HAS_SESSION: u64 = 1 << 0;
const HAS_OWNER: u64 = 1 << 1;
const HAS_COMMAND: u64 = 1 << 2;
const HAS_FIRST_BYTE: u64 = 1 << 3;
const HAS_ROWS_RETURNED: u64 = 1 << 4;
const HAS_ROWS_AFFECTED: u64 = 1 << 5;
const HAS_FLAGS: u64 = 1 << 6;
const HAS_STATEMENTS: u64 = 1 << 7;
const HAS_UNIT: u64 = 1 << 8;
const HAS_KNOWN: u64 = 1 << 9;
const HAS_ERROR: u64 = 1 << 10;
const HAS_WEIGHT: u64 = 1 << 11;
const HAS_SCALED: u64 = 1 << 12;
const HAS_MEMBERS: u64 = 1 << 13;
const HAS_KIND: u64 = 1 << 14;
const HAS_EXACT: u64 = 1 << 15;

/// Entries of a dictionary, of either kind, at most.
pub const ENTRIES_MAX: usize = 64 * 1024;
/// Bytes of text in a dictionary, at most.
pub const DICTIONARY_BYTES_MAX: usize = 16 << 20;
/// A digest's text is no longer: [`perquery_agent::protocol::TEXT_CAP`] bytes may grow a little when normalised, and
/// a batch has many statements.
const TEXT_MAX: usize = 512 * 1024;

/// What executions of a session have in common.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Session {
    uid: u64,
    server: u16,
    who: u32,
    dialect: Dialect,
    command: Command,
    tid: u32,
    unit: u32,
}

/// The state that one execution leaves for the next one of the batch, on both sides.
#[derive(Default)]
struct Previous {
    session: usize,
    start_ns: u64,
    known: u64,
    exact: u64,
}

/// Builds batches.
#[derive(Default)]
pub struct Encoder {
    items: Vec<u8>,
    executions: u64,
    before: u64,
    sessions: Vec<Session>,
    session_index: HashedMap<usize>,
    previous: Previous,
    generation: u64,
    digests: HashedMap<u32>,
    identities: HashedMap<u32>,
    dictionary_bytes: usize,
}

impl Encoder {
    /// Bytes that wait.
    pub fn waiting_bytes(&self) -> usize {
        self.items.len()
    }

    /// Executions added so far, in all batches.
    pub fn executions(&self) -> u64 {
        self.before + self.executions
    }

    /// Adds an execution, a slice or a worker.
    pub fn add(&mut self, sample: &Sample) {
        let e = sample.execution;
        let who = self.identity(sample.who);
        let digest = if e.kind == KIND_EXECUTION { self.digest(sample.digest) } else { 0 };
        let members: Vec<(u32, u32)> =
            sample.members.iter().take(MEMBERS_MAX).map(|(digest, n)| (self.digest(digest), *n)).collect();
        let (index, is_new) = self.session(sample);
        let session = self.sessions.get(index).copied().unwrap_or_default();
        let mut has = 0;
        let mut mark = |bit: u64, when: bool| {
            if when {
                has |= bit
            }
        };
        mark(HAS_SESSION, is_new || index != self.previous.session);
        mark(HAS_OWNER, is_new || (session.who, session.dialect, session.tid) != (who, e.dialect, e.tid));
        mark(HAS_COMMAND, session.command != e.command);
        mark(HAS_FIRST_BYTE, e.first_byte_ns.is_some());
        mark(HAS_ROWS_RETURNED, e.rows_returned != 0);
        mark(HAS_ROWS_AFFECTED, e.rows_affected != 0);
        mark(HAS_FLAGS, e.flags != 0);
        mark(HAS_STATEMENTS, e.statements != 1);
        mark(HAS_UNIT, e.unit != session.unit.wrapping_add(1));
        mark(HAS_KNOWN, e.counts.known != self.previous.known);
        mark(HAS_ERROR, e.error_code != 0 || e.sqlstate != [0; 5]);
        mark(HAS_WEIGHT, e.weight != 1.0);
        mark(HAS_SCALED, e.counts.scaled != 0);
        mark(HAS_MEMBERS, !members.is_empty());
        mark(HAS_KIND, e.kind != KIND_EXECUTION);
        mark(HAS_EXACT, e.exact != self.previous.exact);
        let out = &mut self.items;
        put(out, has << 2 | ITEM_EXECUTION);
        if has & HAS_SESSION != 0 {
            put(out, index as u64);
            if is_new {
                put(out, e.session_uid);
                put(out, sample.server.into());
            }
        }
        if has & HAS_OWNER != 0 {
            put(out, who.into());
            out.push(e.dialect as u8);
            put(out, e.tid.into());
        }
        if has & HAS_COMMAND != 0 {
            out.push(e.command as u8);
        }
        put_signed(out, e.start_ns.wrapping_sub(self.previous.start_ns) as i64);
        put(out, e.latency_ns);
        put(out, digest.into());
        put(out, e.bytes_in);
        put(out, e.bytes_out);
        let optional = [
            (HAS_FIRST_BYTE, e.first_byte_ns.unwrap_or(0)),
            (HAS_ROWS_RETURNED, e.rows_returned),
            (HAS_ROWS_AFFECTED, e.rows_affected),
            (HAS_FLAGS, e.flags.into()),
            (HAS_STATEMENTS, e.statements.into()),
            (HAS_UNIT, e.unit.into()),
            (HAS_KNOWN, e.counts.known),
        ];
        for (_, value) in optional.iter().filter(|(bit, _)| has & bit != 0) {
            put(out, *value);
        }
        if has & HAS_ERROR != 0 {
            put(out, e.error_code.into());
            out.extend_from_slice(&e.sqlstate);
        }
        if has & HAS_WEIGHT != 0 {
            out.extend_from_slice(&e.weight.to_bits().to_le_bytes());
        }
        if has & HAS_SCALED != 0 {
            put(out, e.counts.scaled);
        }
        if has & HAS_MEMBERS != 0 {
            put(out, members.len() as u64);
            for (digest, executions) in members {
                put(out, digest.into());
                put(out, executions.into());
            }
        }
        if has & HAS_KIND != 0 {
            put(out, e.kind.into());
        }
        if has & HAS_EXACT != 0 {
            put(out, e.exact);
        }
        (0..64).filter_map(|id| e.counts.get(id)).for_each(|value| put(out, value));
        self.previous =
            Previous { session: index, start_ns: e.start_ns, known: e.counts.known, exact: e.exact };
        if let Some(session) = self.sessions.get_mut(index) {
            *session =
                Session { who, dialect: e.dialect, command: e.command, tid: e.tid, unit: e.unit, ..*session };
        }
        self.executions += 1;
    }

    /// Appends the batch as a payload and begins the next one.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        put(out, self.generation);
        put(out, self.before);
        put(out, self.executions);
        out.append(&mut self.items);
        self.before += self.executions;
        self.executions = 0;
        self.sessions.clear();
        self.session_index.clear();
        self.previous = Previous::default();
    }

    /// True when the dictionary is so large that the next batch should begin a new one.
    pub fn dictionary_is_full(&self) -> bool {
        // A batch of 64 KiB defines fewer than 32 Ki entries.
        self.digests.len().max(self.identities.len()) >= ENTRIES_MAX / 2
            || self.dictionary_bytes >= DICTIONARY_BYTES_MAX / 2
    }

    /// Begins a new dictionary; only between batches.
    pub fn reset_dictionary(&mut self) {
        self.generation += 1;
        self.digests.clear();
        self.identities.clear();
        self.dictionary_bytes = 0;
    }

    fn session(&mut self, sample: &Sample) -> (usize, bool) {
        let e = sample.execution;
        let key = crate::aggregate::table::combined(&[e.session_uid, sample.server.into()]);
        if let Some(index) = self.session_index.get(&key) {
            return (*index, false);
        }
        let index = self.sessions.len();
        self.session_index.insert(key, index);
        self.sessions.push(Session { uid: e.session_uid, server: sample.server, ..Session::default() });
        (index, true)
    }

    fn digest(&mut self, digest: &Arc<Digest>) -> u32 {
        if let Some(number) = self.digests.get(&digest.id) {
            return *number;
        }
        let members: Vec<u32> = digest.members.iter().take(MEMBERS_MAX).map(|m| self.digest(m)).collect();
        // 0 is no digest.
        let number = self.digests.len() as u32 + 1;
        self.digests.insert(digest.id, number);
        put(&mut self.items, ITEM_DIGEST);
        put(&mut self.items, number.into());
        let text = digest.text.as_bytes();
        let text = if text.len() > TEXT_MAX { UNKNOWN_TEXT.as_bytes() } else { text };
        put_bytes(&mut self.items, text);
        put(&mut self.items, members.len() as u64);
        members.into_iter().for_each(|m| put(&mut self.items, m.into()));
        self.dictionary_bytes += text.len();
        number
    }

    fn identity(&mut self, who: &Arc<Who>) -> u32 {
        if who.hash() == 0 {
            return 0;
        }
        if let Some(number) = self.identities.get(&who.hash()) {
            return *number;
        }
        let number = self.identities.len() as u32 + 1;
        self.identities.insert(who.hash(), number);
        put(&mut self.items, ITEM_IDENTITY);
        put(&mut self.items, number.into());
        for part in [&who.user, &who.database, &who.application, &who.client] {
            put_bytes(&mut self.items, part.as_bytes());
            self.dictionary_bytes += part.len();
        }
        put(&mut self.items, who.connection_id);
        number
    }
}

/// Reads batches, one item at a time.
pub struct Decoder {
    generation: Option<u64>,
    digests: HashedMap<Arc<Digest>>,
    identities: HashedMap<Arc<Who>>,
    dictionary_bytes: usize,
    sessions: Vec<Session>,
    previous: Previous,
    unknown: Arc<Digest>,
    nobody: Arc<Who>,
}

/// An execution out of a recording.
#[derive(Clone)]
pub struct Recorded {
    /// The record; texts and hashes are not in recordings.
    pub execution: Execution,
    /// Its statement.
    pub digest: Arc<Digest>,
    /// A batch's statements.
    pub members: Vec<(Arc<Digest>, u32)>,
    /// Its session's identity.
    pub who: Arc<Who>,
    /// Which of the servers.
    pub server: u16,
}

impl Recorded {
    /// The same as the aggregator wants it.
    pub fn sample(&self) -> Sample<'_> {
        Sample {
            execution: &self.execution,
            digest: &self.digest,
            members: &self.members,
            who: &self.who,
            server: self.server,
        }
    }
}

/// The beginning of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Executions in the batches before.
    pub before: u64,
    /// Executions in this one.
    pub executions: u64,
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder {
            generation: None,
            digests: HashedMap::default(),
            identities: HashedMap::default(),
            dictionary_bytes: 0,
            sessions: Vec::new(),
            previous: Previous::default(),
            unknown: Arc::new(Digest::of(UNKNOWN_TEXT)),
            nobody: Arc::new(Who::default()),
        }
    }
}

impl Decoder {
    /// Reads the beginning of a batch.
    pub fn begin(&mut self, input: &mut Input) -> Option<BatchHeader> {
        let generation = input.number()?;
        if self.generation != Some(generation) {
            self.generation = Some(generation);
            self.digests.clear();
            self.identities.clear();
            self.dictionary_bytes = 0;
        }
        self.sessions.clear();
        self.previous = Previous::default();
        Some(BatchHeader { before: input.number()?, executions: input.number()? })
    }

    /// The next execution; `None` where the batch makes no sense. Definitions on the way are remembered.
    pub fn next(&mut self, input: &mut Input) -> Option<Recorded> {
        loop {
            let head = input.number()?;
            match head & 3 {
                ITEM_EXECUTION => return self.execution(head >> 2, input),
                ITEM_DIGEST => self.define_digest(input)?,
                ITEM_IDENTITY => self.define_identity(input)?,
                _ => return None,
            }
        }
    }

    fn digest(&self, number: u32) -> Arc<Digest> {
        self.digests.get(&number.into()).unwrap_or(&self.unknown).clone()
    }

    fn define_digest(&mut self, input: &mut Input) -> Option<()> {
        let number = input.number32()?;
        let text: String = crate::format::clean(input.string(TEXT_MAX)?).into_owned();
        let members = (0..input.number().filter(|n| *n <= MEMBERS_MAX as u64)?)
            .map(|_| input.number32().map(|m| self.digest(m)))
            .collect::<Option<Vec<_>>>()?;
        self.dictionary_bytes += text.len();
        if self.dictionary_bytes > DICTIONARY_BYTES_MAX || self.digests.len() >= ENTRIES_MAX {
            return None;
        }
        self.digests.insert(number.into(), Arc::new(Digest { members, ..Digest::of(text) }));
        Some(())
    }

    fn define_identity(&mut self, input: &mut Input) -> Option<()> {
        let number = input.number32()?;
        let mut parts = [&b""[..]; 4];
        for part in &mut parts {
            *part = input.bytes(4096)?;
            self.dictionary_bytes += part.len();
        }
        let [user, database, application, client] = parts;
        let who = Who::new(user, database, application, client, input.number()?);
        if self.dictionary_bytes > DICTIONARY_BYTES_MAX || self.identities.len() >= ENTRIES_MAX {
            return None;
        }
        self.identities.insert(number.into(), Arc::new(who));
        Some(())
    }

    fn execution(&mut self, has: u64, input: &mut Input) -> Option<Recorded> {
        let mut index = self.previous.session;
        if has & HAS_SESSION != 0 {
            index = usize::try_from(input.number()?).ok()?;
            if index == self.sessions.len() {
                let uid = input.number()?;
                let server = input.number()?.try_into().ok()?;
                self.sessions.push(Session { uid, server, ..Session::default() });
            }
        }
        let session = self.sessions.get_mut(index)?;
        if has & HAS_OWNER != 0 {
            session.who = input.number32()?;
            session.dialect = Dialect::from_u8(input.byte()?);
            session.tid = input.number32()?;
        }
        if has & HAS_COMMAND != 0 {
            session.command = Command::from_u8(input.byte()?);
        }
        let start_ns = self.previous.start_ns.wrapping_add(input.signed()? as u64);
        let latency_ns = input.number()?;
        let digest = input.number32()?;
        let (bytes_in, bytes_out) = (input.number()?, input.number()?);
        let mut optional =
            |bit: u64, otherwise: u64| if has & bit == 0 { Some(otherwise) } else { input.number() };
        let first_byte_ns = optional(HAS_FIRST_BYTE, 0)?;
        let mut e = Execution {
            kind: KIND_EXECUTION,
            session_uid: session.uid,
            start_ns,
            latency_ns,
            first_byte_ns: (has & HAS_FIRST_BYTE != 0).then_some(first_byte_ns),
            bytes_in,
            bytes_out,
            rows_returned: optional(HAS_ROWS_RETURNED, 0)?,
            rows_affected: optional(HAS_ROWS_AFFECTED, 0)?,
            flags: optional(HAS_FLAGS, 0)?.try_into().ok()?,
            statements: optional(HAS_STATEMENTS, 1)?.try_into().ok()?,
            unit: optional(HAS_UNIT, session.unit.wrapping_add(1).into())?.try_into().ok()?,
            tid: session.tid,
            dialect: session.dialect,
            command: session.command,
            weight: 1.0,
            ..Execution::default()
        };
        let known = optional(HAS_KNOWN, self.previous.known)?;
        session.unit = e.unit;
        let (who, server) = (session.who, session.server);
        if has & HAS_ERROR != 0 {
            e.error_code = input.number32()?;
            e.sqlstate = input.take(5)?.try_into().ok()?;
        }
        if has & HAS_WEIGHT != 0 {
            e.weight = f64::from_bits(u64::from_le_bytes(input.take(8)?.try_into().ok()?));
            if !e.weight.is_finite() || e.weight < 1.0 {
                return None;
            }
        }
        if has & HAS_SCALED != 0 {
            e.counts.scaled = input.number()? & known;
        }
        let mut members = Vec::new();
        if has & HAS_MEMBERS != 0 {
            for _ in 0..input.number().filter(|n| *n <= MEMBERS_MAX as u64)? {
                members.push((self.digest(input.number32()?), input.number32()?));
            }
        }
        if has & HAS_KIND != 0 {
            e.kind = input
                .number()?
                .try_into()
                .ok()
                .filter(|kind| (KIND_EXECUTION..=KIND_WORKER).contains(kind))?;
        }
        let exact = if has & HAS_EXACT != 0 { input.number()? } else { self.previous.exact };
        e.exact = exact & known;
        for id in (0..64).filter(|id| known & (1 << id) != 0) {
            e.counts.set(id, input.number()?);
        }
        self.previous = Previous { session: index, start_ns, known, exact };
        let who = self.identities.get(&who.into()).unwrap_or(&self.nobody).clone();
        Some(Recorded { execution: e, digest: self.digest(digest), members, who, server })
    }
}
