//! Recordings: written, read, torn, flipped and foreign.

use super::*;
use crate::aggregate::tests::{execution, who};
use crate::aggregate::{Aggregator, Key, Limits, Sample, Who};
use crate::digest::{Digest, Digester};
use crate::warnings::Warning;
use perquery_agent::counters::PAGE_FAULTS_MINOR;
use perquery_agent::protocol::{Command, Dialect};
use perquery_agent::segment::record::{Execution, FLAG_FAILED, KIND_SLICE};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

fn meta() -> Meta {
    Meta {
        servers: vec![ServerInfo {
            pid: 7,
            kind: "mariadb".into(),
            version: "10.11".into(),
            exe: "/x".into(),
        }],
        counters: vec![CounterMeta { name: "cpu_ns".into(), unit: "ns".into(), ..CounterMeta::default() }],
        start_unix_ns: 1,
        start_monotonic_ns: 2,
        writer: "perquery".into(),
    }
}

/// A recording of `n` executions of 10 statements, with frames of `flush_every` executions.
fn recording(n: u32, flush_every: u32) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), &meta()).unwrap();
    let digests: Vec<Arc<Digest>> = (0..10).map(|n| Arc::new(Digest::of(format!("SELECT c{n}")))).collect();
    let people = [who("ann", 1), who("bob", 2)];
    for unit in 0..n {
        let e = execution(u64::from(unit % 2), unit / 2);
        let digest = &digests[unit as usize % 10];
        writer
            .add(&Sample { execution: &e, digest, members: &[], who: &people[unit as usize % 2], server: 0 })
            .unwrap();
        if unit % flush_every == flush_every - 1 {
            writer.flush().unwrap();
        }
    }
    writer.losses(&Losses { dropped: 5, ..Losses::default() }).unwrap();
    writer.finish(9_000).unwrap()
}

fn loaded(file: &[u8]) -> (Aggregator, Loaded) {
    let mut aggregator = Aggregator::new(&[Key::Digest, Key::User], Limits::default());
    let loaded = load(file, &mut aggregator).unwrap();
    (aggregator, loaded)
}

#[test]
fn a_recording_gives_back_every_field_of_every_execution() {
    let mut written: Vec<Execution> = Vec::new();
    for n in 0..2000u32 {
        let mut e = execution(u64::from(n % 7) << 40, n / 7);
        e.start_ns += u64::from(n % 3) * 1_000_000_000;
        e.latency_ns += u64::from(n).pow(2);
        e.rows_affected = u64::from(n % 4);
        e.tid = 100 + n % 5;
        e.command = Command::from_u8((n % 9) as u8);
        e.dialect = Dialect::from_u8((n % 5) as u8);
        e.statements = n % 3;
        match n % 11 {
            1 => e.first_byte_ns = None,
            2 => (e.flags, e.error_code, e.sqlstate) = (FLAG_FAILED, 1062, *b"23000"),
            3 => e.weight = 12.5,
            4 => e.kind = KIND_SLICE,
            5 => e.counts = Default::default(),
            6 => {
                e.counts.set(PAGE_FAULTS_MINOR, u64::MAX);
                e.counts.set(63, 3);
                e.counts.scaled = 1 << 63;
            }
            7 => e.unit = u32::MAX,
            8 => {
                (e.start_ns, e.latency_ns, e.bytes_in, e.bytes_out) = (u64::MAX, u64::MAX, u64::MAX, u64::MAX)
            }
            _ => {}
        }
        written.push(e);
    }
    let digest = Arc::new(Digest::of("SELECT ?"));
    let mut writer = Writer::new(Vec::new(), &meta()).unwrap();
    for (n, e) in written.iter().enumerate() {
        let person = who("ann", n as u64 % 5);
        writer
            .add(&Sample { execution: e, digest: &digest, members: &[], who: &person, server: n as u16 % 3 })
            .unwrap();
        if n % 300 == 0 {
            writer.flush().unwrap();
        }
    }
    let file = writer.finish(1).unwrap();
    let mut reader = Reader::new(file.as_slice()).unwrap();
    let mut read = 0;
    while let Some(item) = reader.next().unwrap() {
        let Item::Execution(sample) = item else { continue };
        let (mut expected, e) = (written[read].clone(), sample.execution);
        if expected.kind == KIND_SLICE {
            assert_ne!(sample.digest.id, digest.id);
        } else {
            assert_eq!(sample.digest.text, "SELECT ?");
        }
        assert_eq!((sample.who.connection_id, sample.server), (read as u64 % 5, read as u16 % 3));
        (expected.text_len, expected.identity_hash, expected.text_hash) = (0, 0, 0);
        assert_eq!(format!("{e:?}"), format!("{expected:?}"), "execution {read}");
        read += 1;
    }
    assert_eq!((read, reader.warnings()), (2000, vec![]));
}

