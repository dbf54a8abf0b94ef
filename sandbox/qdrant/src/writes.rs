//! Writes: what a request asks for, as the engine's operation, and when it is answered.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use qdrant_client::qdrant::points_selector::PointsSelectorOneOf;
use qdrant_client::qdrant::points_update_operation::Operation;
use qdrant_client::qdrant::{PointStruct, PointsSelector, UpdateResult, UpdateStatus, Value};
use qdrant_edge::{
    DeletePayloadOp, Filter, PayloadOps, PointId, PointInsertOperations, PointOperations, SetPayloadOp, UpdateOperation,
};
use tonic::Status;

use crate::collection::Collection;
use crate::convert::{filter, json_path, payload, payload_keys, point, point_ids};
use crate::error::{Error, report};
use crate::registry::Registry;
use crate::strict_mode::{self, Access, Checked};

/// A write, ready to be checked and applied.
pub struct Write {
    operation: UpdateOperation,
    filter: Option<Filter>,
    upserts: Option<u64>,
}

/// When a write is answered.
#[derive(Clone, Copy)]
pub struct Answer {
    wait: bool,
    timeout: Option<u64>,
}

impl Answer {
    /// As the request's `wait` and `timeout` (in seconds) say.
    pub fn new(wait: Option<bool>, timeout: Option<u64>) -> Self {
        Self { wait: wait.unwrap_or_default(), timeout }
    }
}

enum Selected {
    Ids(Vec<PointId>),
    Filter(Filter),
}

impl Selected {
    fn new(selector: Option<PointsSelector>) -> Result<Self, Error> {
        match selector.and_then(|selector| selector.points_selector_one_of) {
            Some(PointsSelectorOneOf::Points(list)) => Ok(Self::Ids(point_ids(list.ids)?)),
            Some(PointsSelectorOneOf::Filter(wanted)) => Ok(Self::Filter(filter::to_engine(wanted)?)),
            None => Err(Error::missing("PointsSelector")),
        }
    }

    fn split(self) -> (Option<Vec<PointId>>, Option<Filter>) {
        match self {
            Self::Ids(ids) => (Some(ids), None),
            Self::Filter(filter) => (None, Some(filter)),
        }
    }
}

impl Write {
    fn new(operation: UpdateOperation, filter: Option<Filter>) -> Self {
        Self { operation, filter, upserts: None }
    }

    /// An upsert.
    pub fn upsert(points: Vec<PointStruct>) -> Result<Self, Error> {
        let points: Vec<_> = points.into_iter().map(point).collect::<Result<_, _>>()?;
        let upserts = Some(points.len() as u64);
        let insert = PointInsertOperations::PointsList(points);
        let operation = UpdateOperation::PointOperation(PointOperations::UpsertPoints(insert));
        Ok(Self { upserts, ..Self::new(operation, None) })
    }

    /// A delete of points.
    pub fn delete(selector: Option<PointsSelector>) -> Result<Self, Error> {
        let (operation, filter) = match Selected::new(selector)? {
            Selected::Ids(ids) => (PointOperations::DeletePoints { ids }, None),
            Selected::Filter(filter) => (PointOperations::DeletePointsByFilter(filter.clone()), Some(filter)),
        };
        Ok(Self::new(UpdateOperation::PointOperation(operation), filter))
    }

    /// Sets keys of the payload, under `key` if given.
    pub fn set_payload(
        values: HashMap<String, Value>,
        selector: Option<PointsSelector>,
        key: Option<String>,
    ) -> Result<Self, Error> {
        let (operation, filter) = payload_operation(values, selector, key)?;
        let operation = UpdateOperation::PayloadOperation(PayloadOps::SetPayload(operation));
        Ok(Self::new(operation, filter))
    }

    /// Replaces the payload.
    pub fn overwrite_payload(values: HashMap<String, Value>, selector: Option<PointsSelector>) -> Result<Self, Error> {
        let (operation, filter) = payload_operation(values, selector, None)?;
        let operation = UpdateOperation::PayloadOperation(PayloadOps::OverwritePayload(operation));
        Ok(Self::new(operation, filter))
    }

    /// Removes keys of the payload.
    pub fn delete_payload(keys: Vec<String>, selector: Option<PointsSelector>) -> Result<Self, Error> {
        let (points, filter) = Selected::new(selector)?.split();
        let operation =
            PayloadOps::DeletePayload(DeletePayloadOp { keys: payload_keys(keys)?, points, filter: filter.clone() });
        Ok(Self::new(UpdateOperation::PayloadOperation(operation), filter))
    }

