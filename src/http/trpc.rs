//! The delete path as tRPC 11 speaks it over HTTP, for callers that know nothing else: a translation of the API, which is asked with
//! the caller's own token. So who may, how often, and what is written down is decided there.
//!
//! | procedure | kind | input |
//! | --- | --- | --- |
//! | `generation.cleanupCourse` | mutation | `courseId`; `intent` and `idempotencyKey` if wanted |
//! | `generation.cleanupStatus` | query | `requestId` |
//! | `generation.runs` | query | `limit` if wanted |
//!
//! Batches are answered; a stream (`httpBatchStreamLink`) is answered as a plain batch.

use std::borrow::Cow;
use std::collections::BTreeSet;

use axum::body::{Body, to_bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, Router};
use futures::future::join_all;
use serde::Deserialize;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::domain::cleanup::{Cleanup, StoreCleanup};

/// The most bytes that a request may have.
const LARGEST: usize = 64 * 1024;
/// The most bytes that an answer of the API may have.
const LARGEST_ANSWER: usize = 16 * 1024 * 1024;
/// The most procedures in one batch.
const MOST: usize = 20;

/// `/trpc/…`, for an API that has these routes.
pub fn router(api: Router) -> Router {
    Router::new().route("/trpc/{procedures}", any(answer)).with_state(api)
}

/// What a procedure does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Procedure {
    CleanupCourse,
    CleanupStatus,
    Runs,
}

/// The names of the procedures, as callers write them.
pub fn procedures() -> impl Iterator<Item = &'static str> {
    Procedure::ALL.into_iter().map(Procedure::name)
}

impl Procedure {
    const ALL: [Self; 3] = [Self::CleanupCourse, Self::CleanupStatus, Self::Runs];

    fn name(self) -> &'static str {
        match self {
            Self::CleanupCourse => "generation.cleanupCourse",
            Self::CleanupStatus => "generation.cleanupStatus",
            Self::Runs => "generation.runs",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|procedure| procedure.name() == name)
    }

    /// Mutations are posted, queries are got.
    fn method(self) -> Method {
        match self {
            Self::CleanupCourse => Method::POST,
            Self::CleanupStatus | Self::Runs => Method::GET,
        }
    }

    /// The question to the API.
    fn ask(self, input: &Value) -> Result<Request, Fault> {
        let text = |name: &str| input.get(name).and_then(Value::as_str);
        let needed = |name: &str| text(name).ok_or_else(|| Fault::bad(format!("the input has no text `{name}`")));
        let built = match self {
            Self::CleanupCourse => {
                let uri = format!("/v1/courses/{}/cleanup", segment(needed("courseId")?));
                let mut request = Request::post(uri).header(header::CONTENT_TYPE, "application/json");
                if let Some(key) = text("idempotencyKey") {
                    request = request.header("idempotency-key", key);
                }
                let intent = input.get("intent").map(|intent| json!({ "intent": intent }));
                request.body(Body::from(intent.unwrap_or_else(|| json!({})).to_string()))
            }
            Self::CleanupStatus => {
                Request::get(format!("/v1/requests/{}", segment(needed("requestId")?))).body(Body::empty())
            }
            Self::Runs => {
                let limit = input.get("limit").and_then(Value::as_u64).map(|limit| format!("?limit={limit}"));
                Request::get(format!("/v1/runs{}", limit.unwrap_or_default())).body(Body::empty())
            }
        };
        built.map_err(|_| Fault::bad("the input holds what cannot be asked for"))
    }

    /// The API's answer, as callers read it.
    fn tell(self, answer: Value) -> Value {
        match self {
            Self::CleanupCourse | Self::CleanupStatus => cleaned(answer),
            Self::Runs => answer,
        }
    }
}

/// A text as one segment of a path, whatever is in it.
fn segment(text: &str) -> Cow<'_, str> {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).into()
}

