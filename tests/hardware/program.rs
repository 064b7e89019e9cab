//! A victim that takes orders: a line in, a line out.

use harness::{artifacts, perquery};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Where the harness put the cross-compiled victims.
const VICTIMS: &str = "/victims";

/// A victim that waits for orders.
pub struct Program {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Program {
    /// Starts `name` without the library.
    pub fn alone(name: &str) -> Self {
        Self::start(&mut Command::new(Path::new(VICTIMS).join(name)))
    }

    /// Starts `name` with the library, awake and off.
    pub fn loaded(name: &str) -> Self {
        let mut command = Command::new(Path::new(VICTIMS).join(name));
        perquery::scrub(&mut command).env("LD_PRELOAD", artifacts::library()).env("PERQUERY_EXE", name);
        Self::start(&mut command)
    }

    fn start(command: &mut Command) -> Self {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the victim starts");
        let orders = child.stdin.take().expect("a pipe");
        let answers = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut program = Program { child, orders, answers };
        assert_eq!(program.answer(), "ready");
        program
    }

    /// Its process, and its only thread.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has it do something, and waits for its answer.
    pub fn order(&mut self, line: &str) -> String {
        writeln!(self.orders, "{line}").expect("the victim reads");
        self.answer()
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the victim answers");
        line.trim_end().to_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
