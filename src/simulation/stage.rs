//! The stage: a campus, its stores, and the processes of ours that look after them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use chrono_tz::UTC;
use tokio_util::sync::CancellationToken;

use super::cluster::{Cluster, Graves};
use super::ledger::MemoryLedger;
use super::liveness::MemorySources;
use super::observer::Contract;
use super::safeguards::Safeguard;
use super::shelf::{MemoryStore, Resource, Shelf};
use super::vault::MemoryPlace;
use super::world::{Home, State, Who, World, WorldClock};
use crate::adopt::adopt;
use crate::approve;
use crate::domain::approvals::Terms;
use crate::domain::evidence::Graces;
use crate::domain::ids::{CourseId, IdType};
use crate::domain::inventory::SourceIndex;
use crate::domain::plan::Limits;
use crate::domain::report::{Mode, RunReport, Verdict};
use crate::quarantine::{Archives, Quarantine, Room};
use crate::reconcile::{Collector, ManagedStore, RunError, reconcile};
use crate::schedule::Schedule;
use crate::stores::Marker;

/// The stores' names.
pub const STORES: [&str; 3] = ["keys", "points", "uploads"];
/// In which stores strangers may be swept.
pub const EXCLUSIVE: [bool; 3] = [false, true, true];
/// To which stores something alive may refer.
pub const REFERENCES: [bool; 3] = [false, false, true];
/// How many sources a store has.
const SOURCES: usize = 2;
/// Whoever is on call, at a command line.
pub const PERSON: Who = Who(9);
/// A run a minute.
pub const INTERVAL: Duration = Duration::from_secs(60);
/// How long a copy is kept: a part of a story, or of a jump of the databases' clocks.
const KEEP: Duration = Duration::from_secs(8 * 60);
/// How many courses there are in the beginning.
const COURSES: i64 = 24;

/// What the collector is told, and judged by.
const CONTRACT: Contract = Contract {
    confirmation: Duration::from_secs(5),
    tombstoned: Duration::from_secs(50),
    departed: Duration::from_secs(150),
    stranger: Duration::from_secs(400),
    at_most: Duration::from_secs(120),
    refuse_drop_percent: 30,
    authorised: Duration::from_secs(600),
    courses_a_day: 14,
};

fn source_name(source: usize) -> String {
    format!("source {source}")
}

/// The source of this name.
pub fn source_of(name: &str) -> SourceIndex {
    SourceIndex((0..SOURCES).find(|source| source_name(*source) == name).unwrap())
}

/// A world with a campus in it.
pub struct Stage {
    pub world: Arc<World>,
    without: Option<Safeguard>,
    schedule: Schedule,
    /// A person switched on that what live courses have may go at once.
    pub live_cleanups: bool,
    /// A person raised the limits, to let everything go.
    pub generous: bool,
}

impl Stage {
    /// A campus that all is well with, adopted by process 0 and looked after by 0 and 1.
    /// With every fourth seed, the campus records deaths, and asks for cleanups; with every twelfth, what live courses have is to go at once, too.
    pub async fn set(seed: u64, without: Option<Safeguard>) -> Self {
        let has_delete_path = seed % 4 == 3;
        let clusters = vec![Cluster::new("campus"), Cluster::new("ledger")];
        let world = World::calm(seed, clusters, vec![Shelf::default(); STORES.len()]);
        {
            let mut state = world.state();
            state.observer.contract = Some(CONTRACT);
            // The ledger lies beside the courses, or in a server of its own.
            let ledger = usize::from(state.once_in(2));
            for who in [Who(0), Who(1), PERSON] {
                state.homes.insert(who, Home { campus: 0, ledger });
            }
            for course in 1..=COURSES {
                state.open_course(0, CourseId::Integer(course), Duration::ZERO);
            }
            state.scatter();
            if has_delete_path {
                state.clusters[0].graves = Some(Graves::default());
            }
        }
        let schedule = Schedule::new("* * * * *", UTC).unwrap();
        let live_cleanups = seed % 12 == 3;
        let stage = Self { world: Arc::new(world), without, schedule, live_cleanups, generous: false };
        stage.adopt().await;
        stage.world.state().weather = Some(4);
        stage
    }

