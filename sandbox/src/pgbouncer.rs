//! PgBouncer: a pooler between a client and a Postgres.

use std::{ffi::OsString, fs, ops::Deref, path::Path};

use anyhow::{Context, Result};
use url::Url;

use crate::{
    postgres::{hand_over, unprivileged},
    program::program,
    server::{Kind, Server},
};

static KIND: Kind =
    Kind { name: "pgbouncer", ready: "process up", port_taken: "Address already in use", stop: "TERM", last: "KILL" };

/// When a pooler gives a server connection to another client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// When its client leaves.
    Session,
    /// After each transaction.
    Transaction,
    /// After each statement.
    Statement,
}

impl Pooling {
    fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Transaction => "transaction",
            Self::Statement => "statement",
        }
    }
}

/// A PgBouncer before the server of a URL, gone when the last clone of its handle is.
#[derive(Clone)]
pub struct PgBouncer {
    server: Server,
    upstream: Url,
}

impl PgBouncer {
    /// Starts a pooler with so many server connections for each database and user. It lets in the URL's user only.
    ///
    /// # Errors
    ///
    /// When PgBouncer is not installed or does not start, or the URL is none; the message ends with its log.
    pub async fn start(url: &str, pooling: Pooling, connections: u16) -> Result<Self> {
        let upstream: Url = url.parse().context("the server's URL is none")?;
        let host = upstream.host_str().context("the server's URL has no host")?.to_owned();
        let (server, password) = (upstream.port().unwrap_or(5432), upstream.password().unwrap_or_default().to_owned());
        let command = move |folder: &Path, port: u16| {
            let password = if password.is_empty() { String::new() } else { format!(" password={password}") };
            let settings = format!(
                "[databases]\n* = host={host} port={server}{password}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
                 unix_socket_dir =\nauth_type = trust\nauth_file = {users}\npool_mode = {mode}\n\
                 default_pool_size = {connections}\nignore_startup_parameters = extra_float_digits\n",
                users = folder.join("users").display(),
                mode = pooling.as_str(),
            );
            fs::write(folder.join("pgbouncer.ini"), settings)?;
            let mut command = unprivileged()?;
            command.extend([program("pgbouncer")?.into(), OsString::from(folder.join("pgbouncer.ini"))]);
            Ok(command)
        };
        let user = upstream.username().to_owned();
        let prepare = move |folder: &Path| {
            fs::write(folder.join("users"), format!("\"{user}\" \"\"\n"))?;
            hand_over(folder)
        };
        Ok(Self { server: Server::start(&KIND, prepare, command).await?, upstream })
    }

    /// The URL of the same database through the pooler.
    ///
    /// # Errors
    ///
    /// When the server's URL can have no other address.
    pub fn url(&self) -> Result<String> {
        let mut url = self.upstream.clone();
        url.set_host(Some("127.0.0.1")).context("the host cannot be set")?;
        url.set_port(Some(self.server.port())).ok().context("the port cannot be set")?;
        Ok(url.into())
    }
}

impl Deref for PgBouncer {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}
