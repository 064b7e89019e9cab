//! A PostgreSQL session that stands aside, beside the machine it comes back to.

use super::*;
use crate::protocol::postgres::Postgres;
use crate::protocol::{Direction, Event, Machine, Step, UnitText};
use crate::session::arena::Arena;
use crate::session::quiet::{self, marks};
use Direction::{FromClient, ToClient};
use std::{format, string::String, vec, vec::Vec};

fn message(tag: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32 + 4).to_be_bytes();
    [&[tag], &length[..], payload].concat()
}

fn sync() -> Vec<u8> {
    message(b'S', b"")
}

/// Bind of `statement` to `portal`, and Execute of it for at most `rows` rows.
fn bind_execute(portal: &str, statement: &str, rows: u32) -> Vec<u8> {
    let name = |name: &str| [name.as_bytes(), b"\0"].concat();
    let bind = message(b'B', &[name(portal), name(statement), vec![0; 6]].concat());
    let execute = message(b'E', &[name(portal), rows.to_be_bytes().to_vec()].concat());
    [bind, message(b'D', &[b"P", &name(portal)[..]].concat()), execute].concat()
}

fn parse(name: &str, text: &str) -> Vec<u8> {
    message(b'P', format!("{name}\0{text}\0\0\0").as_bytes())
}

fn query(text: &str) -> Vec<u8> {
    message(b'Q', format!("{text}\0").as_bytes())
}

fn row() -> Vec<u8> {
    [message(b'T', &[7; 30]), message(b'D', &[8; 11]), message(b'C', b"SELECT 1\0")].concat()
}

fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

fn application(name: &str) -> Vec<u8> {
    message(b'S', format!("application_name\0{name}\0").as_bytes())
}

fn resting(marks: u64) -> u64 {
    quiet::resting(marks | POSTGRES)
}

static ARENA: Arena = Arena::new();

/// What the engine does with a session, without threads and counters.
struct Session {
    number: u32,
    cell: &'static Cell,
    machine: Postgres,
    capturing: bool,
    /// It may stand aside.
    may_rest: bool,
    /// What the machine said since this was looked at last.
    said: Vec<String>,
}

impl Session {
    /// Logged in, capture off, one statement prepared; it has not stood aside yet.
    fn new() -> Self {
        Self::of("9.6.24")
    }

    /// The same of a server of this version.
    fn of(version: &str) -> Self {
        let (n, _) = ARENA.open(5, 1, b"local").unwrap();
        let cell = ARENA.cell(n).unwrap();
        let mut session = Session {
            number: n,
            cell,
            machine: Postgres::new(),
            capturing: false,
            may_rest: true,
            said: Vec::new(),
        };
        session.feed(FromClient, b"\0\0\0\x14\0\x03\0\0user\0u\0\0\0\0\0\0");
        let version = message(b'S', format!("server_version\0{version}\0").as_bytes());
        session.feed(ToClient, &[message(b'R', &[0; 4]), version, ready()].concat());
        session.read(&[parse("s1", "SELECT 4711"), sync()].concat());
        session.write(&[message(b'1', b""), ready()].concat());
        session.said.clear();
        session
    }

    /// Its cell is free again.
    fn close(&self) {
        ARENA.close(self.number);
    }

    fn word(&self) -> u64 {
        self.cell.quiet.load(Ordering::Relaxed)
    }

    /// The word that a glance leaves, where it says that all passes; the word is as before.
    fn glance(&self, look: impl FnOnce(&Cell, u64) -> bool) -> Option<u64> {
        let before = self.word();
        let passes = look(self.cell, before);
        let after = self.word();
        assert!(passes || after == before, "nothing was done");
        self.cell.quiet.store(before, Ordering::Relaxed);
        passes.then_some(after)
    }

    fn feed(&mut self, direction: Direction, mut bytes: &[u8]) {
        loop {
            match self.machine.step(direction, &mut bytes) {
                Step::NeedMore => return,
                Step::Event(event) => self.hear(event),
                Step::Lost(reason) => return self.said.push(format!("{reason:?}")),
            }
        }
    }

    fn hear(&mut self, event: Event) {
        self.said.push(match event {
            Event::Finished => {
                let unit = self.machine.unit();
                let text = match unit.text {
                    UnitText::Inline { bytes, .. } => format!("{}", bytes.escape_ascii()),
                    text => format!("{text:?}"),
                };
                format!("{:?} {text}", unit.command)
            }
            event => format!("{event:?}"),
        });
    }

