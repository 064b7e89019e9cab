//! The JSON report: the contract for machines.
//!
//! One object, in one line per row. Every number has its unit in its name; times are integers of nanoseconds. New keys
//! may be added under the same `schema`; removing one or changing what it means gives a new one. A test keeps this
//! table and the reports equal.
//!
//! | key | meaning |
//! | --- | --- |
//! | `schema` | 1: this table |
//! | `server` | the servers that were watched |
//! | `server[].pid` | process; of PostgreSQL the postmaster |
//! | `server[].kind` | `mariadb`, `mysql`, `postgresql`, `sqlite` |
//! | `server[].version` | as it says itself; empty when not known |
//! | `server[].exe` | its executable |
//! | `period` | when capture was on |
//! | `period.start_unix_ns` | since then, ns since 1970 |
//! | `period.duration_ns` | for so long |
//! | `by` | what makes a row: any of `digest`, `user`, `database`, `application`, `client`, `session`, `server`, `error` |
//! | `sort` | what the rows are sorted by, largest first |
//! | `completeness` | how much is missing |
//! | `completeness.executions` | executions in the report |
//! | `completeness.dropped` | records that were dropped because a ring was full |
//! | `completeness.lost_sessions` | sessions whose protocol could not be followed; their queries are missing |
//! | `completeness.unknown_text` | executions whose statement is not known |
//! | `sampling` | whose counters were read, and what that cost |
//! | `sampling.budget_ppm` | the budget in millionths of the executions' time; 0: none, every execution was counted |
//! | `sampling.executions` | executions recorded |
//! | `sampling.counted` | executions whose counters were read |
//! | `sampling.cpu_without_call` | executions whose CPU time was known exactly without a system call |
//! | `sampling.spent_ns` | what the readings cost the server's threads |
//! | `sampling.probability_ppm` | the least probability of being counted among the threads at the end, in millionths |
//! | `sampling.collector_cpu_ns` | CPU time of the collector |
//! | `rows` | one for each key; what was folded together comes last |
//! | `rows[].key` | an entry for each of `by`; the last row may have `other_rows` instead |
//! | `rows[].key.digest` | hash of `text`, 16 hexadecimal digits, the same on every host |
//! | `rows[].key.text` | the normalised statement; there when `digest` is |
//! | `rows[].key.user` | as the client logged in |
//! | `rows[].key.database` | the current database; empty when none |
//! | `rows[].key.application` | `program_name`, `application_name`; empty when none |
//! | `rows[].key.client` | the client's host; empty when not known |
//! | `rows[].key.session` | `connection#number`: the server's own connection id, and a number unique within the recording; only `#number` where there is no login |
//! | `rows[].key.server` | `pid` of one of `server` |
//! | `rows[].key.error` | `1062/23000`, `23505`, `19`: errno and SQLSTATE as the server gave them; empty: no error |
//! | `rows[].key.other_rows` | how many rows this one is the sum of; null when there were too many to tell |
//! | `rows[].calls` | executions: units of work between a command and being ready for the next |
//! | `rows[].statements` | statements in them; 0 for a ping, several for a batch |
//! | `rows[].errors` | calls that failed |
//! | `rows[].rows_returned` | rows sent to the client |
//! | `rows[].rows_affected` | rows changed, as the server said |
//! | `rows[].bytes_in` | protocol bytes received |
//! | `rows[].bytes_out` | protocol bytes sent |
//! | `rows[].latency` | from the command's last byte to the server's being ready for the next command |
//! | `rows[].latency.sum_ns` | exact |
//! | `rows[].latency.min_ns` | exact |
//! | `rows[].latency.mean_ns` | exact, rounded |
//! | `rows[].latency.p50_ns` | 50 % took no longer; exact for up to 64 calls, within 1 % for more |
//! | `rows[].latency.p95_ns` | 95 % took no longer |
//! | `rows[].latency.p99_ns` | 99 % took no longer |
//! | `rows[].latency.max_ns` | exact |
//! | `rows[].first_byte` | from the command's last byte to the first byte of the response; null when none was seen |
//! | `rows[].first_byte.sum_ns` | exact, of the calls that had a response |
//! | `rows[].first_byte.min_ns` | exact |
//! | `rows[].first_byte.mean_ns` | exact, rounded |
//! | `rows[].first_byte.p50_ns` | exact for up to 64 calls, within 10 % for more |
//! | `rows[].first_byte.p95_ns` | likewise |
//! | `rows[].first_byte.p99_ns` | likewise |
//! | `rows[].first_byte.max_ns` | exact |
//! | `rows[].counters` | an entry for each counter that was asked for, by its name: `cpu_ns`, `page_faults_minor`, `cycles` |
//! | `rows[].counters.*.sum` | over all calls; an estimate where not all were counted |
//! | `rows[].counters.*.mean` | per call |
//! | `rows[].counters.*.stderr` | standard error of `sum`; 0 when all calls were counted |
//! | `rows[].counters.*.counted_calls` | calls that were counted |
//! | `rows[].counters.*.source` | where it comes from: `rusage`, `thread clock`, `perf software`, `perf hardware` |
//! | `rows[].counters.*.mode` | `user` or `kernel`, where only that was counted; absent: both, or it knows no modes |
//! | `rows[].counters.*.scaled` | true, or absent: the event was multiplexed and its values are scaled |
//! | `rows[].counters.*.unavailable` | instead of all the others: why there is no number, and what to do |
//! | `rows[].derived` | quotients of counters where both are known: `cycles_per_instruction`, `cache_misses_per_1000_instructions` |
//! | `rows[].members` | only for batches, by `digest`: the different statements |
//! | `rows[].members[].digest` | like `rows[].key.digest` |
//! | `rows[].members[].text` | like `rows[].key.text` |
//! | `rows[].members[].statements` | how often it was executed within the batches |
//! | `in_flight` | queries that were under way when the server ended |
//! | `in_flight[].server` | `pid` of one of `server` |
//! | `in_flight[].session` | like `rows[].key.session` |
//! | `in_flight[].user` | like `rows[].key.user` |
//! | `in_flight[].database` | like `rows[].key.database` |
//! | `in_flight[].application` | like `rows[].key.application` |
//! | `in_flight[].client` | like `rows[].key.client` |
//! | `in_flight[].running_ns` | for how long it had been running |
//! | `in_flight[].text` | the normalised statement |
//! | `warnings` | every reason why numbers may be wrong or missing |
//! | `warnings[].code` | names the kind; never changes its meaning |
//! | `warnings[].message` | what happened, for people |
//! | `warnings[].remedy` | what to do about it |

