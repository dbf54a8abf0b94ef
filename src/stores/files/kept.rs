//! Quarantine beneath the root (S12): the move into it is the delete.
//!
//! `.course-gc/quarantine/{run}/{batch}/{course}.{16 digits}/` holds `what.json`, which says what it was, and `content`, which it
//! is. The first is written and durable before the second is moved there in one rename: a crash leaves the original where it
//! was, beside a `what.json` that stands for nothing, or a complete copy.

use std::fs::File;
use std::io::{Read, Write};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Place;
use super::beneath::{Dir, Kind};
use super::delete::{self, Inspected, Moved, Part, Refusal};
use super::layout::OWN_FOLDER;
use super::spare::clashes;
use super::tree::{self, join};
use super::walk::open_root;
use super::watch::{Fault, Pulse};
use crate::domain::ids::CourseId;
use crate::stores::copies::{CopyId, NameText, PlacedCopy, PutBack, Restoring};

const QUARANTINE: &[u8] = b"quarantine";
const WHAT: &[u8] = b"what.json";
/// Where it is written; no entry keeps it.
const NEW_WHAT: &[u8] = b"what.json.new";
const CONTENT: &[u8] = b"content";
/// A path, and forty bytes for each id that a name in the copy holds: six million of them.
const MOST_BYTES: u64 = 1 << 28;

/// What a copy is, as its file says.
#[derive(Debug, Serialize, Deserialize)]
struct What {
    /// Below the root.
    path: NameText,
    course: String,
    mentions: Vec<String>,
    taken_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    resources: u64,
    bytes: u64,
    /// The directories from the root's down to its own; missing in copies of earlier versions.
    #[serde(default)]
    above: Vec<Above>,
}

/// What a directory above a course's is: it may have gone when the course comes back.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Above {
    mode: u32,
    /// User and group.
    owner: (u32, u32),
}

/// Where the copies of a batch lie: the store's own folder, the quarantine, the run's and the batch's.
pub(super) struct Shelf {
    root: Dir,
    dirs: [Dir; 4],
    /// The run's and the batch's.
    names: [String; 2],
}

/// What is to go, and the folder of its copy, in which stands what it is.
pub(super) struct Entry {
    inspected: Inspected,
    part: Part,
    dir: Dir,
    name: String,
    what: What,
}

impl Shelf {
    /// Makes what of it is not there yet.
    pub(super) fn make(place: &Place, id: &CopyId) -> Result<Self, Fault> {
        let root = open_root(&place.root)?;
        let names = [id.run.to_string(), format!("{:05}", id.batch)];
        let own = make(&root, OWN_FOLDER)?;
        let quarantine = make(&own, QUARANTINE)?;
        let run = make(&quarantine, names[0].as_bytes())?;
        let batch = make(&run, names[1].as_bytes())?;
        Ok(Self { root, dirs: [own, quarantine, run, batch], names })
    }

    /// Describes what was inspected and is about to come, durable once the shelf is synced.
    pub(super) fn describe(&self, (inspected, part): (Inspected, Part), id: &CopyId) -> Result<Entry, Refusal> {
        let what = What {
            path: NameText::from(&inspected.path[..]),
            course: inspected.owner.clone(),
            mentions: inspected.seen.mentions.iter().map(CourseId::to_string).collect(),
            taken_at: id.taken_at,
            expires_at: id.expires_at,
            resources: part.going.resources,
            bytes: part.going.bytes.unwrap_or(0),
            above: above(&inspected.root, inspected.above().1)?,
        };
        // Sixteen digits: nothing that could be read as an id.
        let name = format!("{}.{:016x}", inspected.owner, Uuid::new_v4().as_u64_pair().1);
        let [.., batch] = &self.dirs;
        let dir = make(batch, name.as_bytes())?;
        describe(&dir, &what)?;
        dir.sync().map_err(Fault::at("sync", OWN_FOLDER))?;
        Ok(Entry { inspected, part, dir, name, what })
    }

    /// Makes durable that the entries are there.
    pub(super) fn sync(&self) -> Result<(), Fault> {
        let mut upwards = self.dirs.iter().rev().chain([&self.root]);
        upwards.try_for_each(Dir::sync).map_err(Fault::at("sync", OWN_FOLDER))
    }

