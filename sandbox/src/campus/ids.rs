//! The courses' ids.

use std::fmt;

use anyhow::{Context, Result};
use uuid::Uuid;

/// The type of the courses' ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdKind {
    /// `uuid`, written in lower case with hyphens.
    Uuid,
    /// `bigint`, written in decimal.
    Integer,
    /// `text`: a c and 24 letters and digits, as [`TEXT_IDS`] says.
    Text,
}

/// The pattern of the ids of a campus of [`IdKind::Text`].
pub const TEXT_IDS: &str = "c[a-z0-9]{24}";

/// A course's id. It displays as its canonical text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CourseId {
    /// Of a campus of [`IdKind::Uuid`].
    Uuid(Uuid),
    /// Of a campus of [`IdKind::Integer`].
    Integer(i64),
    /// Of a campus of [`IdKind::Text`].
    Text(TextId),
}

/// A text of the shape [`TEXT_IDS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TextId([u8; 25]);

impl TextId {
    /// The text that stands for these bits.
    pub fn of(mut bits: u128) -> Self {
        let mut text = [b'c'; 25];
        for place in &mut text[1..] {
            *place = b"0123456789abcdefghijklmnopqrstuvwxyz"[usize::try_from(bits % 36).unwrap_or(0)];
            bits /= 36;
        }
        Self(text)
    }

    pub(super) fn parse(text: &str) -> Result<Self> {
        Ok(Self(text.as_bytes().try_into().with_context(|| format!("{text} is no course's id"))?))
    }
}

impl fmt::Display for TextId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Display for CourseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(id) => write!(f, "{id}"),
            Self::Integer(id) => write!(f, "{id}"),
            Self::Text(id) => write!(f, "{id}"),
        }
    }
}
