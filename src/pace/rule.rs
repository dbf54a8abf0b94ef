//! How long a store is let alone between its calls. Pure: times come in, a wait comes out.
//!
//! - **Slow down** (proportional): calls that are alike tell how slow the server is, as a multiple of its own quickest. The quicker
//!   ones of late say more than the others. Up to `slow_down_over` that is noise. Beyond it calls are followed by rests, that grow
//!   evenly until at twice as much a call is under way for a tenth of the time ([`MOST`]), and no further. The state is one smoothed
//!   number for each kind of call, so full speed is back as soon as the server is. A call beside which others of ours were under way that
//!   are not measured tells nothing: it waited for those.
//! - **Rate**: the calls' starts are spaced evenly.
//!
//! What may not wait is called at once, and what it would have waited is owed by whatever comes next.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

/// At the slowest, a call is under way for a tenth of the time.
const MOST: f64 = 10.0;
/// A new latency weighs as much in the smoothed one, if it is longer,
const WEIGHT: f64 = 1.0 / 8.0;
/// and as much if it is quicker. A slow server is slow each time; who is slow now and then is our own machine.
const WEIGHT_OF_QUICKER: f64 = 1.0 / 2.0;
/// What was smoothed so long ago weighs as much as what comes now.
const FADES: Duration = Duration::from_secs(1);
/// In so long the quickest doubles, if nothing as quick comes: a busy day is not taken for a slow server, and a slow server
/// not for a busy one for ever.
const DOUBLES: Duration = Duration::from_secs(24 * 3600);
/// What was learned is good for so long.
const GOOD_FOR: Duration = Duration::from_secs(10);
/// A quicker call counts as this quick: below, the noise of both machines and of what lies between them is larger.
const QUICK: Duration = Duration::from_millis(1);
/// Less than this is not waited for, but owed until it is more: timers are no finer.
const GRAIN: Duration = Duration::from_millis(5);
/// So many kinds of calls are remembered: a pattern's collections come and go.
const KINDS: usize = 1024;

/// What a person decides about a store's pace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// At most so many calls begin in a second.
    pub calls_per_second: Option<NonZeroU32>,
    /// At most so many calls are under way at once.
    pub in_flight: usize,
    /// Up to so many times the quickest latency is none of our business.
    pub slow_down_over: f64,
    /// The longest rest that a call can cause; zero never slows down.
    pub longest_rest: Duration,
}

/// What is known of a store's calls, and owed to it. Times are since boot.
#[derive(Debug)]
pub(super) struct Rule {
    settings: Settings,
    kinds: BTreeMap<String, Latency>,
    /// How many times the quickest latency calls took of late, and when that was learned.
    latest: Option<(f64, Duration)>,
    under_way: u32,
    /// Of these, those that are not measured, and how many such calls have begun.
    unmeasured: u32,
    unmeasured_begun: u64,
    /// The rest that has not begun yet.
    owed: Duration,
    rests_until: Duration,
    /// When the rate lets the next call begin.
    next: Duration,
}

/// Of calls that are alike; in seconds.
#[derive(Debug, Clone, Copy)]
struct Latency {
    smoothed: f64,
    quickest: f64,
    at: Duration,
}

/// Whether a call's time tells something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Measure {
    /// It does not.
    Unmeasured,
    /// It does if no other than so many calls that are not measured have begun when it is answered.
    Since(u64),
    /// It would, had none been under way when it began.
    Disturbed,
}

/// Whether a call can wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Haste {
    /// It can.
    Waits,
    /// It cannot: what it is for grows stale.
    AtOnce,
}

impl Latency {
    fn first(took: f64, at: Duration) -> Self {
        Self { smoothed: took, quickest: took, at }
    }

    fn then(self, took: f64, now: Duration) -> Self {
        let since = now.saturating_sub(self.at).as_secs_f64();
        let least = if took < self.smoothed { WEIGHT_OF_QUICKER } else { WEIGHT };
        let weight = (since / (since + FADES.as_secs_f64())).max(least);
        let smoothed = self.smoothed + (took - self.smoothed) * weight;
        let forgotten = self.quickest * (since / DOUBLES.as_secs_f64()).exp2();
        Self { smoothed, quickest: forgotten.min(smoothed), at: now }
    }

