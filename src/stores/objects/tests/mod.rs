//! Claims about buckets, on a service that checks signatures, conditions and versions.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::DateTime;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::{ObjectStore, ObjectStoreExt};
use sandbox::{Conditions, Objects, Rclone};
use uuid::Uuid;

use super::*;
use crate::domain::live_set::LiveSet;
use crate::stores::Outcome;
use crate::stores::contract::{self, Bench, Contents, located};
use crate::stores::copies::{PlacedCopy, Safe};

mod copies;
mod faults;
mod inventory;
mod paced;

/// Long enough for any test machine.
const FRESH: Duration = Duration::from_secs(3600);
const COURSE: CourseId = CourseId::Integer(7);
const LAYOUT: &str = "{organization_id}/{course_id}";

/// The way past the store under test.
struct Direct(AmazonS3);

impl Direct {
    fn to(settings: &BucketSettings) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let s3 = AmazonS3Builder::new()
            .with_endpoint(settings.url.clone())
            .with_allow_http(true)
            .with_bucket_name(settings.bucket.clone())
            .with_region(Objects::REGION)
            .with_access_key_id(Objects::ACCESS_KEY)
            .with_secret_access_key(Objects::SECRET_KEY);
        Self(s3.build().unwrap())
    }

    async fn put(&self, name: &str, content: impl Into<Bytes>) {
        self.0.put(&Path::parse(name).unwrap(), content.into().into()).await.unwrap();
    }

    async fn remove(&self, name: &str) {
        self.0.delete(&Path::parse(name).unwrap()).await.unwrap();
    }

    async fn names(&self) -> Vec<String> {
        self.0.list(None).map_ok(|object| object.location.to_string()).try_collect().await.unwrap()
    }

    /// All but the collector's own.
    async fn contents(&self) -> Contents {
        let mut names = self.names().await;
        names.retain(|name| !name.starts_with(".course-gc/"));
        let read = |name: String| async move {
            let content = self.0.get(&Path::parse(&name).unwrap()).await.unwrap().bytes().await.unwrap();
            (name.into_bytes(), content.to_vec())
        };
        stream::iter(names).map(read).buffered(8).collect().await
    }
}

fn settings(url: String, bucket: &str) -> BucketSettings {
    BucketSettings {
        url,
        bucket: bucket.to_owned(),
        region: Objects::REGION.to_owned(),
        access_key: Some(Objects::ACCESS_KEY.into()),
        secret_key: Some(Objects::SECRET_KEY.into()),
        call_timeout: Duration::from_secs(30),
    }
}

fn store_with(settings: &BucketSettings, id_type: IdType, layout: &str) -> ObjectsStore {
    ObjectsStore::new(ObjectsSettings {
        name: "media".to_owned(),
        bucket: Bucket::new(settings).unwrap(),
        layout: Layout::parse(layout).unwrap(),
        id_type,
        batch_limit: 200,
    })
}

/// A server, the way past the store, and a store of integer ids.
async fn bed() -> (Objects, Direct, ObjectsStore) {
    let server = Objects::start().await.unwrap();
    let settings = settings(server.url(), Objects::BUCKET);
    let direct = Direct::to(&settings);
    let store = store_with(&settings, IdType::Integer, LAYOUT);
    (server, direct, store)
}

fn targets(courses: impl IntoIterator<Item = CourseId>) -> Targets {
    let mut targets = Targets::none(1);
    courses.into_iter().for_each(|course| targets.insert(SOURCE, course));
    targets
}

async fn inventory(store: &ObjectsStore) -> Result<crate::domain::inventory::Inventory, StoreError> {
    let live = LiveSet::from_ids(store.place.id_type, Vec::<CourseId>::new());
    let mut census = Census::new(std::sync::Arc::new(live), 1);
    store.inventory(&mut census).await?;
    Ok(census.finish())
}

fn copy_id(batch: u32) -> CopyId {
    let now = DateTime::UNIX_EPOCH;
    CopyId { run: Uuid::from_u128(77), batch, taken_at: now, expires_at: now + Duration::from_secs(60) }
}

/// Nothing of a bucket goes to an archive.
struct Nowhere;

#[async_trait]
impl Copies for Nowhere {
    async fn add(&mut self, item: Item) -> Result<(), StoreError> {
        panic!("{item:?} is for no archive");
    }
}

async fn copy(store: &ObjectsStore, batch: u32, handles: &[Handle]) -> Vec<Copied> {
    store.copy(&copy_id(batch), handles, &mut Nowhere).await.unwrap()
}

