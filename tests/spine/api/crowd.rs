//! Many callers at once.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use reqwest::Method;
use sandbox::campus::{CampusSize, CourseId, IdKind};
use sandbox::{Difference, Resource, Snapshot};
use serde_json::json;

use super::scene::{Scene, WEB, answered, with};

/// How many callers there are at a time.
const AT_ONCE: usize = 64;
const SIZE: CampusSize = CampusSize {
    courses: 400,
    doomed: 30,
    points: 1,
    seed: 1,
    ids: IdKind::Uuid,
    organizations: 5,
    foreign: 6,
    vector_size: 8,
};

/// Asks so many times, of dead courses, live ones and none, and gives back how often what was answered.
async fn crowd(scene: &Scene, dead: &[CourseId], live: &[CourseId], calls: usize) -> Result<BTreeMap<u16, usize>> {
    let ask = |n: usize| async move {
        let course = match n % 10 {
            8 => live[n / 10 % live.len()].to_string(),
            9 => format!("..%2f{n}"),
            _ => dead[(n / 10 * 8 + n % 10) % dead.len()].to_string(),
        };
        let request = scene.ask(Method::POST, &format!("/v1/courses/{course}/cleanup"), WEB);
        let request = request.header("idempotency-key", format!("{n}"));
        Ok::<u16, anyhow::Error>(answered(with(request, &json!({ "intent": "after_delete" }))).await?.status)
    };
    let statuses: Vec<u16> = stream::iter(0..calls).map(ask).buffer_unordered(AT_ONCE).try_collect().await?;
    Ok(statuses.into_iter().fold(BTreeMap::new(), |mut counts, status| {
        *counts.entry(status).or_default() += 1;
        counts
    }))
}

/// All that the dead left has gone since, and nothing else.
async fn is_right(scene: &Scene, before: &Snapshot, dead: &[CourseId]) -> Result<()> {
    let Difference { gone, added, changed } = before.diff(&scene.snapshot().await?);
    let expected = scene.campus.gone(&dead.iter().copied().collect());
    let wrong: Vec<&Resource> = gone.symmetric_difference(&expected).collect();
    assert!(wrong.is_empty() && added.is_empty() && changed.is_empty(), "{wrong:?} {added:?} {changed:?}");
    Ok(())
}

/// The doomed courses, whose rows are gone now, and those that stay.
async fn divide(scene: &Scene) -> Result<(Vec<CourseId>, Vec<CourseId>)> {
    let dead: Vec<CourseId> = scene.campus.delete_doomed(&scene.installation.stores).await?.into_iter().collect();
    let all: BTreeSet<CourseId> = scene.campus.courses.iter().map(|course| course.id).collect();
    let live = all.into_iter().filter(|course| !dead.contains(course)).collect();
    Ok((dead, live))
}

#[tokio::test]
async fn three_hundred_calls_take_all_of_the_dead_and_nothing_of_the_living() -> Result<()> {
    let scene = Scene::over(SIZE).await?;
    let before = scene.snapshot().await?;
    let (dead, live) = divide(&scene).await?;
    let counts = crowd(&scene, &dead, &live, 300).await?;
    assert_eq!(counts, BTreeMap::from([(200, 240), (400, 30), (409, 30)]));
    is_right(&scene, &before, &dead).await?;
    scene.end().await
}

/// Resident memory, in MiB.
fn resident(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1024)
}

/// `make deep ONLY=api`.
#[tokio::test]
#[ignore = "takes minutes"]
async fn ten_thousand_calls_take_no_more_memory_than_one_thousand() -> Result<()> {
    let scene = Scene::over(SIZE).await?;
    let before = scene.snapshot().await?;
    let (dead, live) = divide(&scene).await?;
    let pid = scene.program.id().context("it serves")?;
    crowd(&scene, &dead, &live, 1000).await?;
    let after_one = resident(pid)?;
    let counts = crowd(&scene, &dead, &live, 10_000).await?;
    let after_ten = resident(pid)?;
    let open: i64 = sqlx::query_scalar("SELECT count(*) FROM course_gc.requests WHERE state = 'open'")
        .fetch_one(&scene.installation.stores.postgres)
        .await?;
    println!("after 1,000 calls {after_one} MiB, after 10,000 {after_ten} MiB; {open} requests stay open: {counts:?}");
    assert_eq!(counts, BTreeMap::from([(200, 8000), (400, 1000), (409, 1000)]));
    let difference = before.diff(&scene.snapshot().await?);
    assert_eq!(difference.gone, scene.campus.gone(&dead.iter().copied().collect()));
    assert!(after_ten <= after_one + 16, "{after_one} MiB, then {after_ten} MiB");
    scene.end().await
}
