//! A program that takes orders: a line to its standard input, an answer of some lines from its standard output.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A program that waits for orders; killed on drop.
pub struct Orders {
    child: Child,
    /// Until it was told that there are no more.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Orders {
    /// Starts a program that says "ready" when it is.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?} does not start: {e}"));
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        let mut program = Orders { child, orders, answers };
        assert_eq!(program.line(), "ready");
        program
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives an order; the `lines` of its answer.
    #[track_caller]
    pub fn give(&mut self, order: &str, lines: usize) -> Vec<String> {
        writeln!(self.orders.as_mut().expect("piped"), "{order}").expect("it reads");
        (0..lines).map(|_| self.line()).collect()
    }

    /// Gives no more orders, and waits for its end.
    #[track_caller]
    pub fn end(mut self) {
        self.orders = None;
        assert!(self.child.wait().expect("own child").success());
    }

    #[track_caller]
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("a pipe");
        assert!(!line.is_empty(), "the program ended");
        line.trim_end().to_owned()
    }
}

impl Drop for Orders {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
