//! S12: what was deleted lies in quarantine until it expires, and comes back as it was.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use course_gc::domain::report::{Mode, RunReport, StoreReport, Verdict};
use course_gc::reconcile::{Collector, reconcile};
use futures::FutureExt;
use sandbox::campus::{Campus, CampusSize, CourseId};
use sandbox::config::Settings;
use sandbox::{Snapshot, World};
use tokio_util::sync::CancellationToken;

use crate::interposed::{Call, interpose};
use crate::support::Installation;

/// A campus of which courses were deleted that may go at once.
struct Scene {
    _world: World,
    installation: Installation,
    campus: Arc<Campus>,
    settings: Settings,
}

impl Scene {
    async fn set(quarantine: &[&str]) -> Result<Self> {
        let world = World::create().await?;
        let quarantine = quarantine.iter().map(|line| (*line).to_owned()).collect();
        let settings = Settings { departed: "0s".to_owned(), quarantine, ..Settings::default() };
        let (installation, campus) = Installation::over(world.addresses(), &settings, CampusSize::default()).await?;
        campus.delete_doomed(&installation.stores).await?;
        Ok(Self { _world: world, installation, campus: Arc::new(campus), settings })
    }

    /// The first of the deleted courses.
    fn doomed(&self) -> CourseId {
        *self.campus.doomed().first().expect("some were deleted")
    }

    async fn snapshot(&self) -> Result<Snapshot> {
        Snapshot::take(&self.installation.stores).await
    }

    async fn run(&self, collector: &Collector) -> Result<RunReport> {
        Ok(reconcile(collector, Mode::Run, &CancellationToken::new()).await?)
    }

    /// The program's answer, which must have this exit code.
    async fn program(&self, arguments: &[&str], code: i32) -> Result<serde_json::Value> {
        let arguments: Vec<&str> = ["--output", "json"].iter().chain(arguments).copied().collect();
        let answer = self.installation.program(&arguments).await?;
        assert_eq!(answer.code, Some(code), "{arguments:?}: {answer:?}");
        answer.json()
    }

    /// How long each key has to live, in milliseconds; -1 for ever.
    async fn lives(&self) -> Result<BTreeMap<Vec<u8>, i64>> {
        let mut redis = self.installation.stores.redis.clone();
        let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query_async(&mut redis).await?;
        let mut lives = BTreeMap::new();
        for key in keys {
            let left = redis::cmd("PTTL").arg(&key).query_async(&mut redis).await?;
            lives.insert(key, left);
        }
        Ok(lives)
    }

    /// The archives' files with this ending.
    fn archives(&self, ending: &str) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let mut below = vec![self.installation.addresses.files.join(".course-gc/archives")];
        while let Some(folder) = below.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten() {
                let path = entry?.path();
                match path.is_dir() {
                    true => below.push(path),
                    false if path.to_string_lossy().ends_with(ending) => found.push(path),
                    false => {}
                }
            }
        }
        Ok(found)
    }

    /// Raises a deleted course from the dead right before the first call of this kind to a store.
    fn revive_before(&self, collector: &mut Collector, store: &str, moment: Call, back: CourseId) {
        let (campus, stores) = (Arc::clone(&self.campus), self.installation.stores.clone());
        interpose(collector, store, move |call, nth| {
            let (campus, stores) = (Arc::clone(&campus), stores.clone());
            async move {
                if (call, nth) == (moment, 1) {
                    campus.revive(&stores, back).await.expect("the row can be put back");
                }
            }
            .boxed()
        });
    }
}

fn store<'a>(report: &'a RunReport, name: &str) -> Result<&'a StoreReport> {
    report.stores.iter().find(|store| store.name == name).with_context(|| format!("no {name}"))
}

