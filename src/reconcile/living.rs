//! Who turns out live: what was said of an earlier death of theirs is void before the ledger hears of it (S6).

use async_trait::async_trait;

use super::graves::Graves;
use super::requests::Requests;
use super::stages::Locks;
use super::{Collector, RunError};
use crate::domain::live_set::LiveSet;
use crate::sweep::{Hears, Unheard};

/// What a run knows of deaths that were told, and whoever has to hear that somebody lives.
#[derive(Clone, Copy)]
pub struct Living<'a> {
    pub collector: &'a Collector,
    pub locks: &'a Locks,
    /// What the delete path asked for.
    pub requests: &'a Requests,
    /// What was recorded as it died.
    pub graves: &'a Graves,
}

impl Living<'_> {
    /// These are live. The ledger hears of it last: whoever is cut off before leaves courses that nobody saw, rather than a word that is
    /// older than a sighting and seems to stand.
    ///
    /// # Errors
    /// If a source or the ledger does not answer; the next run finds them live again, or has not heard that they were.
    pub async fn found(&self, live: &LiveSet) -> Result<(), RunError> {
        if live.is_empty() {
            return Ok(());
        }
        self.graves.void(self.collector, self.locks, live).await?;
        self.requests.void(self.collector, live).await?;
        Ok(self.collector.ledger.found_live(live).await?)
    }
}

#[async_trait]
impl Hears for Living<'_> {
    async fn found_live(&self, live: &LiveSet) -> Result<(), Unheard> {
        Ok(self.found(live).await?)
    }
}
