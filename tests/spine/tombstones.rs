//! S6: recorded deaths as evidence, in whole runs, and the program that installs what records them.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context, Result};
use course_gc::adopt::adopt;
use course_gc::domain::evidence::Evidence;
use course_gc::domain::ids::IdType;
use course_gc::domain::plan::{Breaker, Decision, Hold};
use course_gc::domain::report::{LiveReport, Mode, OrphanReport, RunReport, Verdict};
use course_gc::domain::tombstones::Graveyard;
use course_gc::ledger::PostgresLedger;
use course_gc::liveness::{LivenessSources, PostgresSources};
use course_gc::reconcile::{Pass, reconcile};
use course_gc::tombstones::Tombstones;
use sandbox::campus::{Campus, CampusSize, CourseId, IdKind};
use sandbox::config::Settings;
use sandbox::{Postgres, Snapshot, World};
use sqlx::AssertSqlSafe;
use tokio_util::sync::CancellationToken;

use crate::support::{Installation, eventually};

const SIZE: CampusSize = CampusSize {
    seed: 1,
    ids: IdKind::Uuid,
    organizations: 3,
    courses: 20,
    doomed: 4,
    foreign: 2,
    points: 2,
    vector_size: 4,
};

fn settings() -> Settings {
    Settings { departed: "24h".to_owned(), tombstoned: Some("15m".to_owned()), ..Settings::default() }
}

/// A campus whose deaths are recorded, and that a run saw live.
struct Scene {
    _world: World,
    installation: Installation,
    campus: Campus,
}

impl Scene {
    async fn set(ids: IdKind) -> Result<Self> {
        let world = World::create().await?;
        let installation = Installation::new(world.addresses(), &Settings { ids, ..settings() }).await?;
        let campus = Campus::plan(CampusSize { ids, ..SIZE });
        campus.seed(&installation.stores).await?;
        let scene = Self { _world: world, installation, campus };
        scene.install().await?;
        assert_eq!(scene.run().await?.verdict, Verdict::Clean);
        Ok(scene)
    }

    async fn install(&self) -> Result<()> {
        let tombstones = self.installation.source()?.tombstones.context("tombstones are kept")?;
        Ok(tombstones.install().await?.run().await?)
    }

    async fn run(&self) -> Result<RunReport> {
        self.installation.run().await
    }

    async fn sql(&self, statements: &str) -> Result<()> {
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&self.installation.stores.postgres).await?;
        Ok(())
    }

    async fn delete(&self, course: CourseId) -> Result<()> {
        self.campus.delete_row(&self.installation.stores, course).await
    }

    /// Deletes a course, and nobody records it.
    async fn delete_silently(&self, course: CourseId) -> Result<()> {
        self.sql("ALTER TABLE public.courses DISABLE TRIGGER course_gc_bury").await?;
        self.delete(course).await?;
        self.sql("ALTER TABLE public.courses ENABLE TRIGGER course_gc_bury").await
    }

    async fn revive(&self, course: CourseId) -> Result<()> {
        self.campus.revive(&self.installation.stores, course).await
    }

    /// How many tombstones a course has.
    async fn tombstones(&self, course: CourseId) -> Result<i64> {
        let count = sqlx::query_scalar("SELECT count(*) FROM course_gc.tombstones WHERE course_id = $1")
            .bind(course.to_string())
            .fetch_one(&self.installation.stores.postgres);
        Ok(count.await?)
    }

    /// Some courses that nothing else makes special.
    fn doomed(&self) -> Vec<CourseId> {
        self.campus.doomed().into_iter().collect()
    }
}

fn orphans(report: &RunReport, course: CourseId) -> Vec<&OrphanReport> {
    let all = report.stores.iter().flat_map(|it| &it.sources).flat_map(|it| &it.orphans);
    all.filter(|orphan| orphan.course.to_string() == course.to_string()).collect()
}

/// The evidence for a course's death, the same in every source.
fn evidence(report: &RunReport, course: CourseId) -> Option<Evidence> {
    let found: BTreeSet<Evidence> = orphans(report, course).iter().map(|orphan| orphan.evidence).collect();
    assert!(found.len() <= 1, "{found:?}");
    found.into_iter().next()
}

