//! Bytes of a PostgreSQL session, in pieces and directions that the input chooses.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| perquery_agent::protocol::postgres::fuzz_postgres(data));
