//! Running a check and telling its result, to people and to machines.

use serde_json::json;
use std::panic::{UnwindSafe, catch_unwind};
use std::time::Instant;

/// A check: what has to hold, and a function that panics where it does not and else says what was measured.
pub struct Check {
    /// A sentence.
    pub name: &'static str,
    /// What it does.
    pub run: fn() -> String,
}

/// A line for people.
pub fn say(line: &str) {
    println!("| {line}");
}

/// A line for machines.
pub fn tell(object: &serde_json::Value) {
    println!("@ {object}");
}

/// Runs them in turn; the last line for machines is the sum.
pub fn run_all(checks: &[&Check]) {
    let (mut passed, mut failed) = (0, 0);
    for check in checks {
        let begin = Instant::now();
        let (holds, told) = caught(check.run);
        let ms = begin.elapsed().as_millis();
        *(if holds { &mut passed } else { &mut failed }) += 1;
        let verdict = if holds { "ok    " } else { "FAILED" };
        for (n, line) in told.lines().enumerate() {
            say(&if n == 0 {
                format!("{verdict}  {}: {line}", check.name)
            } else {
                format!("        {line}")
            });
        }
        tell(&json!({"check": check.name, "holds": holds, "told": told, "guest_ms": ms as u64}));
    }
    println!("@ {{\"passed\":{passed},\"failed\":{failed}}}");
}

/// By how many percent of the second the two differ.
pub fn percent_apart(one: f64, other: f64) -> f64 {
    (one - other).abs() / other * 100.0
}

/// The answer, or what the panic said. Its place is on the console.
fn caught(run: impl FnOnce() -> String + UnwindSafe) -> (bool, String) {
    match catch_unwind(run) {
        Ok(told) => (true, told),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            (false, text.unwrap_or_else(|| "it panicked; see the console".to_owned()))
        }
    }
}
