//! What a store holds, by course: the census that an inventory fills while it streams by.
//!
//! What belongs to a live course is dropped at once; memory is the live set plus the orphans, never the keys.
//! A census ends complete or it is thrown away (S4): a failed inventory returns an error, and nobody sees its census.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;

use super::bits::BitSet;
use super::ids::CourseId;
use super::live_set::LiveSet;
use super::sample::Sample;

/// How many names of unrecognised resources a source keeps to show.
const SAMPLES: usize = 5;
/// The longest sample, in bytes.
const SAMPLE_BYTES: usize = 200;

/// The place of a source in its store's list of sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceIndex(pub usize);

/// How much a course has in one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amount {
    /// Points, keys or files.
    pub resources: u64,
    /// Their size in bytes, where the store can tell cheaply.
    pub bytes: Option<u64>,
    /// The sum of the resources' [`fingerprint`]s, in any order: equal amounts with another fingerprint have changed.
    /// 0 where a store sees no single resources.
    pub fingerprint: u64,
}

impl Amount {
    /// One resource of this name (and content, as far as the store sees it cheaply).
    pub fn one(name: &[u8], bytes: Option<u64>) -> Self {
        Self { resources: 1, bytes, fingerprint: fingerprint(name) }
    }

    /// Adds what was seen besides.
    pub fn add(&mut self, other: Self) {
        self.resources = self.resources.saturating_add(other.resources);
        self.bytes = match (self.bytes, other.bytes) {
            (Some(a), Some(b)) => Some(a.saturating_add(b)),
            (a, b) => a.or(b),
        };
        self.fingerprint = self.fingerprint.wrapping_add(other.fingerprint);
    }

    /// What is left without `part`, which was seen in it.
    pub fn without(&self, part: &Self) -> Self {
        Self {
            resources: self.resources.saturating_sub(part.resources),
            bytes: self.bytes.map(|bytes| bytes.saturating_sub(part.bytes.unwrap_or(0))),
            fingerprint: self.fingerprint.wrapping_sub(part.fingerprint),
        }
    }

    /// True if the clock of an orphan that had `before` must start anew (S6): it grew, or is as large but not the same.
    /// One that shrank is being cleaned or expires; its clock goes on.
    pub fn grew_or_changed_since(&self, before: &Self) -> bool {
        self.resources > before.resources
            || (self.resources == before.resources && self.fingerprint != before.fingerprint)
    }
}

/// A hash of a resource's name; the same on every machine and in every version.
pub fn fingerprint(name: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(name)
}

/// What no id can be parsed from, or more than one: counted and shown, never deleted (S5).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Unrecognised {
    /// How many resources.
    pub count: u64,
    /// The first few names, printable and cut to 200 bytes.
    pub samples: Vec<String>,
}

impl Unrecognised {
    fn add(&mut self, name: &[u8], count: u64) {
        if self.samples.len() < SAMPLES && count > 0 {
            let name = &name[..name.len().min(SAMPLE_BYTES)];
            self.samples.push(name.escape_ascii().to_string());
        }
        self.count = self.count.saturating_add(count);
    }
}

/// What a source holds of one course that was not live when the live set was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// What may go if the course is dead.
    pub amount: Amount,
    /// Resources that also name a live course: they stay (S5).
    pub entangled: u64,
    /// Resources besides that something alive refers to: they stay (S9).
    pub referenced: u64,
    /// Something of the course in this store, in whichever source, is being worked on: all of it stays for now.
    pub locked: bool,
}

/// What something alive refers to of one course (S9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Referred {
    /// All of it, or nobody can tell the rest from it: all of it stays.
    Wholly,
    /// So much of what an inventory counts; the rest may go.
    Partly(Amount),
}

