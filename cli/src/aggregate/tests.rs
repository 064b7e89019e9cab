//! Executions and the rows they become.

use super::*;
use perquery_agent::counters::{CPU_NS, PAGE_FAULTS_MINOR};
use perquery_agent::protocol::{Command, Dialect};
use perquery_agent::segment::record::{FLAG_FAILED, FLAG_MOVED};

/// An execution of 1 ms that used 400 µs of CPU.
pub(crate) fn execution(session_uid: u64, unit: u32) -> Execution {
    let mut e = Execution {
        kind: KIND_EXECUTION,
        session_uid,
        unit,
        start_ns: 1_000_000_000 + u64::from(unit) * 2_000_000,
        latency_ns: 1_000_000,
        first_byte_ns: Some(900_000),
        rows_returned: 2,
        bytes_in: 20,
        bytes_out: 200,
        weight: 1.0,
        statements: 1,
        tid: 77,
        dialect: Dialect::MariaDb,
        command: Command::Query,
        ..Execution::default()
    };
    e.counts.set(CPU_NS, 400_000);
    e
}

pub(crate) fn who(user: &str, connection_id: u64) -> Arc<Who> {
    Arc::new(Who::new(user.as_bytes(), b"shop", b"app", b"10.0.0.9", connection_id))
}

fn feed(aggregator: &mut Aggregator, e: &Execution, text: &str, who: &Arc<Who>) {
    let digest = Arc::new(Digest::of(text));
    aggregator.add(&Sample { execution: e, digest: &digest, members: &[], who, server: 0 });
}

fn text(label: Option<key::Label>) -> String {
    match label {
        Some(key::Label::Digest(digest)) => digest.text.clone(),
        Some(key::Label::Server(n)) => format!("server {n}"),
        Some(key::Label::Text(text)) => text.to_owned(),
        None => OTHER.to_owned(),
    }
}

#[test]
fn executions_of_the_same_key_share_a_row_and_others_do_not() {
    let mut a = Aggregator::new(&[Key::User, Key::Digest, Key::User, Key::Session], Limits::default());
    assert_eq!(a.keys(), [Key::User, Key::Digest, Key::Session]);
    let (ann, bob) = (who("ann", 1), who("bob", 0));
    for unit in 0..10 {
        feed(&mut a, &execution(5, unit), "SELECT ?", &ann);
    }
    feed(&mut a, &execution(6, 0), "SELECT ?", &bob);
    feed(&mut a, &execution(6, 1), "COMMIT", &bob);
    let shown: Vec<String> = a
        .rows()
        .iter()
        .map(|r| {
            format!(
                "{} {} {} {}",
                text(a.label(r, Key::User)),
                text(a.label(r, Key::Digest)),
                text(a.label(r, Key::Session)),
                r.calls
            )
        })
        .collect();
    assert_eq!(shown, ["ann SELECT ? 1#5 10", "bob SELECT ? #6 1", "bob COMMIT #6 1"]);
    let first = &a.rows()[0];
    assert_eq!((first.rows_returned, first.bytes_in, first.bytes_out, first.statements), (20, 200, 2000, 10));
    assert_eq!((first.latency.sum_ns(), first.first_byte.max_ns()), (10_000_000, 900_000));
    assert_eq!(a.tally(first, CPU_NS).unwrap().sum, 4_000_000.0);
    assert_eq!(a.tally(first, PAGE_FAULTS_MINOR), None);
    assert_eq!((a.totals().executions, a.totals().first_start_ns), (12, 1_000_000_000));
}

#[test]
fn a_session_is_named_by_its_connection_and_its_number() {
    assert_eq!(key::session_name(4711 << 32 | 17, 0), "4711#17");
    assert_eq!(key::session_name(4711 << 32 | 17, 9), "4711#17", "the record's own comes first");
    assert_eq!(key::session_name(17, 4711), "4711#17");
    assert_eq!(key::session_name(17, 0), "#17", "nobody logged in");
    let mut a = Aggregator::new(&[Key::Session], Limits::default());
    // The same connection id twice, as PostgreSQL's pids come again.
    for uid in [4711 << 32 | 17, 4711 << 32 | 18, 17] {
        feed(&mut a, &execution(uid, 0), "SELECT ?", &who("ann", 0));
    }
    let shown: Vec<_> = a.rows().iter().map(|r| text(a.label(r, Key::Session))).collect();
    assert_eq!(shown, ["4711#17", "4711#18", "#17"]);
}

#[test]
fn errors_are_told_apart_by_their_code() {
    let mut a = Aggregator::new(&[Key::Error], Limits::default());
    for (code, state, flags) in [
        (1062, *b"23000", FLAG_FAILED),
        (0, *b"23505", FLAG_FAILED),
        (19, [0; 5], FLAG_FAILED),
        (0, [0; 5], FLAG_FAILED),
        (0, [0; 5], 0),
        (0, [0; 5], FLAG_OUTCOME_UNKNOWN),
        (7, *b"\x1b[31m", FLAG_FAILED),
    ] {
        let e = Execution { error_code: code, sqlstate: state, flags, ..execution(1, 1) };
        feed(&mut a, &e, "SELECT ?", &who("ann", 1));
    }
    let labels: Vec<String> = a.rows().iter().map(|r| text(a.label(r, Key::Error))).collect();
    assert_eq!(labels, ["1062/23000", "23505", "19", "failed", "", "unknown", "7"]);
    assert_eq!(a.rows().iter().map(|r| r.errors).sum::<u64>(), 5);
    assert_eq!(a.totals().unknown_outcome, 1);
}

