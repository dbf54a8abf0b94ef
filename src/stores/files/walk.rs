//! The walk to the layout's depth: which courses have a directory. Costs what listing that many levels costs; a course's
//! own directory is not opened. Several of the root's directories are read at a time, since a file system over a network answers late, and
//! many questions at once as late as one.

use std::panic::resume_unwind;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Place;
use super::batch::AT_ONCE;
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

/// Is told the path of what is to be descended into.
type Below<'a> = dyn FnMut(Vec<u8>, &mut Out<'_>) -> Result<(), Fault> + 'a;

impl Walk {
    pub fn start(place: Arc<Place>, watch: Watch, pace: Pace) -> Self {
        let (sender, chunks) = mpsc::channel(CHUNKS);
        let pulse = watch.pulse();
        let root = place.shown();
        let task = tokio::task::spawn_blocking(move || {
            let root = open_root(&place.root)?;
            Way { root: &root, place: &place, pulse: &pulse, sender: &sender }.walk()
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

/// Entries on their way to whoever reads them.
pub(super) struct Out<'w> {
    sender: &'w mpsc::Sender<Vec<Entry>>,
    pub(super) chunk: Vec<Entry>,
}

impl Out<'_> {
    fn emit(&mut self, entry: Entry) -> Result<(), Fault> {
        self.chunk.push(entry);
        if self.chunk.len() < CHUNK { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<(), Fault> {
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
        self.sender.blocking_send(chunk).map_err(|_| Fault::Stopped)
    }
}

/// A walk from the root.
#[derive(Clone, Copy)]
pub(super) struct Way<'w> {
    pub(super) root: &'w Dir,
    pub(super) place: &'w Place,
    pub(super) pulse: &'w Pulse,
    pub(super) sender: &'w mpsc::Sender<Vec<Entry>>,
}

impl<'w> Way<'w> {
    pub(super) fn out(self) -> Out<'w> {
        Out { sender: self.sender, chunk: Vec::with_capacity(CHUNK) }
    }

    /// The whole walk: the root itself is read here, and some of the directories in it at a time beside that.
    fn walk(self) -> Result<(), Fault> {
        let mut out = self.out();
        self.trash(&mut out)?;
        let (names, next) = sync_channel(AT_ONCE);
        let (next, failed) = (Mutex::new(next), AtomicBool::new(false));
        let each = || {
            let (mut out, mut walked) = (self.out(), Ok(()));
            // To their end, whatever comes of them: whoever reads the root must not wait for nobody.
            while let Some(path) = receive(&next) {
                if !failed.load(Ordering::Relaxed) {
                    walked = self.descend(self.root, 1, &path, &path, &mut out);
                    failed.fetch_or(walked.is_err(), Ordering::Relaxed);
                }
            }
            walked.and_then(|()| out.flush())
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(each)).collect();
            let read =
                self.level(self.root, 0, &[], &mut out, &mut |path, _| names.send(path).map_err(|_| Fault::Stopped));
            drop(names);
            let walked = workers.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)));
            walked.fold(read, Result::and)
        })?;
        out.flush()
    }

    /// First what is in the trash: what is deleted while this walk goes on must not be seen twice.
    fn trash(self, out: &mut Out<'_>) -> Result<(), Fault> {
        let own_path = join(OWN_FOLDER, TRASH);
        let trash = match self.root.open(OWN_FOLDER).and_then(|own| own.open(TRASH)) {
            Ok(trash) => trash,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(Fault::at("open the directory", &own_path)(errno)),
        };
        trash.entries(Fault::at("read the directory", &own_path), |name, _| {
            self.pulse.beat()?;
            let path = join(&own_path, name);
            out.emit(match trash_owner(self.place.id_type, name) {
                Some(owner) => Entry::Course { owner, path },
                None => Entry::Unclaimed(path),
            })
        })
    }

    /// One level of the layout. What is to be descended into is told to `below`, by its path and its name.
    pub(super) fn level(
        self,
        dir: &Dir,
        depth: usize,
        path: &[u8],
        out: &mut Out<'_>,
        below: &mut Below<'_>,
    ) -> Result<(), Fault> {
        let Self { place, pulse, .. } = self;
        pulse.beat()?;
        let read = dir.entries(Fault::at("read the directory", path), |name, kind| {
            pulse.beat()?;
            let path = join(path, name);
            if depth == 0 && name == OWN_FOLDER {
                return Ok(());
            }
            if kind != Kind::Directory || !place.layout.admits(depth, name) {
                return out.emit(Entry::Unclaimed(path));
            }
            if depth + 1 == place.layout.depth() {
                return out.emit(match place.id_type.parse(name) {
                    Some(owner) => Entry::Course { owner, path },
                    None => Entry::Unrecognised(path),
                });
            }
            below(path, out)
        });
        match read {
            // This directory was removed while it was read; the root itself is no such case.
            Err(Fault::Io { errno: Errno::NOENT, .. }) if depth > 0 => Ok(()),
            read => read,
        }
    }

    /// What is below a name in `dir`; as deep as the layout, so recursion is bounded.
    pub(super) fn descend(
        self,
        dir: &Dir,
        depth: usize,
        path: &[u8],
        name: &[u8],
        out: &mut Out<'_>,
    ) -> Result<(), Fault> {
        match dir.open(name) {
            Ok(opened) => self.level(&opened, depth, path, out, &mut |path, out| {
                let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec();
                self.descend(&opened, depth + 1, &path, &name, out)
            }),
            Err(Errno::NOENT) => Ok(()),
            // Mounted there, or replaced by something else: not ours to enter.
            Err(Errno::XDEV | Errno::NOTDIR | Errno::LOOP) => out.emit(Entry::Unclaimed(path.to_vec())),
            Err(errno) => Err(Fault::at("open the directory", path)(errno)),
        }
    }
}

/// The next directory to descend into; `None` once there are no more.
fn receive(next: &Mutex<Receiver<Vec<u8>>>) -> Option<Vec<u8>> {
    next.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}
