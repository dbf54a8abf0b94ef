//! Every fault at every stage of a run: a proxy before one server misbehaves from the chosen question on.
//!
//! Each case has the same dead courses, whose resources are put back before it. The run must end in time, touch nothing
//! else and no more than its stage allows; and once the fault is over, the next run or the one after must leave the
//! stores as an undisturbed one would.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use course_gc::domain::report::{Mode, Verdict};
use course_gc::errors::chain;
use course_gc::reconcile::{Collector, reconcile};
use futures::future::try_join_all;
use sandbox::campus::{Campus, CampusSize, Key, Owner};
use sandbox::config::{Settings, file};
use sandbox::{Behaviour, Difference, Postgres, Proxy, Qdrant, Redis, Resource, Snapshot, World};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::DOCUMENT;
use crate::interposed::{Call, interpose};
use crate::outages::store_of;
use crate::support::Installation;

/// How long the struck server is waited for where the fault is that nothing comes.
const IMPATIENT: &str = "call_timeout: 1s";
/// How long all others are waited for, on a busy machine.
const PATIENT: &str = "call_timeout: 15s";
/// A machine may be so busy that the struck server is given up before the fault begins: then the case is played again.
const ATTEMPTS: usize = 3;
/// An answer that comes so late comes too late.
const LATE: Duration = Duration::from_millis(1500);
/// An answer that comes so late still counts.
const SLOW: Duration = Duration::from_millis(5);
/// Every run must have ended by then, whatever it meets: several calls that were waited for, and the rest.
const ENDS_WITHIN: Duration = Duration::from_secs(20);

/// Three of these courses die.
const SIZE: CampusSize = CampusSize {
    seed: 1,
    ids: sandbox::campus::IdKind::Uuid,
    organizations: 2,
    courses: 24,
    doomed: 3,
    foreign: 1,
    points: 2,
    vector_size: 4,
};

/// A server that the proxy stands before, by what the document calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Struck {
    Postgres,
    Redis,
    Qdrant,
}

impl Struck {
    /// The store on that server; Postgres is behind all of them.
    fn store(self) -> Option<&'static str> {
        match self {
            Self::Postgres => None,
            Self::Redis => Some("cache"),
            Self::Qdrant => Some("vectors"),
        }
    }

    /// Not even one answer is whole after so many bytes.
    fn cut(self) -> usize {
        match self {
            Self::Postgres => 20,
            Self::Redis => 2,
            Self::Qdrant => 12,
        }
    }
}

/// When a fault begins.
#[derive(Clone, Copy, Debug)]
pub enum When {
    /// Before the run.
    First,
    /// When this was sent to the server, in this order; the last part meets the fault.
    Sent(&'static [&'static [u8]]),
    /// Before the first such call of a store, or when this was sent then.
    Before(&'static str, Call, &'static [&'static [u8]]),
}

/// How much may go of what the fault strikes: of the struck store, or with Postgres of each store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Most {
    /// Nothing was confirmed yet.
    Nothing,
    /// So many handles were confirmed at most: the batch in hand, and those before.
    Handles(usize),
    /// All of it was confirmed.
    Everything,
}

/// A stage of a run, in the document's words.
#[derive(Clone, Copy, Debug)]
pub struct Stage {
    pub name: &'static str,
    pub when: When,
    pub most: Most,
}