#[test]
fn keys_beyond_the_limit_share_one_row_and_no_execution_is_lost() {
    let mut a = Aggregator::new(&[Key::Digest], Limits { rows: 3, ..Limits::default() });
    for n in 0..10u32 {
        feed(&mut a, &execution(1, n), &format!("SELECT {}", n % 5), &who("ann", 1));
    }
    assert_eq!(a.rows().len(), 4);
    assert_eq!(text(a.label(&a.rows()[3], Key::Digest)), OTHER);
    assert_eq!(a.rows().iter().map(|r| r.calls).collect::<Vec<_>>(), [2, 2, 2, 4]);
    assert_eq!(a.totals().in_overflow, 4);
}

#[test]
fn statements_of_any_length_take_bounded_memory() {
    let mut a = Aggregator::new(&[Key::Digest], Limits { text_bytes: 10_000, ..Limits::default() });
    for n in 0..1000u32 {
        feed(&mut a, &execution(1, n), &format!("SELECT {}", "x".repeat(1000 + n as usize)), &who("ann", 1));
    }
    assert!(a.rows().len() <= 11, "{}", a.rows().len());
    assert_eq!(a.rows().iter().map(|r| r.calls).sum::<u64>(), 1000);
    assert!(a.is_overflow(a.rows().len() - 1));
}

#[test]
fn a_sampled_total_is_the_weighted_one_with_its_standard_error() {
    let mut a = Aggregator::new(&[], Limits::default());
    for unit in 0..100 {
        let mut e = execution(1, unit);
        e.weight = 4.0;
        if unit % 4 != 0 {
            e.counts = Default::default();
        }
        feed(&mut a, &e, "SELECT ?", &who("ann", 1));
    }
    let row = &a.rows()[0];
    let tally = a.tally(row, CPU_NS).unwrap();
    assert_eq!((row.calls, tally.counted, tally.sum), (100, 25, 40_000_000.0));
    assert_eq!(tally.mean(), Some(400_000.0));
    // 25 × 4 × 3 × 400 000², the root of it.
    assert!((tally.stderr() - 6_928_203.23).abs() < 0.01, "{}", tally.stderr());
}

#[test]
fn a_slice_belongs_to_its_execution_whichever_comes_first() {
    for slice_first in [true, false] {
        let mut a = Aggregator::new(&[Key::Digest], Limits::default());
        let slice = Execution { kind: KIND_SLICE, ..execution(9, 3) };
        let e = Execution { flags: FLAG_MOVED, ..execution(9, 3) };
        let other = execution(9, 4);
        let order = if slice_first { [&slice, &e, &other] } else { [&e, &other, &slice] };
        for record in order {
            feed(&mut a, record, if record.unit == 3 { "SELECT ?" } else { "COMMIT" }, &who("ann", 1));
        }
        let sums: Vec<f64> = a.rows().iter().map(|r| a.tally(r, CPU_NS).unwrap().sum).collect();
        assert_eq!(sums, [800_000.0, 400_000.0]);
        assert_eq!((a.rows()[0].calls, a.totals().unmatched_slices), (1, 0));
    }
}

#[test]
fn a_parallel_worker_costs_the_query_that_its_leader_ran_at_that_time() {
    for worker_first in [true, false] {
        let mut a = Aggregator::new(&[Key::Digest], Limits::default());
        let leader = |unit| Execution { dialect: Dialect::Postgres, tid: 4242, ..execution(8, unit) };
        let mut worker = Execution { kind: KIND_WORKER, session_uid: 4242, ..leader(1) };
        worker.start_ns += 100;
        worker.latency_ns = 500_000;
        if worker_first {
            feed(&mut a, &worker, "", &who("", 0));
        }
        feed(&mut a, &leader(0), "BEGIN", &who("ann", 1));
        feed(&mut a, &leader(1), "SELECT ?", &who("ann", 1));
        if !worker_first {
            feed(&mut a, &worker, "", &who("", 0));
        }
        let sums: Vec<f64> = a.rows().iter().map(|r| a.tally(r, CPU_NS).unwrap().sum).collect();
        assert_eq!(sums, [400_000.0, 800_000.0], "worker first: {worker_first}");
        assert_eq!(a.totals().unmatched_slices, 0);
    }
}

#[test]
fn parts_without_an_execution_are_counted_and_do_not_pile_up() {
    let mut a = Aggregator::new(&[Key::Digest], Limits::default());
    for n in 0..100_000 {
        feed(&mut a, &Execution { kind: KIND_SLICE, ..execution(n, 1) }, "", &who("", 0));
        if n % 10 == 0 {
            feed(&mut a, &Execution { kind: KIND_WORKER, ..execution(n, 1) }, "", &who("", 0));
        }
    }
    assert_eq!((a.totals().unmatched_slices, a.totals().executions, a.rows().len()), (110_000, 0, 0));
}

#[test]
fn a_batch_shows_its_statements() {
    let mut a = Aggregator::new(&[Key::Digest], Limits::default());
    let members: Vec<Arc<Digest>> = ["SELECT ?", "COMMIT"].map(|t| Arc::new(Digest::of(t))).into();
    let digest = crate::digest::Digester::new().batch(&members);
    let counted = [(members[0].clone(), 2), (members[1].clone(), 1)];
    for unit in 0..3 {
        let e = Execution { statements: 3, command: Command::Batch, ..execution(1, unit) };
        a.add(&Sample { execution: &e, digest: &digest, members: &counted, who: &who("ann", 1), server: 0 });
    }
    let row = &a.rows()[0];
    assert_eq!(
        row.members.iter().map(|(d, n)| (d.text.as_str(), *n)).collect::<Vec<_>>(),
        [("SELECT ?", 6), ("COMMIT", 3)]
    );
    assert_eq!((row.calls, row.statements), (3, 9));
}
