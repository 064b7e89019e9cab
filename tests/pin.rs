//! `perquery pin`: memory checkers name the frames of plugins that were unloaded, and nothing else changes.

use harness::process::{Ended, Process, run};
use harness::scratch::output_of;
use harness::wait::{SOON, wait_until};
use harness::{artifacts, needs, perquery, scratch, victim};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// What the plugin of examples/leaky-plugin loses.
const LOST: &str = "definitely lost: 3,000 bytes in 3 blocks";
const NAMED: &str = "leaky_plugin_remember (leaky_plugin.c:";
const UNNAMED: &str = ": ???";

/// The example, built: `host`, `host_lsan`, `host_asan`, `leaky_plugin.so`.
fn example() -> TempDir {
    let built = scratch::directory("leaky");
    let source = artifacts::root().join("examples/leaky-plugin");
    let gcc = |flags: &[&str], file: &str, to: &str| {
        let mut gcc = Command::new("gcc");
        gcc.args(["-g", "-O1", "-Wall", "-Werror"]).args(flags).arg("-o").arg(built.path().join(to));
        output_of(gcc.arg(source.join(file)));
    };
    gcc(&["-shared", "-fPIC"], "leaky_plugin.c", "leaky_plugin.so");
    gcc(&[], "host.c", "host");
    gcc(&["-fsanitize=leak"], "host.c", "host_lsan");
    gcc(&["-fsanitize=address"], "host.c", "host_asan");
    built
}

/// A command in this directory; with `perquery pin` and these options in front where there are any.
fn pinned(directory: &Path, pin: Option<&[&str]>, words: &[&str]) -> Command {
    let mut command = match pin {
        None => Command::new(words[0]),
        Some(options) => {
            let mut command = perquery::command(["pin"]);
            command.args(options).arg("--").arg(words[0]);
            command
        }
    };
    perquery::scrub(&mut command).args(&words[1..]).current_dir(directory);
    command
}

/// What memcheck says of the host with the plugin.
#[track_caller]
fn memcheck(directory: &Path, pin: Option<&[&str]>, options: &[&str]) -> String {
    let mut words = vec!["valgrind", "--leak-check=full"];
    words.extend_from_slice(options);
    words.extend_from_slice(&["./host", "./leaky_plugin.so"]);
    let done = run(&mut pinned(directory, pin, &words), SOON);
    assert_eq!(done.expect_success().stdout, "host ends well\n");
    done.stderr
}

const WAYS: [&[&str]; 4] =
    [&[], &["--keep=nodelete"], &["--keep=skip"], &["--keep=preload=./leaky_plugin.so"]];

#[test]
fn memcheck_names_the_unloaded_plugins_function_and_file() {
    needs!("valgrind", "gcc");
    let example = example();
    let without = memcheck(example.path(), None, &[]);
    assert!(without.contains(LOST) && without.contains(UNNAMED) && !without.contains(NAMED), "{without}");
    for way in WAYS {
        let with = memcheck(example.path(), Some(way), &[]);
        assert!(with.contains(NAMED) && !with.contains(UNNAMED), "{way:?}: {with}");
        assert!(with.contains(LOST), "the plugin's own loss and no more; {way:?}: {with}");
        assert!(with.contains("possibly lost: 0 bytes in 0 blocks"), "{way:?}: {with}");
        assert!(
            with.contains("ERROR SUMMARY: 3 errors from 3 contexts"),
            "the three losses; {way:?}: {with}"
        );
    }
}

#[test]
fn only_the_objects_that_fit_the_pattern_stay() {
    needs!("valgrind", "gcc");
    let example = example();
    let full = format!("{}/l*.so", example.path().display());
    for (pattern, named) in
        [("leaky*.so", true), ("*/leaky_plugin.so", true), ("ha_*.so", false), (&full, false)]
    {
        let said = memcheck(example.path(), Some(&["--only", pattern]), &[]);
        assert_eq!(said.contains(NAMED), named, "{pattern}: {said}");
    }
}

#[test]
fn the_printed_suppressions_cover_what_staying_objects_keep() {
    needs!("valgrind", "gcc");
    let example = example();
    let printed = perquery::perquery(["pin", "--valgrind-suppressions"]);
    std::fs::write(example.path().join("pin.supp"), &printed.expect_success().stdout).expect("own directory");
    for way in WAYS {
        let said = memcheck(example.path(), Some(way), &["--show-leak-kinds=all", "--suppressions=pin.supp"]);
        assert!(
            said.contains(LOST) && said.contains("still reachable: 0 bytes in 0 blocks"),
            "{way:?}: {said}"
        );
    }
}

