//! Qdrant: the engine-backed test server, and collections under names of one's own.

use std::{
    ffi::OsString,
    fs,
    ops::Deref,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use qdrant_client::Qdrant as Client;
use uuid::Uuid;

use crate::{
    cleanup::finish,
    server::{Kind, Server},
};

static KIND: Kind =
    Kind { name: "qdrant", ready: "listening on 127.0.0.1:", port_taken: "in use", stop: "TERM", last: "KILL" };

/// The API key's file in the server's folder: arguments can be seen by everybody.
const KEY_FILE: &str = "api-key";

/// How a Qdrant server is started.
#[derive(Clone, Default)]
pub struct QdrantOptions {
    /// The key that every request must carry, if any.
    pub api_key: Option<String>,
}

/// A test server over Qdrant's engine (`sandbox/qdrant`, built by `make engine`), gone when the last clone of its
/// handle is.
#[derive(Clone)]
pub struct Qdrant(Server);

impl Qdrant {
    /// Starts a server that asks for no key.
    ///
    /// # Errors
    ///
    /// When its program is not built or does not start; the message ends with its log.
    pub async fn start() -> Result<Self> {
        Self::start_with(QdrantOptions::default()).await
    }

    /// Starts a server.
    ///
    /// # Errors
    ///
    /// As [`Qdrant::start`].
    pub async fn start_with(options: QdrantOptions) -> Result<Self> {
        let with_key = options.api_key.is_some();
        let prepare = move |folder: &Path| match &options.api_key {
            Some(key) => Ok(fs::write(folder.join(KEY_FILE), key)?),
            None => Ok(()),
        };
        Server::start(&KIND, prepare, move |folder, port| command(folder, port, with_key)).await.map(Self)
    }

    /// The URL of its gRPC endpoint.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.0.port())
    }
}

impl Deref for Qdrant {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.0
    }
}

/// A place for collections: on the server that `QDRANT_URL` (with `QDRANT_API_KEY`) names when that is set, under
/// names that no other test uses and deleted with this handle, on a new server under their plain names otherwise.
pub struct Collections {
    url: String,
    api_key: Option<String>,
    /// Before each name; empty on a server of our own.
    prefix: String,
    own: Option<Qdrant>,
}

impl Collections {
    /// Starts a server, or chooses a prefix for the given one.
    ///
    /// # Errors
    ///
    /// As [`Qdrant::start`].
    pub async fn create() -> Result<Self> {
        match std::env::var("QDRANT_URL") {
            Ok(url) => {
                let prefix = format!("course_gc_test_{}_", Uuid::new_v4().simple());
                Ok(Self { url, api_key: std::env::var("QDRANT_API_KEY").ok(), prefix, own: None })
            }
            Err(_) => {
                let own = Qdrant::start().await?;
                Ok(Self { url: own.url(), api_key: None, prefix: String::new(), own: Some(own) })
            }
        }
    }

    /// The URL of the gRPC endpoint.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The key that the server asks for.
    pub fn api_key(&self) -> Option<&str> {
        self.api_key.as_deref()
    }

    /// The name to use for a collection or an alias. Only what is named so is deleted in the end.
    pub fn name(&self, plain: &str) -> String {
        format!("{}{plain}", self.prefix)
    }
}

impl Drop for Collections {
    fn drop(&mut self) {
        if self.own.is_some() {
            return;
        }
        finish(&format!("collections {}*", self.prefix), || async {
            let client = connect(&self.url, self.api_key())?;
            for alias in client.list_aliases().await?.aliases {
                if alias.alias_name.starts_with(&self.prefix) {
                    client.delete_alias(alias.alias_name).await?;
                }
            }
            for collection in client.list_collections().await?.collections {
                if collection.name.starts_with(&self.prefix) {
                    client.delete_collection(collection.name).await?;
                }
            }
            Ok(())
        });
    }
}

/// A client with a timeout fit for tests, which does not look at the server's version.
pub(crate) fn connect(url: &str, api_key: Option<&str>) -> Result<Client> {
    let client = Client::from_url(url).timeout(Duration::from_secs(30)).skip_compatibility_check();
    Ok(client.api_key(api_key).build()?)
}

fn command(folder: &Path, port: u16, with_key: bool) -> Result<Vec<OsString>> {
    let data = folder.join("data");
    let mut command = vec![engine()?.into(), "--data".into(), data.into()];
    command.extend(["--port".into(), port.to_string().into()]);
    if with_key {
        command.extend(["--api-key-file".into(), folder.join(KEY_FILE).into()]);
    }
    Ok(command)
}

/// The server's program: `QDRANT_SANDBOX_BIN`, or where `make engine` leaves it in the clone that this process runs in.
///
/// The clone is looked for from the working folder upwards, and only then where this crate was compiled: a build folder
/// that several clones share does not tell them apart.
fn engine() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("QDRANT_SANDBOX_BIN").map(PathBuf::from) {
        ensure!(given.is_file(), "no Qdrant server at {}, which QDRANT_SANDBOX_BIN names", given.display());
        return Ok(given);
    }
    let compiled_in = Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned);
    let here = std::env::current_dir()?;
    here.ancestors()
        .map(Path::to_owned)
        .chain(compiled_in)
        .map(|folder| folder.join("sandbox/qdrant/target/debug/qdrant-sandbox"))
        .find(|path| path.is_file())
        .context("the Qdrant test server is not built: `make engine` builds it")
}
