//! The marker (S7): a small file in the store's own folder, written beside and renamed into place, so that a reader sees
//! the old one or the new one, and a crash leaves one of them.
//!
//! Who moves it holds an exclusive lock on a file beside it, from the comparison to the rename: compare-and-set among all
//! processes that see the same lock (on a network file system: if its server keeps locks).

use std::fs::File;
use std::io::Read;
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::Place;
use super::beneath::Dir;
use super::layout::OWN_FOLDER;
use super::tree::join;
use super::walk::open_root;
use super::watch::{Fault, Pulse};
use crate::stores::Marker;

const FILE: &[u8] = b"marker.json";
/// Where the next marker is written; only the lock's holder touches it.
const NEW_FILE: &[u8] = b"marker.json.new";
const LOCK_FILE: &[u8] = b"marker.lock";
/// The longest marker, in bytes: far more than dozens of owners with their ids, names, counts and sources.
const MOST_BYTES: u64 = 16 * 1024;
/// How often a lock that another one holds is tried again.
const LOCK_EVERY: Duration = Duration::from_millis(10);

/// The marker, if there is one. Makes nothing.
pub(super) fn read(place: &Place) -> Result<Option<Marker>, Fault> {
    match open_root(&place.root)?.open(OWN_FOLDER) {
        Ok(own) => read_in(&own),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(Fault::at("open the directory", OWN_FOLDER)(errno)),
    }
}

/// Replaces `from` by `to`; `false` if something else is there. Not done any more once nobody waits for it.
pub(super) fn replace(place: &Place, from: Option<&Marker>, to: &Marker, pulse: &Pulse) -> Result<bool, Fault> {
    let json = serde_json::to_vec(to).map_err(|why| Fault::Unusable(format!("cannot write the marker: {why}")))?;
    if json.len() as u64 > MOST_BYTES {
        let why = format!(
            "the marker would have {} bytes, more than {MOST_BYTES}: shorten the installations' names",
            json.len()
        );
        return Err(Fault::Unusable(why));
    }
    if read(place)?.as_ref() != from {
        return Ok(false);
    }
    let root = open_root(&place.root)?;
    let own = root.make(OWN_FOLDER).map_err(Fault::at("make the directory", OWN_FOLDER))?;
    let _lock = lock(&own, pulse)?;
    if read_in(&own)?.as_ref() != from {
        return Ok(false);
    }
    let new_path = join(OWN_FOLDER, NEW_FILE);
    own.write(NEW_FILE, &json).map_err(Fault::at("write", &new_path))?;
    pulse.beat()?;
    own.replace(NEW_FILE, FILE).map_err(Fault::at("rename", &new_path))?;
    // The rename itself, and the folder's own name, which may be new.
    own.sync().map_err(Fault::at("sync", OWN_FOLDER))?;
    root.sync().map_err(Fault::at("sync", b"."))?;
    Ok(true)
}

fn read_in(own: &Dir) -> Result<Option<Marker>, Fault> {
    let path = join(OWN_FOLDER, FILE);
    let file = match own.open_file(FILE) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP | Errno::NXIO) => return Err(no_marker("is no file")),
        Err(errno) => return Err(Fault::at("open", &path)(errno)),
    };
    let metadata = file.metadata().map_err(|error| Fault::at("look at", &path)(errno(&error)))?;
    if !metadata.is_file() {
        return Err(no_marker("is no file"));
    }
    let mut json = Vec::new();
    let read = file.take(MOST_BYTES + 1).read_to_end(&mut json);
    read.map_err(|error| Fault::at("read", &path)(errno(&error)))?;
    if json.len() as u64 > MOST_BYTES {
        return Err(no_marker("is too long for a marker"));
    }
    serde_json::from_slice(&json).map(Some).map_err(|why| no_marker(&format!("holds no marker ({why})")))
}

/// Waits for the lock, which its file keeps until it is closed. Waiting is no sign of life: whoever waits for a lock that
/// a frozen process holds gives up in its time.
fn lock(own: &Dir, pulse: &Pulse) -> Result<File, Fault> {
    let path = join(OWN_FOLDER, LOCK_FILE);
    let file = own.open_or_create(LOCK_FILE).map_err(Fault::at("open", &path))?;
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(Errno::WOULDBLOCK) => std::thread::sleep(LOCK_EVERY),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Fault::at("lock", &path)(errno)),
        }
        pulse.still_wanted()?;
    }
    pulse.beat()?;
    Ok(File::from(file))
}

fn no_marker(what: &str) -> Fault {
    Fault::Unusable(format!(
        "`{}` {what}; it is course-gc's own: find out what wrote it, then remove it and adopt the store again",
        join(OWN_FOLDER, FILE).escape_ascii()
    ))
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
