//! The only place that reads a clock.
//!
//! The ledger's times are the database's (S6). What is left for this machine is how long a confirmation may be trusted
//! (S2), and that is measured on a clock that also counts suspension: a machine that slept must not wake up with a
//! confirmation that it believes to be fresh. `std::time::Instant` stops during suspension, so it is not used.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

/// Tells the time since the machine was started, suspension included.
pub trait Clock: Send + Sync {
    /// Time since boot; never goes back.
    fn since_boot(&self) -> Duration;
}

/// The machine's clock (`CLOCK_BOOTTIME`).
#[derive(Debug, Clone, Copy, Default)]
pub struct MachineClock;

impl Clock for MachineClock {
    fn since_boot(&self) -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let nanoseconds = u32::try_from(now.tv_nsec).unwrap_or(0);
        Duration::new(seconds, nanoseconds)
    }
}

/// A moment on a [`Clock`].
#[derive(Clone)]
pub struct Deadline {
    at: Duration,
    clock: Arc<dyn Clock>,
}

impl Deadline {
    /// `at` is counted since boot.
    pub fn new(at: Duration, clock: Arc<dyn Clock>) -> Self {
        Self { at, clock }
    }

    /// True from that moment on.
    pub fn is_over(&self) -> bool {
        self.clock.since_boot() >= self.at
    }

    /// Zero once it is over.
    pub fn time_left(&self) -> Duration {
        self.at.saturating_sub(self.clock.since_boot())
    }
}

impl fmt::Debug for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deadline").field("at", &self.at).finish()
    }
}

/// The wall clock of this machine, for schedules and logs only: what is decided on is the database's time.
#[expect(clippy::disallowed_methods, reason = "this is its one place")]
pub fn wall() -> DateTime<Utc> {
    Utc::now()
}
