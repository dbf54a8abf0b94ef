//! Quarantine beneath the root (S12): the move into it is the delete.
//!
//! Copies lie side by side on a shelf, `.course-gc/quarantine/{run}/{batch}/{shelf}/`, each as it was, and `{shelf}.json` beside
//! it says what they are. That is written and durable before the first of them is moved there, in one rename: a crash leaves an
//! original where it was, or a complete copy. What is described and not there is no copy: it never came, or has gone again.
//!
//! A shelf goes when the last copy has left it, and its description after it: the kernel removes no directory that holds something,
//! so no copy is ever without its description.

mod back;
mod described;

use std::collections::{BTreeMap, BTreeSet};

use rustix::io::Errno;
use uuid::Uuid;

use super::beneath::{Dir, Kind};
use super::delete::{Inspected, Moved, Part, Refusal, move_away};
use super::emptied::Left;
use super::layout::OWN_FOLDER;
use super::tree;
use super::walk::open_root;
use super::watch::{Fault, Pulse};
use super::{Place, emptied};
use crate::stores::copies::{CopyId, PlacedCopy};
pub(super) use back::put_back;
use described::{Description, What};

const QUARANTINE: &[u8] = b"quarantine";

/// What may go, and what its copy will be.
pub(super) struct Entry {
    inspected: Inspected,
    part: Part,
    what: What,
}

impl Entry {
    pub(super) fn of(inspected: Inspected, part: Part) -> Result<Self, Fault> {
        let what = What::of(&inspected, &part)?;
        Ok(Self { inspected, part, what })
    }

    /// How many ids its description holds.
    pub(super) fn named(&self) -> usize {
        self.inspected.seen.mentions.len()
    }
}

/// The folder of a batch, in which its shelves are.
pub(super) struct Room {
    dir: Dir,
    /// The run's and the batch's.
    names: [String; 2],
}

impl Room {
    /// Makes what of it is not there yet; durable, but for what will be in it.
    pub(super) fn make(place: &Place, id: &CopyId) -> Result<Self, Fault> {
        let root = open_root(&place.root)?;
        let names = [id.run.to_string(), format!("{:05}", id.batch)];
        let own = make(&root, OWN_FOLDER)?;
        let quarantine = make(&own, QUARANTINE)?;
        let run = make(&quarantine, names[0].as_bytes())?;
        let dir = make(&run, names[1].as_bytes())?;
        [run, quarantine, own, root].iter().try_for_each(Dir::sync).map_err(Fault::at("sync", OWN_FOLDER))?;
        Ok(Self { dir, names })
    }
}

/// Where some directories of a batch go together.
pub(super) struct Shelf {
    name: String,
    dir: Dir,
    description: Description,
    going: Vec<(Inspected, Part)>,
}

impl Shelf {
    /// Makes one, described; both are durable. What its moves will empty is noted.
    pub(super) fn make(
        place: &Place,
        room: &Room,
        id: &CopyId,
        entries: Vec<Entry>,
        pulse: &Pulse,
    ) -> Result<Self, Fault> {
        let (mut going, mut copies) = (Vec::with_capacity(entries.len()), Vec::with_capacity(entries.len()));
        for (number, Entry { inspected, part, what }) in entries.into_iter().enumerate() {
            going.push((inspected, part));
            copies.push(what.numbered(number));
        }
        let description = Description { taken_at: id.taken_at, expires_at: id.expires_at, copies };
        let name = format!("{:016x}", Uuid::new_v4().as_u64_pair().1);
        let dir = make(&room.dir, name.as_bytes())?;
        description.write(&room.dir, name.as_bytes())?;
        room.dir.sync().map_err(Fault::at("sync", OWN_FOLDER))?;
        pulse.beat()?;
        let shelf = Self { name, dir, description, going };
        shelf.note_emptied(place, pulse);
        Ok(shelf)
    }

    /// Notes which directories hold nothing but what goes.
    fn note_emptied(&self, place: &Place, pulse: &Pulse) {
        let Some((first, _)) = self.going.first() else { return };
        let mut left: BTreeMap<&[u8], Left<'_>> = BTreeMap::new();
        for (inspected, _) in self.going.iter().filter(|(_, part)| part.spared.is_empty()) {
            let (dir, path) = inspected.above();
            left.entry(path).or_insert(Left { dir, path, entries: 0 }).entries += 1;
        }
        emptied::note(place, &first.root, &left.into_values().collect::<Vec<_>>(), pulse);
    }

    /// How many are to come.
    pub(super) fn len(&self) -> usize {
        self.going.len()
    }

    /// Moves them here one by one, each as far as it goes, and tells what came of each: until a confirmation is too old, or
    /// nobody waits any more. They are not durable until [`Shelf::settle`].
    pub(super) fn take_in(&self, pulse: &Pulse, mut tell: impl FnMut(Result<Moved, Refusal>)) {
        for ((inspected, part), what) in self.going.iter().zip(&self.description.copies) {
            match move_away(inspected, &part.spared, (&self.dir, what.name.as_bytes()), pulse) {
                Err(Refusal::Late | Refusal::Fault(Fault::Stopped)) => return,
                moved => tell(moved),
            }
        }
    }

