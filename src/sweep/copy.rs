//! What is copied before it goes, and put back if it should not have gone (S1, S12).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::batch::Done;
use super::{Share, Sweeper};
use crate::clock::Deadline;
use crate::domain::ids::CourseId;
use crate::domain::live_set::LiveSet;
use crate::errors::chain;
use crate::quarantine::{Copy, QuarantineError, Returned};
use crate::stores::copies::{Copied, CopyId, Receipt, Restoring, Safe};
use crate::stores::{Handle, Outcome, StoreError};

/// Why a batch was not copied.
#[derive(Debug, thiserror::Error)]
pub(super) enum Uncopied {
    #[error("could not copy what was to go; nothing was deleted")]
    Store(#[source] StoreError),
    #[error("could not keep a copy of what was to go; nothing was deleted")]
    Quarantine(#[source] QuarantineError),
}

impl Uncopied {
    /// True if the next batch would fare no better.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Quarantine(QuarantineError::Full(_)))
    }
}

/// A batch whose copies are safe, or of which a person wants none.
pub(super) struct Kept {
    /// What may go.
    handles: Vec<Handle>,
    /// A receipt each; `None` without quarantine.
    receipts: Option<Vec<Receipt>>,
    /// What the archives hold of it.
    archive: Option<Copy>,
}

impl Kept {
    /// Nothing: it could not be copied.
    pub(super) fn nothing() -> Self {
        Self { handles: Vec::new(), receipts: None, archive: None }
    }

    /// What may go.
    pub(super) fn handles(&self) -> &[Handle] {
        &self.handles
    }

    /// Takes the handles out, with their receipts.
    pub(super) fn take(&mut self) -> Vec<(Handle, Option<Receipt>)> {
        let receipts = self.receipts.take().map(|receipts| receipts.into_iter().map(Some));
        match receipts {
            Some(receipts) => std::mem::take(&mut self.handles).into_iter().zip(receipts).collect(),
            None => std::mem::take(&mut self.handles).into_iter().map(|handle| (handle, None)).collect(),
        }
    }

    /// What `delete` may take of the handles that these receipts are for; `None` without quarantine.
    pub(super) fn safe(id: &CopyId, receipts: Vec<Option<Receipt>>) -> Option<Safe> {
        let receipts: Option<Vec<Receipt>> = receipts.into_iter().collect();
        receipts.map(|receipts| Safe { id: *id, receipts })
    }
}

impl Sweeper<'_> {
    /// Copies a batch; what is absent or cannot be copied is counted, and no part of it any more.
    pub(super) async fn copy(
        &self,
        share: &Share<'_>,
        id: &CopyId,
        handles: Vec<Handle>,
        done: &mut Done,
    ) -> Result<Kept, Uncopied> {
        if !share.quarantined {
            return Ok(Kept { handles, receipts: None, archive: None });
        }
        let mut writer = self.quarantine.archives.begin(share.store.name(), *id, &handles);
        let copied = match share.store.copy(id, &handles, &mut writer).await {
            Ok(copied) => copied,
            Err(error) => return Err(writer.failed().map_or(Uncopied::Store(error), Uncopied::Quarantine)),
        };
        let archive = writer.finish().await.map_err(Uncopied::Quarantine)?.map(Copy::of_archive);
        let mut kept = Kept { handles: Vec::with_capacity(handles.len()), receipts: None, archive };
        let mut receipts = Vec::with_capacity(handles.len());
        let unsaid = || Copied::Failed(format!("store {} did not say what became of its copy", share.store.name()));
        for (handle, copied) in handles.into_iter().zip(copied.into_iter().chain(std::iter::repeat_with(unsaid))) {
            match copied {
                Copied::Whole(receipt) => {
                    kept.handles.push(handle);
                    receipts.push(receipt);
                }
                Copied::Absent => done.count(&handle, &Outcome::Absent),
                Copied::Failed(cause) => done.count(&handle, &Outcome::Failed(cause)),
            }
        }
        kept.receipts = Some(receipts);
        Ok(kept)
    }

    /// Removes copies of what did not go.
    pub(super) async fn discard(&self, kept: &Kept) {
        let Some(copy) = &kept.archive else { return };
        // Nobody needs what stands beside its original, whoever lives.
        let good = Deadline::new(Duration::MAX, Arc::clone(&self.clock));
        if let Err(error) = self.quarantine.purge(None, copy, &good).await {
            let (store, error) = (&copy.store, chain(&error));
            tracing::warn!(store, error, "a copy of what did not go stays in quarantine until it expires");
        }
    }

    /// Puts back what went of those of `owners` of whom something names somebody live; true if nothing of it is missing now, whatever else of the batch
    /// failed.
    pub(super) async fn put_back(
        &self,
        share: &Share<'_>,
        (id, kept): (&CopyId, &Kept),
        owners: &BTreeSet<CourseId>,
        done: &mut Done,
    ) -> bool {
        let mut whole = true;
        let mut returned: Vec<Returned> = Vec::new();
        let mut copies: Vec<Copy> = kept.archive.iter().cloned().collect();
        if let Some(in_place) = share.store.in_place() {
            match in_place.copies().await {
                Ok(placed) => {
                    let ours = placed.into_iter().filter(|placed| placed.id == *id);
                    copies.extend(ours.map(|placed| Copy::of_place(share.store.name(), placed)));
                }
                // Who knows what lies there.
                Err(error) => {
                    whole = false;
                    done.failed(&error);
                }
            }
        }
        for copy in &copies {
            for owner in owners {
                returned.extend(self.quarantine.put_back(share.store, copy, Some(*owner), Restoring::Missing).await);
            }
        }
        for lost in returned.iter().filter(|returned| returned.failed()) {
            whole = false;
            let cause = lost.cause.as_deref().unwrap_or_default();
            done.failed(&StoreError::Unusable(format!("could not put back `{}`: {cause}", lost.name)));
        }
        let restored = returned.iter().filter(|returned| returned.outcome == "restored").count() as u64;
        tracing::warn!(store = share.store.name(), restored, "put back what should not have gone");
        done.put_back += restored;
        whole
    }
}

/// Whose resources are to be put back: they are live, or one of their resources names somebody who is.
pub(super) fn harmed(handles: &[Handle], live: &LiveSet) -> BTreeSet<CourseId> {
    let names_live = |handle: &&Handle| handle.mentions.iter().chain([&handle.owner]).any(|id| live.contains(*id));
    handles.iter().filter(names_live).map(|handle| handle.owner).collect()
}
