//! Single units: what they ask, what is answered, when they end.

use super::*;
use crate::protocol::TEXT_CAP;

/// One unit of one simple Query, and the line that describes it.
fn asked_and_answered(text: &str, answer: &[u8]) -> Vec<String> {
    tell(true, |s| {
        s.client(query(text));
        s.server(answer);
    })
}

#[test]
fn a_simple_query_starts_at_its_last_byte_and_ends_at_ready() {
    let mut story = Story::logged_in(0);
    let bytes = query("select 1");
    story.client(&bytes[..bytes.len() - 1]);
    assert!(story.lines.is_empty());
    story.client(&bytes[bytes.len() - 1..]);
    assert_eq!(story.lines, ["Started"]);
    assert_eq!(story.unit(), "Query[select 1] 1st 0out 0aff");
    story.server([message('T', "x"), row(), row(), complete("SELECT 2"), ready()[..5].to_vec()].concat());
    assert_eq!(story.lines, ["Started", "FirstResponse"]);
    story.server("I");
    assert_eq!(story.lines.last().unwrap(), "Query[select 1] 1st 2out 0aff");
    // It stays readable while the next one comes in.
    story.client(&query("select 2")[..10]);
    assert_eq!(story.unit(), "Query[select 1] 1st 2out 0aff");
}

#[test]
fn answers_of_simple_queries() {
    let end = |parts: &[Vec<u8>]| [parts.concat(), ready()].concat();
    let cases: &[(&str, Vec<u8>, &str)] = &[
        ("insert", end(&[complete("INSERT 0 5")]), "1st 0out 5aff"),
        ("update; merge", end(&[complete("UPDATE 5"), complete("MERGE 6")]), "2st 0out 11aff"),
        (
            "delete",
            end(&[complete("DELETE 18446744073709551615"), complete("DELETE 9")]),
            "2st 0out 18446744073709551615aff",
        ),
        ("fetch", end(&[row(), complete("FETCH 1")]), "1st 1out 0aff"),
        (
            "no number",
            end(&[complete("INSERT 0 -1"), complete("UPDATE 99999999999999999999")]),
            "2st 0out 0aff",
        ),
        ("", end(&[message('I', "")]), "0st 0out 0aff"),
        ("fails", end(&[error("ERROR", "42601")]), "1st 0out 0aff 42601"),
        ("1; fails", end(&[row(), complete("SELECT 1"), error("ERROR", "22012")]), "2st 1out 0aff 22012"),
        ("old", end(&[message('E', b"SFEHLER\0C22012\0\0")]), "1st 0out 0aff 22012"),
        ("no code", end(&[message('E', b"SERROR\0\0")]), "1st 0out 0aff \0\0\0\0\0"),
        ("long code", end(&[message('E', b"SERROR\0C220129\0\0")]), "1st 0out 0aff \0\0\0\0\0"),
        ("torn", end(&[message('E', b"SERROR\0C22012")]), "1st 0out 0aff 22012"),
        ("dies", error("FATAL", "57P01"), "1st 0out 0aff 57P01"),
        ("panics", message('E', b"SPANIK\0VPANIC\0CXX000\0\0"), "1st 0out 0aff XX000"),
        (
            "copy out",
            end(&[message('H', [0; 3]), message('d', "a"), message('c', ""), complete("COPY 7")]),
            "1st 7out 0aff",
        ),
        ("copy from a file", end(&[complete("COPY 7")]), "1st 0out 0aff"),
    ];
    for (text, answer, expected) in cases {
        let lines = asked_and_answered(text, answer);
        assert_eq!(lines, ["Started", "FirstResponse", &format!("Query[{text}] {expected}")]);
    }
}

#[test]
fn notices_notifications_and_parameters_are_no_response() {
    let lines = tell(true, |s| {
        s.server([message('A', "...."), message('N', "SNOTICE\0\0")].concat());
        assert!(s.lines.is_empty());
        s.client(query("select 1"));
        s.server(
            [message('N', "SNOTICE\0CHELLO\0\0"), message('A', "...."), message('S', "TimeZone\0UTC\0")]
                .concat(),
        );
        assert_eq!(s.lines, ["Started"]);
        s.server([row(), complete("SELECT 1"), ready(), message('A', "....")].concat());
        s.server(message('A', "...."));
    });
    assert_eq!(lines, ["Started", "FirstResponse", "Query[select 1] 1st 1out 0aff"]);
}