    fn begin_read(&mut self) -> bool {
        if self.word() != LOUD {
            return true;
        }
        self.machine.set_capturing(self.capturing);
        if let Step::Event(event) = self.machine.read_entered(8192) {
            self.hear(event);
        }
        self.rest_if_it_may()
    }

    fn rest_if_it_may(&mut self) -> bool {
        let aside = self.may_rest && self.machine.is_at_rest();
        if aside {
            if !self.capturing {
                self.machine.forget_unnamed();
            }
            let reports = if self.machine.reports_last() { REPORTS_LAST } else { 0 };
            self.cell.quiet.store(resting(marks(false, self.capturing) | reports), Ordering::Relaxed);
        }
        aside
    }

    fn end_read(&mut self, aside: bool, bytes: &[u8]) {
        let glance = aside.then(|| self.glance(|cell, word| passes_at_a_glance(cell, word, bytes))).flatten();
        let follows = !aside || after_read(self.cell, self.word(), self.capturing, bytes);
        if let Some(word) = glance.filter(|_| !self.capturing) {
            assert!(!follows && self.word() == word, "at a glance it passes: {bytes:?}");
        }
        if follows {
            self.cell.quiet.store(LOUD, Ordering::Relaxed);
            self.machine.set_capturing(self.capturing);
            self.feed(FromClient, bytes);
        }
    }

    fn read(&mut self, bytes: &[u8]) {
        let aside = self.begin_read();
        self.end_read(aside, bytes);
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.word() == LOUD {
            self.feed(ToClient, bytes);
            if self.capturing && self.machine.is_capturing() {
                self.rest_if_it_may();
            }
            return;
        }
        let ahead = self.glance(|cell, word| written_ahead(cell, word, bytes));
        let glance = self.glance(|cell, word| written_at_a_glance(cell, word, bytes));
        assert!(
            ahead.is_none() || ahead == glance,
            "what passes before the write passes after it: {bytes:?}"
        );
        let back = after_write(self.cell, self.word(), bytes);
        if let Some(word) = glance {
            assert!(back.is_none() && self.word() == word, "at a glance it passes: {bytes:?}");
        }
        if let Some(back) = back {
            assert_eq!(self.word(), LOUD);
            if let Some(simple) = back.unit {
                self.machine.resume_answer(simple);
            }
            self.feed(ToClient, back.kept());
            self.feed(ToClient, &bytes[back.from..]);
        }
    }

    #[track_caller]
    fn said(&mut self, expected: &[&str]) {
        assert_eq!(core::mem::take(&mut self.said), expected);
    }

    /// Capture is switched on: the next unit, whatever was before, is followed from its beginning to its end.
    #[track_caller]
    fn follows_with_capture_on(mut self) {
        self.said.clear();
        self.capturing = true;
        self.read(&query("SELECT 1"));
        self.write(&[row(), ready()].concat());
        self.said(&["Started", "FirstResponse", "Finished"].map(|event| match event {
            "Finished" => "Query SELECT 1",
            event => event,
        }));
    }
}

#[test]
fn units_that_name_nothing_pass_with_their_answers() {
    for unit in [
        query("SELECT 1"),
        query("SELECT 1; SELECT 2"),
        [bind_execute("", "s1", 0), sync()].concat(),
        [parse("", "SELECT 1"), bind_execute("", "", 0), sync()].concat(),
        [parse("", "SELECT 1"), message(b'D', b"S\0"), sync()].concat(),
        [message(b'D', b"Ss1\0"), sync()].concat(),
        sync(),
    ] {
        let mut session = Session::new();
        for _ in 0..3 {
            session.read(&unit);
            session.write(&[message(b'1', b""), message(b'N', b"S\0\0"), row()].concat());
            session.write(&message(b'A', b"1234a\0b\0"));
            session.write(&ready());
            assert!(session.word() & !SIMPLE == resting(0), "{unit:?}");
            // The latch woke it up: nothing to read.
            session.begin_read();
        }
        session.said(&[]);
        session.follows_with_capture_on();
    }
}

