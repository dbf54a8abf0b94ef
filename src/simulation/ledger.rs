//! The ledger in memory: what the tables in Postgres do, in a few lines each. It keeps the same contract (`ledger/contract.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::cluster::{Cluster, Intent, KnownId, OrphanRow, Run, Tables};
use super::locks::{lost, take};
use super::safeguards::Safeguard;
use super::world::{State, Who, World};
use crate::domain::cleanup::{Cleanup, Request, RequestState, Timing};
use crate::domain::diff::{Orphan, OrphanKey, Remembered, RememberedOrphan};
use crate::domain::evidence::{Evidence, Graces, OrphanClock};
use crate::domain::gates::Recent;
use crate::domain::ids::CourseId;
use crate::domain::inventory::SourceIndex;
use crate::domain::live_set::{LiveSet, Population};
use crate::domain::plan::{Decided, Decision, Hold};
use crate::domain::report::{Mode, RunReport};
use crate::domain::standing::Standing;
use crate::ledger::{
    AskedAgain, Authorisations, Authorised, BatchOutcome, Exemptions, GOOD_FOR, Graves, Intent as Meant, Intents,
    Interrupted, Known, KnownIds, LastRun, Ledger, LedgerError, NewRequest, OpenIntent, Organizations, Orphans, Pause,
    Pauses, Place, Requests, Runs,
};
use crate::postgres::{AdvisoryLock, Lock};

/// One process's access to a ledger.
pub struct MemoryLedger {
    pub world: Arc<World>,
    pub who: Who,
    /// Which server it is in.
    pub cluster: usize,
    /// What does not work.
    pub without: Option<Safeguard>,
}

impl MemoryLedger {
    pub(super) async fn call<T>(&self, effect: impl FnOnce(&mut State) -> T) -> Result<T, LedgerError> {
        let cluster = self.cluster;
        let answer = self.world.call(self.who, |state| state.clusters[cluster].up.then(|| effect(state))).await;
        answer.ok().flatten().ok_or_else(|| lost("the ledger").into())
    }

    pub(super) async fn read<T>(&self, read: impl FnOnce(&Tables) -> T) -> Result<T, LedgerError> {
        self.call(|state| read(&state.clusters[self.cluster].ledger)).await
    }

    pub(super) async fn write<T>(&self, write: impl FnOnce(&mut Tables) -> T) -> Result<T, LedgerError> {
        self.call(|state| {
            state.clusters[self.cluster].commit();
            write(&mut state.clusters[self.cluster].ledger)
        })
        .await
    }

    /// A write of a run, which no other run has begun after.
    pub(super) async fn fenced<T>(&self, run: Uuid, effect: impl FnOnce(&mut State) -> T) -> Result<T, LedgerError> {
        let written = self.call(|state| {
            let latest = state.clusters[self.cluster].ledger.runs.last().map(|latest| latest.id);
            (latest == Some(run)).then(|| {
                state.clusters[self.cluster].commit();
                effect(state)
            })
        });
        written.await?.ok_or(LedgerError::Superseded)
    }

    pub(super) fn now(&self) -> DateTime<Utc> {
        self.world.database_time()
    }
}

fn name(place: &Place<'_>, source: SourceIndex) -> String {
    place.sources[source.0].clone()
}

fn day(opened_at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    opened_at > now - TimeDelta::hours(24)
}

pub(super) fn anew(row: &mut OrphanRow) {
    row.orphan.clock = OrphanClock::default();
    row.orphan.accrued = std::time::Duration::ZERO;
}

/// Starts the clocks of a course's orphans anew: somebody found it live.
pub(super) fn start_clocks(tables: &mut Tables, id: CourseId) {
    for (_, row) in tables.orphans.iter_mut().filter(|((.., course), _)| *course == id) {
        anew(row);
        row.orphan.latched = None;
        row.seen_run = Uuid::nil();
    }
}

#[async_trait]
impl Ledger for MemoryLedger {
    async fn check_version(&self) -> Result<(), LedgerError> {
        self.read(|_| ()).await
    }

    async fn lock(&self) -> Result<Box<dyn Lock>, LedgerError> {
        Ok(Box::new(take(&self.world, self.who, self.cluster, AdvisoryLock::Ledger).await?))
    }

    /// Nothing measures here.
    async fn standing(&self, _graces: &Graces, _known: Option<Uuid>) -> Result<Standing, LedgerError> {
        Ok(Standing::default())
    }
}

