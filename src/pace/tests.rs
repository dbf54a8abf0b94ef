use std::pin::pin;
use std::sync::atomic::AtomicUsize;

use futures::future::join_all;
use tokio::time::timeout;

use super::*;

/// Long enough for a slow machine.
const SOON: Duration = Duration::from_secs(10);

/// A call an hour, of which the first has been made.
async fn hourly() -> Pace {
    let pace = paced(Settings { calls_per_second: NonZeroU32::new(1), ..Pace::default().settings() });
    at_once(join_all((0..3600).map(|_| pace.call(async {})))).await;
    pace
}

fn paced(settings: Settings) -> Pace {
    Pace::new(settings, Arc::new(MachineClock))
}

#[tokio::test]
async fn s2_what_is_at_once_waits_for_no_rest() {
    let pace = hourly().await;
    let waits = timeout(Duration::from_millis(50), pace.call(async {})).await;
    assert!(waits.is_err(), "others do");
    timeout(SOON, at_once(pace.call(async {}))).await.unwrap();
}

#[tokio::test]
async fn what_is_spawned_waits_as_its_caller_does_if_told_so() {
    let pace = hourly().await;
    let call = || {
        let pace = pace.clone();
        tokio::spawn(as_here(async move { pace.call(async {}).await }))
    };
    timeout(SOON, at_once(async { call().await })).await.unwrap().unwrap();
    assert!(timeout(Duration::from_millis(50), call()).await.is_err(), "others do");
}

#[tokio::test]
async fn whoever_is_stopped_rests_no_more() {
    let pace = hourly().await;
    let stop = CancellationToken::new();
    let mut call = pin!(until(&stop, pace.call(async {})));
    assert!(timeout(Duration::from_millis(50), &mut call).await.is_err());
    stop.cancel();
    timeout(SOON, call).await.unwrap();
    assert!(pace.rested() >= Duration::from_millis(50));
}

#[tokio::test]
async fn no_more_calls_are_under_way_than_may_be() {
    let pace = paced(Settings { in_flight: 3, ..Pace::default().settings() });
    let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let call = async || {
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(1)).await;
        now.fetch_sub(1, Ordering::SeqCst);
    };
    let calls = (0..15).map(|_| pace.call(call()));
    // Also what is in a hurry.
    let hurried = at_once(join_all((0..15).map(|_| pace.call(call()))));
    tokio::join!(join_all(calls), hurried);
    assert_eq!(most.into_inner(), 3);
}

#[tokio::test]
async fn a_call_that_is_given_up_gives_its_place_back_and_tells_nothing() {
    let pace = paced(Settings { in_flight: 2, slow_down_over: 2.0, longest_rest: SOON, ..Pace::default().settings() });
    for _ in 0..3 {
        let hangs = pace.call(std::future::pending::<()>());
        assert!(timeout(Duration::from_millis(1), hangs).await.is_err());
    }
    timeout(SOON, pace.call(async {})).await.unwrap();
    assert_eq!(pace.slowdown(), 0.0);
}
