//! Killed at named points, and started again: S11.
//!
//! The process to be killed is this test binary again, with one test to run: [`a_run_that_kills_itself`]. It runs once on
//! the configuration that it is given, and sends itself SIGKILL at the n-th event of one moment in one store.

use std::collections::BTreeSet;
use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use course_gc::config::Config;
use course_gc::domain::report::{Mode, RunReport, Verdict};
use course_gc::reconcile::{RunError, reconcile};
use rustix::process::{Signal, getpid, kill_process};
use sandbox::campus::{Campus, CampusSize, CourseId};
use sandbox::config::{Settings, environment};
use sandbox::{Difference, Resource, Snapshot, World};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context as LayerContext, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::support::Installation;

mod elsewhere;

/// What tells the helper below that it was started to be killed: store, moment and number, with a blank between each two.
const KILL: &str = "SPINE_KILL";
/// The configuration file on which it runs.
const CONFIG: &str = "SPINE_CONFIG";
/// How long the locks of a killed process may be seen as held.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where a process is to be killed.
#[derive(Clone, Copy, Debug)]
struct Point {
    store: &'static str,
    moment: &'static str,
    /// The first event is 1.
    number: u64,
}

impl Point {
    fn read(text: &str) -> Option<(String, String, u64)> {
        let mut words = text.split(' ').map(ToOwned::to_owned);
        Some((words.next()?, words.next()?, words.next()?.parse().ok()?))
    }
}

/// Sends SIGKILL to its own process at a moment.
struct Killer {
    store: String,
    moment: String,
    left: AtomicU64,
}

impl<S: Subscriber> Layer<S> for Killer {
    fn on_event(&self, event: &Event<'_>, _: LayerContext<'_, S>) {
        if event.metadata().target() != "course_gc::moment" {
            return;
        }
        let mut seen = Seen::default();
        event.record(&mut seen);
        let is_this = seen.store == self.store && seen.moment == self.moment;
        if is_this && self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            // Whoever started this process notices if it was not killed.
            _ = kill_process(getpid(), Signal::KILL);
        }
    }
}

/// Which store an event names, and which moment.
#[derive(Default)]
struct Seen {
    store: String,
    moment: String,
}

impl Visit for Seen {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "store" => self.store = value.to_owned(),
            "moment" => self.moment = value.to_owned(),
            _ => {}
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// Not a test by itself: what the tests below start in a process of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_kills_itself() -> Result<()> {
    let Ok(point) = std::env::var(KILL) else { return Ok(()) };
    let (store, moment, number) = Point::read(&point).context("store, moment and number")?;
    tracing_subscriber::registry().with(Killer { store, moment, left: AtomicU64::new(number) }).try_init()?;
    let path = std::env::var(CONFIG)?;
    let config = Config::load(path.as_ref(), std::env::vars())?;
    let collector = course_gc::app::collector(&config)?;
    reconcile(&collector, Mode::Run, &CancellationToken::new()).await?;
    Ok(())
}

/// Starts a run in another process and makes sure that it was killed where it should be.
async fn killed_at(installation: &Installation, point: Point) -> Result<()> {
    let Point { store, moment, number } = point;
    let output = Command::new(std::env::current_exe()?)
        .args(["--exact", "killed::a_run_that_kills_itself", "--nocapture"])
        .env(KILL, format!("{store} {moment} {number}"))
        .env(CONFIG, installation.path())
        .envs(environment(&installation.addresses))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    assert_eq!(output.status.signal(), Some(Signal::KILL.as_raw()), "{point:?}: {output:?}");
    assert!(open_intents(installation).await?.contains(store), "{point:?}: an intent is open");
    Ok(())
}

/// The stores with an intent whose outcome nobody wrote.
async fn open_intents(installation: &Installation) -> Result<BTreeSet<String>> {
    let stores: Vec<String> =
        sqlx::query_scalar("SELECT DISTINCT store FROM course_gc.intents WHERE closed_at IS NULL")
            .fetch_all(&installation.stores.postgres)
            .await?;
    Ok(stores.into_iter().collect())
}

/// An ordinary run, as soon as the server has noticed that the killed process is gone.
async fn run(installation: &Installation) -> Result<RunReport> {
    let unlocked = async {
        loop {
            match installation.run().await {
                Err(error) if locked(&error) => tokio::time::sleep(Duration::from_millis(20)).await,
                ended => return ended,
            }
        }
    };
    tokio::time::timeout(PATIENCE, unlocked).await.context("the locks of a killed process are still held")?
}

fn locked(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(RunError::Locked(_)))
}

/// A campus from which courses are deleted group by group, and a collector without grace.
struct Scene {
    _world: World,
    installation: Installation,
    campus: Campus,
    /// What was there at first.
    before: Snapshot,
    doomed: Vec<CourseId>,
    deleted: BTreeSet<CourseId>,
}

impl Scene {
    async fn set() -> Result<Self> {
        let world = World::create().await?;
        let settings =
            Settings { departed: "0s".to_owned(), limits: vec!["refuse_drop: 50%".to_owned()], ..Settings::default() };
        let size = CampusSize { courses: 120, doomed: 47, points: 2, ..CampusSize::default() };
        let (installation, campus) = Installation::over(world.addresses(), &settings, size).await?;
        let before = Snapshot::take(&installation.stores).await?;
        let doomed = campus.doomed().into_iter().collect();
        Ok(Self { _world: world, installation, campus, before, doomed, deleted: BTreeSet::new() })
    }

