//! The overrides. One thin wrapper for each function: *before*, the real call, *after*.
//!
//! # Safety
//!
//! `unsafe` is used to share pointers to code between threads.

mod cancellation;
pub mod clock;
mod descriptors;
pub mod print;
mod sides;
mod sqlite;
mod tail;
mod tls;
mod transfer;
pub mod unload;
mod vectors;
mod waits;

pub use transfer::Transfers;

use core::ffi::c_void;
use core::sync::atomic::AtomicI32;
use perquery_agent::session::{Alone, Hooks, Hot};

use crate::real::Original;

/// The originals of the hooks that every query calls, as long as they were not found.
pub const fn searching() -> Hooks {
    Hooks {
        recv: Hot::new(transfer::search::recv as *const c_void),
        send: Hot::new(transfer::search::send as *const c_void),
        poll: Hot::new(waits::search_and_poll as *const c_void),
        alone: Alone::new(),
        thread_offset: AtomicI32::new(0),
        errno_offset: AtomicI32::new(0),
    }
}

/// One override: its name and original, and the hook's address. A table, so that the hooks can also be put into an
/// import table by somebody else than the dynamic linker.
pub struct Hook {
    /// Name and place of the original.
    pub original: &'static Original,
    /// The override.
    pub hook: *const (),
}

// SAFETY: the pointer is to code.
#[allow(unsafe_code)]
unsafe impl Sync for Hook {}

macro_rules! table {
    ($($module:ident :: { $($function:ident $original:ident),* $(,)? }),* $(,)?) => {
        /// Every exported function. The test of the exports compares this list with the library's symbols.
        pub static TABLE: &[Hook] = &[
            $($(Hook { original: &$module::$original, hook: $module::$function as *const () }),*),*
        ];
    };
}

table! {
    transfer::{
        recv RECV, recvfrom RECVFROM, read READ, __recv_chk RECV_CHK, __read_chk READ_CHK,
        send SEND, sendto SENDTO, write WRITE,
    },
    vectors::{
        recvmsg RECVMSG, readv READV, sendmsg SENDMSG, writev WRITEV,
    },
    waits::{
        poll POLL, ppoll PPOLL, __poll_chk POLL_CHK, epoll_wait EPOLL_WAIT, epoll_ctl EPOLL_CTL,
    },
    descriptors::{
        accept ACCEPT, accept4 ACCEPT4, connect CONNECT, close CLOSE, shutdown SHUTDOWN,
        dup DUP, dup2 DUP2, dup3 DUP3, close_range CLOSE_RANGE, closefrom CLOSEFROM,
    },
    tls::{
        SSL_accept ACCEPT, SSL_do_handshake DO_HANDSHAKE, SSL_read READ, SSL_read_ex READ_EX,
        SSL_write WRITE, SSL_write_ex WRITE_EX, SSL_free FREE,
    },
    sqlite::{
        sqlite3_step STEP, sqlite3_reset RESET, sqlite3_finalize FINALIZE,
        sqlite3_prepare PREPARE, sqlite3_prepare_v2 PREPARE_V2, sqlite3_prepare_v3 PREPARE_V3,
        sqlite3_prepare16 PREPARE16, sqlite3_prepare16_v2 PREPARE16_V2, sqlite3_prepare16_v3 PREPARE16_V3,
        sqlite3_close CLOSE, sqlite3_close_v2 CLOSE_V2,
    },
    cancellation::{
        pthread_cancel CANCEL,
    },
    clock::{
        times TIMES, sysconf SYSCONF,
    },
    print::{
        sprintf SPRINTF, vsprintf VSPRINTF, snprintf SNPRINTF, vsnprintf VSNPRINTF,
        __sprintf_chk SPRINTF_CHK, __vsprintf_chk VSPRINTF_CHK,
        __snprintf_chk SNPRINTF_CHK, __vsnprintf_chk VSNPRINTF_CHK,
    },
    unload::{
        dlclose DLCLOSE,
    },
}

/// Finds all originals that are there, so that no hook has to search.
pub fn find_originals() {
    for hook in TABLE {
        hook.original.address();
    }
    cancellation::allow_plain_calls();
}
