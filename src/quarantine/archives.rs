//! The archives: for each batch its parts, and a header, written last, that says what they hold.
//!
//! `{installation}/{run}/{store}/{batch}.{part}.tar.zst` (and `.age`), `{installation}/{run}/{store}/{batch}.json`. What has no
//! header was never finished, and nothing was deleted on its account.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::key::Key;
use super::part::{self, PartError, sha256};
use super::place::{Place, PlaceError};
use crate::domain::findings::Finding;
use crate::domain::ids::{CourseId, IdType};
use crate::errors::chain;
use crate::stores::copies::{Copies, CopyId, Item};
use crate::stores::{Handle, StoreError};

/// A part is closed once its contents are so large; what is kept in memory is one part, and an item.
const PART_BYTES: usize = 8 << 20;

/// What is smaller takes less than a millisecond.
const AT_ONCE: usize = 64 << 10;

/// Why a copy cannot be kept, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum QuarantineError {
    /// The place failed.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// There is no room; nothing more is deleted until there is.
    #[error("quarantine is full: {0}; what would need a copy is not deleted until there is room")]
    Full(String),
    /// A part or header is not what was written.
    #[error("copy {name} in quarantine at {place} cannot be used")]
    Unusable {
        /// The object.
        name: String,
        /// Where.
        place: String,
        /// Why.
        #[source]
        source: PartError,
    },
    /// The thread that packs or unpacks ended.
    #[error("copy {0} could not be packed or unpacked")]
    Lost(String, #[source] tokio::task::JoinError),
}

/// What limits the archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// The most bytes that they may take.
    pub max_bytes: u64,
    /// The least that must stay free on the disk, in percent; for a folder.
    pub min_free_percent: u8,
}

/// The archives of an installation.
pub struct Archives {
    place: Arc<dyn Place>,
    installation: String,
    id_type: IdType,
    key: Option<Key>,
    room: Room,
    /// What they take, as far as this process knows.
    used: AtomicU64,
}

/// What the copies of a batch hold, as their header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// Which copy.
    pub id: CopyId,
    /// The store.
    pub store: String,
    /// How much of which course: resources and bytes.
    pub courses: BTreeMap<CourseId, (u64, u64)>,
    /// Everybody whom something in it names, the courses among them.
    pub named: BTreeSet<CourseId>,
    /// What it takes in quarantine.
    pub bytes: u64,
    /// Its parts, in their order.
    pub parts: Vec<PartHeader>,
}

/// What is in the archives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// The finished copies that were wanted.
    pub archives: Vec<Archive>,
    /// How many finished copies there are in all.
    pub count: u64,
    /// What everything takes.
    pub bytes: u64,
    /// The runs that made finished copies, as far as their names tell.
    pub runs: BTreeSet<Uuid>,
    /// The names of parts without a header.
    pub unfinished: Vec<String>,
}

/// A part of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartHeader {
    name: String,
    bytes: u64,
    sha256: String,
    encrypted: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    version: u32,
    run: Uuid,
    store: String,
    batch: u32,
    taken_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    courses: BTreeMap<String, (u64, u64)>,
    named: BTreeSet<String>,
    parts: Vec<PartHeader>,
}

impl Archives {
    /// The archives at a place.
    pub fn new(place: Arc<dyn Place>, installation: String, id_type: IdType, key: Option<Key>, room: Room) -> Self {
        Self { place, installation, id_type, key, room, used: AtomicU64::new(0) }
    }

    /// A copy that is about to be made. Everybody whom the handles name is named in it.
    pub fn begin<'a>(&'a self, store: &'a str, id: CopyId, handles: &[Handle]) -> Writer<'a> {
        let named = handles.iter().flat_map(|handle| handle.mentions.iter().chain([&handle.owner])).copied();
        let archive = Archive {
            id,
            store: store.to_owned(),
            courses: BTreeMap::new(),
            named: named.collect(),
            bytes: 0,
            parts: Vec::new(),
        };
        Writer { archives: self, archive, items: Vec::new(), waiting: 0, failed: None }
    }

