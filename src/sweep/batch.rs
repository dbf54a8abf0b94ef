//! One batch, in the order of S11.

use std::collections::BTreeSet;
use std::sync::{Arc, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, TryStreamExt};

use super::copy::{Kept, harmed};
use super::{Condemned, Share, Sweeper, Swept};
use crate::domain::breakers::Recent;
use crate::domain::diff::OrphanKey;
use crate::domain::ids::CourseId;
use crate::domain::live_set::LiveSet;
use crate::domain::markers::{NotAdopted, is_still_there};
use crate::domain::report::Tally;
use crate::errors::chain;
use crate::ledger::{AskedAgain, BatchOutcome, Intent, OpenIntent};
use crate::pace;
use crate::postgres::PostgresError;
use crate::stores::copies::{CopyId, Receipt};
use crate::stores::{Handle, Outcome, Referenced, Store, StoreError};

/// Why a batch was not confirmed.
#[derive(Debug, thiserror::Error)]
enum Unconfirmed {
    #[error("could not look whether the store is still ours; nothing was sent")]
    Marker(#[source] StoreError),
    #[error("the store is not where it was when the run began; nothing was sent")]
    Elsewhere(#[source] NotAdopted),
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
    /// Why no further batch of this store would fare better.
    pub hopeless: Option<String>,
    /// How many resources were put back, since somebody whom they name turned out live.
    pub put_back: u64,
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
    pub(super) fn enter(self, watched: &BTreeSet<CourseId>, (swept, kept): (&mut Swept, &mut BTreeSet<OrphanKey>)) {
        for ((source, course), tally) in &self.tallies {
            if let Some(sum) = swept.tallies.get_mut(source.0) {
                sum.add(tally);
            }
            if watched.contains(course) {
                swept.watched.entry(*course).or_default().add(tally);
            }
        }
        self.failures.into_iter().for_each(|cause| swept.failure(cause));
        swept.put_back += self.put_back;
        swept.live_after_delete.extend(self.live_after_delete);
        swept.live.extend(self.live);
        kept.extend(self.kept);
    }

    /// Something went wrong, whatever came of the handles.
    pub(super) fn failed(&mut self, error: &(dyn std::error::Error + 'static)) {
        self.failed = true;
        self.failures.push(chain(error));
    }

    pub(super) fn count(&mut self, handle: &Handle, outcome: &Outcome) {
        let mut tally = Tally::default();
        match outcome {
            Outcome::Deleted { resources, bytes } => {
                tally.deleted = *resources;
                tally.bytes = bytes.unwrap_or(0);
            }
            Outcome::Partly { resources, bytes, left } => {
                tally.deleted = *resources;
                tally.bytes = bytes.unwrap_or(0);
                tally.spared = *left;
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
        if matches!(outcome, Outcome::Partly { .. } | Outcome::Failed(_) | Outcome::Unattempted) {
            self.kept.insert(key);
        }
        self.tallies.push((key, tally));
    }

    /// Nothing was tried with these.
    fn leave(&mut self, handles: &[Handle]) {
        handles.iter().for_each(|handle| self.count(handle, &Outcome::Unattempted));
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

/// A batch under way.
struct Batch<'a> {
    share: &'a Share<'a>,
    id: CopyId,
    /// What it was meant to take.
    orphans: BTreeSet<OrphanKey>,
    /// The orphans that count in no breaker.
    approved: &'a BTreeSet<OrphanKey>,
}

impl Sweeper<'_> {
    /// Takes one batch through S11. `approved` are the orphans that count in no breaker.
    pub(super) async fn batch(
        &self,
        share: &Share<'_>,
        number: u32,
        handles: Vec<Handle>,
        approved: &BTreeSet<OrphanKey>,
    ) -> Done {
        let mut done = Done::default();
        let handles = self.spare_entangled(handles, &mut done);
        if handles.is_empty() {
            return done;
        }
        let id = CopyId { run: self.run, batch: number, taken_at: self.started_at, expires_at: self.expires_at() };
        let orphans = handles.iter().map(|handle| (handle.source, handle.owner)).collect();
        let (store, batch) = (share.store, Batch { share, id, orphans, approved });
        let Some(intent) = self.intend(&batch, &handles, &mut done).await else { return done };
        moment(store, "intended");
        let mut kept = self.keep(&batch, handles, &mut done).await;
        moment(store, "copied");
        let meant = kept.handles().to_vec();
        // An answer grows stale: from the question on nothing rests (S2).
        let (sent, asked) = pace::at_once(async {
            let condemned = self.confirm(&batch, &mut kept, &mut done).await;
            let sent = delete(store, condemned, &mut done).await;
            moment(store, "deleted");
            // Before the intent is closed: whoever crashes in between leaves it open, and the next run asks.
            let asked = self.make_good(&batch, (&kept, &meant), &sent.named, &mut done).await;
            (sent, asked)
        })
        .await;
        if sent.named.is_empty() {
            self.discard(&kept).await;
        }
        if let Err(error) = self.ledger.close_intent(&intent, &done.outcome(&sent.deleted, approved), asked).await {
            done.failed(&error);
        }
        moment(store, "recorded");
        done
    }

    /// What names somebody who lives stays, and needs no copy.
    fn spare_entangled(&self, handles: Vec<Handle>, done: &mut Done) -> Vec<Handle> {
        let is_entangled = |handle: &Handle| handle.mentions.iter().any(|id| self.live.contains(*id));
        let (entangled, rest): (Vec<Handle>, Vec<Handle>) = handles.into_iter().partition(is_entangled);
        entangled.iter().for_each(|handle| done.spare(handle));
        rest
    }

    /// Writes down what is to go. `None` if a pause is in force, or it could not be written: then nothing goes.
    async fn intend(&self, batch: &Batch<'_>, handles: &[Handle], done: &mut Done) -> Option<OpenIntent> {
        let counting = batch.orphans.difference(batch.approved).map(|(_, course)| *course).collect();
        let intent = Intent { courses: courses_of(&batch.orphans), counting, handles: handles.len() };
        match self.ledger.open_intent(self.run, batch.share.store.name(), &intent).await {
            Ok(Some(intent)) => Some(intent),
            Ok(None) => {
                done.paused = true;
                None
            }
            Err(error) => {
                done.failed(&error);
                done.leave(handles);
                None
            }
        }
    }

    /// Copies what is to go. What could not be copied stays.
    async fn keep(&self, batch: &Batch<'_>, handles: Vec<Handle>, done: &mut Done) -> Kept {
        match self.copy(batch.share, &batch.id, handles.clone(), done).await {
            Ok(kept) => kept,
            Err(error) => {
                done.hopeless = error.is_full().then(|| chain(&error));
                done.failed(&error);
                done.leave(&handles);
                Kept::nothing()
            }
        }
    }

    /// Condemns what is dead in a place that is ours, both asked now, and spares the rest. `None` if nothing is to go.
    async fn confirm(&self, batch: &Batch<'_>, kept: &mut Kept, done: &mut Done) -> Option<Condemned> {
        let meant = kept.handles().to_vec();
        match self.condemn(batch, kept).await {
            Ok(Confirmed { condemned, spared, live }) => {
                self.note_live(&live, done).await;
                spared.iter().for_each(|handle| done.spare(handle));
                condemned
            }
            Err(error) => {
                done.hopeless = matches!(error, Unconfirmed::Elsewhere(_)).then(|| chain(&error));
                done.failed(&error);
                done.leave(&meant);
                None
            }
        }
    }

    /// Asks about everybody once more whom something named that went, and puts back what should not have gone. What could not be put
    /// back, or asked about, is the next run's to settle.
    async fn make_good(
        &self,
        batch: &Batch<'_>,
        (kept, meant): (&Kept, &[Handle]),
        named: &BTreeSet<CourseId>,
        done: &mut Done,
    ) -> AskedAgain {
        let (asked, live) = self.confirm_again(batch.share.store, named, done).await;
        let harmed = harmed(meant, &live);
        if harmed.is_empty() || self.put_back(batch.share, (&batch.id, kept), &harmed, done).await {
            asked
        } else {
            AskedAgain::Unanswered
        }
    }

    /// When copies of this run expire.
    fn expires_at(&self) -> DateTime<Utc> {
        let keep = TimeDelta::from_std(self.quarantine.keep).unwrap_or(TimeDelta::MAX);
        self.started_at.checked_add_signed(keep).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// Looks whether the store still is ours, asks about every id that the batch names, and condemns what is dead. The other part is
    /// spared: what is live, names something live, or is referred to by something live.
    async fn condemn(&self, batch: &Batch<'_>, kept: &mut Kept) -> Result<Confirmed, Unconfirmed> {
        let (store, asked_at) = (batch.share.store, self.clock.since_boot());
        let marker = store.marker().await.map_err(Unconfirmed::Marker)?;
        is_still_there(batch.share.entry, marker.as_ref()).map_err(Unconfirmed::Elsewhere)?;
        let referenced = match store.reference_query() {
            Some(query) => {
                let references = self.liveness.references(query).map_err(reference_error).boxed();
                let owners = courses_of(&batch.orphans);
                store.referenced(&owners, references).await.map_err(Unconfirmed::References)?
            }
            None => Referenced::default(),
        };
        let named: BTreeSet<CourseId> =
            kept.handles().iter().flat_map(|handle| handle.mentions.iter().chain([&handle.owner])).copied().collect();
        let live = self.liveness.live_among(&named).await.map_err(Unconfirmed::Liveness)?;
        self.lock.verify().await.map_err(Unconfirmed::Liveness)?;
        let (dead, spared): (Vec<_>, Vec<_>) = {
            let found_live = self.found_live();
            let lives = |id: &CourseId| live.contains(*id) || found_live.contains(id);
            let is_dead = |(handle, _): &(Handle, Option<Receipt>)| {
                !lives(&handle.owner) && !handle.mentions.iter().any(lives) && !referenced.holds(handle.owner)
            };
            kept.take().into_iter().partition(is_dead)
        };
        let spared = spared.into_iter().map(|(handle, _)| handle).collect();
        let (dead, receipts): (Vec<Handle>, Vec<_>) = dead.into_iter().unzip();
        let dead = (dead, Kept::safe(&batch.id, receipts), referenced);
        let condemned =
            (!dead.0.is_empty()).then(|| Condemned::new(dead, asked_at, self.confirmation, Arc::clone(&self.clock)));
        Ok(Confirmed { condemned, spared, live })
    }

    /// Whoever a question found live waits anew if it dies again, in every store (S6): the ledger is told at once, since a sweep may be
    /// long, and other batches of this sweep spare it.
    async fn note_live(&self, live: &LiveSet, done: &mut Done) {
        if live.is_empty() {
            return;
        }
        self.found_live().extend(live.iter());
        done.live.extend(live.iter());
        if let Err(error) = self.hears.found_live(live).await {
            done.failed = true;
            done.failures.push(format!("could not start the clocks of who is live anew: {}", chain(&*error)));
        }
    }

    fn found_live(&self) -> MutexGuard<'_, BTreeSet<CourseId>> {
        self.found_live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No process can exclude being frozen between the last check and the send (S1): whomever something named that went is asked
    /// about once more, and a course that is live after all is told to whoever is on call.
    async fn confirm_again(
        &self,
        store: &dyn Store,
        named: &BTreeSet<CourseId>,
        done: &mut Done,
    ) -> (AskedAgain, LiveSet) {
        let nobody = || LiveSet::from_ids(self.id_type, []);
        if named.is_empty() {
            return (AskedAgain::Answered, nobody());
        }
        match self.liveness.live_among(named).await {
            Ok(live) => {
                for course in live.iter() {
                    tracing::error!(store = store.name(), %course, "a course is live whose resources were just deleted");
                    done.live_after_delete.push(course);
                }
                self.note_live(&live, done).await;
                (AskedAgain::Answered, live)
            }
            Err(error) => {
                done.failed = true;
                done.failures.push(format!("could not confirm again after a delete: {}", chain(&error)));
                (AskedAgain::Unanswered, nobody())
            }
        }
    }
}

fn courses_of(orphans: &BTreeSet<OrphanKey>) -> BTreeSet<CourseId> {
    orphans.iter().map(|(_, course)| *course).collect()
}

/// What went, or may have gone.
#[derive(Debug, Default)]
struct Sent {
    /// The orphans of which something went.
    deleted: BTreeSet<OrphanKey>,
    /// Their courses, and whoever else is named by something that went.
    named: BTreeSet<CourseId>,
}

/// Deletes, and counts what became of each handle.
async fn delete(store: &dyn Store, condemned: Option<Condemned>, done: &mut Done) -> Sent {
    let Some(batch) = condemned else { return Sent::default() };
    let removed = store.delete(&batch).await;
    let mut sent = Sent::default();
    let missing = Outcome::Failed(format!("store {} did not say what became of it", store.name()));
    for (index, handle) in batch.handles().iter().enumerate() {
        let outcome = removed.outcomes.get(index).unwrap_or(&missing);
        done.count(handle, outcome);
        // A failed call may have done its work before its answer was lost.
        if matches!(outcome, Outcome::Deleted { .. } | Outcome::Partly { .. } | Outcome::Failed(_)) {
            sent.deleted.insert((handle.source, handle.owner));
            sent.named.extend(handle.mentions.iter().chain([&handle.owner]));
        }
    }
    let sum = done.sum();
    tracing::info!(
        store = store.name(),
        courses = courses_of(&sent.deleted).len(),
        deleted = sum.deleted,
        absent = sum.absent,
        failed = sum.failed,
        spared = sum.spared,
        "batch deleted"
    );
    sent
}

fn reference_error(error: PostgresError) -> StoreError {
    StoreError::server("asking what is still referred to", error)
}

fn moment(store: &dyn Store, moment: &'static str) {
    tracing::debug!(target: "course_gc::moment", store = store.name(), moment);
}
