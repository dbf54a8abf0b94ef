//! What an application does while a run goes on: calls at a steady rate, whether or not the last one was answered.
//!
//! A call's time begins when it is due, and not when it could be sent: a server that stands still for a second delays all calls of that
//! second, and they all count (else a stall would hide behind the one call that met it).

use std::time::{Duration, Instant};

use anyhow::Result;
use futures::future::try_join_all;
use qdrant_client::qdrant::{Condition, Filter, ScrollPointsBuilder};
use redis::Client;
use serde::{Deserialize, Serialize};

use super::qdrant::{KEY, Place};
use crate::contest::Timed;
use crate::ids;

/// How many keys an application has beside its courses'.
pub(crate) const KEYS: u64 = 10_000;
/// This long before a call is due nothing sleeps any more: timers are no finer.
const AWAKE: Duration = Duration::from_micros(150);
/// The first calls do not count: connections and caches are cold.
const COLD: usize = 20;
/// How many points of a course an application reads at once.
const SOME: u32 = 10;

/// How much of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Load {
    /// How many calls are due in a second.
    pub a_second: u32,
    /// For how long.
    pub seconds: u32,
    /// How many courses are live; they are the first ones.
    pub live: u64,
}

impl Load {
    /// When each call is due, from the beginning on.
    fn dues(&self) -> impl Iterator<Item = (u64, Duration)> {
        let every = Duration::from_secs(1) / self.a_second;
        (0..self.a_second * self.seconds).map(move |n| (u64::from(n), every * n))
    }
}

/// The name of an application's key.
pub(crate) fn key(n: u64) -> String {
    format!("session:{}", n % KEYS)
}

/// GET and SET of small keys, in turns, on one connection.
pub(crate) fn use_keys(url: &str, load: &Load) -> Result<Timed> {
    let mut connection = Client::open(url)?.get_connection()?;
    let began = Instant::now();
    let mut took = Vec::new();
    for (n, due) in load.dues() {
        std::thread::sleep(due.saturating_sub(began.elapsed() + AWAKE));
        while began.elapsed() < due {
            std::hint::spin_loop();
        }
        let key = key(n.wrapping_mul(7919));
        if n % 2 == 0 {
            redis::cmd("GET").arg(key).query::<Vec<u8>>(&mut connection)?;
        } else {
            redis::cmd("SET").arg(key).arg("what a session holds").query::<()>(&mut connection)?;
        }
        took.push((began.elapsed() - due).as_secs_f64());
    }
    Ok(timed(began, took))
}

/// Some points of one course, each time another, by as many calls at once as are due. (The test server knows no nearest ones.)
pub(crate) async fn read_points(place: &Place, load: &Load) -> Result<Timed> {
    let client = place.connect()?;
    client.health_check().await?;
    let began = Instant::now();
    let calls = load.dues().map(|(n, due)| {
        let client = &client;
        async move {
            tokio::time::sleep_until((began + due).into()).await;
            let course = ids::course(n.wrapping_mul(7919) % load.live).to_string();
            let filter = Filter::must([Condition::matches(KEY, course)]);
            let request = ScrollPointsBuilder::new(&place.collection).filter(filter).limit(SOME).with_payload(true);
            client.scroll(request).await?;
            anyhow::Ok((began.elapsed() - due).as_secs_f64())
        }
    });
    let took = try_join_all(calls).await?;
    Ok(timed(began, took))
}

fn timed(began: Instant, took: Vec<f64>) -> Timed {
    let resources = took.len() as u64;
    let mut counted: Vec<f64> = took.into_iter().skip(COLD).collect();
    counted.sort_by(f64::total_cmp);
    let within = |share: f64| counted.get((counted.len() as f64 * share) as usize).copied().unwrap_or(0.0);
    let (half_within, most_within) = (within(0.5), within(0.99));
    Timed { seconds: began.elapsed().as_secs_f64(), resources, half_within, most_within, ..Timed::default() }
}
