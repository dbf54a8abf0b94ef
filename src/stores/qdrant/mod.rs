//! Points in Qdrant collections, owned by the course that a payload key names.
//!
//! Looking costs what there are courses, not points: the server lists an indexed key's values with approximate counts
//! (a *facet*); what is dead is then counted exactly, and again right before and after each delete. Where there is no
//! index, or strict mode's limits are smaller than the number of courses, all points are read, with that key only.
//!
//! Invariants:
//! - A point is deleted only if the key holds one value, the canonical id of a condemned course. The server checks that
//!   in the delete itself: the filter asks for the ids and for fewer than two values (S5).
//! - A configured name may be an alias. Requests name the collection behind it, which must be the same when the marker is read,
//!   when it is listed, when a batch is located, and when it is deleted: nobody adopted what is behind it afterwards (S7).
//! - A pattern is one source, of all collections that it matches at the moment (`names`); a handle tells which of them it is in. A
//!   match that came after the store was adopted is told and held until it is adopted, too; one that goes is no error (`places`).
//! - Strict mode's limits are respected, never changed.
//! - Of the metadata of collections, only the marker's key is written (`marker`, which also tells what Qdrant's lack of
//!   a compare-and-set means).
//!
//! A uuid index holds parsed ids, so the server itself does not tell an upper-case spelling from the canonical one there;
//! with every other index, and without one, another spelling is unrecognised.
//!
//! Rejected: keys with `[]`, for which Qdrant's `values_count` is true as soon as one of several places has few values;
//! deleting by point id, which would also delete a point whose payload was changed in between; paging through a facet by
//! excluding what was seen, which is quadratic.

mod client;
mod collection;
mod copy;
mod delete;
mod doctor;
mod inventory;
mod marker;
mod names;
mod places;
#[cfg(test)]
mod tests;
mod values;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use qdrant_client::qdrant::{Filter, Value};
use secrecy::SecretString;
use tokio::sync::mpsc;

use self::client::{Client, Facet, Page};
use self::collection::Collection;
use self::places::Marked;
use self::values::{Named, Owner, Which};
use crate::domain::findings::Finding;
use crate::domain::ids::{CourseId, IdType};
use crate::domain::inventory::{Census, SourceIndex};
use crate::pace::Pace;
use crate::stores::copies::{Copied, Copies, CopyId, Item, PutBack, Restoring};
use crate::stores::{Handle, Marker, Removed, Store, StoreError, Targets};
use crate::sweep::Condemned;

/// How many exact counts are under way at once.
const CONCURRENT_COUNTS: usize = 8;
/// How many courses one of them counts at most: it must end within the time of one call.
const COUNTED_TOGETHER: usize = 32;

/// One source: a collection or those of a pattern, and the payload key that names the course.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QdrantCollection {
    /// The collection's name, or an alias of it; or a pattern of names, with `*` for any text.
    pub name: String,
    /// The payload key, dotted if it lies within objects.
    pub key: String,
}

/// What a [`QdrantStore`] needs to know.
#[derive(Clone)]
pub struct QdrantSettings {
    /// The store's name in the configuration.
    pub name: String,
    /// Where its gRPC port is: `http://host:6334`, or `https`.
    pub url: String,
    /// The api key, if the server wants one; it must allow listing aliases, and updating the collections for the marker.
    pub api_key: Option<SecretString>,
    /// The sources.
    pub collections: Vec<QdrantCollection>,
    /// The type of course ids.
    pub id_type: IdType,
    /// The most courses in one batch.
    pub batch_limit: usize,
    /// How long one call may take.
    pub call_timeout: Duration,
}

/// Qdrant collections as a [`Store`].
pub struct QdrantStore {
    name: String,
    client: Client,
    names: Vec<String>,
    keys: Vec<String>,
    id_type: IdType,
    batch_limit: usize,
    /// Where the marker was read last.
    marked: Mutex<Option<Marked>>,
}

