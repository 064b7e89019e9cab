//! Where everything lies in the segment: the contract between the agent and the collector.
//!
//! The segment is an array of 64-bit words in the machine's byte order; all positions here are in words.
//!
//! ```text
//! 0                 header    512 words   magic, version, shape, process, counters of losses
//! 512               control   512 words   written by the collector
//! 1024              lanes     LANE_WORDS each: owner, head, tail, drops
//!                   sessions  SESSION_WORDS each: who, and the unit in flight
//!                   index     2 words an entry: content hash, position in the arena
//!                   arena     texts and identities by content hash, a circular log
//!                   rings     ring_words for each lane
//! ```
//!
//! [`LAYOUT_VERSION`] changes with every change of this file or of `record.rs` that an older collector or agent would
//! misread: a word's meaning, a size, a number of a counter, command, dialect or flag, the content hash. New meanings
//! for words that were zero do not change it.

/// First word of a segment: "PERQUERY" in little endian.
pub const MAGIC: u64 = u64::from_le_bytes(*b"PERQUERY");
/// See the module's documentation for when it changes.
pub const LAYOUT_VERSION: u64 = 4;
/// The name of the memfd, as /proc/PID/fd shows it: `/memfd:perquery-segment (deleted)`.
pub const MEMFD_NAME: &core::ffi::CStr = c"perquery-segment";

/// Words of the header.
pub const HEADER_WORDS: usize = 512;
/// Words of the control page.
pub const CONTROL_WORDS: usize = 512;
/// Words of a lane's description: 512 bytes.
pub const LANE_WORDS: usize = 64;
/// Words of a session's slot: 1 KiB.
pub const SESSION_WORDS: usize = 128;

/// Words of the header.
pub mod header {
    /// [`super::MAGIC`], stored last when a segment is made.
    pub const MAGIC: usize = 0;
    /// [`super::LAYOUT_VERSION`].
    pub const VERSION: usize = 1;
    /// Length of the segment in words.
    pub const TOTAL_WORDS: usize = 2;
    /// Number of lanes.
    pub const LANES: usize = 3;
    /// Words of each lane's ring, a power of two.
    pub const RING_WORDS: usize = 4;
    /// Number of session slots.
    pub const SESSIONS: usize = 5;
    /// Entries of the text index, a power of two.
    pub const INDEX_ENTRIES: usize = 6;
    /// Words of the text arena, a power of two.
    pub const ARENA_WORDS: usize = 7;
    /// The process that made the segment; under `perquery run` the command.
    pub const PID: usize = 8;
    /// CLOCK_MONOTONIC when the segment was made.
    pub const MADE_NS: usize = 9;
    /// Last session uid given out.
    pub const LAST_UID: usize = 12;
    /// Executions dropped because no lane was free.
    pub const DROPS_NO_LANE: usize = 13;
    /// Sessions that could not be followed any further.
    pub const LOST_SESSIONS: usize = 14;
    /// Next free position of the arena; only grows.
    pub const ARENA_HEAD: usize = 15;
    /// Sessions that found no slot: their units in flight are not shown.
    pub const NO_SLOT: usize = 16;
    /// Prepared statements forgotten because a session had too many.
    pub const EVICTED_STATEMENTS: usize = 17;
    /// Accepted connections.
    pub const ACCEPTED: usize = 18;
    /// Path of the executable, NUL padded, 64 words.
    pub const EXE: usize = 64;
    /// Words of the path.
    pub const EXE_WORDS: usize = 64;
}

/// Words of the control page, counted from its beginning. Written by the collector, except [`control::CAPTURE`], which
/// the agent sets to 0 when the collector went silent.
pub mod control {
    /// 0: off. Else on, with the generation of what is wanted: a new number whenever the words below changed.
    pub const CAPTURE: usize = 0;
    /// The last generation used.
    pub const GENERATION: usize = 1;
    /// CLOCK_MONOTONIC of the collector's last sign of life; stored at least twice a second.
    pub const HEARTBEAT_NS: usize = 2;
    /// The collector's pid, 0 when there is none.
    pub const COLLECTOR_PID: usize = 3;
    /// Its start time in clock ticks since boot (/proc/PID/stat, field 22).
    pub const COLLECTOR_START: usize = 4;
    /// Why the agent switched capture off: 1: the collector was silent.
    pub const OFF_REASON: usize = 5;
    /// Not 0: only the session with this connection id (MySQL thread id, PostgreSQL backend pid) is captured.
    pub const ONLY_CONNECTION: usize = 6;
    /// The share of time that readings may cost, in millionths; 0: every execution is counted, whatever it costs.
    pub const BUDGET_PPM: usize = 7;
    /// Wanted counters: mask.
    pub const WANTED: usize = 8;
    /// Wanted: user mode only.
    pub const USER_ONLY: usize = 9;
    /// Wanted: kernel mode only.
    pub const KERNEL_ONLY: usize = 10;
    /// Wanted: user-space reads.
    pub const USER_SPACE_READS: usize = 11;
    /// Custom events, two words each: kind u32 | modifiers u32; config.
    pub const CUSTOM: usize = 12;
}

