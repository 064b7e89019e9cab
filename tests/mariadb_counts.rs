//! sysbench against MariaDB: every execution reported once, with the right text, user, database and application. The
//! judges are the server's own command counters of the same run, and the client's own count.

use harness::mariadb::{self, Launch, MariaDb, Options, Reach, USER, run_sysbench, sysbench};
use harness::numbers::number_after;
use harness::perquery::{self, Recording};
use harness::report::{Report, canonical};
use harness::{needs, scratch};
use mysql::prelude::Queryable;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// sysbench's transaction: each statement and how often one transaction has it.
const TRANSACTION: [(&str, u64); 11] = [
    ("BEGIN", 1),
    ("SELECT c FROM sbtest1 WHERE id=?", 10),
    ("SELECT c FROM sbtest1 WHERE id BETWEEN ? AND ?", 1),
    ("SELECT SUM(k) FROM sbtest1 WHERE id BETWEEN ? AND ?", 1),
    ("SELECT c FROM sbtest1 WHERE id BETWEEN ? AND ? ORDER BY c", 1),
    ("SELECT DISTINCT c FROM sbtest1 WHERE id BETWEEN ? AND ? ORDER BY c", 1),
    ("UPDATE sbtest1 SET k=k+1 WHERE id=?", 1),
    ("UPDATE sbtest1 SET c=? WHERE id=?", 1),
    ("DELETE FROM sbtest1 WHERE id=?", 1),
    ("INSERT INTO sbtest1 (id, k, c, pad) VALUES (?, ?, ?, ?)", 1),
    ("COMMIT", 1),
];

struct Case {
    reach: Reach,
    prepared: bool,
    pool: bool,
    clients: u32,
    transactions: u32,
    /// With everything read, or with nothing but what every execution has: those go other ways through the library.
    how: &'static str,
}

const PLAIN: Case =
    Case { reach: Reach::Tcp, prepared: false, pool: false, clients: 4, transactions: 200, how: "--exact" };

/// Runs sysbench once, recorded, and compares.
fn counts_are_exact(case: &Case) {
    needs!("mariadbd", "mariadb-install-db", "sysbench");
    if matches!(case.reach, Reach::Tls) {
        needs!("openssl");
    }
    let mut arguments = Vec::new();
    if case.pool {
        // With commits that wait for the disk, so that queries change thread.
        arguments.push("--thread-handling=pool-of-threads".to_owned());
        arguments.push("--thread-pool-size=4".to_owned());
        arguments.push("--innodb-flush-log-at-trx-commit=1".to_owned());
    }
    let server = MariaDb::start(&Options {
        launch: Launch::Preloaded,
        arguments,
        tls: matches!(case.reach, Reach::Tls),
        ..Options::default()
    });
    run_sysbench(sysbench(&server, &case.reach).arg("prepare"));
    let mut root = server.root();
    let secured_before = status(&mut root, "Ssl_accepts");

    let recording = Recording::start_with(server.pid, server.directory.path().join("counts.pq"), &[case.how]);
    let before = commands(&mut root);
    let mut run = sysbench(&server, &case.reach);
    run.arg(format!("--threads={}", case.clients)).arg(format!("--events={}", case.transactions));
    run.arg(format!("--db-ps-mode={}", if case.prepared { "auto" } else { "disable" })).arg("run");
    let said = run_sysbench(&mut run);
    let client = number_after(&said, "queries:").expect("sysbench says how many queries it sent");
    let judge = server_side(&mut root, &before, client);
    let secured = status(&mut root, "Ssl_accepts") - secured_before;
    let report = recording.stop("user,database,application,digest");

    report.expect_complete();
    if matches!(case.reach, Reach::Tls) {
        assert!(secured >= u64::from(case.clients), "the run was to be encrypted, {secured} TLS sessions");
    }
    let seen = report.calls_where(|row| {
        row.key("user") == USER
            && row.key("database") == mariadb::DATABASE
            && row.key("application") == "libmariadb"
            && row.count("statements") > 0
            && !row.text().starts_with("<prepare>")
    });
    if case.prepared {
        assert_eq!(
            seen.values().sum::<u64>(),
            judge["stmt_execute"],
            "the server's count; {:#}",
            report.json
        );
    } else {
        for verb in ["select", "update", "insert", "delete", "begin", "commit", "rollback"] {
            let calls: u64 =
                seen.iter().filter(|(text, _)| text.starts_with(verb)).map(|(_, calls)| calls).sum();
            assert_eq!(calls, judge[verb], "{verb} by the server; {:#}", report.json);
        }
    }
    // Without errors (a deadlock, say) each statement's count follows from the number of transactions.
    if number_after(&said, "ignored errors:") == Some(0) {
        assert_eq!(seen.values().sum::<u64>(), client, "the client's count; report {:#}", report.json);
        for (statement, times) in TRANSACTION {
            let calls = seen.get(&canonical(statement)).copied().unwrap_or(0);
            assert_eq!(calls, times * u64::from(case.transactions), "{statement}; {:#}", report.json);
        }
    }
    every_statement_has_one_row(&report);
    server.stop().expect_success();
}

