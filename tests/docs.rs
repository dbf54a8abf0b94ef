//! The documents name what is there: every field of a report, every command, metric and `make` target, every safeguard, and the tests
//! of each line of the contract.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may fail so")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use chrono::DateTime;
use clap::CommandFactory;
use course_gc::cli::Cli;
use course_gc::config::Config;
use course_gc::domain::approvals::{HoldKind, digest_of_orphans};
use course_gc::domain::evidence::Evidence;
use course_gc::domain::holds::of_halts;
use course_gc::domain::ids::CourseId;
use course_gc::domain::inventory::Unrecognised;
use course_gc::domain::live_set::{Halt, Halts};
use course_gc::domain::plan::{Breaker, Decision, Hold};
use course_gc::domain::report::{
    LiveReport, Mode, OrphanReport, QuarantineReport, RunReport, SourceReport, StoreReport, Tally, Verdict,
};
use course_gc::domain::sample::Estimate;
use course_gc::ledger::{Approval, Pause, RunSummary};
use course_gc::telemetry::metrics::{Metrics, page};
use course_gc::tombstones::{Coverage, Relation, Status};
use serde_json::{Value, json};
use uuid::Uuid;

const API: &str = include_str!("../docs/api.md");
const README: &str = include_str!("../README.md");
const REPORT: &str = include_str!("../docs/report.md");
const SAFETY: &str = include_str!("../docs/safety.md");
const MAKEFILE: &str = include_str!("../Makefile");
const CLAIMS: &str = include_str!("model/claims.rs");
const MODEL_SAFEGUARDS: &str = include_str!("model/safeguards.rs");
const SIMULATION_SAFEGUARDS: &str = include_str!("../src/simulation/safeguards.rs");
const OBSERVER: [&str; 2] =
    [include_str!("../src/simulation/observer.rs"), include_str!("../src/simulation/observer/judge.rs")];

/// Every decision that there is.
fn decisions() -> Vec<Decision> {
    let breaker = |breaker| Hold::Breaker { breaker };
    let holds = [
        Hold::Incomplete,
        Hold::NotAdopted,
        Hold::Discontinuity,
        Hold::NotExclusive,
        Hold::Paused,
        Hold::Restored,
        breaker(Breaker::Share),
        breaker(Breaker::StrangerShare),
        breaker(Breaker::Courses),
        breaker(Breaker::Bytes),
        Hold::Grace { left_seconds: 3 },
        Hold::Referenced,
        Hold::Locked,
        Hold::Entangled,
        Hold::Cap,
    ];
    let names: BTreeSet<&str> = holds.iter().map(|hold| hold.as_str()).collect();
    assert_eq!(names, BTreeSet::from(Hold::NAMES), "list every hold here");
    let swept = [Decision::Sweep, Decision::SweepExcept { entangled: 1, referenced: 0 }];
    holds.map(Decision::Held).into_iter().chain(swept).collect()
}

/// A report with every field, decision and piece of evidence, in what `status` prints.
fn status() -> Value {
    let orphan = |evidence| {
        move |decision| OrphanReport {
            course: CourseId::Integer(1),
            evidence,
            resources: 1,
            bytes: None,
            entangled: 1,
            referenced: 1,
            accrued_seconds: 1,
            new: true,
            decision,
        }
    };
    let orphans = Evidence::ALL.into_iter().flat_map(|evidence| decisions().into_iter().map(orphan(evidence)));
    let source = SourceReport {
        name: "source".to_owned(),
        live_courses: 1,
        live_resources: 1,
        unrecognised: Unrecognised::default(),
        orphans: orphans.collect(),
        estimate: Some(Estimate { resources: 1, sampled: 1, bytes: 1, standard_error: 0 }),
        swept: Tally::default(),
    };
    let store = StoreReport {
        name: "store".to_owned(),
        kind: "redis",
        identity: None,
        error: None,
        not_adopted: None,
        complete: true,
        sources: vec![source],
        unclaimed: Unrecognised::default(),
        failures: Vec::new(),
        quarantined: true,
        put_back: 0,
        live_after_delete: Vec::new(),
        inventory_seconds: 1.0,
        sweep_seconds: 1.0,
        rest_seconds: 0.5,
    };
    let mut report = RunReport::begin(Uuid::nil(), Mode::Run, "campus", DateTime::UNIX_EPOCH);
    report.quarantine = Some(QuarantineReport::default());
    let source_name = || "union".to_owned();
    let halts = vec![
        Halt::Empty { source_name: source_name() },
        Halt::Below { source_name: source_name(), live: 1, refuse_below: 2 },
        Halt::Drop { source_name: source_name(), live: 1, highest: 2, refuse_drop_percent: 3 },
    ];
    report.holds = Halts::new(halts.clone()).iter().map(|halts| of_halts(halts).report).collect();
    report.halts = halts;
    report.live = vec![LiveReport {
        source: "union".to_owned(),
        live: 1,
        highest: None,
        identity: None,
        tombstones: None,
        tombstones_error: None,
    }];
    report.stores = vec![store];
    for stage in ["liveness", "inventory", "orphans", "plan", "purge", "sweep", "requests"] {
        report.stage(stage, Duration::from_secs(1));
    }
    let report = report.conclude(Duration::from_secs(1));
    let run = RunSummary {
        run: report.run,
        mode: report.mode.as_str().to_owned(),
        started_at: report.started_at,
        finished_at: None,
        verdict: None,
        report: Some(serde_json::to_value(&report).unwrap()),
    };
    let pause = Pause { reason: String::new(), paused_by: String::new(), paused_at: DateTime::UNIX_EPOCH };
    let relation = Relation { name: String::new(), coverage: Coverage::Missing };
    let tombstones = Status {
        relations: vec![relation],
        table: true,
        readable: true,
        notifies: false,
        tombstones: None,
        newest: None,
    };
    let source = json!({ "source": "", "statements": [], "done": true, "installed": true, "status": tombstones });
    json!({ "paused": pause, "runs": [run], "sources": [source] })
}

