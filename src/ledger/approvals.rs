//! What a person approved, until when, and what still waits for that (S3, S7, S8).

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::Row;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use utoipa::ToSchema;

use super::pauses::WHO;
use super::{LedgerError, Place, PostgresLedger, counted, stored};
use crate::domain::approvals::{Digest, HoldKind, Item, Released, Terms};
use crate::domain::evidence::Evidence;
use crate::domain::holds::{Covered, HeldBy, HeldOrphan};
use crate::domain::inventory::SourceIndex;
use crate::domain::live_set::Halt;
use crate::domain::plan::Breaker;

/// How many orphans go in one statement.
const PAGE: usize = 10_000;

/// A size of a live set that a person accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcceptedSize {
    /// The approval's digest.
    pub digest: Digest,
    /// Live ids.
    pub live: u64,
}

/// An approval in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Approval {
    /// What was approved.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// What kind of hold.
    pub kind: HoldKind,
    /// Why.
    pub reason: String,
    /// The database role, and where it came from.
    pub approved_by: String,
    /// When, in the database's time.
    pub approved_at: DateTime<Utc>,
    /// When it expires.
    pub until: DateTime<Utc>,
    /// How many orphans, or sizes of live sets, it covers.
    pub covers: u64,
}

/// What approvals release, and what waits for one.
#[async_trait]
pub trait Approvals: Send + Sync {
    /// What the approvals in force release in a store, in the sources that it has now.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn released(&self, place: Place<'_>) -> Result<Released, LedgerError>;

    /// The orphans that wait for an approval, in every store that the ledger remembers.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn held(&self) -> Result<Vec<HeldOrphan>, LedgerError>;

    /// By liveness source, the size that was accepted last, while that approval is in force.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn accepted_sizes(&self) -> Result<BTreeMap<String, AcceptedSize>, LedgerError>;

    /// Records an approval: who, why, until when, and exactly what it covers.
    ///
    /// # Errors
    /// If the ledger does not answer: then nothing is approved.
    async fn approve(
        &self,
        digest: Digest,
        kind: HoldKind,
        covered: &Covered<'_>,
        terms: &Terms,
    ) -> Result<Approval, LedgerError>;

    /// The approvals in force, newest first.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn approvals(&self) -> Result<Vec<Approval>, LedgerError>;

    /// Why the last plan or run that came so far did not believe the live sets, and when it started; empty if it did.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn last_halts(&self) -> Result<Option<(DateTime<Utc>, Vec<Halt>)>, LedgerError>;
}

#[async_trait]
impl Approvals for PostgresLedger {
    async fn released(&self, place: Place<'_>) -> Result<Released, LedgerError> {
        const ACTION: &str = "reading what was approved";
        // The earliest comes first, and counts: a clock that started with it does not start again with the next.
        let select = sqlx::query(
            "SELECT a.kind, a.digest, a.approved_at, i.source, i.course_id, i.evidence FROM course_gc.approvals a \
             JOIN course_gc.approved_orphans i ON i.approval = a.id WHERE a.until > clock_timestamp() AND i.store = $1 \
             ORDER BY a.approved_at, a.id",
        )
        .bind(place.store)
        .fetch_all(&self.pool);
        let mut released = Released::default();
        for row in self.call(ACTION, select).await? {
            let item = self.item(ACTION, place.store.to_owned(), &row)?;
            let Some(index) = place.sources.iter().position(|name| *name == item.source) else { continue };
            let key = (SourceIndex(index), item.course, item.evidence);
            match self.kind(ACTION, &row)? {
                HoldKind::Breakers => {
                    let digest = self.digest(ACTION, &row)?;
                    released.from_breakers.entry(key).or_insert(digest);
                }
                HoldKind::Discontinuity => {
                    let approved_at = row.try_get("approved_at").map_err(|e| self.postgres.failed(ACTION, e))?;
                    released.from_breaks.entry(key).or_insert(approved_at);
                }
                HoldKind::Halt => {}
            }
        }
        Ok(released)
    }

