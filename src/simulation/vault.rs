//! Quarantine in memory: where archives lie, and how a store's resources are written into one.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use uuid::Uuid;

use super::shelf::Resource;
use super::stage::{STORES, source_of};
use super::world::{Lost, State, Who, World};
use crate::domain::ids::{CourseId, IdType};
use crate::domain::inventory::SourceIndex;
use crate::quarantine::{Place, PlaceError};
use crate::stores::copies::Item;

/// One process's access to the place of archives.
pub struct MemoryPlace {
    pub world: Arc<World>,
    pub who: Who,
}

impl MemoryPlace {
    async fn call<T>(&self, action: &str, effect: impl FnOnce(&mut State) -> T) -> Result<T, PlaceError> {
        self.world.call(self.who, effect).await.map_err(|lost| refused(action, lost))
    }
}

fn refused(action: &str, source: impl std::error::Error + Send + Sync + 'static) -> PlaceError {
    PlaceError::Refused { place: "memory".to_owned(), action: action.to_owned(), source: Box::new(source) }
}

#[async_trait]
impl Place for MemoryPlace {
    fn shown(&self) -> String {
        "memory".to_owned()
    }

    async fn put_new(&self, name: &str, content: Bytes) -> Result<(), PlaceError> {
        let put = self.call("write", |state| {
            let is_new = !state.vault.contains_key(name);
            if is_new {
                state.vault.insert(name.to_owned(), content);
                let copy = name.strip_suffix(".json").and_then(|copy| Some((copy, copy.split('/').nth(2)?)));
                let shelf = |store| STORES.iter().position(|it| *it == store);
                if let Some((copy, shelf)) = copy.and_then(|(copy, store)| Some((copy, shelf(store)?))) {
                    state.observer.copied(self.who, shelf, copy);
                }
            }
            is_new
        });
        if put.await? { Ok(()) } else { Err(refused("write what is there", Lost)) }
    }

    async fn get(&self, name: &str) -> Result<Bytes, PlaceError> {
        let got = self.call("read", |state| state.vault.get(name).cloned()).await?;
        got.ok_or_else(|| refused("read what is not there", Lost))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, PlaceError> {
        let below = format!("{prefix}/");
        self.call("list", |state| {
            let found = state.vault.iter().filter(|(name, _)| name.starts_with(&below));
            found.map(|(name, content)| (name.clone(), content.len() as u64)).collect()
        })
        .await
    }

    async fn remove(&self, name: &str) -> Result<(), PlaceError> {
        let sent_at = self.world.now();
        self.call("remove", |state| {
            state.judge_purge(self.who, name, sent_at);
            state.vault.remove(name);
        })
        .await
    }

    async fn free_percent(&self) -> Result<Option<u8>, PlaceError> {
        Ok(None)
    }
}

/// A resource as a copy holds it.
pub fn item(sources: &[String], owner: CourseId, key: &Bytes, resource: &Resource) -> Item {
    Item {
        source: sources[resource.source.0].clone(),
        course: owner,
        name: key.clone(),
        attributes: BTreeMap::new(),
        content: written(resource),
    }
}

/// What a resource is besides its name, in bytes.
pub fn written(resource: &Resource) -> Bytes {
    let mentions: Vec<String> = resource.mentions.iter().map(ToString::to_string).collect();
    mentions.join(" ").into()
}

/// The resource that a copy holds.
pub fn resource(sources: &[String], item: &Item) -> Resource {
    let source =
        sources.iter().position(|source| *source == item.source).map_or_else(|| source_of(&item.source), SourceIndex);
    let words = item.content.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let mentions = words.map(|word| IdType::Integer.parse(word).unwrap()).collect();
    Resource { source, owner: Some(item.course), mentions }
}

impl State {
    /// True if a finished copy of this run and store says that it holds something of the course.
    pub fn is_copied(&self, run: Uuid, store: &str, owner: CourseId) -> bool {
        let below = format!("campus/{run}/{store}/");
        let of_batch = |(name, _): &(&String, &Bytes)| name.starts_with(&below) && name.ends_with(".json");
        self.vault.iter().filter(of_batch).any(|(_, header)| {
            let header: serde_json::Value = serde_json::from_slice(header).unwrap();
            !header["courses"][owner.to_string()].is_null()
        })
    }
}
