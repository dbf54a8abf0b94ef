//! S1's only exception: what a live course has goes at once, where a person switched that on, and comes back.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use reqwest::Method;
use sandbox::campus::{CampusSize, CourseId};
use sandbox::{Resource, Snapshot, World};
use serde_json::{Value, json};

use super::scene::{Answer, BOSS, Scene, WEB};
use crate::support::eventually;

const METRIC: &str = "course_gc_live_course_cleanups_total";

async fn at_once(scene: &Scene, course: CourseId, intent: &str) -> Result<Answer> {
    let body = json!({ "intent": intent, "at_once": true });
    scene.send(Method::POST, &format!("/v1/courses/{course}/cleanup"), WEB, &body).await
}

/// What is gone; nothing else has changed.
async fn gone(scene: &Scene, before: &Snapshot) -> Result<BTreeSet<Resource>> {
    let difference = before.diff(&scene.snapshot().await?);
    assert!(difference.added.is_empty() && difference.changed.is_empty(), "{difference:?}");
    Ok(difference.gone)
}

/// Waits until another run has ended.
async fn run(scene: &Scene) -> Result<()> {
    let ended = "SELECT count(*) FROM course_gc.runs WHERE mode = 'run' AND finished_at IS NOT NULL";
    let runs =
        async || anyhow::Ok::<i64>(sqlx::query_scalar(ended).fetch_one(&scene.installation.stores.postgres).await?);
    let before = runs().await?;
    assert_eq!(scene.send(Method::POST, "/v1/runs", BOSS, &json!({})).await?.status, 202);
    eventually("a run ends", async || Ok((runs().await? > before).then_some(()))).await
}

#[tokio::test]
async fn s1_what_a_live_course_has_goes_at_once_only_where_that_is_switched_on_and_comes_back() -> Result<()> {
    let switch = [("COURSE_GC_API_LIVE_CLEANUPS_PER_HOUR", "1")];
    let scene = Scene::with(World::create().await?, CampusSize::default(), &switch).await?;
    let (course, other) = (scene.doomed(0), scene.doomed(1));
    let before = scene.snapshot().await?;
    assert_eq!(at_once(&scene, course, "after_delete").await?.status, 400);
    assert_eq!((scene.metric(METRIC).await?, scene.snapshot().await?), (0.0, before.clone()));

    let told = at_once(&scene, course, "before_delete").await?;
    let answer = &told.json["answer"];
    assert_eq!((told.status, &answer["success"]), (200, &true.into()), "{told:?}");
    let went = gone(&scene, &before).await?;
    let all = scene.campus.gone(&[course].into());
    assert!(!went.is_empty() && went.is_subset(&all), "{:?}", went.difference(&all).collect::<Vec<_>>());
    let deleted: u64 =
        answer["stores"].as_array().context("stores")?.iter().filter_map(|it| it["deleted"].as_u64()).sum();
    assert_eq!(deleted, went.len() as u64, "{told:?}");
    // The course's own rows still lead to some of its files: these go with the row.
    let stays = all.len() > went.len();
    let referenced = |pending: &Value| pending["reason"] == "referenced" && pending["store"] == "uploads";
    let pending = answer["pending"].as_array().context("pending")?;
    assert_eq!(pending.iter().any(referenced), stays, "{told:?}");
    assert!(pending.iter().all(referenced), "{told:?}");

    // It is told: to whoever watches, whoever looks later, and whoever reads the run.
    assert_eq!(scene.metric(METRIC).await?, 1.0);
    let audit = scene.audit("/v1/courses/{course_id}/cleanup").await?;
    assert_eq!(audit.last(), Some(&("token/web".to_owned(), Some(course.to_string()), Some(200))));
    let id = answer["run"].as_str().context("a run")?;
    let report = scene.get(&format!("/v1/runs/{id}"), BOSS).await?.json;
    assert_eq!(report["report"]["authorised"], json!([course.to_string()]));

    // No more than one an hour, and each is good for one run.
    let refused = at_once(&scene, other, "before_delete").await?;
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("600")), "{refused:?}");
    run(&scene).await?;
    assert_eq!(gone(&scene, &before).await?, went, "the other one is promised, and lives");
    let again = scene.metric("course_gc_live_after_delete_total{store=\"cache\"}").await?;
    assert_eq!((again, scene.metric(METRIC).await?), (0.0, 1.0));

    let restored = scene.send(Method::POST, "/v1/restore", BOSS, &json!({ "course": course.to_string() })).await?;
    assert_eq!(restored.status, 200, "{restored:?}");
    assert_eq!(scene.snapshot().await?, before, "{restored:?}");
    scene.delete_row(other).await?;
    run(&scene).await?;
    assert_eq!(gone(&scene, &before).await?, scene.campus.gone(&[other].into()), "what was promised is kept");
    scene.end().await
}
