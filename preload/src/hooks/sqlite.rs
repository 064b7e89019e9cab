//! libsqlite3: steps of statements.
//!
//! A program that links or loads the library calls these through its symbol table, and so does the library itself
//! (`sqlite3_exec` calls prepare and step). A step or prepare inside another one is the library's own reading of its
//! schema and passes.
//!
//! # Safety
//!
//! `unsafe` is used to call the originals, and the library's own functions on a statement that the caller is about to
//! step, or has just stepped, itself.
#![allow(unsafe_code)]
#![allow(clippy::missing_safety_doc)] // each has the contract of the function of the same name

use crate::ENGINE;
use crate::real::{Original, real};
use crate::thread::with;
use core::ffi::{CStr, c_char, c_int, c_uint, c_void};
use perquery_agent::segment::Segment;
use perquery_agent::session::is_nested;
use perquery_agent::sqlite::Library;

const LIBRARY: &CStr = c"libsqlite3.so.0";

pub static STEP: Original = Original::of(c"sqlite3_step", LIBRARY);
pub static RESET: Original = Original::of(c"sqlite3_reset", LIBRARY);
pub static FINALIZE: Original = Original::of(c"sqlite3_finalize", LIBRARY);
pub static PREPARE: Original = Original::of(c"sqlite3_prepare", LIBRARY);
pub static PREPARE_V2: Original = Original::of(c"sqlite3_prepare_v2", LIBRARY);
pub static PREPARE_V3: Original = Original::of(c"sqlite3_prepare_v3", LIBRARY);
pub static PREPARE16: Original = Original::of(c"sqlite3_prepare16", LIBRARY);
pub static PREPARE16_V2: Original = Original::of(c"sqlite3_prepare16_v2", LIBRARY);
pub static PREPARE16_V3: Original = Original::of(c"sqlite3_prepare16_v3", LIBRARY);
pub static CLOSE: Original = Original::of(c"sqlite3_close", LIBRARY);
pub static CLOSE_V2: Original = Original::of(c"sqlite3_close_v2", LIBRARY);

static SQL: Original = Original::of(c"sqlite3_sql", LIBRARY);
static DB_HANDLE: Original = Original::of(c"sqlite3_db_handle", LIBRARY);
static DB_FILENAME: Original = Original::of(c"sqlite3_db_filename", LIBRARY);
static STMT_READONLY: Original = Original::of(c"sqlite3_stmt_readonly", LIBRARY);
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

    fn rows_changed(&self) -> u64 {
        let Some(readonly) = real!(STMT_READONLY, fn(*mut c_void) -> c_int) else { return 0 };
        // SAFETY: as in `db`.
        if unsafe { readonly(self.0) } != 0 {
            return 0;
        }
        // The library's number is that of the last INSERT, UPDATE or DELETE, which this statement need not be.
        let text = self.text().trim_ascii_start();
        let first = text.get(..6).unwrap_or(text);
        let changes_rows = [&b"INSERT"[..], b"UPDATE", b"DELETE", b"REPLAC", b"WITH"]
            .iter()
            .any(|verb| first.get(..verb.len()).is_some_and(|word| word.eq_ignore_ascii_case(verb)));
        match real!(CHANGES, fn(*mut c_void) -> c_int) {
            // SAFETY: as in `database`.
            Some(real) if changes_rows => unsafe { real(self.db()) }.max(0) as u64,
            _ => 0,
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

/// A step or prepare that has been entered: the frame stands in the thread's state until it is left.
#[inline]
fn outermost(frame: usize) -> bool {
    with(|_, t| {
        let outermost = !is_nested(t.sqlite_frame, frame);
        if outermost {
            t.sqlite_frame = frame;
        }
        outermost
    })
    .unwrap_or(false)
}

#[inline]
fn left() {
    with(|_, t| t.sqlite_frame = 0);
}

#[inline(never)]
fn step_begin(stmt: *mut c_void, frame: usize) -> Option<(Segment<'static>, u64)> {
    with(|engine, t| {
        if is_nested(t.sqlite_frame, frame) {
            return None;
        }
        let (segment, capture) = engine.sqlite_capture(t)?;
        t.sqlite_frame = frame;
        engine.step_begin(t, &segment, capture, stmt as usize, &Stmt(stmt));
        Some((segment, capture))
    })
    .flatten()
}

#[inline(never)]
fn step_end(stmt: *mut c_void, code: c_int, segment: &Segment<'static>, capture: u64) {
    with(|engine, t| {
        t.sqlite_frame = 0;
        engine.step_end(t, segment, capture, stmt as usize, code, &Stmt(stmt));
    });
}

/// sqlite3_step(3): one row further.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn sqlite3_step(stmt: *mut c_void) -> c_int {
    let marker = 0u8;
    let frame = (&raw const marker) as usize;
    let call = if ENGINE.process().is_awake() && !stmt.is_null() { step_begin(stmt, frame) } else { None };
    let code = match real!(STEP, fn(*mut c_void) -> c_int) {
        // SAFETY: the caller's own argument.
        Some(real) => unsafe { real(stmt) },
        None => SQLITE_ERROR,
    };
    if let Some((segment, capture)) = call {
        step_end(stmt, code, &segment, capture);
    }
    code
}

/// An execution that is not done is over; inside a step it is the library's own affair.
#[inline]
fn stopped(stmt: *mut c_void, gone: bool) {
    if stmt.is_null() || !ENGINE.process().is_awake() {
        return;
    }
    let marker = 0u8;
    let frame = (&raw const marker) as usize;
    with(|engine, t| {
        if !is_nested(t.sqlite_frame, frame) {
            engine.statement_stopped(t, stmt as usize, gone);
        }
    });
}

/// sqlite3_reset(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn sqlite3_reset(stmt: *mut c_void) -> c_int {
    stopped(stmt, false);
    match real!(RESET, fn(*mut c_void) -> c_int) {
        // SAFETY: the caller's own argument.
        Some(real) => unsafe { real(stmt) },
        None => SQLITE_ERROR,
    }
}

