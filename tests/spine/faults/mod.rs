//! Faults on the real parts: what fails, at which stage, and what came of it. `docs/faults.md` has the tables; the tests
//! here make them, and fail where they differ.

mod fault;
mod files;
mod matrix;
mod postgres;
mod qdrant;
mod redis;
mod scene;
mod truth;

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use course_gc::domain::report::{RunReport, Verdict};

use crate::outages::{Scene, all_but, entry, went};

/// The document that says what happened.
const DOCUMENT: &str = include_str!("../../../docs/faults.md");

/// The tests that the document names, where they are.
const SOURCES: [&str; 10] = [
    include_str!("files.rs"),
    include_str!("postgres.rs"),
    include_str!("qdrant.rs"),
    include_str!("redis.rs"),
    include_str!("truth.rs"),
    include_str!("../outages.rs"),
    include_str!("../places.rs"),
    include_str!("../../../src/stores/files/tests/escape.rs"),
    include_str!("../../../src/stores/redis/tests/cluster.rs"),
    include_str!("../../../src/stores/redis/tests/sentinel.rs"),
];

/// A scenario's row in the document.
fn documented(fault: &str, happened: &str, test: &str) -> Result<()> {
    let row = format!("| {fault} | {happened} | `{test}` |\n");
    ensure!(DOCUMENT.contains(&row), "docs/faults.md should say:\n\n{row}");
    Ok(())
}

/// What a run says of one store, whose fault holds it and nothing else: nothing of it went, and all of the others.
async fn holds_itself_only(scene: &Scene, store: &str, report: &RunReport, why: &str) -> Result<String> {
    let said = entry(report, store);
    let reasons: Vec<&String> = said.not_adopted.iter().chain(&said.error).chain(&said.failures).collect();
    ensure!(reasons.iter().any(|reason| reason.contains(why)), "{why:?} is not in {reasons:?}");
    let gone = went(&scene.difference().await?);
    ensure!(gone == all_but(scene, store), "{store} at fault: {gone:?}");
    Ok(format!("{}: {why}; nothing of it went, the others did", report.verdict.as_str()))
}

/// What a run says that did not go at all.
fn halts(report: &RunReport, why: &str) -> Result<String> {
    let halt = report.halt.as_deref().with_context(|| format!("it did not halt: {report:?}"))?;
    ensure!(report.verdict == Verdict::Held && halt.contains(why), "{why:?} is not in {halt:?}");
    Ok(format!("held: {why}; nothing went"))
}

#[test]
fn the_document_names_every_scenario_and_none_besides() -> Result<()> {
    let names = |source: &'static str| {
        let tests = source
            .split("test(flavor = \"multi_thread\", worker_threads = 2)]\n")
            .flat_map(|part| part.split("::test]\n"));
        tests.skip(1).filter_map(|part| part.strip_prefix("async fn ")?.split('(').next())
    };
    let here: BTreeSet<&str> = SOURCES[..5].iter().copied().flat_map(names).collect();
    let all: BTreeSet<&str> = SOURCES.into_iter().flat_map(names).collect();
    ensure!(here.len() > 15, "{here:?}");
    let is_name =
        |word: &&str| word.len() > 25 && word.chars().all(|c| c == '_' || c.is_ascii_lowercase() || c.is_ascii_digit());
    let named: BTreeSet<&str> = DOCUMENT.split('`').filter(is_name).collect();
    let unknown: Vec<_> = named.difference(&all).collect();
    ensure!(unknown.is_empty(), "docs/faults.md names tests that are none: {unknown:?}");
    let missing: Vec<_> = here.difference(&named).collect();
    ensure!(missing.is_empty(), "docs/faults.md does not name {missing:?}");
    Ok(())
}
