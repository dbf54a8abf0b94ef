//! One batch, in the order of S11.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt};

use super::{Condemned, Sweeper, Swept};
use crate::domain::breakers::Recent;
use crate::domain::diff::OrphanKey;
use crate::domain::ids::CourseId;
use crate::domain::live_set::LiveSet;
use crate::domain::report::Tally;
use crate::errors::chain;
use crate::ledger::{BatchOutcome, Intent};
use crate::postgres::PostgresError;
use crate::stores::{Handle, Outcome, Store, StoreError};

/// Why a batch was not confirmed.
#[derive(Debug, thiserror::Error)]
enum Unconfirmed {
    #[error("could not confirm that the courses are dead; nothing was sent")]
    Liveness(#[source] PostgresError),
    #[error("could not ask what is still referred to; nothing was sent")]
    References(#[source] StoreError),
}

/// What the last question before a delete made of a batch.
struct Confirmed {
    condemned: Option<Condemned>,
    spared: Vec<Handle>,
    live: LiveSet,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// True if a call failed, or something was left unattempted.
    pub failed: bool,
    /// True if a pause kept the batch from beginning.
    pub paused: bool,
    tallies: Vec<(OrphanKey, Tally)>,
    kept: BTreeSet<OrphanKey>,
    failures: Vec<String>,
    live_after_delete: Vec<CourseId>,
    live: BTreeSet<CourseId>,
}

impl Done {
    /// Adds the batch to its store's result.
    pub(super) fn enter(self, swept: &mut Swept, kept: &mut BTreeSet<OrphanKey>) {
        for ((source, _), tally) in &self.tallies {
            if let Some(sum) = swept.tallies.get_mut(source.0) {
                sum.add(tally);
            }
        }
        self.failures.into_iter().for_each(|cause| swept.failure(cause));
        swept.live_after_delete.extend(self.live_after_delete);
        swept.live.extend(self.live);
        kept.extend(self.kept);
    }

    fn count(&mut self, handle: &Handle, outcome: &Outcome) {
        let mut tally = Tally::default();
        match outcome {
            Outcome::Deleted { resources, bytes } => {
                tally.deleted = *resources;
                tally.bytes = bytes.unwrap_or(0);
            }
            Outcome::Absent => tally.absent = 1,
            Outcome::Failed(cause) => {
                tally.failed = 1;
                self.failed = true;
                self.failures.push(cause.clone());
            }
            Outcome::Unattempted => {
                tally.unattempted = 1;
                self.failed = true;
            }
        }
        let key = (handle.source, handle.owner);
        if matches!(outcome, Outcome::Failed(_) | Outcome::Unattempted) {
            self.kept.insert(key);
        }
        self.tallies.push((key, tally));
    }

    fn spare(&mut self, handle: &Handle) {
        let key = (handle.source, handle.owner);
        self.tallies.push((key, Tally { spared: 1, ..Tally::default() }));
        self.kept.insert(key);
    }

    fn sum(&self) -> Tally {
        let mut sum = Tally::default();
        self.tallies.iter().for_each(|(_, tally)| sum.add(tally));
        sum
    }

    /// The outcome for the ledger. `deleted` are the orphans of which something went, `approved` those that count in no
    /// breaker.
    fn outcome(&self, deleted: &BTreeSet<OrphanKey>, approved: &BTreeSet<OrphanKey>) -> BatchOutcome {
        let courses = deleted.difference(approved).map(|(_, course)| *course).collect();
        let counted = self.tallies.iter().filter(|(key, _)| !approved.contains(key));
        let bytes = counted.map(|(_, tally)| tally.bytes).fold(0, u64::saturating_add);
        BatchOutcome { tally: self.sum(), deleted: courses_of(deleted), counting: Recent { courses, bytes } }
    }
}

impl Sweeper<'_> {
    /// Takes one batch through S11. `approved` are the orphans that count in no breaker.
    pub(super) async fn batch(&self, store: &dyn Store, handles: Vec<Handle>, approved: &BTreeSet<OrphanKey>) -> Done {
        let mut done = Done::default();
        let orphans: BTreeSet<OrphanKey> = handles.iter().map(|handle| (handle.source, handle.owner)).collect();
        let owners = courses_of(&orphans);
        let counting = orphans.difference(approved).map(|(_, course)| *course).collect();
        let intent = Intent { courses: owners.clone(), counting, handles: handles.len() };
        let intent = match self.ledger.open_intent(self.run, store.name(), &intent).await {
            Ok(Some(intent)) => intent,
            Ok(None) => {
                done.paused = true;
                return done;
            }
            Err(error) => {
                done.failures.push(chain(&error));
                handles.iter().for_each(|handle| done.count(handle, &Outcome::Unattempted));
                return done;
            }
        };
        moment(store, "intended");
        let deleted = match self.condemn(store, &owners, handles.clone()).await {
            Ok(Confirmed { condemned, spared, live }) => {
                done.live.extend(live.iter());
                spared.iter().for_each(|handle| done.spare(handle));
                delete(store, condemned, &mut done).await
            }
            Err(error) => {
                done.failures.push(chain(&error));
                handles.iter().for_each(|handle| done.count(handle, &Outcome::Unattempted));
                BTreeSet::new()
            }
        };
        moment(store, "deleted");
        if let Err(error) = self.ledger.close_intent(intent, &done.outcome(&deleted, approved)).await {
            done.failed = true;
            done.failures.push(chain(&error));
        }
        moment(store, "recorded");
        self.confirm_again(store, &courses_of(&deleted), &mut done).await;
        done
    }

    /// Asks about every id that the batch names, now, and condemns what is dead. The other part is spared: what is live,
    /// names something live, or is referred to by something live.
    async fn condemn(
        &self,
        store: &dyn Store,
        owners: &BTreeSet<CourseId>,
        handles: Vec<Handle>,
    ) -> Result<Confirmed, Unconfirmed> {
        let asked_at = self.clock.since_boot();
        let referenced = match store.reference_query() {
            Some(query) => {
                let references = self.liveness.references(query).map_err(reference_error).boxed();
                store.referenced(owners, references).await.map_err(Unconfirmed::References)?
            }
            None => BTreeSet::new(),
        };
        let named: BTreeSet<CourseId> =
            handles.iter().flat_map(|handle| handle.mentions.iter().chain([&handle.owner])).copied().collect();
        let live = self.liveness.live_among(&named).await.map_err(Unconfirmed::Liveness)?;
        self.lock.verify().await.map_err(Unconfirmed::Liveness)?;
        let is_dead = |handle: &Handle| {
            !live.contains(handle.owner)
                && !handle.mentions.iter().any(|id| live.contains(*id))
                && !referenced.contains(&handle.owner)
        };
        let (dead, spared): (Vec<Handle>, Vec<Handle>) = handles.into_iter().partition(is_dead);
        let condemned = (!dead.is_empty())
            .then(|| Condemned::new(dead, asked_at, self.confirmation, std::sync::Arc::clone(&self.clock)));
        Ok(Confirmed { condemned, spared, live })
    }

    /// No process can exclude being frozen between the last check and the send (S1): who was deleted is asked about once
    /// more, and a course that is live after all is told to whoever is on call.
    async fn confirm_again(&self, store: &dyn Store, deleted: &BTreeSet<CourseId>, done: &mut Done) {
        if deleted.is_empty() {
            return;
        }
        match self.liveness.live_among(deleted).await {
            Ok(live) => {
                for course in live.iter() {
                    tracing::error!(store = store.name(), %course, "a course is live whose resources were just deleted");
                    done.live_after_delete.push(course);
                    done.live.insert(course);
                }
            }
            Err(error) => {
                done.failed = true;
                done.failures.push(format!("could not confirm again after a delete: {}", chain(&error)));
            }
        }
    }
}

fn courses_of(orphans: &BTreeSet<OrphanKey>) -> BTreeSet<CourseId> {
    orphans.iter().map(|(_, course)| *course).collect()
}

/// Deletes, and counts what became of each handle. Returns the orphans of which something went, or may have gone.
async fn delete(store: &dyn Store, condemned: Option<Condemned>, done: &mut Done) -> BTreeSet<OrphanKey> {
    let Some(batch) = condemned else { return BTreeSet::new() };
    let removed = store.delete(&batch).await;
    let mut deleted = BTreeSet::new();
    let missing = Outcome::Failed(format!("store {} did not say what became of it", store.name()));
    for (index, handle) in batch.handles().iter().enumerate() {
        let outcome = removed.outcomes.get(index).unwrap_or(&missing);
        done.count(handle, outcome);
        // A failed call may have done its work before its answer was lost.
        if matches!(outcome, Outcome::Deleted { .. } | Outcome::Failed(_)) {
            deleted.insert((handle.source, handle.owner));
        }
    }
    let sum = done.sum();
    tracing::info!(
        store = store.name(),
        courses = courses_of(&deleted).len(),
        deleted = sum.deleted,
        absent = sum.absent,
        failed = sum.failed,
        spared = sum.spared,
        "batch deleted"
    );
    deleted
}

fn reference_error(error: PostgresError) -> StoreError {
    StoreError::server("asking what is still referred to", error)
}

fn moment(store: &dyn Store, moment: &'static str) {
    tracing::debug!(target: "course_gc::moment", store = store.name(), moment);
}
