//! Keys in a Redis server, found by templates.
//!
//! One SCAN pass looks for all templates at once, matched here; never KEYS. Memory does not grow with the keys: what is
//! live or nobody's is dropped as it passes, and of dead courses' keys 8 bytes each are kept during a pass, since SCAN
//! may return a key twice while the server resizes its table. (Two dead keys with one hash would count as one: a number
//! too small by one, nothing else. Live, unrecognised and unclaimed keys that come twice count twice.)
//!
//! A pass is complete or an error (S4): it stays on one connection, and at its end the server must be the process that
//! it was at its beginning (`run_id`), and still a primary. A cursor means nothing to another server.
//!
//! Deletes are UNLINKs of single keys in pipelines, so that each key's answer is known. None is ever sent again, and a
//! connection on which something failed is closed: what it has not sent yet must not be sent late.
//!
//! A node of a Redis Cluster is refused, since it holds only a part of the keys; a `Pass` is where several
//! nodes would be walked.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use redis::RedisResult;
use secrecy::SecretString;
use tokio::sync::mpsc;

use self::link::{Call, Kind, Lease, Link};
use self::pass::Pass;
use super::copies::{Copied, Copies, CopyId, Item, PutBack, Restoring};
use super::template::{Claim, Template, Templates};
use super::{Handle, Marker, Outcome, Removed, Store, StoreError, Targets};
use crate::domain::ids::{CourseId, IdType};
use crate::domain::inventory::{Amount, Census, SourceIndex, fingerprint};
use crate::errors::chain;
use crate::sweep::Condemned;

mod copy;
pub(in crate::stores) mod link;
pub(in crate::stores) mod marker;
pub(in crate::stores) mod pass;

/// How many keys one pipeline of a delete holds; freshness is asked before each.
const PIPELINE: usize = 100;
/// What a delete is called in errors.
const DELETE: &str = "delete keys";

static KIND: Kind = Kind {
    name: "redis",
    needs: "grant its user PING, INFO, SELECT, SCAN, UNLINK, DUMP, PTTL, GET, SET, EVAL, EVALSHA and SCRIPT, all of the \
            templates' keys, and course-gc:marker",
};

/// What a Redis store is built from.
#[derive(Debug)]
pub struct RedisSettings {
    /// The store's name in the configuration.
    pub name: String,
    /// `redis://user:password@host:port/db`, or `rediss://` for TLS.
    pub url: SecretString,
    /// The same server for a user who may RESTORE, if that is another.
    pub restore_url: Option<SecretString>,
    /// Its sources, in order.
    pub templates: Vec<Template>,
    /// The type of course ids.
    pub id_type: IdType,
    /// How many keys one SCAN call looks at; at least 1.
    pub scan_count: u32,
    /// The most keys in one batch.
    pub batch_limit: usize,
    /// How long to wait for a connection, and for the answer of each call.
    pub call_timeout: Duration,
}

/// A store of keys.
pub struct RedisStore {
    link: Link,
    /// The way for putting back, if it is another.
    restore_link: Option<Link>,
    sources: Vec<String>,
    templates: Templates,
    id_type: IdType,
    scan_count: u32,
    batch_limit: usize,
}

impl RedisStore {
    /// A store that connects when it is first used. Its sources are named by their templates' texts.
    ///
    /// # Errors
    /// If the URL is none.
    pub fn new(settings: RedisSettings) -> Result<Self, StoreError> {
        let RedisSettings { name, url, restore_url, templates, id_type, scan_count, batch_limit, call_timeout } =
            settings;
        Ok(Self {
            restore_link: restore_url.map(|url| Link::new(&KIND, name.clone(), &url, call_timeout)).transpose()?,
            link: Link::new(&KIND, name, &url, call_timeout)?,
            sources: templates.iter().map(|template| template.text().to_owned()).collect(),
            templates: Templates::new(templates, id_type),
            id_type,
            scan_count: scan_count.max(1),
            batch_limit: batch_limit.max(1),
        })
    }

