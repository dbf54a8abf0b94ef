//! Whose a course is. It bounds what a caller may ask for, and decides nothing about what is live.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{AssertSqlSafe, Connection, Row};

use super::LivenessSource;
use crate::domain::ids::{CourseId, IdType};
use crate::postgres::{BEGIN_QUESTION, PostgresError};

const ACTION: &str = "asking for the courses' organizations (`organizations` of this liveness source)";

/// The organizations of `ids`, as far as this source tells them, on a connection of its own.
pub(super) async fn ask(
    id_type: IdType,
    source: &LivenessSource,
    ids: &BTreeSet<CourseId>,
) -> Result<BTreeMap<CourseId, String>, PostgresError> {
    let LivenessSource { postgres, organizations, .. } = source;
    let Some(query) = organizations else { return Ok(BTreeMap::new()) };
    let mut connection = postgres.connect().await?;
    postgres.call(ACTION, sqlx::raw_sql(BEGIN_QUESTION).execute(&mut connection)).await?;
    // Compared by type: a text may spell a UUID in other ways.
    let id = match id_type {
        IdType::Uuid => "uuid",
        IdType::Integer => "int8",
        IdType::Text(_) => "text",
    };
    let select = format!(
        "SELECT course::{id}::text AS course, organization::text AS organization \
         FROM ({query}\n) AS told(course, organization) \
         WHERE organization IS NOT NULL AND course::{id} = ANY($1::text[]::{id}[])"
    );
    let texts: Vec<String> = ids.iter().map(CourseId::to_string).collect();
    let select = sqlx::query(AssertSqlSafe(select)).bind(texts).fetch_all(&mut connection);
    let rows = postgres.call(ACTION, select).await?;
    let mut told = BTreeMap::new();
    for row in &rows {
        let read = || Ok((row.try_get::<String, _>("course")?, row.try_get("organization")?));
        let (course, organization) = read().map_err(|error| postgres.failed(ACTION, error))?;
        if let Some(course) = id_type.parse(course.as_bytes()) {
            told.insert(course, organization);
        }
    }
    // The session ends in any case.
    let _ = connection.close().await;
    Ok(told)
}
