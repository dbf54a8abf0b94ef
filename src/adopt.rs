//! Adoption (S7): a person says that these are the right databases and the right stores, and that they are ours.
//!
//! The liveness sources are pinned as they are, and each store gets a marker with this installation's entry: its id, a count,
//! and what it asks. Adopting again accepts what changed; if the truth is another one, every orphan's clock starts anew. A
//! store that others have adopted can be joined if all ask the same ([`crate::domain::markers`]).

use crate::domain::live_set::{LiveSet, Population, judge};
use crate::domain::markers::{self, Known, Owner, Step, Truths, judge_marker};
use crate::domain::pins::{Position, SourcePin, judge_sources};
use crate::errors::chain;
use crate::ledger::{Adoption, LedgerError, Move};
use crate::postgres::PostgresError;
use crate::reconcile::{Collector, Locks, ManagedStore};
use crate::stores::{Marker, Store};

/// Why nothing was adopted.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// A liveness source or its lock.
    #[error("the liveness sources cannot be adopted")]
    Liveness(#[source] PostgresError),
    /// The ledger.
    #[error("the ledger cannot be used")]
    Ledger(#[from] LedgerError),
    /// A source is empty, or too small: then it is hardly the right one (S3).
    #[error("{0}; check the query and the database, and look at `course-gc plan`")]
    Empty(String),
    /// Sources are declared exclusive, and nobody confirmed it.
    #[error(
        "these sources are declared `exclusive`, so that what was never seen live is deleted from them too: {}; confirm it with \
         `--exclusive`, or take it out of the configuration",
        .0.join(", ")
    )]
    Exclusive(Vec<String>),
}

/// What became of the stores: by name, why it was not adopted, if so.
pub type Adopted = Vec<(String, Option<String>)>;

/// Every source that is declared exclusive, as `store/source`.
pub fn exclusive_sources(collector: &Collector) -> Vec<String> {
    let of = |managed: &ManagedStore| {
        let name = managed.store.name().to_owned();
        managed
            .declared()
            .into_iter()
            .filter(|(_, exclusive)| *exclusive)
            .map(move |(source, _)| format!("{name}/{source}"))
    };
    collector.stores.iter().flat_map(of).collect()
}

/// Adopts everything that the configuration names. `exclusive` is the deliberate word for exclusive sources.
///
/// # Errors
/// If the sources cannot be pinned; a store that cannot be adopted is in the answer.
pub async fn adopt(collector: &Collector, exclusive: bool) -> Result<Adopted, AdoptError> {
    let declared = exclusive_sources(collector);
    if !declared.is_empty() && !exclusive {
        return Err(AdoptError::Exclusive(declared));
    }
    collector.ledger.check_version().await?;
    let locks = Locks::take(collector).await.map_err(|error| match error {
        LedgerError::Postgres(error) => AdoptError::Liveness(error),
        error => AdoptError::Ledger(error),
    })?;
    let adopted = adopt_locked(collector, &locks).await;
    locks.release().await;
    adopted
}

async fn adopt_locked(collector: &Collector, locks: &Locks) -> Result<Adopted, AdoptError> {
    let sets = locks.liveness.read().await.map_err(AdoptError::Liveness)?;
    let accepted = collector.ledger.accepted_sizes().await?;
    let population = |(source, set, _): &(String, LiveSet, Position)| Population {
        source: source.clone(),
        live: set.len() as u64,
        highest: None,
        accepted: accepted.get(source).map(|size| size.live),
    };
    let populations: Vec<Population> = sets.iter().map(population).collect();
    if let Some(halts) = judge(&populations, collector.refuse_below, collector.refuse_drop) {
        let halts: Vec<String> = halts.all().iter().map(ToString::to_string).collect();
        return Err(AdoptError::Empty(halts.join("; ")));
    }
    let before = collector.ledger.adoption().await?;
    let pins = locks.liveness.pins();
    let truths = locks.truths();
    let anew = match &before {
        Some(before) => is_another_truth(before, &pins) || is_older_than_a_marker(collector, before, &truths).await,
        None => true,
    };
    if anew {
        // Tombstones may have come back with what was restored, or be another database's (S6).
        collector.ledger.unsettle().await?;
    }
    let installation = collector.ledger.pin(&collector.installation, &pins, anew).await?;
    let mut adopted = Adopted::new();
    for managed in &collector.stores {
        let known = before.as_ref().and_then(|adoption: &Adoption| adoption.stores.get(managed.store.name()));
        // A place that was marked in part carries the count that the ledger knows.
        let counter = known.map_or(0, |known| known.counter);
        let us = Owner { installation, name: collector.installation.clone(), counter, truths: truths.clone() };
        let reason = adopt_store(collector, managed, &us).await?.err();
        adopted.push((managed.store.name().to_owned(), reason));
    }
    Ok(adopted)
}

