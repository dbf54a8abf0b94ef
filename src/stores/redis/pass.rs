//! One SCAN pass over all keys but the markers, through all servers at once.
//!
//! The way through a server is a task's own: whoever reads an answer asks for the next page, and need not wake anybody for that. Keys
//! are handed out many at a time, and matched while the server looks for more.

use futures::future::try_join_all;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::StoreError;
use super::link::{Lease, View};
use super::marker;
use super::nodes::Nodes;
use crate::pace;

/// So many keys are handed out at once, or a page, if that has more.
const TOGETHER: usize = 1000;

/// Pages of keys; complete only when [`Pass::page`] has returned `None`.
pub(in crate::stores) struct Pass<'a> {
    nodes: &'a Nodes,
    walks: Vec<Walk>,
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
    /// What the server said at the beginning.
    view: View,
    keys: mpsc::Receiver<Keys>,
    task: Option<AbortOnDropHandle<Result<Lease, StoreError>>>,
    /// The connection, once all keys were handed out.
    lease: Option<Lease>,
}

type Keys = Vec<Vec<u8>>;

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
        let views = try_join_all(leases.into_iter().map(|mut lease| async move {
            let view = lease.view().await?;
            Ok::<_, StoreError>((lease, view))
        }));
        let views = views.await?;
        if let Some((lease, _)) = views.iter().find(|(_, view)| view.slots != slots) {
            return Err(lease.call().unusable(format_args!(
                "it sees other masters in its cluster than the node that was asked first; run again"
            )));
        }
        let walks = views.into_iter().map(|(lease, view)| Walk::begin(lease, view, count)).collect();
        Ok(Self { nodes, walks, doing })
    }

    /// The next keys, which may be empty; `None` once every key that was there all the time has been returned.
    ///
    /// # Errors
    /// If a call fails, or a server or the cluster is not as it was when the pass began.
    pub(in crate::stores) async fn page(&mut self) -> Result<Option<Keys>, StoreError> {
        let pages = try_join_all(self.walks.iter_mut().map(Walk::step)).await?;
        if pages.iter().any(Option::is_some) {
            let keys = in_turns(pages.into_iter().flatten().collect());
            return Ok(Some(keys.into_iter().filter(|key| !marker::is_one(key)).collect()));
        }
        for lease in self.walks.iter().filter_map(|walk| walk.lease.as_ref()) {
            self.nodes.still_named(lease.call(), self.doing).await?;
        }
        try_join_all(self.walks.drain(..).map(Walk::end)).await?;
        Ok(None)
    }
}

impl Walk {
    fn begin(lease: Lease, view: View, count: u32) -> Self {
        let (sender, keys) = mpsc::channel(1);
        let task = tokio::spawn(pace::as_here(walk(lease, count, sender)));
        Self { view, keys, task: Some(AbortOnDropHandle::new(task)), lease: None }
    }

    /// The next keys; `None` once there are no more.
    async fn step(&mut self) -> Result<Option<Keys>, StoreError> {
        if let Some(keys) = self.keys.recv().await {
            return Ok(Some(keys));
        }
        if let Some(task) = self.task.take() {
            let ended = task.await.map_err(|error| StoreError::server("a pass over keys broke off", error))?;
            self.lease = Some(ended?);
        }
        Ok(None)
    }

    async fn end(self) -> Result<(), StoreError> {
        let Self { view: before, lease, .. } = self;
        let Some(mut lease) = lease else { return Ok(()) };
        let view = lease.view().await?;
        let why = if view.server.run_id != before.server.run_id {
            "another server process answered at the end than at the beginning; run again"
        } else if view.slots != before.slots {
            "slots of its cluster have other masters at the end than at the beginning; run again"
        } else {
            lease.give_back();
            return Ok(());
        };
        Err(lease.call().unusable(format_args!("{why}")))
    }
}

/// One key of each server after the other, so that what is done with some of them at once burdens all servers.
fn in_turns(pages: Vec<Keys>) -> Keys {
    let mut all = Keys::with_capacity(pages.iter().map(Vec::len).sum());
    let mut pages: Vec<_> = pages.into_iter().map(Vec::into_iter).collect();
    while !pages.is_empty() {
        pages.retain_mut(|page| page.next().map(|key| all.push(key)).is_some());
    }
    all
}

/// Goes through one server, page by page; gives the connection back.
async fn walk(mut lease: Lease, count: u32, keys: mpsc::Sender<Keys>) -> Result<Lease, StoreError> {
    let (mut cursor, mut found) = (0u64, Keys::new());
    loop {
        let turn = lease.measured_turn().await;
        let mut scan = redis::cmd("SCAN");
        let answer = scan.arg(cursor).arg("COUNT").arg(count).query_async::<(u64, Keys)>(lease.connection()).await;
        let (next, page) = answer.map_err(|error| lease.call().failed(error))?;
        // A step through what is all but empty is quicker than others.
        if page.len() >= count as usize / 2 {
            turn.alike("scan");
        }
        turn.end();
        if next != 0 && next == cursor {
            return Err(lease.call().unusable(format_args!("SCAN stands still at cursor {cursor}")));
        }
        cursor = next;
        found.extend(page);
        let is_over = cursor == 0;
        let is_enough = is_over || found.len() >= TOGETHER;
        // Nobody may want any more.
        if is_enough && keys.send(std::mem::take(&mut found)).await.is_err() || is_over {
            return Ok(lease);
        }
    }
}
