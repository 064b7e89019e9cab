//! What the whole-product tests share: the built artifacts, real servers, victims, and the command under test.
//!
//! Rules: nothing waits a fixed time (see [`wait`]), everything started is ended on drop (see [`process`]), ports and
//! directories are each test's own, and a test that can't run here says so on a line of its own (see [`skip`]).

pub mod artifacts;
pub mod certificates;
pub mod cpus;
pub mod mariadb;
pub mod numbers;
pub mod orders;
pub mod perquery;
pub mod postgres;
pub mod proc;
pub mod process;
pub mod report;
pub mod scratch;
pub mod sqlite;
pub mod victim;
pub mod wait;
pub mod wire;

/// Says why a test does not run here. cargo shows it with `--nocapture`; `tests/run.sh` collects the lines.
pub fn skip(test: &str, reason: &str) {
    use std::io::Write;
    // Around the test runner's capture: a skip must be seen.
    let line = format!("skipped: {test}: {reason}\n");
    let _ = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(artifacts::target_dir().join("tests-skipped.txt"))
        .and_then(|mut file| file.write_all(line.as_bytes()));
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Is this program on the PATH (or at this absolute path)?
pub fn has_program(name: &str) -> bool {
    if name.contains('/') {
        return std::path::Path::new(name).exists();
    }
    if name == "gcc" && victim::made_elsewhere().is_some() {
        return true;
    }
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).exists()))
}

/// Ends the test with a visible line when a program is missing.
#[macro_export]
macro_rules! needs {
    ($($program:expr),+ $(,)?) => {
        $(if !$crate::has_program($program) {
            $crate::skip(module_path!(), &format!("{} is not installed", $program));
            return;
        })+
    };
}
