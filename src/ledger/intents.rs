//! What a batch was meant to delete, written before, and what came of it, written after (S11).

use std::collections::BTreeSet;

use async_trait::async_trait;
use sqlx::Row;
use uuid::Uuid;

use super::{LedgerError, PostgresLedger, counted, stored};
use crate::domain::gates::Recent;
use crate::domain::ids::CourseId;
use crate::domain::report::Tally;

/// An intent that was written and not yet closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntentId(pub(crate) i64);

/// What a batch is meant to delete.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Intent {
    /// Whose resources.
    pub courses: BTreeSet<CourseId>,
    /// Of these, the courses that count in the breakers: those of which not all was approved (S8).
    pub counting: BTreeSet<CourseId>,
    /// How many handles.
    pub handles: usize,
}

/// What came of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BatchOutcome {
    /// The counts.
    pub tally: Tally,
    /// The courses of which something went.
    pub deleted: BTreeSet<CourseId>,
    /// Of all that went, what counts in the breakers: what was not approved (S8).
    pub counting: Recent,
}

/// What batches are meant to delete, and what came of it (S11).
#[async_trait]
pub trait Intents: Send + Sync {
    /// Writes down what a batch is meant to delete. Committed when this returns; `None` if a pause is in force: then nothing
    /// was written, and nothing may be deleted.
    ///
    /// # Errors
    /// If the ledger does not answer: then nothing may be deleted either.
    async fn open_intent(&self, run: Uuid, store: &str, intent: &Intent) -> Result<Option<IntentId>, LedgerError>;

    /// Writes down what came of it.
    ///
    /// # Errors
    /// If the ledger does not answer: then the intent stays open, and the next run looks at everything anew.
    async fn close_intent(&self, intent: IntentId, outcome: &BatchOutcome) -> Result<(), LedgerError>;

    /// Closes the intents that an earlier run left open in a store whose inventory is now complete: what they left is
    /// among its orphans, and passes every gate again. Returns how many there were.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn settle_intents(&self, store: &str) -> Result<u64, LedgerError>;

    /// What went within the last 24 hours, except for what was approved. Of an intent whose outcome nobody wrote, everything
    /// counts as gone.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn recent(&self) -> Result<Recent, LedgerError>;
}

#[async_trait]
impl Intents for PostgresLedger {
    async fn open_intent(&self, run: Uuid, store: &str, intent: &Intent) -> Result<Option<IntentId>, LedgerError> {
        let insert = sqlx::query_scalar(
            "INSERT INTO course_gc.intents (run_id, store, courses, handles, counting) SELECT $1, $2, $3, $4, $5 \
             WHERE NOT EXISTS (SELECT FROM course_gc.pauses WHERE resumed_at IS NULL) RETURNING id",
        )
        .bind(run)
        .bind(store)
        .bind(texts(&intent.courses))
        .bind(stored(intent.handles as u64))
        .bind(texts(&intent.counting))
        .fetch_optional(&self.pool);
        Ok(self.call("writing an intent", insert).await?.map(IntentId))
    }

    async fn close_intent(&self, intent: IntentId, outcome: &BatchOutcome) -> Result<(), LedgerError> {
        let BatchOutcome { tally, deleted, counting } = outcome;
        let update = sqlx::query(
            "UPDATE course_gc.intents SET closed_at = clock_timestamp(), deleted_courses = $2, deleted = $3, bytes = $4, \
             absent = $5, failed = $6, unattempted = $7, spared = $8, counting = $9, counting_bytes = $10 WHERE id = $1",
        )
        .bind(intent.0)
        .bind(texts(deleted))
        .bind(stored(tally.deleted))
        .bind(stored(tally.bytes))
        .bind(stored(tally.absent))
        .bind(stored(tally.failed))
        .bind(stored(tally.unattempted))
        .bind(stored(tally.spared))
        .bind(texts(&counting.courses))
        .bind(stored(counting.bytes))
        .execute(&self.pool);
        self.call("writing an outcome", update).await?;
        Ok(())
    }

    async fn settle_intents(&self, store: &str) -> Result<u64, LedgerError> {
        let update = sqlx::query(
            "UPDATE course_gc.intents SET closed_at = clock_timestamp() WHERE store = $1 AND closed_at IS NULL",
        )
        .bind(store)
        .execute(&self.pool);
        Ok(self.call("settling open intents", update).await?.rows_affected())
    }

    async fn recent(&self) -> Result<Recent, LedgerError> {
        let courses = sqlx::query_scalar(
            "SELECT DISTINCT unnest(coalesce(counting, deleted_courses, courses)) FROM course_gc.intents \
             WHERE opened_at > now() - interval '24 hours'",
        )
        .fetch_all(&self.pool);
        let courses: Vec<String> = self.call("reading what went recently", courses).await?;
        let bytes = sqlx::query(
            "SELECT coalesce(sum(coalesce(counting_bytes, bytes)), 0)::bigint AS bytes FROM course_gc.intents \
             WHERE opened_at > now() - interval '24 hours'",
        )
        .fetch_one(&self.pool);
        let row = self.call("reading what went recently", bytes).await?;
        let bytes = row.try_get("bytes").map_err(|e| self.postgres.failed("reading what went recently", e))?;
        let courses = courses.into_iter().map(|text| self.id(text)).collect::<Result<_, _>>()?;
        Ok(Recent { courses, bytes: counted(bytes) })
    }
}

fn texts(courses: &BTreeSet<CourseId>) -> Vec<String> {
    courses.iter().map(CourseId::to_string).collect()
}