fn campus(report: &RunReport) -> &LiveReport {
    report.live.iter().find(|live| live.source == "campus").expect("there is such a source")
}

#[tokio::test]
async fn s6_a_recorded_death_waits_minutes_and_an_unrecorded_one_a_day() -> Result<()> {
    for ids in [IdKind::Uuid, IdKind::Integer, IdKind::Text] {
        let scene = Scene::set(ids).await?;
        let [recorded, silent, ..] = scene.doomed()[..] else { panic!("there are more") };
        scene.delete(recorded).await?;
        scene.delete_silently(silent).await?;
        let report = scene.run().await?;
        assert_eq!(evidence(&report, recorded), Some(Evidence::Tombstoned));
        assert_eq!(evidence(&report, silent), Some(Evidence::Departed));
        let live = campus(&report);
        assert_eq!((live.tombstones, &live.tombstones_error), (Some(1), &None));
        let waits =
            |orphan: &&OrphanReport| matches!(orphan.decision, Decision::Held(Hold::Grace { .. } | Hold::Referenced));
        assert!(orphans(&report, recorded).iter().all(waits), "it waits, too");
        scene.installation.age("14 minutes").await?;
        assert!(orphans(&scene.run().await?, recorded).iter().all(waits));
        scene.installation.age("2 minutes").await?;
        let report = scene.run().await?;
        assert!(orphans(&report, recorded).iter().any(|orphan| orphan.decision.sweeps()), "{report:?}");
        assert!(orphans(&report, silent).iter().all(waits));
        assert!(report.swept().deleted > 0);
    }
    Ok(())
}

#[tokio::test]
async fn s6_a_tombstone_that_is_older_than_a_sighting_is_void() -> Result<()> {
    let scene = Scene::set(IdKind::Uuid).await?;
    let course = scene.doomed()[0];
    scene.delete(course).await?;
    assert_eq!(evidence(&scene.run().await?, course), Some(Evidence::Tombstoned));
    scene.revive(course).await?;
    assert_eq!(evidence(&scene.run().await?, course), None);
    assert_eq!(scene.tombstones(course).await?, 0, "it was removed in the run that saw it live");
    scene.delete_silently(course).await?;
    assert_eq!(evidence(&scene.run().await?, course), Some(Evidence::Departed));
    scene.revive(course).await?;
    scene.delete(course).await?;
    assert_eq!(evidence(&scene.run().await?, course), Some(Evidence::Tombstoned), "another death is another tombstone");
    Ok(())
}

#[tokio::test]
async fn s6_a_tombstone_of_who_is_found_live_right_before_its_delete_is_void() -> Result<()> {
    let scene = Scene::set(IdKind::Uuid).await?;
    scene.installation.configure(&Settings { tombstoned: Some("0s".to_owned()), ..settings() })?;
    let course = scene.doomed()[0];
    scene.delete(course).await?;
    scene.installation.adopt_once().await?;
    let collector = scene.installation.collector()?;
    let stop = CancellationToken::new();
    let mut pass = Pass::begin(&collector, Mode::Run).await?;
    let plan = pass.plan(&stop).await?.context("it is believed")?;
    scene.revive(course).await?;
    let swept = pass.sweep(&plan, &stop).await;
    let report = pass.end(swept).await?;
    assert!(report.swept().spared > 0 && report.swept().deleted == 0, "{report:?}");
    assert_eq!(scene.tombstones(course).await?, 0);
    scene.delete_silently(course).await?;
    assert_eq!(evidence(&scene.run().await?, course), Some(Evidence::Departed));
    Ok(())
}

