//! `perquery stat`.

use super::{WIDTH_WITHOUT_TERMINAL, WIDTHS, broken_pipe};
use crate::error::Result;
use crate::stat::args::{Stat, StatFormat};
use crate::stat::{json, stat as measure, text};
use std::io::{self, IsTerminal};
use std::process::ExitCode;

/// A condition that does not hold.
const CONDITION_FAILED: u8 = 1;

/// Measures statements and says what they cost.
pub fn stat(args: &Stat) -> Result<ExitCode> {
    let outcome = measure(args)?;
    let out = io::stdout();
    let columns = if out.is_terminal() {
        rustix::termios::tcgetwinsize(&out).map_or(0, |size| usize::from(size.ws_col))
    } else {
        0
    };
    let width = if columns == 0 { WIDTH_WITHOUT_TERMINAL } else { columns };
    let width = width.clamp(*WIDTHS.start(), *WIDTHS.end());
    let to = io::BufWriter::new(out.lock());
    let written = match args.format {
        StatFormat::Text => text::write(&outcome, width, to),
        StatFormat::Json => json::write(&outcome, to),
    };
    written.or_else(broken_pipe)?;
    let failed = outcome.assertions.iter().filter(|judged| !judged.holds).map(|judged| judged.told());
    let failed: Vec<String> = failed.chain(outcome.wrong_rows.iter().cloned()).collect();
    failed.iter().for_each(|told| eprintln!("perquery: {told}"));
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(CONDITION_FAILED) })
}
