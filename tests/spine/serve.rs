//! `course-gc serve` as a cluster runs it: on schedule, asked by probes, paused, told to end, and killed beside a standby.

use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use sandbox::campus::{Campus, CampusSize};
use sandbox::config::Settings;
use sandbox::{Difference, Snapshot, World, free_port};
use serde_json::Value;
use sqlx::{Postgres, Transaction};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::time::timeout;

use crate::support::{Installation, eventually};

/// A program that was asked to end has ended then.
const IN_TIME: Duration = Duration::from_secs(6);

const LAST_SUCCESS: &str = "course_gc_last_success_timestamp_seconds";
const KEYS_DELETED: &str = "course_gc_resources_deleted_total{store=\"cache\"}";

fn runs(verdict: &str) -> String {
    format!("course_gc_runs_total{{mode=\"run\",verdict=\"{verdict}\"}}")
}

/// What the program is asked to do: run each second, and be patient with whoever holds it.
fn each_second() -> Settings {
    Settings { cron: "* * * * * *".into(), limits: vec!["call_timeout: 1m".into()], ..Settings::default() }
}

/// The program while it serves.
pub struct Serving {
    program: Child,
    /// Where it answers.
    pub address: SocketAddr,
}

/// What it answered over HTTP.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The status line and the headers, in lower case.
    pub head: String,
    /// The body.
    pub body: String,
}

impl Serving {
    /// Starts it.
    pub fn start(installation: &Installation) -> Result<Self> {
        Self::start_with(installation, &[])
    }

    /// Starts it with further variables of its environment.
    pub fn start_with(installation: &Installation, variables: &[(&str, &str)]) -> Result<Self> {
        Self::start_as(installation, &["serve"], (&[], variables))
    }

    /// The same, and adds what it logs to a file.
    pub fn start_logged(installation: &Installation, variables: &[(&str, &str)], log: &Path) -> Result<Self> {
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        Self::start_to(installation, &["serve"], (&[], variables), log.into())
    }

    /// Starts it without some variables of its environment, and with others.
    pub fn start_without(installation: &Installation, without: &[&str], variables: &[(&str, &str)]) -> Result<Self> {
        Self::start_as(installation, &["serve"], (without, variables))
    }

    fn start_as(
        installation: &Installation,
        arguments: &[&str],
        variables: (&[&str], &[(&str, &str)]),
    ) -> Result<Self> {
        Self::start_to(installation, arguments, variables, Stdio::null())
    }

    fn start_to(
        installation: &Installation,
        arguments: &[&str],
        (without, variables): (&[&str], &[(&str, &str)]),
        log: Stdio,
    ) -> Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let mut command = installation.command(arguments);
        without.iter().for_each(|name| _ = command.env_remove(name));
        command.env("COURSE_GC_HTTP_LISTEN", address.to_string());
        // One key a batch, so that a sweep of many takes a while.
        command.env("COURSE_GC_STORES_CACHE_BATCH", "1");
        command.envs(variables.iter().copied());
        Ok(Self { program: command.stdout(Stdio::null()).stderr(log).spawn()?, address })
    }

    /// Asks over a connection of its own.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.send("GET", path, "").await
    }

    /// Asks as who has this token.
    pub async fn get_as(&self, path: &str, token: &str) -> Result<Answer> {
        self.send("GET", path, &format!("Bearer {token}")).await
    }

    /// Asks with this authorization, if it is not empty.
    pub async fn send(&self, method: &str, path: &str, authorization: &str) -> Result<Answer> {
        let mut stream = TcpStream::connect(self.address).await?;
        let shown =
            if authorization.is_empty() { String::new() } else { format!("Authorization: {authorization}\r\n") };
        let request = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{shown}\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut text = String::new();
        timeout(IN_TIME, stream.read_to_string(&mut text)).await.context(path.to_owned())??;
        let (head, body) = text.split_once("\r\n\r\n").context("a head and a body")?;
        let status = head.split(' ').nth(1).context("a status")?.parse()?;
        Ok(Answer { status, head: head.to_lowercase(), body: body.to_owned() })
    }

    /// Waits until it says that it is ready.
    pub async fn ready(&self) -> Result<()> {
        eventually("it is ready", async || {
            let answer = self.get("/readyz").await.ok();
            Ok(answer.filter(|answer| answer.status == 200).map(drop))
        })
        .await
    }

    /// The value of a series that must be there.
    pub async fn metric(&self, series: &str) -> Result<f64> {
        let body = self.get("/metrics").await?.body;
        let line = body.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        Ok(line.with_context(|| format!("{series} is not in {body}"))?.parse()?)
    }

    /// Waits until a series is more than it was.
    pub async fn beyond(&self, series: &str, was: f64) -> Result<()> {
        eventually(&format!("{series} is more than {was}"), async || {
            Ok((self.metric(series).await? > was).then_some(()))
        })
        .await
    }

    /// Waits until another run has begun and ended with this verdict: what was under way may have begun before.
    async fn another_two(&self, verdict: &str) -> Result<()> {
        let ended = runs(verdict);
        self.beyond(&ended, self.metric(&ended).await? + 1.0).await
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.program.id().context("it serves")?)?).context("no pid")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Sends the signal that ends it, and waits for that.
    pub async fn end(mut self, signal: Signal) -> Result<ExitStatus> {
        self.signal(signal)?;
        let status = timeout(IN_TIME, self.program.wait()).await.context("it takes too long")??;
        assert!(self.get("/healthz").await.is_err(), "nobody listens any more");
        Ok(status)
    }
}

