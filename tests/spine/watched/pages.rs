//! The first pages: what anybody sees, and what it takes to see more.

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sandbox::World;
use sandbox::campus::CampusSize;
use sandbox::config::Settings;

use crate::serve::Serving;
use crate::support::{Installation, eventually};

const READER: &str = "0123456789abcdef0123456789abcdef";
const CLEANER: &str = "fedcba9876543210fedcba9876543210";

#[tokio::test]
async fn anybody_sees_how_things_stand_and_only_who_may_read_sees_what_it_is_about() -> Result<()> {
    let world = World::create().await?;
    let tokens = tempfile::tempdir()?;
    let mut api = vec!["tokens:".to_owned()];
    for (name, token, scope) in [("reader", READER, "read"), ("cleaner", CLEANER, "cleanup")] {
        let file = tokens.path().join(name);
        std::fs::write(&file, token)?;
        api.push(format!("  {name}: {{file: {}, scopes: [{scope}]}}", file.display()));
    }
    let limits = vec!["breaker_courses: 1".to_owned()];
    let settings = Settings { cron: "* * * * * *".into(), api, limits, ..Settings::default() };
    let (installation, campus) = Installation::over(world.addresses(), &settings, CampusSize::default()).await?;
    let deleted = campus.delete_doomed(&installation.stores).await?;
    let serving = Serving::start(&installation)?;
    serving.ready().await?;

    // By itself it needs no script, loads nothing, and names nobody.
    let first = eventually("a breaker holds something", async || {
        let answer = serving.get("/").await?;
        Ok(answer.body.contains("breaker_courses").then_some(answer))
    })
    .await?;
    assert_eq!(first.status, 200);
    ensure!(
        first.head.contains("content-type: text/html") && first.head.contains("default-src 'none'"),
        "{}",
        first.head
    );
    ensure!(first.body.contains("It works.") && first.body.contains("href=\"/metrics\""), "{}", first.body);
    for store in ["cache", "vectors", "uploads", "enrichments"] {
        ensure!(first.body.contains(&format!("<td>{store}</td>")), "{store}: {}", first.body);
    }
    ensure!(!first.body.contains("<script"), "{}", first.body);
    let everybody = campus.courses.iter().map(|course| course.id.to_string());
    let named: Vec<String> = everybody.filter(|course| first.body.contains(course)).collect();
    assert_eq!(named, [""; 0], "a course is named");
    ensure!(!first.body.contains("approve "), "a digest is named: {}", first.body);

    // A browser asks for a token, and its user gives it as the password.
    let stranger = serving.get("/runs").await?;
    assert_eq!(stranger.status, 401);
    ensure!(stranger.head.contains("\r\nwww-authenticate: basic "), "{}", stranger.head);
    let basic = |token: &str| format!("Basic {}", STANDARD.encode(format!("somebody:{token}")));
    assert_eq!(serving.send("GET", "/runs", &basic("a-token-that-is-none-0123456789ab")).await?.status, 401);
    assert_eq!(serving.send("GET", "/runs", &basic(CLEANER)).await?.status, 403);
    let runs = serving.send("GET", "/runs", &basic(READER)).await?;
    assert_eq!(runs.status, 200);
    ensure!(runs.body.contains("course-gc approve "), "{}", runs.body);
    ensure!(deleted.iter().any(|course| runs.body.contains(&course.to_string())), "samples: {}", runs.body);
    assert_eq!(serving.get_as("/runs", READER).await?.body.split("<h2>").count(), 3);

    // What a browser sends by itself is good for pages alone.
    assert_eq!(serving.send("GET", "/v1/holds", &basic(READER)).await?.status, 401);
    let document = serving.get("/openapi.json").await?;
    assert_eq!(document.status, 401);
    ensure!(!document.head.contains("www-authenticate: basic"), "{}", document.head);
    installation.program(&["pause", "--reason", "an exam"]).await?.code.context("it ended")?;
    eventually("it says that it is paused", async || Ok(serving.get("/").await?.body.contains("Paused").then_some(())))
        .await?;
    ensure!(!serving.get("/").await?.body.contains("an exam"), "a reason is named");
    Ok(())
}
