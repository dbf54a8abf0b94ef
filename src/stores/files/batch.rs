//! A batch goes, some directories together: they are looked at beside each other, and one description, and one call that makes their
//! moves durable, is for all of them. They are moved one by one.
//!
//! The order is S11's: whatever says what a copy is is durable before the first of them moves.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;

use super::delete::{self, Inspected, Moved, Part, Refusal};
use super::kept::{Entry, Room, Shelf};
use super::watch::{Fault, Pulse, Watch};
use super::{FilesStore, Place, below, gone, moment};
use crate::errors::chain;
use crate::stores::copies::CopyId;
use crate::stores::{Handle, Outcome, Removed, StoreError};
use crate::sweep::Condemned;

/// How many directories are described before the first of them moves. Each takes two descriptors.
const TOGETHER: usize = 64;
/// How many calls look at them at once.
pub(super) const AT_ONCE: usize = 8;
/// How many ids the description of several of them holds at most: forty megabytes of them.
const MOST_NAMED: usize = 1 << 20;

/// What a look at a handle came to.
enum Looked {
    /// There is nothing to do.
    Settled(Outcome),
    /// It may go into quarantine.
    Keep(Box<Entry>),
    /// It may go for good: nobody wants a copy, or it was in the trash already, and so was meant to be gone.
    Discard(Box<(Inspected, Part)>),
}

/// A file system that stands still, and at which handle.
struct Stuck(usize, StoreError);

/// What is told of moves as they are made, by whoever may not come to their end.
type Told = Arc<Mutex<Vec<Result<Moved, Refusal>>>>;

impl FilesStore {
    /// Deletes a batch; a file system that stands still ends it.
    pub(super) async fn delete_batch(&self, batch: &Condemned) -> Removed {
        let handles = batch.handles();
        let mut outcomes = vec![Outcome::Unattempted; handles.len()];
        let mut room = None;
        for (handles, outcomes) in handles.chunks(TOGETHER).zip(outcomes.chunks_mut(TOGETHER)) {
            if !batch.is_fresh() {
                break;
            }
            if let Err(Stuck(at, error)) = self.delete_some(batch, handles, &mut room, outcomes).await {
                set(outcomes, at, Outcome::Failed(chain(&error)));
                break;
            }
        }
        Removed { outcomes }
    }

