//! Who may, and who may not.

use std::time::Duration;

use anyhow::Result;
use reqwest::Method;
use serde_json::json;

use sandbox::World;
use sandbox::campus::CampusSize;

use super::scene::{Answer, BOSS, ISSUER, Scene, VIEWER, WEB, answered, jwt, seconds};
use course_gc::ledger::Requests;

#[tokio::test]
async fn without_a_good_token_nobody_does_or_sees_anything() -> Result<()> {
    let scene = Scene::set().await?;
    let course = scene.doomed(0);
    scene.delete_row(course).await?;
    let before = scene.snapshot().await?;
    let cleanup = format!("/v1/courses/{course}/cleanup?async=true");

    let service = |claims| jwt("service_role", claims);
    let unsigned = format!("{}.", service(json!({})).rsplit_once('.').map_or("", |(message, _)| message));
    let refused = [
        String::new(),
        "wrong".into(),
        format!("{WEB}x"),
        WEB[..WEB.len() - 1].into(),
        service(json!({ "exp": seconds(-60) })),
        service(json!({ "exp": null })),
        service(json!({ "nbf": seconds(60) })),
        service(json!({ "iss": "https://other.test/auth/v1" })),
        service(json!({ "aud": "another" })),
        service(json!({ "sub": "" })),
        format!("{}x", service(json!({}))),
        unsigned,
        // A teacher of no organization.
        jwt("teacher", json!({})),
    ];
    for token in &refused {
        for (method, path) in
            [(Method::POST, cleanup.as_str()), (Method::GET, "/v1/runs"), (Method::GET, "/openapi.json")]
        {
            let answer = answered(scene.ask(method, path, token)).await?;
            assert_eq!(answer.status, 401, "{token} {path}: {answer:?}");
            let challenge = answer.header("www-authenticate").unwrap_or_default().to_owned();
            assert!(challenge.starts_with("Bearer "), "{answer:?}");
            assert_eq!(answer.json["status"], 401, "{answer:?}");
        }
    }
    let anonymous = reqwest::Client::new().post(format!("http://{}{cleanup}", scene.address)).send().await?;
    assert_eq!(anonymous.status(), 401);
    assert_eq!(anonymous.headers()["www-authenticate"], "Bearer realm=\"course-gc\"");
    let twice = scene.ask(Method::POST, &cleanup, WEB).header("authorization", format!("Bearer {BOSS}"));
    assert_eq!(answered(twice).await?.status, 401);

    // A good token, but not good for this.
    let missing =
        |scope: &str| Some(format!("Bearer realm=\"course-gc\", error=\"insufficient_scope\", scope=\"{scope}\""));
    for (method, path, token, scope) in [
        (Method::POST, cleanup.as_str(), VIEWER, "cleanup"),
        (Method::POST, cleanup.as_str(), BOSS, "cleanup"),
        (Method::PUT, "/v1/pause", WEB, "admin"),
        (Method::DELETE, "/v1/pause", VIEWER, "admin"),
        (Method::POST, "/v1/approvals", WEB, "admin"),
        (Method::POST, "/v1/restore", WEB, "admin"),
        (Method::POST, "/v1/runs", VIEWER, "admin"),
        (Method::POST, cleanup.as_str(), &jwt("janitor", json!({ "organization_id": "x" })), "cleanup"),
    ] {
        let answer = answered(scene.ask(method, path, token)).await?;
        assert_eq!(answer.status, 403, "{path}: {answer:?}");
        assert_eq!(answer.header("www-authenticate").map(str::to_owned), missing(scope), "{path}");
    }
    // Of whoever is bound to an organization, nobody knows that the course is that one's.
    let teacher = jwt("teacher", json!({ "organization_id": "0192f0a0-0000-7000-8000-000000000001" }));
    for (method, path) in [(Method::POST, cleanup.as_str()), (Method::GET, "/v1/runs"), (Method::GET, "/v1/holds")] {
        let answer = answered(scene.ask(method, path, &teacher)).await?;
        assert_eq!(answer.status, 403, "{path}: {answer:?}");
        assert_eq!(answer.header("www-authenticate"), None, "no other scope would help");
    }
    assert_eq!(scene.installation.ledger()?.open_requests().await?, []);
    assert_eq!(scene.snapshot().await?, before);
    let audited = scene.audit("/v1/courses/{course_id}/cleanup").await?;
    assert_eq!(audited.len(), 4, "those whom we know: {audited:?}");
    assert!(audited.iter().all(|(_, _, status)| *status == Some(403)), "{audited:?}");

    // And who may, may.
    let good = service(json!({ "aud": ["another", "course-gc"], "role": ["x", "service_role"] }));
    assert_eq!(answered(scene.ask(Method::POST, &cleanup, &good)).await?.status, 202);
    assert_eq!(answered(scene.ask(Method::GET, "/v1/runs", &good)).await?.status, 200);
    let audited = scene.audit("/v1/courses/{course_id}/cleanup").await?;
    let last = audited.last().map(|(caller, _, status)| (caller.as_str(), *status));
    assert_eq!(last, Some(("user/somebody", Some(202))), "{ISSUER} names it");
    scene.end().await
}

