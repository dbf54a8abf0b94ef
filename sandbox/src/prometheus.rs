//! Prometheus: a server that scrapes what it is told to, with rules.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    net::SocketAddr,
    ops::Deref,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    program::program,
    server::{Kind, Server},
};

static KIND: Kind = Kind {
    name: "prometheus",
    ready: "Server is ready to receive web requests.",
    port_taken: "address already in use",
    stop: "TERM",
    last: "KILL",
};

const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// What it does.
#[derive(Clone, Debug)]
pub struct Watching {
    /// How often it scrapes and evaluates its rules, as Prometheus writes it.
    pub interval: &'static str,
    /// The rules, as a rule file has them.
    pub rules: String,
}

/// A Prometheus that scrapes no one at first. Gone when the last clone of its handle is.
#[derive(Clone)]
pub struct Prometheus {
    server: Server,
}

/// A series' labels, and its value.
pub type Sample = (BTreeMap<String, String>, f64);

impl Prometheus {
    /// Starts a server.
    ///
    /// # Errors
    ///
    /// When Prometheus is not installed, its rules are wrong, or it does not start; the message ends with its log.
    pub async fn start(watching: &Watching) -> Result<Self> {
        let Watching { interval, rules } = watching.clone();
        let prepare = move |folder: &Path| {
            let targets = targets_file(folder);
            let config = json!({
                "global": { "scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval },
                "rule_files": [folder.join("rules.yaml")],
                "scrape_configs": [{ "job_name": "course-gc", "file_sd_configs": [{ "files": [targets], "refresh_interval": "1s" }] }],
            });
            std::fs::write(folder.join("rules.yaml"), &rules)?;
            std::fs::write(targets, "[]")?;
            // JSON is YAML.
            Ok(std::fs::write(folder.join("prometheus.yaml"), config.to_string())?)
        };
        Ok(Self { server: Server::start(&KIND, prepare, command).await? })
    }

    /// From now on it scrapes these, each under the name of a job.
    ///
    /// # Errors
    ///
    /// When they cannot be written down.
    pub fn scrape(&self, targets: &[(&str, SocketAddr)]) -> Result<()> {
        let all: Vec<Value> = targets
            .iter()
            .map(|(job, address)| json!({ "targets": [address.to_string()], "labels": { "job": job } }))
            .collect();
        // It must never read half of it.
        let new = self.server.folder().join("targets.new");
        std::fs::write(&new, Value::from(all).to_string())?;
        Ok(std::fs::rename(new, targets_file(self.server.folder()))?)
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.server.port())
    }

    /// What it answers to a query about now: an instant vector.
    ///
    /// # Errors
    ///
    /// When it does not answer, or refuses the query.
    pub async fn query(&self, query: &str) -> Result<Vec<Sample>> {
        #[derive(Deserialize)]
        struct Series {
            metric: BTreeMap<String, String>,
            value: (f64, String),
        }
        let encoded: String = url::form_urlencoded::byte_serialize(query.as_bytes()).collect();
        let answer = self.get(&format!("/api/v1/query?query={encoded}")).await?;
        ensure!(answer["data"]["resultType"] == "vector", "{query} is no vector: {answer}");
        let series: Vec<Series> = serde_json::from_value(answer["data"]["result"].clone())?;
        series.into_iter().map(|Series { metric, value }| Ok((metric, value.1.parse()?))).collect()
    }

    /// The alerts that are pending or fire, each with its job and state.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub async fn alerts(&self) -> Result<Vec<(String, String, String)>> {
        let answer = self.get("/api/v1/alerts").await?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let alerts = answer["data"]["alerts"].as_array().context("no list of alerts")?;
        let alert = |it: &Value| (text(&it["labels"]["alertname"]), text(&it["labels"]["job"]), text(&it["state"]));
        Ok(alerts.iter().map(alert).collect())
    }

    async fn get(&self, path: &str) -> Result<Value> {
        let asked = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.server.port())).await?;
            // Of HTTP 1.0, so that the answer comes in one piece.
            stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            let (_, body) = text.split_once("\r\n\r\n").context("no answer")?;
            let answer: Value = serde_json::from_str(body).with_context(|| body.to_owned())?;
            ensure!(answer["status"] == "success", "{path}: {answer}");
            Ok(answer)
        };
        timeout(ANSWER_WITHIN, asked).await.context("Prometheus does not answer")?
    }
}

impl Deref for Prometheus {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

fn targets_file(folder: &Path) -> PathBuf {
    folder.join("targets.json")
}

fn command(folder: &Path, port: u16) -> Result<Vec<OsString>> {
    let flag = |name: &str, value: OsString| {
        let mut flag = OsString::from(format!("--{name}="));
        flag.push(value);
        flag
    };
    Ok(vec![
        program("prometheus")?.into(),
        flag("config.file", folder.join("prometheus.yaml").into()),
        flag("storage.tsdb.path", folder.join("data").into()),
        flag("web.listen-address", format!("127.0.0.1:{port}").into()),
    ])
}
