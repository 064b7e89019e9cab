//! Instructions per query that the library adds to a server's thread: counted by callgrind, so that a run repeats to the
//! instruction and a ceiling can be held. System calls, rdpmc and rseq are not in it: valgrind has the first two to itself.

use harness::process::Process;
use harness::wait::{SOON, wait_for, wait_until};
use harness::{artifacts, needs, perquery, scratch, skip, victim};
use rustix::process::Signal;
use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Five calls on sockets that are no sessions, as many as a query makes. Measured plus 15 %, as all of these.
const STRANGERS: u64 = 52;
/// Capture off: what follows logins and prepared statements. The transfers' own system calls are in it, which are libc's
/// without the library: some 12 instructions each in PostgreSQL, 70 in MariaDB, two of them locked.
const OFF: u64 = 332;
/// Every query recorded, nothing dear read.
const CHEAP: u64 = 974;
/// Every query counted and recorded.
const ON: u64 = 1924;
/// A PostgreSQL session, capture off: a simple Query, and a prepared statement in the extended protocol.
const POSTGRES_OFF: [u64; 2] = [296, 323];
/// Every query of it recorded, nothing dear read.
const POSTGRES_CHEAP: [u64; 2] = [1032, 900];
/// Every query of it counted and recorded.
const POSTGRES_ON: [u64; 2] = [1959, 1798];
/// Of which in the segment's functions: the session's slot, the ring, the texts.
const RECORD: u64 = 131;

/// What the victim does with the thousands of queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// Sends as much over sockets that are no sessions.
    Strangers,
    /// Runs them in a session, capture off.
    Off,
    /// Runs them in a session that is recorded, without what is dear to read.
    Cheap,
    /// Runs them in a session that is recorded, with everything.
    On,
}

#[test]
fn a_query_costs_no_more_instructions_than_it_may() {
    needs!("valgrind", "gcc");
    // Another build than the one that is shipped has other numbers.
    if std::env::var_os("CARGO_PROFILE_RELEASE_LTO").is_some() {
        return skip(module_path!(), "CARGO_PROFILE_RELEASE_LTO changes the build");
    }
    let [strangers, off, cheap, on] =
        [Work::Strangers, Work::Off, Work::Cheap, Work::On].map(|work| per_query(Server::MariaDb, work));
    println!(
        "instructions per query: {} of no session, {} off, {} cheap, {} on",
        strangers.library, off.library, cheap.library, on.library
    );
    println!("of which in the segment when on: {}", on.segment);
    assert!(strangers.library > 0 && on.segment > 10, "the library was not at work");
    // Of a query its client's own two calls, which are on no session.
    for (work, profile) in [("off", &off), ("cheap", &cheap), ("on", &on)] {
        assert_eq!(profile.libc_calls, 2, "{work}: libc's functions are called");
    }
    assert_eq!(strangers.libc_calls, 5, "no session");
    for (what, profile, counted, ceiling) in [
        ("no session", &strangers, strangers.library, STRANGERS),
        ("off", &off, off.library, OFF),
        ("cheap", &cheap, cheap.library, CHEAP),
        ("on", &on, on.library, ON),
        ("writing the record", &on, on.segment, RECORD),
    ] {
        println!("{what}: {counted} instructions of {ceiling}\n{}", profile.dearest());
        assert!(
            counted <= ceiling,
            "{what}: {counted} instructions per query, at most {ceiling}\n{}",
            profile.dearest()
        );
    }
}

#[test]
fn a_postgresql_query_costs_no_more_instructions_than_it_may() {
    needs!("valgrind", "gcc");
    if std::env::var_os("CARGO_PROFILE_RELEASE_LTO").is_some() {
        return skip(module_path!(), "CARGO_PROFILE_RELEASE_LTO changes the build");
    }
    for (n, protocol) in ["simple", "prepared"].into_iter().enumerate() {
        for (work, ceiling) in
            [(Work::Off, POSTGRES_OFF[n]), (Work::Cheap, POSTGRES_CHEAP[n]), (Work::On, POSTGRES_ON[n])]
        {
            let profile = per_query(Server::Postgres(protocol), work);
            println!("{protocol}, {work:?}: {} of {ceiling}\n{}", profile.library, profile.dearest());
            assert!(profile.library > 0, "the library was not at work");
            assert!(profile.library <= ceiling, "{protocol}, {work:?}: {} instructions", profile.library);
            assert_eq!(profile.libc_calls, 0, "{protocol}, {work:?}: libc's functions are called");
        }
    }
}

