//! What is measured, in one struct with its own registry.
//!
//! - Every name begins with `course_gc_` (but for the customary `process_start_time_seconds`), units are seconds and
//!   bytes, and counters end in `_total`.
//! - Counters, histograms and timestamps are there from the start, at 0, for every label value that can come: a series
//!   that appears with its first increase hides that increase from `rate()`.
//! - What only a run can know (how many courses are live, how many orphans a store has, whether its inventory is complete)
//!   is not there before a run has seen it: on a standby, a 0 would be a lie.
//! - A course id is never a label.

use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

use crate::clock;
use crate::domain::evidence::Evidence;
use crate::domain::plan::Hold;
use crate::domain::report::{Mode, QuarantineReport, RunReport, StoreReport, Verdict};

/// The media type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// The stages that a report times.
const STAGES: [&str; 8] = ["places", "liveness", "inventory", "orphans", "plan", "purge", "sweep", "requests"];

/// What a call of the delete path can come to.
pub(super) const CLEANUP_OUTCOMES: [&str; 5] = ["done", "promised", "live", "refused", "failed"];

/// Classes of what the API answers.
pub(super) const CLASSES: [&str; 3] = ["2xx", "4xx", "5xx"];

/// From what answers at once to what takes half a day, in seconds.
const SECONDS: [f64; 14] = [0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0];

