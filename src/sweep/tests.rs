//! How long a confirmation is good, and what a sweep keeps of what went wrong. What it does is tested by the simulation, on calm
//! days and others.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Condemned, Swept};
use crate::clock::Clock;
use crate::stores::Referenced;

/// A clock that is moved by hand.
#[derive(Default)]
struct Hand(Mutex<Duration>);

impl Clock for Hand {
    fn since_boot(&self) -> Duration {
        *self.0.lock().unwrap()
    }
}

#[test]
fn s2_a_confirmation_is_good_from_when_it_was_asked_for_until_its_time_is_up() {
    let clock = Arc::new(Hand::default());
    let seconds = Duration::from_secs;
    let batch = Condemned::new(
        (Vec::new(), None, Referenced::default()),
        seconds(100),
        seconds(5),
        Arc::clone(&clock) as Arc<dyn Clock>,
    );
    for (now, is_fresh, left) in [(100, true, 5), (103, true, 2), (104, true, 1), (105, false, 0), (900, false, 0)] {
        *clock.0.lock().unwrap() = seconds(now);
        assert_eq!((batch.is_fresh(), batch.time_left()), (is_fresh, seconds(left)), "at {now}");
    }
    let endless = Condemned::new((Vec::new(), None, Referenced::default()), seconds(1), Duration::MAX, clock);
    assert!(endless.is_fresh(), "no overflow");
}

#[test]
fn the_first_causes_of_failures_are_kept_and_the_last() {
    let mut swept = Swept::default();
    for n in 1..=8 {
        swept.failure(n.to_string());
        let kept: Vec<String> = (1..=n.min(4)).chain((n > 4).then_some(n)).map(|n| n.to_string()).collect();
        assert_eq!(swept.failures, kept);
    }
}
