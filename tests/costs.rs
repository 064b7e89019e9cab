//! Costs that are known beforehand come out right: sleeping, computing, touching memory, failing.

use harness::mariadb::{MariaDb, Options, USER};
use harness::perquery::{self, Recording};
use harness::report::Report;
use harness::sqlite::{PYTHON, record_python};
use harness::wait::{SOON, wait_for};
use harness::{needs, numbers, postgres, proc, scratch};
use mysql::prelude::Queryable;

fn record_mariadb(work: impl FnOnce(&MariaDb)) -> Report {
    let server = MariaDb::start(&Options::default());
    let recording = Recording::start(server.pid, server.directory.path().join("costs.pq"));
    work(&server);
    recording.stop("user,error,digest")
}

#[test]
fn sleeping_takes_time_but_no_cpu() {
    needs!("mariadbd", "mariadb-install-db");
    let report = record_mariadb(|server| {
        let mut client = server.client();
        (0..5).for_each(|_| client.query_drop("SELECT SLEEP(0.2)").expect("a plain query"));
    });
    let row = report.row("SELECT SLEEP(0.2)");
    assert_eq!(row.calls(), 5);
    assert!(row.latency_ns("min_ns") >= 200e6, "{:#}", row.json);
    assert!(row.latency_ns("max_ns") < 2e9, "{:#}", row.json);
    // A virtual machine that has to wait for its host while a thread runs takes that for the thread's CPU time.
    assert!(row.counter("cpu_ns") / 5.0 < 10e6, "less than 10 ms of CPU in 200 ms: {:#}", row.json);
    assert!(row.counter("switches_voluntary") >= 5.0, "it waits: {:#}", row.json);
}

#[test]
fn computing_takes_as_much_cpu_as_time() {
    needs!("mariadbd", "mariadb-install-db");
    let server = MariaDb::start(&Options::default());
    let mut client = server.client();
    let asked = "SELECT TID FROM information_schema.processlist WHERE ID = CONNECTION_ID()";
    let tid = client.query_first(asked).expect("a plain query").expect("its own thread");
    let recording = Recording::start(server.pid, server.directory.path().join("cpu.pq"));
    // On an idle core the two are equal. On a busy one the kernel says how long the thread waited for a core.
    let waited_before = proc::run_delay_ns(server.pid, tid);
    client.query_drop("SELECT BENCHMARK(3000000, MD5('x'))").expect("a plain query");
    client.query_drop("DO 1").expect("a plain query");
    let waited_ns = (proc::run_delay_ns(server.pid, tid) - waited_before) as f64;
    let report = recording.stop("digest");
    let row = report.row("SELECT BENCHMARK(3000000, MD5('x'))");
    let (cpu_ns, latency_ns) = (row.counter("cpu_ns"), row.latency_ns("sum_ns"));
    assert!(cpu_ns <= latency_ns, "more CPU than one thread can use: {:#}", row.json);
    let ratio = cpu_ns / (latency_ns - waited_ns);
    assert!(
        (0.97..1.03).contains(&ratio),
        "CPU / (latency - {waited_ns} ns waited) is {ratio}: {:#}",
        row.json
    );
}

#[test]
fn the_first_pass_over_fresh_memory_faults_and_the_second_does_not() {
    needs!(PYTHON);
    let directory = scratch::directory("faults");
    let recording = directory.path().join("faults.pq");
    // SQLite's page cache: anonymous memory, a page each. Huge pages would hide the faults.
    let program = format!(
        "import ctypes, resource, sqlite3\n\
         ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)\n\
         path = {:?}\n\
         db = sqlite3.connect(path)\n\
         db.execute('CREATE TABLE fresh (t TEXT)')\n\
         db.executemany('INSERT INTO fresh VALUES (?)', (('x' * 3500,) for i in range(10000)))\n\
         db.commit()\n\
         db.close()\n\
         db = sqlite3.connect(path)\n\
         db.execute('PRAGMA cache_size = -200000').fetchall()\n\
         faults = lambda: resource.getrusage(resource.RUSAGE_THREAD).ru_minflt\n\
         for name in ('first_pass', 'second_pass'):\n\
         \x20   before = faults()\n\
         \x20   db.execute('SELECT sum(length(t)) AS ' + name + ' FROM fresh').fetchall()\n\
         \x20   print(name, faults() - before)\n",
        directory.path().join("fresh.db").display().to_string()
    );
    let ended = record_python(&recording, &program);
    assert_eq!(ended.code(), 0, "{}", ended.describe());
    let kernel =
        |name: &str| numbers::number_after(&ended.stdout, name).expect("the program prints it") as f64;
    let report = perquery::report(&recording, "digest");
    let seen = |name: &str| {
        let row = report.row(&format!("SELECT sum(length(t)) AS {name} FROM fresh"));
        row.counter("page_faults_minor") + row.counter("page_faults_major")
    };
    let (first, second) = (seen("first_pass"), seen("second_pass"));
    assert!(kernel("first_pass") > 5000.0, "the program did touch fresh memory: {}", ended.stdout);
    let difference = (first - kernel("first_pass")).abs();
    assert!(
        difference <= 0.02 * kernel("first_pass") + 4.0,
        "{first} seen, the kernel says {}",
        ended.stdout
    );
    assert!(second <= 20.0, "{second} faults in the second pass");
}

