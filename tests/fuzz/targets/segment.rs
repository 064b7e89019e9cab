//! A segment as a hostile server may have written it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| perquery_agent::segment::fuzz_segment(data));
