//! Runs and the sizes of the live sets.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::Row;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{LedgerError, PostgresLedger, counted, stored};
use crate::domain::live_set::Population;
use crate::domain::report::{Mode, RunReport, Verdict};
use crate::postgres::{AdvisoryLock, LOCK_CLASS};

/// A run as the ledger lists it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct RunSummary {
    /// Its id.
    pub run: Uuid,
    /// `plan` or `run`.
    pub mode: String,
    /// When it started, in the database's time.
    pub started_at: DateTime<Utc>,
    /// When it ended; `None` while it works, or if it was killed.
    pub finished_at: Option<DateTime<Utc>>,
    /// How it ended.
    pub verdict: Option<String>,
    /// Its report, as `--output json` prints it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<serde_json::Value>,
}

/// What became of the last run (no plan).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastRun {
    /// It wrote its end, or there is none.
    Ended,
    /// It has no end, and somebody holds the ledger's lock.
    AtWork,
    /// It has no end, and nobody works on it any more.
    CutOff {
        /// The one before it has none either.
        again: bool,
    },
}

/// Runs, and the sizes of the live sets.
#[async_trait]
pub trait Runs: Send + Sync {
    /// Notes that a run begins; returns the database's time.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn begin(&self, run: Uuid, mode: Mode) -> Result<DateTime<Utc>, LedgerError>;

    /// The most live ids of each liveness source in the last seven days, and in the last run that was believed, however long
    /// ago that was: neither a schedule of a week nor a halt that lasts so long may let the comparison lapse (S3). A size that
    /// a person accepted counts as if a run had seen it then, and what came before counts no more. It stays so when the
    /// approval expires, if a run was believed while it was in force; if none was, nothing was accepted.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn highest_populations(&self) -> Result<BTreeMap<String, u64>, LedgerError>;

    /// Remembers the sizes of live sets that were believed.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn record_populations(&self, run: Uuid, populations: &[Population]) -> Result<(), LedgerError>;

    /// Ends a run: its report, and, in the same transaction, the clocks of the orphans that it saw.
    ///
    /// # Errors
    /// If the ledger does not answer, or another run has begun: then the run has not finished, and its clocks did not move.
    async fn finish(&self, report: &RunReport, clocks_count: bool) -> Result<(), LedgerError>;

    /// Ends a run that could judge nothing; the clocks do not move.
    ///
    /// # Errors
    /// If the ledger does not answer: then the run stays without an end.
    async fn fail(&self, run: Uuid, error: &str) -> Result<(), LedgerError>;

    /// Forgets what is older than anything decides upon: intents and approvals after 90 days (of an approval, after it
    /// expired), and runs, but for the last that was believed; and what the API's callers did, after 400.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn forget_old(&self) -> Result<(), LedgerError>;

    /// When the last run (no plan) started, in the database's time, and what time it is there now.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn last_start(&self) -> Result<(Option<DateTime<Utc>>, DateTime<Utc>), LedgerError>;

    /// What became of the last run.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn last_run(&self) -> Result<LastRun, LedgerError>;
}

#[async_trait]
impl Runs for PostgresLedger {
    async fn begin(&self, run: Uuid, mode: Mode) -> Result<DateTime<Utc>, LedgerError> {
        let begin = async {
            let mut transaction = self.pool.begin().await?;
            sqlx::query("SELECT pg_advisory_xact_lock($1, $2)")
                .bind(LOCK_CLASS)
                .bind(AdvisoryLock::Fence.object())
                .execute(&mut *transaction)
                .await?;
            let started_at = sqlx::query_scalar(
                "INSERT INTO course_gc.runs (id, mode, started_at) VALUES ($1, $2, clock_timestamp()) RETURNING started_at",
            )
            .bind(run)
            .bind(mode.as_str())
            .fetch_one(&mut *transaction)
            .await?;
            transaction.commit().await?;
            Ok(started_at)
        };
        self.call("noting the run", begin).await
    }

