//! pgbench, psql and psycopg against PostgreSQL: every execution reported once, with the right text, user, database and
//! application. The judges are pg_stat_statements of the same run, and the client's own count.

use harness::needs;
use harness::perquery::{self, Recording};
use harness::postgres::{self, DATABASE, Launch, Options, Postgres, USER};
use harness::process::Process;
use harness::report::{Report, canonical};
use harness::sqlite::PYTHON;
use harness::wait::{SOON, wait_until};
use harness::{process, scratch};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

const CLIENTS: u64 = 4;
const TRANSACTIONS: u64 = 100;

/// pgbench's transaction.
const TRANSACTION: [&str; 7] = [
    "BEGIN",
    "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = 1",
    "SELECT abalance FROM pgbench_accounts WHERE aid = 1",
    "UPDATE pgbench_tellers SET tbalance = tbalance + 1 WHERE tid = 1",
    "UPDATE pgbench_branches SET bbalance = bbalance + 1 WHERE bid = 1",
    "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 1, 1, 1, CURRENT_TIMESTAMP)",
    "END",
];

macro_rules! needs_postgres {
    () => {
        if let Some(reason) = postgres::unavailable() {
            harness::skip(module_path!(), &reason);
            return;
        }
    };
}

/// Executions per canonical text as the server counted them, since its counters were reset.
fn server_side(server: &Postgres) -> BTreeMap<String, u64> {
    let mut calls = BTreeMap::new();
    let rows = server
        .client()
        .query("SELECT query, calls FROM pg_stat_statements WHERE query NOT LIKE '%pg_stat_statements%'", &[])
        .expect("the administrator may");
    for row in rows {
        *calls.entry(canonical(row.get::<_, &str>(0))).or_insert(0) += row.get::<_, i64>(1) as u64;
    }
    calls
}

fn reset(server: &Postgres) {
    server.client().batch_execute("SELECT pg_stat_statements_reset()").expect("the administrator may");
}

/// What the report says about one application, after checking that user and database are right everywhere.
fn reported(report: &Report, application: &str) -> BTreeMap<String, u64> {
    for row in report.rows().filter(|row| row.key("application") == application) {
        assert_eq!((row.key("user"), row.key("database")), (USER, DATABASE), "{:#}", row.json);
    }
    report.calls_where(|row| row.key("application") == application && row.count("statements") > 0)
}

fn pgbench_counts_are_exact(mode: &str, socket: bool, tls: bool, how: &str) {
    needs_postgres!();
    if tls {
        needs!("openssl");
    }
    let server = Postgres::start(&Options { statistics: true, tls, ..Options::default() });
    server.run_tool(server.tool("pgbench", false).args(["-i", "-q", "-s", "1"]));
    let recording = Recording::start_with(server.pid, scratch_file(&server, "pgbench.pq"), &[how]);
    reset(&server);
    let mut pgbench = server.tool("pgbench", socket);
    if tls {
        pgbench.env("PGSSLMODE", "require");
    }
    let (clients, transactions) = (CLIENTS.to_string(), TRANSACTIONS.to_string());
    let said =
        server.run_tool(pgbench.args(["-n", "-M", mode, "-c", &clients, "-j", "2", "-t", &transactions]));
    let judge = server_side(&server);
    let report = recording.stop("user,database,application,digest");
    report.expect_complete();
    assert!(said.stdout.contains("number of failed transactions: 0"), "{}", said.describe());
    let seen = reported(&report, "pgbench");
    for statement in TRANSACTION {
        let calls = seen.get(&canonical(statement)).copied().unwrap_or(0);
        assert_eq!(calls, CLIENTS * TRANSACTIONS, "{statement} by the client's count; {:#}", report.json);
        // PostgreSQL 15 itself loses these two when they are prepared.
        if mode != "prepared" || !["BEGIN", "END"].contains(&statement) {
            assert_eq!(judge.get(&canonical(statement)), Some(&calls), "{statement} by the server's count");
        }
    }
    for (text, calls) in &judge {
        assert!(
            seen.get(text).is_some_and(|seen| seen >= calls),
            "{calls} of {text} by the server, report {seen:#?}"
        );
    }
    server.stop().expect_success();
}

