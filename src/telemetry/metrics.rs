//! What is measured: all series, in one registry.
//!
//! - Every name begins with `course_gc_` (but for the customary ones of the process), units are seconds, bytes and ratios, and
//!   counters end in `_total`. docs/metrics.md is made from the declarations here, in [`super::known`] and in [`super::process`].
//! - What this process did ([`Done`]) is there from the start, at 0, for every label value that can come: a series that
//!   appears with its first increase hides that increase from `rate()`. Replicas are added up.
//! - What the ledger knows ([`Known`]) is read from it by each replica, whoever ran last, so that it outlives a restart and a standby
//!   says the same. It is there once the ledger was read, which readiness waits for; before, a 0 would be a lie. Of replicas, any
//!   one will do; where they differ, the one that read last.
//! - A course id is never a label.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use prometheus::{
    CounterVec, Encoder, Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Registry, TextEncoder,
};

use super::declare::{Declared, metrics};
use super::known::{Known, gauge};
use super::measured::{ledger, liveness};
use super::process::Process;
use crate::clock;
use crate::config::Config;
use crate::domain::evidence::Evidence;
use crate::domain::report::{Mode, QuarantineReport, RunReport, StoreReport, Verdict};
use crate::domain::standing::Standing;
use crate::pace::Pace;
use crate::schedule::interval;

/// The media type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// The stages that a report times.
const STAGES: [&str; 8] = ["places", "liveness", "inventory", "orphans", "plan", "purge", "sweep", "requests"];

/// What a call of the delete path can come to.
pub(super) const CLEANUP_OUTCOMES: [&str; 5] = ["done", "promised", "live", "refused", "failed"];

/// What becomes of a configuration that has changed.
pub(super) const RELOAD_OUTCOMES: [&str; 2] = ["applied", "refused"];

/// Classes of what the API answers.
pub(super) const CLASSES: [&str; 3] = ["2xx", "4xx", "5xx"];

/// What a store is asked for.
pub(super) const OPERATIONS: [&str; 11] = [
    "identity",
    "marker",
    "move_marker",
    "inventory",
    "locate",
    "referenced",
    "copy",
    "put_back",
    "delete",
    "tidy",
    "remaining",
];

