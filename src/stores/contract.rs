//! The contract that every [`Store`] keeps, checked on the real thing.
//!
//! A kind of store brings a [`Bench`] (a few lines that plant resources and list them past the store under test) and
//! calls [`keeps`] on it, for each id type.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::DateTime;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::copies::{Copied, Copies, CopyId, Item, PutBack, Restoring, Safe};
use super::{Handle, Marker, Outcome, Store, StoreError, Targets};
use crate::domain::ids::{CourseId, IdType};
use crate::domain::inventory::{Census, Inventory, SourceIndex};
use crate::domain::live_set::LiveSet;
use crate::domain::markers::{Owner, Truths};
use crate::domain::sample::Sample;
use crate::sweep::Condemned;

/// Everything a server holds: by name, the content. Both are opaque to the suite.
pub(crate) type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

/// How the suite reaches into a store without the code under test. The store starts empty and has at least one source.
#[async_trait]
pub(crate) trait Bench: Send + Sync {
    /// The store under test.
    fn store(&self) -> &dyn Store;

    /// The id type that it was built with.
    fn id_type(&self) -> IdType;

    /// Plants one more resource of `course` in `source` and returns its name as in [`Bench::contents`]. Called several
    /// times for a course, it plants as many resources.
    async fn plant(&self, source: SourceIndex, course: CourseId) -> Vec<u8>;

    /// Plants a resource that `owner` owns and that names `other` too, or returns `None` where there can be none.
    async fn plant_entangled(&self, source: SourceIndex, owner: CourseId, other: CourseId) -> Option<Vec<u8>>;

    /// Plants one more resource of `source` that holds no canonical id, or returns `None` where there can be none.
    async fn plant_unrecognised(&self, source: SourceIndex) -> Option<Vec<u8>>;

    /// Writes something else under a name that [`Bench::plant`] gave, as an application would; `false` where that cannot be told
    /// from what was there.
    async fn rewrite(&self, source: SourceIndex, course: CourseId, name: &[u8]) -> bool;

    /// Everything that is there now, but the marker, and but what the store keeps in quarantine.
    async fn contents(&self) -> Contents;

    /// False if the server cannot compare and set at once.
    fn compares_and_sets(&self) -> bool {
        true
    }
}

/// The type of the suite's text ids.
pub(crate) fn texts() -> IdType {
    "text:c_[0-9]{4}".parse().expect("a pattern")
}

const LIVE: u64 = 20;
const DEAD: u64 = 12;
/// The first of the dead are targets; the rest are dead too, but nobody asked for them.
const TARGETS: u64 = 8;
const EACH: u64 = 3;
const UNRECOGNISED: u64 = 2;
/// Long enough for any test machine.
const FRESH: Duration = Duration::from_secs(3600);

/// How many try to move a marker at once, and how often.
const CONTENDERS: usize = 8;
const RACES: usize = 5;
/// The first odd number that no floating point number is.
const COUNTER: u64 = (1 << 53) + 1;

/// Checks every promise of a store.
pub(crate) async fn keeps(bench: &dyn Bench) {
    let world = World::plant(bench).await;
    world.a_marker_moves_only_from_where_it_is().await;
    world.a_marker_of_two_owners_moves_as_a_whole().await;
    world.a_marker_moves_for_one_of_many().await;
    let marker = bench.store().marker().await.expect("a marker");
    assert!(marker.is_some(), "S7: all that follows, it outlives");
    world.inventory_is_complete().await;
    world.locate_finds_the_targets_alone().await;
    world.locate_stops_when_nobody_listens().await;
    world.remaining_is_exact_before_and_after_nothing().await;
    world.a_stale_batch_sends_nothing().await;
    world.what_was_deleted_is_put_back_byte_for_byte().await;
    world.delete_takes_what_it_was_given_and_nothing_else().await;
    world.what_was_written_since_it_was_copied_stays().await;
    assert_eq!(bench.store().marker().await.expect("a marker"), marker, "S7: a marker is never deleted");
}

