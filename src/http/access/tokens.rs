//! Our own tokens: each in a file that is read anew whenever it changes, so that one can be replaced, or taken away, while we serve.

use std::collections::BTreeSet;
use std::path::PathBuf;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::{Caller, Scope};
use crate::http::watched::Watched;

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

    /// By name, whether it lets somebody in.
    pub fn states(&self) -> impl Iterator<Item = (&Token, bool)> {
        self.all.iter().map(|(token, watched)| (token, current(token, watched).is_some()))
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
