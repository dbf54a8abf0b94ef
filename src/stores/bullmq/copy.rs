//! Copies of jobs and schedulers (S12): all keys as DUMPs, and the place in the queue; put back by one script each.
//!
//! An item's attributes are the small things that put_back.lua takes, by name; its content is the DUMPs, one after the
//! other, each behind its length.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::BullmqStore;
use super::remove::Looked;
use super::script::{COPY, Calls, PIPELINE, PUT_BACK, base, reason};
use crate::errors::chain;
use crate::stores::copies::{Copied, Copies, Item, PutBack, Receipt, Restoring};
use crate::stores::redis::link::Lease;
use crate::stores::{Handle, StoreError};

const KIND: &str = "kind";
/// What copy.lua gives of a job between its digest and its DUMPs, in its order.
const OF_JOB: [&str; 6] = ["state", "at", "parent", "parent_at", "deduplication", "deduplication_lives_ms"];
/// The same of a scheduler.
const OF_SCHEDULER: [&str; 1] = ["next_at"];
/// How many DUMPs follow: what comes after the deduplicated job, the hash, and five keys beside it; or the hash alone.
const DUMPS_OF_JOB: usize = 7;
const DUMPS_OF_SCHEDULER: usize = 1;
/// Where the fields begin in copy.lua's answer.
const FIELDS: usize = 4;

/// What is given of a thing, and how many DUMPs.
fn shape(kind: &str) -> Option<(&'static [&'static str], usize)> {
    match kind {
        "job" => Some((&OF_JOB, DUMPS_OF_JOB)),
        "scheduler" => Some((&OF_SCHEDULER, DUMPS_OF_SCHEDULER)),
        _ => None,
    }
}

impl BullmqStore {
    pub(super) async fn copy_jobs(
        &self,
        handles: &[Handle],
        copies: &mut dyn Copies,
    ) -> Result<Vec<Copied>, StoreError> {
        let mut lease = self.lease("copy jobs").await?;
        let mut copied = Vec::with_capacity(handles.len());
        for handles in handles.chunks(PIPELINE) {
            let mut calls = Calls::of(COPY, self.reach);
            for handle in handles {
                calls.add(&handle.key, base(&self.queues, &handle.key).unwrap_or_default(), [&b"whole"[..]]);
            }
            let answers = calls.send::<Vec<Bytes>>(&mut lease).await?;
            for (handle, answer) in handles.iter().zip(answers) {
                let answer = match answer {
                    Ok(answer) => answer,
                    Err(error) => {
                        copied.push(Copied::Failed(chain(&lease.call().failed(error))));
                        continue;
                    }
                };
                copied.push(match self.judge_look(handle, &answer) {
                    Looked::Absent => Copied::Absent,
                    Looked::Stays => Copied::Failed(reason("locked", self.reach).unwrap_or_default()),
                    Looked::Failed(why) => Copied::Failed(why),
                    Looked::Same(digest) => match self.item(handle, &answer) {
                        Some(item) => {
                            copies.add(item).await?;
                            Copied::Whole(Receipt(digest))
                        }
                        None => Copied::Failed("the server's answer is not what a job's copy is like".to_owned()),
                    },
                });
            }
        }
        lease.give_back();
        Ok(copied)
    }

    fn item(&self, handle: &Handle, answer: &[Bytes]) -> Option<Item> {
        let kind = std::str::from_utf8(answer.first()?).ok()?;
        let (names, dumps) = shape(kind)?;
        let (fields, dumped) = answer.get(FIELDS..)?.split_at_checked(names.len())?;
        let mut attributes = BTreeMap::from([(KIND.to_owned(), kind.to_owned())]);
        for (name, value) in names.iter().zip(fields) {
            // A job's id and a deduplication id are texts of the application's.
            let value = String::from_utf8(value.to_vec()).ok()?;
            if !value.is_empty() {
                attributes.insert((*name).to_owned(), value);
            }
        }
        let source = self.sources.get(handle.source.0).cloned()?;
        let content = (dumped.len() == dumps).then(|| write(dumped))??;
        Some(Item { source, course: handle.owner, name: handle.key.clone(), attributes, content })
    }

