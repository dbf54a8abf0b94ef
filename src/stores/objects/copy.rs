//! Copies of objects (S12), made by the server within the bucket.
//!
//! Those of a batch lie in `.course-gc/quarantine/{run}/{batch}/`, numbered, since a long name would not fit there. The
//! manifest beside them says what each was, and is written last: without it nothing was copied.

use std::collections::HashSet;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{AT_ONCE, ObjectsStore, Place, SOURCE};
use crate::clock::Deadline;
use crate::domain::ids::CourseId;
use crate::errors::chain;
use crate::stores::copies::{Copied, CopyId, InPlace, PlacedCopy, PutBack, Receipt, Restoring};
use crate::stores::{Handle, Store, StoreError};

const FOLDER: &str = ".course-gc/quarantine";
const MANIFEST: &str = "manifest.json";

/// What a batch's copies were.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    run: Uuid,
    batch: u32,
    taken_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    objects: Vec<Entry>,
}

/// One object and its copy.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    /// Its name.
    key: String,
    course: String,
    mentions: Vec<String>,
    etag: String,
    size: u64,
    /// The copy's name.
    copy: String,
}

/// What became of one handle, and what the manifest is to say of it.
type OneCopied = (Copied, Option<Entry>);

/// The copies in a bucket.
pub(super) struct Batches<'a> {
    pub(super) place: &'a Place,
}

impl Batches<'_> {
    /// Copies a batch.
    pub(super) async fn copy(&self, id: &CopyId, handles: &[Handle]) -> Result<Vec<Copied>, StoreError> {
        let bucket = &self.place.bucket;
        let folder = format!("{FOLDER}/{id}");
        let manifest = Path::from(format!("{folder}/{MANIFEST}"));
        if bucket.head(&manifest).await?.is_some() {
            return Err(bucket.unusable(format_args!("there is a copy {id} already")));
        }
        let mut each = Vec::with_capacity(handles.len());
        for (n, handle) in handles.iter().enumerate() {
            each.push(self.copy_one(handle, Path::from(format!("{folder}/{n:05}"))));
        }
        let copied: Vec<OneCopied> = stream::iter(each).buffered(AT_ONCE).try_collect().await?;
        let (copied, entries): (Vec<_>, Vec<_>) = copied.into_iter().unzip();
        let objects: Vec<_> = entries.into_iter().flatten().collect();
        if !objects.is_empty() {
            let CopyId { run, batch, taken_at, expires_at } = *id;
            let said = Manifest { run, batch, taken_at, expires_at, objects };
            let json = serde_json::to_vec_pretty(&said).map_err(|error| {
                StoreError::server(format!("{}: could not write `{manifest}`", bucket.shown()), error)
            })?;
            let put = bucket.s3().put(&manifest, json.into());
            bucket.call(format!("write `{manifest}`"), put).await?;
        }
        Ok(copied)
    }

    /// Copies one object. What the server refuses is that object's failure; a server that does not answer ends the copying.
    async fn copy_one(&self, handle: &Handle, copy: Path) -> Result<OneCopied, StoreError> {
        match self.try_copy_one(handle, copy).await {
            Err(error @ StoreError::Timeout { .. }) => Err(error),
            Err(error) => Ok((Copied::Failed(chain(&error)), None)),
            copied => copied,
        }
    }

    async fn try_copy_one(&self, handle: &Handle, copy: Path) -> Result<OneCopied, StoreError> {
        let bucket = &self.place.bucket;
        let name = match self.place.path(handle) {
            Ok(name) => name,
            Err(why) => return Ok((Copied::Failed(why), None)),
        };
        // Looked at first: if it is replaced meanwhile, its etag will not be the one that the delete is told.
        let Some(found) = bucket.head(&name).await? else { return Ok((Copied::Absent, None)) };
        let Some(etag) = found.e_tag else {
            return Err(bucket.unusable(format_args!("`{name}` has no etag to know it by")));
        };
        bucket.copy(&name, &copy).await?;
        let size = bucket.head(&copy).await?.map(|copy| copy.size);
        if size != Some(found.size) {
            return Err(bucket.unusable(format_args!("the copy of `{name}` is not as long as it is")));
        }
        let entry = Entry {
            key: name.into(),
            course: handle.owner.to_string(),
            mentions: handle.mentions.iter().map(CourseId::to_string).collect(),
            etag: etag.clone(),
            size: found.size,
            copy: copy.into(),
        };
        Ok((Copied::Whole(Receipt(Bytes::from(etag))), Some(entry)))
    }

    /// What a manifest says; `None` if it has gone since it was listed.
    async fn manifest(&self, name: &Path) -> Result<Option<Manifest>, StoreError> {
        let bucket = &self.place.bucket;
        let get = async {
            match bucket.s3().get(name).await {
                Ok(found) => found.bytes().await.map(Some),
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        };
        let Some(json) = bucket.call(format!("read `{name}`"), get).await? else { return Ok(None) };
        let manifest = serde_json::from_slice(&json)
            .map_err(|why| bucket.unusable(format_args!("`{name}` holds no manifest ({why})")))?;
        Ok(Some(manifest))
    }

    /// The copies of a manifest that are there.
    fn placed(&self, source: &str, manifest: Manifest, there: &HashSet<Path>) -> Result<Vec<PlacedCopy>, StoreError> {
        let Manifest { run, batch, taken_at, expires_at, objects } = manifest;
        let id = CopyId { run, batch, taken_at, expires_at };
        let course = |text: &str| {
            let parsed = self.place.id_type.parse(text.as_bytes());
            parsed.ok_or_else(|| {
                self.place
                    .bucket
                    .unusable(format_args!("the manifest of copy {id} names `{text}`, which is no course's id"))
            })
        };
        let mut placed = Vec::new();
        for entry in objects.into_iter().filter(|entry| there.contains(&Path::from(entry.copy.as_str()))) {
            placed.push(PlacedCopy {
                id,
                source: source.to_owned(),
                course: course(&entry.course)?,
                mentions: entry.mentions.iter().map(|text| course(text)).collect::<Result<_, _>>()?,
                name: entry.key.into(),
                key: entry.copy.into(),
                resources: 1,
                bytes: entry.size,
            });
        }
        Ok(placed)
    }

    /// Where a copy is, if it is one.
    fn path_of(&self, copy: &PlacedCopy) -> Result<Path, StoreError> {
        let bucket = &self.place.bucket;
        let shown = copy.key.escape_ascii();
        let name = std::str::from_utf8(&copy.key).ok().and_then(|name| Path::parse(name).ok());
        let name = name.filter(|name| name.prefix_matches(&Path::from(FOLDER)));
        name.ok_or_else(|| bucket.unusable(format_args!("`{shown}` is no copy")))
    }

    async fn put_back(&self, copy: &PlacedCopy, restoring: Restoring) -> Result<PutBack, StoreError> {
        let bucket = &self.place.bucket;
        let from = self.path_of(copy)?;
        let handle = Handle { source: SOURCE, owner: copy.course, mentions: Vec::new(), key: copy.name.clone() };
        let to = match self.place.path(&handle) {
            Ok(to) => to,
            Err(why) => return Ok(PutBack::Failed(why)),
        };
        let is_there = bucket.head(&to).await?.is_some();
        if is_there && restoring != Restoring::Overwrite {
            return Ok(PutBack::Exists);
        }
        if bucket.head(&from).await?.is_none() {
            return Ok(PutBack::Failed(format!("its copy `{from}` has gone")));
        }
        if restoring == Restoring::Look {
            return Ok(PutBack::Restored);
        }
        bucket.copy(&from, &to).await?;
        if bucket.head(&to).await?.map(|object| object.size) != Some(copy.bytes) {
            return Ok(PutBack::Failed(format!("`{to}` is not as long as its copy")));
        }
        self.remove(copy).await?;
        Ok(PutBack::Restored)
    }

    /// Removes copies of other runs than the current one that have no manifest. Of all that share a bucket one works at a time
    /// (S10), so nobody is making one of them.
    async fn remove_unfinished(&self, current: Uuid) -> Result<(), StoreError> {
        let bucket = &self.place.bucket;
        let mut listing = bucket.list(Some(&Path::from(FOLDER)), "look for unfinished copies");
        let (mut finished, mut copies) = (HashSet::new(), Vec::new());
        while let Some(object) = listing.next().await? {
            let Some(folder) = object.location.as_ref().rsplit_once('/').map(|(folder, _)| folder.to_owned()) else {
                continue;
            };
            if object.location.filename() == Some(MANIFEST) {
                finished.insert(folder);
            } else {
                copies.push((folder, object.location));
            }
        }
        let current = format!("{FOLDER}/{current}/");
        for (folder, name) in copies {
            if !finished.contains(&folder) && !folder.starts_with(&current) {
                bucket.remove(&name).await?;
            }
        }
        Ok(())
    }

    /// Removes a copy, and with the last one of a batch its manifest.
    async fn remove(&self, copy: &PlacedCopy) -> Result<(), StoreError> {
        let bucket = &self.place.bucket;
        bucket.remove(&self.path_of(copy)?).await?;
        self.tidy(copy).await
    }

    /// Removes the manifest of a batch of which there is no copy any more.
    async fn tidy(&self, copy: &PlacedCopy) -> Result<(), StoreError> {
        let bucket = &self.place.bucket;
        let folder = Path::from(format!("{FOLDER}/{}", copy.id));
        let mut left = bucket.list(Some(&folder), "look for other copies of the batch");
        let (first, second) = (left.next().await?, left.next().await?);
        match (first, second) {
            (Some(ObjectMeta { location, .. }), None) if location.filename() == Some(MANIFEST) => {
                bucket.remove(&location).await
            }
            _ => Ok(()),
        }
    }
}

