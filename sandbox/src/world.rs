//! All stores of a platform together: their addresses, clients for them, and the handles that keep them alive.

use std::path::{Path, PathBuf};

use anyhow::Result;
use redis::aio::MultiplexedConnection;
use sqlx::{PgPool, postgres::PgPoolOptions};
use tempfile::TempDir;

use crate::{Collections, Database, Keyspace, qdrant, redis as keyspace};

/// Where a platform's stores are. URLs may hold passwords, hence no `Debug`.
#[derive(Clone)]
pub struct Addresses {
    /// URL of the database with the courses.
    pub postgres: String,
    /// URL of the logical database with the keys.
    pub redis: String,
    /// URL of Qdrant's gRPC endpoint.
    pub qdrant: String,
    /// The key that Qdrant asks for.
    pub qdrant_api_key: Option<String>,
    /// The alias of the collection with the points. The physical collection's name is this and `_v1`.
    pub alias: String,
    /// The absolute folder in which `uploads` and `enrichments` lie.
    pub files: PathBuf,
}

impl Addresses {
    /// The physical collection's name.
    pub fn collection(&self) -> String {
        format!("{}_v1", self.alias)
    }
}

/// Clients for a platform's stores, as its own programs would hold them.
#[derive(Clone)]
pub struct Stores {
    /// The database with the courses.
    pub postgres: PgPool,
    /// The logical database with the keys.
    pub redis: MultiplexedConnection,
    /// The collection's server.
    pub qdrant: qdrant_client::Qdrant,
    /// What the clients are connected to.
    pub addresses: Addresses,
}

impl Stores {
    /// Connects to all stores.
    ///
    /// # Errors
    ///
    /// When one cannot be reached.
    pub async fn connect(addresses: &Addresses) -> Result<Self> {
        Ok(Self {
            postgres: PgPoolOptions::new()
                .max_connections(4)
                .connect(&addresses.postgres)
                .await?,
            redis: keyspace::connect(&addresses.redis).await?,
            qdrant: qdrant::connect(&addresses.qdrant, addresses.qdrant_api_key.as_deref())?,
            addresses: addresses.clone(),
        })
    }
}

/// An empty place in every store, gone with this handle.
pub struct World {
    database: Database,
    keyspace: Keyspace,
    collections: Collections,
    files: TempDir,
}

impl World {
    /// Creates the places, on the servers that the environment names or on the sandbox's own.
    ///
    /// # Errors
    ///
    /// When a server cannot be started or reached.
    pub async fn create() -> Result<Self> {
        let (database, keyspace, collections) = tokio::try_join!(
            Database::create(),
            Keyspace::create(),
            Collections::create()
        )?;
        let files = tempfile::Builder::new()
            .prefix("sandbox-files-")
            .tempdir()?;
        Ok(Self {
            database,
            keyspace,
            collections,
            files,
        })
    }

    /// Where the places are.
    pub fn addresses(&self) -> Addresses {
        Addresses {
            postgres: self.database.url().to_owned(),
            redis: self.keyspace.url().to_owned(),
            qdrant: self.collections.url().to_owned(),
            qdrant_api_key: self.collections.api_key().map(ToOwned::to_owned),
            alias: self.collections.name("course_embeddings"),
            files: self.files.path().to_owned(),
        }
    }

    /// The folder in which `uploads` and `enrichments` lie.
    pub fn files(&self) -> &Path {
        self.files.path()
    }
}
