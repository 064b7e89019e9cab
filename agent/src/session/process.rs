//! What this process is to perquery: nothing, a server, or a program started by `perquery run`; and its segment.
//!
//! # Safety
//!
//! `unsafe` is used for the cell that holds the segment: written once, before the state that lets others read it.
#![allow(unsafe_code)]

use super::gate::GATE;
use super::hooks::Hooks;
use crate::clock::monotonic_ns;
use crate::segment::layout::{CONTROL_WORDS, MEMFD_NAME, Shape, header};
use crate::segment::{Control, Refused, Segment};
use crate::strings::Bytes;
use crate::sys::{memory, process};
use core::cell::UnsafeCell;
use core::ffi::CStr;
use core::fmt::Write as _;
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering};

/// What kind of server the executable is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Anything: the first bytes of a connection tell its protocol.
    Any = 0,
    /// mariadbd, mysqld.
    MySql = 1,
    /// postgres.
    Postgres = 2,
}

/// How the constructor decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// None of our business.
    Inert,
    /// A server on the list: it gets a segment of its own.
    Server(Kind),
    /// Started by `perquery run`: the segment is `descriptor`, or that descriptor of process `pid`.
    Run {
        /// By name, as for a server.
        kind: Kind,
        /// True when the executable is on the list, so that the segment is mapped at once; else at first use.
        listed: bool,
        /// The descriptor's number as `perquery run` left it.
        descriptor: i32,
        /// The pid of `perquery run`.
        pid: u32,
    },
}

/// Executables that are servers.
const SERVERS: [(&[u8], Kind); 8] = [
    (b"mariadbd", Kind::MySql),
    (b"mysqld", Kind::MySql),
    (b"mysqld-debug", Kind::MySql),
    (b"mariadbd-debug", Kind::MySql),
    (b"postgres", Kind::Postgres),
    (b"edb-postgres", Kind::Postgres),
    (b"postgres-real", Kind::Postgres),
    (b"postmaster", Kind::Postgres),
];

/// Decides from the executable's path, PERQUERY_EXE (names separated by commas or colons) and PERQUERY_SEGMENT
/// (`descriptor:pid`, set by `perquery run`).
pub fn decide(exe: &[u8], named: Option<&[u8]>, segment: Option<&[u8]>) -> Start {
    let exe = exe.strip_suffix(b" (deleted)").unwrap_or(exe);
    let name = exe.rsplit(|b| *b == b'/').next().unwrap_or(exe);
    let known = SERVERS.iter().find(|(server, _)| *server == name).map(|(_, kind)| *kind);
    let by_user = named
        .is_some_and(|list| list.split(|b| *b == b',' || *b == b':').any(|n| n == name && !n.is_empty()));
    let listed = known.is_some() || by_user;
    let kind = known.unwrap_or(Kind::Any);
    if let Some((descriptor, pid)) = segment.and_then(parse_handed_down) {
        return Start::Run { kind, listed, descriptor, pid };
    }
    if listed { Start::Server(kind) } else { Start::Inert }
}

fn parse_handed_down(text: &[u8]) -> Option<(i32, u32)> {
    let (descriptor, pid) = core::str::from_utf8(text).ok()?.split_once(':')?;
    Some((descriptor.parse().ok().filter(|n| *n >= 0)?, pid.parse().ok()?))
}

/// Where there is no page that a forked child finds empty: the kernel is asked each time.
static NO_PID: AtomicU64 = AtomicU64::new(0);

/// The control page where there is no segment: capture is off, and nothing is wanted.
static OFF: [AtomicU64; CONTROL_WORDS] = [const { AtomicU64::new(0) }; CONTROL_WORDS];

const UNBORN: u8 = 0;
const INERT: u8 = 1;
const BUSY: u8 = 2;
/// From here on hooks look closer.
const WAITING: u8 = 3;
const LIVE: u8 = 4;

/// The flag of a transfer that does not wait.
const PLAIN_FLAGS: u8 = libc::MSG_DONTWAIT as u8;
const _: () = assert!(PLAIN_FLAGS as i32 == libc::MSG_DONTWAIT);

