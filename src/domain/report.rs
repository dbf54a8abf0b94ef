//! What a run did: one typed report for the ledger, the log, the metrics, the command line and HTTP.
//!
//! Its JSON is documented in `docs/report.md` and stable: fields are added, never renamed.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::diff::Orphan;
use super::evidence::Evidence;
use super::holds::HoldReport;
use super::ids::CourseId;
use super::inventory::Unrecognised;
use super::live_set::{Halt, Population};
use super::pins::SourcePin;
use super::plan::{Decided, Decision};
use super::sample::{Estimate, Sample};

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Look and decide; change no store (S14).
    Plan,
    /// Look, decide and sweep.
    Run,
}

impl Mode {
    /// Its name in the ledger and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Run => "run",
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// No orphan was to be swept.
    Clean,
    /// Everything that was to go has gone (of a plan: there is something to sweep).
    Done,
    /// A gate that needs a person holds the run, or some of the orphans.
    Held,
    /// Some of it failed or was left: a store was incomplete, a delete failed, or the run was stopped.
    Partly,
    /// It could not do its work at all.
    Failed,
}

impl Verdict {
    /// Every verdict, for metrics that exist from the start.
    pub const ALL: [Self; 5] = [Self::Clean, Self::Done, Self::Held, Self::Partly, Self::Failed];

    /// Its name in the ledger and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Done => "done",
            Self::Held => "held",
            Self::Partly => "partly",
            Self::Failed => "failed",
        }
    }

    /// The exit code of the commands `plan` and `run`. 2 is kept for wrong usage and configuration.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Clean | Self::Done => 0,
            Self::Failed => 1,
            Self::Held => 3,
            Self::Partly => 4,
        }
    }
}

/// The counts of what a sweep did. Resources, except for `unattempted`, which counts handles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Tally {
    /// Went.
    pub deleted: u64,
    /// Their bytes, as far as known.
    pub bytes: u64,
    /// Had gone before.
    pub absent: u64,
    /// Refused or failed.
    pub failed: u64,
    /// Not sent, since the run was stopped, the confirmation grew old or an earlier failure ended the batch.
    pub unattempted: u64,
    /// Found live, or referenced, by the last question before the delete: untouched.
    pub spared: u64,
}

impl Tally {
    /// Adds another tally.
    pub fn add(&mut self, other: &Self) {
        self.deleted += other.deleted;
        self.bytes += other.bytes;
        self.absent += other.absent;
        self.failed += other.failed;
        self.unattempted += other.unattempted;
        self.spared += other.spared;
    }
}

/// One orphan, with what was decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OrphanReport {
    /// The course.
    pub course: CourseId,
    /// Why we believe that it is dead.
    pub evidence: Evidence,
    /// Points, keys or files that may go.
    pub resources: u64,
    /// Their size, where known.
    pub bytes: Option<u64>,
    /// Resources that stay, since they name others as well.
    pub entangled: u64,
    /// Resources that stay, since something alive refers to them.
    pub referenced: u64,
    /// Seconds for which it has been seen as an orphan.
    pub accrued_seconds: u64,
    /// No earlier plan or run saw it as an orphan: a leak that is counted as found.
    pub new: bool,
    /// What is done with it.
    #[serde(flatten)]
    pub decision: Decision,
}

impl OrphanReport {
    fn new(orphan: &Orphan, decision: Decision) -> Self {
        Self {
            course: orphan.course,
            evidence: orphan.evidence,
            resources: orphan.found.amount.resources,
            bytes: orphan.found.amount.bytes,
            entangled: orphan.found.entangled,
            referenced: orphan.found.referenced,
            accrued_seconds: orphan.accrued.as_secs(),
            new: orphan.is_new,
            decision,
        }
    }
}