    /// The finished copies of the runs that are wanted, in no order, and what there is besides. Counts anew how much is used.
    ///
    /// # Errors
    /// If they cannot all be listed and read.
    pub async fn list(&self, wanted: &(dyn Fn(Uuid) -> bool + Send + Sync)) -> Result<Found, QuarantineError> {
        let objects = self.place.list(&self.installation).await?;
        let mut found = Found { bytes: objects.iter().map(|(_, bytes)| bytes).sum(), ..Found::default() };
        self.used.store(found.bytes, Ordering::Relaxed);
        let finished: BTreeSet<&str> = objects.iter().filter_map(|(name, _)| name.strip_suffix(".json")).collect();
        found.count = finished.len() as u64;
        found.runs = finished.iter().filter_map(|batch| run_of(batch)).collect();
        for batch in &finished {
            if run_of(batch).is_none_or(wanted) {
                found.archives.push(self.header(&format!("{batch}.json")).await?);
            }
        }
        let has_header = |name: &str| name.split_once('.').is_some_and(|(batch, _)| finished.contains(batch));
        found.unfinished = objects.iter().map(|(name, _)| name).filter(|name| !has_header(name)).cloned().collect();
        Ok(found)
    }

    /// Removes parts that no header names; of the runs of which `is_over`, as far as their names tell.
    ///
    /// # Errors
    /// If one is still there.
    pub async fn remove_unfinished(
        &self,
        unfinished: &[String],
        is_over: impl Fn(Option<Uuid>) -> bool,
    ) -> Result<(), QuarantineError> {
        for name in unfinished.iter().filter(|name| is_over(run_of(name))) {
            self.place.remove(name).await?;
        }
        Ok(())
    }

    /// What they take, as of the last [`Archives::list`] and what was written since.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// How much of the disk below is free, in percent; `None` where there is no such disk.
    ///
    /// # Errors
    /// If it cannot be looked at.
    pub async fn free_percent(&self) -> Result<Option<u8>, QuarantineError> {
        Ok(self.place.free_percent().await?)
    }

    /// The items of one of a copy's parts.
    ///
    /// # Errors
    /// If anything of it is not as it was written.
    pub async fn items(&self, part: &PartHeader) -> Result<Vec<Item>, QuarantineError> {
        let content = self.place.get(&part.name).await?;
        let bytes = content.len();
        let (expected, encrypted, key) = (part.sha256.clone(), part.encrypted, self.key.clone());
        let id_type = self.id_type;
        let unpack = move || {
            if sha256(&content) != expected {
                return Err(PartError::Damaged("its checksum is not the header's".to_owned()));
            }
            part::read(&content, encrypted, key.as_ref(), id_type)
        };
        self.work((&part.name, bytes), unpack).await
    }

