//! Conversations made by hand: what is rare, what is MySQL's, and what no server should say.

use super::*;
use handshake::capability;

const MYSQL_CAPABILITIES: u64 = 0x8fff_ffff
    & !capability::ZSTD
    & !capability::OPTIONAL_METADATA
    & !capability::COMPRESS
    & !capability::SSL;
const OK: &[u8] = b"\x00\x00\x00\x02\x00\x00\x00";
const EOF: &[u8] = b"\xfe\x00\x00\x02\x00";
const COLUMN: &[u8] = b"\x03def\x00\x00\x00\x01a";

fn packet(seq: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_le_bytes()[..3].to_vec();
    bytes.push(seq);
    bytes.extend(payload);
    bytes
}

fn client(payload: &[u8]) -> Op {
    Op::Client(packet(0, payload))
}

/// A response in one send, sequence numbers from 1.
fn server(payloads: &[&[u8]]) -> Op {
    Op::Server((1..).zip(payloads).flat_map(|(seq, payload)| packet(seq, payload)).collect())
}

fn envelope(seq: u8, uncompressed: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = packet(seq, payload);
    bytes.splice(4..4, [uncompressed, 0, 0]);
    bytes
}

fn greeting(capabilities: u64) -> Op {
    let mut payload = b"\x0a8.0.46\0\x07\0\0\0scrambl8\0".to_vec();
    let bytes = capabilities.to_le_bytes();
    payload.extend(&bytes[..2]);
    payload.extend([45, 2, 0]);
    payload.extend(&bytes[2..4]);
    payload.extend([21, 0, 0, 0, 0, 0, 0]);
    payload.extend(&bytes[4..8]);
    payload.extend(b"scramble1234\0caching_sha2_password\0");
    Op::Server(packet(0, &payload))
}

fn fixed(capabilities: u64) -> Vec<u8> {
    let bytes = capabilities.to_le_bytes();
    [&bytes[..4], &[0, 0, 0, 1, 45], &[0; 19], &bytes[4..8]].concat()
}

fn hello(capabilities: u64) -> Vec<u8> {
    let mut payload = fixed(capabilities);
    payload.extend(b"ann\0\x04\xde\xad\xbe\xefshop\0caching_sha2_password\0");
    payload.extend(b"\x20\x0c_client_name\x03lib\x0cprogram_name\x01x");
    payload
}

/// A session logged in with these capabilities, and then `ops`.
fn session(capabilities: u64, ops: &[Op]) -> Vec<Op> {
    let capabilities = capabilities | capability::CONNECT_WITH_DB | capability::AUTH_LENENC;
    let mut all = std::vec![
        greeting(capabilities),
        Op::Client(packet(1, &hello(capabilities))),
        Op::Server(packet(2, b"\x01\x03")),
        Op::Server(packet(3, OK)),
    ];
    all.extend_from_slice(ops);
    all
}

const LOGIN: &str = "LoggedIn ann@shop x  #7";
const PLAIN: u64 = MYSQL_CAPABILITIES & !capability::DEPRECATE_EOF & !capability::QUERY_ATTRIBUTES;

/// Checks what comes after the login.
#[track_caller]
fn tells(capabilities: u64, ops: &[Op], expected: &[&str]) {
    let told = story(&session(capabilities, ops));
    assert_eq!(told.first().map(String::as_str), Some(LOGIN));
    assert_eq!(&told[1..], expected);
}

#[test]
fn query_attributes_stand_before_the_text_and_are_not_part_of_it() {
    let attributes = b"\x03\x01\x01\x00\x01\xfd\x00\x05trace\x03abcselect 1";
    let result = server(&[b"\x01", COLUMN, b"\x011", b"\xfe\x00\x00\x02\x00\x00\x00"]);
    tells(
        MYSQL_CAPABILITIES,
        &[
            client(b"\x03\x00\x01select 1"),
            result.clone(),
            Op::Read(4),
            client(attributes),
            result,
            Op::Read(4),
        ],
        &[
            "Query 'select 1' 8",
            "  1 results, 1 rows, 0 affected",
            "Query 'select 1' 8",
            "  1 results, 1 rows, 0 affected",
        ],
    );
    tells(MYSQL_CAPABILITIES, &[client(b"\x03\x01\x02select 1")], &["Query ?"]);
}