/// One source of a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceReport {
    /// The collection, template or layout.
    pub name: String,
    /// Distinct live courses seen.
    pub live_courses: u64,
    /// Their resources.
    pub live_resources: u64,
    /// What no id can be parsed from, or more than one: never deleted.
    pub unrecognised: Unrecognised,
    /// Every orphan and its decision.
    pub orphans: Vec<OrphanReport>,
    /// The size of those orphans' resources whose own is not known; nothing where nobody knows.
    pub estimate: Option<Estimate>,
    /// What the sweep did.
    pub swept: Tally,
}

impl SourceReport {
    /// The orphans in this source, listed by decision, and their size by a sample.
    pub fn set_orphans<'a>(&mut self, decided: impl Iterator<Item = &'a Decided>, sizes: &Sample) {
        self.orphans = decided.map(|decided| OrphanReport::new(&decided.orphan, decided.decision)).collect();
        self.estimate = Some(self.unsized_resources()).filter(|many| *many > 0).and_then(|many| sizes.estimate(many));
    }

    /// How many resources of orphans have no size of their own.
    pub fn unsized_resources(&self) -> u64 {
        self.orphans.iter().filter(|orphan| orphan.bytes.is_none()).map(|orphan| orphan.resources).sum()
    }

    /// How many orphans are held, by the name of the reason.
    pub fn held(&self) -> BTreeMap<&'static str, u64> {
        let mut held = BTreeMap::new();
        for orphan in &self.orphans {
            if let Decision::Held(hold) = orphan.decision {
                *held.entry(hold.as_str()).or_default() += 1;
            }
        }
        held
    }

    /// How many orphans are to be swept.
    pub fn sweeps(&self) -> u64 {
        self.orphans.iter().filter(|orphan| orphan.decision.sweeps()).count() as u64
    }
}

/// One store.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StoreReport {
    /// Its name in the configuration.
    pub name: String,
    /// `qdrant`, `redis` or `files`.
    pub kind: &'static str,
    /// What it is and where.
    pub identity: Option<String>,
    /// Why it was not listed, or not swept, to the end; with all causes.
    pub error: Option<String>,
    /// Why it is not ours, if so (S7): then nothing of it is swept.
    pub not_adopted: Option<String>,
    /// True if the inventory is complete, so that its counts mean something.
    pub complete: bool,
    /// By source; empty if the inventory did not end complete.
    pub sources: Vec<SourceReport>,
    /// What no source claims.
    pub unclaimed: Unrecognised,
    /// Why deletes failed: the first few causes.
    pub failures: Vec<String>,
    /// False if a person chose that what goes from here is gone at once (S12).
    pub quarantined: bool,
    /// How many resources were put back, since somebody whom they name turned out live after they went.
    pub put_back: u64,
    /// Courses that were live when asked again after their batch was deleted: whoever is on call must know.
    pub live_after_delete: Vec<CourseId>,
    /// Seconds for the inventory.
    pub inventory_seconds: f64,
    /// Seconds for the sweep.
    pub sweep_seconds: f64,
    /// Seconds that calls waited, added up, so that the store's server is not overrun.
    pub rest_seconds: f64,
}

impl StoreReport {
    /// What the sweep did in all sources.
    pub fn swept(&self) -> Tally {
        let mut sum = Tally::default();
        self.sources.iter().for_each(|source| sum.add(&source.swept));
        sum
    }
}

/// What is in quarantine, and what was purged from it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct QuarantineReport {
    /// Copies, before this run's own.
    pub copies: u64,
    /// What they take.
    pub bytes: u64,
    /// Of these bytes, what archives take: the configuration limits that.
    pub archive_bytes: u64,
    /// When the run began that made the oldest of them, before any was purged.
    pub oldest: Option<DateTime<Utc>>,
    /// Copies that had expired and were purged.
    pub purged: u64,
    /// What that freed.
    pub reclaimed_bytes: u64,
    /// Courses that are live again, and of which a copy expired: it is kept, and whoever is on call must know.
    pub live_again: Vec<CourseId>,
    /// What could not be listed or purged, with all causes.
    pub errors: Vec<String>,
}

