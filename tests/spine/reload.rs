//! A configuration and secrets that change while `course-gc serve` runs, as Kubernetes changes what is mounted.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use sandbox::campus::{Campus, CampusSize};
use sandbox::config::{Settings, file};
use sandbox::{Addresses, Difference, Postgres, Snapshot, World};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::serve::Serving;
use crate::support::{Installation, eventually};

const APPLIED: &str = "course_gc_config_reloads_total{outcome=\"applied\"}";
const REFUSED: &str = "course_gc_config_reloads_total{outcome=\"refused\"}";
const CURRENT: &str = "course_gc_config_last_reload_successful";
const CLEAN: &str = "course_gc_runs_total{mode=\"run\",verdict=\"clean\"}";
const HELD: &str = "course_gc_runs_total{mode=\"run\",verdict=\"held\"}";
const DONE: &str = "course_gc_runs_total{mode=\"run\",verdict=\"done\"}";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A volume as the kubelet writes it: each version in a folder of its own, and a link that is swapped.
struct Volume {
    folder: PathBuf,
    version: u32,
}

impl Volume {
    /// Takes the place of a file that is there.
    fn around(file: &Path) -> Result<Self> {
        let (folder, name) = (file.parent().context("a folder")?, file.file_name().context("a name")?);
        let text = std::fs::read_to_string(file)?;
        std::fs::remove_file(file)?;
        symlink(Path::new("..data").join(name), file)?;
        let mut volume = Self { folder: folder.to_owned(), version: 0 };
        volume.mount(file, &text)?;
        Ok(volume)
    }

    fn mount(&mut self, file: &Path, text: &str) -> Result<()> {
        self.version += 1;
        let version = format!("..{}", self.version);
        std::fs::create_dir(self.folder.join(&version))?;
        std::fs::write(self.folder.join(&version).join(file.file_name().context("a name")?), text)?;
        symlink(&version, self.folder.join("..data_tmp"))?;
        Ok(std::fs::rename(self.folder.join("..data_tmp"), self.folder.join("..data"))?)
    }
}

/// With a run each second.
fn settings(departed: &str) -> Settings {
    let limits = vec!["call_timeout: 1m".into()];
    Settings { cron: "* * * * * *".into(), departed: departed.into(), limits, ..Settings::default() }
}

/// Waits for a run that began after now, and ended clean.
async fn another_two(serving: &Serving) -> Result<()> {
    serving.beyond(CLEAN, serving.metric(CLEAN).await? + 1.0).await
}

