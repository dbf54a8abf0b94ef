//! Putting rows back (S12): each as it was, text for text, in a transaction of its own.

use sqlx::{AssertSqlSafe, Row};

use super::copy::{COLUMNS, ORDINAL};
use super::relation::{Column, ROW, Relation, quoted};
use super::session::{Access, Session};
use super::{TableStore, record};
use crate::errors::chain;
use crate::postgres::PostgresError;
use crate::stores::StoreError;
use crate::stores::copies::{Item, PutBack, Restoring};

const DOING: &str = "put rows back";

/// Puts rows back, one after the other. What the database refuses fails alone; where it does not answer, all that follows fails.
pub(super) async fn put_back(store: &TableStore, items: &[Item], restoring: Restoring) -> Vec<PutBack> {
    let mut outcomes = Vec::with_capacity(items.len());
    if let Err(error) = put_all(store, items, restoring, &mut outcomes).await {
        outcomes.resize(items.len(), PutBack::Failed(chain(&error)));
    }
    outcomes
}

async fn put_all(
    store: &TableStore,
    items: &[Item],
    restoring: Restoring,
    outcomes: &mut Vec<PutBack>,
) -> Result<(), StoreError> {
    let (mut session, relations) = store.read(&store.postgres, DOING).await?;
    session.roll_back().await.map_err(store.failed(DOING))?;
    for item in items {
        let outcome = match relations.iter().find(|relation| relation.name == item.source) {
            Some(relation) => put(store, &mut session, (relation, item), restoring).await?,
            None => PutBack::Failed(format!("table {} is not configured any more", item.source)),
        };
        outcomes.push(outcome);
    }
    session.close().await;
    Ok(())
}

/// The outer error: nobody answers any more.
async fn put(
    store: &TableStore,
    session: &mut Session<'_>,
    (relation, item): (&Relation, &Item),
    restoring: Restoring,
) -> Result<PutBack, StoreError> {
    let row = match Copied::of(item, &relation.columns) {
        Ok(row) => row,
        Err(why) => return Ok(PutBack::Failed(format!("table {}: {why}", relation.name))),
    };
    session.begin(Access::Write, session.postgres.call_timeout).await.map_err(store.failed(DOING))?;
    let put = put_row(session, (relation, item), &row, restoring).await;
    let lasts = matches!(put, Ok(PutBack::Restored)) && restoring != Restoring::Look;
    let ended = if lasts { session.commit().await } else { session.roll_back().await };
    let failed = store.failed(DOING);
    Ok(match (put, ended) {
        (Ok(put), Ok(())) => put,
        // What the database refuses, the next row may fare better with.
        (Err(error @ PostgresError::Failed { source: sqlx::Error::Database(_), .. }), Ok(()))
        | (Ok(_), Err(error @ PostgresError::Failed { source: sqlx::Error::Database(_), .. })) => {
            PutBack::Failed(chain(&failed(error)))
        }
        (Err(error), _) | (_, Err(error)) => return Err(failed(error)),
    })
}

/// A row to be inserted.
struct Copied<'a> {
    /// Its text, with the columns that the table has now.
    text: String,
    /// The columns that have a value of their own.
    columns: Vec<&'a str>,
    /// Which it is of those that are the same.
    ordinal: i64,
    /// True if the table has the columns that it had.
    is_same: bool,
}

impl<'a> Copied<'a> {
    /// The row of an item, in a table of these columns. Columns that came since are given their default.
    ///
    /// # Errors
    /// If it cannot be read, or a column has gone since.
    fn of(item: &Item, columns: &'a [Column]) -> Result<Self, String> {
        let damaged = || "its copy is no row's text".to_owned();
        let text = std::str::from_utf8(&item.content).map_err(|_| damaged())?;
        let names = item.attributes.get(COLUMNS).ok_or_else(damaged)?;
        let names: Vec<String> = serde_json::from_str(names).map_err(|_| damaged())?;
        let fields = record::parse(text).ok_or_else(damaged)?;
        if fields.len() != names.len() {
            return Err(damaged());
        }
        let field = |column: &Column| names.iter().position(|name| *name == column.name);
        if let Some(gone) = names.iter().find(|name| !columns.iter().any(|column| column.name == **name)) {
            return Err(format!("it has no column `{gone}` any more, which the row had; add it, and restore again"));
        }
        let values = columns.iter().map(|column| fields.get(field(column)?)?.as_deref());
        let is_same = columns.iter().map(|column| &column.name).eq(&names);
        Ok(Self {
            text: if is_same { text.to_owned() } else { record::write(values) },
            columns: columns
                .iter()
                .filter(|column| !column.generated && field(column).is_some())
                .map(|column| column.name.as_str())
                .collect(),
            ordinal: item.attributes.get(ORDINAL).and_then(|ordinal| ordinal.parse().ok()).unwrap_or(1),
            is_same,
        })
    }
}

