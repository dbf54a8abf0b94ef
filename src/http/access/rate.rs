//! How often each caller may come: a bucket of tokens each, which fills as time passes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Clock;

/// Whoever shows no good token.
const NOBODY: &str = "";
/// For how many callers a bucket is kept; whoever comes when all of them are at it shares nobody's.
const MOST: usize = 10_000;

struct Bucket {
    left: f64,
    at: Duration,
}

/// The buckets of all callers.
pub struct Rates {
    per_minute: f64,
    clock: Arc<dyn Clock>,
    buckets: Mutex<HashMap<String, Bucket>>,
}

impl Rates {
    /// Each caller may send so many requests a minute, at once or spread.
    pub fn new(per_minute: u32, clock: Arc<dyn Clock>) -> Self {
        Self { per_minute: f64::from(per_minute), clock, buckets: Mutex::default() }
    }

    /// Takes one request of a caller; `None` is everybody without a good token.
    ///
    /// # Errors
    /// How long to wait until there is one.
    pub fn take(&self, caller: Option<&str>) -> Result<(), Duration> {
        let now = self.clock.since_boot();
        // What is in it is whole after each assignment.
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let mut caller = caller.unwrap_or(NOBODY);
        if !buckets.contains_key(caller) && buckets.len() >= MOST {
            buckets.retain(|_, bucket| self.filled(bucket, now) < self.per_minute);
            if buckets.len() >= MOST {
                caller = NOBODY;
            }
        }
        let full = || Bucket { left: self.per_minute, at: now };
        let bucket = buckets.entry(caller.to_owned()).or_insert_with(full);
        *bucket = Bucket { left: self.filled(bucket, now), at: now };
        if bucket.left < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - bucket.left) * 60.0 / self.per_minute));
        }
        bucket.left -= 1.0;
        Ok(())
    }

    fn filled(&self, bucket: &Bucket, now: Duration) -> f64 {
        let gained = now.saturating_sub(bucket.at).as_secs_f64() * self.per_minute / 60.0;
        self.per_minute.min(bucket.left + gained)
    }
}
