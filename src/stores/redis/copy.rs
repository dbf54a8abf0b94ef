//! Copies of keys (S12): DUMP and the time that they had to live; deleted while they still are what was dumped.

use std::collections::BTreeMap;

use bytes::Bytes;
use redis::RedisResult;

use super::link::{Lease, Link};
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
    let link = &store.link;
    let mut lease = link.lease("copy keys").await?;
    let mut copied = Vec::with_capacity(handles.len());
    for handles in handles.chunks(PIPELINE) {
        let mut pipeline = scripted(DUMP);
        for handle in handles {
            pipeline.cmd("EVALSHA").arg(digest(DUMP)).arg(1).arg(&handle.key[..]);
        }
        let answers: RedisResult<Vec<RedisResult<Dump>>> = pipeline.query_async(lease.connection()).await;
        let answers = answers.map_err(|error| link.failed(lease.call(), error))?;
        if answers.len() != handles.len() {
            let why = format_args!("{} answers to {} commands", answers.len(), handles.len());
            return Err(link.unusable(lease.call(), why));
        }
        for (handle, answer) in handles.iter().zip(answers) {
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
                Err(error) => Copied::Failed(chain(&link.failed(lease.call(), error))),
            });
        }
    }
    link.give_back(lease);
    Ok(copied)
}

/// Deletes keys that still are what was copied.
pub(super) fn unlink_copied<'a>(handles: &[Handle], receipts: impl Iterator<Item = &'a Receipt>) -> redis::Pipeline {
    let mut pipeline = scripted(UNLINK);
    for (handle, Receipt(copied)) in handles.iter().zip(receipts) {
        pipeline.cmd("EVALSHA").arg(digest(UNLINK)).arg(1).arg(&handle.key[..]).arg(&copied[..]);
    }
    pipeline
}

/// Puts keys back with the time that they had to live when they were copied.
pub(super) async fn put_back(link: &Link, items: &[Item], restoring: Restoring) -> Vec<PutBack> {
    let all = items.len();
    let mut outcomes = Vec::with_capacity(all);
    let mut lease = match link.lease("put keys back").await {
        Ok(lease) => lease,
        Err(error) => return vec![PutBack::Failed(chain(&error)); all],
    };
    for items in items.chunks(PIPELINE) {
        match send_back(&mut lease, items, restoring).await {
            Ok(answers) => outcomes.extend(answers.into_iter().map(|answer| match answer {
                Ok(true) => PutBack::Restored,
                Ok(false) => PutBack::Exists,
                Err(error) if error.code() == Some("BUSYKEY") => PutBack::Exists,
                Err(error) => PutBack::Failed(chain(&link.failed(lease.call(), error))),
            })),
            Err(error) => {
                let cause = chain(&link.failed(lease.call(), error));
                outcomes.resize(all, PutBack::Failed(cause));
                return outcomes;
            }
        }
    }
    link.give_back(lease);
    outcomes
}

/// True for each key that is back, or would be.
async fn send_back(lease: &mut Lease, items: &[Item], restoring: Restoring) -> RedisResult<Vec<RedisResult<bool>>> {
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
    let answers: Vec<RedisResult<redis::Value>> = pipeline.query_async(lease.connection()).await?;
    Ok(answers.into_iter().map(|answer| answer.map(|answer| !matches!(answer, redis::Value::Int(1)))).collect())
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
