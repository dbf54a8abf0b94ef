//! What others feel: an application's calls to a server, with runs at the default pace beside them and without.
//!
//! The load goes on for a fixed time. Beside it runs follow each other for as long: the first finds dead courses and sweeps them, those
//! that follow find nothing. Usually hours lie between two runs; here there is no moment without one.

use std::ops::Range;
use std::pin::pin;

use anyhow::Result;
use futures::future::LocalBoxFuture;
use futures::{FutureExt, TryFutureExt};
use redis::Client;
use sandbox::{Qdrant, Redis};

use super::{keys, points, slowlog};
use crate::bed::Bed;
use crate::contest::{Lane, Timed, alone, median};
use crate::ours::Part;
use crate::report::Row;
use crate::size::Size;
use crate::task::Task;
use crate::theirs::load::{self, Load};

/// A tenth more is what others may feel.
const MOST: f64 = 1.1;
/// How many keys a course has.
const EACH: u64 = 50;

pub(super) async fn redis(size: Size, rounds: u32) -> Result<Row> {
    let (live, dead) = size.of((380, 20), (19_800, 200), (99_000, 1_000));
    let bed = Bed::with_courses(0..live).await?;
    let redis = Redis::start().await?;
    keys::seed(&redis, 0..live, EACH)?;
    let mut sessions = redis::cmd("MSET");
    for n in 0..load::KEYS {
        sessions.arg(load::key(n)).arg("what a session holds");
    }
    sessions.query::<()>(&mut Client::open(redis.url())?.get_connection()?)?;
    bed.adopt(&keys::store(&redis, true)).await?;

    let load = Load { a_second: 1000, seconds: size.of(1, 10, 20), live };
    let what = format!("{} calls a second beside {} keys", load.a_second, live * EACH);
    let (load, run) = (Task::UseKeys(redis.url(), load), Task::Run(bed.config(), Part::Whole));
    let redis = &redis;
    let mut slowest = Vec::new();
    let sides = measure(
        (&load, &run),
        rounds,
        |round| {
            let seeded = keys::seed(redis, the_dead(live, dead, round), EACH);
            futures::future::ready(seeded.and_then(|()| slowlog::forget(redis))).boxed_local()
        },
        || {
            slowest.push(slowlog::slowest(redis)?);
            Ok(())
        },
    )
    .await?;
    let (slowest, call) = slowlog::of_rounds(&slowest);
    let name = format!("ms, the slowest call by SLOWLOG while runs went ({call})");
    Ok(sides.row("redis load", what)?.number(&name, slowest, None))
}

pub(super) async fn qdrant(size: Size, rounds: u32) -> Result<Row> {
    let (live, dead, each) = size.of((100, 10, 10), (1800, 200, 50), (1800, 200, 500));
    let bed = Bed::with_courses(0..live).await?;
    let qdrant = Qdrant::start().await?;
    let place = points::create(&qdrant, "course_embeddings").await?;
    points::seed(&place, 0..live, each).await?;
    bed.adopt(&points::store(&place, true)).await?;

    let load = Load { a_second: 25, seconds: size.of(2, 20, 30), live };
    let what = format!("{} filtered reads a second beside {} points", load.a_second, live * each);
    let (load, run) = (Task::ReadPoints(place.clone(), load), Task::Run(bed.config(), Part::Whole));
    let place = &place;
    let seed = |round| points::seed(place, the_dead(live, dead, round), each).boxed_local();
    measure((&load, &run), rounds, seed, || Ok(())).await?.row("qdrant load", what)
}

/// Each round has dead courses of its own.
fn the_dead(live: u64, dead: u64, round: u32) -> Range<u64> {
    let first = live + u64::from(round) * dead;
    first..first + dead
}

/// What was measured, round by round.
#[derive(Default)]
struct Sides {
    /// The first run of each round.
    first: Vec<Timed>,
    /// The load with nothing beside it.
    alone: Vec<Timed>,
    /// The load with runs beside it.
    beside: Vec<Timed>,
}

/// Lets the load go alone and beside runs, in another order each round. Before it has runs beside it something is prepared, and
/// something is looked at after it.
async fn measure<'a>(
    (load, run): (&Task, &Task),
    rounds: u32,
    prepare: impl Fn(u32) -> LocalBoxFuture<'a, Result<()>>,
    mut look: impl FnMut() -> Result<()>,
) -> Result<Sides> {
    let mut sides = Sides::default();
    for round in 0..rounds {
        if round % 2 == 0 {
            sides.alone.push(alone(load).await?);
        }
        prepare(round).await?;
        let (beside, first) = together(load, run).await?;
        look()?;
        sides.beside.push(beside);
        sides.first.push(first);
        if round % 2 == 1 {
            sides.alone.push(alone(load).await?);
        }
    }
    Ok(sides)
}

/// The load, and the first of the runs that follow each other until it ends.
async fn together(load: &Task, run: &Task) -> Result<(Timed, Timed)> {
    let mut load = pin!(alone(load).map_err(|error| error.context("the load")));
    let mut first = None;
    loop {
        let mut one = pin!(alone(run).map_err(|error| error.context("a run beside it")));
        tokio::select! {
            biased;
            done = &mut load => {
                let last = one.await?;
                return Ok((done?, first.unwrap_or(last)));
            }
            ran = &mut one => first = Some(first.unwrap_or(ran?)),
        }
    }
}

impl Sides {
    fn row(&self, name: &str, what: String) -> Result<Row> {
        let half: fn(&Timed) -> f64 = |timed| timed.half_within;
        let most: fn(&Timed) -> f64 = |timed| timed.most_within;
        let lanes = vec![
            lane("ours, the first run", &self.first, |timed| timed.seconds),
            lane("p50, runs beside it", &self.beside, half),
            lane("p50, alone", &self.alone, half),
            lane("p99, runs beside it", &self.beside, most),
            lane("p99, alone", &self.alone, most),
        ];
        Row::new(name, what, lanes).at_most("p50, runs beside it", MOST, "p50, alone")?.at_most(
            "p99, runs beside it",
            MOST,
            "p99, alone",
        )
    }
}

fn lane(name: &str, times: &[Timed], of: impl Fn(&Timed) -> f64) -> Lane {
    Lane {
        name: name.to_owned(),
        seconds: times.iter().map(of).collect(),
        part: 1.0,
        own_cpu: 0.0,
        server_cpu: 0.0,
        rested: median(&times.iter().map(|timed| timed.rested).collect::<Vec<_>>()),
        peak_bytes: times.iter().map(|timed| timed.peak_bytes).max().unwrap_or(0),
        courses: 0,
        resources: times.last().map_or(0, |timed| timed.resources),
    }
}