#[async_trait]
impl Exemptions for MemoryLedger {
    async fn exempt(&self, courses: &BTreeSet<CourseId>, lasts: std::time::Duration) -> Result<(), LedgerError> {
        let until = self.now() + lasts;
        self.write(|tables| {
            for course in courses {
                let exempt = tables.exempt.entry(*course).or_insert(until);
                *exempt = (*exempt).max(until);
            }
        })
        .await
    }

    async fn exempted(&self) -> Result<BTreeSet<CourseId>, LedgerError> {
        let now = self.now();
        self.write(|tables| {
            tables.exempt.retain(|_, until| *until > now);
            tables.exempt.keys().copied().collect()
        })
        .await
    }
}

#[async_trait]
impl Authorisations for MemoryLedger {
    async fn authorise(&self, request: &Request, per_hour: u32) -> Result<bool, LedgerError> {
        let now = self.now();
        self.write(|tables| {
            let all = &mut tables.authorisations;
            let is_there = all.iter().any(|(id, ..)| *id == request.id);
            let recent = all.iter().filter(|(.., at, _)| *at > now - TimeDelta::hours(1)).count();
            let may = is_there || recent < per_hour as usize;
            if may && !is_there {
                all.push((request.id, request.course_id, now, false));
            }
            may
        })
        .await
    }

    async fn are_authorised(&self) -> Result<bool, LedgerError> {
        let since = self.now() - GOOD_FOR;
        self.read(|tables| tables.authorisations.iter().any(|(.., at, used)| !used && *at > since)).await
    }

    async fn take_authorised(&self, run: Uuid) -> Result<Authorised, LedgerError> {
        let since = self.now() - GOOD_FOR;
        let blind = self.without == Some(Safeguard::AuthorisedOnce);
        self.fenced(run, |state| {
            let mut courses = BTreeSet::new();
            for (_, course, at, used) in &mut state.clusters[self.cluster].ledger.authorisations {
                if (!std::mem::replace(used, true) || blind) && *at > since {
                    courses.insert(*course);
                }
            }
            state.observer.authorised_run(self.who, self.cluster);
            Authorised::for_test(courses)
        })
        .await
    }
}

#[async_trait]
impl Organizations for MemoryLedger {
    async fn without_organization(&self, limit: u32) -> Result<BTreeSet<CourseId>, LedgerError> {
        let unknown = |(_, known): &(&CourseId, &KnownId)| known.organization.is_none() && known.departed_at.is_none();
        self.read(|tables| tables.known.iter().filter(unknown).map(|(id, _)| *id).take(limit as usize).collect()).await
    }

    async fn note_organizations(&self, told: &BTreeMap<CourseId, String>) -> Result<(), LedgerError> {
        self.write(|tables| {
            for (course, organization) in told {
                if let Some(known) = tables.known.get_mut(course) {
                    known.organization = Some(organization.clone());
                }
            }
        })
        .await
    }

    async fn organization_of(&self, course: CourseId) -> Result<Option<String>, LedgerError> {
        let of = |tables: &Tables| tables.known.get(&course).and_then(|known| known.organization.clone());
        Ok(self.read(of).await?.filter(|organization| !organization.is_empty()))
    }
}

#[async_trait]
impl Runs for MemoryLedger {
    async fn begin(&self, run: Uuid, mode: Mode) -> Result<DateTime<Utc>, LedgerError> {
        let now = self.now();
        let (who, cluster) = (self.who, self.cluster);
        self.call(|state| {
            state.clusters[cluster].commit();
            state.clusters[cluster].ledger.runs.push(Run { id: run, mode, started_at: now, ended: false });
            state.observer.began(who, run, mode, now);
        })
        .await?;
        Ok(now)
    }

    async fn highest_populations(&self) -> Result<BTreeMap<String, u64>, LedgerError> {
        let now = self.now();
        self.read(|tables| {
            let populations = tables.since_accepted(now);
            let mut latest: BTreeMap<&String, DateTime<Utc>> = BTreeMap::new();
            for (at, source, _) in &populations {
                let last = latest.entry(source).or_insert(*at);
                *last = (*last).max(*at);
            }
            let mut highest: BTreeMap<String, u64> = BTreeMap::new();
            for (at, source, live) in &populations {
                if *at > now - TimeDelta::days(7) || latest.get(source) == Some(at) {
                    let most = highest.entry(source.clone()).or_default();
                    *most = (*most).max(*live);
                }
            }
            highest
        })
        .await
    }