/// Its death is recorded after the run has read what was.
#[tokio::test]
async fn s6_a_tombstone_that_a_run_has_not_read_is_void_too_if_the_run_finds_its_course_live() -> Result<()> {
    let scene = Scene::set(IdKind::Uuid).await?;
    scene.installation.configure(&Settings { tombstoned: Some("0s".to_owned()), ..settings() })?;
    let [read, asked, gone, ..] = scene.doomed()[..] else { panic!("there are more") };
    scene.delete(asked).await?;
    scene.installation.adopt_once().await?;
    let collector = scene.installation.collector()?;
    let stop = CancellationToken::new();
    let mut pass = Pass::begin(&collector, Mode::Run).await?;

    // Between the reading of tombstones and of who is live.
    let mut application = scene.installation.stores.postgres.begin().await?;
    sqlx::raw_sql("LOCK TABLE public.courses IN ACCESS EXCLUSIVE MODE").execute(&mut *application).await?;
    let die_and_live = async {
        scene.installation.waits_for_the_application().await?;
        let again = format!(
            "CREATE TEMPORARY TABLE kept ON COMMIT DROP AS SELECT * FROM public.courses WHERE id = '{read}'; \
             DELETE FROM public.courses WHERE id = '{read}'; INSERT INTO public.courses SELECT * FROM kept"
        );
        sqlx::raw_sql(AssertSqlSafe(again)).execute(&mut *application).await?;
        application.commit().await?;
        anyhow::Ok(())
    };
    let (plan, done) = tokio::join!(pass.plan(&stop), die_and_live);
    done?;
    let plan = plan?.context("it is believed")?;
    assert_eq!(scene.tombstones(read).await?, 0, "it was in the live set, and lives");

    // Before a batch's question.
    scene.revive(asked).await?;
    scene.delete(asked).await?;
    scene.revive(asked).await?;
    scene.delete(gone).await?;
    let swept = pass.sweep(&plan, &stop).await;
    let report = pass.end(swept).await?;
    assert!(report.swept().spared > 0 && report.swept().deleted == 0, "{report:?}");
    assert_eq!(scene.tombstones(asked).await?, 0, "it was found live");
    assert_eq!(scene.tombstones(gone).await?, 1, "and this one was not");
    for course in [read, asked] {
        scene.delete_silently(course).await?;
        assert_eq!(evidence(&scene.run().await?, course), Some(Evidence::Departed));
    }
    Ok(())
}

#[tokio::test]
async fn s6_who_is_deleted_and_inserted_again_at_once_has_not_died() -> Result<()> {
    let scene = Scene::set(IdKind::Uuid).await?;
    let course = scene.doomed()[0];
    scene
        .sql(&format!(
            "BEGIN; CREATE TEMPORARY TABLE kept ON COMMIT DROP AS SELECT * FROM public.courses WHERE id = '{course}'; \
             DELETE FROM public.courses WHERE id = '{course}'; INSERT INTO public.courses SELECT * FROM kept; COMMIT"
        ))
        .await?;
    let report = scene.run().await?;
    assert_eq!(campus(&report).tombstones, Some(0), "it is no evidence");
    assert_eq!(scene.tombstones(course).await?, 0);
    scene.delete_silently(course).await?;
    assert_eq!(evidence(&scene.run().await?, course), Some(Evidence::Departed));
    Ok(())
}

#[tokio::test]
async fn s6_a_tombstone_that_comes_after_the_live_set_was_read_stays() -> Result<()> {
    let scene = Scene::set(IdKind::Uuid).await?;
    let course = scene.doomed()[0];
    scene.delete(course).await?;
    let sources = vec![scene.installation.source()?];
    let liveness = PostgresSources { id_type: IdType::Uuid, sources }.lock().await?;
    let polls = liveness.tombstones().await;
    scene.revive(course).await?;
    let live = liveness.read().await?.remove(0).1;
    scene.delete(course).await?;
    let (name, polled) = polls.into_iter().next().context("one source keeps them")?;
    let mut yard = Graveyard::new(vec![(name, polled?)]);
    liveness.remove_tombstones(&yard.void(&live)).await?;
    liveness.release().await;
    assert_eq!(scene.tombstones(course).await?, 1, "the second death's");
    assert_eq!(evidence(&scene.run().await?, course), Some(Evidence::Tombstoned));
    Ok(())
}

