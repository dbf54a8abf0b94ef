//! Installing, removing and looking at the trigger.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use tokio::time::sleep;

use super::Tombstones;
use super::sql::{self, PATIENCE, TRIGGER, Watch};
use crate::postgres::{Postgres, PostgresError};

/// Postgres's code for a lock that could not be had in time.
const LOCK_NOT_AVAILABLE: &str = "55P03";
/// How often a statement that waits for the application's transactions is tried.
const ATTEMPTS: u32 = 15;
/// What the application gets done between two attempts.
const BREATH: Duration = Duration::from_millis(500);

/// Whether the deletes from a relation are heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Coverage {
    /// They are, and TRUNCATE is, too.
    Enabled,
    /// A trigger is there, and disabled.
    Disabled,
    /// A trigger is missing.
    Missing,
    /// They are, by another column than the one that is configured.
    OtherColumn,
}

/// The watched table, or one of its partitions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Relation {
    /// Its name, with its schema, quoted where it must be.
    pub name: String,
    /// Whether its deletes are heard.
    pub coverage: Coverage,
}

/// What `course-gc tombstones status` tells of a liveness source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The table and its partitions.
    pub relations: Vec<Relation>,
    /// The table for tombstones is there.
    pub table: bool,
    /// Our role may read and remove tombstones.
    pub readable: bool,
    /// The trigger gives a hint, too, as it was last installed.
    pub notifies: bool,
    /// How many there are; `None` if they cannot be read.
    pub tombstones: Option<u64>,
    /// When the newest was written, in the database's time.
    pub newest: Option<DateTime<Utc>>,
}

impl Status {
    /// Every delete is heard, and its tombstone can be read.
    pub fn is_whole(&self) -> bool {
        self.readable && self.relations.iter().all(|relation| relation.coverage == Coverage::Enabled)
    }
}

/// Statements that are to be run one by one.
#[derive(Debug)]
pub struct Prepared {
    postgres: Postgres,
    /// Each by itself, without a semicolon.
    pub statements: Vec<String>,
}

impl Prepared {
    /// All of it as a script for `psql`.
    pub fn script(&self) -> String {
        let each = self.statements.iter().map(|statement| format!("{statement};\n"));
        std::iter::once(format!("{PATIENCE};\n")).chain(each).collect()
    }

    /// Runs it. What waits for the application's transactions is tried again: a table that is waited for keeps others waiting.
    ///
    /// # Errors
    /// If Postgres refuses, above all for missing rights. What was run before stays; running all of it again does no harm.
    pub async fn run(&self) -> Result<(), PostgresError> {
        const ACTION: &str = "changing what records deaths (run without `--yes` it prints its statements: whoever owns the table may \
                              run them, too)";
        let mut connection = self.postgres.connect_alone().await?;
        self.postgres.call(ACTION, sqlx::raw_sql(PATIENCE).execute(&mut connection)).await?;
        for statement in &self.statements {
            let mut attempt = 1;
            loop {
                let run = sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(&mut connection);
                match self.postgres.call(ACTION, run).await {
                    Err(error) if attempt < ATTEMPTS && is_busy(&error) => sleep(BREATH).await,
                    done => {
                        done?;
                        break;
                    }
                }
                attempt += 1;
            }
        }
        let _ = connection.close().await;
        Ok(())
    }
}

fn is_busy(error: &PostgresError) -> bool {
    match error {
        PostgresError::Failed { source: sqlx::Error::Database(error), .. } => {
            error.code().is_some_and(|code| code == LOCK_NOT_AVAILABLE)
        }
        _ => false,
    }
}

impl Tombstones {
    /// What would install the trigger, or bring it up to date: idempotent.
    ///
    /// # Errors
    /// If the table is not there, is none, has no such column, or the database does not answer.
    pub async fn install(&self) -> Result<Prepared, PostgresError> {
        let mut connection = self.postgres.connect_alone().await?;
        let relations = self.relations(&mut connection).await?;
        self.check_column(&mut connection).await?;
        let schema = sqlx::query_scalar("SELECT to_regnamespace('course_gc') IS NOT NULL").fetch_one(&mut connection);
        let has_schema = self.postgres.call("looking for the schema course_gc", schema).await?;
        let _ = connection.close().await;
        let options = self.postgres.options()?;
        let statements = sql::install(&Watch {
            column: &self.column,
            relations: relations.into_iter().map(|relation| relation.name).collect(),
            role: options.get_username(),
            has_schema,
            notify: self.notify,
        });
        Ok(Prepared { postgres: self.postgres.clone(), statements })
    }