/// The process's state. One static of it exists in the library. What every query looks at is in its first cache line.
#[repr(C, align(64))]
pub struct Process {
    hooks: Hooks,
    /// The segment's control page; before there is a segment, one that says off.
    control: AtomicPtr<[AtomicU64; CONTROL_WORDS]>,
    /// A word that reads 0 in a forked child: our pid. In a page of its own, once that was made.
    page: AtomicPtr<AtomicU64>,
    state: AtomicU8,
    kind: AtomicU8,
    /// [`PLAIN_FLAGS`], or 0.
    plain_flags: AtomicU8,
    handed_fd: AtomicU32,
    segment: UnsafeCell<Option<Segment<'static>>>,
    handed_pid: AtomicU32,
    /// What went by while one thread was mapping the segment: executions, sessions.
    unseen: [AtomicU64; 2],
}

// SAFETY: `segment` is written by the one thread that changed the state to BUSY, and read only when the state is LIVE,
// which that thread stored afterwards with Release.
unsafe impl Sync for Process {}

const _: () = assert!(core::mem::offset_of!(Process, segment) == 64);

impl Process {
    /// Before the constructor ran: every hook passes through.
    pub const fn new(hooks: Hooks) -> Self {
        Process {
            hooks,
            state: AtomicU8::new(UNBORN),
            kind: AtomicU8::new(0),
            plain_flags: AtomicU8::new(0),
            handed_fd: AtomicU32::new(0),
            handed_pid: AtomicU32::new(0),
            segment: UnsafeCell::new(None),
            page: AtomicPtr::new((&raw const NO_PID).cast_mut()),
            control: AtomicPtr::new((&raw const OFF).cast_mut()),
            unseen: [const { AtomicU64::new(0) }; 2],
        }
    }

    /// True while the calling thread is the only one of its process, as far as libc says so.
    #[inline(always)]
    pub fn is_alone(&self) -> bool {
        self.hooks.alone.is_so()
    }

    /// True where a hook may make the system call itself, of a transfer with these flags.
    #[inline(always)]
    pub fn may_call_plainly(&self, flags: i32) -> bool {
        flags & i32::from(self.plain_flags.load(Ordering::Relaxed)) != 0
    }

    /// From now on it may, of a transfer that does not wait.
    pub fn allow_plain_calls(&self) {
        self.plain_flags.store(PLAIN_FLAGS, Ordering::SeqCst);
    }

    /// From now on it may not, in any thread that is told of it.
    pub fn forbid_plain_calls(&self) {
        self.plain_flags.store(0, Ordering::SeqCst);
    }

    /// True when hooks have to look closer than this. One relaxed load.
    #[inline(always)]
    pub fn is_awake(&self) -> bool {
        // Relaxed: what depends on the state is read through `segment`, which loads it again with Acquire.
        self.state.load(Ordering::Relaxed) >= WAITING
    }

    /// True where a query that a thread has read is answered by that thread, unless a poller watches the socket: in all servers
    /// that we know.
    #[inline(always)]
    pub fn keeps_to_threads(&self) -> bool {
        self.kind() != Kind::Any
    }

    /// True where a thread may leave a query open and go on to wait for any of many sockets. A process of PostgreSQL serves
    /// one session.
    #[inline(always)]
    pub fn may_change_sessions(&self) -> bool {
        self.is_awake() && self.kind() != Kind::Postgres
    }

    /// Acts on the constructor's decision.
    pub fn start(&self, start: Start, exe: &[u8]) {
        if self.state.compare_exchange(UNBORN, BUSY, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return;
        }
        if matches!(start, Start::Server(_) | Start::Run { listed: true, .. }) {
            process::let_descriptors_grow();
        }
        let next = match start {
            Start::Inert => INERT,
            Start::Server(kind) => {
                self.kind.store(kind as u8, Ordering::Relaxed);
                if self.make(exe).is_some() { LIVE } else { INERT }
            }
            Start::Run { kind, listed, descriptor, pid } => {
                self.kind.store(kind as u8, Ordering::Relaxed);
                self.handed_fd.store(descriptor as u32, Ordering::Relaxed);
                self.handed_pid.store(pid, Ordering::Relaxed);
                match listed {
                    false => WAITING,
                    true if self.attach().is_some() => LIVE,
                    true => INERT,
                }
            }
        };
        self.settle(next);
    }

    /// The state changes, and with it what the hooks look at.
    fn settle(&self, next: u8) {
        // Release: publishes the segment.
        self.state.store(next, Ordering::Release);
        match (next, self.segment()) {
            (LIVE, Some(segment)) => {
                self.control
                    .store(core::ptr::from_ref(segment.control_words()).cast_mut(), Ordering::Release);
                GATE.follow(segment.control().capture_word());
            }
            (WAITING, _) => GATE.open(),
            _ => GATE.shut(),
        }
        self.own_up();
    }

