//! What holds: each gate over a whole campus, and the order in which it lets go.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use course_gc::domain::plan::Decision;
use course_gc::domain::report::{RunReport, Verdict};
use sandbox::campus::{Campus, CampusSize, CourseId, Fate, STRANGER};
use sandbox::config::Settings;
use sandbox::{Difference, Resource, Snapshot, World};

use crate::support::Installation;

const SMALL: CampusSize = CampusSize {
    seed: 1,
    ids: sandbox::campus::IdKind::Uuid,
    organizations: 3,
    courses: 20,
    doomed: 4,
    foreign: 3,
    points: 2,
    vector_size: 4,
};

/// Settings without grace for who departed.
fn at_once() -> Settings {
    Settings { departed: "0s".to_owned(), ..Settings::default() }
}

/// Limits, one a line.
fn limits<const N: usize>(lines: [&str; N]) -> Vec<String> {
    lines.map(ToOwned::to_owned).to_vec()
}

/// A campus of which a first run saw every course live.
struct Scene {
    _world: World,
    installation: Installation,
    campus: Campus,
}

impl Scene {
    async fn set(size: CampusSize, settings: &Settings) -> Result<Self> {
        let world = World::create().await?;
        let (installation, campus) = Installation::over(world.addresses(), settings, size).await?;
        Ok(Self { _world: world, installation, campus })
    }

    async fn snapshot(&self) -> Result<Snapshot> {
        Snapshot::take(&self.installation.stores).await
    }

    /// What happened since.
    async fn since(&self, before: &Snapshot) -> Result<Difference> {
        Ok(before.diff(&self.snapshot().await?))
    }

    async fn delete_row(&self, course: CourseId) -> Result<()> {
        self.campus.delete_row(&self.installation.stores, course).await
    }

    /// How many orphans of a course the ledger remembers.
    async fn remembered(&self, course: CourseId) -> Result<i64> {
        let count = sqlx::query_scalar("SELECT count(*) FROM course_gc.orphans WHERE course_id = $1")
            .bind(course.to_string())
            .fetch_one(&self.installation.stores.postgres);
        Ok(count.await?)
    }
}

fn nothing() -> Difference {
    Difference::default()
}

fn went(gone: BTreeSet<Resource>) -> Difference {
    Difference { gone, ..Difference::default() }
}

/// How many orphans have each decision.
fn decisions(report: &RunReport) -> BTreeMap<&'static str, usize> {
    let mut decisions = BTreeMap::new();
    for orphan in report.stores.iter().flat_map(|it| &it.sources).flat_map(|it| &it.orphans) {
        let name = match orphan.decision {
            Decision::Sweep => "sweep",
            Decision::SweepExcept { .. } => "sweep_except",
            Decision::Held(hold) => hold.as_str(),
        };
        *decisions.entry(name).or_default() += 1;
    }
    decisions
}

/// The orphans of which something goes, with what is known of them.
fn sweeps(report: &RunReport) -> BTreeSet<(String, String, String, u64)> {
    let mut sweeps = BTreeSet::new();
    for store in &report.stores {
        for source in &store.sources {
            for orphan in source.orphans.iter().filter(|orphan| orphan.decision.sweeps()) {
                let course = orphan.course.to_string();
                sweeps.insert((store.name.clone(), source.name.clone(), course, orphan.resources));
            }
        }
    }
    sweeps
}

#[tokio::test]
async fn s14_a_plan_shows_what_a_run_does_and_changes_no_store() -> Result<()> {
    let scene = Scene::set(SMALL, &at_once()).await?;
    let deleted = scene.campus.delete_doomed(&scene.installation.stores).await?;
    let before = scene.snapshot().await?;
    let plan = scene.installation.plan().await?;
    assert_eq!(plan.verdict, Verdict::Done);
    assert_eq!(scene.since(&before).await?, nothing());

    let run = scene.installation.run().await?;
    assert_eq!(sweeps(&run), sweeps(&plan));
    let resources: u64 = sweeps(&plan).iter().map(|(.., resources)| resources).sum();
    assert_eq!(run.swept().deleted, resources);
    let gone = scene.campus.gone(&deleted).into_iter().filter(|it| before.contains(it)).collect();
    assert_eq!(scene.since(&before).await?, went(gone));
    Ok(())
}

