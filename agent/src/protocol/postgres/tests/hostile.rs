//! Bytes that no client or server sends.

use super::*;
use crate::protocol::LostReason;
use crate::protocol::postgres::fuzz::fuzz_postgres;
use std::vec;

#[test]
fn impossible_lengths_and_unknown_tags_lose_the_session_for_ever() {
    let cases: [(Direction, &[u8]); 9] = [
        (Direction::FromClient, b"Q\0\0\0\x03"),
        (Direction::FromClient, b"Q\xff\xff\xff\xff"),
        (Direction::FromClient, b"Q\x40\0\0\0"),
        (Direction::FromClient, b"a\0\0\0\x04"),
        (Direction::FromClient, b"p\0\0\0\x04"),
        (Direction::ToClient, b"N\0\0\0\x03"),
        (Direction::ToClient, b"x\0\0\0\x04"),
        (Direction::ToClient, b"Z\0\0\0\x04"),
        (Direction::ToClient, b"D\0\0\0\x04"),
    ];
    for (direction, bytes) in cases {
        let lines = tell(true, |s| s.feed(direction, bytes));
        assert_eq!(lines, ["lost Malformed"], "{}", bytes.escape_ascii());
        let mut story = Story::logged_in(0);
        story.feed(direction, bytes);
        for direction in [Direction::FromClient, Direction::ToClient] {
            let step = story.machine.step(direction, &mut &query("select 1")[..]);
            assert_eq!(step, Step::Lost(LostReason::Malformed));
        }
        assert_eq!(story.machine.read_entered(1), Step::Lost(LostReason::Malformed));
        assert_eq!(story.machine.parked(true), Step::Lost(LostReason::Malformed));
    }
}

#[test]
fn messages_without_their_fields_are_the_servers_to_refuse() {
    for tag in ["Q", "P", "B", "E", "C", "D", "F"] {
        for payload in ["", "a", "\0", "S", "a\0", "a\0b"] {
            let lines = tell(true, |s| {
                s.client([message(tag.chars().next().unwrap(), payload), sync()].concat());
                s.server([error("ERROR", "08P01"), ready(), ready()].concat());
                s.read_entered();
            });
            assert!(lines.iter().any(|line| line.ends_with("08P01")), "{tag} {payload:?}: {lines:?}");
        }
    }
}

#[test]
fn the_same_events_whatever_the_chunks_with_bytes_behind_the_last_message() {
    let tails: [(Direction, &[u8]); 4] = [
        (Direction::FromClient, b"Q\0\0"),
        (Direction::FromClient, b"P\0\0\0\x20na"),
        (Direction::ToClient, b"D\0\0\x01"),
        (Direction::ToClient, b"N\0\0\0\x20S"),
    ];
    for (direction, tail) in tails {
        let lines = tell(true, |s| {
            s.client(
                [query("select 1"), if direction == Direction::FromClient { tail.to_vec() } else { vec![] }]
                    .concat(),
            );
            s.server(
                [
                    complete("SELECT 1"),
                    ready(),
                    if direction == Direction::ToClient { tail.to_vec() } else { vec![] },
                ]
                .concat(),
            );
        });
        assert_eq!(lines, ["Started", "FirstResponse", "Query[select 1] 1st 0out 0aff"]);
    }
}

#[test]
fn a_row_whose_header_was_torn_is_no_message_of_its_own() {
    // The last byte of the length is the tag of ParseComplete, and the payload looks like its length.
    let row = message('D', [0, 0, 0, 4].repeat(11).into_iter().chain([0]).collect::<Vec<u8>>());
    assert_eq!(row[4], b'1');
    let mut story = Story::logged_in(0);
    story.client(query("select 1"));
    story.server(message('T', [0, 0]));
    for at in 1..row.len() {
        story.server(&row[..at]);
        story.server(&row[at..]);
    }
    story.server([complete("SELECT 48"), ready()].concat());
    assert_eq!(story.unit(), format!("Query[select 1] 1st {}out 0aff", row.len() - 1));
}

/// xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n
    }
}

