//! Directories above courses' that our deletes emptied (an organization's): removed once nothing has happened in them for long.
//!
//! Before the last entries of such a directory are moved away, it is noted in `.course-gc/emptied/`. The next run that
//! finds it empty notes when that was, in the ledger's time, and when the directory last changed. A later run removes it, if it
//! is the same one, is empty and has not changed since, for as long as the grace of a departed course. Whatever else it finds ends
//! the note: the directory is in use, and stays.
//!
//! Invariants: what we did not empty is never noted; a directory that holds anything cannot be removed (`rmdir`); no clock of
//! the file system is compared with another one (S6).
//!
//! Rejected: removing it together with its last course, which would take it from an application that has just looked whether
//! it is there, and is about to make a course's directory in it.

use std::fs::File;
use std::io::Read;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Place;
use super::beneath::Dir;
use super::layout::OWN_FOLDER;
use super::tree::join;
use super::walk::open_root;
use super::watch::{Fault, Pulse};
use crate::stores::copies::NameText;

const EMPTIED: &[u8] = b"emptied";
/// Ends the name of a note that is being written.
const UNFINISHED: &[u8] = b".new";
/// More than the longest paths of as many as go together.
const MOST_BYTES: u64 = 4 * 1024 * 1024;

/// What is known of a directory that was emptied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    /// Below the root.
    path: NameText,
    inode: u64,
    /// Since a run found it empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen: Option<Seen>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    /// The beginning of the run, in the ledger's time.
    at: DateTime<Utc>,
    /// When the directory last changed, in its file system's time.
    changed: (i64, u32),
}

/// What is there now.
#[derive(Debug, Clone, Copy)]
struct There {
    inode: u64,
    changed: (i64, u32),
    is_empty: bool,
}

/// What is to be done about a note.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// The directory is in use, or another one, or gone.
    Forget,
    /// It is empty, since this run at the latest.
    Note(Seen),
    Wait,
    Remove,
}

fn judge(note: &Note, there: Option<There>, now: DateTime<Utc>, untouched_for: TimeDelta) -> Next {
    match (there, note.seen) {
        (Some(There { inode, is_empty: true, changed }), seen) if inode == note.inode => match seen {
            None => Next::Note(Seen { at: now, changed }),
            Some(seen) if seen.changed != changed => Next::Forget,
            Some(seen) if now.signed_duration_since(seen.at) < untouched_for => Next::Wait,
            Some(_) => Next::Remove,
        },
        _ => Next::Forget,
    }
}

/// A directory of which some entries are about to go.
pub(super) struct Left<'a> {
    pub dir: &'a Dir,
    /// Below the root.
    pub path: &'a [u8],
    /// How many of them.
    pub entries: usize,
}

/// Notes which of these directories hold nothing but what is about to go, of those that may go after it. That it cannot be noted keeps
/// nothing from going: then empty directories stay.
pub(super) fn note(place: &Place, root: &Dir, left: &[Left<'_>], pulse: &Pulse) {
    let warn = |path: &[u8], fault: &Fault| {
        let path = path.escape_ascii();
        tracing::warn!(root = place.shown(), %path, error = fault.explain(), "a directory that is emptied will stay");
    };
    let mut emptied = Vec::new();
    for left in left {
        match about_to_be_empty(place, left, pulse) {
            Ok(note) => emptied.extend(note),
            Err(fault) => warn(left.path, &fault),
        }
    }
    if !emptied.is_empty()
        && let Err(fault) = keep(root, &emptied)
    {
        emptied.into_iter().for_each(|note| warn(&Bytes::from(note.path), &fault));
    }
}

fn about_to_be_empty(place: &Place, left: &Left<'_>, pulse: &Pulse) -> Result<Option<Note>, Fault> {
    let Left { dir, path, entries } = left;
    pulse.beat()?;
    let components: Vec<_> = path.split(|byte| *byte == b'/').collect();
    if !place.layout.is_made_per_course(&components) || holds_more_than(dir, path, *entries)? {
        return Ok(None);
    }
    let inode = dir.own_stat().map_err(Fault::at("look at", path))?.identity.2;
    Ok(Some(Note { path: (*path).into(), inode, seen: None }))
}

fn keep(root: &Dir, emptied: &[Note]) -> Result<(), Fault> {
    let own = root.make(OWN_FOLDER).map_err(Fault::at("make the directory", OWN_FOLDER))?;
    let notes = own.make(EMPTIED).map_err(Fault::at("make the directory", EMPTIED))?;
    write(&notes, Uuid::new_v4().to_string().as_bytes(), emptied)?;
    own.sync().map_err(Fault::at("sync", OWN_FOLDER))
}

/// Removes what was emptied and has been left alone for as long, and forgets what has not.
pub(super) fn tidy(place: &Place, now: DateTime<Utc>, untouched_for: TimeDelta, pulse: &Pulse) -> Result<(), Fault> {
    let root = open_root(&place.root)?;
    let notes = match root.descend(&[OWN_FOLDER, EMPTIED]) {
        Ok(notes) => notes,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(Fault::at("open the directory", EMPTIED)(errno)),
    };
    let mut names = Vec::new();
    notes.entries(Fault::at("read the directory", EMPTIED), |name, _| {
        names.push(name.to_vec());
        pulse.beat()
    })?;
    for name in &names {
        let before = read(&notes, name)?;
        let mut after = Vec::with_capacity(before.len());
        for note in &before {
            pulse.beat()?;
            after.extend(follow(place, &root, note, (now, untouched_for), pulse)?);
        }
        if after.is_empty() {
            forget(&notes, name)?;
        } else if after != before {
            write(&notes, name, &after)?;
        }
    }
    Ok(())
}

/// Does what is to be done about a note; what is to be remembered then.
fn follow(
    place: &Place,
    root: &Dir,
    note: &Note,
    (now, untouched_for): (DateTime<Utc>, TimeDelta),
    pulse: &Pulse,
) -> Result<Option<Note>, Fault> {
    let path = Bytes::from(note.path.clone());
    let components: Vec<_> = path.split(|byte| *byte == b'/').collect();
    // By another layout it may be a course's.
    if !place.layout.is_made_per_course(&components) {
        return Ok(None);
    }
    Ok(match judge(note, look(root, &components, &path)?, now, untouched_for) {
        Next::Forget => None,
        Next::Wait => Some(note.clone()),
        Next::Note(seen) => Some(Note { seen: Some(seen), ..note.clone() }),
        Next::Remove => {
            remove(place, root, (&components, &path), pulse)?;
            None
        }
    })
}

fn look(root: &Dir, components: &[&[u8]], path: &[u8]) -> Result<Option<There>, Fault> {
    let dir = match root.descend(components) {
        Ok(dir) => dir,
        // It has gone, or something else has its name, or is mounted there.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => return Ok(None),
        Err(errno) => return Err(Fault::at("open the directory", path)(errno)),
    };
    let stat = dir.own_stat().map_err(Fault::at("look at", path))?;
    let is_empty = !holds_more_than(&dir, path, 0)?;
    Ok(Some(There { inode: stat.identity.2, changed: stat.changed, is_empty }))
}

fn remove(place: &Place, root: &Dir, (components, path): (&[&[u8]], &[u8]), pulse: &Pulse) -> Result<(), Fault> {
    let Some((name, above)) = components.split_last() else { return Ok(()) };
    let parent = root.descend(above).map_err(Fault::at("open the directory above", path))?;
    note(place, root, &[Left { dir: &parent, path: &above.join(&b'/'), entries: 1 }], pulse);
    // Whoever puts something in now is spared by the kernel.
    match parent.remove_directory(name) {
        Ok(()) => tracing::info!(root = place.shown(), path = %path.escape_ascii(), "removed the empty directory"),
        Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR | Errno::BUSY) => {}
        Err(errno) => return Err(Fault::at("remove the directory", path)(errno)),
    }
    parent.sync().map_err(Fault::at("sync", path))
}

