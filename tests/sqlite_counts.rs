//! SQLite's shell and Python's module under `perquery run`: each statement of the script reported as often as it ran.

use harness::orders::Orders;
use harness::perquery::Recording;
use harness::process::run;
use harness::sqlite::{PYTHON, record_python, record_shell};
use harness::wait::SOON;
use harness::{artifacts, needs, perquery, proc, scratch, skip, victim};
use std::process::Command;

#[test]
fn the_shell_over_a_script() {
    needs!("sqlite3");
    let directory = scratch::directory("sqlite");
    let script = directory.path().join("queries.sql");
    let mut text =
        String::from("CREATE TABLE goods (id INTEGER PRIMARY KEY, name TEXT, price INT);\nBEGIN;\n");
    (0..1000)
        .for_each(|i| text += &format!("INSERT INTO goods VALUES ({i}, 'thing {i}', {});\n", i * 7 % 311));
    text += "COMMIT;\n";
    (0..400).for_each(|i| text += &format!("SELECT name FROM goods WHERE id = {i};\n"));
    (0..30).for_each(|i| text += &format!("SELECT count(*) FROM goods WHERE price > {i};\n"));
    (0..5).for_each(|_| text += "SELECT no_such_column FROM goods;\n");
    text += "UPDATE goods SET price = price + 1 WHERE id < 100;\n";
    std::fs::write(&script, text).expect("own directory");
    let recording = directory.path().join("shop.pq");
    let database = directory.path().join("shop.db");
    let ended = record_shell(&recording, &database, &script);
    assert!(
        ended.stdout.contains("thing 399\n"),
        "the shell's own output comes through: {}",
        ended.describe()
    );

    let report = perquery::report(&recording, "database,digest");
    report.expect_complete();
    for (statement, calls) in [
        ("CREATE TABLE goods (id INTEGER PRIMARY KEY, name TEXT, price INT)", 1),
        ("BEGIN", 1),
        ("INSERT INTO goods VALUES (1, 'x', 1)", 1000),
        ("COMMIT", 1),
        ("SELECT name FROM goods WHERE id = 1", 400),
        ("SELECT count(*) FROM goods WHERE price > 1", 30),
        ("UPDATE goods SET price = price + 1 WHERE id < 100", 1),
    ] {
        let row = report.row(statement);
        assert_eq!(row.calls(), calls, "{statement}");
        assert!(row.key("database").ends_with("shop.db"), "{:#}", row.json);
    }
    assert_eq!(report.row("SELECT name FROM goods WHERE id = 1").count("rows_returned"), 400);
    assert_eq!(report.row("INSERT INTO goods VALUES (1, 'x', 1)").count("rows_affected"), 1000);
    assert_eq!(report.row("UPDATE goods SET price = price + 1 WHERE id < 100").count("rows_affected"), 100);
}

#[test]
fn the_exit_status_and_the_output_of_the_shell_are_kept() {
    needs!("sqlite3");
    let directory = scratch::directory("sqlite");
    let recording = directory.path().join("x.pq");
    let statement = ["sqlite3", "-bail", ":memory:", "SELECT 11; SELECT nothing FROM nowhere; SELECT 12"];
    let alone = run(perquery::scrub(Command::new(statement[0]).args(&statement[1..])), SOON);
    let recorded = run(perquery::run_command(&recording).args(statement), SOON);
    assert_eq!(recorded.code(), alone.code(), "{}", recorded.describe());
    assert_eq!(recorded.stdout, alone.stdout);
    assert!(recorded.stderr.starts_with(&alone.stderr), "{}", recorded.describe());
}

