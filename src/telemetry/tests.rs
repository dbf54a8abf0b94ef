//! What a report does to the metrics and writes into the log.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::num::NonZeroU32;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use serde_json::{Value, json};
use tracing::Level;
use uuid::Uuid;

use super::declare::Declared;
use super::events;
use super::measured;
use super::metrics::{Metrics, OPERATIONS};
use super::subscriber::tests::lines;
use crate::clock::MachineClock;
use crate::config::{Config, LogFormat};
use crate::domain::evidence::Evidence;
use crate::domain::ids::CourseId;
use crate::domain::inventory::Unrecognised;
use crate::domain::plan::{Breaker, Decision, Hold};
use crate::domain::report::{LiveReport, Mode, OrphanReport, RunReport, SourceReport, StoreReport, Tally, Verdict};
use crate::domain::standing::{OrphanGroup, Seen, SeenLive, SeenQuarantine, SeenSource, SeenStore, Standing};
use crate::ledger::LedgerError;
use crate::pace::{Pace, Settings};
use crate::postgres::PostgresError;
use crate::reconcile::RunError;

/// The names of a trait's methods, in the order of its source.
fn methods<'a>(source: &'a str, of: &str) -> Vec<&'a str> {
    let (_, rest) = source.split_once(&format!("pub trait {of}")).unwrap();
    let (methods, _) = rest.split_once("\n}\n").unwrap();
    methods.split(" fn ").skip(1).map(|it| it.split(['(', '<']).next().unwrap()).collect()
}

/// What a trait does by default it does for a client that is wrapped, too: without a word, and wrongly.
#[test]
fn a_client_that_is_measured_does_all_that_it_did() {
    let (store, liveness) = (include_str!("../stores/mod.rs"), include_str!("../liveness/mod.rs"));
    let wrapped = include_str!("measured/liveness.rs");
    let pairs = [
        (methods(store, "Store"), include_str!("measured/store.rs"), "impl Store for MeasuredStore"),
        (methods(liveness, "LivenessSources"), wrapped, "impl LivenessSources for MeasuredSources"),
        (methods(liveness, "Liveness:"), wrapped, "impl Liveness for MeasuredLiveness"),
    ];
    for (names, measured, by) in pairs {
        assert!(names.len() > 4, "{names:?}");
        let (_, measured) = measured.split_once(by).unwrap();
        let measured = measured.split("\n}\n").next().unwrap();
        let missing: Vec<_> = names.iter().filter(|name| !measured.contains(&format!(" fn {name}("))).collect();
        assert!(missing.is_empty(), "{by} does not hand on {missing:?}");
    }
}

/// The ledger's operations come from the very list that measures them; these are told by hand.
#[test]
fn every_operation_of_a_client_is_measured_but_for_what_asks_nobody() {
    let (store, liveness) = (include_str!("../stores/mod.rs"), include_str!("../liveness/mod.rs"));
    let asks_nobody = ["name", "kind", "sources", "batch_limit", "reference_query", "pace", "in_place"];
    let mut expected = methods(store, "Store");
    // Part of moving markers, and what a doctor asks, whom nobody measures.
    expected.retain(|name| !asks_nobody.contains(name) && !["mark_newcomers", "examine"].contains(name));
    assert_eq!(expected, OPERATIONS);
    let mut expected = [methods(liveness, "LivenessSources"), methods(liveness, "Liveness:")].concat();
    let asks_nobody = ["tells_organizations", "pins", "server", "release"];
    expected.retain(|name| !asks_nobody.contains(name));
    assert_eq!(expected, measured::liveness::OPERATIONS);
}

fn metrics() -> Metrics {
    Metrics::new(&[("vectors", "qdrant"), ("cache", "redis")]).unwrap()
}

fn config() -> Config {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("course-gc.yaml");
    let text = "installation: campus\n\
        liveness:\n  campus: { url: 'postgres://localhost/campus', query: SELECT id FROM public.courses }\n\
        stores:\n  cache: { kind: redis, url: 'redis://localhost/0', templates: ['course:{course_id}'] }\n\
        quarantine: { folder: /var/lib/course-gc }\n";
    std::fs::write(&path, text).unwrap();
    Config::load(&path, []).unwrap()
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
            assert!(bare.starts_with("course_gc_") || bare.starts_with("process_"), "{line}");
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
        new: true,
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
        rest_seconds: 0.0,
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
    events::run_finished(metrics, report);
}

