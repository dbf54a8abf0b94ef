//! What course-gc does, by the parts that its own command line uses.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use course_gc::app;
use course_gc::config::Config;
use course_gc::domain::inventory::Census;
use course_gc::domain::live_set::LiveSet;
use course_gc::domain::report::{Mode, RunReport};
use course_gc::ledger::PostgresLedger;
use course_gc::reconcile::{Collector, reconcile};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::contest::Timed;

/// What of a run counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// All of it.
    Whole,
    /// The sweep of its stores.
    Sweep,
    /// The purge of what expired.
    Purge,
}

/// What the command line makes of a configuration.
///
/// # Errors
/// If it is none.
pub(crate) fn collector(config: &Path) -> Result<Collector> {
    Ok(app::collector(&load(config)?)?)
}

/// Its ledger.
///
/// # Errors
/// If it is none.
pub(crate) fn ledger(config: &Path) -> Result<PostgresLedger> {
    Ok(app::ledger(&load(config)?)?)
}

/// The environment counts, as for the command line: other settings can be tried.
fn load(config: &Path) -> Result<Config> {
    Ok(Config::load(config, std::env::vars())?)
}

/// # Errors
/// If it cannot be read.
pub(crate) async fn read_live(config: &Path) -> Result<Timed> {
    let collector = collector(config)?;
    let liveness = collector.liveness.lock().await?;
    let began = Instant::now();
    let sets = liveness.read().await?;
    let seconds = began.elapsed().as_secs_f64();
    let courses = sets.iter().map(|(_, set, _)| set.len() as u64).sum();
    liveness.release().await;
    Ok(Timed { seconds, courses, ..Timed::default() })
}

/// # Errors
/// If the live set cannot be read, or the inventory is incomplete.
pub(crate) async fn inventory(config: &Path, store: &str) -> Result<Timed> {
    let collector = collector(config)?;
    let managed = collector.stores.iter().find(|managed| managed.store.name() == store);
    let store = &managed.with_context(|| format!("there is no store {store}"))?.store;
    let liveness = collector.liveness.lock().await?;
    let live = liveness.read().await?.into_iter().map(|(_, set, _)| set).reduce(LiveSet::union);
    liveness.release().await;
    let live = Arc::new(live.context("there is no liveness source")?);

    let began = Instant::now();
    let mut census = Census::new(live, store.sources().len());
    store.inventory(&mut census).await?;
    let inventory = census.finish();
    let seconds = began.elapsed().as_secs_f64();
    let rested = rested(&collector);
    let mut timed = Timed { seconds, resources: inventory.unclaimed.count, rested, ..Timed::default() };
    for source in &inventory.sources {
        let dead = source.dead.values().map(|found| found.amount.resources + found.entangled).sum::<u64>();
        timed.courses += source.live_courses + source.dead.len() as u64;
        timed.resources += source.live_resources + dead + source.unrecognised.count;
    }
    Ok(timed)
}

/// # Errors
/// If the run does not do all that it should.
pub(crate) async fn run(config: &Path, part: &Part) -> Result<Timed> {
    let collector = collector(config)?;
    let began = Instant::now();
    let report = reconcile(&collector, Mode::Run, &CancellationToken::new()).await?;
    let whole = began.elapsed().as_secs_f64();
    well(&report)?;
    let purged = report.quarantine.as_ref().map_or(0, |quarantine| quarantine.purged);
    let stage = |name: &str| report.stages.get(name).copied().unwrap_or_default();
    let (seconds, resources) = match part {
        Part::Whole => (whole, report.swept().deleted),
        Part::Sweep => (stage("sweep"), report.swept().deleted),
        Part::Purge => (stage("purge"), purged),
    };
    Ok(Timed { seconds, resources, rested: rested(&collector), ..Timed::default() })
}

/// How long all stores' calls have rested; of several at the same time each counts.
fn rested(collector: &Collector) -> f64 {
    let paces = collector.stores.iter().filter_map(|managed| managed.store.pace());
    paces.map(|pace| pace.rested().as_secs_f64()).sum()
}

/// A bench of a run that failed would be fast.
fn well(report: &RunReport) -> Result<()> {
    if let Some(halt) = &report.halt {
        bail!("the run was halted: {halt}");
    }
    for store in &report.stores {
        ensure!(store.not_adopted.is_none(), "store {}: {:?}", store.name, store.not_adopted);
        ensure!(
            store.error.is_none() && store.failures.is_empty(),
            "store {}: {:?} {:?}",
            store.name,
            store.error,
            store.failures
        );
        let held = store.sources.iter().flat_map(|source| &source.orphans).filter(|orphan| !orphan.decision.sweeps());
        ensure!(held.clone().count() == 0, "store {} holds {:?}", store.name, held.take(3).collect::<Vec<_>>());
    }
    Ok(())
}
