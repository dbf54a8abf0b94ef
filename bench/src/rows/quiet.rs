//! A run that finds nothing, over all stores.

use anyhow::{Context, Result};
use futures::FutureExt;
use sandbox::{Qdrant, Redis, program};

use super::{files, keys, points};
use crate::bed::Bed;
use crate::contest::{Contest, alone, outside};
use crate::ours::Part;
use crate::report::{Row, Target};
use crate::size::Size;
use crate::task::Task;
use crate::theirs::redis::COUNT;

/// What a run may take besides the live set, in bytes.
const RUN: u64 = 64 << 20;
/// What it may take for a live id, in bytes.
const ID: u64 = 24;

pub(super) async fn measure(size: Size, rounds: u32) -> Result<Row> {
    let (live, keys, points, directories) = size.of(
        (2_000, 20_000, 1_000, 1_000),
        (200_000, 1_000_000, 50_000, 50_000),
        (1_000_000, 5_000_000, 200_000, 200_000),
    );
    let bed = Bed::with_courses(0..live).await?;
    let (redis, qdrant) = (Redis::start().await?, Qdrant::start().await?);
    let root = bed.folder().join("uploads");
    keys::seed(&redis, 0..keys / 100, 100)?;
    let place = points::create(&qdrant, "course_embeddings").await?;
    points::seed(&place, 0..points / 50, 50).await?;
    files::seed(&root, 0..directories, 0)?;
    bed.adopt(&[keys::store(&redis, true), points::store(&place, true), files::store(&root, true)].concat()).await?;

    let run = Task::Run(bed.config(), Part::Whole);
    let (scan, facet) = (Task::Scan(redis.url(), COUNT), Task::Facet(place));
    let root = root.to_str().context("a path in Unicode")?;
    let find = [root, "-mindepth", "2", "-maxdepth", "2"];
    // The first run learns who is live.
    alone(&run).await?;
    let lanes = Contest::new(rounds, vec![redis.pid()?, qdrant.pid()?, bed.postgres.pid()?])
        .enter("ours", |_| alone(&run).boxed_local())
        .enter("bare SCAN loop", |_| alone(&scan).boxed_local())
        .enter("bare facet", |_| alone(&facet).boxed_local())
        .enter("find -mindepth 2 -maxdepth 2", |_| async { outside(program("find")?, &find, None).await }.boxed_local())
        .hold()
        .await?;
    let what = format!("{live} live ids, {keys} keys, {points} points, {directories} directories, and nothing to do");
    let mut row = Row::new("quiet run", what, lanes);
    let others = row.lanes.iter().skip(1);
    let slowest = others.max_by(|a, b| a.median().total_cmp(&b.median())).context("other sides")?.name.clone();
    row = row.at_most("ours", 1.15, &slowest)?;
    let resident = row.lanes.first().map_or(0, |lane| lane.peak_bytes) as f64 / f64::from(1 << 20);
    let most = (RUN + ID * live) as f64 / f64::from(1 << 20);
    Ok(row.number("MiB resident", resident, Some(Target::AtMost(most.round()))))
}
