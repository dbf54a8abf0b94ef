//! What a store does so that a delete can be undone (S12).
//!
//! Before a batch is confirmed, its store copies what the handles stand for, and gives a [`Receipt`] a handle; `delete` then
//! takes only what still is as its receipt says. Most stores hand their copies, [`Item`] by item, to an archive. A store in
//! which a copy is best kept beside the original (files, objects) keeps it itself: [`InPlace`].

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::StoreError;
use crate::clock::Deadline;
use crate::domain::ids::CourseId;

/// Which batch a copy was made for. No two batches have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CopyId {
    /// The run.
    pub run: Uuid,
    /// The batch's number within its run and store, from 1 on.
    pub batch: u32,
    /// When the run began, in the ledger's time.
    pub taken_at: DateTime<Utc>,
    /// Until when it is kept, in the same time.
    pub expires_at: DateTime<Utc>,
}

impl fmt::Display for CopyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:05}", self.run, self.batch)
    }
}

/// One resource in an archive, as a store wrote it and reads it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The source that it was found in, by name.
    pub source: String,
    /// Whose it is.
    pub course: CourseId,
    /// What a person calls it, once in a source: a key, a point's id.
    pub name: Bytes,
    /// What its store needs besides the content to put it back, such as the time that it had to live.
    pub attributes: BTreeMap<String, String>,
    /// Its content, in a form of the store's own.
    pub content: Bytes,
}

/// A name or a path as a description of a copy holds it: as text where it is some, else as its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum NameText {
    /// Text.
    Text(String),
    /// What is no text.
    Bytes(Vec<u8>),
}

impl From<&[u8]> for NameText {
    fn from(name: &[u8]) -> Self {
        match std::str::from_utf8(name) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Bytes(name.to_vec()),
        }
    }
}

impl From<NameText> for Bytes {
    fn from(name: NameText) -> Self {
        match name {
            NameText::Text(text) => text.into(),
            NameText::Bytes(bytes) => bytes.into(),
        }
    }
}

/// Takes the items that a store copies.
#[async_trait]
pub trait Copies: Send {
    /// Adds an item; it may still be lost until the copy as a whole is finished, which is not the store's concern.
    ///
    /// # Errors
    /// If it cannot be kept: then the store stops copying, and nothing of the batch is deleted.
    async fn add(&mut self, item: Item) -> Result<(), StoreError>;
}

/// What a delete may take of a handle: what was copied, as it was then. Opaque to all but the store that made it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Receipt(pub Bytes);

/// What became of one handle when it was to be copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Copied {
    /// Its copy is complete.
    Whole(Receipt),
    /// There is nothing any more.
    Absent,
    /// It could not be copied, and stays; the cause in words.
    Failed(String),
}

/// The copies of a batch, once they are safe: by handle, in the order of [`crate::sweep::Condemned::handles`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Safe {
    /// Which copy.
    pub id: CopyId,
    /// As many as there are handles.
    pub receipts: Vec<Receipt>,
}

/// What to do when something is put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restoring {
    /// Change nothing; say what [`Restoring::Missing`] would do.
    Look,
    /// Put back what is not there; what exists stays as it is.
    Missing,
    /// Put back everything, in place of what exists.
    Overwrite,
}

/// What became of one thing that was to be put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutBack {
    /// It is back, or would be.
    Restored,
    /// Something is there under its name, and stays.
    Exists,
    /// It could not be; the cause in words. The copy stays.
    Failed(String),
}

/// A copy that a store keeps beside the original.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedCopy {
    /// Which copy.
    pub id: CopyId,
    /// The source that it was found in, by name.
    pub source: String,
    /// Whose it was.
    pub course: CourseId,
    /// Everybody else who is named in it.
    pub mentions: Vec<CourseId>,
    /// Where it was: a path below the root, an object's name.
    pub name: Bytes,
    /// Where it is now. Opaque to all but its store.
    pub key: Bytes,
    /// Files or objects.
    pub resources: u64,
    /// What it takes.
    pub bytes: u64,
}

/// The copies that a store keeps beside the originals.
#[async_trait]
pub trait InPlace: Send + Sync {
    /// Every copy that was finished, in no order.
    ///
    /// # Errors
    /// If they cannot all be listed.
    async fn copies(&self) -> Result<Vec<PlacedCopy>, StoreError>;

    /// Puts one back to where it was, in part or as a whole; harmless when it was before. What is back as a whole is no copy
    /// any more.
    async fn put_back(&self, copy: &PlacedCopy, restoring: Restoring) -> PutBack;

    /// Removes one for good, if that begins before `good` is over; harmless when it has gone. False: it did not, and nothing went.
    ///
    /// # Errors
    /// If it, or a part of it, is still there.
    async fn purge(&self, copy: &PlacedCopy, good: &Deadline) -> Result<bool, StoreError>;

    /// Removes what copies of other runs than the current one left that were never finished.
    ///
    /// # Errors
    /// If it cannot be looked for.
    async fn remove_unfinished(&self, current: Uuid) -> Result<(), StoreError>;
}
