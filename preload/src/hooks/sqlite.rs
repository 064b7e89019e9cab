//! libsqlite3: steps of statements.
//!
//! A program that links or loads the library calls these through its symbol table, and so does the library itself
//! (`sqlite3_exec` calls prepare and step). A step or prepare inside another one is the library's own reading of its
//! schema and passes. While capture is off none of this is followed: what a capture has to know of a statement it asks
//! the library at the statement's first step.
//!
//! # Safety
//!
//! `unsafe` is used to call the originals, and the library's own functions on a statement that the caller is about to
//! step, or has just stepped, itself.
#![allow(unsafe_code)]
#![allow(clippy::missing_safety_doc)] // each has the contract of the function of the same name

use super::tail::{Tail, gated};
use crate::ENGINE;
use crate::real::{Original, real};
use crate::thread::{steps, with, with_steps};
use core::ffi::{CStr, c_char, c_int, c_uint, c_void};
use perquery_agent::session::is_nested;
use perquery_agent::sqlite::{Before, Library, Stepping};

const LIBRARY: &CStr = c"libsqlite3.so.0";

static SQL: Original = Original::of(c"sqlite3_sql", LIBRARY);
static DB_HANDLE: Original = Original::of(c"sqlite3_db_handle", LIBRARY);
static DB_FILENAME: Original = Original::of(c"sqlite3_db_filename", LIBRARY);
static STMT_READONLY: Original = Original::of(c"sqlite3_stmt_readonly", LIBRARY);
static STMT_BUSY: Original = Original::of(c"sqlite3_stmt_busy", LIBRARY);
static CHANGES: Original = Original::of(c"sqlite3_changes", LIBRARY);
static EXTENDED_ERRCODE: Original = Original::of(c"sqlite3_extended_errcode", LIBRARY);

/// SQLITE_ERROR: what a hook answers when there is no library to ask.
const SQLITE_ERROR: c_int = 1;

// SAFETY: glibc's own declaration (errno.h, program_invocation_short_name(3)).
unsafe extern "C" {
    static program_invocation_short_name: *const c_char;
}

/// A statement, as the library describes it.
struct Stmt(*mut c_void);

unsafe fn string<'a>(text: *const c_char) -> &'a [u8] {
    if text.is_null() {
        return &[];
    }
    // SAFETY: the library answers NUL-terminated strings that live as long as the statement or connection.
    unsafe { CStr::from_ptr(text) }.to_bytes()
}

impl Stmt {
    fn db(&self) -> *mut c_void {
        match real!(DB_HANDLE, fn(*mut c_void) -> *mut c_void) {
            // SAFETY: the statement is valid while its caller steps it.
            Some(real) => unsafe { real(self.0) },
            None => core::ptr::null_mut(),
        }
    }
}

impl Library for Stmt {
    fn connection(&self) -> usize {
        self.db() as usize
    }

    fn text(&self) -> &[u8] {
        match real!(SQL, fn(*mut c_void) -> *const c_char) {
            // SAFETY: as in `db`.
            Some(real) => unsafe { string(real(self.0)) },
            None => &[],
        }
    }

    fn database(&self) -> &[u8] {
        match real!(DB_FILENAME, fn(*mut c_void, *const c_char) -> *const c_char) {
            // SAFETY: the connection is valid while a statement of it is.
            Some(real) => unsafe { string(real(self.db(), c"main".as_ptr())) },
            None => &[],
        }
    }

    fn program(&self) -> &[u8] {
        // SAFETY: glibc sets the name before main and keeps it.
        unsafe { string(program_invocation_short_name) }
    }

    fn changes_rows(&self) -> bool {
        let Some(readonly) = real!(STMT_READONLY, fn(*mut c_void) -> c_int) else { return false };
        // SAFETY: as in `db`.
        if unsafe { readonly(self.0) } != 0 {
            return false;
        }
        // The library's number is that of the last INSERT, UPDATE or DELETE, which this statement need not be.
        let text = self.text().trim_ascii_start();
        let first = text.get(..6).unwrap_or(text);
        [&b"INSERT"[..], b"UPDATE", b"DELETE", b"REPLAC", b"WITH"]
            .iter()
            .any(|verb| first.get(..verb.len()).is_some_and(|word| word.eq_ignore_ascii_case(verb)))
    }