/// What `holds` and `approve` print, with every kind.
fn holds() -> Value {
    let digest = digest_of_orphans(HoldKind::Breakers, []);
    let approval = |kind| Approval {
        digest,
        kind,
        reason: String::new(),
        approved_by: String::new(),
        approved_at: DateTime::UNIX_EPOCH,
        until: DateTime::UNIX_EPOCH,
        covers: 1,
    };
    let halts = Halts::new(vec![Halt::Empty { source_name: "union".to_owned() }]).unwrap();
    let hold = of_halts(&halts).report;
    let approvals: Vec<Approval> = HoldKind::ALL.into_iter().map(approval).collect();
    json!({ "holds": [hold], "approvals": approvals, "approved": approval(HoldKind::Halt), "hold": hold })
}

fn walk<'a>(value: &'a Value, visit: &mut impl FnMut(&'a str, &'a Value)) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            visit(name, value);
            walk(value, visit);
        }),
        Value::Array(values) => values.iter().for_each(|value| walk(value, visit)),
        _ => {}
    }
}

fn documented(name: &str) {
    assert!(REPORT.contains(&format!("`{name}`")), "docs/report.md does not explain `{name}`");
}

#[test]
fn every_field_and_every_word_of_a_report_is_documented() {
    walk(&json!([status(), holds()]), &mut |name, value| {
        documented(name);
        if let ("mode" | "verdict" | "evidence" | "decision" | "reason" | "breaker" | "coverage" | "kind", Some(word)) =
            (name, value.as_str())
        {
            documented(word);
        }
    });
    Verdict::ALL.into_iter().for_each(|verdict| documented(verdict.as_str()));
    for verdict in Verdict::ALL {
        let row = format!("| `{}` | {} |", verdict.as_str(), verdict.exit_code());
        assert!(REPORT.contains(&row), "docs/report.md gives {verdict:?} another exit code");
    }
}

#[test]
fn every_documented_field_is_in_a_report() {
    let answers = json!([status(), holds()]);
    let mut fields = BTreeSet::new();
    walk(&answers, &mut |name, _| {
        fields.insert(name);
    });
    // Rows of the tables of fields have three columns; the first is the name.
    let mut tables = REPORT.split("| field | type | meaning |\n").skip(1);
    let rows = tables.by_ref().flat_map(|table| table.lines().skip(1).take_while(|line| line.starts_with('|')));
    let named: Vec<&str> = rows.filter_map(|row| row.strip_prefix("| `")?.split('`').next()).collect();
    assert!(named.len() > 40, "{named:?}");
    for name in named {
        assert!(fields.contains(name), "docs/report.md explains `{name}`, which no report has");
    }
}

#[test]
fn the_readme_names_every_command_and_none_besides() {
    let mut cli = Cli::command();
    cli.build();
    let names: BTreeSet<&str> =
        cli.get_subcommands().map(|command| command.get_name()).filter(|name| *name != "help").collect();
    for name in &names {
        assert!(README.contains(&format!("`course-gc {name}")), "README.md does not name `course-gc {name}`");
    }
    for words in README.split("`course-gc ").skip(1).chain(README.split("$ course-gc ").skip(1)) {
        let command = words.split([' ', '`', '\n']).next().unwrap();
        assert!(names.contains(command), "README.md names `course-gc {command}`, which is none");
    }
}

