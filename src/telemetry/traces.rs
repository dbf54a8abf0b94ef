//! Spans of runs, their stages and stores, as OpenTelemetry takes them: by OTLP over HTTP, with the client that the rest of the
//! program uses. Only this program's own spans go, and nothing of them names a course.

use std::time::Duration;

use async_trait::async_trait;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::runtime::Tokio;
use opentelemetry_sdk::trace::SdkTracerProvider;
use opentelemetry_sdk::trace::span_processor_with_async_runtime::BatchSpanProcessor;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::registry::LookupSpan;

use crate::config::SecretUrl;

/// The longest that sending takes; what is not taken by then is lost.
const SEND_WITHIN: Duration = Duration::from_secs(10);

/// Why there are no traces.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// There is no client.
    #[error("no client for traces can be made (`log.traces_url`)")]
    Client(#[source] reqwest::Error),
    /// There is no exporter.
    #[error("traces cannot be exported to this address (`log.traces_url`)")]
    Exporter(#[source] ExporterBuildError),
    /// What was left could not be sent.
    #[error("the last traces could not be sent")]
    Unsent(#[source] OTelSdkError),
}

/// Where spans go.
pub struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// Spans go to `url`, in the name of `installation`. To be made inside of the runtime; connects when the first go.
    ///
    /// # Errors
    /// If no client can be made.
    pub fn new(url: &SecretUrl, installation: &str) -> Result<Self, TracesError> {
        // Of rustls' several cryptographies one must be named once in a process; where that was done before, it stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().timeout(SEND_WITHIN).build().map_err(TracesError::Client)?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client(client))
            .with_endpoint(url.expose())
            .with_timeout(SEND_WITHIN)
            .build()
            .map_err(TracesError::Exporter)?;
        let resource = Resource::builder_empty()
            .with_service_name("course-gc")
            .with_attributes([
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.namespace", installation.to_owned()),
            ])
            .build();
        let processor = BatchSpanProcessor::builder(exporter, Tokio).build();
        let provider = SdkTracerProvider::builder().with_span_processor(processor).with_resource(resource).build();
        Ok(Self { provider })
    }

    /// What hands spans over, for a subscriber.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let tracer = self.provider.tracer(env!("CARGO_CRATE_NAME"));
        // A line of the log may name a course; a span never does.
        let ours = filter_fn(|it| it.is_span() && it.target().starts_with(env!("CARGO_CRATE_NAME")));
        let ours = ours.with_max_level_hint(LevelFilter::ERROR);
        tracing_opentelemetry::layer().with_tracer(tracer).with_location(false).with_threads(false).with_filter(ours)
    }

    /// Sends what is left.
    ///
    /// # Errors
    /// If nobody takes it.
    pub async fn end(self) -> Result<(), TracesError> {
        let ended = tokio::task::spawn_blocking(move || self.provider.shutdown()).await;
        ended.unwrap_or(Ok(())).map_err(TracesError::Unsent)
    }
}

/// The client that the exporter sends with.
#[derive(Debug)]
struct Client(reqwest::Client);

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (head, body) = request.into_parts();
        let request = self.0.request(head.method, head.uri.to_string()).headers(head.headers).body(body);
        let answer = request.send().await.map_err(reqwest::Error::without_url)?;
        let status = answer.status();
        Ok(Response::builder().status(status).body(answer.bytes().await.map_err(reqwest::Error::without_url)?)?)
    }
}