#[test]
fn an_execution_takes_well_under_a_hundred_bytes() {
    let file = recording(100_000, 1 << 20);
    assert!(file.len() < 100_000 * 50, "{} bytes", file.len());
}

#[test]
fn what_was_said_about_the_recording_comes_back_with_it() {
    let mut writer = Writer::new(Vec::new(), &meta()).unwrap();
    let mut query =
        InFlight::of(&Who::new(b"ann", b"shop", b"", b"local", 8), 0, 3, 2_000, "SELECT ?".into());
    query.sent = Some("SELECT 'hush'".into());
    writer.in_flight(&query).unwrap();
    writer.warning(&Warning::ServerDied { pid: 7, in_flight: 1 }).unwrap();
    let file = writer.finish(12).unwrap();
    assert!(!String::from_utf8_lossy(&file).contains("hush"));
    let (_, loaded) = loaded(&file);
    assert_eq!((loaded.meta, loaded.duration_ns), (meta(), Some(12)));
    query.sent = None;
    assert_eq!(loaded.in_flight, [query]);
    assert_eq!(loaded.warnings.len(), 1);
    assert_eq!(loaded.warnings[0].code(), "server-died");
    assert!(loaded.warnings[0].message().contains("pid 7"));
}

#[test]
fn batches_keep_their_statements() {
    let mut digester = Digester::new();
    let members = [("SELECT ?", 2), ("COMMIT", 1)].map(|(text, n)| (Arc::new(Digest::of(text)), n));
    let digest = digester.batch(members.iter().map(|(digest, _)| digest));
    let mut writer = Writer::new(Vec::new(), &meta()).unwrap();
    let e = execution(1, 1);
    writer
        .add(&Sample { execution: &e, digest: &digest, members: &members, who: &who("ann", 1), server: 0 })
        .unwrap();
    let file = writer.finish(1).unwrap();
    let mut reader = Reader::new(file.as_slice()).unwrap();
    while let Some(item) = reader.next().unwrap() {
        if let Item::Execution(sample) = item {
            assert_eq!(**sample.digest, *digest);
            assert_eq!(sample.members, members);
            return;
        }
    }
    panic!("no execution");
}

#[test]
fn a_recording_cut_anywhere_loses_only_its_last_frame() {
    let file = recording(200, 20);
    let whole = loaded(&file).0.totals().executions;
    assert_eq!(whole, 200);
    let mut last = 0;
    for end in FILE_HEADER_LEN..file.len() {
        let (aggregator, loaded) = loaded(&file[..end]);
        let found = aggregator.totals().executions;
        assert!(found >= last && found.is_multiple_of(20), "{end}: {found}");
        last = found;
        assert!(loaded.warnings.iter().any(|w| w.code() == "unfinished-recording"), "{end}");
    }
    assert_eq!(last, 200);
}

#[test]
fn a_flipped_bit_anywhere_costs_one_frame_and_is_reported_with_the_right_number() {
    let file = recording(200, 20);
    let mut damaged_batches = 0;
    for at in FILE_HEADER_LEN..file.len() {
        let mut bad = file.clone();
        bad[at] ^= 1 << (at % 8);
        let (aggregator, loaded) = loaded(&bad);
        let found = aggregator.totals().executions;
        let damage = loaded.warnings.iter().find_map(|w| match w {
            Warning::DamagedRecording { executions, .. } => Some(*executions),
            _ => None,
        });
        // A flip in the last frames is a torn end; everywhere else the loss is known exactly.
        assert!(found == 200 || found == 180, "{at}: {found}");
        assert!(!loaded.warnings.is_empty(), "{at}: nothing reported");
        if found == 180 {
            damaged_batches += 1;
            assert_eq!(damage, Some(20), "{at}");
        }
        for row in aggregator.rows() {
            let text = &row.digest.as_ref().unwrap().text;
            assert!(text.starts_with("SELECT c") || text == "<unknown text>", "{text}");
        }
    }
    assert!(damaged_batches > 1000);
}

