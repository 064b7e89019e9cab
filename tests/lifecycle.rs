//! Long lives: many connections one after the other, many at a time, many texts, and attaching in mid-connection.

use harness::mariadb::{MariaDb, Options, USER};
use harness::perquery::Recording;
use harness::wait::{SOON, wait_until};
use harness::{needs, postgres, proc};
use mysql::prelude::Queryable;
use std::collections::HashMap;

const MIB: u64 = 1024;

/// Connects, asks once and leaves, over and over, from two threads.
fn short_connections(server: &MariaDb, count: u32) {
    std::thread::scope(|scope| {
        for thread in 0..2 {
            scope.spawn(move || {
                for i in 0..count / 2 {
                    let mut client = server.client();
                    client.query_drop(format!("SELECT {i} AS short_life_{thread}")).expect("a plain query");
                }
            });
        }
    });
}

#[test]
fn twenty_thousand_short_connections_leak_nothing() {
    needs!("mariadbd", "mariadb-install-db");
    let server = MariaDb::start(&Options::default());
    let mut recording = Recording::start(server.pid, server.directory.path().join("short.pq"));
    short_connections(&server, 4000);
    // Of the server and of the collector, after both have warmed up.
    let state = |recording: &Recording| {
        let memory = |pid| (proc::status(pid, "VmRSS"), proc::descriptors(pid).len());
        (memory(server.pid), memory(recording.pid()))
    };
    let before = state(&recording);
    short_connections(&server, 20_000);
    wait_until("the server to close its sessions", SOON, || state(&recording).0.1 <= before.0.1 + 4);
    let after = state(&recording);
    assert!(recording.process().is_running());
    assert!(after.0.0 < before.0.0 + 16 * MIB, "KiB of the server grew from {} to {}", before.0.0, after.0.0);
    assert!(
        after.1.0 < before.1.0 + 16 * MIB,
        "KiB of the collector grew from {} to {}",
        before.1.0,
        after.1.0
    );
    assert!(after.1.1 <= before.1.1 + 1, "descriptors of the collector grew: {before:?} to {after:?}");
    server.client().query_drop("SELECT 1 AS still_known").expect("a plain query");
    let report = recording.stop("user,digest");
    report.expect_complete();
    for (thread, calls) in [(0, 12_000), (1, 12_000)] {
        let row = report.row(&format!("SELECT 5 AS short_life_{thread}"));
        assert_eq!((row.calls(), row.key("user")), (calls, USER));
    }
    // Slots are given back: the last session of 24 000 still has one.
    assert_eq!(report.row("SELECT 1 AS still_known").key("user"), USER);
    server.stop().expect_success();
}

#[test]
fn short_lived_backends_of_postgresql_leak_nothing() {
    if let Some(reason) = postgres::unavailable() {
        harness::skip(module_path!(), &reason);
        return;
    }
    let server = postgres::Postgres::start(&postgres::Options::default());
    let recording = Recording::start(server.pid, server.directory.path().join("short.pq"));
    let connections = |count: u32| {
        for _ in 0..count {
            server.client().batch_execute("SELECT 1 AS short_life").expect("a plain query");
        }
    };
    connections(200);
    let descriptors = proc::descriptors(server.pid).len();
    let resident = proc::status(server.pid, "VmRSS");
    connections(1800);
    assert!(proc::descriptors(server.pid).len() <= descriptors + 1, "descriptors of the postmaster");
    assert!(proc::status(server.pid, "VmRSS") < resident + 8 * MIB, "memory of the postmaster");
    let report = recording.stop("user,application,digest");
    report.expect_complete();
    let row = report.row("SELECT 1 AS short_life");
    assert_eq!(
        (row.calls(), row.key("user"), row.key("application")),
        (2000, postgres::USER, "perquery-tests")
    );
}

#[test]
fn backends_and_postmaster_keep_few_descriptors() {
    if let Some(reason) = postgres::unavailable() {
        harness::skip(module_path!(), &reason);
        return;
    }
    let server = postgres::Postgres::start(&postgres::Options::default());
    let recording = Recording::start(server.pid, server.directory.path().join("fds.pq"));
    let mut client = server.client();
    let backend: i32 = client.query_one("SELECT pg_backend_pid()", &[]).expect("a plain query").get(0);
    let ours = |pid: u32| -> Vec<(u32, String)> {
        let all = proc::descriptors(pid).into_iter();
        all.filter(|(_, target)| target.contains("perquery") || target.contains("perf_event")).collect()
    };
    let (in_backend, in_postmaster) = (ours(backend as u32), ours(server.pid));
    assert!(in_backend.len() <= 5, "{in_backend:?}");
    assert!(in_postmaster.len() <= 1, "none but the segment's: {in_postmaster:?}");
    for (fd, target) in in_backend.iter().chain(&in_postmaster) {
        // Low numbers are counted by the server when it works out how many files it may open.
        assert!(*fd >= 500, "fd {fd} -> {target} is not moved high");
    }
    drop(recording);
}

