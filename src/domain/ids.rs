//! Course ids, and the only ways to get one from bytes.
//!
//! An id counts only in its canonical form (S5): what was found must equal, byte for byte, the canonical text of what
//! was parsed. `01`, `+1`, an upper-case or braced UUID are not ids.
//!
//! Owners are parsed strictly. *Mentions* (other ids in a name, which can only hold a resource back) are found
//! leniently: reading too much into a name keeps a resource, reading too little could lose one.

pub mod text;

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

pub use text::{PatternError, TextId, TextIds};

/// The type of the owner's ids; one for the whole installation. It is written as its name: `uuid`, `integer`, or `text:` and a regular
/// expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IdType {
    /// A UUID in its hyphenated lower-case form.
    Uuid,
    /// A signed 64-bit integer in decimal.
    Integer,
    /// A text that a pattern matches.
    Text(TextIds),
}

/// Why a text is no type of ids.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdTypeError {
    /// It is none of the names.
    #[error("`{0}` is no kind of course id that this version knows; possible: uuid, integer, text:PATTERN")]
    Name(String),
    /// What follows `text:` is no pattern.
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

impl FromStr for IdType {
    type Err = IdTypeError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match (name, name.strip_prefix(TEXT)) {
            ("uuid", _) => Ok(Self::Uuid),
            ("integer", _) => Ok(Self::Integer),
            (_, Some(pattern)) => Ok(Self::Text(TextIds::matching(pattern)?)),
            _ => Err(IdTypeError::Name(name.to_owned())),
        }
    }
}

impl fmt::Display for IdType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid => f.write_str("uuid"),
            Self::Integer => f.write_str("integer"),
            Self::Text(ids) => write!(f, "{TEXT}{}", ids.pattern()),
        }
    }
}

const TEXT: &str = "text:";

/// A course's id. It holds all of itself, and is `Copy`: 48 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CourseId {
    /// See [`IdType::Uuid`].
    Uuid(Uuid),
    /// See [`IdType::Integer`].
    Integer(i64),
    /// See [`IdType::Text`].
    Text(TextId),
}

impl CourseId {
    /// All of `named` but this one, in order and each once: whom a resource of this course mentions.
    pub fn others(self, mut named: Vec<Self>) -> Vec<Self> {
        named.retain(|id| *id != self);
        named.sort_unstable();
        named.dedup();
        named
    }
}

impl fmt::Display for CourseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(id) => id.as_hyphenated().fmt(f),
            Self::Integer(id) => id.fmt(f),
            Self::Text(id) => id.as_str().fmt(f),
        }
    }
}

impl serde::Serialize for CourseId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Length of a UUID's hyphenated text.
const HYPHENATED: usize = 36;
/// Length of a UUID's text without hyphens.
const COMPACT: usize = 32;

impl IdType {
    /// Parses `text` if it is, byte for byte, the canonical text of an id.
    pub fn parse(self, text: &[u8]) -> Option<CourseId> {
        match self {
            Self::Uuid => {
                if text.len() != HYPHENATED || text.iter().any(u8::is_ascii_uppercase) {
                    return None;
                }
                Uuid::try_parse_ascii(text).ok().map(CourseId::Uuid)
            }
            Self::Integer => {
                let digits = text.strip_prefix(b"-").unwrap_or(text);
                let canonical = match digits {
                    [] => false,
                    [b'0'] => text.len() == 1,
                    [b'0', ..] => false,
                    _ => digits.iter().all(u8::is_ascii_digit),
                };
                if !canonical {
                    return None;
                }
                std::str::from_utf8(text).ok()?.parse().ok().map(CourseId::Integer)
            }
            Self::Text(ids) => ids.parse(text).map(CourseId::Text),
        }
    }

    /// Every id that `name` mentions anywhere, in any spelling of a UUID (upper case, without hyphens), or as a word of its own.
    ///
    /// Integers have no shape that tells them from versions, times and counters, so a name mentions none: only what a
    /// template parses counts there.
    pub fn mentions(self, name: &[u8]) -> Vec<CourseId> {
        match self {
            Self::Integer => Vec::new(),
            Self::Text(ids) => ids.words(name).map(CourseId::Text).collect(),
            Self::Uuid => hyphenated(name).chain(compact(name)).map(CourseId::Uuid).collect(),
        }
    }
}

fn hyphenated(name: &[u8]) -> impl Iterator<Item = Uuid> + '_ {
    name.windows(HYPHENATED).filter(|window| window[8] == b'-').filter_map(|window| Uuid::try_parse_ascii(window).ok())
}

