//! The live set: every live id, read once a run.

use anyhow::Result;

use super::files;
use crate::bed::Bed;
use crate::contest::{Contest, alone};
use crate::report::{Row, Target};
use crate::size::Size;
use crate::task::Task;
use crate::theirs::postgres;

/// What a process takes that has read nothing, in bytes.
const EMPTY: u64 = 16 << 20;

pub(super) async fn measure(size: Size, rounds: u32) -> Result<Row> {
    let ids = size.of(20_000, 1_000_000, 5_000_000);
    let bed = Bed::with_courses(0..ids).await?;
    bed.adopt(&files::none(&bed)?).await?;
    let (read, copy) = (Task::ReadLive(bed.config()), Task::CopyToNull(bed.url().to_owned()));
    let lanes = Contest::new(rounds, vec![bed.postgres.pid()?])
        .enter("ours", |_| Box::pin(alone(&read)))
        .enter("psql, COPY to null", |_| Box::pin(postgres::psql_to_null(bed.url())))
        .enter("sqlx, COPY to null", |_| Box::pin(alone(&copy)))
        .hold()
        .await?;
    let row = Row::new("live set", format!("{ids} UUIDs"), lanes)
        .agree(&["sqlx, COPY to null"])?
        .at_most("ours", 1.3, "psql, COPY to null")?
        .at_most("ours", 1.3, "sqlx, COPY to null")?;
    let resident = row.lanes.first().map_or(0, |lane| lane.peak_bytes.saturating_sub(EMPTY)) as f64 / ids as f64;
    let bound = size.of(None, Some(Target::AtMost(24.0)), Some(Target::AtMost(24.0)));
    Ok(row.number("bytes resident an id, over 16 MiB of an empty process", resident, bound))
}
