//! Collects from one server: switches capture on, takes what the lanes carry, notices death and losses, switches off.
//!
//! Two threads: one empties the rings and shows that the collector lives, the other resolves, adds up and writes. What
//! goes between them is the records' words, so that a slow disk fills a bounded channel before it fills a ring.

mod claim;
mod drain;
mod in_flight;
mod inflate;
mod resolve;

use crate::aggregate::key::session_name;
use crate::aggregate::{Aggregator, Sample};
use crate::error::{Context, Error, Result};
use crate::recording::{CounterMeta, InFlight, Loaded, Losses, Meta, Sampling, ServerInfo, Writer};
use crate::warnings::Warning;
pub(crate) use claim::Claim;
use crossbeam_channel::RecvTimeoutError;
pub(crate) use drain::{Drain, Message};
use in_flight::Slots;
pub use in_flight::process_is_gone;
use perquery_agent::counters::{CHEAP_MASK, CLIENT_WAIT_NS, CounterId, Selection, Source, Unavailable, info};
use perquery_agent::segment::layout::{PPM, header};
use perquery_agent::segment::reader::{Mapping, decode_all, now_ns};
pub(crate) use resolve::Resolver;
use std::fs::File;
use std::io::{self, IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What to collect from.
pub struct Target {
    /// Its segment.
    pub mapping: Mapping,
    /// The server, as far as it is known before it runs.
    pub server: ServerInfo,
    /// Capture is on already: a launcher switched it on before the program ran.
    pub is_on: bool,
}

/// What the caller knows from moment to moment.
pub trait Watch {
    /// True when the collection is to end: a signal, the time is up.
    fn is_over(&mut self) -> bool;
    /// True when the server has ended; asked a few times a second.
    fn has_ended(&mut self) -> bool;
}

/// Where the executions go.
pub struct Outputs {
    /// The recording, if one is written.
    pub recording: Option<(PathBuf, File)>,
    /// The sums, if a report follows at once.
    pub aggregator: Option<Aggregator>,
}

/// What a collection brought.
pub struct Collected {
    /// The sums that were asked for.
    pub aggregator: Option<Aggregator>,
    /// Everything beside the executions.
    pub about: Loaded,
    /// Executions collected.
    pub executions: u64,
    /// Bytes in the recording.
    pub bytes_written: u64,
    /// The server ended while it was watched.
    pub server_ended: bool,
    /// Why the recording ends early, if it does.
    pub failed: Option<Error>,
}

/// How often the slow side looks around: death of the server or of a backend, losses, the progress line.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What was asked for, and the counters that come without perf.
pub fn with_cheap(selection: &Selection) -> Selection {
    let mut all = selection.clone();
    all.wanted.mask |= CHEAP_MASK;
    all
}

/// Collects until `watch` says that it is over or that the server has ended.
pub fn collect(
    target: Target,
    selection: &Selection,
    outputs: Outputs,
    watch: &mut dyn Watch,
) -> Result<Collected> {
    let mapping = Arc::new(target.mapping);
    let claim = Claim::take(Arc::clone(&mapping), target.server.pid)?;
    let started = Instant::now();
    let mut meta = Meta {
        servers: vec![target.server],
        counters: counter_metas(selection),
        start_unix_ns: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64),
        start_monotonic_ns: now_ns(),
        writer: format!("perquery {}", env!("CARGO_PKG_VERSION")),
    };
    let mut recording = match outputs.recording {
        Some((path, file)) => Some((Writer::new(file, &meta).context(|| cannot_write(&path))?, path)),
        None => None,
    };
    let before = losses(&mapping)?;
    let drain = Drain::start(Arc::clone(&mapping), selection.wanted, target.is_on);
    let mut side = Side {
        resolver: Resolver::new(Arc::clone(&mapping)),
        aggregator: outputs.aggregator,
        executions: 0,
        broken: 0,
    };
    let mut slots = Slots::default();
    let mut about = Loaded::default();
    let mut progress = Progress::new(started);
    let mut failed = None;
    let mut server_ended = false;
    let mut next_look = Instant::now();
    loop {
        match drain.messages().recv_timeout(LOOK_EVERY.min(Duration::from_millis(100))) {
            Ok(Message(words)) => side.take(&words, &mut recording, &mut failed),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        let over = watch.is_over() || failed.is_some();
        if over || next_look <= Instant::now() {
            next_look = Instant::now() + LOOK_EVERY;
            // A backend that died is looked at before the server itself: PostgreSQL survives its backends.
            let now = now_ns();
            about.in_flight.extend(slots.look(&mapping, &mut side.resolver, now, process_is_gone));
            server_ended = watch.has_ended();
            refresh(&mut meta.servers, &mapping);
            progress.show(side.executions, losses(&mapping)?.dropped.saturating_sub(before.dropped));
            if over || server_ended {
                break;
            }
        }
    }
    let duration_ns = started.elapsed().as_nanos() as u64;
    // Off first, so that nothing new comes; what was being written needs a moment.
    drain.stop();
    for Message(words) in drain.messages() {
        side.take(&words, &mut recording, &mut failed);
    }
    let drained = drain.join();
    if server_ended {
        about.in_flight.extend(slots.look(&mapping, &mut side.resolver, now_ns(), |_| true));
    }
    drop(claim);
    progress.clear();
    let after = losses(&mapping)?;
    about.losses = Losses {
        dropped: after.dropped.saturating_sub(before.dropped),
        lost_sessions: after.lost_sessions.saturating_sub(before.lost_sessions),
        evicted_statements: after.evicted_statements.saturating_sub(before.evicted_statements),
        gap_ns: drained.gap_ns,
        lost_reasons: Vec::new(),
        sampling: sampling(&before.sampling, &after.sampling, selection.wanted.budget_ppm.into()),
    };
    let running = if server_ended { 0 } else { in_flight::still_running(&mapping) };
    if running > 0 {
        about.warnings.push(Warning::Other {
            code: "still-running".to_owned(),
            message: format!(
                "{} still running when capture ended and not in the numbers",
                match running {
                    1 => "1 query was".to_owned(),
                    n => format!("{n} queries were"),
                }
            ),
            remedy: "capture for longer than the longest query runs".to_owned(),
        });
    }
    let damaged = drained.corrupt + side.broken;
    if damaged > 0 {
        about.warnings.push(Warning::Other {
            code: "damaged-records".to_owned(),
            message: format!("{damaged} records or rings of the segment made no sense and were skipped"),
            remedy: "something wrote into the segment, or the library and this command do not belong together; please \
                     report it"
                .to_owned(),
        });
    }
    note_unavailable(&mut meta.counters, &mapping, &drained.lanes);
    refresh(&mut meta.servers, &mapping);
    if server_ended && !about.in_flight.is_empty() {
        let pid = meta.servers.first().map_or(0, |s| s.pid);
        about.warnings.push(Warning::ServerDied { pid, in_flight: about.in_flight.len() });
    }
    about.duration_ns = Some(duration_ns);
    let mut bytes_written = 0;
    if let Some((mut writer, path)) = recording.take()
        && failed.is_none()
    {
        let done = (|| {
            writer.meta(&meta)?;
            writer.losses(&about.losses)?;
            about.in_flight.iter().try_for_each(|query| writer.in_flight(query))?;
            about.warnings.iter().try_for_each(|warning| writer.warning(warning))?;
            bytes_written = writer.bytes_written();
            writer.finish(duration_ns).map(drop)
        })();
        failed = done.err().map(|e| write_failed(&path, &e));
    }
    about.meta = meta;
    Ok(Collected {
        aggregator: side.aggregator,
        about,
        executions: side.executions,
        bytes_written,
        server_ended,
        failed,
    })
}

fn cannot_write(path: &Path) -> String {
    format!("the recording {} can't be written", path.display())
}

fn write_failed(path: &Path, e: &io::Error) -> Error {
    Error::new(format!(
        "the recording {} ends early: {e}; what was written before is kept and can be reported; make room or name \
         another file with -o",
        path.display()
    ))
}

/// The slow side: words in, sums and frames out.
struct Side {
    resolver: Resolver,
    aggregator: Option<Aggregator>,
    executions: u64,
    broken: u64,
}

impl Side {
    fn take(
        &mut self,
        words: &[u64],
        recording: &mut Option<(Writer<File>, PathBuf)>,
        failed: &mut Option<Error>,
    ) {
        let Side { resolver, aggregator, executions, broken } = self;
        decode_all(
            words,
            |mut execution| {
                resolver.with(&mut execution, |sample: &Sample| {
                    *executions +=
                        u64::from(sample.execution.kind == perquery_agent::segment::record::KIND_EXECUTION);
                    if let Some(aggregator) = aggregator {
                        aggregator.add(sample);
                    }
                    if let Some((writer, path)) = recording
                        && failed.is_none()
                        && let Err(e) = writer.add(sample)
                    {
                        *failed = Some(write_failed(path, &e));
                    }
                });
            },
            || *broken += 1,
        );
    }
}

/// What was counted since `before`, and the price.
fn sampling(before: &Sampling, after: &Sampling, budget_ppm: u64) -> Sampling {
    let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Sampling {
        budget_ppm,
        executions: after.executions.saturating_sub(before.executions),
        counted: after.counted.saturating_sub(before.counted),
        cpu_without_call: after.cpu_without_call.saturating_sub(before.cpu_without_call),
        spent_ns: after.spent_ns.saturating_sub(before.spent_ns),
        probability_ppm: after.probability_ppm,
        collector_cpu_ns: (cpu.tv_sec as u64)
            .saturating_mul(1_000_000_000)
            .saturating_add(cpu.tv_nsec as u64),
    }
}

/// Losses since the segment was made.
pub(crate) fn losses(mapping: &Mapping) -> Result<Losses> {
    let segment = mapping.segment().map_err(|e| Error::new(format!("the segment changed under us: {e}")))?;
    let word = |at: usize| segment.word(at).load(Ordering::Relaxed);
    let lanes = || (0..segment.shape().lanes).filter_map(|n| segment.lane(n));
    let drops: u64 = lanes().map(|lane| lane.drops()).fold(0, u64::saturating_add);
    let mut sampling = Sampling { probability_ppm: PPM, ..Sampling::default() };
    for account in lanes().map(|lane| lane.account()).filter(|account| account.executions != 0) {
        sampling.executions = sampling.executions.saturating_add(account.executions);
        sampling.counted = sampling.counted.saturating_add(account.counted);
        sampling.cpu_without_call = sampling.cpu_without_call.saturating_add(account.cpu_for_free);
        sampling.spent_ns = sampling.spent_ns.saturating_add(account.spent_ns);
        sampling.probability_ppm = sampling.probability_ppm.min(account.probability_ppm);
    }
    Ok(Losses {
        dropped: drops.saturating_add(word(header::DROPS_NO_LANE)),
        lost_sessions: word(header::LOST_SESSIONS),
        evicted_statements: word(header::EVICTED_STATEMENTS),
        sampling,
        ..Losses::default()
    })
}

/// Under `perquery run` the program is known only once it has come to its first session.
fn refresh(servers: &mut [ServerInfo], mapping: &Mapping) {
    let Some(server) = servers.first_mut() else { return };
    let Ok(segment) = mapping.segment() else { return };
    if server.exe.is_empty() {
        let mut exe = [0; header::EXE_WORDS * 8];
        let n = segment.exe(&mut exe);
        server.exe = String::from_utf8_lossy(exe.get(..n).unwrap_or(&[])).into_owned();
        if !server.exe.is_empty() {
            server.kind = crate::find::kind_of(&server.exe);
            server.pid = u32::try_from(segment.word(header::PID).load(Ordering::Relaxed)).unwrap_or(0);
        }
    }
}

pub(crate) fn counter_metas(selection: &Selection) -> Vec<CounterMeta> {
    (0..64u8)
        .filter(|id| selection.wanted.mask & (1 << id) != 0 || *id == CLIENT_WAIT_NS)
        .map(|id| CounterMeta {
            id,
            name: selection.name(id).unwrap_or("?").to_owned(),
            unit: info(id).map_or("", |row| row.unit).to_owned(),
            source: match info(id).map(|row| row.source) {
                Some(Source::Rusage) => "rusage",
                Some(Source::ThreadClock) => "thread clock",
                Some(Source::Session) => "session",
                Some(Source::PerfSoftware) => "perf software",
                Some(Source::PerfHardware) | None => "perf hardware",
            }
            .to_owned(),
            unavailable: None,
            user_only: false,
            mode: mode(selection, id).to_owned(),
        })
        .collect()
}

/// The mode that `:u` or `:k` asked for.
fn mode(selection: &Selection, id: CounterId) -> &'static str {
    match selection.modes(id) {
        (true, false) => "user",
        (false, true) => "kernel",
        _ => "",
    }
}

