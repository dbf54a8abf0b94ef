//! The marker (S7): kept in the metadata of every configured collection, beside whatever else is there.
//!
//! Qdrant has no compare-and-set: a move reads, compares, writes, and reads back what it wrote. Two that move at the same
//! moment may both read the same marker; who reads back the other's is told `false`, but both may be told `true` if they
//! write the same, or if one has read back before the other writes. So a move relies on the ledger's lock (S10) and finds
//! out afterwards what slipped past it: the next one meets a marker that it does not expect.
//!
//! Several collections cannot be written at once either. A move that was interrupted leaves the new marker in the first
//! ones and the old one in the others; that is read as the old one, and the same move can be made again, or another one
//! instead: whichever owner moves next need not be the one that was interrupted. A collection that has none (a new one, or
//! one that was made anew behind an alias) makes the store one that nobody adopted, until its one owner adopts it again;
//! where several share it, somebody must first take away what is left. Any other difference is an error.
//!
//! Collections that a pattern matches come and go. Once every named one and at least one match carry the marker, a match without one
//! is not what was adopted: the rest is the store, and the match is held until [`Store::mark_newcomers`](crate::stores::Store::mark_newcomers). Whoever adopts it adopts it
//! for everybody who shares the store, since they ask the same truths. If no match is left that carries the marker, and nothing is
//! named, nobody adopted the store.
//!
//! Servers before 1.16 keep no metadata, and cannot be adopted.

use futures::{StreamExt, TryStreamExt};
use qdrant_client::qdrant::CollectionInfo;

use super::QdrantStore;
use super::names::{Claim, Place};
use super::places::{CONCURRENT, Marked, Others};
use crate::stores::{Marker, StoreError};

/// The key in the metadata. Other keys are others'.
const KEY: &str = "course_gc";

impl QdrantStore {
    /// The one marker of the store's collections.
    pub(super) async fn read_marker(&self) -> Result<Option<Marker>, StoreError> {
        let (ours, others) = self.carriers().await?;
        let places = ours.iter().map(|carrier| carrier.place.clone()).collect();
        self.note(Marked { places, others: if is_adopted(&ours) { Others::Held } else { Others::Shown } });
        tracing::debug!(store = %self.name, marked = ours.len(), held = others.len(), "read the marker");
        agreed(&markers(&ours)).map_err(|()| self.unusable(&disagreement(&ours)))
    }

    /// Replaces `from` by `to` wherever `to` is not yet; `false` if a collection has neither, nor what an interrupted move left.
    pub(super) async fn replace_marker(&self, from: Option<&Marker>, to: &Marker) -> Result<bool, StoreError> {
        let (before, _) = self.carriers().await?;
        if before.is_empty() {
            return Err(self.unusable(&format!(
                "no collection matches {}, so there is nothing that could be adopted",
                self.names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ")
            )));
        }
        let there = markers(&before);
        if !may_move(&there, from, to) {
            let is_part = from.is_none() && there.contains(&None) && there.iter().any(Option::is_some);
            return if is_part { Err(self.unusable(&disagreement(&before))) } else { Ok(false) };
        }
        let behind = before.iter().filter(|carrier| carrier.marker.as_ref() != Some(to));
        self.write_marker(behind.map(|carrier| &carrier.place), to).await?;
        let after = self.carried(before.into_iter().map(|carrier| carrier.place).collect()).await?;
        self.kept(&after)?;
        Ok(after.iter().all(|carrier| carrier.marker.as_ref() == Some(to)))
    }

    /// Writes the store's marker into the matches that came since it was adopted.
    pub(super) async fn mark_others(&self) -> Result<(), StoreError> {
        let (ours, others) = self.carriers().await?;
        let marker = agreed(&markers(&ours)).map_err(|()| self.unusable(&disagreement(&ours)))?;
        let Some(marker) = marker else { return Ok(()) };
        self.write_marker(others.iter().map(|carrier| &carrier.place), &marker).await?;
        self.kept(&self.carried(others.into_iter().map(|carrier| carrier.place).collect()).await?)
    }

    /// The collections whose markers are the store's, and matches of patterns that came since it was adopted.
    async fn carriers(&self) -> Result<(Vec<Carrier>, Vec<Carrier>), StoreError> {
        let all = self.carried(self.resolve().await?).await?;
        Ok(match is_adopted(&all) {
            true => all.into_iter().partition(|carrier| carrier.marker.is_some()),
            false => (all, Vec::new()),
        })
    }

