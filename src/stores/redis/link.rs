//! The way to one server: its address, one spare connection, and errors in words.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, RedisError, ServerErrorKind, TlsCertificates};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};

use super::StoreError;
use super::slots::{Slots, moving};
use crate::errors::chain;
use crate::pace::{Pace, Turn};

/// How a store reaches its Redis.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// `redis://user:password@host:port/db`, or `rediss://` for TLS. Of a cluster, any of its nodes; with sentinels, the name
    /// by which they know the server stands in the place of the host.
    pub url: SecretString,
    /// The same server for a user who may RESTORE, if that is another.
    pub restore_url: Option<SecretString>,
    /// Further nodes of the cluster, asked for all others if the URL's does not answer: `host:port`.
    pub nodes: Vec<String>,
    /// Sentinels who know which server is the primary: `redis://user:password@host:port`, or `rediss://`.
    pub sentinels: Vec<SecretString>,
    /// A file with the certificates, as PEM, of who vouches for the servers; the public authorities otherwise.
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
    host: String,
    port: u16,
    /// Host, port and database; never the user or the password.
    address: String,
    client: Client,
    config: AsyncConnectionConfig,
    call_timeout: Duration,
    pace: Pace,
    spare: Mutex<Option<MultiplexedConnection>>,
}

/// A connection that one operation has for itself. Dropped, it is closed, whatever it had still to send; only after
/// everything went well it is [given back](Lease::give_back).
pub(in crate::stores) struct Lease {
    connection: MultiplexedConnection,
    call: Call,
}

/// What a call is for, in words, of whom, and how long its answer is waited for.
#[derive(Clone)]
pub(in crate::stores) struct Call {
    link: Arc<Link>,
    doing: &'static str,
    limit: Duration,
}

/// What a server says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::stores) struct Server {
    pub(in crate::stores) version: String,
    /// New at each start of the process.
    pub(in crate::stores) run_id: String,
    /// True of a node of a cluster, which holds a part of the keys.
    pub(in crate::stores) in_cluster: bool,
    role: String,
}

/// A primary, and whose all slots are if it is one of a cluster's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::stores) struct View {
    pub(in crate::stores) server: Server,
    pub(in crate::stores) slots: Option<Slots>,
}

impl Link {
    /// # Errors
    /// If the URL is none, or the certificates of those who vouch for the server cannot be read.
    pub(in crate::stores) fn new(
        kind: &'static Kind,
        name: &str,
        url: &SecretString,
        ca: Option<&Path>,
        call_timeout: Duration,
    ) -> Result<Self, StoreError> {
        let root_cert = ca.map(|ca| certificates(kind, name, ca)).transpose()?;
        let client = match root_cert {
            None => Client::open(url.expose_secret()),
            Some(_) => Client::build_with_tls(url.expose_secret(), TlsCertificates { client_tls: None, root_cert }),
        };
        let client = client.map_err(|error| {
            let advice = "write its url as redis://user:password@host:port/database, with special characters escaped";
            StoreError::server(format!("{} store `{name}` has no usable address; {advice}", kind.name), error)
        })?;
        Ok(Self::by(kind, name.to_owned(), client, call_timeout))
    }

