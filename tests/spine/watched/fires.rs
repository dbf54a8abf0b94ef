//! The campus is broken in each way that has an alert, and the alert fires in a real Prometheus.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use sandbox::campus::{Campus, CampusSize};
use sandbox::config::Settings;
use sandbox::{Addresses, Prometheus, Watching, World};
use tokio::time::{sleep, timeout};

use super::alerts::names;
use super::{QUICK, impatient_rules};
use crate::serve::{Serving, hold};
use crate::support::{Installation, eventually};

const IN_TIME: Duration = Duration::from_secs(90);

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Who watches all installations of a test, each under the name of its job.
struct Watch {
    prometheus: Prometheus,
    targets: Mutex<Vec<(&'static str, SocketAddr)>>,
    fired: Mutex<BTreeSet<String>>,
}

impl Watch {
    async fn begin() -> Result<Self> {
        let watching = Watching { interval: "500ms", rules: impatient_rules()? };
        let prometheus = Prometheus::start(&watching).await?;
        Ok(Self { prometheus, targets: Mutex::default(), fired: Mutex::default() })
    }

    /// Scrapes these replicas of a job, and no others of it.
    fn scrape(&self, job: &'static str, replicas: &[&Serving]) -> Result<()> {
        let mut targets = self.targets.lock().unwrap();
        targets.retain(|(of, _)| *of != job);
        targets.extend(replicas.iter().map(|serving| (job, serving.address)));
        self.prometheus.scrape(&targets)
    }

    async fn firing(&self, job: &str) -> Result<BTreeSet<String>> {
        let alerts = self.prometheus.alerts().await?;
        let firing = alerts.into_iter().filter(|(_, of, state)| of == job && state == "firing");
        Ok(firing.map(|(name, ..)| name).collect())
    }

    /// Breaks something again and again, until the alert fires.
    async fn fires_while(&self, job: &str, alert: &str, mut breaking: impl AsyncFnMut() -> Result<()>) -> Result<()> {
        let seen = async {
            while !self.firing(job).await?.contains(alert) {
                breaking().await?;
                sleep(Duration::from_millis(100)).await;
            }
            self.fired.lock().unwrap().insert(alert.to_owned());
            Ok(())
        };
        let seen: Result<Result<()>, _> = timeout(IN_TIME, seen).await;
        match seen {
            Ok(seen) => seen,
            Err(_) => anyhow::bail!("{alert} of {job} does not fire; these do: {:?}", self.firing(job).await?),
        }
    }

    async fn fires(&self, job: &str, alert: &str) -> Result<()> {
        self.fires_while(job, alert, async || Ok(())).await
    }

