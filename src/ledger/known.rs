//! Ids that were seen live.

use std::collections::BTreeSet;

use async_trait::async_trait;
use sqlx::{Connection, PgExecutor, Row};
use uuid::Uuid;

use super::{LedgerError, PostgresLedger};
use crate::domain::bits::BitSet;
use crate::domain::ids::{CourseId, IdType};
use crate::domain::live_set::LiveSet;
use crate::postgres::PostgresError;

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

    /// Starts the clocks of the orphans of these courses anew in every store: somebody found them live (S6). No breaker that held
    /// them counts any more (S8), and what a run that is under way saw of them before adds nothing when it finishes.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn found_live(&self, live: &LiveSet) -> Result<(), LedgerError>;

    /// Which of these ids an earlier run saw live.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn known_among(&self, ids: &BTreeSet<CourseId>) -> Result<KnownIds, LedgerError>;
}

#[async_trait]
impl Known for PostgresLedger {
    async fn learn(&self, run: Uuid, live: &LiveSet, across_break: bool) -> Result<(), LedgerError> {
        // Only runs learn: what is compared is still so if none has begun since.
        let (arrived, departed) = self.compare(live).await?;
        let mut transaction = self.fenced("learning live ids", run).await?;
        let mut arrived = arrived.map(|id| id.to_string()).peekable();
        while arrived.peek().is_some() {
            let page: Vec<String> = arrived.by_ref().take(PAGE).collect();
            let insert = sqlx::query(
                "INSERT INTO course_gc.known_ids (course_id) SELECT unnest($1::text[]) \
                 ON CONFLICT (course_id) DO UPDATE SET departed_at = NULL, across_break = false",
            )
            .bind(&page)
            .execute(&mut *transaction);
            self.call("learning live ids", insert).await?;
        }
        // Also of who was live in the last run: whatever wrote an orphan since, its owner is there now. A store whose inventory fails in this run
        // would never hear of it.
        let orphans =
            sqlx::query_scalar("SELECT DISTINCT course_id FROM course_gc.orphans").fetch_all(&mut *transaction);
        let orphans =
            self.call("reading whose orphans there are", orphans).await?.into_iter().map(|text| self.id(text));
        let orphans = orphans.collect::<Result<Vec<CourseId>, _>>()?.into_iter();
        let alive: Vec<String> = orphans.filter(|id| live.contains(*id)).map(|id| id.to_string()).collect();
        if !alive.is_empty() {
            self.start_clocks_of(&mut *transaction, &alive).await?;
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

    async fn found_live(&self, live: &LiveSet) -> Result<(), LedgerError> {
        let texts: Vec<String> = live.iter().map(|id| id.to_string()).collect();
        for page in texts.chunks(PAGE) {
            self.start_clocks_of(&self.pool, page).await?;
        }
        Ok(())
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

/// Postgres's codes for a text that is no value of a type, and for a number that is too large for one.
const NO_SUCH_VALUE: [&str; 2] = ["22P02", "22003"];

/// An id that is none of the configured type is told as such.
fn foreign_id(error: PostgresError) -> LedgerError {
    match &error {
        PostgresError::Failed { source: sqlx::Error::Database(refused), .. }
            if refused.code().is_some_and(|code| NO_SUCH_VALUE.contains(&&*code)) =>
        {
            LedgerError::Id(refused.message().to_owned())
        }
        _ => error.into(),
    }
}

/// The run that saw an orphan whose clock starts anew: none has since, so one that finishes leaves it alone.
pub(super) const NO_RUN: &str = "'00000000-0000-0000-0000-000000000000'::uuid";

/// What becomes of an orphan whose clock starts anew.
pub(super) fn anew() -> String {
    format!("accrued_ms = 0, pending_ms = 0, counted_at = NULL, latched = NULL, seen_run = {NO_RUN}")
}

impl PostgresLedger {
    /// Starts the clocks of these courses' orphans anew.
    async fn start_clocks_of<'e>(&self, executor: impl PgExecutor<'e>, courses: &[String]) -> Result<(), LedgerError> {
        let anew = format!("UPDATE course_gc.orphans SET {} WHERE course_id = ANY($1)", anew());
        let anew = sqlx::query(sqlx::AssertSqlSafe(anew)).bind(courses).execute(executor);
        self.call("starting the clocks of who is live again anew", anew).await?;
        Ok(())
    }

    /// Who is live and was not in the last run, and who was and is not. Of the many that are both, a bit each is kept.
    ///
    /// On a connection of its own: what is left of a stream that breaks off would be the answer to whatever is asked next.
    async fn compare<'l>(
        &self,
        live: &'l LiveSet,
    ) -> Result<(impl Iterator<Item = CourseId> + 'l, Vec<String>), LedgerError> {
        let id = match self.id_type {
            IdType::Uuid => "course_id::uuid",
            IdType::Integer => "course_id::int8",
            IdType::Text(_) => "course_id",
        };
        let known =
            format!("COPY (SELECT {id} FROM course_gc.known_ids WHERE departed_at IS NULL) TO STDOUT (FORMAT binary)");
        let (mut seen, mut departed) = (BitSet::of(live.len()), Vec::new());
        let each = |id: CourseId| match live.position(id) {
            Some(position) => seen.insert(position),
            None => departed.push(id.to_string()),
        };
        let mut connection = self.postgres.connect().await?;
        let copied = self.postgres.copy_ids("reading known ids", (&mut connection, &known), self.id_type, each).await;
        copied.map_err(foreign_id)?;
        // The session ends in any case.
        let _ = connection.close().await;
        let arrived = live.iter().enumerate().filter(move |(position, _)| !seen.contains(*position));
        Ok((arrived.map(|(_, id)| id), departed))
    }

    /// An id that the ledger wrote earlier.
    pub(super) fn id(&self, text: String) -> Result<CourseId, LedgerError> {
        self.id_type.parse(text.as_bytes()).ok_or(LedgerError::Id(text))
    }
}