use super::{Completeness, Report};
use crate::aggregate::distribution::Distribution;
use crate::aggregate::key::{self, Label};
use crate::aggregate::{Key, Row};
use crate::derived::derived;
use crate::recording::{CounterMeta, InFlight, Sampling, ServerInfo};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use std::io::{self, Write};

/// Version of the table above.
pub const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Head<'a> {
    schema: u32,
    server: &'a [ServerInfo],
    period: Period,
    by: Vec<&'static str>,
    sort: &'a str,
    completeness: Completeness,
    sampling: Sampling,
}

#[derive(Serialize)]
struct Period {
    start_unix_ns: u64,
    duration_ns: u64,
}

#[derive(Serialize)]
struct Tail<'a> {
    in_flight: Vec<Query<'a>>,
    warnings: Vec<WarningObject<'a>>,
}

#[derive(Serialize)]
struct Query<'a> {
    server: u32,
    session: String,
    user: &'a str,
    database: &'a str,
    application: &'a str,
    client: &'a str,
    running_ns: u64,
    text: &'a str,
}

#[derive(Serialize)]
struct WarningObject<'a> {
    code: &'a str,
    message: String,
    remedy: &'a str,
}

#[derive(Serialize)]
struct RowObject<'a> {
    key: KeyObject<'a>,
    calls: u64,
    statements: u64,
    errors: u64,
    rows_returned: u64,
    rows_affected: u64,
    bytes_in: u64,
    bytes_out: u64,
    latency: Quantiles,
    first_byte: Option<Quantiles>,
    counters: CountersObject<'a>,
    derived: DerivedObject<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    members: Vec<Member<'a>>,
}

#[derive(Serialize)]
struct Member<'a> {
    digest: String,
    text: &'a str,
    statements: u64,
}

/// A distribution's numbers, as every format shows them.
#[derive(Serialize)]
pub(super) struct Quantiles {
    pub sum_ns: u64,
    pub min_ns: u64,
    pub mean_ns: u64,
    pub p50_ns: u64,
    pub p95_ns: u64,
    pub p99_ns: u64,
    pub max_ns: u64,
}

impl Quantiles {
    pub(super) fn of(d: &Distribution) -> Self {
        Quantiles {
            sum_ns: d.sum_ns(),
            min_ns: d.min_ns(),
            mean_ns: d.mean_ns(),
            p50_ns: d.quantile_ns(0.5),
            p95_ns: d.quantile_ns(0.95),
            p99_ns: d.quantile_ns(0.99),
            max_ns: d.max_ns(),
        }
    }
}

/// A row's key; `others` is how many rows it stands for where it is the last one.
struct KeyObject<'a> {
    report: &'a Report,
    row: &'a Row,
    others: Option<Option<usize>>,
}

impl Serialize for KeyObject<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(rows) = self.others {
            map.serialize_entry("other_rows", &rows)?;
            return map.end();
        }
        for key in self.report.by() {
            match self.report.aggregator().label(self.row, *key) {
                Some(Label::Digest(digest)) => {
                    map.serialize_entry("digest", &digest.hex())?;
                    map.serialize_entry("text", &digest.text)?;
                }
                Some(Label::Server(number)) => {
                    map.serialize_entry(key.name(), &pid_of(self.report, number))?
                }
                Some(Label::Text(text)) => map.serialize_entry(key.name(), text)?,
                None => {}
            }
        }
        map.end()
    }
}

