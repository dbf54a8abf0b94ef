//! Stores and Postgres that are down, slow, or answer nonsense: before a run and in its middle.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result};
use course_gc::domain::inventory::fingerprint;
use course_gc::domain::report::{Mode, RunReport, Verdict};
use course_gc::reconcile::{Collector, reconcile};
use sandbox::campus::{Campus, CampusSize, IdKind};
use sandbox::config::Settings;
use sandbox::{Addresses, Difference, Postgres, Qdrant, Redis, Resource, Snapshot, Stores, World};
use serde_json::Value;
use sqlx::AssertSqlSafe;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::interposed::{Call, interpose};
use crate::support::Installation;

/// Large enough for several batches.
pub const CAMPUS: CampusSize = CampusSize {
    seed: 1,
    ids: IdKind::Uuid,
    organizations: 5,
    courses: 50,
    doomed: 8,
    foreign: 6,
    points: 2,
    vector_size: 8,
};

/// A campus whose doomed courses were deleted long enough ago: the next run sweeps what they left.
pub struct Scene {
    /// What runs on it.
    pub installation: Installation,
    /// What lay in the stores before that run.
    pub before: Snapshot,
    /// What should go.
    pub doomed: BTreeSet<Resource>,
    _world: World,
}

impl Scene {
    /// On shared servers, except for the addresses that `own` replaces.
    pub async fn with(own: impl FnOnce(&mut Addresses)) -> Result<Self> {
        let world = World::create().await?;
        let mut addresses = world.addresses();
        own(&mut addresses);
        let installation = Installation::new(addresses, &settings()).await?;
        let campus = Campus::plan(CAMPUS);
        campus.seed(&installation.stores).await?;
        installation.run().await?;
        let deleted = campus.delete_doomed(&installation.stores).await?;
        installation.plan().await?;
        installation.age("1 minute").await?;
        let before = Snapshot::take(&installation.stores).await?;
        let doomed = campus.gone(&deleted).into_iter().filter(|resource| before.contains(resource)).collect();
        Ok(Self { installation, before, doomed, _world: world })
    }

    /// What of a store should go, by the store's name in the configuration.
    pub fn of(&self, store: &str) -> BTreeSet<Resource> {
        self.doomed.iter().filter(|resource| store_of(resource) == store).cloned().collect()
    }

    /// Connects anew to servers that were restarted.
    pub async fn reconnect(&mut self) -> Result<()> {
        self.installation.stores = Stores::connect(&self.installation.addresses).await?;
        Ok(())
    }

    /// What a run did to the stores, since the beginning.
    pub async fn difference(&self) -> Result<Difference> {
        Ok(self.before.diff(&Snapshot::take(&self.installation.stores).await?))
    }

    /// Everything that was to go is gone, nothing else, and there is nothing left to do.
    pub async fn is_finished(&self) -> Result<()> {
        assert_eq!(self.difference().await?, Difference { gone: self.doomed.clone(), ..Difference::default() });
        let open: i64 = sqlx::query_scalar("SELECT count(*) FROM course_gc.intents WHERE closed_at IS NULL")
            .fetch_one(&self.installation.stores.postgres)
            .await?;
        assert_eq!(open, 0, "open intents");
        let (code, report) = run(&self.installation).await?;
        assert_eq!((code, &report["verdict"]), (0, &"clean".into()), "{report:#}");
        Ok(())
    }

    /// One run by the program whose damage is that this store cannot be listed.
    pub async fn misses(&self, damage: &str, store: &str) -> Result<()> {
        let (code, report) = run(&self.installation).await?;
        assert_eq!((code, &report["verdict"]), (4, &"partly".into()), "{damage}: {report:#}");
        for entry in report["stores"].as_array().context("stores")? {
            let complete = entry["name"] != store;
            assert_eq!(entry["complete"], complete, "{damage}: {entry:#}");
            assert_eq!(entry["error"].is_null(), complete, "{damage}: {entry:#}");
            assert_eq!(entry["sources"].as_array().map(Vec::is_empty), Some(!complete), "{damage}: {entry:#}");
        }
        Ok(())
    }

    /// The next run finishes it, with exit code 0.
    pub async fn recovers(&self) -> Result<()> {
        let (code, report) = run(&self.installation).await?;
        assert_eq!((code, &report["verdict"]), (0, &"done".into()), "{report:#}");
        self.is_finished().await
    }
}