struct World<'a> {
    bench: &'a dyn Bench,
    sources: Vec<SourceIndex>,
    /// Names of what may go: planted for targets, naming nobody else.
    doomed: BTreeSet<Vec<u8>>,
    /// By source: whether an entangled one, and how many unrecognised ones, could be planted.
    entangled: Vec<u64>,
    unrecognised: Vec<u64>,
    before: Contents,
}

impl<'a> World<'a> {
    async fn plant(bench: &'a dyn Bench) -> Self {
        let sources: Vec<_> = (0..bench.store().sources().len()).map(SourceIndex).collect();
        assert!(!sources.is_empty(), "a store of no source can show nothing");
        assert_eq!(bench.contents().await, Contents::new(), "the store must start empty");
        let mut world = Self {
            bench,
            sources: sources.clone(),
            doomed: BTreeSet::new(),
            entangled: Vec::new(),
            unrecognised: Vec::new(),
            before: Contents::new(),
        };
        for source in sources {
            for course in world.live() {
                bench.plant(source, course).await;
            }
            for (n, course) in world.dead().into_iter().enumerate() {
                for _ in 0..EACH {
                    let name = bench.plant(source, course).await;
                    if (n as u64) < TARGETS {
                        assert!(world.doomed.insert(name), "each planted resource has a name of its own");
                    }
                }
            }
            let entangled = bench.plant_entangled(source, world.dead()[0], world.live()[0]).await;
            world.entangled.push(u64::from(entangled.is_some()));
            let mut unrecognised = 0;
            for _ in 0..UNRECOGNISED {
                unrecognised += u64::from(bench.plant_unrecognised(source).await.is_some());
            }
            world.unrecognised.push(unrecognised);
        }
        world.before = bench.contents().await;
        assert!(world.doomed.iter().all(|name| world.before.contains_key(name)), "what was planted is listed");
        world
    }

    fn course(&self, n: u64) -> CourseId {
        match self.bench.id_type() {
            IdType::Uuid => CourseId::Uuid(Uuid::from_u64_pair(0x0b5a_6f0e_4d7c_4a39, 0x9a43_6d7a_5f0c_0000 + n)),
            IdType::Integer => CourseId::Integer(1_000 + n as i64),
            IdType::Text(ids) => CourseId::Text(ids.parse(format!("c_{n:04}").as_bytes()).expect("a text id")),
        }
    }

    fn live(&self) -> Vec<CourseId> {
        (0..LIVE).map(|n| self.course(n)).collect()
    }

    fn dead(&self) -> Vec<CourseId> {
        (LIVE..LIVE + DEAD).map(|n| self.course(n)).collect()
    }

    fn targets(&self) -> Targets {
        let mut targets = Targets::none(self.sources.len());
        for source in &self.sources {
            for course in self.dead().into_iter().take(TARGETS as usize) {
                targets.insert(*source, course);
            }
        }
        targets
    }

    async fn inventory(&self) -> Inventory {
        let live = LiveSet::from_ids(self.bench.id_type(), self.live());
        let mut census = Census::new(Arc::new(live), self.sources.len());
        self.bench.store().inventory(&mut census).await.expect("an inventory");
        let mut inventory = census.finish();
        // How much memory a server takes is its own affair, and not always the same for the same content.
        inventory.sources.iter_mut().for_each(|source| source.sizes = Sample::default());
        inventory
    }

    /// The targets' handles that name nobody else, and those that do.
    async fn locate(&self) -> (Vec<Handle>, Vec<Handle>) {
        located(self.bench.store(), &self.targets()).await.into_iter().partition(|handle| handle.mentions.is_empty())
    }

    async fn assert_marker(&self, expected: Option<&Marker>) {
        assert_eq!(self.bench.store().marker().await.expect("a marker").as_ref(), expected);
    }