    /// A collector as process `who` has it.
    pub fn collector(&self, who: Who) -> Collector {
        let world = Arc::clone(&self.world);
        let home = world.state().homes[&who];
        let without = self.without;
        let lax = |safeguard| without == Some(safeguard) || self.generous;
        let store = |shelf: usize| ManagedStore {
            store: Arc::new(self.store(who, shelf)),
            exclusive: vec![EXCLUSIVE[shelf]; SOURCES],
            quarantined: without != Some(Safeguard::CopyFirst),
        };
        let no_grace = without == Some(Safeguard::Grace);
        let grace = |grace| if no_grace { Duration::ZERO } else { grace };
        Collector {
            installation: "campus".to_owned(),
            id_type: IdType::Integer,
            liveness: Arc::new(MemorySources { world: Arc::clone(&world), who, cluster: home.campus, without }),
            ledger: Arc::new(MemoryLedger { world: Arc::clone(&world), who, cluster: home.ledger, without }),
            stores: (0..STORES.len()).map(store).collect(),
            quarantine: Arc::new(Quarantine {
                archives: Archives::new(
                    Arc::new(MemoryPlace { world: Arc::clone(&world), who }),
                    "campus".to_owned(),
                    IdType::Integer,
                    None,
                    Room { max_bytes: u64::MAX, min_free_percent: 0 },
                ),
                keep: KEEP,
            }),
            limits: Limits {
                graces: Graces {
                    tombstoned: grace(CONTRACT.tombstoned),
                    departed: grace(CONTRACT.departed),
                    stranger: grace(CONTRACT.stranger),
                },
                breaker_share: if lax(Safeguard::Breakers) { 100 } else { 50 },
                breaker_share_strangers: if lax(Safeguard::Breakers) { 100 } else { 50 },
                breaker_courses: if lax(Safeguard::Breakers) { u64::MAX } else { CONTRACT.courses_a_day as u64 },
                breaker_bytes: u64::MAX,
                cap_courses: None,
            },
            refuse_below: 1,
            refuse_drop: if lax(Safeguard::RefuseDrop) { 100 } else { CONTRACT.refuse_drop_percent as u8 },
            confirmation: if without == Some(Safeguard::Freshness) { 1000 * INTERVAL } else { CONTRACT.confirmation },
            live_cleanups: self.live_cleanups.then_some(u32::MAX),
            schedule: self.schedule.clone(),
            clock: Arc::new(WorldClock(world)),
            leading: Default::default(),
        }
    }

    /// A store as process `who` has it.
    pub fn store(&self, who: Who, shelf: usize) -> MemoryStore {
        MemoryStore {
            world: Arc::clone(&self.world),
            who,
            shelf,
            name: STORES[shelf].to_owned(),
            sources: (0..SOURCES).map(source_name).collect(),
            has_references: REFERENCES[shelf],
            batch_limit: 10,
            without: self.without,
            trouble: None,
        }
    }

    /// One pass of a process, to its end.
    pub async fn pass(&self, who: Who, mode: Mode) -> Result<RunReport, RunError> {
        let ended = reconcile(&self.collector(who), mode, &CancellationToken::new()).await;
        if let Ok(report) = &ended {
            let mut state = self.world.state();
            state.judge_put_back(who, report);
            state.observer.ended(who, report);
        }
        ended
    }

    /// A person looks at what is there, and says that it is right.
    pub async fn adopt(&self) {
        // Calls may be lost: then it is adopted in part.
        let _ = adopt(&self.collector(PERSON), true).await;
    }

    /// A person approves all that is held.
    pub async fn approve(&self) {
        let collector = self.collector(PERSON);
        let Ok(shown) = approve::holds(&collector).await else { return };
        let terms = Terms::new("it was meant", Duration::from_secs(24 * 3600)).unwrap();
        for digest in shown.holds.iter().filter_map(|hold| hold.digest) {
            // What was approved with all of it is no longer held by itself, and calls may be lost.
            let _ = approve::approve(&collector, digest, &terms).await;
        }
    }