/// sqlite3_finalize(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn sqlite3_finalize(stmt: *mut c_void) -> c_int {
    stopped(stmt, true);
    match real!(FINALIZE, fn(*mut c_void) -> c_int) {
        // SAFETY: the caller's own argument.
        Some(real) => unsafe { real(stmt) },
        None => SQLITE_ERROR,
    }
}

macro_rules! prepares {
    ($(#[$doc:meta])* $name:ident $original:ident ($($arg:ident: $type:ty),* ; $stmt:ident, $tail:ident: $tail_type:ty)) => {
        $(#[$doc])*
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name(
            $($arg: $type,)* $stmt: *mut *mut c_void, $tail: *mut $tail_type,
        ) -> c_int {
            let marker = 0u8;
            let frame = (&raw const marker) as usize;
            let outer = ENGINE.process().is_awake() && outermost(frame);
            let code = match real!($original, fn($($type,)* *mut *mut c_void, *mut $tail_type) -> c_int) {
                // SAFETY: the caller's own arguments.
                Some(real) => unsafe { real($($arg,)* $stmt, $tail) },
                None => SQLITE_ERROR,
            };
            if outer {
                left();
                if code == 0 && !$stmt.is_null() {
                    // A new statement at the address of one that the library freed by itself.
                    // SAFETY: on success the library has stored the statement or null.
                    stopped(unsafe { *$stmt }, true);
                }
            }
            code
        }
    };
}

prepares! {
    /// sqlite3_prepare(3).
    sqlite3_prepare PREPARE (db: *mut c_void, sql: *const c_char, len: c_int; stmt, tail: *const c_char)
}
prepares! {
    /// sqlite3_prepare_v2(3).
    sqlite3_prepare_v2 PREPARE_V2 (db: *mut c_void, sql: *const c_char, len: c_int; stmt, tail: *const c_char)
}
prepares! {
    /// sqlite3_prepare_v3(3).
    sqlite3_prepare_v3 PREPARE_V3
    (db: *mut c_void, sql: *const c_char, len: c_int, flags: c_uint; stmt, tail: *const c_char)
}
prepares! {
    /// sqlite3_prepare16(3).
    sqlite3_prepare16 PREPARE16 (db: *mut c_void, sql: *const c_void, len: c_int; stmt, tail: *const c_void)
}
prepares! {
    /// sqlite3_prepare16_v2(3).
    sqlite3_prepare16_v2 PREPARE16_V2 (db: *mut c_void, sql: *const c_void, len: c_int; stmt, tail: *const c_void)
}
prepares! {
    /// sqlite3_prepare16_v3(3).
    sqlite3_prepare16_v3 PREPARE16_V3
    (db: *mut c_void, sql: *const c_void, len: c_int, flags: c_uint; stmt, tail: *const c_void)
}

macro_rules! closes {
    ($(#[$doc:meta])* $name:ident $original:ident) => {
        $(#[$doc])*
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name(db: *mut c_void) -> c_int {
            let code = match real!($original, fn(*mut c_void) -> c_int) {
                // SAFETY: the caller's own argument.
                Some(real) => unsafe { real(db) },
                None => SQLITE_ERROR,
            };
            if code == 0 && !db.is_null() && ENGINE.process().is_awake() {
                with(|engine, _| engine.connection_closed(db as usize));
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