    fn by(kind: &'static Kind, name: String, client: Client, call_timeout: Duration) -> Self {
        let info = client.get_connection_info();
        let address = format!("{}/{}", info.addr(), info.redis_settings().db());
        let (host, port) = match info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => (host.clone(), *port),
            other => (other.to_string(), 0),
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(call_timeout))
            .set_response_timeout(Some(call_timeout));
        Self {
            kind,
            name,
            host,
            port,
            address,
            client,
            config,
            call_timeout,
            pace: Pace::default(),
            spare: Mutex::new(None),
        }
    }

    /// The same way to another server: the same user, the same database, the same trust.
    ///
    /// # Errors
    /// If the address is none.
    pub(in crate::stores) fn to(&self, host: &str, port: u16) -> Result<Self, StoreError> {
        let info = self.client.get_connection_info();
        let address = match info.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => ConnectionAddr::TcpTls {
                host: host.to_owned(),
                port,
                insecure: *insecure,
                tls_params: tls_params.clone(),
            },
            _ => ConnectionAddr::Tcp(host.to_owned(), port),
        };
        let client = Client::open(info.clone().set_addr(address)).map_err(|error| {
            let Self { kind, name, .. } = self;
            StoreError::server(format!("{} store `{name}` has no way to {host}:{port}", kind.name), error)
        })?;
        Ok(Self { pace: self.pace.clone(), ..Self::by(self.kind, self.name.clone(), client, self.call_timeout) })
    }

    /// The same way, at this pace.
    pub(in crate::stores) fn paced(&self, pace: &Pace) -> Self {
        let Self { kind, name, client, call_timeout, .. } = self;
        Self { pace: pace.clone(), ..Self::by(kind, name.clone(), client.clone(), *call_timeout) }
    }

    pub(in crate::stores) fn name(&self) -> &str {
        &self.name
    }

    pub(in crate::stores) fn address(&self) -> &str {
        &self.address
    }

    pub(in crate::stores) fn host(&self) -> &str {
        &self.host
    }

    pub(in crate::stores) fn is_at(&self, host: &str, port: u16) -> bool {
        self.host == host && self.port == port
    }

    /// What something is done by, in words.
    pub(in crate::stores) fn call(self: &Arc<Self>, doing: &'static str) -> Call {
        Call { link: Arc::clone(self), doing, limit: self.call_timeout }
    }

    /// The spare connection, if it still answers, or a new one. `doing` is what it is for, in words.
    pub(in crate::stores) async fn lease(self: &Arc<Self>, doing: &'static str) -> Result<Lease, StoreError> {
        let call = self.call(doing);
        let spare = self.spare().take();
        if let Some(mut connection) = spare {
            connection.set_response_timeout(self.call_timeout);
            match redis::cmd("PING").query_async::<()>(&mut connection).await {
                Ok(()) => return Ok(Lease { connection, call }),
                Err(error) if error.is_timeout() => return Err(call.failed(error)),
                Err(error) => tracing::debug!(store = self.name, %error, "connecting anew"),
            }
        }
        let connection = self.client.get_multiplexed_async_connection_with_config(&self.config).await;
        let connection = connection.map_err(|error| call.failed(error))?;
        Ok(Lease { connection, call })
    }

    fn spare(&self) -> std::sync::MutexGuard<'_, Option<MultiplexedConnection>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    pub(in crate::stores) fn call(&self) -> &Call {
        &self.call
    }

    pub(in crate::stores) fn connection(&mut self) -> &mut MultiplexedConnection {
        &mut self.connection
    }

    /// Waits until a command, or a pipeline, may be sent.
    pub(in crate::stores) async fn turn(&self) -> Turn {
        self.call.link.pace.turn().await
    }

    /// The same for a call that may be alike with others.
    pub(in crate::stores) async fn measured_turn(&self) -> Turn {
        self.call.link.pace.measured_turn().await
    }

    /// Waits no longer than `time` for the answers of all further calls.
    pub(in crate::stores) fn limit(&mut self, time: Duration) {
        self.call.limit = self.call.limit.min(time);
        self.connection.set_response_timeout(self.call.limit);
    }

    /// Keeps a connection on which everything went well for the next operation.
    pub(in crate::stores) fn give_back(self) {
        *self.call.link.spare() = Some(self.connection);
    }

    /// Asks the server who it is.
    ///
    /// # Errors
    /// If it does not say, or is no server of keys.
    pub(in crate::stores) async fn server(&mut self) -> Result<Server, StoreError> {
        let server = self.info("server").await?;
        let replication = self.info("replication").await?;
        Server::read(&server, &replication).map_err(|why| self.call.unusable(format_args!("{why}")))
    }

    pub(super) async fn info(&mut self, section: &str) -> Result<String, StoreError> {
        let answer = redis::cmd("INFO").arg(section).query_async(&mut self.connection).await;
        answer.map_err(|error| self.call.failed(error))
    }

    /// Asks a node of a cluster whose all slots are.
    ///
    /// # Errors
    /// If a slot is nobody's.
    pub(in crate::stores) async fn slots(&mut self) -> Result<Slots, StoreError> {
        let answer = redis::cmd("CLUSTER").arg("SLOTS").query_async::<redis::Value>(&mut self.connection).await;
        let answer = answer.map_err(|error| self.call.failed(error))?;
        Slots::read(&answer, self.call.link.host()).map_err(|why| self.call.unusable(format_args!("{why}")))
    }

    /// Asks a primary who it is, and whose all slots are.
    ///
    /// # Errors
    /// If it is no primary, a slot is nobody's, or one of its slots is on its way to or from it.
    pub(in crate::stores) async fn view(&mut self) -> Result<View, StoreError> {
        let server = self.server().await?;
        server.primary().map_err(|why| self.call.unusable(format_args!("{why}")))?;
        if !server.in_cluster {
            return Ok(View { server, slots: None });
        }
        let slots = self.slots().await?;
        let nodes = redis::cmd("CLUSTER").arg("NODES").query_async::<String>(&mut self.connection).await;
        let nodes = nodes.map_err(|error| self.call.failed(error))?;
        match moving(&nodes) {
            None => Ok(View { server, slots: Some(slots) }),
            Some(slot) => Err(self.call.unusable(format_args!(
                "a slot of it is on its way: {slot}; wait for the next run, or end the migration"
            ))),
        }
    }
}