#[tokio::test]
async fn s6_tombstones_that_cannot_be_read_cost_the_evidence_and_not_the_run() -> Result<()> {
    let scene = Scene::set(IdKind::Uuid).await?;
    let [first, second, ..] = scene.doomed()[..] else { panic!("there are more") };
    scene.delete(first).await?;
    scene.sql("ALTER TABLE course_gc.tombstones RENAME TO hidden").await?;
    let report = scene.run().await?;
    assert_eq!(evidence(&report, first), Some(Evidence::Departed));
    assert_eq!(report.verdict, Verdict::Clean);
    let live = campus(&report);
    let error = live.tombstones_error.as_deref().context("it says so")?;
    assert!(live.tombstones.is_none() && error.contains("course_gc.tombstones"), "{error}");
    let plan = scene.installation.program(&["plan"]).await?;
    assert_eq!(plan.code, Some(0), "{plan:?}");
    assert!(plan.stdout.contains("tombstones of campus are no evidence"), "{plan:?}");
    assert!(plan.stderr.contains("tombstones unknown"), "{plan:?}");
    // Meanwhile it lives again, which no tombstone heard of.
    scene.revive(first).await?;
    scene.run().await?;
    scene.sql("ALTER TABLE course_gc.hidden RENAME TO tombstones").await?;
    scene.delete_silently(first).await?;
    scene.delete(second).await?;
    let report = scene.run().await?;
    assert_eq!(evidence(&report, first), Some(Evidence::Departed), "a run saw it live after its tombstone");
    assert_eq!(scene.tombstones(first).await?, 0);
    assert_eq!(evidence(&report, second), Some(Evidence::Departed), "nobody knows which came first");
    Ok(())
}

#[tokio::test]
async fn s6_who_was_never_seen_live_and_has_a_tombstone_is_no_stranger() -> Result<()> {
    let scene = Scene::set(IdKind::Uuid).await?;
    let course = scene.campus.foreign[0];
    assert_eq!(evidence(&scene.run().await?, course), Some(Evidence::Stranger));
    let other = scene.campus.courses[0].id;
    scene
        .sql(&format!(
            "INSERT INTO public.courses (id, organization_id, user_id, slug, title, status) \
             SELECT '{course}', organization_id, user_id, 'brief', title, status FROM public.courses WHERE id = '{other}'; \
             DELETE FROM public.courses WHERE id = '{course}'"
        ))
        .await?;
    let report = scene.run().await?;
    assert_eq!(evidence(&report, course), Some(Evidence::Tombstoned));
    let held = orphans(&report, course).iter().any(|it| it.decision == Decision::Held(Hold::NotExclusive));
    assert!(!held, "it was a course of ours");
    Ok(())
}

#[tokio::test]
async fn s6_old_tombstones_are_forgotten_unless_something_of_the_course_remains() -> Result<()> {
    let scene = Scene::set(IdKind::Uuid).await?;
    let course = scene.doomed()[0];
    scene.delete(course).await?;
    scene
        .sql(
            "INSERT INTO course_gc.tombstones (course_id) VALUES ('0b5a6f0e-4d7c-4a39-9a43-6d7a5f0c1e2d'); \
              UPDATE course_gc.tombstones SET buried_at = now() - interval '91 days'; \
              INSERT INTO course_gc.tombstones (course_id) VALUES ('0b5a6f0e-4d7c-4a39-9a43-6d7a5f0c1e2e')",
        )
        .await?;
    assert_eq!(evidence(&scene.run().await?, course), Some(Evidence::Tombstoned));
    let left: Vec<String> = sqlx::query_scalar("SELECT course_id FROM course_gc.tombstones ORDER BY id")
        .fetch_all(&scene.installation.stores.postgres)
        .await?;
    assert_eq!(left, [course.to_string(), "0b5a6f0e-4d7c-4a39-9a43-6d7a5f0c1e2e".to_owned()]);
    Ok(())
}