/// What the server counted since `before`, by command. The performance schema is of no use as a judge: where two threads end
/// at a time, it adds them up without a lock and may lose one's whole count; these are added up with a lock.
fn server_side(
    root: &mut mysql::Conn,
    before: &BTreeMap<String, u64>,
    expected: u64,
) -> BTreeMap<String, u64> {
    let asked = Instant::now();
    loop {
        let mut counted = commands(root);
        for (command, count) in &mut counted {
            *count = count.saturating_sub(before[command]);
        }
        // It counts a thread's commands a moment after the client has left. A prepared one it counts by its verb, too.
        let whole = counted["stmt_execute"].max(counted.values().sum::<u64>() - counted["stmt_execute"]);
        if whole == expected || asked.elapsed() > Duration::from_secs(3) {
            return counted;
        }
    }
}

/// The server's counters of what [`TRANSACTION`] executes; nothing that `root` does here is among it.
fn commands(root: &mut mysql::Conn) -> BTreeMap<String, u64> {
    ["select", "update", "insert", "delete", "begin", "commit", "rollback", "stmt_execute"]
        .into_iter()
        .map(|command| (command.to_owned(), status(root, &format!("Com_{command}"))))
        .collect()
}

fn every_statement_has_one_row(report: &Report) {
    for (statement, _) in TRANSACTION {
        report.row(statement);
    }
}

fn status(root: &mut mysql::Conn, name: &str) -> u64 {
    let row: Option<(String, u64)> =
        root.query_first(format!("SHOW GLOBAL STATUS LIKE '{name}'")).expect("root may");
    row.map_or(0, |(_, value)| value)
}

#[test]
fn text_protocol_over_tcp() {
    counts_are_exact(&PLAIN);
}

#[test]
fn text_protocol_over_the_unix_socket() {
    counts_are_exact(&Case { reach: Reach::Socket, ..PLAIN });
}

#[test]
fn text_protocol_over_tls() {
    counts_are_exact(&Case { reach: Reach::Tls, ..PLAIN });
}

#[test]
fn prepared_statements_over_tcp() {
    counts_are_exact(&Case { prepared: true, ..PLAIN });
}

#[test]
fn prepared_statements_over_the_unix_socket() {
    counts_are_exact(&Case { prepared: true, reach: Reach::Socket, ..PLAIN });
}

#[test]
fn prepared_statements_over_tls() {
    counts_are_exact(&Case { prepared: true, reach: Reach::Tls, ..PLAIN });
}

#[test]
fn without_dear_collectors_the_counts_are_the_same() {
    for prepared in [false, true] {
        counts_are_exact(&Case { prepared, how: "--cheap", ..PLAIN });
    }
    counts_are_exact(&Case { pool: true, prepared: true, clients: 16, how: "--cheap", ..PLAIN });
}

#[test]
fn sixteen_clients_of_a_thread_pool() {
    counts_are_exact(&Case { pool: true, clients: 16, transactions: 800, ..PLAIN });
}

