//! What waits for a person, and what happens when one approves it (S3, S7, S8).

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use course_gc::domain::plan::{Decision, Hold};
use course_gc::domain::report::{RunReport, Verdict};
use sandbox::campus::{Campus, CampusSize, CourseId, Owner};
use sandbox::config::Settings;
use sandbox::{Difference, Resource, Snapshot, World};
use serde_json::Value;
use sqlx::AssertSqlSafe;

use crate::support::{Answer, Installation};

const SIZE: CampusSize = CampusSize {
    seed: 1,
    ids: sandbox::campus::IdKind::Uuid,
    organizations: 3,
    courses: 40,
    doomed: 16,
    foreign: 0,
    points: 2,
    vector_size: 4,
};

/// Without grace for who departed, and with these limits.
fn at_once<const N: usize>(limits: [&str; N]) -> Settings {
    Settings { departed: "0s".to_owned(), limits: limits.map(ToOwned::to_owned).to_vec(), ..Settings::default() }
}

/// A campus of which a first run saw every course live.
struct Scene {
    _world: World,
    installation: Installation,
    campus: Campus,
    before: Snapshot,
}

impl Scene {
    async fn set(size: CampusSize, settings: &Settings) -> Result<Self> {
        let world = World::create().await?;
        let (installation, campus) = Installation::over(world.addresses(), settings, size).await?;
        let before = Snapshot::take(&installation.stores).await?;
        Ok(Self { _world: world, installation, campus, before })
    }

    async fn delete_rows(&self, courses: impl IntoIterator<Item = CourseId>) -> Result<()> {
        for course in courses {
            self.campus.delete_row(&self.installation.stores, course).await?;
        }
        Ok(())
    }

    /// Courses that no fate was planned for, and that share no key with another.
    fn staying(&self) -> impl Iterator<Item = CourseId> + '_ {
        let shares = |id: &CourseId| {
            self.campus.keys.iter().any(|key| matches!(&key.owner, Owner::Courses(ids) if ids.contains(id)))
        };
        let staying = self.campus.courses.iter().filter(|course| course.doom.is_none()).map(|course| course.id);
        staying.filter(move |id| !shares(id))
    }

    /// What happened to the stores since the first run.
    async fn since(&self) -> Result<Difference> {
        Ok(self.before.diff(&Snapshot::take(&self.installation.stores).await?))
    }

    /// Exactly what these courses left has gone.
    async fn went(&self, courses: &BTreeSet<CourseId>) -> Result<()> {
        let gone = self.campus.gone(courses).into_iter().filter(|resource| self.before.contains(resource));
        let (gone, since): (BTreeSet<Resource>, Difference) = (gone.collect(), self.since().await?);
        assert_eq!(since.gone.symmetric_difference(&gone).collect::<Vec<_>>(), Vec::<&Resource>::new());
        assert!(since.added.is_empty() && since.changed.is_empty(), "{since:?}");
        Ok(())
    }

    async fn sql(&self, statement: &str) -> Result<()> {
        let statement = AssertSqlSafe(statement.to_owned());
        sqlx::raw_sql(statement).execute(&self.installation.stores.postgres).await?;
        Ok(())
    }

    /// Lets every approval end now.
    async fn expire(&self) -> Result<()> {
        self.sql("UPDATE course_gc.approvals SET until = clock_timestamp() WHERE until > clock_timestamp()").await
    }

    async fn approve(&self, digest: &str) -> Result<Answer> {
        self.installation
            .program(&["--output", "json", "approve", digest, "--reason", "the archive was cleared", "--for", "2d"])
            .await
    }

    /// Approves, and makes sure that it was.
    async fn approved(&self, digest: &str) -> Result<Value> {
        let answer = self.approve(digest).await?;
        assert_eq!(answer.code, Some(0), "{answer:?}");
        answer.json()
    }

    /// What `holds` shows.
    async fn holds(&self) -> Result<(Option<i32>, Value)> {
        let answer = self.installation.program(&["--output", "json", "holds"]).await?;
        Ok((answer.code, answer.json()?))
    }
}

/// The digest of the first hold of a report.
fn digest(report: &RunReport) -> Result<String> {
    Ok(report.holds.first().and_then(|hold| hold.digest).context("nothing is held")?.to_string())
}