#[test]
fn a_text_longer_than_its_room_is_cut_and_its_length_is_known() {
    let long = "x".repeat(TEXT_CAP + 1000);
    for cut in [0, 1, 1000, TEXT_CAP] {
        let mut story = Story::logged_in(cut);
        story.client(query(&long));
        story.server([complete("SELECT 0"), ready()].concat());
        let unit = story.machine.unit();
        assert_eq!(
            unit.text,
            UnitText::Inline { bytes: &long.as_bytes()[..TEXT_CAP], full_len: long.len() as u32 }
        );
        story.client(parse("s", &long));
        let (bytes, text) = story.machine.announced_text();
        assert_eq!((bytes, text.full_len), (&long.as_bytes()[..TEXT_CAP], long.len() as u32));
    }
}

#[test]
fn the_unnamed_statement_is_executed_again_without_parse_until_a_simple_query_destroys_it() {
    let done = || [message('2', ""), complete("SELECT 0"), ready()].concat();
    let lines = tell(true, |s| {
        s.client([parse("", "select 1"), bind("", ""), describe(""), execute(""), sync()].concat());
        s.server(done());
        s.client([bind("", ""), execute(""), sync()].concat());
        s.server(done());
        s.client(query("select 2"));
        s.server(done());
        s.client([bind("", ""), execute(""), sync()].concat());
        s.server([error("ERROR", "26000"), ready()].concat());
    });
    let lines: Vec<_> = lines.iter().filter(|line| line.contains("st ")).collect();
    assert_eq!(
        lines,
        [
            "Execute[select 1] 1st 0out 0aff",
            "Execute[select 1] 1st 0out 0aff",
            "Query[select 2] 1st 0out 0aff",
            "Execute[unknown] 1st 0out 0aff 26000"
        ]
    );
}

#[test]
fn named_statements_are_announced_when_parsed_and_known_until_closed() {
    let long_name = "n".repeat(70);
    let lines = tell(true, |s| {
        s.client([parse("a", "select 1"), describe("a"), sync()].concat());
        s.server([message('1', ""), message('n', ""), ready()].concat());
        s.client([parse(&long_name, "select 2"), sync()].concat());
        s.server([message('1', ""), ready()].concat());
        // The server, too, looks at 63 bytes only.
        s.client([bind("p", &long_name[..63]), execute("p"), sync()].concat());
        s.server([message('2', ""), row(), complete("SELECT 1"), ready()].concat());
        s.client([message('C', "Sa\0"), message('C', "Pp\0"), sync()].concat());
        s.server([message('3', ""), message('3', ""), ready()].concat());
        s.client([bind("", "a"), execute(""), sync()].concat());
        s.server([error("ERROR", "26000"), ready()].concat());
    });
    assert_eq!(
        lines,
        [
            "text select 1",
            "Started",
            "FirstResponse",
            "Prepare[stored select 1] 1st 0out 0aff",
            "text select 2",
            "Started",
            "FirstResponse",
            "Prepare[stored select 2] 1st 0out 0aff",
            "Started",
            "FirstResponse",
            "Execute[stored select 2] 1st 1out 0aff",
            "Started",
            "FirstResponse",
            "Utility[] 0st 0out 0aff",
            "Started",
            "FirstResponse",
            "Execute[unknown] 1st 0out 0aff 26000"
        ]
    );
}

#[test]
fn a_name_that_is_given_again_means_the_new_statement_also_where_the_old_one_has_just_run() {
    let lines = tell(true, |s| {
        for (text, times) in [("select 1", 1), ("select 2", 2)] {
            s.client([message('C', "Sa\0"), parse("a", text), sync()].concat());
            s.server([message('3', ""), message('1', ""), ready()].concat());
            for _ in 0..times {
                s.client([bind("", "a"), execute(""), sync()].concat());
                s.server([message('2', ""), row(), complete("SELECT 1"), ready()].concat());
            }
        }
    });
    let executed: Vec<_> = lines.iter().filter(|line| line.starts_with("Execute")).collect();
    let [one, two] = ["select 1", "select 2"].map(|text| format!("Execute[stored {text}] 1st 1out 0aff"));
    assert_eq!(executed, [&one, &two, &two]);
}