#[test]
fn keep_debuginfo_helps_memcheck_but_not_massif() {
    needs!("valgrind", "ms_print", "gcc");
    let example = example();
    let said = memcheck(example.path(), None, &["--keep-debuginfo=yes"]);
    assert!(said.contains(NAMED) && said.contains(LOST), "{said}");
    let massif = |pin: Option<&[&str]>| {
        let words = ["valgrind", "--tool=massif", "--keep-debuginfo=yes", "--massif-out-file=out", "./host"];
        let words = [&words[..], &["./leaky_plugin.so"]].concat();
        run(&mut pinned(example.path(), pin, &words), SOON).expect_success();
        output_of(Command::new("ms_print").arg(example.path().join("out")))
    };
    let (without, with) = (massif(None), massif(Some(&[])));
    assert!(without.contains(UNNAMED) && !without.contains(NAMED), "{without}");
    assert!(with.contains(NAMED) && !with.contains(UNNAMED), "{with}");
}

#[test]
fn leak_sanitizer_names_the_unloaded_plugins_function_and_file() {
    needs!("gcc");
    let example = example();
    let leaks = |host: &str, pin: Option<&[&str]>| {
        run(&mut pinned(example.path(), pin, &[host, "./leaky_plugin.so"]), SOON)
    };
    for host in ["./host_lsan", "./host_asan"] {
        let without = leaks(host, None);
        if without.stderr.contains("LeakSanitizer has encountered a fatal error") {
            harness::skip(module_path!(), "LeakSanitizer may not trace here");
            return;
        }
        assert!(without.stderr.contains("<unknown module>"), "{}", without.describe());
        let lost = "3000 byte(s) leaked in 3 allocation(s)";
        assert!(without.stderr.contains(lost), "{}", without.describe());
        for way in WAYS {
            let with = leaks(host, Some(way));
            assert_eq!((with.code(), &with.stdout), (without.code(), &without.stdout), "{}", with.describe());
            assert!(with.stderr.contains(lost), "{way:?}: {}", with.describe());
            assert!(with.stderr.contains("in leaky_plugin_remember"), "{way:?}: {}", with.describe());
            assert!(!with.stderr.contains("<unknown module>"), "{way:?}: {}", with.describe());
        }
    }
}

#[test]
fn closing_means_what_it_means_without_us() {
    needs!("gcc");
    let program = victim::compile("unload.c", &[]).display().to_string();
    let library = victim::compile("unload_library.c", &["-shared", "-fPIC", "-Wno-unused-result"]);
    let library = library.display().to_string();
    let with = |pin: Option<&[&str]>| -> Ended {
        let done = run(&mut pinned(Path::new("/"), pin, &[&program, &library]), SOON);
        assert!(done.expect_success().stdout.ends_with("victim ends well\n"), "{}", done.describe());
        done
    };
    let alone = with(None);
    // A hundred more times loaded and unloaded.
    assert_eq!(alone.stderr, "+-".repeat(101));
    for way in [&[][..], &["--keep=skip"]] {
        let kept = with(Some(way));
        assert_eq!(kept.stdout, alone.stdout, "{way:?}");
        assert_eq!(kept.stderr, "+-", "initialised once, finalised once, at the program's end; {way:?}");
    }
    // What is not to be kept is as it was, destructor that closes included.
    assert_eq!(with(Some(&["--only=nothing-fits"])).stderr, alone.stderr);
}

#[test]
fn a_plugin_that_can_not_be_preloaded_is_refused_with_the_reason() {
    needs!("gcc");
    let example = example();
    let needy = victim::compile("undefined.c", &["-shared", "-fPIC"]).display().to_string();
    let refused = |keep: &str| {
        let mut command = pinned(example.path(), Some(&[keep]), &["./host", "./leaky_plugin.so"]);
        let done = run(&mut command, SOON);
        assert_eq!((done.code(), done.stdout.as_str()), (2, ""), "{}", done.describe());
        assert_eq!(done.stderr.lines().count(), 1, "{}", done.describe());
        done.stderr
    };
    let why = refused(&format!("--keep=preload={needy}"));
    assert!(why.contains("function_of_the_host") && why.contains("use --keep=nodelete"), "{why}");
    let why = refused("--keep=preload=./nowhere.so");
    assert!(why.contains("nowhere.so can't be preloaded"), "{why}");
    std::fs::write(example.path().join("text.so"), "no library\n").expect("own directory");
    let why = refused("--keep=preload=./text.so");
    assert!(why.contains("use --keep=nodelete"), "{why}");
}

