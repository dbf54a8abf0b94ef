//! Markers (S7): who has adopted a store, how often each used it, and which truths each asks.
//!
//! Several installations may share a store if none takes another's courses for strangers. So each entry tells which
//! liveness sources its owner asks. Two rules follow:
//!
//! - Who joins must name exactly the sources that everybody there names, and must be seen to ask the same servers: a copy of a
//!   database has the same identifier.
//! - Who sweeps must name every source that any other owner names. So all that may sweep name the same ones and lock the
//!   same databases, and one works at a time (S10).
//!
//! An owner that comes to ask other sources says so in its own entry, whatever the others say: whoever names fewer sources is
//! held until it names all of them. That is how owners get from one common set to another, in any order.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::pins::SourcePin;

/// The liveness sources that an installation asks: by system identifier and database (`7711097134504085165/campus`), the
/// running server that it last asked. Empty if a server withholds either: then nobody can tell what it asks.
pub type Truths = BTreeMap<String, String>;

/// What the sources' pins, each with its running server, name.
pub fn truths<'a>(sources: impl IntoIterator<Item = (&'a SourcePin, Option<&'a str>)>) -> Truths {
    let name = |(pin, server): (&SourcePin, Option<&str>)| {
        Some((format!("{}/{}", pin.system.as_ref()?, pin.database), server?.to_owned()))
    };
    sources.into_iter().map(name).collect::<Option<Truths>>().unwrap_or_default()
}

/// One installation's entry in a marker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The installation's id, made once and kept in its ledger.
    pub installation: Uuid,
    /// The installation's name, for people.
    pub name: String,
    /// Moves by one with each of its runs. A copy of its ledger, or an older one, does not know the latest count.
    pub counter: u64,
    /// What it asks for what is live.
    pub truths: Truths,
}

impl Owner {
    /// For people: the name, and the id that tells it from others of the name.
    fn shown(&self) -> String {
        format!("{:?} ({})", self.name, self.installation)
    }

    /// What `other` names and this one does not.
    fn lacks(&self, other: &Self) -> Vec<String> {
        other.truths.keys().filter(|source| !self.truths.contains_key(*source)).cloned().collect()
    }

    /// Whether this one and `other` tell what they ask.
    fn both_tell(&self, other: &Self) -> Result<(), Unshared> {
        if self.truths.is_empty() {
            return Err(Unshared::WeWithhold(other.shown()));
        }
        if other.truths.is_empty() {
            return Err(Unshared::TheyWithhold(other.shown()));
        }
        Ok(())
    }

    /// Whether this one may join a store that `other` has.
    fn may_join(&self, other: &Self) -> Result<(), Unshared> {
        self.both_tell(other)?;
        let (we_lack, they_lack) = (self.lacks(other), other.lacks(self));
        if !we_lack.is_empty() || !they_lack.is_empty() {
            return Err(Unshared::Differ { other: other.shown(), we_lack, they_lack });
        }
        let elsewhere = self.truths.iter().filter(|(source, server)| other.truths.get(*source) != Some(*server));
        let elsewhere: Vec<String> = elsewhere.map(|(source, _)| source.clone()).collect();
        if !elsewhere.is_empty() {
            return Err(Unshared::Elsewhere { other: other.shown(), sources: elsewhere });
        }
        Ok(())
    }

    /// Whether this one takes no course of `other` for a stranger.
    fn may_sweep_beside(&self, other: &Self) -> Result<(), Unshared> {
        self.both_tell(other)?;
        let we_lack = self.lacks(other);
        if we_lack.is_empty() {
            return Ok(());
        }
        Err(Unshared::Differ { other: other.shown(), we_lack, they_lack: other.lacks(self) })
    }
}

/// What an adopted store carries: whose it is (S7). Equal owners are an equal marker, however it was written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct Marker {
    owners: Vec<Owner>,
}

/// A marker as somebody wrote it.
#[derive(Deserialize)]
struct Written {
    owners: Vec<Owner>,
}

