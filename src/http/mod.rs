//! What the program answers over HTTP.
//!
//! | path | answer |
//! | --- | --- |
//! | `/healthz` | 200 while the serve loop makes progress, 503 with the reason otherwise: restart it |
//! | `/readyz` | 200 once the ledger is there and its tables fit, 503 with the reason otherwise |
//! | `/metrics` | all series in Prometheus's text format |
//! | `/` | the same in words, for people: see [`page`] |
//! | `/v1/…`, `/openapi.json`, `/runs` | the API, if it is configured, for whoever has a good token: see [`api`] |
//!
//! Who asks for the first four sees metrics, a [`Board`] and a [`Health`], never a store or the ledger: a probe costs nothing, no body is
//! read, and the answer is due within [`ANSWER_WITHIN`]. The API's handlers see an [`Office`](crate::office::Office). A connection
//! on which nothing comes is closed after [`PATIENCE`], which is longer than any answer takes.

pub mod access;
pub mod api;
mod health;
mod page;
mod patience;
pub mod tls;
pub mod trpc;
mod watched;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::telemetry::metrics::{CONTENT_TYPE, Metrics};

use api::{Api, Problem};

use patience::Patient;
use tls::{Certificate, Secured};

pub use health::{Health, Unwell};
pub use page::Board;

/// The longest that an answer may take, but for the API's.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// The longest silence on a connection; longer than Prometheus usually waits between two scrapes.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// What there is to answer with.
#[derive(Clone)]
pub struct Site {
    /// What is measured.
    pub metrics: Arc<Metrics>,
    /// How the serve loop is.
    pub health: Arc<Health>,
    /// How things stand.
    pub board: Arc<Board>,
    /// The API, if there is one.
    pub api: Option<Arc<Api>>,
}

/// What is answered with, until it is turned to something else.
pub struct Switch(watch::Sender<Router>);

impl Switch {
    /// Answers with what this site has.
    pub fn new(site: Site) -> Self {
        Self(watch::Sender::new(router(site)))
    }

    /// From now on, what comes is answered with what this site has; what is under way is answered as it began.
    pub fn turn(&self, site: Site) {
        _ = self.0.send_replace(router(site));
    }

    /// All paths, as they are when somebody asks.
    fn router(&self) -> Router {
        let routers = self.0.subscribe();
        Router::new().fallback(move |request: Request| {
            let router = routers.borrow().clone();
            async move { router.oneshot(request).await }
        })
    }
}

/// Answers on `listener` until `close` is cancelled and what is under way is answered. With a certificate, callers are to speak TLS: all
/// of them, those who probe and scrape, too.
///
/// # Errors
/// If the server ends by itself.
pub async fn answer(
    listener: TcpListener,
    certificate: Option<Arc<Certificate>>,
    switch: &Switch,
    close: CancellationToken,
) -> std::io::Result<()> {
    let (listener, router) = (Patient::new(listener, PATIENCE), switch.router());
    match certificate {
        Some(certificate) => answer_on(Secured::new(listener, certificate), router, close).await,
        None => answer_on(listener, router, close).await,
    }
}

async fn answer_on<L>(listener: L, router: Router, close: CancellationToken) -> std::io::Result<()>
where
    L: Listener,
    L::Addr: Debug,
{
    axum::serve(listener, router).with_graceful_shutdown(close.cancelled_owned()).await
}

/// All paths.
fn router(site: Site) -> Router {
    let api: Router = site.api.as_ref().map(api::router).unwrap_or_default();
    let pages: Router = site.api.as_ref().map(api::pages).unwrap_or_default();
    let trpc = if site.api.is_some() { trpc::router(api.clone()) } else { Router::new() };
    Router::new()
        .route("/", get(page::first))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(exposition))
        .layer(from_fn(in_time))
        .merge(api.with_state(()))
        .merge(trpc.with_state(()))
        .merge(pages.with_state(()))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .with_state(site)
}

async fn healthz(State(site): State<Site>) -> Response {
    probe(site.health.alive())
}

async fn readyz(State(site): State<Site>) -> Response {
    probe(site.health.ready())
}

fn probe(state: Result<(), Unwell>) -> Response {
    match state {
        Ok(()) => (StatusCode::OK, "ok\n").into_response(),
        Err(unwell) => (StatusCode::SERVICE_UNAVAILABLE, format!("{unwell}\n")).into_response(),
    }
}

async fn exposition(State(site): State<Site>) -> Response {
    match site.metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "metrics cannot be written");
            (StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be written; the log says why\n").into_response()
        }
    }
}

async fn not_found(State(site): State<Site>, uri: Uri) -> Response {
    if site.api.is_some() && api::is_ours(uri.path()) {
        let detail = format!("nothing is at this path; {} describes what there is", api::DOCUMENT);
        return Problem::new(StatusCode::NOT_FOUND, detail).into_response();
    }
    let text = format!("nothing is at {}; there are /, /healthz, /readyz and /metrics\n", uri.path());
    (StatusCode::NOT_FOUND, text).into_response()
}

async fn not_allowed(method: Method, uri: Uri) -> Response {
    if api::is_ours(uri.path()) {
        return Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("this path does not take {method}"))
            .into_response();
    }
    let text = format!("{} does not take {method}; use GET\n", uri.path());
    (StatusCode::METHOD_NOT_ALLOWED, text).into_response()
}

async fn in_time(request: Request, next: Next) -> Response {
    match timeout(ANSWER_WITHIN, next.run(request)).await {
        Ok(response) => response,
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "no answer in time\n").into_response(),
    }
}

#[cfg(test)]
pub(crate) mod tests;