impl Found {
    /// Sets aside what is referred to; true if nothing may go then, and nothing was set aside.
    ///
    /// The clock watches what may go. So what is not referred to any more is growth, and waits anew (S6).
    pub fn set_aside(&mut self, referred: &Referred) -> bool {
        match referred {
            Referred::Partly(part) if part.resources < self.amount.resources => {
                self.amount = self.amount.without(part);
                self.referenced = part.resources;
                false
            }
            Referred::Partly(_) | Referred::Wholly => true,
        }
    }
}

/// The inventory of one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceInventory {
    /// Distinct live courses seen.
    pub live_courses: u64,
    /// Resources of live courses seen.
    pub live_resources: u64,
    /// What was found of courses that are not in the live set.
    pub dead: BTreeMap<CourseId, Found>,
    /// See [`Unrecognised`].
    pub unrecognised: Unrecognised,
    /// The sizes of some of the dead courses' resources, where the store tells none with each.
    pub sizes: Sample,
}

/// A complete inventory of a store: one entry a source, in the order of [`crate::stores::Store::sources`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// By source.
    pub sources: Vec<SourceInventory>,
    /// What matches no source at all (keys that no template claims, files outside the layout).
    pub unclaimed: Unrecognised,
}

/// Fills an [`Inventory`] while a store lists what it has.
#[derive(Debug)]
pub struct Census {
    live: Arc<LiveSet>,
    sources: Vec<SourceCensus>,
    locked: BTreeSet<CourseId>,
    unclaimed: Unrecognised,
}

#[derive(Debug)]
struct SourceCensus {
    seen: BitSet,
    live_resources: u64,
    dead: BTreeMap<CourseId, Found>,
    unrecognised: Unrecognised,
    sizes: Sample,
}

impl Census {
    /// An empty census for a store of `sources` sources.
    pub fn new(live: Arc<LiveSet>, sources: usize) -> Self {
        let source = || SourceCensus {
            seen: BitSet::of(live.len()),
            live_resources: 0,
            dead: BTreeMap::new(),
            unrecognised: Unrecognised::default(),
            sizes: Sample::default(),
        };
        let sources = std::iter::repeat_with(source).take(sources).collect();
        Self { live, sources, locked: BTreeSet::new(), unclaimed: Unrecognised::default() }
    }

    /// True if the course was live when the live set was read; a store need not measure what such a course has.
    pub fn is_live(&self, course: CourseId) -> bool {
        self.live.contains(course)
    }

    /// Counts so many resources of a live course, whoever else they name: they stay. False, and nothing is counted, if the course was not
    /// live when the live set was read. For the many that are looked at in vain: it measures nothing and keeps nothing.
    pub fn pass_by(&mut self, source: SourceIndex, owner: CourseId, resources: u64) -> bool {
        let Some(position) = self.live.position(owner) else { return false };
        if let Some(census) = self.sources.get_mut(source.0) {
            census.seen.insert(position);
            census.live_resources = census.live_resources.saturating_add(resources);
        }
        true
    }

    /// A course's resources in a source. `mentions` are the other ids that their names hold anywhere, looked for only
    /// when the owner is not live: if one of them is live, the resources stay.
    pub fn observe(
        &mut self,
        source: SourceIndex,
        owner: CourseId,
        amount: Amount,
        mentions: impl FnOnce() -> Vec<CourseId>,
    ) {
        if self.pass_by(source, owner, amount.resources) {
            return;
        }
        let live = &self.live;
        let Some(census) = self.sources.get_mut(source.0) else { return };
        let found = census.dead.entry(owner).or_default();
        if mentions().into_iter().any(|id| live.contains(id)) {
            found.entangled = found.entangled.saturating_add(amount.resources);
        } else {
            found.amount.add(amount);
        }
    }

    /// Resources of a dead course that stay since they name others besides it, whoever those are.
    pub fn entangled(&mut self, source: SourceIndex, owner: CourseId, resources: u64) {
        if let Some(census) = self.sources.get_mut(source.0)
            && resources > 0
            && !self.live.contains(owner)
        {
            census.dead.entry(owner).or_default().entangled += resources;
        }
    }