#[tokio::test]
async fn s12_what_a_run_deleted_comes_back_byte_for_byte_and_stays_for_a_while() -> Result<()> {
    let scene = Scene::set(&[]).await?;
    let (before, lives) = (scene.snapshot().await?, scene.lives().await?);
    let report = scene.installation.run().await?;
    assert_eq!(report.verdict, Verdict::Done, "{report:?}");
    let after = scene.snapshot().await?;
    assert_ne!(before.diff(&after), Default::default());

    let run = report.run.to_string();
    let listed = scene.program(&["quarantine", "list", "--run", &run], 0).await?;
    assert!(listed["copies"].as_array().is_some_and(|copies| copies.len() >= 3), "{listed}");
    scene.program(&["quarantine", "verify"], 0).await?;
    let shown = scene.program(&["restore", "--run", &run, "--dry-run"], 0).await?;
    assert_eq!(scene.snapshot().await?.diff(&after), Default::default(), "that was to look only");
    let restored = scene.program(&["restore", "--run", &run], 0).await?;
    assert_eq!(restored["items"], shown["items"], "what was said would come back came back");
    let back = scene.snapshot().await?;
    assert_eq!(before.diff(&back), Default::default(), "byte for byte");
    for (key, left) in scene.lives().await? {
        let had = lives.get(&key).context("a key that was not there")?;
        assert!((had - left).abs() < 60_000 && (left < 0) == (*had < 0), "{}: {had} {left}", key.escape_ascii());
    }

    let twice = scene.program(&["restore", "--run", &run], 0).await?;
    let items = twice["items"].as_array().context("no items")?;
    assert!(items.iter().all(|item| item["outcome"] == "exists"), "twice is harmless: {twice}");
    assert_eq!(scene.snapshot().await?.diff(&back), Default::default());

    let next = scene.installation.run().await?;
    assert_eq!((next.verdict, next.swept().deleted), (Verdict::Clean, 0), "what was put back is left alone: {next:?}");
    let held: u64 =
        next.stores.iter().flat_map(|it| &it.sources).filter_map(|it| it.held().get("restored").copied()).sum();
    assert!(held > 0);
    sqlx::query("UPDATE course_gc.exemptions SET until = now()").execute(&scene.installation.stores.postgres).await?;
    scene.installation.run().await?;
    assert_eq!(scene.snapshot().await?.diff(&after), Default::default(), "until its time is over");
    Ok(())
}

#[tokio::test]
async fn s12_one_course_comes_back_alone() -> Result<()> {
    let scene = Scene::set(&[]).await?;
    let course = scene.doomed().to_string();
    // The only course of its organization.
    let organization = scene.installation.addresses.files.join("uploads/f3b0a6a2-58f5-4a80-8a55-6c1f0f6f3f11");
    let alone = organization.join(&course).join("alone.pdf");
    std::fs::create_dir_all(organization.join(&course))?;
    std::fs::write(&alone, "alone")?;
    let before = scene.snapshot().await?;
    scene.installation.run().await?;
    assert!(organization.exists() && !alone.exists());
    // One run sees that it is empty, and a later one that nothing has happened in it: here at once.
    scene.installation.run().await?;
    scene.installation.run().await?;
    assert!(!organization.exists());
    let after = scene.snapshot().await?;
    scene.program(&["restore", "--course", &course], 0).await?;
    assert_eq!(std::fs::read(&alone)?, b"alone");
    let back = scene.snapshot().await?.diff(&after);
    assert_ne!(back, Default::default());
    let (missing, other) = (before.diff(&scene.snapshot().await?), before.diff(&after));
    assert!(missing.gone.len() < other.gone.len());
    let named = |id: &str| format!("{back:?}").contains(id);
    for other in scene.campus.doomed().iter().skip(1) {
        assert!(!named(&other.to_string()), "{other} stays away: {back:?}");
    }
    scene.program(&["restore", "--course", "no-id"], 2).await?;
    scene.program(&["restore"], 2).await?;
    Ok(())
}

#[tokio::test]
async fn s12_what_has_no_room_in_quarantine_is_not_deleted() -> Result<()> {
    let mut scene = Scene::set(&["max_size: 10B"]).await?;
    let before = scene.lives().await?;
    let report = scene.installation.run().await?;
    for name in ["cache", "vectors"] {
        let store = store(&report, name)?;
        assert_eq!(store.swept().deleted, 0, "{store:?}");
        assert!(store.error.as_deref().unwrap_or_default().contains("quarantine is full"), "{:?}", store.error);
    }
    assert_eq!(report.verdict, Verdict::Partly);
    assert_eq!(scene.lives().await?.len(), before.len());
    assert_eq!(scene.archives("")?, Vec::<PathBuf>::new(), "nothing half done stays");

    scene.settings.quarantine.clear();
    scene.installation.configure(&scene.settings)?;
    let report = scene.installation.run().await?;
    assert!(store(&report, "cache")?.swept().deleted > 0 && store(&report, "vectors")?.swept().deleted > 0);
    Ok(())
}

#[tokio::test]
async fn s12_a_damaged_archive_is_told_and_the_others_come_back() -> Result<()> {
    let scene = Scene::set(&[]).await?;
    let before = scene.snapshot().await?;
    let run = scene.installation.run().await?.run.to_string();
    let parts = scene.archives(".tar.zst")?;
    let damaged = parts.iter().find(|path| path.to_string_lossy().contains("/cache/")).context("an archive of keys")?;
    let whole = std::fs::read(damaged)?;
    std::fs::write(damaged, &whole[..whole.len() / 2])?;

    let verified = scene.program(&["quarantine", "verify"], 4).await?;
    assert_eq!(verified["unusable"].as_object().map(serde_json::Map::len), Some(1), "{verified}");
    let restored = scene.program(&["restore", "--run", &run], 4).await?;
    let failed = |item: &&serde_json::Value| item["outcome"] == "failed";
    let failed: Vec<_> = restored["items"].as_array().context("no items")?.iter().filter(failed).collect();
    assert!(
        !failed.is_empty() && failed.iter().all(|item| item["cause"].to_string().contains("checksum")),
        "{failed:?}"
    );
    assert_ne!(before.diff(&scene.snapshot().await?), Default::default());

    std::fs::write(damaged, whole)?;
    scene.program(&["restore", "--run", &run], 0).await?;
    assert_eq!(before.diff(&scene.snapshot().await?), Default::default(), "nothing was lost by trying");
    Ok(())
}

