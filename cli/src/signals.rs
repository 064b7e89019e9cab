//! Signals that end a collection, and those that a launcher passes on.

use crate::error::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::flag;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// True once a signal asked us to end.
pub struct Ending(Arc<AtomicBool>);

impl Ending {
    /// Watches for ^C, SIGTERM and SIGHUP. The second one ends the process at once.
    pub fn watch() -> Result<Ending> {
        let ending = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP, SIGQUIT] {
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&ending))
                .and_then(|_| flag::register(signal, Arc::clone(&ending)))
                .context(|| format!("signal {signal} can't be watched"))?;
        }
        Ok(Ending(ending))
    }

    /// True once a signal came.
    pub fn has_come(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
