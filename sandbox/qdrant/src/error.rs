//! Errors with the texts and the gRPC codes of a Qdrant server.

use std::io::{self, Write};

use qdrant_edge::OperationError;
use tonic::Status;

/// What a call can fail with. Its text is what the client reads.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// No such collection, alias or point.
    #[error("Not found: {0}")]
    NotFound(String),
    /// The name is taken.
    #[error("Wrong input: {0}")]
    AlreadyExists(String),
    /// The engine, or the server before it, does not accept the input.
    #[error("Wrong input: {0}")]
    BadInput(String),
    /// Strict mode refuses.
    #[error("Bad request: {0}")]
    BadRequest(String),
    /// The message itself makes no sense: a missing part, a bad id.
    #[error("{0}")]
    Malformed(String),
    /// This test server does not do that.
    #[error("qdrant-sandbox does not implement {0}")]
    Unimplemented(String),
    /// The engine took too long.
    #[error("Timeout: {0}")]
    Timeout(String),
    /// The engine or the disk failed.
    #[error("Service internal error: {0}")]
    Internal(String),
}

/// Prints to standard error. A parent that has closed it is no reason to fail.
pub fn report(message: &str) {
    let _ = writeln!(io::stderr(), "qdrant-sandbox: {message}");
}

impl Error {
    /// The collection `name` does not exist.
    pub fn no_collection(name: &str) -> Self {
        Self::NotFound(format!("Collection `{name}` doesn't exist!"))
    }

    /// Strict mode refuses for `reason`; `help` says what would be accepted.
    pub fn strict_mode(reason: &str, help: &str) -> Self {
        Self::BadRequest(format!("{reason}. Help: {help}"))
    }

    /// A field of the message is out of its range.
    pub fn invalid_field(field: &str, rule: &str) -> Self {
        Self::Malformed(format!("Validation error in body: [{field}: {rule}]"))
    }

    /// A part of the message is absent.
    pub fn missing(part: &str) -> Self {
        Self::Malformed(format!("{part} is missing"))
    }
}

impl From<OperationError> for Error {
    fn from(error: OperationError) -> Self {
        let text = error.to_string();
        match error {
            OperationError::PointIdError { .. } => Self::NotFound(text),
            OperationError::WrongSparse => {
                Self::BadInput("Conversion between sparse and regular vectors failed".to_owned())
            }
            OperationError::WrongMulti => {
                Self::BadInput("Conversion between multi and regular vectors failed".to_owned())
            }
            OperationError::Timeout { .. } => Self::Timeout(text),
            OperationError::ServiceError { .. }
            | OperationError::InconsistentStorage { .. }
            | OperationError::FileNotFound { .. }
            | OperationError::OutOfMemory { .. }
            | OperationError::OutOfAppendableCapacity { .. }
            | OperationError::Cancelled { .. } => Self::Internal(text),
            _ => Self::BadInput(text),
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::NotFound(_) => Status::not_found(text),
            Error::AlreadyExists(_) => Status::already_exists(text),
            Error::BadInput(_) | Error::BadRequest(_) | Error::Malformed(_) => Status::invalid_argument(text),
            Error::Unimplemented(_) => Status::unimplemented(text),
            Error::Timeout(_) => Status::deadline_exceeded(text),
            Error::Internal(_) => Status::internal(text),
        }
    }
}

/// Methods of a gRPC service that answer `Unimplemented`.
///
/// Written out as `tonic::async_trait` would write them, because it does not look into macros.
macro_rules! unimplemented_calls {
    ($($call:ident($request:ty) -> $response:ty;)*) => {$(
        fn $call<'service, 'call>(
            &'service self,
            _: Request<$request>,
        ) -> Pin<Box<dyn Future<Output = Result<Response<$response>, Status>> + Send + 'call>>
        where
            'service: 'call,
            Self: 'call,
        {
            let call = concat!("the call ", stringify!($call));
            let error = Error::Unimplemented(call.to_owned());
            Box::pin(std::future::ready(Err(error.into())))
        }
    )*};
}