impl TryFrom<Written> for Marker {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let mut marker = Self::default();
        for owner in written.owners {
            if marker.owner(owner.installation).is_some() {
                return Err(format!("installation {} is in it twice", owner.installation));
            }
            marker = marker.with(owner);
        }
        Ok(marker)
    }
}

impl Marker {
    /// The marker of a store that one installation has for itself.
    pub fn of(owner: Owner) -> Self {
        Self { owners: vec![owner] }
    }

    /// Its owners, by installation id.
    pub fn owners(&self) -> &[Owner] {
        &self.owners
    }

    /// An installation's entry.
    pub fn owner(&self, installation: Uuid) -> Option<&Owner> {
        self.owners.iter().find(|owner| owner.installation == installation)
    }

    /// Everybody else's entries.
    pub fn others(&self, installation: Uuid) -> impl Iterator<Item = &Owner> {
        self.owners.iter().filter(move |owner| owner.installation != installation)
    }

    /// The same marker, with this entry in place of the one that its installation may have.
    pub fn with(&self, owner: Owner) -> Self {
        let mut owners: Vec<Owner> = self.others(owner.installation).cloned().collect();
        owners.push(owner);
        owners.sort_by_key(|owner| owner.installation);
        Self { owners }
    }

    /// True if one step of one owner leads here from `before`: it joined, or its counter moved by one.
    pub fn is_step_from(&self, before: &Self) -> bool {
        let mut changed = self.owners.iter().filter(|owner| !before.owners.contains(owner));
        let (Some(owner), None) = (changed.next(), changed.next()) else { return false };
        let is_next = |there: &Owner| there.counter.checked_add(1).is_some_and(|next| next == owner.counter);
        before.owner(owner.installation).is_none_or(is_next)
            && self.others(owner.installation).eq(before.others(owner.installation))
    }
}

/// Why a store cannot be shared with another of its owners.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unshared {
    /// One of our sources cannot be named.
    #[error(
        "it belongs to installation {0}, and nothing can be shared while the server of one of our liveness sources withholds its \
         system identifier: let our role call `pg_control_system()` there, and adopt again"
    )]
    WeWithhold(String),
    /// One of the other's sources cannot be named.
    #[error(
        "it belongs to installation {0}, and nothing can be shared while the server of one of its liveness sources withholds its \
         system identifier: let its role call `pg_control_system()` there, and adopt there first"
    )]
    TheyWithhold(String),
    /// The courses of one are strangers to the other.
    #[error(
        "it belongs to installation {other}, which does not ask the same liveness sources: {}; name them all in `liveness` on both sides, \
         adopt there first and then here; if that installation is gone, take its entry out of the marker",
        differences(we_lack, they_lack)
    )]
    Differ {
        /// The other.
        other: String,
        /// What it asks and we do not.
        we_lack: Vec<String>,
        /// What we ask and it does not.
        they_lack: Vec<String>,
    },
    /// The same identifiers, but not the same servers, as far as the other has seen.
    #[error(
        "it belongs to installation {other}, which last saw another server behind {}: adopt or run there, then adopt here; if it stays so, \
         one of the two asks a copy of the database; if that installation is gone, take its entry out of the marker",
        sources.join(", ")
    )]
    Elsewhere {
        /// The other.
        other: String,
        /// Behind which of the sources.
        sources: Vec<String>,
    },
}

fn differences(we_lack: &[String], they_lack: &[String]) -> String {
    let mut said = Vec::new();
    if !we_lack.is_empty() {
        said.push(format!("we do not name {}", we_lack.join(", ")));
    }
    if !they_lack.is_empty() {
        said.push(format!("it does not name {}", they_lack.join(", ")));
    }
    said.join(", ")
}

/// By how much an objection moves a marker on: one more than a move of the other ledger that was interrupted, for which it would pass.
pub const OBJECTION: u64 = 2;

