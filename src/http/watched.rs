//! Files that are read anew when they change: tokens, keys and certificates are replaced while we serve.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// What tells one version of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Version {
    /// Of the file as it is now; none if it is not there.
    pub(super) fn of(file: &Path) -> Option<Self> {
        let it = fs::metadata(file).ok()?;
        let (modified, changed) = ((it.mtime(), it.mtime_nsec()), (it.ctime(), it.ctime_nsec()));
        Some(Self { inode: it.ino(), size: it.size(), modified, changed })
    }
}

/// What was made of a file, for as long as it stays as it is.
pub(super) struct Watched<T> {
    held: Mutex<Option<(Option<Version>, T)>>,
}

impl<T> Default for Watched<T> {
    fn default() -> Self {
        Self { held: Mutex::new(None) }
    }
}

impl<T: Clone> Watched<T> {
    /// What `make` makes of the file's text, made anew if the file has changed.
    pub(super) fn read(&self, file: &Path, make: impl FnOnce(io::Result<String>) -> T) -> T {
        // Before the text: what changes in between is read again the next time.
        let version = Version::of(file);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        match &*held {
            Some((before, made)) if *before == version => made.clone(),
            _ => {
                let made = make(fs::read_to_string(file));
                *held = Some((version, made.clone()));
                made
            }
        }
    }
}
