//! Costs that reach the collector apart from their execution: slices of other threads, and parallel workers.
//!
//! A part may come before or after its execution, because each thread has a lane of its own. What waits is bounded;
//! what is pushed out or never finds its execution is counted as unmatched.

use super::row::Values;
use super::table::{HashedMap, combined};
use perquery_agent::protocol::Dialect;
use perquery_agent::segment::record::{Execution, FLAG_MOVED};
use std::collections::VecDeque;

/// Units whose slices wait for them, and units that wait for slices.
const UNITS_MAX: usize = 16 * 1024;
/// Workers that wait for their leader's execution.
const WORKERS_MAX: usize = 4 * 1024;
/// PostgreSQL processes whose latest executions are remembered.
const PROCESSES_MAX: usize = 4 * 1024;
/// Executions remembered of each of them.
const RECENT_MAX: usize = 4;

/// The number of a row in the aggregator.
pub type RowNumber = u32;

/// What was found for a part.
pub enum Home {
    /// The execution was there before: add to this row.
    Row(RowNumber),
    /// Not yet, or never.
    Waiting,
}

#[derive(Clone, Copy, Default)]
struct Recent {
    start_ns: u64,
    end_ns: u64,
    row: RowNumber,
}

impl Recent {
    fn overlaps(&self, start_ns: u64, end_ns: u64) -> bool {
        start_ns <= self.end_ns && self.start_ns <= end_ns
    }
}

struct Worker {
    leader: u64,
    start_ns: u64,
    end_ns: u64,
    values: Values,
}

/// Parts and executions that wait for each other.
#[derive(Default)]
pub struct Parts {
    slices: HashedMap<(Values, u64)>,
    slice_order: VecDeque<u64>,
    moved: HashedMap<RowNumber>,
    moved_order: VecDeque<u64>,
    workers: VecDeque<Worker>,
    recent: HashedMap<VecDeque<Recent>>,
    unmatched: u64,
}

fn unit_key(server: u16, e: &Execution) -> u64 {
    combined(&[server.into(), e.session_uid, e.unit.into()])
}

fn end_ns(e: &Execution) -> u64 {
    e.start_ns.saturating_add(e.latency_ns)
}

/// The known counters of a record.
pub fn values_of(e: &Execution) -> Values {
    (0..64).filter_map(|id| e.counts.get(id).map(|value| (id, value))).collect()
}

fn add(to: &mut Values, from: &Values) {
    for (id, value) in from {
        match to.iter_mut().find(|(known, _)| known == id) {
            Some((_, sum)) => *sum = sum.saturating_add(*value),
            None => to.push((*id, *value)),
        }
    }
}

impl Parts {
    /// Takes what waited for `e`; `None` in the ordinary case that nothing did.
    pub fn take(&mut self, server: u16, e: &Execution) -> Option<Values> {
        let mut found = Values::new();
        if !self.slices.is_empty()
            && let Some((values, _)) = self.slices.remove(&unit_key(server, e))
        {
            add(&mut found, &values);
        }
        if e.dialect == Dialect::Postgres && !self.workers.is_empty() {
            let leader = combined(&[server.into(), e.tid.into()]);
            let unit = Recent { start_ns: e.start_ns, end_ns: end_ns(e), row: 0 };
            let unmatched = &mut self.unmatched;
            self.workers.retain(|worker| {
                if worker.leader != leader {
                    return true;
                }
                if unit.overlaps(worker.start_ns, worker.end_ns) {
                    add(&mut found, &worker.values);
                    return false;
                }
                // A process's executions come in order: the one of an earlier worker was lost.
                let lost = worker.end_ns < unit.start_ns;
                *unmatched += u64::from(lost);
                !lost
            });
        }
        (!found.is_empty()).then_some(found)
    }

    /// Remembers where `e` was counted, if parts of it may follow.
    pub fn remember(&mut self, server: u16, e: &Execution, row: RowNumber) {
        if e.flags & FLAG_MOVED != 0 {
            let key = unit_key(server, e);
            if self.moved.insert(key, row).is_none() {
                self.moved_order.push_back(key);
            }
            while self.moved_order.len() > UNITS_MAX {
                if let Some(oldest) = self.moved_order.pop_front() {
                    self.moved.remove(&oldest);
                }
            }
        }
        if e.dialect == Dialect::Postgres {
            if self.recent.len() >= PROCESSES_MAX {
                self.recent.clear();
            }
            let recent = self.recent.entry(combined(&[server.into(), e.tid.into()])).or_default();
            if recent.len() >= RECENT_MAX {
                recent.pop_front();
            }
            recent.push_back(Recent { start_ns: e.start_ns, end_ns: end_ns(e), row });
        }
    }

    /// Finds the row of a slice's execution, or keeps the slice until the execution comes.
    pub fn slice(&mut self, server: u16, slice: &Execution) -> Home {
        let key = unit_key(server, slice);
        if let Some(row) = self.moved.get(&key) {
            return Home::Row(*row);
        }
        let (values, slices) = self.slices.entry(key).or_insert_with(|| {
            self.slice_order.push_back(key);
            (Values::new(), 0)
        });
        add(values, &values_of(slice));
        *slices += 1;
        while self.slice_order.len() > UNITS_MAX {
            // Those that found their execution are gone from the table but not from the order.
            if let Some((_, slices)) =
                self.slice_order.pop_front().and_then(|oldest| self.slices.remove(&oldest))
            {
                self.unmatched += slices;
            }
        }
        Home::Waiting
    }

    /// Finds the row of the leader's execution, or keeps the worker until it comes.
    pub fn worker(&mut self, server: u16, worker: &Execution) -> Home {
        let leader = combined(&[server.into(), worker.session_uid]);
        let (start_ns, end_ns) = (worker.start_ns, end_ns(worker));
        if let Some(recent) = self.recent.get(&leader)
            && let Some(unit) = recent.iter().rev().find(|unit| unit.overlaps(start_ns, end_ns))
        {
            return Home::Row(unit.row);
        }
        if self.workers.len() >= WORKERS_MAX {
            self.workers.pop_front();
            self.unmatched += 1;
        }
        self.workers.push_back(Worker { leader, start_ns, end_ns, values: values_of(worker) });
        Home::Waiting
    }

    /// Parts without an execution, those included that still wait.
    pub fn unmatched(&self) -> u64 {
        self.unmatched
            + self.workers.len() as u64
            + self.slices.values().map(|(_, slices)| slices).sum::<u64>()
    }
}
