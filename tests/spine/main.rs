//! The spine, end to end, on real Postgres, Redis, Qdrant and files.

mod campus;
mod creation;
mod gates;
mod killed;
mod liveness;
mod pause;
mod support;
mod truth;
