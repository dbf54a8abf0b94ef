//! Courses that were put back from quarantine, and are left alone for a while (S12).

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;

use super::pauses::WHO;
use super::{LedgerError, PostgresLedger};
use crate::domain::ids::CourseId;

/// Who is left alone.
#[async_trait]
pub trait Exemptions: Send + Sync {
    /// Leaves courses alone for so long from now on, by the database's time; for longer, if they already are.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn exempt(&self, courses: &BTreeSet<CourseId>, lasts: Duration) -> Result<(), LedgerError>;

    /// Who is left alone now. Forgets who was.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn exempted(&self) -> Result<BTreeSet<CourseId>, LedgerError>;
}

#[async_trait]
impl Exemptions for PostgresLedger {
    async fn exempt(&self, courses: &BTreeSet<CourseId>, lasts: Duration) -> Result<(), LedgerError> {
        let statement = format!(
            "INSERT INTO course_gc.exemptions (course_id, until, restored_by, restored_at) \
             SELECT course, now() + make_interval(secs => $2), {WHO}, now() FROM unnest($1::text[]) AS course \
             ON CONFLICT (course_id) DO UPDATE SET until = greatest(exemptions.until, excluded.until), \
                 restored_by = excluded.restored_by, restored_at = excluded.restored_at"
        );
        let texts: Vec<String> = courses.iter().map(CourseId::to_string).collect();
        let insert = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(texts).bind(lasts.as_secs_f64());
        self.call("exempting what is restored", insert.execute(&self.pool)).await?;
        Ok(())
    }

    async fn exempted(&self) -> Result<BTreeSet<CourseId>, LedgerError> {
        let over = sqlx::query("DELETE FROM course_gc.exemptions WHERE until <= now()").execute(&self.pool);
        self.call("forgetting old exemptions", over).await?;
        let select = sqlx::query_scalar("SELECT course_id FROM course_gc.exemptions").fetch_all(&self.pool);
        let texts: Vec<String> = self.call("reading what was restored", select).await?;
        texts.into_iter().map(|text| self.id(text)).collect()
    }
}
