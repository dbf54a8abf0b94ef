//! `course-gc` finds what deleted courses left behind in the stores of a course platform, and removes it.
//!
//! The words, the protocol and the map of this crate are in `ARCHITECTURE.md`; what keeps it from ever touching a live
//! course is in `docs/safety.md`, whose lines (S1–S14) the code refers to by number.

pub mod adopt;
pub mod app;
pub mod approve;
pub mod cleanup;
pub mod cli;
pub mod clock;
pub mod config;
pub mod doctor;
pub mod domain;
pub mod errors;
pub mod http;
pub mod ledger;
pub mod liveness;
pub mod office;
pub mod pace;
pub mod postgres;
pub mod quarantine;
pub mod reconcile;
pub mod reload;
pub mod schedule;
pub mod serve;
#[cfg(test)]
mod simulation;
pub mod stores;
pub mod sweep;
pub mod telemetry;
pub mod tombstones;
