//! All stores of a platform together: their addresses, clients for them, and the handles that keep them alive.

use std::path::PathBuf;

use anyhow::Result;
use redis::aio::MultiplexedConnection;
use sqlx::{PgPool, postgres::PgPoolOptions};
use tempfile::TempDir;

use crate::{Bucket, Collections, Database, Keyspace, Objects, Postgres, Qdrant, Redis, qdrant, redis as keyspace};

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
    /// URL of the S3 service, if the world is whole: all six stores are in use then, and without it three, whose servers start
    /// in no time.
    pub objects: Option<String>,
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
    /// The bucket of a whole world.
    pub bucket: Option<Bucket>,
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
            postgres: PgPoolOptions::new().max_connections(4).connect(&addresses.postgres).await?,
            redis: keyspace::connect(&addresses.redis).await?,
            qdrant: qdrant::connect(&addresses.qdrant, addresses.qdrant_api_key.as_deref())?,
            bucket: addresses.objects.as_deref().map(Bucket::new).transpose()?,
            addresses: addresses.clone(),
        })
    }
}

/// The plain name of the alias.
const ALIAS: &str = "course_embeddings";

/// One server of each kind of its own, never a given one: for the demo, and for tests that stop or break a server.
pub struct Servers {
    /// The server of the database.
    pub postgres: Postgres,
    /// The server of the keys.
    pub redis: Redis,
    /// The server of the points.
    pub qdrant: Qdrant,
    /// The server of the objects. It alone has forgotten them when it is restarted.
    pub objects: Objects,
    files: TempDir,
}

impl Servers {
    /// Starts them all, with an empty database named `campus`.
    ///
    /// # Errors
    ///
    /// When one does not start.
    pub async fn start() -> Result<Self> {
        let (postgres, redis, qdrant, objects) =
            tokio::try_join!(Postgres::start(), Redis::start(), Qdrant::start(), Objects::start())?;
        postgres.create_database("campus").await?;
        let files = files()?;
        Ok(Self { postgres, redis, qdrant, objects, files })
    }

    /// Where the stores are. It stays the same when a server is restarted.
    pub fn addresses(&self) -> Addresses {
        Addresses {
            postgres: self.postgres.url_of("campus"),
            redis: self.redis.url(),
            qdrant: self.qdrant.url(),
            qdrant_api_key: None,
            alias: ALIAS.to_owned(),
            files: self.files.path().to_owned(),
            objects: Some(self.objects.url()),
        }
    }
}

fn files() -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("sandbox-files-").tempdir()?)
}

/// An empty place in every store, gone with this handle.
pub struct World {
    database: Database,
    keyspace: Keyspace,
    collections: Collections,
    files: TempDir,
    objects: Option<Objects>,
}

impl World {
    /// Creates the places of three stores: points, keys and files. The S3 service is not started.
    ///
    /// # Errors
    ///
    /// When a server cannot be started or reached.
    pub async fn create() -> Result<Self> {
        let (database, keyspace, collections) =
            tokio::try_join!(Database::create(), Keyspace::create(), Collections::create())?;
        Ok(Self { database, keyspace, collections, files: files()?, objects: None })
    }

    /// Creates the places of all six stores. The bucket is always on a server of the sandbox's own.
    ///
    /// # Errors
    ///
    /// When a server cannot be started or reached.
    pub async fn whole() -> Result<Self> {
        let (world, objects) = tokio::try_join!(Self::create(), Objects::start())?;
        Ok(Self { objects: Some(objects), ..world })
    }

    /// Where the places are.
    pub fn addresses(&self) -> Addresses {
        Addresses {
            postgres: self.database.url().to_owned(),
            redis: self.keyspace.url().to_owned(),
            qdrant: self.collections.url().to_owned(),
            qdrant_api_key: self.collections.api_key().map(ToOwned::to_owned),
            alias: self.collections.name(ALIAS),
            files: self.files.path().to_owned(),
            objects: self.objects.as_ref().map(Objects::url),
        }
    }
}
