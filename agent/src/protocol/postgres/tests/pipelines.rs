//! Several statements in a unit, several units ahead of their answers, and how the machine finds back.

use super::*;
use crate::protocol::postgres::units::UNITS_CAP;
use crate::segment::record::MEMBERS_MAX;

fn one(text: &str) -> Vec<u8> {
    [parse("", text), bind("", ""), describe(""), execute("")].concat()
}

fn done() -> Vec<u8> {
    [message('1', ""), message('2', ""), row(), complete("SELECT 1")].concat()
}

fn units(lines: &[String]) -> Vec<&str> {
    lines.iter().map(String::as_str).filter(|line| line.contains("st ")).collect()
}

#[test]
fn units_sent_ahead_start_when_the_one_before_is_answered() {
    let lines = tell(true, |s| {
        s.client([query("select 1"), query("select 2"), one("select 3"), sync(), sync()].concat());
        s.server([row(), complete("SELECT 1"), ready(), row()].concat());
        s.server([complete("SELECT 1"), ready(), done(), ready(), ready()].concat());
    });
    assert_eq!(
        lines,
        [
            "Started",
            "text select 1",
            "FirstResponse",
            "Query[stored select 1] 1st 1out 0aff",
            "Started",
            "FirstResponse",
            "Query[select 2] 1st 1out 0aff",
            "Started",
            "FirstResponse",
            "Execute[select 3] 1st 1out 0aff",
            "Started",
            "FirstResponse",
            "Utility[] 0st 0out 0aff"
        ]
    );
}

#[test]
fn every_text_of_a_batch_is_announced_and_the_same_ones_are_one_member() {
    let lines = tell(true, |s| {
        s.client([parse("n", "select 0"), one("select 1"), one("select 2"), one("select 1")].concat());
        s.client(
            [bind("", "n"), execute(""), bind("", "n"), execute(""), bind("", "x"), execute("")].concat(),
        );
        s.client(sync());
        s.server([done(), done(), error("ERROR", "22012"), ready()].concat());
    });
    assert_eq!(units(&lines), ["Batch[] 6st 2x(select 1) 1x(select 2) 2x(select 0) 1x(?) 2out 0aff 22012"]);
}

#[test]
fn a_thousand_executes_of_one_statement_are_one_member() {
    let lines = tell(true, |s| {
        s.client(parse("n", "insert"));
        for _ in 0..1000 {
            s.client([bind("", "n"), execute("")].concat());
        }
        s.client(sync());
        for _ in 0..1000 {
            s.server(complete("INSERT 0 1"));
        }
        s.server(ready());
    });
    assert_eq!(units(&lines), ["Batch[] 1000st 1000x(insert) 0out 1000aff"]);
}

#[test]
fn more_members_than_there_is_room_for_are_counted_only() {
    let mut story = Story::logged_in(0);
    for n in 0..MEMBERS_MAX + 10 {
        story.client(one(&format!("select {n}")));
    }
    story.client(sync());
    let unit = story.machine.unit();
    assert_eq!((unit.members.len(), unit.statements), (MEMBERS_MAX, MEMBERS_MAX as u32 + 10));
    story.server(ready());
    // The next batch has all the room again.
    story.client([one("select 1"), one("select 2"), sync()].concat());
    assert_eq!(story.unit(), "Batch[] 2st 1x(select 1) 1x(select 2) 0out 0aff");
}

#[test]
fn batches_ahead_share_the_room_for_members() {
    let mut story = Story::logged_in(0);
    let batch = |n: usize| [one(&format!("a{n}")), one(&format!("b{n}")), one("c"), sync()].concat();
    for n in 0..200 {
        story.client(batch(n));
        if n >= 10 {
            story.server([done(), ready()].concat());
        }
    }
    for _ in 0..10 {
        story.server([done(), ready()].concat());
    }
    let units = units(&story.lines);
    assert_eq!(units.len(), 200);
    for (n, unit) in units.iter().enumerate() {
        assert_eq!(*unit, format!("Batch[] 3st 1x(a{n}) 1x(b{n}) 1x(c) 1out 0aff"));
    }
}

