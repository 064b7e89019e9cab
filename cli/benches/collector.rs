//! What the collector costs: records through decoding, digest cache and aggregation, with 10 000 different digests.
//!
//! `cargo bench -p perquery-cli --bench collector` prints executions per second (criterion's `elem/s`) and, before that,
//! the memory that one aggregator with all its rows takes after two million executions.

use criterion::{Criterion, Throughput};
use perquery_agent::counters::CHEAP_MASK;
use perquery_agent::protocol::{Command, Dialect};
use perquery_agent::segment::record::{FIXED_WORDS, KIND_EXECUTION, decode};
use perquery_cli::aggregate::{Aggregator, Key, Limits, Sample, Who};
use perquery_cli::digest::Digester;
use perquery_cli::recording::{Meta, Writer};
use std::sync::Arc;

const DIGESTS: usize = 10_000;

/// Records as a lane delivers them, one for each digest.
struct Feed {
    records: Vec<Vec<u64>>,
    state: u64,
    clock_ns: u64,
    /// For texts that never come again: the word of a record that holds eight digits of a literal, and the last number
    /// written there.
    literal: Option<(Vec<usize>, u64)>,
}

impl Feed {
    fn new() -> Self {
        Feed {
            records: (0..DIGESTS).map(|n| record(n, &known_text(n))).collect(),
            state: 0x9e37_79b9_7f4a_7c15,
            clock_ns: 0,
            literal: None,
        }
    }

    /// As many digests, but each text has a literal that was not there before.
    fn of_new_texts() -> Self {
        let texts =
            |n: usize| format!("SELECT c{n}, pad FROM sbtest{n} WHERE id = {LITERAL} ORDER BY c{n} LIMIT 10");
        let digits = |n: usize| {
            let begin = texts(n).find(LITERAL).expect("it was put there");
            FIXED_WORDS + COUNTERS.len() + begin.div_ceil(8)
        };
        Feed {
            records: (0..DIGESTS).map(|n| record(n, &texts(n))).collect(),
            literal: Some(((0..DIGESTS).map(digits).collect(), 0)),
            ..Feed::new()
        }
    }

    /// The next record: a random digest, with a latency between 16 µs and 16 ms.
    fn next(&mut self) -> &[u64] {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let random = self.state;
        let latency_ns = (16_000 << (random % 10)) + (random >> 40) % 16_000;
        self.clock_ns += 6_000;
        let n = random as usize % DIGESTS;
        let record = &mut self.records[n];
        if let Some((words, last)) = &mut self.literal {
            *last += 1;
            record[words[n]] = u64::from_le_bytes(decimal(*last));
        }
        record[2] = self.clock_ns;
        record[3] = latency_ns;
        record[4] = latency_ns / 2;
        record[FIXED_WORDS] = latency_ns / 3;
        record
    }
}

/// Sixteen digits have eight that share a word, wherever they begin.
const LITERAL: &str = "1000000000000000";
const COUNTERS: [u64; 5] = [40_000, 3, 0, 1, 0];

/// The last eight digits of `n`.
fn decimal(mut n: u64) -> [u8; 8] {
    let mut digits = [0; 8];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (n % 10) as u8;
        n /= 10;
    }
    digits
}

fn known_text(n: usize) -> String {
    format!("SELECT c{n}, pad FROM sbtest{n} WHERE id BETWEEN 17 AND 4711 ORDER BY c{n} LIMIT 10")
}

fn record(n: usize, text: &str) -> Vec<u64> {
    let mut words = vec![0u64; FIXED_WORDS];
    words[1] = (n % 100) as u64 + 1;
    words[5] = (n % 100) as u64 + 1;
    words[7] = text.len() as u64 | (text.len() as u64) << 32;
    words[8] = 10;
    (words[10], words[11]) = (90, 900);
    words[12] = 1f64.to_bits();
    words[13] = CHEAP_MASK;
    words[15] = n as u64;
    words[16] = 1 << 32;
    words[17] = (Dialect::MariaDb as u64) << 32 | (Command::Query as u64) << 40;
    words.extend(COUNTERS);
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    words.extend(bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)));
    words[0] = words.len() as u64 | u64::from(KIND_EXECUTION) << 32;
    words
}

