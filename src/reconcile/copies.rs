//! What lies in quarantine: put back where a run that was cut off harmed somebody (S11), purged when it expires (S12).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt;
use uuid::Uuid;

use super::stages::Locks;
use super::{Collector, RunError};
use crate::clock::Deadline;
use crate::domain::ids::CourseId;
use crate::domain::live_set::LiveSet;
use crate::domain::report::{QuarantineReport, RunReport};
use crate::errors::chain;
use crate::ledger::Interrupted;
use crate::pace;
use crate::quarantine::{Copy, Listing, PurgeError};
use crate::stores::Store;
use crate::stores::copies::Restoring;

/// A run's id tells when it began, by the clock of the machine that it ran on; by so much it may differ from the ledger's.
const CLOCKS_DIFFER: TimeDelta = TimeDelta::days(1);

/// How many copies are asked about at once.
const PAGE: usize = 100;
/// How many of them are purged at once.
const TOGETHER: usize = 8;

/// What runs that were cut off copied.
#[derive(Default)]
pub(super) struct Owed {
    copies: Vec<Copy>,
    /// By store, or `archives`: why they could not be listed.
    errors: BTreeMap<String, String>,
}

impl Owed {
    /// The copies of open intents.
    pub(super) async fn find(collector: &Collector, open: &BTreeMap<String, Interrupted>) -> Self {
        if open.is_empty() {
            return Self::default();
        }
        let runs: BTreeSet<Uuid> = open.values().flat_map(|interrupted| &interrupted.runs).copied().collect();
        let Listing { mut copies, errors, .. } =
            collector.quarantine.copies(&collector.stores(), &|run| runs.contains(&run)).await;
        copies.retain(|copy| open.get(&copy.store).is_some_and(|open| open.runs.contains(&copy.id.run)));
        Self { copies, errors }
    }

    /// Everybody whom something in them names.
    pub(super) fn named(&self) -> impl Iterator<Item = &CourseId> {
        self.copies.iter().flat_map(|copy| &copy.named)
    }

    /// The copies of a store in which somebody is named who is live.
    pub(super) fn of<'a>(&'a self, store: &'a dyn Store, live: &'a LiveSet) -> impl Iterator<Item = &'a Copy> {
        let harmed = |copy: &&Copy| copy.store == store.name() && copy.named.iter().any(|id| live.contains(*id));
        self.copies.iter().filter(harmed)
    }

    /// Puts back what they hold of whoever is live. How many resources came back, and what is still missing.
    pub(super) async fn put_back(
        &self,
        collector: &Collector,
        store: &dyn Store,
        live: &LiveSet,
    ) -> (u64, Vec<String>) {
        let unlisted = |(of, error): (&String, &String)| {
            (of == store.name() || of == "archives").then(|| format!("copies could not be listed: {error}"))
        };
        let mut missing: Vec<String> = self.errors.iter().filter_map(unlisted).collect();
        let mut restored = 0;
        for copy in self.of(store, live) {
            let courses: Vec<CourseId> =
                copy.courses.keys().filter(|course| live.contains(**course)).copied().collect();
            // Whoever is named, but owns nothing, is named by something of the others'.
            let whose: Vec<Option<CourseId>> =
                if courses.is_empty() { vec![None] } else { courses.into_iter().map(Some).collect() };
            for course in whose {
                let returned = collector.quarantine.put_back(store, copy, course, Restoring::Missing).await;
                restored += returned.iter().filter(|returned| returned.outcome == "restored").count() as u64;
                let lost = returned.iter().filter(|returned| returned.failed());
                missing.extend(lost.map(|lost| {
                    let cause = lost.cause.as_deref().unwrap_or_default();
                    format!("could not put back `{}`: {cause}", lost.name)
                }));
            }
        }
        (restored, missing)
    }
}

/// Purges what has expired and belongs to nobody who is live; says what is left. Frees room for what is about to go.
pub(super) async fn purge(collector: &Collector, locks: &Locks, report: &mut RunReport) -> Result<(), RunError> {
    let began_before = cutoff(report.started_at, collector.quarantine.keep);
    let old = |run: Uuid| began(run).is_none_or(|began| began < began_before);
    let stores = adopted(collector, report);
    let Listing { copies, count, bytes, runs, unfinished, errors } = collector.quarantine.copies(&stores, &old).await;
    let mut told = QuarantineReport { copies: count, bytes, ..QuarantineReport::default() };
    told.archive_bytes = collector.quarantine.archives.used();
    told.oldest = runs.into_iter().filter_map(began).min();
    told.errors = errors.into_iter().map(|(of, error)| format!("{of}: {error}")).collect();
    match collector.quarantine.archives.free_percent().await {
        Ok(free) => told.free_percent = free,
        Err(error) => told.errors.push(chain(&error)),
    }
    if report.paused.is_none() {
        let expired = copies.iter().filter(|copy| copy.id.expires_at <= report.started_at).collect();
        purge_all(collector, locks, (&stores, expired), &mut told).await?;
        pace::at_once(clear(collector, locks, &stores, &unfinished, (&*report, &mut told))).await?;
    }
    for error in &told.errors {
        tracing::warn!(run = %report.run, error, "quarantine");
    }
    report.quarantine = Some(told);
    Ok(())
}

