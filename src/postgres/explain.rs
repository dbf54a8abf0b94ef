//! How Postgres would answer a query: whether it may be asked at all, and whether a large table would be read whole.

use serde_json::Value;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, PgConnection};

use super::{Postgres, PostgresError};

/// A table with fewer rows is read as fast as an index.
const LARGE: f64 = 10_000.0;

/// A large table that would be read whole.
#[derive(Debug, Clone, PartialEq)]
pub struct WholeTable {
    /// Its name, with its schema.
    pub name: String,
    /// About how many rows it has.
    pub rows: f64,
}

/// The large tables that the query would read whole; it is planned, with the role's rights, and not run.
///
/// # Errors
/// If the query is wrong, or the role may not ask it.
pub async fn whole_tables(
    postgres: &Postgres,
    connection: &mut PgConnection,
    query: &str,
) -> Result<Vec<WholeTable>, PostgresError> {
    const ACTION: &str = "planning a query";
    // One that is not analysed yet says -1.
    const ROWS: &str = "SELECT reltuples::float8 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                        WHERE n.nspname = $1 AND c.relname = $2";
    let explain = sqlx::query_scalar(AssertSqlSafe(format!("EXPLAIN (VERBOSE, FORMAT JSON) {query}")));
    let Json(plan): Json<Value> = postgres.call(ACTION, explain.fetch_one(&mut *connection)).await?;
    let mut read = Vec::new();
    sequential(&plan, &mut read);
    read.sort();
    read.dedup();
    let mut whole = Vec::new();
    for (schema, table) in read {
        let rows = sqlx::query_scalar(ROWS).bind(&schema).bind(&table).fetch_optional(&mut *connection);
        let rows: Option<f64> = postgres.call(ACTION, rows).await?;
        if let Some(rows) = rows.filter(|rows| *rows >= LARGE) {
            whole.push(WholeTable { name: format!("{schema}.{table}"), rows });
        }
    }
    Ok(whole)
}

/// The tables that a plan reads from their beginning to their end.
fn sequential(plan: &Value, found: &mut Vec<(String, String)>) {
    match plan {
        Value::Array(items) => items.iter().for_each(|item| sequential(item, found)),
        Value::Object(fields) => {
            let field = |name: &str| fields.get(name).and_then(Value::as_str);
            if field("Node Type") == Some("Seq Scan")
                && let (Some(schema), Some(table)) = (field("Schema"), field("Relation Name"))
            {
                found.push((schema.to_owned(), table.to_owned()));
            }
            fields.values().for_each(|inner| sequential(inner, found));
        }
        _ => {}
    }
}
