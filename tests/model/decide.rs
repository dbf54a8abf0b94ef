//! What a collector decides. Nothing is decided here: the model asks the product's own pure functions (`course_gc::domain`),
//! and changes what they are given where a safeguard is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use course_gc::domain::approvals::Released;
use course_gc::domain::diff::{self, Knowledge, Remembered, RememberedOrphan};
use course_gc::domain::evidence::{Graces, OrphanClock};
use course_gc::domain::gates::{World, decide};
use course_gc::domain::ids::{CourseId, IdType};
use course_gc::domain::inventory::{Amount, Found, Inventory, SourceIndex, SourceInventory, Unrecognised};
use course_gc::domain::live_set::{self, LiveSet, Population};
use course_gc::domain::markers::{AdoptedStore, Known as KnownStore, Marker, Owner, Truths, judge_marker};
use course_gc::domain::pins::Position;
use course_gc::domain::plan::{Limits, SourceView, StoreView};
use course_gc::domain::sample::Sample;

use crate::protocol::Protocol;
use crate::safeguards::Safeguard;
use crate::world::{Collector, Database, Known, Ledger, Orphan, SLOTS, Set};

/// True if the live set is not believed (S3).
pub fn refuses(live: Set) -> bool {
    let population = Population { source: "truth".into(), live: live.len(), highest: None, accepted: None };
    live_set::judge(&[population], 1, 100).is_some()
}

/// True if the marker's count is one that this ledger wrote or was about to write (S7).
pub fn marker_is_right(ledger: &Ledger, marker: u8) -> bool {
    let adopted = AdoptedStore {
        counter: ledger.count.into(),
        pending: ledger.pending.map(u64::from),
        ..AdoptedStore::default()
    };
    let installation = uuid::Uuid::nil();
    let truths = Truths::from([("1/truth".to_owned(), "1".to_owned())]);
    let ours = Owner { installation, name: "us".to_owned(), counter: marker.into(), truths: truths.clone() };
    let known = KnownStore { store: "store", adopted: Some(&adopted), sources: &[], installation, truths: &truths };
    matches!(judge_marker(&known, Some(&Marker::of(ours))), Ok(Ok(())))
}

/// True if the source's history is not one line from where it was last seen to here (S7).
pub fn history_broke(database: &Database, ledger: &Ledger) -> bool {
    let at = |(timeline, log): (u8, u8)| Position { timeline: Some(timeline.into()), lsn: Some(log.into()) };
    at(ledger.position).broken_by(&at((database.timeline, database.log))).is_some()
}

/// What an inventory comes to.
pub struct Verdict {
    /// By slot: what the ledger is to remember.
    pub orphans: [Option<Orphan>; SLOTS],
    /// The slots that are no longer orphans.
    pub closed: Set,
    /// The slots that may go.
    pub sweep: Set,
}

/// Diff, evidence, clocks and gates.
pub fn judge(
    protocol: &Protocol,
    collector: &Collector,
    seen: [u8; SLOTS],
    live_again: Set,
    database: &Database,
) -> Verdict {
    let scenario = &protocol.scenario;
    let ledger = &database.ledger;
    let inventory = inventory(protocol, collector, seen);
    let courses = |wanted: &dyn Fn(Known) -> bool| -> BTreeSet<CourseId> {
        (0..ledger.known.len()).filter(|course| wanted(ledger.known[*course])).map(id).collect()
    };
    let across_break = match protocol.keeps(Safeguard::HoldAcrossBreak) {
        true => courses(&|known| known == Known::Departed { across_break: true }),
        false => BTreeSet::new(),
    };
    let remembered = remembered(protocol, ledger, seen);
    let live_again_ids = LiveSet::from_ids(IdType::Integer, live_again.iter().map(id));
    let knowledge = Knowledge {
        live_again: &live_again_ids,
        known: &courses(&|known| known != Known::Never),
        across_break: &across_break,
        // By slot, below: what refers to one of a course's resources does not hold the other.
        referenced: &BTreeMap::new(),
        restored: &BTreeSet::new(),
        remembered: &remembered,
        requested: &BTreeSet::new(),
        tombstoned: &BTreeSet::new(),
        released: &Released::default(),
        now: hour(collector.started),
        at_most: hours(if protocol.keeps(Safeguard::BoundedGain) { scenario.gain } else { u8::MAX }),
    };
    let mut orphans = diff::orphans(&inventory, knowledge);
    for orphan in orphans.iter_mut().filter(|orphan| database.referenced.has(orphan.source.0)) {
        orphan.referenced = true;
        if protocol.keeps(Safeguard::RestartOnReference) {
            orphan.clock = OrphanClock::go_on(None, &orphan.found.amount, true);
            orphan.accrued = orphan.clock.at(knowledge.now, knowledge.at_most);
        }
    }
    let mut verdict = Verdict { orphans: [None; SLOTS], closed: Set::EMPTY, sweep: Set::EMPTY };
    for (source, _) in diff::closed(&remembered, &orphans) {
        verdict.closed = verdict.closed.with(source.0);
    }
    for orphan in &orphans {
        verdict.orphans[orphan.source.0] = Some(Orphan {
            version: u8::try_from(orphan.found.amount.fingerprint).unwrap(),
            accrued: whole_hours(orphan.clock.accrued),
            counted_at: orphan.clock.counted_at.map(|at| u8::try_from(at.timestamp() / 3600).unwrap()),
            pending: whole_hours(orphan.accrued),
            run: collector.run,
        });
    }
    let source =
        SourceView { live_courses: 0, exclusive: !protocol.keeps(Safeguard::HoldStrangers), sizes: Sample::default() };
    let view = StoreView { sources: vec![source; SLOTS], orphans, complete: true, adopted: true };
    let plan = decide(vec![view], &World::default(), &limits(protocol));
    verdict.sweep = Set::of(&plan.sweeps(0).map(|orphan| orphan.source.0).collect::<Vec<_>>());
    verdict
}

