//! Promises about the source tree and the library's symbols that no compiler keeps.

use harness::artifacts;
use harness::scratch::output_of;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// No file is longer; most should have half of it.
const LINES_MAX: usize = 600;
/// Victims show one behaviour each.
const VICTIM_LINES_MAX: usize = 40;

/// The files under version control (or about to be).
fn files() -> Vec<PathBuf> {
    let list = output_of(Command::new("git").current_dir(artifacts::root()).args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
    ]));
    list.lines().map(|line| artifacts::root().join(line)).filter(|path| path.is_file()).collect()
}

fn has_extension(path: &Path, wanted: &[&str]) -> bool {
    path.extension().and_then(|e| e.to_str()).is_some_and(|e| wanted.contains(&e))
}

fn lines_of(path: &Path) -> usize {
    std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

fn in_a_checkout() -> bool {
    let checkout = artifacts::root().join(".git").exists() && harness::has_program("git");
    if !checkout {
        harness::skip(module_path!(), "not a git checkout");
    }
    checkout
}

#[test]
fn no_source_file_is_longer_than_the_wall() {
    if !in_a_checkout() {
        return;
    }
    let too_long: Vec<String> = files()
        .iter()
        .filter(|path| has_extension(path, &["rs", "sh"]))
        .map(|path| (path, lines_of(path)))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(path, lines)| format!("{}: {lines} lines", path.display()))
        .collect();
    assert!(too_long.is_empty(), "split these by job: {too_long:#?}");
}

#[test]
fn victims_are_short() {
    let victims = artifacts::root().join("tests/victims");
    for entry in std::fs::read_dir(victims).expect("there are victims").flatten() {
        let path = entry.path();
        if has_extension(&path, &["c", "cpp"]) {
            assert!(lines_of(&path) <= VICTIM_LINES_MAX, "{} has {} lines", path.display(), lines_of(&path));
        }
    }
}

#[test]
fn every_rust_file_says_its_job_first() {
    if !in_a_checkout() {
        return;
    }
    let silent: Vec<PathBuf> = files()
        .into_iter()
        .filter(|path| has_extension(path, &["rs"]))
        .filter(|path| !std::fs::read_to_string(path).unwrap_or_default().trim_start().starts_with("//!"))
        .collect();
    assert!(silent.is_empty(), "no first sentence: {silent:#?}");
}

#[test]
fn unsafe_code_stays_where_it_is_fenced() {
    if !in_a_checkout() {
        return;
    }
    for path in files().into_iter().filter(|path| has_extension(path, &["rs"])) {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let name = path.strip_prefix(artifacts::root()).unwrap_or(&path).display().to_string();
        if text.contains(concat!("allow(", "unsafe_code)")) {
            assert!(text.contains("# Safety"), "{name} opts into unsafe without a `# Safety` section");
            assert!(!name.starts_with("cli/"), "{name}: the command has no unsafe code at all");
        }
    }
    let cli =
        std::fs::read_to_string(artifacts::root().join("cli/src/lib.rs")).expect("the command's library");
    assert!(cli.contains("forbid(unsafe_code)"), "cli/src/lib.rs forbids unsafe code");
}

#[test]
fn nothing_is_left_to_do_in_the_source() {
    if !in_a_checkout() {
        return;
    }
    // Split, or this file would find itself.
    let words =
        [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("FIX", "ME"), concat!("XX", "X")];
    for path in files().into_iter().filter(|path| has_extension(path, &["rs", "md", "toml", "sh", "c", "h"]))
    {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        for word in words {
            let found = text.lines().position(|line| line.contains(word) && !line.contains("XXXXXX"));
            assert!(found.is_none(), "{}:{}: {word}", path.display(), found.unwrap_or(0) + 1);
        }
    }
}