/// Runs of exactly 32 hexadecimal digits; longer runs are hashes.
fn compact(name: &[u8]) -> impl Iterator<Item = Uuid> + '_ {
    name.split(|byte| !byte.is_ascii_hexdigit())
        .filter(|run| run.len() == COMPACT)
        .filter_map(|run| Uuid::try_parse_ascii(run).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "0b5a6f0e-4d7c-4a39-9a43-6d7a5f0c1e2d";

    #[test]
    fn s5_only_the_canonical_text_is_an_id() {
        let upper = ID.to_uppercase();
        let braced = format!("{{{ID}}}");
        let urn = format!("urn:uuid:{ID}");
        let compact = ID.replace('-', "");
        let spaced = format!("{ID} ");
        for bad in ["", "../../etc", &upper, &braced, &urn, &compact, &spaced, "course"] {
            assert_eq!(IdType::Uuid.parse(bad.as_bytes()), None, "{bad:?}");
        }
        for bad in ["", "-", "+1", "01", "-0", "-01", "1.0", " 1", "0x1", "9223372036854775808", "../../etc"] {
            assert_eq!(IdType::Integer.parse(bad.as_bytes()), None, "{bad:?}");
        }
        assert!(IdType::Uuid.parse(ID.as_bytes()).is_some());
        assert_eq!(IdType::Integer.parse(b"0"), Some(CourseId::Integer(0)));
        assert_eq!(IdType::Integer.parse(b"-7"), Some(CourseId::Integer(-7)));
    }

    #[test]
    fn s5_mentions_are_found_in_every_spelling() {
        let id = IdType::Uuid.parse(ID.as_bytes()).unwrap();
        for name in [
            format!("a:{ID}:b"),
            format!("x{}y", ID.to_uppercase()),
            format!("{{{ID}}}"),
            format!("p-{}.webp", ID.replace('-', "")),
        ] {
            assert_eq!(IdType::Uuid.mentions(name.as_bytes()), vec![id], "{name}");
        }
        let hash = format!("embedding:{}{}", ID.replace('-', ""), ID.replace('-', ""));
        assert_eq!(IdType::Uuid.mentions(hash.as_bytes()), vec![], "a longer run of digits is a hash");
    }

    #[test]
    fn a_type_is_written_as_it_is_read() {
        for name in ["uuid", "integer", "text:[a-z0-9]{24}", "text:a|b"] {
            assert_eq!(name.parse::<IdType>().unwrap().to_string(), name);
        }
        for bad in ["", "text", "string", "UUID", "text:", "text:["] {
            assert!(bad.parse::<IdType>().is_err(), "{bad}");
        }
    }

    #[test]
    fn s5_a_text_is_mentioned_where_it_is_a_word() {
        let id_type: IdType = "text:c[a-z0-9]{3}|c-[a-z]-[a-z]".parse().unwrap();
        let mentioned =
            |name: &str| id_type.mentions(name.as_bytes()).iter().map(CourseId::to_string).collect::<Vec<_>>();
        assert_eq!(mentioned("lesson:cabc:of/c123.png"), ["cabc", "c123"]);
        assert_eq!(mentioned("auto-cabc-stage2_c123"), ["cabc", "c123"]);
        assert_eq!(mentioned("{c-a-b}:x-c-d-e-"), ["c-a-b", "c-d-e"]);
        assert_eq!(mentioned("xcabc:cabcd:CABC"), [""; 0]);
    }

    proptest! {
        #[test]
        fn s5_what_parses_is_its_own_text(bytes in proptest::collection::vec(any::<u8>(), 0..48)) {
            for id_type in [IdType::Uuid, IdType::Integer, "text:.+".parse().unwrap()] {
                if let Some(id) = id_type.parse(&bytes) {
                    prop_assert_eq!(id.to_string().into_bytes(), bytes.clone());
                }
            }
        }

        #[test]
        fn every_id_parses_from_its_text(uuid in any::<u128>(), integer in any::<i64>()) {
            let uuid = CourseId::Uuid(Uuid::from_u128(uuid));
            prop_assert_eq!(IdType::Uuid.parse(uuid.to_string().as_bytes()), Some(uuid));
            let integer = CourseId::Integer(integer);
            prop_assert_eq!(IdType::Integer.parse(integer.to_string().as_bytes()), Some(integer));
        }
    }
}