    /// Waits until Prometheus knows that a series of a job is more than 0.
    async fn knows(&self, job: &str, series: &str) -> Result<()> {
        let query = format!("{series}{{job=\"{job}\"}} > 0");
        eventually(&query, async || Ok((!self.prometheus.query(&query).await?.is_empty()).then_some(()))).await
    }
}

fn each_second(limits: &[&str]) -> Settings {
    let limits = limits.iter().map(|line| (*line).to_owned()).collect();
    Settings { cron: "* * * * * *".into(), limits, ..Settings::default() }
}

async fn sql(installation: &Installation, statement: &'static str) -> Result<u64> {
    Ok(sqlx::raw_sql(statement).execute(&installation.stores.postgres).await?.rows_affected())
}

/// What people and gates hold; and what must never happen.
async fn held(watch: &Watch, addresses: Addresses) -> Result<()> {
    const JOB: &str = "held";
    let settings = each_second(&["breaker_courses: 1"]);
    let (installation, campus) = Installation::over(addresses, &settings, CampusSize::default()).await?;
    let serving = Serving::start_with(&installation, &[QUICK])?;
    serving.ready().await?;
    watch.scrape(JOB, &[&serving])?;
    watch.knows(JOB, "course_gc_last_success_timestamp_seconds").await?;
    let mut firing = watch.firing(JOB).await?;
    // Where much else is done, a run may take four seconds.
    firing.remove("CourseGcNoRecentSuccess");
    ensure!(firing.is_empty(), "all is well: {firing:?}");

    // A dozen courses leave everything behind, at once.
    let deleted = campus.delete_doomed(&installation.stores).await?;
    watch.fires(JOB, "CourseGcBreakerOpen").await?;
    watch.fires(JOB, "CourseGcLeakRateJumped").await?;
    watch.fires(JOB, "CourseGcNoRecentSuccess").await?;
    watch
        .fires_while(JOB, "CourseGcOrphansOverdue", async || {
            sql(&installation, "UPDATE course_gc.orphans SET accrued_ms = 432000000 WHERE evidence = 'departed'")
                .await?;
            Ok(())
        })
        .await?;
    // One of them was promised to be cleaned up, two days ago.
    let dead = deleted.first().context("nothing was deleted")?.to_string();
    sqlx::query(
        "INSERT INTO course_gc.requests (id, course_id, timing, requested_by, requested_at) \
         VALUES (gen_random_uuid(), $1, 'after_delete', 'test', now() - interval '2 days')",
    )
    .bind(dead)
    .execute(&installation.stores.postgres)
    .await?;
    watch.fires(JOB, "CourseGcCleanupStuck").await?;
    ensure!(installation.program(&["pause", "--reason", "an exam"]).await?.code == Some(0));
    watch.fires(JOB, "CourseGcPaused").await?;
    // A run was killed right after it deleted something of a course that lives.
    let live = campus.courses.iter().filter(|course| course.doom.is_none()).map(|course| course.id);
    let live: Vec<_> = live.collect();
    sqlx::query(
        "INSERT INTO course_gc.intents (run_id, store, courses, handles) VALUES (gen_random_uuid(), 'cache', $1, 1)",
    )
    .bind(vec![live[0].to_string()])
    .execute(&installation.stores.postgres)
    .await?;
    watch.fires(JOB, "CourseGcLiveAfterDelete").await?;
    for course in live.iter().take(live.len() / 2) {
        campus.delete_row(&installation.stores, *course).await?;
    }
    watch.fires(JOB, "CourseGcHalted").await?;
    sql(&installation, "UPDATE course_gc.pinned_sources SET pin = jsonb_set(pin, '{database}', '\"another\"')").await?;
    watch.fires(JOB, "CourseGcPinMismatch").await?;
    serving.end(Signal::TERM).await?;
    Ok(())
}

/// What does not answer, or is not ours.
async fn broken(watch: &Watch, addresses: Addresses) -> Result<()> {
    const JOB: &str = "broken";
    let installation = Installation::new(addresses, &each_second(&[])).await?;
    Campus::plan(CampusSize::default()).seed(&installation.stores).await?;
    let serving = Serving::start_with(&installation, &[QUICK])?;
    serving.ready().await?;
    watch.scrape(JOB, &[&serving])?;
    watch.fires(JOB, "CourseGcNeverSucceeded").await?;
    // Not while a run is under way.
    eventually("it is adopted", async || {
        Ok((installation.program(&["adopt", "--yes"]).await?.code == Some(0)).then_some(()))
    })
    .await?;
    watch.knows(JOB, "course_gc_last_success_timestamp_seconds").await?;
    let configuration = std::fs::read_to_string(installation.path())?;
    std::fs::write(installation.path(), configuration.replace("schedule:", "shedule:"))?;
    watch.fires(JOB, "CourseGcConfigRefused").await?;
    std::fs::write(installation.path(), configuration)?;
    sql(&installation, "DELETE FROM course_gc.adopted_stores WHERE store = 'enrichments'").await?;
    watch.fires(JOB, "CourseGcStoreNotAdopted").await?;
    serving.end(Signal::TERM).await?;

    // Nothing of what it is told to look at is there.
    let nowhere = format!("127.0.0.1:{}", sandbox::free_port()?);
    let gone = |root: &str| installation.addresses.files.join("gone").join(root).display().to_string();
    let serving = Serving::start_with(
        &installation,
        &[
            QUICK,
            ("COURSE_GC_STORES_CACHE_URL", &format!("redis://{nowhere}/0")),
            ("COURSE_GC_STORES_VECTORS_URL", &format!("http://{nowhere}")),
            ("COURSE_GC_STORES_UPLOADS_ROOT", &gone("uploads")),
            ("COURSE_GC_STORES_ENRICHMENTS_ROOT", &gone("enrichments")),
        ],
    )?;
    serving.ready().await?;
    watch.scrape(JOB, &[&serving])?;
    watch.fires(JOB, "CourseGcStoreIncomplete").await?;
    watch.fires(JOB, "CourseGcRunsFail").await?;
    sql(&installation, "ALTER SCHEMA course_gc RENAME TO elsewhere").await?;
    watch.fires(JOB, "CourseGcLedgerDown").await?;
    sql(&installation, "ALTER SCHEMA elsewhere RENAME TO course_gc").await?;
    serving.end(Signal::TERM).await?;
    Ok(())
}

/// What is kept; and who keeps it.
async fn kept(watch: &Watch, addresses: Addresses) -> Result<()> {
    const JOB: &str = "kept";
    let tokens = tempfile::tempdir()?;
    let file = tokens.path().join("web");
    std::fs::write(&file, TOKEN)?;
    let api = vec!["tokens:".to_owned(), format!("  web: {{file: {}, scopes: [cleanup]}}", file.display())];
    let settings = Settings { quarantine: vec!["keep: 4s".to_owned()], api, ..each_second(&[]) };
    let (installation, campus) = Installation::over(addresses, &settings, CampusSize::default()).await?;
    let serving = Serving::start_with(&installation, &[QUICK, ("COURSE_GC_API_LIVE_CLEANUPS_PER_HOUR", "1")])?;
    serving.ready().await?;
    watch.scrape(JOB, &[&serving])?;
    watch.knows(JOB, "course_gc_last_success_timestamp_seconds").await?;
    let live = campus.courses.iter().find(|course| course.doom.is_none()).context("a course that stays")?.id;
    // Another test of this process may have named it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let asked = reqwest::Client::new()
        .post(format!("http://{}/v1/courses/{live}/cleanup?async=true", serving.address))
        .bearer_auth(TOKEN)
        .header("content-type", "application/json")
        .body(r#"{"intent": "before_delete", "at_once": true}"#);
    let answer = asked.send().await?;
    ensure!(answer.status() == 202, "{answer:?}");
    watch.fires(JOB, "CourseGcLiveCourseCleaned").await?;
    let deleted = campus.delete_doomed(&installation.stores).await?;
    serving.beyond("course_gc_resources_deleted_total{store=\"cache\"}", 0.0).await?;
    for course in deleted {
        campus.revive(&installation.stores, course).await?;
    }
    watch.fires(JOB, "CourseGcLiveAgain").await?;
    let archives = serving.metric("course_gc_quarantine_archive_bytes").await?;
    ensure!(archives > 0.0, "copies of who is live again are kept");
    serving.end(Signal::TERM).await?;

    let nearly = format!("{:.0}B", archives * 1.1);
    // And no disk is as empty as this asks for.
    let room = [QUICK, ("COURSE_GC_QUARANTINE_MAX_SIZE", nearly.as_str()), ("COURSE_GC_QUARANTINE_MIN_FREE", "100%")];
    let first = Serving::start_with(&installation, &room)?;
    let second = Serving::start_with(&installation, &room)?;
    first.ready().await?;
    second.ready().await?;
    watch.scrape(JOB, &[&first, &second])?;
    watch.fires(JOB, "CourseGcQuarantineNearlyFull").await?;
    watch.fires(JOB, "CourseGcQuarantineDiskNearlyFull").await?;

    // One is at work, and loses its locks without noticing; so the other begins.
    let held = hold(&installation).await?;
    let lose = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity JOIN pg_locks USING (pid) \
                WHERE locktype = 'advisory' AND granted AND state = 'idle' AND datname = current_database()";
    watch
        .fires_while(JOB, "CourseGcTwoLeaders", async || {
            let lead = first.metric("course_gc_leader").await? + second.metric("course_gc_leader").await?;
            if lead == 1.0 {
                sql(&installation, lose).await?;
            }
            Ok(())
        })
        .await?;
    held.rollback().await?;
    first.end(Signal::TERM).await?;
    second.end(Signal::TERM).await?;
    Ok(())
}

#[tokio::test]
async fn every_alert_fires_when_the_campus_is_broken_in_its_way() -> Result<()> {
    let watch = Watch::begin().await?;
    // Nobody is scraped yet.
    watch.fires("", "CourseGcDown").await?;
    let (one, two, three) = tokio::try_join!(World::create(), World::create(), World::create())?;
    tokio::try_join!(held(&watch, one.addresses()), broken(&watch, two.addresses()), kept(&watch, three.addresses()))?;
    ensure!(!watch.firing("").await?.contains("CourseGcDown"), "they were scraped meanwhile");
    assert_eq!(watch.fired.into_inner().unwrap(), names()?, "each alert that there is has been seen");
    Ok(())
}
