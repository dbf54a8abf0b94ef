//! Faults on the real parts: what fails, at which stage, and what came of it. `docs/faults.md` has the tables; the tests
//! here make them, and fail where they differ.

mod matrix;
mod postgres;
mod qdrant;
mod redis;

/// The document that says what happened.
const DOCUMENT: &str = include_str!("../../../docs/faults.md");