    async fn moves(&self, from: Option<&Marker>, to: &Marker) -> bool {
        self.bench.store().move_marker(from, to).await.expect("a move")
    }

    async fn a_marker_moves_only_from_where_it_is(&self) {
        let (first, second) = (marker("campus", 0), marker("\u{e9}\n\"'\u{0}", 1));
        let elsewhere = Marker::of(owner(2, "campus", 0));
        let unmarked = self.inventory().await;
        self.assert_marker(None).await;
        assert!(!self.moves(Some(&first), &second).await, "S7: there is none to move");
        self.assert_marker(None).await;
        assert!(self.moves(None, &first).await);
        self.assert_marker(Some(&first)).await;
        for wrong in [None, Some(&second), Some(&elsewhere)] {
            assert!(!self.moves(wrong, &second).await, "S7: it is not {wrong:?}");
            self.assert_marker(Some(&first)).await;
        }
        assert!(self.moves(Some(&first), &second).await);
        self.assert_marker(Some(&second)).await;
        assert!(!self.moves(Some(&first), &second).await, "S7: it has moved already");
        self.assert_marker(Some(&second)).await;
        assert_eq!(self.inventory().await, unmarked, "a marker is no resource, not even an unclaimed one");
        assert_eq!(self.bench.contents().await, self.before, "a marker changes nothing else");
    }

    /// Two owners: who moves its own entry must know the other's.
    async fn a_marker_of_two_owners_moves_as_a_whole(&self) {
        let alone = self.bench.store().marker().await.expect("a marker").expect("one that was left there");
        let both = |one, other| alone.with(owner(1, "campus", one)).with(owner(2, "another", other));
        let joined = alone.with(owner(2, "another", 0));
        assert!(self.moves(Some(&alone), &joined).await);
        self.assert_marker(Some(&joined)).await;
        assert!(self.moves(Some(&joined), &both(2, 0)).await);
        assert!(self.moves(Some(&both(2, 0)), &both(2, 1)).await, "S7: the other one");
        for stale in [&alone, &joined, &both(2, 0), &both(2, 2)] {
            assert!(
                !self.moves(Some(stale), &both(3, 0)).await,
                "S7: the other has moved since, or not yet: {stale:?}"
            );
            self.assert_marker(Some(&both(2, 1))).await;
        }
        assert!(!self.moves(None, &marker("campus", 0)).await);
        let read = self.bench.store().marker().await.expect("a marker").expect("one");
        assert_eq!(read.owners(), both(2, 1).owners(), "S7: every entry, in their order");
        assert_eq!(self.bench.contents().await, self.before, "a marker changes nothing else");
    }

    async fn a_marker_moves_for_one_of_many(&self) {
        if !self.bench.compares_and_sets() {
            return;
        }
        for race in 0..RACES {
            let from = self.bench.store().marker().await.expect("a marker");
            let contenders: Vec<_> =
                (0..CONTENDERS).map(|n| marker(&format!("contender {n}"), 2 + race as u64)).collect();
            let moves = contenders.iter().map(|to| self.moves(from.as_ref(), to));
            let moved = futures::future::join_all(moves).await;
            let winners: Vec<_> = contenders.iter().zip(moved).filter_map(|(to, moved)| moved.then_some(to)).collect();
            assert_eq!(winners.len(), 1, "S7: one wins");
            self.assert_marker(Some(winners[0])).await;
        }
    }

    async fn inventory_is_complete(&self) {
        let inventory = self.inventory().await;
        assert_eq!(inventory.sources.len(), self.sources.len());
        for (n, source) in inventory.sources.iter().enumerate() {
            assert_eq!(source.live_courses, LIVE, "live courses of source {n}");
            let owners: Vec<_> = source.dead.keys().copied().collect();
            assert_eq!(owners, self.dead(), "dead courses of source {n}");
            for (course, found) in &source.dead {
                let entangled = if *course == self.dead()[0] { self.entangled[n] } else { 0 };
                assert_eq!(found.amount.resources, EACH, "what {course} has in source {n}");
                assert_eq!(found.entangled, entangled, "what {course} shares in source {n}");
            }
            assert_eq!(source.unrecognised.count, self.unrecognised[n], "unrecognised in source {n}");
        }
        assert_eq!(inventory, self.inventory().await, "nothing changed, so nothing looks changed");
        assert_eq!(self.bench.contents().await, self.before, "looking changes nothing");
    }

