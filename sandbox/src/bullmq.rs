//! The real BullMQ, driven by a small Node program (`sandbox/bullmq/drive.mjs`).

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

use crate::program::program;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bullmq");

/// What the keys of the platform's queues begin with, before the first colon: BullMQ's default.
pub(crate) const QUEUE_PREFIX: &str = "bull";

/// How long all steps of one call may take.
const LIMIT: Duration = Duration::from_secs(120);

/// BullMQ of one major version, with the queues of a prefix in a Redis server.
#[derive(Debug, Clone)]
pub struct Bullmq {
    /// 5 or 6.
    pub major: u8,
    /// The server, with the database's number.
    pub url: String,
    /// What all keys of the queues begin with.
    pub prefix: String,
}

impl Bullmq {
    /// Does steps in their order, one answer each; the program describes them.
    ///
    /// # Errors
    ///
    /// When Node or BullMQ is not installed, or a step fails.
    pub async fn drive(&self, steps: Value) -> Result<Vec<Value>> {
        if !Path::new(FOLDER).join("node_modules").is_dir() {
            bail!("BullMQ is not installed in {FOLDER}: `make setup` installs what the sandbox needs");
        }
        let mut node = Command::new(program("node")?)
            .args(["drive.mjs", &self.major.to_string(), &self.url, &self.prefix])
            .current_dir(FOLDER)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("start node")?;
        let mut input = node.stdin.take().context("node has no standard input")?;
        input.write_all(steps.to_string().as_bytes()).await?;
        drop(input);
        let output = timeout(LIMIT, node.wait_with_output()).await.context("BullMQ did not come to an end")??;
        if !output.status.success() {
            bail!("BullMQ {}: {}", self.major, String::from_utf8_lossy(&output.stderr));
        }
        serde_json::from_slice(&output.stdout).context("BullMQ's answers")
    }
}