/// True if a source is not what it was, or its history broke: then what was seen of orphans says nothing any more.
fn is_another_truth(before: &Adoption, now: &[(String, SourcePin, Position)]) -> bool {
    let broken = |(name, _, position): &(String, SourcePin, Position)| {
        before.sources.get(name).is_none_or(|(_, seen)| seen.broken_by(position).is_some())
    };
    let pinned = before.sources.iter().map(|(name, (pin, _))| (name.as_str(), pin));
    judge_sources(pinned, now).is_err() || now.iter().any(broken)
}

/// True if a store was used since this ledger knew of it: the ledger was restored, and with it what it saw of orphans.
async fn is_older_than_a_marker(collector: &Collector, before: &Adoption, truths: &Truths) -> bool {
    for managed in &collector.stores {
        // A store that does not answer is not adopted now, and says nothing.
        let Ok(Some(marker)) = managed.store.marker().await else { continue };
        let (store, sources) = (managed.store.name(), managed.declared());
        let (adopted, installation) = (before.stores.get(store), before.installation);
        let known = Known { store, adopted, sources: &sources, installation, truths };
        if judge_marker(&known, Some(&marker)).is_err() {
            return true;
        }
    }
    false
}

/// Brings our entry into a store's marker, or up to date. The inner error says why the store is not adopted.
async fn adopt_store(
    collector: &Collector,
    managed: &ManagedStore,
    us: &Owner,
) -> Result<Result<(), String>, LedgerError> {
    let (ledger, store) = (&collector.ledger, managed.store.as_ref());
    let (name, sources) = (store.name(), managed.declared());
    let there = match store.marker().await {
        Ok(there) => there,
        Err(error) => return Ok(Err(chain(&error))),
    };
    match markers::adopt(there.as_ref(), us) {
        Err(unshared) => return Ok(Err(unshared.to_string())),
        Ok(Step::Join(to)) => {
            if let Err(reason) = replace(store, there.as_ref(), &to).await {
                return Ok(Err(reason));
            }
            ledger.adopt_store(name, &sources, us.counter).await?;
        }
        Ok(Step::Keep(counter)) => ledger.adopt_store(name, &sources, counter).await?,
        Ok(Step::Update(counter, to)) => {
            // As a run moves it, so that an interruption is recognised. Until it has moved, the store is held.
            ledger.adopt_store(name, &sources, counter).await?;
            let (next, server) = (counter.saturating_add(1), ledger.server().await?);
            let step = Move { run: None, from: counter, to: next, server: server.as_deref() };
            if !ledger.begin_move(name, &step).await? {
                return Ok(Err(MEANWHILE.to_owned()));
            }
            if let Err(reason) = replace(store, there.as_ref(), &to).await {
                return Ok(Err(reason));
            }
            ledger.end_move(name, next).await?;
        }
    }
    if let Err(error) = store.mark_newcomers().await {
        return Ok(Err(chain(&error)));
    }
    for other in markers::held_by(there.as_ref(), us) {
        tracing::warn!(
            store = name,
            other,
            "it is held for an installation that shares it, until that one names all that we ask"
        );
    }
    Ok(markers::beside_others(there.as_ref(), us).map_err(|unshared| unshared.to_string()))
}

const MEANWHILE: &str = "somebody else adopted or used it in this moment; look again";

async fn replace(store: &dyn Store, there: Option<&Marker>, to: &Marker) -> Result<(), String> {
    match store.move_marker(there, to).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(MEANWHILE.to_owned()),
        Err(error) => Err(chain(&error)),
    }
}
