//! Payload indexes.

use qdrant_client::qdrant::payload_index_params::IndexParams;
use qdrant_client::qdrant::{self as grpc, FieldType, PayloadIndexParams, PayloadSchemaInfo, PayloadSchemaType};
use qdrant_edge::{
    IntegerIndexParams, KeywordIndexParams, PayloadFieldSchema, PayloadIndexInfo, PayloadSchemaParams,
    PayloadSchemaType as Kind,
};

use super::json_path;
use crate::error::Error;

/// What kind of index a request asks for. Parameters that change answers (lookup, range, prefix,
/// nested) are honoured, those that tune are not.
pub fn to_engine(field_type: Option<i32>, params: Option<PayloadIndexParams>) -> Result<PayloadFieldSchema, Error> {
    let nested = |path: Option<String>| path.map(|path| json_path(&path)).transpose();
    match params.and_then(|params| params.index_params) {
        Some(IndexParams::IntegerIndexParams(params)) => {
            Ok(PayloadFieldSchema::FieldParams(PayloadSchemaParams::Integer(IntegerIndexParams {
                lookup: params.lookup,
                range: params.range,
                nested: nested(params.nested)?,
                ..IntegerIndexParams::default()
            })))
        }
        Some(IndexParams::KeywordIndexParams(params)) => {
            Ok(PayloadFieldSchema::FieldParams(PayloadSchemaParams::Keyword(KeywordIndexParams {
                is_tenant: params.is_tenant,
                prefix: params.prefix.map(|_| true),
                nested: nested(params.nested)?,
                ..KeywordIndexParams::default()
            })))
        }
        Some(IndexParams::UuidIndexParams(_)) => Ok(Kind::Uuid.into()),
        Some(IndexParams::BoolIndexParams(_)) => Ok(Kind::Bool.into()),
        Some(IndexParams::FloatIndexParams(_)) => Ok(Kind::Float.into()),
        Some(IndexParams::DatetimeIndexParams(_)) => Ok(Kind::Datetime.into()),
        Some(IndexParams::GeoIndexParams(_)) => Ok(Kind::Geo.into()),
        Some(IndexParams::TextIndexParams(_)) => Err(Error::Unimplemented("parameters of text indexes".to_owned())),
        None => {
            let number = field_type.ok_or_else(|| Error::missing("Field type"))?;
            let field_type =
                FieldType::try_from(number).map_err(|_| Error::Malformed(format!("Unknown field type: {number}")))?;
            Ok(match field_type {
                FieldType::Keyword => Kind::Keyword,
                FieldType::Integer => Kind::Integer,
                FieldType::Float => Kind::Float,
                FieldType::Geo => Kind::Geo,
                FieldType::Text => Kind::Text,
                FieldType::Bool => Kind::Bool,
                FieldType::Datetime => Kind::Datetime,
                FieldType::Uuid => Kind::Uuid,
            }
            .into())
        }
    }
}

/// An index as a collection's info shows it.
pub fn to_info(info: PayloadIndexInfo) -> PayloadSchemaInfo {
    let data_type = match info.data_type {
        Kind::Keyword => PayloadSchemaType::Keyword,
        Kind::Integer => PayloadSchemaType::Integer,
        Kind::Float => PayloadSchemaType::Float,
        Kind::Geo => PayloadSchemaType::Geo,
        Kind::Text => PayloadSchemaType::Text,
        Kind::Bool => PayloadSchemaType::Bool,
        Kind::Datetime => PayloadSchemaType::Datetime,
        Kind::Uuid => PayloadSchemaType::Uuid,
    };
    let params = match info.params {
        Some(PayloadSchemaParams::Integer(params)) => Some(IndexParams::IntegerIndexParams(grpc::IntegerIndexParams {
            lookup: params.lookup,
            range: params.range,
            nested: params.nested.map(|path| path.to_string()),
            ..grpc::IntegerIndexParams::default()
        })),
        Some(PayloadSchemaParams::Keyword(params)) => Some(IndexParams::KeywordIndexParams(grpc::KeywordIndexParams {
            is_tenant: params.is_tenant,
            prefix: params.prefix.unwrap_or_default().then_some(grpc::KeywordPrefixParams {}),
            nested: params.nested.map(|path| path.to_string()),
            ..grpc::KeywordIndexParams::default()
        })),
        // The other kinds were made without parameters.
        _ => None,
    };
    PayloadSchemaInfo {
        data_type: data_type.into(),
        params: params.map(|params| PayloadIndexParams { index_params: Some(params) }),
        points: Some(info.points as u64),
    }
}