    async fn locate_finds_the_targets_alone(&self) {
        let (clean, entangled) = self.locate().await;
        let targets = self.targets();
        for handle in clean.iter().chain(&entangled) {
            assert!(targets.contains(handle.source, handle.owner), "{handle:?} was not asked for");
        }
        for source in &self.sources {
            let found: BTreeSet<_> = clean.iter().filter(|h| h.source == *source).map(|h| h.owner).collect();
            assert_eq!(found, targets.of(*source).collect(), "every target of {source:?} has a handle");
        }
        for handle in &entangled {
            assert_eq!(handle.mentions, vec![self.live()[0]], "the owner is not its own mention");
        }
        let nobody = Targets::none(self.sources.len());
        assert_eq!(located(self.bench.store(), &nobody).await, vec![]);
    }

    async fn locate_stops_when_nobody_listens(&self) {
        let (sender, receiver) = mpsc::channel(1);
        drop(receiver);
        let stopped = self.bench.store().locate(&self.targets(), sender).await;
        assert!(matches!(stopped, Err(StoreError::Stopped)), "{stopped:?}");
    }

    /// What the store counts of the targets must be `each` a course, and what is shared besides.
    async fn assert_remaining(&self, each: u64) {
        let mut remaining = self.bench.store().remaining(&self.targets()).await.expect("a count");
        remaining.retain(|(.., count)| *count > 0);
        remaining.sort();
        let mut expected = Vec::new();
        for source in &self.sources {
            for (n, course) in self.dead().into_iter().take(TARGETS as usize).enumerate() {
                let shared = if n == 0 { self.entangled[source.0] } else { 0 };
                expected.push((*source, course, each + shared));
            }
        }
        expected.retain(|(.., count)| *count > 0);
        assert_eq!(remaining, expected);
    }

    async fn remaining_is_exact_before_and_after_nothing(&self) {
        self.assert_remaining(EACH).await;
        let nobody = Targets::none(self.sources.len());
        assert_eq!(self.bench.store().remaining(&nobody).await.expect("a count"), vec![]);
    }

    async fn a_stale_batch_sends_nothing(&self) {
        let (clean, _) = self.locate().await;
        for outcome in self.delete(clean, Duration::ZERO).await {
            assert_eq!(outcome, Outcome::Unattempted);
        }
        assert_eq!(self.bench.contents().await, self.before, "S2: nothing goes on a stale confirmation");
    }

    /// Copies all of the targets, and gives what is safe, and the items that an archive would hold.
    async fn copy(&self, batch: u32, handles: &[Handle]) -> (Safe, Items) {
        let now = DateTime::UNIX_EPOCH;
        let id = CopyId { run: Uuid::from_u128(77), batch, taken_at: now, expires_at: now + Duration::from_secs(60) };
        let (mut receipts, mut items) = (Vec::new(), Items::default());
        for some in handles.chunks(self.bench.store().batch_limit()) {
            let copied = self.bench.store().copy(&id, some, &mut items).await.expect("copies");
            assert_eq!(copied.len(), some.len(), "one outcome a handle");
            receipts.extend(copied.into_iter().map(|copied| match copied {
                Copied::Whole(receipt) => receipt,
                other => panic!("it is there, and copied: {other:?}"),
            }));
        }
        (Safe { id, receipts }, items)
    }