    async fn delete_some(
        &self,
        batch: &Condemned,
        handles: &[Handle],
        room: &mut Option<Arc<Room>>,
        outcomes: &mut [Outcome],
    ) -> Result<(), Stuck> {
        let each = in_one_call(handles.len());
        let looks: Vec<_> = handles.chunks(each).map(|handles| self.look(batch, handles)).collect();
        let looked: Vec<_> = futures::stream::iter(looks).buffered(AT_ONCE).collect().await;
        let looked = looked.into_iter().enumerate().flat_map(|(call, looked)| match looked {
            Ok(looked) => looked.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(Stuck(call * each, error))],
        });
        let mut to_quarantine = Vec::new();
        for (at, looked) in looked.enumerate() {
            match looked? {
                Looked::Settled(outcome) => set(outcomes, at, outcome),
                Looked::Keep(entry) => to_quarantine.push((at, *entry)),
                Looked::Discard(ready) if batch.is_fresh() => {
                    let outcome = self.discard(batch, *ready).await;
                    set(outcomes, at, outcome.map_err(|error| Stuck(at, error))?);
                }
                Looked::Discard(_) => {}
            }
        }
        let Some(id) = batch.safe().map(|safe| safe.id) else { return Ok(()) };
        while !to_quarantine.is_empty() && batch.is_fresh() {
            let some = describable(&mut to_quarantine);
            self.keep(batch, (&id, room), some, outcomes).await?;
        }
        Ok(())
    }

    /// Looks at some handles, in their order.
    async fn look(&self, batch: &Condemned, handles: &[Handle]) -> Result<Vec<Looked>, StoreError> {
        let referenced = |handle: &Handle| below(&batch.referenced().keys, &handle.key);
        let again: Vec<_> = handles.iter().map(|handle| (handle.clone(), referenced(handle))).collect();
        let is_kept = batch.safe().is_some();
        let action = format!("look at {}", shown(handles.iter().map(|handle| &handle.key[..])));
        let look = move |place: &Place, pulse: &Pulse| {
            let looked = again.into_iter().map(|(handle, referenced)| {
                let looked = look_at(place, (&handle, referenced), is_kept, pulse);
                looked.unwrap_or_else(|refusal| Looked::Settled(refusal.outcome()))
            });
            looked.collect()
        };
        self.blocking(self.call_timeout, action, look).await
    }

    /// Moves directories into quarantine, which is their delete. Each comes with its place in the batch.
    async fn keep(
        &self,
        batch: &Condemned,
        (id, room): (&CopyId, &mut Option<Arc<Room>>),
        some: Vec<(usize, Entry)>,
        outcomes: &mut [Outcome],
    ) -> Result<(), Stuck> {
        let (places, entries): (Vec<usize>, Vec<Entry>) = some.into_iter().unzip();
        let place_of = |number: usize| places.get(number).copied().unwrap_or_default();
        let stuck = |error| Stuck(place_of(0), error);
        let (id, known) = (*id, room.clone());
        let made = self.blocking(self.call_timeout, "describe copies in quarantine".to_owned(), move |place, pulse| {
            let room = known.map_or_else(|| Room::make(place, &id).map(Arc::new), Ok)?;
            Ok::<_, Fault>((Shelf::make(place, &room, &id, entries, pulse)?, room))
        });
        let (shelf, in_room) = match made.await.map_err(stuck)? {
            Ok((shelf, in_room)) => (Arc::new(shelf), in_room),
            Err(fault) => {
                places.iter().for_each(|at| set(outcomes, *at, Outcome::Failed(fault.explain())));
                return Ok(());
            }
        };
        *room = Some(Arc::clone(&in_room));
        let (told, stuck) = self.move_all(batch, &shelf).await;
        let mut moved = Vec::new();
        for (number, told) in told.into_iter().enumerate() {
            match told {
                Ok(Moved::Absent) => set(outcomes, place_of(number), Outcome::Absent),
                Ok(away) => moved.push((number, away)),
                Err(refusal) => set(outcomes, place_of(number), refusal.outcome()),
            }
        }
        if moved.is_empty() {
            // Its room goes with it.
            *room = None;
        }
        let settled = match (&stuck, moved.is_empty()) {
            // Who knows what is on its way there.
            (Err(_), true) => Ok(()),
            _ => self.settle((&shelf, in_room), moved, |number, told| set(outcomes, place_of(number), told)).await,
        };
        settled.and(stuck).map_err(|Stuck(number, error)| Stuck(place_of(number), error))
    }

    /// Moves them one by one, as long as the confirmation is good. What is told is of the first of them; where the file system stands
    /// still nobody knows of the next one, and no other is begun.
    async fn move_all(
        &self,
        batch: &Condemned,
        shelf: &Arc<Shelf>,
    ) -> (Vec<Result<Moved, Refusal>>, Result<(), Stuck>) {
        let told = Told::default();
        let (name, going, telling) = (self.name.clone(), Arc::clone(shelf), Arc::clone(&told));
        let watch = Watch::while_good(self.call_timeout, batch.good());
        let action = "move directories into quarantine".to_owned();
        let ended = self.blocking_under(watch, action, move |_, pulse| {
            going.take_in(pulse, |moved| {
                telling.lock().unwrap_or_else(PoisonError::into_inner).push(moved);
                moment(&name);
            });
        });
        let ended = ended.await;
        let told = std::mem::take(&mut *told.lock().unwrap_or_else(PoisonError::into_inner));
        let stuck = match ended {
            Err(error) if told.len() < shelf.len() => Err(Stuck(told.len(), error)),
            _ => Ok(()),
        };
        (told, stuck)
    }

    /// Makes durable what was moved, and only then says so.
    async fn settle(
        &self,
        (shelf, room): (&Arc<Shelf>, Arc<Room>),
        moved: Vec<(usize, Moved)>,
        mut tell: impl FnMut(usize, Outcome),
    ) -> Result<(), Stuck> {
        let first = moved.first().map_or(0, |(number, _)| *number);
        let (settled, all) = (Arc::clone(shelf), moved.clone());
        let settled = self.blocking(self.call_timeout, "sync the quarantine".to_owned(), move |place, pulse| {
            settled.settle(&room, &all, pulse)?;
            if all.is_empty() { settled.clear(place, &room) } else { Ok(()) }
        });
        let (failed, stuck) = match settled.await {
            Ok(Ok(())) => (None, Ok(())),
            Ok(Err(fault)) => (Some(fault.explain()), Ok(())),
            Err(error) => (Some(chain(&error)), Err(Stuck(first, error))),
        };
        for (number, moved) in moved {
            // All of them have moved: none is unattempted, whatever came of it.
            let outcome = match (&failed, moved) {
                (Some(why), _) => Outcome::Failed(why.clone()),
                (None, Moved::Away { amount, left }) => gone(amount.resources, amount.bytes, left),
                (None, Moved::Absent) => Outcome::Absent,
            };
            tell(number, outcome);
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

fn look_at(
    place: &Place,
    (handle, referenced): (&Handle, BTreeSet<Vec<u8>>),
    is_kept: bool,
    pulse: &Pulse,
) -> Result<Looked, Refusal> {
    let Some(inspected) = delete::inspect(place, handle, pulse)? else {
        return Ok(Looked::Settled(Outcome::Absent));
    };
    let part = delete::without(&inspected, referenced, pulse)?;
    Ok(if part.stays() {
        Looked::Settled(Outcome::Partly { resources: 0, bytes: Some(0), left: part.left })
    } else if is_kept && !inspected.is_trash {
        Looked::Keep(Box::new(Entry::of(inspected, part)?))
    } else {
        Looked::Discard(Box::new((inspected, part)))
    })
}

/// How many of so many directories are looked at in one call: a few spare the way to another thread, and fewer go beside each other.
pub(super) fn in_one_call(count: usize) -> usize {
    count.div_ceil(AT_ONCE).clamp(1, AT_ONCE)
}

/// The first of some paths, for people, and how many there are besides.
pub(super) fn shown<'a>(mut paths: impl ExactSizeIterator<Item = &'a [u8]>) -> String {
    let first = paths.next().unwrap_or_default().escape_ascii().to_string();
    match paths.len() {
        0 => format!("`{first}`"),
        more => format!("`{first}` and {more} more"),
    }
}

fn set(outcomes: &mut [Outcome], at: usize, outcome: Outcome) {
    if let Some(slot) = outcomes.get_mut(at) {
        *slot = outcome;
    }
}

/// Takes as many off the front as one description may hold, and one at least.
fn describable(entries: &mut Vec<(usize, Entry)>) -> Vec<(usize, Entry)> {
    let mut named = 0;
    let fits = |(_, entry): &&(usize, Entry)| {
        named += entry.named();
        named <= MOST_NAMED
    };
    let count = entries.iter().take_while(fits).count().max(1);
    entries.drain(..count).collect()
}
