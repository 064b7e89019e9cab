//! MariaDB and PostgreSQL: do their statements' instructions repeat and add up, and what does the library add to them?

use crate::check::percent_apart;
use crate::outside::Watched;
use crate::prices::{Price, SETTINGS, list, price};
use crate::server::{Kind, POINT_SELECT, Server};
use harness::perquery::{Recording, perquery};
use harness::scratch;
use serde_json::Value;

/// A statement whose executions are long against what the thread does beside them.
const DEAR: &str = "SELECT MAX(k + 1) FROM price";

/// Of 100 executions, the instructions of 95 in user mode are within 1 % of the median. Those in the kernel are only told:
/// they depend on who runs when, interrupts of the timer and switches in the middle of the statement.
pub fn instructions_repeat(kind: Kind) -> String {
    let server = Server::start(kind, true);
    let instructions = |event: &str| {
        let words = ["stat", "-n", "100", "-e", event, "--format", "json", "--url", kind.url(), POINT_SELECT];
        let done = perquery(words);
        let json: Value = serde_json::from_str(&done.expect_success().stdout).expect("JSON");
        let counter = json["statements"][0]["counters"]["instructions"].clone();
        ["min", "median", "p95"].map(|name| counter[name].as_f64().expect("a number"))
    };
    let [least, median, most] = instructions("instructions:u");
    let [least_of_all, _, most_of_all] = instructions("instructions");
    server.stop();
    let apart = percent_apart(most, median).max(percent_apart(least, median));
    assert!(apart < 1.0, "{least} to {most}, median {median}: {apart} %");
    format!("{least:.0} to {most:.0} in user mode, {least_of_all:.0} to {most_of_all:.0} with the kernel")
}

/// A recording's executions, and for each what the thread does beside it (as much as beside an execution of the cheapest
/// statement), are what was counted from outside.
pub fn sum_is_the_whole(kind: Kind) -> String {
    const EXECUTIONS: usize = 100;
    let mut server = Server::start(kind, true);
    let directory = scratch::directory("whole");
    let mut count = |statement: &str| {
        let path = directory.path().join("recording.pq");
        let recording = Recording::start_with(server.pid(), path, &["--exact", "-e", "instructions"]);
        let mut watched = Watched::start(server.thread);
        // The first execution opens the events; that of another statement is not in the row.
        server.run("SELECT 2, 3", 1);
        let before = watched.read();
        server.run(statement, EXECUTIONS);
        let outside = watched.read().since(before).all() as f64;
        let report = recording.stop("digest");
        report.expect_complete();
        let row = report.row(statement);
        assert_eq!(row.calls(), EXECUTIONS as u64);
        (row.counter("instructions"), outside)
    };
    let (inside, outside) = count("SELECT 1");
    let rest = outside - inside;
    let (inside, outside) = count(DEAR);
    server.stop();
    let apart = percent_apart(inside + rest, outside);
    assert!(apart < 1.0, "{inside} and {rest} in {outside}: {apart} %");
    format!("{inside:.0} + {rest:.0} of {outside:.0} instructions, {apart:.2} % apart")
}

/// The price list of a point select.
pub fn prices(kind: Kind) -> String {
    const SELECTS: usize = 50;
    let directory = scratch::directory("prices");
    let selects = |server: &mut Server, is_random| {
        price(server.thread, SELECTS, is_random, || server.run(POINT_SELECT, SELECTS))
    };
    let mut bare = Server::start(kind, false);
    let alone = selects(&mut bare, false);
    bare.stop();
    let mut server = Server::start(kind, true);
    let with: Vec<Price> = SETTINGS
        .iter()
        .map(|setting| {
            let recording = setting.record.map(|options| {
                Recording::start_with(server.pid(), directory.path().join("recording.pq"), options)
            });
            let price = selects(&mut server, setting.is_random);
            if let Some(recording) = recording {
                recording.stop("digest").expect_complete();
            }
            price
        })
        .collect();
    server.stop();
    list(&format!("{} point select", kind.name()), alone, &with);
    "see the list".to_owned()
}
