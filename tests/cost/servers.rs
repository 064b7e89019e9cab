//! The servers of one run, side by side: one per setting and peer, with the same tables, started two at a time.

use crate::connection::Connection;
use crate::options::Options;
use crate::recorder::{self, Recorder};
use crate::rounds::{Burst, Side, Workload};
use crate::settings::{
    ALONE, BASE, DEFAULT, KERNEL_FORGETS, MARIADB_PEERS, POSTGRES_PEERS, Peer, Perquery, SETTINGS, Setting,
};
use crate::statistics::Random;
use harness::cpus::{self, Cpus};
use harness::mariadb::{self, Launch, MariaDb};
use harness::postgres;
use harness::process::Process;
use harness::wire::{MySql, Postgres, Wire};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;
use tempfile::TempDir;

/// The statements, the same for both servers. Weights are rough; they only shorten bursts.
pub const WORKLOADS: [Workload; 5] = [
    Workload { name: "point select", weight: 1 },
    Workload { name: "point select, prepared", weight: 1 },
    Workload { name: "100-row range", weight: 4 },
    Workload { name: "insert", weight: 2 },
    Workload { name: "5 ms aggregate", weight: 100 },
];

/// Rows of the table that is read.
const ROWS: u32 = 60_000;
const POINT: &str = "SELECT c FROM goods WHERE id = ";

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// MariaDB.
    MariaDb,
    /// PostgreSQL.
    Postgres,
}

impl Kind {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Kind::MariaDb => "mariadb",
            Kind::Postgres => "postgres",
        }
    }

    /// The same of what is measured while nobody has a perf event open.
    pub fn name_alone(self) -> &'static str {
        match self {
            Kind::MariaDb => "mariadb, nobody counts",
            Kind::Postgres => "postgres, nobody counts",
        }
    }

    /// The same of one server that is switched.
    pub fn name_switched(self) -> &'static str {
        match self {
            Kind::MariaDb => "mariadb, one server switched",
            Kind::Postgres => "postgres, one server switched",
        }
    }

    /// The same of two sessions of such a server, one of which had perf events.
    pub fn name_again(self) -> &'static str {
        match self {
            Kind::MariaDb => "mariadb, two sessions of one server",
            Kind::Postgres => "postgres, two sessions of one server",
        }
    }

    /// Why it can't run here.
    pub fn unavailable(self) -> Option<String> {
        match self {
            Kind::MariaDb => mariadb::PROGRAMS
                .iter()
                .find(|p| !harness::has_program(p))
                .map(|p| format!("{p} is not installed")),
            Kind::Postgres => postgres::unavailable(),
        }
    }

    fn peers(self) -> &'static [Peer] {
        match self {
            Kind::MariaDb => &MARIADB_PEERS,
            Kind::Postgres => &POSTGRES_PEERS,
        }
    }
}

/// A server of either kind.
pub enum Instance {
    /// MariaDB.
    MariaDb(MariaDb),
    /// PostgreSQL.
    Postgres(postgres::Postgres),
}

impl Instance {
    /// Starts one with further options.
    pub fn start(kind: Kind, loaded: bool, options: &[&str], program: Option<PathBuf>) -> Self {
        let launch = if loaded { Launch::Preloaded } else { Launch::Plain };
        let own = options.iter().map(|&o| o.to_owned());
        match kind {
            Kind::MariaDb => {
                let options =
                    mariadb::Options { launch, arguments: own.collect(), program, ..Default::default() };
                Instance::MariaDb(MariaDb::start(&options))
            }
            Kind::Postgres => {
                // Nothing may run in between, and nothing beside the backend.
                let quiet = [
                    "autovacuum=off",
                    "checkpoint_timeout=1h",
                    "synchronous_commit=off",
                    "max_parallel_workers_per_gather=0",
                    "jit=off",
                ];
                let settings = quiet.map(str::to_owned).into_iter().chain(own).collect();
                let options = postgres::Options { launch, settings, ..Default::default() };
                Instance::Postgres(postgres::Postgres::start(&options))
            }
        }
    }

    /// The server's process; PostgreSQL's first one.
    pub fn pid(&self) -> u32 {
        match self {
            Instance::MariaDb(server) => server.pid,
            Instance::Postgres(server) => server.pid,
        }
    }

    fn connect(&self) -> Box<dyn Wire> {
        match self {
            Instance::MariaDb(server) => Box::new(MySql::connect(&server.socket(), mariadb::DATABASE)),
            Instance::Postgres(server) => {
                let socket = server.directory.path().join(format!(".s.PGSQL.{}", server.port));
                Box::new(Postgres::connect(&socket, postgres::USER, postgres::DATABASE))
            }
        }
    }

