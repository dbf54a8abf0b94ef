//! Courses' directories below a root.
//!
//! A [`Layout`] says where the directory of a course is; whatever it holds belongs to that course, and goes or stays as
//! one. The inventory reads only as deep as the layout; the directories of dead courses alone are measured.
//!
//! Invariants: nothing outside the root is ever opened, no link is followed, no mount is entered (`beneath`, S13); only
//! a directory whose name is a course's canonical id is a course's (S5); a delete starts with an atomic rename
//! (`delete`); what cannot be read makes the inventory an error (S4).
//!
//! Rejected: path strings (each use resolves links anew), a count of all files at each run (costs a walk of everything
//! for a number that nobody acts upon).

mod batch;
mod beneath;
mod delete;
mod doctor;
mod emptied;
mod in_place;
mod kept;
mod marker;
mod references;
mod sharing;
mod spare;
mod tree;
mod walk;
mod watch;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, TryStreamExt};
use rustix::io::Errno;
use tokio::sync::mpsc;

use crate::domain::findings::Finding;
use crate::domain::ids::{CourseId, IdType};
use crate::domain::inventory::{Census, SourceIndex};
use crate::pace::Pace;
use crate::stores::copies::{Copied, Copies, CopyId, InPlace, Item, PutBack, Receipt, Restoring};
use crate::stores::layout;
pub use crate::stores::layout::{Layout, LayoutError};
use crate::stores::{Handle, Marker, Outcome, Referenced, References, Removed, Store, StoreError, Targets};
use crate::sweep::Condemned;
use batch::{AT_ONCE, in_one_call};
pub use references::{Mapping, Reference, ReferenceSettings};
use tree::Measure;
use walk::{Entry, Walk, open_root};
use watch::{Fault, Pulse, Watch};

/// A files store has one source: its root.
const SOURCE: SourceIndex = SourceIndex(0);

/// What a files store is made from.
#[derive(Debug, Clone)]
pub struct FilesSettings {
    /// The store's name in the configuration.
    pub name: String,
    /// The directory that holds the courses' directories; absolute.
    pub root: PathBuf,
    /// Where in it a course's directory lies.
    pub layout: Layout,
    /// The type of the courses' ids.
    pub id_type: IdType,
    /// The most directories in one batch.
    pub batch_limit: usize,
    /// How long the file system may show no progress.
    pub call_timeout: Duration,
    /// Which files are in use although their course may be dead (S9).
    pub references: Option<ReferenceSettings>,
}

/// A store of files. See the module's documentation.
#[derive(Debug)]
pub struct FilesStore {
    name: String,
    place: Arc<Place>,
    sources: [String; 1],
    batch_limit: usize,
    call_timeout: Duration,
    references: Option<(String, Mapping)>,
    pace: Pace,
}

/// What the blocking threads need to know.
#[derive(Debug)]
struct Place {
    root: PathBuf,
    layout: Layout,
    id_type: IdType,
}

impl Place {
    fn shown(&self) -> String {
        self.root.display().to_string()
    }

    /// Opens the directory in which `path` lies, and measures what is there; `None` if it has gone. Ids above it count
    /// as mentions.
    fn measure(&self, path: &[u8], pulse: &Pulse) -> Result<Option<Measure>, Fault> {
        self.in_parent(path, |parent, name| {
            let measure = tree::measure(parent, name, self.id_type, pulse)?;
            Ok(measure.map(|mut measure| {
                measure.mentions.extend(self.id_type.mentions(path));
                measure
            }))
        })
        .map(Option::flatten)
    }

    fn in_parent<T>(
        &self,
        path: &[u8],
        job: impl FnOnce(&beneath::Dir, &[u8]) -> Result<T, Fault>,
    ) -> Result<Option<T>, Fault> {
        let components: Vec<_> = path.split(|byte| *byte == b'/').collect();
        let Some((name, above)) = components.split_last() else { return Ok(None) };
        match open_root(&self.root)?.descend(above) {
            Ok(parent) => job(&parent, name).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Fault::at("open the directory above", path)(errno)),
        }
    }
}

impl FilesStore {
    /// A store over a root. Nothing is opened yet.
    ///
    /// # Errors
    /// If the root is `/`, not absolute, or written with `..`.
    pub fn new(settings: FilesSettings) -> Result<Self, StoreError> {
        let FilesSettings { name, root, layout, id_type, batch_limit, call_timeout, references } = settings;
        let climbs = root.components().any(|component| component == Component::ParentDir);
        if !root.is_absolute() || climbs || root.components().count() < 2 {
            return Err(StoreError::Unusable(format!(
                "files root {}: a root is an absolute path below `/`, without `..`, such as /data/uploads",
                root.display()
            )));
        }
        let references = references.map(|settings| {
            let mapping = Mapping::new(&settings, &root);
            (settings.query, mapping)
        });
        let sources = [layout.text().to_owned()];
        let place = Arc::new(Place { root, layout, id_type });
        Ok(Self { name, place, sources, batch_limit, call_timeout, references, pace: Pace::default() })
    }