#[test]
fn the_api_and_its_document_have_the_same_routes_and_procedures() {
    let described = serde_json::to_value(course_gc::http::api::description()).unwrap();
    let mut routes = BTreeSet::new();
    for (path, item) in described["paths"].as_object().unwrap() {
        routes.extend(item.as_object().unwrap().keys().map(|method| format!("{} {path}", method.to_uppercase())));
    }
    routes.extend(course_gc::http::trpc::procedures().map(str::to_owned));
    let told =
        API.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |")).map(|(route, _)| route.to_owned());
    assert_eq!(told.collect::<BTreeSet<_>>(), routes);
}

#[test]
fn the_metrics_and_targets_of_the_readme_exist() {
    let declared: BTreeSet<&str> =
        Metrics::declared().iter().flat_map(|(_, declared)| *declared).map(|metric| metric.name).collect();
    for name in README.split('`').filter(|text| text.starts_with("course_gc_")) {
        assert!(declared.contains(name), "README.md names the metric `{name}`, which is none");
    }
    for words in README.split("`make ").skip(1) {
        let target = words.split([' ', '`']).next().unwrap();
        assert!(MAKEFILE.contains(&format!("\n{target}:")), "README.md names `make {target}`, which is none");
    }
}

#[test]
fn the_page_of_the_metrics_is_what_they_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    let cure = "docs/metrics.md is out of date: `UPDATE_DOCS=1 cargo test --test docs` writes it";
    assert!(std::fs::read_to_string(&path).unwrap_or_default() == page(), "{cure}");
}

#[test]
fn the_schema_in_the_documents_is_the_program_s() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/config.schema.json");
    let schema = format!("{:#}\n", course_gc::config::schema());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &schema).unwrap();
    }
    let cure = "docs/config.schema.json is out of date: `UPDATE_DOCS=1 cargo test --test docs` writes it, and `scripts/chart` the chart's";
    assert!(std::fs::read_to_string(&path).unwrap_or_default() == schema, "{cure}");
}

#[tokio::test]
async fn the_configuration_of_the_readme_is_one() {
    let text = README.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("course-gc.yaml");
    std::fs::write(&path, text).unwrap();
    let urls = README.split('`').filter(|text| text.starts_with("COURSE_GC_"));
    let values = |name: &str| match name {
        "COURSE_GC_LIVENESS_CAMPUS_URL" => "postgres://db/campus",
        "COURSE_GC_STORES_VECTORS_URL" => "http://vectors:6334",
        "COURSE_GC_STORES_CACHE_URL" => "redis://cache:6379/0",
        "COURSE_GC_STORES_ROWS_URL" => "postgres://db/campus",
        other => panic!("README.md names {other}, which this test does not know"),
    };
    let environment: Vec<(String, String)> = urls.map(|name| (name.to_owned(), values(name).to_owned())).collect();
    let config = Config::load(&path, environment).unwrap();
    course_gc::app::collector(&config).unwrap();
}

