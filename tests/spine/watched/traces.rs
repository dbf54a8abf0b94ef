//! The spans of a run, as a collector of traces gets them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use sandbox::World;
use sandbox::campus::{Campus, CampusSize};
use sandbox::config::Settings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::support::Installation;

/// Takes what is exported to it, as an OpenTelemetry collector does at `/v1/traces`.
struct Receiver {
    url: String,
    taken: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
}

impl Receiver {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/v1/traces", listener.local_addr()?);
        let taken = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&taken);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let request = take(stream).await.expect("an export is whole");
                into.lock().unwrap().push(request);
            }
        });
        Ok(Self { url, taken })
    }

    /// The spans, each with what is said of it.
    fn spans(&self) -> Vec<(Span, BTreeMap<String, String>)> {
        let taken = self.taken.lock().unwrap();
        let scopes = taken.iter().flat_map(|request| &request.resource_spans).flat_map(|of| &of.scope_spans);
        let text = |value: &Value| match value {
            Value::StringValue(text) => text.clone(),
            other => format!("{other:?}"),
        };
        let with = |span: &Span| {
            let said = span
                .attributes
                .iter()
                .filter_map(|it| Some((it.key.clone(), text(it.value.as_ref()?.value.as_ref()?))));
            (span.clone(), said.collect())
        };
        scopes.flat_map(|scope| &scope.spans).map(with).collect()
    }
}

async fn take(mut stream: TcpStream) -> Result<ExportTraceServiceRequest> {
    let mut bytes = Vec::new();
    let whole = async {
        loop {
            let head = bytes.windows(4).position(|window| window == b"\r\n\r\n");
            if let Some(end) = head {
                let head = std::str::from_utf8(&bytes[..end])?.to_lowercase();
                ensure!(
                    head.starts_with("post /v1/traces ") && head.contains("content-type: application/x-protobuf"),
                    "{head}"
                );
                let length =
                    head.lines().find_map(|line| line.strip_prefix("content-length: ")).context("no length")?;
                if bytes.len() >= end + 4 + length.trim().parse::<usize>()? {
                    return Ok(end + 4);
                }
            }
            ensure!(stream.read_buf(&mut bytes).await? > 0, "it ended early");
        }
    };
    let begin = timeout(Duration::from_secs(20), whole).await??;
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await?;
    Ok(ExportTraceServiceRequest::decode(&bytes[begin..])?)
}

#[tokio::test]
async fn a_collector_of_traces_gets_a_run_with_its_stages_and_stores_and_no_course() -> Result<()> {
    let world = World::create().await?;
    let settings = Settings { departed: "0s".into(), ..Settings::default() };
    let (installation, campus) = Installation::over(world.addresses(), &settings, CampusSize::default()).await?;
    let deleted = campus.delete_doomed(&installation.stores).await?;
    let receiver = Receiver::start().await?;
    let mut run = installation.command(&["run", "--output", "json"]);
    let run = run.env("COURSE_GC_LOG_TRACES_URL", &receiver.url).output().await?;
    let report: serde_json::Value = serde_json::from_slice(&run.stdout)?;

    let spans = receiver.spans();
    let root = spans.iter().find(|(span, _)| span.name == "run").context("no span of the run")?;
    assert_eq!((&root.1["run"], &root.1["mode"]), (&report["run"].as_str().unwrap().to_owned(), &"run".to_owned()));
    let under =
        |parent: &Span| spans.iter().filter(|(span, _)| span.parent_span_id == parent.span_id).collect::<Vec<_>>();
    let mut stages: Vec<&str> = under(&root.0).iter().map(|(span, _)| span.name.as_str()).collect();
    stages.sort_unstable();
    assert_eq!(stages, ["inventory", "liveness", "orphans", "places", "plan", "purge", "sweep"]);
    for stage in ["inventory", "sweep"] {
        let (stage, _) = spans.iter().find(|(span, _)| span.name == stage).context(stage)?;
        let mut stores: Vec<&str> = under(stage).iter().map(|(_, said)| said["store"].as_str()).collect();
        stores.sort_unstable();
        assert_eq!(stores, ["cache", "enrichments", "uploads", "vectors"], "{}", stage.name);
    }
    let told = format!("{spans:?}");
    ensure!(!deleted.is_empty() && deleted.iter().all(|course| !told.contains(&course.to_string())), "{told}");
    Ok(())
}

#[tokio::test]
async fn who_collects_no_traces_keeps_no_run_from_its_work() -> Result<()> {
    let world = World::create().await?;
    let installation = Installation::new(world.addresses(), &Settings::default()).await?;
    Campus::plan(CampusSize::default()).seed(&installation.stores).await?;
    installation.adopt_once().await?;
    let nowhere = format!("http://127.0.0.1:{}/v1/traces", sandbox::free_port()?);
    let run = installation.command(&["run"]).env("COURSE_GC_LOG_TRACES_URL", nowhere).output().await?;
    let said = String::from_utf8(run.stderr)?;
    assert_eq!(run.status.code(), Some(0), "{said}");
    ensure!(said.contains("WARN") || said.contains("ERROR"), "and it is told: {said}");
    Ok(())
}