    /// The same store, called at this pace.
    #[must_use]
    pub fn paced(self, pace: Pace) -> Self {
        Self { pace, ..self }
    }

    fn walk(&self) -> Walk {
        Walk::start(Arc::clone(&self.place), Watch::new(self.call_timeout), self.pace.clone())
    }

    /// Runs a job on a blocking thread in its turn, under watch. `Err` says that it was given up, or ended unheard.
    async fn blocking<T: Send + 'static>(
        &self,
        limit: Duration,
        action: String,
        job: impl FnOnce(&Place, &Pulse) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        self.blocking_under(Watch::new(limit), action, job).await
    }

    async fn blocking_under<T: Send + 'static>(
        &self,
        watch: Watch,
        action: String,
        job: impl FnOnce(&Place, &Pulse) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let (place, pulse) = (Arc::clone(&self.place), watch.pulse());
        let action = format!("files root {}: {action}", self.place.shown());
        let turn = self.pace.turn().await;
        let task = tokio::task::spawn_blocking(move || job(&place, &pulse));
        let done = watch.over(&action, task).await?;
        turn.end();
        done.map_err(|error| StoreError::server(action, error))
    }

    async fn measure(&self, paths: Vec<Vec<u8>>) -> Result<Vec<Option<Measure>>, StoreError> {
        let action = format!("measure {}", batch::shown(paths.iter().map(Vec::as_slice)));
        let job = move |place: &Place, pulse: &Pulse| paths.iter().map(|path| place.measure(path, pulse)).collect();
        let measured: Result<_, Fault> = self.blocking(self.call_timeout, action, job).await?;
        measured.map_err(|fault| fault.of(&self.place.shown()))
    }

    /// Measures several at once, in their order.
    async fn measure_all<T: Send>(&self, paths: Vec<(T, Vec<u8>)>) -> Result<Vec<(T, Option<Measure>)>, StoreError> {
        let (of, paths): (Vec<T>, Vec<Vec<u8>>) = paths.into_iter().unzip();
        let measures: Vec<_> =
            paths.chunks(in_one_call(paths.len())).map(|paths| self.measure(paths.to_vec())).collect();
        let measured: Vec<_> = futures::stream::iter(measures).buffered(AT_ONCE).try_collect().await?;
        Ok(of.into_iter().zip(measured.into_iter().flatten()).collect())
    }
}

/// What went, and whether something of it stays.
fn gone(resources: u64, bytes: Option<u64>, left: u64) -> Outcome {
    match left {
        0 => Outcome::Deleted { resources, bytes },
        left => Outcome::Partly { resources, bytes, left },
    }
}

/// Of paths below the root those that are below `directory`, relative to it.
fn below(paths: &BTreeSet<Bytes>, directory: &[u8]) -> BTreeSet<Vec<u8>> {
    let start = Bytes::from(tree::join(directory, b""));
    let below = paths.range(start.clone()..).take_while(|path| path.starts_with(&start));
    below.map(|path| path[start.len()..].to_vec()).collect()
}

/// A named moment: tests stop the process here.
fn moment(store: &str) {
    tracing::debug!(target: "course_gc::moment", store, moment = "deleting");
}

