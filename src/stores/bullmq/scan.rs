//! One pass over all keys under the prefix: the jobs and schedulers with whom they name, and whose jobs are being worked on.

use bytes::Bytes;
use redis::RedisResult;

use super::BullmqStore;
use super::names::{Key, Queue};
use super::owner::Named;
use super::script::PIPELINE;
use crate::domain::ids::CourseId;
use crate::domain::inventory::SourceIndex;
use crate::stores::StoreError;
use crate::stores::redis::link::Lease;
use crate::stores::redis::pass::{Pass, Through};

/// How many ids of a list, or of a scheduler's set, one call reads.
const PAGE: isize = 1000;

/// What a pass is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Everything.
    All,
    /// Only whose jobs are being worked on: it reads no other job's data.
    Working,
}

/// A job, or a scheduler, of somebody.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) key: Vec<u8>,
    pub(super) source: SourceIndex,
    pub(super) named: Named,
}

/// What a step of the pass found.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) jobs: Vec<Job>,
    /// Of nobody that can be told.
    pub(super) unrecognised: Vec<(SourceIndex, Vec<u8>)>,
    pub(super) unclaimed: Vec<Vec<u8>>,
    /// Whose jobs are being worked on, or are the next ones of schedulers that are not theirs.
    pub(super) working: Vec<CourseId>,
}

/// A pass, complete only when [`Scan::page`] has returned `None`.
pub(super) struct Scan<'a> {
    store: &'a BullmqStore,
    pass: Pass<'a>,
    /// Reads what the keys hold; the pass has a connection of its own.
    lease: Lease,
    look: Look,
}

impl<'a> Scan<'a> {
    /// # Errors
    /// If the server cannot be reached, or is not one with all keys.
    pub(super) async fn begin(store: &'a BullmqStore, look: Look, doing: &'static str) -> Result<Self, StoreError> {
        let lease = store.lease(doing).await?;
        let slot = Through::SlotOf(store.queues.prefix());
        let pass = Pass::begin(&store.nodes, slot, store.scan_count, doing).await?;
        Ok(Self { store, pass, lease, look })
    }

    /// The connection that reads what keys hold.
    pub(super) fn lease(&mut self) -> &mut Lease {
        &mut self.lease
    }

    /// The next step, which may find nothing.
    ///
    /// # Errors
    /// If a call fails.
    pub(super) async fn page(&mut self) -> Result<Option<Page>, StoreError> {
        let Some(keys) = self.pass.page().await? else { return Ok(None) };
        let mut page = Page::default();
        let mut jobs = Vec::new();
        for key in &keys {
            match self.store.queues.read(key) {
                Key::Job(queue, _) => jobs.push((queue.source, key.clone())),
                Key::Unclaimed => page.unclaimed.push(key.clone()),
                Key::Lock(queue, id) => self.worked_on(vec![[queue.base, id].concat()], &mut page).await?,
                Key::Active(queue) => self.active(queue, key, &mut page).await?,
                Key::Schedulers(queue) => self.scheduled(queue, key, &mut page).await?,
                Key::Part | Key::Foreign => {}
            }
        }
        if self.look == Look::Working {
            return Ok(Some(page));
        }
        for jobs in jobs.chunks(PIPELINE) {
            let keys: Vec<&[u8]> = jobs.iter().map(|(_, key)| &key[..]).collect();
            let hashes = self.hashes(&keys).await?;
            for ((source, key), hash) in jobs.iter().zip(hashes) {
                let Some(data) = hash else { continue };
                match self.store.named(key, data.as_deref()) {
                    Some(named) => page.jobs.push(Job { key: key.clone(), source: *source, named }),
                    None => page.unrecognised.push((*source, key.clone())),
                }
            }
        }
        Ok(Some(page))
    }

