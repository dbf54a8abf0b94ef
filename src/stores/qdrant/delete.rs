//! Deleting a batch: count, send once while the confirmation is fresh, count again.

use std::collections::BTreeMap;

use super::QdrantStore;
use super::collection::Collection;
use super::values::Which;
use crate::domain::ids::CourseId;
use crate::domain::inventory::SourceIndex;
use crate::errors::chain;
use crate::stores::{Outcome, Removed, StoreError};
use crate::sweep::Condemned;

/// The place of a handle in its batch, and its course.
type Place = (usize, CourseId);

/// Nothing more of the batch may be sent.
struct Stop;

impl QdrantStore {
    /// Deletes a batch, source by source; what fails ends it.
    pub(super) async fn delete_batch(&self, batch: &Condemned) -> Removed {
        let handles = batch.handles();
        let mut outcomes = vec![Outcome::Unattempted; handles.len()];
        let mut by_source: BTreeMap<SourceIndex, Vec<Place>> = BTreeMap::new();
        for (place, handle) in handles.iter().enumerate() {
            by_source.entry(handle.source).or_default().push((place, handle.owner));
        }
        let collections = match self.still_located().await {
            Ok(collections) => collections,
            Err(error) => {
                outcomes.fill(Outcome::Failed(chain(&error)));
                return Removed { outcomes };
            }
        };
        'batch: for (source, places) in by_source {
            let Some(collection) = collections.get(source.0) else { continue };
            for chunk in places.chunks(collection.courses_a_filter()) {
                if self.delete_chunk(collection, chunk, batch, &mut outcomes).await.is_err() {
                    break 'batch;
                }
            }
        }
        Removed { outcomes }
    }

    /// The collections, if the configured names still stand for those in which the batch was located.
    async fn still_located(&self) -> Result<Vec<Collection>, StoreError> {
        let Some(located) = self.located() else {
            return Err(self.unusable("nothing was located yet, so nothing is deleted"));
        };
        let collections = self.collections().await?;
        for ((name, before), now) in self.names.iter().zip(&located).zip(&collections) {
            if *before != now.physical {
                let now = &now.physical;
                return Err(self.unusable(&format!(
                    "`{name}` stood for collection `{before}` when its points were located, and for `{now}` now: nothing \
                     was deleted, the next run looks again"
                )));
            }
        }
        Ok(collections)
    }

    async fn delete_chunk(
        &self,
        collection: &Collection,
        chunk: &[Place],
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
        let (there, absent): (Vec<Place>, Vec<Place>) = chunk.iter().partition(|(_, course)| had(course) > 0);
        absent.iter().for_each(|(place, _)| set(*place, Outcome::Absent));
        if there.is_empty() {
            return Ok(());
        }
        let courses: Vec<CourseId> = there.iter().map(|(_, course)| *course).collect();
        let filter = collection.spelling.points(&collection.key, Which::Owned, &courses);
        if !batch.is_fresh() {
            return Err(Stop);
        }
        // What has not been sent when the confirmation grows stale is given up, not sent.
        let sent = self.client.delete(&collection.physical, filter, batch.time_left()).await;
        tracing::debug!(target: "course_gc::moment", store = %self.name, moment = "deleting", courses = courses.len());
        let after = match sent {
            Ok(()) => self.counts(collection, Which::Owned, &courses).await,
            Err(error) => Err(error),
        };
        match after {
            Ok(after) => {
                for (place, course) in &there {
                    let outcome = match after.get(course).copied().unwrap_or(0) {
                        0 => Outcome::Deleted { resources: had(course), bytes: None },
                        left => Outcome::Failed(format!(
                            "{left} points are there after the delete of {}, in collection `{}`: the course is being written \
                             to, or a replica lags",
                            had(course),
                            collection.physical
                        )),
                    };
                    set(*place, outcome);
                }
                Ok(())
            }
            Err(error) => {
                let cause = chain(&error);
                there.iter().for_each(|(place, _)| set(*place, Outcome::Failed(cause.clone())));
                Err(Stop)
            }
        }
    }
}