impl QdrantStore {
    /// Prepares a connection, which the first call opens. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// If the url, the api key or a payload key is unusable.
    pub fn new(settings: QdrantSettings) -> Result<Self, StoreError> {
        let QdrantSettings { name, url, api_key, collections, id_type, batch_limit, call_timeout } = settings;
        let client = Client::new(&name, &url, api_key.as_ref(), call_timeout)?;
        if let Some(bad) = collections.iter().find(|collection| collection.key.contains(['[', ']', '"'])) {
            return Err(StoreError::Unusable(format!(
                "store `{name}`: the key `{}` of collection `{}` is not supported: name one value, without [] or quotes",
                bad.key, bad.name
            )));
        }
        let (names, keys) = collections.into_iter().map(|collection| (collection.name, collection.key)).unzip();
        Ok(Self { name, client, names, keys, id_type, batch_limit: batch_limit.max(1), marked: Mutex::new(None) })
    }

    /// The same store, called at this pace.
    #[must_use]
    pub fn paced(self, pace: Pace) -> Self {
        Self { client: self.client.paced(pace), ..self }
    }

    /// How many points each of the courses has, exactly; in no order. At most [`Collection::courses_a_filter`] courses.
    async fn counts(
        &self,
        collection: &Collection,
        which: Which,
        courses: &[CourseId],
    ) -> Result<BTreeMap<CourseId, u64>, StoreError> {
        if collection.indexed && which == Which::Owned {
            let together = courses.chunks(COUNTED_TOGETHER).map(|courses| self.count_owned(collection, courses));
            let together: Vec<_> = together.collect();
            let counts: Vec<_> =
                futures::stream::iter(together).buffer_unordered(CONCURRENT_COUNTS).try_collect().await?;
            Ok(counts.into_iter().flatten().collect())
        } else if collection.indexed {
            self.count_each(collection, which, courses).await
        } else {
            let filter = collection.spelling.points(&collection.key, which, courses);
            let mut counts: BTreeMap<CourseId, u64> = courses.iter().map(|course| (*course, 0)).collect();
            self.read(collection, Some(filter), |value| {
                let named = match collection.spelling.of_payload(self.id_type, value) {
                    Owner::One(course) => vec![course],
                    Owner::Many(courses, _) => courses,
                    Owner::Other(_) | Owner::Nobody => Vec::new(),
                };
                for course in named {
                    counts.entry(course).and_modify(|count| *count += 1);
                }
            })
            .await?;
            Ok(counts)
        }
    }

    /// How many points each of the courses owns, by one call where strict mode lets so many values be listed: with one value a point, no
    /// others than theirs can come.
    async fn count_owned(
        &self,
        collection: &Collection,
        courses: &[CourseId],
    ) -> Result<BTreeMap<CourseId, u64>, StoreError> {
        let Collection { physical, key, spelling, .. } = collection;
        let wanted = courses.len() as u64;
        if collection.facet_limit(wanted, 0) != Some(wanted) {
            return self.count_each(collection, Which::Owned, courses).await;
        }
        let filter = Some(spelling.points(key, Which::Owned, courses));
        let values = self.client.facet(physical, key, Facet { filter, limit: wanted, exact: true }).await?;
        let mut counts: BTreeMap<CourseId, u64> = courses.iter().map(|course| (*course, 0)).collect();
        for (value, count) in values {
            if let Named::Course(course) = spelling.of_facet(self.id_type, &value) {
                counts.entry(course).and_modify(|sum| *sum += count);
            }
        }
        Ok(counts)
    }

    async fn count_each(
        &self,
        collection: &Collection,
        which: Which,
        courses: &[CourseId],
    ) -> Result<BTreeMap<CourseId, u64>, StoreError> {
        let count = |course: CourseId| async move {
            let filter = collection.spelling.points(&collection.key, which, &[course]);
            self.client.count(&collection.physical, filter).await.map(|count| (course, count))
        };
        let counts: Vec<_> = courses.iter().copied().map(count).collect();
        futures::stream::iter(counts).buffer_unordered(CONCURRENT_COUNTS).try_collect().await
    }

    /// Reads the key of all points that match, page by page.
    async fn read(
        &self,
        collection: &Collection,
        filter: Option<Filter>,
        mut visit: impl FnMut(Option<&Value>) + Send,
    ) -> Result<(), StoreError> {
        let mut page = Page { filter, offset: None, limit: collection.page() };
        loop {
            let (points, next) = self.client.scroll(&collection.physical, &collection.key, page.clone()).await?;
            for point in &points {
                visit(values::at(&point.payload, &collection.key));
            }
            match next {
                Some(next) if page.offset.as_ref() != Some(&next) => page.offset = Some(next),
                Some(_) => {
                    return Err(
                        self.unusable(&format!("reading collection `{}` does not advance", collection.physical))
                    );
                }
                None => return Ok(()),
            }
        }
    }

