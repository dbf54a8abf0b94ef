//! One part of an archive: items in a tar, compressed with zstd, encrypted with age if there is a key. Pure.
//!
//! `manifest.json` comes first and says of each item whose it is, what it is called, what else its store needs, and the
//! SHA-256 of its content; then come the contents, in that order. Whoever has the key and `tar` can read it without us.

use std::collections::BTreeMap;
use std::io::Read;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::key::Key;
use crate::domain::ids::IdType;
use crate::stores::copies::{Item, NameText};

/// The format's version; another one is refused.
const VERSION: u32 = 1;
const MANIFEST: &str = "manifest.json";
/// Fast, and about as small as the slower levels make what is in a cache.
const LEVEL: i32 = 3;

/// Why a part cannot be read, or made.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// It is not what was written.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// It cannot be decompressed or unpacked.
    #[error("it is damaged, and cannot be unpacked")]
    Unreadable(#[source] std::io::Error),
    /// It is encrypted with another key, or damaged.
    #[error("it cannot be decrypted: give the key with which it was encrypted as quarantine.key")]
    Undecryptable(#[source] age::DecryptError),
    /// It is encrypted, and there is no key.
    #[error("it is encrypted: give the key with which it was encrypted as quarantine.key")]
    NoKey,
    /// It cannot be encrypted.
    #[error("it cannot be encrypted")]
    Unencryptable(#[source] age::EncryptError),
    /// A newer version of this program wrote it, or its ids are of another type.
    #[error("{0}")]
    Foreign(String),
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    version: u32,
    items: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    source: String,
    course: String,
    name: NameText,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    attributes: BTreeMap<String, String>,
    bytes: u64,
    sha256: String,
}

/// The SHA-256 of bytes, in hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A part of these items.
///
/// # Errors
/// If it cannot be compressed or encrypted.
pub(super) fn write(items: &[Item], key: Option<&Key>) -> Result<Bytes, PartError> {
    let entries = items.iter().map(|item| Entry {
        source: item.source.clone(),
        course: item.course.to_string(),
        name: NameText::from(&item.name[..]),
        attributes: item.attributes.clone(),
        bytes: item.content.len() as u64,
        sha256: sha256(&item.content),
    });
    let manifest = Manifest { version: VERSION, items: entries.collect() };
    let manifest = serde_json::to_vec(&manifest).map_err(|error| PartError::Unreadable(error.into()))?;
    let mut zstd = zstd::Encoder::new(Vec::new(), LEVEL).map_err(PartError::Unreadable)?;
    // The manifest has no checksum of its own.
    zstd.include_checksum(true).map_err(PartError::Unreadable)?;
    let mut tar = tar::Builder::new(zstd);
    let contents = items.iter().enumerate().map(|(n, item)| (format!("items/{n:08}"), &item.content[..]));
    for (name, content) in std::iter::once((MANIFEST.to_owned(), &manifest[..])).chain(contents) {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        tar.append_data(&mut header, name, content).map_err(PartError::Unreadable)?;
    }
    let packed = tar.into_inner().and_then(zstd::Encoder::finish).map_err(PartError::Unreadable)?;
    match key {
        Some(key) => key.encrypt(&packed).map(Bytes::from).map_err(PartError::Unencryptable),
        None => Ok(packed.into()),
    }
}

/// The items of a part, each compared with its checksum.
///
/// # Errors
/// If anything is not as it was written.
pub(super) fn read(part: &[u8], encrypted: bool, key: Option<&Key>, id_type: IdType) -> Result<Vec<Item>, PartError> {
    let decrypted = match (encrypted, key) {
        (true, Some(key)) => Some(key.decrypt(part).map_err(PartError::Undecryptable)?),
        (true, None) => return Err(PartError::NoKey),
        (false, _) => None,
    };
    // To its end, where the checksum of the whole is.
    let unpacked = zstd::decode_all(decrypted.as_deref().unwrap_or(part)).map_err(PartError::Unreadable)?;
    let mut tar = tar::Archive::new(&unpacked[..]);
    let mut contents = tar.entries().map_err(PartError::Unreadable)?.map(|entry| {
        let mut content = Vec::new();
        entry?.read_to_end(&mut content)?;
        Ok::<_, std::io::Error>(Bytes::from(content))
    });
    let mut next = |what: &dyn std::fmt::Display| match contents.next() {
        Some(content) => content.map_err(PartError::Unreadable),
        None => Err(PartError::Damaged(format!("{what} is missing"))),
    };
    let manifest: Manifest = serde_json::from_slice(&next(&MANIFEST)?)
        .map_err(|error| PartError::Damaged(format!("{MANIFEST} is none ({error})")))?;
    if manifest.version != VERSION {
        let version = manifest.version;
        return Err(PartError::Foreign(format!(
            "its format is {version}, and this program reads {VERSION}: use the newer one"
        )));
    }
    let mut items = Vec::with_capacity(manifest.items.len());
    for entry in manifest.items {
        let name = Bytes::from(entry.name);
        let content = next(&format_args!("`{}`", name.escape_ascii()))?;
        if sha256(&content) != entry.sha256 {
            return Err(PartError::Damaged(format!("`{}` is not what was copied", name.escape_ascii())));
        }
        let course = id_type.parse(entry.course.as_bytes()).ok_or_else(|| {
            PartError::Foreign(format!("`{}` is no id of the configured course_id type", entry.course))
        })?;
        items.push(Item { source: entry.source, course, name, attributes: entry.attributes, content });
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::domain::ids::CourseId;

    fn item(name: &[u8], content: &[u8]) -> Item {
        Item {
            source: "lesson:{course_id}:*".to_owned(),
            course: CourseId::Uuid(Uuid::from_u128(7)),
            name: Bytes::copy_from_slice(name),
            attributes: BTreeMap::from([("lives_ms".to_owned(), "5".to_owned())]),
            content: Bytes::copy_from_slice(content),
        }
    }

    fn round(items: &[Item], write_key: Option<&Key>, read_key: Option<&Key>) -> Result<Vec<Item>, PartError> {
        read(&write(items, write_key).unwrap(), write_key.is_some(), read_key, IdType::Uuid)
    }

    #[test]
    fn s12_a_part_is_read_with_its_own_key_only() {
        let items = [item(b"a", b"1"), item(b"", b""), item(b"\xff\n", &[0; 5000])];
        let (ours, theirs) = (Key::generate(), Key::generate());
        assert_eq!(round(&items, None, None).unwrap(), items);
        assert_eq!(round(&items, Some(&ours), Some(&ours)).unwrap(), items);
        assert!(matches!(round(&items, Some(&ours), Some(&theirs)), Err(PartError::Undecryptable(_))));
        assert!(matches!(round(&items, Some(&ours), None), Err(PartError::NoKey)));
        let hidden = write(&items, Some(&ours)).unwrap();
        assert!(!hidden.windows(6).any(|window| window == b"lesson"));
    }

    #[test]
    fn ids_of_another_type_are_refused() {
        let part = write(&[item(b"a", b"1")], None).unwrap();
        assert!(matches!(read(&part, false, None, IdType::Integer), Err(PartError::Foreign(_))));
    }

    #[test]
    fn s12_no_changed_byte_goes_unnoticed() {
        let items = [item(b"a", b"some content"), item(b"b", &[7; 300])];
        let part = write(&items, None).unwrap().to_vec();
        for n in 0..part.len() {
            let mut damaged = part.clone();
            damaged[n] ^= 0x10;
            // Some bytes of a tar's header mean nothing to us; whatever is read is right.
            if let Ok(read) = read(&damaged, false, None, IdType::Uuid) {
                assert_eq!(read, items, "byte {n}");
            }
            assert!(read(&part[..n], false, None, IdType::Uuid).is_err() || n + 16 > part.len(), "cut at {n}");
        }
    }

    proptest! {
        #[test]
        fn s12_what_is_written_is_read(contents in proptest::collection::vec((any::<Vec<u8>>(), any::<Vec<u8>>()), 0..8)) {
            let items: Vec<Item> = contents.iter().map(|(name, content)| item(name, content)).collect();
            prop_assert_eq!(round(&items, None, None).unwrap(), items);
        }

        #[test]
        fn what_is_no_part_is_an_error(bytes in any::<Vec<u8>>()) {
            prop_assert!(read(&bytes, false, None, IdType::Uuid).is_err());
        }
    }
}
