//! Tables as `course-gc doctor` sees them: what the role may do with them, and whether rows of a course are found by an index.

use sqlx::{AssertSqlSafe, Row};

use super::relation::Relation;
use super::session::Session;
use super::{StoreError, TableStore};
use crate::domain::findings::Finding;
use crate::domain::ids::{CourseId, IdType, TextIds};
use crate::errors::chain;
use crate::postgres::PostgresError;
use crate::postgres::explain::whole_tables;

/// What each table must allow.
const NEEDED: [&str; 3] = ["SELECT", "INSERT", "DELETE"];

impl TableStore {
    /// What was found.
    pub(super) async fn examine_tables(&self) -> Vec<Finding> {
        match self.look_at_tables().await {
            Ok(findings) => findings,
            Err(error) => {
                vec![Finding::problem("tables", chain(&error), "correct `tables`, or what is said of the table")]
            }
        }
    }

    async fn look_at_tables(&self) -> Result<Vec<Finding>, StoreError> {
        const DOING: &str = "look at its tables";
        let (mut session, relations) = self.read(&self.postgres, DOING).await?;
        let mut findings = Vec::new();
        for relation in &relations {
            let lacking = lacking(&mut session, relation).await.map_err(self.failed(DOING))?;
            if lacking.is_empty() {
                findings.push(Finding::ok(
                    "rights",
                    format!("rows of {} can be read, deleted and brought back", relation.name),
                ));
                findings.extend(index(&mut session, relation, self.id_type).await.map_err(self.failed(DOING))?);
            } else {
                let seen = format!("the role may not {} {}", lacking.join(", "), relation.name);
                let fix = format!("GRANT {} ON {} to it, as `sql/roles.sql` does", lacking.join(", "), relation.name);
                findings.push(Finding::problem("rights", seen, fix));
            }
        }
        session.close().await;
        Ok(findings)
    }
}

async fn lacking(session: &mut Session<'_>, relation: &Relation) -> Result<Vec<&'static str>, PostgresError> {
    const ACTION: &str = "asking for the role's rights on a table";
    let postgres = session.postgres;
    let rights = NEEDED.map(|right| format!("has_table_privilege($1::int8::oid, '{right}')")).join(", ");
    let row =
        sqlx::query(AssertSqlSafe(format!("SELECT {rights}"))).bind(relation.oid).fetch_one(&mut session.connection);
    let row = postgres.call(ACTION, row).await?;
    let mut lacking = Vec::new();
    for (place, right) in NEEDED.into_iter().enumerate() {
        if !row.try_get::<bool, _>(place).map_err(|error| postgres.failed(ACTION, error))? {
            lacking.push(right);
        }
    }
    Ok(lacking)
}

/// Whether rows of a course are found by an index.
async fn index(
    session: &mut Session<'_>,
    relation: &Relation,
    id_type: IdType,
) -> Result<Option<Finding>, PostgresError> {
    let nobody = match id_type {
        IdType::Uuid => CourseId::Uuid(uuid::Uuid::nil()),
        IdType::Integer => CourseId::Integer(0),
        // Postgres plans without the ids' pattern, so that an id of another one will do.
        IdType::Text(_) => match TextIds::matching("nobody").ok().and_then(|ids| ids.parse(b"nobody")) {
            Some(nobody) => CourseId::Text(nobody),
            None => return Ok(None),
        },
    };
    let query = format!("SELECT 1 {} AND {}", relation.from(), relation.naming.any_of(&[nobody]));
    let whole = whole_tables(session.postgres, &mut session.connection, &query).await?;
    Ok(Some(match whole.first() {
        None => {
            Finding::ok("index", format!("rows of a course are found in {} without reading all of it", relation.name))
        }
        Some(table) => {
            let seen = format!("all of {} (about {:.0} rows) is read to find a course's", table.name, table.rows);
            Finding::advice(
                "index",
                seen,
                "make an index on the column that names the course (CREATE INDEX CONCURRENTLY)",
            )
        }
    }))
}