    /// Removes the payload.
    pub fn clear_payload(selector: Option<PointsSelector>) -> Result<Self, Error> {
        let (operation, filter) = match Selected::new(selector)? {
            Selected::Ids(points) => (PayloadOps::ClearPayload { points }, None),
            Selected::Filter(filter) => (PayloadOps::ClearPayloadByFilter(filter.clone()), Some(filter)),
        };
        Ok(Self::new(UpdateOperation::PayloadOperation(operation), filter))
    }

    /// A change of the payload indexes.
    pub fn index(operation: qdrant_edge::FieldIndexOperations) -> Self {
        Self::new(UpdateOperation::FieldIndexOperation(operation), None)
    }

    /// One operation of a batch.
    pub fn batched(operation: Operation) -> Result<Self, Error> {
        match operation {
            Operation::Upsert(list) if list.update_filter.is_some() => {
                Err(Error::Unimplemented("conditional upserts".to_owned()))
            }
            Operation::Upsert(list) => Self::upsert(list.points),
            Operation::DeletePoints(delete) => Self::delete(delete.points),
            Operation::SetPayload(set) => Self::set_payload(set.payload, set.points_selector, set.key),
            Operation::OverwritePayload(set) => Self::overwrite_payload(set.payload, set.points_selector),
            Operation::DeletePayload(delete) => Self::delete_payload(delete.keys, delete.points_selector),
            Operation::ClearPayload(clear) => Self::clear_payload(clear.points),
            _ => Err(Error::Unimplemented("changes of vectors and deprecated operations in a batch".to_owned())),
        }
    }

    fn check(&self, collection: &Collection, timeout: Option<u64>) -> Result<(), Error> {
        let checked = Checked {
            timeout,
            filter: self.filter.as_ref().map(|filter| (filter, Access::Write)),
            upserts: self.upserts,
            ..Checked::default()
        };
        strict_mode::check(collection, &checked)
    }
}

fn payload_operation(
    values: HashMap<String, Value>,
    selector: Option<PointsSelector>,
    key: Option<String>,
) -> Result<(SetPayloadOp, Option<Filter>), Error> {
    let (points, filter) = Selected::new(selector)?.split();
    let operation = SetPayloadOp {
        payload: payload(values),
        points,
        filter: filter.clone(),
        key: key.map(|key| json_path(&key)).transpose()?,
    };
    Ok((operation, filter))
}

/// Checks all `writes` against strict mode, then applies them in order.
///
/// With `wait` the answer comes when they are applied (`Completed`) or when the timeout has passed
/// (`WaitTimeout`; they go on). Without it the answer is `Acknowledged`, and as on a server an
/// operation that then fails is only printed. Here it is nevertheless answered after it was
/// applied, unlike there.
pub async fn apply(
    registry: Arc<Registry>,
    collection: String,
    writes: Vec<Write>,
    answer: Answer,
) -> Result<Vec<UpdateResult>, Status> {
    let count = writes.len();
    let work = tokio::task::spawn_blocking(move || {
        let collection = registry.get(&collection)?;
        for write in &writes {
            write.check(&collection, answer.timeout)?;
        }
        writes
            .into_iter()
            .map(|write| match collection.write(write.operation) {
                Ok(number) => Ok(Some(number)),
                Err(error) if answer.wait => Err(error),
                Err(error) => {
                    report(&format!("an acknowledged write failed: {error}"));
                    Ok(None)
                }
            })
            .collect::<Result<Vec<_>, Error>>()
    });
    let done = match answer.timeout.filter(|_| answer.wait) {
        // No time at all: what that answers must not depend on how fast the work is.
        Some(0) => None,
        Some(seconds) => tokio::time::timeout(Duration::from_secs(seconds), work).await.ok(),
        None => Some(work.await),
    };
    let (numbers, status) = match done {
        Some(joined) => (
            joined.map_err(|error| Status::internal(error.to_string()))??,
            match answer.wait {
                true => UpdateStatus::Completed,
                false => UpdateStatus::Acknowledged,
            },
        ),
        None => (vec![None; count], UpdateStatus::WaitTimeout),
    };
    Ok(numbers.into_iter().map(|operation_id| UpdateResult { operation_id, status: status.into() }).collect())
}
