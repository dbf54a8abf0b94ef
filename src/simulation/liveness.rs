//! Who knows what is live, in memory: one campus, asked through a session that holds its lock.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use super::locks::{MemoryLock, lost, take};
use super::observer::{Asking, Question};
use super::safeguards::Safeguard;
use super::world::{State, Who, World};
use crate::domain::ids::{CourseId, IdType};
use crate::domain::live_set::LiveSet;
use crate::domain::pins::{Position, SourcePin};
use crate::domain::tombstones::Rows;
use crate::liveness::{Liveness, LivenessSources, Polls};
use crate::postgres::{AdvisoryLock, PostgresError};

/// The name of the one liveness source.
const SOURCE: &str = "campus";

/// One process's access to a campus.
pub struct MemorySources {
    pub world: Arc<World>,
    pub who: Who,
    /// Which server the campus is in.
    pub cluster: usize,
    /// What does not work.
    pub without: Option<Safeguard>,
}

/// A campus that can be asked, since its lock is held.
struct MemoryLiveness {
    world: Arc<World>,
    who: Who,
    cluster: usize,
    pin: SourcePin,
    position: Position,
    server: String,
    lock: MemoryLock,
    without: Option<Safeguard>,
}

#[async_trait]
impl LivenessSources for MemorySources {
    async fn lock(&self) -> Result<Box<dyn Liveness>, PostgresError> {
        let (world, who, cluster, without) = (Arc::clone(&self.world), self.who, self.cluster, self.without);
        let lock = take(&world, who, cluster, AdvisoryLock::Liveness).await?;
        let seen = world.call(who, |state| {
            let server = &state.clusters[cluster];
            server.up.then(|| (server.pin(), server.position, server.server()))
        });
        let (mut pin, mut position, server) = seen.await.ok().flatten().ok_or_else(|| lost(SOURCE))?;
        let adoption = world.state().tables(who).and_then(|tables| tables.adoption.clone());
        if let Some((pinned, seen)) = adoption.and_then(|adoption| adoption.sources.get(SOURCE).cloned()) {
            // A safeguard that is blind sees what it wants to see.
            if without == Some(Safeguard::Pins) {
                pin = pinned;
            }
            if without == Some(Safeguard::Position) {
                position = seen;
            }
        }
        Ok(Box::new(MemoryLiveness { world, who, cluster, pin, position, server, lock, without }))
    }

    async fn glance(&self, ids: &BTreeSet<CourseId>) -> Result<LiveSet, PostgresError> {
        let cluster = self.cluster;
        let live = self.world.call(self.who, |state| {
            let server = &state.clusters[cluster];
            let live = ids.iter().filter(|id| server.courses.contains_key(id)).copied();
            server.up.then(|| LiveSet::from_ids(IdType::Integer, live))
        });
        live.await.ok().flatten().ok_or_else(|| lost(SOURCE))
    }
}

impl MemoryLiveness {
    /// A question: it counts only if the lock is held.
    async fn ask<T>(&self, effect: impl FnOnce(&mut State) -> T) -> Result<T, PostgresError> {
        let blind = self.without == Some(Safeguard::LockWithQuestion);
        let (cluster, token) = (self.cluster, self.lock.token());
        let answer = self.world.call(self.who, |state| {
            let held = state.clusters[cluster].holds(AdvisoryLock::Liveness, token);
            (held || (blind && state.clusters[cluster].up)).then(|| effect(state))
        });
        answer.await.ok().flatten().ok_or_else(|| lost(SOURCE))
    }
}

#[async_trait]
impl Liveness for MemoryLiveness {
    fn pins(&self) -> Vec<(String, SourcePin, Position)> {
        vec![(SOURCE.to_owned(), self.pin.clone(), self.position)]
    }

    fn server(&self, _: &str) -> Option<&str> {
        Some(&self.server)
    }

