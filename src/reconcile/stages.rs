//! The stages of a run, each a function that reads, or writes, and leaves deciding to `domain`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, error_span};
use uuid::Uuid;

use super::graves::Graves;
use super::living::Living;
use super::organizations;
use super::places::{self, Places};
use super::requests::{Requests, Watched};
use super::{Collector, RunError};
use crate::clock::Clock;
use crate::domain::approvals::Digest;
use crate::domain::diff::Orphan;
use crate::domain::gates::World;
use crate::domain::holds;
use crate::domain::ids::CourseId;
use crate::domain::inventory::{Census, Inventory, Unrecognised};
use crate::domain::live_set::{Halts, LiveSet, Population, judge};
use crate::domain::markers::{Owner, Truths, truths};
use crate::domain::plan::{Breaker, Decided, Plan};
use crate::domain::report::{LiveReport, RunReport, SourceReport, StoreReport, Tally};
use crate::errors::chain;
use crate::ledger::{AcceptedSize, LedgerError, Place};
use crate::liveness::Liveness;
use crate::pace::Pace;
use crate::postgres::Lock;
use crate::stores::Store;
use crate::sweep::{Share, Sweeper, Swept};

/// The name under which all liveness sources together are counted.
const UNION: &str = "union";

/// The locks of a run.
pub struct Locks {
    /// Each liveness source's.
    pub liveness: Box<dyn Liveness>,
    /// The ledger's.
    pub ledger: Box<dyn Lock>,
    _led: Led,
}

/// Whether this process holds the locks. Clones tell the same.
#[derive(Debug, Clone, Default)]
pub struct Leading(Arc<AtomicUsize>);

impl Leading {
    /// It does, as far as it knows.
    pub fn leads(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    fn begin(&self) -> Led {
        self.0.fetch_add(1, Ordering::Relaxed);
        Led(self.clone())
    }
}

/// As long as it is there, the process leads.
struct Led(Leading);

impl Drop for Led {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Locks {
    /// Takes the ledger's lock and every liveness source's (S10).
    ///
    /// # Errors
    /// If one cannot be taken.
    pub async fn take(collector: &Collector) -> Result<Self, LedgerError> {
        let ledger = collector.ledger.lock().await?;
        match collector.liveness.lock().await {
            Ok(liveness) => Ok(Self { liveness, ledger, _led: collector.leading.begin() }),
            Err(error) => {
                ledger.release().await;
                Err(error.into())
            }
        }
    }

    /// What this installation asks, as its entries in the stores' markers tell (S7).
    pub fn truths(&self) -> Truths {
        let pins = self.liveness.pins();
        truths(pins.iter().map(|(name, pin, _)| (pin, self.liveness.server(name))))
    }