    /// What would remove it, from whatever table it is on: idempotent.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn remove(&self) -> Result<Prepared, PostgresError> {
        let mut connection = self.postgres.connect_alone().await?;
        let watched = sqlx::query_scalar(
            "SELECT DISTINCT tgrelid::regclass::text FROM pg_trigger \
             WHERE NOT tgisinternal AND tgfoid IN (SELECT p.oid FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace \
                 WHERE p.proname = 'bury' AND n.nspname = 'course_gc') ORDER BY 1",
        )
        .fetch_all(&mut connection);
        let relations: Vec<String> = self.postgres.call("looking for triggers", watched).await?;
        let _ = connection.close().await;
        Ok(Prepared { postgres: self.postgres.clone(), statements: sql::remove(&relations) })
    }

    /// What is there.
    ///
    /// # Errors
    /// If the table is not there, or the database does not answer.
    pub async fn status(&self) -> Result<Status, PostgresError> {
        const ACTION: &str = "looking at tombstones";
        let mut connection = self.postgres.connect_alone().await?;
        let relations = self.relations(&mut connection).await?;
        let rights = sqlx::query_as(
            "SELECT t.oid IS NOT NULL, \
                    coalesce(has_schema_privilege(to_regnamespace('course_gc')::oid, 'USAGE') \
                             AND has_table_privilege(t.oid, 'SELECT') AND has_table_privilege(t.oid, 'DELETE'), false), \
                    coalesce((SELECT p.prosrc LIKE '%pg_notify%' FROM pg_proc p \
                              WHERE p.proname = 'bury' AND p.pronamespace = to_regnamespace('course_gc')), false) \
             FROM (SELECT) AS one LEFT JOIN pg_class t ON t.relname = 'tombstones' AND t.relnamespace = to_regnamespace('course_gc')",
        )
        .fetch_one(&mut connection);
        let (table, readable, notifies): (bool, bool, bool) = self.postgres.call(ACTION, rights).await?;
        let (mut tombstones, mut newest) = (None, None);
        if readable {
            let count =
                sqlx::query_as("SELECT count(*), max(buried_at) FROM course_gc.tombstones").fetch_one(&mut connection);
            let (counted, latest): (i64, Option<DateTime<Utc>>) = self.postgres.call(ACTION, count).await?;
            (tombstones, newest) = (u64::try_from(counted).ok(), latest);
        }
        let _ = connection.close().await;
        Ok(Status { relations, table, readable, notifies, tombstones, newest })
    }

    /// The table and its partitions that a trigger can be on, and whether ours are.
    async fn relations(&self, connection: &mut PgConnection) -> Result<Vec<Relation>, PostgresError> {
        const ACTION: &str = "looking at the table whose deletes are recorded";
        let select = sqlx::query(
            "WITH RECURSIVE tree(oid) AS ( \
                 SELECT to_regclass(format('%I.%I', $1::text, $2::text))::oid \
                 UNION ALL SELECT i.inhrelid FROM tree JOIN pg_inherits i ON i.inhparent = tree.oid) \
             SELECT c.oid::regclass::text AS name, c.relkind::text AS kind, \
                    coalesce(array_agg(t.tgenabled::text) FILTER (WHERE t.oid IS NOT NULL), '{}') AS enabled, \
                    coalesce(bool_and(t.tgargs = convert_to($4, getdatabaseencoding()) || '\\x00'::bytea), true) AS by_column \
             FROM tree JOIN pg_class c USING (oid) \
                  LEFT JOIN pg_trigger t ON t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgname IN ($3, $3 || '_all') \
                       AND t.tgfoid IN (SELECT p.oid FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace \
                                        WHERE p.proname = 'bury' AND n.nspname = 'course_gc') \
             GROUP BY c.oid, c.relkind ORDER BY c.oid",
        )
        .bind(&self.schema)
        .bind(&self.table)
        .bind(TRIGGER)
        .bind(&self.column)
        .fetch_all(connection);
        let rows = self.postgres.call(ACTION, select).await?;
        if rows.is_empty() {
            return Err(self.postgres.nonsense(format!(
                "there is no table {}.{}; `tombstones.table` names the one that holds the courses",
                self.schema, self.table
            )));
        }
        let mut relations = Vec::with_capacity(rows.len());
        for row in &rows {
            let read =
                || Ok((row.try_get("name")?, row.try_get("kind")?, row.try_get("enabled")?, row.try_get("by_column")?));
            let (name, kind, enabled, by_column): (String, String, Vec<String>, bool) =
                read().map_err(|error| self.postgres.failed(ACTION, error))?;
            match kind.as_str() {
                "r" | "p" => {}
                // Its rows are another server's.
                "f" if !relations.is_empty() => continue,
                _ => {
                    return Err(self.postgres.nonsense(format!(
                        "{name} is no table, and hears of no deletes; `tombstones.table` names the table behind it"
                    )));
                }
            }
            let coverage = match enabled.as_slice() {
                [_, _] if !by_column => Coverage::OtherColumn,
                [one, other] if [one, other].iter().all(|fires| matches!(fires.as_str(), "O" | "A")) => {
                    Coverage::Enabled
                }
                [_, _] => Coverage::Disabled,
                _ => Coverage::Missing,
            };
            relations.push(Relation { name, coverage });
        }
        Ok(relations)
    }

    /// The trigger would only ever warn of a column that is not there.
    async fn check_column(&self, connection: &mut PgConnection) -> Result<(), PostgresError> {
        let column = sqlx::query_scalar(
            "SELECT atttypid = ANY ('{uuid,bigint,integer,smallint,text,varchar,bpchar}'::regtype[]) FROM pg_attribute \
             WHERE attrelid = to_regclass(format('%I.%I', $1::text, $2::text)) AND attname = $3 AND attnum > 0 AND NOT attisdropped",
        )
        .bind(&self.schema)
        .bind(&self.table)
        .bind(&self.column)
        .fetch_optional(connection);
        let problem = match self.postgres.call("looking at the column with the ids", column).await? {
            Some(true) => return Ok(()),
            Some(false) => "has a type that no id has; it should be uuid, an integer or text",
            None => "is not there; `tombstones.column` names the one with the course's id",
        };
        Err(self.postgres.nonsense(format!("column {} of {}.{} {problem}", self.column, self.schema, self.table)))
    }
}
