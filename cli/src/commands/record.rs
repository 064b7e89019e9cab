//! `perquery record`.

use crate::args::Record;
use crate::collect::{Outputs, Target, Watch, collect, print_in_flight};
use crate::error::{Error, Result};
use crate::find;
use crate::format::{bytes, count, plural};
use crate::recording::{ServerInfo, create_file};
use crate::signals::Ending;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Until a signal, the end of the time, or the end of the server.
struct Until {
    ending: Ending,
    deadline: Option<Instant>,
    server: Option<OwnedFd>,
    pid: u32,
}

impl Watch for Until {
    fn is_over(&mut self) -> bool {
        self.ending.has_come() || self.deadline.is_some_and(|at| at <= Instant::now())
    }

    fn has_ended(&mut self) -> bool {
        match &self.server {
            // A pidfd becomes readable when its process ends; a pid could be another process's by now.
            Some(pidfd) => {
                let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
                poll(&mut fds, Some(&rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|n| n > 0)
            }
            None => !std::path::Path::new(&format!("/proc/{}", self.pid)).exists(),
        }
    }
}

/// Records a running server.
pub fn record(args: &Record) -> Result<ExitCode> {
    let ending = Ending::watch()?;
    let server = find::server(args.pid)?;
    let pid = server.pid;
    let pidfd = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pidfd = pidfd.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let file = create_file(&args.output).map_err(|e| {
        Error::new(format!("{} can't be written: {e}; name another file with -o", args.output.display()))
    })?;
    let info = ServerInfo { pid, kind: server.kind(), version: String::new(), exe: server.exe };
    let deadline = args.duration.map(|d| Instant::now() + d);
    let mut until = Until { ending, deadline, server: pidfd, pid };
    let outputs = Outputs { recording: Some((args.output.clone(), file)), aggregator: None };
    let target = Target { mapping: server.mapping, server: info, is_on: false };
    let done = collect(target, &args.count.selection(), outputs, &mut until)?;
    let mut err = io::stderr().lock();
    if done.server_ended {
        let _ = writeln!(err, "perquery: process {pid} has ended");
    }
    let _ = print_in_flight(&mut err, &done.about.in_flight);
    if let Some(e) = done.failed {
        return Err(e);
    }
    let seconds = Duration::from_nanos(done.about.duration_ns.unwrap_or(0)).as_secs_f64();
    let _ = writeln!(
        err,
        "perquery: {} in {seconds:.1} s, {} dropped, {} written to {}; 'perquery report -i {}' shows them",
        plural(done.executions, "execution"),
        count(done.about.losses.dropped as f64),
        bytes(done.bytes_written as f64),
        args.output.display(),
        args.output.display(),
    );
    Ok(ExitCode::SUCCESS)
}
