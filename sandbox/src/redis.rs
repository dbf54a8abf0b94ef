//! Redis: a server of one's own, and fresh logical databases.

use std::{
    ffi::OsString,
    ops::Deref,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use redis::{AsyncConnectionConfig, Client, aio::MultiplexedConnection};
use url::Url;
use uuid::Uuid;

use crate::{
    certificates::certificates,
    cleanup::finish,
    program::program,
    redis_cluster,
    server::{Kind, Server},
};

static KIND: Kind = Kind {
    name: "redis",
    ready: "Ready to accept connections",
    port_taken: "Address already in use",
    stop: "TERM",
    last: "KILL",
};

/// Marks a logical database of a given server as taken by a test.
pub(crate) const CLAIM: &str = "course-gc-sandbox:claim";

/// A Redis server that never evicts, gone when the last clone of its handle is. It appends every write to a file, so
/// that its data survives [`Server::restart`] and [`Server::crash`].
#[derive(Clone)]
pub struct Redis {
    server: Server,
    scheme: &'static str,
}

impl Redis {
    /// Starts a server.
    ///
    /// # Errors
    ///
    /// When Redis is not installed or does not start; the message ends with its log.
    pub async fn start() -> Result<Self> {
        let command = |folder: &Path, port: u16| command(folder, &["--port", &port.to_string()]);
        Ok(Self { server: Server::start(&KIND, |_| Ok(()), command).await?, scheme: "redis" })
    }

    /// Starts a server that speaks TLS and nothing else. Who [`Redis::authority`] is vouches for it.
    ///
    /// # Errors
    ///
    /// As [`Redis::start`]; and when the certificates could not be made.
    pub async fn start_with_tls() -> Result<Self> {
        let command = |folder: &Path, port: u16| {
            let file = |name: &str| folder.join(name).display().to_string();
            let (certificate, key, ca) = (file("certificate.pem"), file("key.pem"), file("ca.pem"));
            let port = port.to_string();
            let tls = ["--port", "0", "--tls-port", &port, "--tls-cert-file", &certificate, "--tls-key-file", &key];
            command(folder, &[&tls[..], &["--tls-ca-cert-file", &ca, "--tls-auth-clients", "no"]].concat())
        };
        Ok(Self { server: Server::start(&KIND, certificates, command).await?, scheme: "rediss" })
    }

    /// Starts a node of a cluster that is not one yet.
    pub(crate) async fn start_in_cluster() -> Result<Self> {
        let command = |folder: &Path, port: u16| {
            let settings = redis_cluster::settings(folder);
            let port = port.to_string();
            let mut all = vec!["--port", &port];
            all.extend(settings.iter().map(String::as_str));
            command(folder, &all)
        };
        Ok(Self { server: Server::start(&KIND, |_| Ok(()), command).await?, scheme: "redis" })
    }

    /// Starts a server that replicates the one at a port.
    pub(crate) async fn start_as_replica(of: u16) -> Result<Self> {
        let command = move |folder: &Path, port: u16| {
            let (port, of) = (port.to_string(), of.to_string());
            command(folder, &["--port", &port, "--replicaof", "127.0.0.1", &of])
        };
        Ok(Self { server: Server::start(&KIND, |_| Ok(()), command).await?, scheme: "redis" })
    }

    /// The URL of logical database 0.
    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}/0", self.scheme, self.server.port())
    }

    /// Where the certificate lies of the authority that vouches for a server with TLS.
    pub fn authority(&self) -> PathBuf {
        self.server.folder().join("ca.pem")
    }

    /// Where the certificate lies of another authority, which vouches for nobody.
    pub fn other_authority(&self) -> PathBuf {
        self.server.folder().join("other-ca.pem")
    }
}

impl Deref for Redis {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

/// An empty logical database: an unused one of the server that `REDIS_URL` names when that is set, flushed with this
/// handle, the only one of a new server otherwise.
pub struct Keyspace {
    url: String,
    /// `None` on a given server.
    own: Option<Redis>,
}

impl Keyspace {
    /// Starts a server or claims a logical database.
    ///
    /// # Errors
    ///
    /// When the server cannot be started or reached, or all its logical databases but 0 are in use.
    pub async fn create() -> Result<Self> {
        match std::env::var("REDIS_URL") {
            Ok(given) => Ok(Self { url: claim(&given).await?, own: None }),
            Err(_) => {
                let own = Redis::start().await?;
                Ok(Self { url: own.url(), own: Some(own) })
            }
        }
    }

    /// The URL with the logical database's number. On a given server it may hold a password.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Keyspace {
    fn drop(&mut self) {
        if self.own.is_some() {
            return;
        }
        finish("a logical database of Redis", || async {
            let mut connection = connect(&self.url).await?;
            Ok(redis::cmd("FLUSHDB").query_async(&mut connection).await?)
        });
    }
}

/// Claims an empty logical database other than 0 and returns its URL. Two tests never get the same: the claim is a key
/// that only one of them can set, and a database with any other key is left as it is.
async fn claim(given: &str) -> Result<String> {
    let mut url: Url = given.parse().context("`REDIS_URL` is no URL")?;
    let claimant = Uuid::new_v4().to_string();
    for number in 1..16 {
        url.set_path(&number.to_string());
        let mut connection = connect(url.as_str()).await?;
        let claimed: Option<String> =
            redis::cmd("SET").arg(CLAIM).arg(&claimant).arg("NX").query_async(&mut connection).await?;
        if claimed.is_none() {
            continue;
        }
        let keys: u64 = redis::cmd("DBSIZE").query_async(&mut connection).await?;
        if keys == 1 {
            return Ok(url.into());
        }
        redis::cmd("DEL").arg(CLAIM).query_async::<()>(&mut connection).await?;
    }
    bail!("`REDIS_URL` has no empty logical database from 1 to 15: flush one or give another server")
}

/// Connects with a timeout fit for tests; the client's own is half a second.
pub(crate) async fn connect(url: &str) -> Result<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(Duration::from_secs(10)))
        .set_response_timeout(Some(Duration::from_secs(30)));
    Ok(Client::open(url)?.get_multiplexed_async_connection_with_config(&config).await?)
}

fn command(folder: &Path, further: &[&str]) -> Result<Vec<OsString>> {
    let settings = [
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "yes",
        "--appendfsync",
        "no",
        "--maxmemory-policy",
        "noeviction",
        "--loglevel",
        "notice",
        "--daemonize",
        "no",
    ];
    let mut command: Vec<OsString> = vec![program("redis-server")?.into()];
    command.extend(settings.iter().chain(further).map(OsString::from));
    command.extend(["--dir".into(), folder.into()]);
    Ok(command)
}
