//! Deleting a batch: each handle is a transaction of its own, in which what went is counted, and what stays.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Row};

use super::copy::{Place, Places, places};
use super::relation::{ROW, Relation};
use super::session::{Access, Session};
use super::{TableStore, named};
use crate::errors::chain;
use crate::postgres::{Postgres, PostgresError};
use crate::stores::copies::Receipt;
use crate::stores::{Handle, Outcome, Removed};
use crate::sweep::Condemned;

/// How many copied rows one statement deletes.
const PAGE: usize = 1000;
/// What a delete is called in errors.
const DELETE: &str = "delete rows";
/// The class of Postgres's codes for a constraint that a statement would break.
const INTEGRITY: &str = "23";
/// Its codes for somebody else at the same rows: they were written to since the transaction's snapshot, two wait for one another,
/// or a lock was not to be had in time.
const CONTENDED: [&str; 3] = ["40001", "40P01", "55P03"];

/// What went, and what stays.
#[derive(Debug, Default)]
struct Counted {
    /// Rows that were there to be deleted.
    there: u64,
    gone: u64,
    bytes: u64,
}

/// Deletes handle by handle. What breaks a constraint of the database fails alone, and what somebody else writes at the same time
/// is spared alone; whatever else fails ends the batch.
pub(super) async fn delete(store: &TableStore, batch: &Condemned) -> Removed {
    let handles = batch.handles();
    let mut outcomes = Vec::with_capacity(handles.len());
    if batch.is_fresh() {
        let postgres = limited(&store.postgres, batch.time_left());
        match begin(store, &postgres).await {
            Ok((session, relations)) => delete_all(store, batch, (session, &relations), &mut outcomes).await,
            Err(cause) => outcomes.push(Outcome::Failed(cause)),
        }
    }
    outcomes.resize(handles.len(), Outcome::Unattempted);
    Removed { outcomes }
}

/// The same server, with no more time than is left.
fn limited(postgres: &Postgres, left: Duration) -> Postgres {
    Postgres { call_timeout: postgres.call_timeout.min(left), ..postgres.clone() }
}

/// A session, and the tables as they are now.
async fn begin<'a>(store: &TableStore, postgres: &'a Postgres) -> Result<(Session<'a>, Vec<Relation>), String> {
    let (mut session, relations) = store.read(postgres, DELETE).await.map_err(|error| chain(&error))?;
    session.roll_back().await.map_err(|error| chain(&store.failed(DELETE)(error)))?;
    Ok((session, relations))
}

async fn delete_all(
    store: &TableStore,
    batch: &Condemned,
    (mut session, relations): (Session<'_>, &[Relation]),
    outcomes: &mut Vec<Outcome>,
) {
    for (n, handle) in batch.handles().iter().enumerate() {
        if !batch.is_fresh() {
            return;
        }
        let receipt = batch.safe().map(|safe| safe.receipts.get(n).cloned().unwrap_or_default());
        let Some(relation) = relations.get(handle.source.0) else {
            outcomes.push(Outcome::Failed("its table is not configured any more".to_owned()));
            continue;
        };
        let one = delete_one(&mut session, batch, (relation, handle), receipt.as_ref()).await;
        tracing::debug!(
            target: "course_gc::moment",
            store = %store.name,
            moment = "deleting",
            handled = outcomes.len() + 1,
            of = batch.handles().len(),
        );
        match one {
            Ok(Some(outcome)) => outcomes.push(outcome),
            Ok(None) => return,
            Err(error) => {
                let reach = reach(&error);
                let failed = Outcome::Failed(chain(&store.failed(DELETE)(error)));
                let goes_on = reach != Reach::Batch && session.roll_back().await.is_ok();
                let spared = match reach {
                    Reach::Contended if goes_on => spared(&mut session, (relation, handle)).await,
                    _ => Ok(failed.clone()),
                };
                outcomes.push(spared.as_ref().unwrap_or(&failed).clone());
                if !goes_on || spared.is_err() {
                    // The connection is closed, and with it the transaction.
                    return;
                }
            }
        }
    }
    session.close().await;
}

/// Whom an error concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// One course, whose rows a constraint keeps.
    Course,
    /// One course, whose rows somebody else is at.
    Contended,
    Batch,
}

fn reach(error: &PostgresError) -> Reach {
    let PostgresError::Failed { source: sqlx::Error::Database(error), .. } = error else { return Reach::Batch };
    match error.code() {
        Some(code) if code.starts_with(INTEGRITY) => Reach::Course,
        Some(code) if CONTENDED.contains(&&*code) => Reach::Contended,
        _ => Reach::Batch,
    }
}

/// What somebody was writing to when it was to be deleted, all that its course has: it is not sent again (S2), but waits for the next
/// run.
async fn spared(session: &mut Session<'_>, (relation, handle): (&Relation, &Handle)) -> Result<Outcome, PostgresError> {
    session.begin(Access::Read, session.postgres.call_timeout).await?;
    let left = count_owned(session, relation, &relation.naming.exactly(&named(handle))).await?;
    session.roll_back().await?;
    Ok(match left {
        0 => Outcome::Absent,
        left => Outcome::Partly { resources: 0, bytes: Some(0), left },
    })
}

