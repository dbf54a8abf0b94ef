//! A whole campus, its leaks, and its traps: what goes, what stays byte for byte, and what comes back.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use course_gc::domain::plan::Decision;
use course_gc::domain::report::{RunReport, Verdict};
use sandbox::campus::{
    Campus, CampusSize, Extent, HeldCourse, IdKind, LOCKED, Leftovers, REFERENCED, SEVERAL_IDS, STRANGER,
};
use sandbox::config::Settings;
use sandbox::{Difference, Resource, Snapshot, World};

use crate::support::Installation;

#[tokio::test]
async fn s1_s12_exactly_the_leaks_go_from_all_six_stores_and_a_course_comes_back() -> Result<()> {
    exactly_the_leaks_of(Extent::Whole, CampusSize::default()).await
}

#[tokio::test]
async fn s1_s12_integer_ids_work_as_uuids_do() -> Result<()> {
    exactly_the_leaks_of(Extent::Whole, CampusSize { ids: IdKind::Integer, ..CampusSize::default() }).await
}

#[tokio::test]
async fn s1_s12_text_ids_work_as_uuids_do() -> Result<()> {
    exactly_the_leaks_of(Extent::Whole, CampusSize { ids: IdKind::Text, ..CampusSize::default() }).await
}

#[tokio::test]
async fn s1_exactly_the_leaks_of_two_thousand_courses_go() -> Result<()> {
    exactly_the_leaks_of(Extent::Core, CampusSize::large()).await
}

async fn exactly_the_leaks_of(extent: Extent, size: CampusSize) -> Result<()> {
    let (world, campus) = match extent {
        Extent::Core => (World::create().await?, Campus::plan(size)),
        Extent::Whole => (World::whole().await?, Campus::whole(size)),
    };
    let installation = Installation::new(world.addresses(), &Settings { ids: size.ids, ..Settings::default() }).await?;
    campus.seed(&installation.stores).await?;
    assert_eq!(installation.run().await?.verdict, Verdict::Clean);

    let deleted = campus.delete_doomed(&installation.stores).await?;
    let before = Snapshot::take(&installation.stores).await?;
    let seen = installation.plan().await?;
    assert_eq!(seen.verdict, Verdict::Clean, "all of it is in its grace");
    installation.age("1 minute").await?;
    let ran = installation.program(&["run"]).await?;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let after = Snapshot::take(&installation.stores).await?;
    let Difference { gone, added, changed } = before.diff(&after);
    let expected: BTreeSet<Resource> =
        campus.gone(&deleted).into_iter().filter(|resource| before.contains(resource)).collect();
    assert_eq!(gone.symmetric_difference(&expected).collect::<Vec<_>>(), Vec::<&Resource>::new());
    assert!(added.is_empty() && changed.is_empty(), "{added:?} {changed:?}");

    let again = installation.run().await?;
    assert_eq!(again.verdict, Verdict::Clean, "nothing is left to sweep");
    let expected = campus.leftovers(&installation.addresses, &deleted, &after);
    let found = leftovers(&again);
    assert_eq!(differences(&found.held, &expected.held), []);
    assert_eq!(differences(&found.unrecognised, &expected.unrecognised), []);
    assert_eq!(differences(&found.unclaimed, &expected.unclaimed), []);

    // One of them should not have been deleted.
    let course = campus.richest(&installation.addresses, &deleted).context("nothing was deleted")?;
    let stores = campus.swept(&installation.addresses, &deleted).iter().filter(|(_, of)| *of == course).count();
    assert_eq!(stores, again.stores.len(), "it had something in every store");
    let restored = installation.program(&["restore", "--course", &course.to_string()]).await?;
    assert_eq!(restored.code, Some(0), "{restored:?}");
    let back = Snapshot::take(&installation.stores).await?;
    let its: BTreeSet<Resource> =
        campus.only(course).gone(&deleted).into_iter().filter(|resource| before.contains(resource)).collect();
    let Difference { gone: still_gone, added, changed } = before.diff(&back);
    assert!(added.is_empty() && changed.is_empty(), "S12: byte for byte: {added:?} {changed:?}");
    assert_eq!(gone.difference(&still_gone).cloned().collect::<BTreeSet<_>>(), its, "all of it, and nothing else");
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
        "locked" => LOCKED,
        other => other,
    }
}