    /// Moves an entry's original there, as far as it goes. Its description is durable by now, the move not until [`settle`].
    pub(super) fn take_in(&self, place: &Place, entry: &Entry, pulse: &Pulse) -> Result<Moved, Refusal> {
        let Entry { inspected, part, dir, .. } = entry;
        let moved = delete::note_and_move(place, (inspected, &part.spared), (dir, CONTENT), pulse);
        match &moved {
            Ok(Moved::Away { .. }) if dir.stat(CONTENT).is_ok() => {}
            _ => self.forget(entry),
        }
        moved
    }

    /// Takes away the folders of what did not come; those that hold something else stay.
    pub(super) fn forget(&self, entry: &Entry) {
        // What did come, in part or by mistake, is a copy, and keeps its description.
        match entry.dir.remove_directory(CONTENT) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(_) => return,
        }
        let _ = entry.dir.unlink(WHAT);
        let ([_, quarantine, run, batch], [run_name, batch_name]) = (&self.dirs, &self.names);
        for (above, name) in [(batch, &entry.name), (run, batch_name), (quarantine, run_name)] {
            let _ = above.remove_directory(name.as_bytes());
        }
    }
}

impl Entry {
    /// The original's path, for people.
    pub(super) fn shown(&self) -> String {
        self.inspected.path.escape_ascii().to_string()
    }

    /// The path of the directory in which the original lay.
    pub(super) fn above(&self) -> &[u8] {
        self.inspected.above().1
    }
}

/// Makes a move durable: where it went to, and, if nobody else does, where it came from.
pub(super) fn settle(entry: Entry, moved: &Moved, and_parent: bool) -> Result<(), Fault> {
    let Entry { inspected, dir, mut what, .. } = entry;
    dir.sync().map_err(Fault::at("sync", OWN_FOLDER))?;
    if and_parent {
        inspected.parent.sync().map_err(Fault::at("sync", &inspected.path))?;
    }
    if let Moved::Away { amount, .. } = moved
        && amount.resources != what.resources
    {
        // Less went than was meant to.
        (what.resources, what.bytes) = (amount.resources, amount.bytes.unwrap_or(0));
        describe(&dir, &what)?;
        dir.sync().map_err(Fault::at("sync", OWN_FOLDER))?;
    }
    Ok(())
}

/// Writes what a copy is in place of what was said before; durable once the entry is synced.
fn describe(entry: &Dir, what: &What) -> Result<(), Fault> {
    let json = serde_json::to_vec(what).map_err(|why| Fault::Unusable(format!("cannot describe a copy: {why}")))?;
    let mut file = File::from(entry.create(NEW_WHAT).map_err(Fault::at("make", WHAT))?);
    let written = file.write_all(&json).and_then(|()| file.sync_all());
    written.map_err(|error| Fault::at("write", WHAT)(errno(&error)))?;
    entry.replace(NEW_WHAT, WHAT).map_err(Fault::at("rename", WHAT))
}

/// What the directories on the way to `path` are, that one included.
fn above(root: &Dir, path: &[u8]) -> Result<Vec<Above>, Fault> {
    let mut dir = root.descend(&[]).map_err(Fault::at("open the directory", b"."))?;
    let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
    names
        .map(|name| {
            dir = dir.open(name).map_err(Fault::at("open the directory", path))?;
            let stat = dir.own_stat().map_err(Fault::at("look at", path))?;
            Ok(Above { mode: stat.mode, owner: stat.owner })
        })
        .collect()
}

fn make(above: &Dir, name: &[u8]) -> Result<Dir, Fault> {
    above.make(name).map_err(Fault::at("make the directory", name))
}

/// Every complete copy. What is half there is none.
pub(super) fn list(place: &Place, source: &str, pulse: &Pulse) -> Result<Vec<PlacedCopy>, Fault> {
    let root = open_root(&place.root)?;
    let Some(quarantine) = open_below(&root, &[OWN_FOLDER, QUARANTINE])? else { return Ok(Vec::new()) };
    let mut copies = Vec::new();
    for run in folders(&quarantine, pulse)? {
        let Some(run_dir) = open_below(&quarantine, &[&run])? else { continue };
        for batch in folders(&run_dir, pulse)? {
            let Some(batch_dir) = open_below(&run_dir, &[&batch])? else { continue };
            for entry in folders(&batch_dir, pulse)? {
                pulse.beat()?;
                let Some(entry_dir) = open_below(&batch_dir, &[&entry])? else { continue };
                if entry_dir.stat(CONTENT).is_err_and(|errno| errno == Errno::NOENT) {
                    continue;
                }
                let key = [&run[..], &batch, &entry].join(&b'/');
                let what = read(&entry_dir, &key)?;
                let id = id_of(&run, &batch, &what).ok_or_else(|| unreadable(&key, "lies in no run and batch"))?;
                copies.push(placed(place, source, id, (key, what))?);
            }
        }
    }
    Ok(copies)
}

