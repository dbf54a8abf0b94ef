use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn settings() -> Settings {
    Settings { calls_per_second: None, in_flight: 16, slow_down_over: 3.0, longest_rest: SECOND }
}

/// A server whose calls, one after the other, take as long as they are told.
struct Caller {
    rule: Rule,
    now: Duration,
    /// In calls, and in waits before them.
    busy: Duration,
    waited: Duration,
    longest: Duration,
}

impl Caller {
    fn new(settings: Settings) -> Self {
        let zero = Duration::ZERO;
        // Some time after the machine was started.
        Self { rule: Rule::new(settings), now: 1000 * SECOND, busy: zero, waited: zero, longest: zero }
    }

    fn call(&mut self, took: Duration, haste: Haste) {
        let wait = self.rule.ask(haste, self.now);
        self.now += wait;
        self.waited += wait;
        self.longest = self.longest.max(wait);
        let measure = self.rule.begin_measured();
        self.now += took;
        self.busy += took;
        assert!(self.rule.is_undisturbed(measure), "nothing else is under way");
        self.rule.learn("scan", took, self.now);
        self.rule.answered(took, self.now);
        self.rule.end(measure);
    }

    fn calls(&mut self, calls: u32, took: Duration) -> Duration {
        let before = self.waited;
        (0..calls).for_each(|_| self.call(took, Haste::Waits));
        self.waited - before
    }
}

#[test]
fn a_server_that_is_as_quick_as_ever_is_called_at_full_speed() {
    let mut caller = Caller::new(settings());
    assert_eq!(caller.calls(1000, MS), Duration::ZERO);
    assert_eq!(caller.calls(1000, 2 * MS), Duration::ZERO, "twice as slow is noise");
    assert_eq!(caller.rule.slowdown(caller.now), 0.0);
}

#[test]
fn a_slow_server_is_left_alone_in_proportion_and_at_most_for_nine_tenths() {
    let mut waits = Vec::new();
    for times in [4, 5, 1000] {
        let mut caller = Caller::new(settings());
        caller.calls(100, MS);
        // Until the smoothed latency is there.
        caller.calls(100, times * MS);
        let took = 100 * times * MS;
        waits.push(caller.calls(100, times * MS).as_secs_f64() / took.as_secs_f64());
    }
    let near = |waited: f64, of: f64| (waited - of).abs() < 0.1 * of;
    assert!(near(waits[0], 3.0) && near(waits[1], 6.0), "{waits:?}");
    assert!(waits[2] < 9.0, "{waits:?}");
}

#[test]
fn full_speed_is_back_as_soon_as_the_server_is() {
    let mut caller = Caller::new(settings());
    caller.calls(100, MS);
    assert!(caller.calls(100, 50 * MS) > 10 * SECOND);
    caller.calls(60, MS);
    assert_eq!(caller.rule.slowdown(caller.now), 0.0);
    assert_eq!(caller.calls(100, MS), Duration::ZERO);
}

#[test]
fn what_was_learned_grows_old() {
    let mut caller = Caller::new(settings());
    caller.calls(100, MS);
    caller.calls(100, 50 * MS);
    assert!(caller.rule.slowdown(caller.now) > 0.5);
    assert_eq!(caller.rule.slowdown(caller.now + GOOD_FOR), 0.0);
}

#[test]
fn a_busy_day_is_no_new_normal_and_a_slower_server_becomes_one() {
    let after = |days: u64| {
        let mut caller = Caller::new(settings());
        caller.calls(100, MS);
        for _ in 0..days * 24 {
            caller.now += 3600 * SECOND;
            caller.calls(10, 12 * MS);
        }
        caller.rule.slowdown(caller.now)
    };
    assert!(after(1) > 0.3, "{}", after(1));
    assert_eq!(after(3), 0.0);
}

#[test]
fn the_noise_of_a_quick_machine_is_none_of_our_business() {
    let mut caller = Caller::new(settings());
    caller.calls(100, Duration::from_micros(10));
    assert_eq!(caller.calls(100, Duration::from_micros(1_900)), Duration::ZERO);
}

#[test]
fn who_is_slow_every_other_time_is_not_the_server() {
    let mut caller = Caller::new(settings());
    caller.calls(100, MS);
    for _ in 0..100 {
        caller.call(5 * MS, Haste::Waits);
        caller.call(MS, Haste::Waits);
    }
    assert_eq!(caller.waited, Duration::ZERO);
    assert!(caller.calls(100, 5 * MS) > SECOND, "each time, it is");
}

#[test]
fn who_waits_for_our_own_calls_does_not_wait_for_a_slow_server() {
    let mut rule = Rule::new(settings());
    let (first, second) = (rule.begin_measured(), rule.begin_measured());
    assert!(
        rule.is_undisturbed(first) && rule.is_undisturbed(second),
        "calls that are measured are used to each other"
    );
    let other = rule.begin();
    let third = rule.begin_measured();
    assert!(![first, second, third, other].into_iter().any(|it| rule.is_undisturbed(it)), "another is under way");
    rule.end(other);
    assert!(![first, third].into_iter().any(|it| rule.is_undisturbed(it)), "or was");
    let alone = rule.begin_measured();
    assert!(rule.is_undisturbed(alone));
}