#[test]
fn pythons_module_with_its_cursors_and_many_executions() {
    needs!(PYTHON);
    let directory = scratch::directory("python");
    let recording = directory.path().join("python.pq");
    let database = directory.path().join("python.db");
    let program = format!(
        "import sqlite3\n\
         db = sqlite3.connect({:?})\n\
         db.execute('CREATE TABLE t (id INTEGER, n INTEGER)')\n\
         db.executemany('INSERT INTO t VALUES (?, ?)', [(i, i % 9) for i in range(2500)])\n\
         db.commit()\n\
         for i in range(300):\n\
         \x20   assert db.execute('SELECT n FROM t WHERE id = ?', (i,)).fetchone() == (i % 9,)\n\
         half = db.execute('SELECT id FROM t ORDER BY id')\n\
         half.fetchmany(10)\n\
         half.close()\n\
         assert len(db.execute('SELECT id, n FROM t').fetchall()) == 2500\n\
         db.close()\n\
         print('python ends well')\n",
        database.display().to_string()
    );
    let ended = record_python(&recording, &program);
    assert!(ended.stdout == "python ends well\n", "{}", ended.describe());
    assert_eq!(ended.code(), 0, "{}", ended.describe());
    let report = perquery::report(&recording, "database,digest");
    report.expect_complete();
    for (statement, calls) in [
        ("INSERT INTO t VALUES (?, ?)", 2500),
        ("SELECT n FROM t WHERE id = ?", 300),
        ("SELECT id FROM t ORDER BY id", 1),
        ("SELECT id, n FROM t", 1),
        ("COMMIT", 1),
    ] {
        assert_eq!(report.row(statement).calls(), calls, "{statement}");
    }
    assert_eq!(report.row("SELECT id, n FROM t").count("rows_returned"), 2500);
    assert!(report.row("SELECT id FROM t ORDER BY id").count("rows_returned") < 2500, "stopped early");
}

#[test]
fn time_between_steps_is_the_applications() {
    needs!(PYTHON);
    let directory = scratch::directory("python");
    let recording = directory.path().join("slow.pq");
    let program = "import sqlite3, time\n\
        db = sqlite3.connect(':memory:')\n\
        for row in db.execute('VALUES (1), (2), (3), (4)'):\n\
        \x20   time.sleep(0.05)\n";
    let ended = record_python(&recording, program);
    assert_eq!(ended.code(), 0, "{}", ended.describe());
    let report = perquery::report(&recording, "digest");
    let row =
        report.rows().find(|row| row.text().to_uppercase().starts_with("VALUES")).expect("the statement");
    assert!(row.latency_ns("sum_ns") < 20e6, "{} ns inside SQLite", row.latency_ns("sum_ns"));
}

#[test]
fn a_statement_prepared_while_capture_is_off_is_known_and_an_address_used_again_is_another_statement() {
    needs!("gcc", "/usr/include/sqlite3.h");
    let directory = scratch::directory("sqlite");
    let mut application = orders();
    let mut addresses = Vec::new();
    for round in 0..3 {
        // While capture is off nobody sees that the statement is gone and its memory used again.
        let statement = |what: &str| format!("SELECT '{what}', {round}");
        addresses.extend(application.give(&statement("unseen"), 1));
        let path = directory.path().join(format!("{round}.pq"));
        let recording = Recording::start_with(application.pid(), path, &["--cheap"]);
        for _ in 0..5 {
            addresses.extend(application.give(&statement("seen"), 1));
            addresses.extend(application.give(&format!("VALUES ({round})"), 1));
        }
        let report = recording.stop("digest");
        report.expect_complete();
        assert_eq!(report.completeness("executions"), 10);
        assert_eq!(report.row("SELECT 'x', 1").calls(), 5);
        assert_eq!(report.row("VALUES (1)").calls(), 5);
    }
    addresses.sort();
    addresses.dedup();
    assert!(addresses.len() < 33, "no address was used again: the test has shown nothing");
    application.end();
}

#[test]
fn a_statement_that_expired_is_one_execution_each_time() {
    needs!(PYTHON);
    let directory = scratch::directory("python");
    let recording = directory.path().join("expired.pq");
    // Each new table makes the cached statement expire: inside the step the library prepares it anew and resets it.
    let program = "import sqlite3\n\
        db = sqlite3.connect(':memory:')\n\
        for n in range(40):\n\
        \x20   db.execute('SELECT count(*) FROM sqlite_master').fetchall()\n\
        \x20   db.execute(f'CREATE TABLE t{n} (a)')\n";
    record_python(&recording, program).expect_success();
    let report = perquery::report(&recording, "digest");
    report.expect_complete();
    let row = report.row("SELECT count(*) FROM sqlite_master");
    assert_eq!((row.calls(), row.count("rows_returned"), row.count("errors")), (40, 40, 0));
}

