//! Transactions in which rows are read and written: one snapshot each, with settings that make a row's text the same everywhere.

use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};

use crate::pace::Turn;
use crate::postgres::{Postgres, PostgresError};

/// Shut out what could hide rows (S4), and what could write one value in two ways (S12).
const SETTINGS: &str = "SET LOCAL row_security = off; SET LOCAL search_path = pg_catalog; \
     SET LOCAL standard_conforming_strings = on; SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL intervalstyle = 'postgres'; \
     SET LOCAL bytea_output = 'hex'; SET LOCAL extra_float_digits = 3; SET LOCAL timezone = 'UTC'; \
     SET LOCAL lc_monetary = 'C'; SET LOCAL xmloption = 'content'; SET LOCAL synchronous_commit = on";

/// The part of a delete's time that it may wait for a lock.
const LOCKS: u128 = 10;

/// What a transaction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// To look.
    Read,
    /// To write, as of one moment: a row that somebody else writes at the same time makes it fail.
    Write,
    /// As [`Access::Write`], for one course of many: waits for others a part of the limit, so that they have their turn.
    Delete,
    /// To write after waiting for others.
    Wait,
}

/// A session of our own, not in a transaction. All of it is one call.
pub(super) struct Session<'a> {
    pub postgres: &'a Postgres,
    pub connection: PgConnection,
    pub turn: Turn,
}

impl<'a> Session<'a> {
    /// Connects, in its turn.
    ///
    /// # Errors
    /// If the server cannot be reached, or a pooler shares its processes.
    pub(super) async fn open(postgres: &'a Postgres, turn: Turn) -> Result<Self, PostgresError> {
        Ok(Self { postgres, connection: postgres.connect_alone().await?, turn })
    }

    /// Begins a transaction in which no statement takes longer than `limit`, nor a pause between two. Ends the session when it
    /// is dropped without [`Session::commit`] or [`Session::roll_back`], and the transaction with it.
    ///
    /// # Errors
    /// If the server refuses, or is a standby.
    pub(super) async fn begin(&mut self, access: Access, limit: Duration) -> Result<(), PostgresError> {
        let mode = match access {
            Access::Read => "ISOLATION LEVEL REPEATABLE READ READ ONLY",
            Access::Write | Access::Delete => "ISOLATION LEVEL REPEATABLE READ READ WRITE",
            Access::Wait => "ISOLATION LEVEL READ COMMITTED READ WRITE",
        };
        let limit = limit.as_millis().clamp(1, i32::MAX as u128);
        let idle = limit.min(self.postgres.idle_timeout.as_millis()).max(1);
        let locks = if access == Access::Delete { (limit / LOCKS).max(1) } else { limit };
        // Whoever freezes in the middle of a delete must not send its end late (S2).
        let begin = format!(
            "BEGIN TRANSACTION {mode}; {SETTINGS}; SET LOCAL statement_timeout = {limit}; SET LOCAL lock_timeout = {locks}; \
             SET LOCAL idle_in_transaction_session_timeout = {idle}"
        );
        let begin = sqlx::raw_sql(AssertSqlSafe(begin)).execute(&mut self.connection);
        self.postgres.call("beginning a transaction", begin).await?;
        let standby = sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(&mut self.connection);
        if self.postgres.call("asking for the server's role", standby).await? {
            let (what, address) = (self.postgres.what.clone(), self.postgres.address());
            return Err(PostgresError::Standby { what, address });
        }
        Ok(())
    }

    /// Makes lasting what was written.
    ///
    /// # Errors
    /// If nobody knows that it is.
    pub(super) async fn commit(&mut self) -> Result<(), PostgresError> {
        let commit = sqlx::raw_sql("COMMIT").execute(&mut self.connection);
        self.postgres.call("committing; nobody knows whether it was done", commit).await?;
        Ok(())
    }

    /// Undoes what was written.
    ///
    /// # Errors
    /// If the server does not answer: then it undoes it when it sees that we are gone.
    pub(super) async fn roll_back(&mut self) -> Result<(), PostgresError> {
        let roll_back = sqlx::raw_sql("ROLLBACK").execute(&mut self.connection);
        self.postgres.call("rolling back", roll_back).await?;
        Ok(())
    }

    /// Ends the session in order.
    pub(super) async fn close(self) {
        self.turn.end();
        // It ends in any case.
        let _ = tokio::time::timeout(self.postgres.call_timeout, self.connection.close()).await;
    }
}
