//! What is to be done with every orphan, and why.

use std::time::Duration;

use serde::Serialize;

use super::diff::Orphan;
use super::evidence::{Evidence, Graces};
use super::inventory::SourceIndex;
use super::sample::Sample;

/// Why an orphan stays, in the order in which the gates are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Hold {
    /// What its store depends on could not be read completely (S4).
    Incomplete,
    /// Its store is not, or no longer, adopted (S7).
    NotAdopted,
    /// It vanished while the history of the truth broke; an approval, or adopting anew, accepts it (S7).
    Discontinuity,
    /// A person paused all deleting.
    Paused,
    /// A person put it back from quarantine a while ago (S12).
    Restored,
    /// A stranger in a source that nobody declared exclusively ours: reported only.
    NotExclusive,
    /// Too much would go, now or when it was first held so (S8).
    Breaker {
        /// Which breaker.
        breaker: Breaker,
    },
    /// Something alive refers to what it holds (S9). Asked before grace, whose clock stands still meanwhile: the reason is
    /// the reference, and not the time.
    Referenced,
    /// It has not been an orphan for long enough (S6).
    Grace {
        /// Seconds that are missing.
        left_seconds: u64,
    },
    /// Something of its course in its store is being worked on, or is what a schedule that stays works on next: all of it waits.
    Locked,
    /// All of its resources also name a live course, or cannot be told from another's (S5).
    Entangled,
    /// The run's cap is used up; a later run goes on.
    Cap,
}

/// Which breaker tripped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Breaker {
    /// The orphans' share of a source's courses.
    Share,
    /// The strangers' share of a source's courses.
    StrangerShare,
    /// Courses within 24 hours, over all stores.
    Courses,
    /// Bytes within 24 hours, over all stores.
    Bytes,
}

impl Breaker {
    /// Every breaker.
    pub const ALL: [Self; 4] = [Self::Share, Self::StrangerShare, Self::Courses, Self::Bytes];

    /// Its name in the ledger and in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Share => "share",
            Self::StrangerShare => "stranger_share",
            Self::Courses => "courses",
            Self::Bytes => "bytes",
        }
    }

    /// The breaker of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|breaker| breaker.as_str() == name)
    }
}

impl Hold {
    /// Every name that [`Hold::as_str`] gives, for metrics that exist from the start.
    pub const NAMES: [&'static str; 15] = [
        "incomplete",
        "not_adopted",
        "discontinuity",
        "paused",
        "restored",
        "not_exclusive",
        "breaker_share",
        "breaker_stranger_share",
        "breaker_courses",
        "breaker_bytes",
        "referenced",
        "grace",
        "locked",
        "entangled",
        "cap",
    ];

    /// Its name in the ledger, in metrics and in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Incomplete => "incomplete",
            Self::NotAdopted => "not_adopted",
            Self::Discontinuity => "discontinuity",
            Self::Paused => "paused",
            Self::Restored => "restored",
            Self::NotExclusive => "not_exclusive",
            Self::Breaker { breaker: Breaker::Share } => "breaker_share",
            Self::Breaker { breaker: Breaker::StrangerShare } => "breaker_stranger_share",
            Self::Breaker { breaker: Breaker::Courses } => "breaker_courses",
            Self::Breaker { breaker: Breaker::Bytes } => "breaker_bytes",
            Self::Referenced => "referenced",
            Self::Grace { .. } => "grace",
            Self::Locked => "locked",
            Self::Entangled => "entangled",
            Self::Cap => "cap",
        }
    }

    /// What it means, and what to do about it.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Incomplete => "what depends on it could not be read",
            Self::NotAdopted => "its store is not adopted (`course-gc adopt`)",
            Self::Discontinuity => "it vanished while the database's history broke (`course-gc holds`)",
            Self::Paused => "a person paused all deleting (`course-gc resume`)",
            Self::Restored => "put back from quarantine a while ago",
            Self::NotExclusive => "never seen live, in a source that is not exclusive",
            Self::Breaker { .. } => "breaker: too much would go (`course-gc holds`)",
            Self::Grace { .. } => "grace",
            Self::Referenced => "something alive refers to it",
            Self::Locked => "jobs of it are being worked on",
            Self::Entangled => "names a live course too",
            Self::Cap => "this run's cap is used up",
        }
    }

    /// What the hold of this name means, and what to do about it.
    pub fn named_in_words(name: &str) -> &'static str {
        let breaker = Breaker::ALL.into_iter().map(|breaker| Self::Breaker { breaker });
        let others = [
            Self::Incomplete,
            Self::NotAdopted,
            Self::Discontinuity,
            Self::Paused,
            Self::Restored,
            Self::NotExclusive,
            Self::Referenced,
            Self::Grace { left_seconds: 0 },
            Self::Locked,
            Self::Entangled,
            Self::Cap,
        ];
        others.into_iter().chain(breaker).find(|hold| hold.as_str() == name).map_or("", Self::in_words)
    }

    /// True if it stays held until a person does something.
    pub fn needs_a_person(self) -> bool {
        matches!(self, Self::Breaker { .. } | Self::Paused | Self::NotAdopted | Self::Discontinuity)
    }
}

