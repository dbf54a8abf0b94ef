//! The service of snapshots: there are none.

use std::future::Future;
use std::pin::Pin;

use qdrant_client::qdrant::snapshots_server::Snapshots;
use qdrant_client::qdrant::{
    CreateFullSnapshotRequest, CreateSnapshotRequest, CreateSnapshotResponse, DeleteFullSnapshotRequest,
    DeleteSnapshotRequest, DeleteSnapshotResponse, ListFullSnapshotsRequest, ListSnapshotsRequest,
    ListSnapshotsResponse,
};
use tonic::{Request, Response, Status};

use crate::error::Error;

/// Refuses every call by name.
pub struct SnapshotsService;

impl Snapshots for SnapshotsService {
    unimplemented_calls! {
        create(CreateSnapshotRequest) -> CreateSnapshotResponse;
        list(ListSnapshotsRequest) -> ListSnapshotsResponse;
        delete(DeleteSnapshotRequest) -> DeleteSnapshotResponse;
        create_full(CreateFullSnapshotRequest) -> CreateSnapshotResponse;
        list_full(ListFullSnapshotsRequest) -> ListSnapshotsResponse;
        delete_full(DeleteFullSnapshotRequest) -> DeleteSnapshotResponse;
    }
}
