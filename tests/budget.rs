//! Sums estimated within a budget agree with exact ones, and the budget is kept.

use harness::mariadb::{MariaDb, Options};
use harness::needs;
use harness::perquery::Recording;
use harness::report::Report;
use mysql::prelude::Queryable;

/// Runs of the pattern per recording; a heavy statement comes once in so many.
const ROUNDS: u32 = 600;
const HEAVY_EVERY: u32 = 10;
const CHEAP: &str = "DO 1";
const DEAR: &str = "SELECT BENCHMARK(150, MD5('x'))";
const HEAVY: &str = "SELECT LENGTH(REPEAT('x', 400000))";

/// Cheap and dear in a fixed alternation, and now and then one that is heavy in page faults.
fn pattern(client: &mut mysql::Conn) {
    for round in 0..ROUNDS {
        for _ in 0..3 {
            client.query_drop(CHEAP).expect("a plain query");
        }
        client.query_drop(DEAR).expect("a plain query");
        if round % HEAVY_EVERY == 0 {
            client.query_drop(HEAVY).expect("a plain query");
        }
    }
}

fn record(server: &MariaDb, client: &mut mysql::Conn, options: &[&str]) -> Report {
    let path = server.directory.path().join("budget.pq");
    let recording = Recording::start_with(server.pid, path, options);
    pattern(client);
    recording.stop("digest")
}

/// What a statement counted per call, the standard error of that, and its latency, which is known of every call.
#[derive(Clone, Copy)]
struct Mean {
    counted: f64,
    stderr: f64,
    latency_ns: f64,
}

fn mean(report: &Report, statement: &str, counter: &str) -> Mean {
    let row = report.row(statement);
    let calls = row.calls() as f64;
    let number = |name| row.json.pointer(&format!("/counters/{counter}/{name}")).and_then(|v| v.as_f64());
    // A run in which none was drawn adds nothing to the sum; its neighbours with their weights make up for it.
    let (counted, stderr) = match number("sum") {
        Some(sum) => (sum, number("stderr").expect("a standard error")),
        None => (0.0, 0.0),
    };
    Mean { counted: counted / calls, stderr: stderr / calls, latency_ns: row.latency_ns("sum_ns") / calls }
}

/// Mean of paired differences; its standard error, from their spread; the same as sampling alone would have it.
fn difference(pairs: &[(Mean, Mean)], of: impl Fn(&Mean, &Mean) -> f64) -> (f64, f64, f64) {
    let n = pairs.len() as f64;
    let all = || pairs.iter().map(|(exact, estimate)| of(exact, estimate));
    let mean = all().sum::<f64>() / n;
    let spread = (all().map(|one| (one - mean).powi(2)).sum::<f64>() / (n - 1.0) / n).sqrt();
    let own = pairs.iter().map(|(_, estimate)| estimate.stderr.powi(2)).sum::<f64>().sqrt() / n;
    (mean, spread, own)
}

fn sampling(report: &Report, name: &str) -> f64 {
    report
        .json
        .pointer(&format!("/sampling/{name}"))
        .and_then(|v| v.as_f64())
        .expect("a number of the sampling")
}