#[test]
fn units_beyond_the_queue_are_counted_in_the_last_one() {
    let ahead = UNITS_CAP + 30;
    let lines = tell(true, |s| {
        for n in 0..ahead {
            if n % 2 == 0 {
                s.client(query(&format!("select {n}")));
            } else {
                s.client([one(&format!("select {n}")), sync()].concat());
            }
        }
        for _ in 0..ahead {
            s.server([done(), ready()].concat());
        }
        s.client(query("select now"));
        s.server([done(), ready()].concat());
    });
    let units = units(&lines);
    assert_eq!(units.len(), UNITS_CAP + 1);
    for (n, unit) in units[..UNITS_CAP - 1].iter().enumerate() {
        let kind = if n % 2 == 0 { "Query" } else { "Execute" };
        assert_eq!(*unit, format!("{kind}[stored select {n}] 1st 1out 0aff"));
    }
    assert!(
        units[UNITS_CAP - 1].starts_with("Batch[] 31st 1x(select 63) 1x(select 64) "),
        "{}",
        units[UNITS_CAP - 1]
    );
    assert!(units[UNITS_CAP - 1].ends_with(" 31out 0aff"), "{}", units[UNITS_CAP - 1]);
    assert_eq!(units[UNITS_CAP], "Query[select now] 1st 1out 0aff");
}

#[test]
fn a_query_that_the_server_skipped_after_an_error_ends_when_the_server_reads_again() {
    let lines = tell(true, |s| {
        s.client([one("broken"), query("select 1"), sync()].concat());
        s.server([error("ERROR", "42601"), ready()].concat());
        s.read_entered();
        s.client(query("select 2"));
        s.read_entered();
    });
    assert_eq!(
        units(&lines),
        [
            "Batch[] 2st 1x(broken) 1x(select 1) 0out 0aff 42601",
            "Utility[] 0st 0out 0aff unknown",
            "Query[select 2] 1st 0out 0aff unknown"
        ]
    );
}

#[test]
fn reading_is_not_the_end_of_a_unit_that_the_client_is_still_sending() {
    let lines = tell(true, |s| {
        s.client([query("select 1"), one("select 2")].concat());
        // The server's answer was not seen: what was complete is over, the rest goes on.
        s.read_entered();
        s.read_entered();
        s.client(sync());
        s.server([done(), ready()].concat());
        // Nor is it while COPY data is wanted.
        s.client(query("copy t from stdin"));
        s.server(message('G', [0; 3]));
        s.read_entered();
        s.client([message('d', "1\n"), message('c', "")].concat());
        s.server([complete("COPY 1"), ready()].concat());
        s.read_entered();
    });
    assert_eq!(
        lines,
        [
            "Started",
            "Query[select 1] 1st 0out 0aff unknown",
            "Started",
            "FirstResponse",
            "Execute[select 2] 1st 1out 0aff",
            "Started",
            "FirstResponse",
            "Query[copy t from stdin] 1st 0out 1aff"
        ]
    );
}

#[test]
fn a_sync_among_copy_data_ends_nothing_and_the_one_behind_the_data_does() {
    let copy = || [parse("", "copy t from stdin"), bind("", ""), execute("")].concat();
    let lines = tell(true, |s| {
        s.client([copy(), message('H', "")].concat());
        s.server(message('G', [0; 3]));
        s.client([sync(), message('d', "1\n"), sync(), message('c', ""), sync(), query("select 1")].concat());
        s.server([complete("COPY 1"), ready(), row(), complete("SELECT 1"), ready()].concat());
        s.read_entered();
    });
    assert_eq!(
        lines,
        [
            "Started",
            "FirstResponse",
            "Execute[copy t from stdin] 1st 0out 1aff",
            "Started",
            "FirstResponse",
            "Query[select 1] 1st 1out 0aff"
        ]
    );
}

#[test]
fn flushed_answers_belong_to_the_unit_that_goes_on() {
    let lines = tell(true, |s| {
        s.client([one("select 1"), message('H', "")].concat());
        s.server(done());
        s.client([one("select 2"), message('H', ""), sync()].concat());
        s.server([done(), ready()].concat());
    });
    assert_eq!(
        lines,
        [
            "Started",
            "FirstResponse",
            "text select 1",
            "text select 2",
            "Batch[] 2st 1x(select 1) 1x(select 2) 2out 0aff"
        ]
    );
}

#[test]
fn a_fatal_error_drops_what_else_was_asked() {
    let lines = tell(true, |s| {
        s.client([query("select 1"), query("select 2"), one("select 3")].concat());
        s.server(error("FATAL", "57P01"));
        s.read_entered();
        let step = s.machine.parked(true);
        s.tell(step);
    });
    assert_eq!(units(&lines), ["Query[stored select 1] 1st 0out 0aff 57P01"]);
}
