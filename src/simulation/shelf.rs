//! A store in memory: resources that name courses, in pages, as a server would list them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::observer::Look;
use super::safeguards::Safeguard;
use super::vault;
use super::world::{Lost, State, Who, World};
use crate::clock::Deadline;
use crate::domain::ids::CourseId;
use crate::domain::inventory::{Amount, Census, Referred, SourceIndex};
use crate::domain::markers::{Owner, truths};
use crate::stores::copies::{Copied, Copies, CopyId, InPlace, Item, PlacedCopy, PutBack, Receipt, Restoring};
use crate::stores::{Handle, Marker, Outcome, Referenced, References, Removed, Store, StoreError, Targets};
use crate::sweep::Condemned;

/// How many resources one call lists.
const PAGE: usize = 8;

/// What a store holds.
#[derive(Debug, Clone, Default)]
pub struct Shelf {
    pub resources: BTreeMap<Vec<u8>, Resource>,
    pub marker: Option<Marker>,
}

/// Something in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    pub source: SourceIndex,
    /// Whose it is; `None` if its name holds no canonical id.
    pub owner: Option<CourseId>,
    /// Who else is in its name.
    pub mentions: Vec<CourseId>,
}

/// One process's access to a store.
pub struct MemoryStore {
    pub world: Arc<World>,
    pub who: Who,
    /// Which shelf.
    pub shelf: usize,
    pub name: String,
    pub sources: Vec<String>,
    /// Something alive may refer to what it holds.
    pub has_references: bool,
    /// The most that it deletes in one batch.
    pub batch_limit: usize,
    /// What does not work.
    pub without: Option<Safeguard>,
    /// What goes wrong each time.
    pub trouble: Option<Trouble>,
}

/// What goes wrong in a store, each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// A resource of this key cannot be copied.
    Copying(&'static str),
    /// It keeps copies beside the originals as well, and cannot list them.
    Listing,
    /// Somebody who has a copy of our ledger moves the marker right before we do.
    Moving,
}

impl MemoryStore {
    async fn call<T>(&self, action: &str, effect: impl FnOnce(&mut State) -> T) -> Result<T, StoreError> {
        let failed = |error: Lost| StoreError::server(format!("store {}: {action}", self.name), error);
        self.world.call(self.who, effect).await.map_err(failed)
    }

    /// The next page after what was listed so far; empty at the end.
    async fn page(&self, listed: &mut Vec<u8>) -> Result<Vec<(Vec<u8>, Resource)>, StoreError> {
        let from = (Bound::Excluded(listed.clone()), Bound::Unbounded);
        let page: Vec<(Vec<u8>, Resource)> = self
            .call("listing", |state| {
                let page = state.shelves[self.shelf].resources.range::<Vec<u8>, _>(from).take(PAGE);
                page.map(|(key, resource)| (key.clone(), resource.clone())).collect()
            })
            .await?;
        if let Some((last, _)) = page.last() {
            listed.clone_from(last);
        }
        Ok(page)
    }

    async fn list(&self, census: &mut Census) -> Result<(), StoreError> {
        let mut listed = Vec::new();
        loop {
            let page = self.page(&mut listed).await?;
            if page.is_empty() {
                return Ok(());
            }
            for (key, resource) in page {
                let mentions = || self.mentions(&resource).to_vec();
                // What names somebody alive stays anyway, and is no part of what waits.
                let stays = resource.mentions.iter().any(|id| census.is_live(*id));
                if let Some(owner) = resource.owner.filter(|_| !stays) {
                    self.world.state().observer.sighted(self.who, &self.name, resource.source, owner, &key);
                }
                match resource.owner {
                    None => census.unrecognised(resource.source, &key, 1),
                    Some(owner) => {
                        census.observe(resource.source, owner, Amount::one(self.fingerprinted(&key), Some(1)), mentions)
                    }
                }
            }
        }
    }

