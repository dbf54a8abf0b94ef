//! The files that a configuration was read from, and whether they are still what was read.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Files by their paths, each with a digest of what was in it; none of what could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files(Vec<(PathBuf, Option<[u8; 32]>)>);

impl Files {
    /// Notes what was read.
    pub(super) fn note(&mut self, path: &Path, read: Option<&[u8]>) {
        self.0.push((path.to_owned(), read.map(|content| Sha256::digest(content).into())));
    }

    /// Reads a file that something else reads, too.
    pub(super) fn note_file(&mut self, path: &Path) {
        self.note(path, fs::read(path).ok().as_deref());
    }

    /// The same files as they are now.
    #[must_use]
    pub fn now(&self) -> Self {
        let mut now = Self::default();
        self.0.iter().for_each(|(path, _)| now.note_file(path));
        now
    }
}
