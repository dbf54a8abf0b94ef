//! S1: a course that comes back while a run is at work.

use std::sync::Arc;

use anyhow::{Context, Result};
use course_gc::domain::report::{Mode, RunReport, Verdict};
use course_gc::reconcile::reconcile;
use futures::FutureExt;
use sandbox::campus::{Campus, CampusSize, CourseId};
use sandbox::config::Settings;
use sandbox::{Resource, Snapshot, World};
use tokio_util::sync::CancellationToken;

use crate::interposed::{Call, interpose};
use crate::support::Installation;

/// A campus of which courses were deleted that may go at once.
struct Scene {
    _world: World,
    installation: Installation,
    campus: Arc<Campus>,
    /// The deleted course that will come back.
    back: CourseId,
}

impl Scene {
    async fn set() -> Result<Self> {
        let world = World::create().await?;
        let settings = Settings { departed: "0s".to_owned(), ..Settings::default() };
        let installation = Installation::new(world.addresses(), &settings).await?;
        let campus = Arc::new(Campus::plan(CampusSize::default()));
        campus.seed(&installation.stores).await?;
        installation.run().await?;
        let deleted = campus.delete_doomed(&installation.stores).await?;
        let back = deleted.into_iter().next().context("nothing was deleted")?;
        Ok(Self { _world: world, installation, campus, back })
    }

    /// A run in which the course comes back right before the first call of this kind to the cache.
    async fn run_until(&self, moment: Call) -> Result<RunReport> {
        let mut collector = self.installation.collector()?;
        let (campus, stores, back) = (Arc::clone(&self.campus), self.installation.stores.clone(), self.back);
        interpose(&mut collector, "cache", move |call, nth| {
            let (campus, stores) = (Arc::clone(&campus), stores.clone());
            async move {
                if call == moment && nth == 1 {
                    campus.revive(&stores, back).await.expect("the row can be put back");
                }
            }
            .boxed()
        });
        Ok(reconcile(&collector, Mode::Run, &CancellationToken::new()).await?)
    }

    /// The keys of the course that comes back.
    async fn keys(&self) -> Result<Vec<Resource>> {
        let id = self.back.to_string();
        let snapshot = Snapshot::take(&self.installation.stores).await?;
        let names_it = |resource: &&Resource| matches!(resource, Resource::Key(name) if String::from_utf8_lossy(name).contains(&id));
        Ok(snapshot.resources().filter(names_it).cloned().collect())
    }
}

#[tokio::test]
async fn s1_a_course_that_comes_back_after_the_plan_keeps_everything() -> Result<()> {
    let scene = Scene::set().await?;
    let before = scene.keys().await?;
    assert!(!before.is_empty());
    let report = scene.run_until(Call::Locate).await?;
    assert_eq!(scene.keys().await?, before);
    let cache = report.stores.iter().find(|store| store.name == "cache").context("no cache")?;
    assert!(cache.swept().spared > 0 && cache.swept().deleted > 0, "{:?}", cache.swept());
    assert!(cache.live_after_delete.is_empty());
    Ok(())
}

#[tokio::test]
async fn s1_a_course_that_comes_back_after_its_confirmation_is_told() -> Result<()> {
    let scene = Scene::set().await?;
    // No process can exclude being frozen between the last question and the send. The first batch is of one key, whose
    // course is the one that comes back if every other one is live again before.
    for course in scene.campus.doomed().into_iter().filter(|course| *course != scene.back) {
        scene.campus.revive(&scene.installation.stores, course).await?;
    }
    let report = scene.run_until(Call::Delete).await?;
    let cache = report.stores.iter().find(|store| store.name == "cache").context("no cache")?;
    let told: Vec<String> = cache.live_after_delete.iter().map(ToString::to_string).collect();
    assert_eq!(told, [scene.back.to_string()], "and no further batch of it goes");
    assert_eq!(cache.swept().deleted, 1);
    assert_eq!(report.verdict, Verdict::Partly, "whoever is on call must look");
    Ok(())
}
