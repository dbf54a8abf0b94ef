//! Clients whose operations are timed: the stores, the ledger, the liveness sources. Each is wrapped in its own trait, so that who
//! uses it does not know, and what it does stays as it was.

pub(super) mod ledger;
pub(super) mod liveness;
mod store;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus::{HistogramVec, IntCounterVec};

use crate::clock::Clock;

pub use ledger::MeasuredLedger;
pub use liveness::MeasuredSources;
pub use store::MeasuredStore;

/// Takes the time of what a client does, and counts what failed.
#[derive(Clone)]
struct Stopwatch {
    client: Arc<str>,
    seconds: HistogramVec,
    errors: IntCounterVec,
    clock: Arc<dyn Clock>,
}

impl Stopwatch {
    /// `seconds` and `errors` have the labels client (or store) and operation.
    fn new(client: &str, (seconds, errors): (&HistogramVec, &IntCounterVec), clock: Arc<dyn Clock>) -> Self {
        Self { client: client.into(), seconds: seconds.clone(), errors: errors.clone(), clock }
    }

    async fn timed<T>(&self, operation: &'static str, doing: impl Future<Output = T>) -> T {
        let began = self.now();
        let done = doing.await;
        self.took(operation, began);
        done
    }

    /// The same, and counts an error if it is one: another's lock is none.
    async fn tried<T, E>(
        &self,
        operation: &'static str,
        doing: impl Future<Output = Result<T, E>>,
        is_failure: impl Fn(&E) -> bool,
    ) -> Result<T, E> {
        let tried = self.timed(operation, doing).await;
        if tried.as_ref().is_err_and(is_failure) {
            self.failed(operation);
        }
        tried
    }

    /// Since boot.
    fn now(&self) -> Duration {
        self.clock.since_boot()
    }

    fn took(&self, operation: &'static str, began: Duration) {
        let took = self.now().saturating_sub(began);
        self.seconds.with_label_values(&[&*self.client, operation]).observe(took.as_secs_f64());
    }

    fn failed(&self, operation: &'static str) {
        self.errors.with_label_values(&[&*self.client, operation]).inc();
    }
}

impl fmt::Debug for Stopwatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopwatch").field("client", &self.client).finish_non_exhaustive()
    }
}
