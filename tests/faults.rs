//! Who is killed hurts nobody else: the collector, a backend, the whole server. What was recorded before is kept.

use harness::mariadb::{Launch, MariaDb, Options, USER};
use harness::perquery::{self, Recording, capture_is_on, perquery, report};
use harness::process::{Process, run, signal_pid};
use harness::wait::{SOON, wait_for, wait_until};
use harness::{needs, postgres, proc, scratch};
use mysql::prelude::Queryable;
use rustix::process::Signal;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Clients that ask as fast as they can, until told to stop; how many answers they got.
struct Load<'a> {
    server: &'a MariaDb,
    stop: AtomicBool,
    answers: AtomicU64,
}

impl<'a> Load<'a> {
    fn new(server: &'a MariaDb) -> Self {
        Load { server, stop: AtomicBool::new(false), answers: AtomicU64::new(0) }
    }

    fn work(&self) {
        let mut client = self.server.client();
        while !self.stop.load(Ordering::Relaxed) {
            client.query_drop("SELECT 1 AS load_row").expect("the server answers on");
            self.answers.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// Waits until this many more answers have come.
    fn wait_for_more(&self, more: u64) {
        let wanted = self.answers() + more;
        wait_until("answers under load", SOON, || self.answers() >= wanted);
    }
}

struct StopAtEnd<'a, 'b>(&'a Load<'b>);

impl Drop for StopAtEnd<'_, '_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_killed_collector_that_nobody_has_waited_for_counts_as_dead() {
    needs!("mariadbd", "mariadb-install-db");
    let server = MariaDb::start(&Options::default());
    let zombie = Recording::start(server.pid, server.directory.path().join("zombie.pq"));
    signal_pid(zombie.pid(), Signal::KILL);
    wait_until("the collector's end", SOON, || !proc::is_alive(zombie.pid()));
    let next = Recording::start(server.pid, server.directory.path().join("next.pq"));
    server.client().query_drop("SELECT 1 AS seen").expect("a plain query");
    assert_eq!(next.stop("digest").row("SELECT 1 AS seen").calls(), 1);
}

#[test]
fn a_collector_killed_under_load_leaves_the_server_alone_and_the_next_one_works() {
    needs!("mariadbd", "mariadb-install-db");
    let server = MariaDb::start(&Options::default());
    let path = |name: &str| server.directory.path().join(name);
    let load = Load::new(&server);
    let mut off_after = Vec::new();
    std::thread::scope(|scope| {
        // Also when something below panics: the scope waits for its threads.
        let _stop = StopAtEnd(&load);
        (0..2).for_each(|_| drop(scope.spawn(|| load.work())));
        for round in 0..3 {
            let killed = Recording::start(server.pid, path(&format!("killed-{round}.pq")));
            load.wait_for_more(3000);
            let killed_at = Instant::now();
            assert_eq!(killed.kill().code(), 137);
            wait_until("capture to be off", SOON, || !capture_is_on(server.pid));
            off_after.push(killed_at.elapsed());
            load.wait_for_more(3000);

            let next = Recording::start(server.pid, path(&format!("next-{round}.pq")));
            let before = load.answers();
            load.wait_for_more(3000);
            let during = load.answers() - before;
            let row_calls = next.stop("digest").row("SELECT 1 AS load_row").calls();
            assert!(row_calls >= during, "{during} answers while recording, {row_calls} calls reported");
        }
    });
    println!("capture was off after {off_after:?}");
    // A machine whose host takes its CPUs away for a second does so rarely three times.
    assert!(off_after.iter().any(|time| *time < Duration::from_secs(2)), "{off_after:?}");
    // What a killed collector had written is readable.
    let kept = report(&path("killed-0.pq"), "digest");
    kept.rows().for_each(|row| assert!(row.calls() > 0));
    server.stop().expect_success();
}

/// A query that is in flight on the server, started from a thread of its own.
fn query_in_flight(server: &MariaDb, query: &'static str) -> std::thread::JoinHandle<bool> {
    let mut client = server.client();
    let id = client.connection_id();
    let waiting = std::thread::spawn(move || client.query_drop(query).is_err());
    let mut root = server.root();
    wait_for("the query to run", SOON, || {
        let asked = format!(
            "SELECT 1 FROM information_schema.processlist WHERE ID = {id} AND INFO LIKE 'SELECT SLEEP%'"
        );
        let found: Option<u32> = root.query_first(asked).expect("root may");
        found
    });
    waiting
}

#[track_caller]
fn in_flight_names(recording: &Path, text: &str, user: &str) {
    let report = report(recording, "digest");
    let found = report.in_flight().iter().map(ToString::to_string).find(|entry| entry.contains(text));
    let found = found.unwrap_or_else(|| panic!("no {text} in flight: {:#}", report.json));
    assert!(found.contains(user), "whose it was: {found}");
}

#[test]
fn a_server_killed_in_mid_query_leaves_a_recording_that_says_which_query_ran() {
    needs!("mariadbd", "mariadb-install-db");
    let server = MariaDb::start(&Options::default());
    let directory = scratch::directory("killed");
    let path = directory.path().join("killed.pq");
    let recording = Recording::start(server.pid, path.clone());
    let mut client = server.client();
    for _ in 0..700 {
        client.query_drop("SELECT 1 AS before_the_end").expect("a plain query");
    }
    let waiting = query_in_flight(&server, "SELECT SLEEP(300), 'the culprit'");
    server.kill();
    assert!(waiting.join().expect("the client's thread"), "the server is gone");
    let ended = recording.wait();
    assert!(!ended.stderr.contains("panicked"), "{}", ended.describe());
    let said = format!("{}{}", ended.stdout, ended.stderr);
    assert!(said.contains("SLEEP("), "the query in flight is printed: {}", ended.describe());
    assert_eq!(report(&path, "digest").row("SELECT 1 AS before_the_end").calls(), 700);
    in_flight_names(&path, "SLEEP(", USER);
}

#[test]
fn run_says_the_same_and_ends_as_its_server_did() {
    needs!("mariadbd", "mariadb-install-db");
    let directory = scratch::directory("killed");
    let path = directory.path().join("killed.pq");
    let server = MariaDb::start(&Options { launch: Launch::Run(path.clone()), ..Options::default() });
    let waiting = query_in_flight(&server, "SELECT SLEEP(300)");
    let ended = server.kill();
    assert!(waiting.join().expect("the client's thread"), "the server is gone");
    assert_eq!(ended.code(), 137, "{}", ended.describe());
    let said = format!("{}{}", ended.stdout, ended.stderr);
    assert!(said.contains("SLEEP("), "the query in flight is printed: {}", ended.describe());
    in_flight_names(&path, "SLEEP(", USER);
}

#[test]
fn run_hands_sigterm_on_and_reports_when_the_server_has_stopped() {
    needs!("mariadbd", "mariadb-install-db");
    let directory = scratch::directory("signals");
    let path = directory.path().join("run.pq");
    let mut server = MariaDb::start(&Options { launch: Launch::Run(path.clone()), ..Options::default() });
    server.client().query_drop("SELECT 1 AS seen").expect("a plain query");
    server.signal_launcher(Signal::TERM);
    let ended = server.wait();
    ended.expect_success();
    assert!(ended.stderr.contains("Shutdown complete"), "the server stopped in order: {}", ended.describe());
    assert!(ended.stderr.contains("seen"), "the report at the end: {}", ended.describe());
    assert_eq!(report(&path, "digest").row("SELECT 1 AS seen").calls(), 1, "{}", ended.describe());
}

#[test]
fn run_keeps_the_exit_status_of_what_it_ran() {
    let directory = scratch::directory("status");
    let path = directory.path().join("run.pq");
    for (words, status) in [("exit 0", 0), ("exit 41", 41), ("kill -KILL $$", 137), ("kill -TERM $$", 143)] {
        let ended = run(perquery::run_command(&path).args(["/bin/sh", "-c", words]), SOON);
        assert_eq!(ended.code(), status, "{words}: {}", ended.describe());
    }
}

#[test]
fn run_stops_a_postgresql_on_interrupt() {
    if let Some(reason) = postgres::unavailable() {
        harness::skip(module_path!(), &reason);
        return;
    }
    let directory = scratch::directory("signals");
    if let Some(user) = scratch::is_root().then(|| scratch::user(postgres::USER)).flatten() {
        scratch::give_to(directory.path(), user);
    }
    let path = directory.path().join("run.pq");
    let launch = Launch::Run(path.clone());
    let mut server = postgres::Postgres::start(&postgres::Options { launch, ..postgres::Options::default() });
    server.client().batch_execute("SELECT 1 AS seen").expect("a plain query");
    server.signal_launcher(Signal::INT);
    let ended = server.wait();
    ended.expect_success();
    assert!(ended.stderr.contains("database system is shut down"), "{}", ended.describe());
    assert_eq!(report(&path, "digest").row("SELECT 1 AS seen").calls(), 1, "{}", ended.describe());
}

#[test]
fn a_backend_killed_in_mid_query_is_named_and_the_next_sessions_are_recorded() {
    if let Some(reason) = postgres::unavailable() {
        harness::skip(module_path!(), &reason);
        return;
    }
    let server = postgres::Postgres::start(&postgres::Options::default());
    let path = server.directory.path().join("backend.pq");
    let recording = Recording::start(server.pid, path.clone());
    let mut client = server.client();
    (0..50).for_each(|_| client.batch_execute("SELECT 1 AS before_the_end").expect("a plain query"));
    let backend: i32 = client.query_one("SELECT pg_backend_pid()", &[]).expect("a plain query").get(0);
    let waiting = std::thread::spawn(move || client.batch_execute("SELECT pg_sleep(300)").is_err());
    let mut other = server.client();
    wait_for("the query to run", SOON, || {
        let asked = "SELECT 1 FROM pg_stat_activity WHERE pid = $1 AND query LIKE '%pg_sleep(300)%' AND state = 'active'";
        other.query_opt(asked, &[&backend]).expect("a plain query")
    });
    const CHECKPOINTER: &str = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'";
    let checkpointer_before: i32 = other.query_one(CHECKPOINTER, &[]).expect("a plain query").get(0);
    signal_pid(backend as u32, Signal::KILL);
    assert!(waiting.join().expect("the client's thread"), "the backend is gone");
    // The postmaster restarts all processes after such a death. Until it has, a session may still be ended by it.
    let mut client = wait_for("the postmaster to have recovered", SOON, || {
        let mut config = ::postgres::Config::new();
        config.host("127.0.0.1").port(server.port).user(postgres::USER).dbname(postgres::DATABASE);
        let mut client = config.connect(::postgres::NoTls).ok()?;
        let checkpointer: i32 = client.query_one(CHECKPOINTER, &[]).ok()?.get(0);
        (checkpointer != checkpointer_before).then_some(client)
    });
    (0..30).for_each(|_| client.batch_execute("SELECT 1 AS after_the_end").expect("a plain query"));
    drop(client);
    let report = recording.stop("digest");
    assert_eq!(report.row("SELECT 1 AS before_the_end").calls(), 50);
    assert_eq!(report.row("SELECT 1 AS after_the_end").calls(), 30);
    let text = report.json.to_string();
    assert!(text.contains("pg_sleep"), "the query that was cut off: {:#}", report.json);
}

#[test]
fn a_postgresql_killed_as_a_whole_leaves_a_readable_recording() {
    if let Some(reason) = postgres::unavailable() {
        harness::skip(module_path!(), &reason);
        return;
    }
    let server = postgres::Postgres::start(&postgres::Options::default());
    let directory = scratch::directory("killed");
    let path = directory.path().join("killed.pq");
    let recording = Recording::start(server.pid, path.clone());
    let mut client = server.client();
    (0..40).for_each(|_| client.batch_execute("SELECT 1 AS before_the_end").expect("a plain query"));
    let backend: i32 = client.query_one("SELECT pg_backend_pid()", &[]).expect("a plain query").get(0);
    let waiting = std::thread::spawn(move || client.batch_execute("SELECT pg_sleep(300)").is_err());
    let mut other = server.client();
    wait_for("the query to run", SOON, || {
        let asked = "SELECT 1 FROM pg_stat_activity WHERE pid = $1 AND query LIKE '%pg_sleep(300)%' AND state = 'active'";
        other.query_opt(asked, &[&backend]).expect("a plain query")
    });
    server.kill();
    assert!(waiting.join().expect("the client's thread"), "the server is gone");
    let ended = recording.wait();
    assert!(!ended.stderr.contains("panicked"), "{}", ended.describe());
    assert_eq!(report(&path, "digest").row("SELECT 1 AS before_the_end").calls(), 40);
    in_flight_names(&path, "pg_sleep", postgres::USER);
}

#[test]
fn a_second_collector_is_told_who_the_first_is() {
    needs!("mariadbd", "mariadb-install-db");
    let server = MariaDb::start(&Options::default());
    let first = Recording::start(server.pid, server.directory.path().join("first.pq"));
    let path = server.directory.path().join("second.pq");
    let second = perquery(["record", "-p", &server.pid.to_string(), "-o", &path.display().to_string()]);
    assert_eq!(second.code(), 2, "{}", second.describe());
    assert!(second.stderr.contains(&first.pid().to_string()), "names the first: {}", second.describe());
    assert_eq!(second.stderr.lines().count(), 1, "one line: {}", second.describe());
    // And the first goes on.
    server.client().query_drop("SELECT 1 AS still_seen").expect("a plain query");
    assert_eq!(first.stop("digest").row("SELECT 1 AS still_seen").calls(), 1);
}

#[test]
fn a_recording_of_one_second_ends_by_itself_and_switches_capture_off() {
    needs!("mariadbd", "mariadb-install-db");
    let server = MariaDb::start(&Options::default());
    let path = server.directory.path().join("second.pq");
    let started = Instant::now();
    let mut record = perquery::command(["record", "-p", &server.pid.to_string(), "-d", "1", "-o"]);
    run(record.arg(&path), SOON).expect_success();
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert!(!capture_is_on(server.pid));
    assert_eq!(report(&path, "digest").completeness("dropped"), 0);
}

#[test]
fn a_broken_pipe_is_no_error() {
    needs!("sqlite3");
    let directory = scratch::directory("pipe");
    let path = directory.path().join("x.pq");
    run(perquery::run_command(&path).args(["sqlite3", ":memory:", "SELECT 1"]), SOON).expect_success();
    let command = format!(
        "{{ {} report -i {} --format json; echo status $? >&2; }} | true",
        harness::artifacts::perquery().display(),
        path.display()
    );
    let mut shell = std::process::Command::new("/bin/bash");
    let ended = Process::start(perquery::scrub(&mut shell).args(["-c", &command])).wait(SOON);
    assert!(
        ended.stderr.ends_with("status 0\n") && ended.stderr.lines().count() == 1,
        "{}",
        ended.describe()
    );
}

#[test]
fn a_session_that_is_killed_in_the_middle_of_its_query_is_followed_to_its_end() {
    needs!("mariadbd", "mariadb-install-db");
    let server = MariaDb::start(&Options::default());
    for how in ["--cheap", "--exact"] {
        let path = server.directory.path().join(format!("kill{how}.pq"));
        let recording = Recording::start_with(server.pid, path.clone(), &[how]);
        let mut victim = server.client();
        let id: u64 = victim.query_first("SELECT CONNECTION_ID()").expect("a query").expect("a row");
        std::thread::scope(|scope| {
            // The server's own thread is in the middle of it, the one that kills is another.
            let sleeper = scope.spawn(move || victim.query_drop("SELECT SLEEP(60) AS killed"));
            let mut root = server.root();
            wait_until("the query to run", SOON, || {
                let running: Option<u64> = root
                    .exec_first(
                        "SELECT id FROM information_schema.processlist WHERE id = ? AND info LIKE 'SELECT SLEEP%'",
                        (id,),
                    )
                    .expect("a query");
                running.is_some()
            });
            root.query_drop(format!("KILL {id}")).expect("it may");
            assert!(sleeper.join().expect("no panic").is_err(), "it was cut off");
        });
        server.client().query_drop("SELECT 1 AS afterwards").expect("a plain query");
        recording.end().expect_success();
        let report = report(&path, "digest");
        report.expect_complete();
        assert_eq!(report.completeness("lost_sessions"), 0);
        for text in ["SELECT SLEEP(60) AS killed", "SELECT 1 AS afterwards"] {
            assert_eq!(report.row(text).calls(), 1, "{text}, {how}");
        }
    }
}
