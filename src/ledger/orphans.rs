//! The orphans that are there, and their clocks.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::known::NO_RUN;
use super::{LedgerError, PostgresLedger, counted, stored};
use crate::domain::diff::{Orphan, OrphanKey, Remembered, RememberedOrphan};
use crate::domain::evidence::OrphanClock;
use crate::domain::inventory::{Amount, SourceIndex};
use crate::domain::plan::{Breaker, Decided, Decision};

/// A store's name and its sources' names, as the ledger knows them.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The store.
    pub store: &'a str,
    /// Its sources, in order.
    pub sources: &'a [String],
}

impl Place<'_> {
    fn name(&self, source: SourceIndex) -> &str {
        self.sources.get(source.0).map_or("", String::as_str)
    }
}

/// The orphans that are there, and their clocks (S6).
#[async_trait]
pub trait Orphans: Send + Sync {
    /// What is remembered of a store's orphans, in the sources that it has now.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn remembered(&self, place: Place<'_>) -> Result<Remembered, LedgerError>;

    /// Records what a complete inventory of a store showed, and closes what it no longer shows, all at once. Clocks that
    /// go on keep what they have until the run finishes.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn record_orphans(
        &self,
        run: Uuid,
        place: Place<'_>,
        orphans: &[Orphan],
        closed: &[OrphanKey],
    ) -> Result<(), LedgerError>;

    /// Notes what was decided about each orphan of a store. A breaker that holds one is latched (S8).
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn record_decisions(&self, place: Place<'_>, decided: &[Decided]) -> Result<(), LedgerError>;

    /// Closes orphans of which nothing is left.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn close_orphans(&self, place: Place<'_>, gone: &[OrphanKey]) -> Result<(), LedgerError>;
}

#[async_trait]
impl Orphans for PostgresLedger {
    async fn remembered(&self, place: Place<'_>) -> Result<Remembered, LedgerError> {
        let select = sqlx::query(
            "SELECT source, course_id, resources, bytes, fingerprint, accrued_ms, counted_at, latched \
             FROM course_gc.orphans WHERE store = $1",
        )
        .bind(place.store)
        .fetch_all(&self.pool);
        let rows = self.call("reading orphans", select).await?;
        let mut remembered = Remembered::new();
        for row in &rows {
            let (source, course, orphan) = read(row).map_err(|error| self.postgres.failed("reading orphans", error))?;
            if let Some(index) = place.sources.iter().position(|name| *name == source) {
                remembered.insert((SourceIndex(index), self.id(course)?), orphan);
            }
        }
        Ok(remembered)
    }

    async fn record_orphans(
        &self,
        run: Uuid,
        place: Place<'_>,
        orphans: &[Orphan],
        closed: &[OrphanKey],
    ) -> Result<(), LedgerError> {
        let texts = |keys: &mut dyn Iterator<Item = OrphanKey>| -> (Vec<String>, Vec<String>) {
            keys.map(|(source, course)| (place.name(source).to_owned(), course.to_string())).unzip()
        };
        let (closed_sources, closed_courses) = texts(&mut closed.iter().copied());
        let (sources, courses) = texts(&mut orphans.iter().map(|orphan| (orphan.source, orphan.course)));
        let evidence: Vec<&str> = orphans.iter().map(|orphan| orphan.evidence.as_str()).collect();
        let numbers = |number: fn(&Orphan) -> i64| -> Vec<i64> { orphans.iter().map(number).collect() };
        let bytes: Vec<Option<i64>> = orphans.iter().map(|orphan| orphan.found.amount.bytes.map(stored)).collect();
        let counted_at: Vec<_> = orphans.iter().map(|orphan| orphan.clock.counted_at).collect();
        const ACTION: &str = "recording orphans";
        let mut transaction = self.fenced(ACTION, run).await?;
        let record = async {
            sqlx::query(
                "DELETE FROM course_gc.orphans USING unnest($2::text[], $3::text[]) AS gone(source, course_id) \
                 WHERE orphans.store = $1 AND orphans.source = gone.source AND orphans.course_id = gone.course_id",
            )
            .bind(place.store)
            .bind(closed_sources)
            .bind(closed_courses)
            .execute(&mut *transaction)
            .await?;
            // Whose clock started anew since this run read it (or before) was seen live: what the run reckoned from then says nothing.
            let unless_anew =
                |column: &str| format!("CASE WHEN orphans.seen_run = {NO_RUN} THEN 0 ELSE excluded.{column} END");
            let (accrued, pending) = (unless_anew("accrued_ms"), unless_anew("pending_ms"));
            sqlx::query(sqlx::AssertSqlSafe(format!(
                "INSERT INTO course_gc.orphans (store, seen_run, first_seen, seen_at, source, course_id, evidence, \
                     resources, bytes, fingerprint, entangled, accrued_ms, counted_at, pending_ms) \
                 SELECT $1, $2, clock_timestamp(), clock_timestamp(), * FROM unnest($3::text[], $4::text[], $5::text[], \
                     $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::timestamptz[], $12::bigint[]) \
                 ON CONFLICT (store, source, course_id) DO UPDATE SET (seen_run, seen_at, evidence, resources, bytes, \
                     fingerprint, entangled, accrued_ms, counted_at, pending_ms, decision) = (excluded.seen_run, \
                     excluded.seen_at, excluded.evidence, excluded.resources, excluded.bytes, excluded.fingerprint, \
                     excluded.entangled, {accrued}, \
                     CASE WHEN orphans.seen_run <> {NO_RUN} THEN excluded.counted_at END, {pending}, NULL)"
            )))
            .bind(place.store)
            .bind(run)
            .bind(sources)
            .bind(courses)
            .bind(evidence)
            .bind(numbers(|orphan| stored(orphan.found.amount.resources)))
            .bind(bytes)
            .bind(numbers(|orphan| orphan.found.amount.fingerprint.cast_signed()))
            .bind(numbers(|orphan| stored(orphan.found.entangled)))
            .bind(numbers(|orphan| milliseconds(orphan.clock.accrued)))
            .bind(counted_at)
            .bind(numbers(|orphan| milliseconds(orphan.accrued)))
            .execute(&mut *transaction)
            .await?;
            transaction.commit().await
        };
        self.call(ACTION, record).await
    }