/// A file that the collector writes; in the test's own directory, which may belong to the server's user.
fn scratch_file(server: &Postgres, name: &str) -> std::path::PathBuf {
    server.directory.path().join(name)
}

#[test]
fn pgbench_with_simple_queries() {
    pgbench_counts_are_exact("simple", false, false, "--exact");
}

#[test]
fn pgbench_with_the_extended_protocol() {
    pgbench_counts_are_exact("extended", false, false, "--exact");
}

#[test]
fn pgbench_with_prepared_statements() {
    pgbench_counts_are_exact("prepared", false, false, "--exact");
}

#[test]
fn pgbench_over_the_unix_socket() {
    pgbench_counts_are_exact("simple", true, false, "--exact");
    pgbench_counts_are_exact("prepared", true, false, "--exact");
}

#[test]
fn pgbench_without_dear_collectors() {
    for mode in ["simple", "extended", "prepared"] {
        pgbench_counts_are_exact(mode, false, false, "--cheap");
    }
}

#[test]
fn pgbench_over_tls() {
    pgbench_counts_are_exact("simple", false, true, "--exact");
    pgbench_counts_are_exact("extended", false, true, "--exact");
    pgbench_counts_are_exact("prepared", false, true, "--exact");
}

#[test]
fn copies_both_ways_with_psql() {
    needs_postgres!();
    let server = Postgres::start(&Options { statistics: true, ..Options::default() });
    let recording = Recording::start(server.pid, scratch_file(&server, "copy.pq"));
    reset(&server);
    let script = scratch::directory("copy");
    let lines: String = (0..5000).map(|i| format!("{i}\tline number {i} of five thousand\n")).collect();
    std::fs::write(script.path().join("in.txt"), lines).expect("own directory");
    let path = |name: &str| script.path().join(name).display().to_string();
    let copy_in = format!("\\copy copied FROM '{}'", path("in.txt"));
    let copy_out = format!("\\copy copied TO '{}'", path("out.txt"));
    let mut psql = server.tool("psql", false);
    psql.args(["-X", "-q", "-c", "CREATE TABLE copied (id int, text text)", "-c", &copy_in, "-c", &copy_out]);
    server.run_tool(psql.args(["-c", "SELECT count(*) FROM copied"]));
    let judge = server_side(&server);
    let report = recording.stop("user,database,application,digest");
    report.expect_complete();
    assert_eq!(reported(&report, "psql"), judge, "{:#}", report.json);
    let find = |wanted: &str| {
        let row = report.rows().find(|row| canonical(row.text()).starts_with(&canonical(wanted)));
        row.unwrap_or_else(|| panic!("no {wanted} in {:#}", report.json))
    };
    assert_eq!(find("COPY copied FROM STDIN").count("rows_affected"), 5000);
    assert_eq!(find("COPY copied TO STDOUT").count("rows_returned"), 5000);
    assert!(find("COPY copied FROM STDIN").count("bytes_in") > 100_000);
    assert!(find("COPY copied TO STDOUT").count("bytes_out") > 100_000);
}

#[test]
fn a_pipeline_is_one_batch_that_counts_its_statements() {
    needs_postgres!();
    needs!(PYTHON);
    if !python_has("psycopg") {
        harness::skip(module_path!(), "python3-psycopg is not installed");
        return;
    }
    let server = Postgres::start(&Options { statistics: true, ..Options::default() });
    server.client().batch_execute("CREATE TABLE piped (id int, n int)").expect("fresh database");
    let recording = Recording::start(server.pid, scratch_file(&server, "pipeline.pq"));
    reset(&server);
    let program = "import psycopg\n\
        with psycopg.connect('application_name=piper', autocommit=True) as connection:\n\
        \x20   for batch in range(20):\n\
        \x20       with connection.pipeline():\n\
        \x20           for i in range(7):\n\
        \x20               connection.execute('INSERT INTO piped VALUES (%s, %s)', (i, batch))\n\
        \x20           connection.execute('UPDATE piped SET n = n + 1 WHERE id = %s', (batch,))\n\
        \x20           connection.execute('SELECT sum(n) FROM piped WHERE id < %s', (batch,))\n";
    let mut python = Command::new(PYTHON);
    server.point_at(perquery::scrub(&mut python), false);
    process::run(python.args(["-c", program]), Duration::from_secs(60)).expect_success();
    let judge = server_side(&server);
    let report = recording.stop("user,database,application,digest");
    report.expect_complete();
    let seen = reported(&report, "piper");
    for (statement, calls) in [
        ("INSERT INTO piped VALUES ($1, $2)", 140),
        ("UPDATE piped SET n = n + $1 WHERE id = $2", 20),
        ("SELECT sum(n) FROM piped WHERE id < $1", 20),
    ] {
        let key = canonical(statement);
        assert_eq!(judge.get(&key), Some(&calls), "{statement} by the server's count: {judge:#?}");
        assert_eq!(seen.get(&key), Some(&calls), "{statement}; {:#}", report.json);
    }
    let batches: u64 = report.rows().filter(|row| !row.members().is_empty()).map(|row| row.calls()).sum();
    assert!((20..=60).contains(&batches), "twenty pipelines, each of few batches, not {batches}");
}

