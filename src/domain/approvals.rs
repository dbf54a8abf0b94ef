//! Approvals (S3, S7, S8): the digest by which a person names what is held, and what an approval releases.
//!
//! A digest names a set and nothing else: which orphans, or which sizes of live sets. It covers no counts of resources, bytes
//! or times, so that it stays the same for as long as the same things are held.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use super::diff::Orphan;
use super::evidence::{Evidence, OrphanClock};
use super::ids::CourseId;
use super::inventory::SourceIndex;
use super::live_set::Halt;

/// How long an approval lasts if nobody says otherwise.
pub const USUAL: Duration = Duration::from_secs(7 * 24 * 3600);
/// The longest that an approval may last.
pub const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// Names a set that is held: twelve hexadecimal digits of a SHA-256, short enough to be typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 6]);

/// A text that is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no digest: twelve hexadecimal digits, as `course-gc holds` shows them")]
pub struct NoDigest(String);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Digest {
    type Err = NoDigest;

    fn from_str(text: &str) -> Result<Self, NoDigest> {
        let wrong = || NoDigest(text.to_owned());
        if text.len() != 12 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let number = u64::from_str_radix(text, 16).map_err(|_| wrong())?;
        let [_, _, digits @ ..] = number.to_be_bytes();
        Ok(Self(digits))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What an approval is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HoldKind {
    /// Orphans that a breaker holds (S8).
    Breakers,
    /// Orphans whose courses vanished while the history of the truth broke (S7).
    Discontinuity,
    /// Live sets that are too small to be believed (S3).
    Halt,
}

impl HoldKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Breakers, Self::Discontinuity, Self::Halt];

    /// Its name in the ledger and in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Breakers => "breakers",
            Self::Discontinuity => "discontinuity",
            Self::Halt => "halt",
        }
    }
}

/// One orphan as a digest and an approval know it. Other evidence makes it another thing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Item {
    /// The store's name.
    pub store: String,
    /// The source's name.
    pub source: String,
    /// The course.
    pub course: CourseId,
    /// Why it is believed to be dead.
    pub evidence: Evidence,
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { store, source, course, .. } = self;
        write!(f, "{course} in {store}/{source}")
    }
}

/// Hashes texts so that no two lists of them are hashed alike.
struct Texts(Sha256);

impl Texts {
    fn new(kind: HoldKind) -> Self {
        let mut texts = Self(Sha256::new());
        texts.add(kind.as_str());
        texts
    }

    fn add(&mut self, text: &str) {
        self.0.update((text.len() as u64).to_be_bytes());
        self.0.update(text);
    }

    fn digest(self) -> Digest {
        let [a, b, c, d, e, f, ..]: [u8; 32] = self.0.finalize().into();
        Digest([a, b, c, d, e, f])
    }
}

/// The digest of a set of orphans that this kind of gate holds.
pub fn digest_of_orphans<'a>(kind: HoldKind, orphans: impl IntoIterator<Item = &'a Item>) -> Digest {
    let sorted: BTreeSet<&Item> = orphans.into_iter().collect();
    let mut texts = Texts::new(kind);
    for item in sorted {
        texts.add(&item.store);
        texts.add(&item.source);
        texts.add(&item.course.to_string());
        texts.add(item.evidence.as_str());
    }
    texts.digest()
}

/// The digest of a halt: of every live set that was not believed, its size, and what it was compared with.
pub fn digest_of_halts(halts: &[Halt]) -> Digest {
    let each = halts.iter().map(|halt| (halt.source_name(), halt.as_str(), halt.live(), halt.highest()));
    let sorted: BTreeSet<(&str, &str, u64, Option<u64>)> = each.collect();
    let mut texts = Texts::new(HoldKind::Halt);
    for (source, kind, live, highest) in sorted {
        texts.add(source);
        texts.add(kind);
        texts.add(&live.to_string());
        texts.add(&highest.map_or_else(String::new, |highest| highest.to_string()));
    }
    texts.digest()
}

/// One orphan of one store, as approvals are compared with it.
pub type ReleaseKey = (SourceIndex, CourseId, Evidence);

/// What the approvals in force release in one store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Released {
    /// From breakers and latches, and by which approval's digest.
    pub from_breakers: BTreeMap<ReleaseKey, Digest>,
    /// From the wait after a break in the history, and since when.
    pub from_breaks: BTreeMap<ReleaseKey, DateTime<Utc>>,
}