/// Declares the struct: a field's documentation is its HELP text.
macro_rules! metrics {
    (
        $(#[$struct_doc:meta])*
        pub struct $name:ident {
            $(#[doc = $help:literal] $field:ident: $kind:ty = $metric:literal [$($label:literal),*];)+
        }
    ) => {
        $(#[$struct_doc])*
        pub struct $name {
            registry: Registry,
            $(#[doc = $help] pub(super) $field: $kind,)+
        }

        impl $name {
            fn registered(registry: Registry) -> Result<Self, prometheus::Error> {
                $(
                    let $field = <$kind as Kind>::create($metric, $help.trim(), &[$($label),*])?;
                    registry.register(Box::new($field.clone()))?;
                )+
                Ok(Self { registry, $($field),+ })
            }
        }
    };
}

metrics! {
    /// All metrics.
    pub struct Metrics {
        /// Runs and plans by how they ended.
        runs: IntCounterVec = "course_gc_runs_total" ["mode", "verdict"];
        /// Runs that were due while another collector held a lock: normal for a standby.
        runs_locked: IntCounter = "course_gc_runs_locked_total" [];
        /// When the last run that was reported had started, in the database's time; 0 before the first.
        last_run_start: Gauge = "course_gc_last_run_start_timestamp_seconds" [];
        /// When a run last ended clean or done; 0 before the first.
        last_success: Gauge = "course_gc_last_success_timestamp_seconds" [];
        /// When a run last found nothing to sweep; 0 before the first.
        last_clean: Gauge = "course_gc_last_clean_timestamp_seconds" [];
        /// Whether the last run did not believe the live set and touched no store.
        halted: IntGauge = "course_gc_halted" [];
        /// Whether the ledger answers and its tables are those that this program knows.
        ledger_up: IntGauge = "course_gc_ledger_up" [];
        /// How long runs and plans took.
        run_seconds: Histogram = "course_gc_run_duration_seconds" [];
        /// How long the stages of a run took.
        stage_seconds: HistogramVec = "course_gc_stage_duration_seconds" ["stage"];
        /// How long it took to list a store, to the end or to its failure.
        inventory_seconds: HistogramVec = "course_gc_inventory_duration_seconds" ["store"];
        /// How long it took to sweep a store.
        sweep_seconds: HistogramVec = "course_gc_sweep_duration_seconds" ["store"];
        /// Courses that the liveness source, or the union of all, last named as live.
        live_courses: IntGaugeVec = "course_gc_live_courses" ["source"];
        /// Orphans in the last complete inventory, by what is known of them.
        orphans: IntGaugeVec = "course_gc_orphans" ["store", "evidence"];
        /// Orphans of the last complete inventory that are held, by the reason.
        orphans_held: IntGaugeVec = "course_gc_orphans_held" ["store", "reason"];
        /// Resources from whose names no course id, or more than one, could be read in the last complete inventory.
        unrecognised: IntGaugeVec = "course_gc_unrecognised" ["store"];
        /// Resources that belong to no configured source in the last complete inventory.
        unclaimed: IntGaugeVec = "course_gc_unclaimed" ["store"];
        /// Whether the last inventory was complete; nothing is swept otherwise.
        store_complete: IntGaugeVec = "course_gc_store_complete" ["store"];
        /// Runs in which the store could not be listed, or not be swept, to the end.
        store_errors: IntCounterVec = "course_gc_store_errors_total" ["store"];
        /// Points, keys and files deleted.
        deleted: IntCounterVec = "course_gc_resources_deleted_total" ["store"];
        /// Size of what was deleted, as far as known.
        deleted_bytes: IntCounterVec = "course_gc_deleted_bytes_total" ["store"];
        /// Resources that had gone before they were deleted.
        absent: IntCounterVec = "course_gc_already_absent_total" ["store"];
        /// Resources that the store refused or failed to delete.
        failures: IntCounterVec = "course_gc_failures_total" ["store"];
        /// Deletes that were planned and not sent, left for the next run.
        unattempted: IntCounterVec = "course_gc_unattempted_total" ["store"];
        /// Resources found live or referenced by the last question before their delete, and left.
        spared: IntCounterVec = "course_gc_spared_total" ["store"];
        /// Courses that were live when asked again after their batch was deleted: look at each.
        live_after_delete: IntCounterVec = "course_gc_live_after_delete_total" ["store"];
        /// Resources put back, since somebody whom they name turned out live after they went.
        put_back: IntCounterVec = "course_gc_put_back_total" ["store"];
        /// Whether what goes from the store is copied into quarantine first.
        store_quarantined: IntGaugeVec = "course_gc_store_quarantined" ["store"];
        /// Copies in quarantine, before the last run's own.
        quarantine_copies: IntGauge = "course_gc_quarantine_copies" [];
        /// What these copies take.
        quarantine_bytes: IntGauge = "course_gc_quarantine_bytes" [];
        /// Copies that expired and were purged.
        purged: IntCounter = "course_gc_quarantine_purged_total" [];
        /// What purging freed.
        reclaimed_bytes: IntCounter = "course_gc_reclaimed_bytes_total" [];
        /// Courses that were live when a copy of theirs expired: it is kept, look at each.
        live_again: IntCounter = "course_gc_quarantine_live_again_total" [];
        /// Runs in which something of the quarantine could not be listed or purged.
        quarantine_errors: IntCounter = "course_gc_quarantine_errors_total" [];
        /// Calls of the delete path by their answer: done, promised, live (refused, since the course is), refused, failed.
        cleanup_requests: IntCounterVec = "course_gc_cleanup_requests_total" ["outcome"];
        /// Calls that were let through, to have deleted at once what a live course has: look at each.
        live_cleanups: IntCounter = "course_gc_live_course_cleanups_total" [];
        /// Requests to the API by route, method and class of status.
        http_requests: IntCounterVec = "course_gc_http_requests_total" ["route", "method", "status"];
        /// How long the API took to answer.
        http_seconds: HistogramVec = "course_gc_http_request_duration_seconds" ["route"];
        /// The configured stores and their kinds.
        store_info: IntGaugeVec = "course_gc_store_info" ["store", "kind"];
        /// The version of this program.
        build_info: IntGaugeVec = "course_gc_build_info" ["version"];
        /// When this process started.
        process_start: Gauge = "process_start_time_seconds" [];
    }
}

impl Metrics {
    /// Metrics for stores of these names and kinds.
    ///
    /// # Errors
    /// If two metrics have one name, which no configuration can bring about.
    pub fn new(stores: &[(&str, &str)]) -> Result<Self, prometheus::Error> {
        let metrics = Self::registered(Registry::new())?;
        for mode in [Mode::Plan, Mode::Run] {
            for verdict in Verdict::ALL {
                metrics.runs.with_label_values(&[mode.as_str(), verdict.as_str()]);
            }
        }
        for stage in STAGES {
            metrics.stage_seconds.with_label_values(&[stage]);
        }
        for outcome in CLEANUP_OUTCOMES {
            metrics.cleanup_requests.with_label_values(&[outcome]);
        }
        for (store, kind) in stores {
            metrics.store_info.with_label_values(&[store, kind]).set(1);
            for counter in metrics.by_store() {
                counter.with_label_values(&[store]);
            }
            for histogram in [&metrics.inventory_seconds, &metrics.sweep_seconds] {
                histogram.with_label_values(&[store]);
            }
        }
        metrics.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        metrics.process_start.set(clock::wall().timestamp_millis() as f64 / 1000.0);
        Ok(metrics)
    }

    /// The API has these routes, each with a method.
    pub fn serve_routes<'a>(&self, routes: impl IntoIterator<Item = (&'a str, &'a str)>) {
        for (route, method) in routes {
            self.http_seconds.with_label_values(&[route]);
            for class in CLASSES {
                self.http_requests.with_label_values(&[route, method, class]);
            }
        }
    }

    /// The counters whose one label is the store.
    fn by_store(&self) -> [&IntCounterVec; 9] {
        [
            &self.store_errors,
            &self.deleted,
            &self.deleted_bytes,
            &self.absent,
            &self.failures,
            &self.unattempted,
            &self.spared,
            &self.live_after_delete,
            &self.put_back,
        ]
    }

    /// All series in Prometheus's text format.
    ///
    /// # Errors
    /// If a series cannot be written.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        String::from_utf8(text).map_err(|error| prometheus::Error::Msg(error.to_string()))
    }

    /// Takes over what a report says; the run ended at `now`, in seconds since 1970.
    pub(super) fn record(&self, report: &RunReport, now: f64) {
        self.runs.with_label_values(&[report.mode.as_str(), report.verdict.as_str()]).inc();
        self.run_seconds.observe(report.seconds);
        for (stage, seconds) in &report.stages {
            self.stage_seconds.with_label_values(&[stage]).observe(*seconds);
        }
        self.halted.set(i64::from(report.halt.is_some()));
        for live in &report.live {
            self.live_courses.with_label_values(&[&live.source]).set(gauge(live.live));
        }
        for store in &report.stores {
            self.record_store(store, report.mode);
        }
        if report.mode == Mode::Plan {
            return;
        }
        if let Some(quarantine) = &report.quarantine {
            self.record_quarantine(quarantine);
        }
        self.last_run_start.set(report.started_at.timestamp_millis() as f64 / 1000.0);
        if matches!(report.verdict, Verdict::Clean | Verdict::Done) {
            self.last_success.set(now);
        }
        if report.verdict == Verdict::Clean {
            self.last_clean.set(now);
        }
    }

    fn record_quarantine(&self, quarantine: &QuarantineReport) {
        self.quarantine_copies.set(gauge(quarantine.copies));
        self.quarantine_bytes.set(gauge(quarantine.bytes));
        self.purged.inc_by(quarantine.purged);
        self.reclaimed_bytes.inc_by(quarantine.reclaimed_bytes);
        self.live_again.inc_by(quarantine.live_again.len() as u64);
        self.quarantine_errors.inc_by(u64::from(!quarantine.errors.is_empty()));
    }

    fn record_store(&self, store: &StoreReport, mode: Mode) {
        let label = &[store.name.as_str()];
        self.inventory_seconds.with_label_values(label).observe(store.inventory_seconds);
        if mode == Mode::Run {
            self.sweep_seconds.with_label_values(label).observe(store.sweep_seconds);
        }
        self.store_complete.with_label_values(label).set(i64::from(store.complete));
        if store.complete {
            self.record_inventory(store);
        }
        self.store_errors.with_label_values(label).inc_by(u64::from(store.error.is_some()));
        self.live_after_delete.with_label_values(label).inc_by(store.live_after_delete.len() as u64);
        self.put_back.with_label_values(label).inc_by(store.put_back);
        self.store_quarantined.with_label_values(label).set(i64::from(store.quarantined));
        let swept = store.swept();
        self.deleted.with_label_values(label).inc_by(swept.deleted);
        self.deleted_bytes.with_label_values(label).inc_by(swept.bytes);
        self.absent.with_label_values(label).inc_by(swept.absent);
        self.failures.with_label_values(label).inc_by(swept.failed);
        self.unattempted.with_label_values(label).inc_by(swept.unattempted);
        self.spared.with_label_values(label).inc_by(swept.spared);
    }

    /// What a complete inventory says of the store as it is: it replaces what the one before said.
    fn record_inventory(&self, store: &StoreReport) {
        let name = store.name.as_str();
        let orphans = || store.sources.iter().flat_map(|source| &source.orphans);
        for evidence in Evidence::ALL {
            let count = orphans().filter(|orphan| orphan.evidence == evidence).count() as u64;
            self.orphans.with_label_values(&[name, evidence.as_str()]).set(gauge(count));
        }
        for reason in Hold::NAMES {
            let held = store.sources.iter().filter_map(|source| source.held().get(reason).copied()).sum();
            self.orphans_held.with_label_values(&[name, reason]).set(gauge(held));
        }
        let unrecognised = store.sources.iter().map(|source| source.unrecognised.count).sum();
        self.unrecognised.with_label_values(&[name]).set(gauge(unrecognised));
        self.unclaimed.with_label_values(&[name]).set(gauge(store.unclaimed.count));
    }
}

/// A count as a gauge takes it.
fn gauge(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A kind of metric that [`metrics!`] can declare.
trait Kind: Sized {
    fn create(name: &str, help: &str, labels: &[&str]) -> Result<Self, prometheus::Error>;
}

macro_rules! kinds {
    ($($single:ty, $labelled:ty, $options:expr;)+) => {$(
        impl Kind for $single {
            fn create(name: &str, help: &str, _: &[&str]) -> Result<Self, prometheus::Error> {
                Self::with_opts($options(name, help))
            }
        }
        impl Kind for $labelled {
            fn create(name: &str, help: &str, labels: &[&str]) -> Result<Self, prometheus::Error> {
                Self::new($options(name, help), labels)
            }
        }
    )+};
}

kinds! {
    IntCounter, IntCounterVec, Opts::new;
    IntGauge, IntGaugeVec, Opts::new;
    Gauge, GaugeVec, Opts::new;
    Histogram, HistogramVec, |name, help| HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
}
