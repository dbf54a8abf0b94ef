//! What the command line can do, over HTTP.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use course_gc::http::api::description;
use reqwest::Method;
use serde_json::{Value, json};

use super::scene::{BOSS, Scene, VIEWER, WEB};

#[tokio::test]
async fn runs_plan_holds_approvals_and_pause_are_what_the_command_line_says() -> Result<()> {
    let scene = Scene::set().await?;
    scene.campus.delete_doomed(&scene.installation.stores).await?;
    let plan = scene.installation.plan().await?;
    let listed = scene.get("/v1/runs?limit=1", VIEWER).await?;
    assert_eq!((listed.status, &listed.json["runs"][0]["run"]), (200, &json!(plan.run)), "{listed:?}");
    let run = scene.get(&format!("/v1/runs/{}", plan.run), VIEWER).await?;
    assert_eq!(run.json["report"]["verdict"], json!(plan.verdict), "{run:?}");
    assert_eq!(scene.get(&format!("/v1/runs/{}", uuid::Uuid::now_v7()), VIEWER).await?.status, 404);

    let told = scene.get("/v1/plan", VIEWER).await?;
    let orphans = told.json["orphans"].as_array().context("orphans")?;
    let expected =
        plan.stores.iter().flat_map(|store| &store.sources).map(|source| source.orphans.len()).sum::<usize>();
    assert!(expected > 0 && orphans.len() == expected, "{told:?}");
    assert_eq!(told.json["seen_by"]["run"], json!(plan.run));
    let places: BTreeSet<&str> = orphans.iter().filter_map(|orphan| orphan["store"].as_str()).collect();
    assert!(places.contains("cache") && orphans[0]["decision"].is_string(), "{told:?}");

    // Twelve of sixty courses vanished, which a breaker holds once their grace is over.
    scene.installation.age("2 days").await?;
    scene.installation.plan().await?;
    let held = scene.get("/v1/holds", VIEWER).await?;
    assert_eq!((held.status, &held.json["approvals"]), (200, &json!([])), "{held:?}");
    let approve = |digest: &str| {
        let body = json!({ "digest": digest, "reason": "they are meant", "for": "1d" });
        let scene = &scene;
        async move { scene.send(Method::POST, "/v1/approvals", BOSS, &body).await }
    };
    assert_eq!(approve("000000000000").await?.status, 409);
    assert_eq!(approve("no digest").await?.status, 400);
    if let Some(digest) = held.json["holds"][0]["digest"].as_str() {
        let approved = approve(digest).await?;
        assert_eq!(approved.json["approved"]["reason"], "they are meant (token/boss)", "{approved:?}");
        assert_eq!(scene.get("/v1/holds", VIEWER).await?.json["approvals"][0]["digest"], digest);
    }

    assert_eq!(scene.get("/v1/pause", WEB).await?.json, json!({ "paused": null }));
    let blank = scene.send(Method::PUT, "/v1/pause", BOSS, &json!({ "reason": " " })).await?;
    assert_eq!(blank.status, 400, "{blank:?}");
    let paused = scene.send(Method::PUT, "/v1/pause", BOSS, &json!({ "reason": "an incident" })).await?;
    assert_eq!(paused.json["paused"]["reason"], "an incident (token/boss)", "{paused:?}");
    let status = scene.installation.program(&["--output", "json", "status"]).await?.json()?;
    assert_eq!(status["paused"]["reason"], "an incident (token/boss)");

    // While it is paused a cleanup is a promise, and says so.
    let before = scene.snapshot().await?;
    let told = scene.cleanup(scene.doomed(0), "after_delete").await?;
    let answer = &told.json["answer"];
    assert_eq!((told.status, &answer["verified"], &answer["success"]), (200, &false.into(), &true.into()), "{told:?}");
    let why = answer["pending"].as_array().into_iter().flatten().any(|pending| pending["reason"] == "paused");
    assert!(why, "{told:?}");
    assert_eq!(scene.snapshot().await?, before);

    let resumed = scene.send(Method::DELETE, "/v1/pause", BOSS, &json!({})).await?;
    assert_eq!(resumed.json["resumed"]["reason"], "an incident (token/boss)", "{resumed:?}");
    let again = scene.send(Method::DELETE, "/v1/pause", BOSS, &json!({})).await?;
    assert_eq!((again.status, &again.json["resumed"]), (200, &Value::Null));

    for body in [
        json!({}),
        json!({ "store": "cache", "dry_run": true, "overwrite": true }),
        json!({ "course": "x" }),
        json!({ "store": "cache", "exempt_for": "31d" }),
    ] {
        assert_eq!(scene.send(Method::POST, "/v1/restore", BOSS, &body).await?.status, 400, "{body}");
    }
    scene.end().await
}

#[tokio::test]
async fn the_description_is_served_and_names_every_route() -> Result<()> {
    let scene = Scene::set().await?;
    let served = scene.get("/openapi.json", VIEWER).await?;
    assert_eq!(served.json, serde_json::to_value(description())?);
    assert_eq!(served.json["openapi"], "3.1.0");
    let paths = served.json["paths"].as_object().context("paths")?;
    // What the description names is there, and takes the methods that it names and no others.
    for (path, item) in paths {
        let path = path
            .replace("{course_id}", &scene.doomed(0).to_string())
            .replace("{id}", &uuid::Uuid::now_v7().to_string());
        let named: BTreeSet<&str> = item.as_object().context("methods")?.keys().map(String::as_str).collect();
        let allowed = scene.send(Method::PATCH, &path, BOSS, &json!({})).await?;
        let allow: BTreeSet<String> =
            allowed.header("allow").unwrap_or_default().to_lowercase().split(',').map(str::to_owned).collect();
        assert_eq!(allowed.status, 405, "{path}");
        let allow: BTreeSet<&str> = allow.iter().map(String::as_str).filter(|method| *method != "head").collect();
        assert_eq!(allow, named, "{path}");
    }
    // What is measured is what the router has: what is described, and a page for people.
    let metrics = reqwest::get(format!("http://{}/metrics", scene.address)).await?.text().await?;
    let routes: BTreeSet<&str> = metrics
        .lines()
        .filter_map(|line| {
            line.strip_prefix("course_gc_http_requests_total{")?.split_once("route=\"")?.1.split_once('"')
        })
        .map(|(route, _)| route)
        .collect();
    let described: BTreeSet<&str> = paths.keys().map(String::as_str).chain(["/openapi.json", "/runs"]).collect();
    assert_eq!(routes, described);
    scene.end().await
}
