//! What lies in the stores, byte for byte, to be compared with what lies there later.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt};
use qdrant_client::qdrant::{
    PointId as WirePointId, RetrievedPoint, ScrollPointsBuilder, point_id::PointIdOptions,
    vectors_output::VectorsOptions,
};
use serde_json::Value;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::{Stores, campus::TABLES, queues, queues::Queues, server::blocking};

/// Strict mode allows no larger page.
const PAGE: u32 = 100;
const SCAN_COUNT: usize = 1_000;
/// How many objects are being read at a time.
const AT_ONCE: usize = 16;
/// What a collector leaves in the stores that it adopted is no resource of the campus: a key of each store of the server's.
const MARKER_KEYS: &[u8] = b"course-gc:marker";
const OWN_FOLDER: &str = ".course-gc";

/// The id of a point: old ones are numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PointId {
    /// An unsigned integer.
    Number(u64),
    /// A UUID.
    Uuid(Uuid),
}

/// One thing in one store.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// A Redis key, by name.
    Key(Vec<u8>),
    /// A point of the campus' collection.
    Point(PointId),
    /// A file, by its path below [`crate::Addresses::files`].
    File(String),
    /// A job of BullMQ's, or a scheduler.
    Job {
        /// The queue's name.
        queue: String,
        /// Its id; that of a scheduler begins with `repeat:`, and that of its next job ends with `:next`.
        id: String,
    },
    /// A row of one of [`TABLES`].
    Row {
        /// The table's name with its schema.
        table: &'static str,
        /// The row's id.
        id: Uuid,
    },
    /// An object of the bucket, by its name.
    Object(String),
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(name) => write!(f, "key {}", String::from_utf8_lossy(name)),
            Self::Point(PointId::Number(id)) => write!(f, "point {id}"),
            Self::Point(PointId::Uuid(id)) => write!(f, "point {id}"),
            Self::File(path) => write!(f, "file {path}"),
            Self::Job { queue, id } => write!(f, "job {id} of {queue}"),
            Self::Row { table, id } => write!(f, "row {id} of {table}"),
            Self::Object(name) => write!(f, "object {name}"),
        }
    }
}

/// Every resource in the stores with a digest of its whole content: a key's value, a point's payload and vectors, a file's or an
/// object's bytes, a row's text, a job with all that is its own. Times to live are not part of it. Jobs, rows and objects are in
/// it if the world is whole; in any other one what belongs to queues are keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    digests: BTreeMap<Resource, u64>,
    queue_keys: BTreeMap<String, u64>,
}

/// What happened between two snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Only in the earlier one.
    pub gone: BTreeSet<Resource>,
    /// Only in the later one.
    pub added: BTreeSet<Resource>,
    /// In both, with other content.
    pub changed: BTreeSet<Resource>,
}

impl Snapshot {
    /// Reads all stores. What is written meanwhile may or may not be in it.
    ///
    /// # Errors
    ///
    /// When a store cannot be read.
    pub async fn take(stores: &Stores) -> Result<Self> {
        let folder = stores.addresses.files.clone();
        let files = blocking(move || {
            let mut files = Vec::new();
            read_files(&folder, &folder, &mut files)?;
            Ok(files)
        });
        let ((keys, queues), points, files, rows, objects) =
            tokio::try_join!(read_redis(stores), read_points(stores), files, read_rows(stores), read_objects(stores))?;
        let Queues { jobs, keys: queue_keys } = queues;
        let all = keys.into_iter().chain(points).chain(files).chain(jobs).chain(rows).chain(objects);
        Ok(Self { digests: all.collect(), queue_keys })
    }

    /// How many keys each of BullMQ's queues has: a store of keys knows them for nobody's.
    pub fn queue_keys(&self) -> &BTreeMap<String, u64> {
        &self.queue_keys
    }

    /// The resources, in order.
    pub fn resources(&self) -> impl Iterator<Item = &Resource> {
        self.digests.keys()
    }

    /// Whether a resource is there.
    pub fn contains(&self, resource: &Resource) -> bool {
        self.digests.contains_key(resource)
    }

    /// What happened from this snapshot to a later one.
    pub fn diff(&self, later: &Self) -> Difference {
        let without = |these: &Self, those: &Self| -> BTreeSet<Resource> {
            these.digests.keys().filter(|resource| !those.contains(resource)).cloned().collect()
        };
        let differs =
            |(resource, digest): &(&Resource, &u64)| later.digests.get(*resource).is_some_and(|other| other != *digest);
        Difference {
            gone: without(self, later),
            added: without(later, self),
            changed: self.digests.iter().filter(differs).map(|(resource, _)| resource.clone()).collect(),
        }
    }
}

