//! Postgres: the truth and the ledger at once.

use anyhow::Result;

use super::fault::Struck;
use super::matrix::{Most, Stage, When, play};
use crate::interposed::Call;

/// What is asked of Postgres in a run, in order. With batches of 1, 10, …, the first one is in hand where an outcome is
/// written; where keys are about to go, the other stores may be further.
const STAGES: [Stage; 17] = [
    Stage { name: "before the run", when: When::First, most: Most::Nothing },
    Stage { name: "locks", when: When::Sent(&[b"pg_try_advisory_lock"]), most: Most::Nothing },
    Stage {
        name: "places: what was adopted",
        when: When::Sent(&[b"FROM course_gc.adopted_stores"]),
        most: Most::Nothing,
    },
    Stage { name: "places: before a marker moves", when: When::Sent(&[b"pending = $3"]), most: Most::Nothing },
    Stage { name: "places: after it moved", when: When::Sent(&[b"pending = NULL WHERE"]), most: Most::Nothing },
    Stage { name: "live set", when: When::Sent(&[b"COPY (SELECT live.id"]), most: Most::Nothing },
    Stage { name: "inventory", when: When::Before("cache", Call::Inventory, &[]), most: Most::Nothing },
    Stage { name: "ask again", when: When::Sent(&[b"SELECT DISTINCT live.id"]), most: Most::Nothing },
    Stage { name: "references", when: When::Sent(&[b"SELECT reference::text"]), most: Most::Nothing },
    Stage { name: "orphans are recorded", when: When::Sent(&[b"INSERT INTO course_gc.orphans"]), most: Most::Nothing },
    Stage { name: "the plan is recorded", when: When::Sent(&[b"SET decision = d.decision"]), most: Most::Nothing },
    Stage { name: "intent", when: When::Sent(&[INTENT]), most: Most::Nothing },
    Stage { name: "confirm", when: When::Sent(&[INTENT, QUESTION]), most: Most::Nothing },
    Stage { name: "delete", when: When::Before("cache", Call::Delete, &[]), most: Most::HandlesOf("cache", 1) },
    Stage {
        name: "confirm again",
        when: When::Before("cache", Call::Delete, &[QUESTION]),
        most: Most::HandlesOf("cache", 1),
    },
    Stage { name: "outcome", when: When::Sent(&[OUTCOME]), most: Most::Handles(1) },
    Stage { name: "the run's end", when: When::Sent(&[b"verdict = $2, report = $3"]), most: Most::Everything },
];

const INTENT: &[u8] = b"INSERT INTO course_gc.intents";
const OUTCOME: &[u8] = b"WITH outcome AS";
const QUESTION: &[u8] = b"BEGIN TRANSACTION READ ONLY";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s4_s11_postgres_fails_at_every_stage() -> Result<()> {
    play(Struck::Postgres, &STAGES, 8).await
}
