//! A Postgres server: how to reach it, what it is asked with, and why it could not be asked.
//!
//! What is confirmed is asked in a session that holds a lock ([`lock`]).

pub mod copy;
pub mod explain;
mod lock;
mod pooler;
pub mod role;

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{ConnectOptions, Connection, Row};
use tokio::time::timeout;

use pooler::OwnProcess;

pub use lock::{Lock, LockSession, Question};

/// What [`Postgres::idle_timeout`] is unless it is configured: several heartbeats, and short enough to wait for.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the server looks whether the client is still there while it works on a query.
const CONNECTION_CHECK: Duration = Duration::from_secs(1);
/// The first half of every advisory lock of ours: "cogc".
pub const LOCK_CLASS: i32 = 0x636f_6763;

/// Begins a question. What could hide rows is shut out once more, in the transaction itself (S4): behind a pooler the session's own
/// settings may have reached another server process, and a function may have changed them since.
pub const BEGIN_QUESTION: &str =
    "BEGIN TRANSACTION READ ONLY; SET LOCAL row_security = off; SET LOCAL search_path = pg_catalog";

/// Postgres's code for a function that the role may not call.
const INSUFFICIENT_PRIVILEGE: &str = "42501";
/// Postgres's code for a function that there is not, as on some managed servers.
const UNDEFINED_FUNCTION: &str = "42883";

/// Which advisory lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdvisoryLock {
    /// The ledger's.
    Ledger,
    /// A liveness source's.
    Liveness,
    /// Held by each write of a run, shared, and by the beginning of a run: none begins in the middle of another's write.
    Fence,
    /// Held by whoever moves the marker of a store of tables, in that store's database.
    Marker,
}

impl AdvisoryLock {
    /// The second half of its number.
    pub fn object(self) -> i32 {
        match self {
            Self::Ledger => 1,
            Self::Liveness => 2,
            Self::Fence => 3,
            Self::Marker => 4,
        }
    }
}

/// How to reach a Postgres server.
#[derive(Debug, Clone)]
pub struct Postgres {
    /// Who asks, for messages: `the ledger`, `liveness source campus`.
    pub what: String,
    /// The connection URL, with its password.
    pub url: SecretString,
    /// The longest that one call may take.
    pub call_timeout: Duration,
    /// After so long without a sign, the server ends a session and frees its lock.
    pub idle_timeout: Duration,
    /// Shown by the server in its list of sessions.
    pub application: String,
}

/// Why Postgres could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// The URL cannot be read. Its text is not shown, since it may hold a password.
    #[error("{what}: the connection URL cannot be read; it should look like postgres://user@host:5432/database")]
    Url {
        /// Who asked.
        what: String,
    },
    /// A statement or the connection failed.
    #[error("{what} at {address}: {action}")]
    Failed {
        /// Who asked.
        what: String,
        /// Host, port and database.
        address: String,
        /// What was being done.
        action: &'static str,
        /// The client's error.
        #[source]
        source: sqlx::Error,
    },
    /// No answer in time.
    #[error("{what} at {address}: {action}: no answer within {} s", limit.as_secs_f64())]
    Timeout {
        /// Who asked.
        what: String,
        /// Host, port and database.
        address: String,
        /// What was being done.
        action: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// The server is a standby: what it says may be old (S4).
    #[error("{what} at {address} is a standby; only a primary knows what is live: connect to the primary")]
    Standby {
        /// Who asked.
        what: String,
        /// Host, port and database.
        address: String,
    },
    /// Another session holds the lock.
    #[error("{what} at {address}: the lock is held by another session ({holder}); one collector at a time")]
    Locked {
        /// Who asked.
        what: String,
        /// Host, port and database.
        address: String,
        /// Process id and application name of the holder, as far as the server tells.
        holder: String,
    },
    /// The lock was lost while the session believed to hold it.
    #[error("{what} at {address}: the session that held the lock is gone; nothing more is deleted in this run")]
    Lost {
        /// Who asked.
        what: String,
        /// Host, port and database.
        address: String,
    },
    /// A pooler gives one session's server process to others, too (S4, S10).
    #[error(
        "{what} at {address}: a pooler stands in between that shares server processes among its clients ({sign}), so that \
         neither locks nor settings hold; connect to Postgres directly, or use session pooling"
    )]
    Pooled {
        /// Who asked.
        what: String,
        /// Host, port and database.
        address: String,
        /// What gave it away.
        sign: &'static str,
    },
    /// The answer makes no sense.
    #[error("{what} at {address}: {problem}")]
    Nonsense {
        /// Who asked.
        what: String,
        /// Host, port and database.
        address: String,
        /// What is wrong and what would be right.
        problem: String,
    },
}

impl PostgresError {
    /// True if somebody else works, which is no failure.
    pub fn is_locked(&self) -> bool {
        matches!(self, Self::Locked { .. })
    }
}