    /// Removes a copy, its header first: what is cut off half way is a copy no more, and its parts are what was never finished. (A header whose
    /// parts have gone would stay for good, and fail whoever wants it back, if a course that it names lives again meanwhile.)
    ///
    /// # Errors
    /// If something of it is still there.
    pub async fn remove(&self, archive: &Archive) -> Result<(), QuarantineError> {
        self.place.remove(&self.name(&archive.store, archive.id, "json")).await?;
        for part in &archive.parts {
            self.place.remove(&part.name).await?;
        }
        let _ = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| Some(used.saturating_sub(archive.bytes)));
        Ok(())
    }

    /// What a doctor tells of the place: whether a copy can be written, read and removed, and what room there is. What it writes is
    /// gone again.
    pub async fn examine(&self) -> Vec<Finding> {
        const MOUNT: &str =
            "see that `quarantine.folder` is a volume that may be written to, or the bucket's key may read and write";
        let name = format!("{}/doctor-{}", self.installation, Uuid::new_v4().simple());
        let probe = async {
            self.place.put_new(&name, Bytes::from_static(b"course-gc doctor\n")).await?;
            let read = self.place.get(&name).await;
            self.place.remove(&name).await?;
            read
        };
        let mut findings = vec![match probe.await {
            Ok(_) => Finding::ok(
                "writable",
                format!("a file was written, synced, read and removed at {}", self.place.shown()),
            ),
            Err(error) => Finding::problem("writable", chain(&error), MOUNT),
        }];
        let Room { max_bytes, min_free_percent } = self.room;
        match self.place.free_percent().await {
            Ok(None) => {}
            Ok(Some(free)) if free < min_free_percent => {
                let seen = format!(
                    "{free} % of its disk are free, and {min_free_percent} % must stay so (`quarantine.min_free`)"
                );
                findings.push(Finding::problem(
                    "disk",
                    seen,
                    "make room, or purge: nothing that needs a copy is deleted until then",
                ));
            }
            Ok(Some(free)) => findings.push(Finding::ok("disk", format!("{free} % of its disk are free"))),
            Err(error) => findings.push(Finding::problem("disk", chain(&error), MOUNT)),
        }
        match self.place.list(&self.installation).await {
            Ok(objects) => {
                let used: u64 = objects.iter().map(|(_, bytes)| bytes).sum();
                let seen = format!("{used} of at most {max_bytes} bytes are taken");
                findings.push(match used >= max_bytes {
                    true => Finding::problem("room", seen, "purge, or raise `quarantine.max_size`"),
                    false => Finding::ok("room", seen),
                });
            }
            Err(error) => findings.push(Finding::problem("room", chain(&error), MOUNT)),
        }
        findings
    }

    async fn header(&self, name: &str) -> Result<Archive, QuarantineError> {
        let json = self.place.get(name).await?;
        self.parse(&json).map_err(|source| self.unusable(name, source))
    }

    fn parse(&self, json: &[u8]) -> Result<Archive, PartError> {
        let header: Header = serde_json::from_slice(json).map_err(|why| PartError::Damaged(why.to_string()))?;
        let id = |text: &String| {
            let foreign = || PartError::Foreign(format!("`{text}` is no id of the configured course_id type"));
            self.id_type.parse(text.as_bytes()).ok_or_else(foreign)
        };
        let courses = header.courses.iter().map(|(course, held)| Ok((id(course)?, *held)));
        Ok(Archive {
            id: CopyId {
                run: header.run,
                batch: header.batch,
                taken_at: header.taken_at,
                expires_at: header.expires_at,
            },
            store: header.store,
            courses: courses.collect::<Result<_, PartError>>()?,
            named: header.named.iter().map(id).collect::<Result<_, _>>()?,
            bytes: header.parts.iter().map(|part| part.bytes).sum::<u64>() + json.len() as u64,
            parts: header.parts,
        })
    }

    fn name(&self, store: &str, id: CopyId, ending: &str) -> String {
        format!("{}/{}/{store}/{:05}.{ending}", self.installation, id.run, id.batch)
    }

    fn unusable(&self, name: &str, source: PartError) -> QuarantineError {
        QuarantineError::Unusable { name: name.to_owned(), place: self.place.shown(), source }
    }

    /// Packs or unpacks so many bytes: beside the tasks, if they would be kept waiting.
    async fn work<T: Send + 'static>(
        &self,
        (name, bytes): (&str, usize),
        job: impl FnOnce() -> Result<T, PartError> + Send + 'static,
    ) -> Result<T, QuarantineError> {
        let done = match bytes {
            ..AT_ONCE => job(),
            _ => {
                let done = tokio::task::spawn_blocking(job).await;
                done.map_err(|error| QuarantineError::Lost(name.to_owned(), error))?
            }
        };
        done.map_err(|error| self.unusable(name, error))
    }

    async fn write(&self, name: &str, content: Bytes) -> Result<u64, QuarantineError> {
        let bytes = content.len() as u64;
        let Room { max_bytes, min_free_percent } = self.room;
        if self.used().saturating_add(bytes) > max_bytes {
            return Err(QuarantineError::Full(format!(
                "{} of at most {max_bytes} bytes are taken; purge, or raise quarantine.max_size",
                self.used()
            )));
        }
        if let Some(free) = self.place.free_percent().await?
            && free < min_free_percent
        {
            return Err(QuarantineError::Full(format!(
                "{free} % of the disk at {} are free, and {min_free_percent} % must stay so",
                self.place.shown()
            )));
        }
        self.place.put_new(name, content).await?;
        self.used.fetch_add(bytes, Ordering::Relaxed);
        Ok(bytes)
    }
}