    async fn record_decisions(&self, place: Place<'_>, decided: &[Decided]) -> Result<(), LedgerError> {
        let sources: Vec<&str> = decided.iter().map(|decided| place.name(decided.orphan.source)).collect();
        let courses: Vec<String> = decided.iter().map(|decided| decided.orphan.course.to_string()).collect();
        let decisions: Vec<&str> = decided.iter().map(|decided| decision_name(decided.decision)).collect();
        let breakers: Vec<Option<&str>> = decided.iter().map(|it| it.decision.breaker().map(Breaker::as_str)).collect();
        let update = sqlx::query(
            "UPDATE course_gc.orphans SET decision = d.decision, latched = coalesce(orphans.latched, d.breaker) \
             FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS d(source, course_id, decision, breaker) \
             WHERE orphans.store = $1 AND orphans.source = d.source AND orphans.course_id = d.course_id",
        )
        .bind(place.store)
        .bind(sources)
        .bind(courses)
        .bind(decisions)
        .bind(breakers)
        .execute(&self.pool);
        self.call("recording decisions", update).await?;
        Ok(())
    }

    async fn close_orphans(&self, place: Place<'_>, gone: &[OrphanKey]) -> Result<(), LedgerError> {
        let (sources, courses): (Vec<&str>, Vec<String>) =
            gone.iter().map(|(source, course)| (place.name(*source), course.to_string())).unzip();
        let delete = sqlx::query(
            "DELETE FROM course_gc.orphans USING unnest($2::text[], $3::text[]) AS gone(source, course_id) \
             WHERE orphans.store = $1 AND orphans.source = gone.source AND orphans.course_id = gone.course_id",
        )
        .bind(place.store)
        .bind(sources)
        .bind(courses)
        .execute(&self.pool);
        self.call("closing orphans", delete).await?;
        Ok(())
    }
}

fn read(row: &PgRow) -> Result<(String, String, RememberedOrphan), sqlx::Error> {
    let amount = Amount {
        resources: counted(row.try_get("resources")?),
        bytes: row.try_get::<Option<i64>, _>("bytes")?.map(counted),
        fingerprint: row.try_get::<i64, _>("fingerprint")?.cast_unsigned(),
    };
    let clock = OrphanClock {
        accrued: Duration::from_millis(counted(row.try_get("accrued_ms")?)),
        counted_at: row.try_get("counted_at")?,
    };
    let unknown = |name: &str| sqlx::Error::Decode(format!("{name:?} is no breaker that this program knows").into());
    let latched = row.try_get::<Option<&str>, _>("latched")?;
    let latched = latched.map(|name| Breaker::named(name).ok_or_else(|| unknown(name))).transpose()?;
    Ok((row.try_get("source")?, row.try_get("course_id")?, RememberedOrphan { amount, clock, latched }))
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn decision_name(decision: Decision) -> &'static str {
    match decision {
        Decision::Sweep => "sweep",
        Decision::SweepExcept { .. } => "sweep_except",
        Decision::Held(hold) => hold.as_str(),
    }
}