/// What is done with an orphan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum Decision {
    /// All of it goes.
    Sweep,
    /// It goes, except for what also names a live course, and what something alive refers to.
    SweepExcept {
        /// How many resources stay for what they name (S5); the orphan's report says so too.
        #[serde(skip)]
        entangled: u64,
        /// How many stay because something refers to them (S9); the orphan's report says so too.
        #[serde(skip)]
        referenced: u64,
    },
    /// It stays.
    Held(Hold),
}

impl Decision {
    /// True if anything of the orphan goes.
    pub fn sweeps(self) -> bool {
        !matches!(self, Self::Held(_))
    }

    /// The breaker that holds it, if one does.
    pub fn breaker(self) -> Option<Breaker> {
        match self {
            Self::Held(Hold::Breaker { breaker }) => Some(breaker),
            _ => None,
        }
    }
}

/// What limits a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long an orphan must have been one.
    pub graces: Graces,
    /// Most orphans of a source's courses, in percent.
    pub breaker_share: u8,
    /// Most strangers of a source's courses, in percent.
    pub breaker_share_strangers: u8,
    /// Most courses that may go within 24 hours.
    pub breaker_courses: u64,
    /// Most bytes that may go within 24 hours.
    pub breaker_bytes: u64,
    /// Most courses that one run sweeps.
    pub cap_courses: Option<u64>,
}

/// What the gates know of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceView {
    /// Distinct live courses that were seen in it.
    pub live_courses: u64,
    /// A person declared that only this installation's courses are in it.
    pub exclusive: bool,
    /// What is known of the size of its orphans' resources, where their own is not.
    pub sizes: Sample,
}

/// A store's orphans, as the gates get them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreView {
    /// By source.
    pub sources: Vec<SourceView>,
    /// Its orphans.
    pub orphans: Vec<Orphan>,
    /// False if something that the store's orphans depend on could not be read (S4, S9).
    pub complete: bool,
    /// True if the store is ours (S7).
    pub adopted: bool,
}

/// An orphan and what is done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// The orphan.
    pub orphan: Orphan,
    /// What is done with it.
    pub decision: Decision,
}

/// Every orphan with its decision: one list a store, in the stores' order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// By store.
    pub stores: Vec<Vec<Decided>>,
}

impl Plan {
    /// The orphans of one store that are to be swept.
    pub fn sweeps(&self, store: usize) -> impl Iterator<Item = &Orphan> + '_ {
        let decided = self.stores.get(store).map(Vec::as_slice).unwrap_or_default();
        decided.iter().filter(|decided| decided.decision.sweeps()).map(|decided| &decided.orphan)
    }

    /// All decisions.
    pub fn iter(&self) -> impl Iterator<Item = &Decided> + '_ {
        self.stores.iter().flatten()
    }
}

impl SourceView {
    /// True if an orphan of this evidence could ever be swept from this source.
    pub fn sweepable(&self, evidence: Evidence) -> bool {
        self.exclusive || evidence != Evidence::Stranger
    }
}

impl StoreView {
    /// The view of the orphan's source.
    pub fn source(&self, source: SourceIndex) -> Option<&SourceView> {
        self.sources.get(source.0)
    }
}

