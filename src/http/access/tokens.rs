//! Our own tokens: each in a file that is read anew whenever it changes, so that one can be replaced, or taken away, while we serve.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::{Caller, Scope};

/// A shorter token could be guessed.
const LEAST: usize = 32;

/// A token of the configuration.
#[derive(Debug, Clone)]
pub struct Token {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub file: PathBuf,
    /// What it is good for.
    pub scopes: BTreeSet<Scope>,
}

/// All of our tokens.
pub struct Tokens {
    all: Vec<(Token, Watched<Option<[u8; 32]>>)>,
}

impl Tokens {
    /// Reads them; one that cannot be read lets nobody in until it can.
    pub fn new(tokens: Vec<Token>) -> Self {
        let all = Self { all: tokens.into_iter().map(|token| (token, Watched::default())).collect() };
        all.all.iter().for_each(|(token, watched)| _ = current(token, watched));
        all
    }

    /// Whose token this is. Takes as long whichever it is, and however much of it is right.
    pub fn caller(&self, shown: &str) -> Option<Caller> {
        let shown = digest(shown);
        let is_it = |(token, watched): &(Token, Watched<_>)| {
            let right = current(token, watched).map_or(Choice::from(0), |held| held.ct_eq(&shown));
            bool::from(right).then_some(())
        };
        let found: Vec<Option<()>> = self.all.iter().map(is_it).collect();
        let (token, _) = self.all.iter().zip(found).find_map(|(token, found)| found.map(|()| token))?;
        Some(Caller { name: format!("token/{}", token.name), scopes: token.scopes.clone(), organization: None })
    }
}

/// Digests have one length, so nothing is told by it.
fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

fn current(token: &Token, watched: &Watched<Option<[u8; 32]>>) -> Option<[u8; 32]> {
    watched.read(&token.file, |text| {
        let read = text.map_err(|error| format!("it cannot be read: {error}")).and_then(|text| match text.trim() {
            short if short.len() < LEAST => Err(format!("it has fewer than {LEAST} characters")),
            text => Ok(digest(text)),
        });
        match read {
            Ok(digest) => Some(digest),
            Err(why) => {
                let file = token.file.display();
                tracing::error!(token = token.name, %file, why, "a token lets nobody in until its file is right");
                None
            }
        }
    })
}

/// What tells one version of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Version {
    fn of(file: &Path) -> Option<Self> {
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