/// How many ids a liveness source returned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LiveReport {
    /// The liveness source, or `union`.
    pub source: String,
    /// Live ids.
    pub live: u64,
    /// The most in the last seven days, or since a person accepted a size.
    pub highest: Option<u64>,
    /// What the source is, as far as the server tells (S7); none for the union.
    pub identity: Option<SourcePin>,
    /// How many tombstones are evidence: those of who is not live (S6). None where none are kept, or they cannot be read.
    pub tombstones: Option<u64>,
    /// Why tombstones are kept and cannot be read, with all causes: their evidence is missing.
    pub tombstones_error: Option<String>,
}

impl LiveReport {
    /// A source of this size and identity.
    pub fn new(population: &Population, identity: Option<&SourcePin>) -> Self {
        let Population { source, live, highest, accepted: _ } = population.clone();
        Self { source, live, highest, identity: identity.cloned(), tombstones: None, tombstones_error: None }
    }
}

/// What a run, or a plan, saw and did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunReport {
    /// The run's id in the ledger.
    pub run: Uuid,
    /// Plan or run.
    pub mode: Mode,
    /// The installation's name.
    pub installation: String,
    /// The database's time at the start.
    pub started_at: DateTime<Utc>,
    /// Seconds that it took.
    pub seconds: f64,
    /// How it ended.
    pub verdict: Verdict,
    /// Why no store was touched, if the live set is not to be believed (S3).
    pub halt: Option<String>,
    /// The same, by liveness source; empty if the place is not believed (S7).
    pub halts: Vec<Halt>,
    /// Why a person paused all deleting, if so.
    pub paused: Option<String>,
    /// What waits for a person's approval (S3, S7, S8).
    pub holds: Vec<HoldReport>,
    /// Live ids by source and together.
    pub live: Vec<LiveReport>,
    /// By store.
    pub stores: Vec<StoreReport>,
    /// What is in quarantine; none unless it was a run that came so far.
    pub quarantine: Option<QuarantineReport>,
    /// Courses that a caller was authorised to have deleted though they live (S1).
    pub authorised: Vec<CourseId>,
    /// True if it was asked to stop before it was through.
    pub stopped: bool,
    /// Seconds by stage.
    pub stages: BTreeMap<&'static str, f64>,
}

impl RunReport {
    /// A report of a run that has just begun.
    pub fn begin(run: Uuid, mode: Mode, installation: &str, started_at: DateTime<Utc>) -> Self {
        Self {
            run,
            mode,
            installation: installation.to_owned(),
            started_at,
            seconds: 0.0,
            verdict: Verdict::Failed,
            halt: None,
            halts: Vec::new(),
            paused: None,
            holds: Vec::new(),
            live: Vec::new(),
            stores: Vec::new(),
            quarantine: None,
            authorised: Vec::new(),
            stopped: false,
            stages: BTreeMap::new(),
        }
    }

    /// Notes how long a stage took.
    pub fn stage(&mut self, name: &'static str, took: Duration) {
        self.stages.insert(name, took.as_secs_f64());
    }

    /// What the sweep did in all stores.
    pub fn swept(&self) -> Tally {
        let mut sum = Tally::default();
        self.stores.iter().for_each(|store| sum.add(&store.swept()));
        sum
    }

    /// Judges how the run ended, from all that the report says.
    pub fn conclude(mut self, took: Duration) -> Self {
        self.seconds = took.as_secs_f64();
        self.verdict = self.judge();
        self
    }

