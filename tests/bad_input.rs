//! What a user may do wrong gets one clear line with the remedy and exit status 2: never a panic, never a lost byte.

use harness::mariadb::{MariaDb, Options};
use harness::perquery::{self, perquery, report_with};
use harness::process::{Ended, Process, as_user, run};
use harness::report::Report;
use harness::wait::SOON;
use harness::{artifacts, needs, scratch};
use std::path::{Path, PathBuf};
use std::process::Command;

/// One line that holds all of `needles`, exit status 2, no panic.
#[track_caller]
fn fails_clearly(ended: &Ended, needles: &[&str]) {
    let said = ended.stderr.to_lowercase();
    assert_eq!(ended.code(), 2, "{}", ended.describe());
    assert!(!said.contains("panicked") && !said.contains("backtrace"), "{}", ended.describe());
    assert_eq!(ended.stderr.trim().lines().count(), 1, "one line: {}", ended.describe());
    for needle in needles {
        assert!(said.contains(&needle.to_lowercase()), "{needle:?} is missing: {}", ended.describe());
    }
}

fn report_of(path: &Path) -> Ended {
    perquery(["report", "-i", &path.display().to_string(), "--format", "json"])
}

/// A genuine recording of some SQLite statements.
fn genuine(directory: &Path) -> PathBuf {
    let path = directory.join("genuine.pq");
    let mut script = String::from("CREATE TABLE t (n INT);\n");
    (0..300).for_each(|i| {
        script += &format!("INSERT INTO t VALUES ({i}); SELECT n AS c{i} FROM t WHERE n = {i};\n")
    });
    std::fs::write(directory.join("script.sql"), script).expect("own directory");
    let mut command = perquery::run_command(&path);
    command.args(["sqlite3", ":memory:", ".read script.sql"]).current_dir(directory);
    run(&mut command, SOON).expect_success();
    path
}

#[test]
fn files_that_are_no_recordings() {
    let directory = scratch::directory("bad");
    let file = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).expect("own directory");
        path
    };
    fails_clearly(&report_of(&file("text.pq", b"SELECT 1;\nSELECT 2;\n")), &["text.pq", "not a"]);
    fails_clearly(&report_of(&file("empty.pq", b"")), &["empty.pq"]);
    fails_clearly(&report_of(&file("zeros.pq", &[0; 100_000])), &["zeros.pq"]);
    fails_clearly(&report_of(directory.path()), &[]);
    fails_clearly(&report_of(&directory.path().join("missing.pq")), &["missing.pq", "no such file"]);
}

#[test]
fn a_torn_tail_costs_the_tail_only() {
    needs!("sqlite3");
    let directory = scratch::directory("torn");
    let whole = std::fs::read(genuine(directory.path())).expect("a recording");
    let torn = directory.path().join("torn.pq");
    let mut readable = 0;
    for i in 0..40 {
        let length = whole.len() * i / 40;
        std::fs::write(&torn, &whole[..length]).expect("own directory");
        let ended = report_of(&torn);
        match ended.code() {
            0 => readable += 1,
            _ => fails_clearly(&ended, &["torn.pq"]),
        }
    }
    assert!(readable > 0, "nothing of a torn recording can be read");
    // All but the last byte: what was written before is still there, and the report says that something is missing.
    std::fs::write(&torn, &whole[..whole.len() - 1]).expect("own directory");
    let report = report_with(&torn, &[]);
    assert!(!report.json["warnings"].as_array().expect("a list").is_empty(), "{:#}", report.json);
}

#[test]
fn flipped_bits_are_noticed() {
    needs!("sqlite3");
    let directory = scratch::directory("flipped");
    let whole = std::fs::read(genuine(directory.path())).expect("a recording");
    let flipped = directory.path().join("flipped.pq");
    let untouched = Report::parse(&report_of(&directory.path().join("genuine.pq")).expect_success().stdout);
    // Positions spread over the file, and all of its head.
    for i in (0..64).chain((0..100).map(|i| 64 + i * (whole.len() - 64) / 100)) {
        let mut bytes = whole.clone();
        let Some(byte) = bytes.get_mut(i) else { continue };
        *byte ^= 1 << (i % 8);
        std::fs::write(&flipped, bytes).expect("own directory");
        let ended = report_of(&flipped);
        if ended.code() != 0 {
            fails_clearly(&ended, &["flipped.pq"]);
            continue;
        }
        let report = Report::parse(&ended.stdout);
        let warned = !report.json["warnings"].as_array().expect("a list").is_empty();
        let same = report.json["rows"] == untouched.json["rows"];
        assert!(warned || same, "a flipped bit at {i} changed the numbers without a warning");
    }
}

