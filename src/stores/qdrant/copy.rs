//! Copies of points (S12): each with its id, payload and all vectors, as the server sent them; deleted by the ids that were
//! copied.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;
use qdrant_client::qdrant::point_id::PointIdOptions;
use qdrant_client::qdrant::{Filter, PointId, PointStruct, PointsIdsList, RetrievedPoint, Vectors};

use super::QdrantStore;
use super::client::Page;
use super::collection::Collection;
use super::names::Claim;
use super::places::{Key, Lost, key};
use super::values::{self, Owner, Which};
use crate::domain::ids::CourseId;
use crate::errors::chain;
use crate::stores::copies::{Copied, Copies, Item, PutBack, Receipt, Restoring};
use crate::stores::{Handle, StoreError};

/// Which collection, of those behind a name, a point was in.
const COLLECTION: &str = "collection";
/// The most points in one answer or write: with vectors they are large.
const POINTS: u32 = 100;

impl QdrantStore {
    /// Copies the points that name each handle's course alone.
    pub(super) async fn copy_points(
        &self,
        handles: &[Handle],
        copies: &mut dyn Copies,
    ) -> Result<Vec<Copied>, StoreError> {
        let mut by_collection: BTreeMap<Key<'_>, Vec<CourseId>> = BTreeMap::new();
        for handle in handles {
            by_collection.entry(key(handle)).or_default().push(handle.owner);
        }
        let collections = self.still_located(handles).await?;
        let mut copied: BTreeMap<(Key<'_>, CourseId), PointsIdsList> = BTreeMap::new();
        let mut lost: BTreeMap<Key<'_>, Copied> = BTreeMap::new();
        for (key, courses) in by_collection {
            let Some(collection) = collections.iter().find(|collection| collection.is(key)) else {
                lost.insert(
                    key,
                    match self.lost(key).await {
                        Lost::Gone => Copied::Absent,
                        Lost::NotOurs(why) => Copied::Failed(why),
                    },
                );
                continue;
            };
            for courses in courses.chunks(collection.courses_a_filter()) {
                let ids = self.copy_courses(collection, courses, copies).await;
                let ids = self.unless_gone(collection.claim, &collection.physical, ids).await?;
                for (course, ids) in ids.into_iter().flatten() {
                    copied.insert((key, course), PointsIdsList { ids });
                }
            }
        }
        let receipt = |handle: &Handle| match copied.get(&(key(handle), handle.owner)) {
            Some(ids) => Copied::Whole(Receipt(ids.encode_to_vec().into())),
            None => lost.get(&key(handle)).cloned().unwrap_or(Copied::Absent),
        };
        Ok(handles.iter().map(receipt).collect())
    }

    /// Copies the points of some courses, as they come; the ids of each.
    async fn copy_courses(
        &self,
        collection: &Collection,
        courses: &[CourseId],
        copies: &mut dyn Copies,
    ) -> Result<BTreeMap<CourseId, Vec<PointId>>, StoreError> {
        let filter = collection.spelling.points(&collection.key, Which::Owned, courses);
        let mut page = Page { filter: Some(filter), offset: None, limit: collection.page().min(POINTS) };
        let mut copied: BTreeMap<CourseId, Vec<PointId>> = BTreeMap::new();
        loop {
            let (points, next) = self.client.scroll_whole(&collection.physical, page.clone()).await?;
            for point in points {
                let Some(id) = point.id.clone() else {
                    return Err(self.unusable("the server sent a point without an id: is it a Qdrant server?"));
                };
                let owner = collection.spelling.of_payload(self.id_type, values::at(&point.payload, &collection.key));
                // Written to since it matched: it is not of the batch any more.
                let Owner::One(course) = owner else { continue };
                let item = Item {
                    source: self.source(collection.source).to_owned(),
                    course,
                    name: named(collection, &id).into(),
                    attributes: BTreeMap::from([(COLLECTION.to_owned(), collection.physical.clone())]),
                    content: written(point).map_err(|error| StoreError::server("copy a point", error))?,
                };
                copies.add(item).await?;
                copied.entry(course).or_default().push(id);
            }
            match next {
                Some(next) if page.offset.as_ref() != Some(&next) => page.offset = Some(next),
                Some(_) => {
                    let what = format!("reading collection `{}` does not advance", collection.physical);
                    return Err(self.unusable(&what));
                }
                None => return Ok(copied),
            }
        }
    }

    /// Puts points back into the collections that they were in.
    pub(super) async fn put_points_back(&self, items: &[Item], restoring: Restoring) -> Vec<PutBack> {
        let mut outcomes = vec![PutBack::Failed("its copy names no collection".to_owned()); items.len()];
        let mut by_collection: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (place, item) in items.iter().enumerate() {
            if let Some(collection) = item.attributes.get(COLLECTION) {
                by_collection.entry(collection).or_default().push(place);
            }
        }
        for (collection, places) in by_collection {
            for places in places.chunks(POINTS as usize) {
                let chosen: Vec<&Item> = places.iter().filter_map(|place| items.get(*place)).collect();
                let done = self.put_some_back(collection, &chosen, restoring).await;
                let done = done.unwrap_or_else(|error| vec![PutBack::Failed(chain(&error)); places.len()]);
                for (place, outcome) in places.iter().zip(done) {
                    if let Some(slot) = outcomes.get_mut(*place) {
                        *slot = outcome;
                    }
                }
            }
        }
        outcomes
    }

    async fn put_some_back(
        &self,
        collection: &str,
        items: &[&Item],
        restoring: Restoring,
    ) -> Result<Vec<PutBack>, StoreError> {
        let mut points = Vec::with_capacity(items.len());
        for item in items {
            let damaged =
                |error| StoreError::server(format!("read the copy of point {}", item.name.escape_ascii()), error);
            points.push(PointStruct::decode(&item.content[..]).map_err(damaged)?);
        }
        let ids = points.iter().filter_map(|point| point.id.clone()).collect();
        let there: BTreeSet<String> = match restoring {
            Restoring::Overwrite => BTreeSet::new(),
            Restoring::Look | Restoring::Missing => {
                self.client.existing(collection, ids).await?.iter().map(shown).collect()
            }
        };
        let exists = |point: &PointStruct| point.id.as_ref().is_some_and(|id| there.contains(&shown(id)));
        let outcomes = points.iter().map(|point| if exists(point) { PutBack::Exists } else { PutBack::Restored });
        let outcomes = outcomes.collect();
        points.retain(|point| !exists(point));
        if restoring != Restoring::Look && !points.is_empty() {
            self.client.upsert(collection, points).await?;
        }
        Ok(outcomes)
    }
}

/// The ids that were copied of a course.
pub(super) fn copied_ids(receipt: &Receipt) -> Vec<PointId> {
    // What is no receipt of ours allows nothing.
    PointsIdsList::decode(&receipt.0[..]).map(|list| list.ids).unwrap_or_default()
}

/// Of what matches, only what was copied.
pub(super) fn only(filter: Filter, ids: &[PointId]) -> Filter {
    let mut filter = filter;
    filter.must.push(qdrant_client::qdrant::Condition::has_id(ids.to_vec()));
    filter
}

/// A point as an upsert takes it. What the server sends of vectors is on the wire what it takes.
fn written(point: RetrievedPoint) -> Result<Bytes, prost::DecodeError> {
    let RetrievedPoint { id, payload, vectors, .. } = point;
    let vectors = vectors.map(|vectors| Vectors::decode(&vectors.encode_to_vec()[..])).transpose()?;
    Ok(PointStruct { id, payload, vectors }.encode_to_vec().into())
}

/// What a person calls a point of a collection, once in its source: a pattern's collections may have points of the same ids.
fn named(collection: &Collection, id: &PointId) -> String {
    match collection.claim {
        Claim::Named => shown(id),
        Claim::Matched => format!("{}/{}", collection.physical, shown(id)),
    }
}

/// A point's id as a person writes it.
fn shown(id: &PointId) -> String {
    match &id.point_id_options {
        Some(PointIdOptions::Num(number)) => number.to_string(),
        Some(PointIdOptions::Uuid(uuid)) => uuid.clone(),
        None => String::new(),
    }
}
