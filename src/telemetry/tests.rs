//! What a report does to the metrics and writes into the log.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::DateTime;
use serde_json::{Value, json};
use tracing::Level;
use uuid::Uuid;

use super::events;
use super::metrics::Metrics;
use super::subscriber::tests::lines;
use crate::config::LogFormat;
use crate::domain::evidence::Evidence;
use crate::domain::ids::CourseId;
use crate::domain::inventory::Unrecognised;
use crate::domain::plan::{Breaker, Decision, Hold};
use crate::domain::report::{LiveReport, Mode, OrphanReport, RunReport, SourceReport, StoreReport, Tally, Verdict};
use crate::ledger::LedgerError;
use crate::postgres::PostgresError;
use crate::reconcile::RunError;

fn metrics() -> Metrics {
    Metrics::new(&[("vectors", "qdrant"), ("cache", "redis")]).unwrap()
}

/// Every series with its value. Fails on what is no exposition, and on a family without HELP or TYPE.
fn series(metrics: &Metrics) -> BTreeMap<String, f64> {
    let text = metrics.text().unwrap();
    let (mut helped, mut typed) = (BTreeSet::new(), BTreeMap::new());
    let mut series = BTreeMap::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            assert!(help.ends_with('.'), "{name}: {help:?} is no sentence");
            assert!(helped.insert(name), "{name} is helped twice");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            typed.insert(name, kind);
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let bare = name.split('{').next().unwrap();
            let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| bare.strip_suffix(end));
            let family = of_histogram.filter(|family| typed.get(family) == Some(&"histogram")).unwrap_or(bare);
            assert!(helped.contains(family) && typed.contains_key(family), "{line}");
            assert_eq!(bare.ends_with("_total"), typed[family] == "counter", "{line}");
            assert!(bare.starts_with("course_gc_") || bare == "process_start_time_seconds", "{line}");
            assert_eq!(series.insert(name.to_owned(), value.parse().unwrap()), None, "{line}");
        }
    }
    series
}

fn orphan(course: i64, evidence: Evidence, decision: Decision) -> OrphanReport {
    let course = CourseId::Integer(course);
    OrphanReport {
        course,
        evidence,
        resources: 3,
        bytes: Some(30),
        entangled: 0,
        referenced: 0,
        accrued_seconds: 60,
        decision,
    }
}

fn store(name: &str, orphans: Vec<OrphanReport>, swept: Tally) -> StoreReport {
    let source = SourceReport {
        name: "s".into(),
        live_courses: 5,
        live_resources: 50,
        unrecognised: Unrecognised { count: 4, samples: Vec::new() },
        orphans,
        estimate: None,
        swept,
    };
    StoreReport {
        name: name.into(),
        kind: "redis",
        identity: Some("here".into()),
        error: None,
        not_adopted: None,
        complete: true,
        sources: vec![source],
        unclaimed: Unrecognised { count: 9, samples: Vec::new() },
        failures: Vec::new(),
        quarantined: true,
        put_back: 0,
        live_after_delete: Vec::new(),
        inventory_seconds: 0.2,
        sweep_seconds: 0.3,
    }
}

fn report(stores: Vec<StoreReport>) -> RunReport {
    let started = DateTime::from_timestamp(1_000, 500_000_000).unwrap();
    let mut report = RunReport::begin(Uuid::nil(), Mode::Run, "test", started);
    report.live = vec![LiveReport {
        source: "union".into(),
        live: 5,
        highest: Some(5),
        identity: None,
        tombstones: None,
        tombstones_error: None,
    }];
    report.stores = stores;
    report.stage("inventory", Duration::from_millis(200));
    report.conclude(Duration::from_secs(2))
}

/// One orphan goes, two are held; one resource failed.
fn busy() -> RunReport {
    let grace = Decision::Held(Hold::Grace { left_seconds: 5 });
    let breaker = Decision::Held(Hold::Breaker { breaker: Breaker::Share });
    let orphans = vec![
        orphan(1, Evidence::Departed, Decision::Sweep),
        orphan(2, Evidence::Departed, grace),
        orphan(3, Evidence::Stranger, breaker),
    ];
    let swept = Tally { deleted: 2, bytes: 20, absent: 5, failed: 1, unattempted: 6, spared: 7 };
    report(vec![store("cache", orphans, swept)])
}

fn finish(metrics: &Metrics, report: &RunReport) {
    events::run_finished(metrics, report, DateTime::from_timestamp(1_010, 0).unwrap());
}

fn locked() -> RunError {
    let (what, address, holder) = ("the ledger".into(), "localhost".into(), "process 1".into());
    RunError::Locked(PostgresError::Locked { what, address, holder })
}

