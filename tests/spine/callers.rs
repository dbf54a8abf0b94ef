//! Today's callers, as they are: tRPC's own client, the web route's call, and the Next.js module, against the program that serves.

use std::net::SocketAddr;
use std::process::Stdio;

use anyhow::{Context, Result};
use course_gc::domain::cleanup::RequestState;
use course_gc::ledger::Requests;
use sandbox::campus::{Campus, CampusSize, CourseId};
use sandbox::config::Settings;
use sandbox::{Callers, Snapshot, World, free_port};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Child;

use crate::support::{Installation, eventually};

const TOKEN: &str = "a-token-of-the-platform-that-is-long-enough";

/// A program that serves a campus whose deleted courses wait a day, unless somebody asks for them.
struct Scene {
    _world: World,
    installation: Installation,
    campus: Campus,
    callers: Callers,
    address: SocketAddr,
    _tokens: tempfile::TempDir,
    _serving: Child,
}

impl Scene {
    async fn set() -> Result<Self> {
        let world = World::create().await?;
        let tokens = tempfile::tempdir()?;
        let file = tokens.path().join("platform");
        std::fs::write(&file, TOKEN)?;
        let api =
            vec!["tokens:".to_owned(), format!("  platform: {{file: {}, scopes: [read, cleanup]}}", file.display())];
        let settings = Settings { cron: "0 0 1 1 *".into(), api, ..Settings::default() };
        let (installation, campus) = Installation::over(world.addresses(), &settings, CampusSize::default()).await?;
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let mut command = installation.command(&["serve"]);
        command.env("COURSE_GC_HTTP_LISTEN", address.to_string()).stdout(Stdio::null()).stderr(Stdio::null());
        let serving = command.spawn()?;
        eventually("it is ready", async || Ok(is_ready(address).await.unwrap_or(false).then_some(()))).await?;
        let callers = Callers::compile().await?;
        Ok(Self { _world: world, installation, campus, callers, address, _tokens: tokens, _serving: serving })
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn doomed(&self, nth: usize) -> CourseId {
        *self.campus.doomed().iter().nth(nth).expect("so many are to be deleted")
    }

    async fn snapshot(&self) -> Result<Snapshot> {
        Snapshot::take(&self.installation.stores).await
    }

    /// Waits until what a course left has gone, and nothing else.
    async fn cleaned(&self, before: &Snapshot, course: CourseId) -> Result<()> {
        let expected = self.campus.gone(&[course].into());
        eventually("the course is cleaned up", async || {
            let gone = before.diff(&self.snapshot().await?).gone;
            assert!(gone.is_subset(&expected), "{gone:?}");
            Ok((gone == expected).then_some(()))
        })
        .await
    }
}

async fn is_ready(address: SocketAddr) -> Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text.starts_with("HTTP/1.1 200"))
}

#[tokio::test]
async fn trpc_s_own_client_cleans_a_course_up_and_reads_what_became_of_it() -> Result<()> {
    let scene = Scene::set().await?;
    let course = scene.doomed(0);
    scene.campus.delete_row(&scene.installation.stores, course).await?;
    let before = scene.snapshot().await?;
    let told = scene.callers.call(&["trpc", &scene.url(), TOKEN, &course.to_string()]).await?;

    let cleanup = &told["cleanup"]["data"];
    assert_eq!(cleanup["success"], true, "{told:#}");
    let expected = scene.campus.gone(&[course].into());
    let counts =
        [&cleanup["qdrant"]["vectorsDeleted"], &cleanup["redis"]["keysDeleted"], &cleanup["files"]["filesDeleted"]];
    let deleted: u64 = counts.iter().filter_map(|count| count.as_u64()).sum();
    assert_eq!(deleted, expected.len() as u64, "{told:#}");
    assert!(cleanup["durationMs"].is_number() && cleanup["errors"] == serde_json::json!([]), "{told:#}");
    scene.cleaned(&before, course).await?;

    assert_eq!(told["status"]["data"]["request"]["id"], cleanup["request"]["id"], "{told:#}");
    assert!(told["runs"]["data"].to_string().contains("verdict"), "{told:#}");
    // A batch of successes and errors is taken apart by the client.
    let codes = ["odd", "unknown", "queried", "missing"].map(|name| told[name]["data"]["code"].clone());
    assert_eq!(codes, ["BAD_REQUEST", "NOT_FOUND", "METHOD_NOT_SUPPORTED", "BAD_REQUEST"], "{told:#}");
    assert_eq!(told["unknown"]["data"]["path"], "generation.noSuchProcedure");
    assert_eq!(told["odd"]["httpStatus"], 207);

    let (url, id) = (scene.url(), course.to_string());
    let refused = scene.callers.call(&["trpc", &url, "a-token-that-nobody-gave-anybody-at-all", &id]).await?;
    assert_eq!(refused["cleanup"]["data"]["code"], "UNAUTHORIZED", "{refused:#}");
    assert_eq!(refused["cleanup"]["data"]["httpStatus"], 401);
    Ok(())
}