#[tokio::test]
async fn strangers_are_reported_and_go_only_where_a_source_is_exclusive() -> Result<()> {
    let settings = Settings {
        stranger: "1s".to_owned(),
        limits: limits(["breaker_share: 50%", "breaker_share_strangers: 50%"]),
        ..Settings::default()
    };
    let scene = Scene::set(SMALL, &settings).await?;
    let before = scene.snapshot().await?;
    scene.installation.age("1 minute").await?;
    let shared = scene.installation.run().await?;
    let strangers = decisions(&shared)["not_exclusive"];
    assert_eq!((shared.verdict, decisions(&shared).len()), (Verdict::Clean, 1), "all are reported, and nothing else");
    assert_eq!(scene.since(&before).await?, nothing());

    scene.installation.configure(&Settings { exclusive: true, ..settings })?;
    let ours = scene.installation.run().await?;
    assert_eq!((ours.verdict, decisions(&ours)), (Verdict::Done, BTreeMap::from([("sweep", strangers)])));
    let fates = scene.campus.fates(&BTreeSet::new()).into_iter();
    let gone = fates.filter(|(_, fate)| *fate == Fate::Held(STRANGER)).map(|(resource, _)| resource).collect();
    assert_eq!(scene.since(&before).await?, went(gone));
    Ok(())
}

#[tokio::test]
async fn s6_an_orphan_that_grows_waits_anew() -> Result<()> {
    let scene = Scene::set(SMALL, &Settings::default()).await?;
    let course = *scene.campus.doomed().first().context("a doomed course")?;
    scene.delete_row(course).await?;
    scene.installation.run().await?;
    scene.installation.age("1 minute").await?;
    let late = format!("rag:{course}:section:9.9");
    let mut redis = scene.installation.stores.redis.clone();
    redis::cmd("SET").arg(&late).arg("late").query_async::<()>(&mut redis).await?;
    let before = scene.snapshot().await?;

    let report = scene.installation.run().await?;
    assert_eq!((report.verdict, decisions(&report).get("grace")), (Verdict::Done, Some(&1)));
    let rag = |resource: &Resource| matches!(resource, Resource::Key(name) if name.starts_with(b"rag:"));
    let all = scene.campus.gone(&BTreeSet::from([course]));
    let mut gone = all.clone();
    gone.retain(|resource| !rag(resource));
    assert_eq!(scene.since(&before).await?, went(gone), "the source that grew waits");

    scene.installation.age("1 minute").await?;
    scene.installation.run().await?;
    let late = Resource::Key(late.into_bytes());
    assert_eq!(scene.since(&before).await?, went(all.into_iter().chain([late]).collect()));
    Ok(())
}

#[tokio::test]
async fn s6_a_course_that_comes_back_is_no_orphan_and_waits_anew_when_it_goes_again() -> Result<()> {
    let scene = Scene::set(SMALL, &Settings::default()).await?;
    let course = *scene.campus.doomed().first().context("a doomed course")?;
    let before = scene.snapshot().await?;
    scene.delete_row(course).await?;
    scene.installation.run().await?;
    scene.installation.age("1 minute").await?;
    assert!(scene.remembered(course).await? > 0);

    scene.campus.revive(&scene.installation.stores, course).await?;
    let back = scene.installation.run().await?;
    assert_eq!((back.verdict, scene.remembered(course).await?), (Verdict::Clean, 0), "its orphans are closed");

    scene.delete_row(course).await?;
    let again = scene.installation.run().await?;
    assert_eq!(again.verdict, Verdict::Clean, "{:?}", decisions(&again));
    assert!(decisions(&again)["grace"] > 0);
    assert_eq!(scene.since(&before).await?, nothing());

    scene.installation.age("1 minute").await?;
    assert_eq!(scene.installation.run().await?.verdict, Verdict::Done);
    assert_eq!(scene.since(&before).await?, went(scene.campus.gone(&BTreeSet::from([course]))));
    Ok(())
}

