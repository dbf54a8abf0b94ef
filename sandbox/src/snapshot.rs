//! What lies in the stores, byte for byte, to be compared with what lies there later.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
};

use anyhow::{Context, Result};
use qdrant_client::qdrant::{
    PointId as WirePointId, RetrievedPoint, ScrollPointsBuilder, point_id::PointIdOptions,
    vectors_output::VectorsOptions,
};
use serde_json::Value;
use uuid::Uuid;

use crate::{Stores, server::blocking};

/// Strict mode allows no larger page.
const PAGE: u32 = 100;
const SCAN_COUNT: usize = 1_000;
/// What a collector leaves in the stores that it adopted is no resource of the campus.
const MARKER_KEY: &[u8] = b"course-gc:marker";
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
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(name) => write!(f, "key {}", String::from_utf8_lossy(name)),
            Self::Point(PointId::Number(id)) => write!(f, "point {id}"),
            Self::Point(PointId::Uuid(id)) => write!(f, "point {id}"),
            Self::File(path) => write!(f, "file {path}"),
        }
    }
}

/// Every resource in Redis, the collection and the files with a digest of its whole content: a key's value, a point's
/// payload and vectors, a file's bytes. Times to live are not part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<Resource, u64>);

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
        let (keys, points, files) = tokio::try_join!(read_keys(stores), read_points(stores), files)?;
        Ok(Self(keys.into_iter().chain(points).chain(files).collect()))
    }

    /// The resources, in order.
    pub fn resources(&self) -> impl Iterator<Item = &Resource> {
        self.0.keys()
    }

    /// Whether a resource is there.
    pub fn contains(&self, resource: &Resource) -> bool {
        self.0.contains_key(resource)
    }

    /// What happened from this snapshot to a later one.
    pub fn diff(&self, later: &Self) -> Difference {
        let without = |these: &Self, those: &Self| -> BTreeSet<Resource> {
            these.0.keys().filter(|resource| !those.contains(resource)).cloned().collect()
        };
        let differs =
            |(resource, digest): &(&Resource, &u64)| later.0.get(*resource).is_some_and(|other| other != *digest);
        Difference {
            gone: without(self, later),
            added: without(later, self),
            changed: self.0.iter().filter(differs).map(|(resource, _)| resource.clone()).collect(),
        }
    }
}

async fn read_keys(stores: &Stores) -> Result<Vec<(Resource, u64)>> {
    let mut redis = stores.redis.clone();
    let mut keys = BTreeSet::<Vec<u8>>::new();
    let mut cursor = 0_u64;
    loop {
        let page: Vec<Vec<u8>>;
        (cursor, page) = redis::cmd("SCAN").arg(cursor).arg("COUNT").arg(SCAN_COUNT).query_async(&mut redis).await?;
        keys.extend(page.into_iter().filter(|key| key != MARKER_KEY));
        if cursor == 0 {
            break;
        }
    }
    let keys: Vec<Vec<u8>> = keys.into_iter().collect();
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
    Ok(read)
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

fn digest(content: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}
