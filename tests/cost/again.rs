//! Off again: what a session pays that had perf events, beside another one of the same server that never had any.
//!
//! The kernel keeps a thread's account of its events when they are closed, so the session is not what it was. Two sessions of
//! one server differ, too, by their places in memory: by how much is measured before the first event, and taken out.

use crate::rounds::{Measured, measure};
use crate::settings::{AGAIN, BYPASSED, KERNEL_FORGETS, WITH_EVENTS};
use crate::statistics::Random;
use crate::switching::{Park, State, wanted_by};
use harness::numbers::median;
use harness::proc;

/// The session that gets events, and the one that does not.
const WITH: usize = 0;
const WITHOUT: usize = 1;

/// Name of the session with events and without hooks: the kernel's part.
const HAD_EVENTS: &str = "hooks bypassed, after 6 perf events";

/// The rounds of one server, the session without events as the base; why there are none else. Once for a server.
pub fn rounds(
    park: &mut Park,
    workload: usize,
    queries: usize,
    rounds: usize,
    random: &mut Random,
) -> Result<Measured, String> {
    let mut sides =
        vec![park.side(BYPASSED, WITHOUT, State::Bypassed), park.side(BYPASSED, WITH, State::Bypassed)];
    let before = measure(&mut sides, workload, queries, rounds, random);
    let place = ratio(&before.rounds[0], &before.rounds[2]);

    let mut counted = park.side("counted", WITH, State::On(wanted_by(&WITH_EVENTS)));
    drop(counted.connection.burst(workload, 1000));
    if open_events(park.pid()) == 0 {
        return Err("no perf events could be opened".to_owned());
    }
    let mut off = park.side(AGAIN, WITH, State::Off);
    drop(off.connection.burst(workload, 10));
    match open_events(park.pid()) {
        0 => std::thread::sleep(KERNEL_FORGETS),
        left => return Err(format!("{left} perf events stay open while capture is off")),
    }

    let mut sides = vec![
        park.side(BYPASSED, WITHOUT, State::Bypassed),
        park.side(HAD_EVENTS, WITH, State::Bypassed),
        park.side("loaded, off", WITHOUT, State::Off),
        off,
    ];
    let mut after = measure(&mut sides, workload, queries, rounds, random);
    for (name, values) in after.settings.iter().zip(&mut after.rounds) {
        if [HAD_EVENTS, AGAIN].contains(&name.as_str()) {
            values.iter_mut().for_each(|ns| *ns *= place);
        }
    }
    Ok(after)
}

/// So many times the second's time is the first's, in the median of rounds.
fn ratio(first: &[f64], second: &[f64]) -> f64 {
    median(&first.iter().zip(second).map(|(a, b)| a / b).collect::<Vec<_>>())
}

/// The perf events of a server's processes.
fn open_events(pid: u32) -> usize {
    let processes = std::iter::once(pid).chain(proc::children(pid));
    let links = processes.flat_map(proc::descriptors);
    links.filter(|(_, target)| target.contains("perf_event")).count()
}
