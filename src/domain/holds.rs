//! What waits for a person's approval, with the digest that names it (S3, S7, S8).
//!
//! Holds are not stored: they follow from the orphans that the ledger remembers and from the last run's halt.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use utoipa::ToSchema;

use super::approvals::{Digest, HoldKind, Item, digest_of_halts, digest_of_orphans};
use super::live_set::Halts;
use super::plan::{Breaker, Limits};

/// How many orphans of a hold are named: some from everywhere, since neighbours tell the same.
const SAMPLES: usize = 5;

/// What keeps an orphan until a person approves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HeldBy {
    /// A breaker, now or in an earlier plan or run.
    Breaker(Breaker),
    /// A break in the history of the truth.
    Discontinuity,
}

impl HeldBy {
    fn kind(self) -> HoldKind {
        match self {
            Self::Breaker(_) => HoldKind::Breakers,
            Self::Discontinuity => HoldKind::Discontinuity,
        }
    }
}

/// An orphan that waits for an approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldOrphan {
    /// Which.
    pub item: Item,
    /// What keeps it.
    pub by: HeldBy,
    /// Points, keys or files that may go.
    pub resources: u64,
    /// Their size, where known.
    pub bytes: Option<u64>,
}

/// A hold as reports show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct HoldReport {
    /// Names what is held; `None` if it cannot be approved.
    #[schema(value_type = Option<String>)]
    pub digest: Option<Digest>,
    /// What kind of hold.
    pub kind: HoldKind,
    /// What holds, in words, with numbers.
    pub why: Vec<String>,
    /// The stores in which the orphans are; empty for a halt.
    pub stores: Vec<String>,
    /// How many orphans are held.
    pub orphans: u64,
    /// Of how many courses.
    pub courses: u64,
    /// Their points, keys or files that may go.
    pub resources: u64,
    /// Their size, as far as known.
    pub bytes: Option<u64>,
    /// A few of the orphans, from all over the set.
    pub samples: Vec<String>,
    /// What to type to approve it.
    pub command: Option<String>,
}

/// What an approval of a hold covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Covered<'a> {
    /// These orphans.
    Orphans(Vec<&'a Item>),
    /// These sizes of live sets: source and live ids.
    Sizes(Vec<(&'a str, u64)>),
}

/// A hold, and what approving it covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldSet<'a> {
    /// As reports show it.
    pub report: HoldReport,
    /// What its digest names.
    pub covered: Covered<'a>,
}

/// The holds of orphans: all that breakers hold is one; where it is in several stores, each of them is one besides. What
/// vanished across a break is another.
pub fn of_orphans<'a>(held: &'a [HeldOrphan], limits: &Limits) -> Vec<HoldSet<'a>> {
    let of = |kind| held.iter().filter(move |orphan| orphan.by.kind() == kind);
    let mut by_store: BTreeMap<&str, Vec<&HeldOrphan>> = BTreeMap::new();
    for orphan in of(HoldKind::Breakers) {
        by_store.entry(&orphan.item.store).or_default().push(orphan);
    }
    let mut sets = vec![of(HoldKind::Breakers).collect::<Vec<_>>()];
    if by_store.len() > 1 {
        sets.extend(by_store.into_values());
    }
    sets.push(of(HoldKind::Discontinuity).collect());
    sets.into_iter().filter_map(|orphans| hold(orphans, limits)).collect()
}

fn hold<'a>(mut orphans: Vec<&'a HeldOrphan>, limits: &Limits) -> Option<HoldSet<'a>> {
    orphans.sort_by_key(|orphan| &orphan.item);
    let kind = orphans.first()?.by.kind();
    let items: Vec<&Item> = orphans.iter().map(|orphan| &orphan.item).collect();
    let digest = digest_of_orphans(kind, items.iter().copied());
    let stores: BTreeSet<&String> = items.iter().map(|item| &item.store).collect();
    let known_bytes: Vec<u64> = orphans.iter().filter_map(|orphan| orphan.bytes).collect();
    let report = HoldReport {
        digest: Some(digest),
        kind,
        why: reasons(&orphans, limits),
        stores: stores.into_iter().cloned().collect(),
        orphans: orphans.len() as u64,
        courses: courses(&orphans),
        resources: orphans.iter().map(|orphan| orphan.resources).sum(),
        bytes: (!known_bytes.is_empty()).then(|| known_bytes.iter().sum()),
        samples: items.iter().step_by(items.len().div_ceil(SAMPLES)).map(ToString::to_string).collect(),
        command: Some(command(digest)),
    };
    Some(HoldSet { report, covered: Covered::Orphans(items) })
}

/// The hold of a run that did not believe the live sets.
pub fn of_halts(halts: &Halts) -> HoldSet<'_> {
    let digest = halts.can_be_approved().then(|| digest_of_halts(halts.all()));
    let report = HoldReport {
        digest,
        kind: HoldKind::Halt,
        why: halts.all().iter().map(ToString::to_string).collect(),
        stores: Vec::new(),
        orphans: 0,
        courses: 0,
        resources: 0,
        bytes: None,
        samples: Vec::new(),
        command: digest.map(command),
    };
    let sizes = halts.all().iter().map(|halt| (halt.source_name(), halt.live())).collect();
    HoldSet { report, covered: Covered::Sizes(sizes) }
}

fn command(digest: Digest) -> String {
    format!("course-gc approve {digest} --reason \"…\"")
}

