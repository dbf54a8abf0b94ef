//! The scripts that run in the server, one job or scheduler a call, and what they answer.
//!
//! Each looks through at most [`LIMIT`] elements of a list from either end, and at as many beside a job: a server has one
//! thread, and nobody else's jobs should wait. What lies beyond is refused.

use bytes::Bytes;
use redis::{Pipeline, RedisResult};

use super::names::{Key, Queues};
use crate::stores::StoreError;
use crate::stores::redis::link::Lease;

/// How many elements of a list are looked through from either end, and how many may lie beside a job.
pub(super) const LIMIT: u32 = 10_000;
/// How many calls are sent at once.
pub(super) const PIPELINE: usize = 100;

/// A script; the first part is common to all.
#[derive(Debug, Clone, Copy)]
pub(super) struct Script(&'static str);

pub(super) const FACTS: Script = Script(concat!(include_str!("scripts/common.lua"), include_str!("scripts/facts.lua")));
pub(super) const COPY: Script = Script(concat!(include_str!("scripts/common.lua"), include_str!("scripts/copy.lua")));
pub(super) const REMOVE: Script =
    Script(concat!(include_str!("scripts/common.lua"), include_str!("scripts/remove.lua")));
pub(super) const PUT_BACK: Script =
    Script(concat!(include_str!("scripts/common.lua"), include_str!("scripts/put_back.lua")));

/// Calls of one script that are sent together.
pub(super) struct Calls {
    pipeline: Pipeline,
    digest: String,
    limit: u32,
    count: usize,
}

impl Calls {
    /// No call yet; the script is made known before the first.
    pub(super) fn of(script: Script, limit: u32) -> Self {
        let mut pipeline = redis::pipe();
        pipeline.ignore_errors();
        pipeline.cmd("SCRIPT").arg("LOAD").arg(script.0).ignore();
        Self { pipeline, digest: redis::Script::new(script.0).get_hash().to_owned(), limit, count: 0 }
    }

    /// Adds a call for the hash `key`, whose queue's keys begin with `base`.
    pub(super) fn add<'a>(&mut self, key: &[u8], base: &[u8], further: impl IntoIterator<Item = &'a [u8]>) {
        let id = key.get(base.len()..).unwrap_or_default();
        let call = self.pipeline.cmd("EVALSHA").arg(&self.digest).arg(1).arg(key).arg(base).arg(id).arg(self.limit);
        further.into_iter().for_each(|argument| {
            call.arg(argument);
        });
        self.count += 1;
    }

    /// Sends them in their turn; one answer a call.
    pub(super) async fn send<T: redis::FromRedisValue>(
        &self,
        lease: &mut Lease,
    ) -> Result<Vec<RedisResult<T>>, StoreError> {
        let turn = lease.turn().await;
        let answers = self.send_now(lease).await;
        turn.end();
        answers
    }

    /// Sends them; for whoever has the turn.
    pub(super) async fn send_now<T: redis::FromRedisValue>(
        &self,
        lease: &mut Lease,
    ) -> Result<Vec<RedisResult<T>>, StoreError> {
        if self.count == 0 {
            return Ok(Vec::new());
        }
        let answers: RedisResult<Vec<RedisResult<T>>> = self.pipeline.query_async(lease.connection()).await;
        let answers = answers.map_err(|error| lease.call().failed(error))?;
        if answers.len() != self.count {
            let why = format_args!("{} answers to {} calls", answers.len(), self.count);
            return Err(lease.call().unusable(why));
        }
        Ok(answers)
    }
}

/// What the keys of a job's queue begin with; `None` if the key is of no queue of the store.
pub(super) fn base<'a>(queues: &Queues, key: &'a [u8]) -> Option<&'a [u8]> {
    match queues.read(key) {
        Key::Job(queue, _) => Some(queue.base),
        _ => None,
    }
}

/// Why a job stays, by what a script answered.
pub(super) fn reason(answer: &str, limit: u32) -> Option<String> {
    let why = match answer {
        "locked" => "it is being worked on".to_owned(),
        "scheduled" => "it is the next job of a scheduler that stays".to_owned(),
        "children" => "it has children that are still there".to_owned(),
        "changed" => "it has changed".to_owned(),
        "large" => format!("more than {limit} fields, log lines and children belong to it; remove it through BullMQ"),
        "far" => format!(
            "it is further than {limit} jobs from either end of its queue's list, and is not looked for there; wait, or \
             remove it through BullMQ"
        ),
        _ => return None,
    };
    Some(why)
}

/// A field of a script's answer, empty if there is none.
pub(super) fn field(answer: &[Bytes], at: usize) -> &[u8] {
    answer.get(at).map_or(&[], |field| field)
}

/// Data that a script gave after a word that says whether there are any.
pub(super) fn data(answer: &[Bytes], at: usize) -> Option<&[u8]> {
    (!field(answer, at).is_empty()).then(|| field(answer, at + 1))
}
