//! What a sweep does and tells on a calm day: nothing is lost, frozen or replaced, so that every count is known beforehand.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;

use super::shelf::{MemoryStore, Resource, Trouble};
use super::stage::{INTERVAL, STORES, Stage};
use super::world::Who;
use crate::domain::breakers::Recent;
use crate::domain::cleanup::{RequestState, Timing};
use crate::domain::ids::CourseId;
use crate::domain::inventory::SourceIndex;
use crate::domain::markers::Owner;
use crate::domain::plan::Plan;
use crate::domain::report::{Mode, RunReport, StoreReport, Tally, Verdict};
use crate::ledger::BatchOutcome;
use crate::reconcile::{Collector, Pass, RunError, reconcile};
use crate::stores::Marker;

const WHO: Who = Who(0);
/// The stores, by their place in [`STORES`]. Only to files anything refers.
const KEYS: usize = 0;
const POINTS: usize = 1;
const FILES: usize = 2;
/// A course that dies, and one that lives on.
const DEAD: CourseId = CourseId::Integer(3);
const LIVE: CourseId = CourseId::Integer(5);

/// A campus whose stores are empty but for these resources of the dead course, which the next run may sweep. Each names others as well.
async fn ripe(resources: &[(usize, &str, &[CourseId])]) -> Stage {
    let stage = Stage::set(0, None).await;
    {
        let mut state = stage.world.state();
        state.weather = None;
        for shelf in &mut state.shelves {
            shelf.resources.clear();
        }
        for (shelf, key, mentions) in resources {
            let resource = Resource { source: SourceIndex(0), owner: Some(DEAD), mentions: mentions.to_vec() };
            state.shelves[*shelf].resources.insert(key.as_bytes().to_vec(), resource);
        }
    }
    pass(&stage, |_| {}, |_, _| {}).await;
    stage.world.state().clusters[0].courses.remove(&DEAD);
    for _ in 0..2 {
        assert_eq!(pass(&stage, |_| {}, |_, _| {}).await.swept(), Tally::default());
    }
    stage
}

/// Two minutes later, a run to its end, with a collector that was told something else, and with what happens after the plan was made.
async fn pass(
    stage: &Stage,
    told: impl FnOnce(&mut Collector),
    meanwhile: impl FnOnce(&Plan, &CancellationToken),
) -> RunReport {
    pass_beside(stage, told, meanwhile, async {}).await
}

/// The same, with what happens beside the sweep.
async fn pass_beside(
    stage: &Stage,
    told: impl FnOnce(&mut Collector),
    meanwhile: impl FnOnce(&Plan, &CancellationToken),
    beside: impl Future<Output = ()>,
) -> RunReport {
    stage.world.state().ahead += TimeDelta::minutes(2);
    let mut collector = stage.collector(WHO);
    told(&mut collector);
    let stop = CancellationToken::new();
    let mut pass = Pass::begin(&collector, Mode::Run).await.unwrap();
    let plan = pass.plan(&stop).await.unwrap().expect("no halt");
    meanwhile(&plan, &stop);
    let (swept, ()) = tokio::join!(pass.sweep(&plan, &stop), beside);
    let report = pass.end(swept).await.unwrap();
    let state = &mut *stage.world.state();
    state.judge_put_back(WHO, &report);
    let observer = &mut state.observer;
    observer.ended(WHO, &report);
    assert_eq!(observer.violations, [""; 0]);
    report
}

/// The stores of which the ledger remembers orphans.
fn remembered(stage: &Stage) -> Vec<String> {
    stage.world.state().tables(WHO).unwrap().orphans.keys().map(|(store, ..)| store.clone()).collect()
}

fn left(stage: &Stage, shelf: usize) -> Vec<String> {
    let state = stage.world.state();
    state.shelves[shelf].resources.keys().map(|key| String::from_utf8(key.clone()).unwrap()).collect()
}

fn store(report: &RunReport, shelf: usize) -> &StoreReport {
    report.stores.iter().find(|store| store.name == STORES[shelf]).unwrap()
}