    /// Makes durable that those of these numbers have come, and says so where less did than was meant to.
    pub(super) fn settle(&self, room: &Room, moved: &[(usize, Moved)], pulse: &Pulse) -> Result<(), Fault> {
        self.dir.sync().map_err(Fault::at("sync", OWN_FOLDER))?;
        // Of directories that were beside each other, one call makes all of their moves durable.
        let left =
            moved.iter().filter_map(|(number, _)| self.going.get(*number)).map(|(inspected, _)| inspected.above());
        let left: BTreeMap<&[u8], &Dir> = left.map(|(dir, path)| (path, dir)).collect();
        for (path, dir) in left {
            pulse.beat()?;
            dir.sync().map_err(Fault::at("sync", path))?;
        }
        let mut now = self.description.clone();
        let mut is_less = false;
        for (number, moved) in moved {
            let (Some(what), Moved::Away { amount, .. }) = (now.copies.get_mut(*number), moved) else { continue };
            let is = (amount.resources, amount.bytes.unwrap_or(0));
            is_less |= (what.resources, what.bytes) != is;
            (what.resources, what.bytes) = is;
        }
        if is_less {
            now.write(&room.dir, self.name.as_bytes())?;
            room.dir.sync().map_err(Fault::at("sync", OWN_FOLDER))?;
        }
        Ok(())
    }

    /// Takes it away again, if nothing came.
    pub(super) fn clear(&self, place: &Place, room: &Room) -> Result<(), Fault> {
        let [run, batch] = &room.names;
        clear(place, &Spot { run: run.as_bytes(), batch: batch.as_bytes(), shelf: self.name.as_bytes() })
    }
}

/// Which shelf.
struct Spot<'a> {
    run: &'a [u8],
    batch: &'a [u8],
    shelf: &'a [u8],
}

impl<'a> Spot<'a> {
    /// Where a copy lies, and its name there.
    fn of(copy: &'a PlacedCopy) -> Option<(Self, &'a [u8])> {
        let components: Vec<&[u8]> = copy.key.split(|byte| *byte == b'/').collect();
        let [run, batch, shelf, name] = components[..] else { return None };
        Some((Self { run, batch, shelf }, name))
    }

    fn key(&self) -> Vec<u8> {
        [self.run, self.batch, self.shelf].join(&b'/')
    }

    fn open_batch(&self, place: &Place) -> Result<Option<Dir>, Fault> {
        open_below(&open_root(&place.root)?, &[OWN_FOLDER, QUARANTINE, self.run, self.batch])
    }

    fn unreadable(&self, why: &str) -> Fault {
        Fault::Unusable(format!("the folder `{}` of quarantine {why}", self.key().escape_ascii()))
    }

    fn undescribed(&self) -> Fault {
        self.unreadable("cannot be read: nothing says what lies there")
    }
}

fn make(above: &Dir, name: &[u8]) -> Result<Dir, Fault> {
    above.make(name).map_err(Fault::at("make the directory", name))
}

/// Every copy. What is described and not there is none.
pub(super) fn list(place: &Place, source: &str, pulse: &Pulse) -> Result<Vec<PlacedCopy>, Fault> {
    let root = open_root(&place.root)?;
    let Some(quarantine) = open_below(&root, &[OWN_FOLDER, QUARANTINE])? else { return Ok(Vec::new()) };
    let mut copies = Vec::new();
    for run in names(&quarantine, is_directory, pulse)? {
        let Some(run_dir) = open_below(&quarantine, &[&run])? else { continue };
        for batch in names(&run_dir, is_directory, pulse)? {
            let Some(batch_dir) = open_below(&run_dir, &[&batch])? else { continue };
            for shelf in names(&batch_dir, is_directory, pulse)? {
                let spot = Spot { run: &run, batch: &batch, shelf: &shelf };
                copies.extend(list_shelf(place, source, (&batch_dir, &spot), pulse)?);
            }
        }
    }
    Ok(copies)
}

