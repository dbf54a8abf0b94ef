//! A copy goes back to where it was.

use rustix::io::Errno;

use super::super::Place;
use super::super::beneath::Dir;
use super::super::spare::clashes;
use super::super::walk::open_root;
use super::super::watch::{Fault, Pulse};
use super::described::{Above, Description};
use super::{Spot, clear, make, open_below};
use crate::stores::copies::{PlacedCopy, PutBack, Restoring};

/// Puts a copy back to where it was.
pub(in super::super) fn put_back(
    place: &Place,
    copy: &PlacedCopy,
    restoring: Restoring,
    pulse: &Pulse,
) -> Result<PutBack, Fault> {
    let gone = || PutBack::Failed(format!("its copy `{}` is not there any more", copy.key.escape_ascii()));
    let Some((spot, kept_as)) = Spot::of(copy) else { return Ok(gone()) };
    let Some(batch) = spot.open_batch(place)? else { return Ok(gone()) };
    let Some(shelf) = open_below(&batch, &[spot.shelf])? else { return Ok(gone()) };
    if shelf.stat(kept_as).is_err() {
        return Ok(gone());
    }
    let root = open_root(&place.root)?;
    let components: Vec<&[u8]> = copy.name.split(|byte| *byte == b'/').collect();
    let Some((name, above)) = components.split_last() else { return Ok(gone()) };
    if restoring == Restoring::Look {
        let there = match open_below(&root, above)? {
            Some(parent) => clashes((&shelf, kept_as), (&parent, name), pulse)?,
            None => false,
        };
        return Ok(if there { PutBack::Exists } else { PutBack::Restored });
    }
    let told = Description::read(&batch, &spot)?.ok_or_else(|| spot.undescribed())?;
    let what = told.copies.iter().find(|what| what.name.as_bytes() == kept_as).ok_or_else(|| spot.undescribed())?;
    let parent = make_again(&root, above, &what.above)?;
    let back = match shelf.rename(kept_as, &parent, name) {
        Ok(()) => true,
        Err(Errno::EXIST | Errno::NOTEMPTY) => merge((&shelf, kept_as), (&parent, name), restoring, pulse)?,
        Err(errno) => return Err(Fault::at("put back", &copy.name)(errno)),
    };
    parent.sync().map_err(Fault::at("sync", &copy.name))?;
    if !back {
        return Ok(PutBack::Exists);
    }
    clear(place, &spot)?;
    Ok(PutBack::Restored)
}

/// Moves what is missing, or everything, from one directory to another of the same shape; true if nothing is left.
fn merge(
    (from, name): (&Dir, &[u8]),
    (to, new_name): (&Dir, &[u8]),
    restoring: Restoring,
    pulse: &Pulse,
) -> Result<bool, Fault> {
    pulse.beat()?;
    match from.rename(name, to, new_name) {
        Ok(()) => return Ok(true),
        Err(Errno::EXIST | Errno::NOTEMPTY) => {}
        Err(errno) => return Err(Fault::at("put back", new_name)(errno)),
    }
    match (from.open(name), to.open(new_name)) {
        (Ok(below), Ok(there)) => {
            let mut whole = true;
            below.entries(Fault::at("read the directory", name), |name, _| {
                whole &= merge((&below, name), (&there, name), restoring, pulse)?;
                Ok(())
            })?;
            there.sync().map_err(Fault::at("sync", new_name))?;
            if whole {
                from.remove_directory(name).map_err(Fault::at("remove the directory", name))?;
            }
            Ok(whole)
        }
        (Err(Errno::NOTDIR | Errno::LOOP), Err(Errno::NOTDIR | Errno::LOOP)) if restoring == Restoring::Overwrite => {
            from.replace_in(name, to, new_name).map_err(Fault::at("put back", new_name))?;
            Ok(true)
        }
        // A directory in a file's place, or the other way round, is not replaced, even if told so.
        _ => Ok(false),
    }
}

/// The directories above a course's. Those that have gone are made as they were, or, where nobody knows, as the root is.
fn make_again(root: &Dir, names: &[&[u8]], were: &[Above]) -> Result<Dir, Fault> {
    let stat = root.own_stat().map_err(Fault::at("look at", b"."))?;
    let like_root = Above { mode: stat.mode, owner: stat.owner };
    let mut dir = root.descend(&[]).map_err(Fault::at("open the directory", b"."))?;
    for (level, name) in names.iter().enumerate() {
        dir = match dir.open(name) {
            Ok(below) => below,
            Err(Errno::NOENT) => {
                let below = make(&dir, name)?;
                let Above { mode, owner } = were.get(level).copied().unwrap_or(like_root);
                below.belong_to(owner, mode).map_err(Fault::at("set the owner and the mode of", name))?;
                dir.sync().map_err(Fault::at("sync", name))?;
                below
            }
            Err(errno) => return Err(Fault::at("open the directory", name)(errno)),
        };
    }
    Ok(dir)
}
