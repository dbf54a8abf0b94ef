//! A story: what an application, people, servers and processes of ours do, in an order that a seed decides.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::cluster::{Cluster, LOG_BEGINS};
use super::ledger::start_clocks;
use super::observer::Told;
use super::safeguards::Safeguard;
use super::stage::{INTERVAL, PERSON, REFERENCES, STORES, Stage};
use super::world::{Home, State, Who, World};
use crate::domain::cleanup::{Request, RequestState, Timing};
use crate::domain::ids::{CourseId, IdType};
use crate::domain::live_set::LiveSet;
use crate::domain::markers::{Owner, Truths};
use crate::domain::report::Mode;
use crate::postgres::IDLE_TIMEOUT;
use crate::stores::Marker;

/// How long a story is.
const LENGTH: Duration = Duration::from_secs(25 * 60);

/// How far a log comes in a day.
const A_DAY: u64 = 1_000_000;

/// What came of a story.
#[derive(Debug)]
pub struct Ending {
    /// What broke the contract, in words.
    pub violations: Vec<String>,
    /// How many resources went.
    pub deletions: u64,
    /// What happened, a line each.
    pub story: Vec<String>,
}

/// Tells the story of a seed, to its end.
pub fn tell(seed: u64, without: Option<Safeguard>) -> Ending {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut stage = Stage::set(seed, without).await;
        let backup = back_up(&stage.world.state());
        let everybody = async {
            tokio::join!(
                collect(&stage, Who(0)),
                collect(&stage, Who(1)),
                application(&stage),
                person(&stage),
                misfortune(&stage, backup),
            )
        };
        // Whoever is in the middle of something is cut off.
        let _ = timeout(LENGTH, everybody).await;
        stage.settle().await;
        let observer = &stage.world.state().observer;
        Ending { violations: observer.violations.clone(), deletions: observer.deletions, story: observer.story.clone() }
    })
}

/// A process of ours: a run a minute, now and then a plan; some are killed in the middle.
async fn collect(stage: &Stage, who: Who) {
    loop {
        let (pause, mode, killed_after) = {
            let mut state = stage.world.state();
            let pause = state.random.u64(20_000..100_000);
            let mode = if state.once_in(8) { Mode::Plan } else { Mode::Run };
            let killed = state.once_in(6).then(|| state.random.u64(0..3_000));
            (Duration::from_millis(pause), mode, killed)
        };
        sleep(pause).await;
        let limit = killed_after.map_or(10 * INTERVAL, Duration::from_millis);
        let _ = timeout(limit, stage.pass(who, mode)).await;
    }
}

