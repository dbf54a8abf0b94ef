//! What a person does at the command line, for programs.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::Api;
use super::body::Body;
use super::guard::Concerning;
use super::problem::Problem;
use crate::domain::approvals::{self, Terms};
use crate::domain::holds::HoldReport;
use crate::http::access::Caller;
use crate::ledger::{Approval, Pause, RunSummary};
use crate::reconcile::restore::{EXEMPT, EXEMPT_LONGEST, Restored, Selection};
use crate::stores::copies::Restoring;

/// How many runs are listed if nobody says how many, and at most.
const RUNS: [u32; 2] = [20, 100];
/// A longer reason is none.
const LONGEST_REASON: usize = 1000;

/// Which runs.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RunsQuery {
    /// How many; 20 if nobody says so.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
}

/// Runs and plans.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RunsAnswer {
    /// The latest first, without their reports.
    runs: Vec<RunSummary>,
}

/// The latest runs and plans.
#[utoipa::path(
    get,
    path = "/v1/runs",
    tag = "runs",
    params(RunsQuery),
    responses((status = 200, description = "The latest first.", body = RunsAnswer))
)]
pub(super) async fn runs(
    State(api): State<Arc<Api>>,
    query: Result<Query<RunsQuery>, QueryRejection>,
) -> Result<Json<RunsAnswer>, Problem> {
    let Query(RunsQuery { limit }) = query.map_err(|rejection| Problem::bad(rejection.body_text()))?;
    let [usual, most] = RUNS;
    let limit = limit.unwrap_or(usual);
    if limit == 0 || limit > most {
        return Err(Problem::bad(format!("limit is {limit}; write 1 to {most}")));
    }
    Ok(Json(RunsAnswer { runs: api.office.runs(limit).await? }))
}

/// Asks for a run now. It begins as soon as the one under way, if any, has ended.
#[utoipa::path(
    post,
    path = "/v1/runs",
    tag = "runs",
    responses((status = 202, description = "It is asked for; `GET /v1/runs` shows it once it has begun.",
        headers(("Location" = String, description = "Where runs are listed."))))
)]
pub(super) async fn run_now(State(api): State<Arc<Api>>) -> Response {
    api.office.run_now();
    (StatusCode::ACCEPTED, [(header::LOCATION, "/v1/runs")]).into_response()
}

/// One run or plan, with its report.
#[utoipa::path(
    get,
    path = "/v1/runs/{id}",
    tag = "runs",
    params(("id" = Uuid, Path, description = "The run.")),
    responses(
        (status = 200, description = "The run. Its report is described in docs/report.md.", body = RunSummary),
        (status = 404, description = "There is no such run, or it is forgotten (after 90 days).", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn run(
    State(api): State<Arc<Api>>,
    path: Result<Path<Uuid>, PathRejection>,
) -> Result<Json<RunSummary>, Problem> {
    let Path(id) = path.map_err(|rejection| Problem::bad(rejection.body_text()))?;
    let found = api.office.run(id).await?;
    found.map(Json).ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, format!("there is no run {id}")))
}

/// What the last run or plan decided about each orphan.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PlanAnswer {
    /// The run or plan.
    #[schema(inline)]
    seen_by: RunSummary,
    /// Each orphan as in a report, with its `store` and `source`.
    #[schema(value_type = Vec<Object>)]
    orphans: Vec<Value>,
}

/// The orphans that the latest run or plan saw, and what it decided.
#[utoipa::path(
    get,
    path = "/v1/plan",
    tag = "runs",
    responses(
        (status = 200, description = "The plan.", body = PlanAnswer),
        (status = 404, description = "No run or plan has looked at the stores yet.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn plan(State(api): State<Arc<Api>>) -> Result<Json<PlanAnswer>, Problem> {
    let none = || Problem::new(StatusCode::NOT_FOUND, "no run or plan has looked at the stores yet");
    let (seen_by, orphans) = api.office.plan().await?.ok_or_else(none)?;
    Ok(Json(PlanAnswer { seen_by, orphans }))
}

/// What waits for a person, and what was approved.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HoldsAnswer {
    /// What is held.
    holds: Vec<HoldReport>,
    /// The approvals in force, newest first.
    approvals: Vec<Approval>,
}

/// What waits for a person's approval.
#[utoipa::path(
    get,
    path = "/v1/holds",
    tag = "approvals",
    responses((status = 200, description = "What is held, by the last plan or run.", body = HoldsAnswer))
)]
pub(super) async fn holds(State(api): State<Arc<Api>>) -> Result<Json<HoldsAnswer>, Problem> {
    let held = api.office.holds().await?;
    Ok(Json(HoldsAnswer { holds: held.holds, approvals: held.approvals }))
}

/// An approval that is asked for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ApproveBody {
    /// The digest, as `GET /v1/holds` shows it.
    #[schema(pattern = "^[0-9a-fA-F]{12}$")]
    digest: String,
    /// Why; recorded together with the caller.
    #[schema(min_length = 1, max_length = 1000)]
    reason: String,
    /// For how long, such as `7d`, which is the default. At most 30d.
    #[serde(default, rename = "for")]
    lasts: Option<String>,
}

/// What was approved.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ApproveAnswer {
    /// The approval.
    approved: Approval,
    /// The hold that it releases.
    hold: HoldReport,
}

