//! Deleting a batch: count, send once while the confirmation is fresh, count again.

use std::collections::BTreeMap;

use qdrant_client::qdrant::{Filter, PointId};

use super::collection::Collection;
use super::names::Claim;
use super::places::{Key, Lost, key};
use super::values::Which;
use super::{QdrantStore, copy};
use crate::domain::ids::CourseId;
use crate::errors::chain;
use crate::stores::{Outcome, Removed, StoreError};
use crate::sweep::Condemned;

/// The place of a handle in its batch, and its course.
type InBatch = (usize, CourseId);

/// Nothing more of the batch may be sent.
struct Stop;

/// What became of a delete that was sent in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whole {
    /// It was sent, and applied, to its end.
    Sent,
    /// So were all parts, by the ids that were copied.
    SentByIds,
    /// The confirmation grew stale before the last part.
    Stale,
}

/// What became of a course's points.
fn outcome(collection: &Collection, had: u64, left: u64, sent: Whole) -> Outcome {
    let gone = had.saturating_sub(left);
    match (left, sent) {
        (0, _) => Outcome::Deleted { resources: had, bytes: None },
        // By their ids all went that had been copied: what is left was written since.
        (left, Whole::SentByIds) => Outcome::Partly { resources: gone, bytes: None, left },
        (_, Whole::Stale) if gone == 0 => Outcome::Unattempted,
        (left, Whole::Stale) => Outcome::Partly { resources: gone, bytes: None, left },
        (left, Whole::Sent) => Outcome::Failed(format!(
            "{left} points are there after the delete of {had}, in collection `{}`: the course is being written to, or a \
             replica lags",
            collection.physical
        )),
    }
}

fn set(outcomes: &mut [Outcome], places: &[InBatch], outcome: &Outcome) {
    for (place, _) in places {
        if let Some(slot) = outcomes.get_mut(*place) {
            *slot = outcome.clone();
        }
    }
}

impl QdrantStore {
    /// Deletes a batch, collection by collection; what fails ends it.
    pub(super) async fn delete_batch(&self, batch: &Condemned) -> Removed {
        let handles = batch.handles();
        let mut outcomes = vec![Outcome::Unattempted; handles.len()];
        let mut by_collection: BTreeMap<Key<'_>, Vec<InBatch>> = BTreeMap::new();
        for (place, handle) in handles.iter().enumerate() {
            by_collection.entry(key(handle)).or_default().push((place, handle.owner));
        }
        let collections = match self.still_located(handles).await {
            Ok(collections) => collections,
            Err(error) => {
                outcomes.fill(Outcome::Failed(chain(&error)));
                return Removed { outcomes };
            }
        };
        'batch: for (key, places) in by_collection {
            let Some(collection) = collections.iter().find(|collection| collection.is(key)) else {
                let outcome = match self.lost(key).await {
                    Lost::Gone => Outcome::Absent,
                    Lost::NotOurs(why) => Outcome::Failed(why),
                };
                set(&mut outcomes, &places, &outcome);
                continue;
            };
            for chunk in places.chunks(collection.courses_a_filter()) {
                if self.delete_chunk(collection, chunk, batch, &mut outcomes).await.is_ok() {
                    continue;
                }
                if collection.claim == Claim::Matched && self.lost(key).await == Lost::Gone {
                    set(&mut outcomes, chunk, &Outcome::Absent);
                    continue;
                }
                break 'batch;
            }
        }
        Removed { outcomes }
    }

    /// Deletes what was copied, in parts, each of which is sent only while the confirmation is fresh; and makes sure that it went.
    async fn delete_copied(
        &self,
        collection: &Collection,
        filter: &Filter,
        ids: &[PointId],
        batch: &Condemned,
    ) -> Result<Whole, StoreError> {
        for ids in ids.chunks(collection.ids_a_filter()) {
            if !batch.is_fresh() {
                return Ok(Whole::Stale);
            }
            let copied = copy::only(filter.clone(), ids);
            self.client.delete(&collection.physical, copied.clone(), batch.time_left()).await?;
            let left = self.client.count(&collection.physical, copied).await?;
            if left > 0 {
                return Err(self.unusable(&format!(
                    "{left} of {} points are there after their delete, in collection `{}`: a replica lags",
                    ids.len(),
                    collection.physical
                )));
            }
        }
        Ok(Whole::SentByIds)
    }

    /// How many points of each course are left, exactly. Mostly none of any, which is one count.
    async fn left(&self, collection: &Collection, courses: &[CourseId]) -> Result<BTreeMap<CourseId, u64>, StoreError> {
        let all = collection.spelling.points(&collection.key, Which::Owned, courses);
        if collection.indexed && self.client.count(&collection.physical, all).await? == 0 {
            return Ok(BTreeMap::new());
        }
        self.counts(collection, Which::Owned, courses).await
    }

    async fn delete_chunk(
        &self,
        collection: &Collection,
        chunk: &[InBatch],
        batch: &Condemned,
        outcomes: &mut [Outcome],
    ) -> Result<(), Stop> {
        let mut set = |place: usize, outcome: Outcome| {
            if let Some(slot) = outcomes.get_mut(place) {
                *slot = outcome;
            }
        };
        let courses: Vec<CourseId> = chunk.iter().map(|(_, course)| *course).collect();
        let before = match self.counts(collection, Which::Owned, &courses).await {
            Ok(before) => before,
            Err(error) => {
                let cause = chain(&error);
                chunk.iter().for_each(|(place, _)| set(*place, Outcome::Failed(cause.clone())));
                return Err(Stop);
            }
        };
        let had = |course: &CourseId| before.get(course).copied().unwrap_or(0);
        let (there, absent): (Vec<InBatch>, Vec<InBatch>) = chunk.iter().partition(|(_, course)| had(course) > 0);
        absent.iter().for_each(|(place, _)| set(*place, Outcome::Absent));
        if there.is_empty() {
            return Ok(());
        }
        let courses: Vec<CourseId> = there.iter().map(|(_, course)| *course).collect();
        let filter = collection.spelling.points(&collection.key, Which::Owned, &courses);
        if !batch.is_fresh() {
            return Err(Stop);
        }
        let sent = match batch.safe() {
            // What has not been sent when the confirmation grows stale is given up, not sent.
            None => {
                self.client.delete(&collection.physical, filter.clone(), batch.time_left()).await.map(|()| Whole::Sent)
            }
            Some(safe) => {
                let receipts = there.iter().filter_map(|(place, _)| safe.receipts.get(*place));
                let ids: Vec<PointId> = receipts.flat_map(copy::copied_ids).collect();
                self.delete_copied(collection, &filter, &ids, batch).await
            }
        };
        tracing::debug!(target: "course_gc::moment", store = %self.name, moment = "deleting", courses = courses.len());
        let after = match sent {
            Ok(sent) => self.left(collection, &courses).await.map(|after| (after, sent)),
            Err(error) => Err(error),
        };
        match after {
            Ok((after, sent)) => {
                for (place, course) in &there {
                    let left = after.get(course).copied().unwrap_or(0);
                    set(*place, outcome(collection, had(course), left, sent));
                }
                if sent == Whole::Stale { Err(Stop) } else { Ok(()) }
            }
            Err(error) => {
                let cause = chain(&error);
                there.iter().for_each(|(place, _)| set(*place, Outcome::Failed(cause.clone())));
                Err(Stop)
            }
        }
    }
}
