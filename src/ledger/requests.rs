//! What the delete path asked for: evidence, and promises that every run goes on with.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::Row;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use uuid::Uuid;

use super::known::anew;
use super::{LedgerError, PostgresLedger};
use crate::domain::cleanup::{Cleanup, Request, RequestState, Timing};
use crate::domain::ids::CourseId;

const COLUMNS: &str = "id, course_id, timing, requested_by, requested_at, expires_at, state, answer";

/// A request that is about to be written down.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRequest {
    /// The course.
    pub course: CourseId,
    /// Seen from its row.
    pub timing: Timing,
    /// Who asks.
    pub by: String,
    /// Whoever asks again with the same key gets what it got the first time.
    pub key: Option<String>,
    /// The course was seen live a moment ago: then we know that it existed, and the clocks of its orphans start anew (S6).
    pub seen_live: bool,
    /// How long its row's end is waited for, if it is, and the first answer, if nothing but waiting is left to do.
    pub waiting: Option<(Option<Cleanup>, Duration)>,
}

/// What the delete path asks for.
#[async_trait]
pub trait Requests: Send + Sync {
    /// Writes a request down. If its caller used its key before, gives back what was asked for then.
    ///
    /// # Errors
    /// If the ledger does not answer: then nothing is promised.
    async fn request(&self, asked: &NewRequest) -> Result<Request, LedgerError>;

    /// What is not done yet, oldest first. Of several about one course and of one timing only the latest: they have one answer, so that
    /// a run does not grow with how often somebody asks.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn open_requests(&self) -> Result<Vec<Request>, LedgerError>;

    /// Notes what a run found out about requests, each with its state from now on; and so of all open ones that were made before about
    /// the same course, of the same timing.
    ///
    /// # Errors
    /// If the ledger does not answer: then they stay as they were.
    async fn answer_requests(&self, answers: &[(Uuid, RequestState, Cleanup)]) -> Result<(), LedgerError>;

    /// One request.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn request_of(&self, id: Uuid) -> Result<Option<Request>, LedgerError>;

    /// Courses for which something is asked that no run has looked at: by `after_delete`, and by `before_delete`, in this order.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn unanswered(&self) -> Result<[BTreeSet<CourseId>; 2], LedgerError>;
}

#[async_trait]
impl Requests for PostgresLedger {
    async fn request(&self, asked: &NewRequest) -> Result<Request, LedgerError> {
        const ACTION: &str = "writing a request down";
        let NewRequest { course, timing, by, key, seen_live, waiting } = asked;
        let lasts = waiting.as_ref().map(|(_, lasts)| lasts.as_secs_f64());
        let insert = format!(
            "WITH known AS (INSERT INTO course_gc.known_ids (course_id) SELECT $2::text WHERE $8::boolean ON CONFLICT DO NOTHING), \
             clocks AS (UPDATE course_gc.orphans SET {} WHERE course_id = $2::text AND $8::boolean) \
             INSERT INTO course_gc.requests (id, course_id, timing, requested_by, key, answer, requested_at, expires_at) \
             VALUES ($1, $2::text, $3, $4, $5, $6::jsonb, statement_timestamp(), statement_timestamp() + make_interval(secs => $7::float8)) \
             ON CONFLICT (requested_by, key) DO UPDATE SET key = excluded.key RETURNING {COLUMNS}",
            anew()
        );
        let insert = sqlx::query(sqlx::AssertSqlSafe(insert))
            .bind(Uuid::now_v7())
            .bind(course.to_string())
            .bind(timing.as_str())
            .bind(by)
            .bind(key)
            .bind(waiting.as_ref().and_then(|(answer, _)| answer.as_ref()).map(Json))
            .bind(lasts)
            .bind(seen_live)
            .fetch_one(&self.pool);
        let row = self.call(ACTION, insert).await?;
        self.read_request(ACTION, &row)
    }