/// What the API says of a request, as far as it is read here.
#[derive(Deserialize)]
struct Told {
    answer: Option<Cleanup>,
}

/// A request as today's callers read it, with all that the API says beside.
fn cleaned(answer: Value) -> Value {
    let Ok(told) = serde_json::from_value::<Told>(answer.clone()) else { return answer };
    let nothing = Cleanup::waiting("under_way", "the answer is not there yet; what was asked for is promised", vec![]);
    let cleanup = told.answer.unwrap_or(nothing);
    let sum = |kind: &str, of: fn(&StoreCleanup) -> u64| -> u64 {
        cleanup.stores.iter().filter(|store| store.kind == kind).map(of).sum()
    };
    let deleted = |kind| sum(kind, |store| store.deleted);
    let bytes = |kind| sum(kind, |store| store.bytes);
    let errors: Vec<String> =
        cleanup.stores.iter().filter_map(|store| Some(format!("{}: {}", store.store, store.error.as_ref()?))).collect();
    let mut result = json!({
        "success": cleanup.success,
        "verified": cleanup.verified,
        "pending": cleanup.pending,
        "qdrant": { "vectorsDeleted": deleted("qdrant") },
        "redis": { "keysDeleted": deleted("redis") },
        "bullmq": { "jobsRemoved": deleted("bullmq") },
        "ragContext": { "entriesDeleted": deleted("table") },
        "files": { "filesDeleted": deleted("files"), "bytesFreed": bytes("files") },
        "objects": { "objectsDeleted": deleted("objects"), "bytesFreed": bytes("objects") },
        "errors": errors,
        "durationMs": (cleanup.seconds * 1000.0).round(),
    });
    result["request"] = answer;
    result
}

/// Why a procedure gave no result.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault {
    status: StatusCode,
    message: String,
}

impl Fault {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// The name and the number of the error, as JSON-RPC has them.
    fn code(&self) -> (&'static str, i32) {
        match self.status {
            StatusCode::BAD_REQUEST => ("BAD_REQUEST", -32600),
            StatusCode::UNAUTHORIZED => ("UNAUTHORIZED", -32001),
            StatusCode::FORBIDDEN => ("FORBIDDEN", -32003),
            StatusCode::NOT_FOUND => ("NOT_FOUND", -32004),
            StatusCode::METHOD_NOT_ALLOWED => ("METHOD_NOT_SUPPORTED", -32005),
            StatusCode::CONFLICT => ("CONFLICT", -32009),
            StatusCode::PAYLOAD_TOO_LARGE => ("PAYLOAD_TOO_LARGE", -32013),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => ("UNSUPPORTED_MEDIA_TYPE", -32015),
            StatusCode::TOO_MANY_REQUESTS => ("TOO_MANY_REQUESTS", -32029),
            StatusCode::SERVICE_UNAVAILABLE => ("SERVICE_UNAVAILABLE", -32603),
            _ => ("INTERNAL_SERVER_ERROR", -32603),
        }
    }

    fn envelope(&self, path: Option<&str>) -> Value {
        let (name, code) = self.code();
        let mut data = json!({ "code": name, "httpStatus": self.status.as_u16() });
        if let Some(path) = path {
            data["path"] = path.into();
        }
        json!({ "error": { "message": self.message, "code": code, "data": data } })
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        (self.status, Json(self.envelope(None))).into_response()
    }
}

/// The part of the address behind the question mark.
#[derive(Debug, Deserialize)]
struct Parameters {
    batch: Option<String>,
    input: Option<String>,
}

