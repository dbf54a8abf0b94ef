//! The API key, as a Qdrant server checks it: in the metadata key `api-key`, or as a bearer token.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tonic::service::Interceptor;
use tonic::{Request, Status};

const VARIABLE: &str = "QDRANT_SANDBOX_API_KEY";

/// The key that every call but the health check must carry; none lets everyone in.
///
/// It has no `Debug`: the key is not to be printed.
#[derive(Clone)]
pub struct ApiKey(Option<Arc<str>>);

/// Why the key could not be read. Names the file, never its content.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read {}", .0.display())]
    Unreadable(PathBuf, #[source] std::io::Error),
    /// The file or the variable holds nothing: an open server is asked for by leaving both out.
    #[error("{0} is empty; leave it out for a server without a key")]
    Empty(String),
}

impl ApiKey {
    /// The key of `file`, else of the environment, else none.
    pub fn read(file: Option<&Path>) -> Result<Self, KeyError> {
        let (text, origin) = match file {
            Some(path) => (
                std::fs::read_to_string(path).map_err(|source| KeyError::Unreadable(path.to_owned(), source))?,
                path.display().to_string(),
            ),
            None => match std::env::var(VARIABLE) {
                Ok(text) => (text, VARIABLE.to_owned()),
                Err(_) => return Ok(Self(None)),
            },
        };
        match text.trim() {
            "" => Err(KeyError::Empty(origin)),
            key => Ok(Self(Some(key.into()))),
        }
    }
}

impl Interceptor for ApiKey {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let Some(expected) = &self.0 else {
            return Ok(request);
        };
        let text = |key| request.metadata().get(key).and_then(|v| v.to_str().ok());
        let given = text("api-key").or_else(|| text("authorization").and_then(|value| value.strip_prefix("Bearer ")));
        match given {
            None => Err(Status::unauthenticated("Must provide an API key or an Authorization bearer token")),
            Some(given) if given == &**expected => Ok(request),
            Some(_) => Err(Status::unauthenticated("Invalid API key or JWT")),
        }
    }
}