    async fn record_populations(&self, run: Uuid, populations: &[Population]) -> Result<(), LedgerError> {
        self.write(|tables| {
            let at = tables.runs.iter().find(|other| other.id == run).map(|run| run.started_at);
            let new = populations.iter().map(|found| (at.unwrap_or_default(), found.source.clone(), found.live));
            tables.populations.extend(new);
        })
        .await
    }

    async fn finish(&self, report: &RunReport, clocks_count: bool) -> Result<(), LedgerError> {
        let (who, cluster) = (self.who, self.cluster);
        self.fenced(report.run, |state| {
            let tables = &mut state.clusters[cluster].ledger;
            for row in tables.orphans.values_mut().filter(|row| clocks_count && row.seen_run == report.run) {
                row.orphan.clock = OrphanClock { accrued: row.orphan.accrued, counted_at: Some(report.started_at) };
            }
            tables.runs.iter_mut().filter(|run| run.id == report.run).for_each(|run| run.ended = true);
            tables.halts = Some((report.started_at, report.halts.clone()));
            if clocks_count {
                state.observer.finished(who, cluster);
            }
        })
        .await
    }

    async fn fail(&self, run: Uuid, _: &str) -> Result<(), LedgerError> {
        self.write(|tables| tables.runs.iter_mut().filter(|other| other.id == run).for_each(|run| run.ended = true))
            .await
    }

    async fn forget_old(&self) -> Result<(), LedgerError> {
        self.write(|_| ()).await
    }

    async fn last_start(&self) -> Result<(Option<DateTime<Utc>>, DateTime<Utc>), LedgerError> {
        let now = self.now();
        let runs = |run: &&Run| run.mode == Mode::Run;
        self.read(|tables| (tables.runs.iter().filter(runs).map(|run| run.started_at).max(), now)).await
    }

    async fn last_run(&self) -> Result<LastRun, LedgerError> {
        let cluster = self.cluster;
        self.call(|state| {
            let server = &state.clusters[cluster];
            let runs = server.ledger.runs.iter().rev().filter(|run| run.mode == Mode::Run);
            let open: Vec<bool> = runs.map(|run| !run.ended).collect();
            LastRun::of(&open, server.locks.contains_key(&(AdvisoryLock::Ledger as u8)))
        })
        .await
    }
}

#[async_trait]
impl Known for MemoryLedger {
    async fn learn(&self, run: Uuid, live: &LiveSet, across_break: bool) -> Result<(), LedgerError> {
        let now = self.now();
        let (who, cluster) = (self.who, self.cluster);
        self.fenced(run, |state| {
            state.observer.learned(who, cluster, live, self.world.now());
            state.observer.note(format!("{who:?} learns {} live ids, across a break: {across_break}", live.len()));
            let Cluster { ledger: tables, .. } = &mut state.clusters[cluster];
            for id in live.iter() {
                let arrived = tables.known.get(&id).is_none_or(|known| known.departed_at.is_some());
                if arrived {
                    tables.known.insert(id, KnownId::default());
                }
                self.start_clocks_of(tables, id);
            }
            for (id, known) in &mut tables.known {
                if !live.contains(*id) && known.departed_at.is_none() {
                    (known.departed_at, known.across_break) = (Some(now), across_break);
                }
            }
            let remains: BTreeSet<CourseId> = tables.orphans.keys().map(|(.., course)| *course).collect();
            tables.known.retain(|id, known| {
                let old = known.departed_at.is_some_and(|then| then < now - TimeDelta::days(90));
                !old || known.across_break || remains.contains(id)
            });
        })
        .await
    }

    async fn found_live(&self, live: &LiveSet) -> Result<(), LedgerError> {
        self.call(|state| {
            state.observer.found_live((self.who, self.cluster), live, self.world.now());
            state.clusters[self.cluster].commit();
            let tables = &mut state.clusters[self.cluster].ledger;
            live.iter().for_each(|id| self.start_clocks_of(tables, id));
        })
        .await
    }

    async fn known_among(&self, ids: &BTreeSet<CourseId>) -> Result<KnownIds, LedgerError> {
        self.read(|tables| {
            let known = |id: &&CourseId| tables.known.contains_key(id);
            let broken = |id: &&CourseId| tables.known.get(id).is_some_and(|known| known.across_break);
            KnownIds {
                all: ids.iter().filter(known).copied().collect(),
                across_break: ids.iter().filter(broken).copied().collect(),
            }
        })
        .await
    }
}

