//! What a recording says besides executions: servers, counters, losses, its end.

use crate::aggregate::Who;
use perquery_agent::counters::CounterId;
use serde::{Deserialize, Serialize};

/// A server that was watched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInfo {
    /// Its process; of PostgreSQL the postmaster.
    pub pid: u32,
    /// `mariadb`, `mysql`, `postgresql` or `sqlite`.
    pub kind: String,
    /// As it says itself; empty when not known.
    pub version: String,
    /// Its executable.
    pub exe: String,
}

/// A counter as reports show it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterMeta {
    /// Its number in records.
    pub id: CounterId,
    /// Its key in reports, with its unit: `cpu_ns`, `cycles`.
    pub name: String,
    /// `ns`, or empty for a count.
    pub unit: String,
    /// Where it comes from: `rusage`, `thread clock`, `perf software`, `perf hardware`.
    pub source: String,
    /// Why it is not available, with the remedy; `None` when it was counted.
    pub unavailable: Option<String>,
    /// Counted in user mode only although more was asked for.
    pub user_only: bool,
    /// `user` or `kernel` where only that was asked for; empty: both, or the counter knows no modes.
    #[serde(default)]
    pub mode: String,
}

impl CounterMeta {
    /// The mode that was counted: `user`, `kernel`, or empty for both.
    pub fn counted_mode(&self) -> &str {
        if self.user_only { "user" } else { &self.mode }
    }
}

/// What was recorded, and since when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The servers; executions name them by position.
    pub servers: Vec<ServerInfo>,
    /// All counters that were asked for, also those that are not available.
    pub counters: Vec<CounterMeta>,
    /// When capture began, ns since 1970.
    pub start_unix_ns: u64,
    /// The same moment on the executions' clock.
    pub start_monotonic_ns: u64,
    /// The program that wrote the recording.
    pub writer: String,
}

/// What could not be recorded. Sums since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Losses {
    /// Records that did not fit a ring.
    pub dropped: u64,
    /// Sessions whose protocol could not be followed.
    pub lost_sessions: u64,
    /// Why, most frequent first.
    pub lost_reasons: Vec<String>,
    /// Prepared statements that were forgotten.
    pub evicted_statements: u64,
    /// For how long capture was off in between.
    pub gap_ns: u64,
    /// What was counted, and what that cost.
    pub sampling: Sampling,
}

/// How many executions had their counters read, and the price.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sampling {
    /// The budget in millionths of the server's time; 0: none, every execution was counted.
    pub budget_ppm: u64,
    /// Executions recorded.
    pub executions: u64,
    /// Executions whose counters were read.
    pub counted: u64,
    /// Executions whose CPU time was known without a system call, because the thread was not switched.
    pub cpu_without_call: u64,
    /// What the readings cost the server, ns of its threads.
    pub spent_ns: u64,
    /// The least probability of being counted among the threads at the end, in millionths.
    pub probability_ppm: u64,
    /// CPU time of the collector itself.
    pub collector_cpu_ns: u64,
}

/// A query that was under way when the server ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    /// Which of the servers.
    pub server: u16,
    /// Its session.
    pub session_uid: u64,
    /// The session's user.
    pub user: String,
    /// Its database.
    pub database: String,
    /// Its application.
    pub application: String,
    /// Its client.
    pub client: String,
    /// MySQL thread id, PostgreSQL backend pid; 0 when not known.
    pub connection_id: u64,
    /// For how long it had been running.
    pub running_ns: u64,
    /// The normalised statement.
    pub text: String,
    /// The statement as it was sent, from [`crate::digest::safe_text`]. For the terminal only: it never gets into a
    /// recording, because it has literals.
    #[serde(skip)]
    pub sent: Option<String>,
}

impl InFlight {
    /// A query of `who`.
    pub fn of(who: &Who, server: u16, session_uid: u64, running_ns: u64, text: String) -> Self {
        InFlight {
            server,
            session_uid,
            user: who.user.clone(),
            database: who.database.clone(),
            application: who.application.clone(),
            client: who.client.clone(),
            connection_id: who.connection_id,
            running_ns,
            text,
            sent: None,
        }
    }
}

/// The end of a complete recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// How long capture was on.
    pub duration_ns: u64,
    /// Executions recorded.
    pub executions: u64,
}

/// A warning in a recording.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct WarningText {
    pub code: String,
    pub message: String,
    pub remedy: String,
}
