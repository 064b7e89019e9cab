//! The fast side: a thread that empties the rings and shows that the collector lives.

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, bounded};
use perquery_agent::counters::Wanted;
use perquery_agent::segment::reader::{Mapping, drain, now_ns};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Records, one after another.
pub struct Message(pub Vec<u64>);

/// Words of a message: 256 KiB, about 800 executions.
const MESSAGE_WORDS: usize = 1 << 15;
/// Messages that may wait: 8 MiB.
const MESSAGES: usize = 32;
/// Records wait for so many others of their message before it goes …
const SENT_WORDS: usize = MESSAGE_WORDS / 4 * 3;
/// … but no longer than this.
const SENT_AFTER_NS: u64 = 100_000_000;
/// The pause between two passes is at most this. A lane holds 50 ms of a thread at full speed.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
/// A pass should find so much of the fullest ring full: whoever wakes up for less disturbs the servers more, because a
/// processor that wakes up is felt by the others.
const WANTED_PERMILLE: u32 = 150;

/// What the thread found out.
#[derive(Default)]
pub struct Drained {
    /// Rings that made no sense.
    pub corrupt: u64,
    /// For how long capture was off although it should have been on.
    pub gap_ns: u64,
    /// Lanes that carried something.
    pub lanes: Vec<usize>,
}

/// The thread.
pub struct Drain {
    stop: Arc<AtomicBool>,
    messages: Receiver<Message>,
    thread: JoinHandle<Drained>,
}

impl Drain {
    /// Switches capture on, unless a launcher has done so (`is_on`), and starts the thread.
    pub fn start(mapping: Arc<Mapping>, wanted: Wanted, is_on: bool) -> Drain {
        let stop = Arc::new(AtomicBool::new(false));
        let (to, messages) = bounded(MESSAGES);
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || run(&mapping, &wanted, is_on, &stopped, &to));
        Drain { stop, messages, thread }
    }

    /// What the rings carried. Ends when the thread does.
    pub fn messages(&self) -> &Receiver<Message> {
        &self.messages
    }

    /// Switches capture off and lets the thread take the rest. [`messages`](Self::messages) must be read to their end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Waits for the thread's end.
    pub fn join(self) -> Drained {
        self.thread.join().unwrap_or_default()
    }
}

fn run(mapping: &Mapping, wanted: &Wanted, is_on: bool, stop: &AtomicBool, to: &Sender<Message>) -> Drained {
    let mut found = Drained::default();
    let mut lanes = BTreeSet::new();
    let mut words = Vec::with_capacity(MESSAGE_WORDS);
    let mut pause = SHORTEST_PAUSE;
    let mut last_beat_ns = now_ns();
    let mut oldest_ns = last_beat_ns;
    // What an earlier capture left in the rings is nobody's any more.
    if let Ok(segment) = mapping.segment()
        && !is_on
    {
        drain(&segment, |_, _| ());
        segment.control().switch_on(wanted, now_ns());
    }
    // Passes left after capture was switched off: queries that were being answered then are still coming.
    let mut passes_left = 8;
    while let Ok(segment) = mapping.segment() {
        let stopping = stop.load(Ordering::Acquire);
        let control = segment.control();
        let now = now_ns();
        if stopping {
            control.switch_off();
            if passes_left == 0 {
                break;
            }
            passes_left -= 1;
        } else if control.capture() == 0 {
            // We were silent for too long (stopped, starved) and the agent switched off.
            found.gap_ns += now.saturating_sub(last_beat_ns);
            control.switch_on(wanted, now);
        }
        control.beat(now);
        last_beat_ns = now;
        let drained = drain(&segment, |lane, record| {
            if words.len() + record.len() > MESSAGE_WORDS {
                send(&segment, to, &mut words);
            }
            if words.is_empty() {
                oldest_ns = now;
            }
            words.extend_from_slice(record);
            lanes.insert(lane);
        });
        found.corrupt += drained.corrupt as u64;
        let waited_ns = now.saturating_sub(oldest_ns);
        if words.len() >= SENT_WORDS || !words.is_empty() && (stopping || waited_ns >= SENT_AFTER_NS) {
            send(&segment, to, &mut words);
        }
        pause = if stopping { SHORTEST_PAUSE * 5 } else { next_pause(pause, drained.fullest_permille) };
        // Of a ring that is nearly full no millisecond is to be lost.
        if drained.fullest_permille < 500 || stopping {
            thread::sleep(pause);
        }
    }
    // Where the segment made no sense any more, what was taken out of it before still counts.
    if !words.is_empty() {
        let _ = to.send(Message(words));
    }
    found.lanes = lanes.into_iter().collect();
    found
}

/// How long to wait for the next pass, where the one after a pause of `last` found so much of the fullest ring full.
fn next_pause(last: Duration, permille: u32) -> Duration {
    let ready = last.saturating_mul(WANTED_PERMILLE) / permille.max(1);
    // A load that grows is followed at once, one that goes away step by step.
    ready.min(last * 2).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
}

/// Hands the records over; while the other side is behind, the agent still sees that we live.
fn send(segment: &perquery_agent::segment::Segment<'_>, to: &Sender<Message>, words: &mut Vec<u64>) {
    let mut message = Message(std::mem::replace(words, Vec::with_capacity(MESSAGE_WORDS)));
    while let Err(SendTimeoutError::Timeout(back)) = to.send_timeout(message, Duration::from_millis(200)) {
        segment.control().beat(now_ns());
        message = back;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_follows_a_load_and_is_never_so_long_that_a_ring_could_overflow() {
        let mut pause = SHORTEST_PAUSE;
        for _ in 0..10 {
            pause = next_pause(pause, 0);
        }
        assert_eq!(pause, LONGEST_PAUSE);
        // Full speed: 20 permille of a ring in each millisecond.
        for _ in 0..3 {
            pause = next_pause(pause, pause.as_millis() as u32 * 20);
            assert!((5..9).contains(&pause.as_millis()), "{pause:?}");
        }
        assert!(next_pause(pause, 1000) < SHORTEST_PAUSE * 2);
    }
}
