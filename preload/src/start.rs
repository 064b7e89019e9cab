//! The constructor: is this process our business? And the end of a process.
//!
//! # Safety
//!
//! `unsafe` is used for reading the environment before main, when nobody changes it, and to register the exit handler.
#![allow(unsafe_code)]

use crate::{ENGINE, hooks, thread, tools};
use core::ffi::CStr;
use perquery_agent::session::{Kind, Start, decide, switches};
use perquery_agent::sys::process;

/// Runs when the library is loaded. In a process that is not our business: one readlink(2) and a look at the
/// environment.
#[ctor::ctor(unsafe)]
fn start() {
    let mut path = [0u8; 512];
    let exe = process::read_link(c"/proc/self/exe", &mut path).unwrap_or(&[]);
    let decision = decide(exe, variable(c"PERQUERY_EXE"), variable(c"PERQUERY_SEGMENT"));
    tools::start(decision, variable);
    if decision != Start::Inert {
        hooks::find_originals();
        thread::make_exit_key();
        find_rseq();
        perquery_agent::ticks::start();
        // Asks in a throw-away child where a wrong answer could be a signal; see there.
        let _ = perquery_agent::counters::probe_seccomp();
    }
    ENGINE.process().start(decision, exe);
    if ENGINE.process().is_awake() && ENGINE.process().kind() == Kind::Postgres {
        perquery_agent::counters::DESCRIPTOR_BUDGET.set_single_threaded_backend(true);
        // SAFETY: the handler is a function of this library, which is never unloaded.
        unsafe { libc::atexit(process_ends) };
    }
}

/// Where glibc has each thread's restartable-sequences area; before 2.35 it has none.
fn find_rseq() {
    // SAFETY: dlsym with constant strings; the symbols are a ptrdiff_t and an unsigned (glibc's manual, "Restartable
    // Sequences").
    unsafe {
        let offset = libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_offset".as_ptr()).cast::<isize>();
        let size = libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_size".as_ptr()).cast::<u32>();
        if !offset.is_null() && !size.is_null() {
            switches::set_area(*offset, *size);
        }
    }
}

/// A variable of the environment. Copied into decisions at once: PostgreSQL overwrites the memory later.
fn variable(name: &CStr) -> Option<&'static [u8]> {
    // SAFETY: before main nothing else changes the environment; the name is NUL-terminated.
    let value = unsafe { libc::getenv(name.as_ptr()) };
    if value.is_null() {
        return None;
    }
    // SAFETY: getenv answers a NUL-terminated string.
    Some(unsafe { CStr::from_ptr(value) }.to_bytes())
}

/// A PostgreSQL process ends by exit(3): a parallel worker's cost goes to its leader.
extern "C" fn process_ends() {
    thread::with(|engine, thread| {
        if engine.serves_a_session() {
            return;
        }
        // ps_status.c writes the title over argv[0]; /proc shows that memory.
        let mut title = [0u8; 256];
        if let Ok(title) = process::read_file(c"/proc/self/cmdline", &mut title) {
            engine.worker_exits(thread, title);
        }
    });
}
