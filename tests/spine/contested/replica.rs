//! One of the replicas, and the servers behind the proxies that only it uses.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use sandbox::{Behaviour, Postgres, Proxy, Qdrant, Redis};
use tokio::time::Instant;

use crate::serve::Serving;
use crate::support::Installation;

/// What the replicas are called; each is a role of its own in Postgres.
pub const NAMES: [&str; 3] = ["first", "second", "third"];

/// By how much a slow replica's cache answers later: a round's keys, one a batch, take half a minute then.
const LATE: Duration = Duration::from_millis(300);

/// The servers of the stores and of the truth.
pub struct Servers {
    pub postgres: Postgres,
    pub redis: Redis,
    pub qdrant: Qdrant,
}

/// A `serve` whose traffic passes here.
pub struct Replica {
    pub name: &'static str,
    serving: Option<Serving>,
    postgres: Proxy,
    redis: Proxy,
    qdrant: Proxy,
}

impl Replica {
    pub fn start(name: &'static str, installation: &Installation, servers: &Servers) -> Result<Self> {
        let mut replica = Self {
            name,
            serving: None,
            postgres: Proxy::before(servers.postgres.port())?,
            redis: Proxy::before(servers.redis.port())?,
            qdrant: Proxy::before(servers.qdrant.port())?,
        };
        // Each pipeline of deletes begins with the script that deletes; a delete of points with the collection's name and `wait: true`.
        replica.redis.note(b"UNLINK");
        replica.qdrant.note(format!("{}\x10\x01", installation.addresses.collection()).as_bytes());
        // Of the test before.
        let _ = std::fs::remove_file(replica.log());
        replica.start_again(installation)?;
        Ok(replica)
    }

    /// Starts it, as it was not there or was killed.
    pub fn start_again(&mut self, installation: &Installation) -> Result<()> {
        let postgres = format!("postgres://{}@127.0.0.1:{}/campus", self.name, self.postgres.port());
        let variables = [
            ("COURSE_GC_LIVENESS_CAMPUS_URL", postgres.as_str()),
            ("COURSE_GC_STORES_ROWS_URL", postgres.as_str()),
            ("COURSE_GC_STORES_CACHE_URL", &format!("redis://127.0.0.1:{}/0", self.redis.port())),
            ("COURSE_GC_STORES_VECTORS_URL", &format!("http://127.0.0.1:{}", self.qdrant.port())),
        ];
        self.serving = Some(Serving::start_logged(installation, &variables, &self.log())?);
        Ok(())
    }

    /// What it logged, in all of its lives; there until the next test.
    pub fn log(&self) -> PathBuf {
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("contested-{}.log", self.name))
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.serving.as_ref().context("it serves")?.signal(signal)
    }

    pub async fn kill(&mut self) -> Result<()> {
        let ended = self.serving.take().context("it serves")?.end(Signal::KILL).await?;
        ensure!(ended.code().is_none(), "it ended by itself: {ended}");
        Ok(())
    }

    pub async fn end(&mut self) -> Result<()> {
        let ended = self.serving.take().context("it serves")?.end(Signal::TERM).await?;
        ensure!(ended.code() == Some(0), "{} ended with {ended}", self.name);
        Ok(())
    }

    /// Cuts its connections to Postgres; it may make new ones.
    pub fn cut_off(&self) {
        self.postgres.switch(Behaviour::Drop);
    }

    /// Its cache answers late, so that its sweeps take long, or as soon as it can again.
    pub fn slow(&self, slow: bool) {
        self.redis.switch(if slow { Behaviour::Delay(LATE) } else { Behaviour::Pass });
    }

    /// Nothing passes between it and Postgres any more, though its connections stay open.
    pub fn unheard(&self) {
        self.postgres.switch(Behaviour::Silent);
    }

    /// It may make new connections; those that nothing passed end.
    pub fn heard_again(&self) {
        self.postgres.switch(Behaviour::Pass);
    }

    /// When it sent deletes, by store.
    pub fn deletes(&self) -> impl Iterator<Item = (&'static str, Instant)> {
        let keys = self.redis.noted().into_iter().map(|at| ("cache", at));
        keys.chain(self.qdrant.noted().into_iter().map(|at| ("vectors", at)))
    }
}
