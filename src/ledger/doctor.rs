//! The ledger as `course-gc doctor` sees it.

use super::{Ledger, LedgerError, PostgresLedger};
use crate::domain::findings::Finding;
use crate::errors::chain;

/// Our tables that the role may not read and write as runs do. Those that stores and triggers have roles of their own for are not among them.
const FORBIDDEN: &str = "SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = to_regnamespace('course_gc') AND c.relkind = 'r' \
     AND c.relname NOT IN ('_sqlx_migrations', 'store_markers', 'tombstones') \
     AND NOT (has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'UPDATE') \
              AND has_table_privilege(c.oid, 'DELETE')) ORDER BY 1";

impl PostgresLedger {
    /// What was found. Changes nothing.
    pub async fn examine(&self) -> Vec<Finding> {
        const CHECK: &str = "tables";
        if let Err(error) = self.check_version().await {
            let fix = match &error {
                LedgerError::Old { .. } => "run `course-gc migrate` as the tables' owner",
                LedgerError::New { .. } => "use the newer program: older ones do not know these tables",
                _ => "see that its URL leads to the ledger, and its role may use the schema course_gc",
            };
            return vec![Finding::problem(CHECK, chain(&error), fix)];
        }
        let forbidden = sqlx::query_scalar(FORBIDDEN).fetch_all(&self.pool);
        let forbidden: Vec<String> = match self.call("asking for the rights on the ledger's tables", forbidden).await {
            Ok(forbidden) => forbidden,
            Err(error) => return vec![Finding::problem(CHECK, chain(&error), "see the server's log")],
        };
        vec![if forbidden.is_empty() {
            Finding::ok(CHECK, "they are those of this version, and may be read and written")
        } else {
            let seen = format!("the role may not read and write course_gc.{}", forbidden.join(", course_gc."));
            Finding::problem(CHECK, seen, "let the role own the schema course_gc, as `sql/roles.sql` does")
        }]
    }
}
