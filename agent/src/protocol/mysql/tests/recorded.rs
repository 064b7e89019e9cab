//! Conversations recorded between MariaDB 10.11 and its clients.

use super::*;

/// The operations of a recording: one line for each chunk, `C` or `S` and hexadecimal bytes; `X` is the end.
///
/// The server enters a read before whatever the client says after it.
pub(super) fn operations(recording: &str, header: usize) -> Vec<Op> {
    let mut ops = Vec::new();
    for line in recording.lines() {
        match line.split_once(' ') {
            Some((who, hex)) => {
                let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
                let bytes = (0..hex.len()).step_by(2).map(byte).collect();
                if who == "C" {
                    ops.push(Op::Read(header));
                    ops.push(Op::Client(bytes));
                } else {
                    ops.push(Op::Server(bytes));
                }
            }
            None => ops.push(Op::Parked(true)),
        }
    }
    ops
}

macro_rules! recording {
    ($test:ident, $file:literal, $header:literal) => {
        #[test]
        fn $test() {
            let ops = operations(include_str!(concat!("recordings/", $file, ".txt")), $header);
            let expected: Vec<&str> = include_str!(concat!("recordings/", $file, ".story")).lines().collect();
            assert_eq!(story(&ops), expected);
        }
    };
}

recording!(a_driver_queries_fails_loads_a_file_and_changes_its_database, "plain", 4);
recording!(several_statements_and_calls_give_several_results, "multi", 4);
recording!(prepared_statements_live_and_die_and_users_change, "prepared", 4);
recording!(a_wrong_password_is_no_session, "failed", 4);
recording!(the_command_line_client_says_use_as_a_command, "cli", 4);
recording!(a_compressed_session_has_its_boundaries_and_says_what_it_hides, "compressed", 7);
recording!(a_benchmark_executes_what_it_prepared, "sysbench", 4);
recording!(a_proxy_names_the_client_behind_it, "proxied", 4);

/// A result need not be read to its end to be a result; a mutated conversation need not make sense, only the same
/// nonsense however it is cut.
#[test]
fn recordings_cut_short_or_damaged_tell_one_story() {
    let mut random = super::random::Random(0x5eed);
    for recording in [
        include_str!("recordings/plain.txt"),
        include_str!("recordings/multi.txt"),
        include_str!("recordings/prepared.txt"),
        include_str!("recordings/compressed.txt"),
        include_str!("recordings/cli.txt"),
    ] {
        for _ in 0..300 {
            let header = if recording.contains("C ca2bf") { 7 } else { 4 };
            let mut ops = operations(recording, header);
            ops.truncate(1 + random.below(ops.len()));
            for _ in 0..random.below(4) {
                let at = random.below(ops.len());
                if let Op::Client(bytes) | Op::Server(bytes) = &mut ops[at] {
                    let byte = random.below(bytes.len());
                    bytes[byte] = random.next() as u8;
                }
            }
            story(&ops);
        }
    }
}
