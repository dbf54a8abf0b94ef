//! The copies in quarantine, as a run and a person ask for them: each call on a blocking thread, under watch.

use async_trait::async_trait;
use uuid::Uuid;

use super::watch::{Pulse, Watch};
use super::{FilesStore, Place, kept};
use crate::clock::Deadline;
use crate::errors::chain;
use crate::stores::StoreError;
use crate::stores::copies::{InPlace, PlacedCopy, PutBack, Restoring};

#[async_trait]
impl InPlace for FilesStore {
    async fn copies(&self) -> Result<Vec<PlacedCopy>, StoreError> {
        let source = self.place.layout.text().to_owned();
        let list = self.blocking(self.call_timeout, "list the copies in quarantine".to_owned(), move |place, pulse| {
            kept::list(place, &source, pulse)
        });
        list.await?.map_err(|fault| fault.of(&self.place.shown()))
    }

    async fn put_back(&self, copy: &PlacedCopy, restoring: Restoring) -> PutBack {
        let action = format!("put back `{}`", copy.name.escape_ascii());
        let copy = copy.clone();
        let job = move |place: &Place, pulse: &Pulse| kept::put_back(place, &copy, restoring, pulse);
        match self.blocking(self.call_timeout, action, job).await {
            Ok(Ok(put_back)) => put_back,
            Ok(Err(fault)) => PutBack::Failed(fault.explain()),
            Err(error) => PutBack::Failed(chain(&error)),
        }
    }

    async fn purge(&self, copy: &PlacedCopy, good: &Deadline) -> Result<bool, StoreError> {
        let action = format!("purge the copy of `{}`", copy.name.escape_ascii());
        let copy = copy.clone();
        let job = move |place: &Place, pulse: &Pulse| kept::purge(place, &copy, pulse);
        let watch = Watch::begun_while_good(self.call_timeout, good.clone());
        self.blocking_under(watch, action, job).await?.map_err(|fault| fault.of(&self.place.shown()))
    }

    async fn remove_unfinished(&self, current: Uuid) -> Result<(), StoreError> {
        let action = "remove what stands for nothing in quarantine".to_owned();
        let job = move |place: &Place, pulse: &Pulse| kept::remove_unfinished(place, |run| run != current, pulse);
        self.blocking(self.call_timeout, action, job).await?.map_err(|fault| fault.of(&self.place.shown()))
    }
}
