//! What a person would use else, as fast as it goes.

pub mod postgres;
pub mod qdrant;
pub mod redis;