/// Removes what was never finished, and what is empty.
async fn clear(
    collector: &Collector,
    locks: &Locks,
    stores: &[&dyn Store],
    unfinished: &[String],
    (report, told): (&RunReport, &mut QuarantineReport),
) -> Result<(), RunError> {
    // Whoever stood still may have listed what another run is copying (S10, S12). Who has the lock now had it then.
    locks.ledger.verify().await?;
    let (run, archives) = (report.run, &collector.quarantine.archives);
    if let Err(error) = archives.remove_unfinished(unfinished, |of| of != Some(run)).await {
        told.errors.push(chain(&error));
    }
    for in_place in stores.iter().filter_map(|store| store.in_place()) {
        if let Err(error) = in_place.remove_unfinished(run).await {
            told.errors.push(chain(&error));
        }
    }
    tidy(collector, locks, stores, (report.started_at, told)).await
}

/// Asks about the copies page by page, and purges those that are nobody's who lives, as long as the answer is good. Those for which it
/// grew too old are asked about again.
async fn purge_all(
    collector: &Collector,
    locks: &Locks,
    (stores, mut expired): (&[&dyn Store], VecDeque<&Copy>),
    told: &mut QuarantineReport,
) -> Result<(), RunError> {
    while !expired.is_empty() {
        for store in stores {
            pace::rest(store.pace()).await;
        }
        let page: Vec<&Copy> = expired.drain(..expired.len().min(PAGE)).collect();
        let good = collector.good_from_now();
        let named = page.iter().flat_map(|copy| &copy.named).copied().collect();
        let live = locks.liveness.live_among(&named).await?;
        locks.ledger.verify().await?;
        let (kept, dead): (Vec<&Copy>, Vec<&Copy>) =
            page.into_iter().partition(|copy| copy.named.iter().any(|id| live.contains(*id)));
        kept.into_iter().for_each(|copy| keep(copy, &live, told));
        let purges: Vec<_> = dead.iter().map(|copy| purge_one(collector, copy, &good)).collect();
        let purged: Vec<_> = pace::at_once(futures::stream::iter(purges).buffered(TOGETHER).collect()).await;
        let mut late = Vec::new();
        for (copy, purged) in dead.iter().zip(&purged) {
            match purged {
                Ok(false) => late.push(*copy),
                Ok(true) => note(copy, Ok(()), told),
                Err(error) => note(copy, Err(error), told),
            }
        }
        if late.len() < dead.len() {
            late.into_iter().rev().for_each(|copy| expired.push_front(copy));
        } else {
            let why = "asking who is live took longer than a confirmation is good for; it is left for the next run";
            let errors = late.iter().map(|copy| format!("copy {} of store {} expired, and {why}", copy.id, copy.store));
            told.errors.extend(errors);
        }
    }
    Ok(())
}

/// The copy of a course that is live again does not expire.
fn keep(copy: &Copy, live: &LiveSet, told: &mut QuarantineReport) {
    for course in copy.named.iter().copied().filter(|id| live.contains(*id)) {
        tracing::error!(store = copy.store, %course, copy = %copy.id, "a course is live of which a copy expired: it is kept");
        if !told.live_again.contains(&course) {
            told.live_again.push(course);
        }
    }
}

/// False, and nothing has gone, if `good` is over by the time that it could begin.
async fn purge_one(collector: &Collector, copy: &Copy, good: &Deadline) -> Result<bool, PurgeError> {
    let store = collector.stores.iter().find(|managed| managed.store.name() == copy.store);
    collector.quarantine.purge(store.map(|managed| managed.store.as_ref()), copy, good).await
}

fn note(copy: &Copy, purged: Result<(), &PurgeError>, told: &mut QuarantineReport) {
    match purged {
        Ok(()) => {
            told.purged += 1;
            told.reclaimed_bytes += copy.bytes;
            told.copies = told.copies.saturating_sub(1);
            told.bytes = told.bytes.saturating_sub(copy.bytes);
            tracing::info!(store = copy.store, copy = %copy.id, bytes = copy.bytes, "purged");
        }
        Err(error) => told.errors.push(chain(error)),
    }
}

/// Removes what earlier runs emptied and nobody has touched since; whoever departed waits as long.
async fn tidy(
    collector: &Collector,
    locks: &Locks,
    stores: &[&dyn Store],
    (now, told): (DateTime<Utc>, &mut QuarantineReport),
) -> Result<(), RunError> {
    locks.ledger.verify().await?;
    let untouched_for = TimeDelta::from_std(collector.limits.graces.departed).unwrap_or(TimeDelta::MAX);
    for store in stores {
        if let Err(error) = store.tidy(now, untouched_for).await {
            told.errors.push(chain(&error));
        }
    }
    Ok(())
}

/// Stores that are ours: what lies beside others is none of our business (S7).
fn adopted<'a>(collector: &'a Collector, report: &RunReport) -> Vec<&'a dyn Store> {
    let ours = collector.stores.iter().zip(&report.stores).filter(|(_, entry)| entry.not_adopted.is_none());
    ours.map(|(managed, _)| managed.store.as_ref()).collect()
}

fn cutoff(now: DateTime<Utc>, keep: std::time::Duration) -> DateTime<Utc> {
    let keep = TimeDelta::from_std(keep).unwrap_or(TimeDelta::MAX);
    now.checked_sub_signed(keep).and_then(|at| at.checked_add_signed(CLOCKS_DIFFER)).unwrap_or(DateTime::<Utc>::MIN_UTC)
}

/// When a run began, as far as its id tells.
fn began(run: Uuid) -> Option<DateTime<Utc>> {
    let (seconds, nanoseconds) = run.get_timestamp()?.to_unix();
    DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanoseconds)
}
