//! What a person would use else, as fast as it goes; and what an application does meanwhile.

pub mod load;
pub mod postgres;
pub mod qdrant;
pub mod redis;
