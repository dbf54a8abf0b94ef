//! Keys in a Redis server, found by templates.
//!
//! One SCAN pass looks for all templates at once, matched here; never KEYS. Memory does not grow with the keys: what is
//! live or nobody's is dropped as it passes, and of dead courses' keys 8 bytes each are kept during a pass, since SCAN
//! may return a key twice while the server resizes its table. (Two dead keys with one hash would count as one: a number
//! too small by one, nothing else. Live, unrecognised and unclaimed keys that come twice count twice.)
//!
//! A pass is complete or an error (S4): it stays on one connection a server, and at its end each server must be the process
//! that it was at its beginning (`run_id`), and still a primary. A cursor means nothing to another server. Of a Redis Cluster all
//! masters are walked at once: each of them must see every slot with the same masters at the beginning and at the end, and none
//! of its own on its way. With sentinels they must still name the server that was walked.
//!
//! Deletes are UNLINKs of single keys in pipelines, so that each key's answer is known. None is ever sent again, whatever
//! the answer (a slot that has moved is one), and a connection on which something failed is closed: what it has not sent yet
//! must not be sent late.

use std::collections::{BTreeMap, HashSet};

use async_trait::async_trait;
use bytes::Bytes;
use redis::RedisResult;
use tokio::sync::mpsc;

pub use self::link::ServerSettings;
use self::link::{Call, Kind};
use self::nodes::{Nodes, Servers};
use self::pass::{Pass, Through};
use self::sizes::Sizes;
use super::copies::{Copied, Copies, CopyId, Item, PutBack, Restoring};
use super::template::{Claim, Template, Templates};
use super::{Handle, Marker, Outcome, Removed, Store, StoreError, Targets};
use crate::domain::findings::Finding;
use crate::domain::ids::{CourseId, IdType};
use crate::domain::inventory::{Amount, Census, SourceIndex, fingerprint};
use crate::errors::chain;
use crate::pace::Pace;
use crate::sweep::Condemned;

mod copy;
pub(in crate::stores) mod doctor;
pub(in crate::stores) mod link;
pub(in crate::stores) mod marker;
pub(in crate::stores) mod nodes;
pub(in crate::stores) mod pass;
mod sizes;
pub(in crate::stores) mod slots;

/// How many keys one pipeline of a delete holds; freshness is asked before each.
const PIPELINE: usize = 100;
/// What a delete is called in errors.
const DELETE: &str = "delete keys";

static KIND: Kind = Kind {
    name: "redis",
    needs: "grant its user PING, INFO, SELECT, SCAN, UNLINK, DUMP, PTTL, GET, SET, EVAL, EVALSHA and SCRIPT, in a cluster \
            CLUSTER, all of the templates' keys, and course-gc:marker; MEMORY USAGE, too, if sizes are to be known",
};

/// What a Redis store is built from.
#[derive(Debug)]
pub struct RedisSettings {
    /// The store's name in the configuration.
    pub name: String,
    /// Where its server is.
    pub server: ServerSettings,
    /// Its sources, in order.
    pub templates: Vec<Template>,
    /// The type of course ids.
    pub id_type: IdType,
    /// How many keys one SCAN call looks at; at least 1.
    pub scan_count: u32,
    /// The most keys in one batch.
    pub batch_limit: usize,
}

/// A store of keys.
pub struct RedisStore {
    pace: Pace,
    nodes: Nodes,
    /// The way for putting back, if it is another.
    restore_nodes: Option<Nodes>,
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
    /// If the URL is none, or the certificates of its authority cannot be read.
    pub fn new(settings: RedisSettings) -> Result<Self, StoreError> {
        let RedisSettings { name, server, templates, id_type, scan_count, batch_limit } = settings;
        let (nodes, restore_nodes) = Nodes::new(&KIND, &name, &server)?;
        Ok(Self {
            pace: Pace::default(),
            nodes,
            restore_nodes,
            sources: templates.iter().map(|template| template.text().to_owned()).collect(),
            templates: Templates::new(templates, id_type),
            id_type,
            scan_count: scan_count.max(1),
            batch_limit: batch_limit.max(1),
        })
    }

    /// The same store, called at this pace.
    #[must_use]
    pub fn paced(self, pace: Pace) -> Self {
        let restore_nodes = self.restore_nodes.map(|nodes| nodes.paced(&pace));
        Self { nodes: self.nodes.paced(&pace), restore_nodes, pace, ..self }
    }

    /// The source and course of a key, if it belongs to a target.
    fn wanted(&self, targets: &Targets, key: &[u8]) -> Option<(SourceIndex, CourseId)> {
        match self.templates.claim(key) {
            Claim::Owned(source, owner) if targets.contains(source, owner) => Some((source, owner)),
            Claim::Owned(..) | Claim::Unrecognised(_) | Claim::Unclaimed => None,
        }
    }