/// The batch of those handles that have a copy each.
fn condemned(batch: u32, handles: &[Handle], copied: &[Copied]) -> Condemned {
    let receipt = |copied: &Copied| match copied {
        Copied::Whole(receipt) => receipt.clone(),
        other => panic!("{other:?}"),
    };
    let safe = Safe { id: copy_id(batch), receipts: copied.iter().map(receipt).collect() };
    Condemned::for_test_copied(handles.to_vec(), safe, FRESH)
}

struct ObjectsBench {
    store: ObjectsStore,
    direct: Direct,
    planted: AtomicUsize,
    conditions: Conditions,
    /// Gone with the bench.
    _server: Box<dyn Send + Sync>,
}

impl ObjectsBench {
    async fn new(id_type: IdType, conditions: Conditions) -> Self {
        let server = Objects::start_with(conditions).await.unwrap();
        Self::on(server.url(), id_type, conditions, Box::new(server))
    }

    fn on(url: String, id_type: IdType, conditions: Conditions, server: Box<dyn Send + Sync>) -> Self {
        let settings = settings(url, Objects::BUCKET);
        Self {
            conditions,
            direct: Direct::to(&settings),
            store: store_with(&settings, id_type, LAYOUT),
            planted: AtomicUsize::new(0),
            _server: server,
        }
    }

    async fn put(&self, folder: String) -> Vec<u8> {
        let n = self.planted.fetch_add(1, Ordering::Relaxed);
        let name = format!("{folder}/lesson {n} +ü&<%41>.webp");
        self.direct.put(&name, format!("content {n}")).await;
        name.into_bytes()
    }
}

#[async_trait]
impl Bench for ObjectsBench {
    fn store(&self) -> &dyn Store {
        &self.store
    }

    fn id_type(&self) -> IdType {
        self.store.place.id_type
    }

    async fn plant(&self, _: SourceIndex, course: CourseId) -> Vec<u8> {
        self.put(format!("org/{course}")).await
    }

    async fn plant_entangled(&self, _: SourceIndex, owner: CourseId, other: CourseId) -> Option<Vec<u8>> {
        match self.id_type() {
            IdType::Uuid | IdType::Text(_) => Some(self.put(format!("org/{owner}/copied from {other}")).await),
            IdType::Integer => None,
        }
    }

    async fn plant_unrecognised(&self, _: SourceIndex) -> Option<Vec<u8>> {
        Some(self.put("org/playbooks".to_owned()).await)
    }

    async fn rewrite(&self, _: SourceIndex, _: CourseId, name: &[u8]) -> bool {
        self.direct.put(std::str::from_utf8(name).unwrap(), "something else").await;
        true
    }

    async fn contents(&self) -> Contents {
        self.direct.contents().await
    }

    fn compares_and_sets(&self) -> bool {
        self.conditions == Conditions::Kept
    }
}

#[tokio::test]
async fn the_contract_is_kept_with_uuids() {
    contract::keeps(&ObjectsBench::new(IdType::Uuid, Conditions::Kept).await).await;
}

#[tokio::test]
async fn the_contract_is_kept_with_integers() {
    contract::keeps(&ObjectsBench::new(IdType::Integer, Conditions::Kept).await).await;
}

#[tokio::test]
async fn the_contract_is_kept_with_texts() {
    contract::keeps(&ObjectsBench::new(contract::texts(), Conditions::Kept).await).await;
}

#[tokio::test]
async fn the_contract_is_kept_where_conditional_writes_are_refused() {
    contract::keeps(&ObjectsBench::new(IdType::Integer, Conditions::Refused).await).await;
}

#[tokio::test]
async fn the_contract_is_kept_where_the_conditions_of_writes_are_ignored() {
    contract::keeps(&ObjectsBench::new(IdType::Integer, Conditions::Ignored).await).await;
}

/// Another implementation, which does not know conditions either. Of copies that come at once into a folder that is not there yet it
/// fails one now and then (which then stays where it is, and goes with a later run), so it is tried by hand: `make deep ONLY=optimised`.
#[tokio::test]
#[ignore = "the service fails one of many copies at once now and then"]
async fn the_contract_is_kept_on_rclones_service() {
    let server = Rclone::start().await.unwrap();
    let id_type = IdType::Uuid;
    contract::keeps(&ObjectsBench::on(server.url(), id_type, Conditions::Ignored, Box::new(server))).await;
}
