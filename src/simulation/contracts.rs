//! What is simulated keeps the contracts of the real parts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;

use super::cluster::Cluster;
use super::ledger::MemoryLedger;
use super::shelf::{MemoryStore, Resource, Shelf};
use super::world::{Who, World};
use crate::domain::ids::{CourseId, IdType};
use crate::domain::inventory::SourceIndex;
use crate::stores::Store;
use crate::stores::contract::{Bench, Contents, keeps};

const WHO: Who = Who(0);

struct ShelfBench {
    world: Arc<World>,
    store: MemoryStore,
    planted: AtomicU64,
}

impl ShelfBench {
    fn plant(&self, source: SourceIndex, owner: Option<CourseId>, mentions: Vec<CourseId>) -> Vec<u8> {
        let n = self.planted.fetch_add(1, Ordering::Relaxed);
        let key = format!("resource {n}").into_bytes();
        self.world.state().shelves[0].resources.insert(key.clone(), Resource { source, owner, mentions });
        key
    }
}

#[async_trait]
impl Bench for ShelfBench {
    fn store(&self) -> &dyn Store {
        &self.store
    }

    fn id_type(&self) -> IdType {
        IdType::Integer
    }

    async fn plant(&self, source: SourceIndex, course: CourseId) -> Vec<u8> {
        self.plant(source, Some(course), Vec::new())
    }

    async fn plant_entangled(&self, source: SourceIndex, owner: CourseId, other: CourseId) -> Option<Vec<u8>> {
        Some(self.plant(source, Some(owner), vec![other]))
    }

    async fn plant_unrecognised(&self, source: SourceIndex) -> Option<Vec<u8>> {
        Some(self.plant(source, None, Vec::new()))
    }

    async fn rewrite(&self, _: SourceIndex, _: CourseId, name: &[u8]) -> bool {
        let mut state = self.world.state();
        state.shelves[0].resources.get_mut(name).unwrap().mentions = vec![CourseId::Integer(-1)];
        true
    }

    async fn contents(&self) -> Contents {
        let resources = &self.world.state().shelves[0].resources;
        let content = |resource: &Resource| format!("{resource:?}").into_bytes();
        resources.iter().map(|(key, resource)| (key.clone(), content(resource))).collect::<BTreeMap<_, _>>()
    }
}

fn world() -> Arc<World> {
    Arc::new(World::calm(0, vec![Cluster::new("campus")], vec![Shelf::default()]))
}

#[tokio::test]
async fn a_store_in_memory_keeps_the_contract() {
    let world = world();
    let store = MemoryStore {
        world: Arc::clone(&world),
        who: WHO,
        shelf: 0,
        name: "memory".to_owned(),
        sources: vec!["first".to_owned(), "second".to_owned()],
        has_references: false,
        batch_limit: 10,
        without: None,
        trouble: None,
    };
    keeps(&ShelfBench { world, store, planted: AtomicU64::new(0) }).await;
}

#[tokio::test]
async fn a_ledger_in_memory_keeps_the_contract() {
    crate::ledger::contract::keeps(&MemoryLedger { world: world(), who: WHO, cluster: 0, without: None }).await;
}
