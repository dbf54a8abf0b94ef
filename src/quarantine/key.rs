//! The key that archives are encrypted with: an age identity, as `age-keygen` makes it.

use std::str::FromStr;

use age::x25519;
use secrecy::{ExposeSecret, SecretString};

/// An X25519 identity. `Debug` shows nothing of it.
#[derive(Clone)]
pub struct Key(x25519::Identity);

impl Key {
    /// The key in a file of `age-keygen`'s: one line `AGE-SECRET-KEY-1…`, and comments.
    ///
    /// # Errors
    /// What is wrong, in words that show nothing of it.
    pub fn parse(text: &SecretString) -> Result<Self, String> {
        let lines =
            text.expose_secret().lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        match lines.collect::<Vec<_>>()[..] {
            [line] => x25519::Identity::from_str(line)
                .map(Self)
                .map_err(|why| format!("it is no age identity ({why}); make one with `age-keygen`")),
            _ => Err("it must hold one line AGE-SECRET-KEY-1…, as `age-keygen` writes it".to_owned()),
        }
    }

    pub(super) fn encrypt(&self, plain: &[u8]) -> Result<Vec<u8>, age::EncryptError> {
        age::encrypt(&self.0.to_public(), plain)
    }

    pub(super) fn decrypt(&self, encrypted: &[u8]) -> Result<Vec<u8>, age::DecryptError> {
        age::decrypt(&self.0, encrypted)
    }

    /// A new key.
    #[cfg(test)]
    pub(crate) fn generate() -> Self {
        Self(x25519::Identity::generate())
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_from_what_age_keygen_writes() {
        let secret = x25519::Identity::generate().to_string();
        let file = format!("# created: today\n# public key: age1…\n{}\n", secret.expose_secret());
        assert!(Key::parse(&SecretString::from(file)).is_ok());
        for bad in ["", "# nothing", "AGE-SECRET-KEY-1QQ", "a\nb"] {
            let why = Key::parse(&SecretString::from(bad)).unwrap_err();
            assert!(!why.contains("QQ"), "{why}");
        }
    }
}
