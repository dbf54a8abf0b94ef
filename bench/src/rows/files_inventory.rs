//! Whose directories there are.

use anyhow::{Context, Result};
use futures::FutureExt;
use sandbox::program;

use super::files;
use crate::bed::Bed;
use crate::contest::{Contest, alone, outside};
use crate::report::Row;
use crate::size::Size;
use crate::task::Task;

pub(super) async fn measure(size: Size, rounds: u32) -> Result<Row> {
    let courses = size.of(2_000, 50_000, 200_000);
    let bed = Bed::with_courses(0..courses).await?;
    let root = bed.folder().join("uploads");
    files::seed(&root, 0..courses, 0)?;
    bed.adopt(&files::store(&root, true)).await?;

    let ours = Task::Inventory(bed.config(), "uploads".to_owned());
    let root = root.to_str().context("a path in Unicode")?;
    let find = [root, "-mindepth", "2", "-maxdepth", "2"];
    let lanes = Contest::new(rounds, vec![])
        .enter("ours", |_| alone(&ours).boxed_local())
        .enter("find -mindepth 2 -maxdepth 2", |_| async { outside(program("find")?, &find, None).await }.boxed_local())
        .hold()
        .await?;
    let row = Row::new("files inventory", format!("{courses} course directories"), lanes);
    let seen = row.lanes.first().map_or(0, |lane| lane.courses);
    anyhow::ensure!(seen == courses, "{seen} of {courses} directories were seen");
    row.at_most("ours", 1.1, "find -mindepth 2 -maxdepth 2")
}
