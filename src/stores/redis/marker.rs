//! The marker (S7): one key that holds it as JSON, without an expiry, moved by a script that compares and sets at once.
//!
//! It lasts as long as the server keeps keys: without persistence a restart loses it, and so may an eviction policy that
//! takes keys without an expiry. A marker that is lost holds the store, nothing else.

use super::link::Lease;
use super::nodes::Nodes;
use crate::stores::{Marker, StoreError};

/// Where it is of a store of keys.
pub(in crate::stores) const KEY: &str = "course-gc:marker";

/// True of a marker of any store in the server. No course's key, whatever the templates say: every pass leaves it out.
pub(in crate::stores) fn is_one(key: &[u8]) -> bool {
    key.strip_prefix(KEY.as_bytes()).is_some_and(|rest| rest.is_empty() || rest.starts_with(b":"))
}

/// Sets the key to its first argument, if it holds the second; without a second, if it does not exist.
const MOVE: &str = "\
local there = redis.call('GET', KEYS[1])
if there ~= (ARGV[2] or false) then return 0 end
redis.call('SET', KEYS[1], ARGV[1])
return 1";

/// The marker, if there is one.
pub(in crate::stores) async fn read(nodes: &Nodes, key: &str) -> Result<Option<Marker>, StoreError> {
    let mut lease = nodes.servers("read its marker").await?.of(key.as_bytes()).await?;
    let there = get(key, &mut lease).await?;
    lease.give_back();
    Ok(there.map(|(_, marker)| marker))
}

/// Replaces `from` by `to`; `false` if something else is there.
pub(in crate::stores) async fn replace(
    nodes: &Nodes,
    key: &str,
    from: Option<&Marker>,
    to: &Marker,
) -> Result<bool, StoreError> {
    let mut lease = nodes.servers("move its marker").await?.of(key.as_bytes()).await?;
    let json = serde_json::to_vec(to)
        .map_err(|error| StoreError::server(format!("store `{}`: write its marker", nodes.name()), error))?;
    let there = get(key, &mut lease).await?;
    let is_from = there.as_ref().map(|(_, marker)| marker) == from;
    let mut moved = false;
    if is_from {
        let mut script = redis::cmd("EVAL");
        script.arg(MOVE).arg(1).arg(key).arg(json);
        // The bytes as they were read: JSON may be spelled in several ways.
        if let Some((bytes, _)) = there {
            script.arg(bytes);
        }
        let answer = script.query_async::<i64>(lease.connection()).await;
        moved = answer.map_err(|error| lease.call().failed(error))? == 1;
    }
    lease.give_back();
    Ok(moved)
}

/// What the key holds, as it is spelled and as it is read.
async fn get(key: &str, lease: &mut Lease) -> Result<Option<(Vec<u8>, Marker)>, StoreError> {
    let answer = redis::cmd("GET").arg(key).query_async::<Option<Vec<u8>>>(lease.connection()).await;
    let there = match answer {
        Ok(there) => there,
        Err(error) if error.code() == Some("WRONGTYPE") => {
            return Err(lease.call().unusable(format_args!("the key `{key}` holds no string; {ADVICE}")));
        }
        Err(error) => return Err(lease.call().failed(error)),
    };
    let Some(bytes) = there else { return Ok(None) };
    match serde_json::from_slice(&bytes) {
        Ok(marker) => Ok(Some((bytes, marker))),
        Err(why) => Err(lease.call().unusable(format_args!("the key `{key}` holds no marker ({why}); {ADVICE}"))),
    }
}

const ADVICE: &str = "it is course-gc's own: find out what wrote it, then delete it and adopt the store again";
