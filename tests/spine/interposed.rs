//! A real store with something that happens before its calls: how a test breaks a server in the middle of a run.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use course_gc::domain::ids::CourseId;
use course_gc::domain::inventory::{Census, SourceIndex};
use course_gc::reconcile::Collector;
use course_gc::stores::copies::{Copied, Copies, CopyId, InPlace, Item, PutBack, Restoring};
use course_gc::stores::{Handle, Marker, Referenced, References, Removed, Store, StoreError, Targets};
use course_gc::sweep::Condemned;
use futures::future::BoxFuture;
use tokio::sync::mpsc::Sender;

/// A call of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// [`Store::inventory`].
    Inventory,
    /// [`Store::referenced`].
    Referenced,
    /// [`Store::locate`].
    Locate,
    /// [`Store::copy`].
    Copy,
    /// [`Store::delete`].
    Delete,
}

/// Puts `before` before the calls of the store of this name. It is told which call it is, counting each from 1.
pub fn interpose<F>(collector: &mut Collector, store: &str, before: F)
where
    F: Fn(Call, usize) -> BoxFuture<'static, ()> + Send + Sync + 'static,
{
    let managed =
        collector.stores.iter_mut().find(|managed| managed.store.name() == store).expect("there is such a store");
    let calls = std::sync::Mutex::default();
    managed.store = Arc::new(Interposed { inner: Arc::clone(&managed.store), calls, before });
}

struct Interposed<F> {
    inner: Arc<dyn Store>,
    calls: std::sync::Mutex<Vec<Call>>,
    before: F,
}

impl<F: Fn(Call, usize) -> BoxFuture<'static, ()>> Interposed<F> {
    fn before(&self, call: Call) -> BoxFuture<'static, ()> {
        let mut calls = self.calls.lock().expect("nobody panicked");
        calls.push(call);
        (self.before)(call, calls.iter().filter(|earlier| **earlier == call).count())
    }
}

#[async_trait]
impl<F: Fn(Call, usize) -> BoxFuture<'static, ()> + Send + Sync> Store for Interposed<F> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn sources(&self) -> &[String] {
        self.inner.sources()
    }

    fn batch_limit(&self) -> usize {
        self.inner.batch_limit()
    }

    async fn identity(&self) -> Result<String, StoreError> {
        self.inner.identity().await
    }

    async fn marker(&self) -> Result<Option<Marker>, StoreError> {
        self.inner.marker().await
    }

    async fn move_marker(&self, from: Option<&Marker>, to: &Marker) -> Result<bool, StoreError> {
        self.inner.move_marker(from, to).await
    }

    async fn mark_newcomers(&self) -> Result<(), StoreError> {
        self.inner.mark_newcomers().await
    }

    async fn inventory(&self, census: &mut Census) -> Result<(), StoreError> {
        self.before(Call::Inventory).await;
        self.inner.inventory(census).await
    }

    async fn locate(&self, targets: &Targets, handles: Sender<Handle>) -> Result<(), StoreError> {
        self.before(Call::Locate).await;
        self.inner.locate(targets, handles).await
    }

    fn reference_query(&self) -> Option<&str> {
        self.inner.reference_query()
    }

    async fn referenced(
        &self,
        courses: &BTreeSet<CourseId>,
        references: References<'_>,
    ) -> Result<Referenced, StoreError> {
        self.before(Call::Referenced).await;
        self.inner.referenced(courses, references).await
    }

    async fn copy(&self, id: &CopyId, handles: &[Handle], copies: &mut dyn Copies) -> Result<Vec<Copied>, StoreError> {
        self.before(Call::Copy).await;
        self.inner.copy(id, handles, copies).await
    }

    async fn put_back(&self, items: &[Item], restoring: Restoring) -> Vec<PutBack> {
        self.inner.put_back(items, restoring).await
    }

    fn in_place(&self) -> Option<&dyn InPlace> {
        self.inner.in_place()
    }

    async fn delete(&self, batch: &Condemned) -> Removed {
        self.before(Call::Delete).await;
        self.inner.delete(batch).await
    }

    async fn remaining(&self, targets: &Targets) -> Result<Vec<(SourceIndex, CourseId, u64)>, StoreError> {
        self.inner.remaining(targets).await
    }
}