#[tokio::test]
async fn s6_s7_a_tombstone_that_came_back_with_a_restore_is_void() -> Result<()> {
    let scene = Scene::set(IdKind::Uuid).await?;
    let course = scene.doomed()[0];
    // A ledger in another cluster: it proves nothing about the campus' history.
    let elsewhere = Postgres::start().await?;
    let url = elsewhere.create_database("ledger").await?;
    let postgres = course_gc::postgres::Postgres { url: url.clone().into(), ..scene.installation.source()?.postgres };
    let ledger = PostgresLedger::new(postgres, IdType::Uuid)?;
    ledger.migrate().await?;
    let mut collector = scene.installation.collector()?;
    collector.ledger = Arc::new(ledger);
    // The stores carry the marks of the first ledger: they are held, and judged all the same.
    adopt(&collector, false).await?;
    let run = async || reconcile(&collector, Mode::Run, &CancellationToken::new()).await;
    scene.delete(course).await?;
    run().await?;
    scene.revive(course).await?;
    run().await?;
    assert_eq!(scene.tombstones(course).await?, 0);

    // The campus is restored from an older copy, with the tombstone.
    scene.delete(course).await?;
    sqlx::query("UPDATE course_gc.pinned_sources SET position = jsonb_set(position, '{lsn}', '9000000000000000000')")
        .execute(&sqlx::PgPool::connect(&url).await?)
        .await?;
    assert_eq!(evidence(&run().await?, course), Some(Evidence::Departed), "nobody knows when it died");
    assert_eq!(scene.tombstones(course).await?, 0);
    Ok(())
}

#[tokio::test]
async fn s8_many_recorded_deaths_trip_the_breaker_as_others_do() -> Result<()> {
    let scene = Scene::set(IdKind::Uuid).await?;
    scene.installation.configure(&Settings {
        tombstoned: Some("0s".to_owned()),
        limits: vec!["refuse_drop: 50%".to_owned()],
        ..settings()
    })?;
    let many: Vec<CourseId> = scene.campus.courses.iter().map(|course| course.id).take(10).collect();
    for course in &many {
        scene.delete(*course).await?;
    }
    let report = scene.run().await?;
    assert_eq!((report.verdict, report.swept().deleted), (Verdict::Held, 0));
    for course in many {
        assert_eq!(evidence(&report, course), Some(Evidence::Tombstoned));
        assert!(orphans(&report, course).iter().all(|orphan| !orphan.decision.sweeps()));
    }
    let decisions: Vec<Decision> =
        report.stores.iter().flat_map(|it| &it.sources).flat_map(|it| &it.orphans).map(|it| it.decision).collect();
    assert!(decisions.contains(&Decision::Held(Hold::Breaker { breaker: Breaker::Share })), "{decisions:?}");
    Ok(())
}

