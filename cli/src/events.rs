//! What `perquery events` shows: every counter, whether it can be had here, why not, and what to do about it.

use perquery_agent::counters::{Availability, Source, UserSpaceReads, survey, user_space_reads};
use serde_json::{Value, json};
use std::io::{self, Write};

/// Version of the JSON form.
const SCHEMA: u32 = 1;
/// Widest line of the text form, where the words allow it.
const WIDTH: usize = 110;

/// One counter and whether it can be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventStatus {
    /// Its key in reports.
    pub name: String,
    /// What `-e` calls it.
    pub event_names: Vec<String>,
    /// "ns", or "" for a count.
    pub unit: &'static str,
    /// Where it comes from.
    pub source: &'static str,
    /// What it counts and what makes it wrong.
    pub about: &'static str,
    /// `available`, `user mode only` or `unavailable`.
    pub status: Status,
    /// Why it is not, or not wholly, available.
    pub why: Option<&'static str>,
    /// What to do about it.
    pub remedy: Option<&'static str>,
}

/// Whether a counter can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It can.
    Available,
    /// In user mode only.
    UserModeOnly,
    /// It can't.
    Unavailable,
}

impl Status {
    /// For people.
    fn text(self) -> &'static str {
        match self {
            Status::Available => "available",
            Status::UserModeOnly => "user mode only",
            Status::Unavailable => "unavailable",
        }
    }

    /// For machines.
    fn key(self) -> &'static str {
        match self {
            Status::Available => "available",
            Status::UserModeOnly => "user_mode_only",
            Status::Unavailable => "unavailable",
        }
    }
}

/// What of this machine and this user decides about counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Surroundings {
    /// kernel.perf_event_paranoid; `None`: the kernel has no perf events, or /proc is not there.
    pub perf_event_paranoid: Option<i64>,
    /// Whether counters can be read without a system call.
    pub user_space_reads: UserSpaceReads,
}

/// Looks at the surroundings.
pub fn surroundings() -> Surroundings {
    let paranoid = std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid");
    Surroundings {
        perf_event_paranoid: paranoid.ok().and_then(|text| text.trim().parse().ok()),
        user_space_reads: user_space_reads(),
    }
}

/// Tries to open every counter in this process.
pub fn list() -> Vec<EventStatus> {
    survey().into_iter().map(EventStatus::from).collect()
}

impl From<perquery_agent::counters::Survey> for EventStatus {
    fn from(found: perquery_agent::counters::Survey) -> Self {
        let (status, why, remedy) = match found.availability {
            Availability::Available => (Status::Available, None, None),
            Availability::UserModeOnly => (
                Status::UserModeOnly,
                Some("kernel mode is not permitted to this user"),
                Some("sysctl kernel.perf_event_paranoid=1, or grant CAP_PERFMON"),
            ),
            Availability::Unavailable(reason) => {
                (Status::Unavailable, Some(reason.why()), Some(reason.remedy()))
            }
        };
        EventStatus {
            name: found.name,
            event_names: found.event_names,
            unit: found.unit,
            source: source(found.source),
            about: found.about,
            status,
            why,
            remedy,
        }
    }
}

fn source(source: Source) -> &'static str {
    match source {
        Source::Rusage => "getrusage",
        Source::ThreadClock => "thread clock",
        Source::Session => "session",
        Source::PerfSoftware => "perf software",
        Source::PerfHardware => "perf hardware",
    }
}

/// Tries everything and writes it for people.
pub fn render_text(w: &mut impl Write) -> io::Result<()> {
    write_text(w, surroundings(), &list())
}

/// Tries everything and writes it for machines.
pub fn render_json(w: &mut impl Write) -> io::Result<()> {
    write_json(w, surroundings(), &list())
}