#[test]
fn executions_are_told_the_quick_way_only_where_the_long_way_says_the_same() {
    let bind =
        |portal: &str, statement: &str| message(b'B', format!("{portal}\0{statement}\0\0\0\0").as_bytes());
    let execute = |rows: u32| message(b'E', &[&b"\0"[..], &rows.to_be_bytes()].concat());
    let describe = message(b'D', b"P\0");
    let mut quick = 0;
    for portal in ["", "c1"] {
        for statement in ["", "s1"] {
            for ending in [
                [describe.clone(), execute(0), sync()].concat(),
                [execute(0), sync()].concat(),
                [execute(9), sync()].concat(),
                [describe.clone(), sync()].concat(),
                [execute(0), execute(0), sync()].concat(),
                [execute(0), sync(), sync()].concat(),
                execute(0),
            ] {
                let unit = [bind(portal, statement), ending].concat();
                assert!(!is_usual_execution(&unit) || extended_unit(&unit), "{unit:?}");
                quick += usize::from(is_usual_execution(&unit));
                for end in 0..unit.len() {
                    assert!(
                        !is_usual_execution(&unit[..end]) || extended_unit(&unit[..end]),
                        "{unit:?} {end}"
                    );
                }
            }
        }
    }
    assert_eq!(quick, 2, "with Describe and without");
    assert!(!is_usual_execution(b"B\xff\xff\xff\xff\0s") && !is_usual_execution(b"B\0\0\0\0\0s"));
}

#[test]
fn units_that_name_something_or_come_in_pieces_are_the_machines() {
    let two = [query("SELECT 1"), query("SELECT 2")].concat();
    for unit in [
        [parse("s2", "SELECT 2"), sync()].concat(),
        [bind_execute("c1", "s1", 0), sync()].concat(),
        [bind_execute("", "s1", 100), sync()].concat(),
        [bind_execute("", "s1", 0), bind_execute("", "s1", 0), sync()].concat(),
        [message(b'C', b"Ss1\0"), sync()].concat(),
        // Which text that is was said earlier.
        [bind_execute("", "", 0), sync()].concat(),
        bind_execute("", "s1", 0),
        message(b'F', &[0; 10]),
        two.clone(),
        two[..20].to_vec(),
        two[..3].to_vec(),
        message(b'X', b""),
        b"Q\0\0\0\x03".to_vec(),
        message(b'\xff', b""),
        b"Q\xff\xff\xff\xffSELECT 1\0".to_vec(),
    ] {
        let mut session = Session::new();
        session.begin_read();
        assert!(session.word() != LOUD);
        session.read(&unit);
        assert!(session.word() == LOUD, "{unit:?}");
    }
}

#[test]
fn an_application_name_that_changes_in_an_answer_is_heard_however_the_answer_is_cut() {
    let answer = [row(), application("till 7"), ready()].concat();
    for (first, version) in
        (0..answer.len()).flat_map(|first| ["9.6.24", "15.3"].map(|version| (first, version)))
    {
        for second in [first, first + 1, first + 3, answer.len() - 1] {
            let mut session = Session::of(version);
            session.read(&query("SELECT set_config('application_name', 'till 7', false)"));
            let second = second.min(answer.len());
            for part in [&answer[..first], &answer[first..second.max(first)], &answer[second.max(first)..]] {
                session.write(part);
            }
            assert_eq!(session.machine.identity().application.as_slice(), b"till 7", "{first} {second}");
            assert_eq!(session.said.first().map(String::as_str), Some("IdentityChanged"));
            session.begin_read();
            assert!(session.word() & !(SIMPLE | REPORTS_LAST) == resting(0), "it stands aside again");
            session.follows_with_capture_on();
        }
    }
}

#[test]
fn servers_before_14_report_parameters_in_front_of_a_result_or_while_idle() {
    let mut session = Session::new();
    session.read(&query("SELECT set_config('application_name', 'till 7', false)"));
    session.write(&[application("till 7"), row()].concat());
    session.write(&[row(), ready()].concat());
    session.read(&query("SELECT 1"));
    session.write(&[row(), ready()].concat());
    session.write(&application("till 8"));
    assert_eq!(session.machine.identity().application.as_slice(), b"till 8");
    assert_eq!(session.said.iter().filter(|said| *said == "IdentityChanged").count(), 2);
    session.follows_with_capture_on();
}

#[test]
fn of_an_answer_that_ends_with_a_command_nothing_else_is_looked_at_where_reports_come_last() {
    let rows = [message(b'D', &[0; 3000]), message(b'T', &[7; 30])].concat();
    let long = [rows, message(b'C', b"SELECT 1234567\0"), ready()].concat();
    let mut session = Session::of("14beta1");
    session.read(&query("SELECT 1"));
    session.write(&long);
    assert_eq!(session.word(), resting(REPORTS_LAST | SIMPLE));
    // Wherever it is cut.
    for cut in 1..long.len() - 1 {
        session.read(&query("SELECT 2"));
        session.write(&long[..cut]);
        session.write(&long[cut..]);
        assert_eq!(session.word(), resting(REPORTS_LAST | SIMPLE), "{cut}");
    }
    session.follows_with_capture_on();
}

