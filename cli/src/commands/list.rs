//! `perquery list`.

use super::say;
use crate::error::Result;
use crate::find::{self, Server};
use perquery_agent::segment::layout::header;
use perquery_agent::segment::reader::now_ns;
use std::fmt::Write;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

/// Lists the servers of this host that have the library.
pub fn list() -> Result<ExitCode> {
    let (servers, hidden) = find::servers();
    let mut text = String::new();
    if servers.is_empty() {
        text.push_str("no server with perquery's library\n");
    } else {
        let _ = writeln!(
            text,
            "{:>8}  {:<12} {:<9} {:>8} {:>10}  EXECUTABLE",
            "PID", "KIND", "CAPTURE", "SESSIONS", "COLLECTOR"
        );
        for server in &servers {
            let _ = writeln!(text, "{}", line(server));
        }
    }
    if hidden > 0 {
        let _ = writeln!(
            text,
            "({hidden} processes of other users could not be looked at; run as root to see them)"
        );
    }
    say(&text)
}

fn line(server: &Server) -> String {
    let Ok(segment) = server.mapping.segment() else {
        return format!("{:>8}  {:<12} {:<9}", server.pid, server.kind(), "damaged");
    };
    let control = segment.control();
    // A collector that is silent has lost its capture: the agent switches off at the next query.
    let on = control.capture() != 0 && !control.is_collector_silent(now_ns());
    let sessions = (0..segment.shape().sessions)
        .filter_map(|n| segment.session(n))
        .filter(|slot| slot.owner_pid() != 0 && !crate::collect::process_is_gone(slot.owner_pid()))
        .count();
    let collector = match control.collector() {
        (pid, start) if pid != 0 && find::start_ticks(pid) == Some(start) => pid.to_string(),
        _ => "-".to_owned(),
    };
    let note = if segment.word(header::ACCEPTED).load(Ordering::Relaxed) == 0 {
        "  (no session seen yet)"
    } else {
        ""
    };
    format!(
        "{:>8}  {:<12} {:<9} {sessions:>8} {collector:>10}  {}{note}",
        server.pid,
        server.kind(),
        if on { "on" } else { "off" },
        server.exe
    )
}
