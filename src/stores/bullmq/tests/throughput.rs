//! How many jobs go in a second, beside BullMQ's own removal: numbers for docs/deep.md, not for judging.

use sandbox::{Bullmq, Redis};
use serde_json::json;
use tokio::time::Instant;

use super::*;

const QUEUE: &str = "course-generation";
/// Where BullMQ removes as many.
const OTHER_QUEUE: &str = "qdrant-reindex";
const JOBS: usize = 10_000;
/// As many jobs in a batch as by default.
const BATCH: usize = 1000;

/// The longest call of a script, and all of them together, in microseconds, since [`forget`].
async fn at_work(connection: &mut MultiplexedConnection) -> (u64, u64) {
    type Entry = (u64, u64, u64, Vec<Bytes>, Bytes, Bytes);
    let entries: Vec<Entry> = cmd("SLOWLOG").arg("GET").arg(-1).query_async(connection).await.unwrap();
    let scripts = entries.iter().filter(|entry| entry.3.first().is_some_and(|name| &name[..] == b"EVALSHA"));
    scripts.map(|entry| entry.2).fold((0, 0), |(most, sum), took| (most.max(took), sum + took))
}

/// Everything that follows is logged.
async fn forget(connection: &mut MultiplexedConnection) {
    let mut set = cmd("CONFIG");
    set.arg("SET").arg("slowlog-log-slower-than").arg(0).arg("slowlog-max-len").arg(100_000);
    set.query_async::<()>(connection).await.unwrap();
    cmd("SLOWLOG").arg("RESET").query_async::<()>(connection).await.unwrap();
}

#[tokio::test]
#[ignore = "measures, and judges nothing: part of `make deep`"]
async fn jobs_removed_in_a_second() {
    let redis = Redis::start().await.unwrap();
    let bullmq = Bullmq { major: 5, url: redis.url(), prefix: PREFIX.into() };
    let store = store(&redis.url(), IdType::Uuid, &[QUEUE]);
    let mut connection = connect(&redis.url()).await;
    for (state, options) in [("waiting", json!({})), ("delayed", json!({ "delay": 3_600_000 }))] {
        let fill = |queue: &str| {
            let data = json!({ "courseId": uuid(1).to_string(), "text": "x".repeat(1000) });
            json!({ "do": "fill", "queue": queue, "count": JOBS, "id": "job", "data": data, "options": options })
        };
        bullmq.drive(json!([fill(QUEUE), fill(OTHER_QUEUE)])).await.unwrap();

        forget(&mut connection).await;
        let handles = located(&store, &targets(&store, [uuid(1)])).await;
        assert_eq!(handles.len(), JOBS);
        let (mut copying, mut removing) = (Duration::ZERO, Duration::ZERO);
        for handles in handles.chunks(BATCH) {
            let began = Instant::now();
            let (items, batch) = copied(&store, handles).await;
            copying += began.elapsed();
            assert_eq!(items.len(), handles.len());
            let began = Instant::now();
            let outcomes = store.delete(&batch).await.outcomes;
            removing += began.elapsed();
            assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Deleted { .. })));
        }
        let (slowest, busy) = at_work(&mut connection).await;

        let steps = json!([{ "do": "removeAll", "queue": OTHER_QUEUE, "count": JOBS, "id": "job" }]);
        let took = bullmq.drive(steps).await.unwrap()[0].as_f64().unwrap();
        let (ours, theirs) = (JOBS as f64 / (copying + removing).as_secs_f64(), JOBS as f64 / took);
        println!(
            "{state}: {ours:.0} jobs a second, copied and removed ({:.0} and {:.0}); BullMQ, one by one, {theirs:.0}: {:.1} times \
             as many; the longest call {slowest} µs, all {:.1} s",
            JOBS as f64 / copying.as_secs_f64(),
            JOBS as f64 / removing.as_secs_f64(),
            ours / theirs,
            busy as f64 / 1e6,
        );
    }
}
