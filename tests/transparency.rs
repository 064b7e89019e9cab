//! Each victim prints the same and ends the same way alone, with the inert library, with the awake one, and recorded.

use harness::victim::{self, Company};
use harness::{needs, perquery, scratch};
use std::process::Command;

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