#[test]
fn metadata_that_the_client_knows_is_not_sent_again() {
    let cached = PLAIN & !capability::MYSQL | capability::CACHE_METADATA;
    tells(
        cached,
        &[client(b"\x03a"), server(&[b"\x02\x00", EOF, b"\x01x\x01y", EOF]), Op::Read(4)],
        &["Query 'a' 1", "  1 results, 1 rows, 0 affected"],
    );
    tells(
        cached,
        &[client(b"\x03a"), server(&[b"\x01\x01", COLUMN, EOF, b"\x01x", EOF]), Op::Read(4)],
        &["Query 'a' 1", "  1 results, 1 rows, 0 affected"],
    );
    let optional = PLAIN | capability::OPTIONAL_METADATA;
    tells(
        optional,
        &[
            client(b"\x03a"),
            server(&[b"\x00\x01", EOF, b"\x01x", b"\x01y", EOF]),
            Op::Read(4),
            client(b"\x03b"),
            server(&[b"\x00\x02\x00\x02\x00\x00\x00"]),
            Op::Read(4),
        ],
        &["Query 'a' 1", "  1 results, 2 rows, 0 affected", "Query 'b' 1", "  1 results, 0 rows, 2 affected"],
    );
}

#[test]
fn a_progress_report_is_no_response_and_no_error() {
    let ops = session(
        PLAIN,
        &[client(b"\x03alter"), server(&[b"\xff\xff\xff\x01\x01\x02\x00\x00\x00\x00"]), Op::Read(4)],
    );
    assert_eq!(story(&ops), [LOGIN, "Query 'alter' 5"]);
    let mut player = Player::new(usize::MAX);
    player.play(&ops);
    let mut ok: &[u8] = &packet(2, OK);
    assert_eq!(player.machine.step(Direction::ToClient, &mut ok), Step::Event(Event::FirstResponse));
    assert_eq!(player.machine.step(Direction::ToClient, &mut ok), Step::NeedMore);
    assert_eq!(player.machine.read_entered(4), Step::Event(Event::Finished));
    assert!(!player.machine.unit().outcome.failed);
}

#[test]
fn an_error_in_the_middle_of_rows_is_the_units_error() {
    tells(
        PLAIN,
        &[
            client(b"\x03a"),
            server(&[b"\x01", COLUMN, EOF, b"\x01x", b"\x01y", b"\xff\x25\x05#70100cut"]),
            Op::Read(4),
        ],
        &["Query 'a' 1", "  1 results, 2 rows, 0 affected, error 1317 70100"],
    );
}

#[test]
fn a_cursor_has_its_rows_in_the_fetches_with_and_without_deprecated_eof() {
    let execute = client(b"\x17\x01\0\0\0\x01\x01\0\0\0");
    tells(
        PLAIN,
        &[execute.clone(), server(&[b"\x01", COLUMN, b"\xfe\x00\x00\x42\x00"]), Op::Read(4)],
        &["Execute ?", "  1 results, 0 rows, 0 affected"],
    );
    tells(
        MYSQL_CAPABILITIES,
        &[
            execute,
            server(&[b"\x01", COLUMN, b"\xfe\x00\x00\x42\x00\x00\x00"]),
            Op::Read(4),
            client(b"\x1c\x01\0\0\0\x05\0\0\0"),
            server(&[b"\x00\x00\x01", b"\x00\x00\x02", b"\xfe\x00\x00\x82\x00\x00\x00"]),
            Op::Read(4),
        ],
        &["Execute ?", "  1 results, 0 rows, 0 affected", "Fetch ?", "  1 results, 2 rows, 0 affected"],
    );
}

#[test]
fn session_tracking_tells_the_database_where_the_text_does_not() {
    tells(
        PLAIN,
        &[
            client(b"\x03call x()"),
            server(&[b"\x00\x00\x00\x02\x40\x00\x00\x00\x04\x01\x02\x01t"]),
            Op::Read(4),
            client(b"\x03use nowhere"),
            server(&[b"\xff\x19\x04#42000no"]),
            Op::Read(4),
            client(b"\x03select 1"),
            server(&[OK]),
        ],
        &[
            "Query 'call x()' 8",
            "IdentityChanged ann@t x  #7",
            "  1 results, 0 rows, 0 affected",
            "Query 'use nowhere' 11",
            "  1 results, 0 rows, 0 affected, error 1049 42000",
            "Query 'select 1' 8",
        ],
    );
}

