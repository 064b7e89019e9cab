//! Encryption requests, startup packets, authentication, identity.

use super::*;

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
const GSS_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];

#[test]
fn the_first_connections_of_all_kinds() {
    type Scenes = fn(&mut Story);
    let cases: &[(&str, Scenes, &[&str])] = &[
        (
            "plain",
            |s| {
                s.client(startup("user\0joe\0database\0shop\0application_name\0till\0"));
                s.server(welcome());
            },
            &["login joe@shop \"till\""],
        ),
        (
            "the database is the user's unless it is said",
            |s| {
                s.client(startup("options\0-c x=y\0user\0joe\0"));
                s.server(welcome());
            },
            &["login joe@joe \"\""],
        ),
        (
            "nothing counts behind the parameters' end",
            |s| {
                s.client(startup("user\0joe\0\0x\0database\0shop\0"));
                s.server(welcome());
            },
            &["login joe@joe \"\""],
        ),
        (
            "the server cleans the application's name",
            |s| {
                s.client(startup("user\0joe\0application_name\0t\u{e4}\0"));
                s.server([message('S', "application_name\0t??\0"), welcome()].concat());
            },
            &["login joe@joe \"t??\""],
        ),
        (
            "TLS",
            |s| {
                s.client(SSL_REQUEST);
                s.server("S");
            },
            &["TlsStarts"],
        ),
        (
            "no TLS here",
            |s| {
                s.client(GSS_REQUEST);
                s.server("N");
                s.client(SSL_REQUEST);
                s.server("N");
                s.client(startup("user\0joe\0"));
                s.server(welcome());
            },
            &["login joe@joe \"\""],
        ),
        (
            "a startup packet behind the request, both answers in one piece",
            |s| {
                s.client([&SSL_REQUEST[..], &startup("user\0joe\0")].concat());
                s.server([b"N".to_vec(), welcome()].concat());
            },
            &["login joe@joe \"\""],
        ),
        (
            "more than the request before TLS: the server hangs up",
            |s| {
                s.client([&SSL_REQUEST[..], &startup("user\0joe\0")].concat());
                s.server("S");
            },
            &["lost Malformed"],
        ),
        ("two requests at once", |s| s.client([SSL_REQUEST, GSS_REQUEST].concat()), &["lost Malformed"]),
        ("direct TLS", |s| s.client([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]), &["TlsStarts"]),
        ("something like TLS", |s| s.client([0x16, 4, 1, 2, 0]), &["lost Malformed"]),
        (
            "GSS encryption",
            |s| {
                s.client(GSS_REQUEST);
                s.server("G");
            },
            &["lost Opaque"],
        ),
        (
            "a server that can't even fork",
            |s| {
                s.client(SSL_REQUEST);
                s.server("Ecould not fork\n\0");
            },
            &["NotASession"],
        ),
        (
            "a nonsensical answer",
            |s| {
                s.client(SSL_REQUEST);
                s.server("X");
            },
            &["lost Malformed"],
        ),
        (
            "cancel request",
            |s| s.client([0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e, 0, 0, 1, 2, 9, 9, 9, 9]),
            &["NotASession"],
        ),
        (
            "cancel request of protocol 3.2, with a longer key",
            |s| s.client([&[0, 0, 0, 44, 0x04, 0xd2, 0x16, 0x2e, 0, 0, 1, 2][..], &[9; 32]].concat()),
            &["NotASession"],
        ),
        ("a browser", |s| s.client("GET / HTTP/1.1\r\n"), &["lost Malformed"]),
        ("too short a packet", |s| s.client([0, 0, 0, 7, 0, 3, 0]), &["lost Malformed"]),
        (
            "a version of the last century",
            |s| {
                s.client([0, 0, 0, 9, 0, 1, 0, 0, 0]);
                s.server(error("FATAL", "0A000"));
            },
            &["NotASession"],
        ),
        (
            "a newer version is negotiated down",
            |s| {
                let mut packet = startup("user\0joe\0_pq_.x\0y\0");
                packet[7] = 99;
                s.client(packet);
                s.server([message('v', [0, 0, 0, 2, 0, 0, 0, 0]), welcome()].concat());
            },
            &["login joe@joe \"\""],
        ),
        (
            "a wrong password",
            |s| {
                s.client(startup("user\0joe\0"));
                s.server(message('R', [0, 0, 0, 3]));
                s.client(message('p', "secret\0"));
                s.server(error("FATAL", "28P01"));
            },
            &["NotASession"],
        ),
        (
            "a notice before the login, and a password in the clear",
            |s| {
                s.client(startup("user\0joe\0"));
                s.server([message('N', "SNOTICE\0\0"), message('R', [0, 0, 0, 3])].concat());
                s.client(message('p', "secret\0"));
                s.server(welcome());
            },
            &["login joe@joe \"\""],
        ),
        (
            "rows before the login",
            |s| {
                s.client(startup("user\0joe\0"));
                s.server(row());
            },
            &["lost Malformed"],
        ),
        (
            "a physical walsender",
            |s| {
                s.client(startup("user\0joe\0replication\0tru\0"));
                s.server(welcome());
            },
            &["login joe@joe \"\"", "Streaming"],
        ),
        (
            "no walsender",
            |s| {
                s.client(startup("user\0joe\0replication\0off\0"));
                s.server(welcome());
            },
            &["login joe@joe \"\""],
        ),
    ];
    for (name, scenes, expected) in cases {
        assert_eq!(tell(false, scenes), *expected, "{name}");
    }
}

