//! Courses' objects in a bucket of an S3-compatible service.
//!
//! A [`Layout`] says with what the names of a course's objects begin: `{organization_id}/{course_id}` reads
//! `org/course/…`. Each object is a resource of its own, and its name is its handle.
//!
//! Invariants: only what lies beneath a course's canonical id is a course's (S5); a page that cannot be had makes a pass an
//! error (S4); the collector's own folder is no part of any pass; an object is deleted only if it was looked at right before
//! and still is what was copied (`delete`, S12); copies stay in the bucket (`copy`).
//!
//! The client asks for objects by names without a slash at either end. One that has such a slash is counted as the course's,
//! is found to be absent when it is to be copied or deleted, and stays. A name with an empty or a dotted component, or with a
//! control character, makes every pass an error.

mod bucket;
mod copy;
mod delete;
mod doctor;
mod marker;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::ObjectMeta;
use object_store::path::Path;
use tokio::sync::mpsc;

pub use self::bucket::{Bucket, BucketSettings, Said};
use self::copy::Batches;
use super::copies::{Copied, Copies, CopyId, InPlace, Item, PutBack, Restoring};
use super::layout::{Layout, OWN_FOLDER};
use super::{Handle, Marker, Removed, Store, StoreError, Targets};
use crate::domain::findings::Finding;
use crate::domain::ids::{CourseId, IdType};
use crate::domain::inventory::{Amount, Census, SourceIndex};
use crate::pace::Pace;
use crate::sweep::Condemned;

/// An objects store has one source: its layout.
const SOURCE: SourceIndex = SourceIndex(0);
/// How many requests of one batch are under way at once.
const AT_ONCE: usize = 16;

/// What an objects store is made from.
#[derive(Debug)]
pub struct ObjectsSettings {
    /// The store's name in the configuration.
    pub name: String,
    /// The bucket.
    pub bucket: Bucket,
    /// With what the names of a course's objects begin.
    pub layout: Layout,
    /// The type of the courses' ids.
    pub id_type: IdType,
    /// The most objects in one batch.
    pub batch_limit: usize,
}

/// A store of objects. See the module's documentation.
#[derive(Debug)]
pub struct ObjectsStore {
    name: String,
    place: Place,
    sources: [String; 1],
    batch_limit: usize,
}

/// The bucket, and how its objects' names are read.
#[derive(Debug)]
struct Place {
    bucket: Bucket,
    layout: Layout,
    id_type: IdType,
}

/// Whose an object is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claim {
    Owned(CourseId),
    /// It lies where a course's objects would, but what stands for the id is none.
    Unrecognised,
    /// The layout does not lead to it.
    Unclaimed,
    /// It is the collector's.
    Own,
}

impl Place {
    fn claim(&self, name: &str) -> Claim {
        let components: Vec<_> = name.split('/').map(str::as_bytes).collect();
        if components.first() == Some(&OWN_FOLDER) {
            return Claim::Own;
        }
        let depth = self.layout.depth();
        let admitted = components.iter().take(depth).enumerate().all(|(level, part)| self.layout.admits(level, part));
        // An object that is itself called as a course's folder would be lies beside the course's objects, not among them.
        if components.len() <= depth || !admitted {
            return Claim::Unclaimed;
        }
        self.layout.owner(self.id_type, &components).map_or(Claim::Unrecognised, Claim::Owned)
    }

    /// The ids besides `owner` that a name holds.
    fn mentions(&self, owner: CourseId, name: &str) -> Vec<CourseId> {
        owner.others(self.id_type.mentions(name.as_bytes()))
    }

    /// The name that a handle stands for, if it is an object of the handle's owner.
    fn path(&self, handle: &Handle) -> Result<Path, String> {
        let shown = handle.key.escape_ascii();
        let name = std::str::from_utf8(&handle.key).map_err(|_| format!("`{shown}` is no object's name"))?;
        if self.claim(name) != Claim::Owned(handle.owner) {
            return Err(format!("`{shown}` is no object of course {}", handle.owner));
        }
        Path::parse(name).map_err(|_| format!("`{shown}` is a name that cannot be asked for"))
    }
}

impl ObjectsStore {
    /// A store that connects when it is first used.
    pub fn new(settings: ObjectsSettings) -> Self {
        let ObjectsSettings { name, bucket, layout, id_type, batch_limit } = settings;
        let sources = [layout.text().to_owned()];
        Self { name, place: Place { bucket, layout, id_type }, sources, batch_limit: batch_limit.max(1) }
    }

    /// The same store, called at this pace.
    #[must_use]
    pub fn paced(self, pace: Pace) -> Self {
        let place = Place { bucket: self.place.bucket.paced(pace), ..self.place };
        Self { place, ..self }
    }

