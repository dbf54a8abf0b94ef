//! The spine, end to end, on real Postgres, Redis, Qdrant and files.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "what a test needs and does not find fails it")]

mod api;
mod approvals;
mod callers;
mod campus;
mod cleanup;
mod contested;
mod creation;
mod doctor;
mod faults;
mod gates;
mod interposed;
mod jobs;
mod killed;
mod kind;
mod ledger;
mod liveness;
mod migrations;
mod objects;
mod outages;
mod patterns;
mod pause;
mod places;
mod pooler;
mod program;
mod quarantine;
mod reload;
mod revived;
mod roles;
mod serve;
mod sharing;
mod support;
mod tables;
mod tombstones;
mod trigger;
mod truth;
mod watched;
