//! What hangs together: a job with its flow, a scheduler with its next job. All of it is judged together.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;

use super::BullmqStore;
use super::names::Key;
use super::owner::Named;
use super::script::{Calls, FACTS, LIMIT, PIPELINE, data, field};
use crate::domain::ids::CourseId;
use crate::domain::inventory::SourceIndex;
use crate::errors::chain;
use crate::stores::StoreError;
use crate::stores::redis::Seen;
use crate::stores::redis::link::Lease;

/// The most jobs of a flow that are looked at; a larger one stays.
const LARGEST: usize = 1000;

/// One of those that hang together.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) key: Vec<u8>,
    pub(super) source: SourceIndex,
    /// `None` if nobody can tell whose it is.
    pub(super) named: Option<Named>,
    /// False if the pass has met it before.
    pub(super) is_new: bool,
}

/// Those that hang together with a job: itself too, unless it has gone. In the order in which they may go: a scheduler before
/// its next job, children before their parent.
#[derive(Debug, Default)]
pub(super) struct Together {
    pub(super) members: Vec<Member>,
    /// Some of them are in no queue of the store, or too many to be looked at: all of them stay.
    pub(super) beyond: bool,
}

impl Together {
    /// Everybody who is named in any of them; `None` if nobody can tell.
    pub(super) fn everybody(&self) -> Option<BTreeSet<CourseId>> {
        let mut all = BTreeSet::new();
        for member in &self.members {
            all.extend(member.named.as_ref()?.all());
        }
        (!self.beyond).then_some(all)
    }
}

/// What the server knows of one hash.
struct Facts {
    /// `job`, `scheduler` or `large`.
    kind: Bytes,
    named: Option<Named>,
    parent: Option<Vec<u8>>,
    /// A job's scheduler, if it is its next job; a scheduler's next job.
    scheduled: Option<Member>,
    children: Vec<Vec<u8>>,
}

impl BullmqStore {
    /// What hangs together with these jobs, as far as the pass has not met it before: each flow once.
    pub(super) async fn together(
        &self,
        lease: &mut Lease,
        keys: &[&[u8]],
        seen: &mut Seen,
    ) -> Result<Vec<Together>, StoreError> {
        let mut all = Vec::with_capacity(keys.len());
        for keys in keys.chunks(PIPELINE) {
            for (key, facts) in keys.iter().zip(self.facts(lease, keys).await?) {
                let Some(facts) = facts.filter(|_| seen.first_time(key)) else { continue };
                let mut together = self.hang_together(lease, key, facts).await?;
                for member in &mut together.members {
                    member.is_new = member.key == *key || seen.first_time(&member.key);
                }
                all.push(together);
            }
        }
        Ok(all)
    }

    async fn hang_together(&self, lease: &mut Lease, key: &[u8], facts: Facts) -> Result<Together, StoreError> {
        let Some(itself) = self.member(key, facts.named.clone()) else { return Ok(Together::default()) };
        if &facts.kind[..] == b"large" {
            return Ok(Together { members: vec![itself], beyond: true });
        }
        let Some(scheduled) = facts.scheduled else {
            if facts.parent.is_none() && facts.children.is_empty() {
                return Ok(Together { members: vec![itself], beyond: false });
            }
            return self.flow(lease, key, facts).await;
        };
        let is_scheduler = &facts.kind[..] == b"scheduler";
        let members = if is_scheduler { vec![itself, scheduled] } else { vec![scheduled, itself] };
        // A next job of one course and a scheduler of another one are not taken apart.
        let owners: BTreeSet<_> = members.iter().map(|member| member.named.as_ref().map(|named| named.owner)).collect();
        let beyond = owners.len() > 1 || facts.parent.is_some() || !facts.children.is_empty();
        Ok(Together { members, beyond })
    }

