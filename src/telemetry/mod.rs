//! What the program tells about itself: log lines ([`subscriber`]) and numbers ([`metrics`]).
//!
//! Whatever happens is told by one function of [`events`], which writes the line and moves the numbers: the two cannot
//! disagree, and who looks for one finds the other.

pub mod events;
pub mod metrics;
pub mod subscriber;

#[cfg(test)]
mod tests;
