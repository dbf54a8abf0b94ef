//! The keys that the identity provider signs with. Each is good for one algorithm only, whatever a token says of itself.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;

use super::Refusal;
use crate::clock::Clock;
use crate::errors::chain;
use crate::http::watched::Watched;

/// A set is asked for no more often than this, whatever keys tokens name.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// A set is asked for anew after this, so that a key that was withdrawn is good no longer.
const OLD: Duration = Duration::from_secs(600);
/// How long the identity provider has to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// A larger set is none.
const LARGEST: usize = 256 * 1024;

/// Where keys come from.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// A secret that both sides know, for HS256.
    Secret(SecretString),
    /// A JSON Web Key Set in a file.
    File(PathBuf),
    /// A JSON Web Key Set over HTTP.
    Url(String),
}

/// A key, and what it is good for.
#[derive(Clone)]
pub(super) struct Key {
    id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

/// Keys, or why they cannot be had.
type Read = Result<Arc<Vec<Key>>, String>;

pub(super) enum Keys {
    Secret(Box<Key>),
    File(PathBuf, Watched<Read>),
    Url(Remote),
}

impl Keys {
    /// Connects to nothing.
    pub(super) fn new(source: KeySource, clock: Arc<dyn Clock>) -> Result<Self, reqwest::Error> {
        Ok(match source {
            KeySource::Secret(secret) => {
                let key = DecodingKey::from_secret(secret.expose_secret().as_bytes());
                Self::Secret(Box::new(Key { id: None, algorithm: Algorithm::HS256, key }))
            }
            KeySource::File(file) => Self::File(file, Watched::default()),
            KeySource::Url(url) => Self::Url(Remote::new(url, clock)?),
        })
    }

    /// How many usable keys there are.
    pub(super) async fn count(&self) -> Result<usize, String> {
        match self {
            Self::Secret(_) => Ok(1),
            Self::File(file, _) => {
                let text =
                    std::fs::read(file).map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
                parse(&text).map(|keys| keys.len()).map_err(|why| format!("{} {why}", file.display()))
            }
            Self::Url(remote) => remote.ask().await.map(|keys| keys.len()),
        }
    }

    /// The key of this name that is good for this algorithm. A token that names none has to do with the only one.
    pub(super) async fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<Key, Refusal> {
        let find = |keys: Arc<Vec<Key>>| pick(&keys, id, algorithm);
        let found = match self {
            // A secret has no name.
            Self::Secret(key) => (key.algorithm == algorithm).then(|| (**key).clone()),
            Self::File(file, watched) => {
                let read = watched.read(file, |text| {
                    let text = text.map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
                    parse(text.as_bytes()).map_err(|why| format!("{} {why}", file.display()))
                });
                find(read.map_err(Refusal::Unknown)?)
            }
            Self::Url(remote) => remote.find(find).await?,
        };
        found.ok_or(Refusal::Invalid("its key is unknown, or is not for its algorithm"))
    }
}

fn pick(keys: &[Key], id: Option<&str>, algorithm: Algorithm) -> Option<Key> {
    let mut fits = keys.iter().filter(|key| key.algorithm == algorithm && (id.is_none() || key.id.as_deref() == id));
    let (first, more) = (fits.next()?, fits.next());
    more.is_none().then(|| first.clone())
}

fn parse(text: &[u8]) -> Read {
    let set: JwkSet = serde_json::from_slice(text).map_err(|error| format!("is no JSON Web Key Set: {error}"))?;
    Ok(Arc::new(set.keys.iter().filter_map(usable).collect()))
}

/// A key that may verify, with the one algorithm that it is for. Secrets do not belong in a set that is published.
fn usable(jwk: &Jwk) -> Option<Key> {
    let (algorithm, named) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        _ => return None,
    };
    let common = &jwk.common;
    let verifies = matches!(common.public_key_use, None | Some(PublicKeyUse::Signature));
    if !verifies || common.key_algorithm.is_some_and(|it| it != named) {
        return None;
    }
    Some(Key { id: common.key_id.clone(), algorithm, key: DecodingKey::from_jwk(jwk).ok()? })
}

/// A set that is asked for over HTTP, and kept.
pub(super) struct Remote {
    url: String,
    client: reqwest::Client,
    clock: Arc<dyn Clock>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    keys: Option<Arc<Vec<Key>>>,
    /// When they were asked for last, whatever came of it.
    asked_at: Option<Duration>,
    why: String,
}

impl Remote {
    fn new(url: String, clock: Arc<dyn Clock>) -> Result<Self, reqwest::Error> {
        // Of rustls' several cryptographies one must be named once in a process; where that was done before, it stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().timeout(ANSWER_WITHIN).redirect(reqwest::redirect::Policy::none());
        Ok(Self { url, client: client.build()?, clock, held: Mutex::default() })
    }

    async fn find(&self, find: impl Fn(Arc<Vec<Key>>) -> Option<Key>) -> Result<Option<Key>, Refusal> {
        let mut held = self.held.lock().await;
        let found = held.keys.clone().and_then(&find);
        let age = held.asked_at.map(|at| self.clock.since_boot().saturating_sub(at));
        let asks = match age {
            None => true,
            Some(age) => age >= if found.is_some() { OLD } else { ASK_AGAIN },
        };
        if !asks {
            return if held.keys.is_some() { Ok(found) } else { Err(Refusal::Unknown(held.why.clone())) };
        }
        held.asked_at = Some(self.clock.since_boot());
        match self.ask().await {
            Ok(keys) => held.keys = Some(keys),
            Err(why) => {
                tracing::warn!(url = self.url, why, "the identity provider's keys cannot be had; those of before stay");
                held.why = why;
            }
        }
        held.keys.clone().map(find).ok_or_else(|| Refusal::Unknown(held.why.clone()))
    }

    async fn ask(&self) -> Read {
        let failed = |error: reqwest::Error| chain(&error.without_url());
        let mut answer = self.client.get(&self.url).send().await.map_err(failed)?.error_for_status().map_err(failed)?;
        let mut text = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            text.extend_from_slice(&chunk);
            if text.len() > LARGEST {
                return Err(format!("the set is larger than {LARGEST} bytes"));
            }
        }
        parse(&text)
    }
}