    fn fingerprinted<'a>(&self, key: &'a [u8]) -> &'a [u8] {
        if self.without == Some(Safeguard::Growth) { b"" } else { key }
    }

    fn mentions<'a>(&self, resource: &'a Resource) -> &'a [CourseId] {
        if self.without == Some(Safeguard::Mentions) { &[] } else { &resource.mentions }
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "memory"
    }

    fn sources(&self) -> &[String] {
        &self.sources
    }

    fn batch_limit(&self) -> usize {
        self.batch_limit
    }

    async fn identity(&self) -> Result<String, StoreError> {
        self.call("asking who it is", |_| self.name.clone()).await
    }

    async fn marker(&self) -> Result<Option<Marker>, StoreError> {
        let looking = |state: &mut State| {
            let marker = state.shelves[self.shelf].marker.clone();
            state.looked(self.who, self.shelf, marker.as_ref(), self.world.now());
            marker
        };
        let marker = self.call("reading the marker", looking).await?;
        let moved_to = self.world.state().observer.moved_to(self.who, self.shelf);
        let adoption = self.world.state().tables(self.who).and_then(|tables| tables.adoption.clone());
        let expected = adoption.and_then(|adoption| {
            let counter = adoption.stores.get(&self.name)?.counter;
            let truths = truths(adoption.sources.values().map(|(pin, _)| (pin, Some("ours"))));
            Some(Owner { installation: adoption.installation, name: "campus".to_owned(), counter, truths })
        });
        // A safeguard that is blind sees what it wants to see.
        Ok(match (self.without, marker, expected) {
            (Some(Safeguard::Counter), Some(marker), Some(expected)) => match marker.owner(expected.installation) {
                Some(ours) => Some(marker.with(Owner { counter: expected.counter, ..ours.clone() })),
                None => Some(marker),
            },
            (Some(Safeguard::Adoption), _, Some(expected)) => Some(Marker::of(expected)),
            (Some(Safeguard::MarkerWithBatch), marker, _) => moved_to.or(marker),
            (_, marker, _) => marker,
        })
    }

    async fn move_marker(&self, from: Option<&Marker>, to: &Marker) -> Result<bool, StoreError> {
        let blind = matches!(self.without, Some(Safeguard::Counter | Safeguard::Adoption));
        self.call("moving the marker", |state| {
            if let (Some(Trouble::Moving), Some(marker)) = (self.trouble, &mut state.shelves[self.shelf].marker) {
                let ours = marker.owners()[0].clone();
                *marker = marker.with(Owner { counter: ours.counter + 1, ..ours });
            }
            let there = state.shelves[self.shelf].marker.clone();
            let moves = blind || there.as_ref() == from;
            if moves {
                state.moved(self.who, self.shelf, to, self.world.now());
            }
            moves
        })
        .await
    }

    async fn inventory(&self, census: &mut Census) -> Result<(), StoreError> {
        let listed = self.list(census).await;
        if listed.is_err() {
            self.world.state().observer.incomplete(self.who, &self.name);
            if self.without == Some(Safeguard::CompleteInventory) {
                return Ok(());
            }
        }
        listed
    }

    async fn locate(&self, targets: &Targets, handles: mpsc::Sender<Handle>) -> Result<(), StoreError> {
        let mut listed = Vec::new();
        loop {
            let unlocated = |_: &StoreError| self.world.state().observer.unlocated(self.who, &self.name);
            let page = self.page(&mut listed).await.inspect_err(unlocated)?;
            if page.is_empty() {
                return Ok(());
            }
            for (key, resource) in page {
                let wanted = resource.owner.filter(|owner| targets.contains(resource.source, *owner));
                let Some(owner) = wanted else { continue };
                let (source, mentions, key) = (resource.source, self.mentions(&resource).to_vec(), Bytes::from(key));
                let handle = Handle { source, owner, mentions, key };
                handles.send(handle).await.map_err(|_| StoreError::Stopped)?;
            }
        }
    }

    fn reference_query(&self) -> Option<&str> {
        self.has_references.then_some("what is referred to")
    }

    async fn referenced(
        &self,
        courses: &BTreeSet<CourseId>,
        references: References<'_>,
    ) -> Result<Referenced, StoreError> {
        let keys: Vec<Vec<u8>> = references.try_collect().await?;
        self.call("looking at what is referred to", |state| {
            let mut referenced = Referenced::default();
            for key in keys {
                let Some(resource) = state.shelves[self.shelf].resources.get(&key) else { continue };
                let Some(owner) = resource.owner.filter(|owner| courses.contains(owner)) else { continue };
                let part = referenced.courses.entry(owner).or_insert(Referred::Partly(Amount::default()));
                match part {
                    // An inventory may count it as what names somebody alive.
                    _ if !resource.mentions.is_empty() => *part = Referred::Wholly,
                    Referred::Partly(amount) => amount.add(Amount::one(self.fingerprinted(&key), Some(1))),
                    Referred::Wholly => {}
                }
                referenced.keys.insert(Bytes::from(key));
            }
            state.observer.set_aside(self.who, &self.name, &referenced);
            referenced
        })
        .await
    }

    async fn copy(&self, _: &CopyId, handles: &[Handle], copies: &mut dyn Copies) -> Result<Vec<Copied>, StoreError> {
        let mut copied = Vec::with_capacity(handles.len());
        for handle in handles {
            if self
                .trouble
                .is_some_and(|trouble| matches!(trouble, Trouble::Copying(key) if key.as_bytes() == handle.key))
            {
                copied.push(Copied::Failed("it cannot be read".to_owned()));
                continue;
            }
            let found = self.call("copying", |state| state.shelves[self.shelf].resources.get(&handle.key[..]).cloned());
            copied.push(match found.await? {
                Some(resource) => {
                    copies.add(vault::item(&self.sources, handle.owner, &handle.key, &resource)).await?;
                    Copied::Whole(Receipt(vault::written(&resource)))
                }
                None => {
                    self.world.state().observer.missed(self.who);
                    Copied::Absent
                }
            });
        }
        Ok(copied)
    }

    async fn put_back(&self, items: &[Item], restoring: Restoring) -> Vec<PutBack> {
        let mut outcomes = Vec::with_capacity(items.len());
        for item in items {
            let resource = vault::resource(&self.sources, item);
            let blind = self.without == Some(Safeguard::PutBack);
            let put = self.call("putting back", |state| {
                let resources = &mut state.shelves[self.shelf].resources;
                let exists = resources.contains_key(&item.name[..]) && restoring != Restoring::Overwrite;
                if !exists && restoring != Restoring::Look && !blind {
                    resources.insert(item.name.to_vec(), resource);
                }
                if resources.contains_key(&item.name[..]) {
                    state.observer.put_back(self.who, self.shelf, &item.name);
                }
                exists
            });
            outcomes.push(match put.await {
                Ok(true) => PutBack::Exists,
                Ok(false) => PutBack::Restored,
                Err(error) => PutBack::Failed(crate::errors::chain(&error)),
            });
        }
        outcomes
    }

    fn in_place(&self) -> Option<&dyn InPlace> {
        (self.trouble == Some(Trouble::Listing)).then_some(self)
    }

    async fn delete(&self, batch: &Condemned) -> Removed {
        let mut broken = false;
        let mut outcomes = Vec::new();
        for (n, handle) in batch.handles().iter().enumerate() {
            if broken || !batch.is_fresh() {
                outcomes.push(Outcome::Unattempted);
                continue;
            }
            let stays = batch.referenced().keys.contains(&handle.key);
            if stays && self.without != Some(Safeguard::ReferencedStays) {
                outcomes.push(Outcome::Partly { resources: 0, bytes: None, left: 1 });
                continue;
            }
            let sent_at = self.world.now();
            let copied = batch.safe().map(|safe| &safe.receipts[n]);
            let gone = self.call("deleting", |state| {
                let there = state.shelves[self.shelf].resources.get(&handle.key[..]);
                let is_as_copied = |resource| copied.is_none_or(|receipt| receipt.0 == vault::written(resource));
                there
                    .is_none_or(is_as_copied)
                    .then(|| state.delete(self.who, self.shelf, handle, (sent_at, self.world.now())))
            });
            outcomes.push(
                match gone.await.map(|gone| gone.ok_or(Outcome::Partly { resources: 0, bytes: None, left: 1 })) {
                    Ok(Err(changed)) => changed,
                    Ok(Ok(true)) => Outcome::Deleted { resources: 1, bytes: Some(1) },
                    Ok(Ok(false)) => Outcome::Absent,
                    Err(error) => {
                        broken = true;
                        Outcome::Failed(crate::errors::chain(&error))
                    }
                },
            );
        }
        Removed { outcomes }
    }

    async fn remaining(&self, targets: &Targets) -> Result<Vec<(SourceIndex, CourseId, u64)>, StoreError> {
        let mut counts: BTreeMap<(SourceIndex, CourseId), u64> = BTreeMap::new();
        let mut listed = Vec::new();
        loop {
            let page = self.page(&mut listed).await?;
            if page.is_empty() {
                break;
            }
            for (_, resource) in page {
                if let Some(owner) = resource.owner.filter(|owner| targets.contains(resource.source, *owner)) {
                    *counts.entry((resource.source, owner)).or_default() += 1;
                }
            }
        }
        Ok(counts.into_iter().map(|((source, course), count)| (source, course, count)).collect())
    }
}