fn placed(place: &Place, source: &str, id: CopyId, (key, what): (Vec<u8>, What)) -> Result<PlacedCopy, Fault> {
    let course = |text: &String| {
        let parsed = place.id_type.parse(text.as_bytes());
        parsed.ok_or_else(|| unreadable(&key, &format!("names `{text}`, which is no id as course_id says")))
    };
    let owner = course(&what.course)?;
    let mentions = what.mentions.iter().map(course).collect::<Result<Vec<_>, _>>()?;
    Ok(PlacedCopy {
        id,
        source: source.to_owned(),
        course: owner,
        mentions: mentions.into_iter().filter(|id| *id != owner).collect(),
        name: what.path.into(),
        key: Bytes::from(key.clone()),
        resources: what.resources,
        bytes: what.bytes,
    })
}

fn id_of(run: &[u8], batch: &[u8], what: &What) -> Option<CopyId> {
    let run = Uuid::try_parse_ascii(run).ok()?;
    let batch = std::str::from_utf8(batch).ok()?.parse().ok()?;
    Some(CopyId { run, batch, taken_at: what.taken_at, expires_at: what.expires_at })
}

fn read(entry: &Dir, key: &[u8]) -> Result<What, Fault> {
    let file = File::from(entry.open_file(WHAT).map_err(Fault::at("open", &join(key, WHAT)))?);
    let mut json = Vec::new();
    let read = file.take(MOST_BYTES).read_to_end(&mut json);
    read.map_err(|error| Fault::at("read", &join(key, WHAT))(errno(&error)))?;
    serde_json::from_slice(&json).map_err(|why| unreadable(key, &format!("has no readable what.json ({why})")))
}

fn unreadable(key: &[u8], why: &str) -> Fault {
    Fault::Unusable(format!("the copy `{}` in quarantine {why}", key.escape_ascii()))
}

fn folders(dir: &Dir, pulse: &Pulse) -> Result<Vec<Vec<u8>>, Fault> {
    let mut names = Vec::new();
    dir.entries(Fault::at("read the directory", QUARANTINE), |name, kind| {
        pulse.beat()?;
        if kind == Kind::Directory {
            names.push(name.to_vec());
        }
        Ok(())
    })?;
    Ok(names)
}