#[test]
fn parse_and_describe_of_the_unnamed_statement_is_a_prepare() {
    let lines = tell(true, |s| {
        s.client([parse("", "select 1"), message('D', "S\0"), sync()].concat());
        s.server([message('1', ""), message('t', [0, 0]), message('n', ""), ready()].concat());
        s.client([bind("", ""), execute(""), sync()].concat());
        s.server([message('2', ""), complete("SELECT 0"), ready()].concat());
    });
    let units: Vec<_> = lines.iter().filter(|line| line.contains("st ")).collect();
    assert_eq!(units, ["Prepare[select 1] 1st 0out 0aff", "Execute[select 1] 1st 0out 0aff"]);
}

#[test]
fn a_portal_read_in_portions_is_executed_once_and_then_fetched() {
    let portion = || [row(), row(), message('s', ""), ready()].concat();
    let lines = tell(true, |s| {
        s.client([parse("", "select 1"), bind("c", ""), execute("c"), sync()].concat());
        s.server(portion());
        // Another statement in between takes both buffers in turn.
        for n in 0..3 {
            s.client([parse("", &format!("update {n}")), bind("", ""), execute(""), sync()].concat());
            s.server([complete("UPDATE 1"), ready()].concat());
        }
        s.client([execute("c"), sync()].concat());
        s.server(portion());
        s.client([bind("c", ""), execute("c"), sync()].concat());
        s.server(portion());
    });
    let lines: Vec<_> =
        lines.iter().filter(|line| !line.ends_with("ed") && !line.ends_with("onse")).collect();
    assert_eq!(
        lines,
        [
            "Execute[select 1] 1st 2out 0aff",
            "Execute[update 0] 1st 0out 1aff",
            "text select 1",
            "Execute[update 1] 1st 0out 1aff",
            "Execute[update 2] 1st 0out 1aff",
            "Fetch[stored select 1] 1st 2out 0aff",
            "Execute[update 2] 1st 2out 0aff"
        ]
    );
}

#[test]
fn more_portals_than_there_is_room_for_are_unknown_not_confused() {
    let mut story = Story::logged_in(0);
    for name in ["a", "b", "c", "d", "e"] {
        story.client([parse(name, name), bind(name, name), sync()].concat());
        story.server(ready());
    }
    let mut texts = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        story.client([execute(name), sync()].concat());
        story.server(ready());
        texts.push(story.lines.last().unwrap().clone());
    }
    assert_eq!(texts[0], "Execute[unknown] 1st 0out 0aff");
    for (text, name) in texts[1..].iter().zip(["b", "c", "d", "e"]) {
        assert_eq!(*text, format!("Execute[stored {name}] 1st 0out 0aff"));
    }
}

#[test]
fn statements_evicted_are_counted_and_unknown() {
    let mut story = Story::logged_in(0);
    for n in 0..2000 {
        story.client(parse(&format!("s{n}"), &format!("select {n}")));
        story.client(sync());
        story.server([message('1', ""), ready()].concat());
    }
    let evicted = story.machine.evicted_statements();
    assert!(evicted >= 2000 - 512, "{evicted}");
    story.client([bind("", "s0"), execute(""), sync()].concat());
    assert_eq!(story.unit(), "Execute[unknown] 1st 0out 0aff");
    story.machine.reset();
    assert_eq!(story.machine.evicted_statements(), 0);
}

#[test]
fn without_capturing_only_named_statements_are_kept() {
    let lines = tell(true, |s| {
        s.machine.set_capturing(false);
        s.client(query("select 1"));
        s.server([complete("SELECT 0"), ready()].concat());
        s.client([parse("a", "select 2"), parse("", "select 3"), bind("", ""), execute(""), sync()].concat());
        s.server([complete("SELECT 0"), ready()].concat());
        s.machine.set_capturing(true);
        s.client([bind("", ""), execute(""), sync()].concat());
        s.server([complete("SELECT 0"), ready()].concat());
        s.client([bind("", "a"), execute(""), sync()].concat());
        s.server([complete("SELECT 0"), ready()].concat());
    });
    let lines: Vec<_> =
        lines.iter().filter(|line| !line.ends_with("ed") && !line.ends_with("onse")).collect();
    assert_eq!(
        lines,
        [
            "Query[unknown] 1st 0out 0aff",
            "text select 2",
            "Execute[unknown] 1st 0out 0aff",
            "Execute[unknown] 1st 0out 0aff",
            "Execute[stored select 2] 1st 0out 0aff"
        ]
    );
}

