//! Where resources lie. A store lists, locates, deletes and counts; it decides nothing.
//!
//! A store knows `domain` and one type of `sweep`: [`Condemned`], the only thing that [`Store::delete`] takes. It knows
//! neither the ledger nor the liveness sources nor another store.
//!
//! Every call to a server has a timeout, and no delete is ever retried by a client (S2). Calls that read or write what is stored begin
//! in their turn ([`Pace`]); what asks a server who it is does not wait for one.

pub mod bullmq;
#[cfg(test)]
pub(crate) mod contract;
pub mod copies;
pub mod files;
pub mod layout;
pub mod objects;
pub(crate) mod pattern;
pub mod qdrant;
pub mod redis;
pub mod table;
pub mod template;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures::stream::BoxStream;
use tokio::sync::mpsc;

use self::copies::{Copied, Copies, CopyId, InPlace, Item, PutBack, Restoring};
use crate::domain::findings::Finding;
use crate::domain::ids::CourseId;
use crate::domain::inventory::{Census, Referred, SourceIndex};
pub use crate::domain::markers::Marker;
use crate::pace::Pace;
use crate::sweep::Condemned;

/// What to look for: by source, the courses whose resources are to be located.
#[derive(Debug, Clone, Default)]
pub struct Targets {
    by_source: Vec<HashSet<CourseId>>,
}

impl Targets {
    /// No course in any of `sources` sources.
    pub fn none(sources: usize) -> Self {
        Self { by_source: vec![HashSet::new(); sources] }
    }

    /// Adds a course of a source.
    pub fn insert(&mut self, source: SourceIndex, course: CourseId) {
        if let Some(courses) = self.by_source.get_mut(source.0) {
            courses.insert(course);
        }
    }

    /// True if this course's resources in this source are wanted.
    pub fn contains(&self, source: SourceIndex, course: CourseId) -> bool {
        self.by_source.get(source.0).is_some_and(|courses| courses.contains(&course))
    }

    /// The courses wanted of a source, in no order.
    pub fn of(&self, source: SourceIndex) -> impl Iterator<Item = CourseId> + '_ {
        self.by_source.get(source.0).into_iter().flatten().copied()
    }

    /// True if nothing is wanted.
    pub fn is_empty(&self) -> bool {
        self.by_source.iter().all(HashSet::is_empty)
    }
}

/// One deletable thing that a store found for a course.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handle {
    /// Where it was found.
    pub source: SourceIndex,
    /// The course that owns it.
    pub owner: CourseId,
    /// Every other id that its name holds; all of them must be dead too (S5).
    pub mentions: Vec<CourseId>,
    /// What the store deletes by: a key, a path below the root; empty where the course itself is the handle.
    pub key: Bytes,
}

/// What became of one handle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was there and is gone: so many resources, so many bytes where known.
    Deleted {
        /// Points, keys or files that went.
        resources: u64,
        /// Their size in bytes.
        bytes: Option<u64>,
    },
    /// A part of it went, which may be nothing. The rest stays: it was written to since it was copied or looked at, or something
    /// alive refers to it.
    Partly {
        /// Points, keys or files that went.
        resources: u64,
        /// Their size in bytes.
        bytes: Option<u64>,
        /// How many stay.
        left: u64,
    },
    /// It had gone before.
    Absent,
    /// The store refused or failed; the cause in words.
    Failed(String),
    /// It was not sent: the confirmation grew stale, or an earlier failure ended the batch.
    Unattempted,
}

/// What a delete did, handle by handle, in the order of [`Condemned::handles`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Removed {
    /// As many as the batch had handles.
    pub outcomes: Vec<Outcome>,
}

/// Why a store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The server could not be reached, or refused.
    #[error("{action}")]
    Server {
        /// What was being done, where, and what to do about it.
        action: String,
        /// The client's error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A call did not answer within its time.
    #[error("{action}: no answer within {seconds} s")]
    Timeout {
        /// What was being done.
        action: String,
        /// The limit.
        seconds: f64,
    },
    /// The store is not what the configuration says, or answered nonsense.
    #[error("{0}")]
    Unusable(String),
    /// Whoever receives the handles has gone.
    #[error("the sweep was stopped")]
    Stopped,
}

impl StoreError {
    /// An error of the server, with what was being done.
    pub fn server(action: impl Into<String>, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Server { action: action.into(), source: Box::new(source) }
    }
}

/// Paths that something alive still refers to, streamed from a liveness source.
pub type References<'a> = BoxStream<'a, Result<Vec<u8>, StoreError>>;

/// What is referred to in a store (S9).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Referenced {
    /// How much, of each course of which something is.
    pub courses: BTreeMap<CourseId, Referred>,
    /// What a delete of the rest must leave: keys below those of handles, or their own. Opaque to all but the store that gave
    /// them.
    pub keys: BTreeSet<Bytes>,
}

impl Referenced {
    /// True if nothing of this course may go.
    pub fn holds(&self, course: CourseId) -> bool {
        self.courses.get(&course) == Some(&Referred::Wholly)
    }
}