async fn read_redis(stores: &Stores) -> Result<(Vec<(Resource, u64)>, Queues)> {
    let mut redis = stores.redis.clone();
    let mut keys = BTreeSet::<Vec<u8>>::new();
    let mut cursor = 0_u64;
    loop {
        let page: Vec<Vec<u8>>;
        (cursor, page) = redis::cmd("SCAN").arg(cursor).arg("COUNT").arg(SCAN_COUNT).query_async(&mut redis).await?;
        keys.extend(page.into_iter().filter(|key| !key.starts_with(MARKER_KEYS)));
        if cursor == 0 {
            break;
        }
    }
    let is_whole = stores.addresses.objects.is_some();
    let (of_queues, keys): (Vec<_>, Vec<_>) =
        keys.into_iter().partition(|key| is_whole && queues::queue(key).is_some());
    let queues = queues::read(&mut redis, &of_queues).await?;
    let mut read = Vec::with_capacity(keys.len());
    for chunk in keys.chunks(SCAN_COUNT) {
        let mut pipeline = redis::pipe();
        for key in chunk {
            pipeline.cmd("DUMP").arg(key);
        }
        let dumps: Vec<Option<Vec<u8>>> = pipeline.query_async(&mut redis).await?;
        // A key that expired since the scan is not there.
        let there = chunk.iter().zip(dumps).filter_map(|(key, dump)| Some((key.clone(), dump?)));
        read.extend(there.map(|(key, dump)| (Resource::Key(key), digest(&dump))));
    }
    Ok((read, queues))
}

async fn read_rows(stores: &Stores) -> Result<Vec<(Resource, u64)>> {
    let mut read = Vec::new();
    for table in TABLES.iter().filter(|_| stores.addresses.objects.is_some()) {
        let query = format!("SELECT id, it::text FROM {} AS it", table.name);
        let rows: Vec<(Uuid, String)> = sqlx::query_as(AssertSqlSafe(query)).fetch_all(&stores.postgres).await?;
        read.extend(rows.into_iter().map(|(id, text)| (Resource::Row { table: table.name, id }, digest(&text))));
    }
    Ok(read)
}

async fn read_objects(stores: &Stores) -> Result<Vec<(Resource, u64)>> {
    let Some(bucket) = &stores.bucket else { return Ok(Vec::new()) };
    let names = bucket.names().await?.into_iter().filter(|name| !name.starts_with(OWN_FOLDER));
    let read = async |name: String| {
        let content = bucket.get(&name).await?;
        anyhow::Ok((Resource::Object(name), digest(&content)))
    };
    futures::stream::iter(names.map(read)).buffer_unordered(AT_ONCE).try_collect().await
}

async fn read_points(stores: &Stores) -> Result<Vec<(Resource, u64)>> {
    let collection = stores.addresses.collection();
    let mut read = Vec::new();
    let mut offset: Option<WirePointId> = None;
    loop {
        let mut request = ScrollPointsBuilder::new(&collection).limit(PAGE).with_payload(true).with_vectors(true);
        if let Some(offset) = offset {
            request = request.offset(offset);
        }
        let page = stores.qdrant.scroll(request).await?;
        for point in page.result {
            read.push(read_point(point)?);
        }
        offset = page.next_page_offset;
        if offset.is_none() {
            return Ok(read);
        }
    }
}

fn read_point(point: RetrievedPoint) -> Result<(Resource, u64)> {
    let id = match point.id.and_then(|id| id.point_id_options).context("a point without an id")? {
        PointIdOptions::Num(number) => PointId::Number(number),
        PointIdOptions::Uuid(text) => PointId::Uuid(text.parse()?),
    };
    let payload: BTreeMap<String, Value> =
        point.payload.into_iter().map(|(key, value)| (key, sorted(value.into_json()))).collect();
    let vectors: BTreeMap<String, String> = match point.vectors.and_then(|vectors| vectors.vectors_options) {
        None => BTreeMap::new(),
        Some(VectorsOptions::Vector(only)) => [(String::new(), format!("{:?}", only.into_vector()))].into(),
        Some(VectorsOptions::Vectors(named)) => {
            named.vectors.into_iter().map(|(name, vector)| (name, format!("{:?}", vector.into_vector()))).collect()
        }
    };
    Ok((Resource::Point(id), digest(&(serde_json::to_string(&payload)?, vectors))))
}

/// Objects with their keys in order: the server returns them in any.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(object) => {
            let ordered: BTreeMap<String, Value> =
                object.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            Value::Object(ordered.into_iter().collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(sorted).collect()),
        other => other,
    }
}

fn read_files(base: &Path, folder: &Path, read: &mut Vec<(Resource, u64)>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() && path.ends_with(OWN_FOLDER) {
            // What it has in there is its own, except for the trash, which was the campus'.
            read_trash(base, &path, read)?;
        } else if path.is_dir() {
            read_files(base, &path, read)?;
        } else {
            let content = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            let relative = path.strip_prefix(base)?.to_string_lossy().into_owned();
            read.push((Resource::File(relative), digest(&content)));
        }
    }
    Ok(())
}

fn read_trash(base: &Path, own: &Path, read: &mut Vec<(Resource, u64)>) -> Result<()> {
    let trash = own.join("trash");
    if trash.is_dir() { read_files(base, &trash, read) } else { Ok(()) }
}

pub(crate) fn digest(content: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}