#[test]
fn processes_that_can_not_be_recorded() {
    let directory = scratch::directory("pids");
    let output = directory.path().join("x.pq").display().to_string();
    let record = |pid: &str| perquery(["record", "-p", pid, "-o", &output]);
    let mut sleeper = Process::start(Command::new("sleep").arg("1000"));
    fails_clearly(&record(&sleeper.pid().to_string()), &["libperquery.so", "restart"]);
    sleeper.terminate();
    // A number that no process has: beyond the kernel's limit.
    fails_clearly(&record("4194305"), &["4194305"]);
    for nonsense in ["0", "-7", "mariadbd", ""] {
        let ended = record(nonsense);
        assert_eq!(ended.code(), 2, "{nonsense:?}: {}", ended.describe());
        assert!(!ended.stderr.contains("panicked") && !ended.stderr.is_empty(), "{}", ended.describe());
    }
    assert!(!Path::new(&output).exists(), "a recording without a server");
}

#[test]
fn somebody_elses_server() {
    needs!("mariadbd", "mariadb-install-db");
    let Some(nobody) = scratch::is_root().then(|| scratch::user("nobody")).flatten() else {
        harness::skip(module_path!(), "only root can become somebody else");
        return;
    };
    let server = MariaDb::start(&Options::default());
    let directory = scratch::directory("nobody");
    scratch::give_to(directory.path(), nobody);
    let path = directory.path().join("x.pq").display().to_string();
    let mut record = perquery::command(["record", "-p", &server.pid.to_string(), "-o", &path]);
    fails_clearly(&run(as_user(&mut record, Some(nobody)), SOON), &["permi", "root"]);
    // Listing and asking what is wrong is everybody's right.
    let mut list = perquery::command(["list"]);
    run(as_user(&mut list, Some(nobody)), SOON).expect_success();
}

#[test]
fn a_full_disk_from_the_first_byte() {
    needs!("sqlite3", "mariadbd", "mariadb-install-db");
    // The program under `run` goes on and keeps its exit status: scripts depend on it.
    let mut command = perquery::run_command(Path::new("/dev/full"));
    let ended = run(command.args(["sqlite3", ":memory:", "SELECT 'the program goes on'"]), SOON);
    assert_eq!(ended.stdout, "the program goes on\n", "{}", ended.describe());
    assert!(ended.stderr.to_lowercase().contains("no space left"), "{}", ended.describe());
    assert!(!ended.stderr.contains("panicked"), "{}", ended.describe());
    assert_eq!(ended.code(), 0, "{}", ended.describe());
    // `record` has no other status than its own.
    let server = MariaDb::start(&Options::default());
    let ended = perquery(["record", "-p", &server.pid.to_string(), "-d", "1", "-o", "/dev/full"]);
    fails_clearly(&ended, &["no space left", "/dev/full"]);
    assert!(!perquery::capture_is_on(server.pid));
    server.stop().expect_success();
}