    /// Puts jobs back, those first that were next in their lists.
    pub(super) async fn put_jobs_back(&self, items: &[Item], restoring: Restoring) -> Vec<PutBack> {
        let nodes = self.restore_nodes.as_ref().unwrap_or(&self.nodes);
        let mut outcomes = vec![PutBack::Failed("it was not sent".to_owned()); items.len()];
        let mut order: Vec<usize> = (0..items.len()).collect();
        order.sort_by_key(|at| items.get(*at).and_then(|item| item.attributes.get("at")?.parse::<u64>().ok()));
        let mut lease = match self.lease_of(nodes, "put jobs back").await {
            Ok(lease) => lease,
            Err(error) => return vec![PutBack::Failed(chain(&error)); items.len()],
        };
        for places in order.chunks(PIPELINE) {
            let chosen: Vec<&Item> = places.iter().filter_map(|at| items.get(*at)).collect();
            let sent = self.send_back(&mut lease, &chosen, restoring).await;
            let lost = sent.is_err();
            let answers = sent.unwrap_or_else(|error| vec![PutBack::Failed(chain(&error)); chosen.len()]);
            for (at, answer) in places.iter().zip(answers) {
                if let Some(outcome) = outcomes.get_mut(*at) {
                    *outcome = answer;
                }
            }
            if lost {
                return outcomes;
            }
        }
        lease.give_back();
        outcomes
    }

    async fn send_back(
        &self,
        lease: &mut Lease,
        items: &[&Item],
        restoring: Restoring,
    ) -> Result<Vec<PutBack>, StoreError> {
        let mode: &[u8] = match restoring {
            Restoring::Look => b"look",
            Restoring::Missing => b"missing",
            Restoring::Overwrite => b"overwrite",
        };
        let mut calls = Calls::of(PUT_BACK, self.reach);
        let mut readable = Vec::with_capacity(items.len());
        for item in items {
            let Some(Readable { base, kind, names, dumps }) = self.readable(item) else {
                readable.push(false);
                continue;
            };
            let fields = names.iter().map(|name| item.attributes.get(*name).map_or(&b""[..], String::as_bytes));
            let further: Vec<&[u8]> = [mode, kind.as_bytes()].into_iter().chain(fields).chain(dumps).collect();
            calls.add(&item.name, base, further);
            readable.push(true);
        }
        let mut answers = calls.send::<String>(lease).await?.into_iter();
        let outcome = |readable: bool| match (readable, readable.then(|| answers.next()).flatten()) {
            (true, Some(Ok(answer))) => match answer.as_str() {
                "restored" => PutBack::Restored,
                "exists" => PutBack::Exists,
                other => {
                    PutBack::Failed(reason(other, self.reach).unwrap_or_else(|| format!("the server said `{other}`")))
                }
            },
            (true, Some(Err(error))) => PutBack::Failed(chain(&lease.call().failed(error))),
            _ => PutBack::Failed("it is no copy of a job in a queue of this store".to_owned()),
        };
        Ok(readable.into_iter().map(outcome).collect())
    }

    /// An item as the script takes it.
    fn readable<'a>(&self, item: &'a Item) -> Option<Readable<'a>> {
        let base = base(&self.queues, &item.name)?;
        let kind = item.attributes.get(KIND)?;
        let (names, count) = shape(kind)?;
        let dumps = read(&item.content).filter(|dumps| dumps.len() == count)?;
        Some(Readable { base, kind, names, dumps })
    }
}

/// A copy, taken apart.
struct Readable<'a> {
    /// What the keys of its queue begin with.
    base: &'a [u8],
    kind: &'a str,
    /// The names of its fields.
    names: &'static [&'static str],
    dumps: Vec<&'a [u8]>,
}

/// DUMPs, each behind its length.
fn write(dumps: &[Bytes]) -> Option<Bytes> {
    let mut content = Vec::new();
    for dump in dumps {
        content.extend_from_slice(&u32::try_from(dump.len()).ok()?.to_be_bytes());
        content.extend_from_slice(dump);
    }
    Some(content.into())
}

fn read(mut content: &[u8]) -> Option<Vec<&[u8]>> {
    let mut dumps = Vec::new();
    while !content.is_empty() {
        let (length, rest) = content.split_first_chunk::<4>()?;
        let (dump, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        dumps.push(dump);
        content = rest;
    }
    Some(dumps)
}