/// What the ledger was told of all batches together.
fn told(stage: &Stage) -> BatchOutcome {
    let mut sum = BatchOutcome::default();
    let state = stage.world.state();
    for outcome in state.tables(WHO).unwrap().intents.iter().filter_map(|intent| intent.outcome.as_ref()) {
        sum.tally.add(&outcome.tally);
        sum.deleted.extend(&outcome.deleted);
        sum.counting.courses.extend(&outcome.counting.courses);
        sum.counting.bytes += outcome.counting.bytes;
    }
    sum
}

/// How many batches of a store ever began.
fn batches(stage: &Stage, shelf: usize) -> usize {
    let state = stage.world.state();
    state.tables(WHO).unwrap().intents.iter().filter(|intent| intent.intent.store == STORES[shelf]).count()
}

#[tokio::test(start_paused = true)]
async fn s11_what_went_is_counted_and_closed_at_once_and_what_stays_is_remembered() {
    let stage = ripe(&[(KEYS, "a", &[]), (KEYS, "b", &[]), (POINTS, "c", &[]), (POINTS, "d", &[LIVE])]).await;
    assert_eq!(remembered(&stage), ["keys", "points"]);
    let report = pass(&stage, |_| {}, |_, _| {}).await;
    assert_eq!(store(&report, KEYS).swept(), Tally { deleted: 2, bytes: 2, ..Tally::default() });
    assert_eq!(store(&report, POINTS).swept(), Tally { deleted: 1, bytes: 1, spared: 1, ..Tally::default() });
    let counting = Recent { courses: [DEAD].into(), bytes: 3 };
    // What names somebody alive was never about to go.
    let tally = Tally { spared: 0, ..report.swept() };
    let outcome = BatchOutcome { tally, deleted: [DEAD].into(), counting };
    assert_eq!(told(&stage), outcome, "the ledger knows it too");
    assert_eq!((left(&stage, KEYS).len(), left(&stage, POINTS)), (0, vec!["d".to_owned()]));
    assert_eq!(remembered(&stage), ["points"], "what names somebody alive is still an orphan's");
    let listed = |shelf| store(&report, shelf).sources.iter().map(|source| source.orphans.len()).collect::<Vec<_>>();
    assert_eq!([listed(KEYS), listed(POINTS)], [[1, 0]; 2], "in the source where it lay");
    assert_eq!((report.verdict, report.stopped, report.paused), (Verdict::Done, false, None));
}

#[tokio::test(start_paused = true)]
async fn s2_a_confirmation_that_grew_old_leaves_everything_and_the_store_is_left_after_two_such_batches() {
    let keys = ["a", "b", "c", "d"].map(|key| (POINTS, key, &[][..]));
    let stage = ripe(&[&keys[..], &[(KEYS, "one", &[])]].concat()).await;
    let report = pass(&stage, |collector| collector.confirmation = Duration::ZERO, |_, _| {}).await;
    assert_eq!(store(&report, KEYS).swept(), Tally { unattempted: 1, ..Tally::default() });
    assert_eq!(store(&report, KEYS).error, None, "one failure is none in a row");
    assert_eq!(store(&report, POINTS).swept(), Tally { unattempted: 2, ..Tally::default() });
    let error = store(&report, POINTS).error.as_deref().unwrap_or_default();
    assert!(error.starts_with("left for the next run after 2 failed batches in a row"), "{error}");
    assert_eq!((batches(&stage, KEYS), batches(&stage, POINTS)), (1, 2));
    assert_eq!(remembered(&stage), ["keys", "points"]);
    assert_eq!(report.verdict, Verdict::Partly);
    let report = pass(&stage, |_| {}, |_, _| {}).await;
    assert_eq!((report.swept().deleted, report.verdict), (5, Verdict::Done), "the next run goes on");
}

