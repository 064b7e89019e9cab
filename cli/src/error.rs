//! Errors as the user sees them: one line that says what is wrong and what to do, exit status 2.

use std::fmt;

/// What went wrong, with the remedy, as one sentence for the terminal.
#[derive(Debug)]
pub struct Error(String);

impl Error {
    /// An error with this text.
    pub fn new(text: impl Into<String>) -> Self {
        // One line, whatever file names and foreign messages contain.
        Error(text.into().replace(['\n', '\r'], " "))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

/// The result of a command.
pub type Result<T> = std::result::Result<T, Error>;

/// Turns a foreign error into ours by saying what was being done.
pub trait Context<T> {
    /// `what` is put before the error's own text.
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Error::new(format!("{}: {e}", what())))
    }
}