#[test]
fn sixteen_clients_of_a_thread_pool_with_prepared_statements() {
    counts_are_exact(&Case { pool: true, prepared: true, clients: 16, transactions: 800, ..PLAIN });
}

#[test]
fn sixteen_encrypted_clients_of_a_thread_pool() {
    counts_are_exact(&Case { pool: true, reach: Reach::Tls, clients: 16, transactions: 400, ..PLAIN });
}

#[test]
fn a_server_started_by_run_is_recorded_from_its_first_query_to_its_end() {
    needs!("mariadbd", "mariadb-install-db", "sysbench");
    let directory = scratch::directory("run");
    let recording = directory.path().join("my.pq");
    let server = MariaDb::start(&Options { launch: Launch::Run(recording.clone()), ..Options::default() });
    run_sysbench(sysbench(&server, &Reach::Tcp).arg("prepare"));
    let said = run_sysbench(sysbench(&server, &Reach::Tcp).args([
        "--threads=2",
        "--events=50",
        "--db-ps-mode=disable",
        "run",
    ]));
    let ended = server.stop();
    ended.expect_success();
    assert!(ended.stderr.contains("sbtest1"), "the report at the end: {}", ended.describe());
    let report = perquery::report(&recording, "user,digest");
    report.expect_complete();
    let sent = number_after(&said, "queries:").expect("sysbench says how many queries it sent");
    let seen: u64 = TRANSACTION.iter().map(|(statement, _)| report.row(statement).calls()).sum();
    assert_eq!(seen, sent);
    assert_eq!(
        report.row(&format!("CREATE DATABASE {}", mariadb::DATABASE)).calls(),
        1,
        "the very first session"
    );
}

#[test]
fn passwords_in_statements_never_reach_the_recording() {
    needs!("mariadbd", "mariadb-install-db");
    let directory = scratch::directory("secrets");
    let recording = directory.path().join("my.pq");
    let server = MariaDb::start(&Options { launch: Launch::Run(recording.clone()), ..Options::default() });
    let mut root = server.root();
    root.query_drop("SET PASSWORD FOR shop@'%' = PASSWORD('moon-and-sixpence')").expect("root may");
    root.query_drop("ALTER USER shop@'%' IDENTIFIED BY 'moon-and-sixpence'").expect("root may");
    drop(root);
    let ended = server.stop();
    ended.expect_success();
    let bytes = std::fs::read(&recording).expect("the recording");
    let text = String::from_utf8_lossy(&bytes);
    let report = perquery::report(&recording, "digest");
    for secret in [mariadb::PASSWORD, "moon-and-sixpence"] {
        assert!(!text.contains(secret), "a password in the recording");
        assert!(!ended.stderr.contains(secret), "a password in the printed report");
        assert!(!report.json.to_string().contains(secret), "a password in the report");
    }
    assert!(report.rows().any(|row| row.text().to_uppercase().contains("CREATE USER")), "{:#}", report.json);
}

#[test]
fn a_session_is_one_row_of_its_own() {
    needs!("mariadbd", "mariadb-install-db");
    let server = MariaDb::start(&Options::default());
    let recording = Recording::start(server.pid, server.directory.path().join("sessions.pq"));
    let mut expected = Vec::new();
    for times in [3, 5, 7] {
        let mut client = server.client();
        expected.push((client.connection_id().to_string(), times));
        (0..times)
            .for_each(|i| client.query_drop(format!("SELECT {i} AS session_row")).expect("a plain query"));
    }
    let report = recording.stop("session,digest");
    let connection = |session: &str| session.split_once('#').map(|(connection, _)| connection.to_owned());
    let mut shown: Vec<_> = report
        .rows()
        .filter(|row| row.text().contains("session_row"))
        .map(|row| (connection(row.key("session")).unwrap_or_default(), row.calls()))
        .collect();
    shown.sort_by_key(|(_, calls)| *calls);
    assert_eq!(shown, expected, "the server's own connection ids: {:#}", report.json);
}