    /// The data of these hashes, if they have any; `None` for what is no hash, or gone.
    async fn hashes(&mut self, keys: &[&[u8]]) -> Result<Vec<Option<Option<Bytes>>>, StoreError> {
        let mut pipeline = redis::pipe();
        pipeline.ignore_errors();
        for key in keys {
            pipeline.cmd("HLEN").arg(*key).cmd("HGET").arg(*key).arg("data");
        }
        let turn = self.lease.turn().await;
        let answers: RedisResult<Vec<RedisResult<redis::Value>>> = pipeline.query_async(self.lease.connection()).await;
        turn.end();
        let answers = answers.map_err(|error| self.lease.call().failed(error))?;
        let mut hashes = Vec::with_capacity(keys.len());
        for pair in answers.chunks(2) {
            hashes.push(match pair {
                [Ok(redis::Value::Int(fields)), Ok(data)] => {
                    let data = match data {
                        redis::Value::BulkString(data) => Some(Bytes::copy_from_slice(data)),
                        _ => None,
                    };
                    (*fields > 0).then_some(data)
                }
                [Err(error), _] | [_, Err(error)] if error.code() != Some("WRONGTYPE") => {
                    return Err(self.lease.call().failed(error.clone()));
                }
                _ => None,
            });
        }
        if hashes.len() != keys.len() {
            let why = format_args!("{} answers about {} jobs", hashes.len(), keys.len());
            return Err(self.lease.call().unusable(why));
        }
        Ok(hashes)
    }

    /// Adds whose these jobs are.
    async fn worked_on(&mut self, keys: Vec<Vec<u8>>, page: &mut Page) -> Result<(), StoreError> {
        for keys in keys.chunks(PIPELINE) {
            let names: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
            for (key, hash) in keys.iter().zip(self.hashes(&names).await?) {
                let Some(data) = hash else { continue };
                page.working.extend(self.store.named(key, data.as_deref()).map(|named| named.owner));
            }
        }
        Ok(())
    }

    async fn active(&mut self, queue: Queue<'_>, key: &[u8], page: &mut Page) -> Result<(), StoreError> {
        let mut from = 0;
        loop {
            let mut read = redis::cmd("LRANGE");
            read.arg(key).arg(from).arg(from + PAGE - 1);
            let ids = self.ids(read).await?;
            if ids.is_empty() {
                return Ok(());
            }
            let jobs = ids.iter().map(|id| [queue.base, id].concat()).collect();
            self.worked_on(jobs, page).await?;
            from += PAGE;
        }
    }

    /// The next job of a scheduler is held, unless both are the same course's.
    async fn scheduled(&mut self, queue: Queue<'_>, key: &[u8], page: &mut Page) -> Result<(), StoreError> {
        let mut from = 0;
        loop {
            let mut read = redis::cmd("ZRANGE");
            read.arg(key).arg(from).arg(from + PAGE - 1).arg("WITHSCORES");
            let ids = self.ids(read).await?;
            if ids.is_empty() {
                return Ok(());
            }
            let pairs: Vec<_> = ids.as_chunks::<2>().0.iter().collect();
            for pairs in pairs.chunks(PIPELINE / 2) {
                let mut keys = Vec::with_capacity(pairs.len() * 2);
                for [scheduler, next] in pairs {
                    keys.push([queue.base, b"repeat:", scheduler].concat());
                    keys.push([queue.base, b"repeat:", scheduler, b":", next].concat());
                }
                let names: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
                let hashes = self.hashes(&names).await?;
                let named: Vec<Option<Named>> = (keys.iter().zip(hashes))
                    .map(|(key, hash)| hash.and_then(|data| self.store.named(key, data.as_deref())))
                    .collect();
                for pair in named.as_chunks::<2>().0 {
                    if let [scheduler, Some(job)] = pair
                        && scheduler.as_ref().is_none_or(|scheduler| scheduler.owner != job.owner)
                    {
                        page.working.push(job.owner);
                    }
                }
            }
            from += PAGE;
        }
    }

    async fn ids(&mut self, read: redis::Cmd) -> Result<Vec<Bytes>, StoreError> {
        let turn = self.lease.turn().await;
        let read = read.query_async(self.lease.connection()).await;
        turn.end();
        match read {
            Ok(ids) => Ok(ids),
            Err(error) if error.code() == Some("WRONGTYPE") => Ok(Vec::new()),
            Err(error) => Err(self.lease.call().failed(error)),
        }
    }
}