    /// All of a flow, from any of its jobs.
    async fn flow(&self, lease: &mut Lease, key: &[u8], facts: Facts) -> Result<Together, StoreError> {
        let mut beyond = false;
        let mut known: HashMap<Vec<u8>, Option<Facts>> = HashMap::new();
        let mut next: Vec<Vec<u8>> = facts.parent.iter().chain(&facts.children).cloned().collect();
        known.insert(key.to_vec(), Some(facts));
        while !next.is_empty() && known.len() <= LARGEST {
            next.sort_unstable();
            next.dedup();
            next.retain(|key| !known.contains_key(key));
            let (ours, others): (Vec<_>, Vec<_>) =
                next.drain(..).partition(|key| matches!(self.queues.read(key), Key::Job(..)));
            beyond |= self.any_exists(lease, &others).await?;
            known.extend(others.into_iter().map(|key| (key, None)));
            for keys in ours.chunks(PIPELINE) {
                let names: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
                for (key, facts) in keys.iter().zip(self.facts(lease, &names).await?) {
                    if let Some(facts) = &facts {
                        beyond |= &facts.kind[..] != b"job" || facts.scheduled.is_some();
                        next.extend(facts.parent.iter().chain(&facts.children).cloned());
                    }
                    known.insert(key.clone(), facts);
                }
            }
        }
        beyond |= !next.is_empty();
        let depths = depths(&known);
        let mut keys: Vec<&Vec<u8>> = known.iter().filter(|(_, facts)| facts.is_some()).map(|(key, _)| key).collect();
        keys.sort_unstable_by_key(|key| (std::cmp::Reverse(depths.get(*key)), *key));
        let named = |key: &Vec<u8>| known.get(key).and_then(Option::as_ref).and_then(|facts| facts.named.clone());
        let members = keys.into_iter().filter_map(|key| self.member(key, named(key))).collect();
        Ok(Together { members, beyond })
    }

    fn member(&self, key: &[u8], named: Option<Named>) -> Option<Member> {
        match self.queues.read(key) {
            Key::Job(queue, _) => Some(Member { key: key.to_vec(), source: queue.source, named, is_new: true }),
            _ => None,
        }
    }

    /// True as well if they lie in another slot of a cluster: no script can remove a job and its parent in two slots.
    async fn any_exists(&self, lease: &mut Lease, keys: &[Vec<u8>]) -> Result<bool, StoreError> {
        if keys.is_empty() {
            return Ok(false);
        }
        let turn = lease.turn().await;
        let exists = redis::cmd("EXISTS").arg(keys).query_async::<i64>(lease.connection()).await;
        turn.end();
        match exists {
            Ok(there) => Ok(there > 0),
            Err(error) if matches!(error.code(), Some("MOVED" | "ASK" | "CROSSSLOT")) => Ok(true),
            Err(error) => Err(lease.call().failed(error)),
        }
    }

    /// What the server knows of each of these hashes, which are in queues of the store; `None` of what has gone.
    async fn facts(&self, lease: &mut Lease, keys: &[&[u8]]) -> Result<Vec<Option<Facts>>, StoreError> {
        let mut calls = Calls::of(FACTS, LIMIT);
        for key in keys {
            calls.add(key, super::script::base(&self.queues, key).unwrap_or_default(), []);
        }
        let answers = calls.send::<Vec<Bytes>>(lease).await?;
        let mut facts = Vec::with_capacity(keys.len());
        for (key, answer) in keys.iter().zip(answers) {
            facts.push(match answer {
                Ok(answer) => self.read_facts(key, &answer),
                // What is no hash is no job.
                Err(error) if chain(&error).contains("WRONGTYPE") => None,
                Err(error) => return Err(lease.call().failed(error)),
            });
        }
        Ok(facts)
    }

    fn read_facts(&self, key: &[u8], answer: &[Bytes]) -> Option<Facts> {
        let kind = answer.first().filter(|kind| !kind.is_empty())?.clone();
        let related = field(answer, 4);
        let scheduled = (!related.is_empty()).then(|| {
            let related = [super::script::base(&self.queues, key).unwrap_or_default(), related].concat();
            let named = self.named(&related, data(answer, 5));
            self.member(&related, named)
        });
        Some(Facts {
            named: self.named(key, data(answer, 1)),
            parent: Some(field(answer, 3).to_vec()).filter(|parent| !parent.is_empty()),
            scheduled: scheduled.flatten(),
            children: answer.iter().skip(7).map(|child| child.to_vec()).collect(),
            kind,
        })
    }
}

/// How many ancestors each job of a flow has.
fn depths(known: &HashMap<Vec<u8>, Option<Facts>>) -> BTreeMap<Vec<u8>, usize> {
    let parent = |key: &[u8]| known.get(key).and_then(Option::as_ref).and_then(|facts| facts.parent.as_deref());
    let depth = |key: &[u8]| {
        let (mut at, mut depth) = (key, 0);
        // What names itself as its ancestor comes to an end as well.
        while let Some(above) = parent(at)
            && depth < known.len()
        {
            (at, depth) = (above, depth + 1);
        }
        depth
    };
    known.keys().map(|key| (key.clone(), depth(key))).collect()
}
