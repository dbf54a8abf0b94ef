//! The breakers (S8): how much may go. They judge all of a source's orphans that may go, before grace and caps.
//!
//! What a person approved counts in none of them, so that newcomers are judged as if it were not there.

use std::collections::{BTreeMap, BTreeSet};

use super::diff::Orphan;
use super::evidence::Evidence;
use super::ids::CourseId;
use super::inventory::SourceIndex;
use super::plan::{Breaker, Limits, StoreView};

/// A source with fewer orphans than this trips no share breaker: in a tiny source every share is large.
const SHARE_FROM: u64 = 10;

/// What went within the last 24 hours, over all activations, except for what was approved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recent {
    /// The courses of which something was deleted.
    pub courses: BTreeSet<CourseId>,
    /// How many bytes, as far as known.
    pub bytes: u64,
}

/// The share breakers that tripped, by source and evidence.
pub type TrippedShares = BTreeMap<(SourceIndex, Evidence), Breaker>;

/// The breaker that holds an orphan: the one that it was first held by, or else one that trips now. An approval releases it
/// from all of them.
pub fn holding(orphan: &Orphan, overall: Option<Breaker>, shares: &TrippedShares) -> Option<Breaker> {
    if orphan.approved.is_some() {
        return None;
    }
    let share = || shares.get(&(orphan.source, orphan.evidence)).copied();
    orphan.latched.or(overall).or_else(share)
}

/// True if nothing but time and breakers keeps an orphan that nobody approved. Only such orphans count in the breakers: what
/// stays anyway would let them trip for ever.
fn counts(store: &StoreView, orphan: &Orphan) -> bool {
    let has_own = orphan.found.amount.resources > 0 || orphan.found.entangled == 0;
    let is_sweepable = store.source(orphan.source).is_some_and(|source| source.sweepable(orphan.evidence));
    let may_go = store.complete && store.adopted && is_sweepable && has_own;
    may_go && !orphan.referenced && !orphan.restored && !orphan.across_break && orphan.approved.is_none()
}

/// The share breakers that trip in a store.
pub fn share_breakers(store: &StoreView, limits: &Limits) -> TrippedShares {
    let mut orphans: BTreeMap<(SourceIndex, Evidence), u64> = BTreeMap::new();
    let mut all: BTreeMap<SourceIndex, u64> = BTreeMap::new();
    for orphan in store.orphans.iter().filter(|orphan| orphan.approved.is_none()) {
        *all.entry(orphan.source).or_default() += 1;
        if counts(store, orphan) {
            *orphans.entry((orphan.source, orphan.evidence)).or_default() += 1;
        }
    }
    let mut tripped = BTreeMap::new();
    for (index, source) in store.sources.iter().enumerate() {
        let index = SourceIndex(index);
        let distinct = source.live_courses + all.get(&index).copied().unwrap_or(0);
        let count = |evidence| orphans.get(&(index, evidence)).copied().unwrap_or(0);
        if exceeds(Evidence::ALL.into_iter().map(count).sum(), distinct, limits.breaker_share) {
            for evidence in Evidence::ALL {
                tripped.insert((index, evidence), Breaker::Share);
            }
        } else if exceeds(count(Evidence::Stranger), distinct, limits.breaker_share_strangers) {
            tripped.insert((index, Evidence::Stranger), Breaker::StrangerShare);
        }
    }
    tripped
}

fn exceeds(orphans: u64, distinct: u64, percent: u8) -> bool {
    orphans >= SHARE_FROM && u128::from(orphans) * 100 > u128::from(distinct) * u128::from(percent)
}

/// The breakers that judge all stores together: courses and bytes of the last 24 hours and of this plan.
pub fn run_wide_breaker(stores: &[StoreView], recent: &Recent, limits: &Limits) -> Option<Breaker> {
    let mut courses = recent.courses.clone();
    let mut bytes = recent.bytes;
    for store in stores {
        let mut unknown: BTreeMap<SourceIndex, u64> = BTreeMap::new();
        for orphan in store.orphans.iter().filter(|orphan| counts(store, orphan)) {
            courses.insert(orphan.course);
            match orphan.found.amount.bytes {
                Some(known) => bytes = bytes.saturating_add(known),
                None => *unknown.entry(orphan.source).or_default() += orphan.found.amount.resources,
            }
        }
        for (source, resources) in unknown {
            let estimate = store.source(source).and_then(|source| source.sizes.estimate(resources));
            bytes = bytes.saturating_add(estimate.map_or(0, |estimate| estimate.bytes));
        }
    }
    if courses.len() as u64 > limits.breaker_courses {
        Some(Breaker::Courses)
    } else if bytes > limits.breaker_bytes {
        Some(Breaker::Bytes)
    } else {
        None
    }
}