#[test]
fn a_disk_that_fills_up_keeps_what_was_written() {
    needs!("sqlite3");
    let directory = scratch::directory("full");
    let mount = ["mount", "-t", "tmpfs", "-o", "size=128k,mode=0777", "none"];
    let mounted = Command::new(mount[0]).args(&mount[1..]).arg(directory.path()).output();
    if !mounted.is_ok_and(|done| done.status.success()) {
        harness::skip(module_path!(), "no small file system can be mounted here");
        return;
    }
    let script = scratch::directory("script");
    let statements: String = (0..40_000).map(|i| format!("SELECT {i} AS column_{i};\n")).collect();
    std::fs::write(script.path().join("many.sql"), statements).expect("own directory");
    let path = directory.path().join("full.pq");
    let mut command = perquery::run_command(&path);
    command.args(["sqlite3", ":memory:", ".read many.sql"]).current_dir(script.path());
    let ended = run(&mut command, SOON);
    let after = report_of(&path);
    let unmounted = Command::new("umount").arg(directory.path()).status();
    assert!(unmounted.is_ok_and(|status| status.success()));
    assert!(ended.stdout.contains("\n39999\n"), "the program goes on to its end");
    assert!(ended.stderr.to_lowercase().contains("no space left"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert_eq!(after.code(), 0, "what was written is readable: {}", after.describe());
}

#[test]
fn unknown_words_and_values() {
    needs!("sqlite3");
    let directory = scratch::directory("options");
    let path = genuine(directory.path()).display().to_string();
    for (arguments, needle) in [
        (vec!["report", "-i", &path, "--by", "moon"], "moon"),
        (vec!["report", "-i", &path, "--by", "digest,,user"], ""),
        (vec!["report", "-i", &path, "--sort", "moon"], "moon"),
        (vec!["report", "-i", &path, "--format", "xml"], "xml"),
        (vec!["report", "-i", &path, "--top", "minus"], "minus"),
        (vec!["record", "-p", "1", "-d", "soon"], "soon"),
        (vec!["record", "-p", "1", "-d", "-3"], "-3"),
        (vec!["record"], "-p"),
        (vec!["run"], ""),
        (vec!["run", "-o", "/nowhere/at/all/x.pq", "--", "true"], "/nowhere"),
        (vec!["run", "--", "/no/such/program"], "/no/such/program"),
        (vec!["run", "-e", "moon-cycles", "--", "true"], "moon-cycles"),
        (vec!["frobnicate"], "frobnicate"),
        (vec!["report", "--frobnicate"], "frobnicate"),
    ] {
        let ended = run(perquery::command(&arguments).current_dir(directory.path()), SOON);
        // A shell says 127 for a program that is not there; so may we.
        let accepted = if needle == "/no/such/program" { vec![2, 126, 127] } else { vec![2] };
        assert!(accepted.contains(&ended.code()), "{arguments:?}: {}", ended.describe());
        assert!(ended.stderr.contains(needle), "{arguments:?}: {}", ended.describe());
        assert!(
            !ended.stderr.contains("panicked") && !ended.stderr.is_empty(),
            "{arguments:?}: {}",
            ended.describe()
        );
    }
}

#[test]
fn a_library_that_is_not_there() {
    let directory = scratch::directory("library");
    let alone = directory.path().join("perquery");
    std::fs::copy(artifacts::perquery(), &alone).expect("own directory");
    let mut command = Command::new(&alone);
    perquery::scrub(&mut command).args(["run", "-o"]).arg(directory.path().join("x.pq")).args(["--", "true"]);
    fails_clearly(&run(&mut command, SOON), &["libperquery.so", "PERQUERY_LIBRARY"]);
    let mut command = Command::new(&alone);
    perquery::scrub(&mut command).args(["run", "-o"]).arg(directory.path().join("x.pq")).args(["--", "true"]);
    let found = run(command.env("PERQUERY_LIBRARY", artifacts::library()), SOON);
    assert_eq!(found.code(), 0, "{}", found.describe());
}

#[test]
fn a_statically_linked_program_is_refused_or_said_to_be_invisible() {
    needs!("gcc");
    let directory = scratch::directory("static");
    let program = directory.path().join("static");
    let source = directory.path().join("static.c");
    std::fs::write(&source, "int main(void) { return 7; }\n").expect("own directory");
    let built = Command::new("gcc").args(["-static", "-o"]).arg(&program).arg(&source).output();
    if !built.is_ok_and(|done| done.status.success()) {
        harness::skip(module_path!(), "no static C library here");
        return;
    }
    let path = directory.path().join("x.pq");
    let ended = run(perquery::run_command(&path).arg(&program), SOON);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.describe());
    assert!(ended.code() == 2 || ended.code() == 7, "{}", ended.describe());
    assert!(
        !ended.stderr.is_empty(),
        "a program that cannot be seen into is worth a line: {}",
        ended.describe()
    );
}