#[tokio::test]
async fn a_token_is_replaced_and_withdrawn_while_it_serves() -> Result<()> {
    let scene = Scene::set().await?;
    let status = async |token: &str| Ok::<u16, anyhow::Error>(scene.get("/v1/pause", token).await?.status);
    let new = "a-new-token-that-nobody-could-guess-0002";
    assert_eq!((status(VIEWER).await?, status(new).await?), (200, 401));
    scene.rotate("viewer", &format!("  {new}\n"))?;
    assert_eq!((status(VIEWER).await?, status(new).await?), (401, 200));
    scene.rotate("viewer", "too-short")?;
    assert_eq!((status(new).await?, status("too-short").await?), (401, 401));
    scene.rotate("viewer", VIEWER)?;
    assert_eq!(status(VIEWER).await?, 200);
    scene.withdraw("viewer")?;
    assert_eq!((status(VIEWER).await?, status(WEB).await?), (401, 200));
    scene.end().await
}

#[tokio::test]
async fn odd_ids_paths_and_bodies_are_refused_and_change_nothing() -> Result<()> {
    let scene = Scene::set().await?;
    let course = scene.doomed(0).to_string();
    scene.delete_row(scene.doomed(0)).await?;
    let before = scene.snapshot().await?;
    let long = "a".repeat(4000);
    let upper = course.to_uppercase();
    let compact = course.replace('-', "");
    for id in [
        "..",
        "%2e%2e",
        "..%2f..%2fetc%2fpasswd",
        "%00",
        "%ff%fe",
        "*",
        "%2a",
        "{course_id}",
        "0",
        "-1",
        "null",
        "%20",
        &long,
        &upper,
        &compact,
        &format!("%7b{course}%7d"),
        &format!("{course}%00"),
        &format!("{course}%0a"),
        &format!("{course}%20"),
        &format!("%20{course}"),
    ] {
        for (method, what) in [("POST", "cleanup"), ("GET", "trace")] {
            let status = scene.raw(&format!("{method} /v1/courses/{id}/{what} HTTP/1.1"), b"{}").await?;
            assert_eq!(status, 400, "{method} {id}");
        }
    }
    for path in [
        "//",
        "/v1/courses//cleanup",
        "/v1/../v1/runs",
        "/v1/courses/../runs",
        "/v1/runs/",
        "/v2/runs",
        "/v1/courses/a/b/cleanup",
    ] {
        let status = scene.raw(&format!("GET {path} HTTP/1.1"), b"").await?;
        assert!(matches!(status, 400 | 404 | 405), "{path}: {status}");
    }
    for path in [
        "/v1/requests/x",
        "/v1/runs/..%2f",
        "/v1/runs?limit=0",
        "/v1/runs?limit=101",
        "/v1/runs?limit=x",
        "/v1/runs?like=1",
    ] {
        assert_eq!(scene.raw(&format!("GET {path} HTTP/1.1"), b"").await?, 400, "{path}");
    }
    let cleanup = format!("POST /v1/courses/{course}/cleanup HTTP/1.1");
    let deep = vec![b'['; 10_000];
    let large = vec![b' '; 17 * 1024];
    for (body, status) in [
        (&b"{"[..], 400),
        (b"[]", 400),
        (b"\"after_delete\"", 400),
        (b"{\"intent\":\"now\"}", 400),
        (b"{\"intent\":null}", 400),
        (b"{\"intention\":\"after_delete\"}", 400),
        (b"\xff\xfe", 400),
        (&deep, 400),
        (&large, 413),
    ] {
        assert_eq!(
            scene.raw(&cleanup, body).await?,
            status,
            "{:?}",
            String::from_utf8_lossy(&body[..body.len().min(40)])
        );
    }
    let path = format!("/v1/courses/{course}/cleanup");
    let form = scene.ask(Method::POST, &path, WEB).header("content-type", "text/plain").body("{}");
    assert_eq!(answered(form).await?.status, 415);
    for key in ["", " ", &"k".repeat(201), "\u{e9}"] {
        let answer = answered(scene.ask(Method::POST, &path, WEB).header("idempotency-key", key)).await?;
        assert_eq!(answer.status, 400, "{key:?}");
    }
    let other = answered(scene.ask(Method::PATCH, "/v1/runs", BOSS)).await?;
    assert_eq!((other.status, other.header("allow").is_some()), (405, true), "{other:?}");
    assert_eq!(scene.snapshot().await?, before);
    assert_eq!(scene.installation.ledger()?.open_requests().await?, []);
    scene.end().await
}

