//! What is compared: perquery's settings by the options of `perquery record`, and the peers by the servers' options.

use std::time::Duration;

/// How perquery is in a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Perquery {
    /// Not loaded.
    Absent,
    /// Loaded, capture off.
    Off,
    /// Loaded, recorded with the first of these that the command takes.
    On(&'static [&'static [&'static str]]),
    /// Recorded so with some queries, and off again.
    OffAfter(&'static [&'static [&'static str]]),
}

/// One of perquery's settings.
pub struct Setting {
    /// Its name in tables.
    pub name: &'static str,
    /// What it means.
    pub perquery: Perquery,
}

/// Base of all comparisons.
pub const BASE: &str = "not loaded";
/// The default, which throughput and the idle collector are measured with.
pub const DEFAULT: &str = "on, default budget";

/// Those that are also measured under sustained load, where a budget has to choose.
pub const SUSTAINED: [&str; 6] = [
    BASE,
    "loaded, off",
    "on, without dear collectors",
    DEFAULT,
    "on, default budget, 6 perf events",
    "on, --exact",
];

const SIX: &str = "page-faults,context-switches,cpu-migrations,task-clock,minor-faults,major-faults";

/// All of perquery's settings; the base first. Software events, because every machine has them.
pub const SETTINGS: [Setting; 11] = [
    Setting { name: BASE, perquery: Perquery::Absent },
    Setting { name: "not loaded, another server", perquery: Perquery::Absent },
    Setting { name: "loaded, off", perquery: Perquery::Off },
    Setting { name: "on, without dear collectors", perquery: Perquery::On(&[&["--cheap"]]) },
    Setting { name: DEFAULT, perquery: Perquery::On(&[&[]]) },
    Setting { name: "on, default budget, 6 perf events", perquery: Perquery::On(&[&["-e", SIX]]) },
    Setting { name: "on, --exact", perquery: Perquery::On(&[&["--exact"]]) },
    Setting {
        name: "on, --exact, 1 perf event",
        perquery: Perquery::On(&[&["--exact", "-e", "page-faults"]]),
    },
    Setting {
        name: "on, --exact, 3 perf events",
        perquery: Perquery::On(&[&["--exact", "-e", "page-faults,context-switches,cpu-migrations"]]),
    },
    Setting { name: "on, --exact, 6 perf events", perquery: Perquery::On(&[&["--exact", "-e", SIX]]) },
    Setting { name: "off again after 6, others count", perquery: OFF_AGAIN },
];

/// Those that are measured once more by themselves, while no process of the machine has a perf event open.
///
/// A thread that ever had an event keeps the kernel's account of it, which every context switch looks at while anybody
/// has an event open, as the servers of [`SETTINGS`] do; else the kernel skips all that (its key perf_sched_events).
pub const ALONE: [Setting; 3] = [
    Setting { name: BASE, perquery: Perquery::Absent },
    Setting { name: "loaded, off", perquery: Perquery::Off },
    Setting { name: AGAIN, perquery: OFF_AGAIN },
];

/// What a session pays that had perf events, while nobody has one open.
pub const AGAIN: &str = "off again after 6 perf events";
/// Options that open as many.
pub const WITH_EVENTS: [&str; 3] = ["--exact", "-e", SIX];

/// Base of the comparisons within one server: loaded, with the imports of the server pointing past the library.
pub const BYPASSED: &str = "hooks bypassed";

/// What one server is switched between.
pub const SWITCHED: [Setting; 6] = [
    Setting { name: BYPASSED, perquery: Perquery::Absent },
    Setting { name: "loaded, off", perquery: Perquery::Off },
    Setting { name: "on, without dear collectors", perquery: Perquery::On(&[&["--cheap"]]) },
    Setting { name: DEFAULT, perquery: Perquery::On(&[&[]]) },
    Setting { name: "on, --exact", perquery: Perquery::On(&[&["--exact"]]) },
    Setting { name: AGAIN, perquery: OFF_AGAIN },
];

const OFF_AGAIN: Perquery = Perquery::OffAfter(&[&WITH_EVENTS, &["-e", SIX]]);
/// So long after the last event was closed the kernel stops looking (kernel/events/core.c delays that by a second).
pub const KERNEL_FORGETS: Duration = Duration::from_millis(1500);

/// Another tool on the same server.
pub struct Peer {
    /// Its name in tables.
    pub name: &'static str,
    /// The server's options; `{}` stands for the server's own directory.
    pub options: &'static [&'static str],
    /// A file that has to be in PostgreSQL's library directory.
    pub library: Option<&'static str>,
    /// A bpftrace program, `{}` standing for the server's program, to run beside it.
    pub bpftrace: Option<&'static str>,
}

/// MariaDB's peers.
pub const MARIADB_PEERS: [Peer; 4] = [
    Peer {
        name: "peer: performance_schema=ON",
        options: &["--performance-schema=ON"],
        library: None,
        bpftrace: None,
    },
    Peer {
        name: "peer: slow log of all queries",
        options: &["--slow-query-log=1", "--long-query-time=0"],
        library: None,
        bpftrace: None,
    },
    Peer { name: "peer: userstat", options: &["--userstat=1"], library: None, bpftrace: None },
    Peer {
        name: "peer: bpftrace uprobe pair",
        options: &[],
        library: None,
        bpftrace: Some(
            "BEGIN { printf(\"attached\\n\"); } \
             uprobe:{}:_Z16dispatch_command19enum_server_commandP3THDPcjb { @start[tid] = nsecs; } \
             uretprobe:{}:_Z16dispatch_command19enum_server_commandP3THDPcjb /@start[tid]/ \
             { @ns = hist(nsecs - @start[tid]); delete(@start[tid]); }",
        ),
    },
];

/// PostgreSQL's peers.
pub const POSTGRES_PEERS: [Peer; 4] = [
    Peer {
        name: "peer: pg_stat_statements",
        options: &["shared_preload_libraries=pg_stat_statements"],
        library: Some("pg_stat_statements.so"),
        bpftrace: None,
    },
    Peer {
        name: "peer: pg_stat_statements + pg_stat_kcache",
        options: &["shared_preload_libraries=pg_stat_statements,pg_stat_kcache"],
        library: Some("pg_stat_kcache.so"),
        bpftrace: None,
    },
    Peer {
        name: "peer: log_min_duration_statement=0",
        options: &["log_min_duration_statement=0"],
        library: None,
        bpftrace: None,
    },
    Peer {
        name: "peer: auto_explain, all queries",
        options: &["shared_preload_libraries=auto_explain", "auto_explain.log_min_duration=0"],
        library: Some("auto_explain.so"),
        bpftrace: None,
    },
];
