//! Writers that are killed at random points leave the segment readable, and nothing that they published is lost.
//!
//! The parent makes a segment and reads it, a child process writes records, texts and its session slot as fast as it
//! can on two threads until it is killed; the next child takes the dead one's lanes and slots. Everything that is
//! written follows from (child, thread, number), so that the parent can tell whole from torn.

use perquery_agent::counters::Counts;
use perquery_agent::hash::content_hash;
use perquery_agent::protocol::{Command as Work, Dialect, Member, TextRef};
use perquery_agent::segment::layout::Shape;
use perquery_agent::segment::reader::{self, Mapping};
use perquery_agent::segment::record::{Execution, KIND_EXECUTION, decode};
use perquery_agent::segment::writer::{self, Fields};
use perquery_agent::segment::{Segment, TextKind};
use perquery_agent::sys::process::{pid, process_exists, tid};
use std::collections::HashMap;
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const FD: &str = "PERQUERY_TEST_SEGMENT_FD";
const CHILD: &str = "PERQUERY_TEST_CHILD";
const THREADS: usize = 2;
const KILLS: u64 = 200;
/// Small rings, and an arena of some twenty texts, so that each child goes round all of them many times.
const SHAPE: Shape = Shape {
    lanes: THREADS,
    ring_words: 1 << 14,
    sessions: THREADS,
    index_entries: 1 << 9,
    arena_words: 1 << 11,
};
/// A word of the header that nothing else uses, one for each thread: how many records it knows to be published.
const PUBLISHED: usize = 32;

/// One thread of one child is a session.
fn uid(child: u64, thread: usize) -> u64 {
    child << 8 | thread as u64
}

/// Text number `n` of a session: 30 to 1,500 bytes. Every eighth is the same for all.
fn text(session: u64, n: u64) -> Vec<u8> {
    let (session, n) = if n.is_multiple_of(8) { (0, n % 512) } else { (session, n) };
    let head = format!("SELECT {n} FROM session_{session} WHERE pad = '");
    let pad = (n.wrapping_mul(0x9e37_79b9) >> 7) % 1400;
    let mut text = head.into_bytes();
    text.resize(text.len() + pad as usize, b'a' + (n % 26) as u8);
    text.push(b'\'');
    text
}

/// What stands in a record: text in place or in the store, counters and members come and go.
fn expected(session: u64, n: u64) -> (Fields, Counts, Vec<Member>, Vec<u8>) {
    let text = text(session, n);
    let hash = content_hash(&text);
    let is_stored = n.is_multiple_of(2);
    let mut counts = Counts::new();
    (0..(n % 5) as u8).for_each(|id| counts.set(id * 3, n + u64::from(id)));
    let members = (0..n % 3)
        .map(|i| Member { text: TextRef { hash: hash ^ i, full_len: i as u32 }, executions: n as u32 });
    let fields = Fields {
        kind: KIND_EXECUTION,
        session_uid: session,
        start_ns: n,
        latency_ns: n ^ session,
        text_hash: if is_stored { hash } else { 0 },
        text_len: text.len() as u32,
        weight: 1.0,
        unit: n as u32,
        statements: 1,
        dialect: Dialect::MariaDb,
        command: Work::Query,
        ..Fields::default()
    };
    (fields, counts, members.collect(), text)
}

/// One thread of the child: writes until it is killed.
fn write_for_ever(segment: Segment<'_>, thread: usize, child: u64) {
    let now_ns = child;
    let lane = segment.lane(thread).expect("a lane for each thread");
    let owner = lane.owner();
    assert!(owner.is_none_or(|(pid, _)| !process_exists(pid)), "the former child is dead and waited for");
    assert!(lane.take(owner, pid(), tid(), now_ns));
    let slot = segment.session(thread).expect("a slot for each thread");
    let session = uid(child, thread);
    assert!(slot.take(slot.owner_pid(), pid(), session, now_ns));
    slot.identify(Dialect::MariaDb, child, 0);
    let texts = segment.texts();
    for n in 0.. {
        let (fields, counts, members, text) = expected(session, n);
        // The start names the text, so that the reader knows what has to be there.
        slot.start(session << 32 | (n + 1), Work::Query, &text, 0, text.len() as u32);
        let inline = if fields.text_hash != 0 {
            texts.put(fields.text_hash, TextKind::Statement, &text);
            &[]
        } else {
            &text[..]
        };
        while !writer::write(&lane, &fields, &counts, &members, inline) {
            std::thread::yield_now();
        }
        segment.word(PUBLISHED + thread).store(n + 1, Ordering::Release);
        slot.finish();
    }
}

