//! A collection's definition.

use std::collections::HashMap;

use qdrant_client::qdrant::vectors_config::Config;
use qdrant_client::qdrant::{self as grpc, CreateCollection};
use qdrant_edge::{
    DEFAULT_VECTOR_NAME, Distance, EdgeConfig, EdgeSparseVectorParams, EdgeVectorParams, Modifier, MultiVectorConfig,
    WalOptions,
};

use crate::error::Error;

/// The log is kept in files of this size, in bytes; a server's 32 MiB would be most of the disk
/// that a test uses.
const WAL_SEGMENT: usize = 4 * 1024 * 1024;

/// The engine's configuration. Settings that tune (HNSW, quantization, memory, optimizers) are
/// kept out: they change no answer.
pub fn to_engine(definition: &CreateCollection) -> Result<EdgeConfig, Error> {
    if definition.sharding_method.unwrap_or_default() != grpc::ShardingMethod::Auto as i32 {
        return Err(Error::Unimplemented("shard keys".to_owned()));
    }
    let vectors = definition.vectors_config.as_ref().and_then(|config| config.config.as_ref());
    let vectors = match vectors {
        None => HashMap::new(),
        Some(Config::Params(params)) => HashMap::from([(DEFAULT_VECTOR_NAME.to_owned(), dense(params)?)]),
        Some(Config::ParamsMap(named)) => {
            named.map.iter().map(|(name, params)| Ok((name.clone(), dense(params)?))).collect::<Result<_, Error>>()?
        }
    };
    let sparse_vectors = definition
        .sparse_vectors_config
        .iter()
        .flat_map(|config| &config.map)
        .map(|(name, params)| (name.clone(), sparse(params)))
        .collect();
    Ok(EdgeConfig {
        vectors,
        sparse_vectors,
        wal_options: Some(WalOptions { segment_capacity: WAL_SEGMENT, ..WalOptions::default() }),
        ..EdgeConfig::default()
    })
}

fn dense(params: &grpc::VectorParams) -> Result<EdgeVectorParams, Error> {
    if params.size == 0 {
        return Err(Error::invalid_field("vectors_config.size", "value 0 invalid, must be from 1 to 65536"));
    }
    if params.datatype.is_some_and(|datatype| datatype > grpc::Datatype::Float32 as i32) {
        return Err(Error::Unimplemented("data types other than f32".to_owned()));
    }
    let distance = match params.distance() {
        grpc::Distance::Cosine => Distance::Cosine,
        grpc::Distance::Euclid => Distance::Euclid,
        grpc::Distance::Dot => Distance::Dot,
        grpc::Distance::Manhattan => Distance::Manhattan,
        grpc::Distance::UnknownDistance => {
            return Err(Error::invalid_field("distance", "unknown distance"));
        }
    };
    let mut builder = EdgeVectorParams::builder(params.size as usize, distance);
    if params.multivector_config.is_some() {
        builder = builder.multivector_config(MultiVectorConfig::default());
    }
    Ok(builder.build())
}

fn sparse(params: &grpc::SparseVectorParams) -> EdgeSparseVectorParams {
    let mut builder = EdgeSparseVectorParams::builder();
    if params.modifier() == grpc::Modifier::Idf {
        builder = builder.modifier(Modifier::Idf);
    }
    builder.build()
}