/// True if there are more than so many entries; reads no further.
fn holds_more_than(dir: &Dir, path: &[u8], most: usize) -> Result<bool, Fault> {
    let mut count = 0;
    let read = dir.entries(
        |errno| Some(Fault::at("read the directory", path)(errno)),
        |_, _| {
            count += 1;
            if count > most { Err(None) } else { Ok(()) }
        },
    );
    match read {
        Ok(()) => Ok(false),
        Err(None) => Ok(true),
        Err(Some(fault)) => Err(fault),
    }
}

/// Directories that are emptied together are noted in one file.
fn write(notes: &Dir, name: &[u8], emptied: &[Note]) -> Result<(), Fault> {
    let new_name = [name, UNFINISHED].concat();
    let json = serde_json::to_vec(emptied).map_err(|why| Fault::Unusable(format!("cannot write a note: {why}")))?;
    notes.write(&new_name, &json).map_err(Fault::at("write", &new_name))?;
    notes.replace(&new_name, name).map_err(Fault::at("rename", &new_name))?;
    notes.sync().map_err(Fault::at("sync", EMPTIED))
}

/// None, if they are no notes, or were never finished.
fn read(notes: &Dir, name: &[u8]) -> Result<Vec<Note>, Fault> {
    if name.ends_with(UNFINISHED) {
        return Ok(Vec::new());
    }
    let path = join(EMPTIED, name);
    let file = match notes.open_file(name) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(Vec::new()),
        Err(errno) => return Err(Fault::at("open", &path)(errno)),
    };
    let mut json = Vec::new();
    let read = file.take(MOST_BYTES).read_to_end(&mut json);
    read.map_err(|error| Fault::at("read", &path)(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
    Ok(serde_json::from_slice(&json).unwrap_or_default())
}

fn forget(notes: &Dir, name: &[u8]) -> Result<(), Fault> {
    match notes.unlink(name) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(Fault::at("remove", &join(EMPTIED, name))(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s6_an_emptied_directory_waits_from_when_a_run_saw_it_and_for_as_long_as_nothing_changes() {
        let at = |seconds| DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds);
        let there = There { inode: 7, changed: (1, 1), is_empty: true };
        let new = Note { path: b"acme"[..].into(), inode: 7, seen: None };
        let judge = |note: &Note, there, now| super::judge(note, there, at(now), TimeDelta::seconds(100));
        let seen = Seen { at: at(1000), changed: (1, 1) };
        assert_eq!(judge(&new, Some(there), 1000), Next::Note(seen), "however long ago it was emptied");
        let old = Note { seen: Some(seen), ..new.clone() };
        for now in [0, 1000, 1099] {
            assert_eq!(judge(&old, Some(there), now), Next::Wait, "{now}: or the clock went back");
        }
        assert_eq!(judge(&old, Some(there), 1100), Next::Remove);
        for note in [new, old] {
            for used in [
                None,
                Some(There { inode: 8, ..there }),
                Some(There { is_empty: false, ..there }),
                note.seen.map(|_| There { changed: (1, 2), ..there }),
            ] {
                assert_eq!(judge(&note, used, 1100), Next::Forget, "{used:?}");
            }
        }
    }
}
