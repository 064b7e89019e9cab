//! `perquery run`.

use super::{format, options};
use crate::aggregate::{Aggregator, Limits};
use crate::args::Run;
use crate::collect::{Outputs, Target, Watch, collect, print_in_flight};
use crate::error::{Error, Result};
use crate::launch::{Launched, launch};
use crate::library;
use crate::recording::{ServerInfo, create_file};
use crate::report::Report;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

/// Until the program ends; signals are its business.
struct Program(Launched);

impl Watch for Program {
    fn is_over(&mut self) -> bool {
        self.0.has_ended()
    }

    fn has_ended(&mut self) -> bool {
        self.0.has_ended()
    }
}

/// Runs a program with capture on and reports when it ends.
pub fn run(args: &Run) -> Result<ExitCode> {
    let library = library::find()?;
    let create = |path: &std::path::Path| {
        create_file(path)
            .map_err(|e| Error::new(format!("{} can't be written: {e}; name another file", path.display())))
    };
    let recording = match &args.output {
        Some(path) => Some((path.clone(), create(path)?)),
        None => None,
    };
    let report_to = args.report.as_deref().map(create).transpose()?;
    // A wrong key is better told before the program has run for hours.
    let mut check =
        Report::new(Aggregator::new(&[], Limits::default()), Default::default(), &Default::default())
            .map_err(|e| Error::new(e.to_string()))?;
    check.servers.clear();
    let selection = args.count.selection();
    let (launched, mapping) = launch(&args.command, &library, &selection.wanted)?;
    let server = ServerInfo { pid: launched.pid(), ..ServerInfo::default() };
    let outputs = Outputs { recording, aggregator: Some(Aggregator::new(&args.show.by, Limits::default())) };
    let mut program = Program(launched);
    let done = collect(Target { mapping, server, is_on: true }, &selection, outputs, &mut program);
    let done = match done {
        Ok(done) => done,
        Err(e) => {
            // The program goes on without us; its status is still ours.
            eprintln!("perquery: {e}");
            return Ok(program.0.exit());
        }
    };
    let mut failed = done.failed;
    if let Some(aggregator) = done.aggregator {
        let in_flight = done.about.in_flight.clone();
        let report = Report::new(aggregator, done.about, &options(&args.show));
        let result = report.map_err(|e| Error::new(e.to_string())).and_then(|report| {
            let written = match report_to {
                Some(file) => {
                    crate::report::write(&report, format(&args.show, false), io::BufWriter::new(file))
                }
                None => {
                    let mut err = io::stderr().lock();
                    let terminal = io::stderr().is_terminal();
                    let _ = print_in_flight(&mut err, &in_flight);
                    crate::report::write(&report, format(&args.show, terminal), io::BufWriter::new(&mut err))
                        .and_then(|()| err.flush())
                }
            };
            written.map_err(|e| Error::new(format!("the report can't be written: {e}")))
        });
        failed = failed.or(result.err());
    }
    if let Some(e) = failed {
        // The program's own status counts more than ours: scripts depend on it.
        eprintln!("perquery: {e}");
    }
    Ok(program.0.exit())
}
