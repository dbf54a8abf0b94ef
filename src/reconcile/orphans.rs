//! From inventories to orphans: who is asked again, who is known, what is referred to; recorded with evidence and clocks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};

use super::copies::Owed;
use super::living::Living;
use super::stages::{Locks, Taken};
use super::{Collector, ManagedStore, RunError};
use crate::domain::diff::{self, Knowledge};
use crate::domain::ids::CourseId;
use crate::domain::inventory::SourceInventory;
use crate::domain::live_set::LiveSet;
use crate::domain::plan::{SourceView, StoreView};
use crate::domain::report::{Mode, RunReport};
use crate::errors::chain;
use crate::ledger::{Interrupted, KnownIds, Place};
use crate::liveness::Liveness;
use crate::pace;
use crate::schedule::interval;
use crate::stores::{Referenced, Store, StoreError};

/// What was found out about the courses of all stores at once, after their inventories.
struct Answers {
    /// Who is live of those that were found dead, or that an earlier run may have harmed (S2, S11).
    live: LiveSet,
    /// By store: of whom an earlier run that was cut off may have deleted something.
    open: BTreeMap<String, Interrupted>,
    /// What such runs copied.
    owed: Owed,
    /// Who was put back from quarantine a while ago.
    restored: BTreeSet<CourseId>,
    known: KnownIds,
    tombstoned: BTreeSet<CourseId>,
    /// The most that a clock may gain between two finished runs.
    at_most: Duration,
}

/// Asks again about what no live course owned (S2), and what is still referred to (S9); records the orphans that are
/// left, with their evidence (what was requested, what was recorded as it died) and clocks. Returns what the gates judge.
pub async fn find(
    report: &RunReport,
    inventories: &mut [Taken],
    living: Living<'_>,
) -> Result<Vec<StoreView>, RunError> {
    let Living { collector, locks, .. } = living;
    let search = Search { collector, locks, report, living };
    let complete = inventories.iter().filter_map(|taken| taken.inventory.as_ref().ok());
    let suspects: BTreeSet<CourseId> = complete.flat_map(diff::suspects).collect();
    let answers = search.ask(&suspects).await?;
    let mut views = Vec::with_capacity(inventories.len());
    for (managed, taken) in collector.stores.iter().zip(inventories) {
        taken.harmed = harmed(managed.store.as_ref(), &answers);
        views.push(search.of_store(managed, taken, &answers).await?);
    }
    living.graves.forget(collector, locks, &suspects).await;
    Ok(views)
}

/// What the search works with.
struct Search<'a> {
    collector: &'a Collector,
    locks: &'a Locks,
    report: &'a RunReport,
    living: Living<'a>,
}