impl MemoryLedger {
    fn start_clocks_of(&self, tables: &mut Tables, id: CourseId) {
        if self.without == Some(Safeguard::Reappearance) {
            return;
        }
        start_clocks(tables, id);
    }
}

#[async_trait]
impl Graves for MemoryLedger {
    async fn unsettle(&self) -> Result<BTreeSet<String>, LedgerError> {
        // Where there never were tombstones that takes no time: a story without them tells what it told before there were any.
        if !self.world.state().clusters.iter().any(|cluster| cluster.graves.is_some()) {
            return Ok(BTreeSet::new());
        }
        self.write(|tables| std::mem::take(&mut tables.settled)).await
    }

    async fn settle(&self, sources: &[String]) -> Result<(), LedgerError> {
        if sources.is_empty() {
            return Ok(());
        }
        self.write(|tables| tables.settled.extend(sources.iter().cloned())).await
    }

    async fn saw_tombstones(&self, newest: &BTreeMap<String, i64>) -> Result<(), LedgerError> {
        self.write(|tables| tables.seen_tombstones.clone_from(newest)).await
    }

    async fn seen_tombstones(&self) -> Result<BTreeMap<String, i64>, LedgerError> {
        self.read(|tables| tables.seen_tombstones.clone()).await
    }

    async fn grace_is_over(&self, tombstoned: std::time::Duration) -> Result<bool, LedgerError> {
        let now = self.now();
        let over_at = |row: &OrphanRow| {
            let OrphanClock { accrued, counted_at } = row.orphan.clock;
            let is_held = row.orphan.evidence == Evidence::Tombstoned && row.in_grace;
            let over_at = counted_at.map(|then| then + tombstoned.saturating_sub(accrued));
            over_at.filter(|over_at| is_held && *over_at <= now)
        };
        self.read(|tables| {
            let last = tables.runs.iter().filter(|run| run.mode == Mode::Run).map(|run| run.started_at).max();
            tables.orphans.values().filter_map(over_at).any(|over_at| last.is_none_or(|last| over_at >= last))
        })
        .await
    }

    async fn remaining(&self, courses: &BTreeSet<CourseId>) -> Result<BTreeSet<CourseId>, LedgerError> {
        let state = self.world.state();
        let orphans = state.clusters[self.cluster].ledger.orphans.keys().map(|(.., course)| *course);
        Ok(orphans.filter(|course| courses.contains(course)).collect())
    }
}

#[async_trait]
impl Orphans for MemoryLedger {
    async fn remembered(&self, place: Place<'_>) -> Result<Remembered, LedgerError> {
        self.read(|tables| {
            let ours = tables.orphans.iter().filter(|((store, ..), _)| store == place.store);
            let index = |source: &String| place.sources.iter().position(|name| name == source).map(SourceIndex);
            ours.filter_map(|((_, source, course), row)| {
                let Orphan { found, clock, latched, .. } = &row.orphan;
                let latched = latched.filter(|_| self.without != Some(Safeguard::Latch));
                Some(((index(source)?, *course), RememberedOrphan { amount: found.amount, clock: *clock, latched }))
            })
            .collect()
        })
        .await
    }

    async fn record_orphans(
        &self,
        run: Uuid,
        place: Place<'_>,
        orphans: &[Orphan],
        closed: &[OrphanKey],
    ) -> Result<(), LedgerError> {
        self.fenced(run, |state| {
            state.observer.recorded(self.who, self.cluster, place.store, orphans);
            let tables = &mut state.clusters[self.cluster].ledger;
            for (source, course) in closed {
                tables.orphans.remove(&(place.store.to_owned(), name(&place, *source), *course));
                state.observer.closed(self.cluster, &(place.store.to_owned(), *source, *course));
            }
            for orphan in orphans {
                let key = (place.store.to_owned(), name(&place, orphan.source), orphan.course);
                let mut row = OrphanRow { orphan: orphan.clone(), seen_run: run, in_grace: false };
                if tables.orphans.get(&key).is_some_and(|before| before.seen_run.is_nil()) {
                    anew(&mut row);
                }
                tables.orphans.insert(key, row);
            }
        })
        .await
    }

