//! A pause is obeyed from the next batch on, by whoever runs.

use anyhow::Result;
use course_gc::domain::plan::{Decision, Hold};
use course_gc::domain::report::{RunReport, Verdict};
use course_gc::ledger::Pauses;
use sandbox::campus::CampusSize;
use sandbox::config::Settings;
use sandbox::{Snapshot, World};

use crate::support::Installation;

/// A campus whose deleted courses are past their grace.
async fn ripe(world: &World) -> Result<Installation> {
    let (installation, campus) =
        Installation::over(world.addresses(), &Settings::default(), CampusSize::default()).await?;
    campus.delete_doomed(&installation.stores).await?;
    installation.plan().await?;
    installation.age("1 minute").await?;
    Ok(installation)
}

fn sweeps(report: &RunReport) -> usize {
    let orphans = report.stores.iter().flat_map(|store| &store.sources).flat_map(|source| &source.orphans);
    orphans.filter(|orphan| orphan.decision.sweeps()).count()
}

#[tokio::test]
async fn a_pause_holds_everything_until_somebody_resumes() -> Result<()> {
    let world = World::create().await?;
    let installation = ripe(&world).await?;
    let before = Snapshot::take(&installation.stores).await?;

    let paused = installation.program(&["pause", "--reason", "moving the database"]).await?;
    assert_eq!(paused.code, Some(0), "{paused:?}");
    let run = installation.program(&["run", "--output", "json"]).await?;
    assert_eq!(run.code, Some(3), "{run:?}");
    assert_eq!(run.json()?["paused"], "moving the database");
    assert_eq!(before.diff(&Snapshot::take(&installation.stores).await?), Default::default());
    let status = installation.program(&["status"]).await?;
    assert!(status.stdout.contains("moving the database"), "{status:?}");

    assert_eq!(installation.program(&["resume"]).await?.code, Some(0));
    assert_eq!(installation.run().await?.verdict, Verdict::Done);
    Ok(())
}

#[tokio::test]
async fn a_pause_in_the_middle_of_a_sweep_stops_before_the_next_batch() -> Result<()> {
    let world = World::create().await?;
    let installation = ripe(&world).await?;
    // The first intent of each store brings a pause with it, so that exactly the batches in hand are finished.
    let trigger = "CREATE FUNCTION public.pause() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
        INSERT INTO course_gc.pauses (reason, paused_by) VALUES ('enough', 'a test') ON CONFLICT DO NOTHING; RETURN NULL; END $$; \
        CREATE TRIGGER pause AFTER INSERT ON course_gc.intents EXECUTE FUNCTION public.pause()";
    sqlx::raw_sql(trigger).execute(&installation.stores.postgres).await?;

    let report = installation.run().await?;
    assert_eq!(report.verdict, Verdict::Held);
    assert!(report.paused.is_some());
    let swept = report.swept();
    assert!(swept.deleted > 0 && (swept.deleted as usize) < sweeps(&report), "{swept:?}");

    sqlx::raw_sql("DROP TRIGGER pause ON course_gc.intents").execute(&installation.stores.postgres).await?;
    let held = installation.plan().await?;
    let decisions = held.stores.iter().flat_map(|store| &store.sources).flat_map(|source| &source.orphans);
    assert!(decisions.clone().count() > 0);
    assert!(decisions.into_iter().all(|orphan| orphan.decision == Decision::Held(Hold::Paused)));
    installation.ledger()?.resume().await?;
    assert_eq!(installation.run().await?.verdict, Verdict::Done);
    assert_eq!(sweeps(&installation.plan().await?), 0);
    Ok(())
}
