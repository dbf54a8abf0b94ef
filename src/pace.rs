//! How fast a store's server is called: kind to whoever else uses it.
//!
//! A [`Pace`] is a store's own, kept for as long as the program runs, and is asked before each call by [`Pace::turn`]: three
//! bounds, of which the [`rule`] decides two. How many calls begin in a second; how many are under way at once; and a rest after
//! calls that take longer than this store's usually do.
//!
//! Who calls a store decides whether it can wait, and the store need not know ([`at_once`], [`until`]): from the question whether a
//! batch is dead to the end of its delete nothing rests, since a confirmation is good for seconds (S2). What that would have
//! waited is waited for at the beginning of the next batch, or by the next page.

mod rule;

use std::fmt;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

pub use self::rule::Settings;
use self::rule::{Haste, Measure, Rule};
use crate::clock::{Clock, MachineClock};

/// A store's pace. Clones are one and the same.
#[derive(Clone)]
pub struct Pace(Arc<Inner>);

struct Inner {
    rule: Mutex<Rule>,
    /// One for each call that may be under way.
    places: Arc<Semaphore>,
    settings: Settings,
    rested_micros: AtomicU64,
    clock: Arc<dyn Clock>,
}

/// A call that is under way. Dropped before it [ends](Turn::end), it was given up, and says nothing about the server.
#[must_use]
pub struct Turn {
    pace: Pace,
    began: Duration,
    measure: Measure,
    _place: Option<OwnedSemaphorePermit>,
}

#[derive(Clone)]
enum Hurry {
    AtOnce,
    Until(CancellationToken),
}

tokio::task_local! {
    static HURRY: Hurry;
}

/// Does something whose calls rest nowhere, and wait for nothing but a place among those under way. What it spawns is not meant,
/// but for [`as_here`].
pub async fn at_once<T>(doing: impl Future<Output = T>) -> T {
    HURRY.scope(Hurry::AtOnce, doing).await
}

/// Does something whose calls rest nowhere any more once `stop` is cancelled.
pub async fn until<T>(stop: &CancellationToken, doing: impl Future<Output = T>) -> T {
    HURRY.scope(Hurry::Until(stop.clone()), doing).await
}

/// Does something whose calls rest as those of its caller do, wherever it is spawned.
pub fn as_here<T>(doing: impl Future<Output = T>) -> impl Future<Output = T> {
    let hurry = HURRY.try_with(Hurry::clone).ok();
    async move {
        match hurry {
            Some(hurry) => HURRY.scope(hurry, doing).await,
            None => doing.await,
        }
    }
}

/// Waits for what is owed to a store's server, if it has a pace, before what may not wait once it has begun.
pub async fn rest(pace: Option<&Pace>) {
    if let Some(pace) = pace {
        pace.rest().await;
    }
}

impl Pace {
    /// A pace by these settings, of a store about which nothing is known yet.
    pub fn new(settings: Settings, clock: Arc<dyn Clock>) -> Self {
        let places = Arc::new(Semaphore::new(settings.in_flight.clamp(1, Semaphore::MAX_PERMITS)));
        let rule = Mutex::new(Rule::new(settings));
        Self(Arc::new(Inner { rule, places, settings, rested_micros: AtomicU64::new(0), clock }))
    }

    /// Waits until a call may begin. Whoever has a turn must not ask for another before it ends.
    pub async fn turn(&self) -> Turn {
        self.begin(Rule::begin).await
    }

    /// The same for a call that may be [alike](Turn::alike) with others.
    pub async fn measured_turn(&self) -> Turn {
        self.begin(Rule::begin_measured).await
    }

    async fn begin(&self, begin: impl FnOnce(&mut Rule) -> Measure) -> Turn {
        self.rest().await;
        // It is never closed.
        let place = Arc::clone(&self.0.places).acquire_owned().await.ok();
        let measure = begin(&mut self.rule());
        Turn { pace: self.clone(), began: self.0.clock.since_boot(), measure, _place: place }
    }

    /// Makes a call in its turn.
    pub async fn call<T>(&self, call: impl Future<Output = T>) -> T {
        let turn = self.turn().await;
        let answer = call.await;
        turn.end();
        answer
    }

    /// Waits for what is owed, and for the rate to let another call begin.
    pub async fn rest(&self) {
        let hurry = HURRY.try_with(Hurry::clone).ok();
        let haste = if matches!(hurry, Some(Hurry::AtOnce)) { Haste::AtOnce } else { Haste::Waits };
        let began = self.0.clock.since_boot();
        let wait = self.rule().ask(haste, began);
        if wait.is_zero() {
            return;
        }
        match hurry {
            Some(Hurry::Until(stop)) => {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(wait) => {}
                }
            }
            _ => tokio::time::sleep(wait).await,
        }
        let rested = self.0.clock.since_boot().saturating_sub(began).as_micros();
        self.0.rested_micros.fetch_add(u64::try_from(rested).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// What a person decided.
    pub fn settings(&self) -> Settings {
        self.0.settings
    }

    /// How long calls have waited for the rate and for rests, added up.
    pub fn rested(&self) -> Duration {
        Duration::from_micros(self.0.rested_micros.load(Ordering::Relaxed))
    }

    /// The share of the time that calls are kept from now, since the server is slow; 0 at full speed.
    pub fn slowdown(&self) -> f64 {
        self.rule().slowdown(self.0.clock.since_boot())
    }

    fn rule(&self) -> MutexGuard<'_, Rule> {
        self.0.rule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// What was answered by now is as much as with all of this kind, so that the time it took tells how slow the server is; unless a call
    /// of ours was under way that is not measured, and kept the server busy.
    pub fn alike(&self, kind: &str) {
        let (took, now) = self.took();
        let mut rule = self.pace.rule();
        if rule.is_undisturbed(self.measure) {
            rule.learn(kind, took, now);
        }
    }

    /// The call was answered.
    pub fn end(self) {
        let (took, now) = self.took();
        self.pace.rule().answered(took, now);
    }

    /// How long it took by now, and now.
    fn took(&self) -> (Duration, Duration) {
        let now = self.pace.0.clock.since_boot();
        (now.saturating_sub(self.began), now)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.pace.rule().end(self.measure);
    }
}

impl Default for Pace {
    /// No bounds.
    fn default() -> Self {
        let settings = Settings {
            calls_per_second: None::<NonZeroU32>,
            in_flight: Semaphore::MAX_PERMITS,
            slow_down_over: 1.0,
            longest_rest: Duration::ZERO,
        };
        Self::new(settings, Arc::new(MachineClock))
    }
}

impl fmt::Debug for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pace").field(&self.0.settings).finish()
    }
}

#[cfg(test)]
mod tests;
