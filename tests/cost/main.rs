//! The cost benchmark: what perquery and its peers add to a query, in paired rounds against real servers side by side.
//!
//! Servers and client share one CPU, collectors run on another. Each round runs one burst of the same statement against
//! every server in random order and compares it with the same round's burst against the server without anything. Perquery's
//! own settings are compared within one server, too, which is switched between them.

mod again;
mod connection;
mod imports;
mod options;
mod recorder;
mod report;
mod rounds;
mod servers;
mod settings;
mod sqlite;
mod statistics;
mod switching;
mod throughput;

use harness::cpus::{self, Cpus};
use options::Options;
use report::{Extra, Table};
use rounds::{Measured, Side, Workload, measure, measure_sustained};
use servers::Kind;
use statistics::Random;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Everything found so far.
struct Run {
    options: Options,
    cpus: Cpus,
    random: Random,
    tables: Vec<Table>,
    extras: Vec<(&'static str, Extra)>,
    skipped: Vec<String>,
}

/// The ways to compare.
const WAYS: [&str; 2] = ["side by side", "switched"];

/// The first workload, each side under load for a while before it is measured.
const SUSTAINED: &str = "the first, under sustained load";

/// One place per workload, and one for the sustained load.
fn nothing_measured(workloads: &[Workload]) -> Vec<Option<Measured>> {
    (0..workloads.len() + 1).map(|_| None).collect()
}

/// Adds the rounds of another set of servers.
fn add(to: &mut Option<Measured>, found: Measured) {
    match to {
        Some(before) => before.extend(found),
        empty => *empty = Some(found),
    }
}

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    let started = Instant::now();
    println!("{}", machine());
    let random = Random::new(options.seed);
    let cpus = Cpus::of_this_process();
    let mut run = Run { options, cpus, random, tables: Vec::new(), extras: Vec::new(), skipped: Vec::new() };
    const SERVERS: [&str; 3] = ["mariadb", "postgres", "sqlite"];
    for kind in [Kind::MariaDb, Kind::Postgres] {
        if run.options.wants(kind.name(), &SERVERS) {
            run.servers(kind);
        }
    }
    if run.options.wants("sqlite", &SERVERS) {
        run.applications();
    }
    println!("{:.0} s", started.elapsed().as_secs_f64());
    run.skipped.sort();
    run.skipped.dedup();
    run.skipped.iter().for_each(|line| println!("{line}"));
    if let Some(path) = &run.options.json
        && let Err(e) = std::fs::write(path, format!("{:#}\n", run.json()))
    {
        eprintln!("{}: {e}", path.display());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

impl Run {
    fn servers(&mut self, kind: Kind) {
        if let Some(why) = kind.unavailable() {
            return self.skip(kind.name(), &why);
        }
        if self.options.wants(WAYS[0], &WAYS) {
            self.side_by_side(kind);
        }
        if self.options.wants(WAYS[1], &WAYS) {
            self.switched(kind);
        }
    }

    fn side_by_side(&mut self, kind: Kind) {
        let mut measured = nothing_measured(&servers::WORKLOADS);
        let mut alone = nothing_measured(&servers::WORKLOADS);
        let mut extra = Extra::default();
        for block in 0..self.options.restarts {
            let mut park =
                servers::Park::start(kind, &self.options, &self.cpus, &mut self.random, &mut self.skipped);
            let _pinned = self.cpus.pin_self();
            let last = block + 1 == self.options.restarts;
            if last && !self.options.latency_only {
                extra.idle_percent = park.recorder(settings::DEFAULT).map(idle_percent);
            }
            self.block(&mut park.sides, &servers::WORKLOADS, &mut measured, true);
            if last && !self.options.latency_only {
                let turns = (self.options.rounds / 8).clamp(5, 20);
                extra.throughput = throughput::measure(&park, turns, &mut self.random);
                extra.completeness = park.stop_default();
            }
            drop(park);
            if let Some(mut park) = servers::Park::start_alone(
                kind,
                &self.options,
                &self.cpus,
                &mut self.random,
                &mut self.skipped,
            ) {
                self.block(&mut park.sides, &servers::WORKLOADS, &mut alone, false);
            }
        }
        self.conclude(kind.name(), &servers::WORKLOADS, measured);
        self.conclude(kind.name_alone(), &servers::WORKLOADS, alone);
        print!("{}", extra.text(kind.name()));
        println!();
        self.extras.push((kind.name(), extra));
    }

    /// One server at a time, switched between the settings, with the point selects.
    fn switched(&mut self, kind: Kind) {
        let names = servers::WORKLOADS.map(|workload| workload.name);
        let selects = (0..names.len()).filter(|&number| servers::WORKLOADS[number].weight == 1);
        let wanted: Vec<usize> =
            selects.filter(|&number| self.options.wants(names[number], &names)).collect();
        let settings = settings::SWITCHED.map(|setting| setting.name);
        let wants_again = self.options.wants(settings::AGAIN, &settings);
        let mut measured = nothing_measured(&servers::WORKLOADS);
        let mut again = nothing_measured(&servers::WORKLOADS);
        for _ in 0..self.options.restarts {
            let mut park = match switching::Park::start(kind, &self.options, &self.cpus) {
                Ok(park) => park,
                Err(why) => return self.skip(kind.name_switched(), &why),
            };
            let _pinned = self.cpus.pin_self();
            if !self.options.keep_priority {
                cpus::raise_priority(std::process::id());
            }
            let (queries, rounds) = (self.options.queries, self.options.rounds);
            // One side alone is the base with nothing to be compared.
            for &number in if park.sides.len() > 1 { wanted.as_slice() } else { &[] } {
                let found = measure(&mut park.sides, number, queries, rounds, &mut self.random);
                if park.records() == 0 && found.settings.iter().any(|name| name.starts_with("on")) {
                    return self.skip(kind.name_switched(), "switched on, it records nothing");
                }
                add(&mut measured[number], found);
            }
            if let (true, Some(&number)) = (wants_again, wanted.last()) {
                match again::rounds(&mut park, number, queries, rounds, &mut self.random) {
                    Ok(found) => add(&mut again[number], found),
                    Err(why) => self.skip(kind.name_again(), &why),
                }
            }
        }
        self.conclude(kind.name_switched(), &servers::WORKLOADS, measured);
        self.conclude(kind.name_again(), &servers::WORKLOADS, again);
    }

    fn applications(&mut self) {
        if let Some(why) = sqlite::unavailable() {
            return self.skip("sqlite", &why);
        }
        let mut measured = nothing_measured(&sqlite::WORKLOADS);
        for _ in 0..self.options.restarts {
            let mut park = sqlite::Park::start(&self.options, &self.cpus, &mut self.skipped);
            let _pinned = self.cpus.pin_self();
            self.block(&mut park.sides, &sqlite::WORKLOADS, &mut measured, true);
        }
        self.conclude("sqlite", &sqlite::WORKLOADS, measured);
    }

    /// All workloads over one set of servers, the first one also under sustained load if that is wanted.
    fn block(
        &mut self,
        sides: &mut [Side],
        workloads: &[Workload],
        measured: &mut [Option<Measured>],
        sustained: bool,
    ) {
        if !self.options.keep_priority && !cpus::raise_priority(std::process::id()) {
            eprintln!("not allowed to raise the priority: expect more noise");
        }
        let names: Vec<&str> = servers::WORKLOADS.iter().chain(&sqlite::WORKLOADS).map(|w| w.name).collect();
        for (number, workload) in workloads.iter().enumerate() {
            if !self.options.wants(workload.name, &names) {
                continue;
            }
            let queries = self.burst_length(workload);
            let rounds =
                if workload.weight > 10 { self.options.rounds.div_ceil(4) } else { self.options.rounds };
            let found = measure(sides, number, queries, rounds, &mut self.random);
            add(&mut measured[number], found);
        }
        if sustained && self.options.wants(workloads[0].name, &names) {
            let rounds = self.options.rounds.div_ceil(5);
            let found = measure_sustained(sides, &settings::SUSTAINED, 0, rounds, &mut self.random);
            add(&mut measured[workloads.len()], found);
        }
    }

    fn burst_length(&self, workload: &Workload) -> usize {
        (self.options.queries / workload.weight).max(4)
    }

    fn conclude(&mut self, server: &'static str, workloads: &[Workload], measured: Vec<Option<Measured>>) {
        let names = workloads.iter().map(|w| (w.name, Some(self.burst_length(w)))).chain([(SUSTAINED, None)]);
        for ((workload, queries), found) in names.collect::<Vec<_>>().into_iter().zip(measured) {
            let Some(found) = found else { continue };
            let table = Table::of(server, workload, queries, &found, &mut self.random);
            println!("{}", table.text());
            self.tables.push(table);
        }
    }

    fn skip(&mut self, server: &str, why: &str) {
        eprintln!("skipped: {server}: {why}");
        self.skipped.push(format!("skipped: {server}: {why}"));
    }

    fn json(&self) -> serde_json::Value {
        let tables: Vec<_> = self.tables.iter().map(Table::json).collect();
        let extras: Vec<_> = self.extras.iter().map(|(server, extra)| extra.json(server)).collect();
        serde_json::json!({"schema": 1, "machine": machine(), "seed": self.options.seed,
            "restarts": self.options.restarts, "results": tables, "servers": extras, "skipped": self.skipped})
    }
}

/// CPU of a collector that has nothing to do, over five seconds.
fn idle_percent(recorder: &recorder::Recorder) -> f64 {
    let (before, started) = (recorder.cpu_ns(), Instant::now());
    std::thread::sleep(Duration::from_secs(5));
    (recorder.cpu_ns() - before) as f64 / started.elapsed().as_nanos() as f64 * 100.0
}

/// Processor, CPUs and kernel.
fn machine() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split(": ").nth(1)).unwrap_or("unknown").to_owned()
    };
    let cpus = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{}, {} MHz, {cpus} CPUs, Linux {}", field("model name"), field("cpu MHz"), kernel.trim())
}