metrics! {
    /// What this process did and is.
    pub struct Done {
        /// Runs and plans by how they ended.
        runs: IntCounterVec = "course_gc_runs_total" ["mode", "verdict"];
        /// Runs that were due while another collector held a lock: normal for a standby.
        runs_locked: IntCounter = "course_gc_runs_locked_total" [];
        /// Runs of this process in a row that failed; 0 again once any replica's run did not.
        consecutive_failures: IntGauge = "course_gc_consecutive_failures" [];
        /// Whether this process holds the locks, since it is at work; at most one may.
        leader: IntGauge = "course_gc_leader" [];
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
        /// How long a store's client took for an operation, a page or a batch of which may be many questions.
        client_seconds: HistogramVec = "course_gc_client_duration_seconds" ["store", "operation"];
        /// Operations of a store's client that failed.
        client_errors: IntCounterVec = "course_gc_client_errors_total" ["store", "operation"];
        /// How long the ledger, or all liveness sources together, took for an operation, which may be many questions; of references, to the last.
        database_seconds: HistogramVec = "course_gc_database_duration_seconds" ["client", "operation"];
        /// Operations of the ledger or the liveness sources that failed; that another holds the lock is no failure.
        database_errors: IntCounterVec = "course_gc_database_errors_total" ["client", "operation"];
        /// Orphans that no earlier run or plan had seen: leaks, but for those with the evidence requested.
        orphans_found: IntCounterVec = "course_gc_orphans_found_total" ["store", "evidence"];
        /// Runs in which the store could not be listed, or not be swept, to the end.
        store_errors: IntCounterVec = "course_gc_store_errors_total" ["store"];
        /// How long calls waited, added up, so that the store's server is not overrun: for its rate, or since it was slow.
        rest_seconds: CounterVec = "course_gc_rest_seconds_total" ["store"];
        /// The share of the time that calls are kept from, since the store's server is slower than it was at its best; 0 at full speed.
        slowdown: GaugeVec = "course_gc_slowdown_ratio" ["store"];
        /// Points, keys, jobs, files, objects and rows deleted.
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
        /// Configurations that were read anew since their files changed: applied, or refused, so that the old one went on.
        config_reloads: IntCounterVec = "course_gc_config_reloads_total" ["outcome"];
        /// Whether the configuration that was read last is the one that is used: 0 while one is refused.
        config_current: IntGauge = "course_gc_config_last_reload_successful" [];
        /// Whether something was changed that takes effect after a restart only.
        config_needs_restart: IntGauge = "course_gc_config_needs_restart" [];
        /// The configured stores and their kinds.
        store_info: IntGaugeVec = "course_gc_store_info" ["store", "kind"];
        /// The version of this program.
        build_info: IntGaugeVec = "course_gc_build_info" ["version"];
        /// How far apart runs are by the schedule, at its widest around the start of this process.
        schedule_interval: Gauge = "course_gc_config_schedule_interval_seconds" [];
        /// How long an orphan must have been seen as one, by evidence.
        grace: GaugeVec = "course_gc_config_grace_seconds" ["evidence"];
        /// Fewer live courses than this halt a run.
        refuse_below: IntGauge = "course_gc_config_refuse_below" [];
        /// A larger drop of the live courses than this halts a run.
        refuse_drop: Gauge = "course_gc_config_refuse_drop_ratio" [];
        /// The share of a source's courses that trips a breaker: of orphans (share), and of strangers (stranger_share).
        breaker_share: GaugeVec = "course_gc_config_breaker_ratio" ["breaker"];
        /// How many courses within 24 hours trip a breaker.
        breaker_courses: IntGauge = "course_gc_config_breaker_courses" [];
        /// How much within 24 hours trips a breaker.
        breaker_bytes: IntGauge = "course_gc_config_breaker_bytes" [];
        /// The most courses that one run sweeps; +Inf if nothing limits it.
        cap_courses: Gauge = "course_gc_config_cap_courses" [];
        /// How long a confirmation is good.
        confirmation: Gauge = "course_gc_config_confirmation_seconds" [];
        /// The most calls that are under way at once.
        in_flight: IntGaugeVec = "course_gc_config_calls_in_flight" ["store"];
        /// How many calls may begin in a second; +Inf if nothing limits it.
        call_rate: GaugeVec = "course_gc_config_calls_per_second" ["store"];
        /// How long copies stay in quarantine.
        quarantine_keep: Gauge = "course_gc_config_quarantine_keep_seconds" [];
        /// The most that archives in quarantine may take.
        quarantine_max: IntGauge = "course_gc_config_quarantine_max_bytes" [];
        /// The least of the disk with the archives that must stay free.
        quarantine_min_free: Gauge = "course_gc_config_quarantine_min_free_ratio" [];
    }
}

/// A store's pace, which is looked at when its metrics are read.
struct Paced {
    store: String,
    pace: Pace,
    /// How much of its rest is counted already.
    counted: Duration,
}

/// All metrics.
pub struct Metrics {
    registry: Registry,
    /// Those of the configuration.
    stores: Mutex<Vec<String>>,
    paces: Mutex<Vec<Paced>>,
    pub(super) done: Done,
    process: Process,
    /// Not before the ledger was read.
    known: OnceLock<Known>,
}

impl Metrics {
    /// Every metric that there is, in the order of docs/metrics.md.
    pub fn declared() -> [(&'static str, &'static [Declared]); 3] {
        [
            ("What this process did", Done::DECLARED),
            ("What the ledger knows", Known::DECLARED),
            ("The process", Process::DECLARED),
        ]
    }

