//! What the program answers over HTTP.
//!
//! | path | answer |
//! | --- | --- |
//! | `/healthz` | 200 while the serve loop makes progress, 503 with the reason otherwise: restart it |
//! | `/readyz` | 200 once the ledger is there and its tables fit, 503 with the reason otherwise |
//! | `/metrics` | all series in Prometheus's text format |
//!
//! Handlers see metrics and a [`Health`], never a store or the ledger: a probe costs nothing, and no request can reach
//! what it should not. No request's body is read, every answer is due within [`ANSWER_WITHIN`], and a connection on which
//! nothing comes is closed after [`PATIENCE`].

mod health;
mod patience;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::telemetry::metrics::{CONTENT_TYPE, Metrics};

use patience::Patient;

pub use health::{Health, Unwell};

/// The longest that an answer may take.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// The longest silence on a connection; longer than Prometheus usually waits between two scrapes.
pub const PATIENCE: Duration = Duration::from_secs(90);

#[derive(Clone)]
struct Shared {
    metrics: Arc<Metrics>,
    health: Arc<Health>,
}

/// Answers on `listener` until `close` is cancelled and what is under way is answered.
///
/// # Errors
/// If the server ends by itself.
pub async fn answer(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    close: CancellationToken,
) -> std::io::Result<()> {
    answer_patiently(Patient::new(listener, PATIENCE), router(metrics, health), close).await
}

async fn answer_patiently(listener: Patient, router: Router, close: CancellationToken) -> std::io::Result<()> {
    axum::serve(listener, router).with_graceful_shutdown(close.cancelled_owned()).await
}

/// All paths.
fn router(metrics: Arc<Metrics>, health: Arc<Health>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(exposition))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .layer(from_fn(in_time))
        .with_state(Shared { metrics, health })
}

async fn healthz(State(shared): State<Shared>) -> Response {
    probe(shared.health.alive())
}

async fn readyz(State(shared): State<Shared>) -> Response {
    probe(shared.health.ready())
}

fn probe(state: Result<(), Unwell>) -> Response {
    match state {
        Ok(()) => (StatusCode::OK, "ok\n").into_response(),
        Err(unwell) => (StatusCode::SERVICE_UNAVAILABLE, format!("{unwell}\n")).into_response(),
    }
}

async fn exposition(State(shared): State<Shared>) -> Response {
    match shared.metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "metrics cannot be written");
            (StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be written; the log says why\n").into_response()
        }
    }
}

async fn not_found(uri: Uri) -> Response {
    let text = format!("nothing is at {}; there are /healthz, /readyz and /metrics\n", uri.path());
    (StatusCode::NOT_FOUND, text).into_response()
}

async fn not_allowed(method: Method, uri: Uri) -> Response {
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
