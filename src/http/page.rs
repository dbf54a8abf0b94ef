//! The first pages for people: plain HTML, made here, readable without JavaScript.
//!
//! `/` says what `/metrics` says, in words, and so needs no token: numbers by store, reason and kind of evidence, and times; no
//! course, no digest, no sample, nobody's reason. What more there is to see is at `/runs`, for whoever has the scope `read`.

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::Request;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CONTENT_SECURITY_POLICY, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat, Utc};
use maud::{DOCTYPE, Markup, html};

use super::Site;
use super::api::{Api, Problem};
use super::health::Unwell;
use crate::domain::holds::HoldReport;
use crate::domain::plan::Hold;
use crate::domain::standing::{Seen, Standing};
use crate::ledger::RunSummary;

/// How many runs are listed.
const RUNS: u32 = 20;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c1c1e;background:#fff}\
    table{border-collapse:collapse;margin:.5rem 0 1.5rem;width:100%}th,td{text-align:left;padding:.3rem .8rem .3rem 0;border-bottom:1px solid #ddd;vertical-align:top}\
    td.n,th.n{text-align:right}code{overflow-wrap:anywhere}.bad{color:#a40000;font-weight:600}\
    @media(prefers-color-scheme:dark){body{color:#eee;background:#1c1c1e}th,td{border-color:#444}a{color:#8ab4f8}.bad{color:#ff8a80}}";

/// How things stand, for whoever looks: the loop puts it here.
#[derive(Default)]
pub struct Board(Mutex<Standing>);

impl Board {
    /// Puts up what the ledger tells. What was seen earlier stays where it tells nothing new.
    pub fn put(&self, mut standing: Standing) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        standing.seen = standing.seen.or_else(|| held.seen.take());
        *held = standing;
    }

    /// What is there.
    fn look(&self) -> Standing {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// `/`
pub(super) async fn first(State(site): State<Site>) -> Response {
    let standing = site.board.look();
    let state = state(&standing, site.health.ready());
    let seen = standing.seen.clone().unwrap_or_default();
    page(
        "course-gc",
        &html! {
            p { (state) }
            (times(&standing))
            h2 { "What is held, and why" }
            (held(&standing))
            h2 { "Stores" }
            (stores(&standing, &seen))
            h2 { "More" }
            ul {
                li { a href="/metrics" { "Metrics" } ", for Prometheus" }
                @if site.api.is_some() {
                    li { a href="/runs" { "The latest runs, and what waits for a person" } ": needs a token with the scope read, as the password" }
                    li { a href=(super::api::DOCUMENT) { "The API's description" } ": needs a token" }
                }
                li { a href="/healthz" { "/healthz" } ", " a href="/readyz" { "/readyz" } }
            }
        },
    )
}

fn state(standing: &Standing, ready: Result<(), Unwell>) -> Markup {
    let seen = standing.seen.as_ref();
    let is = |of: fn(&Seen) -> bool| seen.is_some_and(of);
    html! {
        @match ready {
            // Why not is at /readyz, too.
            Err(unwell) => span.bad { "Not ready: " (unwell) },
            Ok(()) if is(|seen| seen.misplaced) => span.bad { "Halted: a database or a store is not the one that was adopted." },
            Ok(()) if is(|seen| seen.halted) => span.bad { "Halted: what is live is not believed." },
            Ok(()) if standing.paused => span.bad { "Paused: a person stopped all deleting." },
            Ok(()) => "It works.",
        }
    }
}

fn times(standing: &Standing) -> Markup {
    let rows = [
        ("The last run started", standing.last_start),
        ("A run last ended clean or done", standing.last_success),
        ("A run last found nothing to sweep", standing.last_clean),
    ];
    html! {
        table {
            @for (what, when) in rows { tr { th { (what) } td { (when.map_or("never".to_owned(), time)) } } }
            tr { th { "Promised cleanups that are not done yet" } td { (standing.open_requests) } }
        }
    }
}

fn held(standing: &Standing) -> Markup {
    let count = |reason: &str| {
        let held = standing.orphans.iter().filter(|group| group.decision.as_deref() == Some(reason));
        held.map(|group| group.orphans).sum::<u64>()
    };
    let reasons: Vec<(&str, u64)> =
        Hold::NAMES.into_iter().map(|reason| (reason, count(reason))).filter(|(_, count)| *count > 0).collect();
    html! {
        @if reasons.is_empty() { p { "Nothing." } } @else {
            table {
                tr { th { "reason" } th { "meaning" } th.n { "orphans" } }
                @for (reason, count) in reasons {
                    tr { td { code { (reason) } } td { (Hold::named_in_words(reason)) } td.n { (count) } }
                }
            }
        }
    }
}

fn stores(standing: &Standing, seen: &Seen) -> Markup {
    let yes = |is: bool| html! { @if is { "yes" } @else { span.bad { "no" } } };
    html! {
        @if seen.stores.is_empty() { p { "No run has looked at them yet." } } @else {
            table {
                tr { th { "store" } th { "listed to its end" } th { "adopted" } th.n { "orphans" } th.n { "overdue" } th.n { "unrecognised" } }
                @for store in &seen.stores {
                    @let groups = standing.orphans.iter().filter(|group| group.store == store.name);
                    tr {
                        td { (store.name) } td { (yes(store.complete)) } td { (yes(store.adopted)) }
                        td.n { (groups.clone().map(|group| group.orphans).sum::<u64>()) }
                        td.n { (groups.map(|group| group.overdue()).sum::<u64>()) }
                        td.n { (store.sources.iter().map(|source| source.unrecognised).sum::<u64>()) }
                    }
                }
            }
        }
    }
}

/// `/runs`
pub(super) async fn runs(State(api): State<Arc<Api>>) -> Result<Response, Problem> {
    let (runs, holds, pause) = (api.office.runs(RUNS).await?, api.office.holds().await?, api.office.paused().await?);
    Ok(page(
        "course-gc: runs",
        &html! {
            @if let Some(pause) = pause { p.bad { "Paused by " (pause.paused_by) " since " (time(pause.paused_at)) ": " (pause.reason) } }
            h2 { "What waits for a person" }
            @if holds.holds.is_empty() { p { "Nothing." } }
            @for hold in &holds.holds { (waiting(hold)) }
            h2 { "The latest runs" }
            (listed(&runs))
            p { a href="/" { "Overview" } }
        },
    ))
}

fn waiting(hold: &HoldReport) -> Markup {
    html! {
        table {
            @for why in &hold.why { tr { th { "why" } td { (why) } } }
            tr { th { "how much" } td { (hold.orphans) " orphans of " (hold.courses) " courses, " (hold.resources) " resources" } }
            @if !hold.stores.is_empty() { tr { th { "in" } td { (hold.stores.join(", ")) } } }
            @if !hold.samples.is_empty() { tr { th { "for example" } td { @for sample in &hold.samples { code { (sample) } br; } } } }
            @if let Some(command) = &hold.command { tr { th { "if it is right" } td { code { (command) } } } }
        }
    }
}

fn listed(runs: &[RunSummary]) -> Markup {
    html! {
        table {
            tr { th { "started" } th { "ended" } th { "" } th { "verdict" } th { "report" } }
            @for run in runs {
                tr {
                    td { (time(run.started_at)) }
                    td { (run.finished_at.map_or("not".to_owned(), time)) }
                    td { (run.mode) }
                    td { (run.verdict.as_deref().unwrap_or("none yet")) }
                    td { code { "/v1/runs/" (run.run) } }
                }
            }
        }
    }
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn page(title: &str, content: &Markup) -> Response {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (maud::PreEscaped(STYLE)) }
            }
            body { h1 { (title) } (content) }
        }
    };
    // Nothing is fetched, run or framed.
    let policy = HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'");
    ([(CONTENT_SECURITY_POLICY, policy)], Html(page.into_string())).into_response()
}

/// A browser asks its user for a name and a password, and sends them as such; the password is the token. Only pages take it: no
/// browser is to be tricked into a write.
pub(super) async fn ask_the_browser(mut request: Request, next: Next) -> Response {
    let shown = request.headers().get(AUTHORIZATION).and_then(|value| token(value.to_str().ok()?));
    if let Some(bearer) = shown {
        request.headers_mut().insert(AUTHORIZATION, bearer);
    }
    let mut response = next.run(request).await;
    if response.status() == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static("Basic realm=\"course-gc: any name, and a token as the password\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

/// `Bearer …` of `Basic …`.
fn token(shown: &str) -> Option<HeaderValue> {
    let (scheme, encoded) = shown.split_once(' ')?;
    let decoded = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(encoded.trim()).ok())??;
    let (_, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    let mut value = HeaderValue::from_str(&format!("Bearer {password}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}