/// Writes what was found as aligned text. Reasons are footnotes, because most unavailable events share one.
pub fn write_text(w: &mut impl Write, here: Surroundings, events: &[EventStatus]) -> io::Result<()> {
    match here.perf_event_paranoid {
        Some(value) => {
            writeln!(w, "kernel.perf_event_paranoid  {value}: {}", paranoid_means(value))?;
        }
        None => {
            writeln!(w, "kernel.perf_event_paranoid  not there: no perf events in this kernel, or no /proc")?
        }
    }
    match here.user_space_reads {
        UserSpaceReads::Used => writeln!(w, "user-space counter reads    available")?,
        other => wrapped(w, "user-space counter reads    ", &format!("unavailable: {}", other.why()))?,
    }
    writeln!(w, "As this process may count; a server may run with other rights: perquery doctor -p PID.\n")?;

    let rows: Vec<(String, &EventStatus)> =
        events.iter().map(|event| (event.event_names.join(", "), event)).collect();
    let names = rows.iter().map(|(names, _)| names.len()).max().unwrap_or(0).max("EVENT".len());
    let keys = events.iter().map(|event| event.name.len()).max().unwrap_or(0).max("IN REPORTS".len());
    writeln!(w, "{:names$}  {:keys$}  {:4}  {:13}  HERE", "EVENT", "IN REPORTS", "UNIT", "SOURCE")?;
    let mut notes: Vec<(&str, &str)> = Vec::new();
    for (event_names, event) in rows {
        let unit = if event.unit.is_empty() { "1" } else { event.unit };
        write!(
            w,
            "{event_names:names$}  {:keys$}  {unit:4}  {:13}  {}",
            event.name,
            event.source,
            event.status.text()
        )?;
        if let (Some(why), Some(remedy)) = (event.why, event.remedy) {
            let known = notes.iter().position(|note| *note == (why, remedy));
            let note = known.unwrap_or_else(|| {
                notes.push((why, remedy));
                notes.len() - 1
            });
            write!(w, " [{}]", note + 1)?;
        }
        writeln!(w)?;
    }
    writeln!(
        w,
        "{:names$}  {:keys$}  {:4}  {:13}  any, by its number in hex",
        "rNNN", "rNNN", "1", "perf hardware"
    )?;
    writeln!(
        w,
        "\nWith :u an event counts user mode only, with :k kernel mode only: -e instructions:u,page-faults"
    )?;
    for (number, (why, remedy)) in notes.iter().enumerate() {
        if number == 0 {
            writeln!(w)?;
        }
        let mark = format!("[{}] ", number + 1);
        wrapped(w, &mark, &format!("{}.", sentence(why)))?;
        wrapped(w, &" ".repeat(mark.len()), &format!("{}.", sentence(remedy)))?;
    }
    Ok(())
}

/// The text with a capital first letter, unless it begins with a name that is spelled small.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) if !text.starts_with("sysctl") => first.to_uppercase().chain(chars).collect(),
        _ => text.to_owned(),
    }
}

/// Writes `text` in lines of at most [`WIDTH`], the first after `mark`, the others below it.
fn wrapped(w: &mut impl Write, mark: &str, text: &str) -> io::Result<()> {
    let mut line = mark.to_owned();
    for word in text.split_whitespace() {
        if line.len() > mark.len() && line.len() + 1 + word.len() > WIDTH {
            writeln!(w, "{}", line.trim_end())?;
            line = " ".repeat(mark.len());
        } else if line.len() > mark.len() {
            line.push(' ');
        }
        line.push_str(word);
    }
    writeln!(w, "{}", line.trim_end())
}

fn paranoid_means(value: i64) -> &'static str {
    match value {
        ..=1 => "every user may count its own processes, kernel mode included",
        2 => "every user may count its own processes in user mode",
        _ => "perf events only with CAP_PERFMON",
    }
}

/// Writes what was found as `{"schema":1,"events":[…]}`.
pub fn write_json(w: &mut impl Write, here: Surroundings, events: &[EventStatus]) -> io::Result<()> {
    let reads = match here.user_space_reads {
        UserSpaceReads::Used => json!({"available": true}),
        other => json!({"available": false, "why": other.why()}),
    };
    let events: Vec<Value> = events.iter().map(event_json).collect();
    let document = json!({
        "schema": SCHEMA,
        "perf_event_paranoid": here.perf_event_paranoid,
        "user_space_reads": reads,
        "events": events,
    });
    serde_json::to_writer_pretty(&mut *w, &document).map_err(io::Error::from)?;
    writeln!(w)
}

