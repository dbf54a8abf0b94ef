//! The scalars of the configuration: each is parsed once, at the edge, and shown as it is written.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use chrono_tz::Tz;
use tracing::Level;

use super::schema::Form;
use crate::domain::ids::{IdType, IdTypeError};
use crate::schedule::Schedule;

/// A scalar: one piece of text in the file or in the environment.
pub(super) trait Scalar: Sized {
    /// How it is written, as far as a schema can say.
    const FORM: Form;
    /// Parses the text; the error says what is wrong and what would be right.
    fn parse(text: &str) -> Result<Self, String>;
    /// The value as a person would write it.
    fn show(&self) -> String;
}

/// A share of a whole, 0 to 100 in whole percent, written `20%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(u8);

impl Percent {
    /// The percentage, 0 to 100.
    pub fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl Scalar for Percent {
    const FORM: Form = Form::Pattern("^0*(100|[0-9]{1,2})\\s*%$");

    fn parse(text: &str) -> Result<Self, String> {
        text.strip_suffix('%')
            .and_then(|number| number.trim_end().parse().ok())
            .filter(|number| *number <= 100)
            .map(Self)
            .ok_or_else(|| format!("`{text}` is no percentage; write a whole number, 0% to 100%"))
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

/// A number of bytes, written with a unit: `50GB` (1000 to the third), `512MiB` (1024 squared).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(u64);

impl ByteSize {
    const UNITS: [(&'static str, u64); 9] = [
        ("TiB", 1 << 40),
        ("TB", 1_000_000_000_000),
        ("GiB", 1 << 30),
        ("GB", 1_000_000_000),
        ("MiB", 1 << 20),
        ("MB", 1_000_000),
        ("KiB", 1 << 10),
        ("kB", 1_000),
        ("B", 1),
    ];

    /// The number of bytes.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, size) = Self::UNITS
            .into_iter()
            .filter(|(_, size)| self.0.is_multiple_of(*size))
            .max_by_key(|(_, size)| *size)
            .filter(|_| self.0 > 0)
            .unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / size)
    }
}

impl Scalar for ByteSize {
    const FORM: Form = Form::Pattern("^[0-9]+\\s*([kKmMgGtT][iI]?)?[bB]$");

    fn parse(text: &str) -> Result<Self, String> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let size = Self::UNITS
            .into_iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit.trim_start()))
            .and_then(|(_, size)| number.parse::<u64>().ok()?.checked_mul(size));
        size.map(Self).ok_or_else(|| {
            format!("`{text}` is no size; write a whole number and B, kB, MB, GB, TB, KiB, MiB, GiB or TiB, as in 50GB")
        })
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

/// A cron expression of five fields, or six with seconds first.
#[derive(Clone, Debug)]
pub struct Cron {
    text: String,
    schedule: Schedule,
}

impl Cron {
    /// The expression as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The schedule that it is in a zone.
    pub fn in_zone(&self, zone: Tz) -> Schedule {
        self.schedule.in_zone(zone)
    }
}

impl Scalar for Cron {
    const FORM: Form = Form::Pattern("^\\s*(@[a-zA-Z]+|\\S+(\\s+\\S+){4,5})\\s*$");

    fn parse(text: &str) -> Result<Self, String> {
        match Schedule::new(text, Tz::UTC) {
            Ok(schedule) => Ok(Self { text: text.to_owned(), schedule }),
            Err(error) => Err(format!(
                "{error}; write five fields (minute hour day month weekday) or six with seconds first, \
                 as in \"*/15 * * * *\""
            )),
        }
    }
    fn show(&self) -> String {
        self.text.clone()
    }
}

/// Declares an enum whose variants are written as the given words.
macro_rules! words {
    ($(#[$meta:meta])* pub enum $name:ident ($what:literal) {
        $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)+
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_meta])* $variant,)+ }

        impl $name {
            /// The word that stands for it in the configuration.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Scalar for $name {
            const FORM: Form = Form::Words(&[$($word),+]);

            fn parse(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    other => Err(format!(
                        concat!("`{}` is no ", $what, "; possible: {}"),
                        other, [$($word),+].join(", "),
                    )),
                }
            }
            fn show(&self) -> String {
                self.as_str().to_owned()
            }
        }
    };
}

impl Scalar for IdType {
    const FORM: Form = Form::Pattern("^(uuid|integer|text.*)$");

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error: IdTypeError| error.to_string())
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

