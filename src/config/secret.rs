//! Secrets: what may be shown of them, and where they may come from.
//!
//! A secret is given by the environment or by a file of its own, as Kubernetes mounts it. The
//! configuration file is copied, committed and shown around, so a secret in it is refused.

use std::fmt;
use std::fs;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::environment::variable;
use super::problem::Origin;
use super::read::{At, Effective, Reader, Shape, Value};

/// A URL that may carry a password. `Debug` and `Display` show it without.
#[derive(Clone)]
pub struct SecretUrl {
    text: SecretString,
    redacted: String,
    parsed: Url,
}

impl SecretUrl {
    /// Parses `text`, which is kept as it was written.
    ///
    /// # Errors
    /// Says why it is no URL, without repeating it: it may hold a password.
    pub fn parse(text: &str) -> Result<Self, url::ParseError> {
        let parsed = Url::parse(text)?;
        let mut shown = parsed.clone();
        if parsed.password().is_some() {
            // A URL that has a password accepts another.
            let _ = shown.set_password(Some("***"));
        }
        if parsed.query().is_some() {
            let pairs: Vec<(String, String)> = parsed
                .query_pairs()
                .map(|(key, value)| {
                    let value = if names_a_secret(&key) { "***".into() } else { value };
                    (key.into_owned(), value.into_owned())
                })
                .collect();
            shown.query_pairs_mut().clear().extend_pairs(pairs);
        }
        Ok(Self { text: SecretString::from(text), redacted: shown.into(), parsed })
    }

    /// The URL as it was written, with its password.
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }

    /// The URL with `***` for its password.
    pub fn redacted(&self) -> &str {
        &self.redacted
    }

    /// The scheme, such as `postgres` or `rediss`.
    pub fn scheme(&self) -> &str {
        self.parsed.scheme()
    }

    /// Whether it holds a password, in its authority or in its query.
    pub(super) fn has_secret(&self) -> bool {
        self.parsed.password().is_some() || self.parsed.query_pairs().any(|(key, _)| names_a_secret(&key))
    }

    /// Whether a part that is shown may be a password by mistake: without `//`, or with an `@` behind the host, what was
    /// meant as user, password and host is read as something else.
    fn is_garbled(&self) -> bool {
        let behind = [Some(self.parsed.path()), self.parsed.query(), self.parsed.fragment()];
        !self.expose().contains("://") || behind.into_iter().flatten().any(|part| part.contains('@'))
    }

    /// Host, port and path, or the given defaults: equal for two URLs that lead to one place.
    pub(super) fn place(&self, default_port: u16, default_path: &str) -> String {
        let path = match self.parsed.path().trim_matches('/') {
            "" => default_path,
            path => path,
        };
        let host = self.parsed.host_str().unwrap_or_default().to_ascii_lowercase();
        format!("{host}:{}/{path}", self.parsed.port_or_known_default().unwrap_or(default_port))
    }
}

fn names_a_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["pass", "secret", "token", "key"].iter().any(|word| key.contains(word))
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretUrl({})", self.redacted)
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted)
    }
}

/// A secret's text, and whether it may be one where it stands.
struct Given {
    text: String,
    /// It stands in the configuration file.
    in_the_open: bool,
    effective: Effective,
}

/// Takes a secret from the field itself or from the file that its sibling names.
fn given(at: &At<'_>, reader: &mut Reader) -> Option<Given> {
    let from_environment = |origin: &Origin| matches!(origin, Origin::Environment(_));
    let (direct, file) = match (at.node, at.file) {
        // What the environment says replaces what the file says, also by the other name.
        (Some(direct), Some(file)) if from_environment(&direct.origin) != from_environment(&file.origin) => {
            if from_environment(&direct.origin) {
                (Some(direct), None)
            } else {
                (None, Some(file))
            }
        }
        pair => pair,
    };
    let path = &at.path;
    match (direct, file) {
        (Some(direct), None) => {
            let Some(text) = direct.scalar() else {
                reader.problem(&direct.origin, path, "is not a single value; write one");
                return None;
            };
            let effective =
                Effective { path: path.clone(), value: None, origin: direct.origin.clone(), secret_file: None };
            let in_the_open = !from_environment(&direct.origin);
            Some(Given { text: text.to_owned(), in_the_open, effective })
        }
        (None, Some(file)) => {
            let file_path = format!("{path}_file");
            let Some(name) = file.scalar().filter(|name| !name.is_empty()) else {
                reader.problem(&file.origin, &file_path, "is no path; write the path of a file");
                return None;
            };
            let name = reader.folder.join(name);
            let read = fs::read_to_string(&name);
            reader.files.note(&name, read.as_ref().ok().map(String::as_bytes));
            match read {
                Ok(text) => {
                    let text = text.trim_end_matches(['\n', '\r']).to_owned();
                    let effective = Effective {
                        path: path.clone(),
                        value: None,
                        origin: file.origin.clone(),
                        secret_file: Some(name),
                    };
                    Some(Given { text, in_the_open: false, effective })
                }
                Err(error) => {
                    let message = format!("cannot read {}: {error}; name a file that can be read", name.display());
                    reader.problem(&file.origin, &file_path, message);
                    None
                }
            }
        }
        (Some(_), Some(file)) => {
            let name = path.rsplit('.').next().unwrap_or(path);
            let message = format!("is given beside `{name}`; keep one of them");
            reader.problem(&file.origin, &format!("{path}_file"), message);
            None
        }
        (None, None) => {
            let name = path.rsplit('.').next().unwrap_or(path);
            let message = format!("is missing; give `{name}`, `{name}_file` or {}", variable(path));
            reader.problem(at.section, path, message);
            None
        }
    }
}

/// What to do with a secret that stands in the open.
fn elsewhere(path: &str) -> String {
    let name = path.rsplit('.').next().unwrap_or(path);
    format!("give `{name}_file: /run/secrets/…` or {} instead", variable(path))
}

impl Value for SecretUrl {
    const SHAPE: Shape = Shape::Secret { in_file: true };

    fn read(at: &At<'_>, reader: &mut Reader) -> Option<Self> {
        let Given { text, in_the_open, mut effective } = given(at, reader)?;
        match Self::parse(&text) {
            Err(error) => {
                let message = format!("is no URL: {error}; write scheme://host:port/path");
                reader.problem(&effective.origin, &at.path, message);
                None
            }
            Ok(url) if url.is_garbled() => {
                let message = "has no `//`, or an `@` behind the host; write scheme://user:password@host:port/path, and \
                               %2F, %3F, %23 and %40 for / ? # and @ in a password";
                reader.problem(&effective.origin, &at.path, message);
                None
            }
            Ok(url) if in_the_open && url.has_secret() => {
                let message = format!("holds a password, which does not belong in this file; {}", elsewhere(&at.path));
                reader.problem(&effective.origin, &at.path, message);
                None
            }
            Ok(url) => {
                effective.value = Some(url.to_string());
                reader.effective.push(effective);
                Some(url)
            }
        }
    }
}

impl Value for SecretString {
    const SHAPE: Shape = Shape::Secret { in_file: false };

    fn read(at: &At<'_>, reader: &mut Reader) -> Option<Self> {
        let Given { text, in_the_open, mut effective } = given(at, reader)?;
        let wrong = if in_the_open {
            format!("is a secret, which does not belong in this file; {}", elsewhere(&at.path))
        } else if text.is_empty() {
            "is empty; give the secret".to_owned()
        } else {
            effective.value = Some("***".to_owned());
            reader.effective.push(effective);
            return Some(Self::from(text));
        };
        reader.problem(&effective.origin, &at.path, wrong);
        None
    }
}
