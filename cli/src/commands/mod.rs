//! The verbs: glue between the command line, the collector and the reports.

pub mod doctor;
pub mod events;
pub mod list;
pub mod pin;
pub mod record;
pub mod report;
pub mod run;
pub mod shell;
pub mod stat;
pub mod time;

use crate::args::{FormatName, Show};
use crate::error::{Error, Result};
use crate::report::{Format, Options, Report, SortKey, TOP_OF_TEXT};
use clap::error::ErrorKind;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

/// Lines of a report are at least and at most so wide.
const WIDTHS: std::ops::RangeInclusive<usize> = 60..=240;
const WIDTH_WITHOUT_TERMINAL: usize = 110;

/// Says what is wrong with the command line, in one line; help and version are no error.
pub fn usage(e: &clap::Error) -> ExitCode {
    if matches!(
        e.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    ) {
        let help = e.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
        let _ = e.print();
        return if help { ExitCode::SUCCESS } else { ExitCode::from(2) };
    }
    let text = e.render().to_string();
    // clap's own tips stand in paragraphs of their own; one line has to do.
    let useful: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("Usage:"))
        .map(|line| line.trim_start_matches("error: "))
        .collect();
    eprintln!("perquery: {}", useful.join("; ").replace(".;", ";").trim_end_matches('.'));
    ExitCode::from(2)
}

/// The report's format for an output that is, or is not, a terminal.
fn format(show: &Show, to_terminal: bool) -> Format {
    match show.format {
        FormatName::Json => Format::Json,
        FormatName::Csv => Format::Csv,
        FormatName::Text => {
            let columns = if to_terminal {
                rustix::termios::tcgetwinsize(io::stderr()).map_or(0, |size| usize::from(size.ws_col))
            } else {
                0
            };
            let width = if columns == 0 { WIDTH_WITHOUT_TERMINAL } else { columns };
            Format::Text { width: width.clamp(*WIDTHS.start(), *WIDTHS.end()) }
        }
    }
}

/// The report's order and length.
fn options(show: &Show) -> Options {
    let top = show.top.or((show.format == FormatName::Text).then_some(TOP_OF_TEXT));
    Options { sort: SortKey::from_name(&show.sort), top }
}

/// Prints to standard output.
fn print(report: &Report, show: &Show) -> Result<()> {
    let out = io::stdout();
    let terminal = out.is_terminal();
    let out = io::BufWriter::new(out.lock());
    crate::report::write(report, format(show, terminal), out).or_else(broken_pipe)
}

/// A reader that has seen enough is no error.
fn broken_pipe(e: io::Error) -> Result<()> {
    if e.kind() == io::ErrorKind::BrokenPipe {
        Ok(())
    } else {
        Err(Error::new(format!("the output can't be written: {e}")))
    }
}

/// Writes `text` to standard output.
fn say(text: &str) -> Result<ExitCode> {
    io::stdout().write_all(text.as_bytes()).or_else(broken_pipe)?;
    Ok(ExitCode::SUCCESS)
}