    /// Metrics for stores of these names and kinds.
    ///
    /// # Errors
    /// If two metrics have one name, which no configuration can bring about.
    pub fn new(stores: &[(&str, &str)]) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let (done, process) = (Done::registered(&registry)?, Process::registered(&registry)?);
        for mode in [Mode::Plan, Mode::Run] {
            for verdict in Verdict::ALL {
                done.runs.with_label_values(&[mode.as_str(), verdict.as_str()]);
            }
        }
        for stage in STAGES {
            done.stage_seconds.with_label_values(&[stage]);
        }
        for outcome in CLEANUP_OUTCOMES {
            done.cleanup_requests.with_label_values(&[outcome]);
        }
        let of_ledger = ledger::OPERATIONS.iter().map(|operation| [ledger::CLIENT, operation]);
        let of_liveness = liveness::OPERATIONS.iter().map(|operation| [liveness::CLIENT, operation]);
        for labels in of_ledger.chain(of_liveness) {
            done.database_seconds.with_label_values(&labels);
            done.database_errors.with_label_values(&labels);
        }
        for outcome in RELOAD_OUTCOMES {
            done.config_reloads.with_label_values(&[outcome]);
        }
        done.config_current.set(1);
        done.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        process.start.set(clock::wall().timestamp_millis() as f64 / 1000.0);
        let metrics =
            Self { registry, stores: Mutex::default(), paces: Mutex::default(), done, process, known: OnceLock::new() };
        metrics.know(stores);
        Ok(metrics)
    }

    /// The stores are these, by name and kind. What was counted of others stays.
    fn know(&self, stores: &[(&str, &str)]) {
        self.done.store_info.reset();
        for (store, kind) in stores {
            self.done.store_info.with_label_values(&[store, kind]).set(1);
            self.done.of_store(store);
        }
        *self.stores.lock().unwrap_or_else(PoisonError::into_inner) =
            stores.iter().map(|(name, _)| (*name).to_owned()).collect();
    }

    /// What a person configured, for whoever looks at a dashboard.
    pub fn configured(&self, config: &Config) {
        let stores: Vec<(&str, &str)> = config.stores.iter().map(|(name, store)| (name, store.kind())).collect();
        self.know(&stores);
        let Done { grace, breaker_share, .. } = &self.done;
        let graces = [
            (Evidence::Requested, 0.0),
            (Evidence::Tombstoned, config.grace.tombstoned.as_secs_f64()),
            (Evidence::Departed, config.grace.departed.as_secs_f64()),
            (Evidence::Stranger, config.grace.stranger.as_secs_f64()),
        ];
        graces.iter().for_each(|(of, seconds)| grace.with_label_values(&[of.as_str()]).set(*seconds));
        let limits = &config.limits;
        let shares = [("share", limits.breaker_share), ("stranger_share", limits.breaker_share_strangers)];
        shares.iter().for_each(|(of, share)| breaker_share.with_label_values(&[*of]).set(ratio(share.get())));
        self.done.schedule_interval.set(interval(&config.schedule(), clock::wall()).as_secs_f64());
        self.done.refuse_below.set(gauge(limits.refuse_below));
        self.done.refuse_drop.set(ratio(limits.refuse_drop.get()));
        self.done.breaker_courses.set(gauge(limits.breaker_courses));
        self.done.breaker_bytes.set(gauge(limits.breaker_bytes.get()));
        self.done.cap_courses.set(limits.cap_courses.map_or(f64::INFINITY, |cap| cap as f64));
        self.done.confirmation.set(limits.confirmation.as_secs_f64());
        self.done.quarantine_keep.set(config.quarantine.keep.as_secs_f64());
        self.done.quarantine_max.set(gauge(config.quarantine.max_size.get()));
        self.done.quarantine_min_free.set(ratio(config.quarantine.min_free.get()));
    }

    /// A store is called at this pace.
    pub fn paced(&self, store: &str, pace: &Pace) {
        let settings = pace.settings();
        self.done.in_flight.with_label_values(&[store]).set(gauge(settings.in_flight as u64));
        let rate = settings.calls_per_second.map_or(f64::INFINITY, |rate| f64::from(rate.get()));
        self.done.call_rate.with_label_values(&[store]).set(rate);
        let mut paces = self.paces();
        paces.retain(|paced| paced.store != store);
        paces.push(Paced { store: store.to_owned(), pace: pace.clone(), counted: Duration::ZERO });
    }

    fn paces(&self) -> MutexGuard<'_, Vec<Paced>> {
        self.paces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The API has these routes, each with a method.
    pub fn serve_routes<'a>(&self, routes: impl IntoIterator<Item = (&'a str, &'a str)>) {
        for (route, method) in routes {
            self.done.http_seconds.with_label_values(&[route]);
            for class in CLASSES {
                self.done.http_requests.with_label_values(&[route, method, class]);
            }
        }
    }

    /// All series in Prometheus's text format.
    ///
    /// # Errors
    /// If a series cannot be written.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        self.process.look();
        self.paces().iter_mut().for_each(|paced| self.done.look(paced));
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        String::from_utf8(text).map_err(|error| prometheus::Error::Msg(error.to_string()))
    }

    /// Whether this process holds the locks now.
    pub fn lead(&self, leads: bool) {
        self.done.leader.set(i64::from(leads));
    }

    /// Takes over what the ledger tells.
    pub(super) fn tell(&self, standing: &Standing) -> Result<(), prometheus::Error> {
        if self.known.get().is_none() {
            // Only the loop reads the ledger, so that nobody else registers meanwhile.
            _ = self.known.set(Known::registered(&self.registry)?);
        }
        if let Some(known) = self.known.get() {
            known.tell(standing, &self.stores.lock().unwrap_or_else(PoisonError::into_inner));
        }
        Ok(())
    }

    /// Takes over what a report says that was done.
    pub(super) fn record(&self, report: &RunReport) {
        self.done.record(report);
    }
}