/// The rows of the first table below this heading of docs/safety.md, by cells and without the table's head.
fn safety_table<const CELLS: usize>(heading: &str) -> Vec<[&'static str; CELLS]> {
    let section = SAFETY.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no heading {heading:?}")).1;
    let table = section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = |row: &'static str| -> Vec<&str> { row.trim_matches('|').split('|').map(str::trim).collect() };
    table.skip(2).map(|row| cells(row).try_into().unwrap_or_else(|_| panic!("not {CELLS} cells: {row}"))).collect()
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Every source of the product and its tests, by its path from the root.
fn sources() -> BTreeMap<String, String> {
    fn read(root: &Path, folder: &Path, sources: &mut BTreeMap<String, String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                read(root, &path, sources);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                sources.insert(name, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = BTreeMap::new();
    ["src", "tests"].iter().for_each(|folder| read(root, &root.join(folder), &mut sources));
    sources
}

/// True if the path names a file, or a folder with files, from the root or from `src`.
fn is_source(sources: &BTreeMap<String, String>, path: &str) -> bool {
    let is_there =
        |path: &str| sources.keys().any(|name| name == path || (path.ends_with('/') && name.starts_with(path)));
    is_there(path) || is_there(&format!("src/{path}"))
}

#[test]
fn every_line_of_the_contract_names_mechanisms_and_tests_that_exist() {
    let sources = sources();
    let rows = safety_table::<4>("Line, mechanism, tests");
    let contract = SAFETY.split("\n## ").next().unwrap();
    let lines: Vec<&str> = contract.split("\n- **S").skip(1).map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(rows.iter().map(|row| &row[0][1..]).collect::<Vec<_>>(), lines, "a row for each line of the contract");
    for [line, mechanisms, tests, checks] in rows {
        for name in quoted(mechanisms) {
            let item = name.rsplit("::").next().unwrap();
            let is_item = || {
                ["fn", "struct"].iter().any(|kind| sources.values().any(|it| it.contains(&format!("{kind} {item}"))))
            };
            assert!(is_source(&sources, name) || is_item(), "{line}: there is no {name}");
        }
        let (mut file, mut numbered) = ("", 0);
        for name in quoted(tests) {
            if name.ends_with(".rs") {
                assert!(is_source(&sources, name), "{line}: there is no {name}");
                file = name;
                continue;
            }
            let text = sources.get(file).or_else(|| sources.get(&format!("src/{file}")));
            let is_there = text.is_some_and(|text| text.contains(&format!("fn {name}(")));
            assert!(is_there, "{line}: there is no test {name} in {file:?}");
            numbered += usize::from(name.split('_').any(|word| word == line.to_lowercase()));
        }
        let is_missing = mechanisms == "not there yet";
        assert_eq!(numbered == 0, is_missing, "{line}: each line has tests that carry its number, or is not there yet");
        let number = format!("fn {}_", line.to_lowercase());
        assert!(
            !is_missing || !sources.values().any(|text| text.contains(&number)),
            "{line} has tests: is it there now?"
        );
        for claim in CLAIMS.split(&format!("\"{line} ")).skip(1).map(|rest| rest.split('"').next().unwrap()) {
            assert!(checks.contains(claim), "{line}: the model claims that {claim:?}");
        }
        assert_eq!(
            checks.contains("simulation"),
            OBSERVER.iter().any(|source| source.contains(&format!("\"{line}\""))),
            "{line}: does the simulation judge it?"
        );
    }
}

/// The variants of the first enum in a source.
fn variants(source: &str) -> impl Iterator<Item = &str> {
    let body = source.split_once("pub enum Safeguard {").unwrap().1.split_once("\n}").unwrap().0;
    body.lines().filter_map(|line| line.trim().strip_suffix(',')).filter(|line| !line.starts_with("//"))
}

/// What leaving a safeguard out breaks in the model.
fn broken_claim(safeguard: &str) -> &'static str {
    let need = MODEL_SAFEGUARDS.split_once(&format!("need(Safeguard::{safeguard},")).unwrap().1;
    let claim = need.split_once("Claim::").unwrap().1.split([')', ',']).next().unwrap();
    CLAIMS.split_once(&format!("{claim} = \"")).unwrap().1.split('"').next().unwrap()
}

/// The line of the contract that some story breaks without a safeguard.
fn broken_line(safeguard: &str) -> &'static str {
    let need = SIMULATION_SAFEGUARDS.split_once(&format!("(Self::{safeguard}, \"")).unwrap().1;
    need.split(':').next().unwrap()
}

#[test]
fn every_safeguard_has_a_row_with_what_breaks_without_it() {
    let rows = safety_table::<4>("Each safeguard is needed");
    let modelled: Vec<String> = variants(MODEL_SAFEGUARDS).map(|it| format!("`{it}`: {}", broken_claim(it))).collect();
    let simulated: Vec<String> =
        variants(SIMULATION_SAFEGUARDS).map(|it| format!("`{it}`: {}", broken_line(it))).collect();
    assert!(modelled.len() > 30 && simulated.len() > 15, "{modelled:?} {simulated:?}");
    for (column, expected) in [(1, &modelled), (2, &simulated)] {
        for cell in expected {
            assert!(
                rows.iter().any(|row| row[column] == cell),
                "docs/safety.md has no row of a safeguard with {cell:?}"
            );
        }
        let foreign = rows
            .iter()
            .map(|row| row[column])
            .find(|cell| !expected.iter().any(|it| it == cell) && !cell.starts_with("— "));
        assert_eq!(foreign, None, "docs/safety.md names a safeguard that is none, or gives no reason");
    }
    let sources = sources();
    for [safeguard, .., tests] in rows {
        assert!(quoted(tests).count() > 0 || tests.starts_with("— "), "{safeguard}: neither a test nor a reason");
        for name in quoted(tests).filter(|_| !tests.starts_with("— ")) {
            let is_there = sources.values().any(|text| text.contains(&format!("fn {name}(")));
            assert!(is_there, "{safeguard}: there is no test {name}");
        }
    }
}
