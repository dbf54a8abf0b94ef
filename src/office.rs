//! What the API can do: the delete path, and what the command line can, by the same functions.
//!
//! Whoever answers over HTTP sees this and never a store. It has connections to the ledger of its own, so that many callers do not
//! keep a run from its memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

use crate::approve::{self, ApproveError, Holds};
use crate::cleanup::{Bell, Call, CleanupError, Desk, Haste};
use crate::domain::approvals::{Digest, Terms};
use crate::domain::cleanup::{Request, Trace};
use crate::domain::holds::HoldReport;
use crate::domain::ids::CourseId;
use crate::ledger::{Approval, Audited, LedgerError, Pause, Pauses, PostgresLedger, RunSummary};
use crate::reconcile::restore::{self, Restored, Selection};
use crate::reconcile::{Collector, RunError, organizations};
use crate::stores::copies::Restoring;
use crate::telemetry::events;
use crate::telemetry::metrics::Metrics;

/// How a caller takes its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answering {
    /// It waits for the end, as long as we let it.
    Waiting,
    /// It wants the promise alone, and looks later.
    Promised,
}

/// The facade.
pub struct Office {
    collector: Arc<Collector>,
    ledger: PostgresLedger,
    desk: Desk,
    bell: Arc<Bell>,
    metrics: Arc<Metrics>,
    wait: Duration,
}

impl Office {
    /// An office whose requests are answered by the loop that hears `bell`; callers wait for as long as `wait`.
    pub fn new(
        collector: Arc<Collector>,
        ledger: PostgresLedger,
        bell: Arc<Bell>,
        (metrics, wait): (Arc<Metrics>, Duration),
    ) -> Self {
        let desk = Desk::new(Arc::clone(&collector), Arc::clone(&bell));
        Self { collector, ledger, desk, bell, metrics, wait }
    }

    /// How long callers wait.
    pub fn wait(&self) -> Duration {
        self.wait
    }

    /// The course of this id, if it is one, in its canonical form.
    pub fn course(&self, text: &str) -> Option<CourseId> {
        self.collector.id_type.parse(text.as_bytes())
    }

    /// Whose a course is, where that is known. See [`organizations::of`].
    ///
    /// # Errors
    /// If the ledger does not answer.
    pub async fn organization_of(&self, course: CourseId) -> Result<Option<String>, LedgerError> {
        organizations::of(&self.collector, course).await
    }

    /// Asks for what is left of a course to be removed. See [`Desk::cleanup`].
    ///
    /// # Errors
    /// If nothing is promised.
    pub async fn cleanup(&self, call: &Call, answering: Answering) -> Result<Request, CleanupError> {
        let asked = match answering {
            Answering::Waiting => self.desk.cleanup(call, self.wait).await,
            Answering::Promised => self.desk.ask(call).await,
        };
        events::cleanup_answered(&self.metrics, &asked);
        if let (Haste::AtOnce, Ok(asked)) = (call.haste, &asked)
            && asked.expires_at.is_some()
        {
            events::live_cleanup_authorised(&self.metrics, asked);
        }
        asked
    }

    /// A request, as it is now.
    ///
    /// # Errors
    /// If the ledger does not answer.
    pub async fn request(&self, id: Uuid) -> Result<Option<Request>, LedgerError> {
        self.desk.status(id).await
    }

    /// What is left of a course. See [`Desk::trace`].
    ///
    /// # Errors
    /// As [`Desk::trace`].
    pub async fn trace(&self, course: CourseId) -> Result<Trace, CleanupError> {
        self.desk.trace(course).await
    }

    /// The latest runs and plans, newest first, without their reports.
    ///
    /// # Errors
    /// If the ledger does not answer.
    pub async fn runs(&self, limit: u32) -> Result<Vec<RunSummary>, LedgerError> {
        self.ledger.latest(limit, false).await
    }

