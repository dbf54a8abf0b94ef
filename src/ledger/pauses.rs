//! A pause, asked for by a person: nothing is deleted by any replica until somebody resumes.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::Row;
use sqlx::postgres::PgRow;
use utoipa::ToSchema;

use super::{LedgerError, PostgresLedger};

/// Who a change came from, as the database knows it.
pub(super) const WHO: &str = "session_user || coalesce('@' || host(inet_client_addr()), '')";

/// A pause that is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Pause {
    /// Why.
    pub reason: String,
    /// The database role, and where it came from.
    pub paused_by: String,
    /// Since when, in the database's time.
    pub paused_at: DateTime<Utc>,
}

/// A pause for every replica.
#[async_trait]
pub trait Pauses: Send + Sync {
    /// Pauses every replica, from its next batch on. If a pause is in force, it stays as it is.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn pause(&self, reason: &str) -> Result<Pause, LedgerError>;

    /// Ends the pause; `None` if none was in force.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn resume(&self) -> Result<Option<Pause>, LedgerError>;

    /// The pause that is in force.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn paused(&self) -> Result<Option<Pause>, LedgerError>;
}

#[async_trait]
impl Pauses for PostgresLedger {
    async fn pause(&self, reason: &str) -> Result<Pause, LedgerError> {
        let statement =
            format!("INSERT INTO course_gc.pauses (reason, paused_by) SELECT $1, {WHO} ON CONFLICT DO NOTHING");
        let insert = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(reason).execute(&self.pool);
        self.call("pausing", insert).await?;
        match self.paused().await? {
            Some(pause) => Ok(pause),
            None => Err(self.postgres.nonsense("somebody resumed while this was pausing; pause again").into()),
        }
    }

    async fn resume(&self) -> Result<Option<Pause>, LedgerError> {
        let statement = format!(
            "UPDATE course_gc.pauses SET resumed_at = now(), resumed_by = {WHO} WHERE resumed_at IS NULL \
             RETURNING reason, paused_by, paused_at"
        );
        let update = sqlx::query(sqlx::AssertSqlSafe(statement)).fetch_optional(&self.pool);
        let row = self.call("resuming", update).await?;
        self.read_pause(row)
    }

    async fn paused(&self) -> Result<Option<Pause>, LedgerError> {
        let select = sqlx::query("SELECT reason, paused_by, paused_at FROM course_gc.pauses WHERE resumed_at IS NULL")
            .fetch_optional(&self.pool);
        let row = self.call("asking for a pause", select).await?;
        self.read_pause(row)
    }
}

impl PostgresLedger {
    fn read_pause(&self, row: Option<PgRow>) -> Result<Option<Pause>, LedgerError> {
        let read = |row: PgRow| {
            Ok(Pause {
                reason: row.try_get("reason")?,
                paused_by: row.try_get("paused_by")?,
                paused_at: row.try_get("paused_at")?,
            })
        };
        let pause: Result<Option<Pause>, sqlx::Error> = row.map(read).transpose();
        pause.map_err(|error| self.postgres.failed("asking for a pause", error).into())
    }
}
