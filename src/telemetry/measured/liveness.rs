//! The liveness sources.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use super::Stopwatch;
use crate::clock::Clock;
use crate::domain::ids::CourseId;
use crate::domain::live_set::LiveSet;
use crate::domain::pins::{Position, SourcePin};
use crate::domain::tombstones::Rows;
use crate::liveness::{Liveness, LivenessSources, Polls};
use crate::postgres::PostgresError;
use crate::telemetry::metrics::{Done, Metrics};

/// How the metrics call them.
pub const CLIENT: &str = "liveness";

/// What is measured of them, of all sources together.
pub const OPERATIONS: [&str; 10] = [
    "lock",
    "glance",
    "organizations",
    "newest_tombstones",
    "read",
    "live_among",
    "tombstones",
    "remove_tombstones",
    "references",
    "verify",
];

/// Liveness sources of which each operation is measured, and of who holds their locks, too.
pub struct MeasuredSources {
    sources: Arc<dyn LivenessSources>,
    watch: Stopwatch,
}

impl MeasuredSources {
    /// Measures liveness sources.
    pub fn new(sources: Arc<dyn LivenessSources>, metrics: &Metrics, clock: Arc<dyn Clock>) -> Self {
        let Done { database_seconds, database_errors, .. } = &metrics.done;
        Self { sources, watch: Stopwatch::new(CLIENT, (database_seconds, database_errors), clock) }
    }

    async fn tried<T>(
        &self,
        operation: &'static str,
        doing: impl Future<Output = Result<T, PostgresError>>,
    ) -> Result<T, PostgresError> {
        self.watch.tried(operation, doing, |error| !error.is_locked()).await
    }
}

#[async_trait]
impl LivenessSources for MeasuredSources {
    async fn lock(&self) -> Result<Box<dyn Liveness>, PostgresError> {
        let liveness = self.tried("lock", self.sources.lock()).await?;
        Ok(Box::new(MeasuredLiveness { liveness, watch: self.watch.clone() }))
    }

    async fn glance(&self, ids: &BTreeSet<CourseId>) -> Result<LiveSet, PostgresError> {
        self.tried("glance", self.sources.glance(ids)).await
    }

    fn tells_organizations(&self) -> bool {
        self.sources.tells_organizations()
    }

    async fn organizations(&self, ids: &BTreeSet<CourseId>) -> Result<BTreeMap<CourseId, String>, PostgresError> {
        self.tried("organizations", self.sources.organizations(ids)).await
    }

    async fn newest_tombstones(&self) -> Result<BTreeMap<String, i64>, PostgresError> {
        self.tried("newest_tombstones", self.sources.newest_tombstones()).await
    }
}

#[derive(Debug)]
struct MeasuredLiveness {
    liveness: Box<dyn Liveness>,
    watch: Stopwatch,
}

impl MeasuredLiveness {
    async fn tried<T>(
        &self,
        operation: &'static str,
        doing: impl Future<Output = Result<T, PostgresError>>,
    ) -> Result<T, PostgresError> {
        self.watch.tried(operation, doing, |_| true).await
    }
}

#[async_trait]
impl Liveness for MeasuredLiveness {
    fn pins(&self) -> Vec<(String, SourcePin, Position)> {
        self.liveness.pins()
    }

    fn server(&self, name: &str) -> Option<&str> {
        self.liveness.server(name)
    }

    async fn read(&self) -> Result<Vec<(String, LiveSet, Position)>, PostgresError> {
        self.tried("read", self.liveness.read()).await
    }

    async fn live_among(&self, ids: &BTreeSet<CourseId>) -> Result<LiveSet, PostgresError> {
        self.tried("live_among", self.liveness.live_among(ids)).await
    }

    async fn tombstones(&self) -> Polls {
        let polls = self.watch.timed("tombstones", self.liveness.tombstones()).await;
        if polls.iter().any(|(_, poll)| poll.is_err()) {
            self.watch.failed("tombstones");
        }
        polls
    }

    async fn remove_tombstones(&self, rows: &Rows) -> Result<(), PostgresError> {
        self.tried("remove_tombstones", self.liveness.remove_tombstones(rows)).await
    }

    /// To the last one, and as fast as they are taken.
    fn references(&self, query: &str) -> BoxStream<'_, Result<Vec<u8>, PostgresError>> {
        let began = self.watch.now();
        let references = self.liveness.references(query).inspect_err(|_| self.watch.failed("references"));
        let end = futures::stream::once(async move { self.watch.took("references", began) });
        references.map(Some).chain(end.map(|()| None)).filter_map(std::future::ready).boxed()
    }

    async fn verify(&self) -> Result<(), PostgresError> {
        self.tried("verify", self.liveness.verify()).await
    }

    async fn release(self: Box<Self>) {
        self.liveness.release().await;
    }
}
