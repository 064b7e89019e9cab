//! `perquery time`: the client's own seconds with microseconds, in that program alone.

use harness::mariadb::{MariaDb, Options, PASSWORD, PROGRAMS, USER};
use harness::process::{Ended, run};
use harness::wait::SOON;
use harness::{artifacts, needs, perquery, scratch, victim};
use std::process::Command;

/// `perquery time OPTIONS -- WORDS`.
#[track_caller]
fn timed(options: &[&str], words: &[&str]) -> Ended {
    let mut command = perquery::command(["time"]);
    run(command.args(options).arg("--").args(words), SOON)
}

/// The text between "(" and ")" of every line "1 row in set (…)".
fn seconds_shown(output: &str) -> Vec<&str> {
    let rows = output.lines().filter(|line| line.contains(" in set ("));
    let shown = rows.filter_map(|line| line.rsplit_once('(')?.1.strip_suffix(')'));
    shown.collect()
}

/// `N.NNNNNN sec` with exactly so many digits.
#[track_caller]
fn seconds(text: &str, digits: usize) -> f64 {
    let number = text.strip_suffix(" sec").unwrap_or_else(|| panic!("no seconds: {text:?}"));
    let fraction = number.split_once('.').map_or("", |(_, fraction)| fraction);
    assert_eq!(fraction.len(), digits, "{text}");
    number.parse().unwrap_or_else(|e| panic!("{number}: {e}"))
}

/// The seconds that the mariadb client shows for these statements.
#[track_caller]
fn client(way: &[String], options: &[&str], sql: &str) -> Vec<String> {
    let password = format!("--password={PASSWORD}");
    let mut words = vec!["mariadb", "--no-defaults", "--user", USER, &password, "-vvv", "-e", sql];
    words.extend(way.iter().map(String::as_str));
    let done = timed(options, &words);
    seconds_shown(&done.expect_success().stdout).into_iter().map(str::to_owned).collect()
}

#[test]
fn the_mariadb_client_shows_microseconds_over_tcp_socket_and_tls() {
    needs!(PROGRAMS[0], PROGRAMS[1], "mariadb", "openssl");
    let server = MariaDb::start(&Options { tls: true, ..Options::default() });
    let tcp = vec!["--host=127.0.0.1".to_owned(), format!("--port={}", server.port), "--skip-ssl".to_owned()];
    let socket = vec![format!("--socket={}", server.socket().display())];
    let mut tls = tcp.clone();
    tls[2] = "--ssl".to_owned();
    for way in [&tcp, &socket, &tls] {
        // A machine with other work may take longer: the quickest of some is judged.
        let tries = (0..10).map(|_| {
            let shown = client(way, &[], "select sleep(0.123456)");
            assert_eq!(shown.len(), 1, "{shown:?}");
            seconds(&shown[0], 6)
        });
        let quick = tries.inspect(|s| assert!(*s >= 0.123456, "{s} over {way:?}")).find(|s| *s < 0.13);
        assert!(quick.is_some(), "over {way:?} never below 0.13 s");
    }
    let several = client(&socket, &[], "select 1; select sleep(0.02); select 2 union select 3");
    let several: Vec<f64> = several.iter().map(|text| seconds(text, 6)).collect();
    assert_eq!(several.len(), 3);
    assert!(several[0] < several[1] && several[1] >= 0.02, "{several:?}");
    for digits in [3, 4, 5, 7, 8, 9] {
        let shown = client(&socket, &["--precision", &digits.to_string()], "select sleep(0.01)");
        assert!(seconds(&shown[0], digits) >= 0.01, "{shown:?}");
    }
}

#[test]
fn minutes_are_shown_before_the_seconds() {
    needs!(PROGRAMS[0], PROGRAMS[1], "mariadb", "gcc");
    let server = MariaDb::start(&Options::default());
    let jump = victim::compile("clock_jump.c", &["-shared", "-fPIC"]);
    let mut command =
        perquery::command(["time", "--", "mariadb", "--no-defaults", "-uroot", "-vvv", "-e", "select 1"]);
    command.arg(format!("--socket={}", server.socket().display())).env("LD_PRELOAD", jump);
    let done = run(&mut command, SOON);
    let shown = seconds_shown(&done.expect_success().stdout);
    let (minutes, rest) = shown[0].split_once(" min ").unwrap_or_else(|| panic!("{shown:?}"));
    assert!(minutes.parse::<u32>().is_ok_and(|n| n >= 1), "{shown:?}");
    assert!(seconds(rest, 6) < 60.0, "{shown:?}");
}

