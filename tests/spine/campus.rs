//! A whole campus, its leaks, and its traps: what goes, and what stays byte for byte.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use course_gc::domain::plan::Decision;
use course_gc::domain::report::{RunReport, Verdict};
use sandbox::campus::{Campus, CampusSize, HeldCourse, IdKind, Leftovers, REFERENCED, SEVERAL_IDS, STRANGER};
use sandbox::config::Settings;
use sandbox::{Difference, Resource, Snapshot, World};

use crate::support::Installation;

/// What marks a logical database of a given server as taken.
const CLAIM: &[u8] = b"course-gc-sandbox:claim";

#[tokio::test]
async fn s1_exactly_the_leaks_go() -> Result<()> {
    exactly_the_leaks_of(CampusSize::default()).await
}

#[tokio::test]
async fn s1_exactly_the_leaks_of_two_thousand_courses_go() -> Result<()> {
    exactly_the_leaks_of(CampusSize::large()).await
}

#[tokio::test]
async fn integer_ids_work_as_uuids_do() -> Result<()> {
    exactly_the_leaks_of(CampusSize { ids: IdKind::Integer, ..CampusSize::default() }).await
}

async fn exactly_the_leaks_of(size: CampusSize) -> Result<()> {
    let world = World::create().await?;
    let installation = Installation::new(world.addresses(), &Settings { ids: size.ids, ..Settings::default() }).await?;
    let campus = Campus::plan(size);
    campus.seed(&installation.stores).await?;
    assert_eq!(installation.run().await?.verdict, Verdict::Clean);

    let deleted = campus.delete_doomed(&installation.stores).await?;
    let before = Snapshot::take(&installation.stores).await?;
    let seen = installation.plan().await?;
    assert_eq!(seen.verdict, Verdict::Clean, "all of it is in its grace");
    installation.age("1 minute").await?;
    let swept = installation.run().await?;
    let failures: Vec<_> = swept.stores.iter().flat_map(|store| &store.failures).collect();
    assert_eq!(swept.verdict, Verdict::Done, "{failures:?}");
    let after = Snapshot::take(&installation.stores).await?;
    let Difference { gone, added, changed } = before.diff(&after);
    let expected = campus.gone(&deleted).into_iter().filter(|resource| before.contains(resource)).collect();
    assert_eq!(gone.symmetric_difference(&expected).collect::<Vec<_>>(), Vec::<&Resource>::new());
    assert!(added.is_empty() && changed.is_empty(), "{added:?} {changed:?}");

    let again = installation.run().await?;
    assert_eq!(again.verdict, Verdict::Clean, "nothing is left to sweep");
    let mut expected = campus.leftovers(&installation.addresses, &deleted);
    if after.contains(&Resource::Key(CLAIM.to_vec())) {
        *expected.unclaimed.entry("cache".to_owned()).or_default() += 1;
    }
    let found = leftovers(&again);
    assert_eq!(differences(&found.held, &expected.held), []);
    assert_eq!(differences(&found.unrecognised, &expected.unrecognised), []);
    assert_eq!(differences(&found.unclaimed, &expected.unclaimed), []);
    Ok(())
}

/// Where two maps differ: the key, and what each has there.
fn differences<K: Ord + Clone, V: Copy + PartialEq>(
    found: &BTreeMap<K, V>,
    expected: &BTreeMap<K, V>,
) -> Vec<(K, Option<V>, Option<V>)> {
    let keys: BTreeSet<&K> = found.keys().chain(expected.keys()).collect();
    let each = keys.into_iter().map(|key| (key.clone(), found.get(key).copied(), expected.get(key).copied()));
    each.filter(|(_, found, expected)| found != expected).collect()
}

/// What a report says about everything that stays, in the campus' words.
fn leftovers(report: &RunReport) -> Leftovers {
    let mut left = Leftovers::default();
    let counted = |count: u64| (count > 0).then_some(count);
    for store in &report.stores {
        left.unclaimed.extend(counted(store.unclaimed.count).map(|count| (store.name.clone(), count)));
        for source in &store.sources {
            let place = (store.name.clone(), source.name.clone());
            left.unrecognised.extend(counted(source.unrecognised.count).map(|count| (place.clone(), count)));
            for orphan in &source.orphans {
                let held = HeldCourse {
                    reason: reason(orphan.decision),
                    resources: orphan.resources,
                    entangled: orphan.entangled,
                };
                left.held.insert((place.0.clone(), place.1.clone(), orphan.course.to_string()), held);
            }
        }
    }
    left
}

/// The campus' word for a hold.
fn reason(decision: Decision) -> &'static str {
    let Decision::Held(hold) = decision else { return "not held" };
    match hold.as_str() {
        "not_exclusive" => STRANGER,
        "entangled" => SEVERAL_IDS,
        "referenced" => REFERENCED,
        other => other,
    }
}