/// Lets runs begin, but come no further than to the note of their start, until this transaction ends.
pub async fn hold(installation: &Installation) -> Result<Transaction<'static, Postgres>> {
    let mut transaction = installation.stores.postgres.begin().await?;
    sqlx::query("LOCK TABLE course_gc.runs IN EXCLUSIVE MODE").execute(&mut *transaction).await?;
    Ok(transaction)
}

/// How many intents the ledger holds, and how many of them are open.
async fn intents(installation: &Installation) -> Result<(i64, i64)> {
    let count = "SELECT count(*), count(*) FILTER (WHERE closed_at IS NULL) FROM course_gc.intents";
    Ok(sqlx::query_as(count).fetch_one(&installation.stores.postgres).await?)
}

#[tokio::test]
async fn what_is_deleted_while_it_serves_goes_without_anyone_asking() -> Result<()> {
    let world = World::create().await?;
    let installation = Installation::new(world.addresses(), &each_second()).await?;
    // Few enough go that one more is no drop to be refused.
    let campus = Campus::plan(CampusSize { doomed: 8, ..CampusSize::default() });
    campus.seed(&installation.stores).await?;
    installation.adopt_once().await?;

    // Before the first run has done anything, every counter is there.
    let held = hold(&installation).await?;
    let serving = Serving::start(&installation)?;
    serving.ready().await?;
    let healthy = serving.get("/healthz").await?;
    assert_eq!((healthy.status, healthy.body.as_str()), (200, "ok\n"));
    let metrics = serving.get("/metrics").await?;
    assert!(metrics.head.contains("\r\ncontent-type: text/plain; version=0.0.4"), "{}", metrics.head);
    let counters = metrics.body.lines().filter(|line| line.starts_with("course_gc_") && line.contains("_total"));
    let (zero, other): (Vec<_>, Vec<_>) = counters.partition(|line| line.ends_with(" 0"));
    assert!(zero.len() > 30 && other.is_empty(), "{other:?} of {}", metrics.body);
    for series in [&runs("clean"), &runs("done"), &runs("held"), KEYS_DELETED, LAST_SUCCESS] {
        assert_eq!(serving.metric(series).await?, 0.0, "{series}");
    }
    held.rollback().await?;

    // It runs on schedule.
    serving.another_two("clean").await?;
    assert!(serving.metric(LAST_SUCCESS).await? > serving.metric("process_start_time_seconds").await?);
    assert_eq!(intents(&installation).await?.0, 0, "there was nothing to sweep");

    // What is deleted goes, and nothing else.
    let before = Snapshot::take(&installation.stores).await?;
    let deleted = campus.delete_doomed(&installation.stores).await?;
    let expected = campus.gone(&deleted).into_iter().filter(|resource| before.contains(resource)).collect();
    let expected = Difference { gone: expected, ..Difference::default() };
    serving.beyond(&runs("done"), 0.0).await?;
    let difference = async || -> Result<Difference> { Ok(before.diff(&Snapshot::take(&installation.stores).await?)) };
    eventually(
        "all leaks are gone",
        async || Ok((difference().await?.gone.len() >= expected.gone.len()).then_some(())),
    )
    .await?;
    serving.another_two("clean").await?;
    assert_eq!(difference().await?, expected);
    let deleted = "SELECT sum(deleted)::float8 FROM course_gc.intents WHERE store = 'cache'";
    let deleted: f64 = sqlx::query_scalar(deleted).fetch_one(&installation.stores.postgres).await?;
    assert_eq!(serving.metric(KEYS_DELETED).await?, deleted, "metrics and ledger count the same");

    // A pause holds what is past its grace, until it ends.
    assert_eq!(installation.program(&["pause", "--reason", "an exam"]).await?.code, Some(0));
    let next = campus.courses.iter().find(|course| course.doom.is_none()).context("a course that stays")?.id;
    campus.delete_row(&installation.stores, next).await?;
    let past_grace = "SELECT count(*) > 0 FROM course_gc.orphans WHERE course_id = $1 AND accrued_ms > 1000";
    eventually("its grace is over", async || {
        let ripe = sqlx::query_scalar::<_, bool>(past_grace).bind(next.to_string());
        Ok(ripe.fetch_one(&installation.stores.postgres).await?.then_some(()))
    })
    .await?;
    serving.another_two("held").await?;
    assert_eq!(difference().await?, expected, "nothing went");
    let done = serving.metric(&runs("done")).await?;
    assert_eq!(installation.program(&["resume"]).await?.code, Some(0));
    serving.beyond(&runs("done"), done).await?;
    serving.another_two("clean").await?;
    let after = difference().await?;
    assert!(after.gone.is_superset(&expected.gone) && after.gone.len() > expected.gone.len(), "{next} went");
    assert!(after.added.is_empty() && after.changed.is_empty(), "{after:?}");

    assert_eq!(serving.end(Signal::TERM).await?.code(), Some(0));
    assert_eq!(intents(&installation).await?.1, 0);
    installation.unlocked().await
}

