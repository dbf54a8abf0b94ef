//! The delete of one handle: look again, and move away: into quarantine, or into the trash and remove from there.
//!
//! The move is the delete: one rename on the same file system, atomic and instant, after which nothing of the course is
//! where the application looks for it. Where that cannot be, it is a rename for each thing, as long as the confirmation is good. What is left in the trash by a crash or an error is found by the next inventory
//! as a resource of its course, and goes through every gate again.

use std::collections::BTreeSet;

use rustix::io::Errno;
use uuid::Uuid;

use super::beneath::Dir;
use super::emptied::Left;
use super::layout::OWN_FOLDER;
use super::spare::{Ended, Sought, part, search};
use super::tree::{Measure, Taken, freed, join, measure, remove};
use super::walk::{TRASH, open_root, trash_owner};
use super::watch::{Fault, Pulse};
use super::{Place, emptied};
use crate::domain::ids::IdType;
use crate::domain::inventory::Amount;
use crate::stores::{Handle, Outcome};

/// Why a handle's directory stays.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The file system refused.
    Fault(Fault),
    /// It is not, or no longer, what was condemned; in words.
    Changed(String),
    /// By the time that it could be moved, its confirmation was too old. Nothing of it was.
    Late,
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Refusal {
    pub fn explain(&self) -> String {
        match self {
            Self::Fault(fault) => fault.explain(),
            Self::Changed(why) => why.clone(),
            Self::Late => "there was no time left to move it".to_owned(),
        }
    }

    /// What became of its handle.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Late => Outcome::Unattempted,
            Self::Fault(_) | Self::Changed(_) => Outcome::Failed(self.explain()),
        }
    }
}

/// A handle whose directory was looked at and may go.
pub(super) struct Inspected {
    pub root: Dir,
    pub parent: Dir,
    name: Vec<u8>,
    pub path: Vec<u8>,
    pub seen: Measure,
    pub is_trash: bool,
    pub owner: String,
    id_type: IdType,
}

impl Inspected {
    /// The directory that it is in, and that one's path.
    pub fn above(&self) -> (&Dir, &[u8]) {
        let slash = self.path.iter().rposition(|byte| *byte == b'/');
        (&self.parent, &self.path[..slash.unwrap_or(0)])
    }
}

/// What goes of a directory, and what stays.
pub(super) struct Part {
    /// What goes.
    pub going: Amount,
    /// Paths that stay, relative to the directory; empty if all of it goes.
    pub spared: BTreeSet<Vec<u8>>,
    /// How many files stay.
    pub left: u64,
}

/// Tells what goes of what was inspected from what is referred to, by paths relative to its directory. What is referred to and
/// not there has another name now: then nothing goes.
pub(super) fn without(inspected: &Inspected, referenced: BTreeSet<Vec<u8>>, pulse: &Pulse) -> Result<Part, Refusal> {
    let seen = inspected.seen.amount();
    if referenced.is_empty() {
        return Ok(Part { going: seen, spared: referenced, left: 0 });
    }
    let sought = Sought { paths: &referenced, names: None };
    let found = search(&inspected.parent, &inspected.name, &sought, pulse)?.unwrap_or_default();
    if found.wholly || found.met != referenced || inspected.is_trash {
        return Ok(Part { going: Amount::default(), spared: [Vec::new()].into(), left: seen.resources });
    }
    Ok(Part { going: seen.without(&found.kept.counted()), spared: found.paths, left: found.kept.counted().resources })
}

impl Part {
    /// True if nothing goes.
    pub fn stays(&self) -> bool {
        self.spared.contains(&Vec::new())
    }
}

/// What a move came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Moved {
    /// So much went, and so many files stay: what is referred to, what came meanwhile, what there was no time for.
    Away { amount: Amount, left: u64 },
    /// It had gone before.
    Absent,
}

/// What lies in the trash, ready to be removed.
pub(super) struct Trashed {
    trash: Dir,
    name: Vec<u8>,
    /// How many files are still where they were.
    pub left: u64,
}

