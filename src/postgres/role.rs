//! A role as `course-gc doctor` sees it: the server that it reaches, and whether it may do more than is needed.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection, Row};

use super::{Postgres, PostgresError};
use crate::clock::wall;
use crate::domain::findings::{self, Finding};
use crate::errors::chain;

/// How many tables a message names.
const NAMED: usize = 5;

/// What the role is, and what of whatever is not ours it may write to.
const ROLE: &str = "SELECT current_user::text AS name, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls, \
     pg_is_in_recovery() AS standby, current_setting('server_version') AS version, clock_timestamp() AS now \
     FROM pg_roles WHERE rolname = current_user";
const WRITABLE: &str = "\
SELECT n.nspname || '.' || c.relname AS name, array_remove(ARRAY[\
    CASE WHEN has_any_column_privilege(c.oid, 'INSERT') THEN 'INSERT' END, \
    CASE WHEN has_any_column_privilege(c.oid, 'UPDATE') THEN 'UPDATE' END, \
    CASE WHEN has_table_privilege(c.oid, 'DELETE') THEN 'DELETE' END, \
    CASE WHEN has_table_privilege(c.oid, 'TRUNCATE') THEN 'TRUNCATE' END], NULL) AS rights \
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
WHERE c.relkind IN ('r', 'p', 'v', 'f') AND n.nspname NOT IN ('information_schema', 'course_gc') AND n.nspname !~ '^pg_' \
    AND has_schema_privilege(n.oid, 'USAGE') ORDER BY 1";

/// A connection of the configuration, whatever it is for.
#[derive(Debug, Clone)]
pub struct Login {
    /// How to connect.
    pub postgres: Postgres,
    /// What it is for, in words.
    pub purposes: Vec<String>,
    /// The tables, with their schemas, whose rows it deletes and brings back.
    pub tables: BTreeSet<String>,
}

impl Login {
    /// What was found. Changes nothing.
    pub async fn examine(&self) -> Vec<Finding> {
        match self.look().await {
            Ok(findings) => findings,
            Err(error) => vec![Finding::problem("connection", chain(&error), self.advice(&error))],
        }
    }

    fn advice(&self, error: &PostgresError) -> &'static str {
        match error {
            PostgresError::Url { .. } => "correct its URL",
            PostgresError::Pooled { .. } => "lead the URL past the pooler",
            PostgresError::Timeout { .. } => {
                "see whether the server is up, and may be reached from here (network policies)"
            }
            _ => {
                "check host, port, database, role and password of its URL, and that the server may be reached from here"
            }
        }
    }

    async fn look(&self) -> Result<Vec<Finding>, PostgresError> {
        const ACTION: &str = "asking for the role's rights";
        let postgres = &self.postgres;
        let mut connection = postgres.connect_alone().await?;
        let before = wall();
        let row = postgres.call(ACTION, sqlx::query(ROLE).fetch_one(&mut connection)).await?;
        let after = wall();
        let failed = |error| postgres.failed(ACTION, error);
        let (name, version): (String, String) =
            (row.try_get("name").map_err(failed)?, row.try_get("version").map_err(failed)?);
        let mut findings = vec![if row.try_get("standby").map_err(failed)? {
            let seen = format!("Postgres {version} is a standby");
            Finding::problem(
                "connection",
                seen,
                "connect to the primary: only it knows what is live, and can be written to",
            )
        } else {
            Finding::ok("connection", format!("Postgres {version}, as {name}, with a session of its own"))
        }];
        findings.push(findings::clock(row.try_get::<DateTime<Utc>, _>("now").map_err(failed)?, before, after));
        let has = |right: &&str| row.try_get::<bool, _>(*right).unwrap_or(false);
        let everything: Vec<&str> = ["rolsuper", "rolcreaterole"].into_iter().filter(has).collect();
        let more: Vec<&str> = ["rolcreatedb", "rolreplication", "rolbypassrls"].into_iter().filter(has).collect();
        let said =
            |attributes: &[&str]| attributes.iter().filter_map(|it| attribute(it)).collect::<Vec<_>>().join(" and ");
        if !everything.is_empty() {
            let seen = format!("role {name} is {}: it may do everything", said(&everything));
            findings.push(Finding::problem(
                "rights",
                seen,
                "connect as a role of its own; `sql/roles.sql` makes those that are needed",
            ));
        } else {
            if !more.is_empty() {
                let seen = format!("role {name} is {}, which is not needed", said(&more));
                findings.push(Finding::advice(
                    "rights",
                    seen,
                    "take it from the role, or let `sql/roles.sql` make one",
                ));
            }
            findings.push(self.writable(&name, &mut connection).await?);
        }
        // The session ends in any case.
        let _ = connection.close().await;
        Ok(findings)
    }

    /// Whether it may write to more than it must.
    async fn writable(&self, name: &str, connection: &mut PgConnection) -> Result<Finding, PostgresError> {
        const ACTION: &str = "asking what the role may write to";
        let rows = self.postgres.call(ACTION, sqlx::query(WRITABLE).fetch_all(connection)).await?;
        let mut excess = Vec::new();
        for row in &rows {
            let read = || Ok((row.try_get("name")?, row.try_get("rights")?));
            let (table, mut rights): (String, Vec<String>) =
                read().map_err(|error| self.postgres.failed(ACTION, error))?;
            if self.tables.contains(&table) {
                rights.retain(|right| !["INSERT", "DELETE"].contains(&right.as_str()));
            }
            if !rights.is_empty() {
                excess.push(format!("{table} ({})", rights.join(", ")));
            }
        }
        if excess.is_empty() {
            return Ok(Finding::ok(
                "rights",
                format!("role {name} may write to nothing of the application's beyond what it must"),
            ));
        }
        let rest = excess.len().saturating_sub(NAMED);
        excess.truncate(NAMED);
        let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
        let seen = format!("role {name} may write to {}{more}", excess.join(", "));
        let fix = "revoke what is not needed, or connect as a role that `sql/roles.sql` makes";
        Ok(Finding::problem("rights", seen, fix))
    }
}

/// An attribute of a role, in words.
fn attribute(column: &str) -> Option<&'static str> {
    Some(match column {
        "rolsuper" => "a superuser",
        "rolcreaterole" => "one that may give rights (CREATEROLE)",
        "rolcreatedb" => "one that may make databases (CREATEDB)",
        "rolreplication" => "one that may replicate (REPLICATION)",
        "rolbypassrls" => "one that sees past row-level security (BYPASSRLS)",
        _ => return None,
    })
}
