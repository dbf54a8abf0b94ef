//! The delete path of one course, and what is left of it.

use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::Api;
use super::body::Body;
use super::problem::Problem;
use crate::cleanup::{Call, Haste};
use crate::domain::cleanup::{Request, Timing, Trace};
use crate::domain::ids::CourseId;
use crate::http::access::Caller;
use crate::office::Answering;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const PREFER: HeaderName = HeaderName::from_static("prefer");
/// A longer key is none.
const LONGEST_KEY: usize = 200;

/// What a caller asks for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CleanupBody {
    /// Whether the course's row is gone already (`after_delete`; a course that is live is refused), or is about to go
    /// (`before_delete`; what it left is only counted, and goes as soon as the row is gone).
    #[serde(default = "before_delete")]
    #[schema(inline)]
    intent: Timing,
    /// With `before_delete`: what the course has goes at once, though its row is still there. Refused unless it is switched on
    /// (`api.live_cleanups_per_hour`). A copy is kept, by which it can be restored.
    #[serde(default)]
    at_once: bool,
}

fn before_delete() -> Timing {
    Timing::BeforeDelete
}

/// How a caller takes its answer.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct CleanupQuery {
    /// Answer with the promise alone, as `Prefer: respond-async` does.
    #[serde(default, rename = "async")]
    asynchronous: bool,
}

/// Removes what a course left, in every store.
///
/// The answer says for each store what was found, deleted, held and left. `success` is true if nothing is left, or if the rest is
/// promised and `pending` says what it waits for.
#[utoipa::path(
    post,
    path = "/v1/courses/{course_id}/cleanup",
    tag = "courses",
    params(
        ("course_id" = String, Path, description = "The course, in the canonical form of its id.",
            example = "0198c3a7-2f5e-7c41-9d0a-5b8e6f1c2d34"),
        ("Idempotency-Key" = Option<String>, Header, description = "Asked again with the same key, the same request answers. At most 200 printable characters."),
        ("Prefer" = Option<String>, Header, description = "With `respond-async`, nothing is waited for."),
        CleanupQuery,
    ),
    request_body(content = inline(Option<CleanupBody>)),
    responses(
        (status = 200, description = "What became of the course.", body = Request),
        (status = 202, description = "It is promised; `Location` says where to look.", body = Request,
            headers(("Location" = String, description = "The request."))),
        (status = 409, description = "The course is live, or the key was used for something else.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn cleanup(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<CleanupQuery>, QueryRejection>,
    headers: HeaderMap,
    Body(body): Body<CleanupBody>,
) -> Result<Response, Problem> {
    let Query(query) = query.map_err(|rejection| Problem::bad(rejection.body_text()))?;
    let haste = match (body.at_once, body.intent) {
        (false, _) => Haste::WithTheRow,
        (true, Timing::BeforeDelete) => Haste::AtOnce,
        (true, Timing::AfterDelete) => {
            return Err(Problem::bad(
                "`at_once` goes with `before_delete`; after the row is gone, everything goes at once",
            ));
        }
    };
    let (course, key) = (course(&api, path)?, key(&headers)?);
    let call = Call { course, timing: body.intent, haste, by: caller.name, key };
    let answering = match query.asynchronous || prefers_async(&headers) {
        true => Answering::Promised,
        false => Answering::Waiting,
    };
    let request = api.office.cleanup(&call, answering).await?;
    if answering == Answering::Waiting && request.answer.is_some() {
        return Ok(Json(request).into_response());
    }
    let location = format!("/v1/requests/{}", request.id);
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(request)).into_response())
}

/// What became of a request.
#[utoipa::path(
    get,
    path = "/v1/requests/{id}",
    tag = "courses",
    params(("id" = Uuid, Path, description = "The request.")),
    responses(
        (status = 200, description = "The request, as it is now.", body = Request),
        (status = 404, description = "There is no such request, or it is forgotten (after 90 days).", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn request(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<Uuid>, PathRejection>,
) -> Result<Json<Request>, Problem> {
    let Path(id) = path.map_err(|rejection| Problem::bad(rejection.body_text()))?;
    let found = api.office.request(id).await?;
    let found = found.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, format!("there is no request {id}")))?;
    api.owns(&caller, found.course_id).await?;
    Ok(Json(found))
}

/// What is left of a course in each store, counted exactly, with a few names: when nothing is, evidence that it was erased.
#[utoipa::path(
    get,
    path = "/v1/courses/{course_id}/trace",
    tag = "courses",
    params(("course_id" = String, Path, description = "The course, in the canonical form of its id.",
            example = "0198c3a7-2f5e-7c41-9d0a-5b8e6f1c2d34")),
    responses((status = 200, description = "What is left. A store that cannot be asked is in the answer.", body = Trace))
)]
pub(super) async fn trace(
    State(api): State<Arc<Api>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<Trace>, Problem> {
    Ok(Json(api.office.trace(course(&api, path)?).await?))
}

fn course(api: &Api, path: Result<Path<String>, PathRejection>) -> Result<CourseId, Problem> {
    let Path(text) = path.map_err(|rejection| Problem::bad(rejection.body_text()))?;
    api.office.course(&text).ok_or_else(|| Problem::bad("this is no course id"))
}

fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    let (Some(key), more) = (keys.next(), keys.next()) else { return Ok(None) };
    match key.to_str().map(str::trim) {
        Ok(key) if more.is_none() && !key.is_empty() && key.len() <= LONGEST_KEY => Ok(Some(key.to_owned())),
        _ => Err(Problem::bad(format!("an idempotency key is one text of 1 to {LONGEST_KEY} printable characters"))),
    }
}

/// See RFC 7240.
fn prefers_async(headers: &HeaderMap) -> bool {
    let values = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    let mut preferences = values.flat_map(|value| value.split(',')).filter_map(|it| it.split(';').next());
    preferences.any(|preference| preference.trim().eq_ignore_ascii_case("respond-async"))
}