/// How much of its grace an orphan still misses.
pub fn grace_left(orphan: &Orphan, graces: Graces) -> Option<Duration> {
    let left = graces.of(orphan.evidence).saturating_sub(orphan.accrued);
    (!left.is_zero()).then_some(left)
}

#[cfg(test)]
mod tests {
    use super::super::evidence::OrphanClock;
    use super::super::ids::CourseId;
    use super::super::inventory::{Amount, Found};
    use super::*;

    const HOLDS: [Hold; 15] = [
        Hold::Incomplete,
        Hold::NotAdopted,
        Hold::Discontinuity,
        Hold::Paused,
        Hold::Restored,
        Hold::NotExclusive,
        Hold::Breaker { breaker: Breaker::Share },
        Hold::Breaker { breaker: Breaker::StrangerShare },
        Hold::Breaker { breaker: Breaker::Courses },
        Hold::Breaker { breaker: Breaker::Bytes },
        Hold::Referenced,
        Hold::Grace { left_seconds: 5 },
        Hold::Locked,
        Hold::Entangled,
        Hold::Cap,
    ];

    fn orphan(evidence: Evidence, accrued: Duration) -> Orphan {
        Orphan {
            source: SourceIndex(0),
            course: CourseId::Integer(1),
            evidence,
            found: Found { amount: Amount::one(b"x", None), entangled: 0, referenced: 0, locked: false },
            accrued,
            clock: OrphanClock::default(),
            referenced: false,
            restored: false,
            across_break: false,
            is_new: false,
            latched: None,
            approved: None,
        }
    }

    #[test]
    fn every_hold_is_called_by_a_name_that_metrics_have_from_the_start() {
        assert_eq!(HOLDS.map(Hold::as_str), Hold::NAMES);
    }

    #[test]
    fn a_person_is_needed_for_what_no_later_run_lets_go_by_itself() {
        let needed: Vec<_> = HOLDS.into_iter().filter(|hold| hold.needs_a_person()).map(Hold::as_str).collect();
        let breakers = ["breaker_share", "breaker_stranger_share", "breaker_courses", "breaker_bytes"];
        assert_eq!(needed, [&["not_adopted", "discontinuity", "paused"][..], &breakers[..]].concat());
    }

    #[test]
    fn s8_a_breaker_has_one_name_in_the_ledger_and_in_reports() {
        for breaker in Breaker::ALL {
            assert_eq!(Breaker::named(breaker.as_str()), Some(breaker));
            assert_eq!(serde_json::to_value(breaker).unwrap(), breaker.as_str());
            assert_eq!(Decision::Held(Hold::Breaker { breaker }).breaker(), Some(breaker), "this is what is latched");
        }
        assert_eq!(Breaker::named("fuse"), None);
        assert_eq!([Decision::Sweep.breaker(), Decision::Held(Hold::Cap).breaker()], [None, None]);
    }

    #[test]
    fn only_what_is_not_held_is_swept_and_only_from_its_own_store() {
        let decided = |decision| Decided { orphan: orphan(Evidence::Departed, Duration::ZERO), decision };
        let goes = vec![decided(Decision::Sweep), decided(Decision::SweepExcept { entangled: 1, referenced: 0 })];
        let stays: Vec<_> = HOLDS.into_iter().map(|hold| decided(Decision::Held(hold))).collect();
        let plan = Plan { stores: vec![goes, stays] };
        assert_eq!([0, 1, 2].map(|store| plan.sweeps(store).count()), [2, 0, 0]);
        assert_eq!(plan.iter().count(), 17);
    }

    #[test]
    fn s6_grace_is_left_until_it_has_been_seen_in_full() {
        let second = Duration::from_secs(1);
        let graces = Graces { tombstoned: second, departed: 2 * second, stranger: 3 * second };
        let left = |evidence, accrued| grace_left(&orphan(evidence, accrued), graces);
        assert_eq!(left(Evidence::Departed, second), Some(second));
        assert_eq!(left(Evidence::Departed, 2 * second), None);
        assert_eq!(left(Evidence::Departed, 9 * second), None);
        assert_eq!(left(Evidence::Stranger, Duration::ZERO), Some(3 * second));
        assert_eq!(left(Evidence::Tombstoned, second / 2), Some(second / 2));
    }
}
