//! Jobs in BullMQ queues, of 5.x and 6.x.
//!
//! A job is not a key: it is a hash with up to six keys beside it, an id in one of the queue's structures, perhaps a member of a
//! flow across queues, perhaps the next one of a scheduler. It is removed by one script a job that has the effect of BullMQ's
//! own `job.remove()` without its children, written here, since a delete that only takes keys leaves a parent waiting for ever
//! and a deduplication that swallows all later jobs.
//!
//! - One SCAN pass sees every job's hash, those that no structure names any more as well; whose a job is, its data and its id
//!   say ([`owner`]). Memory is the pages, and 8 bytes for each job of a dead course.
//! - What is being worked on (locked, or in the list `active`), and the next job of a scheduler that is not the same
//!   course's, holds its course in the whole store. The removal asks again, job by job, in the script.
//! - A flow goes as a whole or not at all, children first. One that reaches into a queue which is not the store's stays.
//! - What goes must still be as it was looked at: the script compares a digest of all that changes when a job does.
//!
//! In a Redis Cluster the prefix must carry a hash tag, as BullMQ wants it there: then all its queues lie in one slot, on one
//! master, and the store works on that one. A flow that reaches into another slot stays.
//!
//! Rejected: reading the queue's structures instead of SCAN (it misses what no structure names), and one script a flow (it
//! would block the server for as long as the flow is large).

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use self::flow::Together;
use self::names::Queues;
use self::owner::{Named, Reading};
use self::scan::{Job, Look, Scan};
use super::copies::{Copied, Copies, CopyId, Item, PutBack, Restoring};
use super::redis::ServerSettings;
use super::redis::link::{Kind, Lease};
use super::redis::nodes::Nodes;
use super::redis::{Seen, doctor, marker, slots};
use super::{Handle, Marker, Outcome, Removed, Store, StoreError, Targets};
use crate::domain::findings::Finding;
use crate::domain::ids::CourseId;
use crate::domain::inventory::{Amount, Census, SourceIndex};
use crate::errors::chain;
use crate::pace::Pace;
use crate::sweep::Condemned;

mod copy;
mod flow;
mod names;
pub mod owner;
mod remove;
mod scan;
mod script;

static KIND: Kind = Kind {
    name: "bullmq",
    needs: "grant its user PING, INFO, SELECT, SCAN, SCRIPT, EVAL, EVALSHA and reading and writing, in a cluster CLUSTER, on all keys \
            of the prefix and on course-gc:marker:bullmq:*",
};

/// What a BullMQ store is built from.
#[derive(Debug)]
pub struct BullmqSettings {
    /// The store's name in the configuration.
    pub name: String,
    /// Where its server is.
    pub server: ServerSettings,
    /// What all keys begin with, before the first colon; `{bull}` with a hash tag.
    pub prefix: String,
    /// Its sources, in order: the queues' names, with `*` for any text.
    pub queues: Vec<String>,
    /// Where in a job the course's id is.
    pub reading: Reading,
    /// How many keys one SCAN call looks at; at least 1.
    pub scan_count: u32,
    /// The most jobs in one batch.
    pub batch_limit: usize,
}

/// A store of jobs.
pub struct BullmqStore {
    pace: Pace,
    nodes: Nodes,
    /// The way for putting back, if it is another.
    restore_nodes: Option<Nodes>,
    sources: Vec<String>,
    queues: Queues,
    reading: Reading,
    marker_key: String,
    scan_count: u32,
    batch_limit: usize,
    /// How many elements one call of a script may look through.
    reach: u32,
}

impl BullmqStore {
    /// A store that connects when it is first used. Its sources are named by their patterns.
    ///
    /// # Errors
    /// If the URL is none, or the certificates of its authority cannot be read.
    pub fn new(settings: BullmqSettings) -> Result<Self, StoreError> {
        let BullmqSettings { name, server, prefix, queues, reading, scan_count, batch_limit } = settings;
        let (nodes, restore_nodes) = Nodes::new(&KIND, &name, &server)?;
        Ok(Self {
            pace: Pace::default(),
            nodes,
            restore_nodes,
            marker_key: format!("{}:bullmq:{prefix}", marker::KEY),
            sources: queues.clone(),
            queues: Queues::new(&prefix, queues),
            reading,
            scan_count: scan_count.max(1),
            batch_limit: batch_limit.max(1),
            reach: script::LIMIT,
        })
    }

