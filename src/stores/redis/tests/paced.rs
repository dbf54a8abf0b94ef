//! A store is kind to its server: it slows down with it, and keeps to its rate. Calls are counted, by the server.

use std::num::NonZeroU32;

use sandbox::{Behaviour, Proxy};
use tokio::time::timeout;

use super::*;
use crate::clock::{Clock, MachineClock};
use crate::pace::Settings;

const KEYS: usize = 3000;

fn pace(settings: Settings) -> Pace {
    Pace::new(settings, Arc::new(MachineClock))
}

/// How many steps of SCAN a server has made.
async fn scans(connection: &mut MultiplexedConnection) -> u64 {
    let info: String = cmd("INFO").arg("commandstats").query_async(connection).await.unwrap();
    let calls = info.lines().find_map(|line| line.strip_prefix("cmdstat_scan:calls="));
    calls.map_or(0, |calls| calls.split(',').next().unwrap().parse().unwrap())
}

/// How many steps a store gets done in so long.
async fn within(time: Duration, store: &RedisStore, connection: &mut MultiplexedConnection) -> u64 {
    let before = scans(connection).await;
    let cut = timeout(time, inventory(store, IdType::Integer, &[])).await;
    assert!(cut.is_err(), "it was done in that time");
    scans(connection).await - before
}

#[tokio::test]
async fn a_server_that_grows_slow_is_called_less_often_and_a_quick_one_at_full_speed_again() {
    let server = Redis::start().await.unwrap();
    let mut connection = connect(&server.url()).await;
    fill(&mut connection, KEYS).await;
    let proxy = Proxy::before(server.port()).unwrap();
    let url = format!("redis://127.0.0.1:{}/0", proxy.port());
    let plain = || store(&url, IdType::Integer, &["k:{course_id}:*"]);
    let settings = Settings { slow_down_over: 3.0, longest_rest: CALL, ..Pace::default().settings() };
    let pace = pace(settings);
    let store = plain().paced(pace.clone());
    let whole = inventory(&store, IdType::Integer, &[]).await.unwrap();

    // A hundred times as slow as at its best, and more.
    proxy.switch(Behaviour::Delay(Duration::from_millis(25)));
    let time = Duration::from_millis(1500);
    let paced = within(time, &store, &mut connection).await;
    let slowed = pace.slowdown();
    let unpaced = within(time, &plain(), &mut connection).await;
    assert!(paced > 0 && 2 * paced < unpaced, "{paced} steps, and {unpaced} without a pace");
    assert!(slowed > 0.5 && pace.rested() > Duration::from_millis(500), "{slowed}, {:?}", pace.rested());

    proxy.switch(Behaviour::Pass);
    let again = timeout(3 * CALL, inventory(&store, IdType::Integer, &[])).await.unwrap().unwrap();
    assert_eq!(again, whole);
    // On a machine that does much else one pass may be as slow as before.
    let quick = async {
        while pace.slowdown() >= slowed {
            inventory(&store, IdType::Integer, &[]).await.unwrap();
        }
    };
    timeout(10 * CALL, quick).await.unwrap();
}

#[tokio::test]
async fn the_rate_of_calls_holds() {
    const RATE: u32 = 40;
    let server = Redis::start().await.unwrap();
    let mut connection = connect(&server.url()).await;
    fill(&mut connection, KEYS).await;
    let settings = Settings { calls_per_second: NonZeroU32::new(RATE), ..Pace::default().settings() };
    let store = store(&server.url(), IdType::Integer, &["k:{course_id}:*"]).paced(pace(settings));
    let began = MachineClock.since_boot();
    let steps = within(Duration::from_secs(1), &store, &mut connection).await;
    let seconds = (MachineClock.since_boot() - began).as_secs_f64();
    assert!(steps > 1 && steps as f64 <= seconds * f64::from(RATE) + 1.0, "{steps} steps in {seconds} s");
}
