//! Deletes: looked at, then deleted in bulk.
//!
//! S3's bulk delete takes names alone. So each object is looked at right before, and goes only if it is what was copied; what
//! is written between the look and the delete goes with it.

use bytes::Bytes;
use futures::{StreamExt, stream};
use object_store::ObjectStore;
use object_store::path::Path;

use super::{AT_ONCE, Place};
use crate::errors::chain;
use crate::stores::copies::Receipt;
use crate::stores::{Handle, Outcome, Removed};
use crate::sweep::Condemned;

/// How many objects are looked at and deleted with one request; freshness is asked before each. Few, so that little time
/// passes between the look and the delete.
const CHUNK: usize = 100;

/// What a look at an object says.
enum Looked {
    /// It may go.
    Doomed { name: Path, bytes: u64 },
    /// That is all there is to it.
    Done(Outcome),
}

/// Deletes a batch, chunk by chunk.
pub(super) async fn delete(store: &str, place: &Place, batch: &Condemned) -> Removed {
    let mut outcomes = Vec::with_capacity(batch.handles().len());
    for (n, handles) in batch.handles().chunks(CHUNK).enumerate() {
        if !batch.is_fresh() {
            break;
        }
        let receipts = batch.safe().map(|safe| safe.receipts.get(n * CHUNK..).unwrap_or_default());
        let looked = look(place, handles, receipts).await;
        let sent = outcomes.len();
        outcomes.extend(send(place, batch, looked).await);
        tracing::debug!(
            target: "course_gc::moment",
            store,
            moment = "deleting",
            handled = outcomes.len(),
            of = batch.handles().len(),
        );
        if outcomes[sent..].iter().any(|outcome| matches!(outcome, Outcome::Failed(_))) {
            break;
        }
    }
    outcomes.resize(batch.handles().len(), Outcome::Unattempted);
    Removed { outcomes }
}

/// Looks at all of a chunk; one answer a handle.
async fn look(place: &Place, handles: &[Handle], receipts: Option<&[Receipt]>) -> Vec<Looked> {
    let mut looks = Vec::with_capacity(handles.len());
    for (n, handle) in handles.iter().enumerate() {
        // Without a receipt of its own, nothing that was copied may go.
        let receipt = receipts.map(|receipts| receipts.get(n).map_or_else(Bytes::new, |Receipt(etag)| etag.clone()));
        looks.push(look_at(place, handle, receipt));
    }
    stream::iter(looks).buffered(AT_ONCE).collect().await
}

async fn look_at(place: &Place, handle: &Handle, receipt: Option<Bytes>) -> Looked {
    let name = match place.path(handle) {
        Ok(name) => name,
        Err(why) => return Looked::Done(Outcome::Failed(why)),
    };
    let found = match place.bucket.head(&name).await {
        Ok(Some(found)) => found,
        Ok(None) => return Looked::Done(Outcome::Absent),
        Err(error) => return Looked::Done(Outcome::Failed(chain(&error))),
    };
    let is_copied = receipt.is_none_or(|etag| found.e_tag.is_some_and(|now| now.as_bytes() == etag));
    if is_copied {
        Looked::Doomed { name, bytes: found.size }
    } else {
        Looked::Done(Outcome::Partly { resources: 0, bytes: None, left: 1 })
    }
}

/// Deletes what may go with one request, if all could be looked at and the confirmation is fresh; one outcome a look.
async fn send(place: &Place, batch: &Condemned, looked: Vec<Looked>) -> Vec<Outcome> {
    let names: Vec<_> = looked
        .iter()
        .filter_map(|looked| match looked {
            Looked::Doomed { name, .. } => Some(Ok(name.clone())),
            Looked::Done(_) => None,
        })
        .collect();
    let may_send = batch.is_fresh() && !looked.iter().any(|it| matches!(it, Looked::Done(Outcome::Failed(_))));
    let mut answers = if may_send { request(place, batch, names).await } else { Vec::new() }.into_iter();
    let outcome = |looked| match looked {
        Looked::Done(outcome) => outcome,
        Looked::Doomed { bytes, .. } => match answers.next() {
            Some(Ok(())) => Outcome::Deleted { resources: 1, bytes: Some(bytes) },
            Some(Err(cause)) => Outcome::Failed(cause),
            None => Outcome::Unattempted,
        },
    };
    looked.into_iter().map(outcome).collect()
}

/// The one request: an answer a name.
async fn request(place: &Place, batch: &Condemned, names: Vec<object_store::Result<Path>>) -> Vec<Result<(), String>> {
    if names.is_empty() {
        return Vec::new();
    }
    let (bucket, all) = (&place.bucket, names.len());
    let limit = bucket.call_timeout().min(batch.time_left());
    let answers = bucket.s3().delete_stream(stream::iter(names).boxed()).collect::<Vec<_>>();
    // Also its turn is waited for only as long as the confirmation is good.
    let Ok(answers) = tokio::time::timeout(limit, bucket.pace().call(answers)).await else {
        return vec![Err(chain(&bucket.timeout("delete objects", limit))); all];
    };
    let mut outcomes = Vec::with_capacity(all);
    for answer in answers {
        outcomes.push(answer.map(|_| ()).map_err(|error| chain(&bucket.failed("delete objects", &error))));
    }
    // An error of the request as a whole is the only answer.
    if outcomes.len() != all {
        let cause = outcomes.into_iter().find_map(Result::err);
        let cause = cause.unwrap_or_else(|| chain(&bucket.unusable("the server did not answer for each object")));
        return vec![Err(cause); all];
    }
    outcomes
}
