//! Why we believe that a course is dead, and how long we have (S6).

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::inventory::Amount;

/// Why we believe that a course is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// Whoever deletes courses asked for it to be cleaned up, and we know that it existed.
    Requested,
    /// Its delete was recorded in the deleting transaction, and nobody has seen it live since.
    Tombstoned,
    /// An earlier run of ours saw this id live.
    Departed,
    /// Never seen live: an old leak, another environment's data, or no course's id at all.
    Stranger,
}

impl Evidence {
    /// Every kind, for metrics that exist from the start.
    pub const ALL: [Self; 4] = [Self::Requested, Self::Tombstoned, Self::Departed, Self::Stranger];

    /// Its name in the ledger, in metrics and in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Tombstoned => "tombstoned",
            Self::Departed => "departed",
            Self::Stranger => "stranger",
        }
    }

    /// The evidence of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|evidence| evidence.as_str() == name)
    }
}

/// How long an orphan must have been seen as one before it may go, by evidence. What was requested waits for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Graces {
    /// For [`Evidence::Tombstoned`].
    pub tombstoned: Duration,
    /// For [`Evidence::Departed`].
    pub departed: Duration,
    /// For [`Evidence::Stranger`].
    pub stranger: Duration,
}

impl Graces {
    /// The grace of this evidence.
    pub fn of(&self, evidence: Evidence) -> Duration {
        match evidence {
            Evidence::Requested => Duration::ZERO,
            Evidence::Tombstoned => self.tombstoned,
            Evidence::Departed => self.departed,
            Evidence::Stranger => self.stranger,
        }
    }
}

/// What the ledger remembers of an orphan's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OrphanClock {
    /// What it has accumulated up to `counted_at`.
    pub accrued: Duration,
    /// When the last finished run that saw it had started, in the database's time; `None` until a run has finished.
    pub counted_at: Option<DateTime<Utc>>,
}

impl OrphanClock {
    /// What it has accumulated at `now`: the time since the last finished run that saw it counts, but at most
    /// `at_most` of it, so that a long sleep or a jumping clock adds no more.
    pub fn at(&self, now: DateTime<Utc>, at_most: Duration) -> Duration {
        let since = self.counted_at.map_or(Duration::ZERO, |then| (now - then).to_std().unwrap_or_default());
        self.accrued.saturating_add(since.min(at_most))
    }

    /// The clock of an orphan that now holds `amount`: the remembered one, or a new one if there was none, if the
    /// orphan grew or changed, or if something alive refers to it (S6, S9).
    pub fn go_on(before: Option<(&Self, &Amount)>, amount: &Amount, referenced: bool) -> Self {
        match before {
            Some((clock, was)) if !referenced && !amount.grew_or_changed_since(was) => *clock,
            _ => Self::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(hours: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(hours * 3600, 0).unwrap()
    }

    fn clock(accrued: Duration, counted: i64) -> OrphanClock {
        OrphanClock { accrued, counted_at: Some(at(counted)) }
    }

    #[test]
    fn evidence_has_one_name_everywhere_and_a_grace_of_its_own() {
        let graces = Graces { tombstoned: HOUR / 4, departed: HOUR, stranger: 7 * HOUR };
        let named = Evidence::ALL.map(|evidence| (evidence.as_str(), graces.of(evidence)));
        let requested = ("requested", Duration::ZERO);
        assert_eq!(named, [requested, ("tombstoned", HOUR / 4), ("departed", HOUR), ("stranger", 7 * HOUR)]);
        for evidence in Evidence::ALL {
            assert_eq!(serde_json::to_value(evidence).unwrap(), evidence.as_str());
            assert_eq!(Evidence::named(evidence.as_str()), Some(evidence));
        }
        assert_eq!(Evidence::named("rumour"), None);
    }

    #[test]
    fn s6_a_long_sleep_adds_at_most_two_intervals() {
        assert_eq!(clock(HOUR, 0).at(at(1), 2 * HOUR), 2 * HOUR);
        assert_eq!(clock(HOUR, 0).at(at(500), 2 * HOUR), 3 * HOUR);
    }

    #[test]
    fn s6_a_clock_that_goes_back_adds_nothing() {
        assert_eq!(clock(HOUR, 10).at(at(2), 2 * HOUR), HOUR);
    }

    #[test]
    fn s6_the_first_sighting_has_accumulated_nothing() {
        assert_eq!(OrphanClock::default().at(at(100), 2 * HOUR), Duration::ZERO);
    }

    #[test]
    fn s6_growth_and_s9_references_start_the_clock_anew() {
        let small = Amount::one(b"a", None);
        let mut grown = small;
        grown.add(Amount::one(b"b", None));
        let before = clock(HOUR, 0);
        assert_eq!(OrphanClock::go_on(Some((&before, &small)), &small, false), before);
        assert_eq!(OrphanClock::go_on(Some((&before, &grown)), &small, false), before, "shrinking does not");
        assert_eq!(OrphanClock::go_on(Some((&before, &small)), &grown, false), OrphanClock::default());
        assert_eq!(OrphanClock::go_on(Some((&before, &small)), &small, true), OrphanClock::default());
        assert_eq!(OrphanClock::go_on(None, &small, false), OrphanClock::default());
    }

    proptest! {
        #[test]
        fn s6_grace_never_exceeds_what_was_observed(accrued in 0u64..1000, from in 0i64..1000, to in 0i64..1000, cap in 0u64..50) {
            let clock = OrphanClock { accrued: Duration::from_secs(accrued), counted_at: Some(at(from)) };
            let cap = Duration::from_secs(cap * 3600);
            let got = clock.at(at(to), cap);
            prop_assert!(got >= clock.accrued);
            prop_assert!(got <= clock.accrued + cap);
        }
    }
}
