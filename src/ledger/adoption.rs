//! What was adopted: who we are, the pins of the liveness sources, the stores and their counts (S7).

use std::collections::BTreeMap;

use async_trait::async_trait;
use sqlx::Row;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use uuid::Uuid;

use super::pauses::WHO;
use super::{LedgerError, PostgresLedger, counted, stored};
use crate::domain::markers::AdoptedStore;
use crate::domain::pins::{Position, SourcePin};
use crate::postgres::server;

/// Everything that was adopted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adoption {
    /// The installation's id.
    pub installation: Uuid,
    /// The liveness sources by name: what each was, and where in its history it was last seen.
    pub sources: BTreeMap<String, (SourcePin, Position)>,
    /// The stores by name.
    pub stores: BTreeMap<String, AdoptedStore>,
}

/// A move of a store's marker from one count to another.
#[derive(Debug, Clone, Copy)]
pub struct Move<'a> {
    /// The run that moves it; `None` for a person who adopts. A run that lost its ledger, or its turn, moves nothing.
    pub run: Option<Uuid>,
    /// The count that was read.
    pub from: u64,
    /// The count that is to be there.
    pub to: u64,
    /// The running server that the ledger is in, if it tells.
    pub server: Option<&'a str>,
}

/// What was adopted, and how the markers' counts move (S7).
#[async_trait]
pub trait Adoptions: Send + Sync {
    /// What was adopted; `None` if nothing ever was.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn adoption(&self) -> Result<Option<Adoption>, LedgerError>;

    /// Pins the sources as they are, for an installation of this name; if the truth is another one than before (`anew`),
    /// starts every orphan's clock anew. What vanished across a break is accepted. Returns the installation's id, which is
    /// made with the first adoption.
    ///
    /// # Errors
    /// If the ledger does not answer: then nothing was pinned.
    async fn pin(&self, name: &str, pins: &[(String, SourcePin, Position)], anew: bool) -> Result<Uuid, LedgerError>;

    /// Notes that a store is ours, at this count.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn adopt_store(&self, store: &str, sources: &[(String, bool)], counter: u64) -> Result<(), LedgerError>;

    /// Writes down that a store's marker is about to move. `false` if the ledger is not where it was when it was read.
    ///
    /// # Errors
    /// If the ledger does not answer, or another run has begun since.
    async fn begin_move(&self, store: &str, step: &Move<'_>) -> Result<bool, LedgerError>;

    /// Remembers, until the store is adopted again, that this ledger objected to a marker that was ahead of it.
    ///
    /// # Errors
    /// If the ledger does not answer: then it may object again.
    async fn objected(&self, store: &str) -> Result<(), LedgerError>;

    /// Writes down that a store's marker has moved to `to`.
    ///
    /// # Errors
    /// If the ledger does not answer: then the next run finds the move pending, and goes on.
    async fn end_move(&self, store: &str, to: u64) -> Result<(), LedgerError>;

    /// Writes down that a move from `from` to `to` was refused, since somebody else moved the marker first: what is there is not ours, even
    /// if its count is the one that was announced.
    ///
    /// # Errors
    /// If the ledger does not answer: then what the other wrote passes for this move, once.
    async fn withdraw_move(&self, store: &str, from: u64, to: u64) -> Result<(), LedgerError>;

    /// Remembers where in its history a source was seen, and the relations that came to it.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn saw_source(
        &self,
        run: Uuid,
        source: &str,
        pin: &SourcePin,
        position: &Position,
    ) -> Result<(), LedgerError>;

    /// The running server that the ledger is in; `None` if it does not tell.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn server(&self) -> Result<Option<String>, LedgerError>;

    /// Starts the clock of every orphan anew: the history of the truth broke (S6, S7).
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn start_clocks_anew(&self) -> Result<u64, LedgerError>;
}

#[async_trait]
impl Adoptions for PostgresLedger {
    async fn adoption(&self) -> Result<Option<Adoption>, LedgerError> {
        const ACTION: &str = "reading what was adopted";
        let read = async {
            let installation: Option<Uuid> =
                sqlx::query_scalar("SELECT id FROM course_gc.installation").fetch_optional(&self.pool).await?;
            let Some(installation) = installation else { return Ok(None) };
            let sources =
                sqlx::query("SELECT source, pin, position FROM course_gc.pinned_sources").fetch_all(&self.pool).await?;
            let stores = sqlx::query(
                "SELECT store, sources, counter, pending, moved_in, objected FROM course_gc.adopted_stores",
            )
            .fetch_all(&self.pool)
            .await?;
            let sources: Result<_, sqlx::Error> = sources.iter().map(read_source).collect();
            let stores: Result<_, sqlx::Error> = stores.iter().map(read_store).collect();
            Ok(Some(Adoption { installation, sources: sources?, stores: stores? }))
        };
        self.call(ACTION, read).await
    }