#[test]
fn what_other_threads_run_while_the_first_statement_maps_the_segment_is_told_as_dropped() {
    needs!(PYTHON);
    let directory = scratch::directory("python");
    let recording = directory.path().join("start.pq");
    let program = "import sqlite3, threading\n\
        def work(n):\n\
        \x20   db = sqlite3.connect(':memory:')\n\
        \x20   start.wait()\n\
        \x20   for i in range(400): db.execute('SELECT 1 + ?', (i,)).fetchall()\n\
        start = threading.Barrier(4)\n\
        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]\n\
        for t in threads: t.start()\n\
        for t in threads: t.join()\n";
    record_python(&recording, program).expect_success();
    let report = perquery::report(&recording, "digest");
    let calls = report.row("SELECT 1 + ?").calls();
    // One of each other thread's that was under way when the segment came may be in both numbers.
    let told = calls + report.completeness("dropped");
    assert!((1600..=1603).contains(&told), "{:#}", report.json["completeness"]);
}

#[test]
fn threads_that_share_a_connection_and_statements_that_move_between_threads_are_counted_exactly() {
    needs!(PYTHON);
    let directory = scratch::directory("python");
    let recording = directory.path().join("threads.pq");
    // The first statement maps the segment; what other threads run in these microseconds goes by unseen.
    let program = "import sqlite3, threading\n\
        db = sqlite3.connect(':memory:', check_same_thread=False)\n\
        db.execute('SELECT 1').fetchall()\n\
        def work(n):\n\
        \x20   for i in range(400):\n\
        \x20       assert db.cursor().execute(f'SELECT {n} + ?', (i,)).fetchall() == [(n + i,)]\n\
        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]\n\
        for t in threads: t.start()\n\
        for t in threads: t.join()\n\
        rows = db.execute('VALUES (1), (2), (3), (4), (5), (6)')\n\
        for n in range(6):\n\
        \x20   t = threading.Thread(target=lambda: rows.fetchone()); t.start(); t.join()\n\
        t = threading.Thread(target=lambda: rows.fetchone()); t.start(); t.join()\n";
    record_python(&recording, program).expect_success();
    let report = perquery::report(&recording, "digest");
    report.expect_complete();
    assert_eq!(report.row("SELECT 1 + ?").calls(), 1600);
    let moved = report.row("VALUES (1), (2), (3), (4), (5), (6)");
    assert_eq!((moved.calls(), moved.count("rows_returned")), (1, 6));
}

#[test]
fn perf_events_are_closed_by_the_first_statement_after_capture_went_off() {
    needs!("gcc", "/usr/include/sqlite3.h");
    let directory = scratch::directory("sqlite");
    let mut application = orders();
    let events = |application: &Orders| {
        proc::descriptors(application.pid()).iter().filter(|(_, to)| to.contains("perf_event")).count()
    };
    for round in 0..2 {
        let path = directory.path().join(format!("{round}.pq"));
        let options = ["--exact", "-e", "page-faults,task-clock"];
        let recording = Recording::start_with(application.pid(), path, &options);
        application.give("SELECT 1", 1);
        let open = events(&application);
        recording.end().expect_success();
        application.give("SELECT 2", 1);
        assert_eq!(events(&application), 0, "round {round}: {open} were open");
        if open == 0 {
            skip(module_path!(), "no perf events here");
        }
    }
    application.end();
}

/// The application that takes statements as orders, with the library.
fn orders() -> Orders {
    let program = victim::compile("sqlite_orders.c", &["-lsqlite3"]);
    let mut command = Command::new(program);
    perquery::scrub(&mut command);
    command.env("LD_PRELOAD", artifacts::library()).env("PERQUERY_EXE", "sqlite_orders");
    Orders::start(&mut command)
}