#[tokio::test(start_paused = true)]
async fn s8_what_a_person_approved_goes_and_counts_in_no_breaker() {
    let stage = ripe(&[(KEYS, "a", &[])]).await;
    let strict = |collector: &mut Collector| collector.limits.breaker_courses = 0;
    let held = pass(&stage, strict, |_, _| {}).await;
    assert_eq!((held.verdict, held.holds.len(), held.swept()), (Verdict::Held, 1, Tally::default()));
    stage.approve().await;
    let report = pass(&stage, strict, |_, _| {}).await;
    let outcome = BatchOutcome { tally: report.swept(), deleted: [DEAD].into(), counting: Recent::default() };
    assert_eq!((report.swept().deleted, told(&stage)), (1, outcome));
}

#[tokio::test(start_paused = true)]
async fn s11_batches_grow_tenfold_up_to_what_the_store_takes() {
    let keys: Vec<String> = (0..150).map(|n| format!("{n:03}")).collect();
    let resources: Vec<_> = keys.iter().map(|key| (KEYS, key.as_str(), &[][..])).collect();
    for (limit, expected) in [(1000, 4), (50, 5), (10, 16), (1, 150), (0, 150)] {
        let stage = ripe(&resources).await;
        let told = |collector: &mut Collector| {
            collector.stores[KEYS].store = Arc::new(MemoryStore { batch_limit: limit, ..stage.store(WHO, KEYS) });
        };
        assert_eq!(pass(&stage, told, |_, _| {}).await.swept().deleted, 150);
        assert_eq!(batches(&stage, KEYS), expected, "at most {limit} at once");
    }
}