    async fn held(&self) -> Result<Vec<HeldOrphan>, LedgerError> {
        const ACTION: &str = "reading what is held";
        let select = sqlx::query(
            "WITH released AS (SELECT DISTINCT a.kind, i.store, i.source, i.course_id, i.evidence \
                 FROM course_gc.approvals a JOIN course_gc.approved_orphans i ON i.approval = a.id \
                 WHERE a.until > clock_timestamp()), \
             held AS (SELECT o.store, o.source, o.course_id, o.evidence, o.resources, o.bytes, \
                 CASE WHEN k.across_break AND across.kind IS NULL THEN 'discontinuity' \
                      WHEN latch.kind IS NULL THEN o.latched END AS held_by \
                 FROM course_gc.orphans o \
                 LEFT JOIN course_gc.known_ids k ON k.course_id = o.course_id AND k.across_break \
                 LEFT JOIN released across ON across.kind = 'discontinuity' AND across.store = o.store \
                     AND across.source = o.source AND across.course_id = o.course_id AND across.evidence = o.evidence \
                 LEFT JOIN released latch ON latch.kind = 'breakers' AND latch.store = o.store \
                     AND latch.source = o.source AND latch.course_id = o.course_id AND latch.evidence = o.evidence \
                 WHERE k.across_break OR o.latched IS NOT NULL) \
             SELECT * FROM held WHERE held_by IS NOT NULL ORDER BY store, source, course_id",
        )
        .fetch_all(&self.pool);
        let rows = self.call(ACTION, select).await?;
        rows.iter().map(|row| self.held_orphan(ACTION, row)).collect()
    }

    async fn accepted_sizes(&self) -> Result<BTreeMap<String, AcceptedSize>, LedgerError> {
        const ACTION: &str = "reading which sizes were accepted";
        let select = sqlx::query(
            "SELECT DISTINCT ON (s.source) s.source, s.live, a.digest FROM course_gc.accepted_sizes s \
             JOIN course_gc.approvals a ON a.id = s.approval WHERE a.until > clock_timestamp() \
             ORDER BY s.source, a.approved_at DESC, a.id DESC",
        )
        .fetch_all(&self.pool);
        let mut sizes = BTreeMap::new();
        for row in self.call(ACTION, select).await? {
            let read = || Ok((row.try_get("source")?, counted(row.try_get("live")?)));
            let (source, live) = read().map_err(|error| self.postgres.failed(ACTION, error))?;
            sizes.insert(source, AcceptedSize { digest: self.digest(ACTION, &row)?, live });
        }
        Ok(sizes)
    }

    async fn approve(
        &self,
        digest: Digest,
        kind: HoldKind,
        covered: &Covered<'_>,
        terms: &Terms,
    ) -> Result<Approval, LedgerError> {
        let statement = format!(
            "INSERT INTO course_gc.approvals (digest, kind, reason, approved_by, approved_at, until) \
             SELECT $1, $2, $3, {WHO}, t, t + make_interval(secs => $4) FROM clock_timestamp() AS t \
             RETURNING id, digest, kind, reason, approved_by, approved_at, until, $5::bigint AS covers"
        );
        let covers = match covered {
            Covered::Orphans(items) => items.len(),
            Covered::Sizes(sizes) => sizes.len(),
        };
        let record = async {
            let mut transaction = self.pool.begin().await?;
            let row = sqlx::query(sqlx::AssertSqlSafe(statement))
                .bind(digest.to_string())
                .bind(kind.as_str())
                .bind(terms.reason())
                .bind(terms.lasts().as_secs_f64())
                .bind(stored(covers as u64))
                .fetch_one(&mut *transaction)
                .await?;
            let id: i64 = row.try_get("id")?;
            match covered {
                Covered::Orphans(items) => {
                    for page in items.chunks(PAGE) {
                        cover_orphans(&mut transaction, id, page).await?;
                    }
                }
                Covered::Sizes(sizes) => {
                    let (sources, live): (Vec<&str>, Vec<i64>) =
                        sizes.iter().map(|(source, live)| (*source, stored(*live))).unzip();
                    sqlx::query(
                        "INSERT INTO course_gc.accepted_sizes (approval, source, live) \
                         SELECT $1, * FROM unnest($2::text[], $3::bigint[])",
                    )
                    .bind(id)
                    .bind(sources)
                    .bind(live)
                    .execute(&mut *transaction)
                    .await?;
                }
            }
            transaction.commit().await?;
            Ok(row)
        };
        const ACTION: &str = "recording an approval";
        let row = self.call(ACTION, record).await?;
        self.approval(ACTION, &row)
    }

    async fn approvals(&self) -> Result<Vec<Approval>, LedgerError> {
        const ACTION: &str = "listing approvals";
        let select = sqlx::query(
            "SELECT digest, kind, reason, approved_by, approved_at, until, \
                 (SELECT count(*) FROM course_gc.approved_orphans i WHERE i.approval = a.id) \
                 + (SELECT count(*) FROM course_gc.accepted_sizes s WHERE s.approval = a.id) AS covers \
             FROM course_gc.approvals a WHERE until > clock_timestamp() ORDER BY approved_at DESC, id DESC",
        )
        .fetch_all(&self.pool);
        let rows = self.call(ACTION, select).await?;
        rows.iter().map(|row| self.approval(ACTION, row)).collect()
    }

