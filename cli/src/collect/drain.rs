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
/// The pause after a pass that found nothing grows up to this. A lane holds 50 ms of a thread at full speed.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

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
            words.extend_from_slice(record);
            lanes.insert(lane);
        });
        found.corrupt += drained.corrupt as u64;
        if !words.is_empty() {
            send(&segment, to, &mut words);
        }
        pause = match drained.records {
            0 if stopping => SHORTEST_PAUSE * 5,
            0 => (pause * 2).min(LONGEST_PAUSE),
            _ if drained.fullest_percent >= 5 => Duration::ZERO,
            _ => SHORTEST_PAUSE * 4,
        };
        if !pause.is_zero() {
            thread::sleep(pause);
        }
        pause = pause.max(SHORTEST_PAUSE);
    }
    found.lanes = lanes.into_iter().collect();
    found
}

/// Hands the records over; while the other side is behind, the agent still sees that we live.
fn send(segment: &perquery_agent::segment::Segment<'_>, to: &Sender<Message>, words: &mut Vec<u64>) {
    let mut message = Message(std::mem::replace(words, Vec::with_capacity(MESSAGE_WORDS)));
    while let Err(SendTimeoutError::Timeout(back)) = to.send_timeout(message, Duration::from_millis(200)) {
        segment.control().beat(now_ns());
        message = back;
    }
}
