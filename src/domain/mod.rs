//! What is decided, and on what: pure data and pure functions.
//!
//! Nothing here is asynchronous, talks to a server, reads a clock or writes a log. Times are arguments.

pub mod approvals;
pub mod bits;
pub mod breakers;
pub mod cleanup;
pub mod diff;
pub mod evidence;
pub mod findings;
pub mod gates;
pub mod holds;
pub mod ids;
pub mod inventory;
pub mod live_set;
pub mod markers;
pub mod pins;
pub mod plan;
pub mod report;
pub mod sample;
pub mod standing;
pub mod tombstones;