#[async_trait::async_trait]
impl InPlace for ObjectsStore {
    async fn copies(&self) -> Result<Vec<PlacedCopy>, StoreError> {
        let batches = Batches { place: &self.place };
        let mut listing = self.place.bucket.list(Some(&Path::from(FOLDER)), "list the copies");
        let (mut there, mut manifests) = (HashSet::new(), Vec::new());
        while let Some(ObjectMeta { location, .. }) = listing.next().await? {
            if location.filename() == Some(MANIFEST) {
                manifests.push(location);
            } else {
                there.insert(location);
            }
        }
        let source = self.sources().first().map(String::as_str).unwrap_or_default();
        let mut copies = Vec::new();
        for name in &manifests {
            if let Some(manifest) = batches.manifest(name).await? {
                copies.extend(batches.placed(source, manifest, &there)?);
            }
        }
        Ok(copies)
    }

    async fn put_back(&self, copy: &PlacedCopy, restoring: Restoring) -> PutBack {
        let put_back = Batches { place: &self.place }.put_back(copy, restoring).await;
        put_back.unwrap_or_else(|error| PutBack::Failed(chain(&error)))
    }

    async fn purge(&self, copy: &PlacedCopy, good: &Deadline) -> Result<bool, StoreError> {
        let batches = Batches { place: &self.place };
        let is_removed = self.place.bucket.remove_while(&batches.path_of(copy)?, good).await?;
        if is_removed {
            batches.tidy(copy).await?;
        }
        Ok(is_removed)
    }

    async fn remove_unfinished(&self, current: Uuid) -> Result<(), StoreError> {
        Batches { place: &self.place }.remove_unfinished(current).await
    }
}
