//! The ledger.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::Stopwatch;
use crate::clock::Clock;
use crate::domain::approvals::{Digest, HoldKind, Released, Terms};
use crate::domain::breakers::Recent;
use crate::domain::cleanup::{Cleanup, Request, RequestState};
use crate::domain::diff::{Orphan, OrphanKey, Remembered};
use crate::domain::evidence::Graces;
use crate::domain::holds::{Covered, HeldOrphan};
use crate::domain::ids::CourseId;
use crate::domain::live_set::{Halt, LiveSet, Population};
use crate::domain::pins::{Position, SourcePin};
use crate::domain::plan::Decided;
use crate::domain::report::{Mode, RunReport};
use crate::domain::standing::Standing;
use crate::ledger::{
    AcceptedSize, Adoption, Adoptions, Approval, Approvals, AskedAgain, Authorisations, Authorised, BatchOutcome,
    Exemptions, Graves, Intent, Intents, Interrupted, Known, KnownIds, LastRun, Ledger, LedgerError, Move, NewRequest,
    OpenIntent, Organizations, Orphans, Pause, Pauses, Place, Requests, Runs,
};
use crate::postgres::{Lock, PostgresError};
use crate::telemetry::metrics::{Done, Metrics};

/// How the metrics call it.
pub const CLIENT: &str = "ledger";

/// A ledger of which each operation is measured, and whoever holds its lock, too.
pub struct MeasuredLedger {
    ledger: Arc<dyn Ledger>,
    watch: Stopwatch,
}

impl MeasuredLedger {
    /// Measures a ledger.
    pub fn new(ledger: Arc<dyn Ledger>, metrics: &Metrics, clock: Arc<dyn Clock>) -> Self {
        let Done { database_seconds, database_errors, .. } = &metrics.done;
        Self { ledger, watch: Stopwatch::new(CLIENT, (database_seconds, database_errors), clock) }
    }
}

/// Implements the traits of a ledger by measuring each of their methods: none has a default, so the compiler misses whichever is missing here.
macro_rules! measured {
    ($($concern:ident { $($method:ident($($argument:ident: $kind:ty),*) -> $answer:ty;)+ })+) => {
        /// What is measured of it.
        pub const OPERATIONS: &[&str] = &["lock", "verify", "check_version", "standing", $($(stringify!($method)),+),+];

        $(#[async_trait]
        impl $concern for MeasuredLedger {
            $(async fn $method(&self, $($argument: $kind),*) -> Result<$answer, LedgerError> {
                self.watch.tried(stringify!($method), self.ledger.$method($($argument),*), |_| true).await
            })+
        })+
    };
}

