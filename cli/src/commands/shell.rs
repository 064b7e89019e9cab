//! `perquery completion` and `perquery man`.

use super::say;
use crate::args::{Cli, Completion};
use crate::error::{Context, Result};
use clap::CommandFactory;
use std::process::ExitCode;

/// Prints the completion script of a shell.
pub fn completion(args: &Completion) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "perquery", &mut script);
    say(&String::from_utf8_lossy(&script))
}

/// Prints the manual page: the command's and, one after another, its verbs'.
pub fn man() -> Result<ExitCode> {
    let mut page = Vec::new();
    let mut command = Cli::command();
    command.build();
    clap_mangen::Man::new(command.clone()).render(&mut page).context(|| "the manual page".to_owned())?;
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        let man = clap_mangen::Man::new(verb.clone());
        man.render_synopsis_section(&mut page).context(|| "the manual page".to_owned())?;
        man.render_description_section(&mut page).context(|| "the manual page".to_owned())?;
        man.render_options_section(&mut page).context(|| "the manual page".to_owned())?;
    }
    say(&String::from_utf8_lossy(&page))
}