/// The courses of the orphans of each decision.
fn decisions(report: &RunReport) -> BTreeMap<&'static str, BTreeSet<String>> {
    let mut decisions: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for orphan in report.stores.iter().flat_map(|it| &it.sources).flat_map(|it| &it.orphans) {
        let name = match orphan.decision {
            Decision::Sweep | Decision::SweepExcept { .. } => "sweep",
            Decision::Held(Hold::Breaker { .. }) => "breaker",
            Decision::Held(hold) => hold.as_str(),
        };
        decisions.entry(name).or_default().insert(orphan.course.to_string());
    }
    decisions
}

fn texts(courses: &BTreeSet<CourseId>) -> BTreeSet<String> {
    courses.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn s8_a_mass_deletion_that_was_meant_is_one_approval_and_the_next_runs_finish_it() -> Result<()> {
    let limits = ["breaker_courses: 3", "refuse_drop: 50%", "cap_courses: 5"].map(ToOwned::to_owned).to_vec();
    let scene = Scene::set(SIZE, &Settings { departed: "1m".to_owned(), limits, ..Settings::default() }).await?;
    let meant = scene.campus.doomed();
    scene.delete_rows(meant.clone()).await?;
    let held = scene.installation.run().await?;
    assert_eq!((held.verdict, held.swept().deleted), (Verdict::Held, 0));
    assert_eq!(decisions(&held)["breaker"], texts(&meant));
    let all = &held.holds[0];
    assert_eq!((all.courses, all.stores.len(), held.holds.len()), (16, 4, 5), "one for all, and one a store");

    scene.approved(&digest(&held)?).await?;
    let young = scene.installation.run().await?;
    assert_eq!((young.verdict, young.holds.len()), (Verdict::Clean, 0), "{:?}", decisions(&young));
    assert_eq!(decisions(&young).get("grace"), Some(&texts(&meant)), "an approval shortens no grace");
    assert_eq!(scene.since().await?, Difference::default());

    scene.installation.age("1 minute").await?;
    let first = scene.installation.run().await?;
    assert_eq!((first.verdict, decisions(&first)["sweep"].len()), (Verdict::Done, 5), "nor does it lift the cap");

    // Two courses more, within the limit of three: neither what waits nor what went counts against them.
    let newcomers: Vec<CourseId> = scene.staying().take(4).collect();
    scene.delete_rows(newcomers[..2].to_vec()).await?;
    let both: BTreeSet<CourseId> = meant.iter().chain(&newcomers[..2]).copied().collect();
    let mut runs = 0;
    loop {
        let report = scene.installation.run().await?;
        assert_eq!((decisions(&report).get("breaker"), report.holds.len()), (None, 0), "{:?}", decisions(&report));
        runs += 1;
        if report.verdict == Verdict::Clean && !decisions(&report).contains_key("grace") {
            break;
        }
        assert!(runs < 10, "it does not come to an end: {:?}", decisions(&report));
        scene.installation.age("1 minute").await?;
    }
    scene.went(&both).await?;

    // Another two make four within a day, which nobody approved.
    scene.delete_rows(newcomers[2..].to_vec()).await?;
    let more = scene.installation.run().await?;
    let held = newcomers[2..].iter().map(ToString::to_string).collect();
    assert_eq!((more.verdict, &decisions(&more)["breaker"]), (Verdict::Held, &held));
    Ok(())
}

#[tokio::test]
async fn s8_what_was_held_stays_held_when_the_share_falls_and_until_it_is_no_longer_an_orphan() -> Result<()> {
    let scene = Scene::set(CampusSize { doomed: 19, ..SIZE }, &at_once(["refuse_drop: 50%"])).await?;
    let doomed = scene.campus.doomed();
    scene.delete_rows(doomed.clone()).await?;
    let tripped = scene.installation.plan().await?;
    assert_eq!(decisions(&tripped)["breaker"], texts(&doomed), "a plan latches as a run does");

    let back: BTreeSet<CourseId> = doomed.iter().take(15).copied().collect();
    let rest: BTreeSet<CourseId> = doomed.difference(&back).copied().collect();
    for course in &back {
        scene.campus.revive(&scene.installation.stores, *course).await?;
    }
    for _ in 0..2 {
        let fallen = scene.installation.run().await?;
        assert_eq!((fallen.verdict, &decisions(&fallen)["breaker"]), (Verdict::Held, &texts(&rest)));
        assert_ne!(digest(&fallen)?, digest(&tripped)?, "another set has another digest");
    }

    let again: BTreeSet<CourseId> = back.iter().take(1).copied().collect();
    scene.delete_rows(again.clone()).await?;
    let run = scene.installation.run().await?;
    assert_eq!(decisions(&run).get("sweep"), Some(&texts(&again)), "who came back and went again was not held before");
    assert_eq!(decisions(&run)["breaker"], texts(&rest));
    scene.went(&again).await?;
    scene.approved(&digest(&run)?).await?;
    assert_eq!(scene.installation.run().await?.verdict, Verdict::Done);
    scene.went(&doomed.into_iter().filter(|course| !back.contains(course) || again.contains(course)).collect()).await
}

#[tokio::test]
async fn s8_an_approval_covers_what_was_there_with_the_same_evidence_and_until_it_expires() -> Result<()> {
    let limits = ["refuse_drop: 50%", "breaker_courses: 3", "cap_courses: 8"];
    let scene = Scene::set(SIZE, &Settings { exclusive: true, ..at_once(limits) }).await?;
    let doomed = scene.campus.doomed();
    scene.delete_rows(doomed.clone()).await?;
    let held = scene.installation.run().await?;
    assert!(decisions(&held)["breaker"].is_superset(&texts(&doomed)));
    let approved = scene.approved(&digest(&held)?).await?;
    assert_eq!(approved["approved"]["reason"], "the archive was cleared");

    // The ledger forgets that it saw one of them live: it is a stranger now, which nobody approved.
    let forgotten = doomed.first().context("a course")?.to_string();
    scene.sql(&format!("DELETE FROM course_gc.known_ids WHERE course_id = '{forgotten}'")).await?;
    let run = scene.installation.run().await?;
    assert!(decisions(&run)["breaker"].contains(&forgotten), "{:?}", decisions(&run));
    assert_eq!(decisions(&run)["sweep"].len(), 8);
    assert!(!decisions(&run)["sweep"].contains(&forgotten));

    scene.expire().await?;
    let left = decisions(&run).remove("cap").context("the cap holds some")?;
    let expired = scene.installation.run().await?;
    assert_eq!((expired.verdict, expired.swept().deleted), (Verdict::Held, 0));
    assert!(decisions(&expired)["breaker"].is_superset(&left), "what is left is held as if nobody had approved");
    assert_ne!(digest(&expired)?, digest(&held)?);
    scene.approved(&digest(&expired)?).await?;
    assert_eq!(scene.installation.run().await?.verdict, Verdict::Done);
    Ok(())
}

#[tokio::test]
async fn s8_a_digest_of_what_is_no_longer_held_approves_nothing() -> Result<()> {
    let scene = Scene::set(SIZE, &at_once(["breaker_courses: 3", "refuse_drop: 50%"])).await?;
    let doomed: Vec<CourseId> = scene.campus.doomed().into_iter().collect();
    scene.delete_rows(doomed[..10].to_vec()).await?;
    let seen = digest(&scene.installation.plan().await?)?;
    scene.delete_rows(doomed[10..].to_vec()).await?;
    let now = scene.installation.run().await?;
    let stale = scene.approve(&seen).await?;
    assert_eq!(stale.code, Some(3), "{stale:?}");
    let error = stale.json()?["error"].as_str().map(ToOwned::to_owned).context("an error")?;
    assert!(error.contains("changed since") && error.contains("course-gc holds"), "{error}");
    assert_eq!(scene.installation.run().await?.swept().deleted, 0);

    let of_redis = now.holds.iter().find(|hold| hold.stores == ["cache"]).and_then(|hold| hold.digest);
    scene.approved(&of_redis.context("the cache holds something")?.to_string()).await?;
    assert_eq!(scene.approve(&digest(&now)?).await?.code, Some(3), "all of it is no longer held");
    let run = scene.installation.run().await?;
    let swept: Vec<&str> =
        run.stores.iter().filter(|store| store.swept().deleted > 0).map(|store| store.name.as_str()).collect();
    assert_eq!(swept, ["cache"], "one store was approved");
    Ok(())
}

#[tokio::test]
async fn s8_holds_and_approve_answer_people_and_programs() -> Result<()> {
    let scene = Scene::set(SIZE, &at_once(["breaker_courses: 3", "refuse_drop: 50%"])).await?;
    assert_eq!(scene.holds().await?, (Some(0), serde_json::json!({ "holds": [], "approvals": [] })));
    scene.delete_rows(scene.campus.doomed()).await?;
    let plan = scene.installation.program(&["plan"]).await?;
    let (code, shown) = scene.holds().await?;
    let digest = shown["holds"][0]["digest"].as_str().context("a digest")?;
    let command = format!("course-gc approve {digest} --reason");
    let table = scene.installation.program(&["holds"]).await?;
    let mut without_redis = scene.installation.command(&["--output", "json", "plan"]);
    let nobody = format!("redis://127.0.0.1:{}/0", sandbox::free_port()?);
    let partly = without_redis.env("COURSE_GC_STORES_CACHE_URL", nobody).output().await?;
    let partly: Value = serde_json::from_slice(&partly.stdout)?;
    assert_eq!(
        (&partly["verdict"], &partly["holds"]),
        (&"partly".into(), &shown["holds"]),
        "a store that is down stays held"
    );
    assert_eq!((code, plan.code, table.code), (Some(3), Some(3), Some(3)));
    for text in [&plan.stdout, &table.stdout] {
        assert!(text.contains(&command) && text.contains("more than 3 courses would go within 24 hours"), "{text}");
        let of_redis = shown["holds"][1]["digest"].as_str().context("the cache's digest")?;
        assert!(text.contains(&format!("or one store alone: cache {of_redis} (160 orphans), enrichments ")), "{text}");
    }

    for wrong in [
        &["approve", digest][..],
        &["approve", digest, "--reason", " "],
        &["approve", digest, "--reason", "x", "--for", "31d"],
        &["approve", digest, "--reason", "x", "--for", "0s"],
        &["approve", "everything", "--reason", "x"],
    ] {
        let answer = scene.installation.program(wrong).await?;
        assert_eq!(answer.code, Some(2), "{wrong:?}: {answer:?}");
    }
    assert_eq!(scene.holds().await?.1["approvals"], serde_json::json!([]));

    let approved = scene.installation.program(&["approve", digest, "--reason", "it was meant"]).await?;
    assert_eq!(approved.code, Some(0), "{approved:?}");
    assert!(approved.stdout.contains(digest) && approved.stdout.contains("it was meant"), "{approved:?}");
    let (code, after) = scene.holds().await?;
    assert_eq!((code, &after["holds"]), (Some(0), &serde_json::json!([])));
    let approval = &after["approvals"][0];
    assert_eq!((&approval["digest"], &approval["reason"]), (&digest.into(), &"it was meant".into()));
    assert!(approval["approved_by"].as_str().is_some_and(|by| by.starts_with("postgres")), "{approval}");
    let lasts: bool = sqlx::query_scalar("SELECT until = approved_at + interval '7 days' FROM course_gc.approvals")
        .fetch_one(&scene.installation.stores.postgres)
        .await?;
    assert!(lasts);
    Ok(())
}

#[tokio::test]
async fn s3_an_approved_halt_accepts_that_size_and_no_further_drop() -> Result<()> {
    let scene = Scene::set(CampusSize { courses: 20, doomed: 5, ..SIZE }, &at_once([])).await?;
    scene.delete_rows(scene.campus.doomed()).await?;
    let halted = scene.installation.run().await?;
    let halt = halted.halt.clone().context("it did not halt")?;
    let first = digest(&halted)?;
    assert!(halt.contains(&format!("course-gc approve {first}")), "{halt}");
    let sources: Vec<&str> = halted.halts.iter().map(|halt| halt.source_name()).collect();
    assert_eq!(sources, ["campus", "union"], "one digest for both");
    let (code, shown) = scene.holds().await?;
    assert_eq!((code, &shown["holds"][0]["kind"]), (Some(3), &"halt".into()));

    scene.approved(&first).await?;
    assert_eq!(scene.holds().await?.0, Some(0));
    let run = scene.installation.run().await?;
    assert_eq!((run.halt.as_deref(), run.verdict), (None, Verdict::Done), "{run:?}");
    assert_eq!(run.live.iter().map(|live| live.highest).collect::<Vec<_>>(), [Some(15), Some(15)]);
    scene.went(&scene.campus.doomed()).await?;

    // Once a run believed it, it is what others are compared with, whether the approval is still in force or not.
    scene.expire().await?;
    let more: Vec<CourseId> = scene.staying().collect();
    scene.delete_rows(more[..3].to_vec()).await?;
    assert_eq!(scene.installation.run().await?.halt, None, "12 of 15 is no drop by more than 20 %");
    scene.delete_rows(more[3..4].to_vec()).await?;
    let again = scene.installation.run().await?;
    assert!(again.halt.is_some_and(|halt| halt.contains("11") && halt.contains("15")), "11 of 15 is");
    Ok(())
}

#[tokio::test]
async fn s3_a_size_below_the_limit_can_be_accepted_and_no_live_course_never() -> Result<()> {
    let scene = Scene::set(CampusSize { courses: 20, doomed: 2, ..SIZE }, &at_once([])).await?;
    scene.installation.configure(&at_once(["refuse_below: 19"]))?;
    scene.delete_rows(scene.campus.doomed()).await?;
    let below = scene.installation.plan().await?;
    assert_eq!(below.halts.iter().map(|halt| halt.as_str()).collect::<Vec<_>>(), ["below", "below"]);
    scene.approved(&digest(&below)?).await?;
    assert_eq!(scene.installation.run().await?.halt, None);
    scene.expire().await?;
    assert!(scene.installation.run().await?.halt.is_some(), "the limit counts again when the approval has expired");

    scene.sql("TRUNCATE public.courses CASCADE").await?;
    let empty = scene.installation.run().await?;
    assert!(empty.halt.is_some_and(|halt| halt.contains("cannot be approved")));
    let (code, shown) = scene.holds().await?;
    assert_eq!(
        (code, &shown["holds"][0]["digest"], &shown["holds"][0]["command"]),
        (Some(3), &Value::Null, &Value::Null)
    );
    Ok(())
}

#[tokio::test]
async fn s7_what_vanished_across_a_break_goes_by_approval_and_its_clock_starts_with_it() -> Result<()> {
    let settings = Settings { departed: "1m".to_owned(), ..Settings::default() };
    let scene = Scene::set(CampusSize { doomed: 4, ..SIZE }, &settings).await?;
    let doomed = scene.campus.doomed();
    scene.delete_rows(doomed.clone()).await?;
    assert_eq!(scene.installation.run().await?.verdict, Verdict::Clean);
    scene.sql("UPDATE course_gc.known_ids SET across_break = true WHERE departed_at IS NOT NULL").await?;
    scene.installation.age("1 hour").await?;
    let held = scene.installation.run().await?;
    assert_eq!((held.verdict, &decisions(&held)["discontinuity"]), (Verdict::Held, &texts(&doomed)));
    assert_eq!(held.holds.len(), 1);

    scene.approved(&digest(&held)?).await?;
    let young = scene.installation.run().await?;
    assert_eq!(young.verdict, Verdict::Clean, "{:?}", decisions(&young));
    assert_eq!(decisions(&young)["grace"], texts(&doomed), "whatever was counted before says nothing");
    assert_eq!(scene.since().await?, Difference::default());

    // An hour passes.
    scene.sql("UPDATE course_gc.approvals SET approved_at = approved_at - interval '1 hour'").await?;
    scene.installation.age("1 hour").await?;
    let ripe = scene.installation.plan().await?;
    assert_eq!(decisions(&ripe).get("sweep"), Some(&texts(&doomed)));
    scene.expire().await?;
    let expired = scene.installation.run().await?;
    assert_eq!(decisions(&expired).get("discontinuity"), Some(&texts(&doomed)), "it waits again for a person");
    scene.sql("UPDATE course_gc.approvals SET until = approved_at + interval '7 days'").await?;
    assert_eq!(scene.installation.run().await?.verdict, Verdict::Done);
    scene.went(&doomed).await
}
