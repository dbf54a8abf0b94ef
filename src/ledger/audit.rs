//! What callers of the API changed, or tried to: written before it is done, and again before it is answered.

use uuid::Uuid;

use super::{LedgerError, PostgresLedger};
use crate::domain::ids::CourseId;

/// A write that a caller asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audited {
    /// The request's id.
    pub id: Uuid,
    /// Who, as the audit names it: `token/…` or `user/…`.
    pub caller: String,
    /// The HTTP method.
    pub method: String,
    /// The route, such as `/v1/courses/{course_id}/cleanup`.
    pub route: String,
    /// Which course; none if it is about no single one.
    pub course: Option<CourseId>,
}

impl PostgresLedger {
    /// Notes that somebody asks for a write.
    ///
    /// # Errors
    /// If the ledger does not answer: then it must not be done.
    pub async fn audit(&self, audited: &Audited) -> Result<(), LedgerError> {
        let Audited { id, caller, method, route, course } = audited;
        let insert = sqlx::query(
            "INSERT INTO course_gc.audit (id, caller, method, route, course_id) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(id)
        .bind(caller)
        .bind(method)
        .bind(route)
        .bind(course.map(|course| course.to_string()))
        .execute(&self.pool);
        self.call("noting who asks for a write", insert).await?;
        Ok(())
    }

    /// Notes what came of it, as an HTTP status; and the course, if that is known only now.
    ///
    /// # Errors
    /// If the ledger does not answer: then it stays without an end.
    pub async fn audit_end(&self, id: Uuid, status: u16, course: Option<CourseId>) -> Result<(), LedgerError> {
        let update = sqlx::query(
            "UPDATE course_gc.audit SET ended_at = clock_timestamp(), status = $2, course_id = coalesce(course_id, $3) \
             WHERE id = $1",
        )
        .bind(id)
        .bind(i16::try_from(status).unwrap_or(i16::MAX))
        .bind(course.map(|course| course.to_string()))
        .execute(&self.pool);
        self.call("noting what came of a write", update).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sandbox::Database;
    use sqlx::Row;

    use super::*;
    use crate::ledger::Runs;
    use crate::ledger::tests::ledger;

    #[tokio::test]
    async fn what_callers_did_is_kept_for_more_than_a_year_and_not_for_ever() {
        let database = Database::create().await.unwrap();
        let ledger = ledger(&database).await;
        let ids = [1u128, 2].map(Uuid::from_u128);
        for (id, age) in ids.into_iter().zip(["401 days", "399 days"]) {
            let (caller, method, route) = ("token/web".into(), "POST".into(), "/v1/restore".into());
            ledger.audit(&Audited { id, caller, method, route, course: None }).await.unwrap();
            ledger.audit_end(id, 200, Some(CourseId::Integer(7))).await.unwrap();
            let age = format!("UPDATE course_gc.audit SET began_at = now() - interval '{age}' WHERE id = $1");
            sqlx::query(sqlx::AssertSqlSafe(age)).bind(id).execute(&ledger.pool).await.unwrap();
        }
        ledger.forget_old().await.unwrap();
        let rows = sqlx::query("SELECT * FROM course_gc.audit").fetch_all(&ledger.pool).await.unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].get::<Uuid, _>("id"), ids[1]);
        assert_eq!(rows[0].get::<Option<i16>, _>("status"), Some(200));
        assert_eq!(rows[0].get::<Option<String>, _>("course_id").as_deref(), Some("7"));
    }
}
