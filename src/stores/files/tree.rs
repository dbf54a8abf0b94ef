//! What lies below one directory: measured, searched, removed. Depth first, by descriptors, without following links.
//!
//! Memory and open descriptors grow with the depth (and the directories side by side there), not with the number of
//! files. A tree that is deeper than the process may have descriptors is an error, and stays.

use std::collections::BTreeSet;

use rustix::io::Errno;

use super::beneath::{Dir, Kind};
use super::watch::{Fault, Pulse};
use crate::domain::ids::{CourseId, IdType};
use crate::domain::inventory::{Amount, fingerprint};

/// How often a directory is read while it is emptied: something may appear in it meanwhile.
const PASSES: u32 = 16;

/// What the walk met at a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Met {
    Directory,
    Other,
    /// Something is mounted there; not entered.
    Mount,
}

/// Tells `visit` everything below `top`: the directory that it is in, its name, and its path relative to `top`. What
/// vanishes meanwhile is left out.
pub(super) fn walk(
    top: Dir,
    pulse: &Pulse,
    mut visit: impl FnMut(&Dir, &[u8], &[u8], Met) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut stack = vec![(top, Vec::new(), None::<Vec<Vec<u8>>>)];
    while let Some((dir, path, pending)) = stack.last_mut() {
        let below = match pending {
            Some(below) => below,
            None => pending.insert(read(dir, path, pulse, &mut visit)?),
        };
        let Some(name) = below.pop() else {
            stack.pop();
            continue;
        };
        let path = join(path, &name);
        match dir.open(&name) {
            Ok(sub) => {
                visit(dir, &name, &path, Met::Directory)?;
                stack.push((sub, path, None));
            }
            Err(Errno::NOENT) => {}
            Err(Errno::XDEV) => visit(dir, &name, &path, Met::Mount)?,
            Err(Errno::NOTDIR | Errno::LOOP) => visit(dir, &name, &path, Met::Other)?,
            Err(errno) => return Err(Fault::at("open the directory", &path)(errno)),
        }
    }
    Ok(())
}

/// Visits what is no directory, and returns the names of the directories.
fn read(
    dir: &Dir,
    path: &[u8],
    pulse: &Pulse,
    visit: &mut impl FnMut(&Dir, &[u8], &[u8], Met) -> Result<(), Fault>,
) -> Result<Vec<Vec<u8>>, Fault> {
    let mut below = Vec::new();
    pulse.beat()?;
    let fault = Fault::at("read the directory", path);
    let read = dir.entries(fault, |name, kind| {
        pulse.beat()?;
        match kind {
            Kind::Directory => below.push(name.to_vec()),
            Kind::Other => visit(dir, name, &join(path, name), Met::Other)?,
        }
        Ok(())
    });
    match read {
        // The directory itself was removed while it was read.
        Err(Fault::Io { errno: Errno::NOENT, .. }) => Ok(below),
        read => read.map(|()| below),
    }
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
    /// What has several names and was counted in `bytes`; as many as there are such, and no more.
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
        if stat.links < 2 || self.linked.insert(stat.identity) {
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

/// What a removal took away.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    pub files: u64,
    pub bytes: u64,
}

struct Level {
    dir: Dir,
    name: Vec<u8>,
    below: Vec<Vec<u8>>,
    passes: u32,
}

/// Removes `name` and everything below it. Whatever is mounted below stops it. `on_first` is called once, when the first
/// file has gone.
///
/// # Errors
/// At the first thing that cannot be removed; what was removed before is gone.
pub(super) fn remove(parent: &Dir, name: &[u8], pulse: &Pulse, mut on_first: impl FnMut()) -> Result<Taken, Fault> {
    let mut taken = Taken::default();
    let mut unlink = |dir: &Dir, name: &[u8]| -> Result<(), Fault> {
        pulse.beat()?;
        let fault = Fault::at("remove", name);
        let stat = match dir.stat(name) {
            Ok(stat) if stat.mount != dir.mount() => return Err(fault(Errno::XDEV)),
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(fault(errno)),
        };
        match dir.unlink(name) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(fault(errno)),
        }
        taken.files += 1;
        // Its last name frees it.
        if stat.links < 2 {
            taken.bytes = taken.bytes.saturating_add(stat.allocated);
        }
        if taken.files == 1 {
            on_first();
        }
        Ok(())
    };
    let mut stack: Vec<Level> = Vec::new();
    let mut next = Some(name.to_vec());
    loop {
        let dir = stack.last().map_or(parent, |level| &level.dir);
        if let Some(name) = next.take() {
            match dir.open(&name) {
                Ok(dir) => stack.push(Level { dir, name, below: Vec::new(), passes: 0 }),
                Err(Errno::NOENT) => {}
                Err(Errno::NOTDIR | Errno::LOOP) => unlink(dir, &name)?,
                Err(errno) => return Err(Fault::at("open the directory", &name)(errno)),
            }
        }
        let Some(mut level) = stack.pop() else { return Ok(taken) };
        if level.below.is_empty() {
            let Level { dir, name, below, passes } = &mut level;
            *passes += 1;
            if *passes > PASSES {
                return Err(Fault::at("empty the directory", name)(Errno::NOTEMPTY));
            }
            dir.entries(Fault::at("read the directory", name), |name, kind| match kind {
                Kind::Directory => {
                    below.push(name.to_vec());
                    Ok(())
                }
                Kind::Other => unlink(dir, name),
            })?;
        }
        next = level.below.pop();
        if next.is_some() {
            stack.push(level);
            continue;
        }
        match stack.last().map_or(parent, |above| &above.dir).remove_directory(&level.name) {
            Ok(()) | Err(Errno::NOENT) => {}
            // A writer that still has it open put something in.
            Err(Errno::NOTEMPTY | Errno::EXIST) => stack.push(level),
            Err(errno) => return Err(Fault::at("remove the directory", &level.name)(errno)),
        }
    }
}
