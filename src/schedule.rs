//! When to run.

use chrono_tz::Tz;
use croner::Cron;
use croner::errors::CronError;

/// A cron expression in a time zone.
#[derive(Clone, Debug)]
pub struct Schedule {
    cron: Cron,
    zone: Tz,
}

impl Schedule {
    /// Parses `expression`.
    ///
    /// # Errors
    /// When it is no cron expression.
    pub fn new(expression: &str, zone: Tz) -> Result<Self, CronError> {
        Ok(Self { cron: expression.parse()?, zone })
    }
}