#[test]
fn everything_that_counts_is_there_at_zero_before_anything_happens() {
    let series = series(&metrics());
    for verdict in Verdict::ALL {
        for mode in ["plan", "run"] {
            let name = format!("course_gc_runs_total{{mode=\"{mode}\",verdict=\"{}\"}}", verdict.as_str());
            assert_eq!(series.get(&name), Some(&0.0), "{name}");
        }
    }
    for name in [
        "course_gc_runs_locked_total",
        "course_gc_last_run_start_timestamp_seconds",
        "course_gc_last_success_timestamp_seconds",
        "course_gc_last_clean_timestamp_seconds",
        "course_gc_halted",
        "course_gc_ledger_up",
        "course_gc_run_duration_seconds_count",
        "course_gc_stage_duration_seconds_count{stage=\"sweep\"}",
    ] {
        assert_eq!(series.get(name), Some(&0.0), "{name}");
    }
    for name in [
        "store_errors_total",
        "resources_deleted_total",
        "deleted_bytes_total",
        "already_absent_total",
        "failures_total",
        "unattempted_total",
        "spared_total",
        "live_after_delete_total",
        "put_back_total",
        "inventory_duration_seconds_count",
        "sweep_duration_seconds_sum",
    ] {
        for store in ["vectors", "cache"] {
            let name = format!("course_gc_{name}{{store=\"{store}\"}}");
            assert_eq!(series.get(&name), Some(&0.0), "{name}");
        }
    }
    assert_eq!(series["course_gc_store_info{kind=\"qdrant\",store=\"vectors\"}"], 1.0);
    assert_eq!(series[concat!("course_gc_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}")], 1.0);
    let positive = series.iter().filter(|(_, value)| **value > 0.0).count();
    assert_eq!(positive, 4, "two stores, the version and the process's start");
}

#[test]
fn what_only_a_run_can_know_appears_with_it() {
    let metrics = metrics();
    let state =
        ["live_courses", "orphans", "orphans_held", "unrecognised", "unclaimed", "store_complete", "store_quarantined"];
    let family = |name: &str| name.split('{').next().unwrap().trim_start_matches("course_gc_").to_owned();
    let before = series(&metrics);
    assert!(before.keys().all(|name| !state.contains(&family(name).as_str())), "{before:?}");
    finish(&metrics, &busy());
    let after = series(&metrics);
    let new: BTreeSet<String> = after.keys().filter(|name| !before.contains_key(*name)).map(|n| family(n)).collect();
    assert_eq!(new, state.into_iter().map(str::to_owned).collect(), "nothing else appears later");
}

#[test]
fn a_report_moves_what_it_speaks_of_and_nothing_else() {
    let metrics = metrics();
    finish(&metrics, &busy());
    let series = series(&metrics);
    for (name, value) in [
        ("runs_total{mode=\"run\",verdict=\"partly\"}", 1.0),
        ("runs_total{mode=\"run\",verdict=\"done\"}", 0.0),
        ("runs_total{mode=\"plan\",verdict=\"partly\"}", 0.0),
        ("last_run_start_timestamp_seconds", 1000.5),
        ("last_success_timestamp_seconds", 0.0),
        ("run_duration_seconds_sum", 2.0),
        ("stage_duration_seconds_sum{stage=\"inventory\"}", 0.2),
        ("inventory_duration_seconds_sum{store=\"cache\"}", 0.2),
        ("sweep_duration_seconds_sum{store=\"cache\"}", 0.3),
        ("live_courses{source=\"union\"}", 5.0),
        ("orphans{evidence=\"departed\",store=\"cache\"}", 2.0),
        ("orphans{evidence=\"stranger\",store=\"cache\"}", 1.0),
        ("orphans_held{reason=\"grace\",store=\"cache\"}", 1.0),
        ("orphans_held{reason=\"breaker_share\",store=\"cache\"}", 1.0),
        ("unrecognised{store=\"cache\"}", 4.0),
        ("unclaimed{store=\"cache\"}", 9.0),
        ("store_complete{store=\"cache\"}", 1.0),
        ("resources_deleted_total{store=\"cache\"}", 2.0),
        ("deleted_bytes_total{store=\"cache\"}", 20.0),
        ("already_absent_total{store=\"cache\"}", 5.0),
        ("failures_total{store=\"cache\"}", 1.0),
        ("unattempted_total{store=\"cache\"}", 6.0),
        ("spared_total{store=\"cache\"}", 7.0),
        ("resources_deleted_total{store=\"vectors\"}", 0.0),
        ("inventory_duration_seconds_count{store=\"vectors\"}", 0.0),
    ] {
        assert_eq!(series.get(&format!("course_gc_{name}")), Some(&value), "{name}");
    }
    let held: f64 = series.iter().filter(|(name, _)| name.contains("orphans_held")).map(|(_, value)| value).sum();
    assert_eq!(held, 2.0);
    assert!(!metrics.text().unwrap().contains("course_id"));
}

#[test]
fn every_reason_and_every_evidence_has_its_series() {
    let metrics = metrics();
    finish(&metrics, &busy());
    let series = series(&metrics);
    for reason in Hold::NAMES {
        assert!(series.contains_key(&format!("course_gc_orphans_held{{reason=\"{reason}\",store=\"cache\"}}")));
    }
    for evidence in Evidence::ALL {
        let evidence = evidence.as_str();
        assert!(series.contains_key(&format!("course_gc_orphans{{evidence=\"{evidence}\",store=\"cache\"}}")));
    }
}

