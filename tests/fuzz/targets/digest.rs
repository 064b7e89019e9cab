//! A statement in any dialect, as text that need not be one.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| perquery_cli::digest::fuzz_digest(data));
