//! Inventory minus liveness: the orphans.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::approvals::{Digest, Released};
use super::evidence::{Evidence, OrphanClock};
use super::ids::CourseId;
use super::inventory::{Amount, Found, Inventory, Referred, SourceIndex};
use super::live_set::LiveSet;
use super::plan::Breaker;

/// Names one orphan in one store: the source and the course.
pub type OrphanKey = (SourceIndex, CourseId);

/// What the ledger remembers of a store's orphans.
pub type Remembered = BTreeMap<OrphanKey, RememberedOrphan>;

/// What the ledger remembers of one orphan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RememberedOrphan {
    /// What it held.
    pub amount: Amount,
    /// Its clock.
    pub clock: OrphanClock,
    /// The breaker that held it in an earlier plan or run (S8).
    pub latched: Option<Breaker>,
}

/// What a source holds of a course that no liveness source knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Orphan {
    /// The source's place in its store.
    #[serde(skip)]
    pub source: SourceIndex,
    /// The course.
    pub course: CourseId,
    /// Why we believe that it is dead.
    pub evidence: Evidence,
    /// What was found.
    #[serde(skip)]
    pub found: Found,
    /// How long it has been seen as an orphan, growth and references considered.
    #[serde(skip)]
    pub accrued: Duration,
    /// Its clock as the ledger is to remember it until the run is finished.
    #[serde(skip)]
    pub clock: OrphanClock,
    /// Something alive refers to all that it holds (S9).
    #[serde(skip)]
    pub referenced: bool,
    /// A person put something of its course back from quarantine, and wants it left alone for a while (S12).
    #[serde(skip)]
    pub restored: bool,
    /// Its course vanished while the history of the truth broke (S7).
    #[serde(skip)]
    pub across_break: bool,
    /// No earlier plan or run saw it as an orphan.
    #[serde(skip)]
    pub is_new: bool,
    /// The breaker that held it in an earlier plan or run: it still does, until a person approves (S8).
    #[serde(skip)]
    pub latched: Option<Breaker>,
    /// The approval in force that releases it from breakers (S8).
    #[serde(skip)]
    pub approved: Option<Digest>,
}

/// What turns an inventory into orphans, besides the inventory.
#[derive(Debug, Clone, Copy)]
pub struct Knowledge<'a> {
    /// Of the ids found dead, those that live after all, asked after the inventory (S2).
    pub live_again: &'a LiveSet,
    /// Courses that somebody asked to be cleaned up (S6).
    pub requested: &'a BTreeSet<CourseId>,
    /// Courses whose delete was recorded, and who were not seen live since (S6).
    pub tombstoned: &'a BTreeSet<CourseId>,
    /// Ids that an earlier run saw live.
    pub known: &'a BTreeSet<CourseId>,
    /// Of those, the ones that vanished while the history of the truth broke (S7).
    pub across_break: &'a BTreeSet<CourseId>,
    /// What something alive refers to, of the courses of whom it does (S9).
    pub referenced: &'a BTreeMap<CourseId, Referred>,
    /// Courses that were put back from quarantine, and are left alone for a while (S12).
    pub restored: &'a BTreeSet<CourseId>,
    /// The ledger's memory of this store's orphans.
    pub remembered: &'a Remembered,
    /// What the approvals in force release in this store (S7, S8).
    pub released: &'a Released,
    /// The database's time.
    pub now: DateTime<Utc>,
    /// The most that a clock may gain between two finished runs.
    pub at_most: Duration,
}

impl Knowledge<'_> {
    fn evidence(&self, course: CourseId) -> Evidence {
        let (is_tombstoned, is_known) = (self.tombstoned.contains(&course), self.known.contains(&course));
        // A caller's word is no proof that there ever was such a course: what nobody has seen stays a stranger.
        if self.requested.contains(&course) && (is_tombstoned || is_known) {
            Evidence::Requested
        } else if is_tombstoned {
            Evidence::Tombstoned
        } else if is_known {
            Evidence::Departed
        } else {
            Evidence::Stranger
        }
    }
}

/// The courses that an inventory found and that were not in the live set.
pub fn suspects(inventory: &Inventory) -> BTreeSet<CourseId> {
    inventory.sources.iter().flat_map(|source| source.dead.keys().copied()).collect()
}

