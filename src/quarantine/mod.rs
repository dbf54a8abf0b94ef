//! What was deleted, until it expires (S12).
//!
//! Two kinds of copies look like one here: archives, which this module writes (`archives`, `part`, `key`, `place`), and what
//! stores keep beside the originals ([`crate::stores::copies::InPlace`]).
//!
//! Invariants: a copy is finished, and durable, before its originals are deleted; what is damaged is refused, never put back;
//! nothing is purged that was not asked about.

mod archives;
mod key;
mod part;
mod place;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::clock::Deadline;
use crate::domain::ids::CourseId;
use crate::errors::chain;
use crate::stores::copies::{CopyId, PlacedCopy, PutBack, Restoring};
use crate::stores::{Store, StoreError};

use archives::Found;
pub use archives::{Archive, Archives, PartHeader, QuarantineError, Room, Writer};
pub use key::Key;
pub use part::PartError;
pub use place::{ObjectPlace, Place, PlaceError};

/// Where copies go, and how long they stay.
pub struct Quarantine {
    /// The archives of the stores that keep no copies themselves.
    pub archives: Archives,
    /// How long a copy is kept.
    pub keep: Duration,
}

/// What is in quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// The copies that were asked for, by store, run and batch.
    pub copies: Vec<Copy>,
    /// How many there are in all.
    pub count: u64,
    /// What they take.
    pub bytes: u64,
    /// The runs that made them, as far as the copies' names tell.
    pub runs: BTreeSet<Uuid>,
    /// Parts of archives that were never finished.
    pub unfinished: Vec<String>,
    /// By store, or `archives`: why they could not be listed, with all causes.
    pub errors: BTreeMap<String, String>,
}

/// One copy, wherever it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// Its store's name.
    pub store: String,
    /// Which one.
    pub id: CopyId,
    /// How much of which course: resources and bytes.
    pub courses: BTreeMap<CourseId, (u64, u64)>,
    /// Everybody whom something in it names, the courses among them.
    pub named: BTreeSet<CourseId>,
    /// What it takes.
    pub bytes: u64,
    held: Held,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Held {
    Archive(Archive),
    Place(PlacedCopy),
}

impl Copy {
    /// An archive's.
    pub fn of_archive(archive: Archive) -> Self {
        let Archive { id, store, courses, named, bytes, .. } = archive.clone();
        Self { store, id, courses, named, bytes, held: Held::Archive(archive) }
    }

    /// A store's own.
    pub fn of_place(store: &str, placed: PlacedCopy) -> Self {
        let PlacedCopy { id, course, resources, bytes, .. } = placed;
        let named = placed.mentions.iter().copied().chain([course]).collect();
        let courses = BTreeMap::from([(course, (resources, bytes))]);
        Self { store: store.to_owned(), id, courses, named, bytes, held: Held::Place(placed) }
    }

    /// True if it lies beside the originals, in their store.
    pub fn is_in_place(&self) -> bool {
        matches!(self.held, Held::Place(_))
    }
}

/// What became of one resource that was to be put back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Returned {
    /// The store.
    pub store: String,
    /// The source that it was found in.
    pub source: String,
    /// Whose it is.
    #[schema(value_type = String)]
    pub course: CourseId,
    /// What it is called, printable.
    pub name: String,
    /// `restored`, `exists` or `failed`.
    pub outcome: &'static str,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

impl Returned {
    fn new(store: &str, (source, course, name): (&str, CourseId, &[u8]), put_back: PutBack) -> Self {
        let (outcome, cause) = match put_back {
            PutBack::Restored => ("restored", None),
            PutBack::Exists => ("exists", None),
            PutBack::Failed(cause) => ("failed", Some(cause)),
        };
        let (store, source) = (store.to_owned(), source.to_owned());
        Self { store, source, course, name: name.escape_ascii().to_string(), outcome, cause }
    }

    /// True if it is not back, and nothing is there in its place.
    pub fn failed(&self) -> bool {
        self.outcome == "failed"
    }
}