/// A directory several levels below; `None` if it is not there.
fn open_below(dir: &Dir, names: &[&[u8]]) -> Result<Option<Dir>, Fault> {
    match dir.descend(names) {
        Ok(below) => Ok(Some(below)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(Fault::at("open the directory", &names.join(&b'/'))(errno)),
    }
}

/// Where a copy lies: the directory of its batch, and its entry's name there.
fn entry_of(place: &Place, copy: &PlacedCopy) -> Result<Option<(Dir, Vec<u8>)>, Fault> {
    let components: Vec<&[u8]> = copy.key.split(|byte| *byte == b'/').collect();
    let Some((entry, above)) = components.split_last() else { return Ok(None) };
    let above: Vec<&[u8]> = [OWN_FOLDER, QUARANTINE].into_iter().chain(above.iter().copied()).collect();
    Ok(open_below(&open_root(&place.root)?, &above)?.map(|batch| (batch, entry.to_vec())))
}

/// Puts a copy back to where it was.
pub(super) fn put_back(
    place: &Place,
    copy: &PlacedCopy,
    restoring: Restoring,
    pulse: &Pulse,
) -> Result<PutBack, Fault> {
    let gone = || PutBack::Failed(format!("its copy `{}` is not there any more", copy.key.escape_ascii()));
    let Some((batch, entry_name)) = entry_of(place, copy)? else { return Ok(gone()) };
    let Some(entry) = open_below(&batch, &[&entry_name])? else { return Ok(gone()) };
    if entry.stat(CONTENT).is_err() {
        return Ok(gone());
    }
    let root = open_root(&place.root)?;
    let components: Vec<&[u8]> = copy.name.split(|byte| *byte == b'/').collect();
    let Some((name, above)) = components.split_last() else { return Ok(gone()) };
    if restoring == Restoring::Look {
        let there = match open_below(&root, above)? {
            Some(parent) => clashes((&entry, CONTENT), (&parent, name), pulse)?,
            None => false,
        };
        return Ok(if there { PutBack::Exists } else { PutBack::Restored });
    }
    let parent = make_again(&root, above, &read(&entry, &copy.key)?.above)?;
    let back = match entry.rename(CONTENT, &parent, name) {
        Ok(()) => true,
        Err(Errno::EXIST | Errno::NOTEMPTY) => merge((&entry, CONTENT), (&parent, name), restoring, pulse)?,
        Err(errno) => return Err(Fault::at("put back", &copy.name)(errno)),
    };
    parent.sync().map_err(Fault::at("sync", &copy.name))?;
    if !back {
        return Ok(PutBack::Exists);
    }
    tree::remove(&batch, &entry_name, pulse, || ())?;
    tidy(place, copy)?;
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

/// Removes a copy for good; false if it is too late to begin with that.
pub(super) fn purge(place: &Place, copy: &PlacedCopy, pulse: &Pulse) -> Result<bool, Fault> {
    // It had to wait for its turn. What takes longer than a confirmation is good for, begins while it is.
    if !pulse.may_begin()? {
        return Ok(false);
    }
    if let Some((batch, entry)) = entry_of(place, copy)? {
        // Asked of all of it before any of it goes.
        let measured = tree::measure(&batch, &entry, place.id_type, pulse)?;
        if let Some(mount) = measured.and_then(|measured| measured.mount) {
            let mount = mount.escape_ascii().to_string();
            return Err(unreadable(&copy.key, &format!("stays: something is mounted at `{mount}` in it")));
        }
        tree::remove(&batch, &entry, pulse, || ())?;
    }
    tidy(place, copy)?;
    Ok(true)
}

/// Removes the folders of a copy's batch and run, if they are empty now.
fn tidy(place: &Place, copy: &PlacedCopy) -> Result<(), Fault> {
    let components: Vec<&[u8]> = copy.key.split(|byte| *byte == b'/').collect();
    let [run, batch, _] = components[..] else { return Ok(()) };
    let root = open_root(&place.root)?;
    for (above, name) in [(&[OWN_FOLDER, QUARANTINE, run][..], batch), (&[OWN_FOLDER, QUARANTINE][..], run)] {
        let Some(above) = open_below(&root, above)? else { continue };
        match above.remove_directory(name) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(errno) => return Err(Fault::at("remove the directory", name)(errno)),
        }
    }
    Ok(())
}

/// Removes what stands for nothing: descriptions without content, of runs that are over.
pub(super) fn remove_unfinished(place: &Place, is_over: impl Fn(Uuid) -> bool, pulse: &Pulse) -> Result<(), Fault> {
    let root = open_root(&place.root)?;
    let Some(quarantine) = open_below(&root, &[OWN_FOLDER, QUARANTINE])? else { return Ok(()) };
    for run in folders(&quarantine, pulse)? {
        if !Uuid::try_parse_ascii(&run).is_ok_and(&is_over) {
            continue;
        }
        let Some(run_dir) = open_below(&quarantine, &[&run])? else { continue };
        for batch in folders(&run_dir, pulse)? {
            let Some(batch_dir) = open_below(&run_dir, &[&batch])? else { continue };
            for entry in folders(&batch_dir, pulse)? {
                let Some(entry_dir) = open_below(&batch_dir, &[&entry])? else { continue };
                if entry_dir.stat(CONTENT).is_err_and(|errno| errno == Errno::NOENT) {
                    let _ = entry_dir.unlink(NEW_WHAT);
                    let _ = entry_dir.unlink(WHAT);
                    let _ = batch_dir.remove_directory(&entry);
                }
            }
            let _ = run_dir.remove_directory(&batch);
        }
        let _ = quarantine.remove_directory(&run);
    }
    Ok(())
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
