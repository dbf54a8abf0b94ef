//! What happens, told once: each function writes the log line and moves the metrics that belong to it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tokio::task::JoinError;
use uuid::Uuid;

use super::metrics::Metrics;
use crate::cleanup::CleanupError;
use crate::domain::cleanup::Request;
use crate::domain::ids::CourseId;
use crate::domain::plan::Decision;
use crate::domain::report::{Mode, RunReport, StoreReport, Verdict};
use crate::domain::standing::Standing;
use crate::errors::chain;
use crate::ledger::LedgerError;
use crate::reconcile::RunError;

/// A line whose level is known only when it is written.
macro_rules! line {
    ($level:expr, $($field:tt)+) => {
        match $level {
            tracing::Level::ERROR => tracing::error!($($field)+),
            tracing::Level::WARN => tracing::warn!($($field)+),
            _ => tracing::info!($($field)+),
        }
    };
}

/// The HTTP server listens.
pub fn listening(address: SocketAddr) {
    tracing::info!(%address, "listening");
}

/// A changed configuration takes effect.
pub fn configuration_applied(metrics: &Metrics, needs_restart: &[String]) {
    metrics.done.config_reloads.with_label_values(&["applied"]).inc();
    metrics.done.config_current.set(1);
    metrics.done.config_needs_restart.set(i64::from(!needs_restart.is_empty()));
    tracing::info!("the configuration has changed, and takes effect");
    if !needs_restart.is_empty() {
        tracing::warn!(fields = needs_restart.join(", "), "these take effect after a restart only");
    }
}

/// A changed configuration cannot be used: the old one goes on.
pub fn configuration_refused(metrics: &Metrics, why: &str) {
    metrics.done.config_reloads.with_label_values(&["refused"]).inc();
    metrics.done.config_current.set(0);
    tracing::error!(why, "a changed configuration is refused; the one of before goes on");
}

/// A caller may have deleted at once what a live course has.
pub fn live_cleanup_authorised(metrics: &Metrics, asked: &Request) {
    tracing::warn!(request = %asked.id, course = %asked.course_id, by = asked.requested_by, "authorised: what a live course has is deleted at once");
    metrics.done.live_cleanups.inc();
}

/// A run, or a plan, ended with a report: one line for it and one for each store.
pub fn run_finished(metrics: &Metrics, report: &RunReport) {
    metrics.record(report);
    for store in &report.stores {
        store_finished(report, store);
    }
    let swept = report.swept();
    let orphans = || report.stores.iter().flat_map(|store| &store.sources).flat_map(|source| &source.orphans);
    let held = orphans().filter(|orphan| !orphan.decision.sweeps()).count();
    line!(
        level(report.verdict),
        run = %report.run,
        mode = report.mode.as_str(),
        verdict = report.verdict.as_str(),
        seconds = rounded(report.seconds),
        orphans = orphans().count(),
        held,
        deleted = swept.deleted,
        failed = swept.failed,
        unattempted = swept.unattempted,
        spared = swept.spared,
        stopped = report.stopped,
        halt = report.halt,
        "run finished"
    );
}

fn store_finished(report: &RunReport, store: &StoreReport) {
    let swept = store.swept();
    let whole = store.error.is_none() && swept.failed == 0;
    line!(
        if whole { tracing::Level::INFO } else { tracing::Level::WARN },
        run = %report.run,
        store = store.name,
        complete = store.complete,
        decisions = decisions(store),
        unrecognised = store.sources.iter().map(|source| source.unrecognised.count).sum::<u64>(),
        deleted = swept.deleted,
        bytes = swept.bytes,
        absent = swept.absent,
        failed = swept.failed,
        unattempted = swept.unattempted,
        spared = swept.spared,
        error = store.error,
        cause = store.failures.first(),
        "store finished"
    );
    if !store.live_after_delete.is_empty() {
        let courses: Vec<String> = store.live_after_delete.iter().map(ToString::to_string).collect();
        tracing::error!(
            run = %report.run,
            store = store.name,
            courses = courses.join(" "),
            "courses were live when asked again after their batch was deleted; compare their resources with a backup"
        );
    }
}

/// How many orphans by what was decided: `breaker_share=2 grace=1 sweep=3`.
fn decisions(store: &StoreReport) -> String {
    let mut groups: BTreeMap<&'static str, u64> = BTreeMap::new();
    for orphan in store.sources.iter().flat_map(|source| &source.orphans) {
        let group = match orphan.decision {
            Decision::Sweep => "sweep",
            Decision::SweepExcept { .. } => "sweep_except",
            Decision::Held(hold) => hold.as_str(),
        };
        *groups.entry(group).or_default() += 1;
    }
    let groups: Vec<String> = groups.into_iter().map(|(group, count)| format!("{group}={count}")).collect();
    groups.join(" ")
}

