//! Reports as people and machines see them.

use super::*;
use crate::aggregate::tests::{execution, who};
use crate::aggregate::{Sample, Who};
use crate::digest::{Digest, Digester};
use crate::recording::{Losses, Meta};
use perquery_agent::counters::{CPU_NS, PAGE_FAULTS_MINOR};
use perquery_agent::protocol::Command;
use perquery_agent::segment::record::{Execution, FLAG_FAILED, FLAG_OUTCOME_UNKNOWN};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

fn counter(id: CounterId, name: &str, unit: &str, unavailable: Option<&str>) -> CounterMeta {
    CounterMeta {
        id,
        name: name.into(),
        unit: unit.into(),
        source: "rusage".into(),
        unavailable: unavailable.map(str::to_owned),
        user_only: false,
        mode: String::new(),
    }
}

fn about() -> Loaded {
    Loaded {
        meta: Meta {
            servers: vec![ServerInfo {
                pid: 4711,
                kind: "mariadb".into(),
                version: "10.11.6".into(),
                exe: "/usr/sbin/mariadbd".into(),
            }],
            counters: vec![
                counter(CPU_NS, "cpu_ns", "ns", None),
                counter(PAGE_FAULTS_MINOR, "page_faults_minor", "", None),
                counter(
                    8,
                    "cycles",
                    "",
                    Some("no hardware counters: this is a virtual machine; run on the host"),
                ),
                counter(
                    9,
                    "instructions",
                    "",
                    Some("no hardware counters: this is a virtual machine; run on the host"),
                ),
            ],
            start_unix_ns: 1_700_000_000_000_000_000,
            start_monotonic_ns: 1_000_000_000,
            writer: "perquery".into(),
        },
        duration_ns: Some(10_000_000_000),
        ..Loaded::default()
    }
}

/// 100 point selects of 0.1 ms, 10 updates of 5 ms of which one failed, 3 batches, 1 ping.
fn feed(keys: &[Key]) -> Aggregator {
    let mut a = Aggregator::new(keys, Limits::default());
    let person = who("ann", 9);
    let mut unit = 0;
    let mut add = |text: &str, n: u32, change: &dyn Fn(&mut Execution, u32)| {
        let digest = Arc::new(Digest::of(text));
        for round in 0..n {
            let mut e = execution(1, unit);
            unit += 1;
            e.counts.set(PAGE_FAULTS_MINOR, u64::from(round == 0));
            change(&mut e, round);
            a.add(&Sample { execution: &e, digest: &digest, members: &[], who: &person, server: 0 });
        }
    };
    add("SELECT c FROM sbtest1 WHERE id = ?", 100, &|e, _| {
        (e.latency_ns, e.rows_returned) = (100_000, 1);
        e.counts.set(CPU_NS, 60_000);
    });
    add("UPDATE sbtest1 SET k = k + ? WHERE id = ?", 10, &|e, round| {
        (e.latency_ns, e.rows_returned, e.rows_affected) = (5_000_000, 0, 1);
        if round == 0 {
            (e.flags, e.error_code, e.sqlstate) = (FLAG_FAILED, 1213, *b"40001");
        }
    });
    add("<ping or other command>", 1, &|e, _| {
        (e.latency_ns, e.statements, e.command, e.first_byte_ns) = (1_000, 0, Command::Utility, None);
    });
    let members = [("BEGIN", 1), ("COMMIT", 1)].map(|(text, n)| (Arc::new(Digest::of(text)), n));
    let batch = Digester::new().batch(members.iter().map(|(digest, _)| digest));
    for n in 0..3 {
        let e =
            Execution { statements: 2, latency_ns: 20_000, command: Command::Batch, ..execution(1, 500 + n) };
        a.add(&Sample { execution: &e, digest: &batch, members: &members, who: &person, server: 0 });
    }
    a
}

fn report(keys: &[Key], about: Loaded, sort: &str, top: Option<usize>) -> Report {
    Report::new(feed(keys), about, &Options { sort: SortKey::from_name(sort), top }).unwrap()
}