fn python_has(module: &str) -> bool {
    let mut python = Command::new(PYTHON);
    process::run(
        perquery::scrub(&mut python).args(["-c", &format!("import {module}")]),
        Duration::from_secs(30),
    )
    .status
    .success()
}

#[test]
fn a_server_started_by_run_as_its_own_user_is_recorded_to_its_end() {
    needs_postgres!();
    let directory = scratch::directory("run");
    if let Some(user) = scratch::is_root().then(|| scratch::user(USER)).flatten() {
        scratch::give_to(directory.path(), user);
    }
    let recording = directory.path().join("pg.pq");
    let server = Postgres::start(&Options { launch: Launch::Run(recording.clone()), ..Options::default() });
    let mut client = server.client();
    for i in 0..250 {
        client.query_one("SELECT $1::int + 4711", &[&i]).expect("a plain query");
    }
    drop(client);
    server.stop().expect_success();
    let report = perquery::report(&recording, "user,database,application,digest");
    report.expect_complete();
    let seen = reported_for_tests(&report);
    assert_eq!(seen.get(&canonical("SELECT $1::int + 4711")), Some(&250), "{seen:#?}");
}

fn reported_for_tests(report: &Report) -> BTreeMap<String, u64> {
    report.calls_where(|row| {
        row.key("application") == "perquery-tests"
            && row.key("database") == DATABASE
            && row.count("statements") > 0
    })
}

#[test]
fn the_application_may_change_its_name() {
    needs_postgres!();
    let server = Postgres::start(&Options::default());
    let recording = Recording::start(server.pid, scratch_file(&server, "name.pq"));
    let mut client = server.client();
    client.batch_execute("SELECT 11 AS before").expect("a plain query");
    client.batch_execute("SET application_name = 'till 7'").expect("anybody may");
    client.batch_execute("SELECT 11 AS after").expect("a plain query");
    let report = recording.stop("application,digest");
    assert_eq!(report.row("SELECT 11 AS before").key("application"), "perquery-tests");
    assert_eq!(report.row("SELECT 11 AS after").key("application"), "till 7");
}

/// A session that goes on while capture is off, on, off and on again, told by signals.
const GOES_ON: &str = "import psycopg, signal\n\
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n\
    def wait():\n\
    \x20   print('waits', flush=True)\n\
    \x20   signal.sigwait([signal.SIGUSR1])\n\
    def run(text, times, **how):\n\
    \x20   for i in range(times):\n\
    \x20       connection.execute(text, **how)\n\
    with psycopg.connect('application_name=before', autocommit=True) as connection:\n\
    \x20   run('SELECT 1 AS unseen', 5)\n\
    \x20   run('SELECT %s::int AS unseen', 5, params=(1,))\n\
    \x20   run('SELECT 4711 AS prepared', 1, prepare=True)\n\
    \x20   run('SELECT 1 AS unseen', 5)\n\
    \x20   connection.execute(\"SELECT set_config('application_name', 'till 7', false)\")\n\
    \x20   wait()\n\
    \x20   run('SELECT 4711 AS prepared', 3, prepare=True)\n\
    \x20   run('SELECT 1 AS seen', 2)\n\
    \x20   wait()\n\
    \x20   with connection.cursor() as cursor, cursor.copy('COPY pg_am TO STDOUT') as copy:\n\
    \x20       list(copy)\n\
    \x20   run('SELECT 1 AS unseen', 5)\n\
    \x20   run(\"SELECT 1; SET application_name = 'till 8'\", 1)\n\
    \x20   wait()\n\
    \x20   run('SELECT 4711 AS prepared', 4, prepare=True)\n\
    \x20   wait()\n";