#[test]
fn a_client_built_like_mysql_8_shows_microseconds() {
    needs!("gcc");
    for flags in [["-O2", "-D_FORTIFY_SOURCE=2"], ["-O0", "-U_FORTIFY_SOURCE"]] {
        let program = victim::compile("mysql8_timer.c", &flags);
        let plain = victim::run(&program, &[], victim::Company::Inert).expect_success().stdout.clone();
        assert!(seconds(seconds_shown(&plain)[0], 2) >= 0.12, "{plain}");
        let done = timed(&[], &[&program.display().to_string()]);
        let shown = seconds(seconds_shown(&done.expect_success().stdout)[0], 6);
        assert!((0.123456..1.0).contains(&shown), "{shown}");
        let done = timed(&["--precision=9"], &[&program.display().to_string(), "3600"]);
        let shown = seconds_shown(&done.expect_success().stdout)[0].to_owned();
        let (minutes, rest) = shown.split_once(" min ").unwrap_or_else(|| panic!("{shown}"));
        assert_eq!(minutes, "60");
        assert!(seconds(rest, 9) >= 0.123456, "{shown}");
    }
}

#[test]
fn only_the_two_formats_are_widened_and_only_into_enough_room() {
    needs!("gcc");
    let program = victim::compile("formats.c", &["-O0", "-Wno-format-security", "-Wno-format-truncation"]);
    let alone = victim::run(&program, &[], victim::Company::Alone).expect_success().stdout.clone();
    assert_eq!(victim::run(&program, &[], victim::Company::Inert).stdout, alone);
    for digits in 3..=9 {
        let done = timed(&[&format!("--precision={digits}")], &[&program.display().to_string()]);
        let wide = format!("{:.*} sec", digits, 0.123456789876);
        let mut widened = 0;
        for (with, without) in done.expect_success().stdout.lines().zip(alone.lines()) {
            let enough = !with.contains(" of ");
            let exact = without.ends_with(" 0.12 sec") || without.ends_with(" 0.123 sec");
            // " %.2f sec" prints the same and one blank more.
            if enough && exact && !without.ends_with("  0.12 sec") {
                assert!(with.ends_with(&format!(" {} {wide}", wide.len())), "{with} for {without}");
                widened += 1;
            } else {
                assert_eq!(with, without);
            }
        }
        assert_eq!(widened, 16, "two formats through eight functions");
        assert_eq!(done.stdout.lines().count(), alone.lines().count());
    }
}

#[test]
fn programs_that_count_ticks_agree_with_the_kernels_account() {
    needs!("dash", "perl", "/usr/bin/python3");
    let python = "import os, resource\nsum(range(3000000))\nt, r = os.times(), resource.getrusage(0)\n\
        print(t.user, t.system, r.ru_utime, r.ru_stime)";
    let done = timed(&[], &["/usr/bin/python3", "-c", python]);
    let n = numbers(&done.expect_success().stdout);
    assert!((n[0] + n[1] - n[2] - n[3]).abs() < 0.001, "{n:?}");
    assert!(has_fine_grain(&n[..2]), "{n:?}");

    let perl = "use Time::HiRes qw(clock_gettime CLOCK_PROCESS_CPUTIME_ID); $x += $_ for 1..2000000; \
        system('perl', '-e', '$x += $_ for 1..2000000'); \
        my @t = times; print join(' ', @t, clock_gettime(CLOCK_PROCESS_CPUTIME_ID)), \"\\n\"";
    let n = numbers(&timed(&[], &["perl", "-e", perl]).expect_success().stdout);
    assert!((n[0] + n[1] - n[4]).abs() < 0.001, "{n:?}");
    assert!(has_fine_grain(&n[..2]) && has_fine_grain(&n[2..4]) && n[2] > 0.02, "{n:?}");

    // dash says "0m0.117974s 0m0.000000s", itself and its children; its parent asks the kernel.
    let judge = "import os, sys\npid = os.spawnvp(os.P_NOWAIT, sys.argv[1], sys.argv[1:])\n\
        r = os.wait4(pid, 0)[2]\nprint(r.ru_utime + r.ru_stime)";
    let mut command = Command::new("/usr/bin/python3");
    perquery::scrub(&mut command).args(["-c", judge]).arg(artifacts::perquery());
    let script = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; times";
    let done = run(command.args(["time", "--", "dash", "-c", script]), SOON);
    let n = numbers(&done.expect_success().stdout.replace("0m", "").replace('s', ""));
    let (shell, kernel) = (n[0] + n[1], n[4]);
    assert!(shell <= kernel && kernel - shell < 0.005, "what is left is the shell's own end: {n:?}");
    assert!(has_fine_grain(&n[..2]), "{n:?}");
}