/// Approves what is held under a digest, and nothing besides.
#[utoipa::path(
    post,
    path = "/v1/approvals",
    tag = "approvals",
    request_body = ApproveBody,
    responses(
        (status = 200, description = "It is approved.", body = ApproveAnswer),
        (status = 409, description = "Nothing that is held now has this digest.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn approve(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Body(body): Body<ApproveBody>,
) -> Result<Json<ApproveAnswer>, Problem> {
    let digest = body.digest.parse().map_err(|error: approvals::NoDigest| Problem::bad(error.to_string()))?;
    let lasts = duration(body.lasts.as_deref(), approvals::USUAL)?;
    let terms = Terms::new(&reason(&body.reason, &caller)?, lasts).map_err(|error| Problem::bad(error.to_string()))?;
    let (hold, approved) = api.office.approve(digest, &terms).await?;
    Ok(Json(ApproveAnswer { approved, hold }))
}

/// Whether deleting is paused.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PauseAnswer {
    /// The pause in force, if there is one.
    paused: Option<Pause>,
}

/// Whether deleting is paused.
#[utoipa::path(
    get,
    path = "/v1/pause",
    tag = "pause",
    responses((status = 200, description = "The pause in force, if there is one.", body = PauseAnswer))
)]
pub(super) async fn paused(State(api): State<Arc<Api>>) -> Result<Json<PauseAnswer>, Problem> {
    Ok(Json(PauseAnswer { paused: api.office.paused().await? }))
}

/// A pause that is asked for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PauseBody {
    /// Why; shown in plans and reports, together with the caller.
    #[schema(min_length = 1, max_length = 1000)]
    reason: String,
}

/// Keeps every replica from deleting anything, from its next batch on.
#[utoipa::path(
    put,
    path = "/v1/pause",
    tag = "pause",
    request_body = PauseBody,
    responses((status = 200, description = "The pause in force; one that was there before stays as it is.", body = PauseAnswer))
)]
pub(super) async fn pause(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Body(body): Body<PauseBody>,
) -> Result<Json<PauseAnswer>, Problem> {
    let pause = api.office.pause(&reason(&body.reason, &caller)?).await?;
    Ok(Json(PauseAnswer { paused: Some(pause) }))
}

/// The pause that was ended.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ResumeAnswer {
    /// None if there was none.
    resumed: Option<Pause>,
}

/// Ends the pause.
#[utoipa::path(
    delete,
    path = "/v1/pause",
    tag = "pause",
    responses((status = 200, description = "Nothing is paused any more.", body = ResumeAnswer))
)]
pub(super) async fn resume(State(api): State<Arc<Api>>) -> Result<Json<ResumeAnswer>, Problem> {
    Ok(Json(ResumeAnswer { resumed: api.office.resume().await? }))
}

/// What is to be put back: of the copies in quarantine those that fit everything that is given.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RestoreBody {
    /// The copies of this run.
    #[serde(default)]
    run: Option<Uuid>,
    /// The copies of this course, and only what is its.
    #[serde(default)]
    course: Option<String>,
    /// The copies of this store.
    #[serde(default)]
    store: Option<String>,
    /// Say what would be restored, and change nothing.
    #[serde(default)]
    dry_run: bool,
    /// Put everything back as it was copied, also in place of what exists anew.
    #[serde(default)]
    overwrite: bool,
    /// For how long nothing of these courses goes, such as `7d`, which is the default. At most 30d.
    #[serde(default)]
    exempt_for: Option<String>,
}

/// Brings back what was deleted, from quarantine.
#[utoipa::path(
    post,
    path = "/v1/restore",
    tag = "quarantine",
    request_body = RestoreBody,
    responses(
        (status = 200, description = "What was put back, and what was not.", body = Restored),
        (status = 409, description = "Another collector is at work, or this is not the place that was adopted.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn restore(State(api): State<Arc<Api>>, Body(body): Body<RestoreBody>) -> Result<Response, Problem> {
    let restoring = match (body.dry_run, body.overwrite) {
        (true, true) => return Err(Problem::bad("dry_run and overwrite exclude each other")),
        (true, false) => Restoring::Look,
        (false, true) => Restoring::Overwrite,
        (false, false) => Restoring::Missing,
    };
    let exempt = duration(body.exempt_for.as_deref(), EXEMPT)?;
    if exempt > EXEMPT_LONGEST {
        return Err(Problem::bad("exempt_for is at most 30d; a course that is to stay belongs into the database"));
    }
    let no_id = || Problem::bad("course is no course id");
    let course = body.course.map(|text| api.office.course(&text).ok_or_else(no_id)).transpose()?;
    let selection = Selection { run: body.run, course, store: body.store };
    if selection.is_all() {
        return Err(Problem::bad("say what to restore: run, course or store"));
    }
    // It goes on though its caller is told that it takes too long.
    let restoring = tokio::spawn(async move { api.office.restore(&selection, restoring, exempt).await });
    let broke = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "this is an error of course-gc's own");
    let restored = restoring.await.map_err(broke)??;
    let mut response = Json(restored).into_response();
    if let Some(course) = course {
        response.extensions_mut().insert(Concerning(course));
    }
    Ok(response)
}

/// A reason with who gave it, for whoever reads it where nobody's token is known.
fn reason(text: &str, caller: &Caller) -> Result<String, Problem> {
    match text.trim() {
        "" => Err(Problem::bad("reason is blank; whoever reads it later wants to know why")),
        text if text.len() > LONGEST_REASON => Err(Problem::bad("reason is too long; write at most 1000 bytes")),
        // Postgres keeps no such text.
        text if text.contains('\0') => Err(Problem::bad("reason holds a NUL")),
        text => Ok(format!("{text} ({})", caller.name)),
    }
}

fn duration(text: Option<&str>, usual: Duration) -> Result<Duration, Problem> {
    let Some(text) = text else { return Ok(usual) };
    humantime::parse_duration(text)
        .map_err(|_| Problem::bad(format!("{text:?} is no duration; write a number and a unit, as in 12h or 7d")))
}
