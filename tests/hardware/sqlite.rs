//! SQLite: do the counts of its statements hold against each other, and against the kernel's own?

use crate::check::percent_apart;
use crate::outside::Watched;
use crate::program::Program;
use harness::perquery::{self, Recording};
use harness::report::Report;
use harness::scratch;
use serde_json::Value;

const SCAN: &str = "SELECT sum(price) FROM goods WHERE price <> ?";
const TENFOLD: &str = "SELECT sum(price) FROM tens WHERE price <> ?";
/// A statement of one execution that lasts for hundreds of turns of the multiplexing: where another thread runs at the moment
/// of a turn, the kernel stops taking turns until this one is switched in again.
const LONG: &str =
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 120000) SELECT sum(i) FROM n";

/// One more than the machine has counters: six, and one of cycles.
const EVENTS: &str = "instructions:u,cycles:u,r08:u,r08:k,r08,r11:u,r11:k,r11";

/// `perquery stat` on a small database, as JSON.
fn stat(options: &[&str], sql: &str) -> Value {
    let mut words = vec!["stat", "--format", "json", "--url", "sqlite::memory:"];
    words.extend(["--setup", "CREATE TABLE goods (id INTEGER PRIMARY KEY, price INT)"]);
    words.extend([
        "--setup",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) INSERT INTO goods SELECT i, i % 97 FROM n",
    ]);
    words.extend(options);
    words.push(sql);
    let ended = perquery::perquery(words);
    serde_json::from_str(&ended.expect_success().stdout).expect("JSON")
}

/// The report of `orders` given to the victim while it was recorded with `options`.
fn recorded(options: &[&str], orders: &[&str]) -> Report {
    let directory = scratch::directory("sqlite");
    let mut program = Program::loaded("orders");
    let recording = Recording::start_with(program.pid(), directory.path().join("recording.pq"), options);
    for order in orders {
        program.order(order);
    }
    let report = recording.stop("digest");
    report.expect_complete();
    report
}

pub fn stat_answers_in_cycles() -> String {
    let json = stat(&["-n", "20"], "SELECT sum(price) FROM goods");
    assert_eq!(json["headline"], "cycles");
    let counters = &json["statements"][0]["counters"];
    let median = |name: &str| counters[name]["median"].as_f64().expect("a median");
    let (cycles, instructions) = (median("cycles"), median("instructions"));
    assert!(cycles > 10_000.0 && instructions > 10_000.0, "{counters}");
    let quotient = json["statements"][0]["derived"]["cycles_per_instruction"].as_f64().expect("a quotient");
    assert!((quotient - cycles / instructions).abs() < 1e-9, "{quotient}");
    format!("{cycles:.0} cycles, {instructions:.0} instructions, {quotient:.3} cycles per instruction")
}

pub fn instructions_repeat() -> String {
    let json = stat(&["-n", "50", "-e", "instructions:u"], "SELECT sum(price) FROM goods");
    let counter = &json["statements"][0]["counters"]["instructions"];
    let value = |name: &str| counter[name].as_f64().expect("a number");
    let apart = percent_apart(value("p95"), value("min")).max(percent_apart(value("mean"), value("min")));
    assert!(apart < 0.1, "{apart} %: {counter}");
    format!("{:.0} instructions at least, {apart:.4} % more in the 95th percentile", value("min"))
}

pub fn ten_times_the_rows() -> String {
    let report = recorded(&["--exact", "-e", "instructions:u"], &["scan 10", "tenfold 5"]);
    let [one, ten] =
        [SCAN, TENFOLD].map(|sql| report.row(sql).counter("instructions") / report.row(sql).calls() as f64);
    let ratio = ten / one;
    assert!((9.8..=10.2).contains(&ratio), "{one} and {ten}: {ratio}");
    format!("{one:.0} and {ten:.0} instructions: {ratio:.3} times")
}

pub fn sum_is_the_whole() -> String {
    let directory = scratch::directory("whole");
    let mut program = Program::loaded("orders");
    let options = ["--exact", "-e", "instructions"];
    let recording = Recording::start_with(program.pid(), directory.path().join("recording.pq"), &options);
    // Opening the events is the recording's price, not an execution's.
    program.order("tenfold 2");
    let mut thread = Watched::start(program.pid());
    let before = thread.read();
    let rest: f64 = program.order("tenfold 10").parse().expect("a number");
    let whole = thread.read().since(before).all() as f64;
    let report = recording.stop("digest");
    let executions = report.expect_complete().row(TENFOLD).counter("instructions") * 10.0 / 12.0;
    let apart = percent_apart(executions + rest, whole);
    assert!(apart < 1.0, "{executions} and {rest} in {whole}: {apart} %");
    format!("{executions:.0} + {rest:.0} of {whole:.0} instructions, {apart:.2} % apart")
}

pub fn user_space_reads() -> String {
    let by = |reads: &[&str]| {
        let mut options = vec!["--exact", "-e", "cycles:u,instructions:u"];
        options.extend(reads);
        let report = recorded(&options, &["tenfold 10"]);
        report.row(TENFOLD).counter("instructions") / 10.0
    };
    let offered = |access: &str| {
        std::fs::write("/proc/sys/kernel/perf_user_access", access).expect("root may set it");
        let events = perquery::perquery(["events", "--format", "json"]).expect_success().stdout.clone();
        let document: serde_json::Value = serde_json::from_str(&events).expect("one document");
        document["user_space_reads"]["available"].as_bool().expect("yes or no")
    };
    assert!(!offered("0"), "perquery events offers what the kernel does not");
    assert!(offered("1"), "perquery events knows what the kernel offers");
    let (call, register) = (by(&[]), by(&["--user-space-reads"]));
    let apart = percent_apart(register, call);
    assert!(apart < 0.1, "{call} by read(2), {register} in user space: {apart} %");
    assert!(
        register < call,
        "{register} in user space have a part of the system calls in them, as {call} have"
    );
    format!("{call:.0} instructions by read(2), {register:.0} in user space")
}

pub fn multiplexed() -> String {
    let directory = scratch::directory("multiplexed");
    let count = |events: &str, name: &str| {
        let recording = directory.path().join(name);
        let mut run = perquery::command(["run", "--exact", "-e", events, "-o"]);
        run.arg(&recording).args(["--", "sqlite3", ":memory:", LONG]);
        let ended = harness::process::run(&mut run, std::time::Duration::from_secs(60));
        ended.expect_success();
        (perquery::report(&recording, "digest"), ended.stderr)
    };
    // The kernel takes turns every four milliseconds, and loses a turn when another thread runs at that moment.
    let turns = "/sys/bus/event_source/devices/armv8_pmuv3/perf_event_mux_interval_ms";
    std::fs::write(turns, "1").expect("root may set it");
    let (alone, _) = count("instructions:u", "alone.pq");
    let truth = alone.row(LONG).counter("instructions");
    assert_eq!(alone.row(LONG).json["counters"]["instructions"].get("scaled"), None);
    let (crowd, text) = count(EVENTS, "crowd.pq");
    let row = crowd.row(LONG);
    assert_eq!(row.json["counters"]["instructions"]["scaled"], true, "{}", row.json["counters"]);
    let scaled = row.counter("instructions");
    assert!(text.contains("multiplexed"), "{text}");
    let apart = percent_apart(scaled, truth);
    assert!(apart < 5.0, "{scaled} scaled, {truth} alone: {apart} %");
    format!("{truth:.0} instructions alone, {scaled:.0} scaled: {apart:.2} % apart")
}