    async fn highest_populations(&self) -> Result<BTreeMap<String, u64>, LedgerError> {
        let select = sqlx::query(
            "WITH believed AS (SELECT p.source, p.live, r.started_at AS seen_at \
                 FROM course_gc.populations p JOIN course_gc.runs r ON r.id = p.run_id), \
             accepted AS (SELECT DISTINCT ON (s.source) s.source, s.live, a.approved_at AS seen_at \
                 FROM course_gc.accepted_sizes s JOIN course_gc.approvals a ON a.id = s.approval \
                 WHERE a.until > clock_timestamp() OR EXISTS (SELECT FROM believed b \
                     WHERE b.source = s.source AND b.seen_at BETWEEN a.approved_at AND a.until) \
                 ORDER BY s.source, a.approved_at DESC, a.id DESC), \
             seen AS (SELECT b.* FROM believed b LEFT JOIN accepted a USING (source) \
                 WHERE a.source IS NULL OR b.seen_at > a.seen_at UNION ALL SELECT * FROM accepted) \
             SELECT source, max(live) AS highest FROM seen WHERE seen_at > now() - interval '7 days' \
             OR seen_at = (SELECT max(latest.seen_at) FROM seen latest WHERE latest.source = seen.source) \
             GROUP BY source",
        )
        .fetch_all(&self.pool);
        let rows = self.call("reading how many courses were live", select).await?;
        let read = |row: &sqlx::postgres::PgRow| Ok((row.try_get("source")?, counted(row.try_get("highest")?)));
        let highest: Result<BTreeMap<_, _>, sqlx::Error> = rows.iter().map(read).collect();
        highest.map_err(|error| self.postgres.failed("reading how many courses were live", error).into())
    }

    async fn record_populations(&self, run: Uuid, populations: &[Population]) -> Result<(), LedgerError> {
        let names: Vec<&str> = populations.iter().map(|population| population.source.as_str()).collect();
        let live: Vec<i64> = populations.iter().map(|population| stored(population.live)).collect();
        let insert = sqlx::query(
            "INSERT INTO course_gc.populations (run_id, source, live) SELECT $1, * FROM unnest($2::text[], $3::bigint[])",
        )
        .bind(run)
        .bind(names)
        .bind(live)
        .execute(&self.pool);
        self.call("noting how many courses are live", insert).await?;
        Ok(())
    }

    async fn finish(&self, report: &RunReport, clocks_count: bool) -> Result<(), LedgerError> {
        let json = serde_json::to_value(report)
            .map_err(|error| self.postgres.failed("writing the report", sqlx::Error::Encode(Box::new(error))))?;
        const ACTION: &str = "finishing the run";
        let mut transaction = self.fenced(ACTION, report.run).await?;
        let finish = async {
            if clocks_count {
                sqlx::query(
                    "UPDATE course_gc.orphans SET accrued_ms = pending_ms, counted_at = $2 WHERE seen_run = $1",
                )
                .bind(report.run)
                .bind(report.started_at)
                .execute(&mut *transaction)
                .await?;
            }
            sqlx::query(
                "UPDATE course_gc.runs SET finished_at = clock_timestamp(), verdict = $2, report = $3 WHERE id = $1",
            )
            .bind(report.run)
            .bind(report.verdict.as_str())
            .bind(json)
            .execute(&mut *transaction)
            .await?;
            transaction.commit().await
        };
        self.call(ACTION, finish).await
    }

    async fn fail(&self, run: Uuid, error: &str) -> Result<(), LedgerError> {
        let update = sqlx::query(
            "UPDATE course_gc.runs SET finished_at = clock_timestamp(), verdict = $2, report = jsonb_build_object('error', $3) \
             WHERE id = $1",
        )
        .bind(run)
        .bind(Verdict::Failed.as_str())
        .bind(error)
        .execute(&self.pool);
        self.call("noting that the run failed", update).await?;
        Ok(())
    }

    async fn forget_old(&self) -> Result<(), LedgerError> {
        let forget = async {
            sqlx::query(
                "DELETE FROM course_gc.runs WHERE started_at < now() - interval '90 days' AND id NOT IN ( \
                     SELECT DISTINCT ON (p.source) p.run_id FROM course_gc.populations p \
                     JOIN course_gc.runs r ON r.id = p.run_id ORDER BY p.source, r.started_at DESC)",
            )
            .execute(&self.pool)
            .await?;
            sqlx::query("DELETE FROM course_gc.approvals WHERE until < now() - interval '90 days'")
                .execute(&self.pool)
                .await?;
            sqlx::query(
                "DELETE FROM course_gc.requests WHERE state <> 'open' AND requested_at < now() - interval '90 days'",
            )
            .execute(&self.pool)
            .await?;
            sqlx::query(
                "DELETE FROM course_gc.intents WHERE closed_at IS NOT NULL AND opened_at < now() - interval '90 days'",
            )
            .execute(&self.pool)
            .await?;
            // An audit looks back over a year.
            sqlx::query("DELETE FROM course_gc.authorisations WHERE authorised_at < now() - interval '400 days'")
                .execute(&self.pool)
                .await?;
            sqlx::query("DELETE FROM course_gc.audit WHERE began_at < now() - interval '400 days'")
                .execute(&self.pool)
                .await
        };
        self.call("forgetting old runs", forget).await?;
        Ok(())
    }

