//! Loaded into a process that is not on the list, the library leaves no file, no descriptor and no mapping but its own.

use harness::process::{Ended, run};
use harness::wait::SOON;
use harness::{artifacts, perquery, scratch};
use std::process::Command;

fn shell(words: &str, preload: bool) -> Ended {
    let mut command = Command::new("/bin/sh");
    perquery::scrub(&mut command).args(["-c", words]).current_dir("/");
    if preload {
        command.env("LD_PRELOAD", artifacts::library());
    }
    run(&mut command, SOON)
}

#[track_caller]
fn same_with_and_without(words: &str) -> String {
    let (without, with) = (shell(words, false), shell(words, true));
    assert_eq!(with.stdout, without.stdout, "standard output of {words}");
    assert_eq!(with.stderr, without.stderr, "standard error of {words}");
    assert_eq!(with.code(), without.code(), "exit status of {words}");
    with.stdout
}

#[test]
fn shells_and_their_tools_say_the_same_and_end_the_same() {
    for words in [
        "true",
        "false",
        "exit 3",
        "echo hello | cat | tr a-z A-Z",
        "ls /nowhere/at/all",
        "ls / > /dev/full",
        "kill -TERM $$",
        "(exit 5); echo $?; env -i /bin/true; echo $?",
        "head -c 100000 /dev/zero | md5sum",
        "exec 9</dev/null; cat <&9",
    ] {
        same_with_and_without(words);
    }
}

#[test]
fn no_descriptor_is_left_open() {
    // Numbers only: what they point at has process ids and inode numbers in it.
    assert!(same_with_and_without("ls /proc/self/fd").lines().count() >= 3);
    same_with_and_without("exec 3</dev/null; ls /proc/self/fd");
    let bash_sees_itself = "for fd in /proc/$$/fd/*; do echo ${fd##*/}; done";
    same_with_and_without(bash_sees_itself);
}

#[test]
fn the_only_new_mappings_are_the_librarys_and_what_it_is_linked_with() {
    let maps = shell("cat /proc/self/maps", true);
    maps.expect_success();
    assert!(maps.stdout.contains("libperquery.so"), "the library was not loaded: {}", maps.stdout);
    let names = |text: &str| -> Vec<String> {
        let mut names: Vec<String> = text
            .lines()
            .map(|line| line.split_whitespace().nth(5).unwrap_or("(anonymous)").to_owned())
            .collect();
        names.sort();
        names.dedup();
        names
    };
    let without = names(&shell("cat /proc/self/maps", false).stdout);
    for name in names(&maps.stdout) {
        let linked =
            ["libperquery.so", "libgcc_s.so", "libc.so", "ld-linux", "libdl.so", "libpthread.so", "libm.so"];
        let expected = without.contains(&name) || linked.iter().any(|library| name.contains(library));
        assert!(expected, "a mapping that was not there without the library: {name}\n{}", maps.stdout);
    }
    for line in maps.stdout.lines() {
        assert!(
            !line.contains("memfd") && !line.contains("perf_event"),
            "a segment or an event in cat: {line}"
        );
    }
}

#[test]
fn no_file_is_left_behind() {
    let empty = scratch::directory("inert");
    let home = empty.path().display().to_string();
    let words = format!("cd {home} && HOME={home} TMPDIR={home} sh -c 'true; cat /dev/null; ls > /dev/null'");
    let before = files_with_our_name();
    shell(&words, true).expect_success();
    let left: Vec<_> =
        std::fs::read_dir(empty.path()).expect("own directory").flatten().map(|e| e.path()).collect();
    assert!(left.is_empty(), "files left: {left:?}");
    assert_eq!(files_with_our_name(), before, "files left where programs keep shared memory or run files");
}

fn files_with_our_name() -> Vec<String> {
    let mut found: Vec<String> = ["/dev/shm", "/run", "/var/run", "/var/lib"]
        .into_iter()
        .filter_map(|dir| std::fs::read_dir(dir).ok())
        .flatten()
        .flatten()
        .map(|entry| entry.path().display().to_string())
        .filter(|path| path.contains("perquery"))
        .collect();
    found.sort();
    found
}

#[test]
fn an_inert_process_makes_no_system_call_of_ours_after_its_start() {
    harness::needs!("strace");
    let trace = |preload: bool| {
        let output = scratch::directory("strace");
        let file = output.path().join("trace");
        let mut command = Command::new("strace");
        perquery::scrub(&mut command).arg("-o").arg(&file);
        if preload {
            command.arg("-E").arg(format!("LD_PRELOAD={}", artifacts::library().display()));
        }
        let done = run(command.args(["cat", "/etc/passwd"]), SOON);
        if !done.status.success() {
            return None;
        }
        let text = std::fs::read_to_string(&file).expect("strace wrote it");
        // From the program's own first work on: opening its input.
        let work = text.split_once("/etc/passwd\", O_RDONLY").expect("cat opens its file").1.to_owned();
        Some(
            work.lines()
                .filter_map(|line| line.split_once('('))
                .map(|(call, _)| call.to_owned())
                .collect::<Vec<_>>(),
        )
    };
    let (Some(without), Some(with)) = (trace(false), trace(true)) else {
        harness::skip(module_path!(), "strace may not trace here");
        return;
    };
    assert_eq!(with, without);
}
