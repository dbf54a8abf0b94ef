//! The marker (S7): one row a table in `course_gc.store_markers`, in the same database as the tables.
//!
//! A row is found by its table's number and name together: a table that was dropped and made anew, or restored into another database, has
//! another number, so that nobody has adopted it. All rows of a store move in one transaction under an advisory lock, each only from
//! what was read. Our role owns that table, made with the first move, or may SELECT, INSERT and UPDATE it; the application's tables
//! are never altered for it.

use sqlx::Row;

use super::TableStore;
use super::relation::Relation;
use super::session::{Access, Session};
use crate::postgres::{AdvisoryLock, LOCK_CLASS, PostgresError};
use crate::stores::{Marker, StoreError};

/// What makes the place, for whoever may.
pub(super) const SQL: &str = "\
CREATE SCHEMA IF NOT EXISTS course_gc; \
CREATE TABLE IF NOT EXISTS course_gc.store_markers (relation oid, name text, marker text NOT NULL, PRIMARY KEY (relation, name))";

/// Postgres's code for what a role may not do.
const INSUFFICIENT_PRIVILEGE: &str = "42501";

/// What is in a table's place: as it is spelled, and as it is read.
type There = Option<(String, Marker)>;

/// The one marker of all tables.
pub(super) async fn read(store: &TableStore) -> Result<Option<Marker>, StoreError> {
    const DOING: &str = "read its marker";
    let (mut session, relations) = store.read(&store.postgres, DOING).await?;
    let there = match is_made(&mut session).await.map_err(store.failed(DOING))? {
        true => markers(store, &mut session, (&relations, DOING)).await?,
        false => Vec::new(),
    };
    session.close().await;
    agreed(&there).map_err(|()| disagreement(store, &relations, &there))
}

/// Replaces `from` by `to`; `false` if something else is there.
pub(super) async fn replace(store: &TableStore, from: Option<&Marker>, to: &Marker) -> Result<bool, StoreError> {
    const DOING: &str = "move its marker";
    let failed = store.failed(DOING);
    let json = serde_json::to_string(to)
        .map_err(|error| StoreError::server(format!("table store `{}`: write its marker", store.name), error))?;
    let mut session = Session::open(&store.postgres, store.pace.turn().await).await.map_err(&failed)?;
    session.begin(Access::Wait, store.postgres.call_timeout).await.map_err(&failed)?;
    let relations = store.look(&mut session, DOING).await?;
    alone(&mut session).await.map_err(&failed)?;
    if !is_made(&mut session).await.map_err(&failed)? {
        if from.is_some() {
            session.close().await;
            return Ok(false);
        }
        make(store, &mut session).await?;
    }
    let there = markers(store, &mut session, (&relations, DOING)).await?;
    if !may_move(&there, from, to) {
        session.close().await;
        let is_part = from.is_none() && there.contains(&None) && there.iter().any(Option::is_some);
        return if is_part { Err(disagreement(store, &relations, &there)) } else { Ok(false) };
    }
    for (relation, there) in relations.iter().zip(&there) {
        if !write(&mut session, relation, there.as_ref(), &json).await.map_err(&failed)? {
            return Ok(false);
        }
    }
    session.commit().await.map_err(&failed)?;
    session.close().await;
    Ok(true)
}

/// Waits until nobody else moves a marker in this database.
async fn alone(session: &mut Session<'_>) -> Result<(), PostgresError> {
    let lock = sqlx::query("SELECT pg_advisory_xact_lock($1, $2)").bind(LOCK_CLASS).bind(AdvisoryLock::Marker.object());
    session.postgres.call("waiting for others who move a marker", lock.execute(&mut session.connection)).await?;
    Ok(())
}

/// Looked up in the catalog: to name what one may not see is an error.
async fn is_made(session: &mut Session<'_>) -> Result<bool, PostgresError> {
    const ASK: &str = "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                       WHERE n.nspname = 'course_gc' AND c.relname = 'store_markers')";
    let ask = sqlx::query_scalar::<_, bool>(ASK).fetch_one(&mut session.connection);
    session.postgres.call("looking for the table of markers", ask).await
}

async fn make(store: &TableStore, session: &mut Session<'_>) -> Result<(), StoreError> {
    // To create what exists needs the right to create it, too.
    let exists = sqlx::query_scalar::<_, bool>("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'course_gc')");
    let exists =
        session.postgres.call("looking for the schema course_gc", exists.fetch_one(&mut session.connection)).await;
    let sql = match (exists.map_err(store.failed("make the table of markers"))?, SQL.split_once(';')) {
        (true, Some((_, table))) => table,
        _ => SQL,
    };
    let made = sqlx::raw_sql(sql).execute(&mut session.connection);
    match session.postgres.call("making the table of markers", made).await {
        Ok(_) => Ok(()),
        Err(PostgresError::Failed { source: sqlx::Error::Database(error), .. })
            if error.code().is_some_and(|code| code == INSUFFICIENT_PRIVILEGE) =>
        {
            Err(StoreError::Unusable(format!(
                "table store `{}` at {}: our role may not make the place for its marker ({error}); let somebody who may run: {SQL}; \
                 GRANT USAGE ON SCHEMA course_gc TO <our role>; \
                 GRANT SELECT, INSERT, UPDATE ON course_gc.store_markers TO <our role>",
                store.name,
                store.postgres.address()
            )))
        }
        Err(error) => Err(store.failed("make the table of markers")(error)),
    }
}