    /// Makes the tables of [`WORKLOADS`].
    pub fn fill(&self) {
        let mut client = self.connect();
        match self {
            Instance::MariaDb(_) => {
                client.run("CREATE TABLE goods (id INT PRIMARY KEY, k INT, c VARCHAR(120))");
                client.run(&format!(
                    "INSERT INTO goods SELECT seq, seq * 7 % 1000, REPEAT('x', 100) FROM seq_1_to_{ROWS}"
                ));
                client.run("CREATE TABLE sink (id BIGINT AUTO_INCREMENT PRIMARY KEY, c VARCHAR(120))");
            }
            Instance::Postgres(_) => {
                client.run("CREATE TABLE goods (id INT PRIMARY KEY, k INT, c VARCHAR(120))");
                client.run(&format!(
                    "INSERT INTO goods SELECT i, i * 7 % 1000, REPEAT('x', 100) FROM generate_series(1, {ROWS}) i"
                ));
                client.run("CREATE TABLE sink (id BIGSERIAL PRIMARY KEY, c VARCHAR(120))");
                client.run("VACUUM ANALYZE goods");
                client.run("CHECKPOINT");
            }
        }
    }

    /// A connection with the commands of [`WORKLOADS`].
    pub fn ready(&self, aggregated_rows: u32) -> Connection {
        let mut client = self.connect();
        let placeholder = if matches!(self, Instance::MariaDb(_)) { "?" } else { "$1" };
        let commands = vec![
            client.text(&format!("{POINT}4711")),
            client.prepared(&format!("{POINT}{placeholder}"), 4711),
            client.text("SELECT id, k, c FROM goods WHERE id BETWEEN 4711 AND 4810"),
            client.text("INSERT INTO sink (c) VALUES ('0123456789012345678901234567890123456789')"),
            client.text(&aggregate(aggregated_rows)),
        ];
        Connection { client, commands }
    }
}

fn aggregate(rows: u32) -> String {
    format!("SELECT COUNT(*), SUM(k) FROM goods WHERE id <= {rows}")
}

/// How many rows take about 5 ms to sum up.
fn rows_of_5_ms(server: &Instance) -> u32 {
    let mut client = server.connect();
    let command = client.text(&aggregate(ROWS / 4));
    let mut best_s = f64::MAX;
    for _ in 0..10 {
        let started = Instant::now();
        client.exchange(&command);
        best_s = best_s.min(started.elapsed().as_secs_f64());
    }
    ((f64::from(ROWS / 4) * 5e-3 / best_s) as u32).min(ROWS)
}

/// Servers side by side. Their order: the base first.
pub struct Park {
    /// One per setting.
    pub sides: Vec<Side>,
    servers: Vec<(String, Instance)>,
    recorders: Vec<(String, Recorder)>,
    _tracers: Vec<Process>,
    _files: TempDir,
    cpus: Cpus,
}

impl Park {
    /// Starts what was asked for of all settings and peers; what can't run here goes into `skipped`.
    pub fn start(
        kind: Kind,
        options: &Options,
        cpus: &Cpus,
        random: &mut Random,
        skipped: &mut Vec<String>,
    ) -> Self {
        Self::start_some(kind, &SETTINGS, kind.peers(), options, cpus, random, skipped)
    }

    /// The same of the settings that are measured while nobody has a perf event open; `None`: nothing was asked for.
    pub fn start_alone(
        kind: Kind,
        options: &Options,
        cpus: &Cpus,
        random: &mut Random,
        skipped: &mut Vec<String>,
    ) -> Option<Self> {
        let names = setting_names();
        if !ALONE.iter().any(|s| matches!(s.perquery, Perquery::OffAfter(_)) && options.wants(s.name, &names))
        {
            return None;
        }
        let mut park = Self::start_some(kind, &ALONE, &[], options, cpus, random, skipped);
        // Threads that still have events close them at their next query.
        park.sides.iter_mut().for_each(|side| drop(side.connection.burst(0, 10)));
        std::thread::sleep(KERNEL_FORGETS);
        Some(park)
    }

    fn start_some(
        kind: Kind,
        settings: &[Setting],
        peers: &'static [Peer],
        options: &Options,
        cpus: &Cpus,
        random: &mut Random,
        skipped: &mut Vec<String>,
    ) -> Self {
        let mut skip = |name: &str, why: String| {
            skipped.push(format!("skipped: {}, {name}: {why}", kind.name()));
            eprintln!("skipped: {}, {name}: {why}", kind.name());
        };
        let names = setting_names();
        let mut wanted: Vec<(String, Perquery, Option<&Peer>)> = Vec::new();
        for setting in settings.iter().filter(|s| s.name == BASE || options.wants(s.name, &names)) {
            wanted.push((setting.name.to_owned(), setting.perquery, None));
        }
        for peer in peers.iter().filter(|p| options.wants(p.name, &names)) {
            match peer.library {
                Some(library) if !postgres_library(library) => skip(peer.name, format!("no {library}")),
                _ => wanted.push((peer.name.to_owned(), Perquery::Absent, Some(peer))),
            }
        }
        let files = harness::scratch::directory("cost");
        // In random order, because the first server of a machine and the last one do not find the same memory.
        let mut order: Vec<usize> = (0..wanted.len()).collect();
        random.shuffle(&mut order);
        let servers = start_all(kind, &wanted, &order, files.path());
        // Every server has done the same work before; the base's number counts.
        let rows: Vec<(usize, u32)> = servers.iter().map(|(n, server)| (*n, rows_of_5_ms(server))).collect();
        let rows = rows.iter().find(|(number, _)| *number == 0).map_or(ROWS, |(_, rows)| *rows);
        let mut park = Park {
            sides: Vec::new(),
            servers: Vec::new(),
            recorders: Vec::new(),
            _tracers: Vec::new(),
            _files: files,
            cpus: cpus.clone(),
        };
        let mut places = Vec::new();
        for (number, server) in servers {
            let (name, perquery, peer) = wanted[number].clone();
            cpus.pin(server.pid());
            if !options.keep_priority {
                cpus::raise_priority(server.pid());
            }
            match park.admit(&name, perquery, peer, server, rows) {
                Ok(()) => places.push(number),
                Err(why) => skip(&name, why),
            }
        }
        let mut sides: Vec<(usize, Side)> = places.into_iter().zip(park.sides.drain(..)).collect();
        sides.sort_by_key(|(number, _)| *number);
        park.sides = sides.into_iter().map(|(_, side)| side).collect();
        park
    }