impl Released {
    /// Marks an orphan as released if it is in an approved set, and only then. What vanished across a break has its clock
    /// started anew by the approval: what was counted before says nothing (S6).
    pub fn apply(&self, orphan: &mut Orphan) {
        let key = (orphan.source, orphan.course, orphan.evidence);
        orphan.approved = self.from_breakers.get(&key).copied();
        if let (true, Some(approved_at)) = (orphan.across_break, self.from_breaks.get(&key)) {
            orphan.across_break = false;
            if orphan.clock.counted_at.is_some_and(|counted_at| counted_at < *approved_at) {
                orphan.clock = OrphanClock::default();
                orphan.accrued = Duration::ZERO;
            }
        }
    }
}

/// On what terms a person approves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    reason: String,
    lasts: Duration,
}

/// Terms on which nothing is approved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTerms {
    /// No reason.
    #[error("an approval needs a reason: whoever reads the ledger later wants to know why")]
    NoReason,
    /// Too short, or too long.
    #[error("an approval lasts longer than no time and at most 30 days")]
    Duration,
}

impl Terms {
    /// Terms with a reason, for so long.
    ///
    /// # Errors
    /// If the reason is blank, or the time is zero or longer than [`LONGEST`].
    pub fn new(reason: &str, lasts: Duration) -> Result<Self, BadTerms> {
        let reason = reason.trim();
        if reason.is_empty() {
            return Err(BadTerms::NoReason);
        }
        if lasts.is_zero() || lasts > LONGEST {
            return Err(BadTerms::Duration);
        }
        Ok(Self { reason: reason.to_owned(), lasts })
    }

