//! Measures in SQLite: its shell is started under the library and gets the whole plan as a script.
//!
//! This command has no SQLite in it, and could not watch itself if it had. Each statement is one execution, recorded in
//! the script's order; two statements that nobody else writes mark where the plan begins and ends.

use super::capture::{Capture, Seen};
use super::measured::{Measured, Returned, by_statement, warnings};
use super::plan::{Plan, Step};
use crate::digest::{Digest, normalized, safe_text};
use crate::error::{Context, Error, Result};
use crate::find::exe_of;
use crate::format::cut;
use crate::launch::{Launched, launch_with};
use crate::library;
use crate::recording::ServerInfo;
use perquery_agent::counters::Selection;
use perquery_agent::protocol::Dialect;
use rustix::fd::OwnedFd;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::pipe::{PipeFlags, pipe_with};
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

const SHELL: &str = "sqlite3";
const BASELINE: &str = "SELECT 0";
const BEGIN: &str = "BEGIN";
const ROLLBACK: &str = "ROLLBACK";
const BEGINS: &str = "SELECT 0 AS perquery_stat_begins";
const ENDS: &str = "SELECT 0 AS perquery_stat_ends";
/// As much of the shell's complaints as is read.
const COMPLAINT_BYTES_MAX: usize = 4096;
const STATEMENT_WIDTH: usize = 80;

/// Measures what `plan` says in database `file`.
pub fn measure(file: &str, plan: &Plan, selection: &Selection) -> Result<Measured> {
    check(file, plan)?;
    let library = library::find()?;
    let command = shell_command(file);
    let failed = || "the sqlite3 shell can't be fed".to_owned();
    let complaints: OwnedFd = memfd_create("sqlite3-complaints", MemfdFlags::CLOEXEC).context(failed)?;
    let (input, to_shell) = pipe_with(PipeFlags::CLOEXEC).context(failed)?;
    let shells_stderr = complaints.try_clone().context(failed)?;
    let (mut shell, mapping) = launch_with(&command, &library, &selection.wanted, |command| {
        command.stdin(Stdio::from(input)).stdout(Stdio::null()).stderr(Stdio::from(shells_stderr));
    })?;
    let pid = shell.pid();
    let mut capture = Capture::start(mapping, pid, selection, 0)?;
    let exe = exe_of(pid);
    let writer = write_script(to_shell, plan);
    wait(&mut shell, &mut capture);
    let _ = writer.join();
    let captured = capture.finish()?;
    if let Some(complaint) = complaint(&complaints) {
        return Err(Error::new(format!("sqlite3: {complaint}")));
    }
    let executions = steps(&captured.seen, plan, pid)?;
    let runs = by_statement(
        plan,
        executions
            .into_iter()
            .map(|seen| Some((seen.clone(), Returned { rows: seen.rows_returned, round_trip_ns: None })))
            .collect(),
    );
    let warnings = warnings(&captured, &runs);
    Ok(Measured {
        server: ServerInfo { pid, kind: "sqlite".to_owned(), version: String::new(), exe },
        dialect: Dialect::Sqlite,
        connection_id: 0,
        baseline_sql: BASELINE,
        runs,
        counters: captured.counters,
        warnings,
    })
}

/// The shell takes a missing file for a new database, and some lines for commands of its own.
fn check(file: &str, plan: &Plan) -> Result<()> {
    if file.is_empty() {
        return Err(Error::new("the URL names no file; write sqlite:FILE or sqlite::memory:"));
    }
    if file != ":memory:" && plan.setup.is_empty() && !Path::new(file).is_file() {
        return Err(Error::new(format!(
            "there is no database {file}; correct the URL, or make it with --setup 'CREATE TABLE …'"
        )));
    }
    for (n, sql) in plan.statements.iter().enumerate() {
        let is_command =
            |line: &str| line.starts_with(['.', '#']) || line == "/" || line.eq_ignore_ascii_case("go");
        if sql.lines().any(|line| is_command(line.trim())) {
            return Err(Error::new(format!(
                "statement {} has a line that the sqlite3 shell takes for a command of its own; write it in one line",
                n + 1
            )));
        }
    }
    Ok(())
}

fn shell_command(file: &str) -> Vec<OsString> {
    // A file that is named like an option.
    let file = if file.starts_with('-') { format!("./{file}") } else { file.to_owned() };
    // Nobody's .sqliterc, and the end at the first error.
    [SHELL, "-init", "/dev/null", "-batch", "-bail", &file].map(OsString::from).to_vec()
}

/// Writes the script from a thread of its own: the shell reads as fast as it executes.
fn write_script(to: OwnedFd, plan: &Plan) -> thread::JoinHandle<()> {
    let plan = plan.clone();
    thread::spawn(move || {
        let mut out = BufWriter::new(File::from(to));
        // A shell that ended early has complained; that is what is reported.
        let _ = script(&plan, &mut out).and_then(|()| out.flush());
    })
}

fn script(plan: &Plan, out: &mut impl Write) -> std::io::Result<()> {
    // The semicolon in a line of its own: the statement may end with a comment.
    let mut write = |sql: &str| out.write_all(sql.as_bytes()).and_then(|()| out.write_all(b"\n;\n"));
    plan.setup.iter().try_for_each(|sql| write(sql))?;
    write(BEGINS)?;
    for step in &plan.steps {
        if plan.rolls_back(step) {
            write(BEGIN)?;
        }
        write(plan.sql(step, BASELINE))?;
        if plan.rolls_back(step) {
            write(ROLLBACK)?;
        }
    }
    write(ENDS)?;
    plan.teardown.iter().try_for_each(|sql| write(sql))
}

