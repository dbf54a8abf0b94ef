//! How fast `course-gc` is, beside what else a person would use.
//!
//! A row of the table ([`rows::Name`]) starts the servers that it needs, seeds them at a size, and lets sides go that do the same
//! ([`contest::Contest`]): ours and the alternatives, one after the other, several rounds, in another order each. What is ours, or needs
//! a client, goes in a process of its own ([`task`]), so that its memory is its own and no side inherits a warm connection from another.
//! The sides must agree about what was there, or the row fails. Results and what they mean: `docs/performance.md`.

mod bed;
pub mod contest;
mod ids;
mod ours;
pub mod plot;
mod proc;
pub mod report;
pub mod rows;
pub mod size;
pub mod task;
mod theirs;