impl Quarantine {
    /// The finished copies of the runs that are wanted, in the archives and in these stores. A place whose copies cannot be
    /// listed is an error of its own.
    pub async fn copies(&self, stores: &[&dyn Store], wanted: &(dyn Fn(Uuid) -> bool + Send + Sync)) -> Listing {
        let mut listing = Listing::default();
        match self.archives.list(wanted).await {
            Ok(Found { archives, count, bytes, runs, unfinished }) => {
                listing.copies = archives.into_iter().map(Copy::of_archive).collect();
                (listing.count, listing.bytes, listing.runs, listing.unfinished) = (count, bytes, runs, unfinished);
            }
            Err(error) => _ = listing.errors.insert("archives".to_owned(), chain(&error)),
        }
        for store in stores {
            let Some(in_place) = store.in_place() else { continue };
            match in_place.copies().await {
                Ok(placed) => {
                    listing.count += placed.len() as u64;
                    listing.bytes += placed.iter().map(|placed| placed.bytes).sum::<u64>();
                    listing.runs.extend(placed.iter().map(|placed| placed.id.run));
                    let placed = placed.into_iter().filter(|placed| wanted(placed.id.run));
                    listing.copies.extend(placed.map(|placed| Copy::of_place(store.name(), placed)));
                }
                Err(error) => _ = listing.errors.insert(store.name().to_owned(), chain(&error)),
            }
        }
        listing.copies.sort_by(|a, b| (&a.store, a.id, &a.courses).cmp(&(&b.store, b.id, &b.courses)));
        listing
    }

    /// Puts back what a copy holds of a course, or all of it.
    pub async fn put_back(
        &self,
        store: &dyn Store,
        copy: &Copy,
        course: Option<CourseId>,
        restoring: Restoring,
    ) -> Vec<Returned> {
        match &copy.held {
            Held::Place(placed) => self.put_back_placed(store, placed, course, restoring).await,
            Held::Archive(archive) => self.put_back_archive(store, archive, course, restoring).await,
        }
    }

    async fn put_back_placed(
        &self,
        store: &dyn Store,
        placed: &PlacedCopy,
        course: Option<CourseId>,
        restoring: Restoring,
    ) -> Vec<Returned> {
        let Some(in_place) = store.in_place().filter(|_| course.is_none_or(|course| course == placed.course)) else {
            return Vec::new();
        };
        let what = (placed.source.as_str(), placed.course, &placed.name[..]);
        vec![Returned::new(store.name(), what, in_place.put_back(placed, restoring).await)]
    }

    async fn put_back_archive(
        &self,
        store: &dyn Store,
        archive: &Archive,
        course: Option<CourseId>,
        restoring: Restoring,
    ) -> Vec<Returned> {
        let mut returned = Vec::new();
        let is_wanted = |of: CourseId| course.is_none_or(|course| course == of);
        for part in &archive.parts {
            let mut items = match self.archives.items(part).await {
                Ok(items) => items,
                Err(error) => {
                    let cause = chain(&error);
                    for held in archive.courses.keys().filter(|held| is_wanted(**held)) {
                        let what = ("", *held, &b"a part of the copy"[..]);
                        returned.push(Returned::new(store.name(), what, PutBack::Failed(cause.clone())));
                    }
                    continue;
                }
            };
            items.retain(|item| is_wanted(item.course));
            let outcomes = store.put_back(&items, restoring).await;
            let missing = || PutBack::Failed(format!("store {} did not say what became of it", store.name()));
            let outcomes = outcomes.into_iter().chain(std::iter::repeat_with(missing));
            for (item, outcome) in items.iter().zip(outcomes) {
                let what = (item.source.as_str(), item.course, &item.name[..]);
                returned.push(Returned::new(store.name(), what, outcome));
            }
        }
        returned
    }

    /// Reads a copy whole, and compares it with its checksums. What lies beside the originals has none: it is there if it is
    /// listed.
    ///
    /// # Errors
    /// What is damaged.
    pub async fn verify(&self, copy: &Copy) -> Result<(), QuarantineError> {
        match &copy.held {
            Held::Archive(archive) => {
                for part in &archive.parts {
                    self.archives.items(part).await?;
                }
                Ok(())
            }
            Held::Place(_) => Ok(()),
        }
    }

    /// Removes a copy for good. Whoever calls it has asked who is live, and knows until when that is good: false, and nothing has gone, if
    /// that was over before it began.
    ///
    /// # Errors
    /// If it is still there, or a part of it.
    pub async fn purge(&self, store: Option<&dyn Store>, copy: &Copy, good: &Deadline) -> Result<bool, PurgeError> {
        if good.is_over() {
            return Ok(false);
        }
        match &copy.held {
            Held::Archive(archive) => {
                self.archives.remove(archive).await?;
                Ok(true)
            }
            Held::Place(placed) => match store.and_then(|store| store.in_place()) {
                Some(in_place) => Ok(in_place.purge(placed, good).await?),
                None => Err(PurgeError::NoStore(copy.store.clone())),
            },
        }
    }
}

/// Why a copy is still there.
#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    /// Of the archives.
    #[error(transparent)]
    Archive(#[from] QuarantineError),
    /// Of the store that keeps it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nobody can reach it.
    #[error("store {0} is not configured any more, and it keeps its copies itself")]
    NoStore(String),
}

#[cfg(test)]
mod tests;