/// Words of a lane's description. Words 0–31 are the producer's cache lines, 32–63 the consumer's.
pub mod lane {
    /// pid << 32 | tid of the owner, 0 when free.
    pub const OWNER: usize = 0;
    /// Executions recorded. (The words up to 7 are one cache line: what each record changes.)
    pub const EXECUTIONS: usize = 1;
    /// The ring's head.
    pub const HEAD: usize = 2;
    /// Records dropped because the ring was full.
    pub const DROPS: usize = 3;
    /// Executions whose CPU time was known without a system call.
    pub const CPU_FOR_FREE: usize = 4;
    /// The ring's last jump: from this position.
    pub const SKIP_FROM: usize = 5;
    /// The ring's last jump: to this position.
    pub const SKIP_TO: usize = 6;
    /// Why a wanted counter is unavailable here: 64 reason bytes, by counter number.
    pub const UNAVAILABLE: usize = 8;
    /// Counters of perf that this thread can only count in user mode, mask.
    pub const USER_MODE_ONLY: usize = 16;
    /// Executions whose dear counters were read.
    pub const COUNTED: usize = 17;
    /// CLOCK_MONOTONIC when the owner took it: a process that started later under the same pid is not the owner.
    pub const TAKEN_NS: usize = 18;
    /// Time spent on readings, ns.
    pub const SPENT_NS: usize = 19;
    /// The present probability of being counted, in millionths.
    pub const PROBABILITY_PPM: usize = 20;
    /// The ring's tail.
    pub const TAIL: usize = 32;
}

/// Words of a session's slot.
pub mod session {
    /// pid << 32 | process-wide number of the session, 0 when free.
    pub const OWNER: usize = 0;
    /// Unique number of the session.
    pub const UID: usize = 1;
    /// CLOCK_MONOTONIC at the start of the unit in flight; 0: idle. Stored last at the start and first at the end.
    pub const START_NS: usize = 2;
    /// dialect u8 | command u8 | where the unit's record will stand, 48 bits: its position in the segment + 1. Not 0: the
    /// record is not published yet, but its text is there, and the words below say nothing about the text.
    pub const KIND: usize = 3;
    /// Connection id: MySQL thread id, PostgreSQL backend pid.
    pub const CONNECTION: usize = 4;
    /// Content hash of the identity.
    pub const IDENTITY: usize = 5;
    /// Content hash of the text in flight, 0: the prefix below is all there is.
    pub const TEXT: usize = 6;
    /// Whole length of the text u32 | bytes of the prefix u32.
    pub const TEXT_LEN: usize = 7;
    /// CLOCK_MONOTONIC when the slot was taken.
    pub const TAKEN_NS: usize = 8;
    /// The beginning of the text in flight.
    pub const PREFIX: usize = 16;
    /// Bytes of the prefix: 896.
    pub const PREFIX_WORDS: usize = super::SESSION_WORDS - PREFIX;
}

/// One, in millionths.
pub const PPM: u64 = 1_000_000;

/// Sizes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Number of lanes.
    pub lanes: usize,
    /// Words of a ring; a power of two.
    pub ring_words: usize,
    /// Number of session slots.
    pub sessions: usize,
    /// Entries of the text index; a power of two.
    pub index_entries: usize,
    /// Words of the text arena; a power of two.
    pub arena_words: usize,
}

impl Shape {
    /// What a server gets. Only touched pages take memory: an idle server's segment is a few pages.
    ///
    /// 1 MiB of ring holds 3,000 executions, 50 ms of a thread that does nothing but point selects at full speed; 1,024
    /// threads can record at the same time.
    pub const SERVER: Shape = Shape {
        lanes: 1024,
        ring_words: 1 << 17,
        sessions: 8192,
        index_entries: 1 << 16,
        arena_words: 1 << 21,
    };

    /// What `perquery run` makes: fewer lanes with larger rings, because an embedded SQLite runs 100 times as many
    /// statements a second on a few threads.
    pub const RUN: Shape = Shape { lanes: 1024, ring_words: 1 << 19, ..Shape::SERVER };

    /// First word of the lanes.
    pub const fn lanes_at(&self) -> usize {
        HEADER_WORDS + CONTROL_WORDS
    }
    /// First word of the session slots.
    pub const fn sessions_at(&self) -> usize {
        self.lanes_at() + self.lanes * LANE_WORDS
    }
    /// First word of the text index.
    pub const fn index_at(&self) -> usize {
        self.sessions_at() + self.sessions * SESSION_WORDS
    }
    /// First word of the text arena.
    pub const fn arena_at(&self) -> usize {
        self.index_at() + self.index_entries * 2
    }
    /// First word of the rings, on a page boundary.
    pub const fn rings_at(&self) -> usize {
        (self.arena_at() + self.arena_words).next_multiple_of(512)
    }
    /// Words of the whole segment.
    pub const fn total_words(&self) -> usize {
        self.rings_at() + self.lanes * self.ring_words
    }

    /// True when the sizes are within what this version makes or reads: no sum can overflow, powers of two where the
    /// arithmetic needs them.
    pub const fn is_sane(&self) -> bool {
        self.lanes >= 1
            && self.lanes <= 1 << 16
            && self.ring_words.is_power_of_two()
            && self.ring_words >= 2 * super::record::RECORD_MAX_WORDS
            && self.ring_words <= 1 << 24
            && self.sessions >= 1
            && self.sessions <= 1 << 20
            && self.index_entries.is_power_of_two()
            && self.index_entries <= 1 << 22
            && self.arena_words.is_power_of_two()
            && self.arena_words >= 2048
            && self.arena_words <= 1 << 26
    }
}

const _: () = assert!(Shape::SERVER.is_sane() && Shape::RUN.is_sane());
const _: () = assert!(lane::UNAVAILABLE + 8 <= lane::TAIL && lane::TAIL < LANE_WORDS);
const _: () = assert!(header::EXE + header::EXE_WORDS <= HEADER_WORDS);
const _: () = assert!(control::CUSTOM + 2 * crate::counters::CUSTOM_MAX <= CONTROL_WORDS);