#[test]
fn use_counts_while_nobody_captures_and_texts_begun_then_are_unknown() {
    let mut late = Player::new(usize::MAX);
    let command = packet(0, b"\x03select 1");
    late.play(&session(
        PLAIN,
        &[
            Op::Capture(false),
            client(b"\x03/* x */ USE `a``b`; select 1"),
            server(&[OK]),
            Op::Read(4),
            Op::Client(command[..7].to_vec()),
            Op::Capture(true),
            Op::Client(command[7..].to_vec()),
        ],
    ));
    let expected =
        [LOGIN, "Query ?", "IdentityChanged ann@a`b x  #7", "  1 results, 0 rows, 0 affected", "Query ?"];
    assert_eq!(late.story, expected);
}

#[test]
fn after_the_tls_request_the_plain_text_goes_on() {
    let capabilities = PLAIN | capability::SSL;
    let ops = [
        greeting(capabilities),
        Op::Client(packet(1, &fixed(capabilities))),
        Op::Client(packet(2, &hello(capabilities))),
        Op::Server(packet(3, OK)),
    ];
    assert_eq!(story(&ops), ["TlsStarts", LOGIN]);
}

#[test]
fn who_is_turned_away_is_no_session() {
    let busy = Op::Server(packet(0, b"\xff\x10\x04Too many connections"));
    assert_eq!(story(&[busy, Op::Client(b"junk".to_vec())]), ["NotASession"]);
    let ops = [
        greeting(PLAIN),
        Op::Client(packet(1, &hello(PLAIN))),
        Op::Server(packet(2, b"\xff\x15\x04#28000no")),
    ];
    assert_eq!(story(&ops), ["NotASession"]);
}

#[test]
fn streams_and_good_byes_end_the_reading() {
    for (command, event) in
        [(0x12, "Streaming"), (0x13, "Streaming"), (0x1e, "Streaming"), (0x20, "Streaming")]
    {
        tells(
            PLAIN,
            &[client(&[command, 1, 2, 3]), Op::Server(b"any bytes".to_vec()), Op::Read(4)],
            &[event],
        );
    }
    tells(PLAIN, &[client(b"\x01"), Op::Client(b"junk".to_vec()), Op::Parked(true)], &["Quit"]);
}

const PREPARED: &[u8] = b"\x00\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";

#[test]
fn prepared_texts_are_known_by_id_until_the_connection_is_reset() {
    let run = client(b"\x17\x07\0\0\0\x00\x01\0\0\0");
    let last = client(b"\xfa\xff\xff\xff\xff\x80\0");
    let mut ops = std::vec![client(b"\x16do 1"), server(&[PREPARED])];
    for command in [run.clone(), last.clone(), client(b"\x1f"), run, last] {
        ops.extend([Op::Read(4), command, server(&[OK])]);
    }
    let told = story(&session(PLAIN, &ops));
    let texts: Vec<&str> = told.iter().skip(1).map(String::as_str).filter(|l| !l.starts_with(' ')).collect();
    let expected = [
        "Text 'do 1'",
        "Prepare 'do 1' 4",
        "Execute stored 4",
        "Execute stored 4",
        "Utility -",
        "Execute ?",
        "Execute ?",
    ];
    assert_eq!(texts, expected);
}

#[test]
fn commands_without_a_response_are_no_units() {
    let mut bytes = packet(0, b"\x19\x01\0\0\0");
    bytes.extend(packet(0, b"\x18\x01\0\0\0\0\0data"));
    bytes.extend(packet(0, b"\x0e"));
    tells(
        PLAIN,
        &[Op::Client(bytes), server(&[OK]), Op::Parked(false)],
        &["Utility -", "  0 results, 0 rows, 0 affected"],
    );
}

#[test]
fn the_next_command_ends_a_unit_whose_end_nobody_announced() {
    tells(
        PLAIN,
        &[client(b"\x03a"), server(&[OK]), client(b"\x03b"), server(&[OK]), Op::Read(16384)],
        &["Query 'a' 1", "  1 results, 0 rows, 0 affected", "Query 'b' 1", "  1 results, 0 rows, 0 affected"],
    );
}