/// What each of the tables carries.
async fn markers(
    store: &TableStore,
    session: &mut Session<'_>,
    (relations, doing): (&[Relation], &str),
) -> Result<Vec<There>, StoreError> {
    const FIND: &str = "SELECT marker FROM course_gc.store_markers WHERE relation = $1::int8::oid AND name = $2";
    let mut markers = Vec::with_capacity(relations.len());
    for relation in relations {
        let find = sqlx::query(FIND).bind(relation.oid).bind(&relation.name).fetch_optional(&mut session.connection);
        let found = session.postgres.call("reading a marker", find).await.map_err(store.failed(doing))?;
        let Some(row) = found else {
            markers.push(None);
            continue;
        };
        let spelled: String =
            row.try_get(0).map_err(|error| store.failed(doing)(session.postgres.failed("reading a marker", error)))?;
        let marker = serde_json::from_str(&spelled).map_err(|why| {
            store.unusable(
                &relation.name,
                &format!(
                    "course_gc.store_markers holds no marker for it ({why}); that table is course-gc's own: find out what wrote it, \
                     then delete the row and adopt the store again"
                ),
            )
        })?;
        markers.push(Some((spelled, marker)));
    }
    Ok(markers)
}

/// Writes one table's marker, if what was there still is.
async fn write(
    session: &mut Session<'_>,
    relation: &Relation,
    there: Option<&(String, Marker)>,
    json: &str,
) -> Result<bool, PostgresError> {
    const INSERT: &str = "INSERT INTO course_gc.store_markers (relation, name, marker) VALUES ($1::int8::oid, $2, $3) \
                          ON CONFLICT DO NOTHING";
    const UPDATE: &str = "UPDATE course_gc.store_markers SET marker = $3 WHERE relation = $1::int8::oid AND name = $2 \
                          AND marker = $4";
    let write = match there {
        None => sqlx::query(INSERT).bind(relation.oid).bind(&relation.name).bind(json),
        Some((spelled, _)) => sqlx::query(UPDATE).bind(relation.oid).bind(&relation.name).bind(json).bind(spelled),
    };
    let written = session.postgres.call("writing a marker", write.execute(&mut session.connection)).await?;
    Ok(written.rows_affected() == 1)
}

/// The marker of a store whose tables carry these; none if a table has none; an error if they differ.
fn agreed(there: &[There]) -> Result<Option<Marker>, ()> {
    let mut markers = there.iter().flatten().map(|(_, marker)| marker);
    let Some(first) = markers.next() else { return Ok(None) };
    if markers.any(|marker| marker != first) {
        return Err(());
    }
    Ok(there.iter().all(Option::is_some).then(|| first.clone()))
}

/// True if all tables are at `from`. From nowhere, what some of them still carry may be written again, if it is of the same owners at
/// the same counts: so a table that comes to a store is adopted.
fn may_move(there: &[There], from: Option<&Marker>, to: &Marker) -> bool {
    let is_left = |marker: &Marker| {
        marker.owners().iter().all(|left| to.owner(left.installation).is_some_and(|now| now.counter == left.counter))
    };
    match from {
        Some(from) => there.iter().all(|there| there.as_ref().is_some_and(|(_, marker)| marker == from)),
        None => there.contains(&None) && there.iter().flatten().all(|(_, marker)| is_left(marker)),
    }
}

fn disagreement(store: &TableStore, relations: &[Relation], there: &[There]) -> StoreError {
    let each = relations.iter().zip(there).map(|(relation, there)| match there {
        Some((_, marker)) => {
            let owners = marker.owners().iter();
            let owners = owners.map(|owner| format!("installation {} at {}", owner.installation, owner.counter));
            format!("`{}` that of {}", relation.name, owners.collect::<Vec<_>>().join(" and "))
        }
        None => format!("`{}` none", relation.name),
    });
    StoreError::Unusable(format!(
        "table store `{}` at {}: its tables carry different markers ({}): find out which installations they belong to, delete the \
         rows of the others, or of all, from course_gc.store_markers, and adopt the store again, from each installation that shares it",
        store.name,
        store.postgres.address(),
        each.collect::<Vec<_>>().join(", ")
    ))
}
