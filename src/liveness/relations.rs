//! What a liveness query reads, looked at before it is believed: some relations can hide rows that are there (S4).
//!
//! The query becomes a temporary view in a transaction that is rolled back; from there Postgres's own dependencies lead
//! to every table, through views and partitions, and to every function. Reading the query's text, or its plan, would
//! miss what a view hides or what the planner leaves out.

use std::collections::BTreeSet;
use std::fmt;

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use crate::domain::pins::RelationPin;
use crate::postgres::{Postgres, PostgresError};

/// The temporary view's name.
const PROBE: &str = "pg_temp.course_gc_probe";

/// A way in which a liveness query may not say the whole truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Risk {
    /// Rows come from another server, whose filters ours does not know.
    ForeignTables,
    /// Rows are as old as the last refresh.
    MaterializedViews,
    /// Rows arrive by logical replication, and lag behind.
    SubscribedTables,
    /// A function sets parameters of its own, such as `row_security`.
    FunctionSettings,
}

impl Risk {
    /// The word by which a configuration accepts it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ForeignTables => "foreign_tables",
            Self::MaterializedViews => "materialized_views",
            Self::SubscribedTables => "subscribed_tables",
            Self::FunctionSettings => "function_settings",
        }
    }

    fn why(self) -> &'static str {
        match self {
            Self::ForeignTables => "a foreign table: another server decides which of its rows are shown",
            Self::MaterializedViews => {
                "a materialized view: it does not show courses that are newer than its last refresh"
            }
            Self::SubscribedTables => "filled by logical replication: it lags behind its publisher",
            Self::FunctionSettings => "a function with settings of its own, which may hide rows",
        }
    }
}

/// A table, view or function behind a query that carries a risk.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Which risk.
    pub risk: Risk,
    /// The relation's or function's name, with its schema.
    pub name: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}", self.name, self.risk.why())
    }
}

/// The first finding whose risk nobody accepted.
pub fn refused<'a>(findings: &'a BTreeSet<Finding>, accepted: &BTreeSet<Risk>) -> Option<&'a Finding> {
    findings.iter().find(|finding| !accepted.contains(&finding.risk))
}

/// What stands behind a liveness query.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Behind {
    /// Its relations, through views and partitions; sorted.
    pub relations: Vec<RelationPin>,
    /// What of it carries a risk.
    pub findings: BTreeSet<Finding>,
}

/// Every relation and function behind the query.
///
/// # Errors
/// If Postgres does not answer, or does not let the role look.
pub async fn look(postgres: &Postgres, connection: &mut PgConnection, query: &str) -> Result<Behind, PostgresError> {
    const ACTION: &str = "looking at what the liveness query reads (the role needs TEMP on the database)";
    postgres.call(ACTION, find(connection, query)).await
}

async fn find(connection: &mut PgConnection, query: &str) -> Result<Behind, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let view = format!("CREATE TEMPORARY VIEW course_gc_probe AS SELECT * FROM ({query}\n) AS live(id)");
    sqlx::raw_sql(AssertSqlSafe(view)).execute(&mut *transaction).await?;
    let reached = sqlx::query(
        "WITH RECURSIVE reached(oid) AS ( \
             SELECT $1::regclass::oid \
             UNION \
             SELECT further.oid FROM reached, LATERAL ( \
                 SELECT d.refobjid AS oid FROM pg_rewrite w JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass \
                     AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass WHERE w.ev_class = reached.oid \
                 UNION ALL \
                 SELECT i.inhrelid FROM pg_inherits i WHERE i.inhparent = reached.oid \
             ) AS further) \
         SELECT c.oid::regclass::text AS name, c.oid::bigint AS oid, c.relkind::text AS kind, \
                CASE WHEN c.relkind IN ('v', 'm') THEN md5(pg_get_viewdef(c.oid)) END AS definition, \
                CASE WHEN c.relkind = 'f' THEN 'foreign' WHEN c.relkind = 'm' THEN 'materialized' \
                     WHEN s.srrelid IS NOT NULL THEN 'subscribed' END AS risk \
         FROM reached JOIN pg_class c USING (oid) LEFT JOIN pg_subscription_rel s ON s.srrelid = c.oid \
         WHERE c.oid <> $1::regclass \
         UNION ALL \
         SELECT p.oid::regprocedure::text, p.oid::bigint, NULL, NULL, 'settings' \
         FROM reached JOIN pg_rewrite w ON w.ev_class = reached.oid \
              JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_proc'::regclass \
              JOIN pg_proc p ON p.oid = d.refobjid WHERE p.proconfig IS NOT NULL",
    )
    .bind(PROBE)
    .fetch_all(&mut *transaction)
    .await?;
    transaction.rollback().await?;
    let mut behind = Behind::default();
    for row in &reached {
        behind.findings.extend(finding(row)?);
        behind.relations.extend(relation(row)?);
    }
    behind.relations.sort();
    Ok(behind)
}

/// The relation of a row; functions are none.
fn relation(row: &PgRow) -> Result<Option<RelationPin>, sqlx::Error> {
    let Some(kind) = row.try_get("kind")? else { return Ok(None) };
    let oid = u32::try_from(row.try_get::<i64, _>("oid")?).map_err(|error| sqlx::Error::Decode(error.into()))?;
    Ok(Some(RelationPin { name: row.try_get("name")?, oid, kind, definition: row.try_get("definition")? }))
}

fn finding(row: &PgRow) -> Result<Option<Finding>, sqlx::Error> {
    let risk = match row.try_get::<Option<&str>, _>("risk")? {
        Some("foreign") => Risk::ForeignTables,
        Some("materialized") => Risk::MaterializedViews,
        Some("subscribed") => Risk::SubscribedTables,
        Some("settings") => Risk::FunctionSettings,
        _ => return Ok(None),
    };
    Ok(Some(Finding { risk, name: row.try_get("name")? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s4_a_risk_must_be_accepted_by_its_own_word() {
        let findings: BTreeSet<_> = [
            Finding { risk: Risk::ForeignTables, name: "public.remote".into() },
            Finding { risk: Risk::MaterializedViews, name: "public.snapshot".into() },
        ]
        .into();
        let names = |accepted: &[Risk]| {
            refused(&findings, &accepted.iter().copied().collect()).map(|finding| finding.name.clone())
        };
        assert_eq!(names(&[]).as_deref(), Some("public.remote"));
        assert_eq!(names(&[Risk::ForeignTables]).as_deref(), Some("public.snapshot"));
        assert_eq!(names(&[Risk::ForeignTables, Risk::MaterializedViews]), None);
        assert_eq!(refused(&BTreeSet::new(), &BTreeSet::new()), None);
    }
}
