//! What lies below one directory: measured, searched, removed. Depth first, by descriptors, without following links.
//!
//! Memory and open descriptors grow with the depth, not with what lies side by side: directories are read piece by piece. What does
//! take memory is each id that a name holds, since all of them are asked about (S5). A tree that is deeper than the process may have descriptors is an error, and stays.

use std::collections::BTreeSet;

use rustix::io::Errno;

use super::beneath::{Dir, Kind};
use super::watch::{Fault, Pulse};
use crate::domain::ids::{CourseId, IdType};
use crate::domain::inventory::{Amount, fingerprint};

/// How often a directory is read while it is emptied: something may appear in it meanwhile.
const PASSES: u32 = 16;
/// How many files of several names are remembered, so that their bytes count once: two megabytes of them.
const MOST_LINKED: usize = 1 << 16;

/// What the walk met at a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Met {
    Directory,
    Other,
    /// Something is mounted there; not entered.
    Mount,
}

/// A directory on the way down, read piece by piece.
struct Level {
    dir: Dir,
    path: Vec<u8>,
    /// Directories in it, of what was read last.
    below: Vec<Vec<u8>>,
    ended: bool,
}

/// Tells `visit` everything below `top`: the directory that it is in, its name, and its path relative to `top`. What
/// vanishes meanwhile is left out.
pub(super) fn walk(
    top: Dir,
    pulse: &Pulse,
    mut visit: impl FnMut(&Dir, &[u8], &[u8], Met) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut stack = vec![Level { dir: top, path: Vec::new(), below: Vec::new(), ended: false }];
    while let Some(level) = stack.last_mut() {
        let Some(name) = level.below.pop() else {
            if level.ended {
                stack.pop();
            } else {
                read(level, pulse, &mut visit)?;
            }
            continue;
        };
        let (dir, path) = (&level.dir, join(&level.path, &name));
        match dir.open(&name) {
            Ok(sub) => {
                visit(dir, &name, &path, Met::Directory)?;
                stack.push(Level { dir: sub, path, below: Vec::new(), ended: false });
            }
            Err(Errno::NOENT) => {}
            Err(Errno::XDEV) => visit(dir, &name, &path, Met::Mount)?,
            Err(Errno::NOTDIR | Errno::LOOP) => visit(dir, &name, &path, Met::Other)?,
            Err(errno) => return Err(Fault::at("open the directory", &path)(errno)),
        }
    }
    Ok(())
}

/// Reads on in a directory: visits what is no directory, and remembers what is one.
fn read(
    level: &mut Level,
    pulse: &Pulse,
    visit: &mut impl FnMut(&Dir, &[u8], &[u8], Met) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let Level { dir, path, below, ended } = level;
    pulse.beat()?;
    let read = dir.more_entries(Fault::at("read the directory", path), |name, kind| {
        pulse.beat()?;
        match kind {
            Kind::Directory => below.push(name.to_vec()),
            Kind::Other => visit(dir, name, &join(path, name), Met::Other)?,
        }
        Ok(())
    });
    *ended = match read {
        Ok(more) => !more,
        // The directory itself was removed while it was read.
        Err(Fault::Io { errno: Errno::NOENT, .. }) => true,
        Err(fault) => return Err(fault),
    };
    Ok(())
}

/// `path/name`, or `name` if `path` is empty.
pub(super) fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}

/// What lies at a name: a directory with everything below it, or a single file.
#[derive(Debug, Default)]
pub(super) struct Measure {
    files: u64,
    bytes: u64,
    fingerprint: u64,
    /// What has several names and was counted in `bytes`: at most so many.
    linked: BTreeSet<(u32, u32, u64)>,
    /// Every id in a name, in any spelling.
    pub mentions: BTreeSet<CourseId>,
    /// The first path at which something is mounted, if there is one.
    pub mount: Option<Vec<u8>>,
    /// Device and inode of what lies at the name itself; unknown if that is a mount.
    pub identity: Option<(u32, u32, u64)>,
    /// True if it is a directory that was opened.
    pub is_directory: bool,
}

impl Measure {
    /// As an amount: an empty directory counts as one resource, so that it is found and goes.
    pub fn amount(&self) -> Amount {
        Amount { resources: self.files.max(1), ..self.counted() }
    }

    /// The files alone, of which there may be none.
    pub fn counted(&self) -> Amount {
        Amount { resources: self.files, bytes: Some(self.bytes), fingerprint: self.fingerprint }
    }

    pub fn file(&mut self, dir: &Dir, name: &[u8], path: &[u8]) -> Result<(), Fault> {
        let stat = match dir.stat(name) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(Fault::at("look at", path)(errno)),
        };
        if stat.mount != dir.mount() {
            self.mount.get_or_insert_with(|| path.to_vec());
        }
        let (seconds, nanoseconds) = stat.modified;
        let content = [&b"\0"[..], &stat.size.to_le_bytes(), &seconds.to_le_bytes(), &nanoseconds.to_le_bytes()];
        self.files += 1;
        // What is too much to remember counts by each of its names: too many bytes hold, too few do not.
        if stat.links < 2 || self.linked.len() >= MOST_LINKED || self.linked.insert(stat.identity) {
            self.bytes = self.bytes.saturating_add(stat.allocated);
        }
        self.fingerprint = self.fingerprint.wrapping_add(fingerprint(&[path, &content.concat()].concat()));
        Ok(())
    }
}

