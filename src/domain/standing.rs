//! How things stand, as the ledger knows it: what every replica can tell, whoever ran last. No names of courses are in it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use uuid::Uuid;

use super::evidence::Evidence;

/// An orphan is overdue if it is still there so long after its grace was over.
pub const OVERDUE_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// Reasons for which an orphan may stay for ever, or for as long as it takes, without anybody being late.
const RIGHTLY_HELD: [&str; 5] = ["not_exclusive", "restored", "referenced", "locked", "entangled"];

/// What the ledger tells.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Standing {
    /// The database's time when it was asked.
    pub now: DateTime<Utc>,
    /// When the last run started.
    pub last_start: Option<DateTime<Utc>>,
    /// When a run last ended clean or done.
    pub last_success: Option<DateTime<Utc>>,
    /// When a run last ended clean.
    pub last_clean: Option<DateTime<Utc>>,
    /// The last run that ended otherwise than failed.
    pub last_unfailed: Option<Uuid>,
    /// The last run or plan that ended.
    pub last_ended: Option<Uuid>,
    /// A person paused all deleting.
    pub paused: bool,
    /// Open requests of the delete path.
    pub open_requests: u64,
    /// When the oldest of them was made.
    pub oldest_request: Option<DateTime<Utc>>,
    /// The orphans that are there, by what they have in common.
    pub orphans: Vec<OrphanGroup>,
    /// What the last run or plan saw; `None` if the caller knows it already, or there is none.
    pub seen: Option<Seen>,
}

/// Orphans of one store with the same evidence and decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrphanGroup {
    /// The store.
    pub store: String,
    /// Their evidence.
    pub evidence: Evidence,
    /// What was decided: `sweep`, `sweep_except`, or the reason for which they are held. `None` while a run is about to decide.
    pub decision: Option<String>,
    /// How many there are.
    pub orphans: u64,
    /// How many of them have been there for [`OVERDUE_AFTER`] beyond their grace.
    pub late: u64,
    /// When the first of them was first seen.
    pub first_seen: DateTime<Utc>,
}

impl OrphanGroup {
    /// How many should have gone long ago: who is late, and held for no reason that may last.
    pub fn overdue(&self) -> u64 {
        match &self.decision {
            Some(reason) if RIGHTLY_HELD.contains(&reason.as_str()) => 0,
            _ => self.late,
        }
    }
}

/// What the last runs and plans saw, without a course's name.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct Seen {
    /// The last report tells of a halt.
    pub halted: bool,
    /// It halted because a database or a store is not the one that was adopted (S7).
    pub misplaced: bool,
    /// Live courses by liveness source, and of all together.
    pub live: Vec<SeenLive>,
    /// What lay in quarantine when a run last looked.
    pub quarantine: Option<SeenQuarantine>,
    /// The stores, as a run or plan last looked at them.
    pub stores: Vec<SeenStore>,
}

/// How many courses live.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SeenLive {
    /// The liveness source, or `union`.
    pub source: String,
    /// How many.
    pub live: u64,
}

/// What lies in quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SeenQuarantine {
    /// Copies.
    pub copies: u64,
    /// What they take.
    pub bytes: u64,
    /// What archives take. Older reports do not tell.
    pub archive_bytes: Option<u64>,
    /// How much of the disk with the archives was free, in percent. Older reports do not tell.
    pub free_percent: Option<u8>,
    /// When the oldest copy was made.
    pub oldest: Option<DateTime<Utc>>,
}

/// One store.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SeenStore {
    /// Its name.
    pub name: String,
    /// Its inventory was complete.
    pub complete: bool,
    /// It is this installation's.
    pub adopted: bool,
    /// What goes from it is copied first.
    pub quarantined: bool,
    /// Resources that belong to no source.
    pub unclaimed: u64,
    /// Its sources; empty if the inventory was not complete.
    pub sources: Vec<SeenSource>,
}

/// One source of a store.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SeenSource {
    /// Its name.
    pub name: String,
    /// Distinct live courses in it.
    pub live_courses: u64,
    /// Their resources.
    pub live_resources: u64,
    /// Orphans in it.
    pub orphans: u64,
    /// Their resources that may go.
    pub orphan_resources: u64,
    /// Resources of which no course is known.
    pub unrecognised: u64,
}

#[cfg(test)]
mod tests {
    use super::super::plan::Hold;
    use super::*;

    fn group(decision: Option<&str>) -> OrphanGroup {
        OrphanGroup {
            store: "cache".to_owned(),
            evidence: Evidence::Departed,
            decision: decision.map(str::to_owned),
            orphans: 5,
            late: 2,
            first_seen: DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn what_fails_to_go_is_overdue_and_what_may_stay_is_not() {
        for decision in
            [None, Some("sweep"), Some("sweep_except"), Some("breaker_share"), Some("paused"), Some("incomplete")]
        {
            assert_eq!(group(decision).overdue(), 2, "{decision:?}");
        }
        for decision in RIGHTLY_HELD {
            assert_eq!(group(Some(decision)).overdue(), 0, "{decision}");
            assert!(Hold::NAMES.contains(&decision), "{decision} is no reason");
        }
    }
}