/// What the ledger tells once [`busy`] has run: two orphans are left.
fn standing() -> Standing {
    let group = |evidence, decision: &str, late| OrphanGroup {
        store: "cache".into(),
        evidence,
        decision: Some(decision.into()),
        orphans: 1,
        late,
        first_seen: DateTime::from_timestamp(800, 0).unwrap(),
    };
    let source = SeenSource {
        name: "s".into(),
        live_courses: 5,
        live_resources: 50,
        orphans: 3,
        orphan_resources: 9,
        unrecognised: 4,
    };
    let store = SeenStore {
        name: "cache".into(),
        complete: true,
        adopted: true,
        quarantined: true,
        unclaimed: 9,
        sources: vec![source],
    };
    let live = SeenLive { source: "union".into(), live: 5 };
    let oldest = DateTime::from_timestamp(900, 0);
    let quarantine = SeenQuarantine { copies: 2, bytes: 30, archive_bytes: Some(20), free_percent: Some(40), oldest };
    let misplaced = false;
    Standing {
        now: DateTime::from_timestamp(1_020, 0).unwrap(),
        last_start: DateTime::from_timestamp(1_000, 500_000_000),
        last_success: DateTime::from_timestamp(700, 0),
        last_clean: None,
        last_unfailed: None,
        last_ended: Some(Uuid::nil()),
        paused: true,
        open_requests: 1,
        oldest_request: DateTime::from_timestamp(1_010, 0),
        orphans: vec![group(Evidence::Departed, "grace", 0), group(Evidence::Stranger, "breaker_share", 1)],
        seen: Some(Seen {
            halted: true,
            misplaced,
            live: vec![live],
            quarantine: Some(quarantine),
            stores: vec![store],
        }),
    }
}

fn locked() -> RunError {
    let (what, address, holder) = ("the ledger".into(), "localhost".into(), "process 1".into());
    RunError::Locked(PostgresError::Locked { what, address, holder })
}

/// The series of a declared metric, without what a histogram adds.
fn families(series: &BTreeMap<String, f64>) -> BTreeSet<&str> {
    series.keys().map(|name| name.split('{').next().unwrap()).collect()
}

fn is_there(families: &BTreeSet<&str>, metric: &Declared) -> bool {
    match metric.kind {
        "histogram" => families.contains(&*format!("{}_count", metric.name)),
        _ => families.contains(metric.name),
    }
}

#[test]
fn what_a_process_does_is_there_at_zero_before_it_does_anything() {
    let metrics = metrics();
    metrics.serve_routes([("/v1/runs", "GET")]);
    metrics.configured(&config());
    let series = series(&metrics);
    let families = families(&series);
    for metric in Metrics::declared().into_iter().flat_map(|(_, declared)| declared) {
        let known = Metrics::declared()[1].1.contains(metric);
        assert_eq!(is_there(&families, metric), !known, "{}", metric.name);
    }
    let is_set = |name: &&String| {
        ["course_gc_config_", "course_gc_store_info", "course_gc_build_info", "process_"]
            .iter()
            .any(|start| name.starts_with(start))
    };
    let positive: Vec<&String> = series.iter().filter(|(_, value)| **value > 0.0).map(|(name, _)| name).collect();
    assert!(positive.iter().all(is_set), "{positive:?}");
    for verdict in Verdict::ALL {
        for mode in ["plan", "run"] {
            let name = format!("course_gc_runs_total{{mode=\"{mode}\",verdict=\"{}\"}}", verdict.as_str());
            assert_eq!(series.get(&name), Some(&0.0), "{name}");
        }
    }
    for metric in Metrics::declared()[0].1.iter().filter(|metric| metric.labels == ["store"]) {
        let name = if metric.kind == "histogram" { format!("{}_count", metric.name) } else { metric.name.to_owned() };
        for store in ["vectors", "cache"] {
            assert_eq!(series.get(&format!("{name}{{store=\"{store}\"}}")), Some(&0.0), "{name} of {store}");
        }
    }
    assert_eq!(series["course_gc_store_info{kind=\"redis\",store=\"cache\"}"], 1.0);
    assert!(
        !series.contains_key("course_gc_store_info{kind=\"qdrant\",store=\"vectors\"}"),
        "it is not configured any more"
    );
    assert_eq!(series[concat!("course_gc_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}")], 1.0);
}