    /// The source and course of a key, if it belongs to a target.
    fn wanted(&self, targets: &Targets, key: &[u8]) -> Option<(SourceIndex, CourseId)> {
        match self.templates.claim(key) {
            Claim::Owned(source, owner) if targets.contains(source, owner) => Some((source, owner)),
            Claim::Owned(..) | Claim::Unrecognised(_) | Claim::Unclaimed => None,
        }
    }

    /// Sends the batch pipeline by pipeline and adds the outcomes of what was sent.
    async fn unlink(&self, mut lease: Lease, batch: &Condemned, outcomes: &mut Vec<Outcome>) {
        for (n, handles) in batch.handles().chunks(PIPELINE).enumerate() {
            if !batch.is_fresh() {
                break;
            }
            let receipts = batch.safe().map(|safe| safe.receipts.iter().skip(n * PIPELINE).take(PIPELINE));
            let pipeline = match receipts {
                Some(receipts) => copy::unlink_copied(handles, receipts),
                None => unlink(handles),
            };
            lease.limit(batch.time_left());
            let call = lease.call();
            let answers: RedisResult<Vec<RedisResult<i64>>> = pipeline.query_async(lease.connection()).await;
            let sent = outcomes.len();
            match answers {
                Ok(answers) if answers.len() == handles.len() => {
                    outcomes.extend(answers.into_iter().map(|answer| outcome(&self.link, call, answer)));
                }
                Ok(answers) => {
                    let why = format_args!("{} answers to {} commands", answers.len(), handles.len());
                    let cause = self.link.unusable(call, why).to_string();
                    outcomes.extend(handles.iter().map(|_| Outcome::Failed(cause.clone())));
                }
                Err(error) => {
                    let cause = chain(&self.link.failed(call, error));
                    outcomes.extend(handles.iter().map(|_| Outcome::Failed(cause.clone())));
                }
            }
            tracing::debug!(
                target: "course_gc::moment",
                store = self.link.name(),
                moment = "deleting",
                handled = outcomes.len(),
                of = batch.handles().len(),
            );
            if outcomes[sent..].iter().any(|outcome| matches!(outcome, Outcome::Failed(_))) {
                return;
            }
        }
        self.link.give_back(lease);
    }
}

/// Deletes whatever the keys hold.
fn unlink(handles: &[Handle]) -> redis::Pipeline {
    let mut pipeline = redis::pipe();
    pipeline.ignore_errors();
    for handle in handles {
        pipeline.cmd("UNLINK").arg(&handle.key[..]);
    }
    pipeline
}

/// What the answer to one key's delete means.
fn outcome(link: &Link, call: Call, answer: RedisResult<i64>) -> Outcome {
    match answer {
        Ok(1) => Outcome::Deleted { resources: 1, bytes: None },
        Ok(0) => Outcome::Absent,
        Ok(copy::CHANGED) => Outcome::Partly { resources: 0, bytes: None, left: 1 },
        Ok(number) => {
            Outcome::Failed(link.unusable(call, format_args!("the delete of one key answered {number}")).to_string())
        }
        Err(error) => Outcome::Failed(chain(&link.failed(call, error))),
    }
}

#[async_trait]
impl Store for RedisStore {
    fn name(&self) -> &str {
        self.link.name()
    }

