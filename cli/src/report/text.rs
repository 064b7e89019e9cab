//! The report for people: a table that fits the terminal, then everything that limits its truth.

use super::json::{pid_of, session_name};
use super::{Others, Report, SortKey};
use crate::aggregate::key::Label;
use crate::aggregate::{Key, OTHER, Row};
use crate::derived::derived;
use crate::format::{clean, count, cut, duration, plural, wrap};
use crate::recording::CounterMeta;
use std::io::{self, Write};

/// A statement gets at least so many characters; columns are left out for it.
const STATEMENT_MIN: usize = 36;
/// A statement is shown in at most so many lines.
const STATEMENT_LINES: usize = 2;
/// The weight of events that were asked for by name.
const EVENT_WEIGHT: u32 = 75;
/// The weight of quotients of such events.
const DERIVED_WEIGHT: u32 = 65;
/// Other parts of a key are cut to so many characters.
const LABEL_MAX: usize = 24;

/// A column of numbers.
struct Column {
    title: String,
    cells: Vec<String>,
    /// The lower, the sooner it is left out.
    weight: u32,
}

impl Column {
    fn width(&self) -> usize {
        self.cells.iter().chain([&self.title]).map(|cell| cell.chars().count()).max().unwrap_or(0)
    }
}

/// Writes `report` in lines of `width` characters.
pub fn write(report: &Report, width: usize, out: &mut impl Write) -> io::Result<()> {
    let width = width.clamp(40, 1000);
    writeln!(out, "{}", headline(report))?;
    writeln!(out)?;
    table(report, width, out)?;
    writeln!(out)?;
    writeln!(out, "{}", completeness(report))?;
    if let Some(line) = sampling(report) {
        writeln!(out, "{line}")?;
    }
    unavailable(report, out)?;
    in_flight(report, out)?;
    for warning in &report.warnings {
        writeln!(out, "warning: {} [{}]", clean(&warning.message()), clean(warning.code()))?;
        writeln!(out, "  remedy: {}", clean(warning.remedy()))?;
    }
    Ok(())
}

/// Whose counters were read; nothing where that was everybody's.
fn sampling(report: &Report) -> Option<String> {
    let s = report.sampling;
    if s.executions == 0 || s.counted == s.executions || s.counted + s.cpu_without_call == 0 {
        return None;
    }
    let share = |n: u64| format!("{:.1} %", n as f64 * 100.0 / s.executions as f64);
    Some(format!(
        "Counters read for {} of the executions (budget {} %, spent {}), CPU time known without reading for {}; sums are \
         estimates. --exact reads all.",
        share(s.counted),
        s.budget_ppm as f64 / 10_000.0,
        duration(s.spent_ns as f64),
        share(s.cpu_without_call),
    ))
}

fn headline(report: &Report) -> String {
    let mut parts: Vec<String> = report
        .servers
        .iter()
        .map(|s| {
            let version =
                if s.version.is_empty() { String::new() } else { format!(" {}", clean(&s.version)) };
            format!("{}{version}, pid {}", clean(&s.kind), s.pid)
        })
        .collect();
    let executions = report.completeness.executions;
    let seconds = report.duration_ns as f64 / 1e9;
    parts.push(duration(report.duration_ns as f64));
    let rate =
        if seconds > 0.0 { format!(" ({}/s)", count(executions as f64 / seconds)) } else { String::new() };
    let noun = if executions == 1 { "execution" } else { "executions" };
    parts.push(format!("{} {noun}{rate}", count(executions as f64)));
    parts.join(" · ")
}