fn what_happened_while_capture_was_off_is_known(tls: bool) {
    needs_postgres!();
    needs!(PYTHON, "openssl");
    if !python_has("psycopg") {
        harness::skip(module_path!(), "python3-psycopg is not installed");
        return;
    }
    let server = Postgres::start(&Options { tls, ..Options::default() });
    let mut python = Command::new(PYTHON);
    server.point_at(perquery::scrub(&mut python), false);
    if tls {
        python.env("PGSSLMODE", "require");
    }
    let mut session = Process::start(python.args(["-c", GOES_ON]));
    let mut waits = 0;
    let mut reached = |session: &mut Process| {
        waits += 1;
        wait_until("the session to wait", SOON, || {
            assert!(session.is_running(), "{}", session.stderr());
            session.stdout().lines().count() == waits
        });
    };
    reached(&mut session);
    for (round, application, prepared, others) in [(1, "till 7", 3, 2), (2, "till 8", 4, 0)] {
        let recording = Recording::start(server.pid, scratch_file(&server, &format!("{round}.pq")));
        session.signal(Signal::USR1);
        reached(&mut session);
        let report = recording.stop("application,digest");
        report.expect_complete();
        let row = report.row("SELECT 4711 AS prepared");
        assert_eq!((row.key("application"), row.calls()), (application, prepared), "{:#}", report.json);
        let all: u64 = report.rows().map(|row| row.calls()).sum();
        assert_eq!(all, prepared + others, "nothing but what ran while it was on: {:#}", report.json);
        session.signal(Signal::USR1);
        if round == 1 {
            reached(&mut session);
        }
    }
    session.wait(SOON).expect_success();
    server.stop().expect_success();
}

#[test]
fn a_session_that_comes_back_when_capture_is_switched_on_knows_its_application_and_statements() {
    what_happened_while_capture_was_off_is_known(false);
}

#[test]
fn a_tls_session_that_comes_back_when_capture_is_switched_on_knows_its_application_and_statements() {
    what_happened_while_capture_was_off_is_known(true);
}

#[test]
fn the_cost_of_parallel_workers_is_their_leaders() {
    needs_postgres!();
    let settings = [
        "max_parallel_workers_per_gather=2",
        "parallel_setup_cost=0",
        "parallel_tuple_cost=0",
        "min_parallel_table_scan_size=0",
        "parallel_leader_participation=off",
        "jit=off",
    ];
    let settings = settings.map(str::to_owned).to_vec();
    let server = Postgres::start(&Options { settings, ..Options::default() });
    let mut client = server.client();
    client
        .batch_execute("CREATE TABLE wide AS SELECT i, md5(i::text) AS t FROM generate_series(1, 300000) i; ANALYZE wide")
        .expect("fresh database");
    let recording = Recording::start(server.pid, scratch_file(&server, "parallel.pq"));
    let query = |name: &str| format!("SELECT count(*) AS {name} FROM wide WHERE md5(t || t) LIKE 'ab%'");
    let plan = client.query(&format!("EXPLAIN {}", query("parallel")), &[]).expect("a plan");
    assert!(plan.iter().any(|row| row.get::<_, &str>(0).contains("Gather")), "the plan is not parallel");
    (0..3).for_each(|_| client.batch_execute(&query("parallel")).expect("a plain query"));
    client.batch_execute("SET max_parallel_workers_per_gather = 0").expect("anybody may");
    (0..3).for_each(|_| client.batch_execute(&query("serial")).expect("a plain query"));
    let report = recording.stop("digest");
    let (parallel, serial) = (report.row(&query("parallel")), report.row(&query("serial")));
    assert_eq!((parallel.calls(), serial.calls()), (3, 3));
    // The leader takes no part: all the work is its workers', and it is the same work.
    let ratio = parallel.counter("cpu_ns") / serial.counter("cpu_ns");
    assert!((0.7..2.0).contains(&ratio), "{ratio} of the serial CPU: {:#}", parallel.json);
}