    async fn pin(&self, name: &str, pins: &[(String, SourcePin, Position)], anew: bool) -> Result<Uuid, LedgerError> {
        let pin = async {
            let mut transaction = self.pool.begin().await?;
            let statement = format!(
                "INSERT INTO course_gc.installation (id, name, adopted_at, adopted_by) SELECT $1, $2, now(), {WHO} \
                 ON CONFLICT (the_one) DO UPDATE SET (name, adopted_at, adopted_by) = \
                     (excluded.name, excluded.adopted_at, excluded.adopted_by) RETURNING id"
            );
            let installation: Uuid = sqlx::query_scalar(sqlx::AssertSqlSafe(statement))
                .bind(Uuid::new_v4())
                .bind(name)
                .fetch_one(&mut *transaction)
                .await?;
            sqlx::query("DELETE FROM course_gc.pinned_sources").execute(&mut *transaction).await?;
            for (source, pin, position) in pins {
                sqlx::query("INSERT INTO course_gc.pinned_sources (source, pin, position) VALUES ($1, $2, $3)")
                    .bind(source)
                    .bind(Json(pin))
                    .bind(Json(position))
                    .execute(&mut *transaction)
                    .await?;
            }
            if anew {
                sqlx::query(START_ANEW).execute(&mut *transaction).await?;
            }
            // What vanished across a break is accepted from now on, and waits its grace from now on.
            sqlx::query(
                "UPDATE course_gc.orphans SET accrued_ms = 0, pending_ms = 0, counted_at = NULL \
                 WHERE course_id IN (SELECT course_id FROM course_gc.known_ids WHERE across_break)",
            )
            .execute(&mut *transaction)
            .await?;
            sqlx::query("UPDATE course_gc.known_ids SET across_break = false WHERE across_break")
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await?;
            Ok(installation)
        };
        self.call("adopting the liveness sources", pin).await
    }

    async fn adopt_store(&self, store: &str, sources: &[(String, bool)], counter: u64) -> Result<(), LedgerError> {
        let upsert = sqlx::query(
            "INSERT INTO course_gc.adopted_stores (store, sources, counter) VALUES ($1, $2, $3) \
             ON CONFLICT (store) DO UPDATE SET sources = excluded.sources, counter = excluded.counter, pending = NULL, \
                 objected = false",
        )
        .bind(store)
        .bind(Json(sources))
        .bind(stored(counter))
        .execute(&self.pool);
        self.call("adopting a store", upsert).await?;
        Ok(())
    }

    async fn begin_move(&self, store: &str, step: &Move<'_>) -> Result<bool, LedgerError> {
        const ACTION: &str = "noting that a marker moves";
        let mut transaction = match step.run {
            Some(run) => self.fenced(ACTION, run).await?,
            None => self.call(ACTION, self.pool.begin()).await?,
        };
        let update = async {
            let updated = sqlx::query(
                "UPDATE course_gc.adopted_stores SET counter = $2, pending = $3, moved_in = $4 \
                 WHERE store = $1 AND (counter = $2 OR pending = $2)",
            )
            .bind(store)
            .bind(stored(step.from))
            .bind(stored(step.to))
            .bind(step.server)
            .execute(&mut *transaction)
            .await?;
            transaction.commit().await?;
            Ok(updated.rows_affected() == 1)
        };
        self.call(ACTION, update).await
    }

    async fn objected(&self, store: &str) -> Result<(), LedgerError> {
        let update = sqlx::query("UPDATE course_gc.adopted_stores SET objected = true WHERE store = $1")
            .bind(store)
            .execute(&self.pool);
        self.call("noting that this ledger objected to a marker", update).await?;
        Ok(())
    }

    async fn end_move(&self, store: &str, to: u64) -> Result<(), LedgerError> {
        let update = sqlx::query(
            "UPDATE course_gc.adopted_stores SET counter = $2, pending = NULL WHERE store = $1 AND pending = $2",
        )
        .bind(store)
        .bind(stored(to))
        .execute(&self.pool);
        self.call("noting that a marker moved", update).await?;
        Ok(())
    }

    async fn withdraw_move(&self, store: &str, from: u64, to: u64) -> Result<(), LedgerError> {
        let update = sqlx::query(
            "UPDATE course_gc.adopted_stores SET pending = NULL WHERE store = $1 AND counter = $2 AND pending = $3",
        )
        .bind(store)
        .bind(stored(from))
        .bind(stored(to))
        .execute(&self.pool);
        self.call("noting that a marker could not be moved", update).await?;
        Ok(())
    }

    async fn saw_source(
        &self,
        run: Uuid,
        source: &str,
        pin: &SourcePin,
        position: &Position,
    ) -> Result<(), LedgerError> {
        const ACTION: &str = "noting where a liveness source is";
        let mut transaction = self.fenced(ACTION, run).await?;
        let update = async {
            sqlx::query("UPDATE course_gc.pinned_sources SET pin = $2, position = $3 WHERE source = $1")
                .bind(source)
                .bind(Json(pin))
                .bind(Json(position))
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await
        };
        self.call(ACTION, update).await
    }

    async fn server(&self) -> Result<Option<String>, LedgerError> {
        let mut connection = self.postgres.connect().await?;
        Ok(server(&self.postgres, &mut connection).await?)
    }

    async fn start_clocks_anew(&self) -> Result<u64, LedgerError> {
        let update = sqlx::query(START_ANEW).execute(&self.pool);
        Ok(self.call("starting the clocks anew", update).await?.rows_affected())
    }
}

const START_ANEW: &str = "UPDATE course_gc.orphans SET accrued_ms = 0, pending_ms = 0, counted_at = NULL";

fn read_source(row: &PgRow) -> Result<(String, (SourcePin, Position)), sqlx::Error> {
    let Json(pin) = row.try_get("pin")?;
    let Json(position) = row.try_get("position")?;
    Ok((row.try_get("source")?, (pin, position)))
}

fn read_store(row: &PgRow) -> Result<(String, AdoptedStore), sqlx::Error> {
    let Json(sources) = row.try_get("sources")?;
    let counter = counted(row.try_get("counter")?);
    let pending = row.try_get::<Option<i64>, _>("pending")?.map(counted);
    let (moved_in, objected) = (row.try_get("moved_in")?, row.try_get("objected")?);
    Ok((row.try_get("store")?, AdoptedStore { sources, counter, pending, moved_in, objected }))
}
