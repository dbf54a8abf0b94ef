//! The dashboards, by themselves and on a Prometheus that has scraped a campus.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use sandbox::campus::{Campus, CampusSize};
use sandbox::config::Settings;
use sandbox::{Prometheus, Watching, World};
use serde_json::Value;

use super::{QUICK, asks_for_what_there_is, impatient_rules, shipped};
use crate::serve::Serving;
use crate::support::{Installation, eventually};

const DASHBOARDS: [&str; 2] = ["dashboards/course-gc-overview.json", "dashboards/course-gc-details.json"];

/// A panel's title, and its queries.
struct Panel {
    title: String,
    queries: Vec<String>,
}

fn read(path: &str) -> Result<Value> {
    Ok(serde_json::from_str(&std::fs::read_to_string(shipped(path))?)?)
}

fn list<'a>(of: &'a Value, field: &str) -> Result<&'a Vec<Value>> {
    of[field].as_array().with_context(|| format!("no {field} in {of}"))
}

fn text(of: &Value, field: &str) -> Result<String> {
    Ok(of[field].as_str().with_context(|| format!("no {field} in {of}"))?.to_owned())
}

/// The panels of a dashboard that show something.
fn panels(dashboard: &Value) -> Result<Vec<&Value>> {
    Ok(list(dashboard, "panels")?.iter().filter(|panel| panel["type"] != "row").collect())
}

/// All panels, with their queries as Grafana would send them.
fn queries() -> Result<Vec<Panel>> {
    let mut all = Vec::new();
    for path in DASHBOARDS {
        for panel in panels(&read(path)?)? {
            let query = |target: &Value| text(target, "expr").map(|expression| filled_in(&expression));
            let queries = list(panel, "targets")?.iter().map(query).collect::<Result<_>>()?;
            all.push(Panel { title: format!("{path}: {}", text(panel, "title")?), queries });
        }
    }
    Ok(all)
}

fn filled_in(expression: &str) -> String {
    let values = [("$job", ".*"), ("$instance", ".*"), ("$__rate_interval", "30s"), ("$__range", "1m")];
    values.into_iter().fold(expression.to_owned(), |text, (variable, value)| text.replace(variable, value))
}

#[test]
fn every_query_parses_and_asks_for_what_there_is() -> Result<()> {
    for Panel { title, queries } in queries()? {
        ensure!(!queries.is_empty(), "{title} asks for nothing");
        for query in queries {
            ensure!(!query.contains('$'), "{title}: a variable is left in {query}");
            asks_for_what_there_is(&query).with_context(|| title.clone())?;
        }
    }
    Ok(())
}

#[test]
fn every_panel_is_explained_has_a_unit_and_its_runbooks_exist() -> Result<()> {
    for path in DASHBOARDS {
        let dashboard = read(path)?;
        let mut ids = BTreeSet::new();
        for panel in panels(&dashboard)? {
            let title = text(panel, "title")?;
            ensure!(ids.insert(panel["id"].as_u64()), "{path}: {title} has the id of another");
            ensure!(text(panel, "description")?.ends_with('.'), "{path}: {title} is not explained");
            ensure!(
                panel["fieldConfig"]["defaults"]["unit"].is_string() || panel["type"] == "table",
                "{path}: {title}"
            );
            ensure!(panel["datasource"]["uid"] == "${datasource}", "{path}: {title} has a source of its own");
            for link in panel["links"].as_array().into_iter().flatten() {
                let url = text(link, "url")?;
                ensure!(shipped(&url).is_file(), "{path}: {title} leads to {url}, which is not there");
            }
        }
        let variables = list(&dashboard["templating"], "list")?.iter().map(|it| text(it, "name"));
        let variables: Vec<String> = variables.collect::<Result<_>>()?;
        ensure!(variables == ["datasource", "job", "instance"], "{path}: {variables:?}");
        ensure!(dashboard["id"].is_null() && dashboard["uid"].is_string() && dashboard.get("__inputs").is_none());
    }
    Ok(())
}

#[test]
fn the_overview_fits_one_screen() -> Result<()> {
    let dashboard = read(DASHBOARDS[0])?;
    for panel in list(&dashboard, "panels")? {
        let bottom = panel["gridPos"]["y"].as_u64().zip(panel["gridPos"]["h"].as_u64()).map(|(y, h)| y + h);
        // A unit is 38 pixels.
        ensure!(bottom.is_some_and(|bottom| bottom <= 20), "{panel}");
    }
    Ok(())
}

/// What a query answers with is something that can be drawn.
async fn shows(prometheus: &Prometheus, query: &str) -> Result<bool> {
    Ok(prometheus.query(query).await?.iter().any(|(_, value)| !value.is_nan()))
}

#[tokio::test]
async fn every_panel_shows_something_once_prometheus_has_scraped_a_campus() -> Result<()> {
    let world = World::create().await?;
    let tokens = tempfile::tempdir()?;
    let file = tokens.path().join("web");
    let token = "0123456789abcdef0123456789abcdef";
    std::fs::write(&file, token)?;
    let api = vec!["tokens:".to_owned(), format!("  web: {{file: {}, scopes: [read, cleanup]}}", file.display())];
    let quarantine = vec!["keep: 2s".to_owned()];
    let settings = Settings { cron: "* * * * * *".into(), api, quarantine, ..Settings::default() };
    let installation = Installation::new(world.addresses(), &settings).await?;
    let campus = Campus::plan(CampusSize { doomed: 8, ..CampusSize::default() });
    campus.seed(&installation.stores).await?;
    installation.adopt_once().await?;

    let watching = Watching { interval: "500ms", rules: impatient_rules()? };
    let prometheus = Prometheus::start(&watching).await?;
    let serving = Serving::start_with(&installation, &[QUICK])?;
    serving.ready().await?;
    prometheus.scrape(&[("course-gc", serving.address)])?;
    serving.beyond("course_gc_last_success_timestamp_seconds", 0.0).await?;
    eventually("it is scraped", async || {
        Ok(shows(&prometheus, "course_gc_last_success_timestamp_seconds > 0").await?.then_some(()))
    })
    .await?;
    campus.delete_doomed(&installation.stores).await?;
    serving.beyond("course_gc_quarantine_purged_total", 0.0).await?;
    // Somebody uses the API, so that there are latencies.
    let mut waiting = Vec::new();
    for Panel { title, queries } in queries()? {
        waiting.extend(queries.into_iter().map(|query| (title.clone(), query)));
    }
    let drawn = eventually("every panel shows something", async || {
        serving.get_as("/v1/runs", token).await?;
        let mut left = Vec::new();
        for (title, query) in waiting.drain(..) {
            if !shows(&prometheus, &query).await? {
                left.push((title, query));
            }
        }
        waiting = left;
        Ok(waiting.is_empty().then_some(()))
    });
    drawn.await.with_context(|| format!("nothing to draw: {waiting:#?}"))
}