/// A store of one kind, at one place.
#[async_trait]
pub trait Store: Send + Sync {
    /// Its name in the configuration.
    fn name(&self) -> &str;

    /// `qdrant`, `redis`, `bullmq`, `files`, `objects` or `table`.
    fn kind(&self) -> &'static str;

    /// Its sources' names, in the order of [`SourceIndex`]: collections, templates, the root.
    fn sources(&self) -> &[String];

    /// The most handles that one [`Store::delete`] may be given.
    fn batch_limit(&self) -> usize;

    /// At which pace its server is called; `None` if it has none.
    fn pace(&self) -> Option<&Pace> {
        None
    }

    /// What tells this place from another one of the same address, in words (a run id, a device and inode).
    ///
    /// # Errors
    /// If the store cannot be reached.
    async fn identity(&self) -> Result<String, StoreError>;

    /// The marker that installations left at this place when they adopted it (S7); `None` if nobody did. Changes nothing.
    ///
    /// # Errors
    /// If the store cannot be reached, or holds something in the marker's place that is none.
    async fn marker(&self) -> Result<Option<Marker>, StoreError>;

    /// Replaces the marker `from` by `to`, if it still is `from` as a whole, whoever's entry moves (`None`: if there is none);
    /// durable when this returns. `false` if something else is there: then nothing was changed.
    ///
    /// # Errors
    /// If the store cannot be reached or written.
    async fn move_marker(&self, from: Option<&Marker>, to: &Marker) -> Result<bool, StoreError>;

    /// Gives what came to an adopted place since the marker that the rest of it carries, such as a collection that a pattern matches:
    /// until then it is held. What carries a marker stays as it is.
    ///
    /// # Errors
    /// If the store cannot be reached or written.
    async fn mark_newcomers(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Lists everything that the sources hold. `Ok` means complete: an error, a timeout, a page that could not be read
    /// make it an error, and nothing of this store is swept (S4).
    ///
    /// # Errors
    /// Whenever it cannot be sure to have seen everything.
    async fn inventory(&self, census: &mut Census) -> Result<(), StoreError>;

    /// Streams the handles of the targets' resources; one pass for all of them. Sends in small chunks and waits while
    /// the receiver is busy.
    ///
    /// # Errors
    /// As [`Store::inventory`]; what was sent before the error is valid.
    async fn locate(&self, targets: &Targets, handles: mpsc::Sender<Handle>) -> Result<(), StoreError>;

    /// The query whose answer names resources that are in use although their course may be dead (S9).
    fn reference_query(&self) -> Option<&str> {
        None
    }

    /// What `references` name of `courses`. A delete is given the answer that was asked for with its batch, and leaves what it
    /// names: [`Condemned::referenced`].
    ///
    /// # Errors
    /// If a reference or a resource cannot be read: then all of the store is held.
    async fn referenced(
        &self,
        _courses: &BTreeSet<CourseId>,
        _references: References<'_>,
    ) -> Result<Referenced, StoreError> {
        Ok(Referenced::default())
    }

    /// Copies what the handles stand for, all that they stand for, so that it can be put back byte for byte (S12): into
    /// `copies`, or beside the original, for a store that is [`Store::in_place`]. One outcome a handle, in their order.
    /// Deletes nothing. Whoever shares a handle's place with it (an id that names it now and did not when it was located) makes
    /// it fail.
    ///
    /// # Errors
    /// If copying had to end: then nothing of the batch is deleted.
    async fn copy(&self, id: &CopyId, handles: &[Handle], copies: &mut dyn Copies) -> Result<Vec<Copied>, StoreError>;

    /// Puts back items that [`Store::copy`] gave to an archive, one outcome an item, in their order. Twice is harmless.
    async fn put_back(&self, items: &[Item], restoring: Restoring) -> Vec<PutBack>;

    /// The copies that the store keeps itself, if it does; then it gives none to an archive.
    fn in_place(&self) -> Option<&dyn InPlace> {
        None
    }

    /// Deletes a batch: where [`Condemned::safe`] has receipts, only what still is as they say. Sends nothing that is no longer
    /// [`Condemned::is_fresh`]. Deleting twice is harmless (S11).
    async fn delete(&self, batch: &Condemned) -> Removed;

    /// Removes what deletes of ours left empty around what they took, such as a directory above courses', once nothing has happened
    /// in it for so long. `now` is when the run began, in the ledger's time.
    ///
    /// # Errors
    /// If it cannot be looked for, or does not go.
    async fn tidy(&self, _now: DateTime<Utc>, _untouched_for: TimeDelta) -> Result<(), StoreError> {
        Ok(())
    }

    /// What else a doctor would tell of the place, beside that it can be reached and whose it is: its settings, and our rights there.
    /// Changes nothing but files of our own, which are gone again.
    async fn examine(&self) -> Vec<Finding> {
        Vec::new()
    }

    /// How many resources remain of the targets, by course and source, counted exactly in the store itself. Entangled
    /// ones count too: what remains, remains.
    ///
    /// # Errors
    /// As [`Store::inventory`].
    async fn remaining(&self, targets: &Targets) -> Result<Vec<(SourceIndex, CourseId, u64)>, StoreError>;
}
