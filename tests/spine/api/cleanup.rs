//! The delete path over HTTP.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result};
use reqwest::Method;
use sandbox::campus::{CampusSize, CourseId, Fate, LOCKED, REFERENCED, SEVERAL_IDS};
use sandbox::{Behaviour, Proxy, Resource, World};
use serde_json::{Value, json};
use url::Url;

use super::scene::{BOSS, Scene, WEB, answered, with};
use crate::outages::store_of;
use crate::support::eventually;

const ROUTE: &str = "/v1/courses/{course_id}/cleanup";

/// Waits until a request is answered by a run, and gives it back.
async fn settled(scene: &Scene, path: &str) -> Result<Value> {
    eventually("a run answers", async || {
        let request = scene.get(path, WEB).await?.json;
        Ok(request["answer"]["run"].is_string().then_some(request))
    })
    .await
}

fn sum(answer: &Value, field: &str) -> u64 {
    answer["stores"].as_array().into_iter().flatten().filter_map(|store| store[field].as_u64()).sum()
}

#[tokio::test]
async fn one_call_takes_what_a_course_left_and_it_can_be_brought_back() -> Result<()> {
    let scene = Scene::set().await?;
    let (asked, waits) = (scene.doomed(0), scene.doomed(1));
    for course in [asked, waits] {
        scene.delete_row(course).await?;
    }
    let before = scene.snapshot().await?;
    let path = format!("/v1/courses/{asked}/cleanup");
    let call = |path: &str| {
        let body = json!({ "intent": "after_delete" });
        answered(with(scene.ask(Method::POST, path, WEB).header("idempotency-key", "a key"), &body))
    };
    let told = call(&path).await?;
    let after = scene.snapshot().await?;
    let answer = &told.json["answer"];
    assert_eq!((told.status, &answer["success"]), (200, &true.into()), "{told:?}");
    let expected = scene.campus.gone(&[asked].into());
    assert_eq!(before.diff(&after).gone, expected, "{told:?}");
    assert_eq!(sum(answer, "deleted"), expected.len() as u64, "{told:?}");

    let again = call(&path).await?;
    assert_eq!((again.status, &again.json["id"]), (200, &told.json["id"]), "the same key, the same request");
    let other = call(&format!("/v1/courses/{waits}/cleanup")).await?;
    assert_eq!(other.status, 409, "{other:?}");
    assert_eq!(other.header("content-type"), Some("application/problem+json"));
    assert_eq!(scene.snapshot().await?, after, "neither did anything");

    let trace = scene.trace(asked).await?;
    assert_eq!((&trace["empty"], &trace["live"]), (&answer["verified"], &false.into()), "{trace}");
    assert!(trace["quarantined"].as_array().is_some_and(|copies| !copies.is_empty()), "{trace}");

    let who = |course: &dyn ToString, status| ("token/web".to_owned(), Some(course.to_string()), Some(status));
    assert_eq!(scene.audit(ROUTE).await?, [who(&asked, 200), who(&asked, 200), who(&waits, 409)]);
    let id: uuid::Uuid = sqlx::query_scalar("SELECT id FROM course_gc.audit ORDER BY began_at LIMIT 1")
        .fetch_one(&scene.installation.stores.postgres)
        .await?;
    assert_eq!(told.header("x-request-id"), Some(id.to_string().as_str()));
    let outcome = if answer["verified"] == true { "done" } else { "promised" };
    let series = format!("course_gc_cleanup_requests_total{{outcome=\"{outcome}\"}}");
    assert_eq!(scene.metric(&series).await?, 2.0);
    let series = format!("course_gc_http_requests_total{{method=\"POST\",route=\"{ROUTE}\",status=\"4xx\"}}");
    assert_eq!(scene.metric(&series).await?, 1.0);

    let restore = async |dry_run: bool| {
        let body = json!({ "course": asked.to_string(), "dry_run": dry_run });
        scene.send(Method::POST, "/v1/restore", BOSS, &body).await
    };
    let would = restore(true).await?;
    assert_eq!((would.status, scene.snapshot().await?), (200, after), "{would:?}");
    let restored = restore(false).await?;
    assert_eq!(restored.status, 200, "{restored:?}");
    assert_eq!(scene.snapshot().await?, before, "{restored:?}");
    scene.end().await
}

