//! What is known without a reading is what the plain readings say.
//!
//! # Safety
//!
//! `unsafe` is used to put threads on one CPU and to map memory whose pages are touched for the first time.
#![allow(unsafe_code)]

use super::measure::Measured;
use super::switches::tests::look_up;
use super::thread::Thread;
use crate::clock::monotonic_ns;
use crate::counters::{
    CHEAP_MASK, CPU_NS, Counts, PAGE_FAULTS_MINOR, SWITCHES_INVOLUNTARY, SWITCHES_VOLUNTARY, Wanted,
};
use crate::segment::layout::Shape;
use crate::segment::record::{KIND_EXECUTION, RECORD_MAX_WORDS};
use crate::segment::writer::{Fields, write};
use crate::segment::{Lane, Segment};
use crate::sys::time::{ThreadUsage, thread_cpu_ns, thread_usage};
use core::sync::atomic::AtomicU64;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use std::vec::Vec;
use std::{eprintln, println, thread};

const SHAPE: Shape = Shape { lanes: 4, ring_words: 4096, sessions: 4, index_entries: 64, arena_words: 4096 };

/// A thread that serves commands, as the engine makes it measure them.
struct Server<'a> {
    thread: Thread,
    lane: Lane<'a>,
    /// Beginnings for which something was read.
    read_at_start: u32,
    /// Those that were taken to be the end of the command before.
    assumed: u32,
    /// Answers that were sent while nobody watched.
    unwatched: u32,
}

/// What the plain readings said of the same work.
struct Plain {
    cpu_ns: u64,
    usage: ThreadUsage,
}

impl<'a> Server<'a> {
    fn new(segment: &Segment<'a>) -> Self {
        let mut thread = Thread::new();
        thread.wanted = Wanted { mask: CHEAP_MASK, ..Wanted::NOTHING };
        thread.generation = 1;
        let lane = segment.lane(0).expect("the first");
        Server { thread, lane, read_at_start: 0, assumed: 0, unwatched: 0 }
    }

    /// Receives a command as servers do: waits where there is nothing to read.
    fn receive(&mut self, socket: &mut UnixStream, command: &mut [u8]) {
        loop {
            match socket.read(command) {
                Ok(n) => return assert!(n > 0),
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
            }
            self.thread.found_nothing();
            let mut one = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one valid entry.
            unsafe { libc::poll(&mut one, 1, -1) };
            self.thread.has_waited();
        }
    }

    /// Measures `work` and its `answer` with all counters, and plainly around the same.
    fn command(&mut self, work: impl FnOnce(), answer: impl FnOnce()) -> (Counts, Measured, u64, Plain) {
        let weight = self.thread.choose();
        assert_eq!(weight, 1.0);
        let start_ns = self.thread.begin_command(weight > 0.0);
        self.read_at_start += u32::from(self.thread.paid_ns > 0);
        self.assumed += u32::from(self.thread.measuring.gap.is_assumed());
        let (usage, cpu_ns) = (thread_usage().unwrap(), thread_cpu_ns().unwrap());
        work();
        self.thread.write_ns = self.thread.now_ns();
        self.thread.before_answer();
        answer();
        self.thread.after_answer();
        self.unwatched += u32::from(self.thread.measuring.sending.is_unwatched());
        let plain = Plain {
            cpu_ns: thread_cpu_ns().unwrap() - cpu_ns,
            usage: {
                let now = thread_usage().unwrap();
                ThreadUsage {
                    page_faults_minor: now.page_faults_minor - usage.page_faults_minor,
                    page_faults_major: now.page_faults_major - usage.page_faults_major,
                    switches_voluntary: now.switches_voluntary - usage.switches_voluntary,
                    switches_involuntary: now.switches_involuntary - usage.switches_involuntary,
                    ..now
                }
            },
        };
        let now_ns = monotonic_ns();
        let measured = self.thread.end_work(weight > 0.0, now_ns, now_ns - start_ns);
        let counts = self.thread.counts;
        let fields = Fields { kind: KIND_EXECUTION, weight, ..Fields::default() };
        assert!(write(&self.lane, &fields, &counts, &[], b"SELECT 1"));
        self.thread.account(&self.lane, weight > 0.0, measured, self.thread.paid_ns, 1);
        if self.lane.ring().backlog_words() > 2048 {
            self.lane.ring().drain(&mut [0; RECORD_MAX_WORDS], |_| ()).unwrap();
        }
        (counts, measured, now_ns - start_ns, plain)
    }
}

/// Puts the calling thread on the first CPU it may run on.
fn settle_on_one_cpu() {
    // SAFETY: the set is valid and as long as said.
    unsafe {
        let mut may: libc::cpu_set_t = core::mem::zeroed();
        libc::sched_getaffinity(0, size_of_val(&may), &mut may);
        let first = (0..libc::CPU_SETSIZE as usize).find(|cpu| libc::CPU_ISSET(*cpu, &may));
        let mut one: libc::cpu_set_t = core::mem::zeroed();
        libc::CPU_SET(first.expect("it runs"), &mut one);
        assert_eq!(libc::sched_setaffinity(0, size_of_val(&one), &one), 0);
    }
}

