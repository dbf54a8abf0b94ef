//! The delete path: one call that removes everything that a course left, in every store, and tells the truth about it.
//!
//! A call is a request in the ledger. That is evidence that the course is dead, and a promise: the next run takes what the course left,
//! through the same gates as everything else, and so does each run after it until every store is empty of the course. So a cleanup
//! that failed half way is never lost, and many that come at the same time are one run.
//!
//! A course that is still there when `before_delete` is said is only counted, since its row's end may yet be refused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::domain::cleanup::{
    Cleanup, QuarantinedTrace, Request, SourceTrace, StoreCleanup, StoreTrace, Timing, Trace,
};
use crate::domain::ids::CourseId;
use crate::domain::inventory::SourceIndex;
use crate::domain::report::Mode;
use crate::errors::chain;
use crate::ledger::{LedgerError, NewRequest};
use crate::postgres::PostgresError;
use crate::quarantine::Listing;
use crate::reconcile::requests::Remains;
use crate::reconcile::{Collector, ManagedStore, RunError, reconcile};
use crate::stores::{Handle, Store, StoreError, Targets};

/// How many callers are attended to at a time, each with a connection to each liveness source; the others wait for their turn.
const ASKING: usize = 4;
/// How often a caller looks for its answer, should another replica be the one that runs.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How many names of a source are shown.
const SAMPLES: usize = 5;

/// How long the row of a course is waited for that was said to go, before nobody believes it any more.
pub const PROMISE: Duration = Duration::from_secs(24 * 3600);

/// What becomes of a course whose row is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Haste {
    /// It goes with its row.
    WithTheRow,
    /// It goes in the next run though it lives, if a person switched that on (S1).
    AtOnce,
}

/// What a caller asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The course.
    pub course: CourseId,
    /// Seen from its row.
    pub timing: Timing,
    /// If its row is still there.
    pub haste: Haste,
    /// Who asks: a token's name, a person.
    pub by: String,
    /// Whoever asks again with the same key gets what it got the first time.
    pub key: Option<String>,
}

