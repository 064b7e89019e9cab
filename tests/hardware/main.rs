//! The checks that run inside the emulated machine with hardware counters: see README.md beside this file.
//!
//! Arguments: the parts to check. Writes lines for people after "| " and one JSON object a line after "@ ".

mod architecture;
mod check;
mod counters;
mod outside;
mod prices;
mod program;
mod server;
mod servers;
mod sqlite;

use check::{Check, run_all};
use server::Kind;

const SQLITE: &[Check] = &[
    Check {
        name: "the machine counts cycles and instructions and says what it lacks",
        run: counters::events,
    },
    Check { name: "a counter the machine lacks is unavailable with the reason", run: counters::unavailable },
    Check { name: "more events than counters are scaled and marked", run: sqlite::multiplexed },
    Check { name: "the agent's own tests hold on this architecture", run: architecture::agent },
    Check { name: "tests of the whole product hold on this architecture", run: architecture::whole_product },
    Check { name: "stat answers in cycles", run: sqlite::stat_answers_in_cycles },
    Check { name: "a statement's instructions repeat", run: sqlite::instructions_repeat },
    Check { name: "ten times the rows cost ten times the instructions", run: sqlite::ten_times_the_rows },
    Check { name: "all executions and the rest are what the thread spent", run: sqlite::sum_is_the_whole },
    Check { name: "user-space reads agree with read(2)", run: sqlite::user_space_reads },
    Check {
        name: "the library adds no more instructions to a lookup than it may",
        run: prices::sqlite_lookup,
    },
];

const SERVERS: &[Check] = &[
    Check {
        name: "MariaDB: a statement's instructions repeat",
        run: || servers::instructions_repeat(Kind::MariaDb),
    },
    Check {
        name: "MariaDB: all executions and the rest are what the thread spent",
        run: || servers::sum_is_the_whole(Kind::MariaDb),
    },
    Check { name: "MariaDB: what the library adds is counted", run: || servers::prices(Kind::MariaDb) },
    Check {
        name: "PostgreSQL: a statement's instructions repeat",
        run: || servers::instructions_repeat(Kind::Postgres),
    },
    Check {
        name: "PostgreSQL: all executions and the rest are what the thread spent",
        run: || servers::sum_is_the_whole(Kind::Postgres),
    },
    Check { name: "PostgreSQL: what the library adds is counted", run: || servers::prices(Kind::Postgres) },
];

fn main() {
    let parts: Vec<String> = std::env::args().skip(1).collect();
    let mut checks: Vec<&Check> = Vec::new();
    if parts.iter().any(|part| part == "sqlite") {
        checks.extend(SQLITE);
    }
    if parts.iter().any(|part| part == "servers") {
        checks.extend(SERVERS);
    }
    run_all(&checks);
}