    fn unusable(&self, what: &str) -> StoreError {
        StoreError::Unusable(format!("store `{}` at {}: {what}", self.name, self.client.url()))
    }
}

#[async_trait]
impl Store for QdrantStore {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "qdrant"
    }

    fn sources(&self) -> &[String] {
        &self.names
    }

    fn batch_limit(&self) -> usize {
        self.batch_limit
    }

    fn pace(&self) -> Option<&Pace> {
        Some(self.client.pace())
    }

    async fn identity(&self) -> Result<String, StoreError> {
        let version = self.client.version().await?;
        let (ours, held) = self.still_marked(self.collections().await?)?;
        let ours = ours.iter().map(|collection| format!("collection {}", collection.physical));
        let held = held.iter().map(|collection| format!("collection {}, which is not adopted", collection.physical));
        Ok(format!("qdrant {version} at {}, {}", self.client.url(), ours.chain(held).collect::<Vec<_>>().join(", ")))
    }

    async fn marker(&self) -> Result<Option<Marker>, StoreError> {
        self.read_marker().await
    }

    async fn move_marker(&self, from: Option<&Marker>, to: &Marker) -> Result<bool, StoreError> {
        self.replace_marker(from, to).await
    }

    async fn mark_newcomers(&self) -> Result<(), StoreError> {
        self.mark_others().await
    }

    async fn inventory(&self, census: &mut Census) -> Result<(), StoreError> {
        let (ours, held) = self.still_marked(self.collections().await?)?;
        self.take_inventories(&ours, census).await?;
        held.iter().for_each(|collection| self.tell_of(collection, census));
        Ok(())
    }

    async fn locate(&self, targets: &Targets, handles: mpsc::Sender<Handle>) -> Result<(), StoreError> {
        let (ours, _) = self.still_marked(self.searchable(targets).await?)?;
        for collection in &ours {
            let courses: Vec<_> = targets.of(collection.source).collect();
            for courses in courses.chunks(collection.courses_a_filter()) {
                let counts = self.counts(collection, Which::Owned, courses).await;
                let counts = self.unless_gone(collection.claim, &collection.physical, counts).await?;
                for (owner, count) in counts.into_iter().flatten() {
                    if count > 0 {
                        let key = Bytes::copy_from_slice(collection.physical.as_bytes());
                        let handle = Handle { source: collection.source, owner, mentions: Vec::new(), key };
                        handles.send(handle).await.map_err(|_| StoreError::Stopped)?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn copy(&self, _: &CopyId, handles: &[Handle], copies: &mut dyn Copies) -> Result<Vec<Copied>, StoreError> {
        self.copy_points(handles, copies).await
    }

    async fn put_back(&self, items: &[Item], restoring: Restoring) -> Vec<PutBack> {
        self.put_points_back(items, restoring).await
    }

    async fn delete(&self, batch: &Condemned) -> Removed {
        self.delete_batch(batch).await
    }

    async fn examine(&self) -> Vec<Finding> {
        self.examine_collections().await
    }

    async fn remaining(&self, targets: &Targets) -> Result<Vec<(SourceIndex, CourseId, u64)>, StoreError> {
        let mut remaining: BTreeMap<(SourceIndex, CourseId), u64> = BTreeMap::new();
        // Also of what is held: it is there.
        for collection in &self.searchable(targets).await? {
            let courses: Vec<_> = targets.of(collection.source).collect();
            for courses in courses.chunks(collection.courses_a_filter()) {
                let counts = self.counts(collection, Which::All, courses).await;
                let counts = self.unless_gone(collection.claim, &collection.physical, counts).await?;
                for (course, count) in counts.into_iter().flatten() {
                    *remaining.entry((collection.source, course)).or_default() += count;
                }
            }
        }
        Ok(remaining.into_iter().map(|((source, course), count)| (source, course, count)).collect())
    }
}