    fn ratio(self) -> f64 {
        let floor = QUICK.as_secs_f64();
        self.smoothed.max(floor) / self.quickest.max(floor)
    }
}

impl Rule {
    pub(super) fn new(settings: Settings) -> Self {
        let zero = Duration::ZERO;
        Self {
            settings,
            kinds: BTreeMap::new(),
            latest: None,
            under_way: 0,
            unmeasured: 0,
            unmeasured_begun: 0,
            owed: zero,
            rests_until: zero,
            next: zero,
        }
    }

    /// A call is to begin: how long it has to wait.
    pub(super) fn ask(&mut self, haste: Haste, now: Duration) -> Duration {
        let mut at = now.max(self.next);
        if haste == Haste::Waits {
            if self.owed >= GRAIN {
                self.rests_until = self.rests_until.max(now) + std::mem::take(&mut self.owed);
            }
            at = at.max(self.rests_until);
        }
        if let Some(rate) = self.settings.calls_per_second {
            self.next = at + Duration::from_secs(1) / rate.get();
        }
        let wait = at - now;
        if haste == Haste::Waits && wait >= GRAIN { wait } else { Duration::ZERO }
    }

    /// A call begins.
    pub(super) fn begin(&mut self) -> Measure {
        self.under_way += 1;
        self.unmeasured += 1;
        self.unmeasured_begun += 1;
        Measure::Unmeasured
    }

    /// A call begins that is measured.
    pub(super) fn begin_measured(&mut self) -> Measure {
        self.under_way += 1;
        if self.unmeasured == 0 { Measure::Since(self.unmeasured_begun) } else { Measure::Disturbed }
    }

    /// A call has ended, or was given up.
    pub(super) fn end(&mut self, measure: Measure) {
        self.under_way = self.under_way.saturating_sub(1);
        if measure == Measure::Unmeasured {
            self.unmeasured = self.unmeasured.saturating_sub(1);
        }
    }

    /// No other call that is not measured was under way since this one began.
    pub(super) fn is_undisturbed(&self, measure: Measure) -> bool {
        measure == Measure::Since(self.unmeasured_begun)
    }

    /// Calls of this kind are alike, and this one took so long.
    pub(super) fn learn(&mut self, kind: &str, took: Duration, now: Duration) {
        let took = took.as_secs_f64();
        let known = self.kinds.get(kind).map_or_else(|| Latency::first(took, now), |known| known.then(took, now));
        if self.kinds.len() >= KINDS && !self.kinds.contains_key(kind) {
            self.kinds.clear();
        }
        self.kinds.insert(kind.to_owned(), known);
        self.latest = Some((known.ratio(), now));
    }

    /// A call that is still under way was answered after so long: adds the rest that follows. Of calls at the same time each
    /// adds its share.
    pub(super) fn answered(&mut self, took: Duration, now: Duration) {
        let rest = took.as_secs_f64() * (self.slower(now) - 1.0) / f64::from(self.under_way.max(1));
        let longest = self.settings.longest_rest;
        let rest = Duration::try_from_secs_f64(rest).unwrap_or(longest);
        self.owed = self.owed.saturating_add(rest).min(longest);
    }

    /// The share of the time that calls are kept from, 0 at full speed.
    pub(super) fn slowdown(&self, now: Duration) -> f64 {
        1.0 - 1.0 / self.slower(now)
    }

    /// How many times as long as they took calls are to be apart: 1 to [`MOST`].
    fn slower(&self, now: Duration) -> f64 {
        match self.latest {
            Some((ratio, at)) if !self.settings.longest_rest.is_zero() && now.saturating_sub(at) < GOOD_FOR => {
                let beyond = ratio / self.settings.slow_down_over.max(1.0) - 1.0;
                1.0 + (MOST - 1.0) * beyond.clamp(0.0, 1.0)
            }
            _ => 1.0,
        }
    }
}

#[cfg(test)]
mod tests;