/// What the ledger knows of an adopted store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AdoptedStore {
    /// What was adopted: the sources by name, and whether each is exclusive.
    pub sources: Vec<(String, bool)>,
    /// Our entry's count after the last completed move.
    pub counter: u64,
    /// The count that a move was about to write, if it did not come to its end.
    pub pending: Option<u64>,
    /// The running server that the ledger was in when it last began a move; `None` if that was not told.
    pub moved_in: Option<String>,
    /// This ledger has objected to a marker that was ahead of it, and nobody adopted since.
    pub objected: bool,
}

impl AdoptedStore {
    /// What becomes of a marker that is ahead of this ledger, which is in `server` now.
    ///
    /// A copy of the ledger that runs before the original passes for it, and whoever comes next finds the marker ahead. Who is
    /// still in the server in which it last moved the marker is the original, or as good as it: somebody else goes on with what was
    /// copied from it, and must halt, too. So it moves the marker on by an [`OBJECTION`], without its ledger's knowing, which puts the
    /// marker ahead of the other ledger. Once: two that object to each other come to an end. Who is in another server than before may be
    /// the copy, or a ledger that was restored, and touches nothing. Where nobody tells, the server counts as the same.
    pub fn objection(&self, installation: Uuid, marker: &Marker, server: Option<&str>) -> Option<Marker> {
        let moved_away = self.moved_in.as_deref().zip(server).is_some_and(|(before, now)| before != now);
        let ours = marker.owner(installation)?;
        let counter = ours.counter.checked_add(OBJECTION)?;
        (!self.objected && !moved_away).then(|| marker.with(Owner { counter, ..ours.clone() }))
    }
}

/// Why a store's resources are not ours to delete.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAdopted {
    /// Nobody adopted it.
    #[error("it is not adopted: look at `course-gc adopt`, and confirm with `--yes`")]
    Never,
    /// Its sources are not those that were adopted.
    #[error("its sources, or which of them are exclusive, were changed since it was adopted: adopt it again")]
    Edited,
    /// Its marker is gone.
    #[error("its marker is gone: it was emptied or replaced, or this is another place; adopt it again if it is right")]
    Unmarked,
    /// It carries other installations' entries, and not ours.
    #[error("it belongs to another installation, {0}")]
    Foreign(String),
    /// Our entry is older than the ledger: the store was restored or replaced by a copy.
    #[error(
        "its marker is older than the ledger: it was restored, or replaced by a copy; adopt it again if it is right"
    )]
    Behind,
    /// Our entry was moved on by somebody else since the run began.
    #[error(
        "its marker was moved on since this run began: somebody works with a copy of this ledger, or objects to ours; the next run \
         tells more"
    )]
    Moved,
    /// Our entry does not say what we ask.
    #[error("its marker says that we ask other liveness sources than we do: adopt it again")]
    Outdated,
    /// Another owner's courses would look dead.
    #[error(transparent)]
    Shared(#[from] Unshared),
}

/// A store's marker shows a use that the ledger does not know: the ledger is a clone, or was restored (S7).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "store {store} was used {ahead} times since this ledger knew of it: the ledger is a copy, or was restored from a backup; \
     if it is the right one, look at `course-gc adopt`, and confirm with `--yes`"
)]
pub struct LedgerBehind {
    /// The store.
    pub store: String,
    /// By how much its marker is ahead.
    pub ahead: u64,
}

/// A store as this installation knows and is told it.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Its name.
    pub store: &'a str,
    /// What the ledger knows of it.
    pub adopted: Option<&'a AdoptedStore>,
    /// Its sources as configured now.
    pub sources: &'a [(String, bool)],
    /// Our installation's id.
    pub installation: Uuid,
    /// What we ask now.
    pub truths: &'a Truths,
}

