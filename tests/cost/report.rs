//! The results as a table for people and as JSON for machines.

use crate::rounds::{AGAIN, Measured, SUSTAINED};
use crate::statistics::{Estimate, Random, bootstrap, winsorized_mean};
use crate::throughput::Throughput;
use harness::numbers::median;
use serde_json::{Value, json};
use std::fmt::Write;

/// One setting of one workload.
pub struct Row {
    /// Name of the setting.
    pub setting: String,
    /// Median nanoseconds per query.
    pub latency_ns: f64,
    /// Added to the base, median of rounds.
    pub added_ns: Estimate,
    /// The same in percent of the base.
    pub added_percent: Estimate,
    /// Added in percent, mean of rounds: sees what only some rounds pay.
    pub mean_percent: Estimate,
}

/// All settings of one workload on one server.
pub struct Table {
    /// mariadb, postgres or sqlite.
    pub server: &'static str,
    /// The statement's name.
    pub workload: &'static str,
    /// Rounds per setting.
    pub rounds: usize,
    /// Queries per burst; none under sustained load, where the time is given.
    pub queries: Option<usize>,
    /// The first is the base.
    pub rows: Vec<Row>,
}

impl Table {
    /// Compares everything with the first setting, round by round.
    pub fn of(
        server: &'static str,
        workload: &'static str,
        queries: Option<usize>,
        measured: &Measured,
        random: &mut Random,
    ) -> Self {
        let base = &measured.rounds[0];
        let mut rows = Vec::new();
        for (setting, values) in measured.settings.iter().zip(&measured.rounds) {
            let added: Vec<f64> = values.iter().zip(base).map(|(v, b)| v - b).collect();
            let percent: Vec<f64> = values.iter().zip(base).map(|(v, b)| 100.0 * (v / b - 1.0)).collect();
            rows.push(Row {
                setting: setting.clone(),
                latency_ns: median(values),
                added_ns: bootstrap(&added, &measured.sets, random, median),
                added_percent: bootstrap(&percent, &measured.sets, random, median),
                mean_percent: bootstrap(&percent, &measured.sets, random, winsorized_mean),
            });
        }
        Table { server, workload, rounds: base.len(), queries, rows }
    }

    /// The table for people.
    pub fn text(&self) -> String {
        let each = match self.queries {
            Some(queries) => format!("{queries} queries"),
            None => format!("{} ms", SUSTAINED.as_millis()),
        };
        let mut out = format!("{} · {} · {} rounds of {each}\n", self.server, self.workload, self.rounds);
        let _ = writeln!(
            out,
            "  {:44}{:>11}  {:>10}{:>9}  {:19}{:>9}  95 % interval",
            "", "per query", "added", "", "95 % interval", "mean"
        );
        for (number, row) in self.rows.iter().enumerate() {
            let (percent, means) = (row.added_percent, row.mean_percent);
            let _ = write!(out, "  {:44}{:>8.2} µs", row.setting, row.latency_ns / 1e3);
            if number > 0 {
                let _ = write!(
                    out,
                    "  {:>+7.0} ns{:>+7.2} %  {:19}{:>+7.2} %  {}",
                    row.added_ns.value,
                    percent.value,
                    interval(percent),
                    means.value,
                    interval(means)
                );
            }
            out.push('\n');
        }
        out
    }

    /// For machines.
    pub fn json(&self) -> Value {
        let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
        let floor = self.rows.iter().find(|row| row.setting == AGAIN);
        json!({"server": self.server, "workload": self.workload, "rounds": self.rounds, "queries": self.queries,
               "noise_floor": floor.map(Row::json), "settings": rows})
    }
}

impl Row {
    fn json(&self) -> Value {
        json!({"setting": self.setting, "latency_ns": self.latency_ns, "added_ns": estimate(self.added_ns),
               "added_percent": estimate(self.added_percent), "mean_added_percent": estimate(self.mean_percent)})
    }
}

fn interval(e: Estimate) -> String {
    format!("[{:+.2}, {:+.2}]", e.low, e.high)
}

fn estimate(e: Estimate) -> Value {
    json!({"value": e.value, "low": e.low, "high": e.high})
}

/// What was seen of the collector, and the throughput, of one server.
#[derive(Default)]
pub struct Extra {
    /// CPU of the collector with capture on and no load, percent of one CPU.
    pub idle_percent: Option<f64>,
    /// Queries per second at 8 clients.
    pub throughput: Option<Throughput>,
    /// Executions and drops of the default recording, over everything that ran.
    pub completeness: Option<(u64, u64)>,
}

impl Extra {
    /// For people.
    pub fn text(&self, server: &str) -> String {
        let mut out = String::new();
        if let Some(percent) = self.idle_percent {
            let _ = writeln!(out, "{server} · collector, capture on, no load: {percent:.3} % of one CPU");
        }
        if let Some(t) = &self.throughput {
            let _ = writeln!(out, "{server} · throughput of point selects, {} clients", t.clients);
            for (number, (setting, per_second, ratio)) in t.settings.iter().enumerate() {
                let _ = write!(out, "  {setting:44}{per_second:>8.0}/s ");
                if number > 0 {
                    let _ = write!(out, "{:>+20.2} %  {}", ratio.value, interval(*ratio));
                }
                out.push('\n');
            }
            if let Some(ns) = t.collector_cpu_ns_per_million {
                let _ = writeln!(out, "  collector: {:.0} ms of CPU per million executions", ns / 1e6);
            }
        }
        if let Some((executions, dropped)) = self.completeness {
            let _ = writeln!(
                out,
                "{server} · recorded with the default: {executions} executions, {dropped} dropped"
            );
        }
        out
    }

    /// For machines.
    pub fn json(&self, server: &str) -> Value {
        let throughput = self.throughput.as_ref().map(|t| {
            let rows: Vec<Value> = t
                .settings
                .iter()
                .map(|(s, qps, ratio)| {
                    json!({"setting": s, "queries_per_s": qps, "added_percent": estimate(*ratio)})
                })
                .collect();
            json!({"clients": t.clients, "settings": rows,
                   "collector_cpu_ns_per_million": t.collector_cpu_ns_per_million})
        });
        json!({"server": server, "collector_idle_cpu_percent": self.idle_percent, "throughput": throughput,
               "executions": self.completeness.map(|c| c.0), "dropped": self.completeness.map(|c| c.1)})
    }
}