pub fn store_of(resource: &Resource) -> &'static str {
    match resource {
        Resource::Key(_) => "cache",
        Resource::Point(_) => "vectors",
        Resource::File(path) if path.starts_with("uploads/") => "uploads",
        Resource::File(_) => "enrichments",
        Resource::Job { .. } => "jobs",
        Resource::Row { .. } => "rows",
        Resource::Object(_) => "media",
    }
}

/// Calls that give up soon: what hangs must not hang the tests.
pub fn settings() -> Settings {
    Settings { limits: vec!["call_timeout: 2s".into()], ..Settings::default() }
}

/// One run by the program: its exit code and what it printed.
pub async fn run(installation: &Installation) -> Result<(i32, Value)> {
    let answer = installation.program(&["--output", "json", "run"]).await?;
    Ok((answer.code.context("it was killed")?, answer.json()?))
}

/// A server that answers whatever it is told with bytes that mean nothing. Its port is the number.
async fn babbler() -> Result<(u16, JoinHandle<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let serve = async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = [0; 1024];
                while let Ok(1..) = connection.read(&mut bytes).await {
                    if connection.write_all(b"-?! \0\xff\xfe gibberish\r\n:5\r\n$-1\r\n").await.is_err() {
                        break;
                    }
                }
            });
        }
    };
    Ok((port, tokio::spawn(serve)))
}

/// Stores whose resources went, and nobody else's.
pub fn went(difference: &Difference) -> BTreeMap<&'static str, BTreeSet<Resource>> {
    assert!(difference.added.is_empty() && difference.changed.is_empty(), "{difference:?}");
    let mut by_store: BTreeMap<_, BTreeSet<Resource>> = BTreeMap::new();
    for resource in &difference.gone {
        by_store.entry(store_of(resource)).or_default().insert(resource.clone());
    }
    by_store
}

/// The whole share of every store but one.
pub fn all_but(scene: &Scene, store: &str) -> BTreeMap<&'static str, BTreeSet<Resource>> {
    ["cache", "vectors", "uploads", "enrichments"]
        .into_iter()
        .filter(|other| *other != store)
        .map(|other| (other, scene.of(other)))
        .filter(|(_, share)| !share.is_empty())
        .collect()
}

#[tokio::test]
async fn s4_a_redis_that_does_not_answer_well_is_left_alone_and_the_others_go_on() -> Result<()> {
    let redis = Redis::start().await?;
    let mut scene = Scene::with(|addresses| addresses.redis = redis.url()).await?;
    redis.pause()?;
    scene.misses("paused", "cache").await?;
    redis.resume()?;
    assert_eq!(went(&scene.difference().await?), all_but(&scene, "cache"));
    redis.stop().await?;
    scene.misses("down", "cache").await?;
    redis.restart().await?;
    let (port, babbler) = babbler().await?;
    let right = std::mem::replace(&mut scene.installation.addresses.redis, format!("redis://127.0.0.1:{port}/0"));
    scene.misses("nonsense", "cache").await?;
    babbler.abort();
    scene.installation.addresses.redis = right;
    scene.reconnect().await?;
    assert_eq!(went(&scene.difference().await?), all_but(&scene, "cache"));
    scene.recovers().await
}

#[tokio::test]
async fn s4_a_qdrant_that_does_not_answer_well_is_left_alone_and_the_others_go_on() -> Result<()> {
    let qdrant = Qdrant::start().await?;
    let mut scene = Scene::with(|addresses| addresses.qdrant = qdrant.url()).await?;
    qdrant.pause()?;
    scene.misses("paused", "vectors").await?;
    qdrant.resume()?;
    assert_eq!(went(&scene.difference().await?), all_but(&scene, "vectors"));
    qdrant.stop().await?;
    scene.misses("down", "vectors").await?;
    qdrant.restart().await?;
    let (port, babbler) = babbler().await?;
    let right = std::mem::replace(&mut scene.installation.addresses.qdrant, format!("http://127.0.0.1:{port}"));
    scene.misses("nonsense", "vectors").await?;
    babbler.abort();
    scene.installation.addresses.qdrant = right;
    assert_eq!(went(&scene.difference().await?), all_but(&scene, "vectors"));
    scene.recovers().await
}