    async fn read(&self) -> Result<Vec<(String, LiveSet, Position)>, PostgresError> {
        let (who, cluster) = (self.who, self.cluster);
        let blind = self.without == Some(Safeguard::Position);
        let live = self.ask(|state| {
            let live = LiveSet::from_ids(IdType::Integer, state.clusters[cluster].courses.keys().copied());
            state.observer.read(who, live.len(), self.world.now());
            (live, state.clusters[cluster].position)
        });
        let (live, position) = live.await?;
        Ok(vec![(SOURCE.to_owned(), live, if blind { self.position } else { position })])
    }

    async fn live_among(&self, ids: &BTreeSet<CourseId>) -> Result<LiveSet, PostgresError> {
        let (who, cluster, now) = (self.who, self.cluster, self.world.now());
        let question = self.world.state().observer.next_question(who, ids);
        let deaf = matches!(
            (self.without, question),
            (Some(Safeguard::AskAgain), Question::AboutOrphans)
                | (Some(Safeguard::ConfirmBeforeDelete), Question::BeforeDelete)
                | (Some(Safeguard::ConfirmAgain), Question::AfterDelete)
                | (Some(Safeguard::PurgeAsks), Question::BeforePurge)
        );
        if deaf {
            return Ok(LiveSet::empty(IdType::Integer));
        }
        let token = self.lock.token();
        let live = self.ask(|state| {
            let server = &state.clusters[cluster];
            let live = ids.iter().filter(|id| server.courses.contains_key(id)).copied();
            let live = LiveSet::from_ids(IdType::Integer, live);
            let lock_held = server.holds(AdvisoryLock::Liveness, token);
            let pinned = state.tables(who).and_then(|tables| tables.adoption.as_ref()?.sources.get(SOURCE));
            let adopted = pinned.is_some_and(|(pin, _)| *pin == server.pin());
            let breaks = state.observer.breaks;
            state.observer.asked(who, ids, &live, Asking { at: now, lock_held, adopted, breaks });
            live
        });
        let live = live.await?;
        self.world.state().observer.answered(who, &live);
        Ok(live)
    }

    async fn tombstones(&self) -> Polls {
        let (who, cluster) = (self.who, self.cluster);
        // A story without them tells what it told before there were any.
        if self.world.state().clusters[cluster].graves.is_none() {
            return Polls::new();
        }
        let polled = self.ask(|state| {
            let now = self.world.now();
            let graves = state.clusters[cluster].graves.clone().unwrap_or_default();
            state.observer.polled(who, graves.newest());
            graves.tombstones(now)
        });
        vec![(SOURCE.to_owned(), polled.await)]
    }

    async fn remove_tombstones(&self, rows: &Rows) -> Result<(), PostgresError> {
        let blind = self.without == Some(Safeguard::VoidTombstones);
        self.ask(|state| {
            if let Some(graves) = state.clusters[self.cluster].graves.as_mut().filter(|_| !blind) {
                rows.iter().for_each(|(_, rows)| graves.remove(rows));
            }
        })
        .await
    }

    fn references(&self, _: &str) -> BoxStream<'_, Result<Vec<u8>, PostgresError>> {
        let (who, cluster) = (self.who, self.cluster);
        let asked = async move {
            let nth = self.world.state().observer.next_reference_question(who);
            let deaf = self.without == Some(Safeguard::ReferencesWithBatch) && nth > 0;
            let now = self.world.now();
            let answer = self.world.call(who, |state| {
                let server = &state.clusters[cluster];
                server.up.then(|| server.references.clone())
            });
            let rows = answer.await.ok().flatten().ok_or_else(|| lost(SOURCE))?;
            if deaf {
                return Ok(futures::stream::empty().boxed());
            }
            self.world.state().observer.references(who, &rows, now);
            Ok(futures::stream::iter(rows.into_iter().map(Ok)).boxed())
        };
        futures::stream::once(asked).try_flatten().boxed()
    }

    async fn verify(&self) -> Result<(), PostgresError> {
        self.ask(|_| ()).await
    }

    async fn release(self: Box<Self>) {
        drop(self);
    }
}

impl fmt::Debug for MemoryLiveness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryLiveness").field("who", &self.who).field("cluster", &self.cluster).finish()
    }
}