#[test]
#[ignore = "the child of the test below"]
fn child() {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let (Some(fd), Some(child)) = (number(FD), number(CHILD)) else { return };
    let mapping = Mapping::open(&(fd as i32)).expect("the parent's segment");
    let segment = mapping.segment().expect("the parent's segment");
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || write_for_ever(segment, thread, child));
        }
    });
}

/// A child never outlives a failed test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().expect("its own child");
        self.0.wait().expect("its own child");
    }
}

fn start_child(fd: &impl AsRawFd, child: u64) -> Killed {
    let child = Command::new(std::env::current_exe().expect("its own path"))
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(FD, fd.as_raw_fd().to_string())
        .env(CHILD, child.to_string())
        .stdout(Stdio::null())
        .spawn()
        .expect("its own executable");
    Killed(child)
}

/// The reading side's memory of one lane.
#[derive(Default)]
struct Seen {
    /// The session whose records came last, and how many of them.
    session: u64,
    records: u64,
    /// The same of the sessions before.
    ended: HashMap<u64, u64>,
}

impl Seen {
    /// Checks a record against what has to come next.
    fn take(&mut self, e: &Execution) {
        if e.session_uid != self.session {
            assert_eq!(e.session_uid & 0xff, self.session & 0xff, "each thread keeps to its lane");
            assert!(e.session_uid > self.session, "a dead session came back");
            self.ended.insert(self.session, self.records);
            (self.session, self.records) = (e.session_uid, 0);
        }
        let n = self.records;
        let (fields, counts, members, text) = expected(self.session, n);
        assert_eq!(
            (e.unit, e.start_ns, e.latency_ns),
            (n as u32, n, n ^ self.session),
            "in order, none missing"
        );
        assert_eq!((e.text_hash, e.text_len), (fields.text_hash, fields.text_len));
        assert!(e.text == if e.text_hash == 0 { text } else { Vec::new() }, "the text of record {n}");
        assert_eq!(e.counts.known, counts.known);
        assert!((0..64).all(|id| e.counts.get(id) == counts.get(id)));
        let members: Vec<_> = members.iter().map(|m| (m.text.hash, m.text.full_len, m.executions)).collect();
        assert_eq!(e.members, members);
        self.records += 1;
    }

    /// Of each dead session came what it published, and at most the record that it was killed too early to count.
    fn expect_nothing_lost(&self, dead: &[(u64, u64)]) {
        for (session, published) in dead.iter().filter(|(session, _)| session & 0xff == self.session & 0xff) {
            let is_last = *session == self.session;
            let came = if is_last { self.records } else { self.ended.get(session).copied().unwrap_or(0) };
            assert!(
                (*published..=published + 1).contains(&came),
                "session {session:x}: {came} came of {published}"
            );
        }
    }
}

fn each_record(mut words: &[u64], mut take: impl FnMut(&[u64])) {
    while let Some(length) = words.first() {
        let (record, rest) = words.split_at(*length as u32 as usize);
        take(record);
        words = rest;
    }
}

/// A text in the store is whole or not there; a session slot shows what belongs together or nothing.
#[derive(Default)]
struct Looked {
    found: u64,
    gone: u64,
    in_flight: u64,
}

impl Looked {
    fn text(&mut self, segment: &Segment<'_>, record: &[u64]) {
        let (session, n, hash) = (record[1], record[2], record[6]);
        if hash == 0 {
            return;
        }
        match reader::text(segment, hash) {
            Some(found) => {
                assert!(found == text(session, n), "text {n} of session {session:x} is torn");
                self.found += 1;
            }
            None => self.gone += 1,
        }
    }

