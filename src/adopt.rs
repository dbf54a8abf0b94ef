//! Adoption (S7): a person says that these are the right databases and the right stores, and that they are ours.
//!
//! The liveness sources are pinned as they are, and each store gets a marker with this installation's id and a count.
//! Adopting again accepts what changed; if the truth is another one, every orphan's clock starts anew. A store that carries
//! another installation's marker is refused.

use crate::domain::live_set::{LiveSet, Population, judge};
use crate::domain::pins::{AdoptedStore, Position, SourcePin, judge_marker, judge_sources};
use crate::errors::chain;
use crate::ledger::{Adoption, LedgerError};
use crate::postgres::PostgresError;
use crate::reconcile::{Collector, Locks, ManagedStore};
use crate::stores::Marker;

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
    let population = |(source, set): &(String, LiveSet)| Population {
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
    let anew = match &before {
        Some(before) => is_another_truth(before, &pins) || is_older_than_a_marker(collector, before).await,
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
        let ours = Marker { installation, name: collector.installation.clone(), counter: 0 };
        let reason = adopt_store(collector, managed, ours, known).await?.err();
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
async fn is_older_than_a_marker(collector: &Collector, before: &Adoption) -> bool {
    for managed in &collector.stores {
        // A store that does not answer is not adopted now, and says nothing.
        let Ok(Some(marker)) = managed.store.marker().await else { continue };
        let adopted = before.stores.get(managed.store.name());
        let seen = (marker.installation == before.installation, marker.name.as_str(), marker.counter);
        if judge_marker(managed.store.name(), adopted, &managed.declared(), Some(seen)).is_err() {
            return true;
        }
    }
    false
}

/// Marks one store. The inner error says why it was not adopted.
async fn adopt_store(
    collector: &Collector,
    managed: &ManagedStore,
    ours: Marker,
    known: Option<&AdoptedStore>,
) -> Result<Result<(), String>, LedgerError> {
    let store = managed.store.as_ref();
    let counter = match store.marker().await {
        Err(error) => return Ok(Err(chain(&error))),
        Ok(Some(marker)) if marker.installation != ours.installation => {
            return Ok(Err(format!(
                "it belongs to installation {:?}; if that one is gone, remove its marker by hand",
                marker.name
            )));
        }
        Ok(Some(marker)) => marker.counter,
        Ok(None) => {
            // A place that was marked in part carries the count that the ledger knows.
            let ours = Marker { counter: known.map_or(0, |known| known.counter), ..ours };
            match store.move_marker(None, &ours).await {
                Ok(true) => ours.counter,
                Ok(false) => return Ok(Err("somebody else marked it in this moment; look again".to_owned())),
                Err(error) => return Ok(Err(chain(&error))),
            }
        }
    };
    collector.ledger.adopt_store(store.name(), &managed.declared(), counter).await?;
    Ok(Ok(()))
}
