//! What one process is timed at: it connects, prepares, and tells how long the rest took.

use std::path::PathBuf;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::contest::Timed;
use crate::ours::{self, Part};
use crate::proc;
use crate::theirs::load::{self, Load};
use crate::theirs::{postgres, qdrant, redis};

/// A task: the first ones are ours.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Task {
    /// Reads the live set.
    ReadLive(PathBuf),
    /// Takes a store's inventory, by its name, after the live set was read.
    Inventory(PathBuf, String),
    /// A whole run, of which a part counts.
    Run(PathBuf, Part),
    /// Reads binary COPY and drops it.
    CopyToNull(String),
    /// Scans all keys, so many a call, and counts them.
    Scan(String, u32),
    /// Scans for each of these courses.
    ScanForEach(String, Vec<Uuid>),
    /// Scans once and unlinks what names one of these courses, by their numbers.
    ScanAndUnlink(String, std::ops::Range<u64>),
    /// Lists a key's values.
    Facet(qdrant::Place),
    /// Reads the key of all points.
    Scroll(qdrant::Place),
    /// Deletes the points of these courses, so many courses a call.
    DeleteByFilter(qdrant::Place, std::ops::Range<u64>, usize),
    /// Reads and writes small keys as an application does, at this URL.
    UseKeys(String, Load),
    /// Reads some points of one course after the other as an application does.
    ReadPoints(qdrant::Place, Load),
}

/// Does it.
///
/// # Errors
/// If it fails.
pub async fn perform(task: Task) -> Result<Timed> {
    let timed = match task {
        Task::ReadLive(config) => ours::read_live(&config).await,
        Task::Inventory(config, store) => ours::inventory(&config, &store).await,
        Task::Run(config, part) => ours::run(&config, &part).await,
        Task::CopyToNull(url) => postgres::copy_to_null(&url).await,
        Task::Scan(url, count) => redis::scan(&url, count),
        Task::ScanForEach(url, courses) => redis::scan_for_each(&url, &courses),
        Task::ScanAndUnlink(url, dead) => redis::scan_and_unlink(&url, dead),
        Task::Facet(place) => qdrant::facet(&place).await,
        Task::Scroll(place) => qdrant::scroll(&place).await,
        Task::DeleteByFilter(place, dead, together) => qdrant::delete(&place, dead, together).await,
        Task::UseKeys(url, load) => load::use_keys(&url, &load),
        Task::ReadPoints(place, load) => load::read_points(&place, &load).await,
    };
    Ok(Timed { peak_bytes: proc::peak_bytes()?, ..timed? })
}