#[test]
fn after_tls_started_the_decrypted_bytes_are_a_new_beginning() {
    for first in [&SSL_REQUEST[..], &[0x16, 3, 1, 0, 200]] {
        let mut machine = Postgres::new();
        let mut input = first;
        let mut step = machine.step(Direction::FromClient, &mut input);
        if first == SSL_REQUEST {
            step = machine.step(Direction::ToClient, &mut &b"S"[..]);
        }
        assert_eq!(step, Step::Event(Event::TlsStarts));
        let packet = startup("user\0joe\0database\0shop\0");
        assert_eq!(machine.step(Direction::FromClient, &mut &packet[..]), Step::NeedMore);
        assert_eq!(machine.step(Direction::ToClient, &mut &welcome()[..]), Step::Event(Event::LoggedIn));
        assert_eq!(machine.identity().database.as_slice(), b"shop");
        assert_eq!(machine.identity().connection_id, 0x1234);
        // A ClientHello inside of TLS is none.
        let mut machine = Postgres::new();
        machine.step(Direction::FromClient, &mut &SSL_REQUEST[..]);
        machine.step(Direction::ToClient, &mut &b"S"[..]);
        let step = machine.step(Direction::FromClient, &mut &[0x16, 3, 1, 0, 200][..]);
        assert_eq!(step, Step::Lost(crate::protocol::LostReason::Malformed));
    }
}

#[test]
fn identity_follows_the_servers_parameters_and_ignores_what_is_no_change() {
    let lines = tell(true, |s| {
        s.server(message('S', "application_name\0a\0"));
        s.server(message('S', "application_name\0a\0"));
        s.server(message('S', "session_authorization\0clerk\0"));
        s.server(message('S', "is_superuser\0off\0"));
        s.server(message('S', format!("{}\0b\0", "application_name".repeat(40))));
    });
    assert_eq!(lines, ["identity u@d \"a\"", "identity clerk@d \"a\""]);
}

#[test]
fn values_longer_than_their_room_are_cut() {
    let user = "u".repeat(300);
    let lines = tell(false, |s| {
        s.client(startup(&format!("user\0{user}\0")));
        s.server(welcome());
    });
    assert_eq!(lines, [format!("login {}@{} \"\"", &user[..128], &user[..128])]);
}

#[test]
fn nothing_of_a_password_stays_in_the_machine() {
    let mut story = Story::new(0);
    story.client(startup("user\0joe\0"));
    story.server(message('R', [0, 0, 0, 3]));
    story.client(message('p', "mellon-mellon\0"));
    // A client that takes its password for a query, and a statement's name.
    story.client(query("mellon-mellon"));
    story.client(parse("s", "mellon-mellon"));
    story.client(bind("", "s"));
    let welcome = welcome();
    story.server(&welcome[..welcome.len() - ready().len()]);
    // Of the key that cancels the session's queries: nothing, either.
    assert_eq!(story.machine.answer.as_slice(), b"\0\0\x12\x34");
    story.server(ready());
    let machine = &story.machine;
    assert!(!story.lines.iter().any(|line| line.contains("mellon")), "{:?}", story.lines);
    for place in [super::super::texts::Place::First, super::super::texts::Place::Second] {
        assert!(machine.texts.buffer(place).is_empty());
    }
    assert_eq!(machine.announced_text().0, b"");
}
