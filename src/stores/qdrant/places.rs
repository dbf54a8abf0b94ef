//! Where the store looks: the collections behind its names and patterns now, which of them it may touch, and what has gone meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use futures::{StreamExt, TryStreamExt};

use super::QdrantStore;
use super::collection::Collection;
use super::names::{self, Claim, Listed, Place};
use crate::domain::inventory::SourceIndex;
use crate::errors::chain;
use crate::stores::pattern::is_pattern;
use crate::stores::{Handle, StoreError, Targets};

/// How many collections are asked for their settings at once.
pub(super) const CONCURRENT: usize = 8;

/// What the last reading of the marker found.
#[derive(Debug, Clone)]
pub(super) struct Marked {
    /// The collections whose markers are the store's.
    pub(super) places: Vec<Place>,
    /// Whether matches of patterns beside them are held.
    pub(super) others: Others,
}

/// What becomes of a match that is not among the collections whose marker was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Others {
    /// Nobody adopted the store: all of it is shown, and whoever asks for the marker holds all of it.
    Shown,
    /// It came since the store was adopted.
    Held,
}

/// What became of a collection that a batch's handles name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lost {
    /// It has gone from the server.
    Gone,
    /// It is not the source's to touch any more, in words.
    NotOurs(String),
}

/// A source and the name of one of its collections, as handles have it.
pub(super) type Key<'a> = (SourceIndex, &'a [u8]);

/// What a handle says of where it is.
pub(super) fn key(handle: &Handle) -> Key<'_> {
    (handle.source, &handle.key)
}

impl QdrantStore {
    /// The collections that the configured names and patterns stand for now.
    pub(super) async fn resolve(&self) -> Result<Vec<Place>, StoreError> {
        let collections = match self.names.iter().any(|name| is_pattern(name)) {
            true => self.client.collections().await?,
            false => Vec::new(),
        };
        let listed = Listed { collections, aliases: self.client.aliases().await? };
        names::resolve(&self.names, &listed).map_err(|what| self.unusable(&what))
    }

    /// These collections as they are now, in the same order, without matches that have gone.
    pub(super) async fn look_at(&self, places: Vec<Place>) -> Result<Vec<Collection>, StoreError> {
        let look = |place: Place| async move {
            let info = self.client.info(&place.physical).await;
            let info = self.unless_gone(place.claim, &place.physical, info).await?;
            let key = self.keys.get(place.source.0).map(String::as_str).unwrap_or_default();
            Ok::<_, StoreError>(info.map(|info| Collection::new(place, key, self.id_type, &info)))
        };
        let looks: Vec<_> = places.into_iter().map(look).collect();
        futures::stream::iter(looks)
            .buffered(CONCURRENT)
            .try_filter_map(|found| async { Ok(found) })
            .try_collect()
            .await
    }

    /// All collections of the store, as they are now.
    pub(super) async fn collections(&self) -> Result<Vec<Collection>, StoreError> {
        self.look_at(self.resolve().await?).await
    }

    /// As [`Self::collections`], for looking for courses by filter: those of which something is wanted must allow it.
    pub(super) async fn searchable(&self, targets: &Targets) -> Result<Vec<Collection>, StoreError> {
        let collections = self.collections().await?;
        for collection in &collections {
            if let Some(why) = collection.unsearchable()
                && targets.of(collection.source).next().is_some()
            {
                return Err(self.unusable(&why));
            }
        }
        Ok(collections)
    }

    /// What a look at a collection gave; `None` if a pattern matched it and it has gone: then it holds nothing of anybody.
    ///
    /// # Errors
    /// The look's, if the collection is still there, or had to be.
    pub(super) async fn unless_gone<T>(
        &self,
        claim: Claim,
        physical: &str,
        looked: Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        match looked {
            Err(_) if claim == Claim::Matched && !self.client.exists(physical).await? => {
                tracing::info!(store = %self.name, collection = physical, "it has gone while it was looked at");
                Ok(None)
            }
            looked => looked.map(Some),
        }
    }

    /// Which collections are to be listed or searched: all but the matches that are held.
    ///
    /// # Errors
    /// If a name stands for another collection than the one whose marker was read.
    pub(super) fn still_marked(
        &self,
        collections: Vec<Collection>,
    ) -> Result<(Vec<Collection>, Vec<Collection>), StoreError> {
        let Some(marked) = self.marked() else { return Ok((collections, Vec::new())) };
        let read: BTreeMap<SourceIndex, &str> = (marked.places.iter())
            .filter(|place| place.claim == Claim::Named)
            .map(|place| (place.source, place.physical.as_str()))
            .collect();
        for now in &collections {
            if let Some(then) = read.get(&now.source).filter(|then| **then != now.physical) {
                let (name, now) = (self.source(now.source), &now.physical);
                return Err(self.unusable(&format!(
                    "`{name}` stood for collection `{then}` when its marker was read, and stands for `{now}` now; the next \
                     run asks whether that is ours"
                )));
            }
        }
        Ok(collections.into_iter().partition(|collection| marked.may_touch(collection.claim, &collection.physical)))
    }

    /// The collections that the handles name, as they are now, if the sources still stand for them. Of patterns' matches, those
    /// that still are.
    ///
    /// # Errors
    /// If a name stands for another collection now than the one in which its handles were located.
    pub(super) async fn still_located(&self, handles: &[Handle]) -> Result<Vec<Collection>, StoreError> {
        let places = self.resolve().await?;
        let (keys, marked) = (handles.iter().map(key).collect::<BTreeSet<_>>(), self.marked());
        let mut still = Vec::new();
        for (source, physical) in keys {
            match places.iter().find(|place| (place.source, place.physical.as_bytes()) == (source, physical)) {
                Some(place) if marked.as_ref().is_none_or(|marked| marked.may_touch(place.claim, &place.physical)) => {
                    still.push(place.clone());
                }
                Some(_) => {}
                None if is_pattern(self.source(source)) => {}
                None => {
                    let now = places.iter().find(|place| place.source == source);
                    return Err(self.unusable(&format!(
                        "`{}` stood for collection `{}` when its points were located, and for `{}` now: nothing was deleted, \
                         the next run looks again",
                        self.source(source),
                        physical.escape_ascii(),
                        now.map(|place| place.physical.as_str()).unwrap_or_default()
                    )));
                }
            }
        }
        self.look_at(still).await
    }

    /// Why a collection that a pattern matched is not among those that [`Self::still_located`] gave.
    pub(super) async fn lost(&self, (source, physical): Key<'_>) -> Lost {
        let name = String::from_utf8_lossy(physical);
        match self.client.exists(&name).await {
            Ok(false) => Lost::Gone,
            Ok(true) => Lost::NotOurs(format!(
                "collection `{name}` is no match of `{}` any more, or carries no marker: the next run looks again",
                self.source(source)
            )),
            Err(error) => Lost::NotOurs(chain(&error)),
        }
    }

    /// A source as it is configured.
    pub(super) fn source(&self, source: SourceIndex) -> &str {
        self.names.get(source.0).map(String::as_str).unwrap_or_default()
    }

    fn marked(&self) -> Option<Marked> {
        self.marked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn note(&self, marked: Marked) {
        *self.marked.lock().unwrap_or_else(PoisonError::into_inner) = Some(marked);
    }
}

impl Marked {
    /// True but for a match that came after the store was adopted, and that nobody adopted since.
    fn may_touch(&self, claim: Claim, physical: &str) -> bool {
        let was_there = || self.places.iter().any(|place| place.physical == physical);
        claim == Claim::Named || self.others == Others::Shown || was_there()
    }
}