    fn slots(&mut self, segment: &Segment<'_>) {
        for slot in (0..THREADS).filter_map(|thread| segment.session(thread)) {
            let Some(seen) = slot.snapshot(segment).filter(|seen| seen.start_ns != 0) else { continue };
            let text = text(seen.start_ns >> 32, (seen.start_ns & 0xffff_ffff) - 1);
            assert_eq!(seen.text_len as usize, text.len());
            let shown = &seen.prefix[..seen.prefix_len];
            assert!(shown.len() == text.len().min(seen.prefix.len()) && text.starts_with(shown), "{seen:?}");
            self.in_flight += 1;
        }
    }
}

#[test]
fn whatever_moment_a_writer_is_killed_at_what_it_published_arrives_whole_and_in_order() {
    let (fd, mapping) = Mapping::make(SHAPE).expect("a memfd");
    let segment = mapping.segment().expect("just made");
    let mut random = 0x2545_f491_4f6c_dd1d_u64 ^ u64::from(std::process::id());
    let mut seen: [Seen; THREADS] =
        std::array::from_fn(|thread| Seen { session: uid(0, thread), ..Seen::default() });
    let mut looked = Looked::default();
    let mut dead = Vec::new();
    let mut raw = Vec::new();
    let (mut records, mut corrupt, mut killed_at_work) = (0, 0, 0);

    for number in 1..=KILLS {
        (0..THREADS).for_each(|thread| segment.word(PUBLISHED + thread).store(0, Ordering::Release));
        let child = start_child(&fd, number);
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // Now and then nobody drains before the next child has taken the lanes over, full as they are.
        let is_drained = !random.is_multiple_of(4);
        let life = Duration::from_micros((random >> 8) % 5000);
        let is_at_work = || {
            let mut owners = (0..THREADS).filter_map(|thread| segment.lane(thread)?.owner());
            owners.any(|(pid, _)| pid == child.0.id())
        };
        let begin = Instant::now();
        let mut work_began = None;
        while work_began.is_none_or(|began: Instant| began.elapsed() < life) {
            assert!(begin.elapsed() < Duration::from_secs(30), "child {number} does not start working");
            if work_began.is_none() && is_at_work() {
                work_began = Some(Instant::now());
            }
            if is_drained && work_began.is_some() {
                let from = raw.len();
                corrupt += reader::drain(&segment, |_, words| raw.extend_from_slice(words)).corrupt;
                // The texts are overwritten while they are looked up.
                each_record(&raw[from..], |record| looked.text(&segment, record));
                looked.slots(&segment);
            }
        }
        drop(child);
        killed_at_work +=
            u64::from((0..THREADS).any(|t| segment.word(PUBLISHED + t).load(Ordering::Acquire) > 0));

        looked.slots(&segment);
        for thread in 0..THREADS {
            dead.push((uid(number, thread), segment.word(PUBLISHED + thread).load(Ordering::Acquire)));
        }
        if is_drained || number == KILLS {
            corrupt += reader::drain(&segment, |_, words| raw.extend_from_slice(words)).corrupt;
        }
        // Checked between two children: nobody waits for it.
        each_record(&raw, |record| {
            let e = decode(record).expect("every record decodes");
            seen[(e.session_uid & 0xff) as usize].take(&e);
            records += 1;
        });
        raw.clear();
        assert_eq!(corrupt, 0, "after child {number}");
    }

    seen.iter().for_each(|lane| lane.expect_nothing_lost(&dead));
    let arrived_from: u64 = seen.iter().map(|lane| lane.session >> 8).max().unwrap_or(0);
    println!(
        "{KILLS} kills, {killed_at_work} at work, {records} records, texts {} found {} gone, {} queries in flight",
        looked.found, looked.gone, looked.in_flight
    );
    assert!(arrived_from > KILLS / 2 && killed_at_work > KILLS / 2, "the children got to work");
    assert!(looked.found > 100 && looked.in_flight > 100, "there was something to look at");
}