fn table(report: &Report, width: usize, out: &mut impl Write) -> io::Result<()> {
    let others = report.others.as_ref();
    let rows: Vec<&Row> = report.rows().chain(others.map(|others| &others.row)).collect();
    if rows.is_empty() {
        return writeln!(out, "No query ran.");
    }
    let labels = labels(report);
    let label_width: usize = labels.iter().map(|column| column.width() + 2).sum();
    let has_statement = report.by().contains(&Key::Digest);
    let wanted = label_width + if has_statement { STATEMENT_MIN } else { 0 };
    let columns = fit(columns(report, &rows), width.saturating_sub(wanted));
    let numbers_width: usize = columns.iter().map(|column| column.width() + 2).sum();
    let room = width.saturating_sub(numbers_width + label_width).max(STATEMENT_MIN / 2);

    let mut line = String::new();
    let numbers = |line: &mut String, index: Option<usize>| {
        for column in &columns {
            let cell = index.map_or(Some(&column.title), |index| column.cells.get(index));
            let (cell, width) = (cell.map_or("", |c| c.as_str()), column.width());
            line.push_str(&format!("{cell:>width$}  "));
        }
        for column in &labels {
            let cell = index.map_or(Some(&column.title), |index| column.cells.get(index));
            let (cell, width) = (cell.map_or("", |c| c.as_str()), column.width());
            line.push_str(&format!("{cell:<width$}  "));
        }
    };
    numbers(&mut line, None);
    writeln!(out, "{}{}", line, if has_statement { "statement" } else { "" }.trim_end())?;
    for (index, row) in rows.iter().enumerate() {
        line.clear();
        numbers(&mut line, Some(index));
        let is_others = index + 1 == rows.len() && others.is_some();
        let shown = match report.aggregator().label(row, Key::Digest) {
            Some(Label::Digest(digest)) => wrap(&clean(&digest.text), room, STATEMENT_LINES),
            _ if is_others && labels.is_empty() => vec![others.map_or(OTHER.to_owned(), others_label)],
            _ => vec![String::new()],
        };
        let mut shown = shown.iter();
        writeln!(out, "{}", format!("{line}{}", shown.next().map_or("", |s| s)).trim_end())?;
        for more in shown {
            writeln!(out, "{:indent$}{more}", "", indent = numbers_width + label_width)?;
        }
    }
    Ok(())
}

/// What the last row is called.
pub(super) fn others_label(others: &Others) -> String {
    match others.rows {
        Some(rows) => format!("(other {})", plural(rows as u64, "row")),
        None => OTHER.to_owned(),
    }
}

/// The parts of keys that are not statements, and what the last row is called.
fn labels(report: &Report) -> Vec<Column> {
    let keys = report.by().iter().filter(|key| **key != Key::Digest);
    let mut columns: Vec<Column> = keys
        .map(|key| {
            let cell = |row: &Row| match report.aggregator().label(row, *key) {
                Some(Label::Server(number)) => pid_of(report, number).to_string(),
                Some(Label::Text("")) => "-".to_owned(),
                Some(Label::Text(text)) => cut(&clean(text), LABEL_MAX).into_owned(),
                _ => String::new(),
            };
            let cells = report.rows().map(cell).collect();
            Column { title: key.name().to_owned(), cells, weight: 0 }
        })
        .collect();
    if let (Some(first), Some(others)) = (columns.first_mut(), &report.others) {
        first.cells.push(others_label(others));
    }
    columns
}

/// All columns of numbers, in the order in which they are shown.
fn columns(report: &Report, rows: &[&Row]) -> Vec<Column> {
    let all_ns = report.latency_sum_ns().max(1) as f64;
    let mut columns: Vec<Column> = Vec::new();
    let mut add = |title: &str, key: Option<&SortKey>, weight: u32, cell: &dyn Fn(&Row) -> String| {
        let weight = if key == Some(&report.sort) { 99 } else { weight };
        let cells = rows.iter().map(|row| cell(row)).collect();
        columns.push(Column { title: title.to_owned(), cells, weight });
    };
    let ns = |ns: u64| duration(ns as f64);
    let n = |n: u64| if n == 0 { "-".to_owned() } else { count(n as f64) };
    add("time", Some(&SortKey::Latency), 90, &|r| {
        format!("{:.1} %", r.latency.sum_ns() as f64 / all_ns * 100.0)
    });
    add("total", None, 60, &|r| ns(r.latency.sum_ns()));
    add("calls", Some(&SortKey::Calls), 91, &|r| count(r.calls as f64));
    add("mean", Some(&SortKey::Mean), 80, &|r| ns(r.latency.mean_ns()));
    add("p95", Some(&SortKey::P95), 50, &|r| ns(r.latency.quantile_ns(0.95)));
    add("p99", Some(&SortKey::P99), 0, &|r| ns(r.latency.quantile_ns(0.99)));
    add("max", Some(&SortKey::Max), 30, &|r| ns(r.latency.max_ns()));
    add("rows", Some(&SortKey::Rows), 40, &|r| n(r.rows_returned));
    add("changed", Some(&SortKey::RowsAffected), 10, &|r| n(r.rows_affected));
    add("received", Some(&SortKey::BytesIn), 0, &|r| crate::format::bytes(r.bytes_in as f64));
    add("sent", Some(&SortKey::BytesOut), 0, &|r| crate::format::bytes(r.bytes_out as f64));
    add("errors", Some(&SortKey::Errors), 45, &|r| n(r.errors));
    for counter in report.counters.iter().filter(|c| c.unavailable.is_none()) {
        let (title, weight) = short(counter);
        let key = SortKey::Counter(counter.name.clone());
        add(&title, Some(&key), weight, &|row| match report.tally(row, counter.id) {
            Some(tally) => {
                let mean = tally.mean().unwrap_or(0.0);
                let shown =
                    if counter.unit == "ns" { duration(mean) } else { count((mean * 100.0).round() / 100.0) };
                let estimated = tally.scaled || tally.variance > 0.0;
                if mean == 0.0 {
                    "-".to_owned()
                } else {
                    format!("{}{shown}", if estimated { "~" } else { "" })
                }
            }
            None => "?".to_owned(),
        });
    }
    for derived in derived(&report.counters) {
        add(&derived.title, None, DERIVED_WEIGHT, &|row| {
            report.derived(row, &derived).map_or("?".to_owned(), crate::derived::shown)
        });
    }
    columns
}

