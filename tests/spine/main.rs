//! The spine, end to end, on real Postgres, Redis, Qdrant and files.

mod campus;
mod liveness;
mod support;
