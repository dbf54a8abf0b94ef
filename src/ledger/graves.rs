//! What makes tombstones trusted: that no run saw their courses live after them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use futures::TryStreamExt;
use sqlx::Row;

use super::{LedgerError, PostgresLedger};
use crate::domain::ids::CourseId;

/// How many ids go in one statement.
const PAGE: usize = 10_000;

/// Which tombstones can be trusted (S6). A source is settled while each run removes the tombstones of whoever it sees live.
#[async_trait]
pub trait Graves: Send + Sync {
    /// No source is settled any more; gives back which were.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn unsettle(&self) -> Result<BTreeSet<String>, LedgerError>;

    /// These sources are settled.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn settle(&self, sources: &[String]) -> Result<(), LedgerError>;

    /// Notes the newest tombstone of each source that a run has read.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn saw_tombstones(&self, newest: &BTreeMap<String, i64>) -> Result<(), LedgerError>;

    /// The newest tombstone of each source that a run has read.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn seen_tombstones(&self) -> Result<BTreeMap<String, i64>, LedgerError>;

    /// True if, by the database's time, the grace is over of something whose death was recorded, and which only grace held in the last
    /// run or plan; and no run has begun since it was over. What that one left, since it halted or a store did not answer, waits for the
    /// next that is due.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn grace_is_over(&self, tombstoned: Duration) -> Result<bool, LedgerError>;

    /// Of which of these courses an orphan is remembered, in any store.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn remaining(&self, courses: &BTreeSet<CourseId>) -> Result<BTreeSet<CourseId>, LedgerError>;
}

#[async_trait]
impl Graves for PostgresLedger {
    async fn unsettle(&self) -> Result<BTreeSet<String>, LedgerError> {
        let delete =
            sqlx::query_scalar("DELETE FROM course_gc.settled_tombstones RETURNING source").fetch_all(&self.pool);
        let settled: Vec<String> = self.call("noting that tombstones are not settled", delete).await?;
        Ok(settled.into_iter().collect())
    }

    async fn settle(&self, sources: &[String]) -> Result<(), LedgerError> {
        if sources.is_empty() {
            return Ok(());
        }
        let insert = sqlx::query(
            "INSERT INTO course_gc.settled_tombstones (source) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING",
        )
        .bind(sources)
        .execute(&self.pool);
        self.call("noting that tombstones are settled", insert).await?;
        Ok(())
    }

    async fn saw_tombstones(&self, newest: &BTreeMap<String, i64>) -> Result<(), LedgerError> {
        let (sources, rows): (Vec<&str>, Vec<i64>) = newest.iter().map(|(name, row)| (name.as_str(), *row)).unzip();
        let insert = sqlx::query(
            "INSERT INTO course_gc.seen_tombstones (source, newest) SELECT * FROM unnest($1::text[], $2::bigint[]) \
             ON CONFLICT (source) DO UPDATE SET newest = excluded.newest WHERE seen_tombstones.newest <> excluded.newest",
        )
        .bind(sources)
        .bind(rows)
        .execute(&self.pool);
        self.call("noting which tombstones were seen", insert).await?;
        Ok(())
    }

    async fn seen_tombstones(&self) -> Result<BTreeMap<String, i64>, LedgerError> {
        let select = sqlx::query_as("SELECT source, newest FROM course_gc.seen_tombstones").fetch_all(&self.pool);
        let seen: Vec<(String, i64)> = self.call("reading which tombstones were seen", select).await?;
        Ok(seen.into_iter().collect())
    }

    async fn grace_is_over(&self, tombstoned: Duration) -> Result<bool, LedgerError> {
        let select = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM course_gc.orphans, \
                 LATERAL (SELECT counted_at + make_interval(secs => $1 - accrued_ms / 1000.0)) AS grace(over_at) \
             WHERE evidence = 'tombstoned' AND decision = 'grace' AND over_at <= clock_timestamp() \
             AND over_at >= (SELECT coalesce(max(started_at), '-infinity') FROM course_gc.runs WHERE mode = 'run'))",
        )
        .bind(tombstoned.as_secs_f64())
        .fetch_one(&self.pool);
        self.call("looking for what has waited long enough", select).await
    }

    async fn remaining(&self, courses: &BTreeSet<CourseId>) -> Result<BTreeSet<CourseId>, LedgerError> {
        const ACTION: &str = "asking of which courses something remains";
        let texts: Vec<String> = courses.iter().map(CourseId::to_string).collect();
        let mut remaining = BTreeSet::new();
        for page in texts.chunks(PAGE) {
            let mut rows = sqlx::query("SELECT DISTINCT course_id FROM course_gc.orphans WHERE course_id = ANY($1)")
                .bind(page)
                .fetch(&self.pool);
            while let Some(row) = self.call(ACTION, rows.try_next()).await? {
                remaining.insert(self.id(row.try_get("course_id").map_err(|e| self.postgres.failed(ACTION, e))?)?);
            }
        }
        Ok(remaining)
    }
}
