//! Statements and the text they are known by.

use super::*;
use perquery_agent::protocol::Command;
use perquery_agent::segment::record::Execution;

const MY: Dialect = Dialect::MariaDb;
const PG: Dialect = Dialect::Postgres;
const LITE: Dialect = Dialect::Sqlite;

fn of(dialect: Dialect, text: &str) -> String {
    normalized(dialect, text.as_bytes(), text.len())
}

#[track_caller]
fn all(expected: &str, texts: &[(Dialect, &str)]) {
    for (dialect, text) in texts {
        assert_eq!(of(*dialect, text), expected, "{dialect:?}: {text}");
    }
}

#[test]
fn the_same_statement_has_one_text_through_every_protocol() {
    all(
        "SELECT c FROM sbtest1 WHERE id = ?",
        &[
            (MY, "SELECT c FROM sbtest1 WHERE id=?"),
            (MY, "select c from sbtest1 where id = 42;"),
            (MY, "SELECT c\n\tFROM sbtest1 -- why\n WHERE id=-42 # really\n"),
            (MY, "SELECT /* hint */ c FROM sbtest1 WHERE id='42'"),
            (MY, "SELECT c FROM sbtest1 WHERE id=\"4\\\"2\""),
            (MY, "SELECT c FROM sbtest1 WHERE id=0x2A"),
            (MY, "SELECT c FROM sbtest1 WHERE id=0b101"),
            (MY, "SELECT c FROM sbtest1 WHERE id=_utf8mb4'a' 'b'"),
            (MY, "SELECT c FROM sbtest1 WHERE id=NULL"),
            (PG, "SELECT c FROM sbtest1 WHERE id=$1"),
            (PG, "SELECT c FROM sbtest1 WHERE id=-1"),
            (PG, "SELECT c FROM sbtest1 WHERE id=E'it\\'s'"),
            (PG, "SELECT c FROM sbtest1 WHERE id=$tag$ don't $tag$"),
            (PG, "SELECT c FROM sbtest1 WHERE id=$$ a 'b' $$"),
            (PG, "SELECT c FROM sbtest1 WHERE id=U&'\\0441'"),
            (PG, "SELECT c FROM sbtest1 WHERE id=1_000.5e-3;;"),
            (PG, "/* a /* nested */ comment */ SELECT c FROM sbtest1 WHERE id=true"),
            (LITE, "SELECT c FROM sbtest1 WHERE id=?1"),
            (LITE, "SELECT c FROM sbtest1 WHERE id=:id"),
            (LITE, "SELECT c FROM sbtest1 WHERE id=@id"),
            (LITE, "SELECT c FROM sbtest1 WHERE id=$id"),
            (LITE, "SELECT c FROM sbtest1 WHERE id=x'00ff'"),
        ],
    );
}

#[test]
fn lists_of_values_collapse_whatever_their_length() {
    all(
        "SELECT a FROM t WHERE b IN (?, ...)",
        &[
            (MY, "SELECT a FROM t WHERE b IN (1)"),
            (MY, "select a from t where b in(?,?, ?)"),
            (PG, "SELECT a FROM t WHERE b IN ($1, $2, -3, NULL)"),
        ],
    );
    all(
        "INSERT INTO t (a, b) VALUES (?, ...)",
        &[
            (MY, "INSERT INTO t (a, b) VALUES (1, 'x')"),
            (MY, "insert into t(a,b) values(1,'x'),(2,'y'),(3,DEFAULT)"),
            (PG, "INSERT INTO t (a, b) VALUES ($1, $2), ($3, $4);"),
        ],
    );
    all(
        "SELECT 1 FROM t WHERE (a, b) IN ((?, ...), ...)".replace("SELECT 1", "SELECT ?").as_str(),
        &[
            (MY, "SELECT 1 FROM t WHERE (a, b) IN ((1, 2))"),
            (PG, "SELECT 1 FROM t WHERE (a, b) IN ((1, 2), (3, 4))"),
        ],
    );
    all("SELECT ? = ANY (ARRAY[?, ...]::int[])", &[(PG, "select 3 = any (array[1,2,3]::int[])")]);
    all(
        "INSERT INTO t VALUES (?, now2(), ?)",
        &[(MY, "INSERT INTO t VALUES (1, now2(), 2), (3, now2(), 4)")],
    );
    all(
        "SELECT a FROM t WHERE b IN (SELECT c FROM u WHERE d = ?)",
        &[(MY, "SELECT a FROM t WHERE b IN (SELECT c FROM u WHERE d = 5)")],
    );
    all(
        "INSERT INTO t (a) VALUES (?, ...) ON DUPLICATE KEY UPDATE a = VALUES (a)"
            .replace("KEY", "key")
            .as_str(),
        &[(MY, "INSERT INTO t (a) VALUES (1), (2) ON DUPLICATE key UPDATE a=values(a)")],
    );
}

