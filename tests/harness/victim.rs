//! Victims: small C and C++ programs of one behaviour each, compiled once and run with and without the library.

use crate::artifacts;
use crate::perquery;
use crate::process::{Ended, Process};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// In which company a victim runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Company {
    /// Without the library.
    Alone,
    /// With the library, in a process that is not on the list: it must stay inert.
    Inert,
    /// With the library, named by PERQUERY_EXE: awake, capture off.
    Awake,
    /// Under `perquery run`: awake, capture on.
    Recorded,
}

/// All companies but the first, which the others are compared with.
pub const COMPANIES: [Company; 3] = [Company::Inert, Company::Awake, Company::Recorded];

fn source(name: &str) -> PathBuf {
    artifacts::root().join("tests/victims").join(name)
}

/// Compiles `tests/victims/NAME` and answers the program (or shared library, with `-shared` among the flags).
#[track_caller]
pub fn compile(name: &str, flags: &[&str]) -> PathBuf {
    if let Some(made) = made_elsewhere() {
        return take_over(&made, name, flags);
    }
    let directory = artifacts::target_dir().join("victims");
    std::fs::create_dir_all(&directory).expect("the target directory is writable");
    let stem = name.split('.').next().unwrap_or(name);
    let program = directory.join(file_name(name, flags));
    let compiler = if name.ends_with(".cpp") { "g++" } else { "gcc" };
    // Under a name of our own and renamed, because tests run at the same time.
    let staging = tempfile::Builder::new().prefix(stem).tempdir_in(&directory).expect("own directory");
    let made = staging.path().join(stem);
    let mut command = Command::new(compiler);
    command
        .args(["-O1", "-g", "-Wall", "-Werror", "-D_GNU_SOURCE", "-pthread", "-o"])
        .arg(&made)
        .arg(source(name));
    crate::scratch::output_of(command.args(flags));
    std::fs::rename(&made, &program).expect("same directory");
    program
}

/// The same under a server's own name, which says whose calls it makes; in this directory.
#[track_caller]
pub fn in_disguise(source: &str, directory: &Path, server: &str) -> PathBuf {
    let program = directory.join(server);
    std::fs::copy(compile(source, &[]), &program).expect("a directory of one's own");
    program
}

/// What the program is called.
fn file_name(name: &str, flags: &[&str]) -> String {
    let stem = name.split('.').next().unwrap_or(name);
    if flags.contains(&"-shared") { format!("lib{stem}.so") } else { stem.to_owned() }
}

/// Where victims lie that another machine has compiled for this one, which has no compiler: PERQUERY_TEST_VICTIMS. Each is
/// called by the words that made it, as in `formats.c -O0`.
pub(crate) fn made_elsewhere() -> Option<PathBuf> {
    std::env::var_os("PERQUERY_TEST_VICTIMS").map(PathBuf::from)
}

/// Gives such a victim the name that it has where it is compiled.
#[track_caller]
fn take_over(made: &Path, name: &str, flags: &[&str]) -> PathBuf {
    let words: Vec<&str> = std::iter::once(name).chain(flags.iter().copied()).collect();
    let from = made.join(words.join(" "));
    let to = std::env::temp_dir().join(file_name(name, flags));
    let _ = std::fs::remove_file(&to);
    std::fs::copy(&from, &to).unwrap_or_else(|e| panic!("{} was not made beforehand: {e}", from.display()));
    to
}

/// A command that runs a victim in this company; `recording` is written only under `perquery run`.
pub fn command(program: &Path, company: Company, recording: &Path) -> Command {
    let mut command = match company {
        Company::Recorded => {
            let mut run = perquery::run_command(recording);
            run.arg(program);
            run
        }
        _ => Command::new(program),
    };
    perquery::scrub(&mut command).env("ASAN_OPTIONS", "");
    if matches!(company, Company::Inert | Company::Awake) {
        command.env("LD_PRELOAD", artifacts::library());
    }
    if company == Company::Awake {
        command.env("PERQUERY_EXE", program.file_name().expect("a program has a name"));
    }
    command
}

/// Runs it to its end within a minute.
#[track_caller]
pub fn run(program: &Path, arguments: &[&str], company: Company) -> Ended {
    let recordings = crate::scratch::directory("victim");
    let mut command = command(program, company, &recordings.path().join("victim.pq"));
    Process::start(command.args(arguments)).wait(Duration::from_secs(60))
}

/// Runs a victim alone and in all companies: it must print the same, end the same way, and its last line must be its
/// success marker.
#[track_caller]
pub fn compare(program: &Path, arguments: &[&str]) {
    let alone = run(program, arguments, Company::Alone);
    assert_eq!(
        alone.stdout.lines().last(),
        Some("victim ends well"),
        "the victim itself is broken: {}",
        alone.describe()
    );
    for company in COMPANIES {
        let other = run(program, arguments, company);
        assert_eq!(other.stdout, alone.stdout, "standard output of {company:?}; {}", other.describe());
        if company == Company::Recorded {
            // The report follows what the program said.
            assert!(other.stderr.starts_with(&alone.stderr), "{company:?} {}", other.describe());
        } else {
            assert_eq!(other.stderr, alone.stderr, "standard error of {company:?}");
        }
        assert_eq!(other.code(), alone.code(), "exit status of {company:?}; {}", other.describe());
    }
}