/// Nothing if the confirmation grew stale: then nothing was deleted.
async fn delete_one(
    session: &mut Session<'_>,
    batch: &Condemned,
    (relation, handle): (&Relation, &Handle),
    receipt: Option<&Receipt>,
) -> Result<Option<Outcome>, PostgresError> {
    let copied = match receipt.map(places) {
        None => None,
        Some(Some(places)) => Some(places),
        Some(None) => return Ok(Some(Outcome::Failed("its receipt cannot be read".to_owned()))),
    };
    session.begin(Access::Delete, batch.time_left().min(session.postgres.call_timeout)).await?;
    let owned = relation.naming.exactly(&named(handle));
    let mut counted = Counted::default();
    match copied {
        Some(places) => {
            for some in places.chunks(PAGE) {
                counted.add(delete_copied(session, relation, &owned, some).await?);
            }
        }
        None => counted.add(delete_owned(session, relation, &owned).await?),
    }
    if counted.gone != counted.there {
        session.roll_back().await?;
        return Ok(Some(Outcome::Failed(format!(
            "table {}: {} of {} rows would have stayed after their delete, so nothing was deleted: a trigger keeps them; let it \
             return OLD for our role",
            relation.name,
            counted.there.saturating_sub(counted.gone),
            counted.there
        ))));
    }
    let left = count_owned(session, relation, &owned).await?;
    if !batch.is_fresh() {
        session.roll_back().await?;
        return Ok(None);
    }
    session.commit().await?;
    let (resources, bytes) = (counted.gone, Some(counted.bytes));
    Ok(Some(match (resources, left) {
        (0, 0) => Outcome::Absent,
        (_, 0) => Outcome::Deleted { resources, bytes },
        (_, left) => Outcome::Partly { resources, bytes, left },
    }))
}

impl Counted {
    fn add(&mut self, other: Self) {
        self.there += other.there;
        self.gone += other.gone;
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// Deletes rows that still are where and what they were, and still name the courses.
async fn delete_copied(
    session: &mut Session<'_>,
    relation: &Relation,
    owned: &str,
    copied: &[Place],
) -> Result<Counted, PostgresError> {
    let same = format!(
        "{ROW}.ctid = ANY($2::text[]::tid[]) AND {ROW}.ctid = course_gc_copy.course_gc_ctid \
         AND {ROW}.tableoid = course_gc_copy.course_gc_table AND {concerned} AND {owned} \
         AND sha256(convert_to({ROW}::text, 'UTF8')) = course_gc_copy.course_gc_digest",
        concerned = relation.concerned()
    );
    let query = format!(
        "WITH course_gc_copy(course_gc_table, course_gc_ctid, course_gc_digest) AS MATERIALIZED \
         (SELECT * FROM unnest($1::int8[]::oid[], $2::text[]::tid[], $3::bytea[])), \
         course_gc_there AS (SELECT FROM {table} AS {ROW}, course_gc_copy WHERE {same}), \
         course_gc_gone AS (DELETE FROM {table} AS {ROW} USING course_gc_copy WHERE {same} RETURNING {size} AS size) \
         SELECT (SELECT count(*) FROM course_gc_there), count(*), coalesce(sum(size), 0)::int8 FROM course_gc_gone",
        table = relation.sql,
        size = relation.size()
    );
    let Places { tables, rows, digests } = Places::of(copied);
    let query = sqlx::query(AssertSqlSafe(query)).bind(tables).bind(rows).bind(digests);
    let row = session.postgres.call("deleting rows that were copied", query.fetch_one(&mut session.connection)).await?;
    counted(session.postgres, &row)
}

/// Deletes whatever names the courses now.
async fn delete_owned(session: &mut Session<'_>, relation: &Relation, owned: &str) -> Result<Counted, PostgresError> {
    let query = format!(
        "WITH course_gc_there AS (SELECT {from} AND {owned}), \
         course_gc_gone AS (DELETE {from} AND {owned} RETURNING {size} AS size) \
         SELECT (SELECT count(*) FROM course_gc_there), count(*), coalesce(sum(size), 0)::int8 FROM course_gc_gone",
        from = relation.from(),
        size = relation.size()
    );
    let query = sqlx::query(AssertSqlSafe(query)).fetch_one(&mut session.connection);
    let row = session.postgres.call("deleting rows", query).await?;
    counted(session.postgres, &row)
}

fn counted(postgres: &Postgres, row: &sqlx::postgres::PgRow) -> Result<Counted, PostgresError> {
    let number = |index: usize| {
        let number: i64 = row.try_get(index).map_err(|error| postgres.failed("counting what was deleted", error))?;
        Ok(u64::try_from(number).unwrap_or(0))
    };
    Ok(Counted { there: number(0)?, gone: number(1)?, bytes: number(2)? })
}

async fn count_owned(session: &mut Session<'_>, relation: &Relation, owned: &str) -> Result<u64, PostgresError> {
    let query = format!("SELECT count(*) {} AND {owned}", relation.from());
    let count = sqlx::query_scalar::<_, i64>(AssertSqlSafe(query)).fetch_one(&mut session.connection);
    let count = session.postgres.call("counting what is left", count).await?;
    Ok(u64::try_from(count).unwrap_or(0))
}