    async fn last_start(&self) -> Result<(Option<DateTime<Utc>>, DateTime<Utc>), LedgerError> {
        let select = sqlx::query(
            "SELECT max(started_at) AS last, clock_timestamp() AS now FROM course_gc.runs WHERE mode = 'run'",
        )
        .fetch_one(&self.pool);
        let row = self.call("reading when the last run started", select).await?;
        let read = || Ok((row.try_get("last")?, row.try_get("now")?));
        read().map_err(|error| self.postgres.failed("reading when the last run started", error).into())
    }

    async fn last_run(&self) -> Result<LastRun, LedgerError> {
        const ACTION: &str = "reading what became of the last run";
        // A run takes the lock before it notes its start, and lets go of it after its end is noted.
        let select = sqlx::query(
            "SELECT ARRAY(SELECT finished_at IS NULL FROM course_gc.runs WHERE mode = 'run' \
                 ORDER BY ordinal DESC LIMIT 2) AS open, \
             EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid::bigint = $1 \
                 AND objid::bigint = $2 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) \
                 AS locked",
        )
        .bind(i64::from(LOCK_CLASS))
        .bind(i64::from(AdvisoryLock::Ledger.object()))
        .fetch_one(&self.pool);
        let row = self.call(ACTION, select).await?;
        let read = || Ok((row.try_get::<Vec<bool>, _>("open")?, row.try_get::<bool, _>("locked")?));
        let (open, locked) = read().map_err(|error| self.postgres.failed(ACTION, error))?;
        Ok(LastRun::of(&open, locked))
    }
}

impl LastRun {
    /// By whether each of the last runs has no end, the latest first, and whether somebody holds the ledger's lock.
    pub(crate) fn of(open: &[bool], locked: bool) -> Self {
        match open {
            [true, ..] if locked => Self::AtWork,
            [true, before @ ..] => Self::CutOff { again: before.first() == Some(&true) },
            _ => Self::Ended,
        }
    }
}

impl PostgresLedger {
    /// The latest runs and plans, newest first.
    ///
    /// # Errors
    /// If the ledger does not answer.
    pub async fn latest(&self, limit: u32, with_report: bool) -> Result<Vec<RunSummary>, LedgerError> {
        let select = sqlx::query(
            "SELECT id, mode, started_at, finished_at, verdict, CASE WHEN $2 THEN report END AS report \
             FROM course_gc.runs ORDER BY started_at DESC LIMIT $1",
        )
        .bind(i64::from(limit))
        .bind(with_report)
        .fetch_all(&self.pool);
        let rows = self.call("listing runs", select).await?;
        let latest: Result<Vec<_>, sqlx::Error> = rows.iter().map(read_run).collect();
        latest.map_err(|error| self.postgres.failed("listing runs", error).into())
    }

    /// A run or plan, with its report.
    ///
    /// # Errors
    /// If the ledger does not answer.
    pub async fn run_of(&self, run: Uuid) -> Result<Option<RunSummary>, LedgerError> {
        let select =
            sqlx::query("SELECT id, mode, started_at, finished_at, verdict, report FROM course_gc.runs WHERE id = $1")
                .bind(run)
                .fetch_optional(&self.pool);
        let row = self.call("reading a run", select).await?;
        let run = row.as_ref().map(read_run).transpose();
        run.map_err(|error| self.postgres.failed("reading a run", error).into())
    }

    /// The latest run or plan whose report lists stores, with that.
    ///
    /// # Errors
    /// If the ledger does not answer.
    pub async fn last_look(&self) -> Result<Option<RunSummary>, LedgerError> {
        let select = sqlx::query(
            "SELECT id, mode, started_at, finished_at, verdict, report FROM course_gc.runs \
             WHERE jsonb_array_length(coalesce(report -> 'stores', '[]')) > 0 ORDER BY ordinal DESC LIMIT 1",
        )
        .fetch_optional(&self.pool);
        let row = self.call("reading the last report", select).await?;
        let run = row.as_ref().map(read_run).transpose();
        run.map_err(|error| self.postgres.failed("reading the last report", error).into())
    }
}

fn read_run(row: &sqlx::postgres::PgRow) -> Result<RunSummary, sqlx::Error> {
    Ok(RunSummary {
        run: row.try_get("id")?,
        mode: row.try_get("mode")?,
        started_at: row.try_get("started_at")?,
        finished_at: row.try_get("finished_at")?,
        verdict: row.try_get("verdict")?,
        report: row.try_get("report")?,
    })
}