fn courses(orphans: &[&HeldOrphan]) -> u64 {
    orphans.iter().map(|orphan| orphan.item.course).collect::<BTreeSet<_>>().len() as u64
}

/// One line for each thing that holds some of the orphans.
fn reasons(orphans: &[&HeldOrphan], limits: &Limits) -> Vec<String> {
    let mut by: BTreeMap<HeldBy, Vec<&HeldOrphan>> = BTreeMap::new();
    for orphan in orphans {
        by.entry(orphan.by).or_default().push(orphan);
    }
    let line = |(by, orphans): (HeldBy, Vec<&HeldOrphan>)| {
        let held = format!("{} orphans of {} courses", orphans.len(), courses(&orphans));
        match by {
            HeldBy::Discontinuity => {
                format!("{held} vanished while their database failed over or was restored")
            }
            HeldBy::Breaker(breaker) => format!("{held}: {}", tripped(breaker, limits)),
        }
    };
    by.into_iter().map(line).collect()
}

fn tripped(breaker: Breaker, limits: &Limits) -> String {
    match breaker {
        Breaker::Share => format!("more than {} % of a source's courses would go", limits.breaker_share),
        Breaker::StrangerShare => {
            format!("strangers that are more than {} % of a source's courses would go", limits.breaker_share_strangers)
        }
        Breaker::Courses => format!("more than {} courses would go within 24 hours", limits.breaker_courses),
        Breaker::Bytes => format!("more than {} bytes would go within 24 hours", limits.breaker_bytes),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::evidence::{Evidence, Graces};
    use super::super::ids::CourseId;
    use super::super::live_set::Halt;
    use super::*;

    const LIMITS: Limits = Limits {
        graces: Graces { tombstoned: Duration::ZERO, departed: Duration::ZERO, stranger: Duration::ZERO },
        breaker_share: 30,
        breaker_share_strangers: 10,
        breaker_courses: 1000,
        breaker_bytes: 1_000_000,
        cap_courses: None,
    };

    fn held(store: &str, n: i64, by: HeldBy) -> HeldOrphan {
        let item = Item {
            store: store.into(),
            source: "s".into(),
            course: CourseId::Integer(n),
            evidence: Evidence::Departed,
        };
        HeldOrphan { item, by, resources: 3, bytes: (store == "files").then_some(10) }
    }

    #[test]
    fn s8_one_digest_covers_all_stores_and_one_each_of_them() {
        let share = HeldBy::Breaker(Breaker::Share);
        let orphans =
            [held("files", 1, share), held("cache", 1, share), held("cache", 2, HeldBy::Breaker(Breaker::Bytes))];
        let holds = of_orphans(&orphans, &LIMITS);
        let stores: Vec<_> = holds.iter().map(|hold| hold.report.stores.join(" ")).collect();
        assert_eq!(stores, ["cache files", "cache", "files"]);
        let all = &holds[0].report;
        assert_eq!((all.orphans, all.courses, all.resources, all.bytes), (3, 2, 9, Some(10)));
        let command = format!("course-gc approve {} --reason \"…\"", all.digest.unwrap());
        assert_eq!(all.command, Some(command));
        assert_eq!(
            all.why,
            [
                "2 orphans of 1 courses: more than 30 % of a source's courses would go",
                "1 orphans of 1 courses: more than 1000000 bytes would go within 24 hours"
            ]
        );
        assert_eq!(holds[1].report.bytes, None, "nobody knows");
        assert_eq!(of_orphans(&orphans[..1], &LIMITS).len(), 1, "one store has one digest");
        assert_eq!(of_orphans(&[], &LIMITS), []);
    }

    #[test]
    fn s8_a_digest_does_not_depend_on_amounts_breakers_or_order() {
        let digest = |orphans: &[HeldOrphan]| of_orphans(orphans, &LIMITS)[0].report.digest;
        let (a, b) =
            (held("cache", 1, HeldBy::Breaker(Breaker::Share)), held("cache", 2, HeldBy::Breaker(Breaker::Share)));
        let grown = HeldOrphan { resources: 99, bytes: Some(5), by: HeldBy::Breaker(Breaker::Courses), ..a.clone() };
        assert_eq!(digest(&[a.clone(), b.clone()]), digest(&[b.clone(), grown]));
        assert_ne!(digest(&[a.clone(), b]), digest(&[a]));
    }

    #[test]
    fn s7_what_vanished_across_a_break_has_its_own_digest() {
        let orphans = [held("cache", 1, HeldBy::Discontinuity), held("files", 2, HeldBy::Breaker(Breaker::Share))];
        let kinds: Vec<_> = of_orphans(&orphans, &LIMITS).iter().map(|hold| hold.report.kind).collect();
        assert_eq!(kinds, [HoldKind::Breakers, HoldKind::Discontinuity]);
    }

    #[test]
    fn s3_an_empty_live_set_has_no_digest() {
        let empty = Halt::Empty { source_name: "campus".into() };
        let below = Halt::Below { source_name: "union".into(), live: 3, refuse_below: 9 };
        let halts = |halts: &[Halt]| Halts::new(halts.to_vec()).unwrap();
        let both = halts(&[empty, below.clone()]);
        assert_eq!((of_halts(&both).report.digest, of_halts(&both).report.command), (None, None));
        let one = halts(&[below]);
        assert!(of_halts(&one).report.command.is_some());
        assert_eq!(of_halts(&one).covered, Covered::Sizes(vec![("union", 3)]));
    }
}
