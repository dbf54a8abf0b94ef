//! The service that tells the version.

use qdrant_client::qdrant::qdrant_server::Qdrant;
use qdrant_client::qdrant::{HealthCheckReply, HealthCheckRequest};
use tonic::{Request, Response, Status};

/// The Qdrant version whose interface and answers are imitated: the client's compatibility check
/// looks at it.
const VERSION: &str = "1.20.0";

/// Answers health checks.
pub struct HealthService;

#[tonic::async_trait]
impl Qdrant for HealthService {
    async fn health_check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckReply>, Status> {
        Ok(Response::new(HealthCheckReply {
            title: "qdrant-sandbox: a test server over Qdrant's engine".to_owned(),
            version: VERSION.to_owned(),
            commit: None,
        }))
    }
}