#[test]
fn no_rest_at_all_where_a_person_wants_none() {
    let mut caller = Caller::new(Settings { longest_rest: Duration::ZERO, ..settings() });
    caller.calls(100, MS);
    assert_eq!(caller.calls(100, 100 * MS), Duration::ZERO);
    assert_eq!(caller.rule.slowdown(caller.now), 0.0);
}

#[test]
fn what_cannot_wait_does_not_and_the_next_one_waits_for_it() {
    let mut caller = Caller::new(settings());
    caller.calls(100, MS);
    (0..100).for_each(|_| caller.call(100 * MS, Haste::AtOnce));
    assert_eq!(caller.waited, Duration::ZERO, "S2: a confirmation does not age");
    caller.call(MS, Haste::Waits);
    assert_eq!(caller.longest, SECOND, "and no longer than the longest rest");
}

#[test]
fn calls_at_the_same_time_rest_at_the_same_time() {
    let mut rule = Rule::new(settings());
    let mut now = 1000 * SECOND;
    rule.learn("scan", MS, now);
    for _ in 0..100 {
        now += MS;
        rule.learn("scan", 600 * MS, now);
    }
    for _ in 0..8 {
        rule.begin();
    }
    (0..8).for_each(|_| {
        rule.answered(10 * MS, now);
    });
    let waits: Vec<Duration> = (0..8).map(|_| rule.ask(Haste::Waits, now)).collect();
    assert!(waits.iter().all(|wait| (80 * MS..100 * MS).contains(wait)), "nine times 10 ms: {waits:?}");
}

#[test]
fn the_rate_holds_and_is_reached() {
    for rate in [1, 10, 300, 7000] {
        let mut caller = Caller::new(Settings {
            calls_per_second: NonZeroU32::new(rate),
            longest_rest: Duration::ZERO,
            ..settings()
        });
        let began = caller.now;
        let calls = 20 * rate;
        caller.calls(calls, Duration::from_micros(10));
        let seconds = (caller.now - began).as_secs_f64();
        assert!((19.0..=20.1).contains(&seconds), "{calls} calls at {rate} a second in {seconds} s");
    }
}

#[test]
fn what_cannot_wait_counts_for_the_rate() {
    let mut caller = Caller::new(Settings { calls_per_second: NonZeroU32::new(10), ..settings() });
    (0..50).for_each(|_| caller.call(MS, Haste::AtOnce));
    assert_eq!(caller.waited, Duration::ZERO);
    caller.call(MS, Haste::Waits);
    assert!((4 * SECOND..=5 * SECOND).contains(&caller.waited), "{:?}", caller.waited);
}

#[test]
fn only_so_many_kinds_are_remembered() {
    let mut rule = Rule::new(settings());
    for n in 0..10 * KINDS {
        rule.learn(&format!("facet {n}"), MS, SECOND);
    }
    assert!(rule.kinds.len() <= KINDS);
}

/// Latencies of all sizes, in microseconds: from none to a call's time out.
fn latencies() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(prop_oneof![0..500u64, 500..50_000u64, 0..10_000_000u64], 1..300)
}

proptest! {
    #[test]
    fn a_run_ends(latencies in latencies(), over in 1.0..10.0f64, longest in 0..2000u64) {
        let longest = Duration::from_millis(longest);
        let mut caller = Caller::new(Settings { slow_down_over: over, longest_rest: longest, ..settings() });
        for micros in latencies {
            caller.call(Duration::from_micros(micros), Haste::Waits);
            prop_assert!((0.0..=0.9001).contains(&caller.rule.slowdown(caller.now)));
        }
        prop_assert!(caller.longest <= longest);
        prop_assert!(caller.waited <= 9 * caller.busy, "{:?} for {:?}", caller.waited, caller.busy);
    }

    #[test]
    fn the_slower_the_server_the_longer_it_is_left_alone(before in latencies(), took in 0..1_000_000u64, more in 0..1_000_000u64) {
        let slowdown = |last: u64| {
            let mut caller = Caller::new(settings());
            before.iter().for_each(|micros| caller.call(Duration::from_micros(*micros), Haste::Waits));
            // At the same moment, whatever the last call took.
            let now = caller.now;
            caller.rule.learn("scan", Duration::from_micros(last), now);
            caller.rule.slowdown(now)
        };
        prop_assert!(slowdown(took + more) >= slowdown(took) - 1e-9);
    }

    #[test]
    fn the_rate_is_never_passed(latencies in latencies(), rate in 1..5000u32) {
        let mut caller = Caller::new(Settings { calls_per_second: NonZeroU32::new(rate), ..settings() });
        let began = caller.now;
        let mut calls = 0;
        for micros in latencies {
            caller.call(Duration::from_micros(micros), Haste::Waits);
            calls += 1;
            let begun = caller.now - Duration::from_micros(micros) - began + GRAIN;
            prop_assert!(f64::from(calls - 1) <= begun.as_secs_f64() * f64::from(rate) + 1e-6);
        }
    }
}
