//! Advisory locks in memory: a session has one until it lets go, is dropped, or its server ends it.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::world::{Who, World};
use crate::postgres::{AdvisoryLock, Lock, PostgresError};

/// Where a simulated database is, in messages.
const ADDRESS: &str = "memory";

/// A session that holds a lock.
pub struct MemoryLock {
    world: Arc<World>,
    who: Who,
    cluster: usize,
    lock: AdvisoryLock,
    token: u64,
}

/// A call that was not answered.
pub fn lost(what: &str) -> PostgresError {
    PostgresError::Lost { what: what.to_owned(), address: ADDRESS.to_owned() }
}

/// Takes a lock, or says that somebody has it.
pub async fn take(
    world: &Arc<World>,
    who: Who,
    cluster: usize,
    lock: AdvisoryLock,
) -> Result<MemoryLock, PostgresError> {
    let taken = world.call(who, |state| {
        let token = state.random.u64(1..);
        let server = &mut state.clusters[cluster];
        let free = server.up && !server.locks.contains_key(&(lock as u8));
        free.then(|| {
            server.locks.insert(lock as u8, (who, token));
            // Held from here on, also if the answer is lost: then it is let go of at once.
            MemoryLock { world: Arc::clone(world), who, cluster, lock, token }
        })
    });
    let locked = || {
        let (what, address, holder) = (format!("{lock:?}"), ADDRESS.to_owned(), "another".to_owned());
        PostgresError::Locked { what, address, holder }
    };
    taken.await.map_err(|_| lost("a lock"))?.ok_or_else(locked)
}

impl MemoryLock {
    /// True if it is held now.
    pub fn is_held(&self) -> bool {
        self.world.state().clusters[self.cluster].holds(self.lock, self.token)
    }

    /// What it is called by.
    pub fn token(&self) -> u64 {
        self.token
    }
}

#[async_trait]
impl Lock for MemoryLock {
    async fn verify(&self) -> Result<(), PostgresError> {
        let held = self.world.call(self.who, |state| state.clusters[self.cluster].holds(self.lock, self.token)).await;
        if held == Ok(true) { Ok(()) } else { Err(lost("a lock")) }
    }

    async fn release(self: Box<Self>) {
        drop(self);
    }
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        let held = self.is_held();
        if held {
            self.world.state().clusters[self.cluster].locks.remove(&(self.lock as u8));
        }
    }
}

impl fmt::Debug for MemoryLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryLock").field("who", &self.who).field("lock", &self.lock).finish()
    }
}