fn event_json(event: &EventStatus) -> Value {
    let mut object = json!({
        "name": event.name,
        "event_names": event.event_names,
        "unit": event.unit,
        "source": event.source.replace(' ', "_"),
        "about": event.about,
        "status": event.status.key(),
    });
    if let (Some(fields), Some(why), Some(remedy)) = (object.as_object_mut(), event.why, event.remedy) {
        fields.insert("why".into(), why.into());
        fields.insert("remedy".into(), remedy.into());
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Surroundings =
        Surroundings { perf_event_paranoid: Some(2), user_space_reads: UserSpaceReads::NotOffered };

    fn event(name: &str, status: Status, why: Option<&'static str>) -> EventStatus {
        EventStatus {
            name: name.to_owned(),
            event_names: vec![name.to_owned(), format!("{name}-alias")],
            unit: "",
            source: "perf hardware",
            about: "Something.",
            status,
            why,
            remedy: why.map(|_| "Do this."),
        }
    }

    fn some() -> Vec<EventStatus> {
        vec![
            event("cycles", Status::UserModeOnly, Some("no kernel mode")),
            event("instructions", Status::Available, None),
            event("bus_cycles", Status::Unavailable, Some("no such event")),
            event("ref_cycles", Status::Unavailable, Some("no such event")),
        ]
    }

    fn text(events: &[EventStatus]) -> String {
        let mut out = Vec::new();
        write_text(&mut out, HERE, events).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn events_that_share_a_reason_share_its_footnote() {
        let text = text(&some());
        assert!(
            text.contains(
                "kernel.perf_event_paranoid  2: every user may count its own processes in user mode"
            )
        );
        assert!(text.contains("user mode only [1]\n"), "{text}");
        assert_eq!(text.matches("unavailable [2]\n").count(), 2, "{text}");
        assert_eq!(text.matches("[2] No such event.").count(), 1, "{text}");
    }

    #[test]
    fn the_columns_of_all_rows_stand_below_their_heads() {
        let text = text(&some());
        let table: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("EVENT")).take(6).collect();
        let column = table[0].find("SOURCE").unwrap();
        for row in &table[1..] {
            assert_eq!(row.find("perf hardware"), Some(column), "{row}");
        }
    }

    #[test]
    fn the_json_form_has_its_version_and_a_reason_for_whatever_is_missing() {
        let mut out = Vec::new();
        write_json(&mut out, HERE, &some()).unwrap();
        let document: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(document["schema"], 1);
        assert_eq!(document["perf_event_paranoid"], 2);
        assert_eq!(document["user_space_reads"]["available"], false);
        assert_eq!(document["events"][0]["status"], "user_mode_only");
        assert_eq!(document["events"][1].get("why"), None);
        assert_eq!(document["events"][2]["why"], "no such event");
        assert_eq!(document["events"][2]["remedy"], "Do this.");
    }

    #[test]
    fn what_this_machine_has_is_listed_with_the_counters_that_are_always_there() {
        let events = list();
        let cpu = events.iter().find(|event| event.name == "cpu_ns").unwrap();
        assert_eq!((cpu.status, cpu.unit), (Status::Available, "ns"));
        for event in &events {
            assert_eq!(event.why.is_some(), event.status != Status::Available, "{}", event.name);
        }
        let mut out = Vec::new();
        render_text(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        for line in text.lines() {
            assert!(line.len() <= WIDTH, "{line}");
        }
    }

    #[test]
    fn a_reader_that_goes_away_is_an_error_for_the_caller_not_a_panic() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        assert_eq!(write_text(&mut Closed, HERE, &some()).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(write_json(&mut Closed, HERE, &some()).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