#[async_trait]
impl Store for FilesStore {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "files"
    }

    fn sources(&self) -> &[String] {
        &self.sources
    }

    fn batch_limit(&self) -> usize {
        self.batch_limit
    }

    fn pace(&self) -> Option<&Pace> {
        Some(&self.pace)
    }

    async fn identity(&self) -> Result<String, StoreError> {
        let looked = self.blocking(self.call_timeout, "look at the root".to_owned(), |place, _| {
            open_root(&place.root)?.own_stat().map_err(Fault::at("look at", b"."))
        });
        let stat = looked.await?.map_err(|fault| fault.of(&self.place.shown()))?;
        let (major, minor, inode) = stat.identity;
        Ok(format!("files root {}, device {major}:{minor}, inode {inode}", self.place.shown()))
    }

    async fn marker(&self) -> Result<Option<Marker>, StoreError> {
        let read = self.blocking(self.call_timeout, "read the marker".to_owned(), |place, _| marker::read(place));
        read.await?.map_err(|fault| fault.of(&self.place.shown()))
    }

    async fn move_marker(&self, from: Option<&Marker>, to: &Marker) -> Result<bool, StoreError> {
        let (from, to) = (from.cloned(), to.clone());
        let job = move |place: &Place, pulse: &Pulse| marker::replace(place, from.as_ref(), &to, pulse);
        let moved = self.blocking(self.call_timeout, "move the marker".to_owned(), job);
        moved.await?.map_err(|fault| fault.of(&self.place.shown()))
    }

    async fn inventory(&self, census: &mut Census) -> Result<(), StoreError> {
        let mut walk = self.walk();
        while let Some(entries) = walk.next().await? {
            let mut dead = Vec::new();
            for entry in entries {
                match entry {
                    Entry::Unrecognised(path) => census.unrecognised(SOURCE, &path, 1),
                    Entry::Unclaimed(path) => census.unclaimed(&path),
                    Entry::Course { owner, .. } if census.pass_by(SOURCE, owner, 1) => {}
                    Entry::Course { owner, path } => dead.push((owner, path)),
                }
            }
            for (owner, found) in self.measure_all(dead).await? {
                match found {
                    Some(found) if found.mount.is_some() => {
                        census.entangled(SOURCE, owner, found.amount().resources);
                    }
                    Some(found) => {
                        census.observe(SOURCE, owner, found.amount(), || found.mentions.into_iter().collect());
                    }
                    None => {}
                }
            }
        }
        Ok(())
    }

    async fn locate(&self, targets: &Targets, handles: mpsc::Sender<Handle>) -> Result<(), StoreError> {
        let mut walk = self.walk();
        while let Some(entries) = walk.next().await? {
            let wanted = wanted(entries, targets).map(|(owner, path)| ((owner, Bytes::from(path.clone())), path));
            for ((owner, key), found) in self.measure_all(wanted.collect()).await? {
                let Some(found) = found else { continue };
                if found.mount.is_some() {
                    continue;
                }
                let mentions = found.mentions.into_iter().filter(|id| *id != owner).collect();
                let handle = Handle { source: SOURCE, owner, mentions, key };
                handles.send(handle).await.map_err(|_| StoreError::Stopped)?;
            }
        }
        Ok(())
    }

    fn reference_query(&self) -> Option<&str> {
        self.references.as_ref().map(|(query, _)| query.as_str())
    }

    async fn referenced(
        &self,
        courses: &BTreeSet<CourseId>,
        references: References<'_>,
    ) -> Result<Referenced, StoreError> {
        let Some((_, mapping)) = &self.references else { return Ok(Referenced::default()) };
        sharing::find(self, mapping, courses, references).await
    }

    /// The move into quarantine is the copy, and whether something may go is looked right before it: there is nothing to do yet.
    async fn copy(&self, _: &CopyId, handles: &[Handle], _: &mut dyn Copies) -> Result<Vec<Copied>, StoreError> {
        Ok(vec![Copied::Whole(Receipt::default()); handles.len()])
    }

    async fn put_back(&self, items: &[Item], _: Restoring) -> Vec<PutBack> {
        let why = || PutBack::Failed("directories lie in no archive: they were never files'".to_owned());
        items.iter().map(|_| why()).collect()
    }

    fn in_place(&self) -> Option<&dyn InPlace> {
        Some(self)
    }

    async fn delete(&self, batch: &Condemned) -> Removed {
        self.delete_batch(batch).await
    }

    async fn tidy(&self, now: DateTime<Utc>, untouched_for: TimeDelta) -> Result<(), StoreError> {
        let tidy = self.blocking(self.call_timeout, "remove emptied directories".to_owned(), move |place, pulse| {
            emptied::tidy(place, now, untouched_for, pulse)
        });
        tidy.await?.map_err(|fault| fault.of(&self.place.shown()))
    }

    async fn examine(&self) -> Vec<Finding> {
        self.examine_root().await
    }

    async fn remaining(&self, targets: &Targets) -> Result<Vec<(SourceIndex, CourseId, u64)>, StoreError> {
        let mut counts: BTreeMap<CourseId, u64> = BTreeMap::new();
        let mut walk = self.walk();
        while let Some(entries) = walk.next().await? {
            for (owner, found) in self.measure_all(wanted(entries, targets).collect()).await? {
                *counts.entry(owner).or_default() += found.map_or(0, |found| found.amount().resources);
            }
        }
        Ok(counts.into_iter().map(|(course, count)| (SOURCE, course, count)).collect())
    }
}

/// The directories of the courses that are wanted.
fn wanted(entries: Vec<Entry>, targets: &Targets) -> impl Iterator<Item = (CourseId, Vec<u8>)> {
    entries.into_iter().filter_map(|entry| match entry {
        Entry::Course { owner, path } if targets.contains(SOURCE, owner) => Some((owner, path)),
        _ => None,
    })
}
