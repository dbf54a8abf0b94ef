//! What is referred to of courses (S9), over all their directories.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;

use super::references::{Mapping, Reference};
use super::walk::Entry;
use super::{FilesStore, Place, spare, tree};
use crate::domain::ids::CourseId;
use crate::domain::inventory::{Amount, Referred, fingerprint};
use crate::stores::{Referenced, References, StoreError};

/// What `references` name of `courses`. Reads all of them, and only then directories, of which it searches no more than it must.
///
/// # Errors
/// If a reference or a directory cannot be read.
pub(super) async fn find(
    store: &FilesStore,
    mapping: &Mapping,
    courses: &BTreeSet<CourseId>,
    mut references: References<'_>,
) -> Result<Referenced, StoreError> {
    let Place { layout, id_type, .. } = &*store.place;
    let mut wholly = BTreeSet::new();
    let mut paths: BTreeMap<CourseId, BTreeSet<Vec<u8>>> = BTreeMap::new();
    let mut unmapped = HashSet::new();
    while let Some(path) = references.next().await {
        let path = path?;
        let reference = mapping.of(layout, *id_type, &path);
        // Whatever the mapping says: a path that names a course holds it, if it does not lead to what it means of it.
        let others = id_type.mentions(&path).into_iter().filter(|id| Some(*id) != reference.course());
        wholly.extend(others.filter(|id| courses.contains(id)));
        match reference {
            Reference::Mapped(owner, rest) if courses.contains(&owner) => {
                if rest.is_empty() {
                    wholly.insert(owner);
                } else {
                    paths.entry(owner).or_default().insert(rest);
                }
            }
            Reference::Mapped(..) | Reference::Elsewhere => {}
            Reference::Unmapped(name) => _ = unmapped.insert(fingerprint(&name)),
        }
    }
    if unmapped.is_empty() && paths.is_empty() {
        return Ok(Sharing { wholly, ..Sharing::default() }.referenced(paths));
    }
    let unmapped = Arc::new(unmapped);
    let mut sharing = Sharing { wholly, ..Sharing::default() };
    let mut walk = store.walk();
    while let Some(entries) = walk.next().await? {
        for entry in entries {
            let Entry::Course { owner, path } = entry else { continue };
            let sought = paths.get(&owner).cloned().unwrap_or_default();
            if !courses.contains(&owner) || sharing.wholly.contains(&owner) || sought.is_empty() && unmapped.is_empty()
            {
                continue;
            }
            let names = Arc::clone(&unmapped);
            let action = format!("search `{}`", path.escape_ascii());
            let directory = path.clone();
            let search = store.blocking(store.call_timeout, action, move |place, pulse| {
                let sought = spare::Sought { paths: &sought, names: Some(&names) };
                place.in_parent(&path, |parent, name| spare::search(parent, name, &sought, pulse))
            });
            if let Some(spared) = search.await?.map_err(|fault| fault.of(&store.place.shown()))?.flatten() {
                sharing.add(owner, &directory, spared);
            }
        }
    }
    Ok(sharing.referenced(paths))
}

/// What is referred to of the courses that were asked about, as their directories are searched.
#[derive(Debug, Default)]
struct Sharing {
    wholly: BTreeSet<CourseId>,
    partly: BTreeMap<CourseId, Shared>,
    keys: BTreeSet<Bytes>,
}

/// Of all directories of one course.
#[derive(Debug, Default)]
struct Shared {
    kept: Amount,
    files: u64,
    /// True if a directory or a file was found.
    any: bool,
    met: BTreeSet<Vec<u8>>,
}

impl Sharing {
    fn add(&mut self, owner: CourseId, directory: &[u8], spared: spare::Spared) {
        if spared.wholly {
            self.wholly.insert(owner);
            return;
        }
        let shared = self.partly.entry(owner).or_default();
        shared.kept.add(spared.kept.counted());
        shared.any |= !spared.paths.is_empty();
        shared.files += spared.files;
        shared.met.extend(spared.met);
        self.keys.extend(spared.paths.iter().map(|path| Bytes::from(tree::join(directory, path))));
    }

    /// What it all comes to. A path that leads into a course's directory and to nothing there is written in a way that nobody here
    /// understands, or its file is about to come: all of the course stays.
    fn referenced(self, sought: BTreeMap<CourseId, BTreeSet<Vec<u8>>>) -> Referenced {
        let mut wholly = self.wholly;
        let met = |owner: &CourseId| self.partly.get(owner).map(|shared| &shared.met);
        wholly.extend(sought.iter().filter(|(owner, paths)| met(owner) != Some(*paths)).map(|(owner, _)| *owner));
        let partly = self.partly.iter().filter(|(_, shared)| shared.any);
        let mut courses: BTreeMap<CourseId, Referred> = partly
            .map(|(owner, Shared { kept, files, .. })| match kept.resources {
                // An empty directory: it counts as nothing, and nobody can say how much stays.
                0 => (*owner, Referred::Wholly),
                resources if resources >= *files => (*owner, Referred::Wholly),
                _ => (*owner, Referred::Partly(*kept)),
            })
            .collect();
        courses.extend(wholly.into_iter().map(|owner| (owner, Referred::Wholly)));
        Referenced { courses, keys: self.keys }
    }
}