#[test]
fn a_bulk_insert_that_was_cut_is_the_statement_that_was_not() {
    let row = "(1,'some text',NULL),";
    let whole = format!("INSERT INTO t (a, b, c) VALUES {}", row.repeat(1000));
    let expected = of(MY, "INSERT INTO t (a, b, c) VALUES (1, 'some text', NULL)");
    for end in 31..250 {
        let cut = whole.as_bytes().get(..end).unwrap();
        assert_eq!(normalized(MY, cut, whole.len()), expected, "{}", String::from_utf8_lossy(cut));
    }
    assert_eq!(of(MY, whole.trim_end_matches(',')), expected);
    let list = format!("SELECT a FROM t WHERE b IN ({}1)", "12345, ".repeat(10_000));
    assert_eq!(of(PG, &list), "SELECT a FROM t WHERE b IN (?, ...)");
    let script = "UPDATE t SET a = 1 WHERE b = 'x'; ".repeat(1000);
    assert_eq!(of(MY, &script), "UPDATE t SET a = ? WHERE b = ?");
}

#[test]
fn any_other_cut_text_says_so_and_loses_its_half_token() {
    let text = b"SELECT a, b FROM t WHERE secret_name = 'abc";
    assert_eq!(normalized(MY, text, 5000), "SELECT a, b FROM t WHERE secret_name = ...");
    assert_eq!(normalized(MY, b"SELECT a, b FR", 5000), "SELECT a, b ...");
    assert_eq!(normalized(MY, "SELECT 'é".as_bytes().split_last().unwrap().1, 5000), "SELECT ...");
}

#[test]
fn null_stays_where_it_is_grammar() {
    all(
        "SELECT a FROM t WHERE b IS NULL AND c IS NOT NULL AND d = ? AND e IS TRUE",
        &[(PG, "select a from t where b is null and c is not null and d = null and e is true")],
    );
    all("CREATE TABLE t (a int NOT NULL DEFAULT ?)", &[(MY, "create table t (a int not null default 0)")]);
}

#[test]
fn signs_belong_to_literals_and_operators_to_expressions() {
    all(
        "SELECT a - ?, a + ?, ?, f(?) - ? FROM t WHERE a > ?",
        &[
            (MY, "SELECT a -1, a+ 1, - -3, f(-1) -1 FROM t WHERE a >-5"),
            (PG, "SELECT a -1, a+ 1, +3, f(-1)-1 FROM t WHERE a>-5"),
        ],
    );
    all("SELECT a <= ? OR b @> ?", &[(PG, "SELECT a<=-1 OR b @> '{}'")]);
    all(
        "SELECT a.b, COUNT(*), `select` FROM d.t AS x",
        &[(MY, "select a.b, count( * ), `select` from d . t as x")],
    );
    all("SELECT ?::int, a[?:?]", &[(PG, "SELECT '5' :: int, a[1:2]")]);
}

