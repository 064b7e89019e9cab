//! `perquery report`.

use super::{options, print};
use crate::aggregate::{Aggregator, Limits};
use crate::args;
use crate::error::{Context, Error, Result};
use crate::recording::load;
use crate::report::Report;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::process::ExitCode;

/// Reports on a recording.
pub fn report(args: &args::Report) -> Result<ExitCode> {
    let name = args.input.display();
    let from: Box<dyn Read> = if args.input.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        let file = File::open(&args.input).map_err(|e| {
            Error::new(format!("{name} can't be read: {e}; name a recording of 'perquery record' with -i"))
        })?;
        if file.metadata().is_ok_and(|about| about.is_dir()) {
            return Err(Error::new(format!(
                "{name} is a folder; name a recording of 'perquery record' with -i"
            )));
        }
        Box::new(BufReader::with_capacity(1 << 18, file))
    };
    let mut aggregator = Aggregator::new(&args.show.by, Limits::default());
    let about = load(from, &mut aggregator).context(|| name.to_string())?;
    let report =
        Report::new(aggregator, about, &options(&args.show)).map_err(|e| Error::new(e.to_string()))?;
    print(&report, &args.show)?;
    Ok(ExitCode::SUCCESS)
}