/// Measures what lies at `name` in `parent`; `None` if nothing does.
pub(super) fn measure(parent: &Dir, name: &[u8], id_type: IdType, pulse: &Pulse) -> Result<Option<Measure>, Fault> {
    let mut measure = Measure { mentions: id_type.mentions(name).into_iter().collect(), ..Measure::default() };
    let top = match parent.open(name) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::XDEV) => {
            measure.mount = Some(name.to_vec());
            return Ok(Some(measure));
        }
        Err(Errno::NOTDIR | Errno::LOOP) => {
            measure.file(parent, name, name)?;
            measure.identity = parent.stat(name).ok().map(|stat| stat.identity);
            return Ok(measure.identity.is_some().then_some(measure));
        }
        Err(errno) => return Err(Fault::at("open the directory", name)(errno)),
    };
    measure.identity = Some(top.own_stat().map_err(Fault::at("look at", name))?.identity);
    measure.is_directory = true;
    walk(top, pulse, |dir, name, path, met| {
        measure.mentions.extend(id_type.mentions(name));
        match met {
            Met::Directory => Ok(()),
            Met::Other => measure.file(dir, name, path),
            Met::Mount => {
                measure.mount.get_or_insert_with(|| path.to_vec());
                Ok(())
            }
        }
    })?;
    Ok(Some(measure))
}

/// The first path at `name` or below at which something is mounted, if there is one.
pub(super) fn mounted(parent: &Dir, name: &[u8], pulse: &Pulse) -> Result<Option<Vec<u8>>, Fault> {
    let is_mount = |dir: &Dir, name: &[u8], path: &[u8]| match dir.stat(name) {
        Ok(stat) => Ok(stat.mount != dir.mount()),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(Fault::at("look at", path)(errno)),
    };
    let top = match parent.open(name) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::XDEV) => return Ok(Some(name.to_vec())),
        Err(Errno::NOTDIR | Errno::LOOP) => return Ok(is_mount(parent, name, name)?.then(|| name.to_vec())),
        Err(errno) => return Err(Fault::at("open the directory", name)(errno)),
    };
    let mut first = None;
    walk(top, pulse, |dir, name, path, met| {
        let is_mounted = match met {
            Met::Directory => false,
            Met::Other => is_mount(dir, name, path)?,
            Met::Mount => true,
        };
        if is_mounted {
            first.get_or_insert_with(|| path.to_vec());
        }
        Ok(())
    })?;
    Ok(first)
}

/// What a removal took away.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    pub files: u64,
    pub bytes: u64,
}

/// A directory that is being emptied, piece by piece.
struct Emptying {
    dir: Dir,
    name: Vec<u8>,
    /// Directories in it, of what was read last.
    below: Vec<Vec<u8>>,
    ended: bool,
    passes: u32,
}

/// How many bytes a file's removal frees: its last name frees it. `EXDEV` if something is mounted there.
pub(super) fn freed(dir: &Dir, name: &[u8]) -> Result<u64, Errno> {
    let stat = dir.stat(name)?;
    if stat.mount != dir.mount() {
        return Err(Errno::XDEV);
    }
    Ok(if stat.links < 2 { stat.allocated } else { 0 })
}

/// Removes `name` and everything below it. Whatever is mounted below stops it: the kernel removes nothing on which something is mounted.
/// `freed` says how many bytes a file frees, before it goes; `on_first` is called once, when the first one has gone.
///
/// # Errors
/// At the first thing that cannot be removed; what was removed before is gone.
pub(super) fn remove(
    parent: &Dir,
    name: &[u8],
    pulse: &Pulse,
    (freed, mut on_first): (impl Fn(&Dir, &[u8]) -> Result<u64, Errno>, impl FnMut()),
) -> Result<Taken, Fault> {
    let mut taken = Taken::default();
    let mut unlink = |dir: &Dir, name: &[u8]| -> Result<(), Fault> {
        pulse.beat()?;
        let bytes = match freed(dir, name).and_then(|bytes| dir.unlink(name).map(|()| bytes)) {
            Ok(bytes) => bytes,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(Fault::at("remove", name)(errno)),
        };
        taken.files += 1;
        taken.bytes = taken.bytes.saturating_add(bytes);
        if taken.files == 1 {
            on_first();
        }
        Ok(())
    };
    let mut stack: Vec<Emptying> = Vec::new();
    let mut next = Some(name.to_vec());
    loop {
        pulse.beat()?;
        let dir = stack.last().map_or(parent, |level| &level.dir);
        if let Some(name) = next.take() {
            match dir.open(&name) {
                Ok(dir) => stack.push(Emptying { dir, name, below: Vec::new(), ended: false, passes: 1 }),
                Err(Errno::NOENT) => {}
                Err(Errno::NOTDIR | Errno::LOOP) => unlink(dir, &name)?,
                Err(errno) => return Err(Fault::at("open the directory", &name)(errno)),
            }
        }
        let Some(mut level) = stack.pop() else { return Ok(taken) };
        while level.below.is_empty() && !level.ended {
            let Emptying { dir, name, below, ended, .. } = &mut level;
            let more = dir.more_entries(Fault::at("read the directory", name), |name, kind| match kind {
                Kind::Directory => {
                    below.push(name.to_vec());
                    Ok(())
                }
                Kind::Other => unlink(dir, name),
            })?;
            *ended = !more;
        }
        next = level.below.pop();
        if next.is_some() {
            stack.push(level);
            continue;
        }
        match stack.last().map_or(parent, |above| &above.dir).remove_directory(&level.name) {
            Ok(()) | Err(Errno::NOENT) => {}
            // A writer that still has it open put something in; or the file system lost its place as what it listed went.
            Err(Errno::NOTEMPTY | Errno::EXIST) if level.passes < PASSES => {
                level.dir.rewind().map_err(Fault::at("read the directory", &level.name))?;
                stack.push(Emptying { ended: false, passes: level.passes + 1, ..level });
            }
            Err(errno) => return Err(Fault::at("remove the directory", &level.name)(errno)),
        }
    }
}