/// The faults, in the order of the table's columns.
fn faults(struck: Struck) -> [(&'static str, Behaviour); 7] {
    [
        ("refused", Behaviour::Refuse),
        ("silent", Behaviour::Silent),
        ("late", Behaviour::Delay(LATE)),
        ("slow", Behaviour::Delay(SLOW)),
        ("cut", Behaviour::Cut(struck.cut())),
        ("garbage", Behaviour::Garbage),
        ("dropped", Behaviour::Drop),
    ]
}

/// Plays every fault at every stage, so many at a time, and compares the table of what happened with the document.
pub async fn play(struck: Struck, stages: &[Stage], at_a_time: usize) -> Result<()> {
    let cases =
        stages.iter().enumerate().flat_map(|(row, _)| (0..faults(struck).len()).map(move |column| (row, column)));
    // What takes long is begun first.
    let mut cases: Vec<(usize, usize)> = cases.collect();
    cases.sort_by_key(|(_, column)| *column);
    let cases = Mutex::new(VecDeque::from(cases));
    let cells = Mutex::new(BTreeMap::new());
    try_join_all((0..at_a_time).map(async |_| {
        let scene = Scene::before(struck).await?;
        loop {
            let next = cases.lock().expect("nobody panicked").pop_front();
            let Some((row, column)) = next else { return anyhow::Ok(()) };
            let (fault, behaviour) = faults(struck)[column];
            let stage = stages[row];
            let what = scene.play(stage, behaviour).await.with_context(|| format!("{fault} at {}", stage.name))?;
            cells.lock().expect("nobody panicked").insert((row, column), what);
        }
    }))
    .await?;
    let cells = cells.into_inner()?;
    let columns = faults(struck).map(|(name, _)| name);
    let mut table = format!("| stage | {} |\n|{}\n", columns.join(" | "), " --- |".repeat(columns.len() + 1));
    for (row, stage) in stages.iter().enumerate() {
        let cells: Vec<&str> = (0..columns.len()).map(|column| cells[&(row, column)].as_str()).collect();
        table += &format!("| {} | {} |\n", stage.name, cells.join(" | "));
    }
    ensure!(DOCUMENT.contains(&table), "docs/faults.md should say for {struck:?}:\n\n{table}");
    Ok(())
}

/// Without grace, and with this limit.
fn settings(limit: &str) -> Settings {
    Settings { departed: "0s".to_owned(), limits: vec![limit.to_owned()], ..Settings::default() }
}

/// A campus some of whose courses are dead, and a collector that reaches one of its servers through a proxy.
struct Scene {
    struck: Struck,
    installation: Installation,
    /// The dead courses.
    dead: Campus,
    /// What lies in the stores before each case.
    full: Snapshot,
    /// What of it should go.
    doomed: BTreeSet<Resource>,
    proxy: Arc<Proxy>,
    _server: Server,
    _world: World,
}

/// The struck server, where it is this scene's own.
enum Server {
    Shared,
    Redis(#[expect(dead_code, reason = "it lives as long as its handle")] Redis),
    Qdrant(#[expect(dead_code, reason = "it lives as long as its handle")] Qdrant),
}

impl Scene {
    async fn before(struck: Struck) -> Result<Self> {
        let world = World::create().await?;
        let mut addresses = world.addresses();
        let (server, port) = match struck {
            Struck::Postgres => {
                let server = Postgres::shared().await?;
                addresses.postgres = server.create_database(&format!("faults_{}", Uuid::new_v4().simple())).await?;
                (Server::Shared, server.port())
            }
            Struck::Redis => {
                let server = Redis::start().await?;
                addresses.redis = server.url();
                let port = server.port();
                (Server::Redis(server), port)
            }
            Struck::Qdrant => {
                let server = Qdrant::start().await?;
                (addresses.qdrant, addresses.qdrant_api_key) = (server.url(), None);
                let port = server.port();
                (Server::Qdrant(server), port)
            }
        };
        let mut installation = Installation::new(addresses, &settings(PATIENT)).await?;
        let campus = Campus::plan(SIZE);
        campus.seed(&installation.stores).await?;
        let report = installation.run().await?;
        ensure!(report.verdict == Verdict::Clean, "{report:?}");
        for course in campus.doomed() {
            campus.delete_row(&installation.stores, course).await?;
        }
        let dead = campus.some(&campus.doomed());
        // A key that names a live course as well is spared, and in which batch it would be is chance.
        let mut redis = installation.stores.redis.clone();
        let is_mixed =
            |key: &&Key| matches!(&key.owner, Owner::Courses(ids) if ids.iter().any(|id| campus.doomed().contains(id)));
        for key in campus.keys.iter().filter(is_mixed) {
            redis::cmd("UNLINK").arg(&key.name).query_async::<()>(&mut redis).await?;
        }
        // From here on the collector meets the proxy; the test itself goes past it.
        let proxy = Arc::new(Proxy::before(port)?);
        let (from, to) = (format!(":{port}"), format!(":{}", proxy.port()));
        let addresses = &mut installation.addresses;
        let address = match struck {
            Struck::Postgres => &mut addresses.postgres,
            Struck::Redis => &mut addresses.redis,
            Struck::Qdrant => &mut addresses.qdrant,
        };
        *address = address.replace(&from, &to);
        let full = Snapshot::take(&installation.stores).await?;
        let doomed = campus.gone(&campus.doomed());
        Ok(Self { struck, installation, dead, full, doomed, proxy, _server: server, _world: world })
    }

    /// One run that meets a fault, and those that tidy up after it. Returns what is said of it.
    async fn play(&self, stage: Stage, fault: Behaviour) -> Result<String> {
        for _ in 0..ATTEMPTS {
            self.dead.seed_resources(&self.installation.stores).await?;
            let run = tokio::time::timeout(ENDS_WITHIN, self.activate(stage.when, fault));
            let ended = run.await.context("it hangs")??;
            let is_met = self.proxy.has_switched();
            self.proxy.switch(Behaviour::Pass);
            self.installation.unlocked().await?;
            let gone = self.gone().await?;
            let went = self.judge(stage, fault, &gone)?;
            self.recover(&gone).await?;
            if is_met {
                return Ok(format!("{ended}{went}"));
            }
        }
        bail!("the fault is never met")
    }

    /// A collector that soon gives up the struck server, and no other.
    fn collector(&self, fault: Behaviour) -> Result<Collector> {
        let configured = |limit| {
            std::fs::write(self.installation.path(), file(&self.installation.addresses, &settings(limit)))?;
            self.installation.collector()
        };
        let impatient = configured(IMPATIENT)?;
        let mut collector = configured(PATIENT)?;
        // These are over at once, or soon enough: nothing is waited for in vain.
        if matches!(fault, Behaviour::Drop | Behaviour::Delay(SLOW)) {
            return Ok(collector);
        }
        match self.struck.store() {
            None => (collector.liveness, collector.ledger) = (impatient.liveness, impatient.ledger),
            Some(store) => {
                let pairs = collector.stores.iter_mut().zip(impatient.stores);
                pairs.filter(|(its, _)| its.store.name() == store).for_each(|(its, impatient)| *its = impatient);
            }
        }
        Ok(collector)
    }

    /// The verdict, or `failed` if there is no report.
    async fn activate(&self, when: When, fault: Behaviour) -> Result<&'static str> {
        let mut collector = self.collector(fault)?;
        match when {
            When::First => self.proxy.switch(fault),
            When::Sent(needles) => self.proxy.switch_after(needles, fault),
            When::Before(store, at, needles) => {
                // Nobody ever sends this; so much for `has_switched`.
                self.proxy.switch_after(&[b"(what only the call below switches)"], fault);
                let proxy = Arc::clone(&self.proxy);
                interpose(&mut collector, store, move |call, nth| {
                    if (call, nth) == (at, 1) {
                        proxy.switch_after(needles, fault);
                    }
                    Box::pin(std::future::ready(()))
                });
            }
        }
        Ok(match reconcile(&collector, Mode::Run, &CancellationToken::new()).await {
            Ok(report) => report.verdict.as_str(),
            Err(error) => {
                ensure!(chain(&error).contains("127.0.0.1"), "it does not say where: {}", chain(&error));
                Verdict::Failed.as_str()
            }
        })
    }

    /// What has gone, by store; nothing else may have.
    async fn gone(&self) -> Result<BTreeMap<&'static str, BTreeSet<Resource>>> {
        let Difference { gone, added, changed } = self.full.diff(&Snapshot::take(&self.installation.stores).await?);
        ensure!(gone.is_subset(&self.doomed), "live: {:?}", gone.difference(&self.doomed));
        ensure!(added.is_empty() && changed.is_empty(), "added {added:?}, changed {changed:?}");
        let mut by_store: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for resource in gone {
            by_store.entry(store_of(&resource)).or_default().insert(resource);
        }
        Ok(by_store)
    }

    /// Compares what has gone with what may have. Of a struck store, says how much it was.
    fn judge(
        &self,
        stage: Stage,
        fault: Behaviour,
        gone: &BTreeMap<&'static str, BTreeSet<Resource>>,
    ) -> Result<&'static str> {
        let of = |store: &str| gone.get(store).map_or(0, BTreeSet::len);
        let all = |store: &str| self.doomed.iter().filter(|resource| store_of(resource) == store).count();
        // A slow server is a server, and who was dropped may connect again: nothing bounds what is confirmed anew.
        let most = match fault {
            Behaviour::Delay(SLOW) => Most::Everything,
            Behaviour::Drop if matches!(stage.when, When::First) => Most::Everything,
            Behaviour::Drop if self.struck != Struck::Postgres && stage.most != Most::Nothing => Most::Everything,
            _ => stage.most,
        };
        let handles = |store: &'static str| handles(gone.get(store));
        let within = |store: &'static str| match most {
            Most::Nothing => of(store) == 0,
            Most::Handles(most) => handles(store) <= most,
            Most::Everything => true,
        };
        match self.struck.store() {
            None => {
                let exceeds: Vec<_> = STORES.into_iter().filter(|store| !within(store)).collect();
                ensure!(exceeds.is_empty(), "more than {most:?} went: {gone:?}");
                Ok("")
            }
            Some(struck) => {
                ensure!(within(struck), "more than {most:?} went: {:?}", gone.get(struck));
                for other in STORES.into_iter().filter(|store| *store != struck) {
                    ensure!(of(other) == all(other), "{other} has nothing to do with it: {:?}", gone.get(other));
                }
                Ok(match of(struck) {
                    0 => ", nothing went",
                    some if some < all(struck) => ", a part went",
                    _ => ", all went",
                })
            }
        }
    }

    /// The next run, or the one after, finishes.
    async fn recover(&self, gone: &BTreeMap<&'static str, BTreeSet<Resource>>) -> Result<()> {
        for last in [false, true] {
            let report = self.installation.run().await?;
            let after = self.gone().await?;
            for (store, before) in gone {
                ensure!(after.get(store).is_some_and(|after| before.is_subset(after)), "{store}: something came back");
            }
            let is_done = after.values().map(BTreeSet::len).sum::<usize>() == self.doomed.len();
            ensure!(is_done || !last, "it does not recover: {report:?}");
            if is_done {
                let open: i64 = sqlx::query_scalar("SELECT count(*) FROM course_gc.intents WHERE closed_at IS NULL")
                    .fetch_one(&self.installation.stores.postgres)
                    .await?;
                ensure!(open == 0, "{open} intents are open");
                return Ok(());
            }
        }
        Ok(())
    }
}

/// The stores of a campus by their names in the configuration.
const STORES: [&str; 4] = ["cache", "vectors", "uploads", "enrichments"];

/// At least so many handles stood for these: a key is one, and a course has [`SIZE`]'s points or four files at most.
fn handles(gone: Option<&BTreeSet<Resource>>) -> usize {
    let Some(gone) = gone else { return 0 };
    match gone.first() {
        Some(Resource::Point(_)) => gone.len().div_ceil(SIZE.points),
        Some(Resource::File(_)) => {
            let courses: BTreeSet<&str> = gone.iter().map(directory).collect();
            courses.len()
        }
        _ => gone.len(),
    }
}

/// The course's directory of a file.
fn directory(resource: &Resource) -> &str {
    let Resource::File(path) = resource else { return "" };
    let levels = if path.starts_with("uploads/") { 3 } else { 2 };
    let end = path.match_indices('/').nth(levels - 1).map_or(path.len(), |(index, _)| index);
    &path[..end]
}