/// Looks at a handle's directory again: still its owner's, nothing mounted below, no id in it that was not confirmed.
/// `None` if it has gone.
pub(super) fn inspect(place: &Place, handle: &Handle, pulse: &Pulse) -> Result<Option<Inspected>, Refusal> {
    let path = handle.key.to_vec();
    let components: Vec<_> = path.split(|byte| *byte == b'/').collect();
    let is_trash = matches!(components.as_slice(), [own, trash, _] if *own == OWN_FOLDER && *trash == TRASH);
    let Some((&name, above)) = components.split_last() else { return Ok(None) };
    let owner = if is_trash {
        trash_owner(place.id_type, name)
    } else if components.len() == place.layout.depth() {
        place.layout.owner(place.id_type, &components)
    } else {
        None
    };
    let shown = path.escape_ascii();
    if owner != Some(handle.owner) {
        return Err(Refusal::Changed(format!("`{shown}` is no directory of course {}", handle.owner)));
    }
    let root = open_root(&place.root)?;
    let parent = match root.descend(above) {
        Ok(parent) => parent,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(Fault::at("open the directory above", &path)(errno).into()),
    };
    let Some(seen) = measure(&parent, name, place.id_type, pulse)? else { return Ok(None) };
    if let Some(mount) = &seen.mount {
        return Err(Refusal::Changed(format!("`{shown}` stays: something is mounted at `{}`", mount.escape_ascii())));
    }
    if !seen.is_directory && !is_trash {
        return Err(Refusal::Changed(format!("`{shown}` is no directory any more")));
    }
    let confirmed: BTreeSet<_> = handle.mentions.iter().copied().chain([handle.owner]).collect();
    if let Some(id) = seen.mentions.difference(&confirmed).next() {
        return Err(Refusal::Changed(format!("`{shown}` now names {id} too, which was not confirmed dead")));
    }
    let (name, owner) = (name.to_vec(), handle.owner.to_string());
    Ok(Some(Inspected { root, parent, name, path, seen, is_trash, owner, id_type: place.id_type }))
}

/// Moves what was inspected into the trash; `None` if it has gone.
pub(super) fn discard(
    place: &Place,
    inspected: Inspected,
    spared: &BTreeSet<Vec<u8>>,
    pulse: &Pulse,
) -> Result<Option<Trashed>, Refusal> {
    if inspected.is_trash {
        return Ok(Some(Trashed { trash: inspected.parent, name: inspected.name, left: 0 }));
    }
    let Inspected { root, owner, .. } = &inspected;
    let trash = root.make(OWN_FOLDER).and_then(|own| own.make(TRASH));
    let trash = trash.map_err(Fault::at("make the directory", &join(OWN_FOLDER, TRASH)))?;
    // Sixteen digits: nothing that could be read as an id.
    let new_name = format!("{owner}.{:016x}", Uuid::new_v4().as_u64_pair().1).into_bytes();
    if !pulse.may_begin()? {
        return Err(Refusal::Late);
    }
    if spared.is_empty() {
        let (dir, path) = inspected.above();
        emptied::note(place, root, &[Left { dir, path, entries: 1 }], pulse);
    }
    Ok(match move_away(&inspected, spared, (&trash, &new_name), pulse)? {
        Moved::Away { left, .. } => Some(Trashed { trash, name: new_name, left }),
        Moved::Absent => None,
    })
}

/// Moves what was inspected to another directory, in one step if that can be. What turns out to be another thing than was inspected
/// stays; so does all of it if its confirmation grew too old while it waited for its turn or for the disk, or nobody waits any more.
///
/// It is moved piece by piece, each in one step, where something of it is referred to and stays, and where directories cannot be moved but
/// files can (a lower layer of an overlay).
pub(super) fn move_away(
    inspected: &Inspected,
    spared: &BTreeSet<Vec<u8>>,
    (to, new_name): (&Dir, &[u8]),
    pulse: &Pulse,
) -> Result<Moved, Refusal> {
    if !pulse.may_begin()? {
        return Err(Refusal::Late);
    }
    let Inspected { parent, name, path, seen, .. } = inspected;
    if !spared.is_empty() {
        return in_pieces(inspected, spared, (to, new_name), pulse);
    }
    let answer = parent.rename(name, to, new_name);
    let end = |dir: &Dir, name: &[u8]| match dir.stat(name) {
        Ok(stat) if Some(stat.identity) == seen.identity => End::Same,
        Err(Errno::NOENT) => End::Nothing,
        _ => End::Other,
    };
    match judge(answer, end(parent, name), end(to, new_name)) {
        Came::Moved => Ok(Moved::Away { amount: seen.amount(), left: 0 }),
        Came::Gone => Ok(Moved::Absent),
        Came::Replaced => {
            to.rename(new_name, parent, name).map_err(Fault::at("put back", path))?;
            let shown = path.escape_ascii();
            Err(Refusal::Changed(format!("`{shown}` was replaced while it was looked at, and stays")))
        }
        Came::Apart => in_pieces(inspected, spared, (to, new_name), pulse),
        Came::Failed(errno) => Err(Fault::at("move away", path)(errno).into()),
    }
}

