//! Blocking work under watch: it may take long, but not stand still.
//!
//! A call on a file system cannot be given a timeout. So it runs on a blocking thread and beats a pulse with every entry
//! that it sees; whoever waits for it gives up when the pulse stood still for the store's `call_timeout` (a server
//! behind the mount that does not answer), and work that nobody waits for any more ends at its next beat.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::io::Errno;

use crate::clock::Deadline;
use crate::stores::StoreError;

/// Why blocking work ended early.
#[derive(Debug)]
pub(super) enum Fault {
    /// The file system refused.
    Io {
        /// What was being done, with the path below the root.
        action: String,
        errno: Errno,
    },
    /// Something is there that should not be, in words.
    Unusable(String),
    /// Nobody waits for it.
    Stopped,
}

impl Fault {
    /// An error while `doing` something with `path`, relative to the root.
    pub fn at(doing: &'static str, path: &[u8]) -> impl Fn(Errno) -> Self {
        move |errno| {
            let hint = match errno {
                Errno::ACCESS | Errno::PERM => "; the collector's user needs to read, search and write what it cleans",
                Errno::OPNOTSUPP => "; mount ids are needed (Linux 5.8 or newer)",
                Errno::XDEV => "; something is mounted there",
                _ => "",
            };
            Self::Io { action: format!("cannot {doing} `{}`{hint}", path.escape_ascii()), errno }
        }
    }

    /// In words, with its cause.
    pub fn explain(&self) -> String {
        match self {
            Self::Io { action, errno } => format!("{action}: {errno}"),
            Self::Unusable(why) => why.clone(),
            Self::Stopped => StoreError::Stopped.to_string(),
        }
    }

    /// As an error of the store at `root`.
    pub fn of(self, root: &str) -> StoreError {
        match self {
            Self::Io { action, errno } => StoreError::server(format!("files root {root}: {action}"), errno),
            Self::Unusable(why) => StoreError::Unusable(format!("files root {root}: {why}")),
            Self::Stopped => StoreError::Stopped,
        }
    }
}

/// What the working side holds.
#[derive(Debug, Clone, Default)]
pub(super) struct Pulse(Arc<State>);

#[derive(Debug, Default)]
struct State {
    beats: AtomicU64,
    stopped: AtomicBool,
    /// Until when something may be moved or removed; for ever, if nothing was said.
    good: Option<Deadline>,
}

impl Pulse {
    /// Tells that the work goes on; an error if it need not.
    pub fn beat(&self) -> Result<(), Fault> {
        self.0.beats.fetch_add(1, Ordering::Relaxed);
        self.still_wanted()
    }

    /// False once the confirmation on whose account something goes is too old (S2).
    pub fn is_good(&self) -> bool {
        self.0.good.as_ref().is_none_or(|good| !good.is_over())
    }

    /// Tells that the work goes on, right before something is moved or removed; an error if it need not, false if it may not any more.
    pub fn may_begin(&self) -> Result<bool, Fault> {
        self.beat()?;
        Ok(self.is_good())
    }

    /// An error if the work need not go on; tells nothing.
    pub fn still_wanted(&self) -> Result<(), Fault> {
        if self.0.stopped.load(Ordering::Relaxed) { Err(Fault::Stopped) } else { Ok(()) }
    }
}

/// What the waiting side holds; dropping it stops the work.
#[derive(Debug)]
pub(super) struct Watch {
    pulse: Pulse,
    limit: Duration,
}

impl Watch {
    pub fn new(limit: Duration) -> Self {
        Self { pulse: Pulse::default(), limit }
    }

    /// Over what may go on only as long as a confirmation is good. Nothing is waited for after that, but work that gives signs of
    /// life: it ends by itself.
    pub fn while_good(limit: Duration, good: Deadline) -> Self {
        Self::begun_while_good(limit.min(good.time_left()), good)
    }

    /// Over what is not begun any more once a confirmation is too old, and otherwise goes on to its end.
    pub fn begun_while_good(limit: Duration, good: Deadline) -> Self {
        Self { pulse: Pulse(Arc::new(State { good: Some(good), ..State::default() })), limit }
    }

    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// Waits for `work` as long as the pulse beats. `action` says what is being done, for the error.
    pub async fn over<T>(&self, action: &str, work: impl Future<Output = T>) -> Result<T, StoreError> {
        let mut work = pin!(work);
        loop {
            let before = self.pulse.0.beats.load(Ordering::Relaxed);
            match tokio::time::timeout(self.limit, &mut work).await {
                Ok(done) => return Ok(done),
                Err(_) if self.pulse.0.beats.load(Ordering::Relaxed) != before => {}
                Err(_) => {
                    return Err(StoreError::Timeout { action: action.to_owned(), seconds: self.limit.as_secs_f64() });
                }
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.pulse.0.stopped.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn s4_work_that_stands_still_is_given_up() {
        let watch = Watch::new(Duration::from_millis(20));
        let given_up = watch.over("list", std::future::pending::<()>()).await;
        assert!(matches!(given_up, Err(StoreError::Timeout { action, .. }) if action == "list"));
        let pulse = watch.pulse();
        assert!(pulse.beat().is_ok());
        drop(watch);
        assert!(matches!(pulse.beat(), Err(Fault::Stopped)), "and ends at its next beat");
    }

    #[tokio::test]
    async fn work_that_goes_on_may_take_long() {
        let watch = Watch::new(Duration::from_millis(20));
        let pulse = watch.pulse();
        let work = async {
            for _ in 0..10 {
                pulse.beat().unwrap();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        assert!(watch.over("list", work).await.is_ok());
    }
}