#[tokio::test(start_paused = true)]
async fn s1_what_came_to_life_after_the_plan_is_spared_and_stays_remembered() {
    let stage = ripe(&[(KEYS, "a", &[])]).await;
    let revive = |course| stage.world.state().open_course(0, course, stage.world.now());
    let report = pass(&stage, |_| {}, |_, _| revive(DEAD)).await;
    assert_eq!(report.swept(), Tally { spared: 1, ..Tally::default() });
    assert_eq!((left(&stage, KEYS), remembered(&stage)), (vec!["a".to_owned()], vec!["keys".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn s1_what_came_to_life_in_the_moment_of_its_delete_is_found_by_the_question_after_it() {
    let stage = ripe(&[(KEYS, "a", &[])]).await;
    let gone = || left(&stage, KEYS).is_empty();
    // Nothing is lost, but everything takes its time.
    stage.world.state().weather = Some(0);
    let revived = async {
        let deadline = stage.world.now() + INTERVAL;
        while !gone() && stage.world.now() < deadline {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stage.world.state().open_course(0, DEAD, stage.world.now());
    };
    let report = pass_beside(&stage, |_| {}, |_, _| {}, revived).await;
    assert_eq!((report.swept().deleted, report.verdict), (1, Verdict::Partly));
    assert_eq!(store(&report, KEYS).live_after_delete, [DEAD]);
}

#[tokio::test(start_paused = true)]
async fn s7_a_store_that_lost_its_marker_or_whose_marker_moved_on_after_the_plan_keeps_everything() {
    let lost = |_| None;
    let moved_on = |marker: Option<Marker>| {
        let ours = marker?.owners()[0].clone();
        Some(Marker::of(Owner { counter: ours.counter + 1, ..ours }))
    };
    type Change = fn(Option<Marker>) -> Option<Marker>;
    let changes = [(lost as Change, "its marker is gone"), (moved_on, "its marker was moved on since this run began")];
    for (change, why) in changes {
        let stage = ripe(&[(KEYS, "a", &[]), (KEYS, "b", &[]), (POINTS, "c", &[])]).await;
        let elsewhere = || {
            let marker = &mut stage.world.state().shelves[KEYS].marker;
            *marker = change(marker.take());
        };
        let report = pass(&stage, |_| {}, |_, _| elsewhere()).await;
        assert_eq!(store(&report, KEYS).swept(), Tally { unattempted: 1, ..Tally::default() }, "nor any other batch");
        let error = store(&report, KEYS).error.as_deref().unwrap_or_default();
        assert!(error.contains("not where it was when the run began") && error.contains(why), "{error}");
        assert_eq!(store(&report, POINTS).swept().deleted, 1, "the other store is where it was");
        assert_eq!((left(&stage, KEYS).len(), remembered(&stage)), (2, vec!["keys".to_owned()]));
    }
}

#[tokio::test(start_paused = true)]
async fn s7_an_objection_in_the_moment_of_our_own_move_does_not_pass_for_it() {
    let stage = ripe(&[(KEYS, "a", &[])]).await;
    let mut collector = stage.collector(WHO);
    collector.stores[KEYS].store = Arc::new(MemoryStore { trouble: Some(Trouble::Moving), ..stage.store(WHO, KEYS) });
    let overtaken = reconcile(&collector, Mode::Run, &CancellationToken::new()).await.unwrap().halt.unwrap();
    assert!(overtaken.contains("somebody else moved its marker in this moment"), "{overtaken}");
    let halt = stage.pass(WHO, Mode::Run).await.unwrap().halt.unwrap();
    assert!(halt.contains("was used 1 times since this ledger knew of it"), "{halt}");
    assert_eq!(left(&stage, KEYS), ["a"]);
}

/// A run in whose store of keys something goes wrong, and in which the dead course comes back at the moment in which its `b` goes.
async fn put_back_beside(stage: &Stage, trouble: Trouble) -> RunReport {
    // Nothing is lost, but everything takes its time.
    stage.world.state().weather = Some(0);
    let revived = async {
        let deadline = stage.world.now() + INTERVAL;
        while left(stage, KEYS).contains(&"b".to_owned()) && stage.world.now() < deadline {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stage.world.state().open_course(0, DEAD, stage.world.now());
    };
    let told = |collector: &mut Collector| {
        let store = MemoryStore { trouble: Some(trouble), ..stage.store(WHO, KEYS) };
        collector.stores[KEYS].store = Arc::new(store);
    };
    let report = pass_beside(stage, told, |_, _| {}, revived).await;
    assert_eq!((store(&report, KEYS).put_back, store(&report, KEYS).live_after_delete.len()), (1, 1), "{report:?}");
    report
}

/// How many intents of a store are open.
fn open(stage: &Stage, shelf: usize) -> usize {
    let state = stage.world.state();
    let intents = &state.tables(WHO).unwrap().intents;
    intents.iter().filter(|intent| intent.intent.store == STORES[shelf] && intent.open).count()
}

#[tokio::test(start_paused = true)]
async fn s11_what_was_put_back_whole_is_settled_whatever_else_of_its_batch_failed() {
    let stage = ripe(&[(KEYS, "a", &[]), (KEYS, "b", &[]), (KEYS, "c", &[])]).await;
    let report = put_back_beside(&stage, Trouble::Copying("c")).await;
    assert_eq!(store(&report, KEYS).swept(), Tally { deleted: 2, bytes: 2, failed: 1, ..Tally::default() });
    assert_eq!((left(&stage, KEYS), open(&stage, KEYS)), (vec!["b".to_owned(), "c".to_owned()], 0));
}

#[tokio::test(start_paused = true)]
async fn s11_where_copies_cannot_be_listed_nobody_knows_that_all_is_back_and_the_next_run_looks_again() {
    let stage = ripe(&[(KEYS, "a", &[]), (KEYS, "b", &[])]).await;
    put_back_beside(&stage, Trouble::Listing).await;
    assert_eq!((left(&stage, KEYS), open(&stage, KEYS)), (vec!["b".to_owned()], 1));
    // Whatever was not back is put back then.
    stage.world.state().shelves[KEYS].resources.clear();
    let report = pass(&stage, |_| {}, |_, _| {}).await;
    assert_eq!((store(&report, KEYS).live_after_delete.clone(), store(&report, KEYS).put_back), (vec![DEAD], 2));
    assert_eq!((left(&stage, KEYS), open(&stage, KEYS)), (vec!["a".to_owned(), "b".to_owned()], 0));
}

#[tokio::test(start_paused = true)]
async fn s9_of_what_is_referred_to_in_part_that_part_stays_and_the_rest_goes() {
    let stage = ripe(&[(FILES, "a", &[]), (FILES, "b", &[])]).await;
    stage.world.state().clusters[0].references.insert(b"a".to_vec());
    let report = pass(&stage, |_| {}, |_, _| {}).await;
    assert_eq!(store(&report, FILES).swept(), Tally { deleted: 1, bytes: 1, spared: 1, ..Tally::default() });
    assert_eq!((left(&stage, FILES), remembered(&stage)), (vec!["a".to_owned()], vec!["uploads".to_owned()]));
}

/// A run after the copies of an earlier one have expired.
async fn pass_once_expired(stage: &Stage) -> RunReport {
    stage.world.state().ahead += TimeDelta::minutes(10);
    pass(stage, |_| {}, |_, _| {}).await
}

#[tokio::test(start_paused = true)]
async fn s12_a_copy_that_expired_is_purged_unless_somebody_whom_it_names_is_live_again() {
    let stage = ripe(&[(KEYS, "a", &[])]).await;
    pass(&stage, |_| {}, |_, _| {}).await;
    let kept = pass(&stage, |_| {}, |_, _| {}).await.quarantine.unwrap();
    assert_eq!((kept.copies, kept.purged), (1, 0));
    stage.world.state().open_course(0, DEAD, stage.world.now());
    let kept = pass_once_expired(&stage).await.quarantine.unwrap();
    assert_eq!((kept.copies, kept.purged, kept.live_again), (1, 0, vec![DEAD]));
    stage.world.state().clusters[0].courses.remove(&DEAD);
    let purged = pass_once_expired(&stage).await.quarantine.unwrap();
    assert_eq!((purged.copies, purged.purged, purged.live_again), (0, 1, vec![]));
    assert!(stage.world.state().vault.is_empty());
}

#[tokio::test(start_paused = true)]
async fn s12_who_lost_the_lock_removes_nothing_that_another_run_may_be_copying() {
    let stage = ripe(&[]).await;
    let part = format!("campus/{}/keys/00001.000.tar.zst", uuid::Uuid::from_u128(7));
    stage.world.state().vault.insert(part.clone(), "half a copy".into());
    let collector = stage.collector(WHO);
    let stop = CancellationToken::new();
    let mut frozen = Pass::begin(&collector, Mode::Run).await.unwrap();
    let plan = frozen.plan(&stop).await.unwrap().expect("no halt");
    stage.world.state().clusters.iter_mut().for_each(|cluster| cluster.end_sessions_of(WHO));
    assert!(matches!(frozen.sweep(&plan, &stop).await, Err(RunError::Liveness(_))));
    assert!(stage.world.state().vault.contains_key(&part));
    drop(frozen);
    pass(&stage, |_| {}, |_, _| {}).await;
    assert!(!stage.world.state().vault.contains_key(&part), "nobody makes it any more");
}

#[tokio::test(start_paused = true)]
async fn s12_an_answer_that_grew_old_purges_nothing() {
    let stage = ripe(&[(KEYS, "a", &[])]).await;
    pass(&stage, |_| {}, |_, _| {}).await;
    stage.world.state().ahead += TimeDelta::minutes(10);
    let kept = pass(&stage, |collector| collector.confirmation = Duration::ZERO, |_, _| {}).await.quarantine.unwrap();
    assert_eq!((kept.copies, kept.purged), (1, 0));
    assert!(kept.errors[0].contains("left for the next run"), "{:?}", kept.errors);
}

#[tokio::test(start_paused = true)]
async fn s5_a_resource_that_names_who_came_to_life_after_the_plan_is_spared() {
    let other = CourseId::Integer(400);
    let stage = ripe(&[(KEYS, "a", &[]), (KEYS, "b", &[other])]).await;
    let revive = |course| stage.world.state().open_course(0, course, stage.world.now());
    let report = pass(&stage, |_| {}, |_, _| revive(other)).await;
    assert_eq!(report.swept(), Tally { deleted: 1, bytes: 1, spared: 1, ..Tally::default() });
    assert_eq!((left(&stage, KEYS), remembered(&stage)), (vec!["b".to_owned()], vec!["keys".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn s9_what_came_to_be_referred_to_after_the_plan_is_spared() {
    let stage = ripe(&[(FILES, "a", &[])]).await;
    let refer = || stage.world.state().clusters[0].references.insert(b"a".to_vec());
    let report = pass(&stage, |_| {}, |_, _| _ = refer()).await;
    assert_eq!(report.swept(), Tally { spared: 1, ..Tally::default() });
    assert_eq!((left(&stage, FILES), remembered(&stage)), (vec!["a".to_owned()], vec!["uploads".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn s8_a_pause_after_the_plan_keeps_every_batch_from_beginning() {
    let stage = ripe(&[(KEYS, "a", &[])]).await;
    let pause = || {
        let since = stage.world.database_time();
        let mut state = stage.world.state();
        let ledger = state.homes[&WHO].ledger;
        state.clusters[ledger].ledger.paused = Some(("wait".to_owned(), since));
    };
    let report = pass(&stage, |_| {}, |_, _| pause()).await;
    assert_eq!((report.swept(), batches(&stage, KEYS)), (Tally::default(), 0));
    assert_eq!((report.verdict, report.paused.as_deref()), (Verdict::Held, Some("paused while sweeping")));
    assert_eq!((left(&stage, KEYS), remembered(&stage)), (vec!["a".to_owned()], vec!["keys".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn s11_a_run_that_is_stopped_before_its_first_batch_touches_nothing_and_says_so() {
    let stage = ripe(&[(KEYS, "a", &[])]).await;
    let report = pass(&stage, |_| {}, |_, stop| stop.cancel()).await;
    assert_eq!((report.swept(), batches(&stage, KEYS)), (Tally::default(), 0));
    assert_eq!((report.verdict, report.stopped), (Verdict::Partly, true));
    assert_eq!((left(&stage, KEYS), remembered(&stage)), (vec!["a".to_owned()], vec!["keys".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn s3_a_halt_is_told_and_nothing_is_touched() {
    let stage = ripe(&[(KEYS, "a", &[])]).await;
    stage.world.state().clusters[0].courses.clear();
    let report = stage.pass(WHO, Mode::Run).await.unwrap();
    assert_eq!(
        (report.verdict, report.halts.len(), report.holds.len()),
        (Verdict::Held, 2, 1),
        "the source, and all of them"
    );
    assert!(report.halt.is_some_and(|halt| halt.contains("no live course")));
    assert_eq!((report.stores.len(), left(&stage, KEYS).len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn s10_a_second_collector_is_told_that_another_works_and_a_lost_ledger_is_no_such_thing() {
    let stage = ripe(&[]).await;
    let collector = stage.collector(WHO);
    let first = Pass::begin(&collector, Mode::Run).await.unwrap();
    let second = stage.pass(Who(1), Mode::Run).await;
    assert!(matches!(second, Err(RunError::Locked(_))), "{second:?}");
    first.end(Ok(())).await.unwrap();
    assert!(stage.pass(Who(1), Mode::Run).await.is_ok());
    stage.world.state().weather = Some(1000);
    let lost = stage.pass(WHO, Mode::Run).await;
    assert!(matches!(lost, Err(RunError::Ledger(_))), "{lost:?}");
}

#[tokio::test(start_paused = true)]
async fn a_report_tells_how_long_the_run_and_each_of_its_stages_took() {
    let stage = ripe(&[(KEYS, "a", &[])]).await;
    // Nothing is lost, but everything takes its time.
    stage.world.state().weather = Some(0);
    let report = pass(&stage, |_| {}, |_, _| {}).await;
    let stages: Vec<_> = report.stages.keys().copied().collect();
    assert_eq!(stages, ["inventory", "liveness", "orphans", "places", "plan", "purge", "sweep"]);
    let sum: f64 = report.stages.values().sum();
    assert!(report.stages.values().all(|took| *took > 0.0), "{report:?}");
    assert!((sum - report.seconds).abs() < 1e-6, "together they are all of it: {report:?}");
    let (inventory, sweep) = (store(&report, KEYS).inventory_seconds, store(&report, KEYS).sweep_seconds);
    assert!(0.0 < inventory && inventory <= report.stages["inventory"], "{report:?}");
    assert!(0.0 < sweep && sweep <= report.stages["sweep"], "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn s7_each_run_says_in_every_marker_which_running_server_it_asked() {
    let stage = ripe(&[]).await;
    let said = || {
        let state = stage.world.state();
        let markers = state.shelves.iter().map(|shelf| shelf.marker.clone().unwrap());
        markers.map(|marker| marker.owners()[0].truths.values().cloned().collect()).collect::<Vec<Vec<String>>>()
    };
    let asked = || vec![vec![stage.world.state().clusters[0].server()]; STORES.len()];
    assert_eq!(said(), asked());
    {
        let campus = &mut stage.world.state().clusters[0];
        campus.disconnect();
        campus.started += 1;
    }
    assert_ne!(said(), asked(), "it was started anew");
    pass(&stage, |_| {}, |_, _| {}).await;
    assert_eq!(said(), asked());
}

#[tokio::test(start_paused = true)]
async fn s9_the_clock_of_what_is_referred_to_starts_when_its_last_reference_was_seen() {
    let stage = ripe(&[(FILES, "a", &[])]).await;
    stage.world.state().clusters[0].references.insert(b"a".to_vec());
    let held = |report: &RunReport| store(report, FILES).sources[0].held();
    let report = pass(&stage, |_| {}, |_, _| {}).await;
    assert_eq!((held(&report), batches(&stage, FILES)), ([("referenced", 1)].into(), 0));
    stage.world.state().clusters[0].references.clear();
    let report = pass(&stage, |_| {}, |_, _| {}).await;
    assert_eq!((held(&report), report.swept()), ([("grace", 1)].into(), Tally::default()));
    assert_eq!(pass(&stage, |_| {}, |_, _| {}).await.swept().deleted, 1);
}

#[tokio::test(start_paused = true)]
async fn s7_a_report_names_what_each_liveness_source_is_and_nothing_for_all_of_them() {
    let report = pass(&ripe(&[]).await, |_| {}, |_, _| {}).await;
    let named: Vec<_> = report.live.iter().map(|live| (live.source.as_str(), live.identity.is_some())).collect();
    assert_eq!(named, [("campus", true), ("union", false)]);
}

#[tokio::test(start_paused = true)]
async fn s6_what_was_asked_for_of_the_living_is_void_though_only_a_plan_saw_them() {
    let stage = ripe(&[(KEYS, "a", &[])]).await;
    for timing in [Timing::AfterDelete, Timing::BeforeDelete] {
        stage.world.state().ask_for_cleanup(LIVE, timing, &stage.world);
    }
    stage.pass(WHO, Mode::Plan).await.unwrap();
    let state = stage.world.state();
    let requests = &state.tables(WHO).unwrap().requests;
    let states: Vec<_> = requests.iter().map(|(request, ..)| (request.timing, request.state)).collect();
    let expected = [(Timing::AfterDelete, RequestState::Void), (Timing::BeforeDelete, RequestState::Open)];
    assert_eq!(states, expected, "its row is waited for");
}

#[tokio::test(start_paused = true)]
async fn s1_s7_what_a_live_course_has_goes_once_and_the_ledger_still_knows_that_it_lives() {
    let mut stage = ripe(&[]).await;
    stage.live_cleanups = true;
    let write = || {
        let resource = Resource { source: SourceIndex(0), owner: Some(LIVE), mentions: Vec::new() };
        stage.world.state().shelves[KEYS].resources.insert(b"a".to_vec(), resource);
    };
    write();
    stage.world.state().authorise_cleanup(LIVE, &stage.world);
    let report = pass(&stage, |_| {}, |_, _| {}).await;
    assert_eq!((report.authorised.as_slice(), report.swept().deleted), (&[LIVE][..], 1));
    let departed_at = || stage.world.state().tables(WHO).unwrap().known[&LIVE].departed_at;
    assert_eq!(departed_at(), None, "a restore that takes it now must be seen");
    write();
    let report = pass(&stage, |_| {}, |_, _| {}).await;
    assert_eq!((report.authorised.as_slice(), report.swept()), (&[][..], Tally::default()));
}
