//! What the delete path asked for, in a run: evidence before the gates, and an honest answer after the sweep.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use uuid::Uuid;

use super::{Collector, RunError};
use crate::domain::cleanup::{self, Cleanup, Request, RequestState, Seen, Timing};
use crate::domain::ids::CourseId;
use crate::domain::inventory::SourceIndex;
use crate::domain::live_set::LiveSet;
use crate::domain::plan::Plan;
use crate::domain::report::{RunReport, Tally};
use crate::errors::chain;
use crate::stores::{Store, Targets};

/// The requests of a run: those that were open before its live set was read. Whoever is in that live set lived after them.
#[derive(Debug, Default)]
pub struct Requests {
    open: Vec<Request>,
    courses: BTreeSet<CourseId>,
}

/// What became of each course that somebody asked about, by store, in the order of the collector's.
pub(super) type Watched = Vec<BTreeMap<CourseId, Tally>>;

impl Requests {
    /// What is asked for now.
    pub(super) async fn read(collector: &Collector) -> Result<Self, RunError> {
        let open = collector.ledger.open_requests().await?;
        let courses = open.iter().map(|request| request.course_id).collect();
        Ok(Self { open, courses })
    }

    /// The courses that they are about.
    pub(super) fn courses(&self) -> &BTreeSet<CourseId> {
        &self.courses
    }

    /// These are live, so what was asked for once they had gone is void: should they die anew, nobody has asked for that.
    pub(super) async fn void(&self, collector: &Collector, live: &LiveSet) -> Result<(), RunError> {
        void(collector, &self.open, live).await?;
        self.void_late(collector, live).await
    }

    /// The same of what was asked for since these were read: whoever was seen live, and lives still, is asked for by nobody. Of whom has
    /// gone meanwhile, the word may be younger than the sighting, and stands.
    async fn void_late(&self, collector: &Collector, live: &LiveSet) -> Result<(), RunError> {
        let read: BTreeSet<Uuid> = self.open.iter().map(|request| request.id).collect();
        let is_late = |request: &Request| live.contains(request.course_id) && !read.contains(&request.id);
        let late: Vec<Request> = collector.ledger.open_requests().await?.into_iter().filter(is_late).collect();
        if late.is_empty() {
            return Ok(());
        }
        let still = collector.liveness.glance(&late.iter().map(|request| request.course_id).collect()).await?;
        void(collector, &late, &still).await
    }

    /// Nothing was done: says why to whoever waits for an answer, and of whom the row has gone that was waited for. What was asked for
    /// stays promised; the next run that is due goes on with it.
    pub(super) async fn postpone(&self, collector: &Collector, run: Uuid, (reason, detail): (&str, &str)) {
        let promised = |request: &&Request| request.answer.is_some() && request.timing == Timing::BeforeDelete;
        let going: BTreeSet<CourseId> = self.open.iter().filter(promised).map(|request| request.course_id).collect();
        let live = if going.is_empty() { None } else { collector.liveness.glance(&going).await.ok() };
        let has_gone = |request: &&Request| live.as_ref().is_some_and(|live| !live.contains(request.course_id));
        let waiting = || Cleanup::waiting(reason, detail, Vec::new());
        let answer = |request: &Request| match request.answer {
            None => Some(waiting()),
            // A run has looked at it: it wants no other one before the next is due.
            Some(_) if promised(&request) && has_gone(&request) => Some(Cleanup { run: Some(run), ..waiting() }),
            Some(_) => None,
        };
        let answers: Vec<_> =
            self.open.iter().filter_map(|request| Some((request.id, RequestState::Open, answer(request)?))).collect();
        note(collector, &answers).await;
    }

    /// Counts what is left of each course, in every store at the same time, and answers. `live` is who lived when the run began, and
    /// who was found live since.
    pub(super) async fn answer(
        &self,
        collector: &Collector,
        report: &RunReport,
        (plan, watched): (&Plan, &Watched),
        (live, took): ([&LiveSet; 2], Duration),
    ) {
        let is_dead = |course: &CourseId| !live.iter().any(|live| live.contains(*course));
        let dead: BTreeSet<CourseId> = self.courses.iter().copied().filter(is_dead).collect();
        let remains = Remains::count(collector, &dead).await;
        let mut answers = Vec::new();
        for request in &self.open {
            let course = request.course_id;
            if dead.contains(&course) {
                let seen = remains.of_course(collector, report, (plan, watched), course);
                let answer = cleanup::conclude(report.run, seen, took.as_secs_f64());
                let state = if answer.verified { RequestState::Done } else { RequestState::Open };
                answers.push((request.id, state, answer));
            } else {
                answers.extend(end_of_the_living(request, report).map(|end| ended(request, end)));
            }
        }
        note(collector, &answers).await;
    }
}

