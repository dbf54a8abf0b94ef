//! What the engine does not keep: which collections there are, their definitions and the aliases.
//!
//! One protobuf file, replaced by a rename, so that a killed server leaves the old state or the
//! new one. A collection's folder that no entry names is the rest of an interrupted create or
//! delete.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use prost::Message;
use qdrant_client::qdrant::CreateCollection;

const FILE: &str = "manifest.pb";
const DRAFT: &str = "manifest.pb.new";

/// The state that survives a restart beside the engine's own.
#[derive(Clone, PartialEq, Message)]
pub struct Manifest {
    /// Every collection.
    #[prost(message, repeated, tag = "1")]
    pub collections: Vec<Entry>,
    /// Collection names by alias.
    #[prost(map = "string, string", tag = "2")]
    pub aliases: HashMap<String, String>,
}

/// One collection.
#[derive(Clone, PartialEq, Message)]
pub struct Entry {
    /// Name of its folder, which no collection's name can reach out of.
    #[prost(string, tag = "1")]
    pub folder: String,
    /// The request that created it, with every later update merged in.
    #[prost(message, optional, tag = "2")]
    pub definition: Option<CreateCollection>,
}

impl Manifest {
    /// The manifest of the folder `data`; an empty one if there is none yet.
    pub fn load(data: &Path) -> io::Result<Self> {
        match fs::read(data.join(FILE)) {
            Ok(bytes) => Self::decode(bytes.as_slice()).map_err(|error| io::Error::new(ErrorKind::InvalidData, error)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Replaces the manifest of the folder `data`, durably.
    pub fn save(&self, data: &Path) -> io::Result<()> {
        let draft = data.join(DRAFT);
        let mut file = File::create(&draft)?;
        file.write_all(&self.encode_to_vec())?;
        file.sync_all()?;
        fs::rename(&draft, data.join(FILE))?;
        File::open(data)?.sync_all()
    }
}
