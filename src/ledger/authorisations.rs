//! The only exception to S1: a caller may have deleted what a course has though it lives, if a person switched that on. Recorded, at most so
//! many within an hour, each good for one run that begins soon.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::{LedgerError, PostgresLedger, counted};
use crate::domain::cleanup::Request;
use crate::domain::ids::CourseId;

/// How long a run is waited for; after it, what was authorised is a promise that waits for the course's row, as any other.
pub const GOOD_FOR: Duration = Duration::from_secs(600);

/// Courses that a run may take for dead though they live. Only the ledger makes one, of what is recorded there.
///
/// ```compile_fail
/// fn forge(courses: std::collections::BTreeSet<course_gc::domain::ids::CourseId>) -> course_gc::ledger::Authorised {
///     course_gc::ledger::Authorised { courses }
/// }
/// ```
#[derive(Debug)]
pub struct Authorised {
    courses: BTreeSet<CourseId>,
}

impl Authorised {
    /// The courses.
    pub fn courses(&self) -> &BTreeSet<CourseId> {
        &self.courses
    }

    /// For a ledger in memory.
    #[cfg(test)]
    pub(crate) fn for_test(courses: BTreeSet<CourseId>) -> Self {
        Self { courses }
    }
}

/// What was authorised.
#[async_trait]
pub trait Authorisations: Send + Sync {
    /// Records that what the request's course has may go though it lives; false, and nothing is recorded, if `per_hour` were within the last hour.
    /// A request is authorised once.
    ///
    /// # Errors
    /// If the ledger does not answer: then it may be recorded.
    async fn authorise(&self, request: &Request, per_hour: u32) -> Result<bool, LedgerError>;

    /// True if something is authorised that no run has taken.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn are_authorised(&self) -> Result<bool, LedgerError>;

    /// Takes what is authorised for this run; no other will act upon it.
    ///
    /// # Errors
    /// If the ledger does not answer, or another run has begun since.
    async fn take_authorised(&self, run: Uuid) -> Result<Authorised, LedgerError>;
}

#[async_trait]
impl Authorisations for PostgresLedger {
    async fn authorise(&self, request: &Request, per_hour: u32) -> Result<bool, LedgerError> {
        let authorise = async {
            let mut transaction = self.pool.begin().await?;
            // Two at once would count one too few.
            sqlx::query("SELECT pg_advisory_xact_lock(hashtext('course_gc.authorisations'))")
                .execute(&mut *transaction)
                .await?;
            let (is_there, within_the_hour): (bool, i64) = sqlx::query_as(
                "SELECT coalesce(bool_or(request_id = $1), false), \
                        count(*) FILTER (WHERE authorised_at > clock_timestamp() - interval '1 hour') \
                 FROM course_gc.authorisations",
            )
            .bind(request.id)
            .fetch_one(&mut *transaction)
            .await?;
            let may = is_there || counted(within_the_hour) < u64::from(per_hour);
            if may && !is_there {
                sqlx::query("INSERT INTO course_gc.authorisations (request_id, course_id) VALUES ($1, $2)")
                    .bind(request.id)
                    .bind(request.course_id.to_string())
                    .execute(&mut *transaction)
                    .await?;
            }
            transaction.commit().await?;
            Ok(may)
        };
        self.call("authorising that what a live course has is deleted", authorise).await
    }

    async fn are_authorised(&self) -> Result<bool, LedgerError> {
        let select = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM course_gc.authorisations \
             WHERE used_by IS NULL AND authorised_at > clock_timestamp() - make_interval(secs => $1))",
        )
        .bind(GOOD_FOR.as_secs_f64())
        .fetch_one(&self.pool);
        self.call("looking for what is authorised", select).await
    }

    async fn take_authorised(&self, run: Uuid) -> Result<Authorised, LedgerError> {
        const ACTION: &str = "taking what is authorised";
        let mut transaction = self.fenced(ACTION, run).await?;
        let take = async {
            let taken: Vec<String> = sqlx::query_scalar(
                "UPDATE course_gc.authorisations SET used_by = $1 \
                 WHERE used_by IS NULL AND authorised_at > clock_timestamp() - make_interval(secs => $2) RETURNING course_id",
            )
            .bind(run)
            .bind(GOOD_FOR.as_secs_f64())
            .fetch_all(&mut *transaction)
            .await?;
            transaction.commit().await?;
            Ok(taken)
        };
        let taken = self.call(ACTION, take).await?;
        let courses = taken.into_iter().map(|course| self.id(course)).collect::<Result<_, _>>()?;
        Ok(Authorised { courses })
    }
}