words! {
    /// A risk in a liveness query that a person has accepted.
    pub enum LivenessAccept ("risk of a liveness query") {
        /// The query reads a foreign table: this server cannot vouch for its rows.
        ForeignTables = "foreign_tables",
        /// The query reads a materialized view, which may be stale.
        MaterializedViews = "materialized_views",
        /// The query reads a table that a subscription fills, which may lag.
        SubscribedTables = "subscribed_tables",
        /// The query calls a function with settings of its own, such as another search path.
        FunctionSettings = "function_settings",
    }
}

words! {
    /// A floor or ceiling of the limits that a person has chosen to pass.
    pub enum LimitAccept ("limit that can be passed") {
        /// A grace below its floor: `tombstoned` 1 minute, `departed` 1 hour, `stranger` 24 hours.
        ShortGrace = "short_grace",
        /// A `quarantine.keep` below 1 day.
        ShortQuarantine = "short_quarantine",
        /// `refuse_drop` above 50 %.
        LargeDrop = "large_drop",
        /// `breaker_share` or `breaker_share_strangers` above 50 %.
        LargeShare = "large_share",
    }
}

words! {
    /// What a caller of the API may do.
    pub enum ApiScope ("scope") {
        /// Look: runs, plans, holds, what is left of a course.
        Read = "read",
        /// Ask for what a course left to be removed.
        Cleanup = "cleanup",
        /// What a person at the command line does: approve, pause, restore, ask for a run.
        Admin = "admin",
    }
}

words! {
    /// How log lines are written.
    pub enum LogFormat ("log format") {
        /// For people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

/// Implements [`Scalar`] by `FromStr` and `ToString`, with what would be right.
macro_rules! by_from_str {
    ($($type:ty: $form:expr, $right:literal;)+) => {$(
        impl Scalar for $type {
            const FORM: Form = $form;

            fn parse(text: &str) -> Result<Self, String> {
                <$type>::from_str(text).map_err(|_| format!(concat!("`{}` is not right here; write ", $right), text))
            }
            fn show(&self) -> String {
                self.to_string()
            }
        }
    )+};
}

by_from_str! {
    bool: Form::Boolean, "true or false";
    u32: Form::Number, "a whole number, as in 100";
    u64: Form::Number, "a whole number, as in 100";
    Tz: Form::Text, "a zone of the IANA database, as in Europe/Berlin";
    std::net::SocketAddr: Form::Pattern("^(\\[[0-9a-fA-F:.]+\\]|[0-9.]+):[0-9]{1,5}$"), "an address and a port, as in 127.0.0.1:9090";
}

impl Scalar for f64 {
    const FORM: Form = Form::Decimal;

    fn parse(text: &str) -> Result<Self, String> {
        let number = text.parse().ok().filter(|number: &Self| number.is_finite());
        number.ok_or_else(|| format!("`{text}` is not right here; write a number, as in 1.5"))
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Scalar for String {
    const FORM: Form = Form::Text;

    fn parse(text: &str) -> Result<Self, String> {
        Some(text)
            .filter(|text| !text.trim().is_empty())
            .map(str::to_owned)
            .ok_or_else(|| "is empty; write a value".to_owned())
    }
    fn show(&self) -> String {
        self.clone()
    }
}

impl Scalar for PathBuf {
    const FORM: Form = Form::Text;

    fn parse(text: &str) -> Result<Self, String> {
        String::parse(text).map(Self::from)
    }
    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Scalar for Duration {
    const FORM: Form = Form::Pattern("^\\s*(0|([0-9]+\\s*[a-zA-Z]+\\s*)+)$");

    fn parse(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text)
            .map_err(|_| format!("`{text}` is no duration; write a number and a unit, as in 10s, 15m, 24h or 7d"))
    }
    fn show(&self) -> String {
        const UNITS: [(&str, u128); 4] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
        let millis = self.as_millis();
        let unit = UNITS.into_iter().find(|(_, size)| millis > 0 && millis.is_multiple_of(*size));
        match unit {
            Some((name, size)) => format!("{}{name}", millis / size),
            None if millis == 0 => "0s".to_owned(),
            None => format!("{millis}ms"),
        }
    }
}

impl Scalar for Level {
    const FORM: Form = Form::Words(&["error", "warn", "info", "debug", "trace"]);

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("`{text}` is no log level; possible: error, warn, info, debug, trace"))
    }
    fn show(&self) -> String {
        self.to_string().to_lowercase()
    }
}