fn level(verdict: Verdict) -> tracing::Level {
    match verdict {
        Verdict::Clean | Verdict::Done => tracing::Level::INFO,
        Verdict::Held | Verdict::Partly => tracing::Level::WARN,
        Verdict::Failed => tracing::Level::ERROR,
    }
}

/// A run ended without a report.
pub fn run_failed(metrics: &Metrics, mode: Mode, error: &RunError) {
    match error {
        RunError::Locked(_) => run_locked(metrics, error),
        RunError::Stopped => tracing::info!("the run was stopped before it touched any store"),
        _ => broke_off(metrics, mode, &chain(error)),
    }
}

/// What the loop had under way panicked, which is an error of this program.
pub fn panicked(metrics: &Metrics, mode: Mode, error: &JoinError) {
    broke_off(metrics, mode, &error.to_string());
}

fn broke_off(metrics: &Metrics, mode: Mode, error: &str) {
    metrics.done.runs.with_label_values(&[mode.as_str(), Verdict::Failed.as_str()]).inc();
    tracing::error!(mode = mode.as_str(), error, "run failed");
}

/// A run was due while another collector was at work: this one stands by.
pub fn run_locked(metrics: &Metrics, error: &RunError) {
    metrics.done.runs_locked.inc();
    tracing::debug!(error = chain(error), "standing by");
}

/// The ledger answers, and its tables are those that this program knows.
pub fn ledger_up(metrics: &Metrics) {
    metrics.done.ledger_up.set(1);
    tracing::info!("the ledger is there");
}

/// The ledger does not answer, or not as it should. To be called when that begins, or its cause changes.
pub fn ledger_down(metrics: &Metrics, error: &LedgerError) {
    metrics.done.ledger_up.set(0);
    tracing::error!(error = chain(error), "the ledger cannot be used: nothing runs until it can");
}

/// The ledger was read, and tells this.
pub fn told(metrics: &Metrics, standing: &Standing) {
    if let Err(error) = metrics.tell(standing) {
        tracing::error!(error = &error as &dyn std::error::Error, "what the ledger tells cannot be measured");
    }
}

/// How things stand could not be read: what is measured stays what it was.
pub fn not_told(error: &LedgerError) {
    tracing::warn!(error = chain(error), "how things stand cannot be read from the ledger; the metrics are old");
}

/// So many runs in a row failed.
pub fn failed_in_a_row(metrics: &Metrics, runs: u32) {
    metrics.done.consecutive_failures.set(runs.into());
}

/// The run under way did not end in time after it was asked to stop.
pub fn run_abandoned(seconds: u64) {
    tracing::warn!(seconds, "the run did not stop in time and is abandoned; the next run goes on from its intents");
}

/// A call of the delete path was answered.
pub fn cleanup_answered(metrics: &Metrics, asked: &Result<Request, CleanupError>) {
    let outcome = match asked {
        Ok(Request { answer: Some(answer), .. }) if answer.verified => "done",
        Ok(Request { answer: Some(answer), .. }) if !answer.success => "failed",
        Ok(_) => "promised",
        Err(CleanupError::Live(_)) => "live",
        Err(CleanupError::KeyReused(_) | CleanupError::NotAtOnce | CleanupError::TooMany { .. }) => "refused",
        Err(CleanupError::Liveness(_) | CleanupError::Ledger(_)) => "failed",
    };
    metrics.done.cleanup_requests.with_label_values(&[outcome]).inc();
}

/// What the API answered.
#[derive(Debug)]
pub struct Answered<'a> {
    /// The request's id.
    pub request: Uuid,
    /// Who asked; none if nobody knows.
    pub caller: Option<&'a str>,
    /// The HTTP method.
    pub method: &'a str,
    /// The route, not the path.
    pub route: &'a str,
    /// Which course, if it is about one.
    pub course: Option<CourseId>,
    /// The HTTP status.
    pub status: u16,
    /// Seconds that it took.
    pub seconds: f64,
}

/// The API answered: a line for each write, whatever came of it.
pub fn answered(metrics: &Metrics, answered: &Answered<'_>) {
    let Answered { request, caller, method, route, course, status, seconds } = answered;
    let class = match status {
        500.. => "5xx",
        400.. => "4xx",
        _ => "2xx",
    };
    // Of a method that the route does not take there is no series.
    if *status != 405 {
        metrics.done.http_requests.with_label_values(&[route, method, class]).inc();
        metrics.done.http_seconds.with_label_values(&[route]).observe(*seconds);
    }
    let course = course.map(|course| course.to_string());
    let (is_write, seconds) = (*method != "GET" && *method != "HEAD", rounded(*seconds));
    if is_write {
        tracing::info!(%request, caller, method, route, course, status, seconds, "asked over HTTP");
    } else {
        tracing::debug!(%request, caller, method, route, course, status, seconds, "asked over HTTP");
    }
}

/// Milliseconds are exact enough for a line that people read.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}
