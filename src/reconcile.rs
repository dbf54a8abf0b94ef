//! The story of a run, a call a step. Read [`reconcile`] as the specification.

mod authorised;
mod copies;
mod graves;
mod living;
pub mod organizations;
mod orphans;
mod places;
pub mod requests;
pub mod restore;
mod stages;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error_span};
use uuid::Uuid;

use crate::clock::{Clock, Deadline};
use crate::domain::evidence::Evidence;
use crate::domain::gates::decide;
use crate::domain::holds::HeldOrphan;
use crate::domain::ids::IdType;
use crate::domain::live_set::LiveSet;
use crate::domain::markers::Owner;
use crate::domain::plan::{Limits, Plan};
use crate::domain::report::{Mode, RunReport};
use crate::errors::chain;
use crate::ledger::{Authorised, Ledger, LedgerError};
use crate::liveness::LivenessSources;
use crate::pace;
use crate::postgres::PostgresError;
use crate::quarantine::Quarantine;
use crate::schedule::Schedule;
use crate::stores::Store;

use authorised::Excepting;
use graves::Graves;
use living::Living;
use requests::Requests;
pub use stages::{Leading, Locks};
use stages::{Stopwatch, Truth};

/// Everything that a run works with.
pub struct Collector {
    /// This installation's name.
    pub installation: String,
    /// The type of the owner's ids.
    pub id_type: IdType,
    /// Who knows what is live.
    pub liveness: Arc<dyn LivenessSources>,
    /// Our memory.
    pub ledger: Arc<dyn Ledger>,
    /// Where resources lie.
    pub stores: Vec<ManagedStore>,
    /// Where what is deleted lies until it expires.
    pub quarantine: Arc<Quarantine>,
    /// What limits a run.
    pub limits: Limits,
    /// Fewer live ids than this halt the run.
    pub refuse_below: u64,
    /// A larger drop of the live ids than this, in percent, halts the run.
    pub refuse_drop: u8,
    /// How long a confirmation is good.
    pub confirmation: Duration,
    /// How many courses an hour callers may have deleted at once though they live; none at all unless a person said so (S1).
    pub live_cleanups: Option<u32>,
    /// When runs are due; an orphan's clock gains at most two intervals between runs.
    pub schedule: Schedule,
    /// The clock that confirmations age by.
    pub clock: Arc<dyn Clock>,
    /// Whether this process holds the locks.
    pub leading: Leading,
}

impl Collector {
    /// The stores alone.
    pub fn stores(&self) -> Vec<&dyn Store> {
        self.stores.iter().map(|managed| managed.store.as_ref()).collect()
    }

    /// Until when the answer to a question that is asked now is good (S2).
    pub(crate) fn good_from_now(&self) -> Deadline {
        Deadline::new(self.clock.since_boot().saturating_add(self.confirmation), Arc::clone(&self.clock))
    }

    /// The orphans that wait for a person's approval, in the sources that are configured and from which they may go.
    ///
    /// # Errors
    /// If the ledger does not answer.
    pub async fn held(&self) -> Result<Vec<HeldOrphan>, LedgerError> {
        let declared: BTreeMap<&str, BTreeMap<String, bool>> =
            self.stores.iter().map(|it| (it.store.name(), it.declared().into_iter().collect())).collect();
        let may_go = |HeldOrphan { item, .. }: &HeldOrphan| {
            let exclusive = declared.get(item.store.as_str()).and_then(|sources| sources.get(&item.source));
            exclusive.is_some_and(|exclusive| *exclusive || item.evidence != Evidence::Stranger)
        };
        let mut held = self.ledger.held().await?;
        held.retain(may_go);
        Ok(held)
    }
}

/// A store, and what a person declared about its sources.
pub struct ManagedStore {
    /// The store.
    pub store: Arc<dyn Store>,
    /// By source: only this installation's courses are in it.
    pub exclusive: Vec<bool>,
    /// What goes from here is copied first; false where it is to be gone at once (S12).
    pub quarantined: bool,
}

impl ManagedStore {
    /// The store's sources by name, and whether each was declared exclusive.
    pub fn declared(&self) -> Vec<(String, bool)> {
        self.store.sources().iter().cloned().zip(self.exclusive.iter().copied()).collect()
    }
}