impl Search<'_> {
    async fn ask(&self, suspects: &BTreeSet<CourseId>) -> Result<Answers, RunError> {
        let Self { collector, locks, report, living } = self;
        let open = collector.ledger.open_intents().await?;
        let owed = Owed::find(collector, &open).await;
        let interrupted = open.values().flat_map(|interrupted| &interrupted.courses).chain(owed.named());
        let asked = interrupted.chain(suspects).copied().collect();
        let live = locks.liveness.live_among(&asked).await?;
        // Whatever the stores come to: where nobody knows what is referred to, or an inventory broke off, nothing is closed.
        living.found(&live).await?;
        let tombstoned = living.graves.among(suspects);
        let known = collector.ledger.known_among(suspects).await?;
        let at_most = 2 * interval(&collector.schedule, report.started_at);
        let restored = collector.ledger.exempted().await?;
        Ok(Answers { live, open, owed, restored, known, tombstoned, at_most })
    }

    async fn of_store(
        &self,
        managed: &ManagedStore,
        taken: &mut Taken,
        answers: &Answers,
    ) -> Result<StoreView, RunError> {
        let (store, ledger) = (managed.store.as_ref(), &self.collector.ledger);
        let adopted = taken.not_adopted.is_none();
        if adopted && self.is_owed(managed, taken, answers) && self.report.mode == Mode::Run {
            // Somebody who lives waits for it.
            let put_back = answers.owed.put_back(self.collector, store, &answers.live);
            (taken.put_back, taken.missing) = pace::at_once(put_back).await;
            tracing::warn!(
                store = store.name(),
                put_back = taken.put_back,
                "put back what a run that was cut off took"
            );
            taken.is_made_good = taken.missing.is_empty();
        }
        let Ok(inventory) = &taken.inventory else {
            return Ok(StoreView { sources: Vec::new(), orphans: Vec::new(), complete: false, adopted });
        };
        let place = Place { store: store.name(), sources: store.sources() };
        let dead = diff::suspects(inventory).into_iter().filter(|course| !answers.live.contains(*course)).collect();
        let references = referenced(store, self.locks.liveness.as_ref(), &dead).await;
        if let Err(error) = &references {
            let error = chain(error);
            tracing::warn!(store = store.name(), error, "references unknown: nothing of this store is swept");
            taken.references = Some(error);
        }
        let remembered = ledger.remembered(place).await?;
        let nothing = Referenced::default();
        let orphans = diff::orphans(
            inventory,
            Knowledge {
                live_again: &answers.live,
                requested: self.living.requests.courses(),
                tombstoned: &answers.tombstoned,
                known: &answers.known.all,
                across_break: &answers.known.across_break,
                // If nobody knows, the store is held as incomplete, and its clocks are left as they are.
                referenced: &references.as_ref().unwrap_or(&nothing).courses,
                restored: &answers.restored,
                remembered: &remembered,
                released: &ledger.released(place).await?,
                now: self.report.started_at,
                at_most: answers.at_most,
            },
        );
        // What another place shows, or an empty one where a root is not mounted, says nothing of ours (S7).
        if adopted {
            // If nobody knows what is referred to, no clock may gain: it starts when the last reference was seen (S9).
            if references.is_ok() {
                let closed = diff::closed(&remembered, &orphans);
                ledger.record_orphans(self.report.run, place, &orphans, &closed).await?;
            }
            if !self.is_owed(managed, taken, answers) {
                let settled = ledger.settle_intents(store.name()).await?;
                if settled > 0 {
                    tracing::warn!(
                        store = store.name(),
                        settled,
                        "an earlier run was cut off; what it left is judged anew"
                    );
                }
            }
        }
        let source = |(source, exclusive): (&SourceInventory, &bool)| SourceView {
            live_courses: source.live_courses,
            exclusive: *exclusive,
            sizes: source.sizes,
        };
        let sources = inventory.sources.iter().zip(&managed.exclusive).map(source).collect();
        Ok(StoreView { sources, orphans, complete: references.is_ok(), adopted })
    }
}

impl Search<'_> {
    /// True if a run that was cut off took something of somebody who is live, and it has not been put back yet (S11). A plan puts
    /// nothing back, and leaves that to the next run.
    fn is_owed(&self, managed: &ManagedStore, taken: &Taken, answers: &Answers) -> bool {
        let is_harmed =
            !taken.harmed.is_empty() || answers.owed.of(managed.store.as_ref(), &answers.live).next().is_some();
        is_harmed && managed.quarantined && !taken.is_made_good
    }
}

/// Who is live of those that an open intent of an earlier run names (S11).
fn harmed(store: &dyn Store, answers: &Answers) -> Vec<CourseId> {
    let open = answers.open.get(store.name()).into_iter().flat_map(|interrupted| &interrupted.courses);
    let harmed: Vec<CourseId> = open.filter(|course| answers.live.contains(**course)).copied().collect();
    for course in &harmed {
        tracing::error!(
            store = store.name(),
            %course,
            "a course is live of which a run that was cut off may have deleted something"
        );
    }
    harmed
}

async fn referenced(
    store: &dyn Store,
    liveness: &dyn Liveness,
    dead: &BTreeSet<CourseId>,
) -> Result<Referenced, StoreError> {
    match store.reference_query() {
        Some(query) if !dead.is_empty() => {
            let error = |error| StoreError::server("asking what is still referred to", error);
            store.referenced(dead, liveness.references(query).map_err(error).boxed()).await
        }
        _ => Ok(Referenced::default()),
    }
}