#[tokio::test]
async fn s8_too_large_a_share_waits_for_a_person() -> Result<()> {
    let settings = Settings { limits: limits(["refuse_drop: 50%"]), ..at_once() };
    let scene = Scene::set(CampusSize { courses: 40, doomed: 19, ..SMALL }, &settings).await?;
    for course in scene.campus.doomed() {
        scene.delete_row(course).await?;
    }
    let before = scene.snapshot().await?;
    let report = scene.installation.run().await?;
    assert_eq!((report.verdict, report.halt.as_deref(), report.swept().deleted), (Verdict::Held, None, 0));
    let held: Vec<&str> = decisions(&report).into_keys().collect();
    assert_eq!(held, ["breaker_share", "not_exclusive"]);
    assert_eq!(scene.since(&before).await?, nothing());
    Ok(())
}

#[tokio::test]
async fn s8_what_went_within_a_day_counts() -> Result<()> {
    let settings = Settings { limits: limits(["breaker_courses: 4", "refuse_drop: 50%"]), ..at_once() };
    let scene = Scene::set(SMALL, &settings).await?;
    let doomed: Vec<CourseId> = scene.campus.doomed().into_iter().collect();
    let staying = scene.campus.courses.iter().filter(|course| course.doom.is_none()).map(|course| course.id);
    let courses: Vec<CourseId> = doomed.into_iter().chain(staying.take(4)).collect();
    let delete = async |courses: &[CourseId]| -> Result<RunReport> {
        for course in courses {
            scene.delete_row(*course).await?;
        }
        scene.installation.run().await
    };
    assert_eq!(delete(&courses[..3]).await?.verdict, Verdict::Done);
    sqlx::query("UPDATE course_gc.intents SET opened_at = opened_at - interval '25 hours'")
        .execute(&scene.installation.stores.postgres)
        .await?;
    assert_eq!(delete(&courses[3..5]).await?.verdict, Verdict::Done, "what went the day before counts no more");

    let before = scene.snapshot().await?;
    let report = delete(&courses[5..8]).await?;
    assert_eq!((report.verdict, report.halt.as_deref(), report.swept().deleted), (Verdict::Held, None, 0));
    assert!(decisions(&report)["breaker_courses"] > 0);
    assert_eq!(scene.since(&before).await?, nothing());
    Ok(())
}

#[tokio::test]
async fn a_cap_lets_whole_courses_go_and_the_others_wait() -> Result<()> {
    let settings = Settings { limits: limits(["cap_courses: 3"]), ..at_once() };
    let scene = Scene::set(SMALL, &settings).await?;
    let before = scene.snapshot().await?;
    let doomed = scene.campus.doomed();
    for course in &doomed {
        scene.delete_row(*course).await?;
    }
    let first = scene.installation.run().await?;
    let chosen: BTreeSet<String> = sweeps(&first).into_iter().map(|(_, _, course, _)| course).collect();
    let (swept, waiting): (BTreeSet<CourseId>, BTreeSet<CourseId>) =
        doomed.iter().partition(|course| chosen.contains(&course.to_string()));
    assert_eq!((first.verdict, swept.len(), waiting.len()), (Verdict::Done, 3, 1));
    assert!(decisions(&first)["cap"] > 0);
    let all = scene.campus.gone(&doomed);
    let waits: BTreeSet<Resource> = waiting.iter().flat_map(|it| scene.campus.only(*it).gone(&waiting)).collect();
    assert_eq!(scene.since(&before).await?, went(all.difference(&waits).cloned().collect()));

    assert_eq!(scene.installation.run().await?.verdict, Verdict::Done);
    assert_eq!(scene.since(&before).await?, went(all));
    Ok(())
}

