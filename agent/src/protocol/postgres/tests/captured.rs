//! Sessions of real clients with a PostgreSQL 15 server, taken down by a proxy: `C` lines are what the client sent at a
//! time, `S` lines what the server sent.

use super::*;

pub(super) fn transcript(hex: &str) -> Vec<(Direction, Vec<u8>)> {
    hex.lines()
        .map(|line| {
            let (side, bytes) = line.split_once(' ').unwrap();
            let digits = |n: usize| u8::from_str_radix(&bytes[n..n + 2], 16).unwrap();
            let direction = if side == "C" { Direction::FromClient } else { Direction::ToClient };
            (direction, (0..bytes.len()).step_by(2).map(digits).collect())
        })
        .collect()
}

fn run(pieces: &[(Direction, Vec<u8>)], cut: usize) -> Vec<String> {
    let mut story = Story::new(cut);
    for (direction, bytes) in pieces {
        if *direction == Direction::FromClient {
            // The server waits for more.
            story.read_entered();
        }
        story.feed(*direction, bytes);
    }
    let step = story.machine.parked(true);
    story.tell(step);
    story.lines
}

/// The lines of a story without Started and FirstResponse, after checking that they are where they belong.
fn told(hex: &str) -> Vec<String> {
    let pieces = transcript(hex);
    let lines = run(&pieces, 0);
    for cut in [1, 2, 5, 11] {
        assert_eq!(run(&pieces, cut), lines, "in pieces of {cut}");
    }
    let mut state = "idle";
    for line in &lines {
        state = match (line.as_str(), state) {
            ("Started", "idle") => "running",
            ("FirstResponse", "running") => "responding",
            ("Started" | "FirstResponse", _) => panic!("{line} while {state}: {lines:#?}"),
            (unit, "responding") if unit.contains("st ") => "idle",
            (unit, "running") if unit.ends_with(" unknown") => "idle",
            (_, same) => same,
        };
    }
    lines.into_iter().filter(|line| line != "Started" && line != "FirstResponse").collect()
}

macro_rules! sample {
    ($name:literal) => {
        include_str!(concat!("samples/", $name, ".hex"))
    };
}

#[test]
fn simple_queries_of_psql_with_errors_notices_and_changes_of_identity() {
    let expected = [
        "login postgres@postgres \"shop\"",
        "Query[create table t(a int primary key, b text);] 1st 0out 0aff",
        "Query[insert into t values (1,'one'),(2,'two'),(3,'three');] 1st 0out 3aff",
        "Query[select a, b from t order by a;] 1st 3out 0aff",
        "Query[update t set b = b || '!' where a > 1;] 1st 0out 2aff",
        "Query[delete from t where a = 3;] 1st 0out 1aff",
        "Query[select 1/0;] 1st 0out 0aff 22012",
        "Query[select 1; select 2; insert into t values (9,'nine');] 3st 2out 1aff",
        "Query[select broken from;] 1st 0out 0aff 42601",
        "Query[do $$begin raise notice 'hello'; end$$;] 1st 0out 0aff",
        "identity postgres@postgres \"till\"",
        "Query[set application_name = 'till';] 1st 0out 0aff",
        "Query[select '';] 1st 1out 0aff",
        "Query[create role clerk;] 1st 0out 0aff",
        "identity clerk@postgres \"till\"",
        "Query[set session authorization clerk;] 1st 0out 0aff",
        "identity postgres@postgres \"till\"",
        "Query[reset session authorization;] 1st 0out 0aff",
        "Query[select repeat('x', 100), generate_series(1,3);] 1st 3out 0aff",
        "Quit",
    ];
    assert_eq!(told(sample!("psql_simple")), expected);
}

#[test]
fn copy_in_psql_counts_rows_both_ways() {
    let expected = [
        "login postgres@postgres \"shop\"",
        "Query[copy t from stdin;] 1st 0out 2aff",
        "Query[copy t to stdout;] 1st 5out 0aff",
        "Query[copy t from stdin;] 1st 0out 0aff 22P02",
        "Query[copy t to '/tmp/t.out';] 1st 0out 0aff",
        "Query[select 1;] 1st 1out 0aff",
        "Quit",
    ];
    assert_eq!(told(sample!("psql_copy")), expected);
}

