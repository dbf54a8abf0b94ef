//! The only part that deletes: one store's share of a plan, in batches, in the order of S11.
//!
//! For each batch: intent → copy → confirm that the store is ours and who is dead → delete → confirm again, and put back what should not
//! have gone → outcome. Batches are slices of the stream that [`Store::locate`] sends, and grow while all goes well: 1, 10, 100, … up to
//! the store's limit. A store that fails twice in a row is left for the next run.
//!
//! The moments of a batch are logged at the target `course_gc::moment`, at debug: `intended`, `copied`, `deleting` (by the stores,
//! in the middle of it), `deleted` (before the outcome is written), `recorded`.

mod batch;
mod condemned;
mod copy;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock::Clock;
use crate::domain::diff::{Orphan, OrphanKey};
use crate::domain::ids::{CourseId, IdType};
use crate::domain::live_set::LiveSet;
use crate::domain::markers::Owner;
use crate::domain::report::Tally;
use crate::errors::chain;
use crate::ledger::Ledger;
use crate::liveness::Liveness;
use crate::pace;
use crate::postgres::Lock;
use crate::quarantine::Quarantine;
use crate::stores::{Handle, Store, Targets};

pub use condemned::Condemned;

/// Handles that wait between `locate` and the batches.
const AHEAD: usize = 1024;
/// A store that fails so often in a row is left for the next run.
const FAILURES_IN_A_ROW: u32 = 2;
/// How many causes of failures a report keeps.
const FAILURES_SHOWN: usize = 5;

/// Why something was not heard.
pub type Unheard = Box<dyn std::error::Error + Send + Sync>;

/// Hears at once who was found live, since a sweep may be long: whoever dies anew waits anew (S6).
#[async_trait]
pub trait Hears: Send + Sync {
    /// These are live.
    ///
    /// # Errors
    /// If it could not be written down; it is told again when the sweep ends.
    async fn found_live(&self, live: &LiveSet) -> Result<(), Unheard>;
}

/// What a sweep needs besides a store and its orphans.
pub struct Sweeper<'a> {
    /// The run.
    pub run: Uuid,
    /// Who is asked before each delete.
    pub liveness: &'a dyn Liveness,
    /// The ledger's lock.
    pub lock: &'a dyn Lock,
    /// Where intents and outcomes are written.
    pub ledger: &'a dyn Ledger,
    /// Where copies go.
    pub quarantine: &'a Quarantine,
    /// The type of the courses' ids.
    pub id_type: IdType,
    /// Who lived when the run read its live set: can only spare.
    pub live: &'a LiveSet,
    /// Of whom it is told what became of each: somebody waits for an answer.
    pub watched: &'a BTreeSet<CourseId>,
    /// Who hears that somebody turned out live.
    pub hears: &'a dyn Hears,
    /// When the run began, in the ledger's time.
    pub started_at: DateTime<Utc>,
    /// The clock that confirmations age by.
    pub clock: Arc<dyn Clock>,
    /// How long a confirmation is good.
    pub confirmation: Duration,
    /// Stops the sweep between two batches.
    pub stop: &'a CancellationToken,
    /// Who was found live in this sweep, in any store: spared to its end, for whoever dies anew waits anew (S6).
    pub found_live: Mutex<BTreeSet<CourseId>>,
}

/// One store's share of a plan.
pub struct Share<'a> {
    /// The store.
    pub store: &'a dyn Store,
    /// Our entry in its marker, which is looked for again with each batch (S7); `None` if the store is not ours.
    pub entry: Option<&'a Owner>,
    /// What goes is copied first; false where a person chose that it is gone at once (S12).
    pub quarantined: bool,
    /// What is to go.
    pub orphans: Vec<&'a Orphan>,
}

/// What became of one store's share of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Swept {
    /// By source.
    pub tallies: Vec<Tally>,
    /// What became of each course that is watched.
    pub watched: BTreeMap<CourseId, Tally>,
    /// The orphans of which nothing that may go is left.
    pub gone: Vec<OrphanKey>,
    /// The first few causes of failures.
    pub failures: Vec<String>,
    /// How many resources were put back, since somebody whom they name was live when asked again after the delete.
    pub put_back: u64,
    /// Courses that were live when asked again after the delete.
    pub live_after_delete: Vec<CourseId>,
    /// Every course that was found live by a question before or after a delete.
    pub live: BTreeSet<CourseId>,
    /// A pause came while it was being swept.
    pub paused: bool,
    /// Why the store was left before its end.
    pub error: Option<String>,
}

