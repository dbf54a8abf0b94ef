//! Kind to its servers: a run at a slow pace does all that a run does, and stops as soon as any.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use course_gc::config::Config;
use course_gc::domain::report::{Mode, RunReport, Verdict};
use course_gc::reconcile::{Collector, reconcile};
use sandbox::World;
use sandbox::campus::CampusSize;
use sandbox::config::{Settings, environment};
use tokio_util::sync::CancellationToken;

use crate::support::Installation;

/// The installation's collector, whose stores of points and keys are called at this pace: variables and their values.
fn paced(installation: &Installation, pace: &[(&str, &str)]) -> Result<Collector> {
    let mut variables = environment(&installation.addresses);
    for store in ["VECTORS", "CACHE"] {
        let variable =
            |(field, value): &(&str, &str)| (format!("COURSE_GC_STORES_{store}_PACE_{field}"), (*value).to_owned());
        variables.extend(pace.iter().map(variable));
    }
    Ok(course_gc::app::collector(&Config::load(&installation.path(), variables)?)?)
}

fn rested(report: &RunReport, store: &str) -> Result<f64> {
    Ok(report.stores.iter().find(|entry| entry.name == store).context("the store is there")?.rest_seconds)
}

#[tokio::test]
async fn a_run_at_a_slow_pace_does_all_that_a_run_does() -> Result<()> {
    let world = World::create().await?;
    let (installation, campus) =
        Installation::over(world.addresses(), &Settings::default(), CampusSize::default()).await?;
    campus.delete_doomed(&installation.stores).await?;
    installation.plan().await?;
    installation.age("1 minute").await?;

    let collector = paced(&installation, &[("CALLS_PER_SECOND", "40"), ("IN_FLIGHT", "2")])?;
    let report = reconcile(&collector, Mode::Run, &CancellationToken::new()).await?;
    assert_eq!(report.verdict, Verdict::Done, "{report:?}");
    assert!(report.swept().deleted > 0);
    for store in ["vectors", "cache"] {
        ensure!(rested(&report, store)? > 0.0, "{store} never waited");
    }
    assert_eq!(rested(&report, "uploads")?, 0.0);
    let left = installation.plan().await?;
    let orphans = left.stores.iter().flat_map(|store| &store.sources).flat_map(|source| &source.orphans);
    assert_eq!(orphans.filter(|orphan| orphan.decision.sweeps()).count(), 0);
    Ok(())
}

#[tokio::test]
async fn whoever_stops_a_run_does_not_wait_for_its_rests() -> Result<()> {
    let world = World::create().await?;
    let (installation, _) = Installation::over(world.addresses(), &Settings::default(), CampusSize::default()).await?;
    // An hour for what comes next.
    let collector = Arc::new(paced(&installation, &[("CALLS_PER_SECOND", "1")])?);
    for managed in &collector.stores {
        if let Some(pace) = managed.store.pace().filter(|pace| pace.settings().calls_per_second.is_some()) {
            for _ in 0..3600 {
                course_gc::pace::at_once(pace.call(async {})).await;
            }
        }
    }
    let stop = CancellationToken::new();
    let run = {
        let (collector, stop) = (Arc::clone(&collector), stop.clone());
        tokio::spawn(async move { reconcile(&collector, Mode::Run, &stop).await })
    };
    crate::support::eventually("it looks into the stores", async || Ok(collector.leading.leads().then_some(())))
        .await?;
    stop.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(30), run).await??;
    ensure!(ended.is_err(), "{ended:?}");
    Ok(())
}