#[test]
fn a_copy_from_the_client_is_followed_from_where_the_server_asks_for_data() {
    let simple = query("COPY t FROM STDIN");
    let extended = [parse("", "COPY t FROM STDIN"), bind_execute("", "", 0), sync()].concat();
    for (copy, is_simple) in [(simple, true), (extended, false)] {
        let mut session = Session::new();
        session.read(&copy);
        session.write(&message(b'G', &[0, 0, 1, 0, 0]));
        assert!(session.word() == LOUD);
        for _ in 0..3 {
            session.read(&message(b'd', b"4711\n"));
        }
        let end = if is_simple { Vec::new() } else { sync() };
        session.read(&[message(b'c', b""), end].concat());
        session.write(&[message(b'C', b"COPY 3\0"), ready()].concat());
        assert!(session.said.iter().all(|said| !said.contains("Malformed")), "{:?}", session.said);
        session.begin_read();
        assert!(session.word() & !SIMPLE == resting(0), "it stands aside again");
        session.follows_with_capture_on();
    }
}

#[test]
fn a_query_for_which_the_server_waits_while_capture_is_switched_on_is_counted() {
    let mut session = Session::new();
    session.read(&query("SELECT 1"));
    session.write(&[row(), ready()].concat());
    // A server whose reads block.
    let aside = session.begin_read();
    session.capturing = true;
    session.end_read(aside, &query("SELECT 2"));
    session.write(&[row(), ready()].concat());
    session.said(&["Started", "FirstResponse", "Query SELECT 2"]);
}

#[test]
fn a_query_that_runs_while_capture_is_switched_on_is_not_invented() {
    let mut session = Session::new();
    session.read(&query("SELECT pg_sleep(1)"));
    session.capturing = true;
    session.write(&[row(), ready()].concat());
    session.said(&[]);
    session.follows_with_capture_on();
}

#[test]
fn statements_prepared_before_and_while_it_stood_aside_are_known() {
    let mut session = Session::new();
    session.read(&query("SELECT 1"));
    session.write(&[row(), ready()].concat());
    session.read(&[parse("s2", "SELECT 2"), sync()].concat());
    session.write(&[message(b'1', b""), ready()].concat());
    session.read(&query("SELECT 1"));
    session.write(&[row(), ready()].concat());
    session.capturing = true;
    session.said.clear();
    for statement in ["s1", "s2"] {
        session.read(&[bind_execute("", statement, 0), sync()].concat());
        session.write(&[message(b'2', b""), row(), ready()].concat());
        assert!(
            session.said.last().is_some_and(|said| said.starts_with("Execute Stored")),
            "{:?}",
            session.said
        );
    }
}

#[test]
fn the_text_of_an_unnamed_statement_that_may_be_another_is_unknown_not_wrong() {
    let mut session = Session::new();
    session.capturing = true;
    session.read(&[parse("", "SELECT 1"), sync()].concat());
    session.write(&[message(b'1', b""), ready()].concat());
    session.capturing = false;
    session.read(&[parse("", "SELECT 2"), sync()].concat());
    session.write(&[message(b'1', b""), ready()].concat());
    session.capturing = true;
    session.said.clear();
    session.read(&[bind_execute("", "", 0), sync()].concat());
    session.write(&[message(b'2', b""), row(), ready()].concat());
    session.said(&["Started", "FirstResponse", "Execute Unknown"]);
}

const REPORT_FIRST: usize = 3;
const TWO_UNITS: usize = 4;

#[test]
fn while_capture_is_on_only_reads_that_bring_nothing_pass() {
    let mut session = Session::new();
    session.capturing = true;
    session.read(&query("SELECT 1"));
    session.write(&[row(), ready()].concat());
    assert_eq!(session.word(), resting(CAPTURING), "it stands aside as soon as it has answered");
    assert!(session.begin_read() && session.begin_read());
    session.said.clear();
    session.read(&query("SELECT 2"));
    session.write(&row());
    assert_eq!(session.word(), LOUD);
    session.write(&ready());
    session.said(&["Started", "FirstResponse", "Query SELECT 2"]);
    // What comes while it is idle is the machine's too.
    session.write(&application("till 7"));
    session.said(&["IdentityChanged"]);
    session.begin_read();
    session.capturing = false;
    session.begin_read();
    session.read(&query("SELECT 3"));
    assert!(!session.machine.is_capturing(), "the machine was told");
    session.write(&[row(), ready()].concat());
    session.said(&["Started", "FirstResponse", "Query Unknown"]);
    session.begin_read();
    assert_eq!(session.word(), resting(0));
    session.read(&query("SELECT 4"));
    session.write(&[row(), ready()].concat());
    session.said(&[]);
    session.follows_with_capture_on();
}

