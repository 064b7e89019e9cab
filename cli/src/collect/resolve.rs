//! Turns the hashes of a record into statements and people.

use super::inflate::inflate;
use crate::aggregate::{Sample, Who};
use crate::digest::{Digester, Resolved};
use perquery_agent::protocol::Command;
use perquery_agent::segment::reader::{self, Mapping};
use perquery_agent::segment::record::{
    Execution, FLAG_TEXT_UNKNOWN, FLAG_TEXT_ZLIB, FLAG_TEXT_ZSTD, KIND_EXECUTION,
};
use std::collections::HashMap;
use std::sync::Arc;

/// Texts of prepared statements kept; more are looked up again.
const TEXTS_BYTES_MAX: usize = 8 << 20;
const IDENTITIES_MAX: usize = 10_000;

/// Resolves the records of one segment.
pub struct Resolver {
    mapping: Arc<Mapping>,
    digester: Digester,
    texts: HashMap<u64, Arc<[u8]>>,
    texts_bytes: usize,
    identities: HashMap<u64, Arc<Who>>,
    nobody: Arc<Who>,
}

impl Resolver {
    /// For the records of `mapping`.
    pub fn new(mapping: Arc<Mapping>) -> Self {
        Resolver {
            mapping,
            digester: Digester::new(),
            texts: HashMap::new(),
            texts_bytes: 0,
            identities: HashMap::new(),
            nobody: Arc::new(Who::default()),
        }
    }

    /// Calls `take` with the resolved record.
    pub fn with(&mut self, execution: &mut Execution, take: impl FnOnce(&Sample)) {
        let resolved = if execution.kind == KIND_EXECUTION {
            self.resolve(execution)
        } else {
            Resolved { digest: self.digester.unknown(), members: Vec::new() }
        };
        let who = self.who(execution.identity_hash);
        take(&Sample {
            execution,
            digest: &resolved.digest,
            members: &resolved.members,
            who: &who,
            server: 0,
        });
    }

    fn resolve(&mut self, execution: &mut Execution) -> Resolved {
        if execution.flags & (FLAG_TEXT_ZLIB | FLAG_TEXT_ZSTD) != 0 {
            inflate(execution);
        }
        if !execution.members.is_empty() {
            let texts: HashMap<u64, Arc<[u8]>> =
                execution.members.iter().filter_map(|m| Some((m.0, self.text(m.0)?))).collect();
            return self.digester.of_execution(execution, None, |hash| texts.get(&hash).map(|t| &t[..]));
        }
        let stored = if execution.text_hash == 0 { None } else { self.text(execution.text_hash) };
        let known = execution.flags & FLAG_TEXT_UNKNOWN == 0;
        let text = match &stored {
            Some(text) => Some(&text[..]),
            None if execution.text_hash != 0 || !known => None,
            None if execution.text.is_empty() && execution.command != Command::Query => None,
            None => Some(&execution.text[..]),
        };
        self.digester.of_execution(execution, text, |_| None)
    }

    /// The text named `hash`.
    pub fn text(&mut self, hash: u64) -> Option<Arc<[u8]>> {
        if let Some(text) = self.texts.get(&hash) {
            return Some(Arc::clone(text));
        }
        let text: Arc<[u8]> = reader::text(&self.mapping.segment().ok()?, hash)?.into();
        if self.texts_bytes > TEXTS_BYTES_MAX {
            self.texts.clear();
            self.texts_bytes = 0;
        }
        // The table's own share is counted too.
        self.texts_bytes += text.len() + 64;
        self.texts.insert(hash, Arc::clone(&text));
        Some(text)
    }

    /// The identity named `hash`; nobody where it is not known.
    pub fn who(&mut self, hash: u64) -> Arc<Who> {
        if hash == 0 {
            return Arc::clone(&self.nobody);
        }
        if let Some(who) = self.identities.get(&hash) {
            return Arc::clone(who);
        }
        let found = self.mapping.segment().ok().and_then(|segment| reader::who(&segment, hash));
        let Some([user, database, application, client]) = found else { return Arc::clone(&self.nobody) };
        if self.identities.len() >= IDENTITIES_MAX {
            self.identities.clear();
        }
        let who = Arc::new(Who::new(&user, &database, &application, &client, 0));
        self.identities.insert(hash, Arc::clone(&who));
        who
    }
}