impl Call {
    pub(in crate::stores) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// An answer that makes no sense, or a server that cannot serve.
    pub(in crate::stores) fn unusable(&self, why: fmt::Arguments<'_>) -> StoreError {
        let Link { kind, name, address, .. } = &*self.link;
        StoreError::Unusable(format!("{} store `{name}` at {address} could not {}: {why}", kind.name, self.doing))
    }

    /// A call that failed, with what to do about it.
    pub(in crate::stores) fn failed(&self, error: RedisError) -> StoreError {
        let Link { kind: Kind { name: kind, needs }, name, address, .. } = &*self.link;
        let Self { doing, limit, .. } = self;
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
            (_, Some("MOVED" | "ASK" | "TRYAGAIN" | "CLUSTERDOWN")) => {
                "a slot of its cluster has moved, or is on its way: nothing was done there; wait for the next run"
            }
            (ErrorKind::Io, _) if chain(&error).contains("invalid peer certificate") => {
                "its certificate is not trusted: give the certificate of who signed it as ca, and use a host in url for which \
                 it was made"
            }
            (ErrorKind::Io, _) => "check its address, and that it runs, with TLS if its url says so",
            (ErrorKind::Parse | ErrorKind::UnexpectedReturnType, _) => "check that its address is a Redis server's",
            _ if chain(&error).contains("not allowed in cluster mode") => {
                "a cluster has one database only: write its url without a number"
            }
            _ => "see the server's log",
        };
        StoreError::server(format!("{kind} store `{name}` at {address} could not {doing}; {advice}"), error)
    }
}

/// The certificates in a file, of which there must be some: with none, nobody would vouch for any server.
fn certificates(kind: &Kind, name: &str, ca: &Path) -> Result<Vec<u8>, StoreError> {
    let cannot =
        format!("{} store `{name}` has no certificates in {}; name a file with them as PEM", kind.name, ca.display());
    let pem = match std::fs::read(ca) {
        Ok(pem) => pem,
        Err(error) => return Err(StoreError::server(cannot, error)),
    };
    match CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>() {
        Ok(some) if !some.is_empty() => Ok(pem),
        Ok(_) => Err(StoreError::Unusable(cannot)),
        Err(error) => Err(StoreError::server(cannot, error)),
    }
}

impl Server {
    /// Reads INFO's sections `server` and `replication`, or says why such a server is refused.
    pub(in crate::stores) fn read(server: &str, replication: &str) -> Result<Self, String> {
        // Valkey calls it otherwise.
        let mode = field(server, "redis_mode").or_else(|| field(server, "server_mode"));
        let (Some(mode), Some(version), Some(run_id)) = (mode, field(server, "redis_version"), field(server, "run_id"))
        else {
            return Err("its INFO names no mode, version or run id; check that its address is a Redis server's".into());
        };
        let in_cluster = match mode {
            "standalone" => false,
            "cluster" => true,
            mode => return Err(format!("it runs in mode `{mode}` and holds no keys; use the address of who does")),
        };
        let role = field(replication, "role").unwrap_or("unknown").to_owned();
        Ok(Self { version: version.into(), run_id: run_id.into(), in_cluster, role })
    }

    /// Says why it is refused, if it is no primary.
    pub(in crate::stores) fn primary(&self) -> Result<(), String> {
        match self.role.as_str() {
            "master" => Ok(()),
            role => Err(format!("its role is `{role}`, so it may lag and refuses deletes; use the primary's address")),
        }
    }
}

/// A field of INFO's answer.
pub(super) fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}
