//! What lies in BullMQ's queues: each job with all that is its own, told from what is the queue's.
//!
//! A job is its hash, what lies beside it, and each of the queue's structures that names it, with the score that it has there.
//! Its lock is not looked at, since that passes by itself; nor is its place in a list.

use std::collections::BTreeMap;

use anyhow::Result;
use redis::{Pipeline, Value, aio::MultiplexedConnection};

use crate::{QUEUE_PREFIX, Resource, snapshot::digest};

/// The structures of a queue that name jobs, or schedulers.
const STRUCTURES: [&str; 10] = [
    "wait",
    "active",
    "paused",
    "prioritized",
    "delayed",
    "completed",
    "failed",
    "waiting-children",
    "stalled",
    "repeat",
];
/// What lies beside a job's hash and is a part of it.
const BESIDE: [&str; 5] = [":logs", ":dependencies", ":processed", ":failed", ":unsuccessful"];
const KEYS_AT_ONCE: usize = 1_000;

/// What the keys of queues hold.
#[derive(Default)]
pub(crate) struct Queues {
    /// Each job with a digest of all that is its own. One that a structure names and that has no hash is there as well.
    pub(crate) jobs: Vec<(Resource, u64)>,
    /// How many keys each queue has.
    pub(crate) keys: BTreeMap<String, u64>,
}

/// The queue whose key this is, and the rest of its name.
pub(crate) fn queue(key: &[u8]) -> Option<(&str, &str)> {
    std::str::from_utf8(key).ok()?.strip_prefix(QUEUE_PREFIX)?.strip_prefix(':')?.split_once(':')
}

/// Reads these keys of queues.
///
/// # Errors
///
/// When the server does not answer.
pub(crate) async fn read(redis: &mut MultiplexedConnection, keys: &[Vec<u8>]) -> Result<Queues> {
    let mut queues = Queues::default();
    let mut jobs: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for chunk in keys.chunks(KEYS_AT_ONCE) {
        let mut types = redis::pipe();
        chunk.iter().for_each(|key| _ = types.cmd("TYPE").arg(key));
        let types: Vec<String> = types.query_async(redis).await?;
        let mut contents = redis::pipe();
        chunk.iter().zip(&types).for_each(|(key, kind)| ask(&mut contents, kind, key));
        let contents: Vec<Value> = contents.query_async(redis).await?;
        for ((key, kind), content) in chunk.iter().zip(&types).zip(contents) {
            let Some((queue, name)) = queue(key) else { continue };
            *queues.keys.entry(queue.to_owned()).or_default() += 1;
            let mut part = |job: &str, what: String| jobs.entry((queue.to_owned(), plain(job))).or_default().push(what);
            let pairs = pairs(kind, content);
            if STRUCTURES.contains(&name) {
                // A scheduler is called there without what the name of its hash begins with.
                let prefix = if name == "repeat" { "repeat:" } else { "" };
                for (job, score) in pairs {
                    part(&format!("{prefix}{job}"), format!("in {name} {score}"));
                }
            } else if let Some((job, beside)) = beside(name) {
                part(job, format!("{beside} {pairs:?}"));
            } else if kind == "hash" && name != "meta" && !name.starts_with("metrics:") {
                part(name, format!("itself {pairs:?}"));
            }
        }
    }
    queues.jobs = jobs
        .into_iter()
        .map(|((queue, id), mut parts)| {
            parts.sort_unstable();
            (Resource::Job { queue, id }, digest(&parts))
        })
        .collect();
    Ok(queues)
}

fn ask(pipeline: &mut Pipeline, kind: &str, key: &[u8]) {
    match kind {
        "hash" => pipeline.cmd("HGETALL").arg(key),
        "list" => pipeline.cmd("LRANGE").arg(key).arg(0).arg(-1),
        "set" => pipeline.cmd("SMEMBERS").arg(key),
        "zset" => pipeline.cmd("ZRANGE").arg(key).arg(0).arg(-1).arg("WITHSCORES"),
        // Counters, locks and events are the queue's, or pass.
        _ => pipeline.cmd("EXISTS").arg(key),
    };
}

/// Fields with values, members with scores, or elements; in order, except for a list's own.
fn pairs(kind: &str, content: Value) -> Vec<(String, String)> {
    let text = |value: Value| match value {
        Value::BulkString(bytes) => bytes.escape_ascii().to_string(),
        other => format!("{other:?}"),
    };
    let texts: Vec<String> = match content {
        Value::Array(values) | Value::Set(values) => values.into_iter().map(text).collect(),
        Value::Map(fields) => fields.into_iter().flat_map(|(name, value)| [text(name), text(value)]).collect(),
        _ => return Vec::new(),
    };
    let mut pairs: Vec<(String, String)> = match kind {
        "hash" | "zset" => texts.as_chunks::<2>().0.iter().map(|[one, two]| (one.clone(), two.clone())).collect(),
        _ => texts.into_iter().map(|element| (element, String::new())).collect(),
    };
    if kind != "list" {
        pairs.sort_unstable();
    }
    pairs
}

/// The job that something lies beside, and what it is.
fn beside(name: &str) -> Option<(&str, &'static str)> {
    BESIDE.into_iter().find_map(|beside| Some((name.strip_suffix(beside)?, beside)))
}

/// A job's id. The next job of a scheduler is called by the time at which it is due: here it is `repeat:{scheduler}:next`.
fn plain(id: &str) -> String {
    match id.rsplit_once(':') {
        Some((scheduler, time)) if scheduler.starts_with("repeat:") && time.parse::<u64>().is_ok() => {
            format!("{scheduler}:next")
        }
        _ => id.to_owned(),
    }
}
