//! The only part that deletes: batches, in the order of S11.

mod condemned;

pub use condemned::Condemned;
