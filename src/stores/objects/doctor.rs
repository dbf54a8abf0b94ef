//! A bucket as `course-gc doctor` sees it: whether objects of our own can be written, copied and removed there.

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, PutMode};
use uuid::Uuid;

use super::bucket::Bucket;
use crate::domain::findings::Finding;
use crate::errors::chain;
use crate::stores::StoreError;

/// What was found. What it writes is in our own folder, and gone again.
pub(super) async fn examine(bucket: &Bucket) -> Vec<Finding> {
    const CHECK: &str = "rights";
    vec![match probe(bucket).await {
        Ok(()) => Finding::ok(CHECK, "objects can be written, copied and removed beneath `.course-gc`"),
        Err(error) => {
            let fix = "allow its key s3:ListBucket on the bucket, and s3:GetObject, s3:PutObject and s3:DeleteObject on its objects";
            Finding::problem(CHECK, chain(&error), fix)
        }
    }]
}

async fn probe(bucket: &Bucket) -> Result<(), StoreError> {
    let name = |end: &str| Path::from(format!(".course-gc/doctor-{}{end}", Uuid::new_v4().simple()));
    let (first, second) = (name(""), name("-copy"));
    let put = bucket.s3().put_opts(&first, Bytes::from_static(b"course-gc doctor\n").into(), PutMode::Create.into());
    bucket.call(format!("write `{first}`"), put).await?;
    let copied = bucket.copy(&first, &second).await;
    let removed = [bucket.remove(&first).await, bucket.remove(&second).await];
    copied?;
    removed.into_iter().collect()
}
