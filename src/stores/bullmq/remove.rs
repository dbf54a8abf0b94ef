//! Removing jobs, pipeline by pipeline: only what still is as it was copied, or looked at a moment ago.

use bytes::Bytes;
use redis::RedisResult;

use super::BullmqStore;
use super::script::{COPY, Calls, PIPELINE, REMOVE, data, field, reason};
use crate::domain::ids::CourseId;
use crate::errors::chain;
use crate::stores::redis::link::Lease;
use crate::stores::{Handle, Outcome, StoreError};
use crate::sweep::Condemned;

/// What a delete is called in errors.
pub(super) const DELETE: &str = "remove jobs";

/// What was found of a handle a moment before its delete, or as it was copied.
pub(super) enum Looked {
    /// It is still whose it was; the digest of its state.
    Same(Bytes),
    Absent,
    /// It stays, since it changed or is at work.
    Stays,
    /// It stays; why, in words.
    Failed(String),
}

impl BullmqStore {
    /// Removes the batch and adds the outcomes of what was sent.
    pub(super) async fn remove(&self, mut lease: Lease, batch: &Condemned, outcomes: &mut Vec<Outcome>) {
        for (n, handles) in batch.handles().chunks(PIPELINE).enumerate() {
            // Of the look and of the removal, for which the time that is left is asked after it.
            let turn = lease.turn().await;
            if !batch.is_fresh() {
                break;
            }
            lease.limit(batch.time_left());
            let receipts = batch.safe().map(|safe| safe.receipts.iter().skip(n * PIPELINE).take(handles.len()));
            let looked = match receipts {
                Some(receipts) => Ok(receipts.map(|receipt| Looked::Same(receipt.0.clone())).collect()),
                None => self.look(&mut lease, handles).await,
            };
            // A look takes time as well.
            if !batch.is_fresh() {
                break;
            }
            lease.limit(batch.time_left());
            let sent = match looked {
                Ok(looked) => self.send(&mut lease, handles, looked).await,
                Err(error) => Err(error),
            };
            turn.end();
            match sent {
                Ok(answers) => outcomes.extend(answers),
                Err(error) => {
                    outcomes.extend(handles.iter().map(|_| Outcome::Failed(chain(&error))));
                    return;
                }
            }
            tracing::debug!(
                target: "course_gc::moment",
                store = self.nodes.name(),
                moment = "deleting",
                handled = outcomes.len(),
                of = batch.handles().len(),
            );
        }
        lease.give_back();
    }

    /// Sends the removals of those that may go, in their order.
    async fn send(
        &self,
        lease: &mut Lease,
        handles: &[Handle],
        looked: Vec<Looked>,
    ) -> Result<Vec<Outcome>, StoreError> {
        let mut calls = Calls::of(REMOVE, self.reach);
        for (handle, looked) in handles.iter().zip(&looked) {
            if let Looked::Same(digest) = looked {
                let base = super::script::base(&self.queues, &handle.key).unwrap_or_default();
                calls.add(&handle.key, base, [&digest[..]]);
            }
        }
        let mut answers = calls.send_now::<String>(lease).await?.into_iter();
        let outcome = |looked| match looked {
            Looked::Absent => Outcome::Absent,
            Looked::Stays => STAYS,
            Looked::Failed(why) => Outcome::Failed(why),
            Looked::Same(_) => match answers.next() {
                Some(answer) => self.outcome(lease, answer),
                None => Outcome::Unattempted,
            },
        };
        Ok(looked.into_iter().map(outcome).collect())
    }

    fn outcome(&self, lease: &Lease, answer: RedisResult<String>) -> Outcome {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return Outcome::Failed(chain(&lease.call().failed(error))),
        };
        match answer.as_str() {
            "removed" => Outcome::Deleted { resources: 1, bytes: None },
            "absent" => Outcome::Absent,
            "locked" | "scheduled" | "children" | "changed" => STAYS,
            other => Outcome::Failed(reason(other, self.reach).unwrap_or_else(|| {
                lease.call().unusable(format_args!("the removal of a job answered `{other}`")).to_string()
            })),
        }
    }

    /// Looks at jobs a moment before they go, for who copies none.
    async fn look(&self, lease: &mut Lease, handles: &[Handle]) -> Result<Vec<Looked>, StoreError> {
        let mut calls = Calls::of(COPY, self.reach);
        for handle in handles {
            let base = super::script::base(&self.queues, &handle.key).unwrap_or_default();
            calls.add(&handle.key, base, [&b"look"[..]]);
        }
        let answers = calls.send_now::<Vec<Bytes>>(lease).await?;
        let looked = handles.iter().zip(answers).map(|(handle, answer)| match answer {
            Ok(answer) => self.judge_look(handle, &answer),
            Err(error) => Looked::Failed(chain(&lease.call().failed(error))),
        });
        Ok(looked.collect())
    }

    /// What an answer of [`COPY`] says about a handle.
    pub(super) fn judge_look(&self, handle: &Handle, answer: &[Bytes]) -> Looked {
        let kind = String::from_utf8_lossy(field(answer, 0));
        match &kind[..] {
            "" => Looked::Absent,
            "job" | "scheduler" => match self.named(&handle.key, data(answer, 1)) {
                Some(named) if named.owner == handle.owner && named.mentions.iter().all(|id| is_known(handle, *id)) => {
                    Looked::Same(answer.get(3).cloned().unwrap_or_default())
                }
                _ => Looked::Failed("it names others than it did when it was located".to_owned()),
            },
            "locked" => Looked::Stays,
            other => Looked::Failed(reason(other, self.reach).unwrap_or_else(|| format!("it is `{other}`"))),
        }
    }
}

const STAYS: Outcome = Outcome::Partly { resources: 0, bytes: None, left: 1 };

fn is_known(handle: &Handle, id: CourseId) -> bool {
    id == handle.owner || handle.mentions.contains(&id)
}
