//! Whose a course is, learned while it lives.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;

use super::{LedgerError, PostgresLedger};
use crate::domain::ids::CourseId;

/// Whose the courses are that were seen live.
#[async_trait]
pub trait Organizations: Send + Sync {
    /// Courses that are live, and of which nobody has noted whose they are; so many at most.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn without_organization(&self, limit: u32) -> Result<BTreeSet<CourseId>, LedgerError>;

    /// Notes whose courses are; empty where nobody tells.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn note_organizations(&self, told: &BTreeMap<CourseId, String>) -> Result<(), LedgerError>;

    /// Whose a course is, or was; `None` if that is not known.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn organization_of(&self, course: CourseId) -> Result<Option<String>, LedgerError>;
}

#[async_trait]
impl Organizations for PostgresLedger {
    async fn without_organization(&self, limit: u32) -> Result<BTreeSet<CourseId>, LedgerError> {
        let select = sqlx::query_scalar(
            "SELECT course_id FROM course_gc.known_ids WHERE organization IS NULL AND departed_at IS NULL LIMIT $1",
        )
        .bind(i64::from(limit))
        .fetch_all(&self.pool);
        let texts: Vec<String> = self.call("looking for courses without an organization", select).await?;
        texts.into_iter().map(|text| self.id(text)).collect()
    }

    async fn note_organizations(&self, told: &BTreeMap<CourseId, String>) -> Result<(), LedgerError> {
        let (courses, organizations): (Vec<String>, Vec<&str>) =
            told.iter().map(|(course, organization)| (course.to_string(), organization.as_str())).unzip();
        let update = sqlx::query(
            "UPDATE course_gc.known_ids SET organization = told.organization \
             FROM unnest($1::text[], $2::text[]) AS told(course_id, organization) \
             WHERE known_ids.course_id = told.course_id",
        )
        .bind(courses)
        .bind(organizations)
        .execute(&self.pool);
        self.call("noting whose courses are", update).await?;
        Ok(())
    }

    async fn organization_of(&self, course: CourseId) -> Result<Option<String>, LedgerError> {
        let select = sqlx::query_scalar(
            "SELECT organization FROM course_gc.known_ids WHERE course_id = $1 AND organization <> ''",
        )
        .bind(course.to_string())
        .fetch_optional(&self.pool);
        self.call("asking whose a course is", select).await
    }
}