#[test]
fn frames_lost_in_the_middle_never_give_a_statement_another_ones_text() {
    let mut writer = Writer::new(Vec::new(), &meta()).unwrap();
    let mut sizes = Vec::new();
    // Statement n runs in executions of latency n + 1: enough for several dictionaries.
    for n in 0..1000u32 {
        let digest = Arc::new(Digest::of(format!("SELECT c{}", n % 150)));
        let e = Execution { latency_ns: u64::from(n % 150) + 1, ..execution(1, n) };
        writer
            .add(&Sample { execution: &e, digest: &digest, members: &[], who: &who("ann", 1), server: 0 })
            .unwrap();
        if n % 5 == 4 {
            writer.flush().unwrap();
            sizes.push(writer.bytes_written() as usize);
        }
    }
    let file = writer.finish(1).unwrap();
    for lost in [0, 10, 63, 64, 100] {
        let mut bad = file[..sizes[lost]].to_vec();
        bad.extend_from_slice(&file[sizes[lost + 2]..]);
        let (aggregator, loaded) = loaded(&bad);
        assert_eq!(aggregator.totals().executions, 990);
        assert!(matches!(loaded.warnings[..], [Warning::DamagedRecording { executions: 10, .. }]));
        for row in aggregator.rows() {
            let text = &row.digest.as_ref().unwrap().text;
            if text != "<unknown text>" {
                assert_eq!(*text, format!("SELECT c{}", row.latency.max_ns() - 1));
                assert_eq!(row.latency.min_ns(), row.latency.max_ns());
            }
        }
        assert!(aggregator.totals().unknown_text < 350);
    }
}

#[test]
fn what_is_no_recording_is_refused_with_the_remedy() {
    let refused = |file: &[u8]| Reader::new(file).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(refused(b"").contains("empty"), "{}", refused(b""));
    assert!(refused(b"SELECT 1;").contains("not a perquery recording: name a file written by"));
    assert!(refused(&MAGIC).contains("not a perquery recording"));
    let mut newer = recording(1, 1);
    newer[8] = 9;
    assert!(
        refused(&newer)
            .contains("format version 9, this perquery reads version 1: use the perquery that wrote it")
    );
    struct Broken;
    impl io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::from_raw_os_error(5))
        }
    }
    assert!(
        Reader::new(Broken).err().unwrap().to_string().starts_with("cannot read the recording: Input/output")
    );
}

#[test]
fn a_full_disk_is_an_error_and_what_was_written_before_stays() {
    struct Disk {
        written: Vec<u8>,
        room: usize,
    }
    impl Write for &mut Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let fits = bytes.len().min(self.room - self.written.len());
            if fits == 0 {
                return Err(io::Error::from_raw_os_error(28));
            }
            self.written.extend_from_slice(&bytes[..fits]);
            Ok(fits)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut disk = Disk { written: Vec::new(), room: 3000 };
    let mut writer = Writer::new(&mut disk, &meta()).unwrap();
    let digest = Arc::new(Digest::of("SELECT ?"));
    let mut added = 0;
    let error = loop {
        let e = execution(1, added);
        let sample = Sample { execution: &e, digest: &digest, members: &[], who: &who("ann", 1), server: 0 };
        if let Err(e) = writer.add(&sample).and_then(|()| writer.flush()) {
            break e;
        }
        added += 1;
    };
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert!(writer.losses(&Losses::default()).is_err() && writer.finish(1).is_err());
    assert_eq!(disk.written.len(), 3000);
    let (aggregator, loaded) = loaded(&disk.written);
    assert_eq!(aggregator.totals().executions, u64::from(added));
    assert!(loaded.warnings.iter().any(|w| w.code() == "unfinished-recording"));
}

#[test]
fn only_its_owner_can_read_a_recording_even_if_the_file_was_there_before() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.pq");
    for _ in 0..2 {
        create_file(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    }
}

#[test]
fn hostile_recordings_are_read_without_a_panic() {
    let file = recording(60, 20);
    let batch = {
        let mut encoder = batch::Encoder::default();
        let digest = Arc::new(Digest::of("SELECT ?"));
        for unit in 0..5 {
            let e = execution(1, unit);
            encoder.add(&Sample {
                execution: &e,
                digest: &digest,
                members: &[],
                who: &who("ann", 1),
                server: 0,
            });
        }
        let mut payload = vec![kind::BATCH];
        encoder.finish(&mut payload);
        payload
    };
    let mut state = 0x9e37_79b9u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    for round in 0..10_000 {
        let mut bytes = if round % 4 == 0 { file[8..].to_vec() } else { batch.clone() };
        for _ in 0..random() % 8 {
            let at = random() % bytes.len();
            match random() % 4 {
                0 => bytes[at] = random() as u8,
                1 => bytes[at] ^= 1 << (random() % 8),
                2 => bytes.insert(at, 0xff),
                _ => bytes.truncate(at.max(1)),
            }
        }
        fuzz_recording(&bytes);
    }
}
