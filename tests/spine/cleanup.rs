//! The delete path: one call takes what a course left out of every store, and tells the truth about it.

use std::sync::Arc;

use anyhow::{Context, Result};
use course_gc::cleanup::{Call, CleanupError, Haste, cleanup_course_resources, is_wanted, trace};
use course_gc::domain::cleanup::{Cleanup, Request, RequestState, Timing};
use course_gc::domain::ids::IdType;
use course_gc::domain::report::{Mode, Verdict};
use course_gc::ledger::{NewRequest, Requests};
use course_gc::liveness::{LivenessSource, PostgresSources};
use course_gc::reconcile::{Collector, Pass, organizations, reconcile};
use sandbox::campus::{Campus, CampusSize, CourseId};
use sandbox::config::Settings;
use sandbox::{Snapshot, World};
use tokio_util::sync::CancellationToken;

use crate::support::Installation;

/// A campus whose deleted courses wait a day, unless somebody asks for them.
struct Scene {
    _world: World,
    installation: Installation,
    campus: Campus,
}

impl Scene {
    async fn set() -> Result<Self> {
        let world = World::create().await?;
        let size = CampusSize::default();
        let (installation, campus) = Installation::over(world.addresses(), &Settings::default(), size).await?;
        Ok(Self { _world: world, installation, campus })
    }

    fn doomed(&self, nth: usize) -> CourseId {
        *self.campus.doomed().iter().nth(nth).expect("so many are to be deleted")
    }

    async fn snapshot(&self) -> Result<Snapshot> {
        Snapshot::take(&self.installation.stores).await
    }

    async fn ask(&self, course: CourseId, timing: Timing) -> Result<Request, CleanupError> {
        let collector = self.installation.collector().expect("the configuration is good");
        let haste = Haste::WithTheRow;
        let call = Call { course: id(course), timing, haste, by: "a test".into(), key: None };
        cleanup_course_resources(&collector, &call, &CancellationToken::new()).await
    }
}

/// The course, as the product names it.
fn id(course: CourseId) -> course_gc::domain::ids::CourseId {
    IdType::Uuid.parse(course.to_string().as_bytes()).expect("campus' ids are UUIDs")
}

fn answer(request: &Request) -> Result<&Cleanup> {
    request.answer.as_ref().with_context(|| format!("no answer: {request:?}"))
}

#[tokio::test]
async fn what_one_course_left_goes_at_once_and_nobody_elses() -> Result<()> {
    let scene = Scene::set().await?;
    let (asked, waits) = (scene.doomed(0), scene.doomed(1));
    for course in [asked, waits] {
        scene.campus.delete_row(&scene.installation.stores, course).await?;
    }
    let before = scene.snapshot().await?;
    let request = scene.ask(asked, Timing::AfterDelete).await?;
    let after = scene.snapshot().await?;

    let told = answer(&request)?;
    let expected = scene.campus.gone(&[asked].into());
    assert_eq!(before.diff(&after).gone, expected, "{told:?}");
    assert_eq!((&before.diff(&after).added, &before.diff(&after).changed), (&[].into(), &[].into()));
    let deleted: u64 = told.stores.iter().map(|store| store.deleted).sum();
    assert_eq!(deleted, expected.len() as u64, "{told:?}");
    assert!(told.success && told.run.is_some(), "{told:?}");
    let unverified = told.stores.iter().filter(|store| store.remaining != Some(0)).count();
    assert_eq!(told.verified, unverified == 0);

    let evidence = scene.installation.program(&["--output", "json", "trace", &asked.to_string()]).await?;
    assert_eq!(evidence.code, Some(if told.verified { 0 } else { 4 }), "{evidence:?}");
    let json = evidence.json()?;
    assert_eq!((&json["empty"], &json["live"]), (&told.verified.into(), &false.into()), "{json}");
    assert!(json["quarantined"].as_array().is_some_and(|copies| !copies.is_empty()), "it can be brought back: {json}");
    Ok(())
}

#[tokio::test]
async fn a_live_course_is_refused_and_loses_nothing_and_nothing_is_written_down() -> Result<()> {
    let scene = Scene::set().await?;
    let live = scene.doomed(0);
    let before = scene.snapshot().await?;
    let refused = scene.ask(live, Timing::AfterDelete).await;
    assert!(matches!(refused, Err(CleanupError::Live(_))), "{refused:?}");
    let refused = scene.installation.program(&["cleanup", &live.to_string()]).await?;
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert!(refused.stderr.contains("is live"), "{refused:?}");
    assert_eq!(scene.snapshot().await?, before);
    assert_eq!(scene.installation.ledger()?.open_requests().await?, []);
    let odd = scene.installation.program(&["cleanup", "../../etc/passwd"]).await?;
    assert_eq!(odd.code, Some(2), "{odd:?}");
    Ok(())
}