async fn put_row(
    session: &mut Session<'_>,
    (relation, item): (&Relation, &Item),
    row: &Copied<'_>,
    restoring: Restoring,
) -> Result<PutBack, PostgresError> {
    if relation.primary.is_empty() && is_there(session, (relation, item), row).await? {
        return Ok(if restoring == Restoring::Overwrite { PutBack::Restored } else { PutBack::Exists });
    }
    if restoring == Restoring::Overwrite && !make_room(session, (relation, item), row).await? {
        return Ok(PutBack::Failed(format!(
            "table {}: a row that does not name course {} has its key now, and stays",
            relation.name, item.course
        )));
    }
    let columns: Vec<String> = row.columns.iter().map(|column| quoted(column)).collect();
    let values: Vec<String> = columns.iter().map(|column| format!("(course_gc_back.back).{column}")).collect();
    let insert = format!(
        "WITH course_gc_back AS MATERIALIZED (SELECT $1::text::{table} AS back) \
         INSERT INTO {table} AS {ROW} ({columns}) OVERRIDING SYSTEM VALUE SELECT {values} FROM course_gc_back {conflict} \
         RETURNING {ROW}::text",
        table = relation.sql,
        columns = columns.join(", "),
        values = values.join(", "),
        conflict = if restoring == Restoring::Overwrite { "" } else { "ON CONFLICT DO NOTHING" }
    );
    let insert = sqlx::query_scalar::<_, String>(AssertSqlSafe(insert)).bind(&row.text);
    let back = session.postgres.call("inserting a row", insert.fetch_optional(&mut session.connection)).await?;
    // What is checked at the end of a transaction only is checked now, for whoever just looks.
    let check = sqlx::raw_sql("SET CONSTRAINTS ALL IMMEDIATE").execute(&mut session.connection);
    session.postgres.call("checking constraints", check).await?;
    Ok(match back {
        None if restoring == Restoring::Overwrite => {
            PutBack::Failed(format!("table {}: a trigger keeps the row from coming back", relation.name))
        }
        None => PutBack::Exists,
        Some(back) if row.is_same && back != row.text => PutBack::Failed(format!(
            "table {}: the row would not come back as it was: a trigger changes it, or a column is computed in another way; \
             disable the trigger, and restore again",
            relation.name
        )),
        Some(_) => PutBack::Restored,
    })
}

/// Whether as many of this very row are there as there were. Without a primary key nothing else tells.
async fn is_there(
    session: &mut Session<'_>,
    (relation, item): (&Relation, &Item),
    row: &Copied<'_>,
) -> Result<bool, PostgresError> {
    let count = format!(
        "SELECT count(*) FROM {table} AS {ROW} WHERE {any} AND {ROW}::text COLLATE \"C\" = ($1::text::{table})::text COLLATE \"C\"",
        table = relation.sql,
        any = relation.naming.any_of(&[item.course])
    );
    let count = sqlx::query_scalar::<_, i64>(AssertSqlSafe(count)).bind(&row.text);
    let count = session.postgres.call("looking for a row", count.fetch_one(&mut session.connection)).await?;
    Ok(count >= row.ordinal)
}

/// Deletes what has one of the row's keys; false if such a row is of another course: it is nobody's to delete here (S1).
async fn make_room(
    session: &mut Session<'_>,
    (relation, item): (&Relation, &Item),
    row: &Copied<'_>,
) -> Result<bool, PostgresError> {
    let same = |key: &Vec<super::relation::KeyColumn>| {
        let columns = key.iter().map(|column| {
            let name = quoted(&column.column);
            format!("{ROW}.{name} {} (course_gc_back.back).{name}", column.equals)
        });
        format!("({})", columns.collect::<Vec<_>>().join(" AND "))
    };
    let keys: Vec<String> = relation.keys.iter().map(same).collect();
    if keys.is_empty() {
        return Ok(true);
    }
    let delete = format!(
        "WITH course_gc_back AS MATERIALIZED (SELECT $1::text::{table} AS back) \
         DELETE FROM {table} AS {ROW} USING course_gc_back WHERE ({keys}) RETURNING coalesce({any}, false)",
        table = relation.sql,
        keys = keys.join(" OR "),
        any = relation.naming.any_of(&[item.course])
    );
    let delete = sqlx::query(AssertSqlSafe(delete)).bind(&row.text).fetch_all(&mut session.connection);
    let gone = session.postgres.call("replacing a row", delete).await?;
    let are_ours: Result<Vec<bool>, sqlx::Error> = gone.iter().map(|row| row.try_get(0)).collect();
    let are_ours = are_ours.map_err(|error| session.postgres.failed("replacing a row", error))?;
    Ok(are_ours.into_iter().all(|ours| ours))
}
