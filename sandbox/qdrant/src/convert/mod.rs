//! Between the messages of gRPC and the types of the engine.
//!
//! What this test server does not support is refused by name, never dropped in silence.

pub mod definition;
pub mod filter;
pub mod index;
pub mod vectors;

use std::collections::HashMap;

use qdrant_client::qdrant::facet_value::Variant;
use qdrant_client::qdrant::point_id::PointIdOptions;
use qdrant_client::qdrant::with_payload_selector::SelectorOptions as PayloadOptions;
use qdrant_client::qdrant::with_vectors_selector::SelectorOptions as VectorOptions;
use qdrant_client::qdrant::{
    self as grpc, FacetHit, PointStruct, RetrievedPoint, WithPayloadSelector, WithVectorsSelector,
};
use qdrant_edge::{
    FacetValue, FacetValueHit, JsonPath, Payload, PayloadSelector, PayloadSelectorExclude, PayloadSelectorInclude,
    PointId, PointStructPersisted, Record, WithPayloadInterface, WithVector,
};
use uuid::Uuid;

use crate::error::Error;

/// A point's id.
pub fn point_id(id: grpc::PointId) -> Result<PointId, Error> {
    match id.point_id_options {
        Some(PointIdOptions::Num(number)) => Ok(PointId::NumId(number)),
        Some(PointIdOptions::Uuid(text)) => Uuid::parse_str(&text)
            .map(PointId::Uuid)
            .map_err(|_| Error::Malformed(format!("Unable to parse UUID: {text}"))),
        None => Err(Error::Malformed("No ID options provided in the point id".to_owned())),
    }
}

/// Several points' ids.
pub fn point_ids(ids: Vec<grpc::PointId>) -> Result<Vec<PointId>, Error> {
    ids.into_iter().map(point_id).collect()
}

fn point_id_to_grpc(id: PointId) -> grpc::PointId {
    let options = match id {
        PointId::NumId(number) => PointIdOptions::Num(number),
        PointId::Uuid(uuid) => PointIdOptions::Uuid(uuid.to_string()),
    };
    grpc::PointId { point_id_options: Some(options) }
}

/// The id at which the next page begins.
pub fn next_page(id: Option<PointId>) -> Option<grpc::PointId> {
    id.map(point_id_to_grpc)
}

/// A payload key: a path into JSON.
pub fn json_path(text: &str) -> Result<JsonPath, Error> {
    text.parse().map_err(|()| Error::Malformed(format!("Invalid json path: '{text}'")))
}

fn json_paths(texts: &[String]) -> Result<Vec<JsonPath>, Error> {
    texts.iter().map(|text| json_path(text)).collect()
}

/// Several payload keys.
pub fn payload_keys(texts: Vec<String>) -> Result<Vec<JsonPath>, Error> {
    json_paths(&texts)
}

/// A point's payload.
pub fn payload(values: HashMap<String, grpc::Value>) -> Payload {
    Payload(values.into_iter().map(|(key, value)| (key, value.into_json())).collect())
}

/// A point to store.
pub fn point(point: PointStruct) -> Result<PointStructPersisted, Error> {
    Ok(PointStructPersisted {
        id: point_id(point.id.ok_or_else(|| Error::missing("Point id"))?)?,
        vector: vectors::to_engine(point.vectors)?,
        payload: Some(payload(point.payload)),
    })
}

/// A point that was read.
pub fn record(record: Record) -> RetrievedPoint {
    let payload = record.payload.map(|payload| payload.0).unwrap_or_default();
    RetrievedPoint {
        id: Some(point_id_to_grpc(record.id)),
        payload: qdrant_client::Payload::from(payload).into(),
        vectors: record.vector.map(vectors::to_grpc),
        shard_key: None,
        order_value: None,
    }
}

/// Which payload to return; all of it if nothing is said and `default` is set.
pub fn payload_selector(selector: Option<WithPayloadSelector>, default: bool) -> Result<WithPayloadInterface, Error> {
    let Some(options) = selector.and_then(|selector| selector.selector_options) else {
        return Ok(WithPayloadInterface::Bool(default));
    };
    Ok(match options {
        PayloadOptions::Enable(enable) => WithPayloadInterface::Bool(enable),
        PayloadOptions::Include(include) => {
            WithPayloadInterface::Selector(PayloadSelector::Include(PayloadSelectorInclude {
                include: json_paths(&include.fields)?,
            }))
        }
        PayloadOptions::Exclude(exclude) => {
            WithPayloadInterface::Selector(PayloadSelector::Exclude(PayloadSelectorExclude {
                exclude: json_paths(&exclude.fields)?,
            }))
        }
    })
}

/// Which vectors to return; none if nothing is said.
pub fn vector_selector(selector: Option<WithVectorsSelector>) -> WithVector {
    match selector.and_then(|selector| selector.selector_options) {
        Some(VectorOptions::Enable(enable)) => WithVector::Bool(enable),
        Some(VectorOptions::Include(include)) => WithVector::Selector(include.names),
        None => WithVector::Bool(false),
    }
}

/// One value of a facet and its count.
pub fn facet_hit(hit: FacetValueHit) -> FacetHit {
    let variant = match hit.value {
        FacetValue::Keyword(text) => Variant::StringValue(text),
        FacetValue::Int(number) => Variant::IntegerValue(number),
        FacetValue::Uuid(uuid) => Variant::StringValue(Uuid::from_u128(uuid).to_string()),
        FacetValue::Bool(flag) => Variant::BoolValue(flag),
    };
    FacetHit { value: Some(grpc::FacetValue { variant: Some(variant) }), count: hit.count as u64 }
}