/// Request and answer of unit number `n` out of those that a session may have.
fn exchange(n: usize, name: &str) -> (Vec<u8>, Vec<u8>) {
    let bound = message(b'2', b"");
    match n {
        0 => (query(name), [row(), ready()].concat()),
        1 => (query(name), [message(b'E', b"SERROR\0C42P01\0\0"), ready()].concat()),
        2 => (query(name), [row(), row(), application(name), ready()].concat()),
        REPORT_FIRST => (query(name), [application(name), row(), ready()].concat()),
        TWO_UNITS => ([query(name), query(name)].concat(), [row(), ready(), row(), ready()].concat()),
        5 => ([parse("s2", name), sync()].concat(), [message(b'1', b""), ready()].concat()),
        6 => {
            let unit = [parse("", name), bind_execute("", "", 0), sync()].concat();
            (unit, [message(b'1', b""), bound, row(), ready()].concat())
        }
        7 => ([bind_execute("", "s2", 0), sync()].concat(), [bound, row(), ready()].concat()),
        _ => (sync(), ready()),
    }
}

#[test]
fn a_session_that_stood_aside_says_the_same_as_one_that_never_did() {
    for seed in 1..3000u64 {
        let mut state = seed;
        let mut below = |n: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % n
        };
        let version = if seed % 2 == 0 { "13.12" } else { "17.2" };
        let mut sessions = [Session::of(version), Session::of(version)];
        sessions[1].may_rest = false;
        for step in 0..12 {
            let toggles = below(4) == 0;
            let kind = below(9);
            // In front of a result only older servers report.
            let kind = if kind == REPORT_FIRST && sessions[0].machine.reports_last() { 2 } else { kind };
            let (request, answer) = exchange(kind, &format!("name {step} of {seed}"));
            let mut cuts =
                [&request, &answer].map(|bytes| if below(3) == 0 { below(bytes.len()) } else { 0 });
            if kind == TWO_UNITS {
                // The server would answer the first one before it reads on.
                cuts[0] = 0;
            }
            for session in &mut sessions {
                session.capturing ^= toggles;
                let (first, second) = request.split_at(cuts[0]);
                [first, second]
                    .into_iter()
                    .filter(|part| !part.is_empty())
                    .for_each(|part| session.read(part));
                let (first, second) = answer.split_at(cuts[1]);
                session.write(first);
                session.write(second);
            }
            let [aside, never] = &mut sessions;
            if never.capturing {
                assert_eq!(aside.said, never.said, "{seed}");
            }
            assert!(aside.said.iter().all(|said| !said.contains("Malformed")), "{seed}");
            let application = |session: &Session| session.machine.identity().application;
            assert_eq!(application(aside).as_slice(), application(never).as_slice(), "{seed}");
            sessions.iter_mut().for_each(|session| session.said.clear());
        }
        sessions.iter().for_each(Session::close);
    }
}

#[test]
fn the_tags_that_are_passed_over_are_those_that_leave_no_trace() {
    for tag in 0..=u8::MAX {
        assert_eq!(
            is_passed_over(tag),
            !matches!(kind_of(tag), Kind::Other | Kind::Ready),
            "{:?}",
            char::from(tag)
        );
    }
}

#[test]
fn the_rest_of_an_answer_that_was_seen_before_the_kernel_took_it_is_nobodys_business() {
    let mut session = Session::of("15.3");
    let answer = [row(), ready()].concat();
    let at = answer.as_ptr().addr();
    session.read(&query("SELECT 1"));
    session.write(&answer);
    session.cell.written.took(at, answer.len());
    for cut in 1..answer.len() {
        session.read(&query("SELECT 2"));
        assert!(!session.cell.is_rest(at + cut, answer.len() - cut), "not before it was seen");
        assert!(session.cell.may_be_seen_ahead(at, answer.len()));
        assert!(written_ahead(session.cell, session.word(), &answer));
        assert!(session.cell.is_rest(at + cut, answer.len() - cut), "however little is left");
        assert!(!session.cell.is_rest(at, answer.len()), "from its beginning it may be another one");
        assert_eq!(session.word(), resting(REPORTS_LAST | SIMPLE));
    }
    let reported = [row(), application("till 8"), ready()].concat();
    session.read(&query("SELECT 3"));
    assert!(
        !written_ahead(session.cell, session.word(), &reported),
        "a report is looked at when it was taken"
    );
    session.write(&reported);
    session.follows_with_capture_on();
}