/// The course platform.
async fn application(stage: &Stage) {
    let world = &stage.world;
    let mut gaps = JoinSet::new();
    let mut next = 100;
    loop {
        let pause = world.state().random.u64(500..12_000);
        sleep(Duration::from_millis(pause)).await;
        let now = world.now();
        let mut state = world.state();
        if !state.clusters[0].up {
            continue;
        }
        let live: Vec<CourseId> = state.clusters[0].courses.keys().copied().collect();
        let one = live.get(state.random.usize(..live.len().max(1))).copied();
        match (state.random.u32(..20), one) {
            // A course begins: the row first.
            (0..=2, _) => {
                next += 1;
                let course = CourseId::Integer(next);
                state.open_course(0, course, now);
                state.write(course);
                state.write(course);
            }
            // Or its resources first, and the row some time later.
            (3, _) => {
                next += 1;
                let course = CourseId::Integer(next);
                state.write(course);
                state.write(course);
                let gap = Duration::from_millis(state.random.u64(1_000..200_000));
                let world = Arc::clone(world);
                gaps.spawn(async move {
                    sleep(gap).await;
                    let now = world.now();
                    world.state().open_course(0, course, now);
                });
            }
            // A course is deleted, and what it has stays behind, or in part.
            (4..=6, Some(course)) => {
                state.clusters[0].commit();
                state.delete_course(course, world);
                if state.once_in(2) {
                    let shelf = state.random.usize(..STORES.len());
                    state.shelves[shelf].resources.retain(|_, resource| resource.owner != Some(course));
                }
            }
            // A whole organization.
            (7, _) if state.once_in(6) => {
                for course in live.into_iter().step_by(3) {
                    state.clusters[0].close_course(course, now);
                }
            }
            // A dead one is there again.
            (8..=9, _) => {
                let course = CourseId::Integer(state.random.i64(1..next + 1));
                state.open_course(0, course, now);
            }
            // A worker that is late writes for a course that may be dead.
            (10, _) => {
                let course = CourseId::Integer(state.random.i64(1..next + 1));
                state.write(course);
            }
            // Something alive refers to a file, wherever that lies, or no longer.
            (11..=12, _) => {
                let files = &state.shelves[REFERENCES.iter().position(|it| *it).unwrap()].resources;
                let keys: Vec<Vec<u8>> = files.keys().cloned().collect();
                let key = keys.get(state.random.usize(..keys.len().max(1))).cloned();
                state.clusters[0].references.extend(key);
            }
            (13..=14, _) => {
                let count = state.clusters[0].references.len();
                let nth = state.random.usize(..count.max(1));
                let key = state.clusters[0].references.iter().nth(nth).cloned();
                key.map(|key| state.clusters[0].references.remove(&key));
            }
            // Keys expire.
            (15, _) => {
                let shelf = state.random.usize(..STORES.len());
                let key = state.shelves[shelf].resources.keys().next().cloned();
                key.map(|key| state.shelves[shelf].resources.remove(&key));
            }
            // A course is about to be deleted, which may yet be refused.
            (16, Some(course)) if state.clusters[0].graves.is_some() => {
                state.ask_for_cleanup(course, Timing::BeforeDelete, world);
                let gap = Duration::from_millis(state.random.u64(1_000..400_000));
                if state.once_in(2) {
                    let world = Arc::clone(world);
                    gaps.spawn(async move {
                        sleep(gap).await;
                        let now = world.now();
                        world.state().clusters[0].close_course(course, now);
                    });
                }
            }
            // What a live course has is to go at once, though its row stays.
            (17, Some(course)) if stage.live_cleanups => state.authorise_cleanup(course, world),
            (_, Some(course)) => state.write(course),
            (_, None) => {}
        }
    }
}

impl State {
    /// A course's row goes. Where there is a delete path, triggers are passed over now and then, and now and then somebody asks for
    /// the rest; of whom nobody deleted, too.
    fn delete_course(&mut self, course: CourseId, world: &World) {
        let has_delete_path = self.clusters[0].graves.is_some();
        if has_delete_path && self.once_in(4) {
            self.ask_for_cleanup(course, Timing::AfterDelete, world);
            if self.once_in(4) {
                return;
            }
        }
        if has_delete_path && self.once_in(6) {
            self.clusters[0].courses.remove(&course);
        } else {
            self.clusters[0].close_course(course, world.now());
        }
    }

    /// The delete path is called for what a live course has, which a run may take for dead, soon and once.
    pub fn authorise_cleanup(&mut self, course: CourseId, world: &World) {
        let request = self.ask_for_cleanup(course, Timing::BeforeDelete, world);
        let (ledger, at) = (self.homes[&Who(0)].ledger, world.database_time_in(self));
        self.observer.authorised(ledger, course, at);
        self.clusters[ledger].ledger.authorisations.push((request, course, at, false));
    }

    /// The delete path is called, and answers with a promise, whose id is returned.
    pub fn ask_for_cleanup(&mut self, course: CourseId, timing: Timing, world: &World) -> Uuid {
        let requested_at = world.database_time_in(self);
        let is_before = timing == Timing::BeforeDelete;
        let request = Request {
            id: Uuid::from_u128(self.random.u128(..)),
            course_id: course,
            timing,
            requested_by: "the application".to_owned(),
            requested_at,
            expires_at: is_before.then(|| requested_at + TimeDelta::minutes(5)),
            state: RequestState::Open,
            answer: None,
        };
        self.observer.requested(&request, world.now());
        let ledger = self.homes[&Who(0)].ledger;
        let tables = &mut self.clusters[ledger].ledger;
        // Whoever is live when that is asked was seen live.
        if is_before {
            tables.known.entry(course).or_default();
            start_clocks(tables, course);
            let live = LiveSet::from_ids(IdType::Integer, [course]);
            self.observer.found_live((PERSON, ledger), &live, world.now());
        }
        let id = request.id;
        tables.requests.push((request, None, false));
        id
    }
}