impl Postgres {
    /// The options to connect with: bound to one application name, logged statements off.
    ///
    /// # Errors
    /// If the URL cannot be read.
    pub fn options(&self) -> Result<PgConnectOptions, PostgresError> {
        let options: PgConnectOptions =
            self.url.expose_secret().parse().map_err(|_| PostgresError::Url { what: self.what.clone() })?;
        let options = options.application_name(&self.application).disable_statement_logging();
        // Without a mode the client tries TLS first and falls back; say so explicitly, for it is what most expect.
        Ok(match options.get_ssl_mode() {
            PgSslMode::Allow => options.ssl_mode(PgSslMode::Prefer),
            _ => options,
        })
    }

    /// Host, port and database, without the user and the password.
    pub fn address(&self) -> String {
        match self.options() {
            Ok(options) => {
                let database = options.get_database().unwrap_or("?");
                format!("{}:{}/{database}", options.get_host(), options.get_port())
            }
            Err(_) => "an address that cannot be read".to_owned(),
        }
    }

    /// Runs a call under the time limit, and says what it was when it fails.
    ///
    /// # Errors
    /// The call's error, or a timeout.
    pub async fn call<T>(
        &self,
        action: &'static str,
        call: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, PostgresError> {
        match timeout(self.call_timeout, call).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(source)) => Err(self.failed(action, source)),
            Err(_) => Err(PostgresError::Timeout {
                what: self.what.clone(),
                address: self.address(),
                action,
                limit: self.call_timeout,
            }),
        }
    }

    /// A failed call.
    pub fn failed(&self, action: &'static str, source: sqlx::Error) -> PostgresError {
        PostgresError::Failed { what: self.what.clone(), address: self.address(), action, source }
    }

    /// An answer that makes no sense.
    pub fn nonsense(&self, problem: impl Into<String>) -> PostgresError {
        PostgresError::Nonsense { what: self.what.clone(), address: self.address(), problem: problem.into() }
    }

    /// Connects, and shuts out what could hide rows (S4): row-level security makes a query fail instead of filtering,
    /// and no schema but Postgres's own is looked into for unqualified names.
    ///
    /// It takes the server for Postgres itself; who cannot know that yet uses [`Postgres::connect_alone`].
    ///
    /// # Errors
    /// If the server cannot be reached or refuses.
    pub async fn connect(&self) -> Result<PgConnection, PostgresError> {
        let mut connection = self.call("connecting", PgConnection::connect_with(&self.options()?)).await?;
        self.prepare(&mut connection).await?;
        Ok(connection)
    }

    /// The same, once it is certain that no pooler gives the session's server process to others: a setting that reaches
    /// the application's own queries does harm.
    ///
    /// # Errors
    /// [`PostgresError::Pooled`] if one does; if the server cannot be reached or refuses.
    pub async fn connect_alone(&self) -> Result<PgConnection, PostgresError> {
        Ok(self.claim().await?.0)
    }

    async fn claim(&self) -> Result<(PgConnection, OwnProcess), PostgresError> {
        let mut connection = self.call("connecting", PgConnection::connect_with(&self.options()?)).await?;
        let process = OwnProcess::claim(self, &mut connection).await?;
        self.prepare(&mut connection).await?;
        Ok((connection, process))
    }

    async fn prepare(&self, connection: &mut PgConnection) -> Result<(), PostgresError> {
        let settings = format!(
            "SET row_security = off; SET search_path = pg_catalog; SET idle_session_timeout = {idle}; \
             SET idle_in_transaction_session_timeout = {idle}; SET tcp_keepalives_idle = 10; \
             SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; SET client_connection_check_interval = {gone}",
            idle = self.idle_timeout.as_millis(),
            // A query that nobody waits for any more must not hold the lock to its end.
            gone = CONNECTION_CHECK.as_millis()
        );
        self.call("preparing the session", sqlx::raw_sql(sqlx::AssertSqlSafe(settings)).execute(connection)).await?;
        Ok(())
    }
}

/// The identifier of the database cluster; `None` if the server does not tell.
///
/// # Errors
/// If the server does not answer.
pub async fn system(postgres: &Postgres, connection: &mut PgConnection) -> Result<Option<String>, PostgresError> {
    told(postgres, connection, "SELECT system_identifier::text FROM pg_control_system()").await
}

/// The running server: its cluster's identifier and when it was started; `None` if it does not tell. A copy of a cluster has the
/// cluster's identifier too, but is started at another moment.
///
/// # Errors
/// If the server does not answer.
pub async fn server(postgres: &Postgres, connection: &mut PgConnection) -> Result<Option<String>, PostgresError> {
    const SERVER: &str = "SELECT system_identifier || ' ' || extract(epoch FROM pg_postmaster_start_time()) \
                          FROM pg_control_system()";
    told(postgres, connection, SERVER).await
}

/// The one value of a query about the server itself, or `None` if it does not tell this role.
///
/// # Errors
/// If the server does not answer.
pub async fn told(
    postgres: &Postgres,
    connection: &mut PgConnection,
    query: &'static str,
) -> Result<Option<String>, PostgresError> {
    let ask = async {
        match sqlx::query(query).fetch_one(&mut *connection).await {
            Ok(row) => row.try_get(0).map(Some),
            Err(sqlx::Error::Database(error))
                if error.code().is_some_and(|code| code == INSUFFICIENT_PRIVILEGE || code == UNDEFINED_FUNCTION) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    };
    postgres.call("asking which database this is", ask).await
}
