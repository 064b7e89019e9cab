//! Every reason why a report's numbers may be wrong or missing, with what to do about it.
//!
//! Reports print all of them, always; machines get the codes. A code never changes its meaning.

use crate::format::{bytes, duration, plural};

/// A reason not to take a report at face value.
#[derive(Clone, Debug, PartialEq)]
pub enum Warning {
    /// Rings were full: executions are missing.
    DroppedRecords {
        /// How many.
        records: u64,
    },
    /// The protocol of some sessions could not be followed.
    LostSessions {
        /// How many.
        sessions: u64,
        /// Why, most frequent first; may be empty.
        reasons: Vec<String>,
    },
    /// Executions whose statement is not known.
    UnknownText {
        /// How many.
        executions: u64,
    },
    /// Prepared statements that were forgotten because a session has too many.
    StatementEvictions {
        /// How many.
        statements: u64,
    },
    /// Counters that shared the processor's registers with others.
    Multiplexed {
        /// Their names.
        counters: Vec<String>,
    },
    /// Counters that were read in user mode only.
    UserModeOnly {
        /// Their names.
        counters: Vec<String>,
    },
    /// Slices of threads or parallel workers whose execution was not found.
    UnmatchedSlices {
        /// How many.
        slices: u64,
    },
    /// More different keys than rows.
    RowOverflow {
        /// Executions in the row `(other)`.
        executions: u64,
        /// The limit.
        rows: usize,
    },
    /// Executions whose rows and error could not be read from a compressed response.
    CompressedOutcomes {
        /// How many.
        executions: u64,
    },
    /// Executions that were under way when capture was switched on.
    LateStarts {
        /// How many.
        executions: u64,
    },
    /// Capture was off for a while within the period.
    CaptureGap {
        /// For how long.
        duration_ns: u64,
    },
    /// The server ended while it was watched, in the middle of queries.
    ServerDied {
        /// Its process.
        pid: u32,
        /// Queries that were running.
        in_flight: usize,
    },
    /// The recording does not say that it is complete.
    UnfinishedRecording {
        /// Bytes of a frame that was being written.
        torn_bytes: u64,
    },
    /// Parts of the recording are damaged.
    DamagedRecording {
        /// Places.
        places: u64,
        /// Bytes that could not be read.
        bytes: u64,
        /// Executions in them, as far as the rest of the recording tells.
        executions: u64,
    },
    /// The recording's clock or session records contradict themselves, or it has parts this version does not know.
    UnknownFrames {
        /// How many.
        frames: u64,
    },
    /// One that was written into a recording, or that another part of the program words itself.
    Other {
        /// See [`Warning::code`].
        code: String,
        /// See [`Warning::message`].
        message: String,
        /// See [`Warning::remedy`].
        remedy: String,
    },
}

impl Warning {
    /// Names the kind of warning, for machines.
    pub fn code(&self) -> &str {
        match self {
            Warning::DroppedRecords { .. } => "dropped-records",
            Warning::LostSessions { .. } => "lost-sessions",
            Warning::UnknownText { .. } => "unknown-text",
            Warning::StatementEvictions { .. } => "statement-evictions",
            Warning::Multiplexed { .. } => "multiplexed",
            Warning::UserModeOnly { .. } => "user-mode-only",
            Warning::UnmatchedSlices { .. } => "unmatched-slices",
            Warning::RowOverflow { .. } => "row-overflow",
            Warning::CompressedOutcomes { .. } => "compressed-outcomes",
            Warning::LateStarts { .. } => "late-starts",
            Warning::CaptureGap { .. } => "capture-gap",
            Warning::ServerDied { .. } => "server-died",
            Warning::UnfinishedRecording { .. } => "unfinished-recording",
            Warning::DamagedRecording { .. } => "damaged-recording",
            Warning::UnknownFrames { .. } => "unknown-frames",
            Warning::Other { code, .. } => code,
        }
    }

