//! Whose keys there are: one pass for all templates.

use anyhow::Result;
use futures::FutureExt;
use sandbox::{Redis, program};

use super::keys::{self, TEMPLATES};
use crate::bed::Bed;
use crate::contest::{Contest, Timed, alone, outside};
use crate::report::Row;
use crate::size::Size;
use crate::task::Task;
use crate::theirs::redis::COUNT;

/// How many keys a course has.
const EACH: u64 = 100;

pub(super) async fn measure(size: Size, rounds: u32) -> Result<Row> {
    let keys = size.of(20_000, 1_000_000, 5_000_000);
    let courses = keys / EACH;
    let dead = courses / 100;
    let bed = Bed::with_courses(dead..courses).await?;
    let redis = Redis::start().await?;
    keys::seed(&redis, 0..courses, EACH)?;
    bed.adopt(&keys::store(&redis, false)).await?;

    let ours = Task::Inventory(bed.config(), "cache".to_owned());
    let scan = Task::Scan(redis.url(), COUNT);
    let url = redis.url();
    let lanes = Contest::new(rounds, vec![redis.pid()?])
        .enter("ours", |_| alone(&ours).boxed_local())
        .enter("bare SCAN loop", |_| alone(&scan).boxed_local())
        .enter("redis-cli --scan per template", |_| by_template(&url).boxed_local())
        .slow(2, 1.0)
        .hold()
        .await?;
    let marker = 1;
    let mut row = Row::new("redis inventory", format!("{keys} keys of {courses} courses, 8 templates"), lanes);
    // The bare loop also counts our marker.
    row.lanes.iter_mut().skip(1).take(1).for_each(|lane| lane.resources -= marker);
    row.agree(&["bare SCAN loop"])?.at_most("ours", 1.15, "bare SCAN loop")?.faster(
        "ours",
        3.0,
        "redis-cli --scan per template",
    )
}

async fn by_template(url: &str) -> Result<Timed> {
    let mut all = Timed::default();
    for template in TEMPLATES {
        let pattern = template.replace("{course_id}", "*");
        let arguments = ["-u", url, "--scan", "--pattern", &pattern];
        all.seconds += outside(program("redis-cli")?, &arguments, None).await?.seconds;
    }
    Ok(all)
}