#[tokio::test]
async fn s4_a_collection_that_does_not_exist_is_no_empty_one() -> Result<()> {
    let mut scene = Scene::with(|_| ()).await?;
    let right = std::mem::replace(&mut scene.installation.addresses.alias, "nowhere".into());
    scene.installation.configure(&settings())?;
    scene.misses("no such collection", "vectors").await?;
    scene.installation.addresses.alias = right;
    scene.installation.configure(&settings())?;
    assert_eq!(went(&scene.difference().await?), all_but(&scene, "vectors"));
    scene.recovers().await
}

#[tokio::test]
async fn s4_a_root_that_cannot_be_listed_is_no_empty_one() -> Result<()> {
    let scene = Scene::with(|_| ()).await?;
    let root = scene.installation.addresses.files.join("uploads");
    let aside = root.with_file_name("aside");
    std::fs::rename(&root, &aside)?;
    type Damage = fn(&Path) -> std::io::Result<()>;
    let damages: [(&str, Damage); 3] = [
        ("missing", |_| Ok(())),
        ("a file", |root| std::fs::write(root, "a volume that was not mounted")),
        ("a link to itself", |root| symlink(root, root)),
    ];
    for (damage, make) in damages {
        make(&root)?;
        scene.misses(damage, "uploads").await?;
        let _ = std::fs::remove_file(&root);
    }
    std::fs::rename(&aside, &root)?;
    assert_eq!(went(&scene.difference().await?), all_but(&scene, "uploads"));
    scene.recovers().await
}

#[tokio::test]
async fn all_stores_down_is_a_failure() -> Result<()> {
    let (redis, qdrant) = (Redis::start().await?, Qdrant::start().await?);
    let scene = Scene::with(|addresses| {
        addresses.redis = redis.url();
        addresses.qdrant = qdrant.url();
    })
    .await?;
    let files = scene.installation.addresses.files.clone();
    let aside = files.with_extension("aside");
    std::fs::rename(&files, &aside)?;
    tokio::try_join!(redis.stop(), qdrant.stop())?;
    let (code, report) = run(&scene.installation).await?;
    assert_eq!((code, &report["verdict"]), (1, &"failed".into()), "{report:#}");
    std::fs::rename(&aside, &files)?;
    tokio::try_join!(redis.restart(), qdrant.restart())?;
    let mut scene = scene;
    scene.reconnect().await?;
    assert_eq!(scene.difference().await?, Difference::default());
    scene.recovers().await
}

/// A run in this process, with what `prepare` does to its collector.
pub async fn activate(scene: &Scene, prepare: impl FnOnce(&mut Collector)) -> Result<RunReport> {
    let mut collector = scene.installation.collector()?;
    prepare(&mut collector);
    Ok(reconcile(&collector, Mode::Run, &CancellationToken::new()).await?)
}

#[tokio::test]
async fn s4_without_postgres_no_store_is_touched() -> Result<()> {
    let postgres = Postgres::start().await?;
    let campus = postgres.create_database("campus").await?;
    let mut scene = Scene::with(|addresses| addresses.postgres = campus).await?;
    let fails = async |scene: &Scene, damage: &str| -> Result<()> {
        let (code, report) = run(&scene.installation).await?;
        assert_eq!(code, 1, "{damage}: {report:#}");
        let error = report["error"].as_str().context("error")?;
        assert!(error.contains("127.0.0.1"), "{damage}: where? {error}");
        assert_eq!(scene.difference().await?, Difference::default(), "{damage}");
        Ok(())
    };
    postgres.pause()?;
    fails(&scene, "paused").await?;
    postgres.resume()?;
    postgres.crash().await?;
    fails(&scene, "down").await?;
    postgres.restart().await?;
    let (port, babbler) = babbler().await?;
    let nonsense = format!("postgres://postgres@127.0.0.1:{port}/campus");
    let right = std::mem::replace(&mut scene.installation.addresses.postgres, nonsense);
    fails(&scene, "nonsense").await?;
    babbler.abort();
    scene.installation.addresses.postgres = right;
    scene.reconnect().await?;
    scene.recovers().await
}

/// Makes a query the pinned one, without adopting anew, which would start the clocks anew as well.
async fn pin_query(scene: &Scene, query: &str) -> Result<()> {
    sqlx::query("UPDATE course_gc.pinned_sources SET pin = jsonb_set(pin, '{query}', to_jsonb($1::text))")
        .bind(format!("{:016x}", fingerprint(query.as_bytes())))
        .execute(&scene.installation.stores.postgres)
        .await?;
    Ok(())
}

