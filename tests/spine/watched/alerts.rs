//! The alerts as they are shipped.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::{asks_for_what_there_is, shipped};

#[derive(Deserialize)]
struct RuleFile {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    alert: String,
    expr: String,
    labels: Labels,
    annotations: Annotations,
}

#[derive(Deserialize)]
struct Labels {
    severity: String,
}

#[derive(Deserialize)]
struct Annotations {
    summary: String,
    description: String,
    runbook_url: String,
}

#[derive(Deserialize)]
struct Tests {
    tests: Vec<Test>,
}

#[derive(Deserialize)]
struct Test {
    alert_rule_test: Vec<Check>,
}

#[derive(Deserialize)]
struct Check {
    alertname: String,
    exp_alerts: Vec<serde_json::Value>,
}

fn rules() -> Result<Vec<Rule>> {
    let text = std::fs::read_to_string(shipped("alerts/course-gc.yaml"))?;
    let file: RuleFile = serde_saphyr::from_str(&text)?;
    Ok(file.groups.into_iter().flat_map(|group| group.rules).collect())
}

/// The names of all alerts.
pub(super) fn names() -> Result<BTreeSet<String>> {
    Ok(rules()?.into_iter().map(|rule| rule.alert).collect())
}

#[test]
fn the_shipped_alerts_fire_when_they_should_and_not_else_says_promtool() -> Result<()> {
    let tested = Command::new("promtool")
        .args(["test", "rules", "alerts/tests/course-gc.yaml"])
        .current_dir(shipped(""))
        .output()?;
    let said = [tested.stdout, tested.stderr].concat();
    ensure!(tested.status.success(), "{}", String::from_utf8_lossy(&said));
    Ok(())
}

#[test]
fn every_alert_is_tested_firing_and_not_firing() -> Result<()> {
    let text = std::fs::read_to_string(shipped("alerts/tests/course-gc.yaml"))?;
    let Tests { tests } = serde_saphyr::from_str(&text)?;
    let with = |fires: bool| -> BTreeSet<String> {
        let is_so = |test: &&Test| test.alert_rule_test.iter().any(|check| !check.exp_alerts.is_empty()) == fires;
        tests.iter().filter(is_so).flat_map(|test| &test.alert_rule_test).map(|it| it.alertname.clone()).collect()
    };
    ensure!(with(true) == names()?, "each fires in a test: {:?}", with(true));
    ensure!(with(false) == names()?, "each keeps silent in a test: {:?}", with(false));
    Ok(())
}

#[test]
fn every_alert_says_how_bad_it_is_and_has_a_page_that_says_what_to_do() -> Result<()> {
    let (mut pages, labels_of_all) = (BTreeSet::new(), super::labels());
    for Rule { alert, labels, annotations, .. } in rules()? {
        ensure!(["critical", "warning"].contains(&labels.severity.as_str()), "{alert}: {}", labels.severity);
        ensure!(!annotations.summary.is_empty() && !annotations.description.is_empty(), "{alert}");
        let url = annotations.runbook_url;
        ensure!(url == format!("docs/runbooks/{alert}.md"), "{alert}: {url}");
        let page = std::fs::read_to_string(shipped(&url)).with_context(|| url.clone())?;
        for heading in [
            format!("# {alert}"),
            "## What it means".into(),
            "## Look at".into(),
            "## Do".into(),
            "## What is safe".into(),
        ] {
            ensure!(page.lines().any(|line| line == heading), "{url} has no {heading:?}");
        }
        ensure!(page.contains(&annotations.summary), "{url} begins with another summary");
        let metrics = page.split('`').filter(|text| text.starts_with("course_gc_"));
        for metric in metrics {
            let is_one =
                [metric.to_owned(), format!("{metric}_count")].iter().any(|name| labels_of_all.contains_key(name));
            ensure!(is_one, "{url} names {metric}, which is none");
        }
        pages.insert(format!("{alert}.md"));
    }
    let there =
        std::fs::read_dir(shipped("docs/runbooks"))?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let there: BTreeSet<String> = there.collect::<Result<_>>()?;
    ensure!(there == pages, "a page without an alert: {there:?}");
    Ok(())
}

#[test]
fn every_alert_asks_for_metrics_and_labels_that_there_are() -> Result<()> {
    rules()?.iter().try_for_each(|rule| asks_for_what_there_is(&rule.expr).with_context(|| rule.alert.clone()))
}