    fn judge(&self) -> Verdict {
        if self.halt.is_some() {
            return Verdict::Held;
        }
        if !self.stores.is_empty() && self.stores.iter().all(|store| !store.complete) {
            return Verdict::Failed;
        }
        let swept = self.swept();
        let broken = |store: &StoreReport| store.error.is_some() || !store.live_after_delete.is_empty();
        let kept = |quarantine: &QuarantineReport| !quarantine.live_again.is_empty() || !quarantine.errors.is_empty();
        if self.quarantine.as_ref().is_some_and(kept)
            || self.stopped
            || self.stores.iter().any(broken)
            || swept.failed > 0
            || swept.unattempted > 0
        {
            return Verdict::Partly;
        }
        let decisions = || self.stores.iter().flat_map(|store| &store.sources).flat_map(|source| &source.orphans);
        let unadopted = self.stores.iter().any(|store| store.not_adopted.is_some());
        if unadopted
            || self.paused.is_some()
            || decisions().any(|orphan| matches!(orphan.decision, Decision::Held(hold) if hold.needs_a_person()))
        {
            return Verdict::Held;
        }
        if decisions().any(|orphan| orphan.decision.sweeps()) { Verdict::Done } else { Verdict::Clean }
    }
}

#[cfg(test)]
mod tests {
    use super::super::inventory::{Amount, Found, SourceIndex};
    use super::super::plan::{Breaker, Hold};
    use super::*;

    fn store(decision: Option<Decision>) -> StoreReport {
        let mut source = SourceReport {
            name: "s".into(),
            live_courses: 1,
            live_resources: 1,
            unrecognised: Unrecognised::default(),
            orphans: Vec::new(),
            estimate: None,
            swept: Tally::default(),
        };
        let orphan = Orphan {
            source: SourceIndex(0),
            course: CourseId::Integer(1),
            evidence: Evidence::Departed,
            found: Found { amount: Amount::one(b"x", None), entangled: 0, referenced: 0, locked: false },
            accrued: Duration::ZERO,
            clock: Default::default(),
            referenced: false,
            restored: false,
            across_break: false,
            is_new: false,
            latched: None,
            approved: None,
        };
        let decided: Vec<_> =
            decision.into_iter().map(|decision| Decided { orphan: orphan.clone(), decision }).collect();
        source.set_orphans(decided.iter(), &Sample::default());
        StoreReport {
            name: "store".into(),
            kind: "redis",
            identity: None,
            error: None,
            not_adopted: None,
            complete: true,
            sources: vec![source],
            unclaimed: Unrecognised::default(),
            failures: Vec::new(),
            quarantined: true,
            put_back: 0,
            live_after_delete: Vec::new(),
            inventory_seconds: 0.0,
            sweep_seconds: 0.0,
            rest_seconds: 0.0,
        }
    }

    fn verdict(stores: Vec<StoreReport>) -> Verdict {
        let mut report = RunReport::begin(Uuid::nil(), Mode::Run, "test", DateTime::UNIX_EPOCH);
        report.stores = stores;
        report.conclude(Duration::ZERO).verdict
    }

    #[test]
    fn the_verdict_is_the_worst_that_happened() {
        let grace = Decision::Held(Hold::Grace { left_seconds: 5 });
        let breaker = Decision::Held(Hold::Breaker { breaker: Breaker::Share });
        assert_eq!(verdict(vec![store(None), store(Some(grace))]), Verdict::Clean);
        assert_eq!(verdict(vec![store(Some(grace)), store(Some(Decision::Sweep))]), Verdict::Done);
        assert_eq!(verdict(vec![store(Some(Decision::Sweep)), store(Some(breaker))]), Verdict::Held);
        let mut down = store(None);
        down.complete = false;
        down.error = Some("down".into());
        assert_eq!(verdict(vec![down.clone(), store(Some(breaker))]), Verdict::Partly);
        assert_eq!(verdict(vec![down.clone(), down]), Verdict::Failed);
        let mut failed = store(Some(Decision::Sweep));
        failed.sources[0].swept.failed = 1;
        assert_eq!(verdict(vec![failed]), Verdict::Partly);
    }