/// Moves what is in a directory, but for what is spared, and the directory itself if nothing stays in it.
fn in_pieces(
    inspected: &Inspected,
    spared: &BTreeSet<Vec<u8>>,
    (to, new_name): (&Dir, &[u8]),
    pulse: &Pulse,
) -> Result<Moved, Refusal> {
    let Inspected { parent, name, path, seen, .. } = inspected;
    let from = match parent.open(name) {
        Ok(from) => from,
        Err(Errno::NOENT) => return Ok(Moved::Absent),
        Err(errno) => return Err(Fault::at("open the directory", path)(errno).into()),
    };
    if Some(from.own_stat().map_err(Fault::at("look at", path))?.identity) != seen.identity {
        let shown = path.escape_ascii();
        return Err(Refusal::Changed(format!("`{shown}` was replaced while it was looked at, and stays")));
    }
    let there = to.make(new_name).map_err(Fault::at("make the directory", new_name))?;
    let parted = part((&from, &[]), &there, spared, pulse);
    let is_emptied = spared.is_empty() && parted.is_ok() && parent.remove_directory(name).is_ok();
    if !is_emptied {
        // Nothing of it went: then there is no copy either.
        let _ = to.remove_directory(new_name);
    }
    match parted {
        Ok(()) | Err(Ended::Late) => {}
        Err(Ended::Apart) => {
            let (shown, own) = (path.escape_ascii(), OWN_FOLDER.escape_ascii());
            return Err(Refusal::Changed(format!(
                "`{shown}` stays: its files cannot be moved to `{own}` (they are under another quota, or on another file system); put both on one"
            )));
        }
        Err(Ended::Fault(fault)) => return Err(fault.into()),
    }
    let left = match is_emptied {
        true => Amount::default(),
        false => measure(parent, name, inspected.id_type, pulse)?.map(|left| left.counted()).unwrap_or_default(),
    };
    let seen = seen.amount();
    let bytes = seen.bytes.map(|bytes| bytes.saturating_sub(left.bytes.unwrap_or(0)));
    let amount = Amount { resources: seen.resources.saturating_sub(left.resources), bytes, ..seen };
    Ok(Moved::Away { amount, left: left.resources })
}

/// What is at one end of a move after it was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// What was inspected.
    Same,
    /// Something else, or nobody can tell.
    Other,
    Nothing,
}

/// What a move came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    /// What was inspected is where it was to go.
    Moved,
    /// It had gone before.
    Gone,
    /// Something else was moved.
    Replaced,
    /// The two ends cannot be reached from each other in one step.
    Apart,
    /// It stays.
    Failed(Errno),
}

/// What a rename came to, by its answer and by what is at both ends. A network file system that repeats a request whose answer
/// was lost says that there is nothing to move, or that something is there already, of a move that it made: so what is seen goes
/// before what is said.
fn judge(answer: Result<(), Errno>, from: End, to: End) -> Came {
    match (answer, from, to) {
        (Ok(()), _, End::Same) | (Err(_), End::Nothing | End::Other, End::Same) => Came::Moved,
        (Ok(()), ..) => Came::Replaced,
        (Err(Errno::NOENT | Errno::STALE), End::Nothing, End::Nothing) => Came::Gone,
        (Err(Errno::XDEV), ..) => Came::Apart,
        (Err(errno), ..) => Came::Failed(errno),
    }
}

impl Trashed {
    /// Removes it for good. `halfway` is called once, when the first file has gone.
    pub fn remove(&self, pulse: &Pulse, halfway: impl FnMut()) -> Result<Taken, Fault> {
        remove(&self.trash, &self.name, pulse, (freed, halfway))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s11_what_is_seen_after_a_move_goes_before_what_was_said_of_it() {
        use End::{Nothing, Other, Same};
        let lost = [Errno::NOENT, Errno::STALE];
        let other = [Errno::EXIST, Errno::ACCESS, Errno::IO, Errno::NOSPC];
        for from in [Same, Other, Nothing] {
            assert_eq!(judge(Ok(()), from, Same), Came::Moved);
            assert_eq!(judge(Ok(()), from, Other), Came::Replaced);
            assert_eq!(judge(Ok(()), from, Nothing), Came::Replaced, "then putting it back fails, and is told");
            for to in [Other, Nothing] {
                assert_eq!(judge(Err(Errno::XDEV), from, to), Came::Apart);
                for errno in other {
                    assert_eq!(judge(Err(errno), from, to), Came::Failed(errno), "{from:?} {to:?}");
                }
                for errno in lost {
                    let expected = if (from, to) == (Nothing, Nothing) { Came::Gone } else { Came::Failed(errno) };
                    assert_eq!(judge(Err(errno), from, to), expected, "{errno} {from:?} {to:?}");
                }
            }
        }
        for errno in lost.into_iter().chain(other) {
            for from in [Other, Nothing] {
                assert_eq!(judge(Err(errno), from, Same), Came::Moved, "{errno}: it was done, and asked for twice");
            }
            assert_eq!(judge(Err(errno), Same, Same), Came::Failed(errno), "no directory is in two places");
        }
    }
}