#[tokio::test]
async fn s4_a_liveness_query_that_takes_too_long_is_no_answer() -> Result<()> {
    let scene = Scene::with(|_| ()).await?;
    let slow = "SELECT id FROM public.courses, pg_sleep(60)";
    // As if it had been as quick when it was adopted.
    pin_query(&scene, slow).await?;
    let asking = scene.installation.asking(slow)?;
    let error = activate(&scene, |collector| *collector = asking).await.expect_err("it is slow");
    assert!(format!("{error:#}").contains("reading the live ids: no answer within 2 s"), "{error:#}");
    assert_eq!(scene.difference().await?, Difference::default());
    scene.installation.unlocked().await?;
    pin_query(&scene, &scene.installation.source()?.query).await?;
    scene.recovers().await
}

#[tokio::test]
async fn s10_a_postgres_that_restarts_in_the_middle_of_a_sweep_ends_it() -> Result<()> {
    let postgres = Postgres::start().await?;
    let campus = postgres.create_database("campus").await?;
    let scene = Scene::with(|addresses| addresses.postgres = campus).await?;
    let restarted = postgres.clone();
    let report = activate(&scene, |collector| {
        interpose(collector, "cache", move |call, nth| {
            let postgres = restarted.clone();
            Box::pin(async move {
                if (call, nth) == (Call::Delete, 1) {
                    postgres.restart().await.expect("it restarts");
                }
            })
        });
    })
    .await?;
    assert_eq!(report.verdict, Verdict::Partly, "{report:?}");
    let cache = report.stores.iter().find(|store| store.name == "cache").context("cache")?;
    let swept = cache.swept();
    // The batch in hand was confirmed, and is one of the first two: one key, or ten. What came after could not be.
    assert!(swept.deleted > 0 && swept.deleted + swept.spared <= 11, "{swept:?}");
    assert!(swept.unattempted > 0 && swept.failed == 0, "{swept:?}");
    assert!(cache.failures.iter().any(|failure| failure.contains("could not confirm")), "{cache:?}");
    let difference = scene.difference().await?;
    assert_eq!(went(&difference)["cache"].len() as u64, swept.deleted);
    assert!(difference.gone.is_subset(&scene.doomed));
    scene.recovers().await
}

/// What a run says and does when `store`, whose own server or folder it is, breaks in its middle.
async fn breaks(
    scene: &Scene,
    store: &str,
    at: (Call, usize),
    damage: impl Fn() + Clone + Send + Sync + 'static,
) -> Result<RunReport> {
    let report = activate(scene, |collector| {
        interpose(collector, store, move |call, nth| {
            let damage = damage.clone();
            Box::pin(async move {
                if (call, nth) == at {
                    damage();
                }
            })
        });
    })
    .await?;
    assert_eq!(report.verdict, Verdict::Partly, "{report:?}");
    for entry in &report.stores {
        assert!(entry.complete, "{entry:?}");
        assert_eq!(entry.error.is_some(), entry.name == store, "{entry:?}");
    }
    Ok(report)
}

pub fn entry<'a>(report: &'a RunReport, store: &str) -> &'a course_gc::domain::report::StoreReport {
    report.stores.iter().find(|entry| entry.name == store).expect("it is reported")
}

#[tokio::test]
async fn a_redis_that_dies_in_the_middle_of_a_sweep_is_left_for_the_next_run() -> Result<()> {
    let redis = Redis::start().await?;
    let mut scene = Scene::with(|addresses| addresses.redis = redis.url()).await?;

    let hung = redis.clone();
    let report = breaks(&scene, "cache", (Call::Locate, 1), move || hung.pause().expect("it runs")).await?;
    redis.resume()?;
    assert_eq!(entry(&report, "cache").swept(), Default::default(), "nothing was located");
    assert_eq!(went(&scene.difference().await?), all_but(&scene, "cache"));

    let hung = redis.clone();
    let report = breaks(&scene, "cache", (Call::Delete, 1), move || hung.pause().expect("it runs")).await?;
    let cache = entry(&report, "cache");
    assert!(cache.swept().failed > 0 && cache.swept().deleted == 0, "{cache:?}");
    let error = cache.error.as_deref().unwrap_or_default();
    assert!(error.starts_with("left for the next run after 2 failed batches in a row: "), "{error}");
    // What was sent may still land: all of it was confirmed.
    redis.resume()?;
    assert!(scene.difference().await?.gone.is_subset(&scene.doomed));

    redis.crash().await?;
    redis.restart().await?;
    scene.reconnect().await?;
    scene.recovers().await
}

