//! A session that holds an advisory lock, and the only place where the truth is asked (S10).
//!
//! Each liveness source and the ledger has one. A question is a transaction of its own, read-only, on a primary, in which
//! the lock is looked at before and after: an answer counts only if the lock was held all the while. Whatever goes wrong
//! in a question ends the session, and with it the lock: nothing is ever confirmed on a connection in doubt.
//!
//! A session that freezes or is cut off loses its lock: the server ends it after [`Postgres::idle_timeout`] without a sign, and a
//! heartbeat gives that sign while all is well. It is never idle in a transaction.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Row};
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::pooler::OwnProcess;
use super::{AdvisoryLock, BEGIN_QUESTION, LOCK_CLASS, Postgres, PostgresError, pooler};

/// How often a lock session gives a sign, and at least three times before [`Postgres::idle_timeout`] is over.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// A lock that is held until it is released, lost or dropped (S10).
#[async_trait]
pub trait Lock: fmt::Debug + Send + Sync {
    /// Makes sure that it is still held.
    ///
    /// # Errors
    /// If it is not, or nobody answers.
    async fn verify(&self) -> Result<(), PostgresError>;

    /// Gives it back in order, so that the next one need not wait for the server to notice.
    async fn release(self: Box<Self>);
}

/// A session that holds an advisory lock. Dropping it ends the connection, and the lock with it.
#[derive(Debug)]
pub struct LockSession {
    inner: Arc<Inner>,
    heartbeat: JoinHandle<()>,
}

#[derive(Debug)]
struct Inner {
    postgres: Postgres,
    lock: AdvisoryLock,
    /// The server's side of the session.
    process: OwnProcess,
    /// Empty once the session is lost.
    connection: Mutex<Option<PgConnection>>,
}

impl LockSession {
    /// Connects to a primary and takes the lock; does not wait for it.
    ///
    /// # Errors
    /// [`PostgresError::Locked`] if another session has it, [`PostgresError::Pooled`] if a lock would belong to nobody.
    pub async fn open(postgres: &Postgres, lock: AdvisoryLock) -> Result<Self, PostgresError> {
        let (mut connection, process) = postgres.claim().await?;
        let take = sqlx::query_scalar("SELECT pg_try_advisory_lock($1, $2)")
            .bind(LOCK_CLASS)
            .bind(lock.object())
            .fetch_one(&mut connection);
        let taken: bool = postgres.call("taking the lock", take).await?;
        if !taken {
            let holder = holder(postgres, lock, &mut connection).await;
            return Err(PostgresError::Locked { what: postgres.what.clone(), address: postgres.address(), holder });
        }
        let connection = Mutex::new(Some(connection));
        let inner = Arc::new(Inner { postgres: postgres.clone(), lock, process, connection });
        let heartbeat = tokio::spawn(beat(Arc::clone(&inner)));
        let session = Self { inner, heartbeat };
        session.verify().await?;
        Ok(session)
    }

    /// Begins a question. Its answer counts only when [`Question::end`] has returned.
    ///
    /// # Errors
    /// If the session is lost, the server is no primary, or the lock is not held.
    pub async fn ask(&self) -> Result<Question<'_>, PostgresError> {
        self.inner.ask().await
    }

    /// The server behind the session.
    pub fn postgres(&self) -> &Postgres {
        &self.inner.postgres
    }
}

#[async_trait]
impl Lock for LockSession {
    async fn verify(&self) -> Result<(), PostgresError> {
        self.ask().await?.end().await
    }

    async fn release(self: Box<Self>) {
        self.heartbeat.abort();
        let connection = self.inner.connection.lock().await.take();
        if let Some(mut connection) = connection {
            // The server ends the session in any case, but some time after the connection is closed.
            let unlock = async {
                sqlx::query("SELECT pg_advisory_unlock_all()").execute(&mut connection).await?;
                connection.close().await
            };
            let _ = timeout(self.inner.postgres.call_timeout, unlock).await;
        }
    }
}