#[test]
fn a_notification_is_no_unit_and_no_response() {
    let expected = [
        "login postgres@postgres \"shop\"",
        "Query[listen bell;] 1st 0out 0aff",
        "Query[notify bell, 'x';] 1st 0out 0aff",
        "Query[select 1;] 1st 1out 0aff",
        "Quit",
    ];
    assert_eq!(told(sample!("psql_notify")), expected);
}

#[test]
fn pgbench_runs_the_same_statements_through_all_protocols() {
    let expected = [
        "login postgres@postgres \"pgbench\"",
        "Query[select a from t where a = 7;] 1st 0out 0aff",
        "Query[update t set b = 'z' where a = 7;] 1st 0out 0aff",
        "Query[select a from t where a = 7;] 1st 0out 0aff",
        "Query[update t set b = 'z' where a = 7;] 1st 0out 0aff",
        "Query[select a from t where a = 7;] 1st 0out 0aff",
        "Query[update t set b = 'z' where a = 7;] 1st 0out 0aff",
        "Quit",
    ];
    assert_eq!(told(sample!("pgbench_simple")), expected);
    let expected = [
        "login postgres@postgres \"pgbench\"",
        "Execute[select a from t where a = $1;] 1st 0out 0aff",
        "Execute[update t set b = 'z' where a = $1;] 1st 0out 0aff",
        "Execute[select a from t where a = $1;] 1st 0out 0aff",
        "Execute[update t set b = 'z' where a = $1;] 1st 0out 0aff",
        "Execute[select a from t where a = $1;] 1st 0out 0aff",
        "Execute[update t set b = 'z' where a = $1;] 1st 0out 0aff",
        "Quit",
    ];
    assert_eq!(told(sample!("pgbench_extended")), expected);
    let expected = [
        "login postgres@postgres \"pgbench\"",
        "text select a from t where a = $1;",
        "Prepare[stored select a from t where a = $1;] 1st 0out 0aff",
        "Execute[stored select a from t where a = $1;] 1st 0out 0aff",
        "text update t set b = 'z' where a = $1;",
        "Prepare[stored update t set b = 'z' where a = $1;] 1st 0out 0aff",
        "Execute[stored update t set b = 'z' where a = $1;] 1st 0out 0aff",
        "Execute[stored select a from t where a = $1;] 1st 0out 0aff",
        "Execute[stored update t set b = 'z' where a = $1;] 1st 0out 0aff",
        "Execute[stored select a from t where a = $1;] 1st 0out 0aff",
        "Execute[stored update t set b = 'z' where a = $1;] 1st 0out 0aff",
        "Quit",
    ];
    assert_eq!(told(sample!("pgbench_prepared")), expected);
    let expected = [
        "login postgres@postgres \"pgbench\"",
        "text select 1;",
        "text select 2;",
        "text select 1;",
        "Batch[] 3st 2x(select 1;) 1x(select 2;) 3out 0aff",
        "text select 1;",
        "text select 2;",
        "text select 1;",
        "Batch[] 3st 2x(select 1;) 1x(select 2;) 3out 0aff",
        "Quit",
    ];
    assert_eq!(told(sample!("pgbench_pipeline")), expected);
}

#[test]
fn psycopg_prepares_a_statement_at_its_sixth_execution() {
    let expected = [
        "login postgres@postgres \"py\"",
        "Execute[select a, b from t where a = $1] 1st 0out 0aff",
        "Execute[select a, b from t where a = $1] 1st 1out 0aff",
        "Execute[select a, b from t where a = $1] 1st 1out 0aff",
        "Execute[select a, b from t where a = $1] 1st 0out 0aff",
        "Execute[select a, b from t where a = $1] 1st 0out 0aff",
        "text select a, b from t where a = $1",
        "Prepare[stored select a, b from t where a = $1] 1st 0out 0aff",
        "Execute[stored select a, b from t where a = $1] 1st 0out 0aff",
        "Execute[stored select a, b from t where a = $1] 1st 0out 0aff",
        "Execute[insert into t values ($1,$2)] 1st 0out 1aff",
        "Execute[insert into t values ($1,$2)] 1st 0out 0aff 23505",
        "text insert into t values ($1,$2)",
        "Prepare[stored insert into t values ($1,$2)] 1st 0out 0aff",
        "Execute[stored insert into t values ($1,$2)] 1st 0out 1aff",
        "Execute[select $1::text] 1st 1out 0aff",
        "Quit",
    ];
    assert_eq!(told(sample!("psycopg_parameters")), expected);
}