/// Why there is no report at all.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Another collector works.
    #[error("another collector is at work")]
    Locked(#[source] PostgresError),
    /// A liveness source could not be asked.
    #[error("what is live cannot be known, so nothing was touched")]
    Liveness(#[source] PostgresError),
    /// The ledger could not be asked.
    #[error("the ledger cannot be used; without it nothing is deleted")]
    Ledger(#[source] LedgerError),
    /// It is not where it was adopted (S7).
    #[error("nothing was touched: {0}")]
    Misplaced(String),
    /// It was asked to stop before it touched anything.
    #[error("stopped before any store was touched")]
    Stopped,
}

impl From<PostgresError> for RunError {
    fn from(error: PostgresError) -> Self {
        if error.is_locked() { Self::Locked(error) } else { Self::Liveness(error) }
    }
}

impl From<LedgerError> for RunError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Postgres(error) if error.is_locked() => Self::Locked(error),
            error => Self::Ledger(error),
        }
    }
}

/// One pass: looks, decides, and, if `mode` says so, sweeps. A plan and a run differ in that last step only (S14).
///
/// Dropping the future is a crash, from which the next run goes on; `stop` ends it in order after the batch in hand.
///
/// # Errors
/// If nothing could be judged at all. What went wrong in a store is in the report.
pub async fn reconcile(collector: &Collector, mode: Mode, stop: &CancellationToken) -> Result<RunReport, RunError> {
    let mut pass = Pass::begin(collector, mode).await?;
    let span = error_span!("run", run = %pass.report.run, mode = mode.as_str());
    let story = async {
        let planned = pass.plan(stop).await;
        let ended = match (planned, mode) {
            (Ok(Some(plan)), Mode::Run) => pass.sweep(&plan, stop).await,
            (Ok(_), _) => Ok(()),
            (Err(error), _) => Err(error),
        };
        pass.end(ended).await
    };
    pace::until(stop, story.instrument(span)).await
}

/// One pass under way: it holds the locks, and its report grows with each stage.
pub struct Pass<'a> {
    collector: &'a Collector,
    locks: Locks,
    report: RunReport,
    watch: Stopwatch,
    /// By store: how long its calls had waited before.
    rested: Vec<Duration>,
    /// Who lived; nobody until the live set is believed.
    live: Arc<LiveSet>,
    /// By store: our entry in its marker, as this pass left it; `None` if the store is not ours.
    entries: Vec<Option<Owner>>,
    /// The tombstones that were evidence; none until the live set is believed.
    graves: Graves,
    /// What the delete path asked for before the live set was read.
    requests: Requests,
    /// What this run takes for dead though it lives.
    authorised: Option<Arc<Authorised>>,
    /// What was seen counts for the orphans' clocks.
    judged: bool,
}

impl<'a> Pass<'a> {
    /// Takes the locks, and notes in the ledger that it begins.
    ///
    /// # Errors
    /// If the ledger or a lock is not to be had.
    pub async fn begin(collector: &'a Collector, mode: Mode) -> Result<Self, RunError> {
        let watch = Stopwatch::start(Arc::clone(&collector.clock));
        collector.ledger.check_version().await?;
        let mut locks = Locks::take(collector).await?;
        let run = Uuid::now_v7();
        let started_at = collector.ledger.begin(run, mode).await?;
        let mut report = RunReport::begin(run, mode, &collector.installation, started_at);
        let authorised = if mode == Mode::Run { authorised::take(collector, run).await? } else { None };
        if let Some(authorised) = &authorised {
            report.authorised = authorised.courses().iter().copied().collect();
            locks.liveness = Box::new(Excepting::new(locks.liveness, Arc::clone(authorised), collector.id_type));
        }
        let live = Arc::new(LiveSet::empty(collector.id_type));
        Ok(Self {
            collector,
            locks,
            report,
            watch,
            rested: stages::rested(collector),
            live,
            entries: Vec::new(),
            graves: Graves::default(),
            requests: Requests::default(),
            authorised,
            judged: false,
        })
    }