    #[inline(never)]
    fn rows_changed(&self) -> u64 {
        match real!(CHANGES, fn(*mut c_void) -> c_int) {
            // SAFETY: as in `database`.
            Some(real) => unsafe { real(self.db()) }.max(0) as u64,
            None => 0,
        }
    }

    #[cold]
    #[inline(never)]
    fn is_busy(&self) -> bool {
        match real!(STMT_BUSY, fn(*mut c_void) -> c_int) {
            // SAFETY: as in `db`.
            Some(real) => unsafe { real(self.0) != 0 },
            None => false,
        }
    }

    fn extended_error(&self) -> c_int {
        match real!(EXTENDED_ERRCODE, fn(*mut c_void) -> c_int) {
            // SAFETY: as in `database`.
            Some(real) => unsafe { real(self.db()) },
            None => SQLITE_ERROR,
        }
    }
}

/// What a hook answers when there is no library.
extern "C" fn no_library() -> c_int {
    SQLITE_ERROR
}

gated! {
    /// sqlite3_step(3): one row further.
    sqlite3_step STEP STEP_TAIL of LIBRARY, missing no_library, closer step
}
gated! {
    /// sqlite3_reset(3).
    sqlite3_reset RESET RESET_TAIL of LIBRARY, missing no_library, closer reset
}
gated! {
    /// sqlite3_finalize(3).
    sqlite3_finalize FINALIZE FINALIZE_TAIL of LIBRARY, missing no_library, closer finalize
}

/// A step that is more than another one of an execution whose dear counters nobody reads.
#[inline(never)]
fn begin(stmt: *mut c_void, frame: usize) -> Option<Stepping> {
    with_steps(|engine, t, steps| engine.step_begin(t, steps, stmt as usize, frame, &Stmt(stmt))).flatten()
}

#[inline(never)]
fn end(stmt: *mut c_void, stepping: &Stepping, code: c_int, stamp: u64) {
    with_steps(|engine, t, steps| {
        engine.step_end(t, steps, stepping, stmt as usize, code, stamp, &Stmt(stmt));
    });
}

unsafe extern "C-unwind" fn step(stmt: *mut c_void) -> c_int {
    let marker = 0u8;
    let frame = (&raw const marker) as usize;
    let begun = match steps(|steps| ENGINE.step_before(steps, stmt as usize, frame)) {
        Some(Before::Goes(stepping)) => Some(stepping),
        Some(Before::Begins) if !stmt.is_null() => begin(stmt, frame),
        _ => None,
    };
    let code = match real!(STEP, fn(*mut c_void) -> c_int) {
        // SAFETY: the caller's own argument.
        Some(real) => unsafe { real(stmt) },
        None => SQLITE_ERROR,
    };
    if let Some(stepping) = begun
        && let Some(stamp) = steps(|steps| ENGINE.step_after(steps, &stepping, stmt as usize, code)).flatten()
    {
        end(stmt, &stepping, code, stamp);
    }
    code
}

/// An execution that is not done is over.
#[cold]
#[inline(never)]
fn stopped(stmt: *mut c_void, gone: bool) {
    if stmt.is_null() {
        return;
    }
    let marker = 0u8;
    let frame = (&raw const marker) as usize;
    with_steps(|engine, t, steps| engine.statement_stopped(t, steps, stmt as usize, frame, gone));
}

unsafe extern "C-unwind" fn reset(stmt: *mut c_void) -> c_int {
    if steps(|steps| ENGINE.statement_runs(steps, stmt as usize)) == Some(true) {
        stopped(stmt, false);
    }
    match real!(RESET, fn(*mut c_void) -> c_int) {
        // SAFETY: the caller's own argument.
        Some(real) => unsafe { real(stmt) },
        None => SQLITE_ERROR,
    }
}

unsafe extern "C-unwind" fn finalize(stmt: *mut c_void) -> c_int {
    stopped(stmt, true);
    match real!(FINALIZE, fn(*mut c_void) -> c_int) {
        // SAFETY: the caller's own argument.
        Some(real) => unsafe { real(stmt) },
        None => SQLITE_ERROR,
    }
}