#[tokio::test]
async fn the_web_route_s_call_before_its_row_is_gone_promises_and_the_row_s_end_cleans() -> Result<()> {
    let scene = Scene::set().await?;
    let course = scene.doomed(0);
    let before = scene.snapshot().await?;
    let told = scene.callers.call(&["web", &scene.url(), TOKEN, &course.to_string()]).await?;
    assert_eq!((&told["status"], &told["success"], &told["vectors"]), (&200.into(), &true.into(), &0.into()), "{told}");
    assert_eq!(scene.snapshot().await?, before, "its row is still there");
    scene.campus.delete_row(&scene.installation.stores, course).await?;
    scene.cleaned(&before, course).await?;

    let odd = scene.callers.call(&["web", &scene.url(), TOKEN, "not-a-course"]).await?;
    assert_eq!(odd["status"], 400, "{odd}");
    assert!(odd["message"].as_str().is_some_and(|message| message.contains("course id")), "{odd}");
    Ok(())
}

#[tokio::test]
async fn the_nextjs_handler_deletes_a_course_and_loses_nothing_if_its_row_is_not_deleted() -> Result<()> {
    let scene = Scene::set().await?;
    let (refused, course) = (scene.doomed(0), scene.doomed(1));
    let database = scene.installation.addresses.postgres.clone();
    let call = async |course: CourseId, more: &[&str]| {
        let (url, course) = (scene.url(), course.to_string());
        let arguments = [&["nextjs", &url, TOKEN, &course, &database], more].concat();
        scene.callers.call(&arguments).await
    };
    let before = scene.snapshot().await?;
    let told = call(refused, &["refuse"]).await?;
    assert_eq!(told["thrown"], "the row is not deleted", "{told:#}");
    assert_eq!(scene.snapshot().await?, before);

    let told = call(course, &[]).await?;
    assert_eq!(told["status"], 200, "{told:#}");
    assert_eq!(told["body"]["cleanup"]["promised"], true, "{told:#}");
    let logged = told["log"][0]["cleanup"].as_str().context("a line was logged")?;
    assert!(logged.contains("row_still_there"), "{logged}");
    scene.cleaned(&before, course).await?;
    assert!(before.diff(&scene.snapshot().await?).gone.is_disjoint(&scene.campus.gone(&[refused].into())));
    let id = told["body"]["cleanup"]["request"]["id"].as_str().context("it has an id")?.parse()?;
    let ledger = scene.installation.ledger()?;
    eventually("it is answered", async || {
        let request = ledger.request_of(id).await?.context("it is there")?;
        Ok((request.state == RequestState::Done || request.answer.is_some_and(|it| it.run.is_some())).then_some(()))
    })
    .await?;

    // Nobody answers there: the deletion goes on without.
    let url = format!("http://127.0.0.1:{}", free_port()?);
    let last = scene.doomed(2).to_string();
    let told = scene.callers.call(&["nextjs", &url, TOKEN, &last, &database]).await?;
    assert_eq!((&told["status"], &told["body"]["cleanup"]["promised"]), (&200.into(), &false.into()), "{told:#}");
    Ok(())
}