#[test]
fn an_error_shows_its_code() {
    needs!("mariadbd", "mariadb-install-db");
    let report = record_mariadb(|server| {
        let mut client = server.client();
        for _ in 0..3 {
            assert!(client.query_drop("SELECT * FROM no_such_table").is_err());
        }
        client.query_drop("SELECT 4 AS fine").expect("a plain query");
    });
    let row = report.row("SELECT * FROM no_such_table");
    assert_eq!((row.calls(), row.count("errors")), (3, 3));
    assert!(row.key("error").contains("1146"), "{:#}", row.json);
    assert_eq!(row.key("user"), USER);
    let fine = report.row("SELECT 4 AS fine");
    assert_eq!((fine.calls(), fine.count("errors"), fine.count("rows_returned")), (1, 0, 1));
}

#[test]
fn a_killed_query_shows_its_error() {
    needs!("mariadbd", "mariadb-install-db");
    let report = record_mariadb(|server| {
        let mut client = server.client();
        let id = client.connection_id();
        let victim = std::thread::spawn(move || {
            client
                .query::<String, _>("SELECT SUM(a.seq) FROM seq_1_to_10000000 a, seq_1_to_10000000 b")
                .is_err()
        });
        let mut root = server.root();
        wait_for("the query to run", SOON, || {
            let found: Option<u32> = root
                .query_first(format!(
                    "SELECT 1 FROM information_schema.processlist WHERE ID = {id} AND INFO LIKE 'SELECT SUM%'"
                ))
                .expect("root may");
            found
        });
        root.query_drop(format!("KILL QUERY {id}")).expect("root may");
        assert!(victim.join().expect("the client's thread"), "the query was killed");
    });
    let row = report.row("SELECT SUM(a.seq) FROM seq_1_to_10000000 a, seq_1_to_10000000 b");
    assert_eq!((row.calls(), row.count("errors")), (1, 1));
    assert!(row.key("error").contains("1317"), "{:#}", row.json);
}

#[test]
fn three_statements_in_one_command_are_one_call_of_three() {
    needs!("mariadbd", "mariadb-install-db");
    let report = record_mariadb(|server| {
        let mut client = server.client();
        client
            .query_drop("SELECT 1 AS many; SELECT 2 AS many; SELECT 3 AS many")
            .expect("multi-statements are on");
    });
    let row = report.rows().find(|row| row.text().contains("many")).expect("the command");
    assert_eq!((row.calls(), row.count("statements")), (1, 3), "{:#}", row.json);
    assert_eq!(row.count("rows_returned"), 3, "{:#}", row.json);
}

#[test]
fn rows_affected_are_the_servers() {
    needs!("mariadbd", "mariadb-install-db");
    let report = record_mariadb(|server| {
        let mut client = server.client();
        client.query_drop("CREATE TABLE counted (n INT)").expect("an own database");
        client
            .query_drop("INSERT INTO counted VALUES (1), (2), (3), (4), (5), (6), (7)")
            .expect("an own table");
        client.query_drop("UPDATE counted SET n = n + 10 WHERE n > 2").expect("an own table");
        client.query_drop("DELETE FROM counted WHERE n > 11").expect("an own table");
        let _: Vec<u32> = client.query("SELECT n FROM counted").expect("an own table");
    });
    for (statement, affected, returned) in [
        ("INSERT INTO counted VALUES (1)", 7, 0),
        ("UPDATE counted SET n = n + 10 WHERE n > 2", 5, 0),
        ("DELETE FROM counted WHERE n > 11", 5, 0),
        ("SELECT n FROM counted", 0, 2),
    ] {
        let row = report.row(statement);
        assert_eq!(
            (row.count("rows_affected"), row.count("rows_returned")),
            (affected, returned),
            "{statement}"
        );
    }
}