/// Copies beside the originals that nobody can list.
#[async_trait]
impl InPlace for MemoryStore {
    async fn copies(&self) -> Result<Vec<PlacedCopy>, StoreError> {
        Err(StoreError::Unusable(format!("store {}: its copies cannot be listed", self.name)))
    }

    async fn put_back(&self, _: &PlacedCopy, _: Restoring) -> PutBack {
        PutBack::Failed("it was never listed".to_owned())
    }

    async fn purge(&self, _: &PlacedCopy, _: &Deadline) -> Result<bool, StoreError> {
        Ok(true)
    }

    async fn remove_unfinished(&self, _: Uuid) -> Result<(), StoreError> {
        Ok(())
    }
}

impl State {
    fn looked(&mut self, who: Who, shelf: usize, there: Option<&Marker>, at: Duration) {
        let installation = self.tables(who).and_then(|tables| Some(tables.adoption.as_ref()?.installation));
        let is_ours = installation.is_some_and(|ours| there.is_some_and(|marker| marker.owner(ours).is_some()));
        self.observer.looked(who, shelf, Look { at, is_ours });
    }

    fn moved(&mut self, who: Who, shelf: usize, to: &Marker, at: Duration) {
        let is_in_it = |owner: &Owner| to.owner(owner.installation).is_some();
        let theirs = self.shelves[shelf].marker.replace(to.clone()).is_some_and(|it| !it.owners().iter().any(is_in_it));
        // Whoever is blind moves another's marker, too.
        if !theirs {
            self.observer.moved(who, shelf, to, at);
        }
    }

    fn delete(&mut self, who: Who, shelf: usize, handle: &Handle, (sent_at, now): (Duration, Duration)) -> bool {
        let key = handle.key.to_vec();
        // The worst moment for a course to come back: it was confirmed, and the delete is on its way.
        if self.weather.is_some() && self.once_in(400) {
            let campus = self.homes[&who].campus;
            self.open_course(campus, handle.owner, now);
        }
        let found = self.shelves[shelf].resources.remove(&key);
        self.observer.touched(who, found.is_some());
        let Some(resource) = found else { return false };
        self.judge_delete(who, shelf, &key, &resource, sent_at);
        true
    }
}