    async fn record_decisions(&self, place: Place<'_>, decided: &[Decided]) -> Result<(), LedgerError> {
        self.call(|state| {
            state.clusters[self.cluster].commit();
            let tables = &mut state.clusters[self.cluster].ledger;
            for Decided { orphan, decision } in decided {
                let key = (place.store.to_owned(), name(&place, orphan.source), orphan.course);
                let Some(row) = tables.orphans.get_mut(&key) else { continue };
                row.in_grace = matches!(decision, Decision::Held(Hold::Grace { .. }));
                if decision.breaker().is_some() {
                    row.orphan.latched = row.orphan.latched.or(decision.breaker());
                    let place = (place.store.to_owned(), orphan.source, orphan.course);
                    state.observer.held_by_breaker(self.cluster, place, self.world.now());
                }
            }
        })
        .await
    }

    async fn close_orphans(&self, place: Place<'_>, gone: &[OrphanKey]) -> Result<(), LedgerError> {
        self.call(|state| {
            state.clusters[self.cluster].commit();
            for (source, course) in gone {
                let key = (place.store.to_owned(), name(&place, *source), *course);
                state.clusters[self.cluster].ledger.orphans.remove(&key);
                state.observer.closed(self.cluster, &(place.store.to_owned(), *source, *course));
            }
        })
        .await
    }
}

#[async_trait]
impl Intents for MemoryLedger {
    async fn open_intent(&self, run: Uuid, store: &str, meant: &Meant) -> Result<Option<OpenIntent>, LedgerError> {
        let opened_at = self.now();
        self.world.state().observer.intends(self.who);
        self.write(|tables| {
            if tables.paused.is_some() && self.without != Some(Safeguard::Pause) {
                return None;
            }
            let (id, store, meant) = (tables.intents.len() as i64, store.to_owned(), meant.clone());
            let intent = OpenIntent { id, run, store, meant };
            tables.intents.push(Intent { intent: intent.clone(), opened_at, outcome: None, open: true });
            Some(intent)
        })
        .await
    }

    async fn close_intent(
        &self,
        intent: &OpenIntent,
        outcome: &BatchOutcome,
        asked: AskedAgain,
    ) -> Result<(), LedgerError> {
        let opened_at = self.now();
        self.write(|tables| {
            // A restored ledger may not know the intent, or another one by its number.
            let is_it = |row: &Intent| (row.intent.run, &row.intent.store) == (intent.run, &intent.store);
            let at = usize::try_from(intent.id).ok().filter(|at| tables.intents.get(*at).is_some_and(is_it));
            let at = at.unwrap_or_else(|| {
                tables.intents.push(Intent { intent: intent.clone(), opened_at, outcome: None, open: true });
                tables.intents.len() - 1
            });
            tables.intents[at].open = asked == AskedAgain::Unanswered;
            tables.intents[at].outcome = Some(outcome.clone());
        })
        .await
    }

    async fn open_intents(&self) -> Result<BTreeMap<String, Interrupted>, LedgerError> {
        self.read(|tables| {
            let mut open: BTreeMap<String, Interrupted> = BTreeMap::new();
            for row in tables.intents.iter().filter(|row| row.open) {
                let gone = row.outcome.as_ref().map_or(&row.intent.meant.courses, |outcome| &outcome.deleted);
                let interrupted = open.entry(row.intent.store.clone()).or_default();
                interrupted.courses.extend(gone);
                if !gone.is_empty() {
                    interrupted.runs.insert(row.intent.run);
                }
            }
            open
        })
        .await
    }

    async fn settle_intents(&self, store: &str) -> Result<u64, LedgerError> {
        self.write(|tables| {
            let open = |intent: &&mut Intent| intent.open && intent.intent.store == store;
            tables.intents.iter_mut().filter(open).map(|intent| intent.open = false).count() as u64
        })
        .await
    }

    async fn recent(&self) -> Result<Recent, LedgerError> {
        let now = self.now();
        self.read(|tables| {
            let mut recent = Recent::default();
            for intent in tables.intents.iter().filter(|intent| day(intent.opened_at, now)) {
                match &intent.outcome {
                    Some(BatchOutcome { counting, .. }) => {
                        recent.bytes += counting.bytes;
                        recent.courses.extend(&counting.courses);
                    }
                    None => recent.courses.extend(&intent.intent.meant.counting),
                }
            }
            recent
        })
        .await
    }
}

