//! Is a session one server process, or does a pooler share its processes among many (S4, S10)?
//!
//! Behind a pooler that gives a server process back after each transaction, or each statement, neither an advisory lock nor a
//! setting belongs to who asked for it: two collectors would hold one lock, and our settings would reach the application's own
//! queries. So before anything is set or locked, the process is marked by a setting of ours, which does no harm to anybody,
//! and asked for that mark again while a second session is in a transaction: a pooler has given that session the process that was
//! just free. Each question looks at the mark again, as the process may be shared later, too.
//!
//! Rejected: asking a pooler for its name (each has another console, and most hide it), and looking at the process's number alone (two
//! sessions that are given the same process by turns would both find it).

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection, Row};
use uuid::Uuid;

use super::{Postgres, PostgresError};

/// What tells one session's server process from another's, to be selected within a question.
pub(super) const MARK: &str =
    "SELECT pg_backend_pid() AS process, coalesce(current_setting('course_gc.session', true), '') AS mark";

/// How often the second session takes whatever process is free. One is enough where nobody else works: another client may just have
/// had the process that was marked.
const ROUNDS: usize = 3;

/// A server process that is ours alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OwnProcess {
    process: i32,
    mark: String,
}

impl OwnProcess {
    /// Marks the session's server process, and makes sure that no other session is given it.
    ///
    /// # Errors
    /// [`PostgresError::Pooled`] if one is; or if the server does not answer.
    pub(super) async fn claim(postgres: &Postgres, session: &mut PgConnection) -> Result<Self, PostgresError> {
        const WITNESS: &str = "opening a second session, to see whether a pooler shares server processes \
                               (one with session pooling must allow several of each database and user)";
        const AGAIN: &str = "asking again while a second session is in a transaction (a pooler that has but one server process \
                             would not answer: connect to Postgres directly, or use session pooling)";
        let mark = Uuid::new_v4().to_string();
        // The simple protocol: a prepared statement would be lost with the process, and fail with less telling words.
        let set = format!("SET course_gc.session = '{mark}'; {MARK}");
        let set = sqlx::raw_sql(AssertSqlSafe(set)).fetch_one(&mut *session);
        let row = postgres.call("marking the session", set).await?;
        let own = Self { process: process(postgres, &row)?, mark };
        let mut witness = postgres.call(WITNESS, PgConnection::connect_with(&postgres.options()?)).await?;
        for _ in 0..ROUNDS {
            let begin = async {
                // In two steps: a pooler looks at what came of the first.
                sqlx::raw_sql("BEGIN READ ONLY").execute(&mut witness).await?;
                sqlx::raw_sql(MARK).fetch_one(&mut witness).await
            };
            let theirs = match postgres.call(WITNESS, begin).await {
                Err(PostgresError::Failed { source, .. }) if refuses_transactions(&source) => {
                    return Err(pooled(postgres, "it allows no transactions"));
                }
                theirs => theirs?,
            };
            if process(postgres, &theirs)? == own.process {
                return Err(pooled(postgres, "another session was given the same server process"));
            }
            let again = sqlx::raw_sql(MARK).fetch_one(&mut *session);
            own.check(postgres, &postgres.call(AGAIN, again).await?)?;
            postgres.call(WITNESS, sqlx::raw_sql("COMMIT").execute(&mut witness)).await?;
        }
        // It ends in any case.
        let _ = witness.close().await;
        Ok(own)
    }

    /// Makes sure that a row of [`MARK`] came from this process, and that nobody else has marked it since.
    ///
    /// # Errors
    /// [`PostgresError::Pooled`] if it did not.
    pub(super) fn check(&self, postgres: &Postgres, row: &PgRow) -> Result<(), PostgresError> {
        let mark: String =
            row.try_get("mark").map_err(|error| postgres.failed("looking at the session's mark", error))?;
        if process(postgres, row)? != self.process {
            return Err(pooled(postgres, "the session was given another server process"));
        }
        if mark != self.mark {
            return Err(pooled(postgres, "another session has used its server process"));
        }
        Ok(())
    }
}

fn process(postgres: &Postgres, row: &PgRow) -> Result<i32, PostgresError> {
    row.try_get("process").map_err(|error| postgres.failed("asking for the server process", error))
}

/// A server that knows no transactions is no Postgres, but a pooler that gives each statement another process.
fn refuses_transactions(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => error.message().contains("statement pooling"),
        _ => false,
    }
}

fn pooled(postgres: &Postgres, sign: &'static str) -> PostgresError {
    PostgresError::Pooled { what: postgres.what.clone(), address: postgres.address(), sign }
}
