//! `perquery`: parse, do, and say in one line what went wrong.
#![forbid(unsafe_code)]

use clap::Parser;
use perquery_cli::args::{Cli, Verb};
use perquery_cli::commands;
use std::process::ExitCode;

/// Wrong use, or something that failed.
const FAILED: u8 = 2;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return commands::usage(&e),
    };
    let done = match cli.verb {
        Verb::Run(args) => commands::run::run(&args),
        Verb::Record(args) => commands::record::record(&args),
        Verb::Report(args) => commands::report::report(&args),
        Verb::Stat(args) => commands::stat::stat(&args),
        Verb::List => commands::list::list(),
        Verb::Events(args) => commands::events::events(&args),
        Verb::Doctor(args) => commands::doctor::doctor(&args),
        Verb::Time(args) => commands::time::time(&args),
        Verb::Pin(args) => commands::pin::pin(&args),
        Verb::Completion(args) => commands::shell::completion(&args),
        Verb::Man => commands::shell::man(),
    };
    match done {
        Ok(code) => code,
        Err(e) => {
            eprintln!("perquery: {e}");
            ExitCode::from(FAILED)
        }
    }
}