#[test]
fn success_is_clean_or_done_and_of_a_run() {
    let done = report(vec![store("cache", vec![orphan(1, Evidence::Departed, Decision::Sweep)], Tally::default())]);
    let clean = report(vec![store("cache", Vec::new(), Tally::default())]);
    let mut plan = clean.clone();
    plan.mode = Mode::Plan;
    let after = |report: &RunReport| {
        let metrics = metrics();
        finish(&metrics, report);
        let series = series(&metrics);
        let stamp = |name: &str| series[&format!("course_gc_last_{name}_timestamp_seconds")];
        (stamp("run_start"), stamp("success"), stamp("clean"))
    };
    assert_eq!(after(&done), (1000.5, 1010.0, 0.0));
    assert_eq!(after(&clean), (1000.5, 1010.0, 1010.0));
    assert_eq!(after(&plan), (0.0, 0.0, 0.0));
    assert_eq!(after(&busy()), (1000.5, 0.0, 0.0));
}

#[test]
fn s4_an_inventory_that_failed_does_not_say_that_nothing_is_there() {
    let metrics = metrics();
    finish(&metrics, &busy());
    let mut broken = store("cache", Vec::new(), Tally::default());
    broken.sources.clear();
    (broken.complete, broken.error) = (false, Some("no answer".into()));
    finish(&metrics, &report(vec![broken, store("vectors", Vec::new(), Tally::default())]));
    let series = series(&metrics);
    assert_eq!(series["course_gc_orphans{evidence=\"departed\",store=\"cache\"}"], 2.0, "as last seen");
    assert_eq!(series["course_gc_store_complete{store=\"cache\"}"], 0.0);
    assert_eq!(series["course_gc_store_errors_total{store=\"cache\"}"], 1.0);
    assert_eq!(series["course_gc_orphans{evidence=\"departed\",store=\"vectors\"}"], 0.0);
    finish(&metrics, &report(vec![store("cache", Vec::new(), Tally::default())]));
    assert_eq!(self::series(&metrics)["course_gc_orphans{evidence=\"departed\",store=\"cache\"}"], 0.0);
}

#[test]
fn a_run_without_a_report_is_a_failure_unless_another_works_or_it_was_stopped() {
    let metrics = metrics();
    let failed = "course_gc_runs_total{mode=\"run\",verdict=\"failed\"}";
    events::run_failed(&metrics, Mode::Run, &locked());
    events::run_failed(&metrics, Mode::Run, &RunError::Stopped);
    let quiet = series(&metrics);
    assert_eq!((quiet[failed], quiet["course_gc_runs_locked_total"]), (0.0, 1.0));
    events::run_failed(&metrics, Mode::Run, &RunError::Ledger(LedgerError::Old { needed: 2, found: 1 }));
    assert_eq!(series(&metrics)[failed], 1.0);
}

/// The log as objects, without its times.
fn log(act: impl FnOnce()) -> Vec<Value> {
    let lines = lines(LogFormat::Json, Level::INFO, act);
    lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn fields(line: &Value, names: &[&str]) -> Value {
    names.iter().map(|name| line.get(name).cloned().unwrap_or_default()).collect()
}

#[test]
fn the_log_has_a_line_for_each_store_and_one_for_the_run() {
    let metrics = metrics();
    let log = log(|| finish(&metrics, &busy()));
    assert_eq!(log.len(), 2, "{log:?}");
    let store = fields(&log[0], &["level", "message", "store", "decisions", "deleted", "failed"]);
    assert_eq!(store, json!(["WARN", "store finished", "cache", "breaker_share=1 grace=1 sweep=1", 2, 1]));
    let run = fields(&log[1], &["level", "message", "run", "verdict", "seconds", "orphans", "held", "deleted"]);
    assert_eq!(run, json!(["WARN", "run finished", Uuid::nil(), "partly", 2.0, 3, 2, 2]));
    assert!(log.iter().all(|line| line.get("halt").is_none() && line.get("error").is_none()), "{log:?}");
}

#[test]
fn whoever_is_on_call_reads_which_courses_were_live_after_their_delete() {
    let metrics = metrics();
    let mut store = store("cache", Vec::new(), Tally::default());
    store.live_after_delete = vec![CourseId::Integer(4), CourseId::Integer(5)];
    let log = log(|| finish(&metrics, &report(vec![store])));
    assert!(log.iter().any(|line| fields(line, &["level", "courses"]) == json!(["ERROR", "4 5"])), "{log:?}");
    assert_eq!(series(&metrics)["course_gc_live_after_delete_total{store=\"cache\"}"], 2.0);
}

#[test]
fn a_failure_is_logged_once_with_all_of_its_causes() {
    let metrics = metrics();
    let error = RunError::Ledger(LedgerError::Old { needed: 2, found: 1 });
    let failed = log(|| events::run_failed(&metrics, Mode::Run, &error));
    assert_eq!(failed.len(), 1);
    let text = failed[0]["error"].as_str().unwrap();
    assert!(text.starts_with("the ledger cannot be used") && text.contains("course-gc migrate"), "{text}");
    assert_eq!(log(|| events::run_failed(&metrics, Mode::Run, &locked())), Vec::<Value>::new(), "normal for a standby");
}
