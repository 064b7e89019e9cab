//! One server that is switched between perquery's settings, under load throughout: what differs is the setting alone.
//!
//! Two servers differ by a percent or two in speed through their places in memory, whatever is loaded. Here the same
//! server does everything: its imports are pointed past the library ("hooks bypassed"), its control page is switched, and a
//! thread empties the rings as `perquery record` does.

use crate::connection::Connection;
use crate::imports::Imports;
use crate::options::Options;
use crate::rounds::{Burst, Side};
use crate::servers::{Instance, Kind};
use crate::settings::{BYPASSED, Perquery, SWITCHED};
use clap::Parser;
use harness::cpus::{self, Cpus};
use harness::{artifacts, proc};
use perquery_agent::counters::Wanted;
use perquery_agent::segment::reader::{Mapping, drain, now_ns};
use perquery_cli::args::{Cli, Verb};
use perquery_cli::find;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// What a server can be switched to.
#[derive(Clone, Copy)]
pub enum State {
    /// The imports lead past the library.
    Bypassed,
    /// Hooks, no capture.
    Off,
    /// Capture.
    On(Wanted),
}

/// The sessions of a server, by number: the one that all settings are measured with, and another one, which only
/// [`again`](crate::again) uses.
pub const SESSIONS: usize = 2;

/// A server, its clients, and what switches it.
struct Switched {
    connections: Vec<Connection>,
    imports: Vec<Imports>,
    mapping: Arc<Mapping>,
    /// Which side's state it is in.
    at: Option<usize>,
    _server: Instance,
}

impl Switched {
    /// False: it is there already.
    fn switch(&mut self, to: usize, state: State) -> bool {
        if self.at == Some(to) {
            return false;
        }
        self.at = Some(to);
        let segment = self.mapping.segment().expect("it made sense at the start");
        segment.control().switch_off();
        self.imports.iter().for_each(|imports| imports.set(!matches!(state, State::Bypassed)));
        if let State::On(wanted) = state {
            segment.control().switch_on(&wanted, now_ns());
        }
        true
    }
}

/// One of the server's sessions in one of the server's states.
struct InState {
    server: Rc<RefCell<Switched>>,
    session: usize,
    number: usize,
    state: State,
}

impl InState {
    /// So many queries after a switch all is as it will stay: a budget has to find its probability first, and who reads all has to
    /// know each page of its ring.
    fn settled_after(&self) -> usize {
        match self.state {
            State::On(wanted) if wanted.mask != 0 => 6200,
            _ => 100,
        }
    }
}

impl Burst for InState {
    fn burst(&mut self, workload: usize, count: usize) -> Vec<f64> {
        let mut server = self.server.borrow_mut();
        if server.switch(self.number, self.state) {
            server.connections[self.session].burst(workload, self.settled_after());
        }
        server.connections[self.session].burst(workload, count)
    }
}

/// The server in all its states, and who empties its rings.
pub struct Park {
    /// One per state, "hooks bypassed" first.
    pub sides: Vec<Side>,
    server: Rc<RefCell<Switched>>,
    pid: u32,
    numbers: usize,
    collector: Collector,
}

impl Park {
    /// Starts a server; why it can't be switched else.
    pub fn start(kind: Kind, options: &Options, cpus: &Cpus) -> Result<Self, String> {
        let server = Instance::start(kind, true, &[], None);
        server.fill();
        cpus.pin(server.pid());
        if !options.keep_priority {
            cpus::raise_priority(server.pid());
        }
        let pid = server.pid();
        let connections = (0..SESSIONS).map(|_| server.ready(1)).collect();
        let imports = imports_of(pid)?;
        let mapping = Arc::new(find::server(server.pid()).map_err(|e| e.to_string())?.mapping);
        let collector = Collector::start(Arc::clone(&mapping), cpus.clone());
        let server = Switched { connections, imports, mapping, at: None, _server: server };
        let server = Rc::new(RefCell::new(server));
        let names: Vec<&str> = SWITCHED.iter().map(|s| s.name).collect();
        let mut park = Park { sides: Vec::new(), server, pid, numbers: 0, collector };
        for setting in SWITCHED.iter().filter(|s| s.name == BYPASSED || options.wants(s.name, &names)) {
            let state = match setting.perquery {
                Perquery::On(variants) => State::On(wanted_by(variants[0])),
                Perquery::Absent => State::Bypassed,
                Perquery::Off => State::Off,
                // Not beside the others: after it the session is another one.
                Perquery::OffAfter(_) => continue,
            };
            let side = park.side(setting.name, 0, state);
            park.sides.push(side);
        }
        Ok(park)
    }

    /// Another place to run bursts: this session, with the server in this state.
    pub fn side(&mut self, name: &str, session: usize, state: State) -> Side {
        self.numbers += 1;
        let server = Rc::clone(&self.server);
        let connection = Box::new(InState { server, session, number: self.numbers, state });
        Side { setting: name.to_owned(), connection }
    }

    /// The server's process; PostgreSQL's first one.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The records that were taken so far.
    pub fn records(&self) -> u64 {
        self.collector.records.load(Ordering::Relaxed)
    }
}

/// The imports of a server and its children: a session of PostgreSQL is a process with imports of its own.
fn imports_of(pid: u32) -> Result<Vec<Imports>, String> {
    let library = artifacts::library();
    let mut found = vec![Imports::of(pid, &library)?];
    for child in proc::children(pid) {
        match Imports::of(child, &library) {
            Ok(imports) => found.push(imports),
            // The sessions that have filled the tables are still ending.
            Err(why) if proc::is_alive(child) => return Err(why),
            Err(_) => {}
        }
    }
    Ok(found)
}

/// What `perquery record` asks a server for with these options.
pub fn wanted_by(options: &[&str]) -> Wanted {
    let words = ["perquery", "record", "-p", "1"].iter().chain(options);
    match Cli::parse_from(words).verb {
        Verb::Record(record) => record.count.selection().wanted,
        _ => unreachable!("the verb is record"),
    }
}

/// Empties the rings and shows a sign of life, on other CPUs than the server's.
struct Collector {
    records: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    /// As often as `perquery record` looks at a server with one busy session.
    const PAUSE: Duration = Duration::from_millis(16);

    fn start(mapping: Arc<Mapping>, cpus: Cpus) -> Self {
        let (records, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (taken, stopped) = (Arc::clone(&records), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let _elsewhere = cpus.keep_off_bench();
            while let (Ok(segment), false) = (mapping.segment(), stopped.load(Ordering::Relaxed)) {
                segment.control().beat(now_ns());
                let drained = drain(&segment, |_, _| ());
                taken.fetch_add(drained.records as u64, Ordering::Relaxed);
                std::thread::sleep(Self::PAUSE);
            }
        });
        Collector { records, stop, thread: Some(thread) }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