/// Whoever is on call: pauses, resumes, and now and then adopts what is there.
async fn person(stage: &Stage) {
    loop {
        let (pause, what) = {
            let mut state = stage.world.state();
            (state.random.u64(60_000..400_000), state.random.u32(..6))
        };
        sleep(Duration::from_millis(pause)).await;
        let ledger = stage.world.state().homes[&Who(0)].ledger;
        match what {
            0 => {
                let since = stage.world.database_time();
                stage.world.state().clusters[ledger].ledger.paused = Some(("wait".to_owned(), since));
            }
            1 | 2 => stage.world.state().clusters[ledger].ledger.paused = None,
            3 | 4 => {
                // Nobody approves what a campus says that is not the right one.
                let right = stage.world.state().clusters[0].system == "campus";
                if right {
                    stage.approve().await;
                }
            }
            _ => {
                // Nobody adopts a campus that is not the right one, and what a restore took is given back before.
                let right = {
                    let mut state = stage.world.state();
                    let right = state.clusters[0].system == "campus";
                    right && state.once_in(2)
                };
                if right {
                    stage.adopt().await;
                }
            }
        }
    }
}

/// What befalls servers and processes.
async fn misfortune(stage: &Stage, mut backup: Backup) {
    let world = &stage.world;
    let mut thawing = JoinSet::new();
    loop {
        let pause = world.state().random.u64(20_000..180_000);
        sleep(Duration::from_millis(pause)).await;
        let what = world.state().random.u32(..12);
        world.state().observer.note(format!("misfortune {what} at {:?}", world.now()));
        match what {
            0..=3 => freeze(stage, &mut thawing),
            4 => restart(&mut world.state()),
            5 => jump(&mut world.state()),
            6 => backup = back_up(&world.state()),
            7 => promote(&mut world.state()),
            8 => restore(&mut world.state(), &backup),
            9 => replaced_for_a_while(stage).await,
            10 => marked_by_another_for_a_while(stage).await,
            _ => cloned(stage).await,
        }
    }
}

/// A process stands still; its sessions are ended when they give no sign.
fn freeze(stage: &Stage, thawing: &mut JoinSet<()>) {
    let world = Arc::clone(&stage.world);
    let mut state = world.state();
    let who = Who(state.random.usize(..2));
    let until = Instant::now() + Duration::from_millis(state.random.u64(500..120_000));
    state.frozen.insert(who, until);
    drop(state);
    thawing.spawn(async move {
        sleep(IDLE_TIMEOUT).await;
        let mut state = world.state();
        if state.frozen.get(&who).is_some_and(|until| *until > Instant::now()) {
            state.clusters.iter_mut().for_each(|cluster| cluster.end_sessions_of(who));
        }
    });
}

fn restart(state: &mut State) {
    let cluster = state.random.usize(..2);
    state.clusters[cluster].disconnect();
    state.clusters[cluster].started += 1;
}

/// The databases' clocks jump.
fn jump(state: &mut State) {
    let hours = state.random.i64(1..30);
    state.ahead += TimeDelta::hours(hours);
}

/// A standby takes over that had everything.
fn promote(state: &mut State) {
    let ledger = state.homes[&Who(0)].ledger;
    let campus = &mut state.clusters[0];
    campus.disconnect();
    campus.started += 1;
    state.timelines += 1;
    campus.position.timeline = Some(state.timelines);
    if ledger != 0 {
        state.observer.forget_sightings(ledger);
    }
}

/// All servers, and what the ledger had been told.
type Backup = (Vec<Cluster>, Told);

fn back_up(state: &State) -> Backup {
    let ledger = state.homes[&Who(0)].ledger;
    (state.clusters.clone(), state.observer.told(ledger))
}