#[test]
fn a_connection_that_closes_takes_its_unanswered_unit_with_it() {
    tells(PLAIN, &[client(b"\x03a"), Op::Read(4), Op::Parked(false)], &["Query 'a' 1"]);
    tells(
        PLAIN,
        &[client(b"\x03a"), Op::Parked(true)],
        &["Query 'a' 1", "  1 results, 0 rows, 0 affected, unknown"],
    );
}

#[test]
fn reads_of_a_local_file_do_not_end_the_load() {
    tells(
        PLAIN,
        &[
            client(b"\x03load"),
            server(&[b"\xfbfile"]),
            Op::Read(4),
            Op::Client(packet(2, b"1\n")),
            Op::Read(4),
            Op::Client(packet(0, b"2\n")),
            Op::Read(4),
            Op::Client(packet(1, b"")),
            Op::Server(packet(2, b"\x00\x02\x00\x02\x00\x00\x00")),
            Op::Read(4),
        ],
        &["Query 'load' 4", "  1 results, 0 rows, 2 affected"],
    );
}

#[test]
fn a_server_that_says_why_it_closes_disturbs_nothing() {
    let killed = Op::Server(packet(0, b"\xff\xbf\x0f#HY000inactive"));
    tells(PLAIN, &[killed, client(b"\x0e"), server(&[OK])], &["Utility -"]);
}

#[test]
fn a_text_and_a_row_of_more_than_one_packet_are_one() {
    let full = 0xff_ffff;
    let mut command = std::vec![b' '; full + 3];
    command[0] = 3;
    let mut query = packet(0, &command[..full]);
    query.extend(packet(1, &command[full..]));
    let mut rows = [packet(1, b"\x01"), packet(2, COLUMN), packet(3, EOF), packet(4, b"\x01x")].concat();
    let mut row = std::vec![b'x'; full];
    row[..9].copy_from_slice(b"\xfe\xff\xff\xff\0\0\0\0\0");
    rows.extend(packet(5, &row));
    rows.extend(packet(6, b"\xfe\xffx"));
    rows.extend([packet(7, b"\x01y"), packet(8, EOF)].concat());
    for piece in [usize::MAX, 16384, 7] {
        let mut player = Player::new(piece);
        player.play(&session(PLAIN, &[Op::Client(query.clone()), Op::Server(rows.clone()), Op::Read(4)]));
        assert!(player.story[1].ends_with(" 16777217"), "{:?}", player.story);
        assert_eq!(player.story[2], "  1 results, 3 rows, 0 affected");
    }
}

#[test]
fn what_the_protocol_does_not_allow_is_lost_and_stays_so() {
    let cases: [(&str, Vec<Op>); 9] = [
        ("Malformed", std::vec![Op::Client(b"GET / HTTP/1.1".to_vec())]),
        ("Malformed", std::vec![Op::Server(b"SSH-2.0-OpenSSH".to_vec())]),
        ("Malformed", session(PLAIN, &[Op::Client(packet(1, b"\x03a"))])),
        ("Malformed", session(PLAIN, &[server(&[OK])])),
        ("Malformed", session(PLAIN, &[client(b"\x03a"), server(&[OK, OK])])),
        ("Malformed", session(PLAIN, &[client(b"\x03a"), server(&[b""])])),
        (
            "Malformed",
            session(PLAIN, &[client(b"\x03a"), server(&[b"\x01", COLUMN]), Op::Server(packet(9, EOF))]),
        ),
        ("Missed", session(PLAIN, &[client(b"\x03a"), client(b"\x03b")])),
        ("Malformed", session(PLAIN, &[client(b"\x03a"), server(&[b"\x02 and much more"])])),
    ];
    for (reason, mut ops) in cases {
        ops.push(Op::Read(4));
        let told = story(&ops);
        assert_eq!(told.last().unwrap(), &format!("lost {reason}"), "{ops:?}");
    }
}

const COMPRESSED: u64 = PLAIN | capability::COMPRESS;

#[test]
fn a_packed_command_is_handed_on_and_its_parts_belong_together() {
    let ok = Op::Server(envelope(2, 0, &packet(1, OK)));
    tells(
        COMPRESSED,
        &[
            Op::Client(envelope(0, 90, b"x\x9cfirst")),
            Op::Read(7),
            Op::Client(envelope(1, 90, b"x\x9csecond")),
            ok.clone(),
            Op::Read(7),
            Op::Client(envelope(0, 90, b"\x28\xb5\x2f\xfdall")),
            Op::Server(envelope(1, 200, b"x\x9cresult")),
            Op::Server(envelope(2, 0, b"stored rest, not understood")),
            Op::Read(7),
            Op::Client(envelope(0, 0, &packet(0, b"\x0e"))),
            ok,
            Op::Read(7),
        ],
        &[
            "Query packed 7 zlib",
            "  1 results, 0 rows, 0 affected",
            "Query packed 7 zstd",
            "  1 results, 0 rows, 0 affected, unknown",
            "Utility -",
            "  0 results, 0 rows, 0 affected",
        ],
    );
}

