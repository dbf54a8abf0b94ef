//! A platform to measure on: a Postgres with courses, and a configuration over it.

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use bytes::{BufMut, BytesMut};
use course_gc::adopt::adopt;
use sandbox::Postgres;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor};
use tempfile::TempDir;

use crate::{ids, ours};

/// Rows of COPY that are sent at once.
const ROWS: usize = 50_000;

/// See the module's documentation. Its servers end with it.
pub struct Bed {
    /// The server of the courses and of the ledger.
    pub postgres: Postgres,
    url: String,
    folder: TempDir,
}

impl Bed {
    /// Starts a Postgres with these courses, by their numbers.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn with_courses(courses: Range<u64>) -> Result<Self> {
        let postgres = Postgres::start().await?;
        let url = postgres.create_database("campus").await?;
        let bed = Self { postgres, url, folder: tempfile::Builder::new().prefix("bench-").tempdir()? };
        bed.sql("CREATE TABLE public.courses (id uuid PRIMARY KEY)").await?;
        bed.add_courses(courses).await?;
        bed.sql("VACUUM ANALYZE public.courses").await?;
        Ok(bed)
    }

    /// The URL of the database.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A folder that is gone with this.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the configuration is.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("course-gc.yaml")
    }

    /// Runs a statement.
    ///
    /// # Errors
    /// If it fails.
    pub async fn sql(&self, statement: &str) -> Result<()> {
        self.connect().await?.execute(AssertSqlSafe(statement.to_owned())).await?;
        Ok(())
    }

    async fn connect(&self) -> Result<PgConnection> {
        Ok(PgConnection::connect(&self.url).await?)
    }

    async fn add_courses(&self, courses: Range<u64>) -> Result<()> {
        let mut connection = self.connect().await?;
        let mut copy = connection.copy_in_raw("COPY public.courses (id) FROM STDIN (FORMAT binary)").await?;
        let mut rows = BytesMut::from(&b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0"[..]);
        for n in courses {
            rows.put_i16(1);
            rows.put_i32(16);
            rows.put_slice(ids::course(n).as_bytes());
            if rows.len() > ROWS * 22 {
                copy.send(rows.split().freeze()).await?;
            }
        }
        rows.put_i16(-1);
        copy.send(rows.freeze()).await?;
        copy.finish().await?;
        Ok(())
    }

    /// Writes the configuration over these stores, and has them adopted. Nothing holds what nobody owns: it goes at once.
    ///
    /// # Errors
    /// If a store cannot be adopted.
    pub async fn adopt(&self, stores: &str) -> Result<()> {
        let (url, folder) = (&self.url, self.folder.path().display());
        let stores: String = stores.lines().map(|line| format!("  {line}\n")).collect();
        let text = format!(
            "installation: bench
liveness:
  campus:
    url: {url}
    query: SELECT id FROM public.courses
grace: {{ tombstoned: 0s, departed: 0s, stranger: 0s }}
limits:
  breaker_share: 100%
  breaker_share_strangers: 100%
  breaker_courses: 100000000
  breaker_bytes: 1000TB
  i_accept: [short_grace, short_quarantine, large_share]
stores:
{stores}quarantine:
  folder: {folder}/archives
  max_size: 1000TB
  min_free: 0%
  keep: 1s
"
        );
        std::fs::write(self.config(), text)?;
        ours::ledger(&self.config())?.migrate().await?;
        let adopted = adopt(&ours::collector(&self.config())?, true).await?;
        ensure!(adopted.iter().all(|(_, why_not)| why_not.is_none()), "{adopted:?}");
        Ok(())
    }
}
