//! Deaths that a trigger records in the application's own database, in the deleting transaction: what makes the wait shorter (S6).
//!
//! - They are evidence and no more: a tombstone makes nothing dead, liveness is asked as always.
//! - They are read before the live set, over a connection of their own: an error here costs the evidence, never the run.
//! - Our role needs SELECT and DELETE on `course_gc.tombstones` in the source's database, and USAGE on its schema.
//! - They are polled. NOTIFY, where it is asked for, is a hint that only makes the next look sooner: it is lost while nobody listens.
//!
//! Rejected: a logical replication slot (it holds the write-ahead log of a collector that is down).

mod listen;
mod manage;
mod sql;

use futures::TryStreamExt;
use sqlx::{Connection, PgConnection, Row};

use crate::domain::ids::{CourseId, IdType};
use crate::domain::tombstones::Tombstone;
use crate::postgres::{BEGIN_QUESTION, Postgres, PostgresError};

pub use manage::{Coverage, Prepared, Relation, Status};

/// How many rows go in one statement.
const PAGE: usize = 10_000;

/// A liveness source's tombstones: where they are, and what they are recorded of.
#[derive(Debug, Clone)]
pub struct Tombstones {
    /// The source's database.
    pub postgres: Postgres,
    /// The schema of the table that holds the courses.
    pub schema: String,
    /// That table.
    pub table: String,
    /// The column with the course's id.
    pub column: String,
    /// The trigger gives a hint, and `serve` listens for it.
    pub notify: bool,
}

impl Tombstones {
    /// Every tombstone that is there, in a transaction of its own on a primary.
    ///
    /// # Errors
    /// If they cannot be read, or our role could not remove them once they are void: then they are no evidence.
    pub async fn poll(&self, id_type: IdType) -> Result<Vec<Tombstone>, PostgresError> {
        const ACTION: &str = "reading tombstones (see `course-gc tombstones status`)";
        let postgres = &self.postgres;
        let mut connection = postgres.connect().await?;
        postgres.call(ACTION, sqlx::raw_sql(BEGIN_QUESTION).execute(&mut connection)).await?;
        let look = sqlx::query(
            "SELECT pg_is_in_recovery() AS standby, has_table_privilege('course_gc.tombstones', 'DELETE') AS removable",
        )
        .fetch_one(&mut connection);
        let row = postgres.call(ACTION, look).await?;
        let read = |column| row.try_get::<bool, _>(column).map_err(|error| postgres.failed(ACTION, error));
        if read("standby")? {
            return Err(PostgresError::Standby { what: postgres.what.clone(), address: postgres.address() });
        }
        if !read("removable")? {
            return Err(postgres.nonsense(
                "the role may not delete from course_gc.tombstones, so that a tombstone could never be made void; \
                 see `course-gc tombstones install`",
            ));
        }
        let select = sqlx::query(
            "SELECT id, course_id, buried_at < now() - interval '90 days' AS old FROM course_gc.tombstones",
        );
        let mut found = Vec::new();
        {
            let mut rows = select.fetch(&mut connection);
            // However many there are, the next one must come within the time of one call.
            while let Some(row) = postgres.call(ACTION, rows.try_next()).await? {
                let read = || Ok((row.try_get("id")?, row.try_get("course_id")?, row.try_get("old")?));
                let (row, text, old) = read().map_err(|error| postgres.failed(ACTION, error))?;
                // What is no id names no course.
                if let Some(course) = parse(id_type, text) {
                    found.push(Tombstone { course, row, old });
                }
            }
        }
        // The session ends in any case.
        let _ = connection.close().await;
        Ok(found)
    }

    /// The number of the newest one; none if there is none. Numbers only grow.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn newest(&self) -> Result<Option<i64>, PostgresError> {
        const ACTION: &str = "looking for new tombstones (see `course-gc tombstones status`)";
        let mut connection = self.postgres.connect().await?;
        let select = sqlx::query_scalar("SELECT max(id) FROM course_gc.tombstones").fetch_one(&mut connection);
        let newest = self.postgres.call(ACTION, select).await?;
        // The session ends in any case.
        let _ = connection.close().await;
        Ok(newest)
    }

    /// Removes these rows: they are void, or forgotten.
    ///
    /// # Errors
    /// If Postgres refuses; then some may be there still.
    pub async fn remove_rows(&self, rows: &[i64]) -> Result<(), PostgresError> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut connection: PgConnection = self.postgres.connect().await?;
        for page in rows.chunks(PAGE) {
            let delete =
                sqlx::query("DELETE FROM course_gc.tombstones WHERE id = ANY($1)").bind(page).execute(&mut connection);
            self.postgres.call("removing void tombstones", delete).await?;
        }
        let _ = connection.close().await;
        Ok(())
    }
}

/// An id as the application's column wrote it: a text may spell a UUID in other ways, as in a liveness query.
fn parse(id_type: IdType, text: &str) -> Option<CourseId> {
    match id_type {
        IdType::Uuid => text.parse().ok().map(CourseId::Uuid),
        IdType::Integer => text.parse().ok().map(CourseId::Integer),
        IdType::Text(_) => id_type.parse(text.as_bytes()),
    }
}