/// The run in the name of an object.
fn run_of(name: &str) -> Option<Uuid> {
    Uuid::try_parse(name.split('/').nth(1)?).ok()
}

/// A copy that is being made.
pub struct Writer<'a> {
    archives: &'a Archives,
    archive: Archive,
    items: Vec<Item>,
    /// The bytes of the items that are in no part yet.
    waiting: usize,
    failed: Option<QuarantineError>,
}

impl Writer<'_> {
    /// Writes what is left, and the header. Durable when this returns; `None` if there was nothing to copy.
    ///
    /// # Errors
    /// If anything of it could not be kept: then nothing of the batch may be deleted.
    pub async fn finish(mut self) -> Result<Option<Archive>, QuarantineError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        self.close_part().await?;
        let Self { archives, mut archive, .. } = self;
        if archive.parts.is_empty() {
            return Ok(None);
        }
        let CopyId { run, batch, taken_at, expires_at } = archive.id;
        let name = archives.name(&archive.store, archive.id, "json");
        let header = Header {
            version: 1,
            run,
            store: archive.store.clone(),
            batch,
            taken_at,
            expires_at,
            courses: archive.courses.iter().map(|(course, held)| (course.to_string(), *held)).collect(),
            named: archive.named.iter().map(CourseId::to_string).collect(),
            parts: archive.parts.clone(),
        };
        let json = serde_json::to_vec_pretty(&header)
            .map_err(|error| archives.unusable(&name, PartError::Unreadable(error.into())))?;
        archive.bytes += archives.write(&name, json.into()).await?;
        Ok(Some(archive))
    }

    /// Why no more could be kept, if so.
    pub fn failed(self) -> Option<QuarantineError> {
        self.failed
    }

    async fn close_part(&mut self) -> Result<(), QuarantineError> {
        if self.items.is_empty() {
            return Ok(());
        }
        let archives = self.archives;
        let encrypted = archives.key.is_some();
        let ending = format!("{:03}.tar.zst{}", self.archive.parts.len(), if encrypted { ".age" } else { "" });
        let name = archives.name(&self.archive.store, self.archive.id, &ending);
        let (items, key) = (std::mem::take(&mut self.items), archives.key.clone());
        let bytes = std::mem::take(&mut self.waiting);
        let (content, checksum) = archives
            .work((&name, bytes), move || {
                let content = part::write(&items, key.as_ref())?;
                let checksum = sha256(&content);
                Ok((content, checksum))
            })
            .await?;
        let bytes = archives.write(&name, content).await?;
        self.archive.bytes += bytes;
        self.archive.parts.push(PartHeader { name, bytes, sha256: checksum, encrypted });
        Ok(())
    }
}

#[async_trait]
impl Copies for Writer<'_> {
    async fn add(&mut self, item: Item) -> Result<(), StoreError> {
        let held = self.archive.courses.entry(item.course).or_default();
        *held = (held.0 + 1, held.1 + item.content.len() as u64);
        self.waiting += item.content.len() + item.name.len() + size_of::<Item>();
        self.items.push(item);
        if self.waiting < PART_BYTES {
            return Ok(());
        }
        self.close_part().await.map_err(|error| {
            let said = error.to_string();
            self.failed = Some(error);
            StoreError::Unusable(said)
        })
    }
}