struct CountersObject<'a> {
    report: &'a Report,
    row: &'a Row,
}

#[derive(Serialize)]
#[serde(untagged)]
enum CounterObject<'a> {
    Counted {
        sum: Number,
        mean: f64,
        stderr: f64,
        counted_calls: u64,
        source: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        mode: &'a str,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        scaled: bool,
    },
    Unavailable {
        unavailable: &'a str,
    },
}

/// A sum: an integer where it is one, as it always is when every call was counted.
pub(super) struct Number(pub f64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.fract() == 0.0 && self.0.abs() < 2f64.powi(63) {
            serializer.serialize_u64(self.0 as u64)
        } else {
            serializer.serialize_f64(self.0)
        }
    }
}

impl Serialize for CountersObject<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for counter in &self.report.counters {
            let object = match self.report.tally(self.row, counter.id) {
                Some(tally) => CounterObject::Counted {
                    sum: Number(tally.sum),
                    mean: tally.mean().unwrap_or(0.0),
                    stderr: tally.stderr(),
                    counted_calls: tally.counted,
                    source: &counter.source,
                    mode: counter.counted_mode(),
                    scaled: tally.scaled,
                },
                None => CounterObject::Unavailable { unavailable: why_not(counter) },
            };
            map.serialize_entry(&counter.name, &object)?;
        }
        map.end()
    }
}

struct DerivedObject<'a> {
    report: &'a Report,
    row: &'a Row,
}

impl Serialize for DerivedObject<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for derived in derived(&self.report.counters) {
            if let Some(value) = self.report.derived(self.row, &derived) {
                map.serialize_entry(&derived.name, &value)?;
            }
        }
        map.end()
    }
}

/// Why a row has no number of `counter`.
pub(super) fn why_not(counter: &CounterMeta) -> &str {
    counter.unavailable.as_deref().unwrap_or("none of these executions was counted")
}

/// The process of the server with that number; 0 when the recording does not say.
pub(super) fn pid_of(report: &Report, server: u16) -> u32 {
    report.servers.get(server as usize).map_or(0, |server| server.pid)
}

/// Whose query it was.
pub(super) fn session_name(query: &InFlight) -> String {
    key::session_name(query.session_uid, query.connection_id)
}

fn row_object<'a>(report: &'a Report, row: &'a Row, others: Option<Option<usize>>) -> RowObject<'a> {
    let is_by_digest = report.by().contains(&Key::Digest);
    let members = row.members.iter().filter(|_| is_by_digest);
    RowObject {
        key: KeyObject { report, row, others },
        calls: row.calls,
        statements: row.statements,
        errors: row.errors,
        rows_returned: row.rows_returned,
        rows_affected: row.rows_affected,
        bytes_in: row.bytes_in,
        bytes_out: row.bytes_out,
        latency: Quantiles::of(&row.latency),
        first_byte: (row.first_byte.count() > 0).then(|| Quantiles::of(&row.first_byte)),
        counters: CountersObject { report, row },
        derived: DerivedObject { report, row },
        members: members.map(|(d, n)| Member { digest: d.hex(), text: &d.text, statements: *n }).collect(),
    }
}

/// The object's entries without the braces around them.
fn entries(object: &impl Serialize) -> io::Result<String> {
    let json = serde_json::to_string(object)?;
    Ok(json.strip_prefix('{').and_then(|json| json.strip_suffix('}')).unwrap_or("").to_owned())
}

/// Writes `report`.
pub fn write(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let head = Head {
        schema: SCHEMA,
        server: &report.servers,
        period: Period { start_unix_ns: report.start_unix_ns, duration_ns: report.duration_ns },
        by: report.by().iter().map(|key| key.name()).collect(),
        sort: report.sort.name(),
        completeness: report.completeness,
        sampling: report.sampling,
    };
    write!(out, "{{{},\n\"rows\":[", entries(&head)?)?;
    let others = report.others.iter().map(|others| (&others.row, Some(others.rows)));
    let mut separator = "";
    for (row, others) in report.rows().map(|row| (row, None)).chain(others) {
        write!(out, "{separator}\n{}", serde_json::to_string(&row_object(report, row, others))?)?;
        separator = ",";
    }
    let query =
        |query: &'_ InFlight| -> (u32, String) { (pid_of(report, query.server), session_name(query)) };
    let tail = Tail {
        in_flight: report
            .in_flight
            .iter()
            .map(|q| {
                let (server, session) = query(q);
                Query {
                    server,
                    session,
                    user: &q.user,
                    database: &q.database,
                    application: &q.application,
                    client: &q.client,
                    running_ns: q.running_ns,
                    text: &q.text,
                }
            })
            .collect(),
        warnings: report
            .warnings
            .iter()
            .map(|w| WarningObject { code: w.code(), message: w.message(), remedy: w.remedy() })
            .collect(),
    };
    writeln!(out, "],\n{}}}", entries(&tail)?)
}