    /// Why; never blank.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// For how long.
    pub fn lasts(&self) -> Duration {
        self.lasts
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::inventory::{Amount, Found};
    use super::*;

    fn item(n: i64) -> Item {
        Item { store: "cache".into(), source: "rag".into(), course: CourseId::Integer(n), evidence: Evidence::Departed }
    }

    fn orphan(n: i64) -> Orphan {
        Orphan {
            source: SourceIndex(0),
            course: CourseId::Integer(n),
            evidence: Evidence::Departed,
            found: Found {
                amount: Amount { resources: 3, bytes: Some(10), fingerprint: 0 },
                entangled: 0,
                referenced: 0,
                locked: false,
            },
            accrued: Duration::from_secs(3600),
            clock: OrphanClock { accrued: Duration::from_secs(3600), counted_at: Some(at(100)) },
            referenced: false,
            restored: false,
            across_break: false,
            is_new: false,
            latched: None,
            approved: None,
        }
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn key(n: i64) -> ReleaseKey {
        (SourceIndex(0), CourseId::Integer(n), Evidence::Departed)
    }

    #[test]
    fn a_digest_is_read_as_it_is_written_and_nothing_else_is() {
        let digest = digest_of_orphans(HoldKind::Breakers, [&item(1)]);
        assert_eq!(digest.to_string().len(), 12);
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(digest.to_string().to_uppercase().parse(), Ok(digest), "as somebody may type it");
        for bad in ["", "12345678901", "1234567890123", "12345678901g", "+12345678901", "0x1234567890"] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn s8_a_digest_tells_every_part_of_an_orphan_apart() {
        let digest = |items: &[Item]| digest_of_orphans(HoldKind::Breakers, items);
        let others = [
            Item { store: "cach".into(), source: "erag".into(), ..item(1) },
            Item { store: "other".into(), ..item(1) },
            Item { source: "other".into(), ..item(1) },
            Item { course: CourseId::Integer(11), ..item(1) },
            Item { evidence: Evidence::Stranger, ..item(1) },
        ];
        for other in &others {
            assert_ne!(digest(std::slice::from_ref(other)), digest(&[item(1)]), "{other:?}");
        }
        assert_ne!(digest(&[item(1)]), digest(&[item(1), item(2)]));
        let across = digest_of_orphans(HoldKind::Discontinuity, [&item(1)]);
        assert_ne!(across, digest(&[item(1)]), "who approves one thing does not approve another");
    }

    #[test]
    fn s3_a_halts_digest_covers_source_kind_and_sizes() {
        let drop = |source: &str, live, highest| Halt::Drop {
            source_name: source.into(),
            live,
            highest,
            refuse_drop_percent: 20,
        };
        let digest = |halt: Halt| digest_of_halts(&[halt]);
        let this = digest(drop("campus", 70, 100));
        assert_ne!(this, digest(drop("other", 70, 100)));
        assert_ne!(this, digest(drop("campus", 69, 100)));
        assert_ne!(this, digest(drop("campus", 70, 101)));
        assert_ne!(this, digest(Halt::Below { source_name: "campus".into(), live: 70, refuse_below: 100 }));
        let (a, b) = (drop("a", 70, 100), drop("b", 70, 100));
        assert_eq!(digest_of_halts(&[a.clone(), b.clone()]), digest_of_halts(&[b, a]));
    }

    #[test]
    fn s7_an_approval_lets_the_clock_start_with_it() {
        let released = Released { from_breaks: BTreeMap::from([(key(1), at(200))]), ..Released::default() };
        let mut before = Orphan { across_break: true, ..orphan(1) };
        released.apply(&mut before);
        assert!(!before.across_break);
        assert_eq!((before.accrued, before.clock), (Duration::ZERO, OrphanClock::default()));
        let clock = OrphanClock { counted_at: Some(at(300)), ..orphan(1).clock };
        let mut after = Orphan { across_break: true, clock, ..orphan(1) };
        released.apply(&mut after);
        assert_eq!((after.accrued, after.clock), (Duration::from_secs(3600), clock), "what counts since then goes on");
        let clock = OrphanClock { counted_at: Some(at(200)), ..orphan(1).clock };
        let mut with = Orphan { across_break: true, clock, ..orphan(1) };
        released.apply(&mut with);
        assert_eq!(with.clock, clock, "so does what a run counted that began with it");
        let mut another = Orphan { across_break: true, ..orphan(2) };
        released.apply(&mut another);
        assert_eq!(another, Orphan { across_break: true, ..orphan(2) });
    }

    #[test]
    fn s8_an_approval_needs_a_reason_and_an_end() {
        let day = Duration::from_secs(24 * 3600);
        assert_eq!(Terms::new(" \n", USUAL), Err(BadTerms::NoReason));
        assert_eq!(Terms::new("why", Duration::ZERO), Err(BadTerms::Duration));
        assert_eq!(Terms::new("why", LONGEST + day), Err(BadTerms::Duration));
        let terms = Terms::new(" why ", LONGEST).unwrap();
        assert_eq!((terms.reason(), terms.lasts()), ("why", LONGEST));
    }

    #[test]
    fn s8_an_approval_lasts_a_week_unless_told_and_never_more_than_thirty_days() {
        let days = |days| chrono::TimeDelta::days(days).to_std().unwrap();
        assert_eq!((USUAL, LONGEST), (days(7), days(30)));
    }

    #[test]
    fn an_orphan_is_shown_by_its_course_store_and_source() {
        assert_eq!(item(7).to_string(), "7 in cache/rag");
    }

    prop_compose! {
        fn any_item()(store in "[a-c]", source in "[a-c]{0,2}", n in 0i64..5, stranger: bool) -> Item {
            let evidence = if stranger { Evidence::Stranger } else { Evidence::Departed };
            Item { store, source, course: CourseId::Integer(n), evidence }
        }
    }

    proptest! {
        #[test]
        fn s8_a_digest_names_the_set_and_no_order(
            (items, shuffled) in proptest::collection::vec(any_item(), 0..12)
                .prop_flat_map(|items| (Just(items.clone()), Just(items).prop_shuffle())),
            others in proptest::collection::vec(any_item(), 0..12),
        ) {
            let digest = |items: &[Item]| digest_of_orphans(HoldKind::Breakers, items);
            let set = |items: &[Item]| items.iter().cloned().collect::<BTreeSet<_>>();
            prop_assert_eq!(digest(&items), digest(&shuffled));
            prop_assert_eq!(digest(&items) == digest(&others), set(&items) == set(&others));
        }

        #[test]
        fn s8_an_approval_never_releases_what_was_not_in_its_set(
            approved in proptest::collection::btree_set((0i64..8, any::<bool>()), 0..8),
            n in 0i64..8, stranger: bool, across_break: bool,
        ) {
            let evidence = |stranger| if stranger { Evidence::Stranger } else { Evidence::Departed };
            let keys = || approved.iter().map(|(n, stranger)| (SourceIndex(0), CourseId::Integer(*n), evidence(*stranger)));
            let digest = digest_of_orphans(HoldKind::Breakers, []);
            let released = Released {
                from_breakers: keys().map(|key| (key, digest)).collect(),
                from_breaks: keys().map(|key| (key, at(200))).collect(),
            };
            let mut marked = Orphan { evidence: evidence(stranger), across_break, ..orphan(n) };
            let before = marked.clone();
            released.apply(&mut marked);
            if approved.contains(&(n, stranger)) {
                prop_assert!(marked.approved == Some(digest) && !marked.across_break);
            } else {
                prop_assert_eq!(marked, before);
            }
        }
    }
}
