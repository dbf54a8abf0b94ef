//! A batch goes, some directories together: each is looked at and described beside the others, and what one call makes durable for all of
//! them is not asked for by each. They are moved one by one.
//!
//! The order is S11's: whatever says what a copy is is durable before the first of them moves.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;

use super::delete::{self, Inspected, Moved, Part};
use super::kept::{self, Entry, Shelf};
use super::watch::{Pulse, Watch};
use super::{FilesStore, Place, below, gone, moment};
use crate::errors::chain;
use crate::stores::copies::CopyId;
use crate::stores::{Handle, Outcome, Removed, StoreError};
use crate::sweep::Condemned;

/// How many directories are described before the first of them moves. Each takes three descriptors.
const TOGETHER: usize = 64;
/// How many of them are looked at, described or made durable at once.
pub(super) const AT_ONCE: usize = 8;

/// What a look at a handle came to.
enum Looked {
    /// There is nothing to do.
    Settled(Outcome),
    /// It may go.
    Ready(Box<(Inspected, Part)>),
}

/// A file system that stands still, and at which handle.
struct Stuck(usize, StoreError);

/// A directory that goes into quarantine: its place in the batch, what of it goes, and the copy that it becomes.
type Ready = (usize, Box<(Inspected, Part)>, CopyId);

impl FilesStore {
    /// Deletes a batch; a file system that stands still ends it.
    pub(super) async fn delete_batch(&self, batch: &Condemned) -> Removed {
        let handles = batch.handles();
        let mut outcomes = vec![Outcome::Unattempted; handles.len()];
        for (handles, outcomes) in handles.chunks(TOGETHER).zip(outcomes.chunks_mut(TOGETHER)) {
            if !batch.is_fresh() {
                break;
            }
            if let Err(Stuck(at, error)) = self.delete_some(batch, handles, outcomes).await {
                set(outcomes, at, Outcome::Failed(chain(&error)));
                break;
            }
        }
        Removed { outcomes }
    }

    async fn delete_some(&self, batch: &Condemned, handles: &[Handle], outcomes: &mut [Outcome]) -> Result<(), Stuck> {
        let looks: Vec<_> = handles.iter().map(|handle| self.look(batch, handle)).collect();
        let looked: Vec<_> = futures::stream::iter(looks).buffered(AT_ONCE).collect().await;
        let mut to_quarantine = Vec::new();
        for (at, looked) in looked.into_iter().enumerate() {
            match (looked.map_err(|error| Stuck(at, error))?, batch.safe()) {
                (Looked::Settled(outcome), _) => set(outcomes, at, outcome),
                // What was in the trash already was meant to be gone.
                (Looked::Ready(ready), Some(safe)) if !ready.0.is_trash => to_quarantine.push((at, ready, safe.id)),
                (Looked::Ready(ready), _) => {
                    if batch.is_fresh() {
                        let outcome = self.discard(batch, *ready).await;
                        set(outcomes, at, outcome.map_err(|error| Stuck(at, error))?);
                    }
                }
            }
        }
        self.keep(batch, to_quarantine, outcomes).await
    }

    async fn look(&self, batch: &Condemned, handle: &Handle) -> Result<Looked, StoreError> {
        let (again, referenced) = (handle.clone(), below(&batch.referenced().keys, &handle.key));
        let action = format!("look at `{}`", handle.key.escape_ascii());
        let look = self.blocking(self.call_timeout, action, move |place, pulse| {
            let Some(inspected) = delete::inspect(place, &again, pulse)? else { return Ok(None) };
            let part = delete::without(&inspected, referenced, pulse)?;
            Ok::<_, delete::Refusal>(Some((inspected, part)))
        });
        Ok(match look.await? {
            Ok(Some((_, part))) if part.stays() => {
                Looked::Settled(Outcome::Partly { resources: 0, bytes: Some(0), left: part.left })
            }
            Ok(Some(ready)) => Looked::Ready(Box::new(ready)),
            Ok(None) => Looked::Settled(Outcome::Absent),
            Err(refusal) => Looked::Settled(refusal.outcome()),
        })
    }