#[test]
fn what_the_ledger_knows_is_there_all_at_once_when_it_was_read() {
    let metrics = metrics();
    events::told(&metrics, &standing());
    let before = series(&metrics);
    let families = families(&before);
    let missing: Vec<&str> = Metrics::declared()[1]
        .1
        .iter()
        .filter(|metric| !is_there(&families, metric))
        .map(|metric| metric.name)
        .collect();
    assert_eq!(missing, [""; 0]);
    // A run adds no series: `rate()` would not see its first increase.
    metrics.done.runs.reset();
    finish(&metrics, &busy());
    let after = series(&metrics);
    let new: Vec<&String> = after.keys().filter(|name| !before.contains_key(*name)).collect();
    assert!(new.iter().all(|name| name.starts_with("course_gc_runs_total")), "{new:?}");
}

#[test]
fn every_label_of_a_series_is_declared_and_none_is_a_course() {
    let metrics = metrics();
    metrics.configured(&config());
    events::told(&metrics, &standing());
    finish(&metrics, &busy());
    let declared: BTreeMap<&str, &Declared> =
        Metrics::declared().into_iter().flat_map(|(_, all)| all).map(|metric| (metric.name, metric)).collect();
    for name in series(&metrics).keys() {
        let (family, labels) = name.split_once('{').unwrap_or((name, "}"));
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| family.strip_suffix(end));
        let metric = declared.get(family).or_else(|| declared.get(base?)).unwrap_or_else(|| panic!("{name}"));
        let named = labels.trim_end_matches('}').split(',').filter_map(|label| Some(label.split_once('=')?.0));
        let named: BTreeSet<&str> = named.filter(|label| *label != "le").collect();
        assert_eq!(named, metric.labels.iter().copied().collect(), "{name}");
        assert!(!named.iter().any(|label| label.contains("course")), "{name}");
    }
}

/// What Prometheus's own linter says of the real text.
#[test]
fn promtool_finds_nothing_wrong() {
    let metrics = metrics();
    metrics.serve_routes([("/v1/runs", "GET")]);
    metrics.configured(&config());
    events::told(&metrics, &standing());
    finish(&metrics, &busy());
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn().expect("`make setup` installs it");
    promtool.stdin.take().unwrap().write_all(metrics.text().unwrap().as_bytes()).unwrap();
    let said = promtool.wait_with_output().unwrap();
    let text = [said.stdout, said.stderr].concat();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&text));
}