#[test]
fn estimates_within_a_budget_are_unbiased_and_calls_are_exact() {
    needs!("mariadbd", "mariadb-install-db");
    const RUNS: usize = 20;
    // Large strings come from fresh memory each time, so that the heavy statement has the same faults each time.
    let fresh = vec![("MALLOC_MMAP_THRESHOLD_", "262144")];
    let server = MariaDb::start(&Options { environment: fresh, ..Options::default() });
    let mut client = server.client();
    pattern(&mut client);
    let watched = [(DEAR, "cpu_ns"), (CHEAP, "cpu_ns"), (HEAVY, "page_faults_minor"), (HEAVY, "cpu_ns")];
    let mut pairs = vec![Vec::new(); watched.len()];
    let mut counted = Vec::new();
    for run in 0..RUNS {
        // One after the other, in turns: what a statement costs drifts with the machine's load.
        let mut recorded = |budget: bool| {
            let options: &[&str] = if budget { &["--budget", "2"] } else { &["--exact"] };
            record(&server, &mut client, options)
        };
        let budget_first = run % 2 == 1;
        let (first, second) = (recorded(budget_first), recorded(!budget_first));
        let (exact, report) = if budget_first { (second, first) } else { (first, second) };
        report.expect_complete();
        assert_eq!(report.row(CHEAP).calls(), u64::from(3 * ROUNDS));
        assert_eq!(report.row(DEAR).calls(), u64::from(ROUNDS));
        assert_eq!(report.row(HEAVY).calls(), u64::from(ROUNDS.div_ceil(HEAVY_EVERY)));
        counted.push(sampling(&report, "counted") / sampling(&report, "executions"));
        for (to, (statement, counter)) in pairs.iter_mut().zip(watched) {
            to.push((mean(&exact, statement, counter), mean(&report, statement, counter)));
        }
    }
    println!("shares counted: {counted:.2?}");
    // On a machine that is busy with something else the server is slow, and more fits the budget.
    assert!(counted.iter().any(|share| *share < 0.9), "nothing was ever left out: {counted:?}");
    for ((statement, counter), pairs) in watched.iter().zip(&pairs) {
        let truth = pairs.iter().map(|(exact, _)| exact.counted).sum::<f64>() / pairs.len() as f64;
        assert!(truth > 0.0, "{statement}: {counter} was read");
        let (plain, plain_error, own) = difference(pairs, |exact, estimate| estimate.counted - exact.counted);
        println!(
            "{statement}: {counter} exactly {truth:.1}, estimates differ by {plain:.1} ± {plain_error:.1} (sampling {own:.1})"
        );
        // What a statement costs differs from one run to the next by more than any sampling does, and its latency with
        // it. That is known of every execution of both runs, so CPU time is compared at the same latency.
        let (bias, spread) = if counter.ends_with("_ns") {
            let (bias, spread, _) = difference(pairs, |exact, estimate| {
                estimate.counted * exact.latency_ns / estimate.latency_ns - exact.counted
            });
            println!("    at the same latency by {bias:.1} ± {spread:.1}");
            (bias, spread)
        } else {
            (plain, plain_error)
        };
        let error = own.max(spread);
        assert!(
            bias.abs() <= 3.0 * error + 0.01 * truth,
            "{statement}: {counter} exactly {truth:.1}, estimated {bias:.1} more, standard error {error:.1}"
        );
    }
}

#[test]
fn readings_cost_no_more_than_the_budget() {
    needs!("mariadbd", "mariadb-install-db");
    let server = MariaDb::start(&Options::default());
    let mut client = server.client();
    let path = server.directory.path().join("spent.pq");
    let recording = Recording::start_with(server.pid, path, &["--budget", "2"]);
    (0..60_000).for_each(|_| client.query_drop(CHEAP).expect("a plain query"));
    let report = recording.stop("digest");
    report.expect_complete();
    let query_ns: f64 = report.rows().map(|row| row.latency_ns("sum_ns")).sum();
    let share = sampling(&report, "spent_ns") / query_ns;
    println!("{:.2} % of the queries' time went into readings", share * 100.0);
    assert!(share < 0.02, "readings took {share} of the queries' time");
    let counted = sampling(&report, "counted");
    assert!(counted > 100.0 && counted < 60_000.0, "{counted} counted");
}

#[test]
fn bursts_pay_no_more_than_a_steady_stream() {
    needs!("mariadbd", "mariadb-install-db");
    let server = MariaDb::start(&Options::default());
    let mut client = server.client();
    let path = server.directory.path().join("bursts.pq");
    let recording = Recording::start_with(server.pid, path, &["--budget", "2"]);
    for _ in 0..60 {
        (0..200).for_each(|_| client.query_drop(CHEAP).expect("a plain query"));
        // The pause is the load that is tested, nothing that is waited for.
        std::thread::sleep(std::time::Duration::from_millis(40));
    }
    let report = recording.stop("digest");
    report.expect_complete();
    let query_ns: f64 = report.rows().map(|row| row.latency_ns("sum_ns")).sum();
    let (share, counted) = (sampling(&report, "spent_ns") / query_ns, sampling(&report, "counted"));
    println!("{:.2} % of the queries' time went into {counted} readings", share * 100.0);
    assert!(share < 0.025, "readings took {share} of the queries' time");
    assert!(counted < 12_000.0, "everything was counted");
}