#[tokio::test]
async fn who_comes_too_often_waits_and_keeps_nobody_else_waiting() -> Result<()> {
    let size = CampusSize { courses: 20, doomed: 2, ..CampusSize::default() };
    let scene = Scene::with(World::create().await?, size, &[("COURSE_GC_API_REQUESTS_PER_MINUTE", "5")]).await?;
    for caller in [VIEWER, "nobody"] {
        let mut answers = Vec::new();
        for _ in 0..7 {
            answers.push(scene.get("/v1/pause", caller).await?);
        }
        let many: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 429).collect();
        assert!(!many.is_empty() && many.len() <= 2, "{answers:?}");
        for answer in many {
            let wait: u64 = answer.header("retry-after").unwrap_or_default().parse()?;
            assert!((1..=13).contains(&wait), "{answer:?}");
        }
    }
    assert_eq!(scene.get("/v1/pause", WEB).await?.status, 200);
    scene.end().await
}

#[tokio::test]
async fn a_write_that_cannot_be_noted_is_not_done() -> Result<()> {
    let scene = Scene::set().await?;
    let course = scene.doomed(0);
    scene.delete_row(course).await?;
    let before = scene.snapshot().await?;
    let rename = |from: &str, to: &str| format!("ALTER TABLE course_gc.{from} RENAME TO {to}");
    let database = &scene.installation.stores.postgres;
    sqlx::query(sqlx::AssertSqlSafe(rename("audit", "aside"))).execute(database).await?;
    let told = scene.cleanup(course, "after_delete").await?;
    assert_eq!(told.status, 503, "{told:?}");
    assert!(told.json["detail"].as_str().is_some_and(|detail| detail.contains("nothing was done")), "{told:?}");
    assert_eq!(scene.send(Method::PUT, "/v1/pause", BOSS, &json!({ "reason": "x" })).await?.status, 503);
    assert_eq!(scene.get("/v1/pause", VIEWER).await?.json["paused"], json!(null));
    assert_eq!(scene.installation.ledger()?.open_requests().await?, []);
    assert_eq!(scene.snapshot().await?, before);
    sqlx::query(sqlx::AssertSqlSafe(rename("aside", "audit"))).execute(database).await?;
    assert_eq!(scene.cleanup(course, "after_delete").await?.status, 200);
    scene.end().await
}

#[tokio::test]
async fn half_a_body_that_never_ends_does_not_keep_others_waiting() -> Result<()> {
    use tokio::io::AsyncWriteExt;
    let scene = Scene::set().await?;
    let mut held = Vec::new();
    for _ in 0..50 {
        let mut stream = tokio::net::TcpStream::connect(scene.address).await?;
        let head = format!(
            "POST /v1/courses/{}/cleanup HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {WEB}\r\n\
             Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{",
            scene.doomed(0)
        );
        stream.write_all(head.as_bytes()).await?;
        held.push(stream);
    }
    let answer = tokio::time::timeout(Duration::from_secs(10), scene.get("/v1/runs", VIEWER)).await??;
    assert_eq!(answer.status, 200);
    drop(held);
    scene.end().await
}