    fn admit(
        &mut self,
        name: &str,
        perquery: Perquery,
        peer: Option<&Peer>,
        server: Instance,
        rows: u32,
    ) -> Result<(), String> {
        let mut connection = server.ready(rows);
        let path = self.recording(self.servers.len());
        match perquery {
            Perquery::Absent | Perquery::Off => {}
            Perquery::On(variants) => {
                let recorder = Recorder::start(server.pid(), variants, path, &self.cpus)?;
                self.recorders.push((name.to_owned(), recorder));
            }
            Perquery::OffAfter(variants) => {
                let mut recorder = Recorder::start(server.pid(), variants, path, &self.cpus)?;
                connection.burst(0, 1000);
                recorder.end();
            }
        }
        if let Some(program) = peer.and_then(|p| p.bpftrace) {
            let executable = std::fs::read_link(format!("/proc/{}/exe", server.pid()))
                .map_err(|e| format!("the server's executable: {e}"))?;
            let probe = || drop(connection.burst(0, 10));
            let tracer = recorder::bpftrace(server.pid(), program, &executable, &self.cpus, probe)?;
            self._tracers.push(tracer);
        }
        self.sides.push(Side { setting: name.to_owned(), connection: Box::new(connection) });
        self.servers.push((name.to_owned(), server));
        Ok(())
    }

    fn recording(&self, number: usize) -> PathBuf {
        self._files.path().join(format!("{number}.pq"))
    }

    /// The collector of a setting.
    pub fn recorder(&self, setting: &str) -> Option<&Recorder> {
        self.recorders.iter().find(|(name, _)| name == setting).map(|(_, recorder)| recorder)
    }

    /// New connections to the server of a setting, with the point select's text.
    pub fn clients(&self, setting: &str, count: usize) -> Option<Vec<Connection>> {
        let (_, server) = self.servers.iter().find(|(name, _)| name == setting)?;
        Some((0..count).map(|_| server.ready(1)).collect())
    }

    /// Ends the default's recording: executions and drops.
    pub fn stop_default(&mut self) -> Option<(u64, u64)> {
        let at = self.recorders.iter().position(|(name, _)| name == DEFAULT)?;
        Some(self.recorders.remove(at).1.stop())
    }
}

impl Drop for Park {
    fn drop(&mut self) {
        // Collectors first: what they would say about dying servers is of no interest.
        self.recorders.clear();
    }
}

/// The names of all settings and peers.
pub fn setting_names() -> Vec<&'static str> {
    let peers = MARIADB_PEERS.iter().chain(&POSTGRES_PEERS).map(|p| p.name);
    SETTINGS.iter().chain(&ALONE).map(|s| s.name).chain(peers).collect()
}

fn postgres_library(name: &str) -> bool {
    let home = postgres::programs().and_then(|bin| Some(bin.parent()?.join("lib").join(name)));
    home.is_some_and(|path| path.exists())
}

/// A copy of mariadbd: a uprobe hits every process of the same file, whichever process it was asked for.
fn own_program(files: &Path) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let original = std::env::split_paths(&path).map(|dir| dir.join("mariadbd")).find(|p| p.exists())?;
    let copy = files.join("mariadbd");
    std::fs::copy(original, &copy).ok()?;
    Some(copy)
}

/// Starts and fills the servers on all CPUs, two at a time, in this `order`.
fn start_all(
    kind: Kind,
    wanted: &[(String, Perquery, Option<&Peer>)],
    order: &[usize],
    files: &Path,
) -> Vec<(usize, Instance)> {
    let next = Mutex::new(order.iter().copied());
    let started = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some(number) = next.lock().expect("no panic yet").next() else { return };
                    let (_, perquery, peer) = &wanted[number];
                    let options = peer.map_or([].as_slice(), |p| p.options);
                    let program = peer.and_then(|p| p.bpftrace).and_then(|_| own_program(files));
                    let server = Instance::start(kind, *perquery != Perquery::Absent, options, program);
                    server.fill();
                    started.lock().expect("no panic yet").push((number, server));
                }
            });
        }
    });
    started.into_inner().expect("no panic yet")
}
