//! What the delete path asks for, and the honest answer: what became of one course in each store.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::ids::CourseId;
use super::plan::{Decided, Decision, Hold};
use super::report::Tally;

/// When a caller asks, seen from the course's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Timing {
    /// The row is gone.
    AfterDelete,
    /// The row is still there, and is about to go. That may yet be refused, so nothing goes before it.
    BeforeDelete,
}

impl Timing {
    /// Its name in the ledger and over HTTP.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AfterDelete => "after_delete",
            Self::BeforeDelete => "before_delete",
        }
    }

    /// The timing of this name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::AfterDelete, Self::BeforeDelete].into_iter().find(|timing| timing.as_str() == name)
    }
}

/// What is still to be done for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RequestState {
    /// Every run goes on with it.
    Open,
    /// Nothing of the course is left in any store.
    Done,
    /// The course is live, although its caller said that it had gone: nothing of it goes.
    Void,
    /// The course's row was still there when the promise ended: nothing of it went.
    Expired,
}

impl RequestState {
    const ALL: [Self; 4] = [Self::Open, Self::Done, Self::Void, Self::Expired];

    /// Its name in the ledger and over HTTP.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Done => "done",
            Self::Void => "void",
            Self::Expired => "expired",
        }
    }

    /// The state of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// A request to clean up what a course left, as the ledger keeps it: evidence, and a promise.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Request {
    /// Its number.
    pub id: Uuid,
    /// The course.
    #[schema(value_type = String)]
    pub course_id: CourseId,
    /// When it was made, seen from the course's row.
    pub timing: Timing,
    /// Who asked: a token's name, a database role.
    pub requested_by: String,
    /// When, in the database's time.
    pub requested_at: DateTime<Utc>,
    /// How long the row's end is waited for; none once it is gone.
    pub expires_at: Option<DateTime<Utc>>,
    /// What is still to be done.
    pub state: RequestState,
    /// The last answer; none until somebody looked.
    pub answer: Option<Cleanup>,
}

/// What became of a course: by store, and as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Cleanup {
    /// True if nothing of the course is left, or if what is left is promised: it goes in a later run, and `pending` says what it waits
    /// for.
    pub success: bool,
    /// True if every store was counted anew, and is empty of the course.
    pub verified: bool,
    /// What is not done yet, and why.
    pub pending: Vec<Pending>,
    /// By store.
    pub stores: Vec<StoreCleanup>,
    /// The run that looked at it; none if nothing was done, only counted.
    pub run: Option<Uuid>,
    /// Seconds that it took.
    pub seconds: f64,
}

/// Something that is left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pending {
    /// The store; none if it is all of them.
    pub store: Option<String>,
    /// A hold's name, `row_still_there`, `halted`, `failed` or `unknown`.
    pub reason: String,
    /// What it means, in words, with all causes.
    pub detail: String,
    /// How many resources, where that is known.
    pub resources: Option<u64>,
}

/// What became of a course in one store. Counts are resources, of what really went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StoreCleanup {
    /// Its name in the configuration.
    pub store: String,
    /// `qdrant`, `redis`, `bullmq`, `files`, `objects` or `table`.
    pub kind: String,
    /// What was there.
    pub found: u64,
    /// What went, and is in quarantine, unless a person chose otherwise.
    pub deleted: u64,
    /// Its size, as far as known.
    pub bytes: u64,
    /// What had gone before it could be deleted.
    pub absent: u64,
    /// What a gate holds, by its name.
    pub held: BTreeMap<String, u64>,
    /// What stays since it names somebody else, too, or something alive refers to it.
    pub kept: u64,
    /// What was to go and did not.
    pub failed: u64,
    /// What is left now; none if that could not be counted.
    pub remaining: Option<u64>,
    /// Why it is not known, or not done, with all causes.
    pub error: Option<String>,
    /// Seconds.
    pub seconds: f64,
}

impl StoreCleanup {
    /// A store of which nothing was done but to count what it has.
    pub fn counted(store: &str, kind: &str, remaining: Result<u64, &str>) -> Self {
        Self {
            store: store.to_owned(),
            kind: kind.to_owned(),
            found: remaining.unwrap_or(0),
            deleted: 0,
            bytes: 0,
            absent: 0,
            held: BTreeMap::new(),
            kept: 0,
            failed: 0,
            remaining: remaining.ok(),
            error: remaining.err().map(str::to_owned),
            seconds: 0.0,
        }
    }
}

/// What is left of a course, everywhere: when nothing is, evidence that it was erased.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Trace {
    /// The course.
    #[schema(value_type = String)]
    pub course_id: CourseId,
    /// Whether it is live.
    pub live: bool,
    /// True if every store was counted to the end, and none has anything of it.
    pub empty: bool,
    /// When it was looked for, in the ledger's time.
    pub looked_at: DateTime<Utc>,
    /// By store.
    pub stores: Vec<StoreTrace>,
    /// Copies of it that are in quarantine until they expire.
    pub quarantined: Vec<QuarantinedTrace>,
    /// Why copies in quarantine may be missing from the list, with all causes.
    pub quarantine_errors: Vec<String>,
}

