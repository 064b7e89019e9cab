//! Queries per second with 8 clients at full speed, in turns: not loaded, off, on. Clients and servers share one CPU, so
//! that all of it is work and nothing is waking up sleeping CPUs. And what the collector needed for that.

use crate::connection::Connection;
use crate::servers::Park;
use crate::settings::{BASE, DEFAULT};
use crate::statistics::{Estimate, Random, bootstrap};
use harness::numbers::median;
use std::time::{Duration, Instant};

const CLIENTS: usize = 8;
const TURN: Duration = Duration::from_millis(400);

/// What came out.
pub struct Throughput {
    /// Clients at a time.
    pub clients: usize,
    /// Queries per second and their ratio to the first, in percent, by setting.
    pub settings: Vec<(&'static str, f64, Estimate)>,
    /// CPU time of the collector per million executions; with the default setting.
    pub collector_cpu_ns_per_million: Option<f64>,
}

/// Runs the turns. None unless the settings for it were started.
pub fn measure(park: &Park, turns: usize, random: &mut Random) -> Option<Throughput> {
    let settings = [BASE, "loaded, off", DEFAULT];
    let mut clients: Vec<Vec<Connection>> =
        settings.iter().map(|setting| park.clients(setting, CLIENTS)).collect::<Option<_>>()?;
    let recorder = park.recorder(DEFAULT)?;
    let mut per_second = vec![Vec::new(); settings.len()];
    let mut order: Vec<usize> = (0..settings.len()).collect();
    let (mut executions, cpu_before) = (0, recorder.cpu_ns());
    for turn in 0..turns + 1 {
        random.shuffle(&mut order);
        for &at in &order {
            let (count, seconds) = run(&mut clients[at]);
            executions += if at == 2 { count } else { 0 };
            // The first turn warms up.
            if turn > 0 {
                per_second[at].push(count as f64 / seconds);
            }
        }
    }
    let cpu_ns = recorder.cpu_ns() - cpu_before;
    let base = per_second[0].clone();
    let mut rows = Vec::new();
    for (setting, values) in settings.into_iter().zip(&per_second) {
        let ratios: Vec<f64> = values.iter().zip(&base).map(|(v, b)| 100.0 * (v / b - 1.0)).collect();
        rows.push((setting, median(values), bootstrap(&ratios, &[], random, median)));
    }
    Some(Throughput {
        clients: CLIENTS,
        settings: rows,
        collector_cpu_ns_per_million: (executions > 0).then(|| cpu_ns as f64 * 1e6 / executions as f64),
    })
}

/// One turn: all clients until the time is over.
fn run(clients: &mut [Connection]) -> (u64, f64) {
    let started = Instant::now();
    let counts: u64 = std::thread::scope(|scope| {
        let workers: Vec<_> = clients
            .iter_mut()
            .map(|connection| {
                scope.spawn(move || {
                    let command = &connection.commands[0];
                    let mut count = 0;
                    while started.elapsed() < TURN {
                        connection.client.exchange(command);
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("a client lives")).sum()
    });
    (counts, started.elapsed().as_secs_f64())
}
