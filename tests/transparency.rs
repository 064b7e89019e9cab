//! Each victim prints the same and ends the same way alone, with the inert library, with the awake one, and recorded.

use harness::perquery::Recording;
use harness::process::Process;
use harness::victim::{self, Company};
use harness::wait::{SOON, wait_for};
use harness::{needs, perquery, scratch};
use rustix::process::Signal;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

fn behaves_the_same(source: &str, arguments: &[&str]) {
    needs!("gcc");
    victim::compare(&victim::compile(source, &[]), arguments);
}

#[test]
fn forked_children_and_their_parent_go_on() {
    behaves_the_same("fork.c", &[]);
}

#[test]
fn forks_from_sixteen_threads_come_to_their_end() {
    behaves_the_same("fork_storm.c", &[]);
}

#[test]
fn a_vfork_child_may_change_its_descriptors() {
    behaves_the_same("vfork.c", &[]);
}

#[test]
fn exec_inherits_nothing_of_ours() {
    behaves_the_same("exec.c", &[]);
}

#[test]
fn a_storm_of_signals_whose_handler_sends_disturbs_nothing() {
    behaves_the_same("alarm_storm.c", &[]);
}

#[test]
fn a_handler_may_jump_out_of_a_receive() {
    behaves_the_same("jump.c", &[]);
}

#[test]
fn a_thread_is_cancelled_in_every_blocking_call() {
    behaves_the_same("cancel.c", &[]);
}

#[test]
fn destructors_of_thread_data_may_use_sessions() {
    behaves_the_same("key_destructor.c", &[]);
}

#[test]
fn whatever_interrupts_a_query_does_no_harm_in_a_server_whose_threads_stay_in_their_sessions() {
    needs!("gcc");
    let directory = scratch::directory("servers");
    for source in [
        "alarm_storm.c",
        "jump.c",
        "cancel.c",
        "key_destructor.c",
        "fork.c",
        "fork_storm.c",
        "vfork.c",
        "close_range.c",
        "errors.c",
    ] {
        victim::compare(&victim::in_disguise(source, directory.path(), "mariadbd"), &[]);
    }
}

#[test]
fn closing_all_descriptors_does_not_let_us_write_into_new_ones() {
    behaves_the_same("close_range.c", &[]);
    behaves_the_same("close_range.c", &["closefrom"]);
    behaves_the_same("close_range.c", &["one by one"]);
}

#[test]
fn a_file_moved_over_our_descriptor_gets_no_foreign_bytes() {
    behaves_the_same("replaced.c", &[]);
}

#[test]
fn errors_and_errno_are_those_of_the_system() {
    behaves_the_same("errors.c", &[]);
}

#[test]
fn an_answer_that_the_kernel_takes_in_pieces_is_one_answer_and_counted_once() {
    const QUERIES: u64 = 40;
    let queries = QUERIES.to_string();
    behaves_the_same("short_writes.c", &[&queries]);
    let directory = scratch::directory("pieces");
    let program = victim::in_disguise("short_writes.c", directory.path(), "mariadbd");
    let mut command = victim::command(&program, Company::Awake, Path::new("that of perquery run"));
    let mut server = Process::start(command.args([&queries, "wait"]));
    let pid = wait_for("the session to be open", SOON, || {
        server.stdout().lines().next().and_then(|line| line.parse().ok())
    });
    let recording = Recording::start_with(pid, directory.path().join("pieces.pq"), &["--cheap"]);
    server.signal(Signal::USR1);
    server.wait(Duration::from_secs(60)).expect_success();
    let ended = recording.wait();
    ended.expect_success();
    let report = perquery::report(&directory.path().join("pieces.pq"), "digest");
    report.expect_complete();
    let row = report.row("SELECT 4711 AS n1");
    assert_eq!(row.calls(), QUERIES + 1);
    assert_eq!(row.count("rows_returned"), QUERIES);
    // A row of a megabyte, its length and four small packets; and the OK at the end.
    assert_eq!(row.count("bytes_out"), QUERIES * ((1 << 20) + 4 + 4 + 5 + 9 + 9 + 9) + 11);
}

