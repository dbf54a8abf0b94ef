//! Ids that were seen live.

use std::collections::BTreeSet;

use async_trait::async_trait;
use futures::TryStreamExt;
use sqlx::Row;
use uuid::Uuid;

use super::{LedgerError, PostgresLedger};
use crate::domain::ids::CourseId;
use crate::domain::live_set::LiveSet;

/// How many ids go in one statement.
const PAGE: usize = 10_000;

/// Ids that an earlier run saw live.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KnownIds {
    /// All of them.
    pub all: BTreeSet<CourseId>,
    /// Those that vanished while the history of the truth broke (S7).
    pub across_break: BTreeSet<CourseId>,
}

/// The ids that were seen live.
#[async_trait]
pub trait Known: Send + Sync {
    /// Learns the ids that are live: new ones are added, those that vanished are marked as departed (and, if `across_break`,
    /// as having vanished while the history of the truth broke), and who departed 90 days ago is forgotten, unless
    /// something of it is still there or a person is to decide about it: a stranger would wait for ever, or without that
    /// person's word no longer. The clocks of the orphans of who is live again start anew in every store, whatever its
    /// inventory comes to (S6), and no breaker that held them counts any more (S8). A run in which nothing changed writes nothing.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn learn(&self, run: Uuid, live: &LiveSet, across_break: bool) -> Result<(), LedgerError>;

    /// Which of these ids an earlier run saw live.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn known_among(&self, ids: &BTreeSet<CourseId>) -> Result<KnownIds, LedgerError>;
}

#[async_trait]
impl Known for PostgresLedger {
    async fn learn(&self, run: Uuid, live: &LiveSet, across_break: bool) -> Result<(), LedgerError> {
        let mut transaction = self.fenced("learning live ids", run).await?;
        let known = self.present().await?;
        let arrived: Vec<String> = live.without(&known).map(|id| id.to_string()).collect();
        let departed: Vec<String> = known.without(live).map(|id| id.to_string()).collect();
        for page in arrived.chunks(PAGE) {
            let insert = sqlx::query(
                "INSERT INTO course_gc.known_ids (course_id) SELECT unnest($1::text[]) \
                 ON CONFLICT (course_id) DO UPDATE SET departed_at = NULL, across_break = false",
            )
            .bind(page)
            .execute(&mut *transaction);
            self.call("learning live ids", insert).await?;
            // A store whose inventory fails now would never hear that its orphan's owner was there again.
            let anew = sqlx::query(
                "UPDATE course_gc.orphans SET accrued_ms = 0, pending_ms = 0, counted_at = NULL, latched = NULL \
                 WHERE course_id = ANY($1)",
            )
            .bind(page)
            .execute(&mut *transaction);
            self.call("starting the clocks of who is live again anew", anew).await?;
        }
        for page in departed.chunks(PAGE) {
            let update = sqlx::query(
                "UPDATE course_gc.known_ids SET departed_at = now(), across_break = $2 \
                 WHERE course_id = ANY($1) AND departed_at IS NULL",
            )
            .bind(page)
            .bind(across_break)
            .execute(&mut *transaction);
            self.call("marking departed ids", update).await?;
        }
        let forget = sqlx::query(
            "DELETE FROM course_gc.known_ids k WHERE departed_at < now() - interval '90 days' AND NOT across_break \
             AND NOT EXISTS (SELECT FROM course_gc.orphans o WHERE o.course_id = k.course_id)",
        )
        .execute(&mut *transaction);
        self.call("forgetting departed ids", forget).await?;
        self.call("learning live ids", transaction.commit()).await
    }

    async fn known_among(&self, ids: &BTreeSet<CourseId>) -> Result<KnownIds, LedgerError> {
        const ACTION: &str = "asking which ids are known";
        let texts: Vec<String> = ids.iter().map(CourseId::to_string).collect();
        let mut known = KnownIds::default();
        for page in texts.chunks(PAGE) {
            let select =
                sqlx::query("SELECT course_id, across_break FROM course_gc.known_ids WHERE course_id = ANY($1)")
                    .bind(page)
                    .fetch_all(&self.pool);
            for row in self.call(ACTION, select).await? {
                let read = || Ok((row.try_get("course_id")?, row.try_get("across_break")?));
                let (text, across_break) = read().map_err(|error| self.postgres.failed(ACTION, error))?;
                let id = self.id(text)?;
                known.all.insert(id);
                if across_break {
                    known.across_break.insert(id);
                }
            }
        }
        Ok(known)
    }
}

impl PostgresLedger {
    /// The ids that were live in the last run.
    async fn present(&self) -> Result<LiveSet, LedgerError> {
        let mut known = LiveSet::empty(self.id_type);
        let mut rows =
            sqlx::query("SELECT course_id FROM course_gc.known_ids WHERE departed_at IS NULL").fetch(&self.pool);
        while let Some(row) = self.call("reading known ids", rows.try_next()).await? {
            known.push(self.id(row.try_get("course_id").map_err(|e| self.postgres.failed("reading known ids", e))?)?);
        }
        known.normalise();
        Ok(known)
    }

    /// An id that the ledger wrote earlier.
    pub(super) fn id(&self, text: String) -> Result<CourseId, LedgerError> {
        self.id_type.parse(text.as_bytes()).ok_or(LedgerError::Id(text))
    }
}
