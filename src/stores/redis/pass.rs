//! One SCAN pass over all keys but the markers, through all servers at once.
//!
//! The next page of each server is asked for before the last one is handed out: the server looks for keys while these are matched.

use std::pin::Pin;

use futures::future::{BoxFuture, FutureExt, MaybeDone, maybe_done, try_join_all};
use futures::poll;
use redis::RedisResult;

use super::StoreError;
use super::link::{Lease, View};
use super::marker;
use super::nodes::Nodes;
use crate::pace::Turn;

/// Pages of keys; complete only when [`Pass::page`] has returned `None`.
pub(in crate::stores) struct Pass<'a> {
    nodes: &'a Nodes,
    walks: Vec<Walk>,
    count: u32,
    doing: &'static str,
}

/// Which keys a pass is for.
#[derive(Debug, Clone, Copy)]
pub(in crate::stores) enum Through<'k> {
    /// All.
    Everything,
    /// At least those in the slot of this one.
    SlotOf(&'k [u8]),
}

/// The way through one server, on one connection.
struct Walk {
    lease: Lease,
    /// What the server said at the beginning.
    view: View,
    /// What was asked for; `None` once all keys were handed out.
    asked: Option<Asked>,
}

/// A page that is on its way.
struct Asked {
    cursor: u64,
    turn: Turn,
    answer: Pin<Box<MaybeDone<BoxFuture<'static, RedisResult<Found>>>>>,
}

/// Where to go on, and keys.
type Found = (u64, Vec<Vec<u8>>);

impl<'a> Pass<'a> {
    /// Begins a pass; each call looks at about `count` keys.
    ///
    /// # Errors
    /// If a server cannot be reached, is no primary, or sees other masters in its cluster than the one that was asked first.
    pub(in crate::stores) async fn begin(
        nodes: &'a Nodes,
        through: Through<'_>,
        count: u32,
        doing: &'static str,
    ) -> Result<Self, StoreError> {
        let servers = nodes.servers(doing).await?;
        let slots = servers.slots().cloned();
        let leases = match through {
            Through::Everything => servers.all().await?,
            Through::SlotOf(key) => vec![servers.of(key).await?],
        };
        let walks = try_join_all(leases.into_iter().map(|lease| Walk::begin(lease, count))).await?;
        if let Some(walk) = walks.iter().find(|walk| walk.view.slots != slots) {
            return Err(walk.lease.call().unusable(format_args!(
                "it sees other masters in its cluster than the node that was asked first; run again"
            )));
        }
        Ok(Self { nodes, walks, count, doing })
    }

    /// The next page, which may be empty; `None` once every key that was there all the time has been returned.
    ///
    /// # Errors
    /// If a call fails, or a server or the cluster is not as it was when the pass began.
    pub(in crate::stores) async fn page(&mut self) -> Result<Option<Vec<Vec<u8>>>, StoreError> {
        if self.walks.iter().all(|walk| walk.asked.is_none()) {
            for walk in &mut self.walks {
                self.nodes.still_named(walk.lease.call(), self.doing).await?;
            }
            try_join_all(self.walks.drain(..).map(Walk::end)).await?;
            return Ok(None);
        }
        let pages = try_join_all(self.walks.iter_mut().map(|walk| walk.step(self.count))).await?;
        Ok(Some(pages.into_iter().flatten().filter(|key| !marker::is_one(key)).collect()))
    }
}

impl Walk {
    async fn begin(mut lease: Lease, count: u32) -> Result<Self, StoreError> {
        let view = lease.view().await?;
        let mut walk = Self { lease, view, asked: None };
        walk.ask(0, count).await;
        Ok(walk)
    }

    async fn ask(&mut self, cursor: u64, count: u32) {
        let turn = self.lease.turn().await;
        let mut connection = self.lease.connection().clone();
        let scan = async move {
            redis::cmd("SCAN").arg(cursor).arg("COUNT").arg(count).query_async::<Found>(&mut connection).await
        };
        let mut answer = Box::pin(maybe_done(scan.boxed()));
        // This sends it; the connection's own task does the rest. A task of ours beside that one would be one more to wake for each page.
        let _ = poll!(&mut answer);
        self.asked = Some(Asked { cursor, turn, answer });
    }

    /// The keys that were asked for last; asks for the next ones.
    async fn step(&mut self, count: u32) -> Result<Vec<Vec<u8>>, StoreError> {
        let Some(Asked { cursor, turn, mut answer }) = self.asked.take() else { return Ok(Vec::new()) };
        let was_there = poll!(&mut answer).is_ready();
        (&mut answer).await;
        let Some(answer) = answer.as_mut().take_output() else { return Ok(Vec::new()) };
        let (next, keys) = answer.map_err(|error| self.lease.call().failed(error))?;
        // Nobody knows how long ago it was there; and a step through what is all but empty is quicker than others.
        if !was_there && keys.len() >= count as usize / 2 {
            turn.alike("scan");
        }
        turn.end();
        if next != 0 && next == cursor {
            return Err(self.lease.call().unusable(format_args!("SCAN stands still at cursor {cursor}")));
        }
        if next != 0 {
            self.ask(next, count).await;
        }
        Ok(keys)
    }

    async fn end(mut self) -> Result<(), StoreError> {
        let view = self.lease.view().await?;
        let why = if view.server.run_id != self.view.server.run_id {
            "another server process answered at the end than at the beginning; run again"
        } else if view.slots != self.view.slots {
            "slots of its cluster have other masters at the end than at the beginning; run again"
        } else {
            self.lease.give_back();
            return Ok(());
        };
        Err(self.lease.call().unusable(format_args!("{why}")))
    }
}