measured! {
    Adoptions {
        adoption() -> Option<Adoption>;
        pin(name: &str, pins: &[(String, SourcePin, Position)], anew: bool) -> Uuid;
        adopt_store(store: &str, sources: &[(String, bool)], counter: u64) -> ();
        begin_move(store: &str, step: &Move<'_>) -> bool;
        objected(store: &str) -> ();
        end_move(store: &str, to: u64) -> ();
        withdraw_move(store: &str, from: u64, to: u64) -> ();
        saw_source(run: Uuid, source: &str, pin: &SourcePin, position: &Position) -> ();
        server() -> Option<String>;
        start_clocks_anew() -> u64;
    }
    Approvals {
        released(place: Place<'_>) -> Released;
        held() -> Vec<HeldOrphan>;
        accepted_sizes() -> BTreeMap<String, AcceptedSize>;
        approve(digest: Digest, kind: HoldKind, covered: &Covered<'_>, terms: &Terms) -> Approval;
        approvals() -> Vec<Approval>;
        last_halts() -> Option<(DateTime<Utc>, Vec<Halt>)>;
    }
    Authorisations {
        authorise(request: &Request, per_hour: u32) -> bool;
        are_authorised() -> bool;
        take_authorised(run: Uuid) -> Authorised;
    }
    Exemptions {
        exempt(courses: &BTreeSet<CourseId>, lasts: Duration) -> ();
        exempted() -> BTreeSet<CourseId>;
    }
    Graves {
        unsettle() -> BTreeSet<String>;
        settle(sources: &[String]) -> ();
        saw_tombstones(newest: &BTreeMap<String, i64>) -> ();
        seen_tombstones() -> BTreeMap<String, i64>;
        grace_is_over(tombstoned: Duration) -> bool;
        remaining(courses: &BTreeSet<CourseId>) -> BTreeSet<CourseId>;
    }
    Intents {
        open_intent(run: Uuid, store: &str, intent: &Intent) -> Option<OpenIntent>;
        close_intent(intent: &OpenIntent, outcome: &BatchOutcome, asked: AskedAgain) -> ();
        open_intents() -> BTreeMap<String, Interrupted>;
        settle_intents(store: &str) -> u64;
        recent() -> Recent;
    }
    Known {
        learn(run: Uuid, live: &LiveSet, across_break: bool) -> ();
        found_live(live: &LiveSet) -> ();
        known_among(ids: &BTreeSet<CourseId>) -> KnownIds;
    }
    Organizations {
        without_organization(limit: u32) -> BTreeSet<CourseId>;
        note_organizations(told: &BTreeMap<CourseId, String>) -> ();
        organization_of(course: CourseId) -> Option<String>;
    }
    Orphans {
        remembered(place: Place<'_>) -> Remembered;
        record_orphans(run: Uuid, place: Place<'_>, orphans: &[Orphan], closed: &[OrphanKey]) -> ();
        record_decisions(place: Place<'_>, decided: &[Decided]) -> ();
        close_orphans(place: Place<'_>, gone: &[OrphanKey]) -> ();
    }
    Pauses {
        pause(reason: &str) -> Pause;
        resume() -> Option<Pause>;
        paused() -> Option<Pause>;
    }
    Requests {
        request(asked: &NewRequest) -> Request;
        open_requests() -> Vec<Request>;
        answer_requests(answers: &[(Uuid, RequestState, Cleanup)]) -> ();
        request_of(id: Uuid) -> Option<Request>;
        unanswered() -> [BTreeSet<CourseId>; 2];
    }
    Runs {
        begin(run: Uuid, mode: Mode) -> DateTime<Utc>;
        highest_populations() -> BTreeMap<String, u64>;
        record_populations(run: Uuid, populations: &[Population]) -> ();
        finish(report: &RunReport, clocks_count: bool) -> ();
        fail(run: Uuid, error: &str) -> ();
        forget_old() -> ();
        last_start() -> (Option<DateTime<Utc>>, DateTime<Utc>);
        last_run() -> LastRun;
    }
}

#[async_trait]
impl Ledger for MeasuredLedger {
    async fn check_version(&self) -> Result<(), LedgerError> {
        self.watch.tried("check_version", self.ledger.check_version(), |_| true).await
    }

    async fn lock(&self) -> Result<Box<dyn Lock>, LedgerError> {
        let is_failure = |error: &LedgerError| !matches!(error, LedgerError::Postgres(error) if error.is_locked());
        let lock = self.watch.tried("lock", self.ledger.lock(), is_failure).await?;
        Ok(Box::new(MeasuredLock { lock, watch: self.watch.clone() }))
    }

    async fn standing(&self, graces: &Graces, known: Option<Uuid>) -> Result<Standing, LedgerError> {
        self.watch.tried("standing", self.ledger.standing(graces, known), |_| true).await
    }
}

#[derive(Debug)]
struct MeasuredLock {
    lock: Box<dyn Lock>,
    watch: Stopwatch,
}

#[async_trait]
impl Lock for MeasuredLock {
    async fn verify(&self) -> Result<(), PostgresError> {
        self.watch.tried("verify", self.lock.verify(), |_| true).await
    }

    async fn release(self: Box<Self>) {
        self.lock.release().await;
    }
}
