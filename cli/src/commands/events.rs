//! `perquery events`.

use super::broken_pipe;
use crate::args::{Events, FormatName};
use crate::error::{Error, Result};
use std::io;
use std::process::ExitCode;

/// Lists every counter.
pub fn events(args: &Events) -> Result<ExitCode> {
    let mut out = io::stdout().lock();
    match args.format {
        FormatName::Text => crate::events::render_text(&mut out),
        FormatName::Json => crate::events::render_json(&mut out),
        FormatName::Csv => {
            return Err(Error::new("events are printed as text or json; leave --format csv out"));
        }
    }
    .or_else(broken_pipe)?;
    Ok(ExitCode::SUCCESS)
}
