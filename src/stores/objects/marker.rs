//! The marker (S7): one object that holds it as JSON, written only over what was read, where the server can.
//!
//! S3 writes an object on the condition that it still has an etag, or does not exist. Of a server that refuses such conditions,
//! or passes over them, it is read back what is there after the write; two that move at the same moment may then both believe
//! that they did, or neither.

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, UpdateVersion};

use super::bucket::{Bucket, Said};
use crate::stores::{Marker, StoreError};

/// Where it is. No course's object, whatever the layout says: every pass leaves its folder out.
pub(super) const NAME: &str = ".course-gc/marker.json";

/// The marker as it was read, and what to write over it by.
struct There {
    marker: Marker,
    etag: Option<String>,
}

/// The marker, if there is one.
pub(super) async fn read(bucket: &Bucket) -> Result<Option<Marker>, StoreError> {
    Ok(get(bucket).await?.map(|there| there.marker))
}

/// Replaces `from` by `to`; `false` if something else is there.
pub(super) async fn replace(bucket: &Bucket, from: Option<&Marker>, to: &Marker) -> Result<bool, StoreError> {
    let there = get(bucket).await?;
    if there.as_ref().map(|there| &there.marker) != from {
        return Ok(false);
    }
    let json = serde_json::to_vec(to)
        .map_err(|error| StoreError::server(format!("{}: could not write the marker", bucket.shown()), error))?;
    let json = Bytes::from(json);
    let mode = match there {
        None => PutMode::Create,
        Some(There { etag, .. }) => PutMode::Update(UpdateVersion { e_tag: etag, version: None }),
    };
    if !put(bucket, json.clone(), mode).await? {
        return Ok(false);
    }
    Ok(read(bucket).await?.as_ref() == Some(to))
}

/// `false` if the condition did not hold.
async fn put(bucket: &Bucket, json: Bytes, mode: PutMode) -> Result<bool, StoreError> {
    use object_store::Error::{AlreadyExists, NotImplemented, NotModified, Precondition};
    let name = Path::from(NAME);
    let conditional = async {
        match bucket.s3().put_opts(&name, json.clone().into(), PutOptions::from(mode)).await {
            Ok(_) => Ok(Some(true)),
            Err(AlreadyExists { .. } | NotModified { .. } | Precondition { .. }) => Ok(Some(false)),
            Err(NotImplemented { .. }) => Ok(None),
            Err(error) if Said::of(&error).is("NotImplemented") => Ok(None),
            Err(error) => Err(error),
        }
    };
    if let Some(put) = bucket.call("move the marker", conditional).await? {
        return Ok(put);
    }
    let unconditional = bucket.s3().put_opts(&name, json.into(), PutOptions::default());
    bucket.call("move the marker", unconditional).await.map(|_| true)
}

async fn get(bucket: &Bucket) -> Result<Option<There>, StoreError> {
    let name = Path::from(NAME);
    let read = async {
        match bucket.s3().get(&name).await {
            Ok(found) => {
                let etag = found.meta.e_tag.clone();
                Ok(Some((etag, found.bytes().await?)))
            }
            // Without its bucket it is not known whether it was marked.
            Err(error @ object_store::Error::NotFound { .. }) if Said::of(&error).is("NoSuchBucket") => Err(error),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    };
    let Some((etag, json)) = bucket.call("read the marker", read).await? else { return Ok(None) };
    match serde_json::from_slice(&json) {
        Ok(marker) => Ok(Some(There { marker, etag })),
        Err(why) => Err(bucket.unusable(format_args!(
            "`{NAME}` holds no marker ({why}); it is course-gc's own: find out what wrote it, then remove it and adopt the store again"
        ))),
    }
}