#[test]
fn a_pipeline_is_a_batch_of_its_statements() {
    let expected = [
        "login postgres@postgres \"py\"",
        "text select b from t where a = $1",
        "text select b from t where a = $1",
        "text select b from t where a = $1",
        "text select b from t where a = $1",
        "text update t set b = $1 where a < 3",
        "Batch[] 5st 4x(select b from t where a = $1) 1x(update t set b = $1 where a < 3) 2out 2aff",
        "text select 1",
        "text select 1/$1",
        "text select 2",
        "Batch[] 3st 1x(select 1) 1x(select 1/$1) 1x(select 2) 1out 0aff 22012",
        "Execute[select 1] 1st 1out 0aff",
        "text select 2",
        "text select 3",
        "Batch[] 2st 1x(select 2) 1x(select 3) 2out 0aff",
        "Execute[select 4] 1st 1out 0aff",
        "text insert into t values ($1,$2)",
        "Batch[] 5st 5x(insert into t values ($1,$2)) 0out 5aff",
        "Quit",
    ];
    assert_eq!(told(sample!("psycopg_pipeline")), expected);
}

#[test]
fn copy_in_psycopg_counts_rows_both_ways() {
    let expected = [
        "login postgres@postgres \"py\"",
        "Query[copy t from stdin] 1st 0out 2aff",
        "Query[copy (select a from t) to stdout] 1st 14out 0aff",
        "Query[copy t from stdin] 1st 0out 0aff 22P02",
        "Query[select 1] 1st 1out 0aff",
        "Quit",
    ];
    assert_eq!(told(sample!("psycopg_copy")), expected);
}

#[test]
fn a_cursor_declared_by_a_statement_is_read_by_statements() {
    let expected = [
        "login postgres@postgres \"py\"",
        "Execute[BEGIN] 1st 0out 0aff",
        "Execute[DECLARE \"far\" CURSOR FOR select a from t] 1st 0out 0aff",
        "Utility[] 0st 0out 0aff",
        "Execute[FETCH FORWARD 2 FROM \"far\"] 1st 2out 0aff",
        "Execute[FETCH FORWARD 2 FROM \"far\"] 1st 2out 0aff",
        "Execute[CLOSE \"far\"] 1st 0out 0aff",
        "Execute[COMMIT] 1st 0out 0aff",
        "Quit",
    ];
    assert_eq!(told(sample!("psycopg_cursor")), expected);
}

#[test]
fn a_cancelled_query_has_its_error_and_the_cancel_request_is_no_session() {
    let expected =
        ["login postgres@postgres \"py\"", "Execute[select pg_sleep($1)] 1st 0out 0aff 57014", "Quit"];
    assert_eq!(told(sample!("psycopg_cancel")), expected);
    let expected = ["NotASession"];
    assert_eq!(told(sample!("cancel_request")), expected);
}

#[test]
fn the_query_of_a_session_that_an_administrator_ends_has_its_error() {
    let expected = ["login postgres@postgres \"py\"", "Query[select pg_sleep(20)] 1st 0out 0aff 57P01"];
    assert_eq!(told(sample!("psycopg_killed")), expected);
}

#[test]
fn a_refused_login_is_no_session() {
    let expected = ["NotASession"];
    assert_eq!(told(sample!("refused")), expected);
}