/// A counter's title: what one call costs.
fn short(counter: &CounterMeta) -> (String, u32) {
    let (title, weight) = match counter.name.as_str() {
        "cpu_ns" => ("cpu/call", 70),
        "page_faults_minor" => ("faults/call", 24),
        "page_faults_major" => ("majflt/call", 15),
        "switches_voluntary" => ("waits/call", 23),
        "switches_involuntary" => ("preempt/call", 12),
        name => {
            let mode = match counter.counted_mode() {
                "user" if !name.contains(':') => ":u",
                "kernel" if !name.contains(':') => ":k",
                _ => "",
            };
            // What nobody asked for by name is dispensable.
            let weight = if counter.source.starts_with("perf") { EVENT_WEIGHT } else { 26 };
            let name = if name == "instructions" { "instr" } else { name };
            return (format!("{}{mode}/call", clean(name)), weight);
        }
    };
    (title.to_owned(), weight)
}

/// Leaves out the least important columns until the rest fits `room`. Those without weight are shown only when sorted by.
fn fit(mut columns: Vec<Column>, room: usize) -> Vec<Column> {
    columns.retain(|column| column.weight > 0);
    loop {
        let width: usize = columns.iter().map(|column| column.width() + 2).sum();
        let least =
            columns.iter().enumerate().min_by_key(|(_, column)| column.weight).map(|(index, _)| index);
        match least {
            Some(least) if width > room && columns.len() > 2 => drop(columns.remove(least)),
            _ => return columns,
        }
    }
}

fn completeness(report: &Report) -> String {
    let c = report.completeness;
    let missing = [
        (c.dropped, plural(c.dropped, "record") + " dropped"),
        (c.lost_sessions, plural(c.lost_sessions, "session") + " lost"),
        (c.unknown_text, format!("statement unknown for {}", plural(c.unknown_text, "execution"))),
    ];
    let missing: Vec<String> = missing.into_iter().filter(|(n, _)| *n > 0).map(|(_, text)| text).collect();
    let executions = plural(c.executions, "execution");
    if missing.is_empty() {
        format!("Complete: {executions}, none dropped, every statement known.")
    } else {
        format!("Incomplete: {executions}; {}.", missing.join(", "))
    }
}

/// Counters that were asked for and are not there, those with the same reason together.
fn unavailable(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for counter in &report.counters {
        let Some(why) = &counter.unavailable else { continue };
        match reasons.iter_mut().find(|(known, _)| known == why) {
            Some((_, names)) => names.push(&counter.name),
            None => reasons.push((why, vec![&counter.name])),
        }
    }
    for (why, names) in reasons {
        writeln!(out, "Not available: {}: {}", clean(&names.join(", ")), clean(why))?;
    }
    Ok(())
}

fn in_flight(report: &Report, out: &mut impl Write) -> io::Result<()> {
    if report.in_flight.is_empty() {
        return Ok(());
    }
    writeln!(out, "In flight when the server ended:")?;
    for query in &report.in_flight {
        let who = [&query.user, &query.database, &query.application, &query.client];
        let who: Vec<&str> = who.iter().filter(|part| !part.is_empty()).map(|part| part.as_str()).collect();
        let text = query.sent.as_deref().unwrap_or(&query.text);
        let session = session_name(query);
        let running = duration(query.running_ns as f64);
        writeln!(out, "  {running}, session {session} ({}): {}", clean(&who.join(", ")), clean(text))?;
    }
    Ok(())
}
