//! The API for other programs, at `/v1`: the delete path, and what the command line can do. `docs/api.md` shows how to use it, and
//! `/openapi.json` describes it, made from the types that are answered.
//!
//! Each route is declared once, on its handler; the router, the description and the metrics are made from that.

mod body;
mod courses;
mod guard;
mod manage;
mod problem;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::get;
use axum::{Json, Router};
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, Ref, ResponseBuilder};
use utoipa::{Modify, OpenApi, openapi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::clock::Clock;
use crate::domain::ids::CourseId;
use crate::http::access::{Access, Caller};
use crate::http::page;
use crate::office::Office;
use crate::telemetry::metrics::Metrics;

pub use problem::{PROBLEM, Problem};

/// Where the description is.
pub const DOCUMENT: &str = "/openapi.json";
const CLEANUP: &str = "/v1/courses/{course_id}/cleanup";
/// What people see of it.
const RUNS_PAGE: &str = "/runs";
const REQUEST: &str = "/v1/requests/{id}";

/// How long an answer may take beyond what a caller waits for the end of its cleanup.
const BEYOND: Duration = Duration::from_secs(20);

/// What the API works with.
pub struct Api {
    /// What it can do.
    pub office: Office,
    /// Who may.
    pub access: Access,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    limit: Duration,
}

impl Api {
    /// An API for whom `access` lets in.
    pub fn new(office: Office, access: Access, metrics: Arc<Metrics>, clock: Arc<dyn Clock>) -> Self {
        let limit = office.wait() + BEYOND;
        Self { office, access, metrics, clock, limit }
    }

    /// Makes sure that a caller may touch a course: of whoever is bound to an organization, only that one's.
    async fn owns(&self, caller: &Caller, course: CourseId) -> Result<(), Problem> {
        let Some(bound) = &caller.organization else { return Ok(()) };
        if self.office.organization_of(course).await?.as_ref() == Some(bound) {
            return Ok(());
        }
        let detail = "the token is bound to an organization, and the course is not known to be that one's";
        Err(Problem::new(StatusCode::FORBIDDEN, detail))
    }
}

/// The routes, to be merged with others, each behind the guard.
pub fn router<S: Clone + Send + Sync + 'static>(api: &Arc<Api>) -> Router<S> {
    let (router, description) = described();
    let operations: Vec<(String, &'static str)> = operations(&description);
    api.metrics.serve_routes(operations.iter().map(|(route, method)| (route.as_str(), *method)));
    api.metrics.serve_routes([(DOCUMENT, "GET")]);
    let description = Arc::new(description);
    router
        .route(DOCUMENT, get(move || std::future::ready(Json(Arc::clone(&description)))))
        .route_layer(from_fn_with_state(Arc::clone(api), guard::guard))
        .layer(DefaultBodyLimit::max(body::LARGEST))
        .with_state(Arc::clone(api))
}

/// The pages for people who have a token, behind the guard, too.
pub fn pages<S: Clone + Send + Sync + 'static>(api: &Arc<Api>) -> Router<S> {
    api.metrics.serve_routes([(RUNS_PAGE, "GET")]);
    Router::new()
        .route(RUNS_PAGE, get(page::runs))
        .route_layer(from_fn_with_state(Arc::clone(api), guard::guard))
        .layer(from_fn(page::ask_the_browser))
        .with_state(Arc::clone(api))
}

/// True if this path is the API's to answer, also if nothing is there.
pub fn is_ours(path: &str) -> bool {
    path == DOCUMENT || path.starts_with("/v1/")
}

/// The description, as it is served.
pub fn description() -> openapi::OpenApi {
    described().1
}

fn described() -> (Router<Arc<Api>>, openapi::OpenApi) {
    let (router, mut description) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(courses::cleanup))
        .routes(routes!(courses::trace))
        .routes(routes!(courses::request))
        .routes(routes!(manage::runs, manage::run_now))
        .routes(routes!(manage::run))
        .routes(routes!(manage::plan))
        .routes(routes!(manage::holds))
        .routes(routes!(manage::approve))
        .routes(routes!(manage::paused, manage::pause, manage::resume))
        .routes(routes!(manage::restore))
        .split_for_parts();
    EveryAnswer.modify(&mut description);
    (router, description)
}

/// Every route with its method.
fn operations(description: &openapi::OpenApi) -> Vec<(String, &'static str)> {
    let mut found = Vec::new();
    for (path, item) in &description.paths.paths {
        let methods = [("GET", &item.get), ("POST", &item.post), ("PUT", &item.put), ("DELETE", &item.delete)];
        found.extend(methods.iter().filter(|(_, it)| it.is_some()).map(|(method, _)| (path.clone(), *method)));
    }
    found
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "course-gc",
        description = "Removes what deleted courses left, everywhere, and tells the truth about it."
    ),
    components(schemas(Problem))
)]
struct Document;

/// What every operation can answer, and needs.
struct EveryAnswer;

impl Modify for EveryAnswer {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        document.security = Some(vec![SecurityRequirement::new::<_, [&str; 0], &str>("bearer", [])]);
        for item in document.paths.paths.values_mut() {
            let methods = [&mut item.get, &mut item.post, &mut item.put, &mut item.delete];
            methods.into_iter().flatten().for_each(can_go_wrong);
        }
    }
}

fn can_go_wrong(operation: &mut Operation) {
    let answers = [
        ("400", "What was sent makes no sense."),
        ("401", "There is no good token."),
        ("403", "The token is not good for this."),
        ("413", "The body is too large."),
        ("415", "The body is no JSON."),
        ("429", "Too many requests within a minute; `Retry-After` says how long to wait."),
        ("503", "Something that is needed does not answer; nothing is promised."),
    ];
    for (status, words) in answers {
        let content = Content::new(Some(Ref::from_schema_name("Problem")));
        let response = ResponseBuilder::new().description(words).content(PROBLEM, content).build();
        operation.responses.responses.entry(status.to_owned()).or_insert(response.into());
    }
}
