//! Redis: the keys.

use anyhow::Result;

use super::matrix::{Most, Stage, Struck, When, play};

/// What is asked of Redis in a run, in order. A batch is sent at once; the first is one key, the second ten.
const STAGES: [Stage; 8] = [
    Stage { name: "before the run", when: When::First, most: Most::Nothing },
    Stage { name: "places: the marker is read", when: When::Sent(&[b"course-gc:marker"]), most: Most::Nothing },
    Stage { name: "places: the marker is moved", when: When::Sent(&[b"EVAL"]), most: Most::Nothing },
    Stage { name: "inventory", when: When::Sent(&[b"SCAN"]), most: Most::Nothing },
    Stage { name: "the inventory's end", when: When::Sent(&[b"SCAN", b"INFO"]), most: Most::Nothing },
    Stage { name: "locate", when: When::Sent(&[b"SCAN", b"PING", b"SCAN"]), most: Most::Nothing },
    Stage { name: "delete", when: When::Sent(&[b"UNLINK"]), most: Most::Handles(1) },
    Stage { name: "the next batch", when: When::Sent(&[b"UNLINK", b"UNLINK"]), most: Most::Handles(11) },
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s4_s11_redis_fails_at_every_stage() -> Result<()> {
    play(Struck::Redis, &STAGES, 6).await
}