#[tokio::test]
async fn before_its_row_is_gone_a_course_is_only_counted_and_goes_without_grace_as_soon_as_it_is() -> Result<()> {
    let scene = Scene::set().await?;
    let course = scene.doomed(0);
    let before = scene.snapshot().await?;
    let request = scene.ask(course, Timing::BeforeDelete).await?;
    let told = answer(&request)?;
    assert_eq!(request.state, RequestState::Open);
    assert!(told.success && !told.verified && told.run.is_none(), "{told:?}");
    assert_eq!(told.pending[0].reason, "row_still_there");
    assert!(told.stores.iter().map(|store| store.found).sum::<u64>() > 0, "what will go is counted: {told:?}");

    // Its deletion is refused, and runs come and go.
    assert_eq!(scene.installation.run().await?.verdict, Verdict::Clean);
    assert_eq!(scene.snapshot().await?, before);

    scene.campus.delete_row(&scene.installation.stores, course).await?;
    scene.installation.run().await?;
    assert_eq!(before.diff(&scene.snapshot().await?).gone, scene.campus.gone(&[course].into()));
    Ok(())
}

#[tokio::test]
async fn s3_a_promise_whose_run_halted_says_so_and_wants_no_other_one_at_once() -> Result<()> {
    let scene = Scene::set().await?;
    let course = scene.doomed(0);
    let request = scene.ask(course, Timing::BeforeDelete).await?;
    scene.campus.delete_row(&scene.installation.stores, course).await?;
    let wanted = async || anyhow::Ok(is_wanted(&scene.installation.collector()?, false).await?);
    assert!(wanted().await?, "its row has gone");
    let before = scene.snapshot().await?;
    scene.installation.configure(&Settings { limits: vec!["refuse_below: 10000".into()], ..Settings::default() })?;
    assert_eq!(scene.installation.run().await?.verdict, Verdict::Held);
    let told = scene.installation.ledger()?.request_of(request.id).await?.context("it is there")?;
    assert_eq!((told.state, answer(&told)?.pending[0].reason.as_str()), (RequestState::Open, "halted"));
    assert!(!wanted().await?, "it would halt again, over and over");
    assert_eq!(scene.snapshot().await?, before);
    scene.installation.configure(&Settings::default())?;
    scene.installation.run().await?;
    assert_eq!(before.diff(&scene.snapshot().await?).gone, scene.campus.gone(&[course].into()), "it was promised");
    Ok(())
}

#[tokio::test]
async fn a_promise_whose_row_stays_ends_and_its_course_is_an_ordinary_one_again() -> Result<()> {
    let scene = Scene::set().await?;
    let course = scene.doomed(0);
    let request = scene.ask(course, Timing::BeforeDelete).await?;
    sqlx::query("UPDATE course_gc.requests SET expires_at = clock_timestamp()")
        .execute(&scene.installation.stores.postgres)
        .await?;
    scene.installation.run().await?;
    let ledger = scene.installation.ledger()?;
    let ended = ledger.request_of(request.id).await?.context("it is there")?;
    assert_eq!(ended.state, RequestState::Expired);
    assert!(!answer(&ended)?.success);

    let before = scene.snapshot().await?;
    scene.campus.delete_row(&scene.installation.stores, course).await?;
    scene.installation.run().await?;
    assert_eq!(scene.snapshot().await?, before, "it waits its grace as any other");
    Ok(())
}

#[tokio::test]
async fn s6_a_course_that_nobody_ever_saw_waits_as_a_stranger_whoever_asks() -> Result<()> {
    let scene = Scene::set().await?;
    let stranger = uuid::Uuid::now_v7();
    let key = format!("phase1_cache:{stranger}");
    let mut redis = scene.installation.stores.redis.clone();
    redis::cmd("SET").arg(&key).arg("x").exec_async(&mut redis).await?;
    let request = scene.ask(CourseId::Uuid(stranger), Timing::AfterDelete).await?;
    let told = answer(&request)?;
    assert!(!told.verified && !told.success, "nobody promises what never goes: {told:?}");
    assert_eq!(told.pending.iter().map(|pending| pending.reason.as_str()).collect::<Vec<_>>(), ["not_exclusive"]);
    let there: bool = redis::cmd("EXISTS").arg(&key).query_async(&mut redis).await?;
    assert!(there);
    Ok(())
}

