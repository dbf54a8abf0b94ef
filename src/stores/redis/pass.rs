//! One SCAN pass over all keys but the markers.

use super::StoreError;
use super::link::{Lease, Link, Server};
use super::marker;

/// Pages of keys; complete only when [`Pass::page`] has returned `None`.
pub(in crate::stores) struct Pass<'a> {
    link: &'a Link,
    /// Taken when the pass is over.
    lease: Option<Lease>,
    server: Server,
    cursor: Option<u64>,
    count: u32,
}

impl<'a> Pass<'a> {
    /// Begins a pass; each call looks at about `count` keys.
    ///
    /// # Errors
    /// If the server cannot be reached, is no primary, or holds only a part of the keys.
    pub(in crate::stores) async fn begin(link: &'a Link, count: u32, doing: &'static str) -> Result<Self, StoreError> {
        let mut lease = link.lease(doing).await?;
        let server = link.server(&mut lease).await?;
        Ok(Self { link, lease: Some(lease), server, cursor: Some(0), count })
    }

    /// The next page, which may be empty; `None` once every key that was there all the time has been returned.
    ///
    /// # Errors
    /// If a call fails, or the server is not the one that the pass began with.
    pub(in crate::stores) async fn page(&mut self) -> Result<Option<Vec<Vec<u8>>>, StoreError> {
        let Some(mut lease) = self.lease.take() else { return Ok(None) };
        let Some(cursor) = self.cursor else {
            let server = self.link.server(&mut lease).await?;
            if server.run_id != self.server.run_id {
                return Err(self.link.unusable(
                    lease.call(),
                    format_args!("another server process answered at the end than at the beginning; run again"),
                ));
            }
            self.link.give_back(lease);
            return Ok(None);
        };
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("COUNT").arg(self.count);
        let answer = scan.query_async::<(u64, Vec<Vec<u8>>)>(lease.connection()).await;
        let (next, mut keys) = answer.map_err(|error| self.link.failed(lease.call(), error))?;
        if next != 0 && next == cursor {
            return Err(self.link.unusable(lease.call(), format_args!("SCAN stands still at cursor {cursor}")));
        }
        keys.retain(|key| !marker::is_one(key));
        self.cursor = (next != 0).then_some(next);
        self.lease = Some(lease);
        Ok(Some(keys))
    }
}