    /// A course of which something is being worked on. It is held as a whole, in every source of the store.
    pub fn locked(&mut self, course: CourseId) {
        if !self.live.contains(course) {
            self.locked.insert(course);
        }
    }

    /// `count` resources of a source that hold no canonical id, or more than one; `name` is shown.
    pub fn unrecognised(&mut self, source: SourceIndex, name: &[u8], count: u64) {
        if let Some(census) = self.sources.get_mut(source.0) {
            census.unrecognised.add(name, count);
        }
    }

    /// The size of a dead course's resource, one of a few that were chosen at random.
    pub fn sized(&mut self, source: SourceIndex, bytes: u64) {
        if let Some(census) = self.sources.get_mut(source.0) {
            census.sizes.add(bytes);
        }
    }

    /// A resource that no source claims.
    pub fn unclaimed(&mut self, name: &[u8]) {
        self.unclaimed.add(name, 1);
    }

    /// The inventory, once the store has listed everything.
    pub fn finish(mut self) -> Inventory {
        for course in &self.locked {
            for found in self.sources.iter_mut().filter_map(|source| source.dead.get_mut(course)) {
                found.locked = true;
            }
        }
        let sources = self
            .sources
            .into_iter()
            .map(|source| SourceInventory {
                live_courses: source.seen.count(),
                live_resources: source.live_resources,
                dead: source.dead,
                unrecognised: source.unrecognised,
                sizes: source.sizes,
            })
            .collect();
        Inventory { sources, unclaimed: self.unclaimed }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ids::IdType;
    use super::*;

    const SOURCE: SourceIndex = SourceIndex(0);

    fn id(n: i64) -> CourseId {
        CourseId::Integer(n)
    }

    fn census(live: &[i64]) -> Census {
        Census::new(Arc::new(LiveSet::from_ids(IdType::Integer, live.iter().map(|n| id(*n)))), 1)
    }

    #[test]
    fn live_courses_are_counted_once_and_kept_nowhere() {
        let mut census = census(&[1, 2, 3]);
        for key in [&b"a"[..], b"b", b"c"] {
            census.observe(SOURCE, id(2), Amount::one(key, None), Vec::new);
        }
        let inventory = census.finish();
        assert_eq!((inventory.sources[0].live_courses, inventory.sources[0].live_resources), (1, 3));
        assert!(inventory.sources[0].dead.is_empty());
    }

    #[test]
    fn as_many_live_courses_are_counted_as_were_seen() {
        let all: Vec<i64> = (0..200).collect();
        let mut census = census(&all);
        for n in all.iter().filter(|n| **n != 77) {
            census.observe(SOURCE, id(*n), Amount::one(b"x", None), Vec::new);
        }
        census.observe(SOURCE, id(199), Amount::one(b"y", None), Vec::new);
        assert!(census.is_live(id(77)) && !census.is_live(id(200)));
        let inventory = census.finish();
        assert_eq!((inventory.sources[0].live_courses, inventory.sources[0].live_resources), (199, 200));
    }

    #[test]
    fn what_is_passed_by_counts_as_what_is_observed_and_who_is_not_live_is_not() {
        let (mut passed, mut observed) = (census(&[1, 2, 3]), census(&[1, 2, 3]));
        for n in [3, 1, 3] {
            assert!(passed.pass_by(SOURCE, id(n), 2));
            observed.observe(SOURCE, id(n), Amount { resources: 2, ..Amount::default() }, Vec::new);
        }
        assert!(!passed.pass_by(SOURCE, id(4), 2));
        assert_eq!(passed.finish(), observed.finish());
    }

    #[test]
    fn s5_what_stays_whoever_it_names_is_counted_for_its_dead_course_alone() {
        let mut census = census(&[1]);
        census.entangled(SOURCE, id(1), 5);
        census.entangled(SOURCE, id(8), 0);
        census.entangled(SOURCE, id(9), 2);
        census.entangled(SOURCE, id(9), 3);
        let dead = census.finish().sources.remove(0).dead;
        let entangled: Vec<_> = dead.iter().map(|(id, found)| (*id, found.entangled, found.amount.resources)).collect();
        assert_eq!(entangled, [(id(9), 5, 0)]);
    }

    #[test]
    fn what_is_being_worked_on_holds_its_course_in_every_source_and_nobody_else() {
        let live = Arc::new(LiveSet::from_ids(IdType::Integer, [id(1)]));
        let mut census = Census::new(live, 2);
        for (source, n) in [(0, 8), (0, 9), (1, 9)] {
            census.observe(SourceIndex(source), id(n), Amount::one(b"x", None), Vec::new);
        }
        [1, 7, 9].into_iter().for_each(|n| census.locked(id(n)));
        let inventory = census.finish();
        let locked = |source: usize| -> Vec<_> {
            inventory.sources[source].dead.iter().map(|(id, found)| (*id, found.locked)).collect()
        };
        assert_eq!(locked(0), [(id(8), false), (id(9), true)]);
        assert_eq!(locked(1), [(id(9), true)], "and no other course is found by being locked");
    }

    #[test]
    fn s5_what_no_source_claims_is_counted_and_shown() {
        let mut census = census(&[]);
        census.unclaimed(b"concurrency:7");
        census.unclaimed(b"\xff");
        census.unrecognised(SOURCE, b"nothing", 0);
        let inventory = census.finish();
        assert_eq!(
            (inventory.unclaimed.count, inventory.unclaimed.samples),
            (2, vec!["concurrency:7".into(), "\\xff".into()])
        );
        assert_eq!(inventory.sources[0].unrecognised, Unrecognised::default(), "no resource shows no name");
    }

    #[test]
    fn s5_what_names_a_live_course_too_is_entangled() {
        let mut census = census(&[1]);
        census.observe(SOURCE, id(9), Amount::one(b"9", None), Vec::new);
        census.observe(SOURCE, id(9), Amount::one(b"9:1", None), || vec![id(9), id(1)]);
        census.observe(SOURCE, id(9), Amount::one(b"9:8", None), || vec![id(9), id(8)]);
        let inventory = census.finish();
        let found = &inventory.sources[0].dead[&id(9)];
        assert_eq!((found.amount.resources, found.entangled), (2, 1));
    }

    #[test]
    fn s6_the_order_of_keys_does_not_matter_and_a_replaced_key_does() {
        let amount = |names: &[&str]| {
            let mut sum = Amount::default();
            names.iter().for_each(|name| sum.add(Amount::one(name.as_bytes(), Some(2))));
            sum
        };
        assert_eq!(amount(&["a", "b"]), amount(&["b", "a"]));
        assert!(amount(&["a", "c"]).grew_or_changed_since(&amount(&["a", "b"])));
        assert!(amount(&["a", "b", "c"]).grew_or_changed_since(&amount(&["a", "b"])));
        assert!(!amount(&["a"]).grew_or_changed_since(&amount(&["a", "b"])), "a shrinking orphan's clock goes on");
        assert_eq!(amount(&["a", "b"]).bytes, Some(4));
    }

    #[test]
    fn samples_are_few_short_and_printable() {
        let mut census = census(&[]);
        for _ in 0..100 {
            census.unrecognised(SOURCE, &[b'\n'; 4096], 1);
        }
        let unrecognised = census.finish().sources.remove(0).unrecognised;
        assert_eq!(unrecognised.count, 100);
        assert_eq!(unrecognised.samples.len(), SAMPLES);
        assert!(unrecognised.samples.iter().all(|sample| !sample.contains('\n') && sample.len() <= 2 * SAMPLE_BYTES));
    }
}
