//! `perquery stat`: what one execution of a statement costs, measured on a connection of our own.
//!
//! A plan says what is executed in which order; `server` or `sqlite` executes it and receives each execution as the
//! library recorded it, `outcome` computes, `text` and `json` show.

pub mod args;
pub mod assertion;
mod capture;
mod client;
pub mod json;
mod locate;
mod measured;
mod mysql_client;
pub mod outcome;
mod plan;
mod postgres_client;
mod random;
mod server;
mod sqlite;
pub mod statistics;
pub mod text;

use crate::collect::counter_metas;
use crate::error::{Error, Result};
use args::Stat;
use outcome::Outcome;
use perquery_agent::counters::{CHEAP_MASK, CLIENT_WAIT_NS, Selection, parse_events};
use plan::Plan;

/// What is counted beside the cheap counters when no events are named: the question is cycles.
const DEFAULT_EVENTS: &str = "cycles,instructions";
/// Where the URL may stand instead of the command line.
const URL_VARIABLE: &str = "PERQUERY_URL";

/// Measures and computes.
pub fn stat(args: &Stat) -> Result<Outcome> {
    let plan = Plan::new(args)?;
    let selection = selection(args)?;
    let mut counters = counter_metas(&selection);
    counters.retain(|counter| counter.id != CLIENT_WAIT_NS);
    outcome::check(&args.assert, &counters)?;
    let from_environment = || std::env::var(URL_VARIABLE).ok().filter(|url| !url.is_empty());
    let url = args.url.clone().or_else(from_environment).ok_or_else(|| {
        Error::new("name the database: --url mysql://…, --url postgres://… or --url sqlite:FILE")
    })?;
    let (scheme, rest) = url.split_once(':').unwrap_or(("", &url));
    let measured = match scheme {
        "sqlite" | "sqlite3" => sqlite::measure(rest.strip_prefix("//").unwrap_or(rest), &plan, &selection)?,
        "mysql" | "mariadb" => {
            let mut client = mysql_client::MySql::connect(&format!("mysql:{rest}"))?;
            server::measure(&mut client, &plan, &selection)?
        }
        "postgres" | "postgresql" => {
            let mut client = postgres_client::Postgres::connect(&url)?;
            server::measure(&mut client, &plan, &selection)?
        }
        // A URL may carry a password: only its scheme is repeated.
        _ => {
            return Err(Error::new(format!(
                "the URL's scheme '{}' is unknown; it must begin with mysql:, postgres: or sqlite:",
                scheme.escape_debug()
            )));
        }
    };
    outcome::outcome(args, &plan, measured)
}

/// What is counted, of every execution: without a budget.
fn selection(args: &Stat) -> Result<Selection> {
    let mut selection = match &args.event {
        Some(events) => events.clone(),
        None => parse_events(DEFAULT_EVENTS).map_err(|e| Error::new(e.to_string()))?,
    };
    selection.wanted.mask |= CHEAP_MASK;
    selection.wanted.user_space_reads = args.user_space_reads.into();
    Ok(selection)
}