    /// Gives the locks back in order.
    pub async fn release(self) {
        self.liveness.release().await;
        self.ledger.release().await;
    }
}

/// What is live, or why the answer is not believed.
pub enum Truth {
    /// The live set, and the tombstones that are older and evidence.
    Believed(Arc<LiveSet>, Graves),
    /// Why not (S3).
    Halted(Halts),
}

/// What a store's inventory came to.
pub struct Taken {
    pub(super) identity: Option<String>,
    /// The inventory, or why there is none, with all causes.
    pub(super) inventory: Result<Inventory, String>,
    /// Why the store is not ours, if so (S7).
    pub(super) not_adopted: Option<String>,
    /// Why nobody knows what is still referred to, with all causes; found out later (S9).
    pub(super) references: Option<String>,
    /// Who is live of those that an open intent of an earlier run names; found out later (S11).
    pub(super) harmed: Vec<CourseId>,
    /// How many of their resources were put back.
    pub(super) put_back: u64,
    /// All that was taken of them is back.
    pub(super) is_made_good: bool,
    /// What could not be.
    pub(super) missing: Vec<String>,
    pub(super) took: Duration,
}

/// Reads the tombstones and after them the live set, judges it (S3), and learns from it if it is believed.
pub async fn read_truth(
    collector: &Collector,
    locks: &Locks,
    (places, requests): (&Places, &Requests),
    report: &mut RunReport,
) -> Result<Truth, RunError> {
    let graves = Graves::new(locks.liveness.tombstones().await);
    let sets = locks.liveness.read().await?;
    let found = places::found(locks, &sets);
    let across_break = places::check_history(collector, locks, places, &found).await?;
    let highest = collector.ledger.highest_populations().await?;
    let accepted = collector.ledger.accepted_sizes().await?;
    for (source, AcceptedSize { digest, live }) in &accepted {
        tracing::info!(run = %report.run, source, %digest, live, "an approval is in force: this size was accepted, and is what a drop is judged by");
    }
    let population = |source: &str, set: &LiveSet| Population {
        source: source.to_owned(),
        live: set.len() as u64,
        highest: highest.get(source).copied(),
        accepted: accepted.get(source).map(|size| size.live),
    };
    let mut populations: Vec<Population> = sets.iter().map(|(source, set, _)| population(source, set)).collect();
    let union = sets.into_iter().map(|(_, set, _)| set).reduce(LiveSet::union);
    let live = union.unwrap_or_else(|| LiveSet::empty(collector.id_type));
    populations.push(population(UNION, &live));
    let identity = |name: &str| found.iter().find(|(source, ..)| source == name).map(|(_, pin, _)| pin);
    report.live = populations.iter().map(|found| LiveReport::new(found, identity(&found.source))).collect();
    // Whatever comes of this live set: who is in it lived after its tombstone.
    graves.settle(collector, locks, &live, across_break).await?;
    graves.report(&mut report.live);
    if let Some(halts) = judge(&populations, collector.refuse_below, collector.refuse_drop) {
        report.halts = halts.all().to_vec();
        report.holds = vec![holds::of_halts(&halts).report];
        return Ok(Truth::Halted(halts));
    }
    collector.ledger.record_populations(report.run, &populations).await?;
    requests.void(collector, &live).await?;
    collector.ledger.learn(report.run, &live, across_break).await?;
    organizations::learn(collector).await?;
    // Not before: until what vanished across a break is marked, every run must see the break.
    for (name, pin, position) in &found {
        collector.ledger.saw_source(report.run, name, pin, position).await?;
    }
    Ok(Truth::Believed(Arc::new(live), graves))
}

/// Takes all stores' inventories at the same time. One that fails, or panics, is incomplete; the others go on (S4).
pub async fn take_inventories(
    collector: &Collector,
    live: Arc<LiveSet>,
    places: &Places,
    stop: &CancellationToken,
) -> Result<Vec<Taken>, RunError> {
    let mut tasks = JoinSet::new();
    for (index, managed) in collector.stores.iter().enumerate() {
        let (store, live, clock) = (Arc::clone(&managed.store), Arc::clone(&live), Arc::clone(&collector.clock));
        let span = of_store(store.as_ref());
        let take = async move { (index, take_inventory(store.as_ref(), live, clock.as_ref()).await) };
        tasks.spawn(take.instrument(span));
    }
    let mut taken: BTreeMap<usize, Taken> = BTreeMap::new();
    loop {
        let next = tokio::select! {
            biased;
            next = tasks.join_next() => next,
            () = stop.cancelled() => return Err(RunError::Stopped),
        };
        match next {
            Some(Ok((index, inventory))) => {
                taken.insert(index, inventory);
            }
            Some(Err(error)) => tracing::error!(error = &error as &dyn std::error::Error, "an inventory broke off"),
            None => break,
        }
    }
    let broken = || Taken {
        identity: None,
        inventory: Err("its inventory broke off".into()),
        not_adopted: None,
        references: None,
        harmed: Vec::new(),
        put_back: 0,
        is_made_good: false,
        missing: Vec::new(),
        took: Duration::ZERO,
    };
    let reasons = places.entries.iter().map(|entry| entry.as_ref().err().cloned()).enumerate();
    let each = reasons.map(|(index, not_adopted)| Taken { not_adopted, ..taken.remove(&index).unwrap_or_else(broken) });
    Ok(each.collect())
}

/// What is done in one store.
fn of_store(store: &dyn Store) -> Span {
    error_span!("store", store = store.name())
}

async fn take_inventory(store: &dyn Store, live: Arc<LiveSet>, clock: &dyn Clock) -> Taken {
    let began = clock.since_boot();
    let mut census = Census::new(live, store.sources().len());
    let (identity, inventory) = match store.identity().await {
        Ok(identity) => match store.inventory(&mut census).await {
            Ok(()) => (Some(identity), Ok(census.finish())),
            Err(error) => (Some(identity), Err(chain(&error))),
        },
        Err(error) => (None, Err(chain(&error))),
    };
    if let Err(error) = &inventory {
        tracing::warn!(store = store.name(), error, "inventory incomplete: nothing of this store is swept");
    }
    let took = clock.since_boot().saturating_sub(began);
    Taken {
        identity,
        inventory,
        not_adopted: None,
        references: None,
        harmed: Vec::new(),
        put_back: 0,
        is_made_good: false,
        missing: Vec::new(),
        took,
    }
}

/// Reads what the gates judge by besides the stores: what went recently, and whether a person paused.
pub async fn read_world(collector: &Collector, report: &mut RunReport) -> Result<World, RunError> {
    let recent = collector.ledger.recent().await?;
    report.paused = collector.ledger.paused().await?.map(|pause| pause.reason);
    Ok(World { recent, paused: report.paused.is_some() })
}

/// Writes the decisions into the ledger and, with what was seen, into the report.
pub async fn record_plan(
    collector: &Collector,
    inventories: &[Taken],
    plan: &Plan,
    report: &mut RunReport,
) -> Result<(), RunError> {
    for (index, (managed, taken)) in collector.stores.iter().zip(inventories).enumerate() {
        let store = managed.store.as_ref();
        let decided = plan.stores.get(index).map(Vec::as_slice).unwrap_or_default();
        let place = Place { store: store.name(), sources: store.sources() };
        collector.ledger.record_decisions(place, decided).await?;
        tell_of_latches(report.run, place.store, decided);
        let mut entry = StoreReport {
            name: store.name().to_owned(),
            kind: store.kind(),
            identity: taken.identity.clone(),
            error: taken.inventory.as_ref().err().or(taken.references.as_ref()).cloned(),
            not_adopted: taken.not_adopted.clone(),
            complete: taken.inventory.is_ok(),
            sources: Vec::new(),
            unclaimed: Unrecognised::default(),
            failures: taken.missing.clone(),
            quarantined: managed.quarantined,
            put_back: taken.put_back,
            live_after_delete: taken.harmed.clone(),
            inventory_seconds: taken.took.as_secs_f64(),
            sweep_seconds: 0.0,
            rest_seconds: 0.0,
        };
        if let Ok(inventory) = &taken.inventory {
            entry.unclaimed = inventory.unclaimed.clone();
            for (source, (name, seen)) in store.sources().iter().zip(&inventory.sources).enumerate() {
                let mut line = SourceReport {
                    name: name.clone(),
                    live_courses: seen.live_courses,
                    live_resources: seen.live_resources,
                    unrecognised: seen.unrecognised.clone(),
                    orphans: Vec::new(),
                    estimate: None,
                    swept: Tally::default(),
                };
                line.set_orphans(decided.iter().filter(|decided| decided.orphan.source.0 == source), &seen.sizes);
                entry.sources.push(line);
            }
        }
        report.stores.push(entry);
    }
    tell_of_approvals(report.run, plan);
    let held = collector.held().await?;
    report.holds = holds::of_orphans(&held, &collector.limits).into_iter().map(|hold| hold.report).collect();
    Ok(())
}

/// One line for each breaker that holds orphans of a store which it did not hold before.
fn tell_of_latches(run: Uuid, store: &str, decided: &[Decided]) {
    let mut latched: BTreeMap<Breaker, u64> = BTreeMap::new();
    let new = decided.iter().filter(|decided| decided.orphan.latched.is_none());
    for breaker in new.filter_map(|decided| decided.decision.breaker()) {
        *latched.entry(breaker).or_default() += 1;
    }
    for (breaker, orphans) in latched {
        tracing::warn!(
            %run,
            store,
            breaker = breaker.as_str(),
            orphans,
            "a breaker tripped: it holds these orphans until a person approves (`course-gc holds`)"
        );
    }
}

/// One line for each approval that releases something.
fn tell_of_approvals(run: Uuid, plan: &Plan) {
    let mut used: BTreeMap<Digest, (u64, u64)> = BTreeMap::new();
    for decided in plan.iter() {
        if let Some(digest) = decided.orphan.approved {
            let (orphans, sweeps) = used.entry(digest).or_default();
            *orphans += 1;
            *sweeps += u64::from(decided.decision.sweeps());
        }
    }
    for (digest, (orphans, sweeps)) in used {
        tracing::info!(%run, %digest, orphans, sweeps, "an approval releases orphans from the breakers");
    }
}

/// What a sweep goes by.
#[derive(Clone, Copy)]
pub struct Sweeping<'a> {
    /// What was decided.
    pub plan: &'a Plan,
    /// By store: our entry in its marker, as this pass left it.
    pub entries: &'a [Option<Owner>],
    /// Who lived when the run read its live set.
    pub live: &'a LiveSet,
    /// Who hears that somebody turned out live.
    pub living: Living<'a>,
}

/// Sweeps all stores at the same time, each by its own share of the plan; closes the orphans that are gone. Returns who was found live
/// meanwhile, and what became of who is watched.
pub(super) async fn sweep(
    Sweeping { plan, entries, live, living }: Sweeping<'_>,
    stop: &CancellationToken,
    report: &mut RunReport,
) -> Result<(LiveSet, Watched), RunError> {
    let Living { collector, locks, requests, .. } = living;
    let sweeper = Sweeper {
        run: report.run,
        liveness: locks.liveness.as_ref(),
        lock: locks.ledger.as_ref(),
        ledger: collector.ledger.as_ref(),
        quarantine: &collector.quarantine,
        id_type: collector.id_type,
        live,
        watched: requests.courses(),
        hears: &living,
        started_at: report.started_at,
        clock: Arc::clone(&collector.clock),
        confirmation: collector.confirmation,
        stop,
        found_live: Mutex::default(),
    };
    let each = collector.stores.iter().enumerate().map(|(index, managed)| {
        let sweeper = &sweeper;
        let sweep = async move {
            let began = collector.clock.since_boot();
            let orphans: Vec<&Orphan> = plan.sweeps(index).collect();
            let entry = entries.get(index).and_then(Option::as_ref);
            let share = Share { store: managed.store.as_ref(), entry, quarantined: managed.quarantined, orphans };
            let swept = sweeper.sweep(&share).await;
            (swept, collector.clock.since_boot().saturating_sub(began))
        };
        sweep.instrument(of_store(managed.store.as_ref()))
    });
    let all: Vec<(Swept, Duration)> = join_all(each).await;
    let mut live = LiveSet::empty(collector.id_type);
    let mut told = Watched::with_capacity(all.len());
    for ((managed, entry), (swept, took)) in collector.stores.iter().zip(&mut report.stores).zip(all) {
        let store = managed.store.as_ref();
        let place = Place { store: store.name(), sources: store.sources() };
        collector.ledger.close_orphans(place, &swept.gone).await?;
        swept.live.iter().for_each(|course| live.push(*course));
        for (source, tally) in entry.sources.iter_mut().zip(&swept.tallies) {
            source.swept = *tally;
        }
        if swept.paused && report.paused.is_none() {
            report.paused = Some("paused while sweeping".to_owned());
        }
        entry.error = entry.error.take().or(swept.error);
        entry.failures.extend(swept.failures);
        entry.put_back += swept.put_back;
        entry.live_after_delete.extend(swept.live_after_delete);
        entry.sweep_seconds = took.as_secs_f64();
        told.push(swept.watched);
    }
    report.stopped = stop.is_cancelled();
    live.normalise();
    // Once more, should a batch not have been able to.
    living.found(&live).await?;
    Ok((live, told))
}

/// By store: how long its calls have waited since the program began.
pub fn rested(collector: &Collector) -> Vec<Duration> {
    let rested = |store: &dyn Store| store.pace().map_or(Duration::ZERO, Pace::rested);
    collector.stores.iter().map(|managed| rested(managed.store.as_ref())).collect()
}

/// Concludes the report and writes it into the ledger. `before` is what [`rested`] said when the pass began.
pub async fn finish(
    collector: &Collector,
    mut report: RunReport,
    (watch, before): (Stopwatch, Vec<Duration>),
    clocks_count: bool,
) -> Result<RunReport, RunError> {
    for (entry, (now, before)) in report.stores.iter_mut().zip(rested(collector).into_iter().zip(before)) {
        entry.rest_seconds = now.saturating_sub(before).as_secs_f64();
    }
    let report = report.conclude(watch.elapsed());
    collector.ledger.finish(&report, clocks_count).await?;
    // The run has ended, and its report is written: tidying up can wait for the next one.
    if let Err(error) = collector.ledger.forget_old().await {
        tracing::warn!(error = chain(&error), "old runs could not be forgotten");
    }
    Ok(report)
}

/// Times the stages.
pub struct Stopwatch {
    clock: Arc<dyn Clock>,
    began: Duration,
    lap: Duration,
}

impl Stopwatch {
    /// A stopwatch that runs.
    pub fn start(clock: Arc<dyn Clock>) -> Self {
        let now = clock.since_boot();
        Self { clock, began: now, lap: now }
    }

    /// Notes how long the stage took that ends now.
    pub fn stage(&mut self, report: &mut RunReport, name: &'static str) {
        let now = self.clock.since_boot();
        report.stage(name, now.saturating_sub(self.lap));
        self.lap = now;
    }

    /// Since it began.
    pub(super) fn elapsed(&self) -> Duration {
        self.clock.since_boot().saturating_sub(self.began)
    }
}
