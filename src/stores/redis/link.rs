//! The way to the server: its address, one spare connection, and errors in words.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, RedisError, ServerErrorKind, TlsCertificates};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};

use super::StoreError;
use crate::errors::chain;

/// How a store reaches its Redis.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// `redis://user:password@host:port/db`, or `rediss://` for TLS.
    pub url: SecretString,
    /// The same server for a user who may RESTORE, if that is another.
    pub restore_url: Option<SecretString>,
    /// A file with the certificates, as PEM, of who vouches for the server; the public authorities otherwise.
    pub ca: Option<PathBuf>,
    /// How long to wait for a connection, and for the answer of each call.
    pub call_timeout: Duration,
}

/// What the stores of a kind are called in errors, and what they need.
#[derive(Debug)]
pub(in crate::stores) struct Kind {
    pub(in crate::stores) name: &'static str,
    /// Commands and keys that its user must be allowed, in words.
    pub(in crate::stores) needs: &'static str,
}

/// Connects to one server, with a timeout on every call.
pub(in crate::stores) struct Link {
    kind: &'static Kind,
    name: String,
    /// Host, port and database; never the user or the password.
    address: String,
    client: Client,
    config: AsyncConnectionConfig,
    call_timeout: Duration,
    spare: Mutex<Option<MultiplexedConnection>>,
}

/// A connection that one operation has for itself. Dropped, it is closed, whatever it had still to send; only after
/// everything went well it is [given back](Link::give_back).
pub(in crate::stores) struct Lease {
    connection: MultiplexedConnection,
    call: Call,
}

/// What a call is for, in words, and how long its answer is waited for.
#[derive(Debug, Clone, Copy)]
pub(in crate::stores) struct Call {
    pub(in crate::stores) doing: &'static str,
    limit: Duration,
}

impl Lease {
    pub(in crate::stores) fn call(&self) -> Call {
        self.call
    }

    pub(in crate::stores) fn connection(&mut self) -> &mut MultiplexedConnection {
        &mut self.connection
    }

    /// Waits no longer than `time` for the answers of all further calls.
    pub(in crate::stores) fn limit(&mut self, time: Duration) {
        self.call.limit = self.call.limit.min(time);
        self.connection.set_response_timeout(self.call.limit);
    }
}

/// What a server says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::stores) struct Server {
    pub(in crate::stores) version: String,
    /// New at each start of the process.
    pub(in crate::stores) run_id: String,
}

