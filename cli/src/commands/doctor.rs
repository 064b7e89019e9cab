//! `perquery doctor`: is everything in place?

use super::say;
use crate::args::Doctor;
use crate::error::{Error, Result};
use crate::{find, library};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

/// How a check came out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Fine,
    Note,
    Problem,
}

/// The checks' results, one line each.
#[derive(Default)]
struct Findings {
    text: String,
    problems: usize,
}

impl Findings {
    fn add(&mut self, verdict: Verdict, what: impl AsRef<str>) {
        let mark = match verdict {
            Verdict::Fine => "ok     ",
            Verdict::Note => "note   ",
            Verdict::Problem => "PROBLEM",
        };
        self.problems += usize::from(verdict == Verdict::Problem);
        let _ = writeln!(self.text, "{mark} {}", what.as_ref());
    }
}

/// Prints what is in place and what is not; exit status 1 when something is in the way.
pub fn doctor(args: &Doctor) -> Result<ExitCode> {
    let mut found = Findings::default();
    host(&mut found);
    if let Some(pid) = args.pid {
        if !Path::new(&format!("/proc/{pid}")).exists() {
            return Err(Error::new(format!(
                "there is no process {pid}; 'perquery list' shows the servers of this host"
            )));
        }
        process(&mut found, pid);
    }
    let problems = found.problems;
    say(&found.text)?;
    Ok(if problems == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn host(found: &mut Findings) {
    match library::find() {
        Ok(path) => found.add(Verdict::Fine, format!("library {}", path.display())),
        Err(e) => found.add(Verdict::Problem, e.to_string()),
    }
    let paranoid = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid");
    match paranoid.as_deref().map(str::trim).map(str::parse::<i32>) {
        Ok(Ok(level)) if level <= 1 => {
            found.add(Verdict::Fine, format!("kernel.perf_event_paranoid is {level}: user and kernel mode are counted"));
        }
        Ok(Ok(2)) => found.add(
            Verdict::Note,
            "kernel.perf_event_paranoid is 2: without CAP_PERFMON events are counted in user mode only; \
             sysctl kernel.perf_event_paranoid=1 counts the kernel too",
        ),
        Ok(Ok(level)) => found.add(
            Verdict::Note,
            format!(
                "kernel.perf_event_paranoid is {level}: without CAP_PERFMON there are no perf events; CPU time, faults and \
                 switches are counted all the same; sysctl kernel.perf_event_paranoid=2 allows user mode"
            ),
        ),
        _ => found.add(Verdict::Note, "this kernel has no perf events; CPU time, faults and switches are counted"),
    }
    let events = crate::events::list();
    match events.iter().find(|event| event.name == "cycles") {
        Some(event) if event.status == crate::events::Status::Unavailable => found.add(
            Verdict::Note,
            format!(
                "no hardware counters here ({}); most virtual machines have none; 'perquery events' lists all",
                event.why.unwrap_or("the kernel refuses them")
            ),
        ),
        _ => found.add(Verdict::Fine, "hardware counters can be read"),
    }
}

fn process(found: &mut Findings, pid: u32) {
    let read = |what: &str| fs::read_to_string(format!("/proc/{pid}/{what}"));
    let exe = find::exe_of(pid);
    let name = if exe.is_empty() { format!("process {pid}") } else { format!("process {pid} ({exe})") };
    found.add(Verdict::Fine, format!("{name} is a {}", find::kind_of(&exe)));
    let maps = match read("maps") {
        Ok(maps) => maps,
        Err(e) => {
            let text =
                format!("{name} can't be looked into ({e}); run perquery as root or as the server's user");
            found.add(Verdict::Problem, text);
            return;
        }
    };
    if !maps.contains("/ld-") && !maps.contains("ld-linux") {
        found.add(
            Verdict::Problem,
            "the executable is static: nothing can be preloaded into it; use a dynamically linked server",
        );
        return;
    }
    let loaded = maps.lines().find(|line| line.contains("libperquery.so"));
    match loaded {
        Some(line) if line.ends_with("(deleted)") => found.add(
            Verdict::Note,
            "the library in the process is not the one on disk any more; restart the server to use the new one",
        ),
        Some(_) => found.add(Verdict::Fine, "the library is loaded"),
        None => why_not_loaded(found, pid),
    }
    match find::server(pid) {
        Ok(server) => {
            let about = format!("it has a segment (server process {})", server.pid);
            found.add(Verdict::Fine, about);
            if let Ok(segment) = server.mapping.segment() {
                let accepted = segment
                    .word(perquery_agent::segment::layout::header::ACCEPTED)
                    .load(std::sync::atomic::Ordering::Relaxed);
                match accepted {
                    0 => found.add(
                        Verdict::Note,
                        "no connection was seen yet; if clients are connected, the server accepts them in a way the \
                         library does not see",
                    ),
                    n => found.add(Verdict::Fine, format!("{n} connections were seen")),
                }
            }
        }
        Err(e) if loaded.is_some() => found.add(
            Verdict::Problem,
            format!("{e}; if the executable's name is not on the list of servers, start it with PERQUERY_EXE=<name>"),
        ),
        Err(_) => {}
    }
    sandbox(found, &read("status").unwrap_or_default());
    limits(found, &read("limits").unwrap_or_default());
    if !maps.contains("libssl") {
        found.add(
            Verdict::Note,
            "libssl is not loaded: if this server offers TLS with a library of its own, such sessions have no text",
        );
    }
    if let Ok(label) = read("attr/current")
        && label.contains("(enforce)")
    {
        found.add(
            Verdict::Note,
            format!("AppArmor profile {}: it must allow reading and mapping the library", label.trim()),
        );
    }
}

/// The usual reasons why LD_PRELOAD did not work.
fn why_not_loaded(found: &mut Findings, pid: u32) {
    found.add(
        Verdict::Problem,
        "the library is not loaded; start the server with LD_PRELOAD=…/libperquery.so or under 'perquery run'",
    );
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let has_preload = environment.split(|b| *b == 0).any(|v| v.starts_with(b"LD_PRELOAD="));
    if has_preload {
        found.add(
            Verdict::Problem,
            "LD_PRELOAD is set but was not honoured: does the server's user have read permission on the file and all \
             folders above it?",
        );
    }
    if is_secure(pid) == Some(true) {
        found.add(
            Verdict::Problem,
            "the process was started in secure mode (setuid, or file capabilities that its user lacks): the dynamic linker \
             ignores LD_PRELOAD; replace file capabilities by AmbientCapabilities= in its unit",
        );
    }
}

/// AT_SECURE of the auxiliary vector (getauxval(3)).
fn is_secure(pid: u32) -> Option<bool> {
    const AT_SECURE: u64 = 23;
    let vector = fs::read(format!("/proc/{pid}/auxv")).ok()?;
    let words: Vec<u64> = vector.as_chunks::<8>().0.iter().map(|w| u64::from_ne_bytes(*w)).collect();
    words.as_chunks::<2>().0.iter().find(|pair| pair[0] == AT_SECURE).map(|pair| pair[1] != 0)
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
}

fn sandbox(found: &mut Findings, status: &str) {
    match field(status, "Seccomp") {
        Some("0") | None => found.add(Verdict::Fine, "no seccomp filter"),
        Some(_) => found.add(
            Verdict::Note,
            "a seccomp filter is active: perf events may be refused (systemd: SystemCallFilter=perf_event_open; \
             containers: CAP_PERFMON); the rest works",
        ),
    }
}

fn limits(found: &mut Findings, limits: &str) {
    let soft = |name: &str| -> Option<u64> {
        let rest = limits.lines().find_map(|line| line.strip_prefix(name))?;
        match rest.split_whitespace().next()? {
            "unlimited" => Some(u64::MAX),
            number => number.parse().ok(),
        }
    };
    match soft("Max open files") {
        Some(files) if files < 512 => found.add(
            Verdict::Note,
            format!(
                "only {files} descriptors are allowed: few threads can have perf events; raise LimitNOFILE="
            ),
        ),
        Some(files) => found.add(Verdict::Fine, format!("{files} descriptors are allowed")),
        None => {}
    }
    if let Some(space) = soft("Max address space").filter(|space| *space < 16 << 30) {
        found.add(
            Verdict::Note,
            format!(
                "the address space is limited to {space} bytes; the segment needs 2 GiB of it (not of memory)"
            ),
        );
    }
}