    async fn delete_copied(&self, handles: &[Handle], safe: &Safe) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        let limit = self.bench.store().batch_limit();
        for (handles, receipts) in handles.chunks(limit).zip(safe.receipts.chunks(limit)) {
            let safe = Safe { id: safe.id, receipts: receipts.to_vec() };
            let batch = Condemned::for_test_copied(handles.to_vec(), safe, FRESH);
            outcomes.extend(self.bench.store().delete(&batch).await.outcomes);
        }
        assert_eq!(outcomes.len(), handles.len(), "one outcome a handle");
        outcomes
    }

    /// Puts back all that a batch left, from wherever the store keeps it.
    async fn put_back(&self, safe: &Safe, items: &Items, restoring: Restoring) -> Vec<PutBack> {
        let store = self.bench.store();
        let Some(in_place) = store.in_place() else { return store.put_back(&items.0, restoring).await };
        assert!(items.0.is_empty(), "what is kept in place is in no archive");
        let mut outcomes = Vec::new();
        for copy in in_place.copies().await.expect("the copies").iter().filter(|copy| copy.id == safe.id) {
            outcomes.push(in_place.put_back(copy, restoring).await);
        }
        outcomes
    }

    async fn what_was_deleted_is_put_back_byte_for_byte(&self) {
        let (handles, _) = self.locate().await;
        let (safe, items) = self.copy(1, &handles).await;
        assert_eq!(self.bench.contents().await, self.before, "S12: copying changes nothing");
        let inventory = self.inventory().await;
        let gone = resources(&self.delete_copied(&handles, &safe).await);
        assert_eq!(gone, self.doomed.len() as u64);
        let mut left = self.before.clone();
        left.retain(|name, _| !self.doomed.contains(name));
        assert_eq!(self.bench.contents().await, left);
        self.assert_remaining(0).await;

        let would = self.put_back(&safe, &items, Restoring::Look).await;
        assert!(!would.is_empty() && would.iter().all(|it| *it == PutBack::Restored), "{would:?}");
        assert_eq!(self.bench.contents().await, left, "looking puts nothing back");
        let back = self.put_back(&safe, &items, Restoring::Missing).await;
        assert_eq!(back, would);
        assert_eq!(self.bench.contents().await, self.before, "S12: all that went is back, byte for byte");
        assert_eq!(self.inventory().await, inventory, "and looks as it did");
        let twice = self.put_back(&safe, &items, Restoring::Missing).await;
        assert!(twice.iter().all(|it| *it == PutBack::Exists), "S12: twice is harmless: {twice:?}");
        let over = self.put_back(&safe, &items, Restoring::Overwrite).await;
        assert!(over.iter().all(|it| *it == PutBack::Restored), "{over:?}");
        assert_eq!(self.bench.contents().await, self.before);
    }

    /// Comes last: it plants what nobody else expects. Where the delete itself is what makes the copy, nothing can come between.
    async fn what_was_written_since_it_was_copied_stays(&self) {
        if self.bench.store().in_place().is_some() {
            return;
        }
        let course = self.dead()[0];
        let mut written = BTreeSet::new();
        let mut rewritten = Vec::new();
        for source in &self.sources {
            let planted = [self.bench.plant(*source, course).await, self.bench.plant(*source, course).await];
            rewritten.push((*source, planted[0].clone()));
        }
        let before = self.bench.contents().await;
        let (handles, _) = self.locate().await;
        let (safe, items) = self.copy(2, &handles).await;
        for (source, name) in &rewritten {
            if self.bench.rewrite(*source, course, name).await {
                written.insert(name.clone());
            }
            written.insert(self.bench.plant(*source, course).await);
        }
        let now = self.bench.contents().await;
        let outcomes = self.delete_copied(&handles, &safe).await;
        assert!(outcomes.iter().any(|it| matches!(it, Outcome::Partly { left: 1.., .. })), "it is said: {outcomes:?}");
        let left = self.bench.contents().await;
        for name in &written {
            assert_eq!(left.get(name), now.get(name), "S12: `{}` was written since", name.escape_ascii());
        }
        let went: Vec<_> = now.keys().filter(|name| !left.contains_key(*name)).collect();
        assert_eq!(went.len(), 2 * self.sources.len() - (written.len() - self.sources.len()), "and the rest went");
        self.put_back(&safe, &items, Restoring::Missing).await;
        assert_eq!(self.bench.contents().await, now, "S12: what exists anew is not overwritten");
        self.put_back(&safe, &items, Restoring::Overwrite).await;
        let back = self.bench.contents().await;
        for (name, content) in &before {
            assert_eq!(back.get(name), Some(content), "`{}` is as it was copied, if told so", name.escape_ascii());
        }
    }

    async fn delete_takes_what_it_was_given_and_nothing_else(&self) {
        let (handles, _) = self.locate().await;
        let every_second = handles.iter().step_by(2).cloned().collect();
        let mut gone = resources(&self.delete(every_second, FRESH).await);

        let outcomes = self.delete(handles.clone(), FRESH).await;
        for (n, outcome) in outcomes.iter().enumerate() {
            let expected = if n % 2 == 0 { matches!(outcome, Outcome::Absent) } else { deleted(outcome) > 0 };
            assert!(expected, "S11: the outcome of handle {n} of {} is its own: {outcome:?}", handles.len());
        }
        gone += resources(&outcomes);
        assert_eq!(gone, self.doomed.len() as u64, "what is said to be deleted is what was planted");

        let mut expected = self.before.clone();
        expected.retain(|name, _| !self.doomed.contains(name));
        assert_eq!(self.bench.contents().await, expected, "all else is there, byte for byte");
        self.assert_remaining(0).await;
        assert!(self.delete(handles, FRESH).await.iter().all(|outcome| *outcome == Outcome::Absent));
        assert_eq!(self.bench.contents().await, expected, "deleting twice is harmless");
        assert!(self.inventory().await.sources.iter().all(|source| source.live_courses == LIVE));
    }

    /// Deletes in batches that the store takes.
    async fn delete(&self, handles: Vec<Handle>, good_for: Duration) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for batch in handles.chunks(self.bench.store().batch_limit()) {
            let removed = self.bench.store().delete(&Condemned::for_test(batch.to_vec(), good_for)).await;
            assert_eq!(removed.outcomes.len(), batch.len(), "one outcome a handle");
            outcomes.extend(removed.outcomes);
        }
        outcomes
    }
}

