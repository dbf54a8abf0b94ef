//! What watches over course-gc: the shipped alerts and dashboards, by themselves and in a real Prometheus.

mod alerts;
mod dashboards;
mod fires;
mod pages;
mod traces;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use course_gc::telemetry::metrics::Metrics;
use promql_parser::label::Matchers;
use promql_parser::parser::{Expr, VectorSelector};

/// A sweep takes no longer than it has to.
const QUICK: (&str, &str) = ("COURSE_GC_STORES_CACHE_BATCH", "1000");

/// A file of this repository.
fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The rules, which wait no longer than a moment.
fn impatient_rules() -> Result<String> {
    let rules = std::fs::read_to_string(shipped("alerts/course-gc.yaml"))?;
    let at_once = |line: &str| match line.split_once("for: ") {
        Some((before, _)) if before.trim().is_empty() => format!("{before}for: 1s"),
        _ => line.to_owned(),
    };
    Ok(rules.lines().map(|line| at_once(line) + "\n").collect())
}

/// Every selector of a query.
fn selectors(query: &str) -> Result<Vec<VectorSelector>> {
    let parsed = promql_parser::parser::parse(query).map_err(|error| anyhow::anyhow!("{query}: {error}"))?;
    let mut found = Vec::new();
    walk(&parsed, &mut found);
    Ok(found)
}

fn walk(expression: &Expr, found: &mut Vec<VectorSelector>) {
    match expression {
        Expr::Aggregate(it) => {
            walk(&it.expr, found);
            it.param.iter().for_each(|param| walk(param, found));
        }
        Expr::Unary(it) => walk(&it.expr, found),
        Expr::Binary(it) => [&it.lhs, &it.rhs].into_iter().for_each(|side| walk(side, found)),
        Expr::Paren(it) => walk(&it.expr, found),
        Expr::Subquery(it) => walk(&it.expr, found),
        Expr::Call(it) => it.args.args.iter().for_each(|argument| walk(argument, found)),
        Expr::VectorSelector(it) => found.push(it.clone()),
        Expr::MatrixSelector(it) => found.push(it.vs.clone()),
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => {}
    }
}

/// The labels of each metric that course-gc has, and of Prometheus's own for alerts.
fn labels() -> BTreeMap<String, BTreeSet<&'static str>> {
    let mut all = BTreeMap::from([("ALERTS".to_owned(), BTreeSet::from(["alertname", "alertstate"]))]);
    for metric in Metrics::declared().into_iter().flat_map(|(_, declared)| declared) {
        let labels: BTreeSet<&str> = metric.labels.iter().copied().collect();
        if metric.kind == "histogram" {
            let with_le = labels.iter().copied().chain(["le"]).collect();
            all.insert(format!("{}_bucket", metric.name), with_le);
            for end in ["sum", "count"] {
                all.insert(format!("{}_{end}", metric.name), labels.clone());
            }
        } else {
            all.insert(metric.name.to_owned(), labels);
        }
    }
    all
}

/// Makes sure that a query asks for what there is.
fn asks_for_what_there_is(query: &str) -> Result<()> {
    let known = labels();
    let selectors = selectors(query)?;
    anyhow::ensure!(!selectors.is_empty(), "{query} asks for nothing");
    for VectorSelector { name, matchers, .. } in selectors {
        let name = name.context("a selector without a name")?;
        let labels = known.get(&name).with_context(|| format!("{name} in {query} is no metric"))?;
        let Matchers { matchers, .. } = matchers;
        for label in matchers.iter().map(|matcher| matcher.name.as_str()) {
            let scraped = ["job", "instance", "namespace"].contains(&label);
            anyhow::ensure!(scraped || labels.contains(label), "{name} has no label {label}: {query}");
        }
    }
    Ok(())
}
