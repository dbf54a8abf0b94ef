//! The world of a simulation: servers in memory, calls that take time and fail, and a clock that jumps at will.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::{Instant, sleep, sleep_until};

use super::cluster::{Cluster, Tables};
use super::observer::Observer;
use super::shelf::Shelf;
use crate::clock::Clock;

/// When every story begins, in seconds. A run's id tells when it began by the real clock, and what began long ago may have expired:
/// so late, every copy is looked at.
const BEGINNING: i64 = 4_000_000_000;

/// One process of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Who(pub usize);

/// A call that did not come to its end: its effect may have happened all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection was lost")]
pub struct Lost;

/// Everything that happens, happens here. All randomness comes from one seed, and time passes only in sleeps, so a seed is a story.
pub struct World {
    state: Mutex<State>,
    began: Instant,
}

/// What is there now.
pub struct State {
    /// Where randomness comes from.
    pub random: fastrand::Rng,
    /// The database servers: the campus' first, and where the ledger is.
    pub clusters: Vec<Cluster>,
    /// The stores.
    pub shelves: Vec<Shelf>,
    /// Where archives lie.
    pub vault: BTreeMap<String, Bytes>,
    /// Who watches the contract.
    pub observer: Observer,
    /// Where each process finds the campus and its ledger.
    pub homes: BTreeMap<Who, Home>,
    /// Processes that stand still, and until when.
    pub frozen: BTreeMap<Who, Instant>,
    /// How many calls of a thousand are lost; `None` while nothing takes any time.
    pub weather: Option<u32>,
    /// The highest timeline that any server was on. Whoever begins a new one looks into the archive, and takes no number twice. (Where
    /// there is no archive, the log of a second one may catch up with the first's, which is a known gap.)
    pub timelines: u32,
    /// By how much the databases' clocks were put forward.
    pub ahead: TimeDelta,
}

/// The servers that a process was configured with, by their place in [`State::clusters`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Home {
    pub campus: usize,
    pub ledger: usize,
}

/// When a call is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    LostBefore,
    LostAfter,
}

impl World {
    /// A world in which every call is answered at once.
    pub fn calm(seed: u64, clusters: Vec<Cluster>, shelves: Vec<Shelf>) -> Self {
        let state = State {
            random: fastrand::Rng::with_seed(seed),
            clusters,
            shelves,
            vault: BTreeMap::new(),
            observer: Observer::default(),
            homes: BTreeMap::new(),
            frozen: BTreeMap::new(),
            weather: None,
            timelines: 1,
            ahead: TimeDelta::zero(),
        };
        Self { state: Mutex::new(state), began: Instant::now() }
    }

    /// What is there now; never held while anybody waits.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Since the world began.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// The databases' time.
    pub fn database_time(&self) -> DateTime<Utc> {
        self.database_time_in(&self.state())
    }

    /// The databases' time, for whoever has the state in hand.
    pub fn database_time_in(&self, state: &State) -> DateTime<Utc> {
        let passed = TimeDelta::from_std(self.now()).unwrap();
        DateTime::from_timestamp(BEGINNING, 0).unwrap() + passed + state.ahead
    }

    /// One call of a process to a server. The effect happens at one moment, some time after the call was sent.
    pub async fn call<T>(&self, who: Who, effect: impl FnOnce(&mut State) -> T) -> Result<T, Lost> {
        let (fate, there, back) = self.state().draw();
        self.pass(who, there).await;
        if fate == Fate::LostBefore {
            return Err(Lost);
        }
        let value = effect(&mut self.state());
        self.pass(who, back).await;
        if fate == Fate::LostAfter { Err(Lost) } else { Ok(value) }
    }

    async fn pass(&self, who: Who, time: Option<Duration>) {
        let Some(time) = time else { return };
        sleep(time).await;
        loop {
            let until = self.state().frozen.get(&who).copied();
            match until {
                Some(until) if until > Instant::now() => sleep_until(until).await,
                _ => return,
            }
        }
    }
}

impl State {
    fn draw(&mut self) -> (Fate, Option<Duration>, Option<Duration>) {
        let Some(lost) = self.weather else { return (Fate::Answered, None, None) };
        let fate = match self.random.u32(..1000) {
            n if n < lost / 2 => Fate::LostBefore,
            n if n < lost => Fate::LostAfter,
            _ => Fate::Answered,
        };
        let mut time = || match self.random.u32(..100) {
            0 => Duration::from_millis(self.random.u64(100..4_000)),
            _ => Duration::from_millis(self.random.u64(0..10)),
        };
        (fate, Some(time()), Some(time()))
    }

    /// The ledger's tables of a process.
    pub fn tables(&self, who: Who) -> Option<&Tables> {
        self.homes.get(&who).map(|home| &self.clusters[home.ledger].ledger)
    }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: u32) -> bool {
        self.random.u32(..n) == 0
    }
}

/// The machine's clock, as the world has it.
pub struct WorldClock(pub std::sync::Arc<World>);

impl Clock for WorldClock {
    fn since_boot(&self) -> Duration {
        self.0.now()
    }
}