#[test]
fn scripts_fold_equal_neighbours_and_keep_the_others() {
    all("SELECT ?; SELECT a", &[(MY, "SELECT 1; SELECT 2; SELECT a")]);
    all("SET @@a = ?", &[(MY, "/*!40101 SET @@a = 5 */;")]);
    all(EMPTY, &[(MY, ""), (PG, " ; -- nothing"), (LITE, "/* x */")]);
}

#[test]
fn quotes_that_do_not_match_leak_nothing() {
    // NO_BACKSLASH_ESCAPES: the backslash ends the first string, so the ordinary reading shows the second one.
    assert_eq!(
        of(MY, r"SELECT a FROM t WHERE p = 'C:\' AND q = 'hush'"),
        "SELECT a FROM t WHERE p = ? AND q = ?"
    );
    for dialect in [Dialect::Unknown, MY, PG, LITE] {
        let text = of(dialect, "SELECT a FROM t WHERE b = 'hush");
        assert_eq!(text, "SELECT a FROM t WHERE b = ?", "{dialect:?}");
    }
    assert!(!of(Dialect::Unknown, "SELECT \"hush\"").contains("hush"));
}

#[test]
fn no_statement_about_passwords_keeps_a_literal() {
    let cases: &[(Dialect, &str)] = &[
        (MY, "CREATE USER 'a'@'%' IDENTIFIED BY 'hush'"),
        (MY, "CREATE USER a IDENTIFIED BY \"hush\""),
        (MY, "ALTER USER a IDENTIFIED WITH mysql_native_password AS '*hush'"),
        (MY, "SET PASSWORD FOR 'a'@'%' = PASSWORD('hush')"),
        (MY, "set password = hush"),
        (MY, "CHANGE MASTER TO MASTER_USER='a', MASTER_PASSWORD='hush'"),
        (MY, "GRANT ALL ON *.* TO a IDENTIFIED BY 'hush' WITH GRANT OPTION"),
        (PG, "CREATE ROLE a LOGIN PASSWORD 'hush'"),
        (PG, "ALTER USER a WITH ENCRYPTED PASSWORD \"hush\""),
        (PG, "ALTER ROLE a PASSWORD hush"),
        (PG, "CREATE SUBSCRIPTION s CONNECTION 'password=hush' PUBLICATION p"),
        (LITE, "PRAGMA key = \"hush\""),
        (Dialect::Unknown, "SET PASSWORD = \"hush\""),
    ];
    for (dialect, text) in cases {
        let normalized = of(*dialect, text);
        assert!(!normalized.contains("hush"), "{normalized}");
        let shown = safe_text(*dialect, text.as_bytes(), text.len());
        assert!(!shown.contains("hush"), "{shown}");
        for end in 0..text.len() {
            let cut = normalized_cut(*dialect, text, end);
            assert!(!cut.contains("hus"), "{cut}");
        }
    }
    assert_eq!(of(MY, "SET PASSWORD FOR 'a'@'%' = PASSWORD('hush')"), "SET PASSWORD FOR ?@? = PASSWORD(?)");
}

fn normalized_cut(dialect: Dialect, text: &str, end: usize) -> String {
    normalized(dialect, text.as_bytes().get(..end).unwrap(), text.len())
}

