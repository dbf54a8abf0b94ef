//! Our memory: what was seen, meant and done. A trait a concern, kept by our tables in Postgres (`migrations/`).
//!
//! - Times are the database's.
//! - An orphan's clock gains only between finished runs: a run writes what the clock *would* be, and finishing makes it so.
//! - Every table is named with its schema.

mod adoption;
mod approvals;
mod audit;
mod authorisations;
#[cfg(test)]
pub(crate) mod contract;
mod doctor;
mod exemptions;
mod graves;
mod intents;
mod known;
mod organizations;
mod orphans;
mod pauses;
mod requests;
mod runs;
mod standing;

use std::time::Duration;

use async_trait::async_trait;
use sqlx::migrate::{Migrate, Migrator};
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{Connection, PgConnection, Postgres as Pg, Transaction};
use uuid::Uuid;

use crate::domain::evidence::Graces;
use crate::domain::ids::IdType;
use crate::domain::standing::Standing;
use crate::postgres::{AdvisoryLock, LOCK_CLASS, Lock, LockSession, Postgres, PostgresError};

pub use adoption::{Adoption, Adoptions, Move};
pub use approvals::{AcceptedSize, Approval, Approvals};
pub use audit::Audited;
pub use authorisations::{Authorisations, Authorised, GOOD_FOR};
pub use exemptions::Exemptions;
pub use graves::Graves;
pub use intents::{AskedAgain, BatchOutcome, Intent, Intents, Interrupted, OpenIntent};
pub use known::{Known, KnownIds};
pub use organizations::Organizations;
pub use orphans::{Orphans, Place};
pub use pauses::{Pause, Pauses};
pub use requests::{NewRequest, Requests};
pub use runs::{LastRun, RunSummary, Runs};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// Connections besides the lock session: the stores write their intents at the same time.
const CONNECTIONS: u32 = 4;

/// Why the ledger could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Postgres could not be asked.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// A migration failed.
    #[error("the ledger's tables could not be brought up to date")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// The tables are older than this program, or missing.
    #[error(
        "the ledger's tables are missing or old (this program needs version {needed}, there is {found}); run `course-gc migrate`"
    )]
    Old {
        /// The version that this program needs.
        needed: i64,
        /// The version that is there; 0 if none.
        found: i64,
    },
    /// The tables are newer than this program.
    #[error("the ledger's tables are newer (version {found}) than this program ({needed}); use the newer program")]
    New {
        /// The version that this program knows.
        needed: i64,
        /// The version that is there.
        found: i64,
    },
    /// Another run has begun since: whoever stood still for so long writes nothing more (S10).
    #[error("another run has begun since this one; it stood still for too long, and nothing more of it is written")]
    Superseded,
    /// A row holds something that this program did not write.
    #[error("the ledger holds a course id that is none: {0:?}; was `course_id` changed in the configuration?")]
    Id(String),
}

/// The memory that a collector works with. What it says is committed when it returns.
#[async_trait]
pub trait Ledger:
    Adoptions
    + Approvals
    + Authorisations
    + Exemptions
    + Graves
    + Intents
    + Known
    + Organizations
    + Orphans
    + Pauses
    + Requests
    + Runs
{
    /// Makes sure that the tables are those that this program knows.
    ///
    /// # Errors
    /// If they are older, newer or missing.
    async fn check_version(&self) -> Result<(), LedgerError>;

    /// Takes the ledger's lock; does not wait for it.
    ///
    /// # Errors
    /// If somebody else has it, or nobody answers.
    async fn lock(&self) -> Result<Box<dyn Lock>, LedgerError>;

    /// How things stand, for the metrics. `known` is the [`Standing::last_ended`] of which the caller has what was seen.
    ///
    /// # Errors
    /// If the ledger does not answer.
    async fn standing(&self, graces: &Graces, known: Option<Uuid>) -> Result<Standing, LedgerError>;
}

/// The ledger in Postgres. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PostgresLedger {
    postgres: Postgres,
    pool: PgPool,
    id_type: IdType,
}

impl PostgresLedger {
    /// A ledger in this database; connects when first used.
    ///
    /// # Errors
    /// If the URL cannot be read.
    pub fn new(postgres: Postgres, id_type: IdType) -> Result<Self, LedgerError> {
        // Whoever freezes in the middle of a write must not keep others from beginning.
        let idle = format!("SET idle_in_transaction_session_timeout = {}", postgres.idle_timeout.as_millis());
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .after_connect(move |connection, _| {
                let idle = idle.clone();
                Box::pin(async move {
                    sqlx::raw_sql(sqlx::AssertSqlSafe(idle)).execute(connection).await?;
                    Ok(())
                })
            })
            .acquire_timeout(postgres.call_timeout)
            .idle_timeout(Duration::from_secs(60))
            .connect_lazy_with(postgres.options()?);
        Ok(Self { postgres, pool, id_type })
    }

    /// Brings the tables up to date. Several may try at once.
    ///
    /// # Errors
    /// If Postgres refuses, or the tables are newer than this program.
    pub async fn migrate(&self) -> Result<(), LedgerError> {
        let mut connection = self.migration_connection().await?;
        // Two that create the schema at once would not see each other's, whatever `IF NOT EXISTS` says; and with these words to leave it as
        // it is needs the right to create it, too.
        let create = "SELECT pg_advisory_xact_lock(hashtext('course_gc.migrate')); \
             DO $$ BEGIN IF to_regnamespace('course_gc') IS NULL THEN CREATE SCHEMA course_gc; END IF; END $$";
        let create = sqlx::raw_sql(create).execute(&mut connection);
        self.postgres.call("creating the schema course_gc", create).await?;
        let found = self.version(&mut connection).await?;
        let needed = newest();
        if found > needed {
            return Err(LedgerError::New { needed, found });
        }
        MIGRATIONS.run(&mut connection).await.map_err(LedgerError::Migrate)?;
        // The session ends in any case.
        let _ = connection.close().await;
        Ok(())
    }

