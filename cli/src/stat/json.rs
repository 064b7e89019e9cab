//! `perquery stat --format json`: the contract for machines.
//!
//! One object. Every number has its unit in its name or in the name of the counter it belongs to. New keys may be added
//! under the same `schema`; removing one or changing what it means gives a new one. A test keeps this table and the
//! output equal. SUMMARY stands for the six keys of the second table.
//!
//! | key | meaning |
//! | --- | --- |
//! | `schema` | 1: this table |
//! | `server` | the server, or the program with SQLite in it |
//! | `server.pid` | process; of PostgreSQL the postmaster |
//! | `server.kind` | `mariadb`, `mysql`, `postgresql`, `sqlite` |
//! | `server.version` | as it says itself; empty when not known |
//! | `server.exe` | its executable |
//! | `connection_id` | the session that was captured; 0 for SQLite |
//! | `warm_up` | unmeasured executions of each statement before the others |
//! | `seed` | what the order of the executions began with |
//! | `net` | true: the median of `baseline` is subtracted from all numbers of `statements`, but from `mad` |
//! | `headline` | the counter to look at first: `cycles`, or `cpu_ns` where there are no cycles |
//! | `statements` | in the order they were given |
//! | `statements[].sql` | as it was given; normalised where it may carry a password |
//! | `statements[].digest` | hash of the normalised statement, 16 hexadecimal digits |
//! | `statements[].executions` | measured executions in the numbers |
//! | `statements[].rows` | fewest and most rows that an execution returned |
//! | `statements[].latency_ns` | SUMMARY: from the command's last byte to the server's being ready for the next one |
//! | `statements[].round_trip_ns` | SUMMARY: from this command's sending it to its having read the last row; null for SQLite |
//! | `statements[].counters` | by name, SUMMARY or `unavailable`: `cpu_ns`, `page_faults_minor`, `cycles` |
//! | `statements[].counters.*.unavailable` | why there is no number, and what to do |
//! | `statements[].derived` | quotients of medians where both are known: `cycles_per_instruction`, `cache_misses_per_1000_instructions` |
//! | `baseline` | an empty statement on the same connection, measured in turn; like one of `statements`, never net |
//! | `comparison` | with `--compare`: every statement against the first, by headline and by latency |
//! | `comparison[].statement` | its number; the first one is 1 |
//! | `comparison[].counter` | what is compared |
//! | `comparison[].ratio` | its median by the first one's; null where that is not above 0 |
//! | `comparison[].ci95` | 95 % confidence interval of `ratio`; null likewise |
//! | `comparison[].verdict` | `faster`, `slower`, `no difference seen` (at this number of executions), `unknown` |
//! | `assertions` | `--assert` by statement |
//! | `assertions[].assertion` | as it was written |
//! | `assertions[].statement` | the statement's number |
//! | `assertions[].value` | what was measured |
//! | `assertions[].limit` | what it was compared with |
//! | `assertions[].holds` | whether it holds; one that does not gives exit status 1 |
//! | `warnings` | every reason why numbers may be wrong or missing |
//! | `warnings[].code` | names the kind; never changes its meaning |
//! | `warnings[].message` | what happened, for people |
//! | `warnings[].remedy` | what to do about it |
//!
//! | key of SUMMARY | meaning |
//! | --- | --- |
//! | `median` | half of the executions cost no more |
//! | `mean` | sum by number |
//! | `min` | the cheapest execution |
//! | `p95` | 95 % of the executions cost no more |
//! | `mad` | median absolute deviation from the median |
//! | `ci95` | two numbers: 95 % confidence interval of `median`, by bootstrap |

use super::outcome::{Comparison, Cost, LATENCY, Outcome, ROUND_TRIP, Statement};
use super::statistics::Summary;
use crate::warnings::Warning;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Version of the table above.
pub const SCHEMA: u32 = 1;

/// Writes the document.
pub fn write(outcome: &Outcome, mut to: impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut to, &document(outcome))?;
    writeln!(to)
}