/// What the threads that recorded found out about their counters.
pub(crate) fn note_unavailable(counters: &mut [CounterMeta], mapping: &Mapping, lanes: &[usize]) {
    let Ok(segment) = mapping.segment() else { return };
    let noted: Vec<_> = lanes.iter().filter_map(|n| segment.lane(*n)).map(|l| l.counters_noted()).collect();
    for counter in counters {
        let reason =
            |codes: &[u8; 64]| codes.get(usize::from(counter.id)).and_then(|c| Unavailable::from_code(*c));
        let reasons: Vec<_> = noted.iter().map(|(codes, _)| reason(codes)).collect();
        if !reasons.is_empty()
            && reasons.iter().all(Option::is_some)
            && let Some(Some(reason)) = reasons.first()
        {
            counter.unavailable = Some(format!("{}; {}", reason.why(), reason.remedy()));
        }
        // Nothing is missing where nothing else was asked for.
        let all_asked = counter.mode.is_empty();
        counter.user_only = all_asked && noted.iter().any(|(_, user)| user & (1 << counter.id) != 0);
    }
}

/// The line that shows on a terminal that something is going on.
struct Progress {
    started: Instant,
    shown: bool,
    on: bool,
}

impl Progress {
    fn new(started: Instant) -> Self {
        Progress { started, shown: false, on: io::stderr().is_terminal() }
    }

    fn show(&mut self, executions: u64, dropped: u64) {
        if self.on {
            self.shown = true;
            let seconds = self.started.elapsed().as_secs_f64();
            let _ = write!(
                io::stderr(),
                "\rrecording {seconds:.0} s: {} executions, {dropped} dropped\x1b[K",
                crate::format::count(executions as f64)
            );
        }
    }

    fn clear(&mut self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// Prints the queries that were under way when their process ended.
pub fn print_in_flight(to: &mut impl io::Write, queries: &[InFlight]) -> io::Result<()> {
    if queries.is_empty() {
        return Ok(());
    }
    writeln!(to, "in flight when its process ended:")?;
    for query in queries {
        let text = query.sent.as_deref().unwrap_or(&query.text);
        writeln!(
            to,
            "  session {} {}@{} {} {}: running for {}: {}",
            session_name(query.session_uid, query.connection_id),
            query.user,
            query.client,
            query.database,
            query.application,
            crate::format::duration(query.running_ns as f64),
            crate::format::clean(text),
        )?;
    }
    Ok(())
}
