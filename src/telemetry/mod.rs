//! What the program tells about itself: log lines ([`subscriber`]), numbers ([`metrics`]) and, where somebody collects them,
//! spans ([`traces`]).
//!
//! Whatever happens is told by one function of [`events`], which writes the line and moves the numbers: the two cannot
//! disagree, and who looks for one finds the other.

mod declare;
pub mod events;
mod known;
pub mod measured;
pub mod metrics;
mod process;
pub mod subscriber;
pub mod traces;

#[cfg(test)]
mod tests;