fn identities() -> Vec<Arc<Who>> {
    (0..100)
        .map(|n| Arc::new(Who::new(format!("user{n}").as_bytes(), b"sbtest", b"sysbench", b"10.0.0.1", n)))
        .collect()
}

/// Takes `executions` records from `feed` into `aggregator`, and into `writer` if there is one.
fn collect<W: std::io::Write>(
    feed: &mut Feed,
    executions: u64,
    digester: &mut Digester,
    identities: &[Arc<Who>],
    aggregator: &mut Aggregator,
    writer: &mut Option<Writer<W>>,
) {
    for _ in 0..executions {
        let execution = decode(feed.next()).expect("a good record");
        let resolved = digester.of_execution(&execution, Some(&execution.text), |_| None);
        let who = &identities[execution.identity_hash as usize % identities.len()];
        let sample = Sample {
            execution: &execution,
            digest: &resolved.digest,
            members: &resolved.members,
            who,
            server: 0,
        };
        aggregator.add(&sample);
        if let Some(writer) = writer {
            writer.add(&sample).expect("a sink takes everything");
        }
    }
}

/// A line of /proc/self/status, in KiB.
fn status_kib(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.trim_matches([':', ' ', '\t', 'k', 'B']).parse().ok()).unwrap_or(0)
}

fn memory(name: &str, mut feed: Feed) {
    let identities = identities();
    let before = status_kib("VmRSS");
    let mut digester = Digester::new();
    let mut aggregator = Aggregator::new(&[Key::Digest], Limits::default());
    let mut writer = Some(Writer::new(std::io::sink(), &Meta::default()).expect("a sink takes everything"));
    let executions = 2_000_000;
    collect(&mut feed, executions, &mut digester, &identities, &mut aggregator, &mut writer);
    println!(
        "memory, {name}: {executions} executions, {} rows, {} KiB more than before, peak of the process {} KiB; \
         recording {:.1} bytes per execution",
        aggregator.rows().len(),
        status_kib("VmRSS").saturating_sub(before),
        status_kib("VmHWM"),
        writer.map_or(0, |writer| writer.bytes_written()) as f64 / executions as f64,
    );
}

fn main() {
    memory("known texts", Feed::new());
    memory("texts never seen before", Feed::of_new_texts());
    let mut criterion = Criterion::default().configure_from_args().sample_size(20);
    let mut group = criterion.benchmark_group("collector");
    let identities = identities();
    const BATCH: u64 = 10_000;
    group.throughput(Throughput::Elements(BATCH));
    for (name, keys, recorded, feed) in [
        ("by digest", &[Key::Digest][..], false, Feed::new as fn() -> Feed),
        ("by digest, recorded", &[Key::Digest], true, Feed::new),
        ("by user, session and digest", &[Key::User, Key::Session, Key::Digest], false, Feed::new),
        ("by digest, texts never seen before", &[Key::Digest], false, Feed::of_new_texts),
    ] {
        let mut feed = feed();
        let mut digester = Digester::new();
        let mut aggregator = Aggregator::new(keys, Limits::default());
        let mut writer = recorded.then(|| Writer::new(std::io::sink(), &Meta::default()).expect("a sink"));
        group.bench_function(name, |b| {
            b.iter(|| collect(&mut feed, BATCH, &mut digester, &identities, &mut aggregator, &mut writer));
        });
    }
    group.throughput(Throughput::Elements(1000));
    let mut n = 0u64;
    let mut digester = Digester::new();
    group.bench_function("statements seen for the first time", |b| {
        b.iter(|| {
            for _ in 0..1000 {
                n += 1;
                let text =
                    format!("SELECT c, pad FROM sbtest1 WHERE id BETWEEN {n} AND 4711 ORDER BY c LIMIT 10");
                std::hint::black_box(digester.digest(Dialect::MariaDb, text.as_bytes(), text.len()));
            }
        });
    });
    group.finish();
    criterion.final_summary();
}