    async fn open_requests(&self) -> Result<Vec<Request>, LedgerError> {
        const ACTION: &str = "reading what was requested";
        let select = format!(
            "SELECT {COLUMNS} FROM (SELECT DISTINCT ON (course_id, timing) * FROM course_gc.requests WHERE state = 'open' \
             ORDER BY course_id, timing, requested_at DESC, id DESC) latest ORDER BY requested_at, id"
        );
        let rows = self.call(ACTION, sqlx::query(sqlx::AssertSqlSafe(select)).fetch_all(&self.pool)).await?;
        rows.iter().map(|row| self.read_request(ACTION, row)).collect()
    }

    async fn answer_requests(&self, answers: &[(Uuid, RequestState, Cleanup)]) -> Result<(), LedgerError> {
        let ids: Vec<Uuid> = answers.iter().map(|(id, ..)| *id).collect();
        let states: Vec<&str> = answers.iter().map(|(_, state, _)| state.as_str()).collect();
        let runs: Vec<Option<Uuid>> = answers.iter().map(|(.., answer)| answer.run).collect();
        let told: Vec<Json<&Cleanup>> = answers.iter().map(|(.., answer)| Json(answer)).collect();
        let update = sqlx::query(
            "UPDATE course_gc.requests r SET state = a.state, answer = a.answer, \
                 answered_by = coalesce(a.run, r.answered_by) \
             FROM unnest($1::uuid[], $2::text[], $3::jsonb[], $4::uuid[]) AS a(id, state, answer, run) \
             JOIN course_gc.requests latest ON latest.id = a.id \
             WHERE r.state = 'open' AND r.course_id = latest.course_id AND r.timing = latest.timing \
             AND (r.requested_at, r.id) <= (latest.requested_at, latest.id)",
        )
        .bind(ids)
        .bind(states)
        .bind(told)
        .bind(runs)
        .execute(&self.pool);
        self.call("answering what was requested", update).await?;
        Ok(())
    }

    async fn request_of(&self, id: Uuid) -> Result<Option<Request>, LedgerError> {
        const ACTION: &str = "reading a request";
        let select = format!("SELECT {COLUMNS} FROM course_gc.requests WHERE id = $1");
        let select = sqlx::query(sqlx::AssertSqlSafe(select)).bind(id).fetch_optional(&self.pool);
        let row = self.call(ACTION, select).await?;
        row.map(|row| self.read_request(ACTION, &row)).transpose()
    }

    async fn unanswered(&self) -> Result<[BTreeSet<CourseId>; 2], LedgerError> {
        let select = sqlx::query_as(
            "SELECT timing, course_id FROM course_gc.requests WHERE state = 'open' AND answered_by IS NULL \
             AND (timing = 'before_delete' OR answer IS NULL)",
        )
        .fetch_all(&self.pool);
        let rows: Vec<(String, String)> = self.call("looking for requests", select).await?;
        let mut courses = [BTreeSet::new(), BTreeSet::new()];
        for (timing, course) in rows {
            let of = usize::from(Timing::named(&timing) == Some(Timing::BeforeDelete));
            courses[of].insert(self.id(course)?);
        }
        Ok(courses)
    }
}

impl PostgresLedger {
    fn read_request(&self, action: &'static str, row: &PgRow) -> Result<Request, LedgerError> {
        let read = || {
            let answer: Option<Json<Cleanup>> = row.try_get("answer")?;
            Ok((
                row.try_get("id")?,
                row.try_get::<String, _>("course_id")?,
                row.try_get::<String, _>("timing")?,
                row.try_get("requested_by")?,
                row.try_get("requested_at")?,
                row.try_get("expires_at")?,
                row.try_get::<String, _>("state")?,
                answer.map(|Json(answer)| answer),
            ))
        };
        let (id, course, timing, requested_by, requested_at, expires_at, state, answer) =
            read().map_err(|error| self.postgres.failed(action, error))?;
        let unknown = |what: &str, name: &str| {
            let why = format!("a request has the {what} {name:?}, which this program does not know");
            self.postgres.nonsense(why)
        };
        Ok(Request {
            id,
            course_id: self.id(course)?,
            timing: Timing::named(&timing).ok_or_else(|| unknown("timing", &timing))?,
            requested_by,
            requested_at,
            expires_at,
            state: RequestState::named(&state).ok_or_else(|| unknown("state", &state))?,
            answer,
        })
    }
}
