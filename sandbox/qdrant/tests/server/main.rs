//! Drives the server with the unmodified client: every capability, every refusal, restarts.

// Clippy's exceptions for tests do not reach the functions that tests share.
#![allow(clippy::unwrap_used, clippy::panic)]

mod calls;
mod collections;
mod filters;
mod life;
mod points;
mod strict_mode;
mod support;
mod writes;
