//! A campus, `course-gc serve` with its API over it, and callers with tokens.

use std::fs;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::{Method, RequestBuilder};
use ring::hmac;
use rustix::process::{Pid, Signal, kill_process};
use sandbox::campus::{Campus, CampusSize, CourseId};
use sandbox::config::Settings;
use sandbox::{Snapshot, World, free_port};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::time::timeout;

use crate::support::{Installation, eventually};

/// No answer takes longer.
const IN_TIME: Duration = Duration::from_secs(60);
/// May look and ask for cleanups.
pub const WEB: &str = "web-token-that-nobody-could-guess-0001";
/// May look.
pub const VIEWER: &str = "viewer-token-that-nobody-could-guess-01";
/// May look and do what a person does.
pub const BOSS: &str = "boss-token-that-nobody-could-guess-0001";
/// What the identity provider signs with.
const SECRET: &str = "a-secret-between-the-provider-and-us-01";
pub const ISSUER: &str = "https://campus.test/auth/v1";

pub struct Scene {
    pub installation: Installation,
    pub campus: Campus,
    pub address: SocketAddr,
    pub program: Child,
    tokens: TempDir,
    client: reqwest::Client,
    _world: World,
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub json: Value,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Scene {
    pub async fn set() -> Result<Self> {
        Self::over(CampusSize::default()).await
    }

    pub async fn over(size: CampusSize) -> Result<Self> {
        Self::with(World::create().await?, size, &[]).await
    }

    /// In this world, and served with these variables, too.
    pub async fn with(world: World, size: CampusSize, variables: &[(&str, &str)]) -> Result<Self> {
        // Of rustls' several cryptographies one must be named once in a process.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let tokens = tempfile::tempdir()?;
        for (name, text) in [("web", WEB), ("viewer", VIEWER), ("boss", BOSS), ("secret", SECRET)] {
            fs::write(tokens.path().join(name), format!("{text}\n"))?;
        }
        let at = tokens.path().display();
        let api = [
            "wait: 50s".to_owned(),
            "requests_per_minute: 100000".to_owned(),
            "tokens:".to_owned(),
            format!("  web: {{ file: {at}/web, scopes: [read, cleanup] }}"),
            format!("  viewer: {{ file: {at}/viewer, scopes: [read] }}"),
            format!("  boss: {{ file: {at}/boss, scopes: [read, admin] }}"),
            "jwt:".to_owned(),
            format!("  issuer: {ISSUER}"),
            "  audience: course-gc".to_owned(),
            format!("  secret_file: {at}/secret"),
            "  organization_claim: organization_id".to_owned(),
            "  read_roles: [service_role, teacher]".to_owned(),
            "  cleanup_roles: [service_role, teacher]".to_owned(),
            "  unbound_roles: [service_role]".to_owned(),
        ];
        let settings = Settings {
            departed: "1d".into(),
            // It runs when somebody asks.
            cron: "0 0 1 1 *".into(),
            limits: vec!["call_timeout: 5s".into()],
            api: api.to_vec(),
            ..Settings::default()
        };
        let (installation, campus) = Installation::over(world.addresses(), &settings, size).await?;
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let mut command = installation.command(&["serve"]);
        command.env("COURSE_GC_HTTP_LISTEN", address.to_string()).envs(variables.iter().copied());
        let program = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let client = reqwest::Client::builder().timeout(IN_TIME).build()?;
        let scene = Self { installation, campus, address, program, tokens, client, _world: world };
        eventually("it is ready", async || {
            let answer = scene.client.get(scene.url("/readyz")).send().await.ok();
            Ok(answer.filter(|answer| answer.status() == 200).map(drop))
        })
        .await?;
        Ok(scene)
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Puts another token in place of one.
    pub fn rotate(&self, name: &str, text: &str) -> Result<()> {
        let new = self.tokens.path().join("new");
        fs::write(&new, text)?;
        Ok(fs::rename(new, self.tokens.path().join(name))?)
    }

    /// Takes a token away.
    pub fn withdraw(&self, name: &str) -> Result<()> {
        Ok(fs::remove_file(self.tokens.path().join(name))?)
    }

    pub fn doomed(&self, nth: usize) -> CourseId {
        *self.campus.doomed().iter().nth(nth).expect("so many are to be deleted")
    }

    pub async fn snapshot(&self) -> Result<Snapshot> {
        Snapshot::take(&self.installation.stores).await
    }

    pub async fn delete_row(&self, course: CourseId) -> Result<()> {
        self.campus.delete_row(&self.installation.stores, course).await
    }

    /// A request that is about to be sent.
    pub fn ask(&self, method: Method, path: &str, token: &str) -> RequestBuilder {
        self.client.request(method, self.url(path)).bearer_auth(token)
    }

    pub async fn get(&self, path: &str, token: &str) -> Result<Answer> {
        answered(self.ask(Method::GET, path, token)).await
    }

    pub async fn send(&self, method: Method, path: &str, token: &str, body: &Value) -> Result<Answer> {
        answered(with(self.ask(method, path, token), body)).await
    }

    pub async fn cleanup(&self, course: CourseId, intent: &str) -> Result<Answer> {
        let body = json!({ "intent": intent });
        self.send(Method::POST, &format!("/v1/courses/{course}/cleanup"), WEB, &body).await
    }

    pub async fn trace(&self, course: CourseId) -> Result<Value> {
        Ok(self.get(&format!("/v1/courses/{course}/trace"), VIEWER).await?.json)
    }

    /// What stands in the text, as it is, is asked over a connection of its own; the status.
    pub async fn raw(&self, head: &str, body: &[u8]) -> Result<u16> {
        let mut stream = TcpStream::connect(self.address).await?;
        let length = body.len();
        let head = format!(
            "{head}\r\nHost: test\r\nConnection: close\r\nAuthorization: Bearer {WEB}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        // It may be answered before all of it was read.
        let _ = stream.write_all(body).await;
        let mut answer = Vec::new();
        let _ = timeout(IN_TIME, stream.read_to_end(&mut answer)).await?;
        let text = String::from_utf8_lossy(&answer);
        text.split(' ').nth(1).and_then(|status| status.parse().ok()).with_context(|| format!("{head}: {text}"))
    }

    /// The value of a series that must be there.
    pub async fn metric(&self, series: &str) -> Result<f64> {
        let body = self.client.get(self.url("/metrics")).send().await?.text().await?;
        let line = body.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        Ok(line.with_context(|| format!("{series} is not in {body}"))?.parse()?)
    }

    /// What the audit has of a route: who, which course, and what was answered.
    pub async fn audit(&self, route: &str) -> Result<Vec<(String, Option<String>, Option<i16>)>> {
        let rows = "SELECT caller, course_id, status FROM course_gc.audit WHERE route = $1 ORDER BY began_at, id";
        Ok(sqlx::query_as(rows).bind(route).fetch_all(&self.installation.stores.postgres).await?)
    }

    pub async fn end(mut self) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.program.id().context("it serves")?)?).context("no pid")?;
        kill_process(pid, Signal::TERM)?;
        assert_eq!(timeout(IN_TIME, self.program.wait()).await??.code(), Some(0));
        Ok(())
    }
}

pub fn with(request: RequestBuilder, body: &Value) -> RequestBuilder {
    request.header("content-type", "application/json").body(body.to_string())
}

pub async fn answered(request: RequestBuilder) -> Result<Answer> {
    let answer = request.send().await?;
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let text = answer.text().await?;
    let json = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).context(text)? };
    Ok(Answer { status, headers, json })
}

/// Seconds since 1970, so many from now.
pub fn seconds(from_now: i64) -> i64 {
    chrono_now() + from_now
}

fn chrono_now() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec
}

/// A token of the identity provider for a role, with further claims in place of the usual ones.
pub fn jwt(role: &str, claims: Value) -> String {
    let mut all = json!({ "iss": ISSUER, "aud": "course-gc", "sub": "somebody", "exp": seconds(300), "role": role });
    for (name, value) in claims.as_object().into_iter().flatten() {
        all[name] = value.clone();
    }
    let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let message = format!("{}.{}", encode(&json!({ "alg": "HS256", "typ": "JWT" })), encode(&all));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes())))
}