/// Each slot is a source of its own.
fn inventory(protocol: &Protocol, collector: &Collector, seen: [u8; SLOTS]) -> Inventory {
    let mut inventory = Inventory { sources: Vec::new(), unclaimed: Unrecognised::default() };
    for (index, version) in seen.into_iter().enumerate() {
        let mut dead = BTreeMap::new();
        if let Some(slot) = protocol.scenario.slots.get(index)
            && version > 0
            && !collector.live.has(slot.owner)
        {
            dead.insert(id(slot.owner), found(visible(protocol, collector.live, index, version)));
        }
        let unrecognised = Unrecognised::default();
        inventory.sources.push(SourceInventory {
            live_courses: 0,
            live_resources: 0,
            dead,
            unrecognised,
            sizes: Sample::default(),
        });
    }
    inventory
}

/// The version of a slot's content, or 0 if it also names a live course and so is not the owner's to lose (S5).
pub fn visible(protocol: &Protocol, live: Set, slot: usize, version: u8) -> u8 {
    let mention = protocol.scenario.slots[slot].mention.filter(|_| protocol.keeps(Safeguard::Mentions));
    if mention.is_some_and(|course| live.has(course)) { 0 } else { version }
}

fn found(version: u8) -> Found {
    match version {
        0 => Found { amount: Amount::default(), entangled: 1, referenced: 0, locked: false },
        _ => Found {
            amount: Amount { resources: 1, bytes: None, fingerprint: version.into() },
            entangled: 0,
            referenced: 0,
            locked: false,
        },
    }
}

fn remembered(protocol: &Protocol, ledger: &Ledger, seen: [u8; SLOTS]) -> Remembered {
    let mut remembered = Remembered::new();
    for (index, slot) in protocol.scenario.slots.iter().enumerate() {
        if let Some(orphan) = ledger.orphans[index] {
            let version = if protocol.keeps(Safeguard::RestartOnGrowth) { orphan.version } else { seen[index] };
            let clock = OrphanClock { accrued: hours(orphan.accrued), counted_at: orphan.counted_at.map(hour) };
            let before = RememberedOrphan { amount: found(version).amount, clock, latched: None };
            remembered.insert((SourceIndex(index), id(slot.owner)), before);
        }
    }
    remembered
}

fn limits(protocol: &Protocol) -> Limits {
    let grace = hours(if protocol.keeps(Safeguard::Grace) { protocol.scenario.grace } else { 0 });
    Limits {
        graces: Graces { tombstoned: grace, departed: grace, stranger: grace },
        breaker_share: 100,
        breaker_share_strangers: 100,
        breaker_courses: u64::MAX,
        breaker_bytes: u64::MAX,
        cap_courses: None,
    }
}

fn id(course: usize) -> CourseId {
    CourseId::Integer(i64::try_from(course).unwrap())
}

fn hours(hours: u8) -> Duration {
    Duration::from_secs(u64::from(hours) * 3600)
}

fn hour(hour: u8) -> DateTime<Utc> {
    DateTime::from_timestamp(i64::from(hour) * 3600, 0).unwrap()
}

fn whole_hours(duration: Duration) -> u8 {
    u8::try_from(duration.as_secs() / 3600).unwrap()
}
