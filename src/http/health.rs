//! How the serve loop is, as it says itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Clock;

/// The loop stamps a heartbeat each second, also while a run is under way (but not while the last one ends, which takes
/// less than this). Without one for so long, it hangs.
pub const HEARTBEAT_WITHIN: Duration = Duration::from_secs(30);
/// Each call of a run has its own timeout, so that even a slow run goes on; after a day, something is wrong.
pub const RUN_WITHIN: Duration = Duration::from_secs(24 * 60 * 60);

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unwell {
    /// The loop hangs.
    #[error("the serve loop gave no sign for {} s (limit {} s)", .0.as_secs(), HEARTBEAT_WITHIN.as_secs())]
    Silent(Duration),
    /// A run does not end.
    #[error("a run has been under way for {} s (limit {} s)", .0.as_secs(), RUN_WITHIN.as_secs())]
    Endless(Duration),
    /// The ledger has not been looked at yet.
    #[error("the ledger has not been looked at yet")]
    Starting,
    /// The ledger cannot be used.
    #[error("the ledger cannot be used: {0}")]
    Ledger(String),
    /// It was asked to stop.
    #[error("shutting down")]
    Stopping,
}

/// What the loop says of itself. Times are since boot, suspension included.
#[derive(Debug, Clone)]
struct State {
    heartbeat: Duration,
    /// When the run under way began.
    run: Option<Duration>,
    ready: Result<(), Unwell>,
    stopping: bool,
}

impl State {
    fn alive(&self, now: Duration) -> Result<(), Unwell> {
        let silent = now.saturating_sub(self.heartbeat);
        let running = self.run.map_or(Duration::ZERO, |began| now.saturating_sub(began));
        if silent > HEARTBEAT_WITHIN {
            Err(Unwell::Silent(silent))
        } else if running > RUN_WITHIN {
            Err(Unwell::Endless(running))
        } else {
            Ok(())
        }
    }
}

/// Where the serve loop says how it is, and where probes look.
pub struct Health {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

impl Health {
    /// Of a loop that has just started.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let state = State { heartbeat: clock.since_boot(), run: None, ready: Err(Unwell::Starting), stopping: false };
        Self { clock, state: Mutex::new(state) }
    }

    /// The loop makes progress.
    pub fn beat(&self) {
        self.lock().heartbeat = self.clock.since_boot();
    }

    /// A run begins.
    pub fn run_began(&self) {
        self.lock().run = Some(self.clock.since_boot());
    }

    /// The run under way has ended, however it did.
    pub fn run_ended(&self) {
        self.lock().run = None;
    }

    /// Whether work can be done.
    pub fn set_ready(&self, ready: Result<(), Unwell>) {
        self.lock().ready = ready;
    }

    /// It was asked to stop: from now on nothing makes it ready.
    pub fn stop(&self) {
        self.lock().stopping = true;
    }

    /// Whether the loop makes progress.
    ///
    /// # Errors
    /// Why it is to be restarted.
    pub fn alive(&self) -> Result<(), Unwell> {
        self.lock().alive(self.clock.since_boot())
    }

    /// Whether work can be done.
    ///
    /// # Errors
    /// What is missing.
    pub fn ready(&self) -> Result<(), Unwell> {
        let state = self.lock();
        if state.stopping { Err(Unwell::Stopping) } else { state.ready.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What is in it is whole after each assignment, so a panic elsewhere spoils nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn state(run: Option<Duration>) -> State {
        State { heartbeat: 100 * SECOND, run, ready: Err(Unwell::Starting), stopping: false }
    }

    #[test]
    fn alive_while_heartbeats_come() {
        assert_eq!(state(None).alive(100 * SECOND + HEARTBEAT_WITHIN), Ok(()));
        let late = HEARTBEAT_WITHIN + SECOND;
        assert_eq!(state(None).alive(100 * SECOND + late), Err(Unwell::Silent(late)));
    }

    #[test]
    fn alive_through_a_long_run_but_not_an_endless_one() {
        let alive = |running: Duration| {
            let now = RUN_WITHIN * 2;
            State { heartbeat: now, run: Some(now - running), ready: Ok(()), stopping: false }.alive(now)
        };
        assert_eq!(alive(RUN_WITHIN), Ok(()));
        assert_eq!(alive(RUN_WITHIN + SECOND), Err(Unwell::Endless(RUN_WITHIN + SECOND)));
    }

    #[test]
    fn a_clock_read_late_is_no_silence() {
        assert_eq!(state(Some(101 * SECOND)).alive(99 * SECOND), Ok(()));
    }

    #[test]
    fn reasons_say_numbers() {
        assert_eq!(Unwell::Silent(31 * SECOND).to_string(), "the serve loop gave no sign for 31 s (limit 30 s)");
    }
}