    /// Nothing happens any more, and a person sees to it that nothing is held without need. What is left then has a reason.
    pub async fn settle(&mut self) {
        {
            let mut state = self.world.state();
            state.weather = None;
            state.frozen.clear();
            state.observer.contract = None;
            // An empty campus is never believed.
            state.open_course(0, CourseId::Integer(i64::MAX), Duration::ZERO);
            for cluster in &mut state.clusters {
                cluster.up = true;
                cluster.disconnect();
                cluster.ledger.paused = None;
            }
            let installation = state.tables(Who(0)).and_then(|tables| Some(tables.adoption.as_ref()?.installation));
            // Whoever marked what is ours gives it back.
            for shelf in &mut state.shelves {
                let ours = |marker: &Marker| installation.is_some_and(|ours| marker.owner(ours).is_some());
                shelf.marker = shelf.marker.take().filter(ours);
            }
        }
        self.generous = true;
        self.adopt().await;
        for _ in 0..30 {
            self.world.state().ahead += TimeDelta::minutes(2);
            self.approve().await;
            let ended = self.pass(Who(0), Mode::Run).await;
            let still = self.world.state().tables(Who(0)).is_some_and(|tables| tables.orphans.is_empty());
            if still && ended.is_ok_and(|report| report.verdict == Verdict::Clean) {
                break;
            }
        }
        self.world.state().judge_rest();
    }
}

impl State {
    /// Makes a course live.
    pub fn open_course(&mut self, campus: usize, course: CourseId, now: Duration) {
        self.clusters[campus].commit();
        self.clusters[campus].courses.entry(course).or_insert(now);
    }

    /// Puts something of a course into a store.
    pub fn write(&mut self, course: CourseId) {
        let shelf = self.random.usize(..STORES.len());
        // Files lie below one root.
        let source = SourceIndex(if REFERENCES[shelf] { 0 } else { self.random.usize(..SOURCES) });
        let mentions = if self.once_in(8) { vec![CourseId::Integer(self.random.i64(1..COURSES))] } else { Vec::new() };
        let mentions = mentions.into_iter().filter(|id| *id != course).collect();
        let key = format!("{source:?} {course} {}", self.random.u32(..6)).into_bytes();
        let resource = Resource { source, owner: Some(course), mentions };
        let resources = &mut self.shelves[shelf].resources;
        // Whom a path names, it always names.
        if !REFERENCES[shelf] || !resources.contains_key(&key) {
            resources.insert(key, resource);
        }
    }

    /// What courses and others leave everywhere.
    fn scatter(&mut self) {
        for course in 1..=COURSES + 4 {
            for _ in 0..4 {
                self.write(CourseId::Integer(course));
            }
        }
        for shelf in 0..STORES.len() {
            let resource = Resource { source: SourceIndex(0), owner: None, mentions: Vec::new() };
            self.shelves[shelf].resources.insert(b"nobody's".to_vec(), resource);
        }
    }

    /// S11: what is left now must have a reason to be, and nothing is half done.
    fn judge_rest(&mut self) {
        let home = self.homes[&Who(0)];
        let campus = &self.clusters[home.campus];
        let tables = &self.clusters[home.ledger].ledger;
        let mut wrong = Vec::new();
        for (index, shelf) in self.shelves.iter().enumerate() {
            let is_referred_to = |key: &Vec<u8>| REFERENCES[index] && campus.references.contains(key);
            // Of what also names others nobody can tell the rest.
            let held: BTreeSet<CourseId> = shelf
                .resources
                .iter()
                .filter(|(key, resource)| is_referred_to(key) && !resource.mentions.is_empty())
                .filter_map(|(_, resource)| resource.owner)
                .collect();
            for (key, resource) in &shelf.resources {
                let Some(owner) = resource.owner else { continue };
                let lives = |id: &CourseId| campus.courses.contains_key(id);
                let has_reason = lives(&owner)
                    || resource.mentions.iter().any(lives)
                    || is_referred_to(key)
                    || held.contains(&owner)
                    || (!EXCLUSIVE[index] && !tables.known.contains_key(&owner));
                if !has_reason {
                    wrong.push(format!("S11: {} of {owner} is left in {}", key.escape_ascii(), STORES[index]));
                }
            }
        }
        if tables.intents.iter().any(|intent| intent.open) {
            wrong.push("S11: an intent is open".to_owned());
        }
        self.observer.violations.extend(wrong);
    }
}