fn spin(rounds: u32) {
    core::hint::black_box(
        (0..rounds).fold(1u64, |x, n| core::hint::black_box(x.wrapping_mul(3) ^ u64::from(n))),
    );
}

/// Fresh pages.
struct Pages {
    at: usize,
    left: usize,
}

impl Pages {
    fn map(pages: usize) -> Self {
        // SAFETY: an anonymous mapping of nobody else's; huge pages would be one fault for many.
        let at = unsafe {
            let to = libc::mmap(
                core::ptr::null_mut(),
                pages * 4096,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            assert_ne!(to, libc::MAP_FAILED);
            libc::madvise(to, pages * 4096, libc::MADV_NOHUGEPAGE);
            to.addr()
        };
        Pages { at, left: pages }
    }

    fn touch(&mut self, pages: usize) {
        for _ in 0..pages.min(self.left) {
            // SAFETY: within the mapping of `map`, which is never unmapped.
            unsafe { core::ptr::with_exposed_provenance_mut::<u8>(self.at).write_volatile(1) };
            self.at += 4096;
            self.left -= 1;
        }
    }
}

/// The client of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    /// On the server's CPU, and polls: the answer wakes it, and its next command is there when the server comes back.
    Polls,
    /// On the server's CPU, and blocks in read(2): woken also when the server takes its command from the socket.
    Blocks,
    /// Wherever it likes, and thinks before each command: the server waits.
    Thinks,
}

impl Client {
    fn serve_itself(self, mut socket: UnixStream) {
        if self != Client::Thinks {
            settle_on_one_cpu();
        }
        let mut answer = [0; 100];
        while socket.write_all(b"command").is_ok() {
            if self == Client::Polls {
                let mut one = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
                // SAFETY: one valid entry.
                unsafe { libc::poll(&mut one, 1, -1) };
            }
            if socket.read(&mut answer).is_ok_and(|n| n == 0) {
                return;
            }
            if self == Client::Thinks {
                thread::sleep(Duration::from_micros(10));
            }
        }
    }
}

/// 3000 commands, each answered over a socket, some of which touch three fresh pages: beginnings without a reading.
fn compare(client: Client, budget_ppm: u64) -> u32 {
    const COMMANDS: u32 = 3000;
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let running = thread::spawn(move || client.serve_itself(theirs));
    ours.set_nonblocking(true).unwrap();
    let words: Vec<AtomicU64> = (0..SHAPE.total_words()).map(|_| AtomicU64::new(0)).collect();
    let segment = Segment::format(&words, SHAPE, 1, 1, b"").unwrap();
    let mut server = Server::new(&segment);
    server.thread.counters.prepare(&server.thread.wanted, 1);
    server.thread.open = true;
    server.thread.budget_ppm = budget_ppm;
    if client != Client::Thinks {
        settle_on_one_cpu();
    }
    let mut pages = Pages::map(COMMANDS as usize);
    let (mut more_ns, mut free, mut faults, mut more_switches) = (0, 0, 0, 0);
    let mut each = Vec::new();
    let mut command = [0; 64];
    for n in 0..COMMANDS {
        server.receive(&mut ours, &mut command);
        let fresh = if n % 5 == 0 { 3 } else { 0 };
        let work = || {
            pages.touch(fresh);
            spin(5_000);
        };
        let (counts, measured, inside_ns, plain) =
            server.command(work, || ours.write_all(b"answer").unwrap());
        let cpu_ns = counts.get(CPU_NS).expect("always known");
        assert!(cpu_ns <= inside_ns, "{cpu_ns} of {inside_ns}");
        // The plain readings are inside of ours, and what they cost is in ours only.
        more_ns += cpu_ns as i64 - plain.cpu_ns as i64;
        each.push(cpu_ns as i64 - plain.cpu_ns as i64);
        faults += counts.get(PAGE_FAULTS_MINOR).unwrap() - plain.usage.page_faults_minor;
        for (id, plain) in [
            (SWITCHES_VOLUNTARY, plain.usage.switches_voluntary),
            (SWITCHES_INVOLUNTARY, plain.usage.switches_involuntary),
        ] {
            let ours = counts.get(id).expect("always known");
            // A switch in our own reading is rare.
            assert!(ours >= plain && ours <= plain + 2, "counter {id}: {ours}, plainly {plain}");
        }
        free += u32::from(measured.cpu_for_free);
        more_switches += counts.get(SWITCHES_VOLUNTARY).unwrap() + counts.get(SWITCHES_INVOLUNTARY).unwrap()
            - plain.usage.switches_voluntary
            - plain.usage.switches_involuntary;
    }
    drop(ours);
    running.join().unwrap();
    let mean_ns = more_ns / i64::from(COMMANDS);
    each.sort_unstable();
    println!(
        "{client:?} {:?} asked {:?}",
        [1, 5, 25, 50, 75, 95, 99].map(|p| each[each.len() * p / 100]),
        server.thread.measuring.account
    );
    println!(
        "{client:?}: CPU time is {mean_ns} ns more and faults {faults} and switches {more_switches} in all; of {COMMANDS} commands {free} had their \
         CPU time for free, {} began with a reading, {} sent their answer unwatched",
        server.read_at_start, server.unwatched
    );
    assert!((-200..4_000).contains(&mean_ns), "{mean_ns} ns more than plainly");
    // Who chooses is not told of waits, and so can't tell one gap from another.
    assert!(budget_ppm == 0 || server.assumed == 0, "{} starts were assumed within a budget", server.assumed);
    assert!(faults < 20, "{faults} faults more than plainly");
    assert!(more_switches < u64::from(COMMANDS) / 100, "{more_switches} switches more than plainly");
    COMMANDS - server.read_at_start
}