/// An archive in memory.
#[derive(Default)]
pub(crate) struct Items(pub Vec<Item>);

#[async_trait]
impl Copies for Items {
    async fn add(&mut self, item: Item) -> Result<(), StoreError> {
        self.0.push(item);
        Ok(())
    }
}

fn owner(installation: u128, name: &str, moves: u64) -> Owner {
    let truths = Truths::from([(format!("77/{name}"), "77 1.5".to_owned()), ("78/b".to_owned(), "78 2".to_owned())]);
    Owner { installation: Uuid::from_u128(installation), name: name.to_owned(), counter: COUNTER + moves, truths }
}

fn marker(name: &str, moves: u64) -> Marker {
    Marker::of(owner(1, name, moves))
}

/// All that `locate` sends.
pub(crate) async fn located(store: &dyn Store, targets: &Targets) -> Vec<Handle> {
    let (sender, mut receiver) = mpsc::channel(4);
    let collect = async {
        let mut handles = Vec::new();
        while let Some(handle) = receiver.recv().await {
            handles.push(handle);
        }
        handles
    };
    let (sent, handles) = tokio::join!(store.locate(targets, sender), collect);
    sent.expect("handles");
    handles
}

fn deleted(outcome: &Outcome) -> u64 {
    match outcome {
        Outcome::Deleted { resources, .. } | Outcome::Partly { resources, .. } => *resources,
        Outcome::Absent | Outcome::Failed(_) | Outcome::Unattempted => 0,
    }
}

fn resources(outcomes: &[Outcome]) -> u64 {
    outcomes.iter().map(deleted).sum()
}