impl Link {
    /// # Errors
    /// If the URL is none, or the certificates of those who vouch for the server cannot be read.
    pub(in crate::stores) fn new(
        kind: &'static Kind,
        name: String,
        url: &SecretString,
        ca: Option<&Path>,
        call_timeout: Duration,
    ) -> Result<Self, StoreError> {
        let root_cert = ca.map(|ca| certificates(kind, &name, ca)).transpose()?;
        let client = match root_cert {
            None => Client::open(url.expose_secret()),
            Some(_) => Client::build_with_tls(url.expose_secret(), TlsCertificates { client_tls: None, root_cert }),
        };
        let client = client.map_err(|error| {
            let advice = "write its url as redis://user:password@host:port/database, with special characters escaped";
            StoreError::server(format!("{} store `{name}` has no usable address; {advice}", kind.name), error)
        })?;
        let info = client.get_connection_info();
        let address = format!("{}/{}", info.addr(), info.redis_settings().db());
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(call_timeout))
            .set_response_timeout(Some(call_timeout));
        Ok(Self { kind, name, address, client, config, call_timeout, spare: Mutex::new(None) })
    }

    pub(in crate::stores) fn name(&self) -> &str {
        &self.name
    }

    pub(in crate::stores) fn address(&self) -> &str {
        &self.address
    }

    /// The spare connection, if it still answers, or a new one. `doing` is what it is for, in words.
    pub(in crate::stores) async fn lease(&self, doing: &'static str) -> Result<Lease, StoreError> {
        let call = Call { doing, limit: self.call_timeout };
        let spare = self.spare().take();
        if let Some(mut connection) = spare {
            connection.set_response_timeout(self.call_timeout);
            match redis::cmd("PING").query_async::<()>(&mut connection).await {
                Ok(()) => return Ok(Lease { connection, call }),
                Err(error) if error.is_timeout() => return Err(self.failed(call, error)),
                Err(error) => tracing::debug!(store = self.name, %error, "connecting anew"),
            }
        }
        let connection = self.client.get_multiplexed_async_connection_with_config(&self.config).await;
        let connection = connection.map_err(|error| self.failed(call, error))?;
        Ok(Lease { connection, call })
    }

    /// Keeps a connection on which everything went well for the next operation.
    pub(in crate::stores) fn give_back(&self, lease: Lease) {
        *self.spare() = Some(lease.connection);
    }

    fn spare(&self) -> std::sync::MutexGuard<'_, Option<MultiplexedConnection>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the server who it is.
    ///
    /// # Errors
    /// If it is no primary, or holds only a part of the keys.
    pub(in crate::stores) async fn server(&self, lease: &mut Lease) -> Result<Server, StoreError> {
        let server = self.info(lease, "server").await?;
        let replication = self.info(lease, "replication").await?;
        Server::read(&server, &replication).map_err(|why| self.unusable(lease.call, format_args!("{why}")))
    }

    async fn info(&self, lease: &mut Lease, section: &str) -> Result<String, StoreError> {
        let answer = redis::cmd("INFO").arg(section).query_async(&mut lease.connection).await;
        answer.map_err(|error| self.failed(lease.call, error))
    }

    /// An answer that makes no sense, or a server that cannot serve.
    pub(in crate::stores) fn unusable(&self, call: Call, why: fmt::Arguments<'_>) -> StoreError {
        let Self { kind, name, address, .. } = self;
        StoreError::Unusable(format!("{} store `{name}` at {address} could not {}: {why}", kind.name, call.doing))
    }

    /// A call that failed, with what to do about it.
    pub(in crate::stores) fn failed(&self, call: Call, error: RedisError) -> StoreError {
        let Self { kind: Kind { name: kind, needs }, name, address, .. } = self;
        let Call { doing, limit } = call;
        if error.is_timeout() {
            let action = format!("{kind} store `{name}` at {address} could not {doing}; see whether it is up and busy");
            return StoreError::Timeout { action, seconds: limit.as_secs_f64() };
        }
        let advice = match (error.kind(), error.code()) {
            (ErrorKind::AuthenticationFailed, _) | (_, Some("NOAUTH" | "WRONGPASS")) => {
                "check the user and the password in its url"
            }
            (ErrorKind::Server(ServerErrorKind::NoPerm), _) => needs,
            (ErrorKind::Server(ServerErrorKind::ReadOnly), _) => "it is a replica: use the primary's address",
            (ErrorKind::Server(ServerErrorKind::BusyLoading), _) => "it is loading its data: wait for the next run",
            (ErrorKind::Io, _) if chain(&error).contains("invalid peer certificate") => {
                "its certificate is not trusted: give the certificate of who signed it as ca, and use a host in url for which \
                 it was made"
            }
            (ErrorKind::Io, _) => "check its address, and that it runs, with TLS if its url says so",
            (ErrorKind::Parse | ErrorKind::UnexpectedReturnType, _) => "check that its address is a Redis server's",
            _ => "see the server's log",
        };
        StoreError::server(format!("{kind} store `{name}` at {address} could not {doing}; {advice}"), error)
    }
}

/// The certificates in a file, of which there must be some: with none, nobody would vouch for any server.
fn certificates(kind: &Kind, name: &str, ca: &Path) -> Result<Vec<u8>, StoreError> {
    let cannot = |why: &str| format!("{} store `{name}` has no certificates in {}{why}", kind.name, ca.display());
    let advice = "; name a file with them as PEM";
    let pem = std::fs::read(ca).map_err(|error| StoreError::server(cannot(advice), error))?;
    match CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>() {
        Ok(some) if !some.is_empty() => Ok(pem),
        Ok(_) => Err(StoreError::Unusable(cannot(advice))),
        Err(error) => Err(StoreError::server(cannot(advice), error)),
    }
}

impl Server {
    /// Reads INFO's sections `server` and `replication`, or says why such a server is refused.
    pub(in crate::stores) fn read(server: &str, replication: &str) -> Result<Self, String> {
        let role = field(replication, "role").unwrap_or("unknown");
        if role != "master" {
            return Err(format!("its role is `{role}`, so it may lag and refuses deletes; use the primary's address"));
        }
        let mode = field(server, "redis_mode").unwrap_or("standalone");
        if mode != "standalone" {
            return Err(format!("it runs in mode `{mode}` and holds a part of the keys only; use a standalone server"));
        }
        match (field(server, "redis_version"), field(server, "run_id")) {
            (Some(version), Some(run_id)) => Ok(Self { version: version.into(), run_id: run_id.into() }),
            _ => Err("its INFO names no version or run id; check that its address is a Redis server's".into()),
        }
    }
}

/// A field of INFO's answer.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}
