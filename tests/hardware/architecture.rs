//! What differs by architecture: trampolines, thread-local access, restartable sequences. Tested by the tests that are
//! there anyway, cross-compiled.

use harness::process::Process;
use std::process::Command;
use std::time::Duration;

/// Whole-product tests: overrides that are jumps, printing calls whose format is swapped, a whole recording. Few, because a
/// process takes the emulator a second to start.
const WHOLE_PRODUCT: [&str; 8] = [
    "a_client_built_like_mysql_8",
    "only_the_two_formats",
    "every_other_question",
    "what_is_called_before_our_constructor",
    "closing_means",
    "a_vfork_child",
    "errors_and_errno",
    "the_shell_over_a_script",
];
/// Unit tests of the agent, without those that need too many instructions or a clock that runs by itself.
const AGENT: [&str; 4] = ["counters::hardware_tests", "session::switches", "sys::", "ticks::"];
const NOT_HERE: [&str; 2] =
    ["more_events_than_the_processor_has_counters", "a_counter_that_parts_from_the_clock"];

pub fn whole_product() -> String {
    tests("/perquery/integration", &WHOLE_PRODUCT)
}

pub fn agent() -> String {
    tests("/perquery/agent", &AGENT)
}

/// Runs a test binary; each of `names` must name a test.
fn tests(binary: &str, names: &[&str]) -> String {
    let mut command = Command::new(binary);
    command.arg("--test-threads=1").args(NOT_HERE.iter().flat_map(|name| ["--skip", name])).args(names);
    let done = Process::start(command.env("PERQUERY_TEST_VICTIMS", "/made")).wait(Duration::from_secs(300));
    // Of a failure only what it says itself.
    let failures = done.stdout.split_once("failures:").map_or("", |(_, failures)| failures);
    assert!(done.status.success(), "{failures}\n{}", done.stderr);
    for name in names {
        assert!(done.stdout.contains(name), "no test {name}: {}", done.describe());
    }
    let summary = done.stdout.lines().find(|line| line.starts_with("test result: ok."));
    let skipped =
        done.stderr.lines().filter(|line| line.starts_with("skipped:")).map(|line| format!("\n{line}"));
    let summary = summary.unwrap_or_default().trim_start_matches("test result: ok. ").to_owned();
    summary + &skipped.collect::<String>()
}