impl Done {
    /// Every series of a store.
    fn of_store(&self, store: &str) {
        for counter in self.by_store() {
            counter.with_label_values(&[store]);
        }
        self.rest_seconds.with_label_values(&[store]);
        self.slowdown.with_label_values(&[store]);
        self.in_flight.with_label_values(&[store]);
        self.call_rate.with_label_values(&[store]);
        for histogram in [&self.inventory_seconds, &self.sweep_seconds] {
            histogram.with_label_values(&[store]);
        }
        for operation in OPERATIONS {
            self.client_seconds.with_label_values(&[store, operation]);
            self.client_errors.with_label_values(&[store, operation]);
        }
        for evidence in Evidence::ALL {
            self.orphans_found.with_label_values(&[store, evidence.as_str()]);
        }
    }

    /// How a store is called now.
    fn look(&self, Paced { store, pace, counted }: &mut Paced) {
        let rested = pace.rested();
        let since = rested.saturating_sub(std::mem::replace(counted, rested));
        self.rest_seconds.with_label_values(&[store.as_str()]).inc_by(since.as_secs_f64());
        self.slowdown.with_label_values(&[store.as_str()]).set(pace.slowdown());
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

    fn record(&self, report: &RunReport) {
        self.runs.with_label_values(&[report.mode.as_str(), report.verdict.as_str()]).inc();
        self.run_seconds.observe(report.seconds);
        for (stage, seconds) in &report.stages {
            self.stage_seconds.with_label_values(&[stage]).observe(*seconds);
        }
        for store in &report.stores {
            self.record_store(store, report.mode);
        }
        if let (Mode::Run, Some(quarantine)) = (report.mode, &report.quarantine) {
            self.record_quarantine(quarantine);
        }
    }

    fn record_quarantine(&self, quarantine: &QuarantineReport) {
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
        for orphan in store.sources.iter().flat_map(|source| &source.orphans).filter(|orphan| orphan.new) {
            self.orphans_found.with_label_values(&[&store.name, orphan.evidence.as_str()]).inc();
        }
        self.store_errors.with_label_values(label).inc_by(u64::from(store.error.is_some()));
        self.live_after_delete.with_label_values(label).inc_by(store.live_after_delete.len() as u64);
        self.put_back.with_label_values(label).inc_by(store.put_back);
        let swept = store.swept();
        self.deleted.with_label_values(label).inc_by(swept.deleted);
        self.deleted_bytes.with_label_values(label).inc_by(swept.bytes);
        self.absent.with_label_values(label).inc_by(swept.absent);
        self.failures.with_label_values(label).inc_by(swept.failed);
        self.unattempted.with_label_values(label).inc_by(swept.unattempted);
        self.spared.with_label_values(label).inc_by(swept.spared);
    }
}

fn ratio(percent: u8) -> f64 {
    f64::from(percent) / 100.0
}

/// docs/metrics.md.
pub fn page() -> String {
    let mut page = include_str!("page.md").to_owned();
    for (title, declared) in Metrics::declared() {
        page.push_str(&format!(
            "\n## {title}\n\n| metric | type | unit | labels | meaning |\n| --- | --- | --- | --- | --- |\n"
        ));
        for metric in declared {
            let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let (name, kind, unit, labels) = (metric.name, metric.kind, metric.unit(), labels.join(", "));
            page.push_str(&format!("| `{name}` | {kind} | {unit} | {labels} | {} |\n", metric.meaning));
        }
    }
    page
}
