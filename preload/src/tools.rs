//! The two tools for a person at a prompt: `perquery time` and `perquery pin`. Off unless this very process was started
//! for them.
//!
//! Switched on, they may do what no other hook may: dlclose(3) takes the loader's lock once more often than it does
//! anyway. Switched off, their hooks are one load and one jump (`hooks/tail.rs`).

use crate::hooks::{clock, print, unload};
use crate::imports;
use perquery_agent::session::{Kind, Start};
use perquery_agent::sys::process;

/// Switches on what the environment asks for; in every process, finds the originals of the overrides that are jumps.
///
/// - `PERQUERY_TIME=PID:DIGITS`, set by `perquery time`: in process PID, whatever it executes, and in no child of it.
/// - `PERQUERY_PIN=nodelete|skip`, with `PERQUERY_PIN_ONLY=GLOB`, set by `perquery pin`: here and in all children, so
///   that shells and launchers may stand between.
pub fn start(decision: Start, variable: impl Fn(&core::ffi::CStr) -> Option<&'static [u8]>) {
    print::find_originals();
    clock::find_originals();
    unload::find_originals();
    if let Some(digits) = variable(c"PERQUERY_TIME").and_then(wanted_here)
        && !is_server(decision)
    {
        print::widen(digits);
        // Who asks for the length of a tick without ever asking for ticks compares it with /proc: ps, top.
        if imports::somebody_imports(c"times") {
            clock::count_microseconds();
        }
    }
    let keep = match variable(c"PERQUERY_PIN") {
        Some(b"nodelete") => unload::Keep::NoDelete,
        Some(b"skip") => unload::Keep::Skip,
        _ => return,
    };
    unload::pin(keep, variable(c"PERQUERY_PIN_ONLY").unwrap_or(b""));
}

/// The digits of `PID:DIGITS`, if we are that process.
fn wanted_here(value: &[u8]) -> Option<usize> {
    let (pid, digits) = core::str::from_utf8(value).ok()?.split_once(':')?;
    if pid.parse() != Ok(process::pid()) {
        return None;
    }
    digits.parse().ok()
}

/// A server on the list keeps its clocks, whoever starts it.
fn is_server(decision: Start) -> bool {
    match decision {
        Start::Inert => false,
        Start::Server(kind) | Start::Run { kind, .. } => kind != Kind::Any,
    }
}