/// What a store has of a course.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct StoreTrace {
    /// Its name in the configuration.
    pub store: String,
    /// `qdrant`, `redis`, `bullmq`, `files`, `objects` or `table`.
    pub kind: String,
    /// By source, in which there is something.
    pub sources: Vec<SourceTrace>,
    /// Why it is not known, with all causes.
    pub error: Option<String>,
}

/// What a source has of a course.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct SourceTrace {
    /// The collection, template, layout or table.
    pub source: String,
    /// How much, counted exactly.
    pub resources: u64,
    /// The first few names, printable.
    pub samples: Vec<String>,
}

/// A copy of something of a course.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct QuarantinedTrace {
    /// The store that it comes from.
    pub store: String,
    /// The run that took it.
    pub run: Uuid,
    /// How many resources of the course are in it.
    pub resources: u64,
    /// Until when it is kept.
    pub expires_at: DateTime<Utc>,
}

/// What a store shows of a course, once the sweep is over.
#[derive(Debug, Clone)]
pub struct Seen<'a> {
    /// Its name.
    pub store: &'a str,
    /// Its kind.
    pub kind: &'a str,
    /// What the plan decided about the course's orphans in it.
    pub decided: Vec<&'a Decided>,
    /// What became of what was to go.
    pub tally: Tally,
    /// Why it was not listed, or not swept, to the end.
    pub error: Option<String>,
    /// How much is left, counted after the sweep; or why nobody knows.
    pub remaining: Result<u64, String>,
    /// Seconds.
    pub seconds: f64,
}

impl Seen<'_> {
    fn tell(self) -> (StoreCleanup, Vec<Pending>) {
        let mut held: BTreeMap<String, u64> = BTreeMap::new();
        let (mut found, mut kept) = (0, 0);
        let mut pending = Vec::new();
        for Decided { orphan, decision } in &self.decided {
            let amount = &orphan.found;
            let stays = amount.entangled + amount.referenced;
            found += amount.amount.resources + stays;
            match decision {
                Decision::Held(hold) => {
                    let all = amount.amount.resources + stays;
                    *held.entry(hold.as_str().to_owned()).or_default() += all;
                    pending.push(self.pending(hold.as_str(), hold.in_words(), Some(all)));
                }
                Decision::Sweep | Decision::SweepExcept { .. } => {
                    kept += stays;
                    if amount.entangled > 0 {
                        let hold = Hold::Entangled;
                        pending.push(self.pending(hold.as_str(), hold.in_words(), Some(amount.entangled)));
                    }
                    if amount.referenced > 0 {
                        let hold = Hold::Referenced;
                        pending.push(self.pending(hold.as_str(), hold.in_words(), Some(amount.referenced)));
                    }
                }
            }
        }
        let Tally { deleted, bytes, absent, failed, unattempted, spared } = self.tally;
        // What names somebody who lives was never to go; the sweep meets it, and leaves it.
        let undone = failed + unattempted + spared.saturating_sub(kept);
        let remaining = self.remaining.as_ref().ok().copied();
        let error = self.error.clone().or_else(|| self.remaining.as_ref().err().cloned());
        match &self.remaining {
            Err(why) => pending.push(self.pending("unknown", why, None)),
            Ok(0) => pending.clear(),
            Ok(left) if pending.is_empty() => {
                let why = error.as_deref().unwrap_or("some of it could not be deleted, or came meanwhile");
                pending.push(self.pending("failed", why, Some(*left)));
            }
            Ok(_) if undone > 0 => {
                let why = error.as_deref().unwrap_or("some of it could not be deleted");
                pending.push(self.pending("failed", why, Some(undone)));
            }
            Ok(_) => {}
        }
        let (store, kind) = (self.store.to_owned(), self.kind.to_owned());
        let (seconds, found) = (self.seconds, found.max(deleted));
        (
            StoreCleanup {
                store,
                kind,
                found,
                deleted,
                bytes,
                absent,
                held,
                kept,
                failed: undone,
                remaining,
                error,
                seconds,
            },
            pending,
        )
    }

    fn pending(&self, reason: &str, detail: &str, resources: Option<u64>) -> Pending {
        Pending { store: Some(self.store.to_owned()), reason: reason.to_owned(), detail: detail.to_owned(), resources }
    }
}

/// The answer to a request of which a run saw this, store by store.
pub fn conclude<'a>(run: Uuid, seen: impl IntoIterator<Item = Seen<'a>>, seconds: f64) -> Cleanup {
    let (stores, pending): (Vec<StoreCleanup>, Vec<Vec<Pending>>) = seen.into_iter().map(Seen::tell).unzip();
    let pending: Vec<Pending> = pending.into_iter().flatten().collect();
    let verified = stores.iter().all(|store| store.remaining == Some(0));
    let never = [Hold::NotExclusive, Hold::Entangled].map(Hold::as_str);
    let promised = !pending.iter().any(|pending| never.contains(&pending.reason.as_str()));
    Cleanup { success: verified || promised, verified, pending, stores, run: Some(run), seconds }
}

impl Cleanup {
    /// Nothing was done, and this is why; what was asked for is promised.
    pub fn waiting(reason: &str, detail: &str, stores: Vec<StoreCleanup>) -> Self {
        let pending =
            vec![Pending { store: None, reason: reason.to_owned(), detail: detail.to_owned(), resources: None }];
        Self { success: true, verified: false, pending, stores, run: None, seconds: 0.0 }
    }
}
