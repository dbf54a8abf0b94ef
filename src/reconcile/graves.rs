//! Tombstones in a run (S6): read before the live set, void if anybody says that their course lives.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::stages::Locks;
use super::{Collector, RunError};
use crate::domain::ids::CourseId;
use crate::domain::live_set::LiveSet;
use crate::domain::report::LiveReport;
use crate::domain::tombstones::{Graveyard, Rows};
use crate::errors::chain;
use crate::liveness::Polls;

/// The tombstones of a run.
#[derive(Default)]
pub struct Graves {
    yard: Mutex<Graveyard>,
    /// By source that keeps tombstones: why they cannot be read, if so.
    sources: Vec<(String, Option<String>)>,
}

impl Graves {
    /// What was there before the live set was read. A source whose tombstones cannot be read has none: its dead are `departed` or
    /// strangers.
    pub fn new(polls: Polls) -> Self {
        let (mut yard, mut sources) = (Vec::new(), Vec::new());
        for (name, poll) in polls {
            match poll {
                Ok(tombstones) => {
                    yard.push((name.clone(), tombstones));
                    sources.push((name, None));
                }
                Err(error) => {
                    let error = chain(&error);
                    tracing::warn!(source = name, error, "tombstones unknown: recorded deaths wait as others do");
                    sources.push((name, Some(error)));
                }
            }
        }
        Self { yard: Mutex::new(Graveyard::new(yard)), sources }
    }

    /// Removes the tombstones of who is live. Where an earlier run did not do that to the end, also of everybody who was ever seen live:
    /// nobody knows whether that was before or after. The same `across_break`: what was removed may have come back with a restore (S7).
    pub async fn settle(
        &self,
        collector: &Collector,
        locks: &Locks,
        live: &LiveSet,
        across_break: bool,
    ) -> Result<(), RunError> {
        let newest = self.yard().newest();
        if !newest.is_empty() {
            collector.ledger.saw_tombstones(&newest).await?;
        }
        let settled = collector.ledger.unsettle().await?;
        let readable: Vec<String> = self.readable().map(str::to_owned).collect();
        for name in readable.iter().filter(|name| across_break || !settled.contains(*name)) {
            let courses = self.yard().courses_of(name);
            let known = collector.ledger.known_among(&courses).await?;
            let doubtful = self.yard().void_in(name, &known.all);
            remove(locks, &doubtful).await?;
        }
        self.void(collector, locks, live).await?;
        Ok(collector.ledger.settle(&readable).await?)
    }

    /// Removes the tombstones of who turned out live. What could not be removed is there still, for whoever tries again.
    pub async fn void(&self, collector: &Collector, locks: &Locks, live: &LiveSet) -> Result<(), RunError> {
        let void = self.yard().clone().void(live);
        remove(locks, &void).await?;
        self.yard().void(live);
        self.void_late(collector, locks, live).await
    }

    /// The same of those that came since these were read. Of whom has gone meanwhile, it may be younger than the sighting, and stands.
    async fn void_late(&self, collector: &Collector, locks: &Locks, live: &LiveSet) -> Result<(), RunError> {
        let readable: Vec<&str> = self.readable().collect();
        if readable.is_empty() || live.is_empty() {
            return Ok(());
        }
        let mut late = Vec::new();
        for (name, poll) in locks.liveness.tombstones().await {
            if readable.contains(&name.as_str()) {
                let tombstones = poll?.into_iter().filter(|tombstone| live.contains(tombstone.course)).collect();
                late.push((name, tombstones));
            }
        }
        let mut late = Graveyard::new(late);
        let courses = late.courses();
        if courses.is_empty() {
            return Ok(());
        }
        let still = collector.liveness.glance(&courses).await?;
        remove(locks, &late.void(&still)).await
    }

    /// Which of these courses have a tombstone that is evidence.
    pub fn among(&self, courses: &BTreeSet<CourseId>) -> BTreeSet<CourseId> {
        self.yard().among(courses)
    }

    /// Forgets old tombstones, unless something of the course is still there: without, it would wait for longer. Failing is no harm: the
    /// next run tries again.
    pub async fn forget(&self, collector: &Collector, locks: &Locks, suspects: &BTreeSet<CourseId>) {
        let old = self.yard().old();
        let forgotten = async {
            let remaining = collector.ledger.remaining(&old).await?;
            let remaining = remaining.union(suspects).copied().collect();
            let forgettable = self.yard().forgettable(&remaining);
            remove(locks, &forgettable).await
        };
        if !old.is_empty()
            && let Err(error) = forgotten.await
        {
            tracing::warn!(error = chain(&error), "old tombstones could not be forgotten");
        }
    }

    /// The sources whose tombstones could be read.
    fn readable(&self) -> impl Iterator<Item = &str> {
        self.sources.iter().filter(|(_, error)| error.is_none()).map(|(name, _)| name.as_str())
    }

    fn yard(&self) -> MutexGuard<'_, Graveyard> {
        self.yard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells how much evidence each source gives.
    pub fn report(&self, live: &mut [LiveReport]) {
        for entry in live {
            if let Some((name, error)) = self.sources.iter().find(|(name, _)| *name == entry.source) {
                entry.tombstones = error.is_none().then(|| self.yard().count_of(name));
                entry.tombstones_error.clone_from(error);
            }
        }
    }
}

async fn remove(locks: &Locks, rows: &Rows) -> Result<(), RunError> {
    if !rows.is_empty() {
        let count: usize = rows.iter().map(|(_, rows)| rows.len()).sum();
        locks.liveness.remove_tombstones(rows).await?;
        tracing::debug!(count, "tombstones removed");
    }
    Ok(())
}