    #[test]
    fn each_thing_that_went_wrong_by_itself_changes_the_verdict() {
        let judged = |change: fn(&mut RunReport)| {
            let mut report = RunReport::begin(Uuid::nil(), Mode::Run, "test", DateTime::UNIX_EPOCH);
            report.stores = vec![store(Some(Decision::Sweep))];
            change(&mut report);
            report.conclude(Duration::ZERO).verdict
        };
        let partly: [fn(&mut RunReport); 5] = [
            |report| report.stopped = true,
            |report| report.stores[0].error = Some("left".into()),
            |report| report.stores[0].live_after_delete = vec![CourseId::Integer(1)],
            |report| report.stores[0].sources[0].swept.failed = 1,
            |report| report.stores[0].sources[0].swept.unattempted = 1,
        ];
        assert_eq!(partly.map(judged), [Verdict::Partly; 5]);
        let held: [fn(&mut RunReport); 3] = [
            |report| report.halt = Some("empty".into()),
            |report| report.paused = Some("wait".into()),
            |report| report.stores[0].not_adopted = Some("never".into()),
        ];
        assert_eq!(held.map(judged), [Verdict::Held; 3]);
        let well: [fn(&mut RunReport); 2] = [|_| {}, |report| report.stores[0].sources[0].swept.spared = 1];
        assert_eq!(well.map(judged), [Verdict::Done; 2]);
        assert_eq!(judged(|report| report.stores.clear()), Verdict::Clean, "no store, no work");
    }

    #[test]
    fn s11_every_count_of_every_source_and_store_is_in_the_sum() {
        let tally = Tally { deleted: 1, bytes: 2, absent: 3, failed: 4, unattempted: 5, spared: 6 };
        let twice = Tally { deleted: 2, bytes: 4, absent: 6, failed: 8, unattempted: 10, spared: 12 };
        let mut part = store(None);
        part.sources[0].swept = tally;
        part.sources.push(part.sources[0].clone());
        assert_eq!(part.swept(), twice);
        let mut report = RunReport::begin(Uuid::nil(), Mode::Run, "test", DateTime::UNIX_EPOCH);
        part.sources.pop();
        report.stores = vec![part.clone(), part];
        assert_eq!(report.swept(), twice);
    }

    #[test]
    fn a_source_counts_what_goes_and_what_is_held_by_reason() {
        let decisions = [
            Decision::Sweep,
            Decision::SweepExcept { entangled: 1, referenced: 0 },
            Decision::Held(Hold::Cap),
            Decision::Held(Hold::Referenced),
            Decision::Held(Hold::Cap),
        ];
        let mut source = store(None).sources.remove(0);
        source.orphans = decisions.into_iter().flat_map(|it| store(Some(it)).sources.remove(0).orphans).collect();
        assert_eq!(source.sweeps(), 2);
        assert_eq!(source.held(), BTreeMap::from([("cap", 2), ("referenced", 1)]));
    }

    #[test]
    fn a_report_tells_how_long_the_run_and_its_stages_took() {
        let mut report = RunReport::begin(Uuid::nil(), Mode::Plan, "test", DateTime::UNIX_EPOCH);
        report.stage("places", Duration::from_millis(1500));
        let report = report.conclude(Duration::from_secs(3));
        assert_eq!((report.seconds, report.stages), (3.0, BTreeMap::from([("places", 1.5)])));
    }

    #[test]
    fn a_mode_has_one_name_everywhere() {
        for (mode, name) in [(Mode::Plan, "plan"), (Mode::Run, "run")] {
            assert_eq!(mode.as_str(), name);
            assert_eq!(serde_json::to_value(mode).unwrap(), name);
        }
    }

    #[test]
    fn exit_codes_are_as_documented() {
        let codes: Vec<_> = Verdict::ALL.into_iter().map(|verdict| (verdict.as_str(), verdict.exit_code())).collect();
        assert_eq!(codes, [("clean", 0), ("done", 0), ("held", 3), ("partly", 4), ("failed", 1)]);
    }
}