    /// An execution went by because another thread is just mapping the segment. It counts as dropped.
    #[cold]
    pub fn miss_execution(&self) {
        self.miss(0);
    }

    /// A session went by for the same reason. It counts as lost.
    #[cold]
    pub fn miss_session(&self) {
        self.miss(1);
    }

    fn miss(&self, which: usize) {
        if matches!(self.state.load(Ordering::Relaxed), BUSY | LIVE)
            && let Some(unseen) = self.unseen.get(which)
        {
            unseen.fetch_add(1, Ordering::SeqCst);
            // The other thread may be done by now, and have looked before this was noted.
            self.own_up();
        }
    }

    /// Puts what went by unseen into the segment, once there is one.
    fn own_up(&self) {
        core::sync::atomic::fence(Ordering::SeqCst);
        let Some(segment) = self.segment() else { return };
        for (unseen, word) in self.unseen.iter().zip([header::DROPS_NO_LANE, header::LOST_SESSIONS]) {
            let n = unseen.swap(0, Ordering::SeqCst);
            if n != 0 && segment.control().capture() != 0 {
                segment.count(word, n);
            }
        }
    }

    /// What kind of server this is.
    #[inline]
    pub fn kind(&self) -> Kind {
        match self.kind.load(Ordering::Relaxed) {
            1 => Kind::MySql,
            2 => Kind::Postgres,
            _ => Kind::Any,
        }
    }

    /// The generation of the capture that is on; 0: it is off. Two loads.
    #[inline(always)]
    pub fn capture(&self) -> u64 {
        self.control().capture()
    }

