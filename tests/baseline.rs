//! The servers, clients and victims work on this machine without the library. When this fails, look here first.

use harness::mariadb::{Launch, MariaDb, Options, Reach, run_sysbench, sysbench};
use harness::numbers::number_after;
use harness::victim::{self, Company};
use harness::{needs, postgres};
use mysql::prelude::Queryable;

#[test]
fn mariadb_starts_answers_and_stops() {
    needs!("mariadbd", "mariadb-install-db", "sysbench", "openssl");
    let server = MariaDb::start(&Options { launch: Launch::Plain, tls: true, ..Options::default() });
    let one: Option<u32> = server.client().query_first("SELECT 1").expect("a plain query");
    assert_eq!(one, Some(1));
    run_sysbench(sysbench(&server, &Reach::Socket).arg("prepare"));
    for reach in [Reach::Tcp, Reach::Socket, Reach::Tls] {
        let said = run_sysbench(sysbench(&server, &reach).args(["--events=10", "run"]));
        assert_eq!(number_after(&said, "queries:"), Some(200), "{said}");
    }
    let ended = server.stop();
    ended.expect_success();
    assert!(ended.stderr.contains("Shutdown complete"), "{}", ended.describe());
}

#[test]
fn postgresql_starts_answers_and_stops() {
    if let Some(reason) = postgres::unavailable() {
        harness::skip(module_path!(), &reason);
        return;
    }
    let options =
        postgres::Options { launch: Launch::Plain, tls: true, statistics: true, ..Default::default() };
    let server = postgres::Postgres::start(&options);
    let one: i32 = server.client().query_one("SELECT 1", &[]).expect("a plain query").get(0);
    assert_eq!(one, 1);
    for socket in [true, false] {
        let mut psql = server.tool("psql", socket);
        psql.env("PGSSLMODE", if socket { "disable" } else { "require" });
        let asked = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let said = server.run_tool(psql.args(["-X", "-A", "-t", "-c", asked])).stdout;
        assert_eq!(said.trim(), if socket { "f" } else { "t" });
    }
    let ended = server.stop();
    ended.expect_success();
    assert!(ended.stderr.contains("shut down"), "{}", ended.describe());
}

#[test]
fn victims_end_well_alone() {
    needs!("gcc");
    for source in [
        "alarm_storm.c",
        "cancel.c",
        "close_range.c",
        "errors.c",
        "exec.c",
        "fork.c",
        "fork_storm.c",
        "jump.c",
        "key_destructor.c",
        "replaced.c",
        "vfork.c",
    ] {
        let ended = victim::run(&victim::compile(source, &[]), &[], Company::Alone);
        assert_eq!(ended.stdout.lines().last(), Some("victim ends well"), "{source}: {}", ended.describe());
    }
}