    /// What happened, in a sentence without full stop.
    pub fn message(&self) -> String {
        match self {
            Warning::DroppedRecords { records } => {
                format!(
                    "{} dropped because a ring was full: counts and sums are too low",
                    plural(*records, "record")
                )
            }
            Warning::LostSessions { sessions, reasons } => {
                let why =
                    if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) };
                format!(
                    "{} could not be followed{why}: their queries are missing",
                    plural(*sessions, "session")
                )
            }
            Warning::UnknownText { executions } => {
                format!("the statement of {} is not known", plural(*executions, "execution"))
            }
            Warning::StatementEvictions { statements } => {
                format!(
                    "{} forgotten: a session has more than are followed",
                    plural(*statements, "prepared statement")
                )
            }
            Warning::Multiplexed { counters } => {
                format!("{} shared the processor's counters and are scaled", counters.join(", "))
            }
            Warning::UserModeOnly { counters } => {
                format!("{} count user mode only: the kernel's share is missing", counters.join(", "))
            }
            Warning::UnmatchedSlices { slices } => {
                format!(
                    "{} of work belong to no known execution and are not counted",
                    plural(*slices, "slice")
                )
            }
            Warning::RowOverflow { executions, rows } => {
                format!(
                    "more than {rows} different keys: {} are in the row (other)",
                    plural(*executions, "execution")
                )
            }
            Warning::CompressedOutcomes { executions } => format!(
                "rows and errors of {} are not known: the response was compressed",
                plural(*executions, "execution")
            ),
            Warning::LateStarts { executions } => format!(
                "{} had begun before capture was switched on: latency and counters begin there",
                plural(*executions, "execution")
            ),
            Warning::CaptureGap { duration_ns } => {
                format!("capture was off for {} of the period", duration(*duration_ns as f64))
            }
            Warning::ServerDied { pid, in_flight } => {
                format!("the server, pid {pid}, ended with {} under way", plural_queries(*in_flight))
            }
            Warning::UnfinishedRecording { torn_bytes: 0 } => {
                "the recording has no end: its writer was stopped".to_owned()
            }
            Warning::UnfinishedRecording { torn_bytes } => format!(
                "the recording breaks off within a frame, {} before its end are lost",
                bytes(*torn_bytes as f64)
            ),
            Warning::DamagedRecording { places, bytes: lost, executions } => format!(
                "the recording is damaged in {}: {} and at least {} are lost",
                plural(*places, "place"),
                bytes(*lost as f64),
                plural(*executions, "execution")
            ),
            Warning::UnknownFrames { frames } => {
                format!("{} of the recording could not be understood", plural(*frames, "frame"))
            }
            Warning::Other { message, .. } => message.clone(),
        }
    }

    /// What to do about it, in a sentence without full stop.
    pub fn remedy(&self) -> &str {
        match self {
            Warning::DroppedRecords { .. } => {
                "give the collector a CPU of its own, or capture for a shorter time or fewer counters"
            }
            Warning::LostSessions { .. } => {
                "these sessions are seen again after they reconnect; perquery doctor says which protocols are supported"
            }
            Warning::UnknownText { .. } => {
                "statements prepared before the library was loaded are known after the client reconnects"
            }
            Warning::StatementEvictions { .. } => {
                "let the application close prepared statements it no longer uses"
            }
            Warning::Multiplexed { .. } => "ask for fewer events with -e",
            Warning::UserModeOnly { .. } => {
                "sysctl kernel.perf_event_paranoid=1 lets the kernel's share be counted"
            }
            Warning::UnmatchedSlices { .. } => {
                "none needed if few; many of them mean that records were dropped"
            }
            Warning::RowOverflow { .. } => "use coarser keys with --by, or a shorter period",
            Warning::CompressedOutcomes { .. } => "switch protocol compression off in the client to see them",
            Warning::LateStarts { .. } => "none needed; switch capture on earlier to see them whole",
            Warning::CaptureGap { .. } => "run one collector only, and keep it running",
            Warning::ServerDied { .. } => "the queries in flight are listed; one of them may be the cause",
            Warning::UnfinishedRecording { .. } => "none needed: all complete frames are in the report",
            Warning::DamagedRecording { .. } => "copy the recording again if it was copied; check the disk",
            Warning::UnknownFrames { .. } => "read it with the perquery that wrote it, or a newer one",
            Warning::Other { remedy, .. } => remedy,
        }
    }
}

fn plural_queries(n: usize) -> String {
    if n == 1 { "1 query".to_owned() } else { format!("{n} queries") }
}
