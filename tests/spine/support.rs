//! An installation of course-gc over a campus: its configuration, its collector, and its program.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use course_gc::config::Config;
use course_gc::domain::report::{Mode, RunReport};
use course_gc::ledger::PostgresLedger;
use course_gc::liveness::{LivenessSource, PostgresSources};
use course_gc::reconcile::{Collector, RunError, reconcile};
use sandbox::campus::{Campus, CampusSize};
use sandbox::config::{Settings, environment, file};
use sandbox::{Addresses, Stores};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

/// A configured course-gc.
pub struct Installation {
    /// Clients of the campus' stores.
    pub stores: Stores,
    /// What is at those addresses.
    pub addresses: Addresses,
    folder: TempDir,
    adopted: AtomicBool,
}

/// What the program answered.
#[derive(Debug)]
pub struct Answer {
    /// Its exit code.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it logged, and its errors.
    pub stderr: String,
}

impl Answer {
    /// The JSON that it printed.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| format!("{self:?}"))
    }
}

impl Installation {
    /// Writes the configuration and creates the ledger.
    pub async fn new(addresses: Addresses, settings: &Settings) -> Result<Self> {
        let stores = Stores::connect(&addresses).await?;
        let adopted = AtomicBool::new(false);
        let installation = Self { stores, addresses, folder: tempfile::tempdir()?, adopted };
        installation.configure(settings)?;
        installation.ledger()?.migrate().await?;
        Ok(installation)
    }

    /// One over a seeded campus, all of whose courses a first run saw live.
    pub async fn over(addresses: Addresses, settings: &Settings, size: CampusSize) -> Result<(Self, Campus)> {
        let installation = Self::new(addresses, settings).await?;
        let campus = match installation.addresses.objects {
            Some(_) => Campus::whole(size),
            None => Campus::plan(size),
        };
        campus.seed(&installation.stores).await?;
        let first = installation.run().await?;
        ensure!((first.halt.as_deref(), first.swept().deleted) == (None, 0), "{first:?}");
        Ok((installation, campus))
    }

    /// Replaces the configuration; the next plan or run adopts it first.
    pub fn configure(&self, settings: &Settings) -> Result<()> {
        self.adopted.store(false, Ordering::SeqCst);
        Ok(std::fs::write(self.path(), file(&self.addresses, settings))?)
    }

    /// The configuration file.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("course-gc.yaml")
    }

    fn config(&self) -> Result<Config> {
        Ok(Config::load(&self.path(), environment(&self.addresses))?)
    }

    /// A collector as the program makes it.
    pub fn collector(&self) -> Result<Collector> {
        Ok(course_gc::app::collector(&self.config()?)?)
    }

    /// Its ledger.
    pub fn ledger(&self) -> Result<PostgresLedger> {
        Ok(course_gc::app::ledger(&self.config()?)?)
    }

    /// Its liveness source, the only one.
    pub fn source(&self) -> Result<LivenessSource> {
        Ok(course_gc::app::liveness(&self.config()?).sources.remove(0))
    }

    /// A collector that asks this query for what is live.
    pub fn asking(&self, query: &str) -> Result<Collector> {
        let source = LivenessSource { query: query.into(), ..self.source()? };
        let mut collector = self.collector()?;
        collector.liveness = Arc::new(PostgresSources { id_type: collector.id_type, sources: vec![source] });
        Ok(collector)
    }

    /// Adopts what can be, once for each configuration, as whoever installs it would.
    pub async fn adopt_once(&self) -> Result<()> {
        if !self.adopted.swap(true, Ordering::SeqCst) {
            // What cannot be adopted is for the run to say.
            let _ = course_gc::adopt::adopt(&self.collector()?, true).await;
        }
        Ok(())
    }

    /// One plan, in this process.
    pub async fn plan(&self) -> Result<RunReport> {
        self.adopt_once().await?;
        Ok(self.activate(Mode::Plan).await?)
    }

    /// One run, in this process.
    pub async fn run(&self) -> Result<RunReport> {
        self.adopt_once().await?;
        Ok(self.activate(Mode::Run).await?)
    }

    async fn activate(&self, mode: Mode) -> Result<RunReport, RunError> {
        let collector = self.collector().expect("the configuration is good");
        reconcile(&collector, mode, &CancellationToken::new()).await
    }

    /// The program with these arguments, not yet started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_course-gc"));
        command.arg("--config").arg(self.path()).args(arguments);
        command.envs(environment(&self.addresses)).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs the program to its end.
    pub async fn program(&self, arguments: &[&str]) -> Result<Answer> {
        let output = self.command(arguments).output().await?;
        Ok(Answer {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8(output.stderr)?,
        })
    }

    /// Waits until no session holds a lock: the server notices some time later that one ended out of order.
    pub async fn unlocked(&self) -> Result<()> {
        let free = "SELECT NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND database = \
                    (SELECT oid FROM pg_database WHERE datname = current_database()))";
        eventually("the lock is free", async || {
            let free: bool = sqlx::query_scalar(free).fetch_one(&self.stores.postgres).await?;
            Ok(free.then_some(()))
        })
        .await
    }

    /// Waits until somebody waits for a lock of the application's on its courses.
    pub async fn waits_for_the_application(&self) -> Result<()> {
        let waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'public.courses'::regclass AND NOT granted)";
        eventually("a run waits", async || {
            let waits: bool = sqlx::query_scalar(waits).fetch_one(&self.stores.postgres).await?;
            Ok(waits.then_some(()))
        })
        .await
    }

    /// Lets every orphan's clock gain so much, as if the runs had been so far apart.
    pub async fn age(&self, interval: &str) -> Result<()> {
        let statement = format!("UPDATE course_gc.orphans SET counted_at = counted_at - interval '{interval}'");
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&self.stores.postgres).await?;
        Ok(())
    }
}

/// Asks until there is an answer, and gives up after a minute.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let asked = async {
        loop {
            if let Some(answer) = ask().await? {
                return Ok(answer);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asked)
        .await
        .with_context(|| format!("waited in vain until {what}"))?
}
