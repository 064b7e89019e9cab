//! Measures in a server: one connection, captured alone.

use super::capture::Capture;
use super::client::{Client, Failure};
use super::measured::{Measured, Sent, by_statement, match_by_time, warnings};
use super::plan::{Plan, Step};
use crate::collect::process_is_gone;
use crate::digest::safe_text;
use crate::error::{Error, Result};
use crate::find;
use crate::format::cut;
use crate::recording::ServerInfo;
use crate::signals::Ending;
use perquery_agent::counters::Selection;
use perquery_agent::segment::reader::now_ns;
use std::time::{Duration, Instant};

/// How long a server that closed our connection may take to be gone.
const END_OF_SERVER: Duration = Duration::from_secs(2);
/// Characters of a statement in an error.
const STATEMENT_WIDTH: usize = 80;

/// Measures what `plan` says.
pub fn measure(client: &mut dyn Client, plan: &Plan, selection: &Selection) -> Result<Measured> {
    let pid = client.server_pid()?;
    let server = find::server(pid)?;
    let info =
        ServerInfo { pid: server.pid, kind: server.kind(), version: String::new(), exe: server.exe.clone() };
    let mut session = Session { client, plan, pid: server.pid, ending: Ending::watch()? };
    let measured = session.prepare().and_then(|()| {
        let mut capture = Capture::start(server.mapping, info.pid, selection, session.client.connection_id())?;
        let sent = session.execute(&mut capture);
        // A statement is over when the server reads the next one.
        let last = sent.is_ok().then(|| session.client.query(session.client.baseline()));
        let captured = capture.finish()?;
        let sent = sent?;
        if let Some(Err(e)) = last {
            return Err(session.failed(&e, "the end"));
        }
        let runs = by_statement(plan, match_by_time(&sent, &captured.seen));
        if let Some(none) = runs.iter().position(|of| of.recorded().next().is_none()) {
            let what = session.name(none);
            return Err(Error::new(format!(
                "the library in process {pid} recorded nothing of {what} in this session; 'perquery doctor -p {pid}' says \
                 what is in the way"
            )));
        }
        let warnings = warnings(&captured, &runs);
        Ok(Measured {
            server: info,
            dialect: session.client.dialect(),
            connection_id: session.client.connection_id(),
            baseline_sql: session.client.baseline(),
            runs,
            counters: captured.counters,
            warnings,
        })
    });
    let torn_down = session.tear_down();
    let measured = measured?;
    torn_down?;
    Ok(measured)
}

struct Session<'a> {
    client: &'a mut dyn Client,
    plan: &'a Plan,
    pid: u32,
    ending: Ending,
}

impl Session<'_> {
    fn prepare(&mut self) -> Result<()> {
        for sql in &self.plan.setup {
            self.client.query(sql).map_err(|e| self.failed(&e, "--setup"))?;
        }
        if self.plan.prepare {
            let baseline = self.client.baseline();
            self.client.prepare(baseline).map_err(|e| self.failed(&e, "preparing the empty statement"))?;
            for (n, sql) in self.plan.statements.iter().enumerate() {
                let prepared = self.client.prepare(sql);
                prepared.map_err(|e| self.failed(&e, &format!("preparing {}", self.name(n + 1))))?;
            }
        }
        Ok(())
    }

    /// All steps, with what the client saw of each.
    fn execute(&mut self, capture: &mut Capture) -> Result<Vec<Sent>> {
        let mut sent = Vec::with_capacity(self.plan.steps.len());
        for step in &self.plan.steps {
            if self.ending.has_come() {
                return Err(Error::new("interrupted; nothing is reported"));
            }
            let done = self.step(step);
            sent.push(done.map_err(|e| self.failed(&e, &self.name(step.which)))?);
            capture.take();
        }
        Ok(sent)
    }

    fn step(&mut self, step: &Step) -> std::result::Result<Sent, Failure> {
        if self.plan.rolls_back(step) {
            self.client.query("BEGIN")?;
        }
        let before_ns = now_ns();
        let rows = if self.plan.prepare {
            self.client.execute(step.which)?
        } else {
            self.client.query(self.plan.sql(step, self.client.baseline()))?
        };
        let after_ns = now_ns();
        if self.plan.rolls_back(step) {
            self.client.query("ROLLBACK")?;
        }
        Ok(Sent { before_ns, after_ns, rows })
    }

    fn tear_down(&mut self) -> Result<()> {
        if self.plan.teardown.is_empty() {
            return Ok(());
        }
        // After a failure a transaction may be open, and PostgreSQL refuses everything in a failed one.
        if self.plan.rollback {
            let _ = self.client.query("ROLLBACK");
        }
        for sql in &self.plan.teardown {
            self.client.query(sql).map_err(|e| self.failed(&e, "--teardown"))?;
        }
        Ok(())
    }

    /// A statement as errors name it.
    fn name(&self, which: usize) -> String {
        let sql = which.checked_sub(1).and_then(|n| self.plan.statements.get(n));
        let sql = sql.map_or(self.client.baseline(), String::as_str);
        let shown = safe_text(self.client.dialect(), sql.as_bytes(), sql.len());
        let shown = cut(&shown, STATEMENT_WIDTH);
        match which {
            0 => format!("the empty statement ({shown})"),
            n => format!("statement {n} ({shown})"),
        }
    }

    /// One line: the server's own words, or that it is gone.
    fn failed(&self, e: &Failure, what: &str) -> Error {
        if let Failure::Lost(_) = e {
            let asked = Instant::now();
            while asked.elapsed() < END_OF_SERVER {
                if is_dead(self.pid) {
                    return Error::new(format!("the server, process {}, ended during {what}: {e}", self.pid));
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Error::new(format!("{what}: {e}"))
    }
}

/// Gone, or not waited for yet by its parent.
fn is_dead(pid: u32) -> bool {
    process_is_gone(pid) || find::start_ticks(pid).is_none()
}