fn list_shelf(
    place: &Place,
    source: &str,
    (batch, spot): (&Dir, &Spot<'_>),
    pulse: &Pulse,
) -> Result<Vec<PlacedCopy>, Fault> {
    let Some(shelf) = open_below(batch, &[spot.shelf])? else { return Ok(Vec::new()) };
    let mut there: BTreeSet<Vec<u8>> = names(&shelf, |_| true, pulse)?.into_iter().collect();
    if there.is_empty() {
        return Ok(Vec::new());
    }
    let Some(told) = Description::read(batch, spot)? else {
        // The last copy may have gone meanwhile, and then the description.
        let is_there = open_below(batch, &[spot.shelf])?.is_some();
        return if is_there { Err(spot.undescribed()) } else { Ok(Vec::new()) };
    };
    let copies: Vec<&What> = told.copies.iter().filter(|what| there.remove(what.name.as_bytes())).collect();
    if let Some(stray) = there.first() {
        return Err(spot.unreadable(&format!("cannot be read: nothing says what `{}` is", stray.escape_ascii())));
    }
    copies.into_iter().map(|what| told.placed(place, source, spot, what)).collect()
}

/// What of this kind is in a directory.
fn names(dir: &Dir, wanted: impl Fn(Kind) -> bool, pulse: &Pulse) -> Result<Vec<Vec<u8>>, Fault> {
    let mut names = Vec::new();
    dir.entries(Fault::at("read the directory", QUARANTINE), |name, kind| {
        pulse.beat()?;
        if wanted(kind) {
            names.push(name.to_vec());
        }
        Ok(())
    })?;
    Ok(names)
}

fn is_directory(kind: Kind) -> bool {
    kind == Kind::Directory
}

/// A directory several levels below; `None` if it is not there.
fn open_below(dir: &Dir, names: &[&[u8]]) -> Result<Option<Dir>, Fault> {
    match dir.descend(names) {
        Ok(below) => Ok(Some(below)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(Fault::at("open the directory", &names.join(&b'/'))(errno)),
    }
}

/// Removes a copy for good; false if it is too late to begin with that. What is cut off half way is still a copy: its own directory
/// goes last.
pub(super) fn purge(place: &Place, copy: &PlacedCopy, pulse: &Pulse) -> Result<bool, Fault> {
    // It had to wait for its turn. What takes longer than a confirmation is good for, begins while it is.
    if !pulse.may_begin()? {
        return Ok(false);
    }
    let Some((spot, name)) = Spot::of(copy) else { return Ok(true) };
    let Some(batch) = spot.open_batch(place)? else { return Ok(true) };
    if let Some(shelf) = open_below(&batch, &[spot.shelf])? {
        // Asked of all of it before any of it goes.
        if let Some(mount) = tree::mounted(&shelf, name, pulse)? {
            let (key, mount) = (copy.key.escape_ascii(), mount.escape_ascii());
            let why = format!("the copy `{key}` in quarantine stays: something is mounted at `{mount}` in it");
            return Err(Fault::Unusable(why));
        }
        tree::remove(&shelf, name, pulse, (|_, _| Ok(0), || ()))?;
    }
    clear(place, &spot)?;
    Ok(true)
}

/// Removes a shelf that is empty, then its description, then the folders of its batch and run, if they are empty now.
fn clear(place: &Place, spot: &Spot<'_>) -> Result<(), Fault> {
    let Some(batch) = spot.open_batch(place)? else { return Ok(()) };
    if !remove_empty(&batch, spot.shelf)? {
        return Ok(());
    }
    match batch.unlink(&described::beside(spot.shelf)) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(Fault::at("remove", &described::beside(spot.shelf))(errno)),
    }
    let root = open_root(&place.root)?;
    let Some(quarantine) = open_below(&root, &[OWN_FOLDER, QUARANTINE])? else { return Ok(()) };
    if let Some(run) = open_below(&quarantine, &[spot.run])? {
        remove_empty(&run, spot.batch)?;
    }
    remove_empty(&quarantine, spot.run)?;
    Ok(())
}

/// Removes a directory; false if it holds something.
fn remove_empty(above: &Dir, name: &[u8]) -> Result<bool, Fault> {
    match above.remove_directory(name) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(errno) => Err(Fault::at("remove the directory", name)(errno)),
    }
}

/// Removes what stands for nothing, of runs that are over: shelves without a copy, descriptions without a shelf.
pub(super) fn remove_unfinished(place: &Place, is_over: impl Fn(Uuid) -> bool, pulse: &Pulse) -> Result<(), Fault> {
    let root = open_root(&place.root)?;
    let Some(quarantine) = open_below(&root, &[OWN_FOLDER, QUARANTINE])? else { return Ok(()) };
    for run in names(&quarantine, is_directory, pulse)? {
        if !Uuid::try_parse_ascii(&run).is_ok_and(&is_over) {
            continue;
        }
        let Some(run_dir) = open_below(&quarantine, &[&run])? else { continue };
        for batch in names(&run_dir, is_directory, pulse)? {
            let Some(batch_dir) = open_below(&run_dir, &[&batch])? else { continue };
            for shelf in names(&batch_dir, is_directory, pulse)? {
                let _ = batch_dir.remove_directory(&shelf);
            }
            for file in names(&batch_dir, |kind| kind == Kind::Other, pulse)? {
                if described::stands_for_nothing(&batch_dir, &file) {
                    let _ = batch_dir.unlink(&file);
                }
            }
            let _ = run_dir.remove_directory(&batch);
        }
        let _ = quarantine.remove_directory(&run);
    }
    Ok(())
}
