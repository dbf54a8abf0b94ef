//! What went wrong, as RFC 9457 says it.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::approve::ApproveError;
use crate::cleanup::CleanupError;
use crate::errors::chain;
use crate::http::access::{Refusal, Scope};
use crate::ledger::LedgerError;
use crate::reconcile::RunError;

/// The media type.
pub const PROBLEM: &str = "application/problem+json";
/// The challenge of whoever comes without a good token.
const REALM: &str = "Bearer realm=\"course-gc\"";

/// Why a request was not answered as it was meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`: the status says what kind it is.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    kind: &'static str,
    /// The status in words.
    #[schema(value_type = String)]
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What happened, with all causes, and what to do.
    detail: String,
    #[serde(skip)]
    #[schema(ignore)]
    headers: Vec<(HeaderName, String)>,
}

impl Problem {
    /// A problem of this status.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Problem");
        Self { kind: "about:blank", title, status: status.as_u16(), detail: detail.into(), headers: Vec::new() }
    }

    /// What was asked for makes no sense.
    pub fn bad(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// With this header.
    pub fn with(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// A good token, but not good for this.
    pub fn lacks(scopes: &[Scope]) -> Self {
        let names: Vec<&str> = scopes.iter().map(|scope| scope.as_str()).collect();
        let challenge = format!("{REALM}, error=\"insufficient_scope\", scope=\"{}\"", names.join(" "));
        let detail = format!("this needs the scope {}, which the token does not have", names.join(" or "));
        Self::new(StatusCode::FORBIDDEN, detail).with(header::WWW_AUTHENTICATE, challenge)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(&self)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        match refusal {
            Refusal::Missing => Self::new(StatusCode::UNAUTHORIZED, detail).with(header::WWW_AUTHENTICATE, REALM),
            Refusal::Invalid(_) => {
                let challenge = format!("{REALM}, error=\"invalid_token\"");
                Self::new(StatusCode::UNAUTHORIZED, detail).with(header::WWW_AUTHENTICATE, challenge)
            }
            // What the keys' server says is for the log, not for somebody whom nobody knows.
            Refusal::Unknown(_) => {
                let detail = "the identity provider's keys cannot be had, so nobody can be let in by them";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
            }
        }
    }
}

impl From<LedgerError> for Problem {
    fn from(error: LedgerError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, chain(&error))
    }
}

impl From<CleanupError> for Problem {
    fn from(error: CleanupError) -> Self {
        let status = match &error {
            CleanupError::Live(_) | CleanupError::KeyReused(_) => StatusCode::CONFLICT,
            CleanupError::NotAtOnce => StatusCode::FORBIDDEN,
            CleanupError::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
            CleanupError::Liveness(_) | CleanupError::Ledger(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        let problem = Self::new(status, chain(&error));
        match error {
            CleanupError::TooMany { .. } => problem.with(header::RETRY_AFTER, "600"),
            _ => problem,
        }
    }
}

impl From<ApproveError> for Problem {
    fn from(error: ApproveError) -> Self {
        let status = match &error {
            ApproveError::Changed(_) => StatusCode::CONFLICT,
            ApproveError::Ledger(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, chain(&error))
    }
}

impl From<RunError> for Problem {
    fn from(error: RunError) -> Self {
        let status = match &error {
            RunError::Locked(_) | RunError::Misplaced(_) => StatusCode::CONFLICT,
            RunError::Liveness(_) | RunError::Ledger(_) | RunError::Stopped => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, chain(&error))
    }
}