impl Drop for LockSession {
    fn drop(&mut self) {
        self.heartbeat.abort();
    }
}

impl Inner {
    async fn ask(&self) -> Result<Question<'_>, PostgresError> {
        let mut slot = self.connection.lock().await;
        let connection = slot.take().ok_or_else(|| self.lost())?;
        let mut question = Question { inner: self, slot, connection };
        let begin = format!("{BEGIN_QUESTION}; {}", pooler::MARK);
        let begin = sqlx::raw_sql(sqlx::AssertSqlSafe(begin)).fetch_one(&mut question.connection);
        self.process.check(&self.postgres, &self.postgres.call("beginning a transaction", begin).await?)?;
        question.look().await?;
        Ok(question)
    }

    fn lost(&self) -> PostgresError {
        PostgresError::Lost { what: self.postgres.what.clone(), address: self.postgres.address() }
    }
}

/// A read-only transaction in a lock session. Dropped without [`Question::end`] it takes the session with it.
#[derive(Debug)]
pub struct Question<'a> {
    inner: &'a Inner,
    slot: MutexGuard<'a, Option<PgConnection>>,
    connection: PgConnection,
}

impl Question<'_> {
    /// Where to ask.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Ends the transaction, after one more look at the lock.
    ///
    /// # Errors
    /// If the lock was lost meanwhile: then the answer does not count.
    pub async fn end(mut self) -> Result<(), PostgresError> {
        self.look().await?;
        let commit = sqlx::raw_sql("COMMIT").execute(&mut self.connection);
        self.inner.postgres.call("ending a transaction", commit).await?;
        let Self { mut slot, connection, .. } = self;
        *slot = Some(connection);
        Ok(())
    }

    async fn look(&mut self) -> Result<(), PostgresError> {
        let postgres = &self.inner.postgres;
        let look = sqlx::query(
            "SELECT pg_is_in_recovery() AS standby, EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted \
             AND pid = pg_backend_pid() AND classid::bigint = $1 AND objid::bigint = $2 \
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) AS held",
        )
        .bind(i64::from(LOCK_CLASS))
        .bind(i64::from(self.inner.lock.object()))
        .fetch_one(&mut self.connection);
        let row = postgres.call("looking at the lock", look).await?;
        let read = |column| row.try_get::<bool, _>(column).map_err(|e| postgres.failed("looking at the lock", e));
        if read("standby")? {
            return Err(PostgresError::Standby { what: postgres.what.clone(), address: postgres.address() });
        }
        if read("held")? { Ok(()) } else { Err(self.inner.lost()) }
    }
}

/// Gives a sign now and then, so that the server knows the session to be alive. A question under way is sign enough.
async fn beat(inner: Arc<Inner>) {
    let mut ticks = tokio::time::interval(HEARTBEAT.min(inner.postgres.idle_timeout / 4));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Ok(slot) = inner.connection.try_lock() else { continue };
        if slot.is_none() {
            return;
        }
        drop(slot);
        let verified = match inner.ask().await {
            Ok(question) => question.end().await,
            Err(error) => Err(error),
        };
        if let Err(error) = verified {
            tracing::error!(error = &error as &dyn std::error::Error, "a lock session was lost");
            return;
        }
    }
}

async fn holder(postgres: &Postgres, lock: AdvisoryLock, connection: &mut PgConnection) -> String {
    let find = sqlx::query(
        "SELECT l.pid, coalesce(a.application_name, '?') AS application FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid) \
         WHERE l.locktype = 'advisory' AND l.granted AND l.classid::bigint = $1 AND l.objid::bigint = $2 \
         AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())",
    )
    .bind(i64::from(LOCK_CLASS))
    .bind(i64::from(lock.object()))
    .fetch_optional(connection);
    match postgres.call("finding the lock's holder", find).await {
        Ok(Some(row)) => {
            let pid: i32 = row.try_get("pid").unwrap_or_default();
            let application: String = row.try_get("application").unwrap_or_default();
            format!("process {pid}, application {application:?}")
        }
        _ => "it has just let go".to_owned(),
    }
}