    /// sqlx keeps its own table where the search path leads, so only these connections have one.
    async fn migration_connection(&self) -> Result<PgConnection, LedgerError> {
        // Not as an option of the connection: poolers take none.
        let mut connection = self.postgres.connect_alone().await?;
        let set = sqlx::raw_sql("SET search_path = course_gc").execute(&mut connection);
        self.postgres.call("preparing the session", set).await?;
        Ok(connection)
    }

    async fn version(&self, connection: &mut PgConnection) -> Result<i64, LedgerError> {
        let exists = sqlx::query_scalar("SELECT to_regclass('course_gc._sqlx_migrations') IS NOT NULL")
            .fetch_one(&mut *connection);
        if !self.postgres.call("looking for the ledger's tables", exists).await? {
            return Ok(0);
        }
        let applied = connection.list_applied_migrations("_sqlx_migrations").await.map_err(LedgerError::Migrate)?;
        Ok(applied.iter().map(|migration| migration.version).max().unwrap_or(0))
    }

    /// A transaction in which a run writes. No other run begins before it ends.
    ///
    /// # Errors
    /// [`LedgerError::Superseded`] if another run has begun since.
    async fn fenced(&self, action: &'static str, run: Uuid) -> Result<Transaction<'static, Pg>, LedgerError> {
        let begin = async {
            let mut transaction = self.pool.begin().await?;
            sqlx::query("SELECT pg_advisory_xact_lock_shared($1, $2)")
                .bind(LOCK_CLASS)
                .bind(AdvisoryLock::Fence.object())
                .execute(&mut *transaction)
                .await?;
            // Not by their times: a clock that was put back must not make the latest run an old one.
            let latest = "SELECT id FROM course_gc.runs ORDER BY ordinal DESC LIMIT 1";
            let latest: Option<Uuid> = sqlx::query_scalar(latest).fetch_optional(&mut *transaction).await?;
            Ok((transaction, latest))
        };
        let (transaction, latest) = self.call(action, begin).await?;
        if latest == Some(run) { Ok(transaction) } else { Err(LedgerError::Superseded) }
    }

    async fn call<T>(
        &self,
        action: &'static str,
        call: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, LedgerError> {
        Ok(self.postgres.call(action, call).await?)
    }
}

#[async_trait]
impl Ledger for PostgresLedger {
    async fn check_version(&self) -> Result<(), LedgerError> {
        let mut connection = self.migration_connection().await?;
        let found = self.version(&mut connection).await?;
        let needed = newest();
        match found.cmp(&needed) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Less => Err(LedgerError::Old { needed, found }),
            std::cmp::Ordering::Greater => Err(LedgerError::New { needed, found }),
        }
    }

    async fn lock(&self) -> Result<Box<dyn Lock>, LedgerError> {
        Ok(Box::new(LockSession::open(&self.postgres, AdvisoryLock::Ledger).await?))
    }

    async fn standing(&self, graces: &Graces, known: Option<Uuid>) -> Result<Standing, LedgerError> {
        self.read_standing(graces, known).await
    }
}

fn newest() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// A count as Postgres stores it.
fn stored(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A count as Postgres stored it.
fn counted(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sandbox::Database;

    use super::*;
    use crate::domain::report::Mode;
    use crate::postgres::IDLE_TIMEOUT;

    /// A ledger of integer ids in an empty database.
    pub(super) async fn ledger(database: &Database) -> PostgresLedger {
        ledger_with(database, IDLE_TIMEOUT).await
    }

    /// The same, whose sessions the server ends when they are idle for so long in a transaction.
    async fn ledger_with(database: &Database, idle_timeout: Duration) -> PostgresLedger {
        let postgres = Postgres {
            what: "the ledger".into(),
            url: database.url().to_owned().into(),
            call_timeout: Duration::from_secs(20),
            idle_timeout,
            application: "course-gc/test".into(),
        };
        let ledger = PostgresLedger::new(postgres, IdType::Integer).unwrap();
        ledger.migrate().await.unwrap();
        ledger
    }

    #[tokio::test]
    async fn the_tables_keep_the_contract() {
        let database = Database::create().await.unwrap();
        let ledger = ledger(&database).await;
        contract::keeps(&ledger).await;
    }

    /// Whoever freezes in the middle of a write loses it when the server waits for a sign in vain, and the next run begins.
    #[tokio::test]
    async fn s10_a_write_that_freezes_does_not_keep_the_next_run_from_beginning() {
        let database = Database::create().await.unwrap();
        let (frozen, next) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let idle_timeout = Duration::from_millis(300);
        let (ledger, other) = (ledger_with(&database, idle_timeout).await, ledger_with(&database, idle_timeout).await);
        ledger.begin(frozen, Mode::Run).await.unwrap();
        let write = ledger.fenced("writing", frozen).await.unwrap();
        other.begin(next, Mode::Run).await.unwrap();
        assert!(write.commit().await.is_err(), "its session was ended");
        assert!(matches!(ledger.fenced("writing", frozen).await, Err(LedgerError::Superseded)));
    }
}
