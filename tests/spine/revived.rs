//! What changes while a run is at work: a course comes back (S1), a file is referred to (S9).

use std::sync::Arc;

use anyhow::{Context, Result};
use course_gc::domain::plan::{Decision, Hold};
use course_gc::domain::report::{Mode, RunReport, StoreReport, Verdict};
use course_gc::ledger::Intents;
use course_gc::reconcile::reconcile;
use futures::FutureExt;
use sandbox::campus::{Campus, CampusSize, CourseId, Fate};
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
        Self::with_grace("0s").await
    }

    async fn with_grace(departed: &str) -> Result<Self> {
        let world = World::create().await?;
        let settings = Settings { departed: departed.to_owned(), ..Settings::default() };
        let (installation, campus) = Installation::over(world.addresses(), &settings, CampusSize::default()).await?;
        let campus = Arc::new(campus);
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

    /// Its row goes again.
    async fn dies_again(&self) -> Result<()> {
        self.campus.delete_row(&self.installation.stores, self.back).await
    }

    /// Every other course that was deleted is there again, so that a batch of one is of the one that comes back.
    async fn only_one_is_dead(&self) -> Result<()> {
        for course in self.campus.doomed().into_iter().filter(|course| *course != self.back) {
            self.campus.revive(&self.installation.stores, course).await?;
        }
        Ok(())
    }

    /// The keys of the course that comes back.
    async fn keys(&self) -> Result<Vec<Resource>> {
        let id = self.back.to_string();
        self.named(|resource| matches!(resource, Resource::Key(name) if String::from_utf8_lossy(name).contains(&id)))
            .await
    }

    /// Its uploads.
    async fn files(&self) -> Result<Vec<Resource>> {
        let id = format!("/{}/", self.back);
        let is_its = |path: &str| path.starts_with("uploads/") && path.contains(&id);
        self.named(|resource| matches!(resource, Resource::File(path) if is_its(path))).await
    }

    async fn named(&self, is_it: impl Fn(&Resource) -> bool) -> Result<Vec<Resource>> {
        let snapshot = Snapshot::take(&self.installation.stores).await?;
        Ok(snapshot.resources().filter(|resource| is_it(resource)).cloned().collect())
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
    scene.only_one_is_dead().await?;
    let report = scene.run_until(Call::Delete).await?;
    let cache = report.stores.iter().find(|store| store.name == "cache").context("no cache")?;
    let told: Vec<String> = cache.live_after_delete.iter().map(ToString::to_string).collect();
    assert_eq!(told, [scene.back.to_string()], "and no further batch of it goes");
    assert_eq!(cache.swept().deleted, 1);
    assert_eq!(report.verdict, Verdict::Partly, "whoever is on call must look");
    Ok(())
}

#[tokio::test]
async fn s6_a_course_that_is_found_live_with_its_batch_and_dies_again_waits_anew() -> Result<()> {
    let scene = Scene::with_grace("20m").await?;
    scene.installation.run().await?;
    scene.installation.age("25 minutes").await?;
    let before = scene.keys().await?;
    let report = scene.run_until(Call::Locate).await?;
    assert!(store(&report, "cache")?.swept().spared > 0, "its grace was over");

    scene.dies_again().await?;
    for _ in 0..2 {
        scene.installation.run().await?;
        assert_eq!(scene.keys().await?, before, "its grace begins anew");
    }
    scene.installation.age("25 minutes").await?;
    scene.installation.run().await?;
    assert_ne!(scene.keys().await?, before, "and is over in the end");
    Ok(())
}

#[tokio::test]
async fn s6_a_course_that_is_found_live_waits_anew_though_nobody_knows_what_is_referred_to() -> Result<()> {
    let scene = Scene::with_grace("20m").await?;
    scene.installation.run().await?;
    scene.installation.age("25 minutes").await?;
    let files = scene.files().await?;
    assert!(!files.is_empty());
    let mut collector = scene.installation.collector()?;
    let (campus, stores, back) = (Arc::clone(&scene.campus), scene.installation.stores.clone(), scene.back);
    interpose(&mut collector, "cache", move |call, nth| {
        let (campus, stores) = (Arc::clone(&campus), stores.clone());
        async move {
            if (call, nth) == (Call::Inventory, 1) {
                campus.revive(&stores, back).await.expect("the row can be put back");
                let hide = "ALTER TABLE public.file_catalog RENAME TO hidden";
                sqlx::raw_sql(hide).execute(&stores.postgres).await.expect("a table can be renamed");
            }
        }
        .boxed()
    });
    let report = reconcile(&collector, Mode::Run, &CancellationToken::new()).await?;
    assert!(store(&report, "uploads")?.error.is_some(), "{report:?}");

    sql(&scene, "ALTER TABLE public.hidden RENAME TO file_catalog").await?;
    scene.dies_again().await?;
    scene.installation.run().await?;
    assert_eq!(scene.files().await?, files, "its grace begins anew");
    scene.installation.age("25 minutes").await?;
    scene.installation.run().await?;
    assert_ne!(scene.files().await?, files, "and is over in the end");
    Ok(())
}

#[tokio::test]
async fn s11_who_could_not_be_asked_about_again_is_asked_about_by_the_next_run() -> Result<()> {
    let scene = Scene::set().await?;
    scene.only_one_is_dead().await?;
    let keys = scene.keys().await?;
    let mut collector = scene.installation.collector()?;
    let (campus, stores, back) = (Arc::clone(&scene.campus), scene.installation.stores.clone(), scene.back);
    interpose(&mut collector, "cache", move |call, nth| {
        let (campus, stores) = (Arc::clone(&campus), stores.clone());
        async move {
            if (call, nth) == (Call::Delete, 1) {
                campus.revive(&stores, back).await.expect("the row can be put back");
                let end = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND database = \
                           (SELECT oid FROM pg_database WHERE datname = current_database())";
                sqlx::query(end).execute(&stores.postgres).await.expect("the lock sessions can be ended");
            }
        }
        .boxed()
    });
    // That it failed may be all that the run can say.
    let _ = reconcile(&collector, Mode::Run, &CancellationToken::new()).await;
    scene.installation.unlocked().await?;
    let open = scene.installation.ledger()?.open_intents().await?;
    assert_eq!(
        open.get("cache").map(|open| open.courses.iter().map(ToString::to_string).collect()),
        Some(vec![back.to_string()])
    );

    let planned = scene.installation.plan().await?;
    assert_eq!(store(&planned, "cache")?.put_back, 0, "a plan changes no store");
    assert_ne!(scene.keys().await?, keys);
    let report = scene.installation.run().await?;
    let cache = store(&report, "cache")?;
    let told: Vec<String> = cache.live_after_delete.iter().map(ToString::to_string).collect();
    assert_eq!((told, report.verdict), (vec![back.to_string()], Verdict::Partly), "whoever is on call must look");
    assert_eq!((cache.put_back, scene.keys().await?), (1, keys), "S11: and it has lost nothing");
    assert!(scene.installation.ledger()?.open_intents().await?.is_empty());
    assert_eq!(scene.installation.run().await?.verdict, Verdict::Clean, "once");
    Ok(())
}

#[tokio::test]
async fn s1_whoever_is_named_by_what_went_is_asked_about_again() -> Result<()> {
    let scene = Scene::set().await?;
    scene.only_one_is_dead().await?;
    let named = scene.campus.doomed().into_iter().find(|course| *course != scene.back).context("another")?;
    scene.campus.delete_row(&scene.installation.stores, named).await?;
    let key = format!("rag:{}:section:{named}", scene.back);
    let mut redis = scene.installation.stores.redis.clone();
    for key in scene.keys().await? {
        let Resource::Key(name) = key else { continue };
        redis::cmd("UNLINK").arg(name).query_async::<()>(&mut redis).await?;
    }
    redis::cmd("SET").arg(&key).arg("both").query_async::<()>(&mut redis).await?;

    let mut collector = scene.installation.collector()?;
    let (campus, stores) = (Arc::clone(&scene.campus), scene.installation.stores.clone());
    interpose(&mut collector, "cache", move |call, _| {
        let (campus, stores) = (Arc::clone(&campus), stores.clone());
        async move {
            if call == Call::Delete {
                campus.revive(&stores, named).await.expect("the row can be put back");
            }
        }
        .boxed()
    });
    let report = reconcile(&collector, Mode::Run, &CancellationToken::new()).await?;
    let told: Vec<String> = store(&report, "cache")?.live_after_delete.iter().map(ToString::to_string).collect();
    assert!(told.contains(&named.to_string()), "{told:?} {report:?}");
    Ok(())
}

#[tokio::test]
async fn s9_what_is_referred_to_after_the_plan_stays_and_the_rest_of_its_directory_goes() -> Result<()> {
    let scene = Scene::set().await?;
    let stores = &scene.installation.stores;
    let deleted = scene.campus.doomed().into_iter().collect();
    let is_upload = |resource: &Resource| match resource {
        Resource::File(path) if path.starts_with("uploads/") => Some(path.clone()),
        _ => None,
    };
    let fates = scene.campus.fates(&deleted);
    let directory = |path: &str| path.split('/').take(3).map(str::to_owned).collect::<Vec<_>>();
    let stays = fates.iter().filter(|(_, fate)| **fate != Fate::Gone).filter_map(|(resource, _)| is_upload(resource));
    let stays: Vec<_> = stays.map(|path| directory(&path)).collect();
    let mut gone =
        fates.iter().filter(|(_, fate)| **fate == Fate::Gone).filter_map(|(resource, _)| is_upload(resource));
    let path = gone.find(|path| !stays.contains(&directory(path))).context("no upload is to go with all beside it")?;
    let (wanted, rest) = (stores.addresses.files.join(&path), stores.addresses.files.join(format!("{path}.rest")));
    std::fs::write(&rest, "nobody refers to it")?;

    let mut collector = scene.installation.collector()?;
    let (postgres, row) = (stores.postgres.clone(), path.clone());
    interpose(&mut collector, "uploads", move |call, nth| {
        let (postgres, row) = (postgres.clone(), row.clone());
        async move {
            if (call, nth) == (Call::Locate, 1) {
                let insert = "INSERT INTO public.file_catalog (id, organization_id, storage_path) \
                              VALUES (gen_random_uuid(), gen_random_uuid(), $1)";
                sqlx::query(insert).bind(row).execute(&postgres).await.expect("a row can be written");
            }
        }
        .boxed()
    });
    let report = reconcile(&collector, Mode::Run, &CancellationToken::new()).await?;
    let uploads = store(&report, "uploads")?;
    let course = path.split('/').nth(2).context("no course")?;
    let mut planned = uploads.sources.iter().flat_map(|source| &source.orphans);
    let planned = planned.find(|orphan| orphan.course.to_string() == course).context("it was no orphan")?;
    assert_eq!((planned.decision, planned.referenced), (Decision::Sweep, 0), "nothing referred to it yet");
    assert!(wanted.exists());
    assert!(!rest.exists(), "the rest goes");
    assert!(uploads.swept().spared > 0, "{:?}", uploads.swept());

    let report = scene.installation.run().await?;
    let sources = &store(&report, "uploads")?.sources;
    let held = sources.iter().flat_map(|source| &source.orphans).find(|orphan| orphan.course.to_string() == course);
    assert_eq!(held.map(|orphan| orphan.decision), Some(Decision::Held(Hold::Referenced)));
    assert!(wanted.exists());
    Ok(())
}

async fn sql(scene: &Scene, statement: &'static str) -> Result<()> {
    sqlx::raw_sql(statement).execute(&scene.installation.stores.postgres).await?;
    Ok(())
}

fn store<'a>(report: &'a RunReport, name: &str) -> Result<&'a StoreReport> {
    report.stores.iter().find(|store| store.name == name).with_context(|| format!("no {name}"))
}