fn printed(report: &Report, format: Format) -> String {
    let mut out = Vec::new();
    write(report, format, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[track_caller]
fn same_lines(found: &str, expected: &str) {
    let expected = expected.trim_start_matches('\n');
    assert!(found == expected, "found:\n{found}\nexpected:\n{expected}");
}

#[test]
fn people_see_what_costs_most_first_and_everything_that_is_missing() {
    let shown = printed(&report(&[Key::Digest], about(), "latency", None), Format::Text { width: 110 });
    same_lines(
        &shown,
        r"
mariadb 10.11.6, pid 4711 · 10.0 s · 114 executions (11.4/s)

  time    total  calls     mean      p95  rows  errors  cpu/call  statement
83.2 %  50.0 ms     10  5.00 ms  5.00 ms     -       1    400 µs  UPDATE sbtest1 SET k = k + ? WHERE id = ?
16.6 %  10.0 ms    100   100 µs   100 µs   100       -   60.0 µs  SELECT c FROM sbtest1 WHERE id = ?
 0.1 %  60.0 µs      3  20.0 µs  20.0 µs     6       -    400 µs  <batch> BEGIN; COMMIT
 0.0 %  1.00 µs      1  1.00 µs  1.00 µs     2       -    400 µs  <ping or other command>

Complete: 114 executions, none dropped, every statement known.
Not available: cycles, instructions: no hardware counters: this is a virtual machine; run on the host
",
    );
    let narrow = printed(&report(&[Key::Digest], about(), "latency", None), Format::Text { width: 72 });
    assert!(
        narrow.lines().all(|line| line.chars().count() <= 72 || line.starts_with("Not available")),
        "{narrow}"
    );
    same_lines(
        &narrow.lines().skip(2).take(3).map(|line| format!("{line}\n")).collect::<String>(),
        r"
  time  calls     mean  cpu/call  statement
83.2 %     10  5.00 ms    400 µs  UPDATE sbtest1 SET k = k + ? WHERE id
                                  = ?
",
    );
}

#[test]
fn the_rest_is_folded_into_one_row_with_the_right_sums() {
    let folded = report(&[Key::Digest], about(), "calls", Some(1));
    let others = folded.others.as_ref().unwrap();
    assert_eq!((others.rows, others.row.calls, others.row.errors), (Some(3), 14, 1));
    assert_eq!(others.row.latency.sum_ns(), 50_061_000);
    assert_eq!(folded.tally(&others.row, CPU_NS).unwrap().sum, 14.0 * 400_000.0);
    let shown = printed(&folded, Format::Text { width: 110 });
    assert!(shown.contains("  (other 3 rows)\n"), "{shown}");
    let by_user = report(&[Key::Error, Key::Digest], about(), "errors", Some(1));
    let shown = printed(&by_user, Format::Text { width: 130 });
    assert!(shown.contains("1213/40001") && shown.contains("(other 4 rows)"), "{shown}");
}

#[test]
fn rows_can_be_sorted_by_any_number_and_by_nothing_else() {
    let first = |sort: &str| {
        let report = report(&[Key::Digest], about(), sort, None);
        report.rows().next().unwrap().digest.as_ref().unwrap().text.clone()
    };
    for sort in ["latency", "mean", "p95", "p99", "max", "errors", "rows_affected"] {
        assert!(first(sort).starts_with("UPDATE"), "{sort}");
    }
    for sort in ["calls", "rows", "cpu_ns", "bytes_in", "bytes_out"] {
        assert!(first(sort).starts_with("SELECT"), "{sort}");
    }
    for sort in ["cycles", "nonsense"] {
        let options = Options { sort: SortKey::from_name(sort), top: None };
        let error = Report::new(feed(&[]), about(), &options).err().unwrap().to_string();
        let expected = format!(
            "cannot sort by {sort:?}: use one of latency, calls, mean, p95, p99, max, errors, rows, rows_affected, \
             bytes_in, bytes_out, cpu_ns, page_faults_minor"
        );
        assert_eq!(error, expected);
    }
}

/// Everything a report can hold.
fn full() -> Report {
    let mut about = about();
    about.losses = Losses { dropped: 5, lost_sessions: 2, ..Losses::default() };
    let person = Who::new(b"ann", b"shop", b"app", b"local", 9);
    about.in_flight.push(InFlight::of(&person, 0, 3, 2_000_000_000, "SELECT ?".into()));
    let mut a = feed(&Key::ALL);
    let digest = Arc::new(Digest::of("<unknown text>"));
    let mut e = Execution { flags: FLAG_OUTCOME_UNKNOWN, ..execution(7, 7) };
    (e.counts, e.weight) = (Default::default(), 4.0);
    e.counts.set(PAGE_FAULTS_MINOR, 3);
    e.counts.scaled = 1 << PAGE_FAULTS_MINOR;
    about.meta.counters[1].mode = "user".into();
    a.add(&Sample { execution: &e, digest: &digest, members: &[], who: &who("bob", 0), server: 0 });
    Report::new(a, about, &Options { sort: SortKey::Latency, top: Some(5) }).unwrap()
}

fn paths(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let key = if ["rows[].counters", "rows[].derived"].contains(&path) { "*" } else { key };
                let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                if key != "*" {
                    found.insert(path.clone());
                }
                paths(value, &path, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| paths(value, &format!("{path}[]"), found)),
        _ => {}
    }
}

#[test]
fn every_key_of_a_json_report_is_documented_and_every_documented_key_is_in_one() {
    let mut found = BTreeSet::new();
    paths(&serde_json::from_str(&printed(&full(), Format::Json)).unwrap(), "", &mut found);
    // The batch is in a row of others there, and the others have no keys.
    let rest = report(&[Key::Digest], about(), "latency", None);
    paths(&serde_json::from_str(&printed(&rest, Format::Json)).unwrap(), "", &mut found);
    let documented: BTreeSet<String> = include_str!("json.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("//! | `")?.split_once('`'))
        .map(|(key, _)| key.to_owned())
        .collect();
    let undocumented: Vec<_> = found.difference(&documented).collect();
    let missing: Vec<_> = documented.difference(&found).collect();
    assert!(
        undocumented.is_empty() && missing.is_empty(),
        "not documented {undocumented:?}, not there {missing:?}"
    );
}

#[test]
fn machines_get_exact_numbers_and_reasons_instead_of_zeros() {
    let json: Value = serde_json::from_str(&printed(
        &report(&[Key::Digest, Key::User], about(), "latency", None),
        Format::Json,
    ))
    .unwrap();
    assert_eq!(json["schema"], 1);
    assert_eq!(json["by"], serde_json::json!(["digest", "user"]));
    assert_eq!(
        json["completeness"],
        serde_json::json!({"executions": 114, "dropped": 0, "lost_sessions": 0, "unknown_text": 0})
    );
    let select = &json["rows"][1];
    let digest = Digest::of("SELECT c FROM sbtest1 WHERE id = ?").hex();
    let text = "SELECT c FROM sbtest1 WHERE id = ?";
    assert_eq!(select["key"], serde_json::json!({"digest": digest, "text": text, "user": "ann"}));
    assert_eq!(
        select["counters"]["cpu_ns"],
        serde_json::json!({"sum": 6_000_000, "mean": 60_000.0, "stderr": 0.0, "counted_calls": 100, "source": "rusage"})
    );
    assert!(
        select["counters"]["cycles"]["unavailable"].as_str().unwrap().starts_with("no hardware counters")
    );
    assert_eq!(select["latency"]["p99_ns"].as_u64().unwrap() / 1000, 100);
    assert_eq!(json["rows"][3]["first_byte"], Value::Null);
    let begin = Digest::of("BEGIN").hex();
    assert_eq!(
        json["rows"][2]["members"][0],
        serde_json::json!({"digest": begin, "text": "BEGIN", "statements": 3})
    );
}

#[test]
fn cycles_and_instructions_make_a_column_of_their_own_in_every_format() {
    let mut about = about();
    about.meta.counters = vec![counter(5, "cycles", "", None), counter(6, "instructions", "", None)];
    for counter in &mut about.meta.counters {
        (counter.mode, counter.source) = ("user".into(), "perf hardware".into());
    }
    let mut a = Aggregator::new(&[Key::Digest], Limits::default());
    let digest = Arc::new(Digest::of("SELECT c FROM sbtest1 WHERE id = ?"));
    let mut e = execution(1, 1);
    e.counts.set(5, 3_000_000);
    e.counts.set(6, 2_000_000);
    a.add(&Sample { execution: &e, digest: &digest, members: &[], who: &who("ann", 9), server: 0 });
    let report = Report::new(a, about, &Options::default()).unwrap();
    let text = printed(&report, Format::Text { width: 110 });
    let columns = ["cycles:u/call", "instr:u/call", "CPI", "3.00 M", "2.00 M", "1.50"];
    assert!(columns.iter().all(|column| text.contains(column)), "{text}");
    let json: Value = serde_json::from_str(&printed(&report, Format::Json)).unwrap();
    assert_eq!(json["rows"][0]["derived"], serde_json::json!({"cycles_per_instruction": 1.5}));
    assert_eq!(json["rows"][0]["counters"]["cycles"]["mode"], "user");
    let csv = printed(&report, Format::Csv);
    assert!(csv.lines().next().unwrap().ends_with(",cycles_per_instruction"), "{csv}");
    assert!(csv.lines().nth(1).unwrap().ends_with(",1.5"), "{csv}");
}

#[test]
fn whatever_limits_the_numbers_is_a_warning_with_a_remedy() {
    let report = full();
    let codes: Vec<&str> = report.warnings.iter().map(|w| w.code()).collect();
    let expected = [
        "dropped-records",
        "lost-sessions",
        "unknown-text",
        "compressed-outcomes",
        "multiplexed",
        "server-died",
    ];
    assert_eq!(codes, expected);
    let text = printed(&report, Format::Text { width: 100 });
    for warning in &report.warnings {
        assert!(text.contains(&warning.message()) && text.contains(warning.remedy()), "{text}");
    }
    assert!(
        text.contains(
            "Incomplete: 115 executions; 5 records dropped, 2 sessions lost, statement unknown for 1"
        )
    );
    assert!(text.contains(
        "In flight when the server ended:\n  2.00 s, session 9#3 (ann, shop, app, local): SELECT ?"
    ));
}

#[test]
fn nothing_in_a_report_can_command_a_terminal() {
    let mut about = about();
    about.meta.servers[0].version = "10\x1b[2J".into();
    about.warnings.push(Warning::Other {
        code: "\x07".into(),
        message: "\x1b]0;x".into(),
        remedy: "\r".into(),
    });
    let mut a = Aggregator::new(&[Key::User, Key::Digest], Limits::default());
    let person = Arc::new(Who::new(b"an\x1b[31mn\n", b"", b"", b"", 1));
    let digest = Arc::new(Digest::of("SELECT \x1b[0m"));
    a.add(&Sample { execution: &execution(1, 1), digest: &digest, members: &[], who: &person, server: 0 });
    let shown = printed(&Report::new(a, about, &Options::default()).unwrap(), Format::Text { width: 90 });
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
}

#[test]
fn a_spreadsheet_gets_the_same_numbers_with_a_column_each() {
    let shown = printed(&report(&[Key::User, Key::Digest], about(), "latency", Some(2)), Format::Csv);
    let mut reader = ::csv::Reader::from_reader(shown.as_bytes());
    let header = reader.headers().unwrap().clone();
    let column =
        |name: &str| header.iter().position(|h| h == name).unwrap_or_else(|| panic!("no column {name}"));
    let rows: Vec<::csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 3);
    assert_eq!(&rows[1][column("text")], "SELECT c FROM sbtest1 WHERE id = ?");
    assert_eq!((&rows[1][column("latency_sum_ns")], &rows[1][column("cpu_ns_sum")]), ("10000000", "6000000"));
    assert_eq!(&rows[1][column("cycles_sum")], "");
    assert_eq!((&rows[2][column("user")], &rows[2][column("calls")]), ("(other 2 rows)", "4"));
}

#[test]
fn a_reader_that_stops_reading_is_no_error_and_a_full_disk_is_one() {
    struct Closed(io::ErrorKind);
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let report = full();
    for format in [Format::Text { width: 80 }, Format::Json, Format::Csv] {
        assert!(write(&report, format, Closed(io::ErrorKind::BrokenPipe)).is_ok(), "{format:?}");
        let error = write(&report, format, Closed(io::ErrorKind::StorageFull)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{format:?}");
    }
}

#[test]
fn nothing_recorded_is_a_report_too() {
    let report =
        Report::new(Aggregator::new(&[], Limits::default()), Loaded::default(), &Options::default()).unwrap();
    assert!(printed(&report, Format::Text { width: 80 }).contains("No query ran."));
    let json: Value = serde_json::from_str(&printed(&report, Format::Json)).unwrap();
    assert_eq!((&json["rows"], &json["server"]), (&serde_json::json!([]), &serde_json::json!([])));
    assert_eq!(printed(&report, Format::Csv).lines().count(), 1);
    let error = from_recording(&b"nonsense"[..], &[], &Options::default()).err().unwrap();
    assert!(error.to_string().starts_with("not a perquery recording"));
}
