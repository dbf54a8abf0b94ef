//! Copies of keys (S12): DUMP and the time that they had to live; deleted while they still are what was dumped.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use redis::RedisResult;

use super::link::Call;
use super::nodes::{Nodes, Part};
use super::{PIPELINE, RedisStore};
use crate::errors::chain;
use crate::stores::copies::{Copied, Copies, Item, PutBack, Receipt, Restoring};
use crate::stores::{Handle, StoreError};

/// A key's content, the milliseconds that it has to live (-1: for ever) and a digest of the content, all at one moment.
const DUMP: &str = "\
local dump = redis.call('DUMP', KEYS[1])
if not dump then return false end
return {dump, redis.call('PTTL', KEYS[1]), redis.sha1hex(dump)}";

/// What [`UNLINK`] answers of a key that has changed.
pub(super) const CHANGED: i64 = -1;

/// Removes the key if its content has this digest, and answers the content's length. 0 if it has gone, [`CHANGED`] if its content is
/// another.
const UNLINK: &str = "\
local dump = redis.call('DUMP', KEYS[1])
if not dump then return 0 end
if redis.sha1hex(dump) ~= ARGV[1] then return -1 end
redis.call('UNLINK', KEYS[1])
return #dump";

/// The attribute that says how many milliseconds a key had to live; absent if it lived for ever.
const LIVES_MS: &str = "lives_ms";

type Dump = Option<(Bytes, i64, String)>;

/// Copies keys, pipeline by pipeline.
pub(super) async fn copy(
    store: &RedisStore,
    handles: &[Handle],
    copies: &mut dyn Copies,
) -> Result<Vec<Copied>, StoreError> {
    let mut servers = store.nodes.servers("copy keys").await?;
    let mut copied = Vec::with_capacity(handles.len());
    for handles in handles.chunks(PIPELINE) {
        let dumps = |places: &[usize]| {
            let mut pipeline = scripted(DUMP);
            for handle in places.iter().filter_map(|at| handles.get(*at)) {
                pipeline.cmd("EVALSHA").arg(digest(DUMP)).arg(1).arg(&handle.key[..]);
            }
            pipeline
        };
        let keys = handles.iter().map(|handle| &handle.key[..]);
        let mut dumped: BTreeMap<usize, Result<Dump, StoreError>> = BTreeMap::new();
        for Part { call, places, answers } in servers.send(keys, || Some(Duration::MAX), dumps).await {
            let answers = answers?.into_iter().map(|answer| answer.map_err(|error| call.failed(error)));
            dumped.extend(places.into_iter().zip(answers));
        }
        // In the order of the handles, whichever server they are from.
        for (handle, answer) in handles.iter().zip(dumped.into_values()) {
            copied.push(match answer {
                Ok(Some((content, lives_ms, digest))) => {
                    let lives = u64::try_from(lives_ms).ok().map(|ms| (LIVES_MS.to_owned(), ms.to_string()));
                    let source = store.sources.get(handle.source.0).cloned().unwrap_or_default();
                    let name = handle.key.clone();
                    let attributes = BTreeMap::from_iter(lives);
                    copies.add(Item { source, course: handle.owner, name, attributes, content }).await?;
                    Copied::Whole(Receipt(digest.into()))
                }
                Ok(None) => Copied::Absent,
                Err(error) => Copied::Failed(chain(&error)),
            });
        }
    }
    servers.give_back();
    Ok(copied)
}

/// Deletes keys that still are what was copied.
pub(super) fn unlink_copied<'a>(doomed: impl Iterator<Item = (&'a Handle, &'a Receipt)>) -> redis::Pipeline {
    let mut pipeline = scripted(UNLINK);
    for (handle, Receipt(copied)) in doomed {
        pipeline.cmd("EVALSHA").arg(digest(UNLINK)).arg(1).arg(&handle.key[..]).arg(&copied[..]);
    }
    pipeline
}

/// Puts keys back with the time that they had to live when they were copied.
pub(super) async fn put_back(nodes: &Nodes, items: &[Item], restoring: Restoring) -> Vec<PutBack> {
    let mut servers = match nodes.servers("put keys back").await {
        Ok(servers) => servers,
        Err(error) => return vec![PutBack::Failed(chain(&error)); items.len()],
    };
    let mut all = vec![PutBack::Failed("it was not sent".to_owned()); items.len()];
    for (items, outcomes) in items.chunks(PIPELINE).zip(all.chunks_mut(PIPELINE)) {
        let names = items.iter().map(|item| &item.name[..]);
        let calls = |places: &[usize]| calls_back(places.iter().filter_map(|at| items.get(*at)), restoring);
        let parts = servers.send(names, || Some(Duration::MAX), calls).await;
        let lost = parts.iter().any(|part| part.answers.is_err());
        parts.into_iter().for_each(|part| part.write(outcomes, back, PutBack::Failed));
        if lost {
            return all;
        }
    }
    servers.give_back();
    all
}

/// What the answer about one key means: EXISTS says 1 of what is there.
fn back(call: &Call, answer: RedisResult<redis::Value>) -> PutBack {
    match answer {
        Ok(redis::Value::Int(1)) => PutBack::Exists,
        Ok(_) => PutBack::Restored,
        Err(error) if error.code() == Some("BUSYKEY") => PutBack::Exists,
        Err(error) => PutBack::Failed(chain(&call.failed(error))),
    }
}

/// Asks for each key, or puts it back.
fn calls_back<'a>(items: impl Iterator<Item = &'a Item>, restoring: Restoring) -> redis::Pipeline {
    let mut pipeline = redis::pipe();
    pipeline.ignore_errors();
    for item in items {
        if restoring == Restoring::Look {
            pipeline.cmd("EXISTS").arg(&item.name[..]);
            continue;
        }
        let lives = item.attributes.get(LIVES_MS).map_or("0", String::as_str);
        pipeline.cmd("RESTORE").arg(&item.name[..]).arg(lives).arg(&item.content[..]);
        if restoring == Restoring::Overwrite {
            pipeline.arg("REPLACE");
        }
    }
    pipeline
}

/// A pipeline that knows a script before it is called.
fn scripted(script: &str) -> redis::Pipeline {
    let mut pipeline = redis::pipe();
    pipeline.ignore_errors();
    pipeline.cmd("SCRIPT").arg("LOAD").arg(script).ignore();
    pipeline
}

/// What Redis calls a script.
fn digest(script: &str) -> String {
    redis::Script::new(script).get_hash().to_owned()
}
