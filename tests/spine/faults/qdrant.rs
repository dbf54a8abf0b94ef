//! Qdrant: the points.

use anyhow::Result;

use super::matrix::{Most, Stage, Struck, When, play};
use crate::interposed::Call;

/// What is asked of Qdrant in a run, in order. Requests are known by how their messages begin: the collection's name, the
/// next field's number and what is in it.
const STAGES: [Stage; 8] = [
    Stage { name: "before the run", when: When::First, most: Most::Nothing },
    Stage { name: "places: the marker is read", when: When::Sent(&[b"course_embeddings_v1"]), most: Most::Nothing },
    Stage { name: "places: the marker is moved", when: When::Sent(&[b"course_gc"]), most: Most::Nothing },
    Stage { name: "inventory: facet", when: When::Sent(&[FACET]), most: Most::Nothing },
    Stage { name: "inventory: count", when: When::Sent(&[FACET, COUNT]), most: Most::Nothing },
    Stage { name: "locate", when: When::Before("vectors", Call::Locate, &[COUNT]), most: Most::Nothing },
    Stage { name: "delete", when: When::Sent(&[DELETE]), most: Most::Handles(1) },
    Stage { name: "the count after it", when: When::Sent(&[DELETE, COUNT]), most: Most::Handles(1) },
];

const FACET: &[u8] = b"course_embeddings_v1\x12\x09course_id";
/// A filter, which facets without one do not have.
const COUNT: &[u8] = b"course_embeddings_v1\x12";
/// `wait: true`.
const DELETE: &[u8] = b"course_embeddings_v1\x10\x01";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s4_s11_qdrant_fails_at_every_stage() -> Result<()> {
    play(Struck::Qdrant, &STAGES, 6).await
}
