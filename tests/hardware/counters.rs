//! What the machine can count, and what is said about the rest.

use harness::perquery;
use harness::scratch;
use serde_json::Value;

/// What the emulated counters have and have not.
const THERE: [&str; 4] = ["cycles", "instructions", "page_faults", "context_switches"];
const NOT_THERE: [&str; 2] = ["cache_misses", "branch_misses"];

pub fn events() -> String {
    let listed = perquery::perquery(["events", "--format", "json"]);
    let json: Value = serde_json::from_str(&listed.expect_success().stdout).expect("JSON");
    let status = |name: &str| {
        let events = json["events"].as_array().expect("a list");
        let event = events.iter().find(|event| event["name"] == name).expect("every counter is listed");
        (event["status"].as_str().unwrap_or("").to_owned(), event["why"].as_str().map(str::to_owned))
    };
    for name in THERE {
        assert_eq!(status(name), ("available".to_owned(), None), "{name}");
    }
    for name in NOT_THERE {
        let (status, why) = status(name);
        assert!(status == "unavailable" && why.is_some(), "{name}: {status} {why:?}");
    }
    assert_eq!(json["user_space_reads"]["available"], true);
    format!("{} are there, {} are not", THERE.join(", "), NOT_THERE.join(", "))
}

pub fn unavailable() -> String {
    let directory = scratch::directory("unavailable");
    let recording = directory.path().join("recording.pq");
    let mut run = perquery::command(["run", "--exact", "-e", "cache-misses,instructions", "-o"]);
    run.arg(&recording).args(["--", "sqlite3", ":memory:", "SELECT 1"]);
    let ran = harness::process::run(&mut run, harness::wait::SOON);
    ran.expect_success();
    let reason = "this machine has no such event";
    assert!(ran.stderr.contains("cache_misses") && ran.stderr.contains(reason), "{}", ran.stderr);
    let report = perquery::report(&recording, "digest");
    let row = report.row("SELECT 1");
    let why = row.json["counters"]["cache_misses"]["unavailable"].as_str().expect("a reason");
    assert!(why.contains(reason), "{why}");
    assert!(row.counter("instructions") > 1000.0);
    // Who asks for one mode gets what was asked for: no reason for a warning.
    let report = perquery::perquery(["run", "-e", "instructions:u", "--", "sqlite3", ":memory:", "SELECT 1"]);
    assert!(!report.stderr.contains("warning"), "{}", report.stderr);
    why.to_owned()
}
