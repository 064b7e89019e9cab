//! Starts a program with the library and a segment of its own, and passes signals on.

use crate::error::{Error, Result};
use perquery_agent::counters::Wanted;
use perquery_agent::segment::layout::Shape;
use perquery_agent::segment::reader::{Mapping, now_ns};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::process::{Pid, Signal, getpgrp, kill_process};
use rustix::termios::tcgetpgrp;
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::Signals;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus};

/// The program, running.
pub struct Launched {
    child: Child,
    signals: Signals,
    ended: Option<ExitStatus>,
    // The program's own copy may be closed by a launcher between us and it; it then opens this one.
    _segment: OwnedFd,
}

/// Signals that are passed on.
const PASSED_ON: [i32; 8] = [SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGCONT, SIGWINCH];

/// Starts `command` with `library` preloaded and capture on: a program that lives 5 ms loses nothing.
pub fn launch(command: &[OsString], library: &Path, wanted: &Wanted) -> Result<(Launched, Mapping)> {
    launch_with(command, library, wanted, |_| ())
}

/// [`launch`], where `prepare` has its way with the program's standard streams.
pub fn launch_with(
    command: &[OsString],
    library: &Path,
    wanted: &Wanted,
    prepare: impl FnOnce(&mut Command),
) -> Result<(Launched, Mapping)> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(Error::new("name a program after --"));
    };
    let (segment, mapping) = Mapping::make(Shape::RUN)
        .map_err(|e| Error::new(format!("the shared segment can't be made: {e}")))?;
    if let Ok(segment) = mapping.segment() {
        segment.control().switch_on(wanted, now_ns());
    }
    let signals =
        Signals::new(PASSED_ON).map_err(|e| Error::new(format!("signals can't be watched: {e}")))?;
    let mut command = Command::new(program);
    prepare(&mut command);
    let child = command
        .args(arguments)
        .env("LD_PRELOAD", preload(&[library]))
        .env("PERQUERY_SEGMENT", format!("{}:{}", segment.as_raw_fd(), std::process::id()))
        .spawn()
        .map_err(|e| not_started(program, &e))?;
    Ok((Launched { child, signals, ended: None, _segment: segment }, mapping))
}

/// Becomes `command`, with `libraries` preloaded and `variables` set: same process, same terminal, same parent. Answers
/// only when that fails.
pub fn become_program<P: AsRef<Path>>(
    command: &[OsString],
    libraries: &[P],
    variables: &[(&str, &OsStr)],
) -> Error {
    let Some((program, arguments)) = command.split_first() else {
        return Error::new("name a program after --");
    };
    let failed = Command::new(program)
        .args(arguments)
        .env("LD_PRELOAD", preload(libraries))
        .env("ASAN_OPTIONS", asan_options())
        .envs(variables.iter().copied())
        .exec();
    not_started(program, &failed)
}

/// A program with AddressSanitizer refuses libraries before its own unless told otherwise; the user's options stay.
fn asan_options() -> OsString {
    let mut value = std::env::var_os("ASAN_OPTIONS").unwrap_or_default();
    if !value.is_empty() {
        value.push(":");
    }
    value.push("verify_asan_link_order=0");
    value
}

/// Why a program was not started.
fn not_started(program: &OsStr, e: &io::Error) -> Error {
    match e.kind() {
        io::ErrorKind::NotFound => Error::new(format!(
            "the program {} was not found; name it with its path, or correct PATH",
            program.display()
        )),
        io::ErrorKind::PermissionDenied => {
            Error::new(format!("the program {} may not be executed: {e}", program.display()))
        }
        _ => Error::new(format!("the program {} can't be started: {e}", program.display())),
    }
}

/// LD_PRELOAD with our libraries before what is there already.
fn preload<P: AsRef<Path>>(libraries: &[P]) -> OsString {
    let ours = libraries.iter().map(|library| library.as_ref().as_os_str().to_owned());
    let before = std::env::var_os("LD_PRELOAD").filter(|v| !v.is_empty());
    ours.chain(before).collect::<Vec<_>>().join(OsStr::new(":"))
}

impl Launched {
    /// The program's pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Passes on what came in; true when the program has ended.
    pub fn has_ended(&mut self) -> bool {
        for number in self.signals.pending() {
            if self.ended.is_none()
                && !(is_from_keyboard(number) && shares_the_keyboard())
                && let Some(signal) = Signal::from_named_raw(number)
            {
                let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
                let _ = pid.map(|pid| kill_process(pid, signal));
            }
        }
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended.is_some()
    }

    /// The program's status as our own: its exit code, or the signal that killed it.
    pub fn exit(mut self) -> ExitCode {
        let status = match self.ended {
            Some(status) => status,
            None => match self.child.wait() {
                Ok(status) => status,
                Err(_) => return ExitCode::from(2),
            },
        };
        if let Some(signal) = status.signal() {
            // No second core file beside the program's own.
            let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
            let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
            let _ = signal_hook::low_level::emulate_default_handler(signal);
            return ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX));
        }
        ExitCode::from(u8::try_from(status.code().unwrap_or(2)).unwrap_or(2))
    }
}

/// Signals that the terminal sends to everybody in its foreground.
fn is_from_keyboard(signal: i32) -> bool {
    matches!(signal, SIGINT | SIGQUIT | SIGWINCH)
}

/// True when we are in the foreground of a terminal: the program then got the keyboard's signal itself.
fn shares_the_keyboard() -> bool {
    File::open("/dev/tty").is_ok_and(|tty| tcgetpgrp(&tty).is_ok_and(|foreground| foreground == getpgrp()))
}