#[tokio::test]
async fn before_its_row_goes_a_course_is_counted_and_promised_and_after_it_everything_goes() -> Result<()> {
    let scene = Scene::set().await?;
    let course = scene.doomed(0);
    let before = scene.snapshot().await?;
    let live = scene.cleanup(course, "after_delete").await?;
    assert_eq!(live.status, 409, "{live:?}");
    assert!(live.json["detail"].as_str().is_some_and(|detail| detail.contains("is live")), "{live:?}");

    let body = json!({ "intent": "before_delete", "at_once": true });
    let off = scene.send(Method::POST, &format!("/v1/courses/{course}/cleanup"), WEB, &body).await?;
    assert_eq!((off.status, scene.snapshot().await?), (403, before.clone()), "nobody switched that on: {off:?}");

    // As today's callers do, who say nothing.
    let path = format!("/v1/courses/{course}/cleanup");
    let told = answered(scene.ask(Method::POST, &path, WEB)).await?;
    let answer = &told.json["answer"];
    assert_eq!((told.status, &told.json["timing"]), (200, &"before_delete".into()), "{told:?}");
    assert_eq!((&answer["success"], &answer["verified"]), (&true.into(), &false.into()), "{told:?}");
    assert_eq!(answer["pending"][0]["reason"], "row_still_there", "{told:?}");
    assert!(sum(answer, "found") > 0, "{told:?}");

    // Its deletion is refused, and runs come and go.
    let runs = "course_gc_runs_total{mode=\"run\",verdict=\"clean\"}";
    let was = scene.metric(runs).await?;
    let run = scene.send(Method::POST, "/v1/runs", BOSS, &json!({})).await?;
    assert_eq!((run.status, run.header("location")), (202, Some("/v1/runs")), "{run:?}");
    eventually("the run that was asked for", async || Ok((scene.metric(runs).await? > was).then_some(()))).await?;
    assert_eq!(scene.snapshot().await?, before);

    scene.delete_row(course).await?;
    scene.send(Method::POST, "/v1/runs", BOSS, &json!({})).await?;
    let id = told.json["id"].as_str().context("an id")?;
    settled(&scene, &format!("/v1/requests/{id}")).await?;
    assert_eq!(before.diff(&scene.snapshot().await?).gone, scene.campus.gone(&[course].into()));
    scene.end().await
}

#[tokio::test]
async fn who_does_not_wait_gets_the_promise_and_finds_the_answer_later() -> Result<()> {
    let scene = Scene::set().await?;
    let course = scene.doomed(0);
    scene.delete_row(course).await?;
    let before = scene.snapshot().await?;
    let request = scene.ask(Method::POST, &format!("/v1/courses/{course}/cleanup"), WEB);
    let told = answered(with(request.header("prefer", "respond-async"), &json!({ "intent": "after_delete" }))).await?;
    assert_eq!((told.status, &told.json["answer"]), (202, &Value::Null), "{told:?}");
    let location = told.header("location").context("a location")?;
    let request = settled(&scene, location).await?;
    assert_eq!(request["answer"]["success"], true, "{request}");
    assert_eq!(before.diff(&scene.snapshot().await?).gone, scene.campus.gone(&[course].into()));
    let unknown = scene.get(&format!("/v1/requests/{}", uuid::Uuid::now_v7()), WEB).await?;
    assert_eq!(unknown.status, 404);
    scene.end().await
}

/// A proxy before the server of a URL, and the URL by way of it.
fn interposed(url: &str) -> Result<(Proxy, String)> {
    let mut url = Url::parse(url)?;
    let proxy = Proxy::before(url.port().context("a port")?)?;
    anyhow::ensure!(url.set_port(Some(proxy.port())).is_ok(), "no port can be set");
    Ok((proxy, url.to_string()))
}

/// What takes a store away from the program, and gives it back.
enum Access {
    Server(Proxy),
    Root(PathBuf),
}

impl Access {
    fn cut(&self) -> Result<()> {
        match self {
            Self::Server(proxy) => proxy.switch(Behaviour::Refuse),
            Self::Root(root) => std::fs::rename(root, root.with_extension("aside"))?,
        }
        Ok(())
    }

    fn mend(&self) -> Result<()> {
        match self {
            Self::Server(proxy) => proxy.switch(Behaviour::Pass),
            Self::Root(root) => std::fs::rename(root.with_extension("aside"), root)?,
        }
        Ok(())
    }
}