#[test]
fn a_text_during_which_capturing_was_switched_is_unknown_never_half() {
    let cases: [(Vec<u8>, &str); 3] = [
        (query("select 1"), "Query[unknown] 1st 0out 0aff"),
        (parse("", "select 1"), "Prepare[unknown] 1st 0out 0aff"),
        (parse("name", "select 1"), "Prepare[stored select 1] 1st 0out 0aff"),
    ];
    for (bytes, expected) in cases {
        for at in 7..bytes.len() {
            for switches in [&[false][..], &[false, true]] {
                let mut story = Story::logged_in(0);
                story.client(&bytes[..at]);
                switches.iter().for_each(|&on| story.machine.set_capturing(on));
                story.client(&bytes[at..]);
                story.client(sync());
                assert_eq!(story.unit(), expected, "switched at byte {at}");
            }
        }
        let mut story = Story::logged_in(0);
        story.machine.set_capturing(false);
        story.client(&bytes[..10]);
        story.machine.set_capturing(true);
        story.client(&bytes[10..]);
        assert_eq!(story.unit(), expected, "switched on");
    }
}

#[test]
fn a_unit_ends_with_the_connection_and_nothing_follows() {
    let mut story = Story::logged_in(0);
    assert_eq!(story.machine.parked(true), Step::NeedMore);
    story.client([query("select 1"), query("select 2")].concat());
    assert_eq!(story.machine.parked(false), Step::NeedMore);
    assert_eq!(story.machine.parked(true), Step::Event(Event::Finished));
    assert_eq!(story.unit(), "Query[select 1] 1st 0out 0aff");
    assert_eq!(story.machine.parked(true), Step::NeedMore);
}

#[test]
fn quit_waits_for_what_was_asked_before() {
    let lines = tell(true, |s| {
        s.client([query("select 1"), query("select 2"), message('X', "")].concat());
        s.server([complete("SELECT 0"), ready()].concat());
        s.server([complete("SELECT 0"), ready()].concat());
    });
    assert_eq!(lines.last().unwrap(), "Quit");
    assert_eq!(lines.iter().filter(|line| line.contains("st ")).count(), 2);
    assert_eq!(tell(true, |s| s.client(message('X', ""))), ["Quit"]);
}

#[test]
fn an_error_while_idle_is_no_unit() {
    let lines = tell(true, |s| {
        s.server([error("ERROR", "XX000"), ready()].concat());
        s.client(query("select 1"));
        s.server([complete("SELECT 0"), ready(), error("FATAL", "57P05")].concat());
    });
    assert_eq!(lines, ["Started", "FirstResponse", "Query[select 1] 1st 0out 0aff"]);
}

#[test]
fn a_stream_is_no_query() {
    let lines = tell(true, |s| {
        s.client(query("START_REPLICATION"));
        s.server([message('W', [0; 3]), message('d', "wal")].concat());
        s.client(message('d', "feedback"));
    });
    assert_eq!(lines, ["Started", "FirstResponse", "Streaming"]);
}

#[test]
fn a_machine_used_again_is_as_new() {
    let mut story = Story::logged_in(0);
    story.client([parse("a", "select 1"), parse("", "select 2"), bind("c", "a"), execute("c")].concat());
    story.client(&query("select 3")[..9]);
    story.server([row(), row()[..3].to_vec()].concat());
    story.machine.reset();
    story.machine.set_capturing(true);
    assert_eq!(story.machine.unit().command, crate::protocol::Command::None);
    assert_eq!(story.machine.identity().connection_id, 0);
    story.lines.clear();
    story.client(startup("user\0v\0"));
    story.server(welcome());
    story.client([execute("c"), bind("", "a"), execute(""), sync()].concat());
    story.server([error("ERROR", "34000"), ready()].concat());
    assert_eq!(
        story.lines,
        ["login v@v \"\"", "Started", "FirstResponse", "Batch[] 2st 2x(?) 0out 0aff 34000"]
    );
}