#[test]
fn every_way_out_keeps_its_exit_status() {
    needs!("gcc");
    let program = victim::compile("exits.c", &[]);
    for way in ["return", "exit", "_exit", "quick_exit", "abort", "kill", "term"] {
        victim::compare(&program, &[way]);
    }
}

#[test]
fn sixty_four_descriptors_are_enough() {
    needs!("gcc");
    let program = victim::compile("few_files.c", &[]);
    let expected = victim_with_few_files(&program, Company::Alone);
    assert!(expected.ends_with("victim ends well\n"), "the victim itself is broken: {expected}");
    for company in [Company::Inert, Company::Awake] {
        assert_eq!(victim_with_few_files(&program, company), expected, "{company:?}");
    }
}

fn victim_with_few_files(program: &std::path::Path, company: Company) -> String {
    let directory = scratch::directory("few-files");
    let inner = victim::command(program, company, &directory.path().join("x.pq"));
    // The limit has to be there when the library's constructor runs: a shell sets it.
    let mut shell = Command::new("/bin/sh");
    perquery::scrub(&mut shell).args(["-c", "ulimit -n 64; exec \"$0\""]).arg(program);
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    scratch::output_of(&mut shell)
}

#[test]
fn a_library_may_use_hooked_calls_in_its_constructor_and_destructor() {
    needs!("gcc");
    let library = victim::compile("order_library.c", &["-shared", "-fPIC"]);
    let directory = library.parent().expect("it lies in a directory").display().to_string();
    // Linked: its constructor runs before the preloaded library's own.
    let search = format!("-L{directory}");
    let rpath = format!("-Wl,--no-as-needed,-rpath,{directory}");
    let program = victim::compile("order.c", &[&search, &rpath, "-lorder_library"]);
    victim::compare(&program, &[]);
    // Preloaded, before us and after us.
    let ours = harness::artifacts::library().display().to_string();
    let theirs = library.display().to_string();
    for order in [format!("{theirs} {ours}"), format!("{ours} {theirs}"), format!("{ours}:{theirs}")] {
        let mut plain = Command::new("/bin/true");
        perquery::scrub(&mut plain).env("LD_PRELOAD", &order).env("PERQUERY_EXE", "true");
        let said = scratch::output_of(&mut plain);
        assert_eq!(said, "constructor\ndestructor\nvictim ends well\n", "LD_PRELOAD={order}");
    }
}

#[test]
fn a_library_that_stands_behind_us_is_still_called() {
    needs!("gcc");
    let library = victim::compile("counting_library.c", &["-shared", "-fPIC"]);
    let directory = scratch::directory("behind");
    let program = victim::in_disguise("queries.c", directory.path(), "mariadbd");
    let ours = harness::artifacts::library().display().to_string();
    let theirs = library.display().to_string();
    let counted = [theirs.clone(), format!("{ours} {theirs}")].map(|order| {
        let mut command = Command::new(&program);
        perquery::scrub(command.args(["40", "session"])).env("LD_PRELOAD", &order);
        scratch::output_of(&mut command)
    });
    assert!(counted[0].ends_with("\nrecv 123, send 83\n"), "{}", counted[0]);
    assert_eq!(counted[1], counted[0]);
}

#[test]
fn exceptions_pass_through_a_step_of_sqlite() {
    needs!("g++", "/usr/include/sqlite3.h");
    let program = victim::compile("throw.cpp", &["-lsqlite3"]);
    victim::compare(&program, &[]);
    // And the statements after it are still seen, each time.
    let directory = scratch::directory("throw");
    let recording = directory.path().join("throw.pq");
    let done = harness::process::run(
        &mut victim::command(&program, Company::Recorded, &recording),
        harness::wait::SOON,
    );
    assert_eq!(done.code(), 0, "{}", done.describe());
    let report = perquery::report(&recording, "digest");
    assert_eq!(report.row("SELECT 815 + 1").calls(), 25);
}
