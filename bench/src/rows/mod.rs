//! One module a row of the table.

mod bullmq;
mod files;
mod files_inventory;
mod files_sweep;
mod growth;
mod keys;
mod live_set;
mod load;
mod points;
mod qdrant_inventory;
mod qdrant_sweep;
mod quiet;
mod redis_inventory;
mod redis_sweep;
mod slowlog;

use anyhow::Result;
use clap::ValueEnum;
use futures::future::LocalBoxFuture;

use crate::report::Row;
use crate::size::Size;

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
#[expect(missing_docs, reason = "they are called what they measure")]
pub enum Name {
    LiveSet,
    RedisInventory,
    RedisSweep,
    Bullmq,
    QdrantInventory,
    QdrantSweep,
    FilesInventory,
    FilesSweep,
    Quiet,
    RedisLoad,
    QdrantLoad,
    Growth,
}

impl Name {
    /// Measures it.
    ///
    /// # Errors
    /// If a server does not start, a side fails, or the sides do not agree about what was there.
    pub fn measure(self, size: Size, rounds: u32) -> LocalBoxFuture<'static, Result<Row>> {
        match self {
            Self::LiveSet => Box::pin(live_set::measure(size, rounds)),
            Self::RedisInventory => Box::pin(redis_inventory::measure(size, rounds)),
            Self::RedisSweep => Box::pin(redis_sweep::measure(size, rounds)),
            Self::Bullmq => Box::pin(bullmq::measure(size, rounds)),
            Self::QdrantInventory => Box::pin(qdrant_inventory::measure(size, rounds)),
            Self::QdrantSweep => Box::pin(qdrant_sweep::measure(size, rounds)),
            Self::FilesInventory => Box::pin(files_inventory::measure(size, rounds)),
            Self::FilesSweep => Box::pin(files_sweep::measure(size, rounds)),
            Self::Quiet => Box::pin(quiet::measure(size, rounds)),
            Self::RedisLoad => Box::pin(load::redis(size, rounds)),
            Self::QdrantLoad => Box::pin(load::qdrant(size, rounds)),
            Self::Growth => Box::pin(growth::measure(size, rounds)),
        }
    }
}