async fn answer(
    State(api): State<Router>,
    Path(names): Path<String>,
    parameters: Result<Query<Parameters>, QueryRejection>,
    request: Request,
) -> Response {
    let parameters = match parameters {
        Ok(Query(parameters)) => parameters,
        Err(rejection) => return Fault::bad(rejection.body_text()).into_response(),
    };
    let is_batch = parameters.batch.is_some_and(|batch| batch == "1");
    let names: Vec<&str> = if is_batch { names.split(',').collect() } else { vec![&names] };
    if names.len() > MOST {
        return Fault::bad(format!("there are more than {MOST} procedures in one batch")).into_response();
    }
    let (Parts { method, headers, .. }, body) = request.into_parts();
    let input = match read(&method, &headers, parameters.input.as_deref(), body).await {
        Ok(input) => input,
        Err(fault) => return fault.into_response(),
    };
    let each = names.iter().enumerate().map(|(index, name)| {
        let of = if is_batch { input.get(index.to_string()) } else { Some(&input) };
        call(api.clone(), (&method, &headers), name, of.unwrap_or(&Value::Null))
    });
    let answers = join_all(each).await;
    let statuses: BTreeSet<StatusCode> =
        answers.iter().map(|answer| answer.as_ref().err().map_or(StatusCode::OK, |fault| fault.status)).collect();
    let status = match statuses.first() {
        Some(only) if statuses.len() == 1 => *only,
        _ => StatusCode::MULTI_STATUS,
    };
    let mut envelopes: Vec<Value> = names.iter().zip(answers).map(|(name, answer)| envelope(name, answer)).collect();
    let told = if is_batch { envelopes.into() } else { envelopes.swap_remove(0) };
    (status, Json(told)).into_response()
}

/// The input of all procedures: none is null.
async fn read(method: &Method, headers: &HeaderMap, input: Option<&str>, body: Body) -> Result<Value, Fault> {
    let text = match *method {
        Method::GET | Method::HEAD => input.unwrap_or_default().as_bytes().to_vec(),
        Method::POST => {
            let media = headers.get(header::CONTENT_TYPE).and_then(|media| media.to_str().ok()).unwrap_or_default();
            if !media.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json")) {
                let why = "the body is no JSON; send it with the content type application/json";
                return Err(Fault::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
            }
            let large = || format!("the body has more than {LARGEST} bytes");
            let bytes = to_bytes(body, LARGEST).await;
            bytes.map_err(|_| Fault::new(StatusCode::PAYLOAD_TOO_LARGE, large()))?.to_vec()
        }
        _ => return Err(Fault::new(StatusCode::METHOD_NOT_ALLOWED, "queries are got, and mutations are posted")),
    };
    if text.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&text).map_err(|error| Fault::bad(format!("the input is no JSON: {error}")))
}

/// Asks the API with the caller's token.
async fn call(
    api: Router,
    (method, headers): (&Method, &HeaderMap),
    name: &str,
    input: &Value,
) -> Result<Value, Fault> {
    let none = || Fault::new(StatusCode::NOT_FOUND, format!("there is no procedure `{name}`"));
    let procedure = Procedure::named(name).ok_or_else(none)?;
    if (procedure.method() == Method::POST) != (*method == Method::POST) {
        let why = format!("`{name}` is asked by {}", procedure.method());
        return Err(Fault::new(StatusCode::METHOD_NOT_ALLOWED, why));
    }
    let mut request = procedure.ask(input)?;
    if let Some(token) = headers.get(header::AUTHORIZATION) {
        request.headers_mut().insert(header::AUTHORIZATION, token.clone());
    }
    let Ok(response) = api.oneshot(request).await;
    let status = response.status();
    let answer = to_bytes(response.into_body(), LARGEST_ANSWER).await.ok();
    let answer: Value = answer.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    if status.is_success() {
        return Ok(procedure.tell(answer));
    }
    let told = ["detail", "title"].iter().find_map(|name| answer.get(name)?.as_str());
    Err(Fault::new(status, told.unwrap_or("the API did not say why")))
}

fn envelope(name: &str, answer: Result<Value, Fault>) -> Value {
    match answer {
        Ok(data) => json!({ "result": { "data": data } }),
        Err(fault) => fault.envelope(Some(name)),
    }
}