#[test]
fn no_binary_file_is_under_version_control() {
    if !in_a_checkout() {
        return;
    }
    for path in files() {
        let name = path.strip_prefix(artifacts::root()).unwrap_or(&path).display().to_string();
        // Samples of wire bytes, segments and recordings are evidence; they lie in folders that say so.
        if name.contains("/samples/") || name.contains("/fixtures/") || name.contains("/corpus/") {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        assert!(!bytes.contains(&0), "{name} is binary");
    }
}

/// The names that `nm -D` with these options lists for the library.
fn symbols(option: &str) -> BTreeSet<String> {
    let list = output_of(Command::new("nm").args(["-D", option]).arg(artifacts::library()));
    let name = |line: &str| {
        line.split_whitespace().last().map(|name| name.split('@').next().unwrap_or(name).to_owned())
    };
    list.lines().filter_map(name).collect()
}

/// The functions that the library's table of overrides lists: `name ORIGINAL` pairs, by module.
fn listed_overrides() -> BTreeSet<String> {
    let path = artifacts::root().join("preload/src/hooks/mod.rs");
    let source = std::fs::read_to_string(path).expect("the table of overrides");
    let (_, table) = source.split_once("\ntable! {").expect("the table");
    let (table, _) = table.split_once("\n}").expect("its end");
    let pairs = table.split([',', '{', '}']).map(str::split_whitespace).map(Iterator::collect::<Vec<_>>);
    pairs
        .filter(|words| words.len() == 2 && !words[0].ends_with("::"))
        .map(|words| words[0].to_owned())
        .collect()
}

#[test]
fn the_library_exports_what_its_table_lists_and_nothing_else() {
    harness::needs!("nm");
    assert_eq!(symbols("--defined-only"), listed_overrides());
}

#[test]
fn every_function_that_a_server_uses_for_its_clients_is_overridden() {
    let listed = listed_overrides();
    let functions = "recv recvfrom read __read_chk __recv_chk send sendto write recvmsg sendmsg readv writev poll ppoll \
        __poll_chk epoll_wait epoll_ctl accept accept4 connect close shutdown dup dup2 dup3 SSL_accept SSL_read \
        SSL_write SSL_read_ex SSL_write_ex SSL_free sqlite3_step sqlite3_reset sqlite3_finalize sqlite3_close \
        sqlite3_close_v2 sqlite3_prepare sqlite3_prepare_v2 sqlite3_prepare_v3";
    let missing: Vec<&str> = functions.split_whitespace().filter(|name| !listed.contains(*name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_library_asks_for_nothing_that_a_program_may_lack() {
    harness::needs!("nm");
    let wanted = symbols("--undefined-only");
    let foreign: Vec<&String> =
        wanted.iter().filter(|name| name.starts_with("SSL_") || name.starts_with("sqlite3_")).collect();
    assert!(foreign.is_empty(), "a program without libssl or libsqlite3 could not start: {foreign:?}");
    // Threads and timers of ours in somebody else's process would be a broken promise.
    for never in ["pthread_create", "timer_create", "setitimer", "sigaction", "signal", "fork", "dlclose"] {
        assert!(!wanted.contains(never), "the library calls {never}");
    }
    let needed = output_of(Command::new("readelf").arg("-d").arg(artifacts::library()));
    for line in needed.lines().filter(|line| line.contains("(NEEDED)")) {
        let known = ["libc.so.6", "libgcc_s.so.1", "ld-linux", "libdl.so", "libm.so"];
        assert!(known.iter().any(|library| line.contains(library)), "an unexpected dependency: {line}");
    }
}

#[test]
fn the_librarys_thread_local_storage_keeps_its_distance_from_the_thread_pointer() {
    harness::needs!("readelf");
    let dynamic = output_of(Command::new("readelf").arg("-d").arg(artifacts::library()));
    // A thread's state is found by that distance, which only a library so marked has.
    assert!(dynamic.lines().any(|line| line.contains("STATIC_TLS")), "{dynamic}");
}

#[test]
fn every_section_of_hot_code_has_its_place_in_the_layout() {
    if !in_a_checkout() {
        return;
    }
    let sections = |text: &str| -> BTreeSet<String> {
        let names = text.split('"').filter(|word| word.starts_with(".text.hot.perquery"));
        names.map(str::to_owned).collect()
    };
    let layout = artifacts::root().join("preload/src/layout.rs");
    let declared = sections(&std::fs::read_to_string(&layout).expect("the layout"));
    let sources = files().into_iter().filter(|path| {
        has_extension(path, &["rs"]) && *path != layout && !path.starts_with(artifacts::root().join("tests"))
    });
    let used =
        sources.flat_map(|path| sections(&std::fs::read_to_string(path).unwrap_or_default())).collect();
    assert_eq!(declared, used, "declared, and used");
    // Its functions lie where it says: those of the first section before those of the last.
    harness::needs!("nm");
    let symbols = output_of(Command::new("nm").args(["-n", "--defined-only"]).arg(artifacts::library()));
    let of = |name: &str| symbols.lines().position(|line| line.ends_with(name)).expect("exported");
    assert!(of(" T recv") < of(" T read") && of(" T send") < of(" T write"), "{symbols}");
}

#[test]
fn the_library_loads_into_a_program_with_every_symbol_bound_at_once() {
    let mut program = Command::new("/bin/true");
    harness::perquery::scrub(&mut program).env("LD_PRELOAD", artifacts::library()).env("LD_BIND_NOW", "1");
    let done = harness::process::run(&mut program, harness::wait::SOON);
    assert_eq!((done.code(), done.stderr.as_str()), (0, ""), "{}", done.describe());
}