    /// The segment's control page, or where there is no segment one that says off.
    #[inline(always)]
    pub fn control(&self) -> Control<'static> {
        // SAFETY: `OFF`, or words of the segment, which is mapped for good. Acquire: whoever sees the capture sees the segment.
        Control::new(unsafe { &*self.control.load(Ordering::Acquire) })
    }

    /// What the library's hooks look at.
    #[inline(always)]
    pub const fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    /// The segment, if there is one already.
    #[inline]
    pub fn segment(&self) -> Option<&Segment<'static>> {
        if self.state.load(Ordering::Acquire) != LIVE {
            return None;
        }
        // SAFETY: LIVE: written before, never again.
        unsafe { (*self.segment.get()).as_ref() }
    }

    /// The segment; a program under `perquery run` maps it now, at its first session.
    pub fn segment_or_attach(&self) -> Option<Segment<'static>> {
        if self.state.compare_exchange(WAITING, BUSY, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            let next = if self.attach().is_some() { LIVE } else { INERT };
            self.settle(next);
        }
        self.segment().copied()
    }

    /// Our pid, also right after fork(2). Two loads in the usual case.
    #[inline(always)]
    pub fn pid(&self) -> u32 {
        match self.pid_word().load(Ordering::Relaxed) {
            0 => self.ask_pid(),
            pid => pid as u32,
        }
    }

    #[inline(always)]
    fn pid_word(&self) -> &'static AtomicU64 {
        // SAFETY: `NO_PID`, or a page mapped for good by `make_page`.
        unsafe { &*self.page.load(Ordering::Relaxed) }
    }

    #[cold]
    #[inline(never)]
    fn ask_pid(&self) -> u32 {
        let pid = process::pid();
        let word = self.pid_word();
        if !core::ptr::eq(word, &NO_PID) {
            word.store(pid as u64, Ordering::Relaxed);
        }
        pid
    }

    fn make_page(&self) {
        if let Ok([word, ..]) = memory::map_wiped_on_fork() {
            self.page.store(core::ptr::from_ref(word).cast_mut(), Ordering::Relaxed);
        }
    }

    fn make(&self, exe: &[u8]) -> Option<()> {
        let fd = memory::memfd(MEMFD_NAME).ok()?;
        let fd = process::move_high(fd, process::high_descriptor_floor());
        let made = self.make_in(fd, exe);
        if made.is_none() {
            process::close(fd);
        }
        made
    }

    fn make_in(&self, fd: i32, exe: &[u8]) -> Option<()> {
        let shape = Shape::SERVER;
        // A memfd is born 0777, and /proc/PID/fd/N can be opened by whoever the mode lets.
        memory::chmod(fd, 0o600).ok()?;
        memory::truncate(fd, shape.total_words() * 8).ok()?;
        memory::seal(fd).ok()?;
        let words = memory::map_shared(fd, shape.total_words()).ok()?;
        let segment = Segment::format(words, shape, process::pid(), monotonic_ns(), exe).ok()?;
        self.adopt(segment);
        Some(())
    }

    fn adopt(&self, segment: Segment<'static>) {
        self.make_page();
        // SAFETY: the state is BUSY and this thread made it so; nobody reads the cell.
        unsafe { *self.segment.get() = Some(segment) };
    }

    /// Maps the segment that `perquery run` handed down.
    fn attach(&self) -> Option<()> {
        let handed = self.handed_fd.load(Ordering::Relaxed) as i32;
        let floor = process::high_descriptor_floor();
        let fd = match Self::check(handed) {
            // Ours now: moved out of the way, and closed for programs that this one executes.
            Some(_) => process::move_high(handed, floor),
            None => {
                let fd = self.open_by_pid(handed)?;
                process::move_high(fd, floor)
            }
        };
        let Some(words) = Self::check(fd).and_then(|words| memory::map_shared(fd, words).ok()) else {
            process::close(fd);
            return None;
        };
        let segment: Result<_, Refused> = Segment::check(words);
        let Ok(segment) = segment else {
            // SAFETY: nothing refers to the mapping.
            unsafe { memory::unmap_shared(words) };
            process::close(fd);
            return None;
        };
        let first = segment.word(header::PID).compare_exchange(
            0,
            process::pid() as u64,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
        if first.is_ok() {
            let mut exe = [0; header::EXE_WORDS * 8];
            segment.set_exe(process::read_link(c"/proc/self/exe", &mut exe).unwrap_or(&[]));
        }
        self.adopt(segment);
        Some(())
    }

    /// The segment's length in words if `fd` is a sealed memfd of a possible size.
    fn check(fd: i32) -> Option<usize> {
        if !memory::is_sealed(fd) {
            return None;
        }
        let words = memory::file_size(fd).ok()? / 8;
        (words >= Shape { lanes: 1, ..Shape::SERVER }.lanes_at()).then_some(words)
    }

    /// Opens the descriptor of `perquery run` itself, for programs that something between closed it for.
    fn open_by_pid(&self, descriptor: i32) -> Option<i32> {
        let mut path = Bytes::<64>::new();
        struct To<'a>(&'a mut Bytes<64>);
        impl core::fmt::Write for To<'_> {
            fn write_str(&mut self, s: &str) -> core::fmt::Result {
                self.0.push(s.as_bytes());
                Ok(())
            }
        }
        let pid = self.handed_pid.load(Ordering::Relaxed);
        write!(To(&mut path), "/proc/{pid}/fd/{descriptor}\0").ok()?;
        let path = CStr::from_bytes_until_nul(path.as_slice()).ok()?;
        process::open_read_write(path).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_servers_named_programs_and_children_of_run_wake_up() {
        assert_eq!(decide(b"/usr/sbin/mariadbd", None, None), Start::Server(Kind::MySql));
        assert_eq!(decide(b"/opt/x/mysqld (deleted)", None, None), Start::Server(Kind::MySql));
        assert_eq!(decide(b"/usr/lib/postgresql/15/bin/postgres", None, None), Start::Server(Kind::Postgres));
        assert_eq!(decide(b"/bin/sh", None, None), Start::Inert);
        assert_eq!(decide(b"/usr/bin/mariadbd-safe", None, None), Start::Inert);
        assert_eq!(decide(b"/usr/bin/sqlite3", Some(b"python3,sqlite3"), None), Start::Server(Kind::Any));
        assert_eq!(decide(b"/usr/bin/sqlite", Some(b"python3,sqlite3,"), None), Start::Inert);
        assert_eq!(
            decide(b"/bin/sh", None, Some(b"5:1234")),
            Start::Run { kind: Kind::Any, listed: false, descriptor: 5, pid: 1234 }
        );
        for nonsense in [&b""[..], b"5", b"-1:3", b"5:x", b":", b"99999999999:1"] {
            assert_eq!(decide(b"/bin/sh", None, Some(nonsense)), Start::Inert);
        }
    }
}
