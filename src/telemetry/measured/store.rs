//! A store whose operations are timed.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::mpsc;

use super::Stopwatch;
use crate::clock::Clock;
use crate::domain::findings::Finding;
use crate::domain::ids::CourseId;
use crate::domain::inventory::{Census, SourceIndex};
use crate::domain::markers::Marker;
use crate::pace::Pace;
use crate::stores::copies::{Copied, Copies, CopyId, InPlace, Item, PutBack, Restoring};
use crate::stores::{Handle, Referenced, References, Removed, Store, StoreError, Targets};
use crate::sweep::Condemned;
use crate::telemetry::metrics::{Done, Metrics};

/// A store of which each operation is measured: how long it took, and whether it failed.
pub struct MeasuredStore {
    store: Arc<dyn Store>,
    watch: Stopwatch,
}

impl MeasuredStore {
    /// Measures a store.
    pub fn new(store: Arc<dyn Store>, metrics: &Metrics, clock: Arc<dyn Clock>) -> Self {
        let Done { client_seconds, client_errors, .. } = &metrics.done;
        let watch = Stopwatch::new(store.name(), (client_seconds, client_errors), clock);
        Self { store, watch }
    }

    async fn tried<T>(
        &self,
        operation: &'static str,
        doing: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.watch.tried(operation, doing, |_| true).await
    }
}

#[async_trait]
impl Store for MeasuredStore {
    fn name(&self) -> &str {
        self.store.name()
    }

    fn kind(&self) -> &'static str {
        self.store.kind()
    }

    fn sources(&self) -> &[String] {
        self.store.sources()
    }

    fn batch_limit(&self) -> usize {
        self.store.batch_limit()
    }

    fn reference_query(&self) -> Option<&str> {
        self.store.reference_query()
    }

    fn pace(&self) -> Option<&Pace> {
        self.store.pace()
    }

    fn in_place(&self) -> Option<&dyn InPlace> {
        self.store.in_place()
    }

    async fn identity(&self) -> Result<String, StoreError> {
        self.tried("identity", self.store.identity()).await
    }

    async fn marker(&self) -> Result<Option<Marker>, StoreError> {
        self.tried("marker", self.store.marker()).await
    }

    async fn move_marker(&self, from: Option<&Marker>, to: &Marker) -> Result<bool, StoreError> {
        self.tried("move_marker", self.store.move_marker(from, to)).await
    }

    async fn mark_newcomers(&self) -> Result<(), StoreError> {
        self.tried("move_marker", self.store.mark_newcomers()).await
    }

    async fn inventory(&self, census: &mut Census) -> Result<(), StoreError> {
        self.tried("inventory", self.store.inventory(census)).await
    }

    async fn locate(&self, targets: &Targets, handles: mpsc::Sender<Handle>) -> Result<(), StoreError> {
        self.tried("locate", self.store.locate(targets, handles)).await
    }

    async fn referenced(
        &self,
        courses: &BTreeSet<CourseId>,
        references: References<'_>,
    ) -> Result<Referenced, StoreError> {
        self.tried("referenced", self.store.referenced(courses, references)).await
    }

    async fn copy(&self, id: &CopyId, handles: &[Handle], copies: &mut dyn Copies) -> Result<Vec<Copied>, StoreError> {
        self.tried("copy", self.store.copy(id, handles, copies)).await
    }

    async fn put_back(&self, items: &[Item], restoring: Restoring) -> Vec<PutBack> {
        self.watch.timed("put_back", self.store.put_back(items, restoring)).await
    }

    async fn delete(&self, batch: &Condemned) -> Removed {
        self.watch.timed("delete", self.store.delete(batch)).await
    }

    async fn tidy(&self, now: DateTime<Utc>, untouched_for: TimeDelta) -> Result<(), StoreError> {
        self.tried("tidy", self.store.tidy(now, untouched_for)).await
    }

    async fn examine(&self) -> Vec<Finding> {
        self.store.examine().await
    }

    async fn remaining(&self, targets: &Targets) -> Result<Vec<(SourceIndex, CourseId, u64)>, StoreError> {
        self.tried("remaining", self.store.remaining(targets)).await
    }
}