#[test]
fn a_report_moves_what_was_done_and_nothing_else() {
    let metrics = metrics();
    finish(&metrics, &busy());
    let series = series(&metrics);
    for (name, value) in [
        ("runs_total{mode=\"run\",verdict=\"partly\"}", 1.0),
        ("runs_total{mode=\"run\",verdict=\"done\"}", 0.0),
        ("runs_total{mode=\"plan\",verdict=\"partly\"}", 0.0),
        ("run_duration_seconds_sum", 2.0),
        ("stage_duration_seconds_sum{stage=\"inventory\"}", 0.2),
        ("inventory_duration_seconds_sum{store=\"cache\"}", 0.2),
        ("sweep_duration_seconds_sum{store=\"cache\"}", 0.3),
        ("orphans_found_total{evidence=\"departed\",store=\"cache\"}", 2.0),
        ("orphans_found_total{evidence=\"stranger\",store=\"cache\"}", 1.0),
        ("orphans_found_total{evidence=\"stranger\",store=\"vectors\"}", 0.0),
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
}

#[test]
fn a_standby_tells_what_the_ledger_knows() {
    let metrics = metrics();
    events::told(&metrics, &standing());
    let series = series(&metrics);
    for (name, value) in [
        ("ledger_read_timestamp_seconds", 1020.0),
        ("last_run_start_timestamp_seconds", 1000.5),
        ("last_success_timestamp_seconds", 700.0),
        ("last_clean_timestamp_seconds", 0.0),
        ("halted", 1.0),
        ("pins_mismatched", 0.0),
        ("paused", 1.0),
        ("breaker_open{breaker=\"share\"}", 1.0),
        ("breaker_open{breaker=\"bytes\"}", 0.0),
        ("live_courses{source=\"union\"}", 5.0),
        ("inventory_courses{source=\"s\",state=\"orphan\",store=\"cache\"}", 3.0),
        ("inventory_resources{source=\"s\",state=\"orphan\",store=\"cache\"}", 9.0),
        ("inventory_resources{source=\"s\",state=\"live\",store=\"cache\"}", 50.0),
        ("orphans{evidence=\"departed\",store=\"cache\"}", 1.0),
        ("orphans{evidence=\"departed\",store=\"vectors\"}", 0.0),
        ("orphans_held{reason=\"breaker_share\",store=\"cache\"}", 1.0),
        ("orphans_overdue{store=\"cache\"}", 1.0),
        ("oldest_orphan_age_seconds{store=\"cache\"}", 220.0),
        ("oldest_orphan_age_seconds{store=\"vectors\"}", 0.0),
        ("unrecognised{store=\"cache\"}", 4.0),
        ("unclaimed{store=\"cache\"}", 9.0),
        ("store_complete{store=\"cache\"}", 1.0),
        ("quarantine_bytes", 30.0),
        ("quarantine_archive_bytes", 20.0),
        ("quarantine_free_ratio", 0.4),
        ("quarantine_oldest_timestamp_seconds", 900.0),
        ("cleanup_requests_open", 1.0),
        ("cleanup_requests_oldest_age_seconds", 10.0),
        ("runs_total{mode=\"run\",verdict=\"done\"}", 0.0),
    ] {
        assert_eq!(series.get(&format!("course_gc_{name}")), Some(&value), "{name}");
    }
    let held: f64 = series.iter().filter(|(name, _)| name.contains("orphans_held")).map(|(_, value)| value).sum();
    assert_eq!(held, 2.0);
    for reason in Hold::NAMES {
        assert!(series.contains_key(&format!("course_gc_orphans_held{{reason=\"{reason}\",store=\"cache\"}}")));
    }
}

#[test]
fn s4_an_inventory_that_failed_does_not_say_that_nothing_is_there() {
    let metrics = metrics();
    let mut standing = standing();
    events::told(&metrics, &standing);
    let mut seen = standing.seen.take().unwrap();
    let store = &mut seen.stores[0];
    (store.complete, store.sources) = (false, Vec::new());
    standing.seen = Some(seen);
    events::told(&metrics, &standing);
    let live = "course_gc_inventory_courses{source=\"s\",state=\"live\",store=\"cache\"}";
    let series = series(&metrics);
    assert_eq!((series[live], series["course_gc_store_complete{store=\"cache\"}"]), (5.0, 0.0), "as last seen");
    finish(&metrics, &report(vec![store_that_broke(), self::store("vectors", Vec::new(), Tally::default())]));
    assert_eq!(self::series(&metrics)["course_gc_store_errors_total{store=\"cache\"}"], 1.0);
}

fn store_that_broke() -> StoreReport {
    let mut broken = store("cache", Vec::new(), Tally::default());
    broken.sources.clear();
    (broken.complete, broken.error) = (false, Some("no answer".into()));
    broken
}

#[tokio::test]
async fn what_calls_waited_is_counted_once_and_how_slow_a_store_is_kept_is_told() {
    let metrics = metrics();
    let of = |name: &str| format!("course_gc_{name}{{store=\"cache\"}}");
    let at_first = series(&metrics);
    assert_eq!((at_first[&of("rest_seconds_total")], at_first[&of("slowdown_ratio")]), (0.0, 0.0));

    let second = Duration::from_secs(1);
    let settings =
        Settings { calls_per_second: NonZeroU32::new(20), in_flight: 3, slow_down_over: 2.0, longest_rest: second };
    let pace = Pace::new(settings, Arc::new(MachineClock));
    metrics.paced("cache", &pace);
    for calls in 0..3 {
        let turn = pace.measured_turn().await;
        tokio::time::sleep(Duration::from_millis(1) * 20 * calls).await;
        turn.alike("step");
        turn.end();
    }
    let rested = pace.rested().as_secs_f64();
    assert!(rested > 0.0);
    for _ in 0..2 {
        assert!((series(&metrics)[&of("rest_seconds_total")] - rested).abs() < 1e-9);
    }
    let series = series(&metrics);
    assert!(series[&of("slowdown_ratio")] > 0.5, "{series:?}");
    assert_eq!((series[&of("config_calls_in_flight")], series[&of("config_calls_per_second")]), (3.0, 20.0));
}

#[test]
fn a_store_that_is_configured_no_more_is_not_told_of() {
    let metrics = Metrics::new(&[("vectors", "qdrant")]).unwrap();
    events::told(&metrics, &standing());
    assert!(!metrics.text().unwrap().contains("store=\"cache\""));
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
