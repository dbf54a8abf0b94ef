//! What of a course's directory is referred to, and how the rest goes without it (S9).

use std::collections::{BTreeSet, HashSet};

use rustix::io::Errno;

use super::beneath::{Dir, Kind};
use super::tree::{Measure, Met, join, walk};
use super::watch::{Fault, Pulse};
use crate::domain::inventory::fingerprint;

/// What to look for in a directory.
#[derive(Debug)]
pub(super) struct Sought<'a> {
    /// Paths relative to it, and all that is below them.
    pub paths: &'a BTreeSet<Vec<u8>>,
    /// The fingerprints of names that a path was told by that leads nowhere known.
    pub names: Option<&'a HashSet<u64>>,
}

/// What was found of it.
#[derive(Debug, Default)]
pub(super) struct Spared {
    /// Nothing here may go: the directory itself is meant, or something that leads elsewhere (a link, a mount), so that nobody
    /// can tell what is meant.
    pub wholly: bool,
    /// The paths that stay, with all that is below them; relative.
    pub paths: BTreeSet<Vec<u8>>,
    /// Those of [`Sought::paths`] at which there is something.
    pub met: BTreeSet<Vec<u8>>,
    /// What stays.
    pub kept: Measure,
    /// Every file, whether it stays or not.
    pub files: u64,
}

/// Looks for what is referred to in `name` of `parent`; `None` if that is not there.
pub(super) fn search(parent: &Dir, name: &[u8], sought: &Sought<'_>, pulse: &Pulse) -> Result<Option<Spared>, Fault> {
    let mut spared = Spared { wholly: sought.has_name(name), ..Spared::default() };
    let top = match parent.open(name) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(None),
        // One file in the trash, or something that is mounted: there is no path below it.
        Err(Errno::NOTDIR | Errno::LOOP) => return Ok(Some(spared)),
        Err(Errno::XDEV) => return Ok(Some(Spared { wholly: true, ..spared })),
        Err(errno) => return Err(Fault::at("open the directory", name)(errno)),
    };
    walk(top, pulse, |dir, name, path, met| {
        let is_meant = sought.paths.contains(path);
        if is_meant {
            spared.met.insert(path.to_vec());
        }
        let is_below = is_below(path, &spared.paths);
        let stays = is_meant || is_below || sought.has_name(name);
        match met {
            Met::Mount => spared.wholly = true,
            Met::Directory => {}
            Met::Other => {
                spared.files += 1;
                if stays {
                    // What a link leads to may be among the rest.
                    spared.wholly |= dir.stat(name).is_ok_and(|stat| !stat.is_regular);
                    spared.kept.file(dir, name, path)?;
                }
            }
        }
        if stays && !is_below {
            spared.paths.insert(path.to_vec());
        }
        Ok(())
    })?;
    Ok(Some(spared))
}

impl Sought<'_> {
    fn has_name(&self, name: &[u8]) -> bool {
        self.names.is_some_and(|names| names.contains(&fingerprint(name)))
    }
}

/// True if a directory above `path` is one of `paths`.
fn is_below(path: &[u8], paths: &BTreeSet<Vec<u8>>) -> bool {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    !paths.is_empty() && slashes.into_iter().any(|(index, _)| paths.contains(&path[..index]))
}

/// True if one of `paths` is below `path`.
fn leads_to(path: &[u8], paths: &BTreeSet<Vec<u8>>) -> bool {
    let below = join(path, b"");
    paths.range(below.clone()..).next().is_some_and(|first| first.starts_with(&below))
}

/// Why a move piece by piece ended before its end.
#[derive(Debug)]
pub(super) enum Ended {
    /// The file system refused.
    Fault(Fault),
    /// Not even a file can be moved there in one step.
    Apart,
    /// The confirmation is too old.
    Late,
}

impl From<Fault> for Ended {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Moves all that is in one directory to another, but for what `spared` names, each thing in one rename. Directories that hold
/// something of both are made anew over there, as they are here; and so are those that the file system does not move.
pub(super) fn part(
    (from, path): (&Dir, &[u8]),
    to: &Dir,
    spared: &BTreeSet<Vec<u8>>,
    pulse: &Pulse,
) -> Result<(), Ended> {
    let was = from.own_stat().map_err(Fault::at("look at", path))?;
    let fault = |errno| Ended::Fault(Fault::at("read the directory", path)(errno));
    let moved = from.entries(fault, |name, kind| {
        pulse.beat()?;
        let path = join(path, name);
        if spared.contains(&path) {
            return Ok(());
        }
        let is_parted = kind == Kind::Directory && leads_to(&path, spared);
        let renamed = match is_parted {
            true => Err(Errno::XDEV),
            false if !pulse.is_good() => return Err(Ended::Late),
            false => from.rename(name, to, name),
        };
        match renamed {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::XDEV) if kind == Kind::Directory => {
                let below = from.open(name).map_err(Fault::at("open the directory", &path))?;
                let there = to.make(name).map_err(Fault::at("make the directory", &path))?;
                let parted = part((&below, &path), &there, spared, pulse);
                if is_parted || parted.is_err() || from.remove_directory(name).is_err() {
                    // Nothing of it went: then it is no part of the copy.
                    let _ = to.remove_directory(name);
                }
                parted
            }
            Err(Errno::XDEV) => Err(Ended::Apart),
            Err(errno) => Err(Fault::at("move away", &path)(errno).into()),
        }
    });
    // What did go must last, whatever came of the rest.
    to.be_like(&was).map_err(Fault::at("make as it was", path))?;
    to.sync().map_err(Fault::at("sync", path))?;
    from.sync().map_err(Fault::at("sync", path))?;
    moved
}

/// True if something of one directory has a name that is taken in the other.
pub(super) fn clashes(
    (from, name): (&Dir, &[u8]),
    (to, new_name): (&Dir, &[u8]),
    pulse: &Pulse,
) -> Result<bool, Fault> {
    pulse.beat()?;
    if to.stat(new_name).is_err_and(|errno| errno == Errno::NOENT) {
        return Ok(false);
    }
    let (Ok(below), Ok(there)) = (from.open(name), to.open(new_name)) else { return Ok(true) };
    // The first one is enough.
    let read = below.entries(
        |errno| Some(Fault::at("read the directory", name)(errno)),
        |name, _| match clashes((&below, name), (&there, name), pulse) {
            Ok(false) => Ok(()),
            Ok(true) => Err(None),
            Err(fault) => Err(Some(fault)),
        },
    );
    match read {
        Ok(()) => Ok(false),
        Err(None) => Ok(true),
        Err(Some(fault)) => Err(fault),
    }
}
