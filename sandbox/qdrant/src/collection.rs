//! One collection: the engine's shard and the definition that the engine does not keep.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::RwLock;
use prost::Message;
use qdrant_client::qdrant::value::Kind;
use qdrant_client::qdrant::{
    CollectionConfig, CollectionInfo, CollectionParams, CollectionStatus, CreateCollection, OptimizerStatus,
    StrictModeConfig, Value,
};
use qdrant_edge::{EdgeShard, JsonPath, OperationError, PayloadFieldSchema, UpdateOperation};
use uuid::Uuid;

use crate::convert::{definition, index};
use crate::error::Error;

/// One collection. Calls block.
pub struct Collection {
    folder: String,
    shard: EdgeShard,
    definition: RwLock<CreateCollection>,
    operations: AtomicU64,
    changed: AtomicBool,
}

impl Collection {
    /// A new collection, in a folder of its own under `folders`.
    pub fn create(folders: &Path, definition: CreateCollection) -> Result<Self, Error> {
        let config = definition::to_engine(&definition)?;
        let folder = Uuid::new_v4().to_string();
        let shard = EdgeShard::new(&folders.join(&folder), config)?;
        Ok(Self::new(folder, shard, definition))
    }

    /// The collection in `folder`, with the writes that its log holds.
    pub fn load(folders: &Path, folder: &str, definition: CreateCollection) -> Result<Self, OperationError> {
        let shard = EdgeShard::load(&folders.join(folder), None)?;
        Ok(Self::new(folder.to_owned(), shard, definition))
    }

    fn new(folder: String, shard: EdgeShard, definition: CreateCollection) -> Self {
        Self {
            folder,
            shard,
            definition: RwLock::new(definition),
            operations: AtomicU64::new(0),
            changed: AtomicBool::new(false),
        }
    }

    /// The engine, for reads.
    pub fn shard(&self) -> &EdgeShard {
        &self.shard
    }

    /// The name of its folder.
    pub fn folder(&self) -> &str {
        &self.folder
    }

    /// A copy of its definition.
    pub fn definition(&self) -> CreateCollection {
        self.definition.read().clone()
    }

    /// Replaces its definition.
    pub fn define(&self, definition: CreateCollection) {
        *self.definition.write() = definition;
    }

    /// Merges strict mode's settings and metadata into the definition.
    pub fn amend(&self, strict_mode: Option<StrictModeConfig>, metadata: HashMap<String, Value>) -> Result<(), Error> {
        let mut definition = self.definition.write();
        if let Some(diff) = strict_mode {
            // Protobuf's own merge is what is wanted: fields that are set win, the rest stays.
            let current = definition.strict_mode_config.get_or_insert_with(StrictModeConfig::default);
            current.merge(diff.encode_to_vec().as_slice()).map_err(|error| Error::Internal(error.to_string()))?;
        }
        for (key, value) in metadata {
            match value.kind {
                None | Some(Kind::NullValue(_)) => definition.metadata.remove(&key),
                Some(_) => definition.metadata.insert(key, value),
            };
        }
        Ok(())
    }

    /// Strict mode's settings, if it is enabled.
    pub fn strict_mode(&self) -> Option<StrictModeConfig> {
        self.definition.read().strict_mode_config.clone().filter(|config| config.enabled.unwrap_or_default())
    }

    /// The payload indexes by field.
    pub fn indexes(&self) -> Result<HashMap<JsonPath, PayloadFieldSchema>, Error> {
        self.shard
            .info()?
            .payload_schema
            .into_iter()
            .map(|(field, info)| Ok((field, info.try_into().map_err(Error::Internal)?)))
            .collect()
    }

    /// Applies a write and returns its number, which counts from the server's start.
    pub fn write(&self, operation: UpdateOperation) -> Result<u64, Error> {
        let number = self.operations.fetch_add(1, Ordering::Relaxed);
        self.changed.store(true, Ordering::Release);
        self.shard.update(operation)?;
        Ok(number)
    }

    /// Flushes what changed since the last flush.
    pub fn flush(&self) -> Result<(), Error> {
        if self.changed.swap(false, Ordering::AcqRel) {
            self.shard.flush().inspect_err(|_| {
                self.changed.store(true, Ordering::Release);
            })?;
        }
        Ok(())
    }

    /// What the collection is and holds, as the client reads it.
    pub fn info(&self) -> Result<CollectionInfo, Error> {
        let info = self.shard.info()?;
        let definition = self.definition();
        let payload_schema =
            info.payload_schema.into_iter().map(|(field, info)| (field.to_string(), index::to_info(info))).collect();
        Ok(CollectionInfo {
            status: CollectionStatus::Green.into(),
            optimizer_status: Some(OptimizerStatus { ok: true, error: String::new() }),
            segments_count: info.segments_count as u64,
            config: Some(CollectionConfig {
                params: Some(CollectionParams {
                    shard_number: 1,
                    vectors_config: definition.vectors_config,
                    sparse_vectors_config: definition.sparse_vectors_config,
                    replication_factor: Some(1),
                    write_consistency_factor: Some(1),
                    ..CollectionParams::default()
                }),
                strict_mode_config: definition.strict_mode_config,
                metadata: definition.metadata,
                ..CollectionConfig::default()
            }),
            payload_schema,
            points_count: Some(info.points_count as u64),
            indexed_vectors_count: Some(info.indexed_vectors_count as u64),
            ..CollectionInfo::default()
        })
    }
}