#[tokio::test]
async fn s12_what_expired_is_purged_but_for_who_is_live_again() -> Result<()> {
    let scene = Scene::set(&["keep: 1s"]).await?;
    scene.installation.run().await?;
    let (copies, back) = (scene.archives(".json")?.len() as u64, scene.doomed());
    assert!(copies > 0);
    scene.campus.revive(&scene.installation.stores, back).await?;
    let expire = "UPDATE course_gc.runs SET started_at = started_at - interval '1 hour'";
    sqlx::query(expire).execute(&scene.installation.stores.postgres).await?;
    crate::support::eventually("a copy has expired", async || {
        let report = scene.installation.run().await?;
        let quarantine = report.quarantine.as_ref().context("no quarantine")?;
        assert!(quarantine.errors.is_empty(), "{quarantine:?}");
        if quarantine.live_again.is_empty() {
            return Ok(None);
        }
        let told = quarantine.live_again.iter().all(|course| course.to_string() == back.to_string());
        assert!(told, "{quarantine:?} {back}");
        assert_eq!(report.verdict, Verdict::Partly, "whoever is on call must look");
        Ok(Some(()))
    })
    .await?;
    let left = scene.archives(".json")?;
    assert!(!left.is_empty() && (left.len() as u64) < copies, "the others are gone: {left:?}");
    let id = back.to_string();
    for header in &left {
        assert!(std::fs::read_to_string(header)?.contains(&id), "{}", header.display());
    }
    let purged = scene.program(&["quarantine", "purge", "--yes"], 3).await?;
    assert_eq!(purged["live"], serde_json::json!([id]), "nor does a person purge them");
    scene.campus.delete_row(&scene.installation.stores, back).await?;
    scene.program(&["quarantine", "purge", "--yes"], 0).await?;
    assert_eq!(scene.archives("")?, Vec::<PathBuf>::new());
    Ok(())
}

#[tokio::test]
async fn s1_what_went_of_a_course_that_came_back_in_between_is_put_back_at_once() -> Result<()> {
    let scene = Scene::set(&[]).await?;
    let back = scene.doomed();
    for course in scene.campus.doomed().into_iter().skip(1) {
        scene.campus.revive(&scene.installation.stores, course).await?;
    }
    let before = scene.lives().await?;
    let mut collector = scene.installation.collector()?;
    scene.revive_before(&mut collector, "cache", Call::Delete, back);
    let report = scene.run(&collector).await?;
    let cache = store(&report, "cache")?;
    assert_eq!((cache.swept().deleted, cache.put_back), (1, 1), "{cache:?}");
    let after = scene.lives().await?;
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>(), "S1: it has lost nothing");
    Ok(())
}

#[tokio::test]
async fn s12_a_key_that_is_written_between_copy_and_delete_stays() -> Result<()> {
    let scene = Scene::set(&[]).await?;
    let mut redis = scene.installation.stores.redis.clone();
    let key = format!("rag:{}:late", scene.doomed());
    redis::cmd("SET").arg(&key).arg("early").query_async::<()>(&mut redis).await?;
    let mut collector = scene.installation.collector()?;
    let (late, client) = (key.clone(), redis.clone());
    interpose(&mut collector, "cache", move |call, _| {
        let (late, mut client) = (late.clone(), client.clone());
        async move {
            if call == Call::Delete {
                redis::cmd("APPEND").arg(&late).arg(" and late").query_async::<()>(&mut client).await.expect("Redis");
            }
        }
        .boxed()
    });
    let report = scene.run(&collector).await?;
    let value: Option<String> = redis::cmd("GET").arg(&key).query_async(&mut redis).await?;
    assert!(value.context("it is there")?.starts_with("early and late"));
    assert!(store(&report, "cache")?.swept().spared > 0, "{:?}", store(&report, "cache")?.swept());
    scene.installation.run().await?;
    let value: Option<String> = redis::cmd("GET").arg(&key).query_async(&mut redis).await?;
    assert_eq!(value, None, "the next run takes it as it is now");
    Ok(())
}
