//! What there is: a database with its ledger, a store, collectors. All of it small, and copied from state to state.
//!
//! Fields called `witness`, `uses`, `missed`, `Database::seen`, and all of [`Ghost`], are history variables: the claims read them, no step of a
//! collector does.

use crate::claims::Claims;
use crate::scenario::{Spent, Start};

/// The courses: one that comes and goes, one that names and is named, and one that is always live.
pub const COURSES: usize = 3;
/// The course that comes and goes.
pub const SUBJECT: usize = 0;
/// The course that some resources of the subject name, too.
pub const NAMED: usize = 1;
/// The course that is always live, and refers to files.
pub const ANCHOR: usize = 2;
/// Most resources. One is all that one source holds of one course.
pub const SLOTS: usize = 2;
/// Most collectors.
pub const COLLECTORS: usize = 2;

/// A set of courses, slots or collectors, by number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Set(u8);

impl Set {
    pub const EMPTY: Self = Self(0);

    pub fn of(members: &[usize]) -> Self {
        members.iter().fold(Self::EMPTY, |set, member| set.with(*member))
    }
    pub fn has(self, member: usize) -> bool {
        self.0 & (1 << member) != 0
    }
    pub fn with(self, member: usize) -> Self {
        Self(self.0 | (1 << member))
    }
    pub fn without(self, member: usize) -> Self {
        Self(self.0 & !(1 << member))
    }
    pub fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
    pub fn len(self) -> u64 {
        u64::from(self.0.count_ones())
    }
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..8).filter(move |member| self.has(*member))
    }
    pub fn first(self) -> Option<usize> {
        self.iter().next()
    }
    pub fn last(self) -> Option<usize> {
        self.iter().last()
    }
}

impl std::fmt::Debug for Set {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// A resource: whose it is, and whose id its name holds besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    pub owner: usize,
    pub mention: Option<usize>,
}

/// Everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// Hours. Stands still while a run looks and plans; see `environment`.
    pub now: u8,
    /// The liveness source, with the ledger beside it or elsewhere.
    pub database: Database,
    /// A copy of all of it that somebody started elsewhere, for the second collector.
    pub clone: Option<Database>,
    /// The database as it was once: a backup, or a standby that lags.
    pub backup: Option<Database>,
    pub store: Store,
    pub collectors: [Collector; COLLECTORS],
    pub spent: Spent,
    pub ghost: Ghost,
    /// The claims that have been broken; a behaviour ends with the first.
    pub broken: Claims,
}

/// A Postgres database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Database {
    /// The cluster's identifier.
    pub system: u8,
    pub timeline: u8,
    /// The log's position. It moves on with each live set that is read, which is as fine as anything depends on it.
    pub log: u8,
    /// The collectors whose session holds the lock: one, unless nobody sees to it.
    pub lock: Set,
    /// The courses whose row is there.
    pub live: Set,
    /// Of those, the ones whose row a run has seen since it was inserted; for the claims.
    pub seen: Set,
    /// The slots that a live course's row refers to.
    pub referenced: Set,
    /// Every question is answered with nothing.
    pub blind: bool,
    pub ledger: Ledger,
}

/// Our tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ledger {
    /// The pin: the cluster that was adopted.
    pub system: u8,
    /// Timeline and log where the source was last seen.
    pub position: (u8, u8),
    /// The marker's count after the last completed move, and the one that a move was about to write.
    pub count: u8,
    pub pending: Option<u8>,
    pub known: [Known; COURSES],
    pub orphans: [Option<Orphan>; SLOTS],
    /// By slot and collector: the latest intent.
    pub intents: [[Intent; COLLECTORS]; SLOTS],
    /// What it has really seen of each slot, for the claims. Here, so that a restore takes it back, too.
    pub witness: [Witness; SLOTS],
    /// How many uses of the store it knows of, the one that it announced included.
    pub uses: u8,
}

/// What the ledger knows of a course id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Known {
    Never,
    Present,
    Departed { across_break: bool },
}

/// An orphan as the ledger remembers it. Times are hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Orphan {
    /// What was there: the content's version; 0 if all of it also named a live course.
    pub version: u8,
    pub accrued: u8,
    pub counted_at: Option<u8>,
    /// What `accrued` becomes if `run` finishes.
    pub pending: u8,
    pub run: u8,
}

/// How far a batch came, as the ledger knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Intent {
    None,
    Open,
    /// The outcome is written, and nobody has asked again yet.
    Landed,
    Closed,
}

/// For how long a slot has been seen as an orphan without an interruption, by finished runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Witness {
    pub version: u8,
    pub since: Option<u8>,
    pub sightings: u8,
}

/// A store with the quarantine that belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Store {
    /// The marker's count.
    pub marker: u8,
    /// By slot: the content's version, 0 if there is none.
    pub content: [u8; SLOTS],
    /// By slot: the versions that lie in quarantine.
    pub copies: [Set; SLOTS],
}