/// Makes void what was asked for once the row of one of these had gone.
async fn void(collector: &Collector, requests: &[Request], live: &LiveSet) -> Result<(), RunError> {
    let is_void = |request: &&Request| request.timing == Timing::AfterDelete && live.contains(request.course_id);
    let void: Vec<_> = requests.iter().filter(is_void).map(|request| ended(request, VOID)).collect();
    if !void.is_empty() {
        collector.ledger.answer_requests(&void).await?;
    }
    Ok(())
}

/// What becomes of a request, and why.
type End = (RequestState, &'static str);

const VOID: End = (RequestState::Void, "the course is live; nothing of it was touched");

fn ended(request: &Request, (state, why): End) -> (Uuid, RequestState, Cleanup) {
    (request.id, state, Cleanup { success: false, ..Cleanup::waiting(state.as_str(), why, Vec::new()) })
}

/// What becomes of a request whose course is live; `None` if its row is waited for.
fn end_of_the_living(request: &Request, report: &RunReport) -> Option<End> {
    match (request.timing, request.expires_at) {
        (Timing::AfterDelete, _) => Some(VOID),
        (Timing::BeforeDelete, Some(end)) if end <= report.started_at => {
            Some((RequestState::Expired, "the course's row is still there; nothing of it was touched"))
        }
        (Timing::BeforeDelete, _) => None,
    }
}

/// The run is not to fail for it: what is not answered is open, and the next run answers.
async fn note(collector: &Collector, answers: &[(Uuid, RequestState, Cleanup)]) {
    if answers.is_empty() {
        return;
    }
    if let Err(error) = collector.ledger.answer_requests(answers).await {
        tracing::warn!(error = chain(&error), "what was requested could not be answered; the next run does");
    }
}

/// What is left of some courses, by store; or why nobody knows.
pub struct Remains {
    stores: Vec<Result<BTreeMap<CourseId, u64>, String>>,
}

impl Remains {
    /// Counts exactly, in every store at the same time.
    pub async fn count(collector: &Collector, courses: &BTreeSet<CourseId>) -> Self {
        if courses.is_empty() {
            return Self { stores: collector.stores.iter().map(|_| Ok(BTreeMap::new())).collect() };
        }
        let each = collector.stores.iter().map(|managed| count(managed.store.as_ref(), courses));
        Self { stores: join_all(each).await }
    }

    /// By store: what is left of one course.
    pub fn of(&self, course: CourseId) -> impl Iterator<Item = Result<u64, &str>> + '_ {
        let of = move |store: &'_ BTreeMap<CourseId, u64>| store.get(&course).copied().unwrap_or(0);
        self.stores.iter().map(move |store| store.as_ref().map(of).map_err(String::as_str))
    }

    fn of_course<'a>(
        &self,
        collector: &'a Collector,
        report: &RunReport,
        (plan, watched): (&'a Plan, &Watched),
        course: CourseId,
    ) -> Vec<Seen<'a>> {
        let stores = collector.stores.iter().enumerate().zip(self.of(course));
        let seen = stores.map(|((index, managed), remaining)| {
            let decided = plan.stores.get(index).into_iter().flatten();
            let entry = report.stores.get(index);
            let tally = watched.get(index).and_then(|tallies| tallies.get(&course)).copied();
            let error = entry.and_then(|entry| entry.error.clone().or_else(|| entry.failures.first().cloned()));
            Seen {
                store: managed.store.name(),
                kind: managed.store.kind(),
                decided: decided.filter(|decided| decided.orphan.course == course).collect(),
                tally: tally.unwrap_or_default(),
                error,
                remaining: remaining.map_err(str::to_owned),
                seconds: entry.map_or(0.0, |entry| entry.inventory_seconds + entry.sweep_seconds),
            }
        });
        seen.collect()
    }
}

async fn count(store: &dyn Store, courses: &BTreeSet<CourseId>) -> Result<BTreeMap<CourseId, u64>, String> {
    let mut targets = Targets::none(store.sources().len());
    for source in 0..store.sources().len() {
        courses.iter().for_each(|course| targets.insert(SourceIndex(source), *course));
    }
    let mut left = BTreeMap::new();
    for (_, course, count) in store.remaining(&targets).await.map_err(|error| chain(&error))? {
        *left.entry(course).or_default() += count;
    }
    Ok(left)
}