    /// Looks and decides; changes no store but for its marker. `None` if the run is halted: the report says why.
    ///
    /// # Errors
    /// If nothing could be judged.
    pub async fn plan(&mut self, stop: &CancellationToken) -> Result<Option<Plan>, RunError> {
        let Self { collector, locks, report, watch, requests, authorised, .. } = self;
        *requests = Requests::read(collector).await?;
        let run = (report.mode == Mode::Run).then_some(report.run);
        let places = match places::check(collector, locks, run).instrument(error_span!("places")).await? {
            Ok(places) => places,
            Err(misplaced) => return Ok(self.halt(&misplaced)),
        };
        watch.stage(report, "places");
        let truth = stages::read_truth(collector, locks, (&places, requests), report)
            .instrument(error_span!("liveness"))
            .await?;
        watch.stage(report, "liveness");
        let (truth, graves) = match truth {
            Truth::Believed(live, graves) => (live, graves),
            Truth::Halted(halt) => return Ok(self.halt(&halt)),
        };
        let live = match authorised {
            Some(authorised) => Arc::new(authorised::except(authorised, &truth, collector.id_type)),
            None => truth,
        };
        let mut inventories = stages::take_inventories(collector, Arc::clone(&live), &places, stop)
            .instrument(error_span!("inventory"))
            .await?;
        watch.stage(report, "inventory");
        let living = Living { collector, locks, requests, graves: &graves };
        let views = orphans::find(report, &mut inventories, living).instrument(error_span!("orphans")).await?;
        watch.stage(report, "orphans");
        let world = stages::read_world(collector, report).await?;
        let plan = decide(views, &world, &collector.limits);
        stages::record_plan(collector, &inventories, &plan, report).instrument(error_span!("plan")).await?;
        watch.stage(report, "plan");
        self.live = live;
        self.entries = places.entries.into_iter().map(Result::ok).collect();
        self.graves = graves;
        self.judged = true;
        Ok(Some(plan))
    }

    /// Sweeps a plan of this pass, however old it has become: each batch is confirmed anew.
    ///
    /// # Errors
    /// If the ledger does not answer. What went wrong in a store is in the report.
    pub async fn sweep(&mut self, plan: &Plan, stop: &CancellationToken) -> Result<(), RunError> {
        // Copies of who is live do not expire, and this run does not know of everybody who is.
        if self.report.authorised.is_empty() {
            copies::purge(self.collector, &self.locks, &mut self.report).instrument(error_span!("purge")).await?;
        }
        self.watch.stage(&mut self.report, "purge");
        let living =
            Living { collector: self.collector, locks: &self.locks, requests: &self.requests, graves: &self.graves };
        let what = stages::Sweeping { plan, entries: &self.entries, live: &self.live, living };
        let (live, watched) = stages::sweep(what, stop, &mut self.report).instrument(error_span!("sweep")).await?;
        self.watch.stage(&mut self.report, "sweep");
        if !self.requests.courses().is_empty() {
            let (live, took) = ([self.live.as_ref(), &live], self.watch.elapsed());
            let answer = self.requests.answer(self.collector, &self.report, (plan, &watched), (live, took));
            answer.instrument(error_span!("requests")).await;
            self.watch.stage(&mut self.report, "requests");
        }
        Ok(())
    }

    /// Concludes the report, writes it, or that the pass failed, into the ledger, and gives the locks back.
    ///
    /// # Errors
    /// Why the pass failed, or if the report cannot be written.
    pub async fn end(self, ended: Result<(), RunError>) -> Result<RunReport, RunError> {
        let Self { collector, locks, report, watch, rested, requests, judged, .. } = self;
        let run = report.run;
        if report.mode == Mode::Run {
            match (&ended, &report.halt) {
                (Err(error), _) => requests.postpone(collector, run, ("failed", &chain(error))).await,
                (Ok(()), Some(halt)) => requests.postpone(collector, run, ("halted", halt)).await,
                (Ok(()), None) => {}
            }
        }
        let ended = match ended {
            Ok(()) => stages::finish(collector, report, (watch, rested), judged).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &ended
            && let Err(unnoted) = collector.ledger.fail(run, &chain(error)).await
        {
            tracing::warn!(error = chain(&unnoted), "that the run failed could not be noted");
        }
        locks.release().await;
        ended
    }

    fn halt(&mut self, why: &dyn std::error::Error) -> Option<Plan> {
        self.report.halt = Some(why.to_string());
        None
    }
}