fn document(outcome: &Outcome) -> Value {
    json!({
        "schema": SCHEMA,
        "server": outcome.server,
        "connection_id": outcome.connection_id,
        "warm_up": outcome.warm_up,
        "seed": outcome.seed,
        "net": outcome.net,
        "headline": outcome.headline,
        "statements": outcome.statements.iter().map(statement).collect::<Vec<_>>(),
        "baseline": statement(&outcome.baseline),
        "comparison": outcome.comparisons.iter().map(comparison).collect::<Vec<_>>(),
        "assertions": outcome.assertions.iter().map(|judged| json!({
            "assertion": judged.assertion.text,
            "statement": judged.statement,
            "value": judged.value,
            "limit": judged.assertion.limit,
            "holds": judged.holds,
        })).collect::<Vec<_>>(),
        "warnings": outcome.warnings.iter().map(warning).collect::<Vec<_>>(),
    })
}

fn statement(of: &Statement) -> Value {
    let counters: Map<String, Value> = of
        .costs
        .iter()
        .filter(|(name, _)| ![LATENCY, ROUND_TRIP].contains(&name.as_str()))
        .map(|(name, cost)| (name.clone(), self::cost(Some(cost))))
        .collect();
    json!({
        "sql": of.sql,
        "digest": of.digest,
        "executions": of.executions,
        "rows": of.rows,
        LATENCY: cost(of.cost(LATENCY)),
        ROUND_TRIP: cost(of.cost(ROUND_TRIP)),
        "counters": counters,
        "derived": of.derived.iter().cloned().collect::<BTreeMap<_, _>>(),
    })
}

fn cost(of: Option<&Cost>) -> Value {
    match of {
        Some(Cost::Counted(Summary { median, mean, min, p95, mad, ci95 })) => {
            json!({"median": median, "mean": mean, "min": min, "p95": p95, "mad": mad, "ci95": ci95})
        }
        Some(Cost::Unavailable(why)) => json!({ "unavailable": why }),
        None => Value::Null,
    }
}

fn comparison(of: &Comparison) -> Value {
    json!({
        "statement": of.statement,
        "counter": of.counter,
        "ratio": of.ratio.map(|r| r.ratio),
        "ci95": of.ratio.map(|r| r.ci95),
        "verdict": of.verdict.word(),
    })
}

fn warning(of: &Warning) -> Value {
    json!({"code": of.code(), "message": of.message(), "remedy": of.remedy()})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stat::outcome::tests::{example, example_with_cycles};
    use std::collections::BTreeSet;

    /// The keys of a document as the table writes them.
    fn keys(value: &Value, path: &str, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    let is_summary = map.contains_key("median");
                    let path = match path {
                        "" => key.clone(),
                        _ if is_summary => format!("SUMMARY.{key}"),
                        _ if path.ends_with(".derived") => format!("{path}.*"),
                        _ if path.ends_with(".counters") => format!("{path}.*"),
                        _ => format!("{path}.{key}"),
                    };
                    if !path.ends_with(".*") {
                        found.insert(path.clone());
                    }
                    keys(value, &path, found);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| keys(item, &format!("{path}[]"), found)),
            _ => {}
        }
    }

    #[test]
    fn the_table_and_the_document_have_the_same_keys() {
        let source = include_str!("json.rs");
        let mut in_summary = false;
        let mut documented = BTreeSet::new();
        for line in source.lines().filter_map(|line| line.strip_prefix("//! | ")) {
            in_summary |= line.starts_with("key of SUMMARY");
            if let Some((key, _)) = line.strip_prefix('`').and_then(|rest| rest.split_once('`')) {
                documented.insert(if in_summary { format!("SUMMARY.{key}") } else { key.to_owned() });
            }
        }
        let mut found = BTreeSet::new();
        keys(&document(&example()), "", &mut found);
        // Documented by "like one of `statements`".
        found.retain(|key| !key.starts_with("baseline."));
        assert_eq!(found, documented);
    }

    #[test]
    fn a_document_has_numbers_where_they_were_counted_and_reasons_where_not() {
        let mut text = Vec::new();
        write(&example(), &mut text).unwrap();
        let read: Value = serde_json::from_slice(&text).unwrap();
        let one = &read["statements"][0];
        assert!(
            one["counters"]["cpu_ns"]["ci95"][1].as_f64() >= one["counters"]["cpu_ns"]["median"].as_f64()
        );
        assert!(one["counters"]["cycles"]["unavailable"].as_str().unwrap().contains("no such event"));
        assert_eq!(read["assertions"][0]["holds"], Value::Bool(false));
        assert_eq!(read["comparison"][0]["verdict"], "slower");
        let derived = document(&example_with_cycles())["statements"][0]["derived"].clone();
        assert_eq!(derived, json!({"cycles_per_instruction": 1.5}));
    }
}