#[tokio::test]
async fn a_standby_takes_over_from_one_that_was_killed_and_ends_in_order() -> Result<()> {
    let world = World::create().await?;
    let installation = Installation::new(world.addresses(), &each_second()).await?;
    let campus = Campus::plan(CampusSize { courses: 300, doomed: 60, points: 1, ..CampusSize::default() });
    campus.seed(&installation.stores).await?;
    installation.run().await?;
    let before = Snapshot::take(&installation.stores).await?;
    let deleted = campus.delete_doomed(&installation.stores).await?;
    installation.plan().await?;
    installation.age("1 minute").await?;

    // The first is in a run, holds the locks, and dies.
    let held = hold(&installation).await?;
    let first = Serving::start(&installation)?;
    let begins = "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() \
                  AND wait_event_type = 'Lock' AND query LIKE 'INSERT INTO course_gc.runs%'";
    eventually("it runs", async || {
        Ok(sqlx::query_scalar::<_, bool>(begins).fetch_one(&installation.stores.postgres).await?.then_some(()))
    })
    .await?;
    let second = Serving::start(&installation)?;
    second.ready().await?;
    second.beyond("course_gc_runs_locked_total", 0.0).await?;
    assert_eq!(second.get("/healthz").await?.status, 200);
    assert_eq!(second.metric(&runs("failed")).await?, 0.0, "to stand by is no failure");
    assert_eq!(first.end(Signal::KILL).await?.code(), None);
    held.rollback().await?;

    // The second goes on with the schedule, and is told to end in the middle of its sweep.
    eventually("it sweeps", async || Ok((intents(&installation).await?.0 > 20).then_some(()))).await?;
    assert_eq!(second.end(Signal::TERM).await?.code(), Some(0));
    assert_eq!(intents(&installation).await?.1, 0, "every batch has its outcome");
    let last: Value = sqlx::query_scalar("SELECT report FROM course_gc.runs ORDER BY started_at DESC LIMIT 1")
        .fetch_one(&installation.stores.postgres)
        .await?;
    assert_eq!((&last["verdict"], &last["stopped"]), (&"partly".into(), &true.into()));
    let Difference { gone, added, changed } = before.diff(&Snapshot::take(&installation.stores).await?);
    assert!(!gone.is_empty() && gone.is_subset(&campus.gone(&deleted)), "{gone:?}");
    assert!(added.is_empty() && changed.is_empty(), "{added:?} {changed:?}");
    installation.unlocked().await
}

#[tokio::test]
async fn s10_a_process_that_stood_still_goes_on_when_it_wakes() -> Result<()> {
    let world = World::create().await?;
    let installation = Installation::new(world.addresses(), &each_second()).await?;
    Campus::plan(CampusSize::default()).seed(&installation.stores).await?;
    installation.adopt_once().await?;
    let serving = Serving::start(&installation)?;
    serving.ready().await?;
    serving.another_two("clean").await?;
    serving.signal(Signal::STOP)?;
    // Longer than it takes to miss a few ticks.
    tokio::time::sleep(Duration::from_secs(5)).await;
    serving.signal(Signal::CONT)?;
    // Two, since one may have been under way.
    serving.another_two("clean").await?;
    assert_eq!(serving.end(Signal::TERM).await?.code(), Some(0));
    Ok(())
}

#[tokio::test]
async fn who_serves_without_runs_is_ready_and_begins_none_though_each_second_wants_one() -> Result<()> {
    let world = World::create().await?;
    let installation = Installation::new(world.addresses(), &each_second()).await?;
    Campus::plan(CampusSize::default()).seed(&installation.stores).await?;
    installation.adopt_once().await?;
    let watching = Serving::start_as(&installation, &["serve", "--without-runs"], (&[], &[]))?;
    watching.ready().await?;

    // Each of these takes long enough for one of its own to be due.
    for _ in 0..3 {
        let answer = installation.program(&["run"]).await?;
        assert_eq!(answer.code, Some(0), "{answer:?}");
    }
    let runs: i64 =
        sqlx::query_scalar("SELECT count(*) FROM course_gc.runs").fetch_one(&installation.stores.postgres).await?;
    assert_eq!(runs, 3);
    assert_eq!(watching.metric(&self::runs("clean")).await?, 0.0, "it has made none");

    // As an image's healthcheck would ask.
    let health = async |listen: SocketAddr| -> Result<Option<i32>> {
        let mut command = installation.command(&["health"]);
        Ok(command.env("COURSE_GC_HTTP_LISTEN", listen.to_string()).output().await?.status.code())
    };
    let address = watching.address;
    assert_eq!(health(SocketAddr::from(([0, 0, 0, 0], address.port()))).await?, Some(0));
    assert_eq!(watching.end(Signal::TERM).await?.code(), Some(0));
    assert_eq!(health(address).await?, Some(1), "nobody answers");
    Ok(())
}
