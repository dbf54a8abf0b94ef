//! What a caller sends: small JSON, or nothing.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use serde::de::DeserializeOwned;

use super::problem::Problem;

/// The most bytes that a request may have.
pub const LARGEST: usize = 16 * 1024;

/// A body that was read. An absent one is `{}`.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let media = request.headers().get(header::CONTENT_TYPE).cloned();
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            let detail = format!("{}; a body has at most {LARGEST} bytes", rejection.body_text());
            Problem::new(rejection.status(), detail)
        })?;
        let is_json = media.as_ref().and_then(|media| media.to_str().ok()).is_some_and(|media| {
            media.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json"))
        });
        let text: &[u8] = match (bytes.is_empty(), is_json) {
            (true, _) => b"{}",
            (false, true) => &bytes,
            (false, false) => {
                let detail = "the body is no JSON; send it with the content type application/json";
                return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
            }
        };
        // A list would be taken for the fields in their order.
        if !text.trim_ascii_start().starts_with(b"{") {
            return Err(Problem::bad("the body is no JSON object; write {\"name\": value}"));
        }
        let read = serde_json::from_slice(text);
        read.map(Self).map_err(|error| Problem::bad(format!("the body is not what is expected here: {error}")))
    }
}
