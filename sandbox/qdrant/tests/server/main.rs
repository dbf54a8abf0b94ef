//! Drives the server with the unmodified client: every capability, every refusal, restarts.

mod calls;
mod collections;
mod filters;
mod life;
mod points;
mod strict_mode;
mod support;
mod writes;
