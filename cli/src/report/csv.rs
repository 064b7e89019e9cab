//! The CSV report: one line per row, for spreadsheets.
//!
//! The columns are the keys (a digest has two: its hash and its text), then the numbers of the JSON report with the
//! dots of their names replaced by underscores: `latency_p95_ns`, `cpu_ns_sum`; those of `derived` have their own names. An empty field is a number that is not
//! available. The sum of the rows that are not shown comes last, with `(other 7 rows)` in the first column. Warnings
//! have no place in it: they go to the terminal.

use super::Report;
use super::json::{Number, Quantiles, pid_of};
use crate::aggregate::key::Label;
use crate::aggregate::{Key, Row};
use crate::derived::derived;
use ::csv::WriterBuilder;
use std::io::{self, Write};

const NUMBERS: [&str; 7] =
    ["calls", "statements", "errors", "rows_returned", "rows_affected", "bytes_in", "bytes_out"];
const QUANTILES: [&str; 7] = ["sum_ns", "min_ns", "mean_ns", "p50_ns", "p95_ns", "p99_ns", "max_ns"];

/// Writes `report`.
pub fn write(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let mut csv = WriterBuilder::new().flexible(true).from_writer(out);
    csv.write_record(header(report)).map_err(io_error)?;
    for row in report.rows() {
        csv.write_record(key_fields(report, row).into_iter().chain(numbers(report, row)))
            .map_err(io_error)?;
    }
    if let Some(others) = &report.others {
        let mut key = vec![String::new(); key_columns(report).len().max(1)];
        if let Some(first) = key.first_mut() {
            *first = super::text::others_label(others);
        }
        csv.write_record(key.into_iter().chain(numbers(report, &others.row))).map_err(io_error)?;
    }
    csv.flush()
}

fn io_error(e: ::csv::Error) -> io::Error {
    match e.into_kind() {
        ::csv::ErrorKind::Io(e) => e,
        other => io::Error::other(format!("{other:?}")),
    }
}

fn key_columns(report: &Report) -> Vec<&'static str> {
    let columns = |key: &Key| match key {
        Key::Digest => vec!["digest", "text"],
        key => vec![key.name()],
    };
    let columns: Vec<_> = report.by().iter().flat_map(columns).collect();
    // Without keys there is still a place for "(other …)".
    if columns.is_empty() { vec!["all"] } else { columns }
}

fn header(report: &Report) -> Vec<String> {
    let mut header: Vec<String> = key_columns(report).into_iter().map(str::to_owned).collect();
    header.extend(NUMBERS.map(str::to_owned));
    for distribution in ["latency", "first_byte"] {
        header.extend(QUANTILES.map(|name| format!("{distribution}_{name}")));
    }
    for counter in &report.counters {
        header.extend(
            ["sum", "mean", "stderr", "counted_calls"].map(|part| format!("{}_{part}", counter.name)),
        );
    }
    header.extend(derived(&report.counters).into_iter().map(|derived| derived.name));
    header
}

fn key_fields(report: &Report, row: &Row) -> Vec<String> {
    if report.by().is_empty() {
        return vec![String::new()];
    }
    let mut fields = Vec::new();
    for key in report.by() {
        match report.aggregator().label(row, *key) {
            Some(Label::Digest(digest)) => fields.extend([digest.hex(), digest.text.clone()]),
            Some(Label::Server(number)) => fields.push(pid_of(report, number).to_string()),
            Some(Label::Text(text)) => fields.push(text.to_owned()),
            None => fields.push(String::new()),
        }
    }
    fields
}

fn numbers(report: &Report, row: &Row) -> Vec<String> {
    let numbers = [
        row.calls,
        row.statements,
        row.errors,
        row.rows_returned,
        row.rows_affected,
        row.bytes_in,
        row.bytes_out,
    ];
    let mut fields: Vec<String> = numbers.map(|n| n.to_string()).into();
    for distribution in [&row.latency, &row.first_byte] {
        let q = Quantiles::of(distribution);
        let quantiles = [q.sum_ns, q.min_ns, q.mean_ns, q.p50_ns, q.p95_ns, q.p99_ns, q.max_ns];
        fields.extend(
            quantiles.map(|ns| if distribution.count() == 0 { String::new() } else { ns.to_string() }),
        );
    }
    for counter in &report.counters {
        match report.tally(row, counter.id) {
            Some(tally) => fields.extend([
                serde_json::to_string(&Number(tally.sum)).unwrap_or_default(),
                tally.mean().unwrap_or(0.0).to_string(),
                tally.stderr().to_string(),
                tally.counted.to_string(),
            ]),
            None => fields.extend([const { String::new() }; 4]),
        }
    }
    let derived = derived(&report.counters);
    fields.extend(derived.iter().map(|d| report.derived(row, d).map_or(String::new(), |v| v.to_string())));
    fields
}