    /// What each of the collections carries, in the same order, without matches that have gone.
    async fn carried(&self, places: Vec<Place>) -> Result<Vec<Carrier>, StoreError> {
        let read = |place: Place| async move {
            let info = self.client.info(&place.physical).await;
            let Some(info) = self.unless_gone(place.claim, &place.physical, info).await? else { return Ok(None) };
            match marker_in(info) {
                Ok(marker) => Ok(Some(Carrier { place, marker })),
                Err(why) => Err(self.unusable(&format!(
                    "the metadata of collection `{}` holds no marker under `{KEY}` ({why}): it is course-gc's own; find out \
                     what wrote it, then remove it and adopt the store again",
                    place.physical
                ))),
            }
        };
        let reads: Vec<_> = places.into_iter().map(read).collect();
        let read = futures::stream::iter(reads).buffered(CONCURRENT);
        read.try_filter_map(|found| async { Ok(found) }).try_collect().await
    }

    /// Writes a marker into collections, one after the other.
    async fn write_marker(
        &self,
        places: impl Iterator<Item = &Place> + Send,
        marker: &Marker,
    ) -> Result<(), StoreError> {
        let json = serde_json::to_value(marker)
            .map_err(|error| StoreError::server(format!("store `{}`: could not write its marker", self.name), error))?;
        for Place { claim, physical, .. } in places {
            let written = self.client.set_metadata(physical, KEY, json.clone().into()).await;
            self.unless_gone(*claim, physical, written).await?;
        }
        Ok(())
    }

    /// That a marker which was written is there.
    fn kept(&self, carriers: &[Carrier]) -> Result<(), StoreError> {
        match carriers.iter().find(|carrier| carrier.marker.is_none()) {
            Some(Carrier { place, .. }) => Err(self.unusable(&format!(
                "collection `{}` did not keep the marker that was written into its metadata: Qdrant keeps metadata from \
                 version 1.16 on",
                place.physical
            ))),
            None => Ok(()),
        }
    }
}

/// A collection and what it carries.
#[derive(Debug)]
struct Carrier {
    place: Place,
    marker: Option<Marker>,
}

/// True if every named collection carries a marker, and at least one collection does.
fn is_adopted(carriers: &[Carrier]) -> bool {
    let mut carriers = carriers.iter();
    carriers.clone().any(|carrier| carrier.marker.is_some())
        && carriers.all(|carrier| carrier.marker.is_some() || carrier.place.claim == Claim::Matched)
}

fn markers(carriers: &[Carrier]) -> Vec<Option<Marker>> {
    carriers.iter().map(|carrier| carrier.marker.clone()).collect()
}

fn marker_in(info: CollectionInfo) -> Result<Option<Marker>, serde_json::Error> {
    let value = info.config.and_then(|mut config| config.metadata.remove(KEY));
    value.map(|value| serde_json::from_value(value.into_json())).transpose()
}

/// The marker of a store whose collections carry these; an error if they tell of no one state.
fn agreed(markers: &[Option<Marker>]) -> Result<Option<Marker>, ()> {
    let mut distinct: Vec<&Marker> = Vec::new();
    for marker in markers.iter().flatten() {
        if !distinct.contains(&marker) {
            distinct.push(marker);
        }
    }
    let is_everywhere = markers.iter().all(Option::is_some);
    match distinct.as_slice() {
        [] => Ok(None),
        [marker] => Ok(is_everywhere.then(|| (*marker).clone())),
        [one, other] if is_everywhere && other.is_step_from(one) => Ok(Some((*one).clone())),
        [one, other] if is_everywhere && one.is_step_from(other) => Ok(Some((*other).clone())),
        _ => Err(()),
    }
}

/// True if some collection is at `from`, and the others are there too, or at `to` already, or where another move from
/// there was interrupted: nobody relies on what was not brought to its end. From nowhere, what is left of the same owners
/// at the same counts may be written again.
fn may_move(markers: &[Option<Marker>], from: Option<&Marker>, to: &Marker) -> bool {
    let is_left = |marker: &Marker| {
        marker.owners().iter().all(|left| to.owner(left.installation).is_some_and(|now| now.counter == left.counter))
    };
    let is_unfinished =
        |marker: &Marker| marker == to || from.map_or_else(|| is_left(marker), |from| marker.is_step_from(from));
    let may_go = |marker: &Option<Marker>| marker.as_ref() == from || marker.as_ref().is_some_and(is_unfinished);
    markers.iter().any(|marker| marker.as_ref() == from) && markers.iter().all(may_go)
}

