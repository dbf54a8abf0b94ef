//! Dead courses' keys go.

use std::ops::Range;

use anyhow::Result;
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use sandbox::Redis;

use super::keys;
use crate::bed::Bed;
use crate::contest::{Contest, Timed, alone};
use crate::ids;
use crate::ours::Part;
use crate::report::Row;
use crate::size::Size;
use crate::task::Task;

/// How many keys a course has.
const EACH: u64 = 50;
/// For how many courses the delete path's way is tried.
const TRIED: u64 = 3;

pub(super) async fn measure(size: Size, rounds: u32) -> Result<Row> {
    let keys = size.of(20_000, 1_000_000, 1_000_000);
    let dead = size.of(20, 1000, 1000);
    let live = keys / EACH - dead;
    let bed = Bed::with_courses(0..live).await?;
    let (redis, kept) = (Redis::start().await?, Redis::start().await?);
    for redis in [&redis, &kept] {
        keys::seed(redis, 0..live, EACH)?;
    }
    let copies = Bed::with_courses(0..live).await?;
    bed.adopt(&keys::store(&redis, false)).await?;
    copies.adopt(&keys::store(&kept, true)).await?;

    // Each side, in each round, has dead courses of its own.
    let the_dead = |round: u32, side: u64| {
        let first = live + (u64::from(round) * 4 + side) * dead;
        first..first + dead
    };
    let (redis, kept) = (&redis, &kept);
    let url = redis.url();
    let seed = |redis: &'_ Redis, dead: Range<u64>| keys::seed(redis, dead, EACH);
    let run = Task::Run(bed.config(), Part::Sweep);
    let run_with_copies = Task::Run(copies.config(), Part::Sweep);
    let ready =
        |done: Result<()>| -> LocalBoxFuture<'static, Result<()>> { futures::future::ready(done).boxed_local() };
    let lanes = Contest::new(rounds, vec![redis.pid()?])
        .enter("ours", |_| alone(&run).boxed_local())
        .prepared(|round| ready(seed(redis, the_dead(round, 0))))
        .enter("ours, with copies", |_| alone(&run_with_copies).boxed_local())
        .prepared(|round| ready(seed(kept, the_dead(round, 1))))
        .enter("one bare scan, pipelined UNLINK", |round| {
            let task = Task::ScanAndUnlink(url.clone(), the_dead(round, 2));
            async move { alone(&task).await }.boxed_local()
        })
        .prepared(|round| ready(seed(redis, the_dead(round, 2))))
        .enter("SCAN MATCH per course", |round| {
            let tried = the_dead(round, 3).start..the_dead(round, 3).start + TRIED.min(dead);
            let task = Task::ScanForEach(url.clone(), tried.map(ids::course).collect());
            async move { whole(alone(&task).await?, dead) }.boxed_local()
        })
        .prepared(|round| ready(seed(redis, the_dead(round, 3).start..the_dead(round, 3).start + TRIED.min(dead))))
        .slow(1, TRIED.min(dead) as f64 / dead as f64)
        .hold()
        .await?;
    Row::new("redis sweep", format!("{dead} dead courses of {EACH} keys in {keys} keys"), lanes)
        .agree(&["ours, with copies", "one bare scan, pipelined UNLINK", "SCAN MATCH per course"])?
        .faster("ours", 300.0, "SCAN MATCH per course")?
        .at_most("ours", 2.3, "one bare scan, pipelined UNLINK")
}

/// What all would have had.
fn whole(tried: Timed, dead: u64) -> Result<Timed> {
    Ok(Timed { resources: tried.resources * dead / TRIED.min(dead), ..tried })
}