fn numbers(text: &str) -> Vec<f64> {
    text.split_whitespace().map(|word| word.parse().unwrap_or_else(|e| panic!("{word}: {e}"))).collect()
}

/// Is one of them no multiple of 10 ms?
fn has_fine_grain(seconds: &[f64]) -> bool {
    seconds.iter().any(|s| !((s * 1e6).round() as u64).is_multiple_of(10_000))
}

const TICK: &str = "use POSIX; print POSIX::sysconf(POSIX::_SC_CLK_TCK()), \"\\n\"";

#[test]
fn the_program_keeps_its_clock_through_exec_and_its_children_have_their_own() {
    needs!("perl", "env");
    let tick = |words: &[&str]| timed(&[], words).expect_success().stdout.clone();
    assert_eq!(tick(&["perl", "-e", TICK]), "1000000\n");
    assert_eq!(tick(&["env", "A=B", "perl", "-e", TICK]), "1000000\n");
    let child = format!("perl -e '{TICK}'; exec perl -e '{TICK}'");
    assert_eq!(tick(&["sh", "-c", &child]), "100\n1000000\n");
}

#[test]
fn who_compares_ticks_with_proc_sees_the_kernels() {
    needs!("getconf");
    assert_eq!(timed(&[], &["getconf", "CLK_TCK"]).expect_success().stdout, "100\n");
    needs!("ps");
    let ask = ["ps", "-o", "cputimes=", "-p", "1"];
    let plain = || numbers(&scratch::output_of(Command::new(ask[0]).args(&ask[1..])))[0];
    let before = plain();
    let seen = numbers(&timed(&[], &ask).expect_success().stdout)[0];
    assert!((before..=plain()).contains(&seen), "{before} {seen}");
}

#[test]
fn a_server_keeps_its_clock() {
    needs!("dash");
    let directory = scratch::directory("time");
    let server = directory.path().join("mariadbd");
    std::fs::copy("/bin/dash", &server).expect("a shell to copy");
    let script = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; times";
    let done = timed(&[], &[&server.display().to_string(), "-c", script]);
    let n = numbers(&done.expect_success().stdout.replace("0m", "").replace('s', ""));
    assert!(!has_fine_grain(&n), "{n:?}");
}

#[test]
fn every_other_question_has_the_systems_answer() {
    needs!("gcc");
    let program = victim::compile("ticks.c", &[]);
    victim::compare(&program, &[]);
    let alone = victim::run(&program, &[], victim::Company::Alone).stdout;
    assert_eq!(timed(&[], &[&program.display().to_string()]).expect_success().stdout, alone);
}

#[test]
fn what_is_called_before_our_constructor_gets_all_its_arguments() {
    needs!("gcc");
    let early =
        victim::compile("early_print.c", &["-shared", "-fPIC", "-U_FORTIFY_SOURCE"]).display().to_string();
    let ours = artifacts::library().display().to_string();
    let run_with = |preload: &str| {
        let mut program = Command::new("/bin/true");
        run(perquery::scrub(&mut program).env("LD_PRELOAD", preload), SOON).expect_success().stdout.clone()
    };
    let alone = run_with(&early);
    assert!(alone.ends_with("four\n1 1\n"), "{alone}");
    for order in [format!("{early} {ours}"), format!("{ours} {early}")] {
        assert_eq!(run_with(&order), alone, "LD_PRELOAD={order}");
    }
}

#[test]
fn wrong_use_gets_one_line_and_status_2() {
    let wrong: [&[&str]; 6] = [
        &["time"],
        &["time", "--"],
        &["time", "--precision=2", "--", "true"],
        &["time", "--precision=10", "--", "true"],
        &["time", "--precision=x", "--", "true"],
        &["time", "--", "/nowhere/at/all"],
    ];
    for words in wrong {
        let done = perquery::perquery(words);
        assert_eq!((done.code(), done.stdout.as_str()), (2, ""), "{words:?}: {}", done.describe());
        assert_eq!(done.stderr.lines().count(), 1, "{words:?}: {}", done.describe());
    }
}