/// Why nothing was requested.
#[derive(Debug, thiserror::Error)]
pub enum CleanupError {
    /// The course is live.
    #[error("course {0} is live, so nothing of it is touched; delete its row first, or say `before_delete`")]
    Live(CourseId),
    /// Somebody used the key for something else.
    #[error("this key was used for another course, or with another intent (request {0}); use a new one")]
    KeyReused(Uuid),
    /// Nobody switched it on.
    #[error(
        "what a live course has is not deleted here (`api.live_cleanups_per_hour`); without `at_once` it goes as soon as the row is gone"
    )]
    NotAtOnce,
    /// As many were deleted at once as may be.
    #[error(
        "{per_hour} live courses were authorised to be deleted within the last hour, and no more may be; request {request} is promised, and goes as soon as its row is gone"
    )]
    TooMany {
        /// The request.
        request: Uuid,
        /// How many may be.
        per_hour: u32,
    },
    /// What is live cannot be known.
    #[error("what is live cannot be known, so nothing was requested")]
    Liveness(#[source] PostgresError),
    /// It cannot be written down.
    #[error("the request could not be written down, so nothing is promised; ask again")]
    Ledger(#[from] LedgerError),
}

/// Asks for what is left of a course to be removed, and counts what that is if its row is still there. Deletes nothing: a run does.
///
/// # Errors
/// If nothing is promised.
pub async fn request(collector: &Collector, call: &Call) -> Result<Request, CleanupError> {
    if call.haste == Haste::AtOnce && collector.live_cleanups.is_none() {
        return Err(CleanupError::NotAtOnce);
    }
    let live = collector.liveness.glance(&[call.course].into()).await.map_err(CleanupError::Liveness)?;
    let seen_live = live.contains(call.course);
    let waiting = match (call.timing, seen_live) {
        (Timing::AfterDelete, true) => return Err(CleanupError::Live(call.course)),
        // A run answers.
        (Timing::BeforeDelete, true) if call.haste == Haste::AtOnce => Some((None, PROMISE)),
        (Timing::BeforeDelete, true) => Some((Some(count(collector, call.course).await), PROMISE)),
        (_, false) => None,
    };
    let asked = NewRequest {
        course: call.course,
        timing: call.timing,
        by: call.by.clone(),
        key: call.key.clone(),
        seen_live,
        waiting,
    };
    let request = collector.ledger.request(&asked).await?;
    if (request.course_id, request.timing) != (call.course, call.timing) {
        return Err(CleanupError::KeyReused(request.id));
    }
    if let (Haste::AtOnce, Some(per_hour)) = (call.haste, collector.live_cleanups)
        && seen_live
        && request.answer.is_none()
        && !collector.ledger.authorise(&request, per_hour).await?
    {
        return Err(CleanupError::TooMany { request: request.id, per_hour });
    }
    tracing::info!(
        request = %request.id,
        course = %call.course,
        timing = call.timing.as_str(),
        by = call.by,
        "asked to clean up what a course left"
    );
    Ok(request)
}

/// Removes what a course left in every store, and answers; with a run of its own, so it waits for as long as that takes. If another
/// collector is at work, or the run comes to nothing, the answer says so, and the next run goes on.
///
/// # Errors
/// If nothing is promised.
pub async fn cleanup_course_resources(
    collector: &Collector,
    call: &Call,
    stop: &CancellationToken,
) -> Result<Request, CleanupError> {
    let request = request(collector, call).await?;
    if request.answer.is_some() {
        return Ok(request);
    }
    let ended = reconcile(collector, Mode::Run, stop).await;
    let answered = collector.ledger.request_of(request.id).await?.unwrap_or_else(|| request.clone());
    if answered.answer.is_some() {
        return Ok(answered);
    }
    let (reason, detail) = match &ended {
        Err(RunError::Locked(_)) => ("locked", "another collector is at work; the next run goes on".to_owned()),
        Err(error) => ("failed", chain(error)),
        Ok(_) => ("unknown", "the run ended without an answer; the next one goes on".to_owned()),
    };
    Ok(Request { answer: Some(Cleanup::waiting(reason, &detail, Vec::new())), ..request })
}

/// Rung by whoever asks, heard by the loop that runs; and the other way round when a run has ended.
#[derive(Debug, Default)]
pub struct Bell {
    asked: Notify,
    ended: Notify,
    run: AtomicBool,
}

impl Bell {
    /// Somebody asks: the next run is due now.
    pub fn ring(&self) {
        self.asked.notify_one();
    }

    /// Somebody wants a run, though nothing is asked for that the ledger knows.
    pub fn ring_for_a_run(&self) {
        self.run.store(true, Ordering::SeqCst);
        self.ring();
    }

    /// Whether somebody wants a run.
    pub fn wants_a_run(&self) -> bool {
        self.run.load(Ordering::SeqCst)
    }

    /// A run begins: whoever wants one from now on wants another.
    pub fn run_begins(&self) {
        self.run.store(false, Ordering::SeqCst);
    }

    /// Waits until somebody asks.
    pub async fn rung(&self) {
        self.asked.notified().await;
    }

    /// A run has ended, whatever came of it: whoever waits for an answer looks for it.
    pub fn run_ended(&self) {
        self.ended.notify_waiters();
    }
}

/// The delete path of a program that serves: its loop runs for all who ask at the same time.
pub struct Desk {
    collector: Arc<Collector>,
    bell: Arc<Bell>,
    asking: Semaphore,
}

impl Desk {
    /// A desk whose requests are answered by the runs of the loop that hears `bell`.
    pub fn new(collector: Arc<Collector>, bell: Arc<Bell>) -> Self {
        Self { collector, bell, asking: Semaphore::new(ASKING) }
    }

    /// Asks for what a course left to be removed, and waits for nothing: the next run is due now.
    ///
    /// # Errors
    /// If nothing is promised.
    pub async fn ask(&self, call: &Call) -> Result<Request, CleanupError> {
        // It is closed by nobody.
        let _turn = self.asking.acquire().await;
        let asked = request(&self.collector, call).await?;
        if asked.answer.is_none() {
            self.bell.ring();
        }
        Ok(asked)
    }

    /// Removes what a course left in every store, and waits for the answer, but no longer than `patience`: then the request is answered
    /// without one, and stays promised.
    ///
    /// # Errors
    /// If nothing is promised.
    pub async fn cleanup(&self, call: &Call, patience: Duration) -> Result<Request, CleanupError> {
        let until = Instant::now() + patience;
        let mut asked = self.ask(call).await?;
        while asked.answer.is_none() && Instant::now() < until {
            let ended = self.bell.ended.notified();
            self.bell.ring();
            // Another replica may be the one that runs.
            let _ = timeout_at(until.min(Instant::now() + LOOK_AGAIN), ended).await;
            asked = self.collector.ledger.request_of(asked.id).await?.unwrap_or(asked);
        }
        Ok(asked)
    }

    /// A request, as it is now.
    ///
    /// # Errors
    /// If the ledger does not answer.
    pub async fn status(&self, request: Uuid) -> Result<Option<Request>, LedgerError> {
        self.collector.ledger.request_of(request).await
    }

    /// See [`trace`].
    ///
    /// # Errors
    /// As [`trace`].
    pub async fn trace(&self, course: CourseId) -> Result<Trace, CleanupError> {
        let _turn = self.asking.acquire().await;
        trace(&self.collector, course).await
    }
}

/// True if a run is wanted before the next one is due: somebody asked, or was authorised, and no run has looked at it; a course has gone whose end was
/// waited for; a death was recorded that no run has seen, `seldom` enough to begin one for it; or what died so has waited long enough.
///
/// # Errors
/// If the ledger does not answer.
pub async fn is_wanted(collector: &Collector, seldom: bool) -> Result<bool, LedgerError> {
    let [gone, going] = collector.ledger.unanswered().await?;
    if !gone.is_empty() || collector.ledger.grace_is_over(collector.limits.graces.tombstoned).await? {
        return Ok(true);
    }
    if collector.live_cleanups.is_some() && collector.ledger.are_authorised().await? {
        return Ok(true);
    }
    let hints = async {
        let has_gone = !going.is_empty() && {
            let live = collector.liveness.glance(&going).await?;
            going.iter().any(|course| !live.contains(*course))
        };
        let newest = if seldom { collector.liveness.newest_tombstones().await? } else { BTreeMap::new() };
        Ok::<_, PostgresError>((has_gone, newest))
    };
    match hints.await {
        Ok((true, _)) => Ok(true),
        Ok((false, newest)) if newest.is_empty() => Ok(false),
        Ok((false, newest)) => {
            let seen = collector.ledger.seen_tombstones().await?;
            Ok(newest.iter().any(|(source, newest)| seen.get(source).is_none_or(|seen| newest > seen)))
        }
        Err(error) => {
            // They are no more than that; runs that are due find out as well.
            tracing::debug!(error = chain(&error), "whether courses have gone could not be asked");
            Ok(false)
        }
    }
}

/// What a course has in each store now, of a course whose row is still there.
async fn count(collector: &Collector, course: CourseId) -> Cleanup {
    let remains = Remains::count(collector, &BTreeSet::from([course])).await;
    let of = collector.stores.iter().zip(remains.of(course));
    let count = |(managed, remaining): (&ManagedStore, Result<u64, &str>)| {
        StoreCleanup::counted(managed.store.name(), managed.store.kind(), remaining)
    };
    let detail = "the course's row is still there; what it left goes as soon as the row is gone";
    Cleanup::waiting("row_still_there", detail, of.map(count).collect())
}

/// What is left of a course in each store, counted exactly, in all of them at the same time, with the first few names. Changes nothing.
///
/// # Errors
/// If it cannot be known whether the course is live, or what time it is. A store that cannot be asked is in the answer.
pub async fn trace(collector: &Collector, course: CourseId) -> Result<Trace, CleanupError> {
    let live = collector.liveness.glance(&[course].into()).await.map_err(CleanupError::Liveness)?;
    let (_, looked_at) = collector.ledger.last_start().await?;
    let stores = join_all(collector.stores.iter().map(|managed| trace_store(managed.store.as_ref(), course))).await;
    let Listing { copies, errors, .. } = collector.quarantine.copies(&collector.stores(), &|_| true).await;
    let of_course = copies.iter().filter_map(|copy| Some((copy, copy.courses.get(&course)?.0)));
    let quarantined = of_course.map(|(copy, resources)| QuarantinedTrace {
        store: copy.store.clone(),
        run: copy.id.run,
        resources,
        expires_at: copy.id.expires_at,
    });
    Ok(Trace {
        course_id: course,
        live: live.contains(course),
        empty: stores.iter().all(|store| store.error.is_none() && store.sources.is_empty()),
        looked_at,
        quarantined: quarantined.collect(),
        quarantine_errors: errors.into_iter().map(|(of, error)| format!("{of}: {error}")).collect(),
        stores,
    })
}

async fn trace_store(store: &dyn Store, course: CourseId) -> StoreTrace {
    let mut targets = Targets::none(store.sources().len());
    (0..store.sources().len()).for_each(|source| targets.insert(SourceIndex(source), course));
    let (sources, error) = match sources(store, &targets).await {
        Ok(sources) => (sources, None),
        Err(error) => (Vec::new(), Some(chain(&error))),
    };
    StoreTrace { store: store.name().to_owned(), kind: store.kind().to_owned(), sources, error }
}

async fn sources(store: &dyn Store, targets: &Targets) -> Result<Vec<SourceTrace>, StoreError> {
    let mut found: BTreeMap<usize, SourceTrace> = BTreeMap::new();
    for (SourceIndex(index), _, resources) in store.remaining(targets).await? {
        let source = store.sources().get(index).cloned().unwrap_or_default();
        found.entry(index).or_insert(SourceTrace { source, resources: 0, samples: Vec::new() }).resources += resources;
    }
    found.retain(|_, trace| trace.resources > 0);
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let (sender, mut handles) = mpsc::channel::<Handle>(SAMPLES);
    let sample = async {
        while let Some(handle) = handles.recv().await {
            if let Some(trace) = found.get_mut(&handle.source.0).filter(|trace| trace.samples.len() < SAMPLES) {
                trace.samples.push(printable(&handle));
            }
        }
    };
    let (located, ()) = tokio::join!(store.locate(targets, sender), sample);
    located?;
    Ok(found.into_values().collect())
}

/// A resource's name; of a store whose handle is the course, the course's.
fn printable(handle: &Handle) -> String {
    match handle.key.is_empty() {
        true => handle.owner.to_string(),
        false => handle.key.escape_ascii().to_string(),
    }
}