/// Judges a store's adoption by its marker.
///
/// # Errors
/// Outer: the whole run halts. Inner: this store is held.
pub fn judge_marker(known: &Known<'_>, marker: Option<&Marker>) -> Result<Result<(), NotAdopted>, LedgerBehind> {
    let Some(adopted) = known.adopted else { return Ok(Err(NotAdopted::Never)) };
    let Some(marker) = marker else { return Ok(Err(NotAdopted::Unmarked)) };
    let Some(ours) = marker.owner(known.installation) else {
        return Ok(Err(match marker.owners() {
            [] => NotAdopted::Unmarked,
            owners => NotAdopted::Foreign(owners.iter().map(Owner::shown).collect::<Vec<_>>().join(", ")),
        }));
    };
    let latest = adopted.pending.unwrap_or(adopted.counter);
    if ours.counter > latest {
        return Err(LedgerBehind { store: known.store.to_owned(), ahead: ours.counter - latest });
    }
    if ours.counter != adopted.counter && Some(ours.counter) != adopted.pending {
        return Ok(Err(NotAdopted::Behind));
    }
    if adopted.sources != known.sources {
        return Ok(Err(NotAdopted::Edited));
    }
    if !ours.truths.keys().eq(known.truths.keys()) {
        return Ok(Err(NotAdopted::Outdated));
    }
    Ok(marker.others(known.installation).try_for_each(|other| ours.may_sweep_beside(other)).map_err(Into::into))
}

/// Whether a store still is the place where `ours` was written when the run began, and nobody else went on with our ledger there since;
/// looked at again with each batch.
///
/// # Errors
/// Why it is not, or why it cannot be shared any more with another of its owners.
pub fn is_still_there(ours: Option<&Owner>, marker: Option<&Marker>) -> Result<(), NotAdopted> {
    let ours = ours.ok_or(NotAdopted::Never)?;
    let marker = marker.ok_or(NotAdopted::Unmarked)?;
    let there = marker.owner(ours.installation).ok_or(NotAdopted::Unmarked)?;
    match there.counter.cmp(&ours.counter) {
        Ordering::Less => Err(NotAdopted::Behind),
        Ordering::Greater => Err(NotAdopted::Moved),
        Ordering::Equal => Ok(beside_others(Some(marker), ours)?),
    }
}

/// What adopting a store comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Our entry comes into the marker.
    Join(Marker),
    /// Our entry is there and right, at this count.
    Keep(u64),
    /// Our entry is there, at this count, and says something else: the marker moves on to this one.
    Update(u64, Marker),
}

/// How `us` adopts a store with this marker; `us` has the count to join with.
///
/// # Errors
/// If it may not join those who are there.
pub fn adopt(there: Option<&Marker>, us: &Owner) -> Result<Step, Unshared> {
    let nobody = Marker::default();
    let there = there.unwrap_or(&nobody);
    let Some(before) = there.owner(us.installation) else {
        there.owners().iter().try_for_each(|other| us.may_join(other))?;
        return Ok(Step::Join(there.with(us.clone())));
    };
    let counter = before.counter;
    if *before == (Owner { counter, ..us.clone() }) {
        return Ok(Step::Keep(counter));
    }
    Ok(Step::Update(counter, there.with(Owner { counter: counter.saturating_add(1), ..us.clone() })))
}

/// The other owners, for people, that do not name all that `us` names: they may not sweep until they do.
pub fn held_by(there: Option<&Marker>, us: &Owner) -> Vec<String> {
    let others = there.into_iter().flat_map(|marker| marker.others(us.installation));
    others.filter(|other| !other.lacks(us).is_empty()).map(Owner::shown).collect()
}

/// Whether `us`, which has adopted the store, may sweep it for all that the others say.
///
/// # Errors
/// With the first who names something that `us` does not.
pub fn beside_others(there: Option<&Marker>, us: &Owner) -> Result<(), Unshared> {
    there.into_iter().flat_map(|marker| marker.others(us.installation)).try_for_each(|other| us.may_sweep_beside(other))
}

#[cfg(test)]
mod tests;