#[tokio::test]
async fn s3_a_large_drop_halts_before_any_store_is_touched() -> Result<()> {
    let scene = Scene::set(CampusSize { doomed: 5, ..SMALL }, &at_once()).await?;
    scene.campus.delete_doomed(&scene.installation.stores).await?;
    let before = scene.snapshot().await?;
    for report in [scene.installation.plan().await?, scene.installation.run().await?] {
        assert_eq!((report.verdict, report.stores.len()), (Verdict::Held, 0));
        assert!(report.halt.is_some_and(|halt| halt.contains("20")), "it says how many there were, and are");
    }
    assert_eq!(scene.since(&before).await?, nothing());
    Ok(())
}

#[tokio::test]
async fn s3_an_empty_table_of_courses_halts_whether_anything_was_ever_there_or_not() -> Result<()> {
    let settings = Settings { stranger: "0s".to_owned(), exclusive: true, ..at_once() };
    let world = World::create().await?;
    let installation = Installation::new(world.addresses(), &settings).await?;
    let campus = Campus::plan(SMALL);
    campus.prepare(&installation.stores).await?;
    campus.seed_resources(&installation.stores).await?;
    let before = Snapshot::take(&installation.stores).await?;
    let halts = async || -> Result<()> {
        let report = installation.run().await?;
        assert_eq!((report.verdict, report.stores.len()), (Verdict::Held, 0));
        assert!(report.halt.is_some());
        assert_eq!(before.diff(&Snapshot::take(&installation.stores).await?), nothing());
        Ok(())
    };
    halts().await?;

    campus.seed_rows(&installation.stores).await?;
    installation.plan().await?;
    sqlx::query("TRUNCATE public.courses CASCADE").execute(&installation.stores.postgres).await?;
    halts().await
}

#[tokio::test]
async fn s9_a_reference_query_that_fails_holds_its_store_and_says_so() -> Result<()> {
    let scene = Scene::set(SMALL, &at_once()).await?;
    scene.campus.delete_doomed(&scene.installation.stores).await?;
    let before = scene.snapshot().await?;
    let rename = |from, to| format!("ALTER TABLE public.{from} RENAME TO {to}");
    let postgres = &scene.installation.stores.postgres;
    sqlx::raw_sql(sqlx::AssertSqlSafe(rename("file_catalog", "elsewhere"))).execute(postgres).await?;

    let report = scene.installation.run().await?;
    assert_eq!(report.verdict, Verdict::Partly);
    let uploads = report.stores.iter().find(|store| store.name == "uploads").context("no uploads")?;
    assert!(uploads.error.as_ref().is_some_and(|error| error.contains("file_catalog")), "{:?}", uploads.error);
    assert_eq!(uploads.swept().deleted, 0);
    let difference = scene.since(&before).await?;
    let is_upload = |resource: &&Resource| matches!(resource, Resource::File(path) if path.starts_with("uploads/"));
    assert_eq!(difference.gone.iter().filter(is_upload).count(), 0);
    assert!(!difference.gone.is_empty(), "the other stores go on");
    let clocks = "SELECT count(*) FROM course_gc.orphans WHERE store = 'uploads' AND evidence = 'departed'";
    let clocks: i64 = sqlx::query_scalar(clocks).fetch_one(postgres).await?;
    assert_eq!(clocks, 0, "no clock runs while nobody knows what is referred to");

    sqlx::raw_sql(sqlx::AssertSqlSafe(rename("elsewhere", "file_catalog"))).execute(postgres).await?;
    assert_eq!(scene.installation.run().await?.verdict, Verdict::Done);
    assert!(scene.since(&before).await?.gone.iter().filter(is_upload).count() > 0);
    Ok(())
}
