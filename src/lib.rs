//! course-gc

pub mod config;
pub mod schedule;
