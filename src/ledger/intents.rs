//! What a batch was meant to delete, written before, and what came of it, written after (S11).

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use sqlx::Row;
use uuid::Uuid;

use super::{LedgerError, PostgresLedger, counted, stored};
use crate::domain::gates::Recent;
use crate::domain::ids::CourseId;
use crate::domain::report::Tally;

/// An intent that was written and not yet closed. It tells everything about itself: a failover may lose its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenIntent {
    pub(crate) id: i64,
    pub(crate) run: Uuid,
    pub(crate) store: String,
    pub(crate) meant: Intent,
}

/// Whether those whose resources went were asked about again (S1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskedAgain {
    /// They were, or nothing went: the intent is closed.
    Answered,
    /// Nobody answered: the intent stays open, and the next run asks.
    Unanswered,
}

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

/// What earlier runs left open in a store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Interrupted {
    /// The courses of which something may have gone.
    pub courses: BTreeSet<CourseId>,
    /// The runs.
    pub runs: BTreeSet<Uuid>,
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
    async fn open_intent(&self, run: Uuid, store: &str, intent: &Intent) -> Result<Option<OpenIntent>, LedgerError>;

    /// Writes down what came of it, once those whose resources went were asked about again. If the ledger has lost the intent, by a
    /// failover or a restore, it is written anew with its outcome: what went within a day must be known (S8).
    ///
    /// # Errors
    /// If the ledger does not answer: then the intent stays open, and the next run looks at everything anew.
    async fn close_intent(
        &self,
        intent: &OpenIntent,
        outcome: &BatchOutcome,
        asked: AskedAgain,
    ) -> Result<(), LedgerError>;

    /// The courses of which something may have gone by intents that are open: earlier runs did not live to ask about them
    /// again, or nobody answered. By store.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn open_intents(&self) -> Result<BTreeMap<String, Interrupted>, LedgerError>;

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
    async fn open_intent(&self, run: Uuid, store: &str, intent: &Intent) -> Result<Option<OpenIntent>, LedgerError> {
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
        let (store, meant) = (store.to_owned(), intent.clone());
        Ok(self.call("writing an intent", insert).await?.map(|id| OpenIntent { id, run, store, meant }))
    }

    async fn close_intent(
        &self,
        intent: &OpenIntent,
        outcome: &BatchOutcome,
        asked: AskedAgain,
    ) -> Result<(), LedgerError> {
        let OpenIntent { id, run, store, meant } = intent;
        let BatchOutcome { tally, deleted, counting } = outcome;
        // After a failover the number may be another intent's.
        let write = sqlx::query(
            "WITH outcome AS (SELECT CASE WHEN $4 THEN clock_timestamp() END AS closed_at, $5::text[] AS deleted_courses, \
                 $6::bigint AS deleted, $7::bigint AS bytes, $8::bigint AS absent, $9::bigint AS failed, \
                 $10::bigint AS unattempted, $11::bigint AS spared, $12::text[] AS counting, $13::bigint AS counting_bytes), \
             known AS (UPDATE course_gc.intents SET (closed_at, deleted_courses, deleted, bytes, absent, failed, unattempted, \
                 spared, counting, counting_bytes) = (SELECT * FROM outcome) \
                 WHERE id = $1 AND run_id = $2 AND store = $3 RETURNING id) \
             INSERT INTO course_gc.intents (run_id, store, courses, handles, closed_at, deleted_courses, deleted, bytes, absent, \
                 failed, unattempted, spared, counting, counting_bytes) \
                 SELECT $2, $3, $14, $15, outcome.* FROM outcome WHERE NOT EXISTS (SELECT FROM known)",
        )
        .bind(id)
        .bind(run)
        .bind(store)
        .bind(asked == AskedAgain::Answered)
        .bind(texts(deleted))
        .bind(stored(tally.deleted))
        .bind(stored(tally.bytes))
        .bind(stored(tally.absent))
        .bind(stored(tally.failed))
        .bind(stored(tally.unattempted))
        .bind(stored(tally.spared))
        .bind(texts(&counting.courses))
        .bind(stored(counting.bytes))
        .bind(texts(&meant.courses))
        .bind(stored(meant.handles as u64))
        .execute(&self.pool);
        let written_anew = self.call("writing an outcome", write).await?.rows_affected();
        if written_anew > 0 {
            tracing::warn!(store, "the ledger had lost a batch's intent: its outcome was written anew");
        }
        Ok(())
    }

    async fn open_intents(&self) -> Result<BTreeMap<String, Interrupted>, LedgerError> {
        const ACTION: &str = "reading open intents";
        let select = sqlx::query_as::<_, (String, Uuid, String)>(
            "SELECT DISTINCT store, run_id, unnest(coalesce(deleted_courses, courses)) FROM course_gc.intents \
             WHERE closed_at IS NULL",
        )
        .fetch_all(&self.pool);
        let mut open: BTreeMap<String, Interrupted> = BTreeMap::new();
        for (store, run, course) in self.call(ACTION, select).await? {
            let interrupted = open.entry(store).or_default();
            interrupted.courses.insert(self.id(course)?);
            interrupted.runs.insert(run);
        }
        Ok(open)
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