#[test]
fn a_walsender_runs_queries_until_it_streams() {
    let expected = [
        "login postgres@postgres \"pg_recvlogical\"",
        "Query[SELECT pg_catalog.set_config('search_path', '', false);] 1st 1out 0aff",
        "Query[SHOW data_directory_mode] 1st 1out 0aff",
        "Query[IDENTIFY_SYSTEM] 1st 1out 0aff",
        "Query[CREATE_REPLICATION_SLOT \"sl\" LOGICAL \"test_decoding\" ( SNAPSHOT 'nothing')] 1st 1out 0aff",
        "Quit",
    ];
    assert_eq!(told(sample!("recvlogical")), expected);
    let expected = [
        "login postgres@postgres \"pg_recvlogical\"",
        "Query[SELECT pg_catalog.set_config('search_path', '', false);] 1st 1out 0aff",
        "Query[SHOW data_directory_mode] 1st 1out 0aff",
        "Query[IDENTIFY_SYSTEM] 1st 1out 0aff",
        "Streaming",
    ];
    assert_eq!(told(sample!("recvlogical_stream")), expected);
    let expected = ["login postgres@replication \"pg_receivewal\"", "Streaming"];
    assert_eq!(told(sample!("receivewal")), expected);
}

#[test]
fn copy_in_the_extended_protocol_ignores_the_sync_behind_execute() {
    let expected = [
        "login postgres@postgres \"raw\"",
        "Query[create temp table u(a int, b text)] 1st 0out 0aff",
        "Execute[copy u from stdin] 1st 0out 1aff",
        "Execute[copy u from stdin] 1st 0out 1aff",
        "Execute[copy u from stdin] 1st 0out 0aff 57014",
        "Execute[copy u from stdin] 1st 0out 0aff 22P02",
        "Query[copy u from stdin; copy u from stdin] 2st 0out 3aff",
        "Query[select 1] 1st 1out 0aff",
        "Quit",
    ];
    assert_eq!(told(sample!("raw_copy")), expected);
}

#[test]
fn units_sent_ahead_and_messages_out_of_order_as_the_server_takes_them() {
    let expected = [
        "login postgres@postgres \"raw\"",
        "text select 1",
        "Query[stored select 1] 1st 1out 0aff",
        "Query[select 2] 1st 1out 0aff",
        "Query[select 3] 1st 1out 0aff",
        "Utility[] 0st 0out 0aff",
        "text selec",
        "text select 4",
        "Batch[] 2st 1x(selec) 1x(select 4) 0out 0aff 42601",
        "Utility[] 0st 0out 0aff unknown",
        "Query[select 5] 1st 1out 0aff",
        "text select 6",
        "text select 7",
        "Batch[] 2st 1x(select 6) 1x(select 7) 2out 0aff",
        "Utility[] 0st 0out 0aff",
        "Utility[] 0st 0out 0aff",
        "Utility[] 0st 0out 0aff",
        "Utility[] 0st 0out 0aff 26000",
        "Query[] 0st 0out 0aff",
        "Query[;] 0st 0out 0aff",
        "FunctionCall[] 1st 0out 0aff",
        "Query[begin] 1st 0out 0aff",
        "text select generate_series(1,10)",
        "Execute[stored select generate_series(1,10)] 1st 4out 0aff",
        "Fetch[stored select generate_series(1,10)] 1st 4out 0aff",
        "Fetch[stored select generate_series(1,10)] 1st 2out 0aff",
        "Query[commit] 1st 0out 0aff",
        "Execute[unknown] 1st 0out 0aff 26000",
        "text select 8",
        "Execute[stored select 8] 1st 1out 0aff",
        "Execute[select 9] 1st 1out 0aff",
        "Execute[select 8] 1st 1out 0aff",
        "Execute[select 8] 1st 1out 0aff",
        "Query[set idle_session_timeout='200ms'] 1st 0out 0aff",
    ];
    assert_eq!(told(sample!("raw_odd")), expected);
}

#[test]
fn a_query_sent_before_the_login_is_over_has_no_text() {
    let expected = [
        "login postgres@postgres \"raw\"",
        "Query[unknown] 1st 1out 0aff",
        "Query[select 2] 1st 1out 0aff",
        "Quit",
    ];
    assert_eq!(told(sample!("raw_early")), expected);
}

#[test]
fn an_impossible_length_loses_the_session() {
    let expected = ["login postgres@postgres \"raw\"", "lost Malformed", "lost Malformed"];
    assert_eq!(told(sample!("raw_malformed")), expected);
}
