//! A run in which what was authorised is taken for dead though it lives (S1). All else is as in every run: the same locks, gates, breakers,
//! references, copies and records; only the answers about these courses are other ones. What the ledger learns is the truth.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use uuid::Uuid;

use super::{Collector, RunError};
use crate::domain::ids::{CourseId, IdType};
use crate::domain::live_set::LiveSet;
use crate::domain::pins::{Position, SourcePin};
use crate::domain::tombstones::Rows;
use crate::ledger::Authorised;
use crate::liveness::{Liveness, Polls};
use crate::postgres::PostgresError;

/// What this run may take for dead; nothing where it is not switched on, or where a store keeps no copies of what goes.
pub(super) async fn take(collector: &Collector, run: Uuid) -> Result<Option<Arc<Authorised>>, RunError> {
    let is_on = collector.live_cleanups.is_some() && collector.stores.iter().all(|managed| managed.quarantined);
    if !is_on {
        return Ok(None);
    }
    let authorised = collector.ledger.take_authorised(run).await?;
    for course in authorised.courses() {
        tracing::warn!(%run, %course, "what a live course has is deleted, as was authorised");
    }
    Ok((!authorised.courses().is_empty()).then(|| Arc::new(authorised)))
}

/// Who is live, without what was authorised.
pub(super) fn except(authorised: &Authorised, live: &LiveSet, id_type: IdType) -> LiveSet {
    LiveSet::from_ids(id_type, live.iter().filter(|course| !authorised.courses().contains(course)))
}

/// Liveness sources that, asked about what was authorised, answer that it is dead.
#[derive(Debug)]
pub(super) struct Excepting {
    liveness: Box<dyn Liveness>,
    authorised: Arc<Authorised>,
    id_type: IdType,
}

impl Excepting {
    pub(super) fn new(liveness: Box<dyn Liveness>, authorised: Arc<Authorised>, id_type: IdType) -> Self {
        Self { liveness, authorised, id_type }
    }
}

#[async_trait]
impl Liveness for Excepting {
    fn pins(&self) -> Vec<(String, SourcePin, Position)> {
        self.liveness.pins()
    }

    fn server(&self, name: &str) -> Option<&str> {
        self.liveness.server(name)
    }

    async fn read(&self) -> Result<Vec<(String, LiveSet, Position)>, PostgresError> {
        self.liveness.read().await
    }

    async fn live_among(&self, ids: &BTreeSet<CourseId>) -> Result<LiveSet, PostgresError> {
        Ok(except(&self.authorised, &self.liveness.live_among(ids).await?, self.id_type))
    }

    async fn tombstones(&self) -> Polls {
        self.liveness.tombstones().await
    }

    async fn remove_tombstones(&self, rows: &Rows) -> Result<(), PostgresError> {
        self.liveness.remove_tombstones(rows).await
    }

    fn references(&self, query: &str) -> BoxStream<'_, Result<Vec<u8>, PostgresError>> {
        self.liveness.references(query)
    }

    async fn verify(&self) -> Result<(), PostgresError> {
        self.liveness.verify().await
    }

    async fn release(self: Box<Self>) {
        self.liveness.release().await;
    }
}