#[tokio::test]
async fn each_store_that_is_down_keeps_nothing_else_from_going_and_is_finished_when_it_is_back() -> Result<()> {
    let world = World::whole().await?;
    let addresses = world.addresses();
    let objects = addresses.objects.clone().context("a whole world has objects")?;
    // Each has a way of its own, though two share a server, and one shares the server of the courses.
    let servers = [
        ("cache", &addresses.redis),
        ("vectors", &addresses.qdrant),
        ("jobs", &addresses.redis),
        ("rows", &addresses.postgres),
        ("media", &objects),
    ];
    let mut stores = Vec::from(["uploads", "enrichments"].map(|name| (name, Access::Root(addresses.files.join(name)))));
    let mut variables = Vec::new();
    for (store, url) in servers {
        let (proxy, through) = interposed(url)?;
        stores.push((store, Access::Server(proxy)));
        variables.push((format!("COURSE_GC_STORES_{}_URL", store.to_uppercase()), through));
    }
    let variables: Vec<_> = variables.iter().map(|(name, url)| (name.as_str(), url.as_str())).collect();
    let size = CampusSize { doomed: 24, ..CampusSize::default() };
    let scene = Scene::with(world, size, &variables).await?;
    let start = scene.snapshot().await?;
    let gone = |deleted: &BTreeSet<CourseId>| -> BTreeSet<Resource> {
        scene.campus.gone(deleted).into_iter().filter(|resource| start.contains(resource)).collect()
    };
    let mut deleted = BTreeSet::new();
    for (down, access) in &stores {
        let down = *down;
        let has_some = |course: &CourseId| gone(&[*course].into()).iter().any(|resource| store_of(resource) == down);
        // Of which nothing stays for good.
        let is_free = |course: &CourseId| {
            let stays = |fate: &Fate| [SEVERAL_IDS, REFERENCED, LOCKED].map(Fate::Held).contains(fate);
            !scene.campus.fates(&[*course].into()).values().any(stays)
        };
        let fits = |course: &CourseId| !deleted.contains(course) && has_some(course) && is_free(course);
        let course = scene.campus.doomed().iter().copied().find(fits);
        let course = course.with_context(|| format!("nobody is left who has something in {down}"))?;
        let earlier = gone(&deleted);
        deleted.insert(course);
        let whole = gone(&deleted);
        scene.delete_row(course).await?;
        access.cut()?;
        let told = scene.cleanup(course, "after_delete").await?;
        let traced = scene.trace(course).await?;
        access.mend()?;
        let answer = &told.json["answer"];
        assert_eq!((told.status, &answer["success"]), (200, &true.into()), "{down}: {told:?}");
        assert_eq!(answer["verified"], false, "{down}: {told:?}");
        let pending = answer["pending"].as_array().context("pending")?;
        assert!(pending.iter().any(|pending| pending["store"] == down), "{down}: {told:?}");
        let entry =
            |of: &Value| of["stores"].as_array().and_then(|all| all.iter().find(|it| it["store"] == down).cloned());
        assert_eq!(sum(answer, "failed"), 0, "{down}: {told:?}");
        let told_of = entry(answer).context("the store that is down")?;
        assert!(told_of["error"].is_string() && told_of["remaining"].is_null(), "{down}: {told:?}");
        let traced_of = entry(&traced).context("the store that is down")?;
        assert!(traced_of["error"].is_string() && traced["empty"] == false, "{down}: {traced}");

        let elsewhere = whole.iter().filter(|it| earlier.contains(it) || store_of(it) != down).cloned().collect();
        assert_eq!(start.diff(&scene.snapshot().await?).gone, elsewhere, "{down}: the others are cleaned");
        let location = format!("/v1/requests/{}", told.json["id"].as_str().context("an id")?);
        let first = answer["run"].clone();
        eventually("the next run finishes it", async || {
            scene.send(Method::POST, "/v1/runs", BOSS, &json!({})).await?;
            let request = scene.get(&location, WEB).await?.json;
            Ok((request["answer"]["run"] != first && sum(&request["answer"], "deleted") > 0).then_some(()))
        })
        .await?;
        assert_eq!(start.diff(&scene.snapshot().await?).gone, whole, "{down}");
    }
    scene.end().await
}