    /// The same store, called at this pace.
    #[must_use]
    pub fn paced(self, pace: Pace) -> Self {
        let restore_nodes = self.restore_nodes.map(|nodes| nodes.paced(&pace));
        Self { nodes: self.nodes.paced(&pace), restore_nodes, pace, ..self }
    }

    /// A connection to the server that has the queues.
    async fn lease(&self, doing: &'static str) -> Result<Lease, StoreError> {
        self.lease_of(&self.nodes, doing).await
    }

    async fn lease_of(&self, nodes: &Nodes, doing: &'static str) -> Result<Lease, StoreError> {
        let servers = nodes.servers(doing).await?;
        let (in_cluster, prefix) = (servers.slots().is_some(), self.queues.prefix());
        let lease = servers.of(prefix).await?;
        if in_cluster && slots::tag(prefix).is_none() {
            let prefix = String::from_utf8_lossy(prefix.strip_suffix(b":").unwrap_or(prefix));
            return Err(lease.call().unusable(format_args!(
                "it is a cluster, and queues of the prefix `{prefix}` lie in many of its slots; BullMQ works there with a \
                 prefix that has a hash tag, as in {{{prefix}}}, and so does this store"
            )));
        }
        Ok(lease)
    }

    /// Whom a job or scheduler of this key and these data names.
    fn named(&self, key: &[u8], data: Option<&[u8]>) -> Option<Named> {
        let base = script::base(&self.queues, key)?;
        self.reading.read(&key[base.len()..], data)
    }

    /// Counts jobs of dead courses, with all that hangs together with them.
    async fn judge(
        &self,
        scan: &mut Scan<'_>,
        jobs: &[Job],
        seen: &mut Seen,
        census: &mut Census,
    ) -> Result<(), StoreError> {
        let keys: Vec<&[u8]> = jobs.iter().map(|job| job.key.as_slice()).collect();
        for together in self.together(scan.lease(), &keys, seen).await? {
            let everybody = together.everybody();
            for member in together.members.iter().filter(|member| member.is_new) {
                let Some(owner) = member.named.as_ref().map(|named| named.owner) else { continue };
                // Who is live is counted when the pass comes to it.
                if census.is_live(owner) {
                    continue;
                }
                match &everybody {
                    Some(all) => {
                        census.observe(member.source, owner, Amount::one(&member.key, None), || others(all, owner))
                    }
                    None => census.entangled(member.source, owner, 1),
                }
            }
        }
        Ok(())
    }

    /// The targets' courses of which something is being worked on.
    async fn held(&self, targets: &Targets) -> Result<BTreeSet<CourseId>, StoreError> {
        let sources = 0..self.sources.len();
        let is_target = |course: &CourseId| sources.clone().any(|at| targets.contains(SourceIndex(at), *course));
        let mut held = BTreeSet::new();
        let mut scan = Scan::begin(self, Look::Working, "see what is being worked on").await?;
        while let Some(page) = scan.page().await? {
            held.extend(page.working.into_iter().filter(|course| is_target(course)));
        }
        Ok(held)
    }
}

/// The handles of those that hang together; none if one of them has to stay.
fn handles(together: &Together, targets: &Targets, held: &BTreeSet<CourseId>) -> Option<Vec<Handle>> {
    let everybody = together.everybody()?;
    let handle = |member: &flow::Member| {
        let owner = member.named.as_ref()?.owner;
        let may_go = targets.contains(member.source, owner) && !held.contains(&owner);
        let key = Bytes::copy_from_slice(&member.key);
        may_go.then(|| Handle { source: member.source, owner, mentions: others(&everybody, owner), key })
    };
    together.members.iter().map(handle).collect()
}

fn others(all: &BTreeSet<CourseId>, owner: CourseId) -> Vec<CourseId> {
    all.iter().copied().filter(|id| *id != owner).collect()
}

#[async_trait]
impl Store for BullmqStore {
    fn name(&self) -> &str {
        self.nodes.name()
    }