#[test]
fn postgresql_says_the_same_of_sleeping_failing_and_being_cancelled() {
    if let Some(reason) = postgres::unavailable() {
        harness::skip(module_path!(), &reason);
        return;
    }
    let server = postgres::Postgres::start(&postgres::Options::default());
    let recording = Recording::start(server.pid, server.directory.path().join("costs.pq"));
    let mut client = server.client();
    client.batch_execute("SELECT pg_sleep(0.2)").expect("a plain query");
    client.batch_execute("SELECT 1 AS three; SELECT 2; SELECT 3").expect("a plain query");
    assert!(client.batch_execute("SELECT * FROM no_such_table").is_err());
    let cancel = client.cancel_token();
    let backend: i32 = client.query_one("SELECT pg_backend_pid()", &[]).expect("a plain query").get(0);
    let victim = std::thread::spawn(move || client.batch_execute("SELECT pg_sleep(60) AS long").is_err());
    let mut other = server.client();
    wait_for("the query to run", SOON, || {
        let asked =
            "SELECT 1 FROM pg_stat_activity WHERE pid = $1 AND query LIKE '%AS long' AND state = 'active'";
        other.query_opt(asked, &[&backend]).expect("a plain query")
    });
    cancel.cancel_query(::postgres::NoTls).expect("a cancel request");
    assert!(victim.join().expect("the client's thread"), "the query was cancelled");
    let report = recording.stop("user,error,digest");
    report.expect_complete();

    let slept = report.row("SELECT pg_sleep(0.2)");
    assert!(slept.latency_ns("min_ns") >= 200e6 && slept.counter("cpu_ns") < 10e6, "{:#}", slept.json);
    let failed = report.row("SELECT * FROM no_such_table");
    assert!(failed.key("error").contains("42P01") && failed.count("errors") == 1, "{:#}", failed.json);
    let cancelled = report.row("SELECT pg_sleep(60) AS long");
    assert!(
        cancelled.key("error").contains("57014") && cancelled.count("errors") == 1,
        "{:#}",
        cancelled.json
    );
    let three = report.rows().find(|row| row.text().contains("three")).expect("the command");
    assert_eq!((three.calls(), three.count("statements"), three.count("rows_returned")), (1, 3, 3));
}

/// A PostgreSQL backend waits for a lock in the same call as for its next command.
#[test]
fn waiting_for_a_lock_is_not_taken_for_waiting_for_the_command() {
    if let Some(reason) = postgres::unavailable() {
        harness::skip(module_path!(), &reason);
        return;
    }
    const TURNS: f64 = 5.0;
    let waiting = "SELECT 0 FROM pg_advisory_lock(4711)";
    let server = postgres::Postgres::start(&postgres::Options::default());
    let (mut holder, mut waiter, mut watcher) = (server.client(), server.client(), server.client());
    let path = server.directory.path().join("lock.pq");
    let recording = Recording::start_with(server.pid, path, &["--exact"]);
    for _ in 0..TURNS as usize {
        holder.batch_execute("SELECT pg_advisory_lock(4711)").expect("a lock");
        std::thread::scope(|scope| {
            let waiter = &mut waiter;
            scope.spawn(move || {
                (0..20).for_each(|_| waiter.batch_execute("SELECT 1").expect("a plain query"));
                waiter.batch_execute(waiting).expect("a lock, in the end");
                waiter.batch_execute("SELECT pg_advisory_unlock(4711)").expect("its own lock");
            });
            wait_for("the other session to wait for the lock", SOON, || {
                let count = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
                let waits: i64 = watcher.query_one(count, &[]).expect("a plain query").get(0);
                (waits > 0).then_some(())
            });
            holder
                .batch_execute("SELECT pg_sleep(0.1); SELECT pg_advisory_unlock(4711)")
                .expect("its own lock");
        });
    }
    let report = recording.stop("digest");
    let row = report.row(waiting);
    assert!(row.latency_ns("min_ns") >= 100e6, "{:#}", row.json);
    assert!(row.counter("cpu_ns") / TURNS < 20e6, "it waited: {:#}", row.json);
    assert!(row.counter("switches_voluntary") >= TURNS, "and gave up the CPU for it: {:#}", row.json);
}