#[async_trait]
impl Pauses for MemoryLedger {
    async fn pause(&self, reason: &str) -> Result<Pause, LedgerError> {
        let now = self.now();
        let pause = self.write(|tables| tables.paused.get_or_insert_with(|| (reason.to_owned(), now)).clone()).await?;
        Ok(in_force(pause))
    }

    async fn resume(&self) -> Result<Option<Pause>, LedgerError> {
        let ended = self.write(|tables| tables.paused.take()).await?;
        Ok(ended.map(in_force))
    }

    async fn paused(&self) -> Result<Option<Pause>, LedgerError> {
        let paused =
            self.read(|tables| tables.paused.clone()).await?.filter(|_| self.without != Some(Safeguard::Pause));
        Ok(paused.map(in_force))
    }
}

#[async_trait]
impl Requests for MemoryLedger {
    async fn request(&self, asked: &NewRequest) -> Result<Request, LedgerError> {
        let now = self.now();
        let NewRequest { course, timing, by, key, seen_live, waiting } = asked.clone();
        self.write(|tables| {
            let mut before = tables.requests.iter().filter(|(request, ..)| request.requested_by == by);
            if let Some((request, ..)) = before.find(|(_, used, _)| used.is_some() && *used == key) {
                return request.clone();
            }
            if seen_live {
                tables.known.entry(course).or_default();
                start_clocks(tables, course);
            }
            let expires_at = waiting.as_ref().map(|(_, lasts)| now + *lasts);
            let (id, state, answer) = (Uuid::now_v7(), RequestState::Open, waiting.and_then(|(answer, _)| answer));
            let (course_id, requested_by, requested_at) = (course, by, now);
            let request = Request { id, course_id, timing, requested_by, requested_at, expires_at, state, answer };
            tables.requests.push((request.clone(), key, false));
            request
        })
        .await
    }

    async fn open_requests(&self) -> Result<Vec<Request>, LedgerError> {
        // Where nobody ever asked that takes no time: a story without requests tells what it told before there were any.
        if !self.world.state().clusters.iter().any(|cluster| !cluster.ledger.requests.is_empty()) {
            return Ok(Vec::new());
        }
        self.call(|state| {
            let all = state.clusters[self.cluster].ledger.requests.iter().map(|(request, ..)| request);
            let open: Vec<&Request> = all.filter(|request| request.state == RequestState::Open).collect();
            let of = |request: &Request| (request.course_id, request.timing);
            let is_latest = |n: usize| !open[n + 1..].iter().any(|later| of(later) == of(open[n]));
            let latest: Vec<Request> = (0..open.len()).filter(|n| is_latest(*n)).map(|n| open[n].clone()).collect();
            state.observer.requests_read(self.who, &latest);
            latest
        })
        .await
    }

    async fn answer_requests(&self, answers: &[(Uuid, RequestState, Cleanup)]) -> Result<(), LedgerError> {
        self.write(|tables| {
            let blind = self.without == Some(Safeguard::VoidRequests);
            for (id, state, answer) in answers.iter().filter(|(_, state, _)| !blind || *state != RequestState::Void) {
                let Some(nth) = tables.requests.iter().position(|(request, ..)| request.id == *id) else { continue };
                let of = (tables.requests[nth].0.course_id, tables.requests[nth].0.timing);
                for (request, _, seen) in &mut tables.requests[..=nth] {
                    if request.state == RequestState::Open && (request.course_id, request.timing) == of {
                        *seen |= answer.run.is_some();
                        (request.state, request.answer) = (*state, Some(answer.clone()));
                    }
                }
            }
        })
        .await
    }

    async fn request_of(&self, id: Uuid) -> Result<Option<Request>, LedgerError> {
        let find = |tables: &Tables| tables.requests.iter().find(|(request, ..)| request.id == id).cloned();
        Ok(self.read(find).await?.map(|(request, ..)| request))
    }

    async fn unanswered(&self) -> Result<[BTreeSet<CourseId>; 2], LedgerError> {
        self.read(|tables| {
            let mut courses = [BTreeSet::new(), BTreeSet::new()];
            for (request, _, seen) in &tables.requests {
                let is_before = request.timing == Timing::BeforeDelete;
                if request.state == RequestState::Open && !seen && (is_before || request.answer.is_none()) {
                    courses[usize::from(is_before)].insert(request.course_id);
                }
            }
            courses
        })
        .await
    }
}

fn in_force((reason, paused_at): (String, DateTime<Utc>)) -> Pause {
    Pause { reason, paused_by: "a person".to_owned(), paused_at }
}
