//! The gates: which orphans go, and what holds the others. Pure; asked in the order of [`Hold`].

use std::collections::{BTreeMap, BTreeSet};

use super::breakers::{holding, run_wide_breaker, share_breakers};
use super::diff::Orphan;
use super::ids::CourseId;
use super::plan::{Breaker, Decided, Decision, Hold, Limits, Plan, StoreView, grace_left};

pub use super::breakers::Recent;

/// What the gates know besides the stores.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct World {
    /// What went recently.
    pub recent: Recent,
    /// A person paused all deleting.
    pub paused: bool,
}

/// Decides about every orphan.
pub fn decide(stores: Vec<StoreView>, world: &World, limits: &Limits) -> Plan {
    let overall = Overall { paused: world.paused, breaker: run_wide_breaker(&stores, &world.recent, limits) };
    let mut plan = Plan { stores: stores.into_iter().map(|store| decide_store(store, overall, limits)).collect() };
    if let Some(cap) = limits.cap_courses {
        hold_beyond_cap(&mut plan, cap);
    }
    plan
}

/// What holds the orphans of every store alike.
#[derive(Debug, Clone, Copy)]
struct Overall {
    paused: bool,
    breaker: Option<Breaker>,
}

fn decide_store(store: StoreView, overall: Overall, limits: &Limits) -> Vec<Decided> {
    let shares = share_breakers(&store, limits);
    let decide = |orphan: &Orphan| {
        if !store.complete {
            return Decision::Held(Hold::Incomplete);
        }
        if !store.adopted {
            return Decision::Held(Hold::NotAdopted);
        }
        if orphan.across_break {
            return Decision::Held(Hold::Discontinuity);
        }
        if overall.paused {
            return Decision::Held(Hold::Paused);
        }
        if orphan.restored {
            return Decision::Held(Hold::Restored);
        }
        if !store.source(orphan.source).is_some_and(|source| source.sweepable(orphan.evidence)) {
            return Decision::Held(Hold::NotExclusive);
        }
        if let Some(breaker) = holding(orphan, overall.breaker, &shares) {
            return Decision::Held(Hold::Breaker { breaker });
        }
        if orphan.referenced {
            return Decision::Held(Hold::Referenced);
        }
        if let Some(left) = grace_left(orphan, limits.graces) {
            let left_seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
            return Decision::Held(Hold::Grace { left_seconds });
        }
        if orphan.found.locked {
            return Decision::Held(Hold::Locked);
        }
        match (orphan.found.amount.resources, orphan.found.entangled) {
            (0, 1..) => Decision::Held(Hold::Entangled),
            (_, 0) if orphan.found.referenced == 0 => Decision::Sweep,
            (_, entangled) => Decision::SweepExcept { entangled, referenced: orphan.found.referenced },
        }
    };
    let decisions: Vec<Decision> = store.orphans.iter().map(decide).collect();
    store.orphans.into_iter().zip(decisions).map(|(orphan, decision)| Decided { orphan, decision }).collect()
}