    async fn last_halts(&self) -> Result<Option<(DateTime<Utc>, Vec<Halt>)>, LedgerError> {
        const ACTION: &str = "reading why the last run halted";
        let select = sqlx::query(
            "SELECT started_at, report->'halts' AS halts FROM course_gc.runs WHERE report ? 'halts' \
             ORDER BY started_at DESC LIMIT 1",
        )
        .fetch_optional(&self.pool);
        let Some(row) = self.call(ACTION, select).await? else { return Ok(None) };
        let read = || {
            let Json(halts) = row.try_get("halts")?;
            Ok(Some((row.try_get("started_at")?, halts)))
        };
        read().map_err(|error| self.postgres.failed(ACTION, error).into())
    }
}

impl PostgresLedger {
    fn held_orphan(&self, action: &'static str, row: &PgRow) -> Result<HeldOrphan, LedgerError> {
        let read = || Ok((row.try_get("store")?, row.try_get("resources")?, row.try_get("bytes")?));
        let (store, resources, bytes): (_, _, Option<i64>) =
            read().map_err(|error| self.postgres.failed(action, error))?;
        let by = match self.text(action, row, "held_by")?.as_str() {
            "discontinuity" => HeldBy::Discontinuity,
            breaker => HeldBy::Breaker(self.known(breaker, Breaker::named(breaker))?),
        };
        let item = self.item(action, store, row)?;
        Ok(HeldOrphan { item, by, resources: counted(resources), bytes: bytes.map(counted) })
    }

    fn approval(&self, action: &'static str, row: &PgRow) -> Result<Approval, LedgerError> {
        let (digest, kind) = (self.digest(action, row)?, self.kind(action, row)?);
        let read = || {
            Ok(Approval {
                digest,
                kind,
                reason: row.try_get("reason")?,
                approved_by: row.try_get("approved_by")?,
                approved_at: row.try_get("approved_at")?,
                until: row.try_get("until")?,
                covers: counted(row.try_get("covers")?),
            })
        };
        read().map_err(|error| self.postgres.failed(action, error).into())
    }

    fn item(&self, action: &'static str, store: String, row: &PgRow) -> Result<Item, LedgerError> {
        let evidence = self.text(action, row, "evidence")?;
        let evidence = self.known(&evidence, Evidence::named(&evidence))?;
        let course = self.id(self.text(action, row, "course_id")?)?;
        Ok(Item { store, source: self.text(action, row, "source")?, course, evidence })
    }

    fn kind(&self, action: &'static str, row: &PgRow) -> Result<HoldKind, LedgerError> {
        let kind = self.text(action, row, "kind")?;
        self.known(&kind, HoldKind::ALL.into_iter().find(|known| known.as_str() == kind))
    }

    fn digest(&self, action: &'static str, row: &PgRow) -> Result<Digest, LedgerError> {
        let digest = self.text(action, row, "digest")?;
        self.known(&digest, digest.parse().ok())
    }

    fn text(&self, action: &'static str, row: &PgRow, column: &str) -> Result<String, LedgerError> {
        row.try_get(column).map_err(|error| self.postgres.failed(action, error).into())
    }

    /// What a word of the ledger means to this program.
    fn known<T>(&self, word: &str, meaning: Option<T>) -> Result<T, LedgerError> {
        let unknown = || self.postgres.nonsense(format!("the ledger says {word:?}, which this program does not know"));
        meaning.ok_or_else(|| unknown().into())
    }
}

async fn cover_orphans(
    transaction: &mut sqlx::Transaction<'_, sqlx::Postgres>,
    approval: i64,
    items: &[&Item],
) -> Result<(), sqlx::Error> {
    let column = |text: fn(&Item) -> String| -> Vec<String> { items.iter().map(|item| text(item)).collect() };
    sqlx::query(
        "INSERT INTO course_gc.approved_orphans (approval, store, source, course_id, evidence) \
         SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[], $5::text[])",
    )
    .bind(approval)
    .bind(column(|item| item.store.clone()))
    .bind(column(|item| item.source.clone()))
    .bind(column(|item| item.course.to_string()))
    .bind(column(|item| item.evidence.as_str().to_owned()))
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