    /// Deletes the rows of so many more courses.
    async fn delete(&mut self, courses: usize) -> Result<Vec<CourseId>> {
        let group: Vec<CourseId> = self.doomed.drain(..courses).collect();
        for course in &group {
            self.campus.delete_row(&self.installation.stores, *course).await?;
        }
        self.deleted.extend(&group);
        Ok(group)
    }

    async fn difference(&self) -> Result<Difference> {
        Ok(self.before.diff(&Snapshot::take(&self.installation.stores).await?))
    }

    /// Nothing but everything that was to go has gone, and no intent is open.
    async fn is_as_if_nobody_was_killed(&self, point: Point) -> Result<()> {
        let Difference { gone, added, changed } = self.difference().await?;
        let unkilled = self.campus.gone(&self.deleted);
        let differs: Vec<&Resource> = gone.symmetric_difference(&unkilled).collect();
        assert!(
            differs.is_empty() && added.is_empty() && changed.is_empty(),
            "{point:?}: {differs:?} {added:?} {changed:?}"
        );
        assert_eq!(open_intents(&self.installation).await?, BTreeSet::new(), "{point:?}");
        Ok(())
    }

    /// Kills a run at a point, and lets another one do the rest.
    async fn killed_and_started_again(&mut self, point: Point, courses: usize) -> Result<()> {
        self.delete(courses).await?;
        killed_at(&self.installation, point).await?;
        let report = run(&self.installation).await?;
        let failures: Vec<&String> =
            report.stores.iter().flat_map(|store| store.error.iter().chain(&store.failures)).collect();
        assert!(
            matches!(report.verdict, Verdict::Done | Verdict::Clean),
            "{point:?}: {:?} {failures:?}",
            report.verdict
        );
        self.is_as_if_nobody_was_killed(point).await
    }

    /// Kills a run at a point; then one of the courses comes back that has lost something and still has something. The
    /// runs that follow take nothing more of it, and everything of the others.
    async fn back_to_life(&mut self, point: Point) -> Result<()> {
        let group = self.delete(8).await?;
        killed_at(&self.installation, point).await?;
        let killed = Snapshot::take(&self.installation.stores).await?;
        let gone = self.before.diff(&killed).gone;
        let is_in_part = |course: &CourseId| {
            let belongings = Belongings::of(&self.campus, *course);
            killed.resources().any(|it| belongings.contain(it)) && gone.iter().any(|it| belongings.contain(it))
        };
        let course =
            group.into_iter().find(is_in_part).with_context(|| format!("{point:?}: a course that is in part gone"))?;
        self.campus.revive(&self.installation.stores, course).await?;
        self.deleted.remove(&course);

        for _ in 0..2 {
            run(&self.installation).await?;
        }
        let belongings = Belongings::of(&self.campus, course);
        let after = Snapshot::take(&self.installation.stores).await?;
        let since = killed.diff(&after);
        assert!(!since.gone.iter().any(|it| belongings.contain(it)), "{point:?}: taken from a live course: {since:?}");
        let is_back = since.added.iter().all(|it| belongings.contain(it));
        assert!(since.changed.is_empty() && is_back, "{point:?}: only what was taken of it is put back: {since:?}");
        let mut others = self.before.diff(&after).gone;
        others.retain(|it| !belongings.contain(it));
        assert_eq!(others, self.campus.gone(&self.deleted), "{point:?}");
        assert_eq!(open_intents(&self.installation).await?, BTreeSet::new(), "{point:?}");
        Ok(())
    }
}

/// What is one course's, be it in the trash.
struct Belongings {
    planned: BTreeSet<Resource>,
    trash: String,
}

impl Belongings {
    fn of(campus: &Campus, course: CourseId) -> Self {
        let planned = campus.only(course).fates(&BTreeSet::new()).into_keys().collect();
        Self { planned, trash: format!("/.course-gc/trash/{course}.") }
    }

    fn contain(&self, resource: &Resource) -> bool {
        let is_trash = matches!(resource, Resource::File(path) if path.contains(&self.trash));
        is_trash || self.planned.contains(resource)
    }
}

/// Every moment of one store. Batches have 1, 10, 100, … handles, so that the given numbers are in the second batch, or
/// later; `deleting` is where a part of what the store was sent has gone.
async fn killed_in(store: &'static str, deleting: u64) -> Result<()> {
    let mut scene = Scene::set().await?;
    let point = |moment, number| Point { store, moment, number };
    scene.killed_and_started_again(point("intended", 1), 5).await?;
    scene.killed_and_started_again(point("copied", 2), 5).await?;
    scene.killed_and_started_again(point("deleting", deleting), 24).await?;
    scene.killed_and_started_again(point("deleted", 2), 5).await?;
    scene.back_to_life(point("deleting", 1)).await
}

#[tokio::test]
async fn s11_killed_while_vectors_go() -> Result<()> {
    killed_in("vectors", 2).await
}

/// A pipeline has 100 keys: the fourth is the first of two in the fourth batch.
#[tokio::test]
async fn s11_killed_while_keys_go() -> Result<()> {
    killed_in("cache", 4).await
}

/// A directory has one such moment, when it was moved into quarantine.
#[tokio::test]
async fn s11_killed_while_uploads_go() -> Result<()> {
    killed_in("uploads", 3).await
}

#[tokio::test]
async fn s11_killed_while_enrichments_go() -> Result<()> {
    killed_in("enrichments", 4).await
}