    /// Moves directories into quarantine, which is their delete.
    async fn keep(&self, batch: &Condemned, ready: Vec<Ready>, outcomes: &mut [Outcome]) -> Result<(), Stuck> {
        let Some((first, id)) = ready.first().map(|(at, _, id)| (*at, *id)) else { return Ok(()) };
        let stuck = |error| Stuck(first, error);
        let shelf = self
            .blocking(self.call_timeout, "make room in quarantine".to_owned(), move |place, _| Shelf::make(place, &id));
        let shelf = match shelf.await.map_err(stuck)? {
            Ok(shelf) => shelf,
            Err(fault) => {
                ready.iter().for_each(|(at, ..)| set(outcomes, *at, Outcome::Failed(fault.explain())));
                return Ok(());
            }
        };
        let shelf = Arc::new(shelf);
        let describe = |(at, ready, id): Ready| {
            let (shelf, action) = (shelf.clone(), "describe a copy in quarantine".to_owned());
            let job = move |_: &Place, _: &Pulse| shelf.describe(*ready, &id);
            async move { (at, self.blocking(self.call_timeout, action, job).await) }
        };
        let described: Vec<_> = ready.into_iter().map(describe).collect();
        let described: Vec<_> = futures::stream::iter(described).buffered(AT_ONCE).collect().await;
        let mut entries = Vec::new();
        for (at, entry) in described {
            match entry.map_err(|error| Stuck(at, error))? {
                Ok(entry) => entries.push((at, entry)),
                Err(refusal) => set(outcomes, at, refusal.outcome()),
            }
        }
        let synced = shelf.clone();
        let sync = self.blocking(self.call_timeout, "sync the quarantine".to_owned(), move |_, _| synced.sync());
        if let Err(fault) = sync.await.map_err(stuck)? {
            entries.iter().for_each(|(at, _)| set(outcomes, *at, Outcome::Failed(fault.explain())));
            return Ok(());
        }
        let moved = self.move_all(batch, &shelf, entries, outcomes).await;
        let (moved, stuck) = match moved {
            Ok(moved) => (moved, Ok(())),
            Err((moved, stuck)) => (moved, Err(stuck)),
        };
        self.settle(moved, outcomes).await?;
        stuck
    }

    /// Moves them one by one, as long as the confirmation is good. What came of it is what is to be made durable.
    async fn move_all(
        &self,
        batch: &Condemned,
        shelf: &Arc<Shelf>,
        entries: Vec<(usize, Entry)>,
        outcomes: &mut [Outcome],
    ) -> Result<Vec<(usize, Entry, Moved)>, (Vec<(usize, Entry, Moved)>, Stuck)> {
        let mut all = Vec::with_capacity(entries.len());
        let mut entries = entries.into_iter();
        while batch.is_fresh()
            && let Some((at, entry)) = entries.next()
        {
            let (shelf, shown) = (shelf.clone(), entry.shown());
            let watch = Watch::while_good(self.call_timeout, batch.good());
            let action = format!("move `{shown}` into quarantine");
            let moved = self.blocking_under(watch, action, move |place, pulse| {
                let moved = shelf.take_in(place, &entry, pulse);
                (entry, moved)
            });
            let (entry, moved) = match moved.await {
                Ok(moved) => moved,
                Err(error) => return Err((all, Stuck(at, error))),
            };
            moment(&self.name);
            match moved {
                Ok(Moved::Absent) => set(outcomes, at, Outcome::Absent),
                Ok(moved) => all.push((at, entry, moved)),
                Err(refusal) => set(outcomes, at, refusal.outcome()),
            }
        }
        let late: Vec<_> = entries.collect();
        if let Some(at) = late.first().map(|(at, _)| *at) {
            let shelf = shelf.clone();
            let job = move |_: &Place, _: &Pulse| late.iter().for_each(|(_, entry)| shelf.forget(entry));
            if let Err(error) = self.blocking(self.call_timeout, "tidy the quarantine".to_owned(), job).await {
                return Err((all, Stuck(at, error)));
            }
        }
        Ok(all)
    }

