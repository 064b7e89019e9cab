//! The order of the code that every query runs, and where its cache lines begin.
//!
//! A server between two queries has none of this code in its near caches, so what a hook costs is above all how many cache
//! lines of code it touches: functions that run one after the other lie one behind the other, each of the large ones at the
//! beginning of a line, and what only other programs call lies elsewhere.
//!
//! A function goes into a section by `#[link_section]`. The sections are declared here, before any function: an assembler
//! keeps them in the order in which it first hears of them, and with the largest alignment that it hears of; linkers put those
//! named `.text.hot.*` together in the order in which they come.
//!
//! # Safety
//!
//! `unsafe` is used to declare sections, in which there is nothing yet.
#![allow(unsafe_code)]

macro_rules! sections {
    ($($name:literal at $align:literal),* $(,)?) => {
        core::arch::global_asm!($(
            concat!(".pushsection ", $name, ",\"ax\",%progbits"),
            concat!(".balign ", $align),
            ".popsection",
        )*);
    };
}

sections! {
    // Also while capture is off.
    ".text.hot.perquery.off" at 4096,
    // A command of a MySQL session is read, …
    ".text.hot.perquery.body" at 64,
    // … its answer is sent …
    ".text.hot.perquery.send" at 64,
    ".text.hot.perquery.answer" at 64,
    ".text.hot.perquery.framing" at 64,
    // … and the server comes back to read.
    ".text.hot.perquery.recv" at 64,
    ".text.hot.perquery.finish" at 64,
    // A session shows another statement than the last.
    ".text.hot.perquery.show" at 64,
    // The same as above of a PostgreSQL session.
    ".text.hot.perquery.request" at 64,
    ".text.hot.perquery.last_answer" at 64,
    // Where a command is looked at, and its counters read: at its start, …
    ".text.hot.perquery.begin" at 64,
    // … and at its end.
    ".text.hot.perquery.end" at 64,
    // What else happens to some.
    ".text.hot.perquery.measured" at 64,
    // What other programs call, and what comes of waiting calls and of longer answers.
    ".text.hot.perquery.others" at 64,
}