#[test]
fn what_may_be_the_answer_to_a_packed_prepare_is_not_taken_for_an_ok() {
    let prepare = |text: &[u8]| Op::Client(envelope(0, 0, &packet(0, text)));
    tells(
        COMPRESSED,
        &[
            prepare(b"\x16do 1"),
            Op::Server(envelope(1, 0, &packet(1, PREPARED))),
            Op::Client(envelope(0, 90, b"x\x9cprepare")),
            Op::Server(envelope(1, 0, &packet(1, PREPARED))),
            Op::Read(7),
            prepare(b"\x17\x07\0\0\0\x00\x01\0\0\0"),
        ],
        &[
            "Text 'do 1'",
            "Prepare 'do 1' 4",
            "  1 results, 0 rows, 0 affected",
            "Query packed 9 zlib",
            "  1 results, 0 rows, 0 affected, unknown",
            "Execute ?",
        ],
    );
}

#[test]
fn a_command_half_stored_and_half_packed_ends_where_its_length_says() {
    let command = packet(0, &[b"\x03select ".as_slice(), &[b'x'; 92]].concat());
    tells(
        COMPRESSED,
        &[
            Op::Client(envelope(0, 0, &command[..24])),
            Op::Client(envelope(1, 60, b"x\x9cmore")),
            Op::Client(envelope(2, 0, &command[84..])),
            Op::Server(envelope(3, 0, &packet(1, OK))),
            Op::Read(7),
        ],
        &["Query ?", "  1 results, 0 rows, 0 affected"],
    );
}

#[test]
fn a_packed_change_user_is_known_by_its_switch_and_the_user_is_not() {
    let switch = Op::Server(envelope(1, 0, &packet(1, b"\xfemysql_native_password\0scramble")));
    tells(
        COMPRESSED,
        &[
            Op::Client(envelope(0, 90, b"x\x9cuser")),
            switch,
            Op::Read(7),
            Op::Client(envelope(2, 0, &packet(2, b"answer"))),
            Op::Server(envelope(3, 0, &packet(3, OK))),
            Op::Read(7),
        ],
        &["Query packed 6 zlib", "IdentityChanged @   #7", "  0 results, 0 rows, 0 affected"],
    );
}

#[test]
fn the_length_of_the_header_read_settles_whether_the_session_is_compressed() {
    tells(COMPRESSED, &[Op::Read(4), client(b"\x0e"), server(&[OK])], &["Utility -"]);
}

#[test]
fn a_used_machine_is_as_new_after_a_reset() {
    let ops = session(
        PLAIN,
        &[client(b"\x16do 1"), server(&[PREPARED]), Op::Read(4), client(b"\x17\x07\0\0\0\x00\x01\0\0\0")],
    );
    let mut player = Player::new(usize::MAX);
    player.play(&ops);
    let first = core::mem::take(&mut player.story);
    player.machine.reset();
    assert_eq!(player.machine.unit().text, UnitText::None);
    assert!(player.machine.identity().user.is_empty());
    player.machine.set_capturing(true);
    player.play(&session(PLAIN, &[client(b"\x17\x07\0\0\0\x00\x01\0\0\0")]));
    assert_eq!(player.story, [LOGIN, "Execute ?"]);
    player.machine.reset();
    player.machine.set_capturing(true);
    player.story.clear();
    player.play(&ops);
    assert_eq!(player.story, first);
}

#[test]
fn nothing_of_the_authentication_stays_in_memory() {
    let mut player = Player::new(3);
    player.play(&session(PLAIN, &[]));
    let machine = &player.machine;
    assert!(machine.text.is_empty() && machine.identity.user.as_slice() == b"ann");
    for kept in [machine.proposal.user.as_slice(), machine.proposal.application.as_slice()] {
        assert!(!kept.windows(4).any(|w| w == b"\xde\xad\xbe\xef"));
    }
}
