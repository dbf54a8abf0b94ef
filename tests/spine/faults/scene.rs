//! A campus one of whose parts fails from the chosen question on.
//!
//! Each case has the same dead courses, whose resources are put back before it. The run must end in time, touch nothing
//! else and no more than its stage allows; and once the fault is over, the next run or the one after must leave the
//! stores as an undisturbed one would.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use course_gc::domain::report::{Mode, Verdict};
use course_gc::errors::chain;
use course_gc::reconcile::{Collector, reconcile};
use sandbox::campus::{Campus, CampusSize, Key, Owner};
use sandbox::config::{Settings, file};
use sandbox::{Behaviour, Difference, Postgres, Proxy, Qdrant, Redis, Resource, Snapshot, World};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::fault::{Fault, SLOW, Struck, Switch};
use super::matrix::{Most, Stage, When};
use crate::interposed::interpose;
use crate::outages::store_of;
use crate::support::Installation;

/// How long the struck server is waited for where the fault is that nothing comes.
const IMPATIENT: &str = "call_timeout: 1s";
/// How long all others are waited for, on a busy machine.
const PATIENT: &str = "call_timeout: 15s";
/// A machine may be so busy that the struck server is given up before the fault begins: then the case is played again.
const ATTEMPTS: usize = 3;
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

/// Without grace, and with this limit.
fn settings(limit: &str) -> Settings {
    Settings { departed: "0s".to_owned(), limits: vec![limit.to_owned()], ..Settings::default() }
}

/// A campus some of whose courses are dead, one of whose parts fails when it is told to.
pub struct Scene {
    struck: Struck,
    installation: Installation,
    /// The dead courses.
    dead: Campus,
    /// What lies in the stores before each case.
    full: Snapshot,
    /// What of it should go.
    doomed: BTreeSet<Resource>,
    switch: Switch,
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
    pub async fn before(struck: Struck) -> Result<Self> {
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
            Struck::Files => (Server::Shared, 0),
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
        let switch = if struck == Struck::Files {
            let root = installation.addresses.files.join("uploads");
            Switch::Root { aside: installation.addresses.files.with_extension("aside"), root }
        } else {
            Switch::Proxy(Arc::new(Proxy::before(port)?))
        };
        if let Switch::Proxy(proxy) = &switch {
            let addresses = &mut installation.addresses;
            let address = match struck {
                Struck::Redis => &mut addresses.redis,
                Struck::Qdrant => &mut addresses.qdrant,
                Struck::Postgres | Struck::Files => &mut addresses.postgres,
            };
            *address = address.replace(&format!(":{port}"), &format!(":{}", proxy.port()));
        }
        let full = Snapshot::take(&installation.stores).await?;
        let doomed = campus.gone(&campus.doomed());
        Ok(Self { struck, installation, dead, full, doomed, switch, _server: server, _world: world })
    }

    /// One run that meets a fault, and those that tidy up after it. Returns what is said of it.
    pub async fn play(&self, stage: Stage, fault: Fault) -> Result<String> {
        for _ in 0..ATTEMPTS {
            self.dead.seed_resources(&self.installation.stores).await?;
            let run = tokio::time::timeout(ENDS_WITHIN, self.activate(stage.when, fault));
            let ended = run.await.context("it hangs")??;
            let is_met = self.switch.end()?;
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
    fn collector(&self, fault: Fault) -> Result<Collector> {
        let configured = |limit| {
            std::fs::write(self.installation.path(), file(&self.installation.addresses, &settings(limit)))?;
            self.installation.collector()
        };
        let impatient = configured(IMPATIENT)?;
        let mut collector = configured(PATIENT)?;
        // These are over at once, or soon enough: nothing is waited for in vain.
        if matches!(fault, Fault::Root(_) | Fault::Server(Behaviour::Drop | Behaviour::Delay(SLOW))) {
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
    async fn activate(&self, when: When, fault: Fault) -> Result<&'static str> {
        let mut collector = self.collector(fault)?;
        match when {
            When::First => self.switch.make(fault, &[])?,
            When::Sent(needles) => self.switch.make(fault, needles)?,
            When::Before(store, at, needles) => {
                if let Switch::Proxy(proxy) = &self.switch {
                    // Nobody ever sends this: it is met only if the call comes.
                    proxy.switch_after(&[b"(what only the call below switches)"], Behaviour::Pass);
                }
                let switch = self.switch.clone();
                interpose(&mut collector, store, move |call, nth| {
                    if (call, nth) == (at, 1) {
                        switch.make(fault, needles).expect("it can be made");
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
        fault: Fault,
        gone: &BTreeMap<&'static str, BTreeSet<Resource>>,
    ) -> Result<&'static str> {
        let of = |store: &str| gone.get(store).map_or(0, BTreeSet::len);
        let all = |store: &str| self.doomed.iter().filter(|resource| store_of(resource) == store).count();
        // A slow server is a server, and who was dropped may connect again: nothing bounds what is confirmed anew.
        let most = match fault {
            Fault::Server(Behaviour::Delay(SLOW)) => Most::Everything,
            Fault::Server(Behaviour::Drop) if matches!(stage.when, When::First) => Most::Everything,
            Fault::Server(Behaviour::Drop) if self.struck != Struck::Postgres && stage.most != Most::Nothing => {
                Most::Everything
            }
            _ => stage.most,
        };
        let handles = |store: &'static str| handles(gone.get(store));
        let within = |store: &'static str| match most {
            Most::Nothing => of(store) == 0,
            Most::Handles(most) => handles(store) <= most,
            Most::HandlesOf(it, most) => store != it || handles(store) <= most,
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