    fn kind(&self) -> &'static str {
        "redis"
    }

    fn sources(&self) -> &[String] {
        &self.sources
    }

    fn batch_limit(&self) -> usize {
        self.batch_limit
    }

    async fn identity(&self) -> Result<String, StoreError> {
        let mut lease = self.link.lease("identify the server").await?;
        let server = self.link.server(&mut lease).await?;
        self.link.give_back(lease);
        Ok(format!("redis {} at {}", server.version, self.link.address()))
    }

    async fn marker(&self) -> Result<Option<Marker>, StoreError> {
        marker::read(&self.link, marker::KEY).await
    }

    async fn move_marker(&self, from: Option<&Marker>, to: &Marker) -> Result<bool, StoreError> {
        marker::replace(&self.link, marker::KEY, from, to).await
    }

    async fn inventory(&self, census: &mut Census) -> Result<(), StoreError> {
        let mut seen = Seen::default();
        let mut pass = Pass::begin(&self.link, self.scan_count, "take inventory").await?;
        while let Some(keys) = pass.page().await? {
            for key in keys {
                match self.templates.claim(&key) {
                    Claim::Owned(source, owner) if census.is_live(owner) || seen.first_time(&key) => {
                        census.observe(source, owner, Amount::one(&key, None), || {
                            owner.others(self.id_type.mentions(&key))
                        });
                    }
                    Claim::Owned(..) => {}
                    Claim::Unrecognised(source) => census.unrecognised(source, &key, 1),
                    Claim::Unclaimed => census.unclaimed(&key),
                }
            }
        }
        Ok(())
    }

    async fn locate(&self, targets: &Targets, handles: mpsc::Sender<Handle>) -> Result<(), StoreError> {
        if targets.is_empty() {
            return Ok(());
        }
        let mut seen = Seen::default();
        let mut pass = Pass::begin(&self.link, self.scan_count, "locate keys").await?;
        while let Some(keys) = pass.page().await? {
            if handles.is_closed() {
                return Err(StoreError::Stopped);
            }
            for key in keys {
                if let Some((source, owner)) = self.wanted(targets, &key)
                    && seen.first_time(&key)
                {
                    let mentions = owner.others(self.id_type.mentions(&key));
                    let handle = Handle { source, owner, mentions, key: Bytes::from(key) };
                    handles.send(handle).await.map_err(|_| StoreError::Stopped)?;
                }
            }
        }
        Ok(())
    }

    async fn copy(&self, _: &CopyId, handles: &[Handle], copies: &mut dyn Copies) -> Result<Vec<Copied>, StoreError> {
        copy::copy(self, handles, copies).await
    }

    async fn put_back(&self, items: &[Item], restoring: Restoring) -> Vec<PutBack> {
        copy::put_back(self.restore_link.as_ref().unwrap_or(&self.link), items, restoring).await
    }

    async fn delete(&self, batch: &Condemned) -> Removed {
        let handles = batch.handles();
        let mut outcomes = Vec::with_capacity(handles.len());
        if batch.is_fresh() {
            match self.link.lease(DELETE).await {
                Ok(lease) => self.unlink(lease, batch, &mut outcomes).await,
                Err(error) => outcomes.extend(handles.iter().take(PIPELINE).map(|_| Outcome::Failed(chain(&error)))),
            }
        }
        outcomes.resize(handles.len(), Outcome::Unattempted);
        Removed { outcomes }
    }

    async fn remaining(&self, targets: &Targets) -> Result<Vec<(SourceIndex, CourseId, u64)>, StoreError> {
        if targets.is_empty() {
            return Ok(Vec::new());
        }
        let mut seen = Seen::default();
        let mut counts: BTreeMap<(SourceIndex, CourseId), u64> = BTreeMap::new();
        let mut pass = Pass::begin(&self.link, self.scan_count, "count what remains").await?;
        while let Some(keys) = pass.page().await? {
            for key in keys {
                if let Some(place) = self.wanted(targets, &key)
                    && seen.first_time(&key)
                {
                    *counts.entry(place).or_default() += 1;
                }
            }
        }
        Ok(counts.into_iter().map(|((source, course), count)| (source, course, count)).collect())
    }
}

/// Which keys a pass has met, by their hashes.
#[derive(Default)]
pub(in crate::stores) struct Seen(HashSet<u64>);

impl Seen {
    pub(in crate::stores) fn first_time(&mut self, key: &[u8]) -> bool {
        self.0.insert(fingerprint(key))
    }
}

#[cfg(test)]
mod tests;