    /// Sends the batch pipeline by pipeline and notes the outcomes of what was sent.
    async fn unlink(&self, mut servers: Servers, batch: &Condemned, outcomes: &mut [Outcome]) {
        let time_left = || batch.is_fresh().then(|| batch.time_left());
        let all = batch.handles().len();
        for (n, (handles, outcomes)) in batch.handles().chunks(PIPELINE).zip(outcomes.chunks_mut(PIPELINE)).enumerate()
        {
            let receipt = |at: usize| batch.safe().and_then(|safe| safe.receipts.get(n * PIPELINE + at));
            let calls = |places: &[usize]| match batch.safe() {
                Some(_) => copy::unlink_copied(places.iter().filter_map(|at| Some((handles.get(*at)?, receipt(*at)?)))),
                None => unlink_any(places.iter().filter_map(|at| handles.get(*at))),
            };
            let parts = servers.send(handles.iter().map(|handle| &handle.key[..]), time_left, calls).await;
            let unsent = parts.iter().map(|part| part.places.len()).sum::<usize>() < handles.len();
            let read = |call: &Call, answer| outcome(call, answer, batch);
            parts.into_iter().for_each(|part| part.write(outcomes, read, Outcome::Failed));
            tracing::debug!(
                target: "course_gc::moment",
                store = self.nodes.name(),
                moment = "deleting",
                handled = n * PIPELINE + handles.len(),
                of = all,
            );
            if unsent || outcomes.iter().any(|outcome| matches!(outcome, Outcome::Failed(_))) {
                return;
            }
        }
        servers.give_back();
    }
}

/// Deletes whatever the keys hold.
fn unlink_any<'a>(handles: impl Iterator<Item = &'a Handle>) -> redis::Pipeline {
    let mut pipeline = redis::pipe();
    pipeline.ignore_errors();
    for handle in handles {
        pipeline.cmd("UNLINK").arg(&handle.key[..]);
    }
    pipeline
}

/// What the answer to one key's delete means.
fn outcome(call: &Call, answer: RedisResult<i64>, batch: &Condemned) -> Outcome {
    match answer {
        Ok(length @ 1..) if batch.safe().is_some() => {
            Outcome::Deleted { resources: 1, bytes: u64::try_from(length).ok() }
        }
        Ok(1) => Outcome::Deleted { resources: 1, bytes: None },
        Ok(0) => Outcome::Absent,
        Ok(copy::CHANGED) => Outcome::Partly { resources: 0, bytes: None, left: 1 },
        Ok(number) => {
            Outcome::Failed(call.unusable(format_args!("the delete of one key answered {number}")).to_string())
        }
        Err(error) => Outcome::Failed(chain(&call.failed(error))),
    }
}

#[async_trait]
impl Store for RedisStore {
    fn name(&self) -> &str {
        self.nodes.name()
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

    fn pace(&self) -> Option<&Pace> {
        Some(&self.pace)
    }

    async fn identity(&self) -> Result<String, StoreError> {
        self.nodes.identity().await
    }

    async fn marker(&self) -> Result<Option<Marker>, StoreError> {
        marker::read(&self.nodes, marker::KEY).await
    }

    async fn move_marker(&self, from: Option<&Marker>, to: &Marker) -> Result<bool, StoreError> {
        marker::replace(&self.nodes, marker::KEY, from, to).await
    }

    async fn inventory(&self, census: &mut Census) -> Result<(), StoreError> {
        let mut seen = Seen::default();
        let mut sizes = Sizes::default();
        let mut pass = Pass::begin(&self.nodes, Through::Everything, self.scan_count, "take inventory").await?;
        while let Some(keys) = pass.page().await? {
            for key in keys {
                match self.templates.claim(&key) {
                    Claim::Owned(source, owner) if census.pass_by(source, owner, 1) => {}
                    Claim::Owned(source, owner) if seen.first_time(&key) => {
                        sizes.offer(source, &key);
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
        sizes.measure(&self.nodes, census).await;
        Ok(())
    }

    async fn locate(&self, targets: &Targets, handles: mpsc::Sender<Handle>) -> Result<(), StoreError> {
        if targets.is_empty() {
            return Ok(());
        }
        let mut seen = Seen::default();
        let mut pass = Pass::begin(&self.nodes, Through::Everything, self.scan_count, "locate keys").await?;
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
        copy::put_back(self.restore_nodes.as_ref().unwrap_or(&self.nodes), items, restoring).await
    }

    async fn delete(&self, batch: &Condemned) -> Removed {
        let handles = batch.handles();
        let mut outcomes = vec![Outcome::Unattempted; handles.len()];
        if batch.is_fresh() {
            match self.nodes.servers(DELETE).await {
                Ok(servers) => self.unlink(servers, batch, &mut outcomes).await,
                Err(error) => outcomes.iter_mut().take(PIPELINE).for_each(|it| *it = Outcome::Failed(chain(&error))),
            }
        }
        Removed { outcomes }
    }

    async fn examine(&self) -> Vec<Finding> {
        let keys: Vec<Vec<u8>> = self.sources.iter().map(|template| doctor::example(template)).collect();
        let wanted = doctor::Wanted {
            keys: &keys,
            commands: &["UNLINK {}", "DUMP {}", "PTTL {}", "EVALSHA 0 1 {}"],
            marker: marker::KEY,
            evicts: doctor::Evicts::WhatExpires,
        };
        doctor::examine((&self.nodes, self.restore_nodes.as_ref()), &wanted).await
    }

    async fn remaining(&self, targets: &Targets) -> Result<Vec<(SourceIndex, CourseId, u64)>, StoreError> {
        if targets.is_empty() {
            return Ok(Vec::new());
        }
        let mut seen = Seen::default();
        let mut counts: BTreeMap<(SourceIndex, CourseId), u64> = BTreeMap::new();
        let mut pass = Pass::begin(&self.nodes, Through::Everything, self.scan_count, "count what remains").await?;
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