/// Pieces as the fuzz target takes them.
fn piece(out: &mut Vec<u8>, direction: Direction, bytes: &[u8]) {
    for part in bytes.chunks(127) {
        out.push((part.len() as u8) << 1 | u8::from(direction == Direction::ToClient));
        out.extend(part);
    }
}

/// A likely message.
fn some_message(random: &mut Random) -> (Direction, Vec<u8>) {
    let names = ["", "a", "b", "c", "d", "e", "f"];
    let texts = ["", "select 1", "select 2", "update t", &"long ".repeat(30)];
    let name = names[random.below(names.len())];
    let other = names[random.below(names.len())];
    let text = texts[random.below(texts.len())];
    let tags = ["SELECT 1", "INSERT 0 3", "UPDATE 2", "COPY 4"];
    match random.below(32) {
        0 | 1 => (Direction::FromClient, query(text)),
        2..=4 => (Direction::FromClient, parse(name, text)),
        5..=7 => (Direction::FromClient, bind(name, other)),
        8..=10 => (Direction::FromClient, execute(name)),
        11 => (Direction::FromClient, describe(name)),
        12 => (Direction::FromClient, message('C', format!("{}{name}\0", ["S", "P"][random.below(2)]))),
        13..=15 => (Direction::FromClient, sync()),
        16 => (Direction::FromClient, message(['d', 'c', 'f', 'H', 'F'][random.below(5)], "")),
        17 => (Direction::ToClient, message('G', [0; 3])),
        18 => (Direction::ToClient, message('H', [0; 3])),
        19 => (Direction::ToClient, error(["ERROR", "ERROR", "ERROR", "FATAL"][random.below(4)], "22012")),
        20 => (Direction::ToClient, message('S', format!("application_name\0{name}\0"))),
        21 => {
            (Direction::ToClient, message(['N', 'A', 's', 'I', '1', '2', '3', 't', 'n'][random.below(9)], ""))
        }
        22..=24 => (Direction::ToClient, complete(tags[random.below(tags.len())])),
        25 | 26 => (Direction::ToClient, row()),
        _ => (Direction::ToClient, ready()),
    }
}

#[test]
fn any_order_of_messages_is_survived_and_means_the_same_in_any_chunks() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for round in 0..4000 {
        let mut data = vec![random.below(256) as u8 & 0xfe];
        for _ in 0..random.below(150) {
            let (direction, mut bytes) = some_message(&mut random);
            if round % 4 == 3 && random.below(40) == 0 {
                let at = random.below(bytes.len());
                bytes[at] = random.below(256) as u8;
            }
            piece(&mut data, direction, &bytes);
        }
        fuzz_postgres(&data);
    }
}

#[test]
fn any_bytes_are_survived_and_mean_the_same_in_any_chunks() {
    let mut random = Random(88_172_645_463_325_252);
    for _ in 0..4000 {
        let length = random.below(400);
        let mut data: Vec<u8> = (0..length).map(|_| random.below(256) as u8).collect();
        fuzz_postgres(&data);
        // Small numbers make headers that are possible.
        for byte in &mut data {
            if random.below(3) > 0 {
                *byte = [0, 0, 0, 1, 4, 8, 9, b'Q', b'P', b'Z', b'E', b'S', b'C', 3][*byte as usize % 14];
            }
        }
        fuzz_postgres(&data);
    }
}

#[test]
fn real_sessions_with_bytes_changed_lost_and_doubled_are_survived() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for hex in [include_str!("samples/raw_odd.hex"), include_str!("samples/psycopg_pipeline.hex")] {
        let mut original = Vec::from([1]);
        for (direction, bytes) in captured::transcript(hex) {
            piece(&mut original, direction, &bytes);
        }
        fuzz_postgres(&original);
        for _ in 0..1500 {
            let mut data = original.clone();
            for _ in 0..1 + random.below(4) {
                let at = 1 + random.below(data.len() - 1);
                match random.below(4) {
                    0 => data[at] = random.below(256) as u8,
                    1 => data[at] ^= 1 << random.below(8),
                    2 => drop(data.remove(at)),
                    _ => data.insert(at, random.below(256) as u8),
                }
            }
            data[0] = random.below(256) as u8 | 1;
            fuzz_postgres(&data);
        }
    }
}