/// The orphans of one store, by source and course. What turned out live has gone from the list, and with it its clock.
pub fn orphans(inventory: &Inventory, knowledge: Knowledge<'_>) -> Vec<Orphan> {
    let mut orphans = Vec::new();
    for (index, source) in inventory.sources.iter().enumerate() {
        for (course, found) in &source.dead {
            if knowledge.live_again.contains(*course) {
                continue;
            }
            let source = SourceIndex(index);
            let mut found = found.clone();
            let referenced = knowledge.referenced.get(course).is_some_and(|referred| found.set_aside(referred));
            let before = knowledge.remembered.get(&(source, *course));
            let clock =
                OrphanClock::go_on(before.map(|before| (&before.clock, &before.amount)), &found.amount, referenced);
            let accrued = clock.at(knowledge.now, knowledge.at_most);
            let mut orphan = Orphan {
                source,
                course: *course,
                evidence: knowledge.evidence(*course),
                found,
                accrued,
                clock,
                referenced,
                restored: knowledge.restored.contains(course),
                across_break: knowledge.across_break.contains(course),
                is_new: before.is_none(),
                latched: before.and_then(|before| before.latched),
                approved: None,
            };
            knowledge.released.apply(&mut orphan);
            orphans.push(orphan);
        }
    }
    orphans
}