/// A mariadbd under memcheck that installs and uninstalls the plugin; memcheck's report.
fn server_under_memcheck(plugins: &Path, pin: Option<&[&str]>) -> String {
    let home = scratch::directory("memcheck");
    let path = |name: &str| -> PathBuf { home.path().join(name) };
    let user = if scratch::is_root() { vec!["--user=root"] } else { vec![] };
    let data = format!("--datadir={}", path("data").display());
    let mut install = Command::new("mariadb-install-db");
    install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", &data]);
    output_of(perquery::scrub(install.args(&user)).env("TMPDIR", home.path()));
    let (log, socket) =
        (format!("--log-file={}", path("log").display()), path("socket").display().to_string());
    let (plugin_dir, socket_option) =
        (format!("--plugin-dir={}", plugins.display()), format!("--socket={socket}"));
    let mut words =
        vec!["valgrind", "--leak-check=full", &log, "mariadbd", "--no-defaults", &data, &socket_option];
    words.extend([&plugin_dir, "--skip-networking", "--skip-log-bin", "--performance-schema=OFF"]);
    // valgrind 3.19 never ends io_uring's waits, and has no room for InnoDB's usual reservation of addresses.
    words.extend([
        "--innodb-use-native-aio=0",
        "--innodb-buffer-pool-size-max=16M",
        "--innodb-buffer-pool-size=8M",
    ]);
    words.extend(user);
    let mut server = Process::start(pinned(home.path(), pin, &words).env("TMPDIR", home.path()));
    let sql = "INSTALL SONAME 'leaky_plugin'; UNINSTALL SONAME 'leaky_plugin'; SHUTDOWN";
    wait_until("mariadbd under valgrind", Duration::from_secs(120), || {
        assert!(server.is_running(), "{}", server.stderr());
        let mut client = Command::new("mariadb");
        client.args(["--no-defaults", "-uroot", &socket_option, "-e", sql]);
        client.output().is_ok_and(|done| done.status.success())
    });
    server.wait(Duration::from_secs(120)).expect_success();
    std::fs::read_to_string(path("log")).expect("valgrind wrote it")
}

#[test]
fn a_plugin_of_a_real_server_is_named_and_the_library_shows_nothing_of_its_own() {
    needs!("valgrind", "gcc", "mariadbd", "mariadb-install-db", "mariadb");
    let example = example();
    let without = server_under_memcheck(example.path(), None);
    assert!(without.contains(LOST) && without.contains(UNNAMED) && !without.contains(NAMED), "{without}");
    let with = server_under_memcheck(example.path(), Some(&[]));
    assert!(with.contains(NAMED), "{with}");
    assert!(with.contains(LOST), "the plugin's own loss and no more: {with}");
    assert!(!with.contains("libperquery.so"), "{with}");
    let errors = |log: &str| log.rsplit_once("ERROR SUMMARY: ").map(|(_, text)| text.to_owned());
    assert_eq!(errors(&with), errors(&without));
}

#[test]
fn wrong_use_gets_one_line_and_status_2() {
    let long = "*".repeat(2000);
    let wrong: [&[&str]; 7] = [
        &["pin"],
        &["pin", "--keep=delete", "--", "true"],
        &["pin", "--keep=preload=", "--", "true"],
        &["pin", "--only=", "--", "true"],
        &["pin", "--only", &long, "--", "true"],
        &["pin", "--keep=preload=/bin/true", "--only=x", "--", "true"],
        &["pin", "--", "/nowhere/at/all"],
    ];
    for words in wrong {
        let done = perquery::perquery(words);
        assert_eq!((done.code(), done.stdout.as_str()), (2, ""), "{words:?}: {}", done.describe());
        assert_eq!(done.stderr.lines().count(), 1, "{words:?}: {}", done.describe());
    }
}
