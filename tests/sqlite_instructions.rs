//! Instructions that the library adds to a statement of SQLite, counted as in `instructions`.

use crate::instructions::Profile;
use harness::orders::Orders;
use harness::perquery::Recording;
use harness::{artifacts, needs, perquery, scratch, skip, victim};
use std::path::Path;
use std::process::Command;

/// A point lookup of two steps and a reset, capture off: four instructions at each call. Measured plus 15 %, as all of
/// these but this one, where there is nothing to measure.
const LOOKUP_OFF: u64 = 12;
/// A row of a scan, capture off.
const ROW_OFF: u64 = 4;
/// A point lookup that is recorded.
const LOOKUP_ON: u64 = 676;
/// A row of a scan that is recorded.
const ROW_ON: u64 = 145;

const LOOKUPS_AT_ONCE: u64 = 20;
const ROWS: u64 = 1001;

#[test]
fn a_statement_of_sqlite_costs_no_more_instructions_than_it_may() {
    needs!("valgrind", "gcc", "/usr/include/sqlite3.h");
    // Another build than the one that is shipped has other numbers.
    if std::env::var_os("CARGO_PROFILE_RELEASE_LTO").is_some() {
        return skip(module_path!(), "CARGO_PROFILE_RELEASE_LTO changes the build");
    }
    for (what, order, parts, off, on) in [
        ("a point lookup", "lookup", LOOKUPS_AT_ONCE, LOOKUP_OFF, LOOKUP_ON),
        ("a row of a scan", "scan", ROWS, ROW_OFF, ROW_ON),
    ] {
        for (state, ceiling) in [("off", off), ("on", on)] {
            let directory = scratch::directory("instructions");
            let [fewer, more] = [50, 150].map(|n| run(directory.path(), order, n, state == "on"));
            let profile = more.minus(&fewer, 100 * parts);
            println!("{what}, {state}: {} of {ceiling}\n{}", profile.library, profile.dearest());
            assert!(profile.library > 0, "the library was not at work");
            assert!(profile.library <= ceiling, "{what}, {state}: {} instructions", profile.library);
        }
    }
}

/// The application under callgrind with the library; `--cheap`, because a budget counts at random.
fn run(directory: &Path, order: &str, count: u32, recorded: bool) -> Profile {
    let out = directory.join(format!("callgrind.{count}"));
    let mut command = Command::new("valgrind");
    perquery::scrub(&mut command).arg("--tool=callgrind").arg("-q");
    command.arg(format!("--callgrind-out-file={}", out.display()));
    command
        .arg(victim::compile("sqlite_cost.c", &["-O2", "-lsqlite3"]))
        .arg(directory.join(format!("{count}.db")));
    command.env("LD_PRELOAD", artifacts::library()).env("PERQUERY_EXE", "sqlite_cost");
    let mut application = Orders::start(&mut command);
    let recording = recorded.then(|| {
        Recording::start_with(application.pid(), directory.join(format!("{count}.pq")), &["--cheap"])
    });
    application.give(&format!("{order} {count}"), count as usize);
    if let Some(recording) = recording {
        let report = recording.stop("digest");
        report.expect_complete();
        let each = if order == "lookup" { LOOKUPS_AT_ONCE } else { 1 };
        assert_eq!(report.completeness("executions"), u64::from(count) * each);
    }
    application.end();
    Profile::parse(&std::fs::read_to_string(&out).expect("callgrind wrote it"))
}
