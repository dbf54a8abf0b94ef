//! The collections and aliases of one data folder.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use qdrant_client::qdrant::alias_operations::Action;
use qdrant_client::qdrant::{AliasDescription, AliasOperations, CreateCollection, StrictModeConfig, Value};
use qdrant_edge::OperationError;

use crate::collection::Collection;
use crate::error::{Error, report};
use crate::manifest::{Entry, Manifest};

const MAX_NAME: usize = 255;

/// The collections and aliases of one data folder, and their persistence.
///
/// Every change is in the manifest before it is visible. Calls block.
pub struct Registry {
    data: PathBuf,
    state: RwLock<State>,
    /// Held while the server lives: two servers on one folder would destroy it.
    _lock: File,
}

#[derive(Default, Clone)]
struct State {
    collections: BTreeMap<String, Arc<Collection>>,
    aliases: BTreeMap<String, String>,
}

/// Why a data folder cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder or a file in it cannot be made, read or removed.
    #[error("the folder cannot be used")]
    Io(#[from] io::Error),
    /// Another server has it open.
    #[error("another server uses the folder")]
    Locked(#[source] fs::TryLockError),
    /// The engine does not open a collection.
    #[error("the engine cannot load collection `{0}`")]
    Load(String, #[source] Box<OperationError>),
}

impl Registry {
    /// Opens the folder `data`, made if absent, and removes what interrupted creates and deletes
    /// left behind.
    pub fn open(data: &Path) -> Result<Self, OpenError> {
        fs::create_dir_all(folders(data))?;
        let lock = File::create(data.join("lock"))?;
        lock.try_lock().map_err(OpenError::Locked)?;

        let manifest = Manifest::load(data)?;
        let mut state = State { aliases: manifest.aliases.into_iter().collect(), ..State::default() };
        let mut known = Vec::new();
        for entry in manifest.collections {
            let definition = entry.definition.unwrap_or_default();
            let name = definition.collection_name.clone();
            let collection = Collection::load(&folders(data), &entry.folder, definition)
                .map_err(|source| OpenError::Load(name.clone(), Box::new(source)))?;
            state.collections.insert(name, Arc::new(collection));
            known.push(entry.folder);
        }
        for folder in fs::read_dir(folders(data))? {
            let folder = folder?;
            if !known.iter().any(|name| folder.file_name() == name.as_str()) {
                fs::remove_dir_all(folder.path())?;
            }
        }
        Ok(Self { data: data.to_owned(), state: RwLock::new(state), _lock: lock })
    }

    /// Creates a collection.
    pub fn create(&self, definition: CreateCollection) -> Result<(), Error> {
        let name = definition.collection_name.clone();
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(Error::invalid_field(
                "collection_name",
                &format!("value invalid: {name:?}, must be from 1 to {MAX_NAME} characters"),
            ));
        }
        let mut state = self.state.write();
        state.refuse_collection(&name)?;
        if state.aliases.contains_key(&name) {
            return Err(Error::BadInput(format!(
                "Can't create collection with name {name}. Alias with the same name already exists"
            )));
        }
        let collection = Collection::create(&folders(&self.data), definition)?;
        let mut next = state.clone();
        next.collections.insert(name, Arc::new(collection));
        self.replace(&mut state, next)
    }

    /// Deletes a collection and its aliases; `false` if there is none of that name.
    pub fn delete(&self, name: &str) -> Result<bool, Error> {
        let removed = {
            let mut state = self.state.write();
            let mut next = state.clone();
            let Some(removed) = next.collections.remove(name) else {
                return Ok(false);
            };
            next.aliases.retain(|_, target| target != name);
            self.replace(&mut state, next)?;
            removed
        };
        let folder = folders(&self.data).join(removed.folder());
        drop(removed);
        // Calls that still hold the collection write into files without a name; what they leave
        // is removed at the next start.
        fs::remove_dir_all(folder).map_err(|error| Error::Internal(error.to_string()))?;
        Ok(true)
    }

    /// Merges strict mode's settings and metadata into a collection's, as a server does: what is
    /// set replaces, what is null goes, the rest stays.
    pub fn update(
        &self,
        name: &str,
        strict_mode: Option<StrictModeConfig>,
        metadata: HashMap<String, Value>,
    ) -> Result<(), Error> {
        let state = self.state.write();
        let collection = state.collections.get(name).ok_or_else(|| Error::no_collection(name))?;
        let before = collection.definition();
        collection.amend(strict_mode, metadata)?;
        self.save(&state).inspect_err(|_| collection.define(before))
    }

    /// The names of all collections, in order.
    pub fn names(&self) -> Vec<String> {
        self.state.read().collections.keys().cloned().collect()
    }

    /// The collection of that name or alias.
    pub fn get(&self, name: &str) -> Result<Arc<Collection>, Error> {
        let state = self.state.read();
        let target = state.aliases.get(name).map_or(name, String::as_str);
        state.collections.get(target).cloned().ok_or_else(|| Error::no_collection(name))
    }

    /// The aliases of the collection `of`, or all, in order.
    pub fn aliases(&self, of: Option<&str>) -> Vec<AliasDescription> {
        let state = self.state.read();
        state
            .aliases
            .iter()
            .filter(|(_, target)| of.is_none_or(|name| name == target.as_str()))
            .map(|(alias, target)| AliasDescription { alias_name: alias.clone(), collection_name: target.clone() })
            .collect()
    }

    /// Changes aliases: all of `actions`, or none.
    pub fn change_aliases(&self, actions: Vec<AliasOperations>) -> Result<(), Error> {
        let mut state = self.state.write();
        let mut next = state.clone();
        for action in actions {
            match action.action.ok_or_else(|| Error::missing("Action"))? {
                Action::CreateAlias(create) => {
                    if !next.collections.contains_key(&create.collection_name) {
                        return Err(Error::no_collection(&create.collection_name));
                    }
                    next.refuse_collection(&create.alias_name)?;
                    next.aliases.insert(create.alias_name, create.collection_name);
                }
                Action::RenameAlias(rename) => {
                    let old = &rename.old_alias_name;
                    let target = next
                        .aliases
                        .remove(old)
                        .ok_or_else(|| Error::NotFound(format!("Alias {old} does not exists!")))?;
                    next.aliases.insert(rename.new_alias_name, target);
                }
                Action::DeleteAlias(delete) => {
                    next.aliases.remove(&delete.alias_name);
                }
            }
        }
        self.replace(&mut state, next)
    }

    /// Flushes every collection that changed since it was last flushed. A failure is printed: the
    /// log still holds what was not flushed.
    pub fn flush(&self) {
        let collections: Vec<_> = self.state.read().collections.values().cloned().collect();
        for collection in collections {
            if let Err(error) = collection.flush() {
                report(&format!("a flush failed: {error}"));
            }
        }
    }

    fn replace(&self, state: &mut State, next: State) -> Result<(), Error> {
        self.save(&next)?;
        *state = next;
        Ok(())
    }

    fn save(&self, state: &State) -> Result<(), Error> {
        state.manifest().save(&self.data).map_err(|error| Error::Internal(format!("cannot save the manifest: {error}")))
    }
}

impl State {
    fn refuse_collection(&self, name: &str) -> Result<(), Error> {
        if self.collections.contains_key(name) {
            return Err(Error::AlreadyExists(format!("Collection `{name}` already exists!")));
        }
        Ok(())
    }

    fn manifest(&self) -> Manifest {
        Manifest {
            collections: self
                .collections
                .values()
                .map(|collection| Entry {
                    folder: collection.folder().to_owned(),
                    definition: Some(collection.definition()),
                })
                .collect(),
            aliases: self.aliases.clone().into_iter().collect(),
        }
    }
}

fn folders(data: &Path) -> PathBuf {
    data.join("collections")
}