#[tokio::test]
async fn a_changed_configuration_takes_effect_between_runs_and_a_bad_one_never() -> Result<()> {
    let world = World::create().await?;
    let installation = Installation::new(world.addresses(), &settings("30d")).await?;
    let campus = Campus::plan(CampusSize { doomed: 8, ..CampusSize::default() });
    campus.seed(&installation.stores).await?;
    installation.adopt_once().await?;
    let (path, addresses) = (installation.path(), &installation.addresses);
    let mut volume = Volume::around(&path)?;
    let serving = Serving::start(&installation)?;
    serving.ready().await?;
    another_two(&serving).await?;
    let deleted = campus.delete_doomed(&installation.stores).await?;
    let before = Snapshot::take(&installation.stores).await?;
    another_two(&serving).await?;
    let difference = async || -> Result<Difference> { Ok(before.diff(&Snapshot::take(&installation.stores).await?)) };
    assert_eq!(difference().await?, Difference::default(), "a grace of a month holds all of it");
    assert_eq!(
        (serving.metric(APPLIED).await?, serving.metric(REFUSED).await?, serving.metric(CURRENT).await?),
        (0.0, 0.0, 1.0)
    );

    // What is wrong is refused whole, though its grace would let everything go; and told once.
    let good = file(addresses, &settings("0s"));
    volume.mount(&path, &good.replace("schedule:", "shedule:"))?;
    serving.beyond(REFUSED, 0.0).await?;
    assert_eq!((serving.metric(APPLIED).await?, serving.metric(CURRENT).await?), (0.0, 0.0));
    another_two(&serving).await?;
    assert_eq!(difference().await?, Difference::default(), "the old one goes on");
    assert_eq!(serving.metric(REFUSED).await?, 1.0);

    // What is right takes effect: the next run knows another grace, and callers another API.
    assert_eq!(serving.get_as("/v1/runs", TOKEN).await?.status, 404);
    let token = path.with_file_name("token");
    std::fs::write(&token, TOKEN)?;
    let api = vec!["tokens:".to_owned(), format!("  web: {{file: {}, scopes: [read]}}", token.display())];
    volume.mount(&path, &file(addresses, &Settings { api, ..settings("0s") }))?;
    serving.beyond(APPLIED, 0.0).await?;
    assert_eq!((serving.metric(CURRENT).await?, serving.metric("course_gc_config_needs_restart").await?), (1.0, 0.0));
    serving.beyond(DONE, 0.0).await?;
    let gone = campus.gone(&deleted).into_iter().filter(|resource| before.contains(resource)).collect();
    let gone = Difference { gone, ..Difference::default() };
    eventually("all leaks are gone", async || Ok((difference().await? == gone).then_some(()))).await?;
    assert_eq!(serving.metric("course_gc_config_grace_seconds{evidence=\"departed\"}").await?, 0.0);
    assert_eq!(serving.get_as("/v1/runs", TOKEN).await?.status, 200);
    assert_eq!(serving.get("/v1/runs").await?.status, 401);

    // What logs was there before it, and says so.
    volume.mount(&path, &format!("{good}log: {{ level: debug }}\n"))?;
    serving.beyond(APPLIED, 1.0).await?;
    assert_eq!(serving.metric("course_gc_config_needs_restart").await?, 1.0);
    assert_eq!(serving.get_as("/v1/runs", TOKEN).await?.status, 404, "the API is gone again");

    // A changed query is another truth: it waits for a person, as after a restart.
    let query = good.replace("SELECT id FROM public.courses\n", "SELECT id FROM public.courses WHERE true\n");
    ensure!(query != good);
    let held = serving.metric(HELD).await?;
    volume.mount(&path, &query)?;
    serving.beyond(HELD, held).await?;
    volume.mount(&path, &good)?;
    another_two(&serving).await?;
    assert_eq!(serving.end(Signal::TERM).await?.code(), Some(0));
    installation.unlocked().await
}

/// A server that asks `course_gc` for a password.
async fn guarded() -> Result<(Postgres, PgConnection)> {
    let postgres = Postgres::start().await?;
    postgres.create_database("campus").await?;
    let access = postgres.folder().join("data/pg_hba.conf");
    let trusting = std::fs::read_to_string(&access)?;
    std::fs::write(&access, format!("host all course_gc 127.0.0.1/32 scram-sha-256\n{trusting}"))?;
    let mut admin = PgConnection::connect(&postgres.url()).await?;
    let make = "CREATE ROLE course_gc LOGIN SUPERUSER PASSWORD 'first'; SELECT pg_reload_conf()";
    sqlx::raw_sql(make).execute(&mut admin).await?;
    Ok((postgres, admin))
}

#[tokio::test]
async fn a_password_that_is_rotated_is_taken_over() -> Result<()> {
    let world = World::create().await?;
    let (postgres, mut admin) = guarded().await?;
    let addresses = Addresses { postgres: postgres.url_of("campus"), ..world.addresses() };
    let installation = Installation::new(addresses, &settings("1s")).await?;
    Campus::plan(CampusSize::default()).seed(&installation.stores).await?;
    installation.adopt_once().await?;
    let secret = installation.addresses.files.join("url");
    let url =
        |password: &str| installation.addresses.postgres.replace("//postgres@", &format!("//course_gc:{password}@"));
    std::fs::write(&secret, url("first"))?;
    let named = [("COURSE_GC_LIVENESS_CAMPUS_URL_FILE", secret.to_str().context("a path")?)];
    let serving = Serving::start_without(&installation, &["COURSE_GC_LIVENESS_CAMPUS_URL"], &named)?;
    serving.ready().await?;
    another_two(&serving).await?;

    let rotate = "ALTER ROLE course_gc PASSWORD 'second'; \
                  SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'course_gc'";
    sqlx::raw_sql(AssertSqlSafe(rotate)).execute(&mut admin).await?;
    eventually("it is not let in", async || Ok((serving.metric("course_gc_ledger_up").await? == 0.0).then_some(())))
        .await?;
    assert_eq!(serving.get("/healthz").await?.status, 200, "there is no reason to start it anew");
    std::fs::write(&secret, url("second"))?;
    serving.beyond(APPLIED, 0.0).await?;
    serving.ready().await?;
    another_two(&serving).await?;
    assert_eq!(serving.end(Signal::TERM).await?.code(), Some(0));
    Ok(())
}