#[test]
fn the_record_that_follows_a_priced_reading_is_a_part_of_its_price() {
    const LONG_NS: u64 = 1_000_000;
    let mut thread = Thread::new();
    let mut price_after = |readings| {
        (thread.measuring.readings, thread.measuring.end_price_ns) = (readings, 1);
        let ended_ns = thread.now_ns() - LONG_NS;
        thread.price_record(ended_ns);
        thread.measuring.end_price_ns
    };
    // The first reading was priced, and the ninth; the second was not.
    assert!(price_after(1) >= LONG_NS && price_after(9) >= LONG_NS);
    assert_eq!((price_after(2), price_after(8)), (1, 1));
}

#[test]
fn what_is_known_without_a_reading_agrees_with_the_plain_readings() {
    let watched = look_up();
    // Threads of their own, which can be put on one CPU and forgotten.
    let without = [Client::Polls, Client::Blocks, Client::Thinks]
        .map(|client| thread::spawn(move || compare(client, 0)).join().unwrap());
    let all_chosen = 1_000_000;
    thread::spawn(move || compare(Client::Blocks, all_chosen)).join().unwrap();
    if watched {
        assert!(without.iter().sum::<u32>() > 100, "nothing was ever carried over: {without:?}");
    } else {
        eprintln!("no rseq area here (glibc before 2.35, or valgrind): everything was read");
        assert_eq!(without, [0; 3]);
    }
}

#[test]
fn a_thread_that_is_always_switched_is_hardly_watched_and_one_that_is_not_has_its_time_for_free_again() {
    if !look_up() {
        return eprintln!("skipped: no rseq area here (glibc before 2.35, or valgrind)");
    }
    let mut thread = Thread::new();
    thread.wanted = Wanted { mask: CHEAP_MASK, ..Wanted::NOTHING };
    thread.generation = 1;
    let mut command = |work: &dyn Fn()| {
        let start_ns = thread.begin_command(false);
        work();
        let now_ns = monotonic_ns();
        let free = thread.end_work(false, now_ns, now_ns - start_ns).cpu_for_free;
        (thread.is_watched(), u32::from(free))
    };
    let nap = || thread::sleep(Duration::from_micros(1));
    let switched: Vec<_> = (0..320).map(|_| command(&nap)).collect();
    let watched = switched.iter().filter(|(watched, _)| *watched).count();
    assert_eq!(switched.iter().map(|(_, free)| free).sum::<u32>(), 0, "a sleep is a switch");
    assert!((8..=14).contains(&watched), "one of 64, and a few at first: {watched}");
    let free: u32 = (0..3_000).map(|_| command(&|| spin(100)).1).sum();
    assert!(free > 2_700, "{free} of 3000");
}

#[test]
fn what_only_a_chosen_execution_is_watched_for_stands_for_those_that_were_not() {
    if !look_up() {
        return eprintln!("skipped: no rseq area here (glibc before 2.35, or valgrind)");
    }
    let mut thread = Thread::new();
    thread.wanted = Wanted { mask: CHEAP_MASK, ..Wanted::NOTHING };
    thread.generation = 1;
    let mut exact = 0;
    for _ in 0..50 {
        // Until it is given up to watch, and not so long that it is tried again.
        for _ in 0..10 {
            thread.begin_command(false);
            thread::sleep(Duration::from_micros(1));
            let now_ns = monotonic_ns();
            thread.end_work(false, now_ns, 1_000);
        }
        let unwatched = !thread.is_watched();
        let start_ns = thread.begin_command(true);
        let now_ns = monotonic_ns();
        let measured = thread.end_work(true, now_ns, now_ns - start_ns);
        assert!(thread.counts.get(CPU_NS).is_some(), "it was chosen");
        // Once more unswitched and not chosen: now it is watched for, whoever is chosen.
        exact += u32::from(unwatched && measured.cpu_for_free && measured.exact != 0);
    }
    assert_eq!(exact, 0, "with weight 1 they would stand for themselves only");
}