/// Which server's calls the victim makes.
#[derive(Clone, Copy)]
enum Server {
    /// MariaDB's.
    MariaDb,
    /// A PostgreSQL backend's, in this protocol.
    Postgres(&'static str),
}

/// What a thousand further queries cost, divided by a thousand: start and end of the process drop out.
fn per_query(server: Server, work: Work) -> Profile {
    let directory = scratch::directory("instructions");
    let fewer = run(directory.path(), server, 1000, work);
    run(directory.path(), server, 2000, work).minus(&fewer, 1000)
}

/// Runs the victim under callgrind with the library.
fn run(directory: &Path, server: Server, queries: u32, work: Work) -> Profile {
    let out = directory.join(format!("callgrind.{queries}"));
    let mut command = Command::new("valgrind");
    perquery::scrub(&mut command).arg("--tool=callgrind");
    command.arg(format!("--callgrind-out-file={}", out.display()));
    command.env("LD_PRELOAD", artifacts::library());
    match server {
        Server::MariaDb => {
            command.arg(victim::in_disguise("queries.c", directory, "mariadbd")).arg(queries.to_string());
        }
        Server::Postgres(protocol) => {
            let program = victim::in_disguise("postgres_queries.c", directory, "postgres");
            command.arg(program).arg(queries.to_string()).arg(protocol);
        }
    }
    command.arg(match work {
        Work::Strangers => "strangers",
        Work::Off => "session",
        Work::Cheap | Work::On => "wait",
    });
    let mut victim = Process::start(&mut command);
    if matches!(work, Work::Cheap | Work::On) {
        let recording = directory.join("recording.pq");
        let pid: u32 = wait_for("the session to be open", SOON, || {
            victim.stdout().lines().next().and_then(|line| line.parse().ok())
        });
        let mut collector = Process::start(record_command(pid, work).arg("-o").arg(&recording));
        wait_until("capture to be switched on", SOON, || {
            assert!(collector.is_running(), "{}", collector.stderr());
            perquery::list_line(pid).split_whitespace().any(|word| word == "on")
        });
        victim.signal(Signal::USR1);
        expect_its_marker(&mut victim);
        collector.wait(SOON).expect_success();
        let report = perquery::report(&recording, "digest");
        report.expect_complete();
        assert_eq!(report.completeness("executions"), u64::from(queries));
    } else {
        expect_its_marker(&mut victim);
    }
    Profile::parse(&std::fs::read_to_string(&out).expect("callgrind wrote it"))
}

fn expect_its_marker(victim: &mut Process) {
    let ended = victim.wait(Duration::from_secs(60));
    assert!(ended.stdout.ends_with("victim ends well\n"), "{}", ended.describe());
}

/// `perquery record`, nothing of every query or everything: a budget counts at random, which no ceiling can be held for.
fn record_command(pid: u32, work: Work) -> Command {
    let how = if work == Work::Cheap { "--cheap" } else { "--exact" };
    perquery::command(["record".to_owned(), "-p".to_owned(), pid.to_string(), how.to_owned()])
}

/// Instructions in libperquery.so.
#[derive(Default)]
pub(crate) struct Profile {
    /// All.
    pub(crate) library: u64,
    /// Those in functions or files of `agent/src/segment`.
    segment: u64,
    /// By function, as far as it was not inlined.
    functions: HashMap<String, u64>,
    /// Calls of libc's [`PLAIN`] functions by the library.
    libc_calls: u64,
}

/// What the library need not call in libc.
const PLAIN: [&str; 3] = ["recv", "send", "epoll_wait"];

impl Profile {
    /// Sums up callgrind's file: `ob=`, `fl=` and `fn=` say where the lines of numbers below belong; names are
    /// written once, as `(1) name`, and `(1)` from then on.
    pub(crate) fn parse(text: &str) -> Self {
        let mut names: HashMap<(&str, &str), &str> = HashMap::new();
        let (mut object, mut file, mut function) = ("", "", "");
        let (mut called_object, mut called) = ("", "");
        let mut profile = Profile::default();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some((key, value)) = line.split_once('=').filter(|(key, _)| key.len() <= 3) {
                let kind = match key {
                    "ob" | "cob" => "object",
                    "fl" | "fi" | "fe" | "cfi" | "cfl" => "file",
                    "fn" | "cfn" => "function",
                    _ => continue,
                };
                let (id, name) = value.split_once(' ').unwrap_or((value, ""));
                let name = match name {
                    "" => names.get(&(kind, id)).copied().unwrap_or(value),
                    name => {
                        names.insert((kind, id), name);
                        name
                    }
                };
                match key {
                    "ob" => object = name,
                    "fl" | "fi" | "fe" => file = name,
                    "fn" => function = name,
                    "cob" => called_object = name,
                    "cfn" => called = name,
                    _ => {}
                }
            } else if let Some(calls) = line.strip_prefix("calls=") {
                // A name may have its version behind it.
                let name = called.split('@').next().unwrap_or(called);
                if object.contains("libperquery")
                    && called_object.contains("libc.so")
                    && PLAIN.contains(&name)
                {
                    let count = calls.split_whitespace().next().and_then(|word| word.parse().ok());
                    profile.libc_calls += count.unwrap_or(0);
                }
                // The next call is one within an object if it does not say otherwise.
                called_object = "";
                // What the callee cost is in the next line, and once more with the callee.
                lines.next();
            } else if line.starts_with(|c: char| c.is_ascii_digit() || "+-*".contains(c))
                && object.contains("libperquery")
            {
                let cost = line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
                profile.library += cost;
                if file.contains("/segment/") || function.contains("::segment::") {
                    profile.segment += cost;
                }
                *profile.functions.entry(function.to_owned()).or_default() += cost;
            }
        }
        profile
    }

