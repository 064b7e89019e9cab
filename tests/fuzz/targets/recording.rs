//! A recording as somebody else may have written it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| perquery_cli::recording::fuzz_recording(data));