#[test]
fn five_hundred_sessions_at_a_time() {
    needs!("mariadbd", "mariadb-install-db");
    let server = MariaDb::start(&Options::default());
    let recording = Recording::start(server.pid, server.directory.path().join("many.pq"));
    let mut clients: Vec<mysql::Conn> = (0..500).map(|_| server.client()).collect();
    for round in 0..3 {
        for client in &mut clients {
            client.query_drop(format!("SELECT {round} AS one_of_many")).expect("a plain query");
        }
    }
    let report = recording.stop("session,user,digest");
    report.expect_complete();
    let rows: Vec<_> = report.rows().filter(|row| row.text().contains("one_of_many")).collect();
    assert_eq!(rows.len(), 500, "a row for each session");
    assert!(rows.iter().all(|row| row.calls() == 3 && row.key("user") == USER));
}

#[test]
fn a_million_queries_of_a_hundred_thousand_texts_take_bounded_memory() {
    needs!("mariadbd", "mariadb-install-db");
    const THREADS: u32 = 4;
    const QUERIES: u32 = 1_000_000;
    const TEXTS: u32 = 100_000;
    let server = MariaDb::start(&Options::default());
    let recording = Recording::start(server.pid, server.directory.path().join("texts.pq"));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let mut client = server.client();
            scope.spawn(move || {
                for i in 0..QUERIES / THREADS {
                    let text = (i + thread * 7919) % TEXTS;
                    client
                        .query_drop(format!("DO {i} + text_{text}()"))
                        .expect_err("there is no such function");
                }
            });
        }
    });
    let peak = proc::status(recording.pid(), "VmHWM");
    let report = recording.stop("digest");
    assert!(peak < 192 * MIB, "the collector's peak was {peak} KiB");
    let calls: u64 = report.rows().map(|row| row.calls()).sum();
    assert_eq!(report.completeness("executions"), calls, "{:#}", report.json["completeness"]);
    // A collector that gets no CPU falls behind; then the difference is shown. What is shown adds up.
    let dropped = report.completeness("dropped");
    assert!(dropped < u64::from(QUERIES) / 10, "{dropped} dropped");
    let greetings = u64::from(THREADS) * 4;
    let sent = u64::from(QUERIES);
    assert!(
        (sent..=sent + greetings).contains(&(calls + dropped)),
        "{calls} reported and {dropped} dropped of {sent}"
    );
}

#[test]
fn a_recording_that_starts_in_mid_connection_knows_whose_it_is() {
    needs!("mariadbd", "mariadb-install-db");
    let server = MariaDb::start(&Options::default());
    let attributes = HashMap::from([("program_name".to_owned(), "early-bird".to_owned())]);
    let mut client = mysql::Conn::new(server.client_options().connect_attrs(Some(attributes)))
        .expect("the server takes its user");
    client.query_drop("CREATE DATABASE later_db").expect("a plain query");
    client.select_db("later_db").expect("an own database");
    let statement = client.prep("SELECT ? + 4711 AS prepared_early").expect("a plain statement");
    let _: Option<u32> = client.exec_first(&statement, (1,)).expect("a plain statement");

    let recording = Recording::start(server.pid, server.directory.path().join("mid.pq"));
    for i in 0..9 {
        let _: Option<u32> = client.exec_first(&statement, (i,)).expect("a plain statement");
    }
    client.query_drop("SELECT 1 AS text_late").expect("a plain query");
    let report = recording.stop("user,database,application,digest");
    report.expect_complete();
    for (text, calls) in [("SELECT ? + 4711 AS prepared_early", 9), ("SELECT 1 AS text_late", 1)] {
        let row = report.row(text);
        let who = (row.key("user"), row.key("database"), row.key("application"));
        assert_eq!((row.calls(), who), (calls, (USER, "later_db", "early-bird")), "{:#}", row.json);
    }
}

#[test]
fn a_recording_that_starts_in_mid_connection_knows_it_in_postgresql_too() {
    if let Some(reason) = postgres::unavailable() {
        harness::skip(module_path!(), &reason);
        return;
    }
    let server = postgres::Postgres::start(&postgres::Options::default());
    let mut client = server.client();
    client.batch_execute("SET application_name = 'early-bird'").expect("anybody may");
    let statement = client.prepare("SELECT $1::int + 4711 AS prepared_early").expect("a plain statement");
    client.query_one(&statement, &[&1]).expect("a plain statement");

    let recording = Recording::start(server.pid, server.directory.path().join("mid.pq"));
    for i in 0..9 {
        client.query_one(&statement, &[&i]).expect("a plain statement");
    }
    let report = recording.stop("user,database,application,digest");
    report.expect_complete();
    let row = report.row("SELECT $1::int + 4711 AS prepared_early");
    let who = (row.key("user"), row.key("database"), row.key("application"));
    assert_eq!((row.calls(), who), (9, (postgres::USER, postgres::DATABASE, "early-bird")), "{:#}", row.json);
}

#[test]
fn capture_goes_on_and_off_many_times() {
    needs!("mariadbd", "mariadb-install-db");
    let server = MariaDb::start(&Options::default());
    let mut client = server.client();
    for round in 1..=10 {
        client.query_drop("SELECT 1 AS unseen").expect("a plain query");
        let recording = Recording::start(server.pid, server.directory.path().join(format!("{round}.pq")));
        (0..round).for_each(|_| client.query_drop("SELECT 1 AS seen").expect("a plain query"));
        let report = recording.stop("digest");
        assert_eq!(report.row("SELECT 1 AS seen").calls(), round);
        assert!(report.rows().all(|row| !row.text().contains("unseen")), "{:#}", report.json);
    }
}