/// Where a collector is in its run. Each step ends with one thing that others can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    Idle,
    /// Halted: wrong place, or not the latest ledger.
    Halted,
    /// Holds the lock; the run has begun.
    Locked,
    /// Pins and counts are right, and the ledger says which count comes next.
    Announced,
    /// The store's marker has moved.
    Moved,
    /// The live set was read and believed.
    Read,
    /// The inventory has ended.
    Looked,
    /// Asked again, recorded, decided. From here on batch by batch.
    Planned,
    Intended,
    Copied,
    /// The batch is condemned.
    Confirmed,
    /// The last look at the clock is over; what was sent has not arrived.
    Sending,
    /// The store did it.
    Landed,
    /// The outcome is written.
    Noted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Collector {
    /// True if it works on the clone.
    pub on_clone: bool,
    pub at: Step,
    pub run: u8,
    pub started: u8,
    /// The marker's count before its move.
    pub from: u8,
    /// Timeline and log when the run began.
    pub position: (u8, u8),
    pub across_break: bool,
    /// The live set.
    pub live: Set,
    /// The inventory: each slot's version; `None` if it did not end complete.
    pub seen: Option<[u8; SLOTS]>,
    /// The slots that are still to be swept.
    pub plan: Set,
    /// The batch: a slot, and the version that was copied.
    pub batch: usize,
    pub copied: u8,
    /// Its confirmation is too old.
    pub stale: bool,
    /// What it sent removed something.
    pub hit: bool,
    /// It saw the batch's owner alive.
    pub alive: bool,
    /// Another ledger used the store, and this one does not know.
    pub missed: bool,
    /// How much of its has landed while another one held the lock.
    pub lockless: u8,
}

/// What only the claims know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ghost {
    /// The courses that have been live for at least an hour.
    pub settled: Set,
    /// For how many hours each course has been dead; no more than anybody asks.
    pub hours_dead: [u8; COURSES],
    /// The slots that were deleted although their owner was live, and not given back.
    pub owed: Set,
    /// The courses whose row was lost, and not deleted.
    pub vanished: Set,
    /// How often the marker was moved, by whomever.
    pub uses: u8,
    /// There is a reason to halt: a clone, a restored ledger, another database, a stolen lock.
    pub tampered: bool,
    /// A run has finished in this hour.
    pub served: bool,
}

impl Collector {
    pub fn idle(on_clone: bool) -> Self {
        Self {
            on_clone,
            at: Step::Idle,
            run: 0,
            started: 0,
            from: 0,
            position: (0, 0),
            across_break: false,
            live: Set::EMPTY,
            seen: None,
            plan: Set::EMPTY,
            batch: 0,
            copied: 0,
            stale: false,
            hit: false,
            alive: false,
            missed: false,
            lockless: 0,
        }
    }
}

impl Witness {
    pub fn anew(version: u8) -> Self {
        Self { version, since: None, sightings: 0 }
    }
}

impl Database {
    /// The truth, if it answers.
    pub fn answer(&self) -> Set {
        if self.blind { Set::EMPTY } else { self.live }
    }
}

impl State {
    /// A world in which everything is adopted, and an earlier run has seen what is there.
    pub fn begin(start: Start, slots: &[Slot], clone: bool) -> Self {
        let mut live = Set::of(&[SUBJECT, NAMED, ANCHOR]);
        let mut known = [Known::Present; COURSES];
        let mut content = [0; SLOTS];
        content[..slots.len()].fill(1);
        let mut orphans = [None; SLOTS];
        let mut witness = [Witness::anew(0); SLOTS];
        match start {
            Start::Alive | Start::Newborn => {}
            Start::Unborn => {
                live = live.without(SUBJECT);
                known[SUBJECT] = Known::Never;
            }
            Start::Ripe => {
                live = live.without(SUBJECT);
                known[SUBJECT] = Known::Departed { across_break: false };
                for (index, slot) in slots.iter().enumerate() {
                    if let Some(named) = slot.mention {
                        live = live.without(named);
                        known[named] = Known::Departed { across_break: false };
                    }
                    orphans[index] = Some(Orphan { version: 1, accrued: 0, counted_at: Some(0), pending: 0, run: 0 });
                    witness[index] = Witness { version: 1, since: Some(0), sightings: 1 };
                }
            }
        }
        let ledger = Ledger {
            system: 1,
            position: (1, 0),
            count: 0,
            pending: None,
            known,
            orphans,
            intents: [[Intent::None; COLLECTORS]; SLOTS],
            witness,
            uses: 0,
        };
        let mut database = Database {
            system: 1,
            timeline: 1,
            log: 0,
            lock: Set::EMPTY,
            live,
            seen: live,
            referenced: Set::EMPTY,
            blind: false,
            ledger,
        };
        let backup = (start == Start::Newborn).then(|| {
            let mut backup = database;
            backup.live = live.without(SUBJECT);
            backup.seen = backup.live;
            backup.ledger.known[SUBJECT] = Known::Never;
            backup
        });
        if start == Start::Newborn {
            database.log = 1;
            database.ledger.position = (1, 1);
        }
        Self {
            now: if start == Start::Ripe { 1 } else { 0 },
            database,
            clone: None,
            backup,
            store: Store { marker: 0, content, copies: [Set::EMPTY; SLOTS] },
            collectors: [Collector::idle(false), Collector::idle(clone)],
            spent: Spent::default(),
            ghost: Ghost {
                settled: live,
                hours_dead: [0; COURSES],
                owed: Set::EMPTY,
                vanished: Set::EMPTY,
                uses: 0,
                tampered: false,
                served: false,
            },
            broken: Claims::default(),
        }
    }

    /// The database that a collector works on.
    pub fn home(&self, collector: usize) -> &Database {
        match &self.clone {
            Some(clone) if self.collectors[collector].on_clone => clone,
            _ => &self.database,
        }
    }

    pub fn home_mut(&mut self, collector: usize) -> &mut Database {
        match &mut self.clone {
            Some(clone) if self.collectors[collector].on_clone => clone,
            _ => &mut self.database,
        }
    }
}
