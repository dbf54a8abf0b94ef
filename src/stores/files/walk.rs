//! The walk to the layout's depth: which courses have a directory. Costs what listing that many levels costs; a course's
//! own directory is not opened.

use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Place;
use super::beneath::{Dir, Kind};
use super::layout::OWN_FOLDER;
use super::tree::join;
use super::watch::{Fault, Pulse, Watch};
use crate::domain::ids::{CourseId, IdType};
use crate::pace::Pace;
use crate::stores::StoreError;

/// The folder in the store's own one, into which what is deleted is moved before it is removed.
pub(super) const TRASH: &[u8] = b"trash";
/// Entries that are handed over at once.
const CHUNK: usize = 256;
/// Chunks under way.
const CHUNKS: usize = 4;

/// What the walk found; paths are relative to the root.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// A course's directory, or what a crash left of one in the trash.
    Course { owner: CourseId, path: Vec<u8> },
    /// A directory in a course's place whose name is no canonical id.
    Unrecognised(Vec<u8>),
    /// What does not fit the layout.
    Unclaimed(Vec<u8>),
}

/// The course that an entry of the trash belonged to: its name is the course's id, a dot, and something unique.
pub(super) fn trash_owner(id_type: IdType, name: &[u8]) -> Option<CourseId> {
    let dot = name.iter().position(|byte| *byte == b'.')?;
    id_type.parse(&name[..dot])
}

/// A walk that runs on a blocking thread, at most a few chunks ahead of whoever reads it.
pub(super) struct Walk {
    watch: Watch,
    chunks: mpsc::Receiver<Vec<Entry>>,
    task: JoinHandle<Result<(), Fault>>,
    root: String,
    pace: Pace,
}

impl Walk {
    pub fn start(place: Arc<Place>, watch: Watch, pace: Pace) -> Self {
        let (sender, chunks) = mpsc::channel(CHUNKS);
        let pulse = watch.pulse();
        let root = place.shown();
        let task = tokio::task::spawn_blocking(move || {
            let mut chunk = Vec::with_capacity(CHUNK);
            let root = open_root(&place.root)?;
            walk(&root, &place, &pulse, &mut |entry| {
                chunk.push(entry);
                if chunk.len() < CHUNK {
                    return Ok(());
                }
                sender
                    .blocking_send(std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK)))
                    .map_err(|_| Fault::Stopped)
            })?;
            sender.blocking_send(chunk).map_err(|_| Fault::Stopped)
        });
        Self { watch, chunks, task, root, pace }
    }

    /// The next entries; `None` when everything was listed.
    ///
    /// # Errors
    /// If something could not be read, or nothing was heard for too long.
    pub async fn next(&mut self) -> Result<Option<Vec<Entry>>, StoreError> {
        let action = format!("files root {}: list the directories", self.root);
        self.pace.rest().await;
        if let Some(chunk) = self.watch.over(&action, self.chunks.recv()).await? {
            return Ok(Some(chunk));
        }
        match (&mut self.task).await {
            Ok(done) => done.map(|()| None).map_err(|fault| fault.of(&self.root)),
            Err(error) => Err(StoreError::server(action, error)),
        }
    }
}

/// Opens the root.
pub(super) fn open_root(root: &Path) -> Result<Dir, Fault> {
    Dir::root(root).map_err(|errno| Fault::Io {
        action: match errno {
            Errno::NOENT | Errno::NOTDIR => {
                "it is no directory; check `root`, and that the volume is mounted".to_owned()
            }
            _ => "it cannot be used as a root".to_owned(),
        },
        errno,
    })
}

/// The whole walk; `emit` is told every entry.
pub(super) fn walk(
    root: &Dir,
    place: &Place,
    pulse: &Pulse,
    emit: &mut dyn FnMut(Entry) -> Result<(), Fault>,
) -> Result<(), Fault> {
    // First what is in the trash: what is deleted while this walk goes on must not be seen twice.
    let own_path = join(OWN_FOLDER, TRASH);
    let trash = match root.open(OWN_FOLDER).and_then(|own| own.open(TRASH)) {
        Ok(trash) => Some(trash),
        Err(Errno::NOENT) => None,
        Err(errno) => return Err(Fault::at("open the directory", &own_path)(errno)),
    };
    if let Some(trash) = trash {
        trash.entries(Fault::at("read the directory", &own_path), |name, _| {
            pulse.beat()?;
            let path = join(&own_path, name);
            emit(match trash_owner(place.id_type, name) {
                Some(owner) => Entry::Course { owner, path },
                None => Entry::Unclaimed(path),
            })
        })?;
    }
    level(root, 0, &[], place, pulse, emit)
}

/// One level of the layout; as deep as the layout, so recursion is bounded.
fn level(
    dir: &Dir,
    depth: usize,
    path: &[u8],
    place: &Place,
    pulse: &Pulse,
    emit: &mut dyn FnMut(Entry) -> Result<(), Fault>,
) -> Result<(), Fault> {
    pulse.beat()?;
    let read = dir.entries(Fault::at("read the directory", path), |name, kind| {
        pulse.beat()?;
        let path = join(path, name);
        if depth == 0 && name == OWN_FOLDER {
            return Ok(());
        }
        if kind != Kind::Directory || !place.layout.admits(depth, name) {
            return emit(Entry::Unclaimed(path));
        }
        if depth + 1 == place.layout.depth() {
            return emit(match place.id_type.parse(name) {
                Some(owner) => Entry::Course { owner, path },
                None => Entry::Unrecognised(path),
            });
        }
        match dir.open(name) {
            Ok(below) => level(&below, depth + 1, &path, place, pulse, emit),
            Err(Errno::NOENT) => Ok(()),
            // Mounted there, or replaced by something else: not ours to enter.
            Err(Errno::XDEV | Errno::NOTDIR | Errno::LOOP) => emit(Entry::Unclaimed(path)),
            Err(errno) => Err(Fault::at("open the directory", &path)(errno)),
        }
    });
    match read {
        // This directory was removed while it was read; the root itself is no such case.
        Err(Fault::Io { errno: Errno::NOENT, .. }) if depth > 0 => Ok(()),
        read => read,
    }
}