/// Marks the frame of an outermost prepare: what it steps is its own reading of the schema.
#[inline(never)]
fn prepare_begins(frame: usize) -> bool {
    let outermost = steps(|steps| {
        let outermost = !is_nested(steps.frame, frame);
        if outermost {
            steps.enter_prepare(frame);
        }
        outermost
    });
    outermost.unwrap_or(false)
}

macro_rules! prepares {
    ($(#[$doc:meta])* $name:ident $original:ident $tail_of:ident $closer:ident
     ($($arg:ident: $type:ty),* ; $stmt:ident, $tail:ident: $tail_type:ty)) => {
        gated! {
            $(#[$doc])*
            $name $original $tail_of of LIBRARY, missing no_library, closer $closer
        }

        unsafe extern "C-unwind" fn $closer(
            $($arg: $type,)* $stmt: *mut *mut c_void, $tail: *mut $tail_type,
        ) -> c_int {
            let marker = 0u8;
            let frame = (&raw const marker) as usize;
            let outer = prepare_begins(frame);
            let code = match real!($original, fn($($type,)* *mut *mut c_void, *mut $tail_type) -> c_int) {
                // SAFETY: the caller's own arguments.
                Some(real) => unsafe { real($($arg,)* $stmt, $tail) },
                None => SQLITE_ERROR,
            };
            if outer {
                steps(|steps| steps.frame = 0);
            }
            if code == 0 && !$stmt.is_null() {
                // A new statement at the address of one that the library freed by itself.
                // SAFETY: on success the library has stored the statement or null.
                stopped(unsafe { *$stmt }, true);
            }
            code
        }
    };
}

prepares! {
    /// sqlite3_prepare(3).
    sqlite3_prepare PREPARE PREPARE_TAIL prepare (db: *mut c_void, sql: *const c_char, len: c_int; stmt, tail: *const c_char)
}
prepares! {
    /// sqlite3_prepare_v2(3).
    sqlite3_prepare_v2 PREPARE_V2 PREPARE_V2_TAIL prepare_v2
    (db: *mut c_void, sql: *const c_char, len: c_int; stmt, tail: *const c_char)
}
prepares! {
    /// sqlite3_prepare_v3(3).
    sqlite3_prepare_v3 PREPARE_V3 PREPARE_V3_TAIL prepare_v3
    (db: *mut c_void, sql: *const c_char, len: c_int, flags: c_uint; stmt, tail: *const c_char)
}
prepares! {
    /// sqlite3_prepare16(3).
    sqlite3_prepare16 PREPARE16 PREPARE16_TAIL prepare16
    (db: *mut c_void, sql: *const c_void, len: c_int; stmt, tail: *const c_void)
}
prepares! {
    /// sqlite3_prepare16_v2(3).
    sqlite3_prepare16_v2 PREPARE16_V2 PREPARE16_V2_TAIL prepare16_v2
    (db: *mut c_void, sql: *const c_void, len: c_int; stmt, tail: *const c_void)
}
prepares! {
    /// sqlite3_prepare16_v3(3).
    sqlite3_prepare16_v3 PREPARE16_V3 PREPARE16_V3_TAIL prepare16_v3
    (db: *mut c_void, sql: *const c_void, len: c_int, flags: c_uint; stmt, tail: *const c_void)
}

macro_rules! closes {
    ($(#[$doc:meta])* $name:ident $original:ident) => {
        /// The original of the function of this name.
        pub static $original: Original = Original::of(
            match CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                Ok(name) => name,
                Err(_) => c"",
            },
            LIBRARY,
        );

        $(#[$doc])*
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name(db: *mut c_void) -> c_int {
            let code = match real!($original, fn(*mut c_void) -> c_int) {
                // SAFETY: the caller's own argument.
                Some(real) => unsafe { real(db) },
                None => SQLITE_ERROR,
            };
            if code == 0 && !db.is_null() && ENGINE.process().is_awake() {
                with(|engine, t| engine.connection_closed(t, db as usize));
            }
            code
        }
    };
}

closes! {
    /// sqlite3_close(3).
    sqlite3_close CLOSE
}
closes! {
    /// sqlite3_close_v2(3).
    sqlite3_close_v2 CLOSE_V2
}
