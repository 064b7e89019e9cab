//! One collector per server.

use crate::error::{Error, Result};
use crate::find::start_ticks;
use perquery_agent::segment::reader::Mapping;
use std::sync::Arc;

/// The right to collect from a segment; given back when dropped.
pub struct Claim {
    mapping: Arc<Mapping>,
}

impl Claim {
    /// Claims the segment of process `server`, unless a living collector has it.
    pub fn take(mapping: Arc<Mapping>, server: u32) -> Result<Claim> {
        let us = std::process::id();
        let claimed = {
            let segment = mapping.segment().map_err(|e| Error::new(e.to_string()))?;
            let control = segment.control();
            let (pid, start) = control.collector();
            // A pid that was given to another process since has another start time.
            if pid != 0 && pid != us && start_ticks(pid) == Some(start) {
                return Err(Error::new(format!(
                    "process {server} is being recorded by perquery, process {pid}; end that one first (kill -INT {pid})"
                )));
            }
            control.claim(pid, us, start_ticks(us).unwrap_or(0))
        };
        if !claimed {
            return Err(Error::new(format!(
                "another perquery has just begun to record process {server}; end that one first"
            )));
        }
        Ok(Claim { mapping })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Ok(segment) = self.mapping.segment() {
            segment.control().unclaim(std::process::id());
        }
    }
}
