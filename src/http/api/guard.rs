//! What every request to the API goes through: who is it, how often does it come, may it, and what came of it.
//!
//! - A route that nobody thought of here needs `admin` to write and `read` to look, and is closed to whoever is bound to an
//!   organization.
//! - A write is noted before it is done and before it is answered; one that cannot be noted is not done.
//! - It is done to its end, though its caller goes away.

use std::sync::Arc;

use axum::RequestExt;
use axum::extract::{MatchedPath, RawPathParams, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::time::timeout;
use uuid::Uuid;

use super::problem::Problem;
use super::{Api, CLEANUP, DOCUMENT, REQUEST};
use crate::domain::ids::CourseId;
use crate::errors::chain;
use crate::http::access::{Caller, Scope};
use crate::ledger::Audited;
use crate::telemetry::events::{self, Answered};

/// Names a request in its answer, in the log and in the audit.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A course that an answer is about, though its route does not name one.
#[derive(Clone, Copy)]
pub(super) struct Concerning(pub(super) CourseId);

/// What of a request is told later.
struct Asked {
    id: Uuid,
    method: Method,
    route: String,
    /// The course that the path names.
    course: Option<CourseId>,
}

impl Asked {
    fn is_write(&self) -> bool {
        !matches!(self.method, Method::GET | Method::HEAD)
    }

    /// What a caller needs one of; anybody whose token is good may, if it is empty.
    fn needs(&self) -> &'static [Scope] {
        match (self.is_write(), self.route.as_str()) {
            (false, DOCUMENT) => &[],
            // Whoever may ask may also look what became of it.
            (false, REQUEST) => &[Scope::Read, Scope::Cleanup],
            (false, _) => &[Scope::Read],
            (true, CLEANUP) => &[Scope::Cleanup],
            (true, _) => &[Scope::Admin],
        }
    }
}

/// The way in and out.
pub(super) async fn guard(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    let began = api.clock.since_boot();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned()).unwrap_or_default();
    let asked = Asked { id: Uuid::now_v7(), method: request.method().clone(), route, course: None };
    let who = api.access.caller(request.headers()).await;
    let (caller, response) = match api.access.rates.take(who.as_ref().ok().map(|caller| caller.name.as_str())) {
        Err(wait) => {
            let detail = "there were too many requests within a minute (`api.requests_per_minute`)";
            let wait = wait.as_secs().saturating_add(1).to_string();
            let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).with(header::RETRY_AFTER, wait);
            (who.ok(), Ok((asked, problem.into_response())))
        }
        Ok(()) => match who {
            Err(refusal) => (None, Ok((asked, Problem::from(refusal).into_response()))),
            Ok(caller) => {
                request.extensions_mut().insert(caller.clone());
                let (api, by) = (Arc::clone(&api), caller.clone());
                // Not a part of this future, which ends when the connection does.
                let done = tokio::spawn(async move { enter(&api, &by, asked, request, next).await });
                (Some(caller), done.await)
            }
        },
    };
    let Ok((asked, mut response)) = response else {
        // It panicked, and the log says where.
        return Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "this is an error of course-gc's own").into_response();
    };
    if let Ok(id) = HeaderValue::from_str(&asked.id.to_string()) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    let method = if asked.method == Method::HEAD { "GET" } else { asked.method.as_str() };
    let answered = Answered {
        request: asked.id,
        caller: caller.as_ref().map(|caller| caller.name.as_str()),
        method,
        route: &asked.route,
        course: concerned(&asked, &response),
        status: response.status().as_u16(),
        seconds: api.clock.since_boot().saturating_sub(began).as_secs_f64(),
    };
    events::answered(&api.metrics, &answered);
    response
}

fn concerned(asked: &Asked, response: &Response) -> Option<CourseId> {
    asked.course.or_else(|| response.extensions().get::<Concerning>().map(|it| it.0))
}

/// A caller who is known.
async fn enter(api: &Api, caller: &Caller, mut asked: Asked, mut request: Request, next: Next) -> (Asked, Response) {
    let params = request.extract_parts::<RawPathParams>().await;
    let named = params.as_ref().ok().and_then(|params| params.iter().find(|(name, _)| *name == "course_id"));
    asked.course = named.and_then(|(_, text)| api.office.course(text));
    let is_odd = params.is_err() || named.is_some() && asked.course.is_none();
    if asked.is_write()
        && let Err(error) = api.office.audit(&audited(caller, &asked)).await
    {
        let detail = format!("the request could not be noted, so nothing was done: {}", chain(&error));
        return (asked, Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response());
    }
    let response = match may(api, caller, &asked).await {
        Err(problem) => problem.into_response(),
        Ok(()) if is_odd => Problem::bad(
            "this is no course id as `course_id` in the configuration says; write it in its canonical form",
        )
        .into_response(),
        Ok(()) => timeout(api.limit, next.run(request)).await.unwrap_or_else(|_| {
            let detail = "there was no answer in time, and what was asked for may be under way; ask again";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response()
        }),
    };
    if asked.is_write() {
        let (status, course) = (response.status().as_u16(), concerned(&asked, &response));
        if let Err(error) = api.office.audit_end(asked.id, status, course).await {
            tracing::error!(request = %asked.id, status, error = chain(&error), "what came of a write could not be noted");
        }
    }
    (asked, response)
}

fn audited(caller: &Caller, asked: &Asked) -> Audited {
    let (caller, method) = (caller.name.clone(), asked.method.as_str().to_owned());
    Audited { id: asked.id, caller, method, route: asked.route.clone(), course: asked.course }
}

/// Whether a caller may do this.
async fn may(api: &Api, caller: &Caller, asked: &Asked) -> Result<(), Problem> {
    let needs = asked.needs();
    if !needs.is_empty() && !needs.iter().any(|scope| caller.scopes.contains(scope)) {
        return Err(Problem::lacks(needs));
    }
    match (asked.course, asked.route.as_str()) {
        (Some(course), _) => api.owns(caller, course).await,
        // Its handler knows the course.
        (None, REQUEST | DOCUMENT) => Ok(()),
        (None, _) if caller.organization.is_some() => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "the token is bound to one organization, and this is about all of them",
        )),
        (None, _) => Ok(()),
    }
}