    fn kind(&self) -> &'static str {
        "bullmq"
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
        let prefix = String::from_utf8_lossy(self.queues.prefix());
        Ok(format!("{}, prefix {prefix}", self.nodes.identity().await?))
    }

    async fn marker(&self) -> Result<Option<Marker>, StoreError> {
        marker::read(&self.nodes, &self.marker_key).await
    }

    async fn move_marker(&self, from: Option<&Marker>, to: &Marker) -> Result<bool, StoreError> {
        marker::replace(&self.nodes, &self.marker_key, from, to).await
    }

    async fn inventory(&self, census: &mut Census) -> Result<(), StoreError> {
        let mut seen = Seen::default();
        let mut scan = Scan::begin(self, Look::All, "take inventory").await?;
        while let Some(page) = scan.page().await? {
            page.unclaimed.iter().for_each(|key| census.unclaimed(key));
            page.unrecognised.iter().for_each(|(source, key)| census.unrecognised(*source, key, 1));
            page.working.into_iter().for_each(|course| census.locked(course));
            let (live, dead): (Vec<Job>, Vec<Job>) =
                page.jobs.into_iter().partition(|job| census.is_live(job.named.owner));
            for job in live {
                census.observe(job.source, job.named.owner, Amount::one(&job.key, None), Vec::new);
            }
            self.judge(&mut scan, &dead, &mut seen, census).await?;
        }
        Ok(())
    }

    async fn locate(&self, targets: &Targets, handles: mpsc::Sender<Handle>) -> Result<(), StoreError> {
        if targets.is_empty() {
            return Ok(());
        }
        let held = self.held(targets).await?;
        let mut seen = Seen::default();
        let mut scan = Scan::begin(self, Look::All, "locate jobs").await?;
        while let Some(page) = scan.page().await? {
            if handles.is_closed() {
                return Err(StoreError::Stopped);
            }
            let wanted = page.jobs.iter().filter(|job| targets.contains(job.source, job.named.owner));
            let keys: Vec<&[u8]> = wanted.map(|job| job.key.as_slice()).collect();
            for together in self.together(scan.lease(), &keys, &mut seen).await? {
                for handle in self::handles(&together, targets, &held).into_iter().flatten() {
                    handles.send(handle).await.map_err(|_| StoreError::Stopped)?;
                }
            }
        }
        Ok(())
    }

    async fn copy(&self, _: &CopyId, handles: &[Handle], copies: &mut dyn Copies) -> Result<Vec<Copied>, StoreError> {
        self.copy_jobs(handles, copies).await
    }

    async fn put_back(&self, items: &[Item], restoring: Restoring) -> Vec<PutBack> {
        self.put_jobs_back(items, restoring).await
    }

    async fn delete(&self, batch: &Condemned) -> Removed {
        let handles = batch.handles();
        let mut outcomes = Vec::with_capacity(handles.len());
        if batch.is_fresh() {
            match self.lease(remove::DELETE).await {
                Ok(lease) => self.remove(lease, batch, &mut outcomes).await,
                Err(error) => outcomes.push(Outcome::Failed(chain(&error))),
            }
        }
        outcomes.resize(handles.len(), Outcome::Unattempted);
        Removed { outcomes }
    }

    async fn examine(&self) -> Vec<Finding> {
        let prefix = self.queues.prefix();
        let keys: Vec<Vec<u8>> =
            self.sources.iter().map(|queue| [prefix, &doctor::example(queue), b":1"].concat()).collect();
        let wanted = doctor::Wanted {
            keys: &keys,
            commands: &["HGET {} data", "DUMP {}", "LREM {} 1 1", "ZREM {} 1", "UNLINK {}", "EVALSHA 0 1 {}"],
            marker: &self.marker_key,
            evicts: doctor::Evicts::Nothing,
        };
        doctor::examine((&self.nodes, self.restore_nodes.as_ref()), &wanted).await
    }

    async fn remaining(&self, targets: &Targets) -> Result<Vec<(SourceIndex, CourseId, u64)>, StoreError> {
        if targets.is_empty() {
            return Ok(Vec::new());
        }
        let mut seen = Seen::default();
        let mut counts: BTreeMap<(SourceIndex, CourseId), u64> = BTreeMap::new();
        let mut scan = Scan::begin(self, Look::All, "count what remains").await?;
        while let Some(page) = scan.page().await? {
            for job in page.jobs {
                if targets.contains(job.source, job.named.owner) && seen.first_time(&job.key) {
                    *counts.entry((job.source, job.named.owner)).or_default() += 1;
                }
            }
        }
        Ok(counts.into_iter().map(|((source, course), count)| (source, course, count)).collect())
    }
}

#[cfg(test)]
mod tests;