    /// A run or plan with its report.
    ///
    /// # Errors
    /// If the ledger does not answer.
    pub async fn run(&self, id: Uuid) -> Result<Option<RunSummary>, LedgerError> {
        self.ledger.run_of(id).await
    }

    /// The loop runs as soon as it can, though nothing is due.
    pub fn run_now(&self) {
        self.bell.ring_for_a_run();
    }

    /// The latest run or plan that looked at the stores, and the orphans that it saw: each as in a report, with its `store` and
    /// `source`.
    ///
    /// # Errors
    /// If the ledger does not answer.
    pub async fn plan(&self) -> Result<Option<(RunSummary, Vec<Value>)>, LedgerError> {
        let Some(mut seen) = self.ledger.last_look().await? else { return Ok(None) };
        let orphans = seen.report.take().map(orphans).unwrap_or_default();
        Ok(Some((seen, orphans)))
    }

    /// What waits for a person, and what was approved.
    ///
    /// # Errors
    /// If the ledger does not answer.
    pub async fn holds(&self) -> Result<Holds, LedgerError> {
        approve::holds(&self.collector).await
    }

    /// Approves what is held under this digest.
    ///
    /// # Errors
    /// If nothing is, or the ledger does not answer.
    pub async fn approve(&self, digest: Digest, terms: &Terms) -> Result<(HoldReport, Approval), ApproveError> {
        approve::approve(&self.collector, digest, terms).await
    }

    /// The pause that is in force.
    ///
    /// # Errors
    /// If the ledger does not answer.
    pub async fn paused(&self) -> Result<Option<Pause>, LedgerError> {
        self.ledger.paused().await
    }

    /// Pauses every replica.
    ///
    /// # Errors
    /// If the ledger does not answer.
    pub async fn pause(&self, reason: &str) -> Result<Pause, LedgerError> {
        self.ledger.pause(reason).await
    }

    /// Ends the pause.
    ///
    /// # Errors
    /// If the ledger does not answer.
    pub async fn resume(&self) -> Result<Option<Pause>, LedgerError> {
        self.ledger.resume().await
    }

    /// Puts back what is meant.
    ///
    /// # Errors
    /// As [`restore::restore`].
    pub async fn restore(
        &self,
        selection: &Selection,
        restoring: Restoring,
        exempt: Duration,
    ) -> Result<Restored, RunError> {
        self.collector.ledger.check_version().await?;
        restore::restore(&self.collector, selection, restoring, exempt).await
    }

    /// Notes that somebody asks for a write.
    ///
    /// # Errors
    /// If the ledger does not answer: then it must not be done.
    pub async fn audit(&self, audited: &Audited) -> Result<(), LedgerError> {
        self.ledger.audit(audited).await
    }

    /// Notes what came of it.
    ///
    /// # Errors
    /// If the ledger does not answer.
    pub async fn audit_end(&self, id: Uuid, status: u16, course: Option<CourseId>) -> Result<(), LedgerError> {
        self.ledger.audit_end(id, status, course).await
    }
}

/// The orphans of a report.
fn orphans(report: Value) -> Vec<Value> {
    let mut found = Vec::new();
    let array = |of: Option<Value>| match of {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    };
    let take = |of: &mut Value, field: &str| of.get_mut(field).map(Value::take);
    let mut report = report;
    for mut store in array(take(&mut report, "stores")) {
        let name = take(&mut store, "name").unwrap_or_default();
        for mut source in array(take(&mut store, "sources")) {
            let of = take(&mut source, "name").unwrap_or_default();
            for orphan in array(take(&mut source, "orphans")) {
                let place = BTreeMap::from([("source", of.clone()), ("store", name.clone())]);
                let mut told: serde_json::Map<String, Value> =
                    place.into_iter().map(|(field, value)| (field.to_owned(), value)).collect();
                if let Value::Object(fields) = orphan {
                    told.extend(fields);
                }
                found.push(Value::Object(told));
            }
        }
    }
    found
}