#[test]
fn a_column_named_password_does_not_make_a_select_unreadable() {
    let text = r#"SELECT "id" FROM "password_resets" WHERE "token" = $1"#;
    assert_eq!(of(PG, text), r#"SELECT "id" FROM "password_resets" WHERE "token" = ?"#);
}

#[test]
fn a_query_in_flight_is_shown_as_sent_without_control_characters() {
    let text = b"SELECT\x1b[31m 'x'\nFROM t";
    assert_eq!(safe_text(MY, text, text.len()), "SELECT [31m 'x' FROM t");
    assert_eq!(safe_text(MY, b"SELECT 1", 10), "SELECT 1 ...");
}

#[test]
fn a_known_text_is_not_read_again_and_ten_thousand_others_do_not_matter() {
    let mut digester = Digester::new();
    let first = digester.digest(MY, b"SELECT 1", 8);
    for n in 0..10_000 {
        let text = format!("SELECT a FROM t WHERE id = {n}");
        digester.digest(MY, text.as_bytes(), text.len());
    }
    let before = digester.normalized_texts();
    assert!(Arc::ptr_eq(&first, &digester.digest(MY, b"SELECT 1", 8)));
    assert_eq!(digester.normalized_texts(), before);
}

#[test]
fn batches_prepares_and_units_without_text_have_digests_of_their_own() {
    let mut digester = Digester::new();
    let text = |hash: u64| match hash {
        1 => Some(&b"SELECT 1"[..]),
        2 => Some(&b"SELECT 2"[..]),
        3 => Some(&b"COMMIT"[..]),
        _ => None,
    };
    let mut e = Execution {
        dialect: PG,
        command: Command::Batch,
        members: vec![(1, 8, 2), (2, 8, 1), (3, 6, 1), (9, 4, 1)],
        ..Execution::default()
    };
    let batch = digester.of_execution(&e, None, text).digest;
    assert_eq!(batch.text, "<batch> SELECT ?; COMMIT; <unknown text>");
    assert_eq!(
        batch.members.iter().map(|m| m.text.as_str()).collect::<Vec<_>>(),
        ["SELECT ?", "COMMIT", "<unknown text>"]
    );
    e.members.clear();
    e.text_len = 8;
    e.command = Command::Prepare;
    assert_eq!(digester.of_execution(&e, Some(b"SELECT 1"), text).digest.text, "<prepare> SELECT ?");
    e.command = Command::Query;
    assert_eq!(digester.of_execution(&e, Some(b"SELECT 1"), text).digest.text, "SELECT ?");
    assert_eq!(digester.of_execution(&e, None, text).digest.text, "<unknown text>");
    e.command = Command::Utility;
    assert_eq!(digester.of_execution(&e, None, text).digest.text, "<ping or other command>");
}

#[test]
fn a_long_batch_names_its_first_statements_and_differs_by_all_of_them() {
    let mut digester = Digester::new();
    let member = |n: usize| Arc::new(Digest::of(format!("SELECT {}{n}", "c".repeat(1000))));
    let members: Vec<_> = (0..64).map(member).collect();
    let mut other = members.clone();
    other[63] = member(99);
    let (one, two) = (digester.batch(&members), digester.batch(&other));
    assert!(one.text.len() < 6000 && one.id != two.id, "{}", one.text.len());
    assert_eq!(one.members.len(), 64);
}

#[test]
fn broken_statements_of_every_dialect_are_read_without_a_panic() {
    let seeds = [
        "INSERT INTO t (a) VALUES (1, 'x', \"y\", `z`, E'\\n', U&'\\00e9', $$q$$, $1, :n, @p, ?3), (((2",
        "/*! 40101 SET */ # x\nSELECT a[1:2]::int, @>-5, x'0f', b'01', N'x' /* /* */ -- y",
        "CREATE USER a IDENTIFIED BY 'x'; IN (1,(2,3),[4]) ARRAY[1,2 ... ._ @- $a$ q'{x}'",
    ];
    let mut state = 0x1234_5678_9abc_def0u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..20_000usize {
        let mut bytes = vec![(round % 5) as u8];
        bytes.extend_from_slice(seeds[round % seeds.len()].as_bytes());
        for _ in 0..random() % 6 {
            let at = 1 + random() as usize % (bytes.len() - 1);
            match random() % 3 {
                0 => bytes[at] = random() as u8,
                1 => bytes.truncate(at.max(2)),
                _ => bytes.insert(at, b"'\"`$\\/*-#@:[]{}().,;?_0xNE"[random() as usize % 25]),
            }
        }
        fuzz_digest(&bytes);
    }
    for c in ["(", "[", "/*!", "/*", "'", "VALUES(", "IN (", "- ", "$$", "ARRAY["] {
        for n in 0..5 {
            fuzz_digest([&[n], c.repeat(5000).as_bytes()].concat().as_slice());
        }
    }
}