#[tokio::test]
async fn s6_without_the_section_nothing_changes() -> Result<()> {
    let scene = Scene::set(IdKind::Uuid).await?;
    scene.installation.configure(&Settings { tombstoned: None, ..settings() })?;
    let course = scene.doomed()[0];
    scene.delete(course).await?;
    let report = scene.run().await?;
    assert_eq!(evidence(&report, course), Some(Evidence::Departed));
    assert_eq!((campus(&report).tombstones, &campus(&report).tombstones_error), (None, &None));
    assert_eq!(scene.tombstones(course).await?, 1, "nobody touches it");
    let refused = scene.installation.program(&["tombstones", "status"]).await?;
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("no liveness source keeps tombstones"), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn the_program_installs_shows_and_removes_what_records_deaths() -> Result<()> {
    let world = World::create().await?;
    let installation = Installation::new(world.addresses(), &settings()).await?;
    let campus = Campus::plan(SIZE);
    campus.seed(&installation.stores).await?;
    let program = async |arguments: &[&str]| {
        let answer = installation.program(arguments).await?;
        assert_eq!(answer.code, Some(0), "{arguments:?}: {answer:?}");
        anyhow::Ok(answer)
    };
    let status = async || {
        let answer = program(&["tombstones", "status", "--output", "json"]).await?.json()?;
        anyhow::Ok((answer["sources"][0]["installed"].clone(), answer["sources"][0]["status"]["tombstones"].clone()))
    };
    assert_eq!(status().await?, (false.into(), serde_json::Value::Null));
    let shown = program(&["tombstones", "install"]).await?.stdout;
    assert!(shown.contains("CREATE OR REPLACE TRIGGER course_gc_bury AFTER DELETE ON public.courses"), "{shown}");
    assert_eq!(status().await?.0, false, "it was only shown");
    for _ in 0..2 {
        program(&["tombstones", "install", "--yes"]).await?;
        assert_eq!(status().await?.0, true);
    }
    campus.delete_row(&installation.stores, *campus.doomed().first().context("some are")?).await?;
    assert_eq!(status().await?, (true.into(), 1.into()));
    let text = program(&["tombstones", "status"]).await?.stdout;
    assert!(
        text.contains("1 tombstones, the newest of") && text.contains("deletes from public.courses: recorded"),
        "{text}"
    );
    let shown = program(&["tombstones", "remove"]).await?.stdout;
    assert!(shown.find("DROP TRIGGER") < shown.find("DROP FUNCTION"), "{shown}");
    assert_eq!(status().await?.0, true, "it was only shown");
    for _ in 0..2 {
        program(&["tombstones", "remove", "--yes"]).await?;
        assert_eq!(status().await?.0, false);
    }
    // What was shown is what a person can run.
    sqlx::raw_sql(AssertSqlSafe(program(&["tombstones", "install"]).await?.stdout))
        .execute(&installation.stores.postgres)
        .await?;
    assert_eq!(status().await?.0, true);
    Ok(())
}

/// Between two runs of a schedule that is years away: one run sees the death, and another comes at the end of its grace.
#[tokio::test]
async fn what_is_recorded_is_cleaned_at_the_end_of_its_grace_whenever_the_next_run_is_due() -> Result<()> {
    let scene = Scene::set(IdKind::Uuid).await?;
    let yearly = Settings { cron: "0 0 1 1 *".into(), ..settings() };
    scene.installation.configure(&yearly)?;
    scene.installation.adopt_once().await?;
    // As if the last run were a while ago.
    scene.sql("UPDATE course_gc.runs SET started_at = started_at - interval '2 minutes'").await?;
    let mut serving = scene.installation.command(&["serve"]);
    let address = format!("127.0.0.1:{}", sandbox::free_port()?);
    let _serving = serving.env("COURSE_GC_HTTP_LISTEN", address).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;

    let course = *scene.campus.doomed().first().context("some are to be deleted")?;
    let expected = scene.campus.gone(&[course].into());
    let before = Snapshot::take(&scene.installation.stores).await?;
    scene.delete(course).await?;
    let postgres = &scene.installation.stores.postgres;
    let waiting = "SELECT count(*) FROM course_gc.orphans WHERE evidence = 'tombstoned' AND decision = 'grace' \
                   AND counted_at IS NOT NULL";
    eventually("a run has seen the death", async || {
        let orphans: i64 = sqlx::query_scalar(waiting).fetch_one(postgres).await?;
        Ok((orphans > 0).then_some(()))
    })
    .await?;
    scene.installation.age("16 minutes").await?;
    scene.sql("UPDATE course_gc.runs SET started_at = started_at - interval '17 minutes'").await?;
    eventually("its grace is over", async || {
        let gone = before.diff(&Snapshot::take(&scene.installation.stores).await?).gone;
        assert!(gone.is_subset(&expected), "{gone:?}");
        Ok((gone == expected).then_some(()))
    })
    .await
}

/// Of a look that comes every quarter of a minute, half of that is enough to tell that it did not wait for the next one.
const WELL_BEFORE: f64 = 7.0;

#[tokio::test]
async fn who_is_told_of_a_death_looks_at_once_and_a_lost_connection_loses_only_the_hint() -> Result<()> {
    let scene = Scene::set(IdKind::Uuid).await?;
    let at_once = Settings { cron: "0 0 1 1 *".into(), tombstoned: Some("0s".into()), ..settings() };
    scene.installation.configure(&at_once)?;
    scene.installation.adopt_once().await?;
    let tombstones = Tombstones { notify: true, ..scene.installation.source()?.tombstones.context("they are kept")? };
    tombstones.install().await?.run().await?;
    assert!(tombstones.status().await?.notifies);
    let mut serving = scene.installation.command(&["serve"]);
    serving.env("COURSE_GC_LIVENESS_CAMPUS_TOMBSTONES_NOTIFY", "true");
    serving.env("COURSE_GC_HTTP_LISTEN", format!("127.0.0.1:{}", sandbox::free_port()?));
    let _serving = serving.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let postgres = &scene.installation.stores.postgres;
    let listening = async || {
        let listener = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN %'";
        eventually("it listens", async || Ok(sqlx::query_scalar::<_, i32>(listener).fetch_optional(postgres).await?))
            .await
    };
    let first = listening().await?;
    for course in scene.doomed().into_iter().take(2) {
        // As if the last run were a while ago: deaths want no more than one a minute.
        scene.sql("UPDATE course_gc.runs SET started_at = started_at - interval '2 minutes'").await?;
        let before = Snapshot::take(&scene.installation.stores).await?;
        let expected = scene.campus.gone(&[course].into());
        scene.delete(course).await?;
        eventually("it is cleaned", async || {
            let gone = before.diff(&Snapshot::take(&scene.installation.stores).await?).gone;
            assert!(gone.is_subset(&expected), "{gone:?}");
            Ok((gone == expected).then_some(()))
        })
        .await?;
        let waited = "SELECT extract(epoch FROM (SELECT max(started_at) FROM course_gc.runs) \
                      - (SELECT max(buried_at) FROM course_gc.tombstones))::float8";
        let waited: f64 = sqlx::query_scalar(waited).fetch_one(postgres).await?;
        assert!((0.0..WELL_BEFORE).contains(&waited), "it was looked at after {waited} s");
        // It listens again, over another connection.
        sqlx::query("SELECT pg_terminate_backend($1)").bind(first).execute(postgres).await?;
        eventually("it listens again", async || Ok(Some(listening().await?).filter(|another| *another != first)))
            .await?;
    }
    Ok(())
}

/// As a job that is started every few minutes.
#[tokio::test]
async fn a_run_that_is_to_be_due_comes_for_a_death_at_the_end_of_its_grace_and_for_a_request_and_else_not() -> Result<()>
{
    let scene = Scene::set(IdKind::Uuid).await?;
    scene.installation.configure(&Settings { cron: "0 0 1 1 *".into(), ..settings() })?;
    scene.installation.adopt_once().await?;
    let [recorded, asked, ..] = scene.doomed()[..] else { panic!("there are more") };
    let runs = async || {
        let count = sqlx::query_scalar("SELECT count(*) FROM course_gc.runs WHERE mode = 'run'");
        anyhow::Ok::<i64>(count.fetch_one(&scene.installation.stores.postgres).await?)
    };
    let run = async |due: bool| {
        let before = runs().await?;
        let answer = scene.installation.program(&["run", "--due"]).await?;
        assert_eq!(answer.code, Some(0), "{answer:?}");
        assert_eq!(answer.stdout.starts_with("nothing is due: "), !due, "{answer:?}");
        assert_eq!(runs().await? - before, i64::from(due), "a run is noted if there was one");
        anyhow::Ok(())
    };
    let pass = async |time: &str| {
        scene.installation.age(time).await?;
        scene.sql(&format!("UPDATE course_gc.runs SET started_at = started_at - interval '{time}'")).await
    };
    let before = Snapshot::take(&scene.installation.stores).await?;
    let gone = async || anyhow::Ok(before.diff(&Snapshot::take(&scene.installation.stores).await?).gone);

    run(false).await?;
    let told = scene.installation.program(&["run", "--due", "--output", "json"]).await?.json()?;
    assert_eq!(told["due"], false);
    assert!(told["next"].is_string(), "{told}");
    scene.delete(recorded).await?;
    run(false).await?;
    pass("2 minutes").await?;
    run(true).await?;
    assert_eq!(gone().await?, [].into(), "it was seen, and waits");
    pass("12 minutes").await?;
    run(false).await?;
    pass("5 minutes").await?;
    run(true).await?;
    assert_eq!(gone().await?, scene.campus.gone(&[recorded].into()));
    run(false).await?;

    let promise = scene.installation.program(&["cleanup", "--before-delete", &asked.to_string()]).await?;
    assert_eq!(promise.code, Some(4), "{promise:?}");
    run(false).await?;
    scene.delete(asked).await?;
    run(true).await?;
    assert_eq!(gone().await?, scene.campus.gone(&[recorded, asked].into()));
    run(false).await?;

    scene.installation.configure(&Settings { cron: "*/15 * * * *".into(), ..settings() })?;
    scene.installation.adopt_once().await?;
    pass("16 minutes").await?;
    run(true).await
}