fn disagreement(carriers: &[Carrier]) -> String {
    let each = carriers.iter().map(|Carrier { place: Place { physical: collection, .. }, marker }| match marker {
        Some(marker) => {
            let owners = marker.owners().iter();
            let owners = owners.map(|owner| format!("installation {} at {}", owner.installation, owner.counter));
            format!("`{collection}` that of {}", owners.collect::<Vec<_>>().join(" and "))
        }
        None => format!("`{collection}` none"),
    });
    format!(
        "its collections carry different markers ({}): find out which installations they belong to, remove `{KEY}` from \
         the metadata of the others, or of all, and adopt the store again, from each installation that shares it",
        each.collect::<Vec<_>>().join(", ")
    )
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::markers::Owner;

    fn owner(installation: u128, counter: u64) -> Owner {
        Owner {
            installation: Uuid::from_u128(installation),
            name: "campus".into(),
            counter,
            truths: Default::default(),
        }
    }

    fn at(installation: u128, counter: u64) -> Option<Marker> {
        Some(Marker::of(owner(installation, counter)))
    }

    fn both(one: u64, other: u64) -> Option<Marker> {
        Some(Marker::of(owner(1, one)).with(owner(2, other)))
    }

    #[test]
    fn s7_collections_must_agree_but_for_one_interrupted_move() {
        for (markers, expected) in [
            (vec![None, None], Ok(None)),
            (vec![at(1, 5), at(1, 5)], Ok(at(1, 5))),
            (vec![at(1, 6), at(1, 5), at(1, 6)], Ok(at(1, 5))),
            (vec![at(1, 5), at(1, 6)], Ok(at(1, 5))),
            (vec![at(1, 5), None], Ok(None)),
            (vec![at(1, 5), at(1, 7)], Err(())),
            (vec![at(1, 5), at(1, 6), at(1, 7)], Err(())),
            (vec![at(1, 5), at(2, 5)], Err(())),
            (vec![at(1, 5), at(2, 6)], Err(())),
            (vec![at(1, 5), at(1, 6), None], Err(())),
            (vec![both(5, 3), both(5, 3)], Ok(both(5, 3))),
            (vec![both(6, 3), both(5, 3)], Ok(both(5, 3))),
            (vec![both(5, 3), both(5, 4)], Ok(both(5, 3))),
            (vec![both(6, 3), both(5, 4)], Err(())),
            (vec![both(6, 4), both(5, 3)], Err(())),
            (vec![at(1, 5), both(5, 0)], Ok(at(1, 5))),
            (vec![at(1, 5), both(6, 0)], Err(())),
        ] {
            assert_eq!(agreed(&markers), expected, "{markers:?}");
        }
    }

    #[test]
    fn s7_a_move_starts_where_it_says_and_nowhere_else() {
        let (old, new) = (at(1, 5), at(1, 6));
        for (markers, from, expected) in [
            (vec![None, None], &None, true),
            (vec![new.clone(), None], &None, true),
            (vec![old.clone(), old.clone()], &old, true),
            (vec![new.clone(), old.clone()], &old, true),
            (vec![new.clone(), new.clone()], &old, false),
            (vec![new.clone(), new.clone()], &None, false),
            (vec![old.clone(), None], &old, false),
            (vec![old.clone(), at(1, 4)], &old, false),
            (vec![old.clone(), at(2, 6)], &old, false),
            (vec![old.clone(), None], &None, false),
            (vec![both(6, 3), None], &None, false),
            // Another one's joining was interrupted.
            (vec![both(5, 0), old.clone()], &old, true),
            (vec![both(6, 0), old.clone()], &old, false),
        ] {
            let to = new.as_ref().unwrap();
            assert_eq!(may_move(&markers, from.as_ref(), to), expected, "{markers:?} from {from:?}");
        }
        let other_moved = [both(5, 4), both(5, 3)];
        assert!(may_move(&other_moved, both(5, 3).as_ref(), both(6, 3).as_ref().unwrap()));
        assert!(!may_move(&other_moved, both(5, 4).as_ref(), both(6, 4).as_ref().unwrap()));
        let renamed = Marker::of(Owner { name: "another".into(), ..owner(1, 6) });
        assert!(may_move(&[Some(renamed), None], None, new.as_ref().unwrap()), "what is left of the same use");
    }
}