    pub(crate) fn minus(mut self, less: &Profile, queries: u64) -> Profile {
        let per_query = |more: u64, less: u64| more.saturating_sub(less) / queries;
        for (name, cost) in &mut self.functions {
            *cost = per_query(*cost, less.functions.get(name).copied().unwrap_or(0));
        }
        Profile {
            library: per_query(self.library, less.library),
            segment: per_query(self.segment, less.segment),
            functions: self.functions,
            libc_calls: per_query(self.libc_calls, less.libc_calls),
        }
    }

    /// The functions with the most instructions per query.
    pub(crate) fn dearest(&self) -> String {
        let mut sorted: Vec<_> = self.functions.iter().filter(|(_, cost)| **cost > 0).collect();
        sorted.sort_by_key(|(name, cost)| (std::cmp::Reverse(**cost), name.as_str()));
        sorted.iter().take(25).map(|(name, cost)| format!("{cost:6}  {name}\n")).collect()
    }
}

#[test]
fn sums_of_a_profile_count_each_instruction_once() {
    let text = "events: Ir\nob=(1) /x/libperquery.so\nfl=(1) /agent/src/session/engine.rs\nfn=(1) engine\n10 5\n+1 7\n\
                fi=(2) /agent/src/segment/ring.rs\n3 2\nfe=(1)\ncob=(2) /libc.so\ncfn=(2) memcpy\ncalls=1 0\n4 900\n* 1\n\
                cob=(2)\ncfn=(4) recv@@GLIBC_2\ncalls=6 0\n4 60\ncfn=(4)\ncalls=5 0\n4 60\n\
                \nob=(2)\nfn=(2)\n1 900\nob=(1)\nfn=(3) perquery_agent::segment::writer::write\n1 3\n";
    let profile = Profile::parse(text);
    assert_eq!((profile.library, profile.segment), (18, 5));
    assert_eq!(profile.functions.get("engine"), Some(&15));
    assert_eq!(profile.libc_calls, 6);
}