/// What the ledger remembers and a complete inventory no longer shows as an orphan: cleaned, expired, or live again.
pub fn closed(remembered: &Remembered, orphans: &[Orphan]) -> Vec<OrphanKey> {
    let still: BTreeSet<OrphanKey> = orphans.iter().map(|orphan| (orphan.source, orphan.course)).collect();
    remembered.keys().filter(|key| !still.contains(key)).copied().collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::approvals::{HoldKind, digest_of_orphans};
    use super::super::ids::IdType;
    use super::super::inventory::Census;
    use super::*;

    fn id(n: i64) -> CourseId {
        CourseId::Integer(n)
    }

    fn set(ids: &[i64]) -> LiveSet {
        LiveSet::from_ids(IdType::Integer, ids.iter().map(|n| id(*n)))
    }

    fn inventory(live: &[i64], found: &[i64]) -> Inventory {
        let mut census = Census::new(Arc::new(set(live)), 1);
        for n in found {
            census.observe(SourceIndex(0), id(*n), Amount::one(n.to_string().as_bytes(), None), Vec::new);
        }
        census.finish()
    }

    struct World {
        live_again: LiveSet,
        requested: BTreeSet<CourseId>,
        tombstoned: BTreeSet<CourseId>,
        known: BTreeSet<CourseId>,
        referenced: BTreeMap<CourseId, Referred>,
        remembered: Remembered,
        released: Released,
    }

    impl World {
        fn new() -> Self {
            Self {
                live_again: set(&[]),
                requested: BTreeSet::new(),
                tombstoned: BTreeSet::new(),
                known: BTreeSet::new(),
                referenced: BTreeMap::new(),
                remembered: Remembered::new(),
                released: Released::default(),
            }
        }

        fn orphans(&self, inventory: &Inventory) -> Vec<Orphan> {
            let knowledge = Knowledge {
                live_again: &self.live_again,
                requested: &self.requested,
                tombstoned: &self.tombstoned,
                known: &self.known,
                across_break: &BTreeSet::new(),
                referenced: &self.referenced,
                restored: &BTreeSet::new(),
                remembered: &self.remembered,
                released: &self.released,
                now: DateTime::from_timestamp(1000, 0).unwrap(),
                at_most: Duration::from_secs(60),
            };
            orphans(inventory, knowledge)
        }
    }

    #[test]
    fn s2_everything_found_that_was_not_in_the_live_set_is_asked_about_again() {
        assert_eq!(suspects(&inventory(&[1, 2], &[1, 5, 2, 6])), [id(5), id(6)].into());
    }

    #[test]
    fn s2_what_is_live_when_asked_again_is_no_orphan() {
        let mut world = World::new();
        world.live_again = set(&[5]);
        let courses: Vec<_> = world.orphans(&inventory(&[1], &[1, 5, 6])).iter().map(|orphan| orphan.course).collect();
        assert_eq!(courses, [id(6)]);
    }

    #[test]
    fn a_known_id_departed_and_an_unknown_one_is_a_stranger() {
        let mut world = World::new();
        world.known.insert(id(5));
        let evidence: Vec<_> = world.orphans(&inventory(&[], &[5, 6])).iter().map(|orphan| orphan.evidence).collect();
        assert_eq!(evidence, [Evidence::Departed, Evidence::Stranger]);
    }

    #[test]
    fn s6_a_tombstone_is_better_evidence_and_makes_nothing_an_orphan() {
        let mut world = World::new();
        world.known.insert(id(5));
        world.live_again = set(&[7]);
        world.tombstoned = [id(1), id(5), id(6), id(7)].into();
        let orphans = world.orphans(&inventory(&[1], &[1, 5, 6, 7, 8]));
        let evidence: Vec<_> = orphans.iter().map(|orphan| (orphan.course, orphan.evidence)).collect();
        let expected = [(id(5), Evidence::Tombstoned), (id(6), Evidence::Tombstoned), (id(8), Evidence::Stranger)];
        assert_eq!(evidence, expected, "who is live is no orphan, whatever its tombstone says");
    }

    #[test]
    fn s6_a_request_is_evidence_of_who_existed_and_of_nobody_else() {
        let mut world = World::new();
        world.known.insert(id(5));
        world.tombstoned.insert(id(6));
        world.live_again = set(&[8]);
        world.requested = [id(5), id(6), id(7), id(8)].into();
        let orphans = world.orphans(&inventory(&[], &[5, 6, 7, 8]));
        let evidence: Vec<_> = orphans.iter().map(|orphan| (orphan.course, orphan.evidence)).collect();
        let expected = [(id(5), Evidence::Requested), (id(6), Evidence::Requested), (id(7), Evidence::Stranger)];
        assert_eq!(evidence, expected, "who is live is no orphan, whatever a caller says");
    }

    #[test]
    fn s6_a_remembered_clock_goes_on_and_a_closed_one_is_forgotten() {
        let mut world = World::new();
        let clock = OrphanClock {
            accrued: Duration::from_secs(7),
            counted_at: Some(DateTime::from_timestamp(990, 0).unwrap()),
        };
        for n in [5, 8] {
            let amount = Amount::one(n.to_string().as_bytes(), None);
            world.remembered.insert((SourceIndex(0), id(n)), RememberedOrphan { amount, clock, latched: None });
        }
        let orphans = world.orphans(&inventory(&[], &[5, 6]));
        assert_eq!(orphans[0].accrued, Duration::from_secs(17));
        assert_eq!(orphans[1].accrued, Duration::ZERO);
        assert_eq!(closed(&world.remembered, &orphans), [(SourceIndex(0), id(8))]);
    }

    #[test]
    fn s9_the_clock_watches_what_may_go_and_what_is_no_longer_referenced_waits_anew() {
        let one = |name: &str| Amount::one(name.as_bytes(), Some(10));
        let mut census = Census::new(Arc::new(set(&[])), 1);
        for name in ["a", "b", "c"] {
            census.observe(SourceIndex(0), id(5), one(name), Vec::new);
        }
        let inventory = census.finish();
        let mut rest = one("a");
        rest.add(one("b"));
        let clock = OrphanClock {
            accrued: Duration::from_secs(7),
            counted_at: Some(DateTime::from_timestamp(990, 0).unwrap()),
        };
        let mut world = World::new();
        world.remembered.insert((SourceIndex(0), id(5)), RememberedOrphan { amount: rest, clock, latched: None });
        let now = |world: &World| world.orphans(&inventory).remove(0);

        world.referenced.insert(id(5), Referred::Partly(one("c")));
        let partly = now(&world);
        assert_eq!((partly.found.amount, partly.found.referenced, partly.referenced), (rest, 1, false));
        assert_eq!(partly.accrued, Duration::from_secs(17), "what is not referenced has waited all the while");
        world.referenced.insert(id(5), Referred::Partly(one("a")));
        assert_eq!(now(&world).accrued, Duration::ZERO, "another one is");
        world.referenced.clear();
        let none = now(&world);
        assert_eq!((none.found.amount.resources, none.accrued), (3, Duration::ZERO), "it has only now come to an end");
        for all in [Referred::Wholly, Referred::Partly(inventory.sources[0].dead[&id(5)].amount)] {
            world.referenced.insert(id(5), all);
            let wholly = now(&world);
            assert_eq!((wholly.found.amount.resources, wholly.referenced), (3, true));
            assert_eq!(wholly.accrued, Duration::ZERO);
        }
    }

    #[test]
    fn s8_a_latch_is_remembered_whatever_the_evidence_and_an_approval_fits_only_the_same() {
        let mut world = World::new();
        for n in [5, 6] {
            let amount = Amount::one(n.to_string().as_bytes(), None);
            let remembered =
                RememberedOrphan { amount, clock: OrphanClock::default(), latched: Some(Breaker::StrangerShare) };
            world.remembered.insert((SourceIndex(0), id(n)), remembered);
            let digest = digest_of_orphans(HoldKind::Breakers, []);
            world.released.from_breakers.insert((SourceIndex(0), id(n), Evidence::Stranger), digest);
        }
        world.known.insert(id(6));
        let orphans = world.orphans(&inventory(&[], &[5, 6, 7]));
        let latched: Vec<_> = orphans.iter().map(|orphan| orphan.latched).collect();
        assert_eq!(latched, [Some(Breaker::StrangerShare), Some(Breaker::StrangerShare), None]);
        let approved: Vec<_> = orphans.iter().map(|orphan| orphan.approved.is_some()).collect();
        assert_eq!(approved, [true, false, false], "with other evidence it is another thing");
    }
}