fn wait(shell: &mut Launched, capture: &mut Capture) {
    while !shell.has_ended() {
        capture.take();
        thread::sleep(Duration::from_millis(2));
    }
}

/// What the shell wrote to its standard error: the first line that says something.
fn complaint(from: &OwnedFd) -> Option<String> {
    let mut bytes = vec![0; COMPLAINT_BYTES_MAX];
    let file = File::from(from.try_clone().ok()?);
    let n = file.read_at(&mut bytes, 0).ok()?;
    let text = String::from_utf8_lossy(bytes.get(..n)?).into_owned();
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    // The line number is of our script and tells the user nothing.
    let told = line
        .split_once(": ")
        .filter(|(where_, _)| where_.contains(" near line "))
        .map_or(line, |(_, told)| told);
    Some(told.to_owned())
}

/// The executions of the plan's steps.
fn steps<'a>(seen: &'a [Seen], plan: &Plan, pid: u32) -> Result<Vec<&'a Seen>> {
    if seen.is_empty() {
        return Err(Error::new(format!(
            "the {SHELL} in your PATH was not seen to execute anything: it has SQLite built in, or can't take libperquery.so; \
             install Debian's sqlite3, which uses libsqlite3.so"
        )));
    }
    let marker = |sql: &str| seen.iter().position(|s| s.digest == digest(sql));
    let (Some(begin), Some(end)) = (marker(BEGINS), marker(ENDS)) else {
        return Err(Error::new(format!("{SHELL}, process {pid}, ended before it had executed everything")));
    };
    let between = seen.get(begin + 1..end).unwrap_or(&[]);
    let mut rest = between.iter();
    let mut found = Vec::with_capacity(plan.steps.len());
    let [baseline, begin, rollback] = [BASELINE, BEGIN, ROLLBACK].map(digest);
    let digests: Vec<u64> = plan.statements.iter().map(|sql| digest(sql)).collect();
    for step in &plan.steps {
        let mut next =
            |wanted: u64| rest.next().filter(|s| s.digest == wanted).ok_or_else(|| not_one(plan, step));
        let wanted = step.which.checked_sub(1).and_then(|n| digests.get(n)).copied().unwrap_or(baseline);
        if plan.rolls_back(step) {
            next(begin)?;
            found.push(next(wanted)?);
            next(rollback)?;
        } else {
            found.push(next(wanted)?);
        }
    }
    if rest.next().is_some() {
        return Err(Error::new(
            "sqlite3 executed more statements than there are in the plan; give one at a time",
        ));
    }
    Ok(found)
}

/// What the library makes of a statement.
fn digest(sql: &str) -> u64 {
    Digest::of(normalized(Dialect::Sqlite, sql.as_bytes(), sql.len())).id
}

fn not_one(plan: &Plan, step: &Step) -> Error {
    let sql = plan.sql(step, BASELINE);
    let shown = safe_text(Dialect::Sqlite, sql.as_bytes(), sql.len());
    Error::new(format!(
        "statement {} ({}) was not executed as one statement; give one at a time, and no PRAGMA or EXPLAIN that executes others",
        step.which,
        cut(&shown, STATEMENT_WIDTH)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stat::plan::tests::plan;

    fn seen(sql: &str) -> Seen {
        Seen { start_ns: 1, latency_ns: 1, rows_returned: 1, digest: digest(sql), values: Vec::new() }
    }

    /// What the shell would execute.
    fn executed(plan: &Plan) -> Vec<Seen> {
        let mut text = Vec::new();
        script(plan, &mut text).unwrap();
        String::from_utf8(text).unwrap().split("\n;\n").filter(|s| !s.is_empty()).map(seen).collect()
    }

    #[test]
    fn the_scripts_executions_are_those_of_the_plan() {
        let plan = plan(&[
            "-n",
            "3",
            "--setup",
            "CREATE TABLE t (a)",
            "--rollback",
            "DELETE FROM t -- all",
            "SELECT 1",
        ])
        .unwrap();
        let seen = executed(&plan);
        let found = steps(&seen, &plan, 1).unwrap();
        assert_eq!(found.len(), plan.steps.len());
        for (step, found) in plan.steps.iter().zip(found) {
            assert_eq!(found.digest, digest(plan.sql(step, BASELINE)));
        }
    }

    #[test]
    fn a_shell_that_executed_something_else_is_not_believed() {
        let plan = plan(&["-n", "3", "SELECT 1 AS one"]).unwrap();
        assert!(steps(&[], &plan, 1).unwrap_err().to_string().contains("SQLite built in"));
        let mut short = executed(&plan);
        short.truncate(5);
        assert!(steps(&short, &plan, 1).unwrap_err().to_string().contains("ended before"));
        let mut longer = executed(&plan);
        longer.insert(4, seen("SELECT 7, 8"));
        assert!(steps(&longer, &plan, 1).unwrap_err().to_string().contains("one at a time"));
    }

    #[test]
    fn commands_of_the_shell_are_refused() {
        for sql in [".shell true", "SELECT 1;\n.quit", "SELECT 1\n/\n"] {
            assert!(check(":memory:", &plan(&[sql]).unwrap()).is_err(), "{sql}");
        }
        assert!(check(":memory:", &plan(&["SELECT .5, a\n FROM b"]).unwrap()).is_ok());
        assert!(check("/nowhere/x.db", &plan(&["SELECT 1"]).unwrap()).is_err());
        assert_eq!(shell_command("-x.db").last().unwrap(), "./-x.db");
    }
}