/// Why there are no more batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Every handle that was located has had its batch.
    Exhausted,
    /// The run was asked to stop.
    Stopped,
    /// The store failed too often.
    Left,
    /// A person paused all deleting.
    Paused,
}

impl Sweeper<'_> {
    /// Sweeps a store's share. Does not fail: what went wrong is in the result, and what was not done is
    /// still there for the next run.
    pub async fn sweep(&self, share: &Share<'_>) -> Swept {
        let Share { store, orphans, .. } = share;
        let mut targets = Targets::none(store.sources().len());
        for orphan in orphans {
            targets.insert(orphan.source, orphan.course);
        }
        let mut swept = Swept { tallies: vec![Tally::default(); store.sources().len()], ..Swept::default() };
        if targets.is_empty() {
            return swept;
        }
        let approved = orphans.iter().filter(|orphan| orphan.approved.is_some());
        let approved: BTreeSet<OrphanKey> = approved.map(|orphan| (orphan.source, orphan.course)).collect();
        let (sender, receiver) = mpsc::channel(AHEAD);
        let mut kept = BTreeSet::new();
        let located = {
            let mut locate = store.locate(&targets, sender);
            let mut batches = pin!(self.batches(share, receiver, &approved, (&mut swept, &mut kept)));
            tokio::select! {
                biased;
                located = &mut locate => Some((located, batches.await)),
                end = &mut batches => match end {
                    End::Exhausted => Some((locate.await, end)),
                    // Whatever else there is to locate, nobody would delete it now.
                    End::Stopped | End::Left | End::Paused => None,
                },
            }
        };
        match located {
            Some((Ok(()), End::Exhausted)) => {
                let whole = orphans.iter().filter(|orphan| orphan.found.entangled == 0 && orphan.found.referenced == 0);
                let keys = whole.map(|orphan| (orphan.source, orphan.course));
                swept.gone = keys.filter(|key| !kept.contains(key)).collect();
            }
            Some((Err(error), End::Exhausted)) => swept.error = Some(chain(&error)),
            _ => {}
        }
        swept
    }

    async fn batches(
        &self,
        share: &Share<'_>,
        mut handles: mpsc::Receiver<Handle>,
        approved: &BTreeSet<OrphanKey>,
        (swept, kept): (&mut Swept, &mut BTreeSet<OrphanKey>),
    ) -> End {
        let mut size = 1;
        let mut number = 0;
        let mut failures_in_a_row = 0;
        loop {
            let mut batch = Vec::new();
            while batch.len() < size {
                tokio::select! {
                    biased;
                    () = self.stop.cancelled() => return End::Stopped,
                    handle = handles.recv() => match handle {
                        Some(handle) => batch.push(handle),
                        None => break,
                    },
                }
            }
            if batch.is_empty() {
                return End::Exhausted;
            }
            // What is owed to the store's server is waited for here, not between a question and a delete.
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return End::Stopped,
                () = pace::rest(share.store.pace()) => {}
            }
            number += 1;
            let mut done = self.batch(share, number, batch, approved).await;
            if done.paused {
                swept.paused = true;
                return End::Paused;
            }
            let failed = done.failed;
            let hopeless = done.hopeless.take();
            done.enter(self.watched, (swept, kept));
            if hopeless.is_some() {
                swept.error = hopeless;
                return End::Left;
            }
            if failed {
                failures_in_a_row += 1;
                size = 1;
                if failures_in_a_row == FAILURES_IN_A_ROW {
                    let cause = swept.failures.last().cloned().unwrap_or_default();
                    swept.error = Some(format!(
                        "left for the next run after {FAILURES_IN_A_ROW} failed batches in a row: {cause}"
                    ));
                    return End::Left;
                }
            } else {
                failures_in_a_row = 0;
                size = (size * 10).min(share.store.batch_limit().max(1));
            }
        }
    }
}

impl Swept {
    fn failure(&mut self, cause: String) {
        if self.failures.len() == FAILURES_SHOWN {
            self.failures.pop();
        }
        self.failures.push(cause);
    }
}

#[cfg(test)]
mod tests;
