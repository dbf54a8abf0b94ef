//! Which calls keep a Redis from everybody else.

use anyhow::Result;
use redis::Client;
use sandbox::Redis;

use crate::contest::median;

/// From so many microseconds on a call is logged.
const FROM: u32 = 100;

/// Whatever is slow from now on is logged.
pub(super) fn forget(redis: &Redis) -> Result<()> {
    let mut connection = Client::open(redis.url())?.get_connection()?;
    let mut set = redis::cmd("CONFIG");
    set.arg("SET").arg("slowlog-log-slower-than").arg(FROM).arg("slowlog-max-len").arg(1_000_000);
    set.query::<()>(&mut connection)?;
    Ok(redis::cmd("SLOWLOG").arg("RESET").query(&mut connection)?)
}

/// Of several rounds' slowest calls the median in milliseconds, and what the slowest of all was called.
pub(super) fn of_rounds(slowest: &[(f64, String)]) -> (f64, &str) {
    let millis: Vec<f64> = slowest.iter().map(|(millis, _)| *millis).collect();
    let most = slowest.iter().max_by(|a, b| a.0.total_cmp(&b.0));
    (median(&millis), most.map_or("none", |(_, name)| name))
}

/// How long the slowest call since then took, in milliseconds, and what it was called.
pub(super) fn slowest(redis: &Redis) -> Result<(f64, String)> {
    type Entry = (u64, u64, u64, Vec<Vec<u8>>, Vec<u8>, Vec<u8>);
    let mut connection = Client::open(redis.url())?.get_connection()?;
    let entries: Vec<Entry> = redis::cmd("SLOWLOG").arg("GET").arg(-1).query(&mut connection)?;
    let is_our_own = |name: &[u8]| name == b"CONFIG" || name == b"SLOWLOG";
    let calls = entries.iter().filter_map(|(_, _, micros, call, ..)| Some((*micros, call.first()?)));
    let slowest = calls.filter(|(_, name)| !is_our_own(name)).max_by_key(|(micros, _)| *micros);
    Ok(match slowest {
        Some((micros, name)) => (micros as f64 / 1e3, String::from_utf8_lossy(name).into_owned()),
        None => (f64::from(FROM) / 1e3, "none".to_owned()),
    })
}
