//! Who a session is, as the collector passes it on.

use perquery_agent::hash::content_hash;

/// A session's identity. Strings are shown to people: made without control characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    /// The user's name as the client gave it.
    pub user: String,
    /// The current database; empty when none.
    pub database: String,
    /// `program_name` or `application_name`; empty when none.
    pub application: String,
    /// The client's host, or `local` for a unix socket; empty when not known.
    pub client: String,
    /// MySQL thread id, PostgreSQL backend pid; 0 when not known.
    pub connection_id: u64,
    /// Hash of the above.
    hash: u64,
}

impl Who {
    /// An identity from whatever bytes the wire carried.
    pub fn new(user: &[u8], database: &[u8], application: &[u8], client: &[u8], connection_id: u64) -> Self {
        let shown = |bytes: &[u8]| -> String {
            let text = String::from_utf8_lossy(bytes);
            text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
        };
        let parts = [user, database, application, client];
        let mut all: Vec<u8> = connection_id.to_le_bytes().to_vec();
        for part in parts {
            all.extend_from_slice(&(part.len() as u64).to_le_bytes());
            all.extend_from_slice(part);
        }
        let [user, database, application, client] = parts.map(shown);
        Who { user, database, application, client, connection_id, hash: content_hash(&all) }
    }

    /// Names the identity; 0 for the default one, which nobody knows.
    pub fn hash(&self) -> u64 {
        self.hash
    }
}