    /// Makes durable what was moved, and says so.
    async fn settle(&self, moved: Vec<(usize, Entry, Moved)>, outcomes: &mut [Outcome]) -> Result<(), Stuck> {
        // Of directories that were beside each other, one call makes all of their moves durable.
        let mut parents = BTreeMap::new();
        for (at, entry, _) in &moved {
            parents.entry(entry.above().to_vec()).or_insert(*at);
        }
        let settle = |(at, entry, moved): (usize, Entry, Moved)| {
            let is_first = parents.get(entry.above()) == Some(&at);
            let job = move |_: &Place, _: &Pulse| kept::settle(entry, &moved, is_first).map(|()| moved);
            let action = "sync the quarantine".to_owned();
            async move { (at, self.blocking(self.call_timeout, action, job).await) }
        };
        let settled: Vec<_> = moved.into_iter().map(settle).collect();
        let settled: Vec<_> = futures::stream::iter(settled).buffered(AT_ONCE).collect().await;
        let mut stuck = Ok(());
        for (at, settled) in settled {
            // All of them have moved: none is unattempted, whichever of them stands still.
            let outcome = match settled {
                Ok(Ok(Moved::Away { amount, left })) => gone(amount.resources, amount.bytes, left),
                Ok(Ok(Moved::Absent)) => Outcome::Absent,
                Ok(Err(fault)) => Outcome::Failed(fault.explain()),
                Err(error) => {
                    let outcome = Outcome::Failed(chain(&error));
                    stuck = stuck.and(Err(Stuck(at, error)));
                    outcome
                }
            };
            set(outcomes, at, outcome);
        }
        stuck
    }

    /// Moves a directory to the trash, and removes it.
    async fn discard(&self, batch: &Condemned, (inspected, part): (Inspected, Part)) -> Result<Outcome, StoreError> {
        let (shown, is_trash) = (inspected.path.escape_ascii().to_string(), inspected.is_trash);
        // Given up when the confirmation grows stale, and then not done later either.
        let trashed = self
            .blocking_under(
                Watch::while_good(self.call_timeout, batch.good()),
                format!("move `{shown}` to the trash"),
                move |place, pulse| delete::discard(place, inspected, &part.spared, pulse),
            )
            .await?;
        let trashed = match trashed {
            Ok(Some(trashed)) => trashed,
            Ok(None) => return Ok(Outcome::Absent),
            Err(refusal) => return Ok(refusal.outcome()),
        };
        moment(&self.name);
        let (name, left) = (self.name.clone(), trashed.left);
        // What was moved has gone. What a crash left there goes only now, and this waits for its turn once more.
        let watch = match is_trash {
            true => Watch::begun_while_good(self.call_timeout, batch.good()),
            false => Watch::new(self.call_timeout),
        };
        let taken = self
            .blocking_under(watch, format!("remove what was `{shown}`"), move |_, pulse| {
                if !pulse.may_begin()? {
                    return Ok(None);
                }
                trashed.remove(pulse, || moment(&name)).map(Some)
            })
            .await?;
        Ok(match taken {
            Ok(None) => Outcome::Unattempted,
            // An empty directory is one resource.
            Ok(Some(taken)) if left == 0 => gone(taken.files.max(1), Some(taken.bytes), left),
            Ok(Some(taken)) => gone(taken.files, Some(taken.bytes), left),
            Err(fault) => Outcome::Failed(fault.explain()),
        })
    }
}

fn set(outcomes: &mut [Outcome], at: usize, outcome: Outcome) {
    if let Some(slot) = outcomes.get_mut(at) {
        *slot = outcome;
    }
}