#[tokio::test]
async fn a_qdrant_that_hangs_in_the_middle_of_a_sweep_is_left_for_the_next_run() -> Result<()> {
    let qdrant = Qdrant::start().await?;
    let scene = Scene::with(|addresses| addresses.qdrant = qdrant.url()).await?;
    let hung = qdrant.clone();
    let report = breaks(&scene, "vectors", (Call::Delete, 1), move || hung.pause().expect("it runs")).await?;
    let vectors = entry(&report, "vectors");
    assert!(vectors.swept().failed > 0 && vectors.swept().deleted == 0, "{vectors:?}");
    qdrant.resume()?;
    let mut went = went(&scene.difference().await?);
    let landed = went.remove("vectors").unwrap_or_default();
    assert!(landed.is_subset(&scene.of("vectors")));
    assert_eq!(went, all_but(&scene, "vectors"));
    scene.recovers().await
}

#[tokio::test]
async fn a_root_that_vanishes_in_the_middle_of_a_sweep_is_left_for_the_next_run() -> Result<()> {
    let scene = Scene::with(|_| ()).await?;
    let root = scene.installation.addresses.files.join("uploads");
    let aside = root.with_file_name("aside");
    let (from, to) = (root.clone(), aside.clone());
    let unmount = move || std::fs::rename(&from, &to).expect("it was there");
    let report = breaks(&scene, "uploads", (Call::Delete, 1), unmount).await?;
    let uploads = entry(&report, "uploads");
    assert!(uploads.swept().failed > 0 && uploads.swept().deleted == 0, "{uploads:?}");
    std::fs::rename(&aside, &root)?;
    assert_eq!(went(&scene.difference().await?), all_but(&scene, "uploads"));
    scene.recovers().await
}

/// A run whose ledger loses a table when the first keys are about to go.
async fn without_table(scene: &Scene, table: &str) -> Result<Result<RunReport>> {
    let pool = scene.installation.stores.postgres.clone();
    let rename = |from: &str, to: &str| format!("ALTER TABLE course_gc.{from} RENAME TO {to}");
    let away = rename(table, "aside");
    let ledger = pool.clone();
    let ended = activate(scene, |collector| {
        interpose(collector, "cache", move |call, nth| {
            let (ledger, away) = (ledger.clone(), away.clone());
            Box::pin(async move {
                if (call, nth) == (Call::Delete, 1) {
                    sqlx::raw_sql(AssertSqlSafe(away)).execute(&ledger).await.expect("the table is there");
                }
            })
        });
    })
    .await;
    sqlx::raw_sql(AssertSqlSafe(rename("aside", table))).execute(&pool).await?;
    Ok(ended)
}

#[tokio::test]
async fn s11_nothing_is_deleted_that_cannot_be_written_down_first() -> Result<()> {
    let scene = Scene::with(|_| ()).await?;
    let report = without_table(&scene, "intents").await??;
    assert_eq!(report.verdict, Verdict::Partly, "{report:?}");
    let swept = entry(&report, "cache").swept();
    // The batch in hand had its intent, and is one of the first two: one key, or ten.
    assert!(swept.deleted > 0 && swept.deleted + swept.spared <= 11 && swept.unattempted > 0, "{swept:?}");
    let failures = &entry(&report, "cache").failures;
    assert!(failures.iter().any(|failure| failure.contains("writing an intent")), "{failures:?}");
    let difference = scene.difference().await?;
    assert_eq!(went(&difference)["cache"].len() as u64, swept.deleted);
    assert!(difference.gone.is_subset(&scene.doomed));
    scene.recovers().await
}

#[tokio::test]
async fn a_run_whose_end_cannot_be_written_down_is_a_failure_and_harms_nothing() -> Result<()> {
    let scene = Scene::with(|_| ()).await?;
    let error = format!("{:#}", without_table(&scene, "runs").await?.expect_err("it cannot be finished"));
    assert!(error.starts_with("the ledger cannot be used; ") && error.contains("finishing the run"), "{error}");
    scene.is_finished().await
}