/// The campus is restored from its backup, and with it the ledger, if that lies there.
fn restore(state: &mut State, (backup, told): &Backup) {
    let ledger = state.homes[&Who(0)].ledger;
    let before = state.clusters[0].clone();
    let mut restored = backup[0].clone();
    restored.disconnect();
    restored.started = before.started + 1;
    // To a point in time, which begins a new timeline, or as a cold copy whose log is far behind what we saw. (One that has caught up
    // is a known gap.)
    if state.once_in(2) {
        state.timelines += 1;
        restored.position.timeline = Some(state.timelines);
    } else {
        state.cold_copies += 1;
        restored.position.lsn = Some(LOG_BEGINS - A_DAY * state.cold_copies);
    }
    if ledger != 0 {
        // Those that the ledger saw live last. (Who came, or came back, since then and is lost is a known gap.)
        let known = &state.clusters[ledger].ledger.known;
        let seen = |course: &&CourseId| known.get(course).is_some_and(|known| known.departed_at.is_none());
        let lost = before.courses.keys().filter(|course| !restored.courses.contains_key(course)).filter(seen);
        state.observer.taken.entry(ledger).or_default().extend(lost);
    }
    // A ledger that came back with its campus, at the counts that the markers show, lost nothing: its clocks go on.
    let complete = ledger == 0 && state.observer.knows_every_move(&restored.ledger);
    state.clusters[0] = restored;
    if ledger == 0 {
        state.observer.recall_the_living(ledger, told);
    }
    match complete {
        true => state.observer.recall(ledger, told),
        false => state.observer.forget_sightings(ledger),
    }
}

/// Another campus of the same name, in which not all of ours live, stands in the place of ours. The ledger stays ours.
async fn replaced_for_a_while(stage: &Stage) {
    let right = {
        let mut state = stage.world.state();
        let mut other = Cluster::new("another");
        other.courses = state.clusters[0].courses.iter().take(20).map(|(course, since)| (*course, *since)).collect();
        other.ledger = state.clusters[0].ledger.clone();
        std::mem::replace(&mut state.clusters[0], other)
    };
    sleep(3 * INTERVAL).await;
    let mut state = stage.world.state();
    let other = std::mem::replace(&mut state.clusters[0], right);
    state.clusters[0].ledger = other.ledger;
    state.clusters[0].disconnect();
}

/// Somebody else marks a store, which holds what looks like ours.
async fn marked_by_another_for_a_while(stage: &Stage) {
    let (shelf, ours) = {
        let mut state = stage.world.state();
        let shelf = state.random.usize(..STORES.len());
        let truths = Truths::from([("another/campus".to_owned(), "another 0".to_owned())]);
        let theirs = Owner { installation: Uuid::from_u128(2), name: "theirs".to_owned(), counter: 7, truths };
        (shelf, state.shelves[shelf].marker.replace(Marker::of(theirs)))
    };
    sleep(2 * INTERVAL).await;
    stage.world.state().shelves[shelf].marker = ours;
}

/// A copy of everything is started elsewhere, and pointed at our stores.
async fn cloned(stage: &Stage) {
    let who = Who(2);
    let campus = {
        let mut state = stage.world.state();
        if state.homes.contains_key(&who) {
            return;
        }
        let home = state.homes[&Who(0)];
        let mut copy = state.clusters.clone();
        copy.iter_mut().for_each(Cluster::disconnect);
        // Another running server, whose cluster has the same identifier.
        copy.iter_mut().for_each(|cluster| cluster.started += 1000);
        state.clusters.extend(copy);
        state.homes.insert(who, Home { campus: home.campus + 2, ledger: home.ledger + 2 });
        state.observer.ledger_is_copied(home.ledger, home.ledger + 2);
        home.campus + 2
    };
    // Ours runs in between, so that the copy is one of yesterday.
    sleep(6 * INTERVAL).await;
    for _ in 0..4 {
        stage.world.state().clusters[campus].courses.pop_first();
        let _ = timeout(INTERVAL, stage.pass(who, Mode::Run)).await;
        sleep(2 * INTERVAL).await;
    }
}
