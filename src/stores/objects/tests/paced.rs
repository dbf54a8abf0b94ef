//! A store is kind to its server: no more calls are under way than may be.

use std::sync::Arc;

use sandbox::{Behaviour, Proxy};

use super::*;
use crate::clock::MachineClock;
use crate::pace::Settings;

#[tokio::test]
async fn no_more_calls_are_under_way_than_may_be() {
    let (server, direct, _) = bed().await;
    for n in 0..40 {
        direct.put(&format!("org/7/{n:04}"), &b"x"[..]).await;
    }
    let most = async |in_flight: Option<usize>| {
        let proxy = Proxy::before(server.port()).unwrap();
        // So that calls meet.
        proxy.switch(Behaviour::Delay(Duration::from_millis(10)));
        let url = format!("http://127.0.0.1:{}", proxy.port());
        let settings = BucketSettings { url, ..settings(server.url(), Objects::BUCKET) };
        let store = store_with(&settings, IdType::Integer, LAYOUT);
        let pace = in_flight.map(|in_flight| Settings { in_flight, ..Pace::default().settings() });
        let pace = pace.map_or_else(Pace::default, |settings| Pace::new(settings, Arc::new(MachineClock)));
        let store = store.paced(pace);
        let handles = located(&store, &targets([COURSE])).await;
        let copied = copy(&store, in_flight.map_or(0, |_| 1), &handles).await;
        assert!(copied.iter().all(|copied| matches!(copied, Copied::Whole(_))), "{copied:?}");
        proxy.most_waiting()
    };
    assert!(most(None).await > 3);
    assert_eq!(most(Some(3)).await, 3);
}