/// Keeps the courses that have waited longest; a course goes with everything that it left, or waits with it.
fn hold_beyond_cap(plan: &mut Plan, cap: u64) {
    let mut waited: BTreeMap<CourseId, std::time::Duration> = BTreeMap::new();
    for decided in plan.iter().filter(|decided| decided.decision.sweeps()) {
        let longest = waited.entry(decided.orphan.course).or_default();
        *longest = (*longest).max(decided.orphan.accrued);
    }
    let mut by_wait: Vec<_> = waited.into_iter().collect();
    by_wait.sort_by_key(|(course, waited)| (std::cmp::Reverse(*waited), *course));
    let beyond: BTreeSet<CourseId> =
        by_wait.into_iter().skip(usize::try_from(cap).unwrap_or(usize::MAX)).map(|(course, _)| course).collect();
    for decided in plan.stores.iter_mut().flatten() {
        if decided.decision.sweeps() && beyond.contains(&decided.orphan.course) {
            decided.decision = Decision::Held(Hold::Cap);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::approvals::{Digest, HoldKind, digest_of_orphans};
    use super::super::evidence::{Evidence, Graces, OrphanClock};
    use super::super::inventory::{Amount, Found, SourceIndex};
    use super::super::plan::SourceView;
    use super::super::sample::Sample;
    use super::*;

    const LIMITS: Limits = Limits {
        graces: Graces {
            tombstoned: Duration::from_secs(6),
            departed: Duration::from_secs(60),
            stranger: Duration::from_secs(600),
        },
        breaker_share: 30,
        breaker_share_strangers: 10,
        breaker_courses: 1000,
        breaker_bytes: 1_000_000,
        cap_courses: None,
    };

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
            clock: OrphanClock::default(),
            referenced: false,
            restored: false,
            across_break: false,
            is_new: false,
            latched: None,
            approved: None,
        }
    }

    fn approval() -> Option<Digest> {
        Some(digest_of_orphans(HoldKind::Breakers, []))
    }

    fn store(orphans: Vec<Orphan>) -> StoreView {
        StoreView {
            sources: vec![SourceView { live_courses: 100, exclusive: true, sizes: Sample::default() }],
            orphans,
            complete: true,
            adopted: true,
        }
    }

    fn only(view: StoreView) -> Decision {
        decide(vec![view], &World::default(), &LIMITS).stores[0][0].decision
    }

    fn held(view: StoreView) -> Option<Hold> {
        match only(view) {
            Decision::Held(hold) => Some(hold),
            _ => None,
        }
    }

    #[test]
    fn an_orphan_past_its_grace_goes() {
        assert_eq!(only(store(vec![orphan(1)])), Decision::Sweep);
    }

    #[test]
    fn s4_an_incomplete_store_is_held_whatever_else_is_true() {
        let mut view = store(vec![Orphan { referenced: true, accrued: Duration::ZERO, ..orphan(1) }]);
        view.complete = false;
        assert_eq!(held(view), Some(Hold::Incomplete));
    }

    #[test]
    fn s7_a_store_that_is_not_ours_and_a_course_that_vanished_across_a_break_are_held() {
        let mut view = store(vec![orphan(1)]);
        view.adopted = false;
        assert_eq!(held(view), Some(Hold::NotAdopted));
        assert_eq!(held(store(vec![Orphan { across_break: true, ..orphan(1) }])), Some(Hold::Discontinuity));
    }

    #[test]
    fn a_pause_holds_everything_that_was_looked_at() {
        let world = World { paused: true, ..World::default() };
        let plan = decide(vec![store(vec![orphan(1), orphan(2)])], &world, &LIMITS);
        assert!(plan.iter().all(|decided| decided.decision == Decision::Held(Hold::Paused)));
    }

    #[test]
    fn s6_grace_holds_to_the_last_moment() {
        let young = Orphan { accrued: Duration::from_millis(59_500), ..orphan(1) };
        assert_eq!(held(store(vec![young])), Some(Hold::Grace { left_seconds: 1 }));
        let ripe = Orphan { accrued: Duration::from_secs(60), ..orphan(1) };
        assert_eq!(held(store(vec![ripe])), None);
        let stranger = Orphan { evidence: Evidence::Stranger, accrued: Duration::from_secs(60), ..orphan(1) };
        assert_eq!(held(store(vec![stranger])), Some(Hold::Grace { left_seconds: 540 }));
    }

    #[test]
    fn strangers_go_only_from_exclusive_sources() {
        let stranger = Orphan { evidence: Evidence::Stranger, ..orphan(1) };
        let mut view = store(vec![stranger]);
        assert_eq!(held(view.clone()), None);
        view.sources[0].exclusive = false;
        assert_eq!(held(view), Some(Hold::NotExclusive));
    }

    #[test]
    fn s9_what_is_referenced_stays() {
        let referenced = Orphan { referenced: true, ..orphan(1) };
        assert_eq!(held(store(vec![referenced.clone()])), Some(Hold::Referenced));
        // Its clock stands still as long as it is referenced, so that grace would hide the reason for ever.
        let restarted = Orphan { accrued: Duration::ZERO, ..referenced };
        assert_eq!(held(store(vec![restarted])), Some(Hold::Referenced));
    }

    #[test]
    fn what_is_being_worked_on_waits_once_its_grace_is_over() {
        let mut working = orphan(1);
        working.found.locked = true;
        assert_eq!(held(store(vec![working.clone()])), Some(Hold::Locked));
        let young = Orphan { accrued: Duration::from_secs(1), ..working.clone() };
        assert_eq!(held(store(vec![young])), Some(Hold::Grace { left_seconds: 59 }));
        assert_eq!(held(store(vec![Orphan { referenced: true, ..working.clone() }])), Some(Hold::Referenced));
        working.found.entangled = 2;
        assert_eq!(held(store(vec![working.clone()])), Some(Hold::Locked), "what is to go as well as what stays");
        let limits = Limits { cap_courses: Some(0), ..LIMITS };
        let plan = decide(vec![store(vec![working])], &World::default(), &limits);
        assert_eq!(plan.stores[0][0].decision, Decision::Held(Hold::Locked), "and takes nobody's place in a run");
    }

    #[test]
    fn s9_what_is_referenced_in_part_goes_but_for_that_part() {
        let mut some = orphan(1);
        some.found.referenced = 2;
        assert_eq!(only(store(vec![some.clone()])), Decision::SweepExcept { entangled: 0, referenced: 2 });
        some.found.entangled = 1;
        assert_eq!(only(store(vec![some])), Decision::SweepExcept { entangled: 1, referenced: 2 });
    }

    #[test]
    fn s5_entangled_resources_stay() {
        let mut some = orphan(1);
        some.found.entangled = 2;
        assert_eq!(only(store(vec![some.clone()])), Decision::SweepExcept { entangled: 2, referenced: 0 });
        some.found.amount = Amount::default();
        assert_eq!(held(store(vec![some])), Some(Hold::Entangled));
    }

    #[test]
    fn s8_too_large_a_share_trips_from_ten_orphans_up() {
        let nine = |live| {
            let mut view = store((0..9).map(orphan).collect());
            view.sources[0].live_courses = live;
            view
        };
        assert_eq!(held(nine(0)), None, "nine orphans trip nothing");
        let mut many = store((0..43).map(orphan).collect());
        assert_eq!(held(many.clone()), Some(Hold::Breaker { breaker: Breaker::Share }), "43 of 143 is more than 30 %");
        many.orphans.truncate(42);
        assert_eq!(held(many.clone()), None, "42 of 142 is less");
        many.orphans.truncate(30);
        many.sources[0].live_courses = 70;
        assert_eq!(held(many), None, "30 of 100 is not more than 30 %");
    }

    #[test]
    fn s8_what_goes_in_part_counts_as_what_goes() {
        let in_part = |n| {
            let mut orphan = orphan(n);
            orphan.found.entangled = 1;
            orphan
        };
        let share = Some(Hold::Breaker { breaker: Breaker::Share });
        assert_eq!(held(store((0..60).map(in_part).collect())), share);
    }

    #[test]
    fn s8_strangers_have_a_stricter_breaker_that_spares_the_departed() {
        let mut orphans: Vec<_> = (0..15).map(|n| Orphan { evidence: Evidence::Stranger, ..orphan(n) }).collect();
        orphans.push(orphan(99));
        let plan = decide(vec![store(orphans)], &World::default(), &LIMITS);
        assert_eq!(plan.sweeps(0).map(|orphan| orphan.course).collect::<Vec<_>>(), [CourseId::Integer(99)]);
    }

    #[test]
    fn s8_what_stays_anyway_trips_nothing() {
        let entangled = Found { amount: Amount::default(), entangled: 1, referenced: 0, locked: false };
        let stays = |n| match n % 2 {
            0 => Orphan { referenced: true, ..orphan(n) },
            _ => Orphan { found: entangled.clone(), ..orphan(n) },
        };
        let many = store((0..60).map(stays).chain([orphan(99)]).collect());
        let world =
            World { recent: Recent { courses: BTreeSet::new(), bytes: LIMITS.breaker_bytes - 10 }, paused: false };
        let limits = Limits { breaker_courses: 1, ..LIMITS };
        let plan = decide(vec![many], &world, &limits);
        assert_eq!(plan.sweeps(0).map(|orphan| orphan.course).collect::<Vec<_>>(), [CourseId::Integer(99)]);
        assert_eq!(plan.stores[0][0].decision, Decision::Held(Hold::Referenced));
        assert_eq!(plan.stores[0][1].decision, Decision::Held(Hold::Entangled));
    }

    #[test]
    fn s8_breakers_judge_before_grace() {
        let young = |n| Orphan { accrued: Duration::ZERO, ..orphan(n) };
        assert_eq!(held(store((0..60).map(young).collect())), Some(Hold::Breaker { breaker: Breaker::Share }));
    }

    #[test]
    fn s8_what_has_no_size_of_its_own_counts_with_its_estimate() {
        let unknown = |n| {
            let mut orphan = orphan(n);
            orphan.found.amount.bytes = None;
            orphan
        };
        let mut view = store((0..4).map(unknown).chain([orphan(5)]).collect());
        assert_eq!(held(view.clone()), None, "nobody knows how much it is");
        // Five orphans: one of 10 bytes, and twelve resources of about 83,333 bytes each.
        [83_332, 83_333, 83_334].into_iter().for_each(|bytes| view.sources[0].sizes.add(bytes));
        assert_eq!(held(view.clone()), Some(Hold::Breaker { breaker: Breaker::Bytes }));
        view.orphans.pop();
        assert_eq!(held(view), None, "999,996 bytes");
    }

    #[test]
    fn s8_counts_and_bytes_include_the_last_day() {
        let mut limits = LIMITS;
        limits.breaker_courses = 5;
        let recent = Recent { courses: (100..105).map(CourseId::Integer).collect(), bytes: 0 };
        let view = store(vec![orphan(1)]);
        let plan = decide(vec![view.clone()], &World { recent, paused: false }, &limits);
        assert_eq!(plan.stores[0][0].decision, Decision::Held(Hold::Breaker { breaker: Breaker::Courses }));
        let recent = Recent { courses: BTreeSet::new(), bytes: LIMITS.breaker_bytes };
        let plan = decide(vec![view], &World { recent, paused: false }, &LIMITS);
        assert_eq!(plan.stores[0][0].decision, Decision::Held(Hold::Breaker { breaker: Breaker::Bytes }));
    }

    #[test]
    fn s8_what_was_once_held_by_a_breaker_stays_until_approved() {
        let latched = Orphan { latched: Some(Breaker::Bytes), ..orphan(1) };
        assert_eq!(held(store(vec![latched.clone()])), Some(Hold::Breaker { breaker: Breaker::Bytes }));
        let mut share = store((0..60).map(orphan).collect());
        share.orphans[0] = latched.clone();
        assert_eq!(held(share), Some(Hold::Breaker { breaker: Breaker::Bytes }), "the first reason stays");
        assert_eq!(only(store(vec![Orphan { approved: approval(), ..latched }])), Decision::Sweep);
    }

    #[test]
    fn s8_an_approval_lifts_breakers_and_no_other_gate() {
        let approved = |orphan: Orphan| Orphan { approved: approval(), latched: Some(Breaker::Share), ..orphan };
        let entangled = Found { amount: Amount::default(), entangled: 1, referenced: 0, locked: false };
        let gates = [
            (Orphan { across_break: true, ..orphan(1) }, Hold::Discontinuity),
            (Orphan { restored: true, ..orphan(1) }, Hold::Restored),
            (Orphan { referenced: true, ..orphan(1) }, Hold::Referenced),
            (Orphan { accrued: Duration::ZERO, ..orphan(1) }, Hold::Grace { left_seconds: 60 }),
            (Orphan { found: entangled, ..orphan(1) }, Hold::Entangled),
        ];
        for (orphan, hold) in gates {
            assert_eq!(held(store(vec![approved(orphan)])), Some(hold));
        }
        let view = store(vec![approved(orphan(1))]);
        assert_eq!(held(StoreView { complete: false, ..view.clone() }), Some(Hold::Incomplete));
        assert_eq!(held(StoreView { adopted: false, ..view.clone() }), Some(Hold::NotAdopted));
        let world = World { paused: true, ..World::default() };
        assert_eq!(decide(vec![view.clone()], &world, &LIMITS).stores[0][0].decision, Decision::Held(Hold::Paused));
        let limits = Limits { cap_courses: Some(0), ..LIMITS };
        assert_eq!(decide(vec![view], &World::default(), &limits).stores[0][0].decision, Decision::Held(Hold::Cap));
        let stranger = approved(Orphan { evidence: Evidence::Stranger, ..orphan(1) });
        let mut shared = store(vec![stranger]);
        shared.sources[0].exclusive = false;
        assert_eq!(held(shared), Some(Hold::NotExclusive));
    }

    #[test]
    fn the_cap_takes_whole_courses_oldest_first() {
        let mut limits = LIMITS;
        limits.cap_courses = Some(1);
        let old = Orphan { accrued: Duration::from_secs(9999), ..orphan(7) };
        let stores = vec![store(vec![orphan(1), old.clone()]), store(vec![orphan(7)])];
        let plan = decide(stores, &World::default(), &limits);
        let swept: Vec<_> = (0..2).flat_map(|store| plan.sweeps(store)).map(|orphan| orphan.course).collect();
        assert_eq!(swept, [CourseId::Integer(7), CourseId::Integer(7)]);
        assert_eq!(plan.stores[0][0].decision, Decision::Held(Hold::Cap));
    }

    prop_compose! {
        fn any_orphan()(n in 0i64..40, stranger: bool, referenced: bool, accrued in 0u64..1200, resources in 0u64..4, entangled in 0u64..3, locked: bool, latched: bool, approved: bool) -> Orphan {
            Orphan {
                evidence: if stranger { Evidence::Stranger } else { Evidence::Departed },
                accrued: Duration::from_secs(accrued),
                found: Found { amount: Amount { resources, bytes: Some(10), fingerprint: 0 }, entangled, referenced: 0, locked },
                referenced,
                latched: latched.then_some(Breaker::Courses),
                approved: approval().filter(|_| approved),
                ..orphan(n)
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_that_any_gate_holds_is_swept(orphans in proptest::collection::vec(any_orphan(), 0..40), live in 0u64..80, exclusive: bool, complete: bool, cap in proptest::option::of(0u64..10)) {
            let view = StoreView { sources: vec![SourceView { live_courses: live, exclusive, sizes: Sample::default() }], orphans, complete, adopted: true };
            let limits = Limits { cap_courses: cap, ..LIMITS };
            let plan = decide(vec![view.clone()], &World::default(), &limits);
            prop_assert_eq!(plan.stores[0].len(), view.orphans.len(), "every orphan gets a decision");
            let swept: BTreeSet<_> = plan.sweeps(0).map(|orphan| orphan.course).collect();
            prop_assert!(cap.is_none_or(|cap| swept.len() as u64 <= cap));
            for orphan in plan.sweeps(0) {
                prop_assert!(complete && !orphan.referenced && !orphan.found.locked);
                prop_assert!(exclusive || orphan.evidence == Evidence::Departed);
                prop_assert!(orphan.accrued >= limits.graces.of(orphan.evidence));
                prop_assert!(orphan.found.amount.resources > 0 || orphan.found.entangled == 0);
                prop_assert!(orphan.latched.is_none() || orphan.approved.is_some());
            }
        }

        #[test]
        fn s8_newcomers_are_judged_as_if_nothing_approved_were_there(orphans in proptest::collection::vec(any_orphan(), 0..60), live in 0u64..60, courses in 0u64..40, bytes in 0u64..400) {
            let view = StoreView { sources: vec![SourceView { live_courses: live, exclusive: true, sizes: Sample::default() }], orphans, complete: true, adopted: true };
            let mut alone = view.clone();
            alone.orphans.retain(|orphan| orphan.approved.is_none());
            let limits = Limits { breaker_courses: courses, breaker_bytes: bytes, ..LIMITS };
            let newcomers = |view: StoreView| -> Vec<Decided> {
                let plan = decide(vec![view], &World::default(), &limits);
                plan.iter().filter(|decided| decided.orphan.approved.is_none()).cloned().collect()
            };
            prop_assert_eq!(newcomers(view), newcomers(alone));
        }
    }
}
