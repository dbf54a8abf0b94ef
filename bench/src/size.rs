//! How much there is of everything.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// How large a bench is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Size {
    /// Seconds: whether everything works and agrees.
    Small,
    /// Minutes.
    Medium,
    /// What the targets are set for.
    Large,
}

impl Size {
    /// One of three numbers.
    pub fn of<T>(self, small: T, medium: T, large: T) -> T {
        match self {
            Self::Small => small,
            Self::Medium => medium,
            Self::Large => large,
        }
    }

    /// How often each side goes, one after the other.
    pub fn rounds(self) -> u32 {
        self.of(1, 5, 5)
    }
}