#[tokio::test]
async fn s6_who_is_live_again_makes_an_older_request_void() -> Result<()> {
    let scene = Scene::set().await?;
    let course = scene.doomed(0);
    let stores = &scene.installation.stores;
    scene.campus.delete_row(stores, course).await?;
    let collector = scene.installation.collector()?;
    let (timing, haste) = (Timing::AfterDelete, Haste::WithTheRow);
    let call = Call { course: id(course), timing, haste, by: "a test".into(), key: Some("k".into()) };
    let request = course_gc::cleanup::request(&collector, &call).await?;
    assert_eq!(course_gc::cleanup::request(&collector, &call).await?.id, request.id, "the same key, the same request");
    let other = Call { course: id(scene.doomed(1)), timing: Timing::BeforeDelete, ..call };
    assert!(matches!(course_gc::cleanup::request(&collector, &other).await, Err(CleanupError::KeyReused(_))));
    scene.campus.revive(stores, course).await?;
    scene.installation.run().await?;
    let ledger = scene.installation.ledger()?;
    assert_eq!(ledger.request_of(request.id).await?.context("it is there")?.state, RequestState::Void);
    let before = scene.snapshot().await?;
    scene.campus.delete_row(stores, course).await?;
    scene.installation.run().await?;
    assert_eq!(scene.snapshot().await?, before, "nobody asked since");
    let trace = trace(&collector, id(course)).await?;
    assert!(!trace.empty && !trace.live, "{trace:?}");
    assert!(trace.stores.iter().flat_map(|store| &store.sources).all(|source| !source.samples.is_empty()), "{trace:?}");
    Ok(())
}

/// The run has read before what was asked for.
#[tokio::test]
async fn s6_what_is_asked_for_during_a_run_is_void_too_if_the_run_finds_its_course_live() -> Result<()> {
    let scene = Scene::set().await?;
    let stores = &scene.installation.stores;
    scene.installation.configure(&Settings { departed: "0s".to_owned(), ..Settings::default() })?;
    scene.installation.adopt_once().await?;
    let (read, found, gone) = (scene.campus.courses[0].id, scene.doomed(0), scene.doomed(1));
    scene.campus.delete_row(stores, found).await?;
    let (collector, ledger) = (scene.installation.collector()?, scene.installation.ledger()?);
    let ask = async |course| {
        let (timing, by) = (Timing::AfterDelete, "a test".to_owned());
        ledger.request(&NewRequest { course: id(course), timing, by, key: None, seen_live: false, waiting: None }).await
    };
    let stop = CancellationToken::new();
    let mut pass = Pass::begin(&collector, Mode::Run).await?;

    // Between the reading of requests and of who is live.
    let mut application = stores.postgres.begin().await?;
    sqlx::raw_sql("LOCK TABLE public.courses IN ACCESS EXCLUSIVE MODE").execute(&mut *application).await?;
    let asking = async {
        scene.installation.waits_for_the_application().await?;
        let asked = ask(read).await?;
        application.commit().await?;
        anyhow::Ok(asked)
    };
    let (plan, read) = tokio::join!(pass.plan(&stop), asking);
    let plan = plan?.context("it is believed")?;

    // Before a batch's question.
    let found_live = ask(found).await?;
    scene.campus.revive(stores, found).await?;
    scene.campus.delete_row(stores, gone).await?;
    let stands = ask(gone).await?;
    let swept = pass.sweep(&plan, &stop).await;
    let report = pass.end(swept).await?;
    assert!(report.swept().spared > 0 && report.swept().deleted == 0, "{report:?}");
    let mut states = Vec::new();
    for request in [read?, found_live, stands] {
        states.push(ledger.request_of(request.id).await?.context("it is there")?.state);
    }
    assert_eq!(states, [RequestState::Void, RequestState::Void, RequestState::Open]);
    Ok(())
}

#[tokio::test]
async fn whose_a_course_was_is_known_when_it_has_gone_and_a_query_that_fails_costs_no_run() -> Result<()> {
    let scene = Scene::set().await?;
    let telling = |query: &str| -> Result<Collector> {
        let source = LivenessSource { organizations: Some(query.to_owned()), ..scene.installation.source()? };
        let mut collector = scene.installation.collector()?;
        collector.liveness = Arc::new(PostgresSources { id_type: IdType::Uuid, sources: vec![source] });
        Ok(collector)
    };
    let course = scene.doomed(0);
    let organization = scene.campus.course(course).context("it is planned")?.organization.to_string();
    let stop = CancellationToken::new();
    let mistaken = telling("SELECT id, no_such_column FROM public.courses")?;
    assert_eq!(reconcile(&mistaken, Mode::Run, &stop).await?.verdict, Verdict::Clean);
    assert_eq!(organizations::of(&mistaken, id(course)).await?, None);

    let collector = telling("SELECT id, organization_id FROM public.courses")?;
    assert_eq!(organizations::of(&collector, id(course)).await?.as_ref(), Some(&organization), "its source tells");
    reconcile(&collector, Mode::Run, &stop).await?;
    scene.campus.delete_row(&scene.installation.stores, course).await?;
    assert_eq!(organizations::of(&collector, id(course)).await?, Some(organization), "the ledger remembers");
    assert_eq!(organizations::of(&collector, id(CourseId::Uuid(uuid::Uuid::now_v7()))).await?, None);
    Ok(())
}
