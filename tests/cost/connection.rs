//! A connection that runs bursts of the workloads and times each query.

use crate::rounds::Burst;
use harness::wire::Wire;
use std::time::Instant;

/// A connection with one encoded command per workload.
pub struct Connection {
    /// The client.
    pub client: Box<dyn Wire>,
    /// By workload.
    pub commands: Vec<Vec<u8>>,
}

impl Burst for Connection {
    fn burst(&mut self, workload: usize, count: usize) -> Vec<f64> {
        let command = &self.commands[workload];
        let mut times = Vec::with_capacity(count);
        // The first few find the caches as the previous server left them.
        (0..count / 10 + 1).for_each(|_| self.client.exchange(command));
        for _ in 0..count {
            let started = Instant::now();
            self.client.exchange(command);
            times.push(started.elapsed().as_nanos() as f64);
        }
        times
    }
}