    /// The owner of an object, if it is wanted.
    fn wanted(&self, targets: &Targets, object: &ObjectMeta) -> Option<CourseId> {
        match self.place.claim(object.location.as_ref()) {
            Claim::Owned(owner) if targets.contains(SOURCE, owner) => Some(owner),
            Claim::Owned(_) | Claim::Unrecognised | Claim::Unclaimed | Claim::Own => None,
        }
    }
}

#[async_trait]
impl Store for ObjectsStore {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "objects"
    }

    fn sources(&self) -> &[String] {
        &self.sources
    }

    fn batch_limit(&self) -> usize {
        self.batch_limit
    }

    fn pace(&self) -> Option<&Pace> {
        Some(self.place.bucket.pace())
    }

    async fn identity(&self) -> Result<String, StoreError> {
        let bucket = &self.place.bucket;
        // Only an object's own answer says whether its bucket keeps versions.
        let first = bucket.list(None, "list the first object").next().await?;
        let version = match first {
            Some(object) => bucket.head(&object.location).await?.and_then(|object| object.version),
            None => None,
        };
        // What was written before versions were kept is called so.
        let keeps_versions = version.is_some_and(|version| version != "null");
        let versions = if keeps_versions { ", which keeps versions: what is deleted stays as one" } else { "" };
        Ok(format!("objects {}{versions}", bucket.shown()))
    }

    async fn marker(&self) -> Result<Option<Marker>, StoreError> {
        marker::read(&self.place.bucket).await
    }

    async fn move_marker(&self, from: Option<&Marker>, to: &Marker) -> Result<bool, StoreError> {
        marker::replace(&self.place.bucket, from, to).await
    }

    async fn inventory(&self, census: &mut Census) -> Result<(), StoreError> {
        let mut listing = self.place.bucket.list(None, "take inventory");
        while let Some(object) = listing.next().await? {
            let name = object.location.as_ref();
            match self.place.claim(name) {
                Claim::Owned(owner) => {
                    let amount = Amount::one(name.as_bytes(), Some(object.size));
                    census.observe(SOURCE, owner, amount, || self.place.mentions(owner, name));
                }
                Claim::Unrecognised => census.unrecognised(SOURCE, name.as_bytes(), 1),
                Claim::Unclaimed => census.unclaimed(name.as_bytes()),
                Claim::Own => {}
            }
        }
        Ok(())
    }

    async fn locate(&self, targets: &Targets, handles: mpsc::Sender<Handle>) -> Result<(), StoreError> {
        if targets.is_empty() {
            return Ok(());
        }
        let mut listing = self.place.bucket.list(None, "locate objects");
        while let Some(object) = listing.next().await? {
            if handles.is_closed() {
                return Err(StoreError::Stopped);
            }
            let Some(owner) = self.wanted(targets, &object) else { continue };
            let mentions = self.place.mentions(owner, object.location.as_ref());
            let key = Bytes::from(String::from(object.location));
            let handle = Handle { source: SOURCE, owner, mentions, key };
            handles.send(handle).await.map_err(|_| StoreError::Stopped)?;
        }
        Ok(())
    }

    async fn copy(&self, id: &CopyId, handles: &[Handle], _: &mut dyn Copies) -> Result<Vec<Copied>, StoreError> {
        Batches { place: &self.place }.copy(id, handles).await
    }

    async fn put_back(&self, items: &[Item], _: Restoring) -> Vec<PutBack> {
        let why = || PutBack::Failed("objects lie in no archive: they were never an objects store's".to_owned());
        items.iter().map(|_| why()).collect()
    }

    fn in_place(&self) -> Option<&dyn InPlace> {
        Some(self)
    }

    async fn delete(&self, batch: &Condemned) -> Removed {
        delete::delete(&self.name, &self.place, batch).await
    }

    async fn examine(&self) -> Vec<Finding> {
        doctor::examine(&self.place.bucket).await
    }

    async fn remaining(&self, targets: &Targets) -> Result<Vec<(SourceIndex, CourseId, u64)>, StoreError> {
        if targets.is_empty() {
            return Ok(Vec::new());
        }
        let mut counts: BTreeMap<CourseId, u64> = BTreeMap::new();
        let mut listing = self.place.bucket.list(None, "count what remains");
        while let Some(object) = listing.next().await? {
            if let Some(owner) = self.wanted(targets, &object) {
                *counts.entry(owner).or_default() += 1;
            }
        }
        Ok(counts.into_iter().map(|(course, count)| (SOURCE, course, count)).collect())
    }
}
