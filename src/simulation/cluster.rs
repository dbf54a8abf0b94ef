//! A database server in memory: the courses, what is referred to, and a ledger, each of which may or may not be used.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::world::Who;
use crate::domain::approvals::Item;
use crate::domain::cleanup::Request;
use crate::domain::diff::Orphan;
use crate::domain::ids::CourseId;
use crate::domain::live_set::Halt;
use crate::domain::pins::{Position, SourcePin};
use crate::domain::report::Mode;
use crate::domain::tombstones::Tombstone;
use crate::ledger::{Adoption, Approval, BatchOutcome, OpenIntent};
use crate::postgres::AdvisoryLock;

/// Where every server's log begins.
pub const LOG_BEGINS: u64 = 1 << 40;

/// A server. A copy of it is a backup, or a clone.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// What tells this server from another.
    pub system: String,
    /// Tells a running server from a copy of it.
    pub started: u64,
    /// Where in its history it is.
    pub position: Position,
    /// The live courses, and since when each has lived.
    pub courses: BTreeMap<CourseId, Duration>,
    /// Keys that a live thing refers to.
    pub references: BTreeSet<Vec<u8>>,
    /// Deaths that a trigger recorded, if there is one.
    pub graves: Option<Graves>,
    /// The ledger's tables.
    pub ledger: Tables,
    /// Who holds which lock.
    pub locks: BTreeMap<u8, (Who, u64)>,
    /// False while nobody answers.
    pub up: bool,
}

/// Tombstones, by row: whose, and since when.
#[derive(Debug, Clone, Default)]
pub struct Graves {
    rows: BTreeMap<i64, (CourseId, Duration)>,
    last: i64,
}

impl Graves {
    /// When a tombstone is old.
    const OLD: Duration = Duration::from_secs(400);

    fn bury(&mut self, course: CourseId, now: Duration) {
        self.last += 1;
        self.rows.insert(self.last, (course, now));
    }

    /// What is there.
    pub fn tombstones(&self, now: Duration) -> Vec<Tombstone> {
        let is_old = |at: Duration| now.saturating_sub(at) > Self::OLD;
        self.rows.iter().map(|(row, (course, at))| Tombstone { course: *course, row: *row, old: is_old(*at) }).collect()
    }

    /// Each course with a tombstone, and since when its newest is there.
    pub fn newest(&self) -> BTreeMap<CourseId, Duration> {
        self.rows.values().copied().collect()
    }

    /// Takes rows away.
    pub fn remove(&mut self, rows: &[i64]) {
        self.rows.retain(|row, _| !rows.contains(row));
    }
}

/// The ledger's tables.
#[derive(Debug, Clone, Default)]
pub struct Tables {
    /// In the order in which they began.
    pub runs: Vec<Run>,
    /// Believed sizes of live sets: when, of which source, how many.
    pub populations: Vec<(DateTime<Utc>, String, u64)>,
    /// Ids that were seen live.
    pub known: BTreeMap<CourseId, KnownId>,
    /// By store, source and course.
    pub orphans: BTreeMap<(String, String, CourseId), OrphanRow>,
    /// In the order in which they were opened.
    pub intents: Vec<Intent>,
    /// Why deleting is paused, and since when.
    pub paused: Option<(String, DateTime<Utc>)>,
    /// Who was put back from quarantine, and until when nothing of it goes.
    pub exempt: BTreeMap<CourseId, DateTime<Utc>>,
    /// What the delete path asked for, its key, and whether a run has found its course dead.
    pub requests: Vec<(Request, Option<String>, bool)>,
    /// By request: of which course everything may go though it lives, since when, and whether a run has taken it.
    pub authorisations: Vec<(Uuid, CourseId, DateTime<Utc>, bool)>,
    /// What was adopted.
    pub adoption: Option<Adoption>,
    /// Liveness sources whose tombstones are younger than every sighting.
    pub settled: BTreeSet<String>,
    /// The newest tombstone of each source that a run has read.
    pub seen_tombstones: BTreeMap<String, i64>,
    /// In the order in which they were recorded.
    pub approvals: Vec<Approved>,
    /// When the last run that came so far started, and why it did not believe the live sets.
    pub halts: Option<(DateTime<Utc>, Vec<Halt>)>,
}

/// An approval, and what it covers.
#[derive(Debug, Clone)]
pub struct Approved {
    pub approval: Approval,
    pub items: BTreeSet<Item>,
    pub sizes: BTreeMap<String, u64>,
}

/// A run or a plan.
#[derive(Debug, Clone)]
pub struct Run {
    pub id: Uuid,
    pub mode: Mode,
    pub started_at: DateTime<Utc>,
    pub ended: bool,
}

/// An id that was seen live.
#[derive(Debug, Clone, Default)]
pub struct KnownId {
    pub departed_at: Option<DateTime<Utc>>,
    pub across_break: bool,
    /// Whose it is; empty if nobody tells.
    pub organization: Option<String>,
}

/// An orphan as it was last seen.
#[derive(Debug, Clone)]
pub struct OrphanRow {
    /// What the run saw; its clock is what was accumulated before.
    pub orphan: Orphan,
    pub seen_run: Uuid,
    /// Nothing but grace held it in the last plan or run.
    pub in_grace: bool,
}

/// What a batch was meant to delete.
#[derive(Debug, Clone)]
pub struct Intent {
    pub intent: OpenIntent,
    pub opened_at: DateTime<Utc>,
    /// What came of it, if anybody lived to tell.
    pub outcome: Option<BatchOutcome>,
    pub open: bool,
}

impl Cluster {
    /// A server without courses.
    pub fn new(system: &str) -> Self {
        Self {
            system: system.to_owned(),
            started: 1,
            position: Position { timeline: Some(1), lsn: Some(LOG_BEGINS) },
            courses: BTreeMap::new(),
            references: BTreeSet::new(),
            graves: None,
            ledger: Tables::default(),
            locks: BTreeMap::new(),
            up: true,
        }
    }

    /// What a liveness source in it is.
    pub fn pin(&self) -> SourcePin {
        SourcePin {
            system: Some(self.system.clone()),
            database: "campus".to_owned(),
            id_type: "integer".to_owned(),
            query: "the query".to_owned(),
            relations: Vec::new(),
        }
    }

    /// The running server.
    pub fn server(&self) -> String {
        format!("{} {}", self.system, self.started)
    }

    /// A course's row goes, and the trigger fires, if there is one.
    pub fn close_course(&mut self, course: CourseId, now: Duration) {
        if self.courses.remove(&course).is_some()
            && let Some(graves) = &mut self.graves
        {
            graves.bury(course, now);
        }
    }

    /// Something was written.
    pub fn commit(&mut self) {
        self.position.lsn = self.position.lsn.map(|lsn| lsn + 1);
    }

    /// Ends every session.
    pub fn disconnect(&mut self) {
        self.locks.clear();
    }

    /// Ends the sessions of a process that gives no sign.
    pub fn end_sessions_of(&mut self, who: Who) {
        self.locks.retain(|_, (holder, _)| *holder != who);
    }

    /// True if the holder of `token` has this lock.
    pub fn holds(&self, lock: AdvisoryLock, token: u64) -> bool {
        self.up && self.locks.get(&(lock as u8)).is_some_and(|(_, held)| *held == token)
    }
}
